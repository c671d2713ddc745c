//! Pruning: after a restore, and alone.

use super::End::Status;
use super::{Kind, READY};
use crate::place::{BACKUP_HISTORY, Event, HISTORY, SEGMENTS};

const PRUNING: Kind = Kind {
    name: "pruning",
    stage: |place| place.archived(&SEGMENTS),
    command: "-s 0.1 -r 1 {archive} 000000010000000000000005 pg_wal/RECOVERYXLOG \
              000000010000000000000003",
    restores: Some(SEGMENTS[4]),
    prunes: &[SEGMENTS[0], SEGMENTS[1]],
    ..READY
};

pub const KINDS: &[Kind] = &[
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
];
