//! Noise in every file that the program reads, and on its command line: it ends with one of its statuses, or by one of its
//! signals, and every line that it prints is a message of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::site::{Ended, SEGMENT, Site};
use crate::wal::Segment;

/// The files that the program reads, below the working directory.
const FILES: [&str; 12] = [
    "global/pg_control",
    "postmaster.pid",
    "postmaster.opts",
    "postgresql.conf",
    "recovery.conf",
    "PG_VERSION",
    "trigger",
    "archive/00000001.history",
    "archive/00000002.history",
    "archive/000000020000000000000005",
    "archive/000000010000000000000005",
    "archive/.pg_standby/other",
];

/// Content that nearly fits such files, and noise.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let near = "(smart |fast|before |standby_mode|recovery_prefetch|config_file|[0-9A-F]{8,24}|[-=' \t\n\"0-9/]){0,9}";
    let header = (0..48_usize, any::<Vec<u8>>()).prop_map(|(kept, noise)| {
        let mut bytes = Segment::named(SEGMENT).bytes();
        bytes.truncate(kept);
        bytes.extend(noise);
        bytes
    });
    let damaged = (0..40_usize, any::<u8>()).prop_map(|(at, byte)| {
        let mut bytes = Segment::named(SEGMENT).bytes();
        bytes[at] = byte;
        bytes
    });
    prop_oneof![
        any::<Vec<u8>>(),
        near.prop_map(String::into_bytes),
        header,
        damaged,
        Just(Vec::new())
    ]
}

fn ends_well(ended: &Ended) -> Result<(), TestCaseError> {
    let status = ended.status.code();
    let by_signal = ended.status.signal();
    // A made-up process id in postmaster.pid does not run: the server that asked is gone.
    let is_known =
        matches!(status, Some(0 | 1 | 201 | 202)) || by_signal == Some(Signal::SIGTERM as i32);
    prop_assert!(is_known, "{:?}", ended);
    for line in ended.stderr.lines() {
        prop_assert!(line.starts_with("pg_standby: "), "{:?}", ended);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_files_give_a_status_that_there_is(
        files in vec((0..FILES.len(), content()), 0..6),
        asked in prop_oneof![
            Just(SEGMENT),
            Just("000000020000000000000005"),
            Just("00000001.history"),
            Just("00000003.history"),
        ],
        restart in prop_oneof![Just(SEGMENT), Just("000000010000000000000004"), Just("\u{fc}")],
    ) {
        let site = Site::new();
        for (file, content) in files {
            site.write(FILES[file], content);
        }
        let asking = site.asks(&["--no-wait", "-r", "0"], asked).arg(restart).with_trigger();
        let ended = asking.ends();
        ends_well(&ended)?;
        prop_assert_eq!(ended.status.code() == Some(0), site.restored().is_some(), "{:?}", ended);
        prop_assert!(site.litter().is_empty());
        if let Some(segment) = site.restored().filter(|_| !asked.ends_with(".history")) {
            prop_assert_eq!(segment.len(), 1 << 20);
        }
    }

    #[test]
    fn any_command_line_gives_a_status_that_there_is(
        words in vec(
            prop_oneof![
                "--?(copy|debug|keep-files|max-retries|sleep-time|require-file|on-error|version|help)(=[ -~é]{0,4})?"
                    .prop_map(OsString::from),
                "[0-9A-F]{24}|[0-9A-F]{8}[.]history|archive|-?[0-9]{1,3}|pg_wal/[A-Z]{2}".prop_map(OsString::from),
                vec(1..=255_u8, 0..9).prop_map(OsString::from_vec),
            ],
            0..7,
        )
    ) {
        let site = Site::new();
        let words = [OsString::from("--no-wait")].into_iter().chain(words);
        ends_well(&site.runs(words).ends())?;
        prop_assert!(fs::read_dir(site.archive()).unwrap().next().is_none());
    }
}
