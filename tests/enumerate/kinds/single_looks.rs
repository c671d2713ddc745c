//! One look: `--no-wait`, inside and outside standby mode, and `pg_rewind`.

use super::End::Status;
use super::{Kind, NO_ARCHIVE, READY, SEGMENT_ABSENT, in_standby_mode};
use crate::place::{Event, WANTED};

const NO_WAIT: Kind = Kind {
    command: "-s 0.1 -r 1 --no-wait {archive} 000000010000000000000003 pg_wal/RECOVERYXLOG",
    ..READY
};

pub const KINDS: &[Kind] = &[
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
];
