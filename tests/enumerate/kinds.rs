//! The kinds of call, one row each: the stage, the command line, and how the call may end without a fault and with one.
//! A new kind is a new row, most of it taken from the row that is most like it.

/// Failover, however it is asked for.
mod failovers;
/// History and backup history files.
mod histories;
/// `--require-file`.
mod mounts;
/// Pruning, after a restore and alone.
mod pruning;
/// A segment, without a failover.
mod segments;
/// `--no-wait` and `pg_rewind`.
mod single_looks;

use std::fmt;
use std::io;

use nix::sys::signal::Signal;

use crate::place::{Event, HISTORY, Place, WANTED};

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Status(i32),
    Death(Signal),
    /// It was still waiting when its time was up, and died of SIGTERM as it should.
    Waits,
    /// It could not be ended, or did not end by itself where it should have.
    Never,
}

use End::{Death, Status, Waits};

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status(status) => write!(f, "status {status}"),
            Death(signal) => write!(f, "killed by {signal}"),
            Waits => write!(f, "waits"),
            Self::Never => write!(f, "does not end"),
        }
    }
}

/// One kind of call.
pub struct Kind {
    pub name: &'static str,
    pub stage: fn(&Place) -> io::Result<()>,
    /// Separated by spaces; `{archive}` and `{trigger}` stand for the paths.
    pub command: &'static str,
    /// What the shim has to take away from the system.
    pub without: Option<&'static str>,
    /// What happens as soon as it waits, and again before the undisturbed call that follows, if it has not yet.
    pub meanwhile: Option<Event>,
    /// How it ends without a fault. Allowed with each fault too, and so on down the next two.
    pub ends: End,
    /// How it may end where one system call failed once.
    pub once: &'static [End],
    /// How it may end where a system call goes on failing.
    pub lasting: &'static [End],
    /// How it may end where a call fails as if the path that holds the word did not exist.
    pub missing: &'static [(&'static str, &'static [End])],
    /// How it may end when SIGUSR1 or SIGINT comes.
    pub signalled: &'static [End],
    /// It does not listen for signals.
    pub is_deaf: bool,
    /// What may happen while any call is under way, and how it may end then.
    pub races: &'static [(Event, &'static [End])],
    /// The file that is to be at the destination when the status is 0.
    pub restores: Option<&'static str>,
    /// Where to, below the data directory.
    pub destination: &'static str,
    /// What the stage has put beside the destination.
    pub keeps: &'static [&'static str],
    /// What may go from the archive, and is gone after an undisturbed call.
    pub prunes: &'static [&'static str],
    /// The trigger file may come to say `smart before` the segment.
    pub marks: bool,
    /// What is set right before the undisturbed call that follows.
    pub settles: Option<Event>,
    /// How that one ends.
    pub then: End,
}

/// Where the archive location itself seems not to exist, which only the start of a call may believe.
const NO_ARCHIVE: (&str, &[End]) = ("/archive\"", &[Status(202)]);

/// Where the segment seems not to exist, and that is an answer.
const SEGMENT_ABSENT: (&str, &[End]) = ("/000000010000000000000003\"", &[Status(1)]);

const READY: Kind = Kind {
    name: "ready",
    stage: |place| place.archived(&[WANTED]),
    command: "-s 0.1 -r 1 {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
    without: None,
    meanwhile: None,
    ends: Status(0),
    once: &[],
    lasting: &[Status(201), Waits],
    missing: &[NO_ARCHIVE],
    signalled: &[Status(1)],
    is_deaf: false,
    races: &[],
    restores: Some(WANTED),
    destination: "pg_wal/RECOVERYXLOG",
    keeps: &[],
    prunes: &[],
    marks: false,
    settles: None,
    then: Status(0),
};

const HISTORY_THERE: Kind = Kind {
    name: "history",
    stage: |place| place.archived(&[HISTORY]),
    command: "-s 0.1 -r 1 {archive} 00000002.history pg_wal/RECOVERYHISTORY",
    missing: &[NO_ARCHIVE, ("/00000002.history\"", &[Status(1)])],
    signalled: &[],
    restores: Some(HISTORY),
    destination: "pg_wal/RECOVERYHISTORY",
    ..READY
};

fn in_standby_mode(place: &Place) -> io::Result<()> {
    place.in_data("PG_VERSION", b"15\n")?;
    place.in_data("standby.signal", b"")
}

/// All kinds.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    let tables = [
        segments::KINDS,
        histories::KINDS,
        failovers::KINDS,
        single_looks::KINDS,
        mounts::KINDS,
        pruning::KINDS,
    ];
    tables.into_iter().flatten()
}
