//! What the server says of itself in its data directory, which is the working directory of a `restore_command`.
//! Outside a data directory every question has the answer "not known".

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::error::Failure;
use crate::file_system::{is_absence, names_in, read_regular};
use crate::wal::name::WalName;

const ARCHIVE_STATUS: &str = "archive_status";
const BACKUP_LABEL: &str = "backup_label";
const CONTROL_FILE: &str = "global/pg_control";
const PID_FILE: &str = "postmaster.pid";
const PROMOTE_FILE: &str = "promote";
const RECOVERY_FILE: &str = "recovery.conf";
const RECOVERY_SIGNAL: &str = "recovery.signal";
const STANDBY_SIGNAL: &str = "standby.signal";
const VERSION_FILE: &str = "PG_VERSION";

/// The names of the WAL directory in a data directory: from 10 on, and up to 9.6.
pub const WAL_DIRECTORIES: [&str; 2] = ["pg_wal", "pg_xlog"];

/// Returns the cluster's system identifier, or `None` outside a data directory: the first 8 bytes of
/// `global/pg_control`, in the machine's byte order, in every version (`ControlFileData` in PostgreSQL's `pg_control.h`).
///
/// # Errors
/// The file exists and cannot be read.
pub fn system_identifier() -> Result<Option<u64>, Failure> {
    let too_short = || io::Error::new(ErrorKind::InvalidData, "file is too short");
    let read = read_regular(CONTROL_FILE)
        .and_then(|content| content.first_chunk().copied().ok_or_else(too_short));
    match read {
        Ok(bytes) => Ok(Some(u64::from_ne_bytes(bytes))),
        Err(error) if is_absence(&error) => Ok(None),
        Err(source) => Err(Failure::Read { path: PathBuf::from(CONTROL_FILE), source }),
    }
}

/// Returns whether `path` is the WAL directory of any server. The path is checked as given and as resolved, because a
/// WAL directory may be a symbolic link.
#[must_use]
pub fn is_wal_directory(path: &Path) -> bool {
    let is_one = |path: &Path| {
        let has_name = WAL_DIRECTORIES.iter().any(|name| path.ends_with(name));
        has_name && path.with_file_name(VERSION_FILE).exists()
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    is_one(&absolute)
        || fs::canonicalize(path).is_ok_and(|path| is_one(&path))
        || path.join(ARCHIVE_STATUS).is_dir()
}

/// Returns where `pg_ctl promote` and `pg_promote()` leave a file for the server, if this is a data directory.
#[must_use]
pub fn promote_file_place() -> Option<&'static Path> {
    Path::new(VERSION_FILE).exists().then_some(Path::new(PROMOTE_FILE))
}

/// Returns the file that `pg_ctl promote` or `pg_promote()` has left, if there is one.
#[must_use]
pub fn promote_file() -> Option<&'static Path> {
    promote_file_place().filter(|file| file.exists())
}

/// Returns whether the server waits and asks again by itself: `standby.signal` from 12 on, `standby_mode` in
/// `recovery.conf` before.
#[must_use]
pub fn is_in_standby_mode() -> bool {
    let recovery = || setting("standby_mode", &read_regular(RECOVERY_FILE).ok()?);
    Path::new(STANDBY_SIGNAL).exists() || recovery().is_some_and(|value| !is_false(&value))
}

/// Returns the file that keeps the server in recovery, if it is there: a promotion removes or renames it.
#[must_use]
pub fn recovery_file() -> Option<&'static str> {
    let files = [STANDBY_SIGNAL, RECOVERY_SIGNAL, RECOVERY_FILE];
    files.into_iter().find(|file| Path::new(file).exists())
}

/// Returns whether the server, if it runs, does not say that it has reached consistency.
#[must_use]
pub fn may_be_inconsistent() -> bool {
    is_starting(&read_regular(PID_FILE).unwrap_or_default())
}

/// Returns whether `path` was written to after the server had last written to its `postmaster.pid`.
#[must_use]
pub fn is_older_than(path: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path)?.modified();
    let times = (written(Path::new(PID_FILE)), written(path));
    matches!(times, (Ok(server), Ok(file)) if file > server)
}

/// Where the history file of the timeline that the server follows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryPlace {
    /// In its WAL directory, where servers from 9.3 on keep what they have restored (`restoreTimeLineHistoryFiles` in
    /// PostgreSQL's `timeline.c`).
    WalDirectory,
    /// In the archive only.
    Archive,
    /// Nowhere: a server up to 9.2 follows the timeline of its backup unless it is told otherwise.
    Nowhere,
}

