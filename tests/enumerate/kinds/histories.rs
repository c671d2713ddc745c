//! History and backup history files, which nobody waits for.

use super::End::Status;
use super::{HISTORY_THERE, Kind, NO_ARCHIVE};
use crate::place::{BACKUP_HISTORY, COMPRESSED_HISTORY, Event, HISTORY};

pub const KINDS: &[Kind] = &[
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
];
