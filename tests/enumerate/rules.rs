//! Which ends are allowed under which fault beyond what a kind's row says: calls that the program can do without, and
//! the exceptions that the contract makes, each with its reason.

use nix::sys::signal::Signal;

use crate::faults::Fault;
use crate::kinds::{End, Kind};
use crate::trace::Call;

/// What a run is held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Point {
    /// No status from 2 to 125, and 1 only where somebody asked or absence is an answer.
    Status,
    /// The destination is whole or not there.
    Destination,
    /// There is nothing else in the directory of the destination.
    Beside,
    /// What anybody needs is in the archive as it was, and nothing else is new in it.
    Archive,
    /// The trigger file says what it said, or `smart before` the segment.
    Trigger,
    /// What may go from the archive is gone.
    Pruned,
    /// An undisturbed call in the same place has the right end and leaves everything as it should be.
    Next,
}

/// A call that may fail without consequence.
pub struct Spare {
    /// The beginning of the call, or a part of it that starts otherwise than with a name.
    pub call: &'static str,
    /// Errors; none are all.
    pub errors: &'static [&'static str],
    /// Nothing but pruning has to succeed; else the call ends as without the fault.
    pub is_for_pruning: bool,
    pub reason: &'static str,
}

/// Any error, and the call ends as without it.
const WHATEVER_FAILS: Spare = Spare { call: "", errors: &[], is_for_pruning: false, reason: "" };

/// Not only once but lasting as well, these must change nothing.
pub const SPARES: &[Spare] = &[
    Spare {
        call: "F_SETLEASE",
        reason: "where there are no leases, size and header decide",
        ..WHATEVER_FAILS
    },
    Spare { call: "inotify_", reason: "the look that is due anyway remains", ..WHATEVER_FAILS },
    Spare {
        call: "statfs(",
        reason: "it only tells how far notifications can be trusted",
        ..WHATEVER_FAILS
    },
    Spare {
        call: "fallocate(",
        errors: &["EOPNOTSUPP", "ENOSYS", "EINVAL"],
        reason: "without it the space is had by writing",
        ..WHATEVER_FAILS
    },
    Spare {
        call: "linkat(",
        errors: &["EPERM", "EXDEV", "EOPNOTSUPP", "ENOENT", "EMLINK", "EINVAL", "EACCES"],
        reason: "a copy that has had a name all the while is as good",
        ..WHATEVER_FAILS
    },
    Spare {
        call: "fchmod(",
        errors: &["EPERM", "EROFS", "EOPNOTSUPP", "ENOSYS", "EINVAL"],
        reason: "some file systems have no permissions",
        ..WHATEVER_FAILS
    },
    Spare { call: "close(", reason: "nobody can do anything about it", ..WHATEVER_FAILS },
    Spare {
        call: "/.pg_standby/.own",
        errors: &["ENOSPC", "EDQUOT", "EROFS"],
        is_for_pruning: true,
        reason: "an archive that is full is pruned all the same, or it stays full",
    },
];

/// What is right by the contract though a rule says otherwise.
pub struct Exception {
    /// The kind's name; empty for all.
    pub kind: &'static str,
    /// A part of the call.
    pub call: &'static str,
    /// Names of faults; none are all, [`LASTING`] is every error that lasts.
    pub faults: &'static [&'static str],
    pub point: Point,
    /// For [`Point::Status`]: the end that is right.
    pub end: Option<End>,
    pub reason: &'static str,
}

/// Every error that lasts.
const LASTING: &str = "+";

/// Once and for good.
const ABSENT: &[&str] = &["ENOENT", "ENOENT+"];

/// Without the socket that wakes it the program could not be asked for failover.
const STOPS_UNHEARD: Exception = Exception {
    kind: "",
    call: "",
    faults: &[],
    point: Point::Status,
    end: Some(End::Status(201)),
    reason: "signals could not ask for failover, so it stops before it begins",
};

const OWN_SIDE: Exception = Exception {
    kind: "",
    call: "",
    faults: &[LASTING],
    point: Point::Status,
    end: Some(End::Status(201)),
    reason: "the data directory cannot be read, which uses the retries of our own side up",
};

/// A lease that is refused says that somebody has the file open for writing.
const NOBODY_WAITS: Exception = Exception {
    kind: "",
    call: "F_SETLEASE",
    faults: &["EAGAIN", "EAGAIN+"],
    point: Point::Status,
    end: None,
    reason: "it is being written, so not ready, and nobody wants to wait",
};

const UNREGISTERED: Exception = Exception {
    kind: "",
    call: "",
    faults: ABSENT,
    point: Point::Archive,
    end: None,
    reason: "somebody has removed the registration by hand",
};

