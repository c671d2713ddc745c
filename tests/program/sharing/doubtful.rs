//! Registrations that are damaged, old, or cannot be read: none of them is taken for a standby that needs nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::{age, asks, put_registration, registration, segments};
use crate::site::{FIRST, SEGMENT, Site};
use crate::wal::after;

#[test]
fn a_damaged_registration_is_named_and_nothing_is_pruned() {
    let damaged: [(&str, &str); 6] = [
        ("000000010000000000000002\nasked for it", "expected the name of a segment"),
        ("", "found \"\", expected the name of a segment"),
        ("00000001000000000000000", "found \"00000001000000000000000\""),
        ("000000010000000000000002\n000000010000000000000002\n", "expected the name of a segment"),
        ("%r", "found \"%r\""),
        ("000000010000000000000002.partial", "expected the name of a segment"),
    ];
    for (content, said) in damaged {
        let site = Site::with_five_segments();
        put_registration(&site, "b", content);
        let ended = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).saying(said);
        let path = site.archive().join(".pg_standby/b");
        let ended = ended.saying(&format!("invalid registration {path:?}: found "));
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert_eq!(segments(&site), 5);
        let line = ["--prune".into(), site.archive().as_os_str().to_owned(), SEGMENT.into()];
        site.runs(line).ends().with_status(1).saying(said);
        assert_eq!(segments(&site), 5);
    }
}

#[test]
fn only_a_regular_file_counts_as_a_registration_and_a_leading_dot_hides_it() {
    let site = Site::with_five_segments();
    put_registration(&site, ".b", "half a regis");
    fs::create_dir(site.archive().join(".pg_standby/c")).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT)
        .ends()
        .with_status(0)
        .saying("pg_standby/c\"")
        .saying("something other than a short file");
    assert_eq!(segments(&site), 5);
    fs::remove_dir(site.archive().join(".pg_standby/c")).unwrap();
    symlink("/dev/zero", site.archive().join(".pg_standby/c")).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT)
        .ends()
        .with_status(0)
        .saying("something other than a short file");
    assert_eq!(segments(&site), 5);
    fs::remove_file(site.archive().join(".pg_standby/c")).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 1);
}

#[test]
fn an_own_registration_that_is_damaged_is_named_and_replaced() {
    let site = Site::with_five_segments();
    put_registration(&site, "a", "");
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).saying(".pg_standby/a");
    assert_eq!((registration(&site, "a").unwrap(), segments(&site)), (format!("{SEGMENT}\n"), 5));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 1);
}

#[test]
fn a_registration_that_was_not_renewed_for_a_day_counts_and_is_warned_about_once_a_minute() {
    let site = Site::with_five_segments();
    let day = Duration::from_secs(24 * 60 * 60);
    put_registration(&site, "b", &after(FIRST, 2));
    age(&site, "b", Duration::from_secs(23 * 60 * 60));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 3);
    age(&site, "b", day * 3);
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    age(&site, "a", Duration::from_secs(60));
    let ended = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0);
    ended.saying("pg_standby/b\" has not been renewed for 72 hours").saying(&after(FIRST, 2));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 3);
}

#[test]
fn registrations_that_are_elsewhere_and_not_mounted_are_not_none() {
    let site = Site::with_five_segments();
    symlink("/nowhere/registrations", site.archive().join(".pg_standby")).unwrap();
    let ended = asks(&site, "one", SEGMENT, SEGMENT).ends().with_status(0);
    assert_eq!(segments(&site), 5, "{ended:?}");
}
