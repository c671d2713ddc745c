//! What did the operator ask for? Checked values; where they came from is not known here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data_directory::WAL_DIRECTORIES;
use crate::wal::name::{Position, SegmentName, WalName};

/// What one invocation is for.
#[derive(Debug)]
pub enum Command {
    /// Restore one file.
    Restore(Options),
    /// Prune the archive, and nothing else.
    Prune(Pruning),
    /// Say how the standby and its archive are, and change nothing.
    Status(Inquiry),
    /// Print the usage or the version.
    Print(String),
}

/// A restore.
#[derive(Debug)]
pub struct Options {
    /// ARCHIVELOCATION, the directory that segments arrive in.
    pub archive_location: PathBuf,
    /// NEXTWALFILE, the file that the server asks for.
    pub requested: WalName,
    /// XLOGFILEPATH, where the server wants it.
    pub destination: PathBuf,
    /// RESTARTWALFILE, as given.
    pub restart_file: Option<OsString>,
    /// Number of operands past the fourth.
    pub surplus_operands: usize,
    /// `-k`: segments to keep before the requested one; 0 keeps all.
    pub keep_files: u32,
    /// `-r`: retries of a failed copy.
    pub max_retries: u32,
    /// `-s`: polling interval.
    pub sleep_time: Duration,
    /// The same where change notification is not available.
    pub polling_interval: Duration,
    /// `-t`: failover when this file exists.
    pub trigger_file: Option<PathBuf>,
    /// `-w`: failover after this long.
    pub max_wait_time: Option<Duration>,
    /// `--no-wait`: look once.
    pub no_wait: bool,
    /// `--on-error`: what an error does to recovery.
    pub on_error: OnError,
    /// `--require-file`: a file without which the archive counts as unavailable.
    pub required_file: Option<OsString>,
    /// `--standby-name`: the name of this standby, in a shared archive.
    pub standby_name: Option<String>,
    /// `--partial`: hand over what has been received of a segment, in standby mode at most this often.
    pub partial: Option<Duration>,
    /// `--verify`: how much of a segment is checked.
    pub verify: Verify,
    /// `--log-file`: where messages are appended as well.
    pub log_file: Option<PathBuf>,
    /// `-d`: log every step.
    pub debug: bool,
}

/// How much of a segment is checked before it is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The header of its first page, and every record.
    Records,
    /// The header of its first page alone.
    Header,
}

/// What an error that cannot be waited out does to recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It stops the server, which resumes where it left off when it is restarted.
    Hold,
    /// It ends recovery, with the exit statuses of the C program.
    Promote,
}

/// A run of `--prune`.
#[derive(Debug)]
pub struct Pruning {
    /// ARCHIVELOCATION, the directory to remove from.
    pub archive_location: PathBuf,
    /// RESTARTWALFILE, the first segment that stays.
    pub restart: SegmentName,
    /// `-n`: print what would be removed.
    pub dry_run: bool,
    /// `--require-file`: a file without which the archive counts as unavailable.
    pub required_file: Option<OsString>,
    /// `--standby-name`: the name of the standby that prunes, in a shared archive.
    pub standby_name: Option<String>,
    /// `--log-file`: where messages are appended as well.
    pub log_file: Option<PathBuf>,
    /// `-d`: log every step.
    pub debug: bool,
}

/// A run of `--status`.
#[derive(Debug)]
pub struct Inquiry {
    /// ARCHIVELOCATION, the directory to look at.
    pub archive_location: PathBuf,
    /// `-D`: the data directory of the standby.
    pub data_directory: Option<PathBuf>,
    /// The form of the answer.
    pub format: Format,
    /// `-t`: the trigger file of the standby.
    pub trigger_file: Option<PathBuf>,
    /// `--require-file`: a file without which the archive counts as unavailable.
    pub required_file: Option<OsString>,
    /// `--standby-name`: the name of the standby, in a shared archive.
    pub standby_name: Option<String>,
    /// `--verify=records`: read every record of every segment.
    pub reads_records: bool,
    /// `--behind`: how many segments the standby may be behind.
    pub behind: Limits,
    /// `--silent`: for how many seconds nothing may have come.
    pub silent: Limits,
    /// `-d`: log every step.
    pub debug: bool,
}

/// The form of an answer to `--status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// For a program.
    Json,
    /// For Nagios and its kind: one line.
    Plugin,
    /// For the textfile collector of `node_exporter`.
    Prometheus,
}

/// Above what something is a warning, and above what it is critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A warning above this.
    pub warning: Option<u64>,
    /// Critical above this.
    pub critical: Option<u64>,
}

impl Options {
    /// Returns whether the caller is `pg_rewind`: it asks for a segment by its own name in the WAL directory, where the
    /// server always asks for another name (`RestoreArchivedFile` in PostgreSQL's `fe_utils/archive.c`).
    #[must_use]
    pub fn is_for_pg_rewind(&self) -> bool {
        let name = self.destination.file_name();
        let directory = self.destination.parent().and_then(Path::file_name);
        name == Some(OsStr::new(&self.requested.to_string()))
            && directory.is_some_and(|is| WAL_DIRECTORIES.iter().any(|name| is == *name))
    }

    /// Returns whether recovery is about to begin, so that the server has not read what lies in its WAL directory: it passes
    /// zeros for `%r` until then (`RestoreArchivedFile` in PostgreSQL's `xlogarchive.c`).
    #[must_use]
    pub fn is_before_redo(&self) -> bool {
        let restart = self.restart_file.as_ref();
        let restart = restart.and_then(|name| SegmentName::parse(name.as_bytes()));
        restart.is_some_and(|restart| restart.position == Position::ZERO)
    }
}
