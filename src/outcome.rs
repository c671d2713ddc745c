//! What the server reads: exit statuses and death by a signal. Why it came to that is decided elsewhere.
//!
//! A server takes 1 to 125 for "there is no such file", which ends recovery; 126 and more, and any signal but
//! SIGTERM, stop it without promoting (`RestoreArchivedFile` in PostgreSQL's `xlogarchive.c`).

use std::process::{ExitCode, Termination};

use crate::signals;

/// The end of one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is whole at its destination, or what was to be printed is printed: status 0.
    Done,
    /// The file is not there, and that is an answer: status 1.
    NotThere,
    /// `--prune` could not remove what may go: status 1, which a server only logs.
    NotPruned,
    /// The file could not be put at its destination: status 201.
    NotRestored,
    /// The command line is wrong, or there is no archive: status 202.
    Unusable,
    /// The archive location does not exist, told as the C program told it: status 2.
    ClassicNoArchive,
    /// The segment is longer than its header says, told as the C program told it: status 3.
    ClassicTooLong,
    /// Death by SIGTERM: the server ends without promoting.
    Terminated,
    /// Death by SIGINT: the server stops at once.
    Interrupted,
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::NotThere | Self::NotPruned => 1,
            Self::ClassicNoArchive => 2,
            Self::ClassicTooLong => 3,
            Self::NotRestored => 201,
            Self::Unusable => 202,
            Self::Terminated => signals::die_by_sigterm(),
            Self::Interrupted => signals::die_by_sigint(),
        })
    }
}
