//! An archive that counts only while it is mounted: `--require-file`.

use std::fs;
use std::io;

use super::End::Status;
use super::{HISTORY_THERE, Kind, READY, SEGMENT_ABSENT};
use crate::place::{Event, MOUNTED, Place, WANTED};

fn mounted(place: &Place) -> io::Result<()> {
    fs::write(place.archive().join(MOUNTED), "")
}

pub const KINDS: &[Kind] = &[
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
];
