//! The kinds of call, one row each: the stage, the command line, and how the call may end without a fault and with one.
//! A new kind is a new row, most of it taken from the row that is most like it.

use std::fmt;
use std::fs;
use std::io;

use nix::sys::signal::Signal;

use crate::place::{
    BACKUP_HISTORY, COMPRESSED, COMPRESSED_HISTORY, Event, HISTORY, MOUNTED, Place, SEGMENTS,
    WANTED,
};

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

const TRIGGERED: Kind = Kind {
    command: "-s 0.1 -r 1 -t {trigger} {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
    ..READY
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

const PRUNING: Kind = Kind {
    name: "pruning",
    stage: |place| place.archived(&SEGMENTS),
    command: "-s 0.1 -r 1 {archive} 000000010000000000000005 pg_wal/RECOVERYXLOG \
              000000010000000000000003",
    restores: Some(SEGMENTS[4]),
    prunes: &[SEGMENTS[0], SEGMENTS[1]],
    ..READY
};

const NO_WAIT: Kind = Kind {
    command: "-s 0.1 -r 1 --no-wait {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
    ..READY
};

fn in_standby_mode(place: &Place) -> io::Result<()> {
    place.in_data("PG_VERSION", b"15\n")?;
    place.in_data("standby.signal", b"")
}

fn promoted(place: &Place) -> io::Result<()> {
    place.in_data("PG_VERSION", b"15\n")?;
    place.in_data("promote", b"")
}

fn mounted(place: &Place) -> io::Result<()> {
    fs::write(place.archive().join(MOUNTED), "")
}

pub const KINDS: &[Kind] = &[
    READY,
    Kind {
        name: "replacing",
        stage: |place| {
            place.in_data("pg_wal/RECOVERYXLOG", b"what was there before\n")?;
            place.archived(&[WANTED])
        },
        ..READY
    },
    Kind {
        name: "absent",
        stage: |_| Ok(()),
        command: "-s 0.5 -r 1 -w 1 {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
        ends: Status(1),
        lasting: &[],
        races: &[(Event::Arrives(WANTED), &[Status(0), Status(1)])],
        settles: Some(Event::Arrives(WANTED)),
        ..READY
    },
    Kind {
        name: "arriving",
        stage: |_| Ok(()),
        meanwhile: Some(Event::Arrives(WANTED)),
        races: &[(Event::Arrives(WANTED), &[Status(0)])],
        ..READY
    },
    Kind {
        name: "no-archive",
        stage: |place| fs::remove_dir(place.archive()),
        ends: Status(202),
        once: &[Waits],
        restores: None,
        then: Status(202),
        ..READY
    },
    // Whose segment it is must not be forgotten because pg_control cannot be read for a moment.
    Kind {
        name: "other-cluster",
        stage: |place| {
            place.in_data("global/pg_control", &1_u64.to_ne_bytes())?;
            place.archived(&[WANTED])
        },
        ends: Waits,
        once: &[Status(201)],
        missing: &[NO_ARCHIVE, ("\"global/pg_control\"", &[Status(0)])],
        settles: Some(Event::Matches),
        ..READY
    },
    Kind {
        name: "server-runs",
        stage: |place| {
            place.in_data("PG_VERSION", b"15\n")?;
            let own = std::process::id();
            place.in_data("postmaster.pid", format!("{own}\n").as_bytes())?;
            place.archived(&[WANTED])
        },
        ..READY
    },
    // The first record is held against the last one of the segment before.
    Kind {
        name: "following",
        stage: |place| {
            place.replayed(SEGMENTS[1])?;
            place.archived(&[WANTED])
        },
        keeps: &["pg_wal/000000010000000000000002"],
        ..READY
    },
    // What an old primary wrote after the timeline had branched off is never handed over.
    Kind {
        name: "abandoned",
        stage: |place| {
            place.in_data(
                "pg_wal/00000002.history",
                b"1\t0/280000\tno recovery target specified\n",
            )?;
            place.archived(&[WANTED])
        },
        command: "-s 0.1 -r 1 -w 0.3 {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
        ends: Status(1),
        lasting: &[Status(201)],
        missing: &[NO_ARCHIVE, ("\"pg_wal", &[Status(0)])],
        settles: Some(Event::Follows),
        keeps: &["pg_wal/00000002.history"],
        ..READY
    },
    // The stage's segments end with their first record: what has been received of one is all of it.
    Kind {
        name: "received",
        stage: |place| {
            in_standby_mode(place)?;
            place.received(WANTED)
        },
        command: "-s 0.1 -r 1 --partial=0.05 {archive} 000000010000000000000003 \
                  pg_wal/RECOVERYXLOG",
        once: &[Waits],
        missing: &[NO_ARCHIVE, ("\"standby.signal\"", &[Waits]), (".partial\"", &[Waits])],
        races: &[(Event::Arrives(WANTED), &[Status(0)])],
        ..READY
    },
    Kind {
        name: "received-smart",
        stage: |place| {
            place.triggered("smart\n")?;
            place.received(WANTED)
        },
        command: "-s 0.1 -r 1 --partial -t {trigger} {archive} 000000010000000000000003 \
                  pg_wal/RECOVERYXLOG",
        lasting: &[Status(1), Status(201), Waits],
        missing: &[("/trigger\"", &[Waits]), (".partial\"", &[Status(1)])],
        marks: true,
        ..TRIGGERED
    },
    Kind {
        name: "compressed",
        stage: |place| place.archived(&[COMPRESSED]),
        missing: &[NO_ARCHIVE, (".zst\"", &[Waits])],
        races: &[(Event::Arrives(WANTED), &[Status(0)])],
        ..READY
    },
    HISTORY_THERE,
    // While it is decompressed there it is never absent.
    Kind {
        name: "history-compressed",
        stage: |place| place.archived(&[COMPRESSED_HISTORY]),
        missing: &[NO_ARCHIVE, (".zst\"", &[Status(1)])],
        races: &[(Event::Decompresses, &[Status(0)])],
        prunes: &[COMPRESSED_HISTORY],
        settles: Some(Event::Decompresses),
        ..HISTORY_THERE
    },
    Kind {
        name: "history-absent",
        stage: |_| Ok(()),
        ends: Status(1),
        missing: &[NO_ARCHIVE],
        races: &[(Event::Arrives(HISTORY), &[Status(0), Status(1)])],
        settles: Some(Event::Arrives(HISTORY)),
        ..HISTORY_THERE
    },
    Kind {
        name: "backup-history",
        stage: |place| place.archived(&[BACKUP_HISTORY]),
        command: "-s 0.1 -r 1 {archive} 000000010000000000000003.00000028.backup \
                  pg_wal/RECOVERYHISTORY",
        missing: &[NO_ARCHIVE, ("/000000010000000000000003.00000028.backup\"", &[Status(1)])],
        restores: Some(BACKUP_HISTORY),
        ..HISTORY_THERE
    },
    Kind {
        name: "smart-absent",
        stage: |place| place.triggered("smart\n"),
        ends: Status(1),
        lasting: &[Waits],
        missing: &[("/trigger\"", &[Waits])],
        marks: true,
        then: Status(1),
        ..TRIGGERED
    },
    Kind {
        name: "smart-ready",
        stage: |place| {
            place.triggered("smart\n")?;
            place.archived(&[WANTED])
        },
        lasting: &[Status(1), Status(201), Waits],
        missing: &[SEGMENT_ABSENT],
        marks: true,
        ..TRIGGERED
    },
    Kind {
        name: "fast",
        stage: |place| {
            place.triggered("fast, please, and let everybody know who it is that wants it\n")?;
            place.archived(&[WANTED])
        },
        ends: Status(1),
        // A trigger file that cannot be read asks for nothing before the next look.
        once: &[Status(0)],
        lasting: &[Waits],
        missing: &[("/trigger\"", &[Status(0)])],
        marks: true,
        then: Status(1),
        ..TRIGGERED
    },
    Kind {
        name: "below-the-mark",
        stage: |place| {
            place.triggered("smart before 000000010000000000000004\n")?;
            place.archived(&[WANTED])
        },
        lasting: &[Status(1), Status(201), Waits],
        missing: &[SEGMENT_ABSENT],
        ..TRIGGERED
    },
    Kind {
        name: "at-the-mark",
        stage: |place| {
            place.triggered("smart before 000000010000000000000003\n")?;
            place.archived(&[WANTED])
        },
        ends: Status(1),
        lasting: &[Status(0), Waits],
        missing: &[("/trigger\"", &[Status(0)])],
        then: Status(1),
        ..TRIGGERED
    },
    Kind {
        name: "signalled",
        stage: |_| Ok(()),
        meanwhile: Some(Event::Signal(Signal::SIGUSR1)),
        ends: Status(1),
        lasting: &[],
        settles: Some(Event::Arrives(WANTED)),
        ..READY
    },
    Kind {
        name: "promoted-absent",
        stage: promoted,
        ends: Status(1),
        lasting: &[Waits],
        missing: &[("\"PG_VERSION\"", &[Waits]), ("\"promote\"", &[Waits])],
        then: Status(1),
        ..READY
    },
    Kind {
        name: "promoted-ready",
        stage: |place| {
            promoted(place)?;
            place.archived(&[WANTED])
        },
        lasting: &[Status(1), Status(201), Waits],
        missing: &[SEGMENT_ABSENT],
        ..READY
    },
    Kind {
        name: "no-wait-absent",
        stage: in_standby_mode,
        ends: Status(1),
        races: &[(Event::Arrives(WANTED), &[Status(0), Status(1)])],
        settles: Some(Event::Arrives(WANTED)),
        ..NO_WAIT
    },
    Kind {
        name: "no-wait-ready",
        stage: |place| {
            in_standby_mode(place)?;
            place.archived(&[WANTED])
        },
        once: &[Status(1)],
        ..NO_WAIT
    },
    Kind {
        name: "no-wait-outside",
        once: &[Status(201)],
        missing: &[NO_ARCHIVE, SEGMENT_ABSENT],
        ..NO_WAIT
    },
    Kind {
        name: "rewind",
        command: "-s 0.1 -r 1 {archive} 000000010000000000000003 pg_wal/000000010000000000000003",
        once: &[Status(1)],
        destination: "pg_wal/000000010000000000000003",
        ..READY
    },
    Kind {
        name: "required",
        stage: |place| {
            mounted(place)?;
            place.archived(&[WANTED])
        },
        command: "-s 0.1 -r 1 --require-file mounted {archive} 000000010000000000000003 \
                  pg_wal/RECOVERYXLOG",
        ..READY
    },
    Kind {
        name: "mounting",
        stage: |_| Ok(()),
        command: "-s 0.1 -r 1 --require-file mounted {archive} 00000002.history \
                  pg_wal/RECOVERYHISTORY",
        meanwhile: Some(Event::Mounts),
        signalled: &[Status(1)],
        races: &[(Event::Mounts, &[Status(0)])],
        ..HISTORY_THERE
    },
    Kind {
        name: "mounting-smart",
        stage: |place| place.triggered("smart\n"),
        command: "-s 0.1 -r 1 --require-file mounted -t {trigger} {archive} \
                  000000010000000000000003 pg_wal/RECOVERYXLOG",
        meanwhile: Some(Event::Mounts),
        // Once it is mounted, a segment that opening does not find is not there.
        missing: &[SEGMENT_ABSENT],
        races: &[(Event::Mounts, &[Status(0)])],
        marks: true,
        ..READY
    },
    PRUNING,
    Kind {
        name: "keeping",
        command: "-s 0.1 -r 1 -k 2 {archive} 000000010000000000000005 pg_wal/RECOVERYXLOG",
        ..PRUNING
    },
    Kind {
        name: "registered",
        stage: |place| {
            place.archived(&SEGMENTS)?;
            place.archived(&[HISTORY, BACKUP_HISTORY])?;
            place.registered(SEGMENTS[1])
        },
        command: "-s 0.1 -r 1 --standby-name own {archive} 000000010000000000000005 \
                  pg_wal/RECOVERYXLOG 000000010000000000000004",
        prunes: &[SEGMENTS[0]],
        races: &[(Event::Renews, &[Status(0)])],
        ..PRUNING
    },
    Kind {
        name: "prune",
        stage: |place| {
            place.archived(&SEGMENTS)?;
            place.archived(&[HISTORY, BACKUP_HISTORY])?;
            place.registered(SEGMENTS[1])
        },
        command: "--prune {archive} 000000010000000000000003",
        prunes: &[SEGMENTS[0]],
        once: &[Status(1)],
        lasting: &[Status(1)],
        missing: &[],
        is_deaf: true,
        races: &[(Event::Renews, &[Status(0)])],
        restores: None,
        ..PRUNING
    },
    Kind { name: "named-copy", without: Some("tmpfile"), ..READY },
];