const REMOVED: Exception = Exception {
    kind: "",
    call: "getdents64(",
    faults: ABSENT,
    point: Point::Archive,
    end: None,
    reason: "the C library says that such a directory, which has been removed, is empty",
};

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        kind: "registered",
        call: "/.pg_standby/.own\", O_WRONLY",
        faults: &["ENOSPC+", "EDQUOT+", "EROFS+"],
        point: Point::Pruned,
        end: None,
        reason: "the others' registrations cannot be opened either, which is only so where errors are made",
    },
    Exception { call: "socketpair(", ..STOPS_UNHEARD },
    Exception { call: "<socket:", ..STOPS_UNHEARD },
    Exception {
        kind: "",
        call: "statx(",
        faults: &["ENOENT+", "ENOTDIR+"],
        point: Point::Status,
        end: Some(End::Status(202)),
        reason: "neither trigger nor archive seem to exist, and that from the start",
    },
    Exception { call: "openat(", ..OWN_SIDE },
    Exception { call: "read(", ..OWN_SIDE },
    Exception { call: "fcntl(", ..OWN_SIDE },
    Exception { call: "newfstatat(", ..OWN_SIDE },
    Exception {
        kind: "server-runs",
        call: "kill(",
        faults: &["ESRCH", "ESRCH+"],
        point: Point::Status,
        end: Some(End::Death(Signal::SIGTERM)),
        reason: "that is how the kernel says that the server is gone",
    },
    Exception { kind: "no-wait-ready", end: Some(End::Status(1)), ..NOBODY_WAITS },
    Exception { kind: "no-wait-outside", end: Some(End::Status(201)), ..NOBODY_WAITS },
    Exception { kind: "rewind", end: Some(End::Status(1)), ..NOBODY_WAITS },
    Exception {
        kind: "named-copy",
        call: "",
        faults: &["SIGTERM", "SIGHUP"],
        point: Point::Beside,
        end: None,
        reason: "they keep their default action, and the next call uses the leftover up",
    },
    Exception {
        call: "/.pg_standby\", O_RDONLY",
        reason: "no standby has ever registered",
        ..UNREGISTERED
    },
    Exception { call: "/.pg_standby/other\", ", ..UNREGISTERED },
    Exception { call: "statx(", faults: &["ENOENT+"], ..UNREGISTERED },
    Exception { kind: "abandoned", point: Point::Status, end: Some(End::Status(0)), ..REMOVED },
    REMOVED,
];

/// The rule that makes `call` one to do without.
pub fn spare(call: &Call, fault: Fault) -> Option<&'static Spare> {
    let (error, _) = fault.error()?;
    SPARES.iter().find(|spare| {
        (call.line.starts_with(spare.call)
            || call.line.contains(spare.call) && !spare.call.ends_with('('))
            && (spare.errors.is_empty() || spare.errors.contains(&error))
    })
}

/// The exception that covers a breach of `point`, as a place in the table.
pub fn exception(kind: &Kind, call: &Call, fault: Fault, point: Point, end: End) -> Option<usize> {
    EXCEPTIONS.iter().position(|exception| {
        (exception.kind.is_empty() || exception.kind == kind.name)
            && call.line.contains(exception.call)
            && (exception.faults.is_empty()
                || exception.faults.contains(&&*fault.to_string())
                || exception.faults == [LASTING] && matches!(fault, Fault::Errors(_)))
            && exception.point == point
            && exception.end.is_none_or(|right| right == end)
    })
}

/// How a run may end.
pub fn allowed(kind: &Kind, calls: &[Call], index: usize, fault: Fault) -> Vec<End> {
    let call = &calls[index];
    let mut ends = vec![kind.ends];
    match fault {
        Fault::Error(error) | Fault::Errors(error) => {
            let is_lasting = matches!(fault, Fault::Errors(_));
            if spare(call, fault).is_some_and(|spare| !spare.is_for_pruning) {
                return ends;
            }
            ends.extend(kind.once);
            if is_lasting {
                ends.extend(kind.lasting);
            }
            if matches!(error, "ENOENT" | "ENOTDIR") {
                // Where it lasts, another look may meet it at an earlier call.
                let is_meant = |other: &&Call| is_lasting && other.name == call.name;
                for other in calls.iter().filter(is_meant).chain([call]) {
                    let missing = kind.missing.iter().filter(|(word, _)| other.line.contains(word));
                    missing.for_each(|(_, more)| ends.extend(*more));
                }
            }
        }
        Fault::Signal(signal @ (Signal::SIGKILL | Signal::SIGTERM | Signal::SIGHUP)) => {
            // When it is ending, it ends.
            if call.name != "exit_group" || signal == Signal::SIGKILL {
                ends.clear();
            }
            ends.push(End::Death(signal));
        }
        Fault::Signal(signal) if kind.is_deaf => ends = vec![End::Death(signal)],
        Fault::Signal(signal) => {
            if call.is_deaf {
                ends.push(End::Death(signal));
            }
            if signal == Signal::SIGQUIT {
                ends.push(End::Death(Signal::SIGINT));
            } else {
                ends.extend(kind.signalled);
            }
        }
        Fault::Delay(event) => {
            let races = kind.races.iter().filter(|(race, _)| *race == event);
            ends = races.flat_map(|(_, ends)| *ends).copied().collect();
        }
    }
    ends
}