/// Returns where the history file of the timeline that the server follows is.
#[must_use]
pub fn history_place() -> HistoryPlace {
    let is_old = version().is_some_and(|version| version < (9, 3));
    let target =
        || setting("recovery_target_timeline", &read_regular(RECOVERY_FILE).unwrap_or_default());
    match is_old {
        false => HistoryPlace::WalDirectory,
        true if target().as_deref() == Some("latest") => HistoryPlace::Archive,
        true => HistoryPlace::Nowhere,
    }
}

/// Returns whether the server goes on to a later timeline by itself: in standby mode, where up to 11 it must be told to.
#[must_use]
pub fn follows_timelines() -> bool {
    let is_old = version().is_some_and(|version| version < (12, 0));
    let target = if is_old {
        setting("recovery_target_timeline", &read_regular(RECOVERY_FILE).unwrap_or_default())
    } else {
        configured("recovery_target_timeline").or_else(|| Some("latest".to_owned()))
    };
    is_in_standby_mode() && target.as_deref() == Some("latest")
}

/// Returns whether recovery has not reached a consistent state yet, as far as files tell. A server has `backup_label` until
/// it has read its first segment. From 10 on, `postmaster.pid` says `starting` until the server is consistent, or until
/// redo begins where `hot_standby` is off (`process_pm_pmsignal` in PostgreSQL's `postmaster.c`). Before that, a WAL
/// directory without segments is that of a standby that has restored none.
#[must_use]
pub fn is_inconsistent(wal_directory: &Path) -> bool {
    let has_segments = || {
        let names = names_in(wal_directory).into_iter().flatten().flatten();
        names.filter_map(|name| WalName::parse(&name)).any(|it| matches!(it, WalName::Segment(_)))
    };
    let is_before_end = |version| {
        if version >= (10, 0) {
            read_regular(PID_FILE).is_ok_and(|file| is_starting(&file))
        } else {
            !has_segments()
        }
    };
    version().is_some_and(|version| Path::new(BACKUP_LABEL).exists() || is_before_end(version))
}

/// The server's version, as far as its data directory tells: major and minor up to 9.6, major and 0 from 10 on.
#[must_use]
pub fn version() -> Option<(u32, u32)> {
    parse_version(str::from_utf8(&read_regular(VERSION_FILE).ok()?).ok()?)
}

fn parse_version(file: &str) -> Option<(u32, u32)> {
    let mut numbers = file.trim().split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next().unwrap_or(Ok(0)).ok()?))
}

/// Returns whether recovery is about to begin and the server will read ahead: from 15 on, unless `recovery_prefetch` is
/// off.
#[must_use]
pub fn will_prefetch() -> bool {
    let is_off = configured("recovery_prefetch").is_some_and(|value| is_false(&value));
    version().is_some_and(|version| version >= (15, 0))
        && is_starting(&read_regular(PID_FILE).unwrap_or_default())
        && !is_off
}

/// The postmaster that this program works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postmaster(Pid);

impl Postmaster {
    /// The one that `postmaster.pid` names, if there is such a file.
    #[must_use]
    pub fn here() -> Option<Self> {
        parse_pid(&read_regular(PID_FILE).ok()?).map(Self)
    }

    /// Returns whether it no longer runs, or another one has taken its place.
    #[must_use]
    pub fn is_gone(self) -> bool {
        kill(self.0, None) == Err(Errno::ESRCH) || Self::here().is_some_and(|now| now != self)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(self) -> i32 {
        self.0.as_raw()
    }
}

/// `postgresql.conf`, or what the server's command line names instead: distributions keep it elsewhere.
fn configuration_file() -> PathBuf {
    let command_line = read_regular("postmaster.opts").unwrap_or_default();
    named_configuration_file(&command_line).unwrap_or_else(|| PathBuf::from("postgresql.conf"))
}

fn named_configuration_file(command_line: &[u8]) -> Option<PathBuf> {
    let command_line = std::str::from_utf8(command_line).ok()?;
    let (_, value) = command_line.split_once("config_file=")?;
    value.split('"').next().map(PathBuf::from)
}

/// The value that the server's own configuration files give to the parameter called `wanted`, in lower case; others may be
/// included in them.
fn configured(wanted: &str) -> Option<String> {
    let files = [configuration_file(), PathBuf::from("postgresql.auto.conf")];
    files.iter().filter_map(|file| setting(wanted, &read_regular(file).ok()?)).next_back()
}

/// The last value that a configuration file gives to the parameter called `wanted`, in lower case.
fn setting(wanted: &str, settings: &[u8]) -> Option<String> {
    String::from_utf8_lossy(settings)
        .lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let (name, value) = line.split_at_checked(line.find([' ', '\t', '='])?)?;
            let value = value.trim_start().trim_start_matches('=').trim().trim_matches('\'');
            name.eq_ignore_ascii_case(wanted).then(|| value.to_ascii_lowercase())
        })
        .next_back()
}

