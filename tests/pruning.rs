//! Pruning: what goes, what stays, and when nothing is touched.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use support::wal::{Segment, after};
use support::{SEGMENT, Site};

const FIRST: &str = "000000010000000000000001";

/// An archive with segments 1 to 5.
fn site() -> Site {
    let site = Site::new();
    for count in 0..5 {
        site.put_segment(&after(FIRST, count));
    }
    site
}

fn from(first: u32) -> Vec<String> {
    (first - 1..5).map(|count| after(FIRST, count)).collect()
}

#[test]
fn what_precedes_the_restart_file_goes_after_a_restore() {
    let site = site();
    site.asks(&[], SEGMENT).arg(after(FIRST, 2)).ends().with_status(0).in_silence();
    assert_eq!(site.listing(), from(3));
}

#[test]
fn a_restart_file_that_is_no_cutoff_removes_nothing() {
    for (restart, said) in [
        ("000000010000000000000006", ""),
        ("000000000000000000000000", ""),
        ("%r", "RESTARTWALFILE \"%r\" is no name of a segment, nothing is pruned"),
        ("", "RESTARTWALFILE \"\" is no name of a segment"),
        ("000000010000000000000003.partial", "is no name of a segment"),
    ] {
        let site = site();
        let ended =
            site.asks(&["-k", "1"], SEGMENT).arg(restart).ends().with_status(0).saying(said);
        assert_eq!(ended.stderr.is_empty(), said.is_empty(), "{ended:?}");
        assert_eq!(site.listing(), from(1), "{restart:?}");
    }
}

#[test]
fn the_timeline_of_names_does_not_count() {
    let site = site();
    site.put("000000070000000000000002", "of a later timeline");
    site.put("000000070000000000000004", "of a later timeline");
    site.asks(&[], SEGMENT).arg("000000090000000000000003").ends().with_status(0);
    let mut left = from(3);
    left.push("000000070000000000000004".to_owned());
    assert_eq!(site.listing(), left);
}

#[test]
fn only_segments_and_their_forms_go() {
    let site = site();
    let old = "000000010000000000000002";
    for form in [".partial", ".gz", ".lz4", ".zst"] {
        site.put(&format!("{old}{form}"), "");
    }
    let kept = [
        format!("{old}.00000028.backup"),
        format!("{old}.tmp"),
        format!("{old}0"),
        old.replace('2', "a"),
        "00000001.history".to_owned(),
        "mounted".to_owned(),
    ];
    for name in &kept {
        site.put(name, "");
    }
    site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0).in_silence();
    let mut left = kept.to_vec();
    left.push(SEGMENT.to_owned());
    left.sort();
    assert_eq!(site.listing(), left);
}

#[test]
fn keep_files_counts_exactly_whatever_the_size_and_the_release() {
    let cases = [
        (1 << 20, 0xD110, "000000010000000100000001", "000000010000000000000FFE"),
        (16 << 20, 0xD110, "000000010000000100000001", "0000000100000000000000FE"),
        (16 << 20, 0xD071, "000000010000000100000001", "0000000100000000000000FD"),
        (64 << 20, 0xD093, "000000010000000100000002", "00000001000000000000003F"),
        (16 << 20, 0xD110, "000000010000000000000005", "000000010000000000000002"),
    ];
    for (size, magic, requested, oldest_kept) in cases {
        let site = Site::new();
        site.put(requested, Segment { magic, ..Segment::sized(requested, size) }.bytes());
        let number = u32::from_str_radix(&oldest_kept[16..], 16).unwrap();
        let gone = format!("{}{:08X}", &oldest_kept[..16], number - 1);
        site.put(&gone, "");
        site.put(oldest_kept, "");
        site.asks(&["-k", "3"], requested).ends().with_status(0).in_silence();
        assert_eq!(site.listing(), [oldest_kept, requested], "{size} {magic:X}");
    }
}

#[test]
fn keeping_more_than_there_is_removes_nothing() {
    for keep in ["5", "6", "4294967295", "0"] {
        let site = site();
        site.asks(&["-k", keep], SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(site.listing(), from(1), "-k {keep}");
    }
}

#[test]
fn nothing_goes_unless_a_segment_was_restored() {
    let site = site();
    let restart = after(FIRST, 2);
    let ask = |options: &[&str], name: &str| site.asks(options, name).arg(&restart);
    ask(&["--no-wait"], "000000010000000000000006").ends().with_status(1);
    site.put("00000001.history", "");
    ask(&[], "00000001.history").ends().with_status(0);
    site.write("trigger", "fast");
    ask(&[], SEGMENT).with_trigger().ends().with_status(1);
    fs::remove_dir_all(site.path().join("pg_wal")).unwrap();
    ask(&["-r", "0"], SEGMENT).ends().with_status(201);
    let mut left = from(1);
    left.insert(0, "00000001.history".to_owned());
    left.sort();
    assert_eq!(site.listing(), left);
}

#[test]
fn one_that_cannot_be_removed_is_a_warning_and_the_rest_goes() {
    let site = site();
    let stubborn = site.archive().join("000000010000000000000000");
    fs::create_dir(&stubborn).unwrap();
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.saying(&format!("could not remove {stubborn:?}"));
    assert_eq!(site.listing(), ["000000010000000000000000", SEGMENT]);
}

#[test]
fn the_oldest_goes_first() {
    let site = site();
    let ended = site.asks(&["-d"], SEGMENT).arg(SEGMENT).ends().with_status(0);
    let removed: Vec<_> =
        ended.stderr.lines().filter_map(|line| line.split_once("removed \"")).collect();
    let order: Vec<_> = removed.iter().map(|(_, path)| path.trim_end_matches('"')).collect();
    assert_eq!(order.len(), 4, "{ended:?}");
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn an_archive_that_may_not_be_written_to_is_left_alone() {
    let site = site();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o555)).unwrap();
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).unprivileged().ends().with_status(0);
    ended.saying("could not remove");
    assert_eq!(site.listing(), from(1));
    fs::set_permissions(site.archive(), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_archive_without_its_required_file_is_not_pruned() {
    let site = site();
    let options = ["--require-file", "mounted", "--no-wait"];
    site.asks(&options, SEGMENT).arg(SEGMENT).ends().with_status(1);
    assert_eq!(site.listing(), from(1));
    site.put("mounted", "");
    site.asks(&options, SEGMENT).arg(SEGMENT).ends().with_status(0);
    assert_eq!(site.listing(), [SEGMENT, "mounted"]);
}

#[test]
fn the_directory_that_the_server_restores_to_is_never_pruned() {
    let site = Site::with("archive", "archive/RECOVERYXLOG");
    for count in 0..5 {
        site.put_segment(&after(FIRST, count));
    }
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0);
    ended.saying("is the directory that the server restores to: nothing is pruned");
    assert_eq!(site.listing().len(), 6);
}
