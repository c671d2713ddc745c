//! A segment, without a failover: there, absent, on its way, compressed, still being received.

use std::fs;

use super::End::{Status, Waits};
use super::{Kind, NO_ARCHIVE, READY, in_standby_mode};
use crate::place::{COMPRESSED, Event, SEGMENTS, WANTED};

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
        name: "compressed",
        stage: |place| place.archived(&[COMPRESSED]),
        missing: &[NO_ARCHIVE, (".zst\"", &[Waits])],
        races: &[(Event::Arrives(WANTED), &[Status(0)])],
        ..READY
    },
    Kind { name: "named-copy", without: Some("tmpfile"), ..READY },
];
