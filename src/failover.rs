//! Has somebody asked for failover? Signals, the trigger file and the promote file, as one question.
//! Knows nothing of the archive.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use filetime::FileTime;
use log::warn;

use crate::data_directory;
use crate::permission::explained;
use crate::report::Condition;
use crate::signals::{FailoverSignal, Signals};
use crate::trigger_file::{self, TriggerFile, Word};
use crate::wal::name::{Position, SegmentName};

/// A failover that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// At once, whatever is in the archive.
    Fast(Requester),
    /// When everything that is ready in the archive is restored.
    Smart(Requester),
    /// Smart for what precedes the position, fast from there on: a failover that was decided in an earlier call.
    SmartBefore(Position, Requester),
}

/// Who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requester {
    /// A signal.
    Signal(FailoverSignal),
    /// The trigger file, and the user whose file it is.
    TriggerFile(PathBuf, String),
    /// `pg_ctl promote` or `pg_promote()`.
    PromoteFile(PathBuf),
}

impl Requester {
    /// Returns whether the request was made, or marked, while the server that asks was in recovery already. The mark of an
    /// earlier failover is older than its `postmaster.pid`, which a server writes to last when it is consistent.
    #[must_use]
    pub fn is_of_this_server(&self) -> bool {
        match self {
            Self::Signal(_) | Self::PromoteFile(_) => true,
            Self::TriggerFile(path, _) => {
                data_directory::promote_file().is_some() || data_directory::is_older_than(path)
            }
        }
    }
}

impl Request {
    /// Who asks for it.
    #[must_use]
    pub fn requester(&self) -> &Requester {
        match self {
            Self::Fast(by) | Self::Smart(by) | Self::SmartBefore(_, by) => by,
        }
    }
}

/// Everything that can ask for failover.
pub struct Failover<'a> {
    signals: &'a Signals,
    trigger_file: Option<&'a Path>,
    trouble: Condition,
    /// Since when it has been seen empty, and for how long it may yet be.
    empty_since: Option<(Instant, Duration)>,
}

/// How long the writer of an empty trigger file may take to write its word.
const SETTLING: Duration = Duration::from_millis(100);
/// How long it may take to have the file open once that is there: nobody is seen to write to it before.
const OPENING: Duration = Duration::from_millis(20);

impl<'a> Failover<'a> {
    /// Listens to `signals`, and to `trigger_file` where there is one.
    #[must_use]
    pub fn new(signals: &'a Signals, trigger_file: Option<&'a Path>) -> Self {
        if trigger_file == Some(Path::new("")) {
            warn!(
                "the name of the trigger file is empty: only a signal or a promotion will end the wait"
            );
        }
        Self { signals, trigger_file, trouble: Condition::default(), empty_since: None }
    }

    /// The files whose appearance may ask for failover.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> + use<'a> {
        let promote_file = data_directory::promote_file_place();
        self.trigger_file.into_iter().chain(promote_file).map(PathBuf::from)
    }

    /// Returns the request that counts: a signal, the trigger file, the promote file, in that order.
    pub fn request(&mut self) -> Option<Request> {
        self.signalled().or_else(|| self.triggered()).or_else(|| {
            let path = data_directory::promote_file()?;
            Some(Request::Smart(Requester::PromoteFile(path.to_owned())))
        })
    }

    /// Returns the request that a signal has brought.
    #[must_use]
    pub fn signalled(&self) -> Option<Request> {
        self.signals.failover().map(|signal| Request::Fast(Requester::Signal(signal)))
    }

    /// Returns when the trigger file, if it is empty and new, will count as empty.
    #[must_use]
    pub fn settles_at(&self) -> Option<Instant> {
        let (since, time) = self.empty_since?;
        since.checked_add(time)
    }

    fn triggered(&mut self) -> Option<Request> {
        let path = self.trigger_file?;
        // An error that passes must not undo a failover: a second look is free.
        let file = match TriggerFile::read(path).or_else(|_| TriggerFile::read(path)) {
            Ok(Some(file)) => file,
            Ok(None) => {
                self.empty_since = None;
                return None;
            }
            Err(error) => {
                let error = explained(&error, path);
                self.ignore(&format!("trigger file {path:?} is ignored: {error}"));
                return None;
            }
        };
        let by = || Requester::TriggerFile(path.to_owned(), file.owner());
        match Word::parse(&file.content) {
            Some(Word::Empty) if self.is_settling(&file) => None,
            Some(Word::Empty | Word::Smart) => Some(Request::Smart(by())),
            Some(Word::SmartBefore(position)) => Some(Request::SmartBefore(position, by())),
            Some(Word::Fast) => Some(Request::Fast(by())),
            None => {
                let word: String =
                    String::from_utf8_lossy(&file.content).chars().take(32).collect();
                self.ignore(&format!(
                    "trigger file {path:?} of {} is ignored: found {word:?}, \
                     expected nothing, \"smart\" or \"fast\"",
                    file.owner()
                ));
                None
            }
        }
    }

    fn ignore(&mut self, message: &str) {
        self.trouble.report(message, Duration::ZERO, &message);
    }

    /// Returns whether an empty file may still be given its word: `echo fast > trigger` makes an empty file first.
    fn is_settling(&mut self, TriggerFile { metadata, is_closed, .. }: &TriggerFile) -> bool {
        let time = if *is_closed { OPENING } else { SETTLING };
        let modified = FileTime::from_last_modification_time(metadata);
        let settled = SystemTime::now().checked_sub(time).map(FileTime::from_system_time);
        // If the clock of a file server is ahead of ours, the time since the file was first seen decides.
        let (seen, _) = self.empty_since.unwrap_or((Instant::now(), time));
        self.empty_since = Some((seen, time));
        settled.is_some_and(|settled| modified > settled) && seen.elapsed() < time
    }
}

impl Requester {
    /// Leaves a mark in the trigger file, if the request came from there. The server will ask again for what it has or for
    /// what was refused, and must then get the same answer.
    pub fn leave_mark(&self, segment: SegmentName) {
        let Self::TriggerFile(path, _) = self else { return };
        if let Err(error) = trigger_file::leave_mark(path, segment) {
            let error = explained(&error, path);
            warn!(
                "could not write to trigger file {path:?}: {error}; failover continues, \
                 but remove the file by hand or it will end recovery again"
            );
        }
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::TriggerFile(path, owner) => write!(f, "trigger file {path:?} of {owner}"),
            Self::PromoteFile(path) => write!(f, "pg_ctl promote or pg_promote() ({path:?})"),
        }
    }
}
