//! Failover: smart and fast, by trigger file, signal and `pg_ctl promote`, and the mark of an earlier one.

use std::io;

use nix::sys::signal::Signal;

use super::End::{Status, Waits};
use super::{Kind, READY, SEGMENT_ABSENT};
use crate::place::{Event, Place, WANTED};

const TRIGGERED: Kind = Kind {
    command: "-s 0.1 -r 1 -t {trigger} {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
    ..READY
};

fn promoted(place: &Place) -> io::Result<()> {
    place.in_data("PG_VERSION", b"15\n")?;
    place.in_data("promote", b"")
}

pub const KINDS: &[Kind] = &[
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
];