/// Returns whether the server takes `value` for `off`: any beginning of a word that means it counts, if it is not one of
/// `on` as well (`parse_bool_with_len` in PostgreSQL's `bool.c`).
fn is_false(value: &str) -> bool {
    let begins = |word: &str| !value.is_empty() && word.starts_with(value);
    value == "0" || begins("false") || begins("no") || begins("off") && value != "o"
}

/// Returns whether recovery may be only starting: the eighth line of `postmaster.pid`, which exists from 10 on, does not
/// say that it has come further.
fn is_starting(pid_file: &[u8]) -> bool {
    let status = pid_file.split(|byte| *byte == b'\n').nth(7);
    status.is_none_or(|status| matches!(status.trim_ascii(), b"" | b"starting"))
}

/// Returns the process id in the first line of `postmaster.pid`, where it is negative if the server runs without a
/// postmaster.
fn parse_pid(file: &[u8]) -> Option<Pid> {
    let line = file.split(|byte| *byte == b'\n').next()?;
    let pid: i32 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    let pid = pid.checked_abs().filter(|pid| *pid > 0)?;
    Some(Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_line_is_the_process_id() {
        assert_eq!(parse_pid(b"4711\n/var/lib/postgresql\n"), Some(Pid::from_raw(4711)));
        assert_eq!(parse_pid(b"-4711\n"), Some(Pid::from_raw(4711)));
        for none in ["", "\n", "0\n", "postmaster\n", "99999999999\n", "-2147483648"] {
            assert_eq!(parse_pid(none.as_bytes()), None, "{none:?}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("8.4\n"), Some((8, 4)));
        assert_eq!(parse_version("18\n"), Some((18, 0)));
        assert!(parse_version("10\n") > parse_version("9.3\n"));
        for none in ["", "\n", "devel", "9.x"] {
            assert_eq!(parse_version(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_last_setting_counts_however_it_is_written() {
        for (settings, value) in [
            ("recovery_prefetch = off\n", Some("off")),
            ("recovery_prefetch=try\nRECOVERY_PREFETCH 'Off'  # why\n", Some("off")),
            ("\trecovery_prefetch\t=\tfalse\n", Some("false")),
            ("#recovery_prefetch = off\nrecovery_prefetch_too = off", None),
            ("", None),
        ] {
            assert_eq!(
                setting("recovery_prefetch", settings.as_bytes()).as_deref(),
                value,
                "{settings:?}"
            );
        }
        assert!(["off", "no", "false", "0"].into_iter().all(is_false));
        assert!(!["on", "try", ""].into_iter().any(is_false));
    }

    #[test]
    fn the_configuration_file_may_be_elsewhere() {
        let line =
            b"/usr/bin/postgres \"-D\" \"/data\" \"-c\" \"config_file=/etc/a b/postgresql.conf\"\n";
        assert_eq!(named_configuration_file(line), Some(PathBuf::from("/etc/a b/postgresql.conf")));
        assert_eq!(named_configuration_file(b"/usr/bin/postgres \"-D\" \"/data\"\n"), None);
        assert_eq!(named_configuration_file(b"\xFF"), None);
    }

    #[test]
    fn a_server_is_starting_until_its_pid_file_says_otherwise() {
        let file = |status| format!("1\n/data\n0\n5432\n/tmp\n127.0.0.1\n 1 2\n{status}");
        assert!(is_starting(b""));
        assert!(is_starting(file("starting\n").as_bytes()));
        assert!(!is_starting(file("standby \n").as_bytes()));
        assert!(!is_starting(file("ready   \n").as_bytes()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parameters_or_not(file: Vec<u8>) {
            let _ = setting("recovery_prefetch", &file);
        }

        #[test]
        fn any_bytes_are_a_process_id_or_not(file: Vec<u8>) {
            prop_assert!(parse_pid(&file).is_none_or(|pid| pid.as_raw() > 0));
        }
    }
}
