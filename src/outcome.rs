//! What the server reads: exit statuses and death by a signal, and which ending or error gives which.
//!
//! A server takes 1 to 125 for "there is no such file", which ends recovery; 126 and more, and any signal but
//! SIGTERM, stop it without promoting (`RestoreArchivedFile` in PostgreSQL's `xlogarchive.c`).

use std::process::{ExitCode, Termination};

use crate::decision::Ending;
use crate::error::Error;
use crate::options::OnError;
use crate::signals;
use crate::status::Severity;

/// The end of one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is whole at its destination, or what was to be printed is printed: status 0.
    Done,
    /// The file is definitely not available, or failover was asked for: status 1.
    NotAvailable,
    /// `--prune` could not remove what may go: status 1, which a server only logs.
    NotPruned,
    /// The file could not be put at its destination: status 201.
    NotRestored,
    /// The command line is wrong, or there is no archive: status 202.
    Unusable,
    /// The archive location does not exist, and `--on-error=promote` is given: status 2, as in the C program.
    ClassicNoArchive,
    /// The segment is longer than its header says, and `--on-error=promote` is given: status 3, as in the C program.
    ClassicTooLong,
    /// `--status` found something to watch: status 1, as monitoring plug-ins have it.
    Warning,
    /// `--status` found something to act upon: status 2, as monitoring plug-ins have it.
    Critical,
    /// `--status=plugin` could not find out: status 3, as monitoring plug-ins have it.
    Unknown,
    /// Death by SIGTERM: the server ends without promoting.
    Terminated,
    /// Death by SIGINT: the server stops at once.
    Interrupted,
}

impl Outcome {
    /// Returns the outcome of a restore that ends like this.
    #[must_use]
    pub fn of_ending(ending: Ending, on_error: OnError) -> Self {
        match (ending, on_error) {
            (Ending::Restored, _) => Self::Done,
            (
                Ending::Fast
                | Ending::Smart { .. }
                | Ending::Refused
                | Ending::WaitedEnough
                | Ending::Reread
                | Ending::LookedOnce
                | Ending::Impossible
                | Ending::Absent
                | Ending::Unanswered,
                _,
            )
            | (Ending::NotRestored, OnError::Promote) => Self::NotAvailable,
            (Ending::NotRestored, OnError::Hold) | (Ending::NotYet, _) => Self::NotRestored,
            (Ending::NoArchive, OnError::Promote) => Self::ClassicNoArchive,
            (Ending::NoArchive, OnError::Hold) => Self::Unusable,
            (Ending::TooLong, _) => Self::ClassicTooLong,
            (Ending::Quit, _) => Self::Interrupted,
            (Ending::ServerGone, _) => Self::Terminated,
        }
    }

    /// Returns the outcome of `--status` that found something so bad, or nothing.
    #[must_use]
    pub fn of_severity(severity: Severity) -> Self {
        match severity {
            Severity::Fine => Self::Done,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }

    /// Returns the outcome of an invocation that failed before it could restore, or was not to restore.
    #[must_use]
    pub fn of_error(error: &Error) -> Self {
        match error {
            Error::Usage(_) | Error::NoDataDirectory { .. } => Self::Unusable,
            Error::Signals(_) => Self::NotRestored,
            Error::NotPruned(_) => Self::NotPruned,
        }
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::NotAvailable | Self::NotPruned | Self::Warning => 1,
            Self::ClassicNoArchive | Self::Critical => 2,
            Self::ClassicTooLong | Self::Unknown => 3,
            Self::NotRestored => 201,
            Self::Unusable => 202,
            Self::Terminated => signals::die_by_sigterm(),
            Self::Interrupted => signals::die_by_sigint(),
        })
    }
}
