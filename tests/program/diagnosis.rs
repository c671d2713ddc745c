//! What a wait says of an archive from which the segment cannot come, and that it says nothing where all is well.

use std::fs;
use std::time::Duration;

use crate::site::{Asking, FIRST, Running, SEGMENT, Site, wait_until, write};
use crate::wal::{Segment, after};

/// Longer than several looks with `-s 0.1`.
const SEVERAL_LOOKS: Duration = Duration::from_millis(800);

fn asks(site: &Site) -> Asking<'_> {
    site.asks(&["-s", "0.1"], SEGMENT)
}

/// Asserts that it has said something once, with all these words.
#[track_caller]
fn said_once(running: Running, words: &[&str]) {
    let said = running.still_waits_after(SEVERAL_LOOKS);
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(said.starts_with("pg_standby: warning: "), "{said:?}");
    for words in words {
        assert!(said.contains(words), "{words:?} is not said in {said:?}");
    }
}

/// A data directory of a server that is not consistent yet.
fn is_starting(site: &Site) {
    site.write("PG_VERSION", "18\n");
    site.write("backup_label", "START WAL LOCATION: 0/5000028\n");
}

#[test]
fn a_missing_segment_is_named_once_with_the_number_of_later_ones() {
    let site = Site::new();
    for count in [0, 6, 7, 9] {
        site.put_segment(&after(FIRST, count));
    }
    site.put_segment("000000020000000000000009");
    let location = format!("{:?}", site.archive());
    let running = asks(&site).starts().until_it_says("is missing");
    let later = format!("that are there: 3, from {} on; copy it", after(FIRST, 6));
    said_once(running, &[SEGMENT, &location, &later]);
}

#[test]
fn a_missing_segment_that_comes_is_said_to_be_ready() {
    let site = Site::new();
    site.put_segment(&after(SEGMENT, 1));
    let running = asks(&site).starts().until_it_says("is missing");
    let bytes = site.put_segment(SEGMENT);
    let ended = running.ends().with_status(0).saying("is ready now");
    assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_hole_that_comes_into_being_during_the_wait_is_said_within_a_few_looks() {
    let site = Site::new();
    site.put_segment(FIRST);
    let running = asks(&site).starts().until_it_waits();
    // Nothing is wrong yet at the first listings.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(running.stderr(), "");
    site.put_segment(&after(SEGMENT, 1));
    said_once(running.until_it_says("is missing"), &[SEGMENT, "that are there: 1"]);
}

#[test]
fn an_archive_in_which_nothing_changes_is_not_listed_at_each_look() {
    let site = Site::new();
    site.put_segment(FIRST);
    let running = asks(&site).arg("-d").starts().until_it_waits();
    let said = running.still_waits_after(SEVERAL_LOOKS);
    let (looks, listings) = (said.matches("is not there").count(), said.matches("listed").count());
    assert!(looks >= 4 && listings == 1, "{said}");
}

#[test]
fn a_segment_that_is_merely_late_is_no_hole() {
    let site = Site::new();
    let running = site.asks(&["-s", "1"], SEGMENT).starts().until_it_waits();
    // The later one is younger than a sleep time at each look before the segment has come.
    std::thread::sleep(Duration::from_millis(700));
    site.put_segment(&after(SEGMENT, 1));
    std::thread::sleep(Duration::from_millis(600));
    site.put_segment(SEGMENT);
    running.ends().with_status(0).in_silence();
}

#[test]
fn an_archive_without_anything_new_is_waited_for_in_silence() {
    let site = Site::new();
    is_starting(&site);
    site.put_segment(FIRST);
    site.put("00000001.history", "");
    site.put("00000002.history", "1\t0/5000000\twhy\n");
    site.put(&format!("{SEGMENT}.00000028.backup"), "");
    site.put("mounted", "");
    assert_eq!(asks(&site).starts().still_waits_after(SEVERAL_LOOKS), "");
}

#[test]
fn an_archive_without_segments_is_named_while_the_server_is_not_consistent() {
    let pid_file =
        |status| format!("{}\n/data\n0\n5432\n/tmp\n*\n 1 2\n{status}\n", std::process::id());
    for (version, files, is_said) in [
        ("18", vec![("backup_label", String::new())], true),
        ("18", vec![("postmaster.pid", pid_file("starting"))], true),
        ("18", vec![("postmaster.pid", pid_file("ready   "))], false),
        ("10", vec![("postmaster.pid", pid_file("standby "))], false),
        ("9.2", vec![], true),
        ("9.2", vec![("pg_wal/000000010000000000000004", String::new())], false),
        ("", vec![], false),
    ] {
        let site = Site::new();
        if !version.is_empty() {
            site.write("PG_VERSION", format!("{version}\n"));
        }
        for (name, content) in &files {
            site.write(name, content);
        }
        site.put("00000001.history", "");
        let running = asks(&site).starts();
        if is_said {
            let running = running.until_it_says("there are no segments in");
            let location = format!("{:?}", site.archive());
            said_once(running, &[&location, "not consistent yet", "archive_command"]);
        } else {
            assert_eq!(running.still_waits_after(SEVERAL_LOOKS), "", "{version} {files:?}");
        }
    }
}

#[test]
fn a_segment_that_is_there_only_in_a_form_that_is_not_read_is_named_with_its_path() {
    for form in [".bz2", ".xz", ".gpg", "-0123456789abcdef.br"] {
        let site = Site::new();
        let path = site.put(&format!("{SEGMENT}{form}"), "compressed");
        let running = asks(&site).starts().until_it_says("is there only as");
        said_once(
            running,
            &[SEGMENT, &format!("{path:?}"), "uncompressed, and under its own name"],
        );
    }
    let site = Site::new();
    let partial = site.put(&format!("{SEGMENT}.partial"), "half");
    let running = asks(&site).starts().until_it_says("is there only as");
    said_once(running, &[&format!("{partial:?}"), "give --partial"]);
}

#[test]
fn a_file_that_is_still_being_written_under_another_name_is_no_other_form() {
    let site = Site::new();
    let path = site.archive().join(format!("{SEGMENT}.filepart"));
    let mut running = site.asks(&["-s", "1"], SEGMENT).starts();
    for count in 0..30_usize {
        write(&path, "x".repeat(count));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(running.goes_on());
    fs::remove_file(&path).unwrap();
    site.put_segment(SEGMENT);
    running.ends().with_status(0).in_silence();
}

#[test]
fn a_later_timeline_that_the_server_does_not_follow_is_named_with_what_to_do() {
    // Segments of 1 MB: the fifth one ends at 0/600000.
    for (left_at, is_said) in [("0/5FFFFF", true), ("0/400000", true), ("0/600000", false)] {
        let site = Site::new();
        site.write("PG_VERSION", "18\n");
        site.put_segment(&after(FIRST, 3));
        site.put("00000002.history", format!("1\t{left_at}\tno recovery target specified\n"));
        // As a promoted standby leaves it.
        site.put(&format!("{SEGMENT}.partial"), "half");
        let running = asks(&site).starts();
        if is_said {
            let running = running.until_it_says("timeline 2 branched off at");
            let history = format!("{:?}", site.archive().join("00000002.history"));
            said_once(running, &[left_at, SEGMENT, &history, "restart the standby to follow it"]);
        } else {
            let said = running.until_it_says("is there only as").stderr();
            assert!(!said.contains("timeline"), "{said}");
        }
    }
}

#[test]
fn up_to_11_a_later_timeline_has_to_be_followed_on_purpose() {
    for (version, configuration, words) in [
        ("11", "", "with recovery_target_timeline = 'latest'"),
        ("11", "standby_mode = on\n", "with recovery_target_timeline = 'latest'"),
    ] {
        let site = Site::new();
        site.write("PG_VERSION", format!("{version}\n"));
        site.write("recovery.conf", configuration);
        site.put_segment(&after(FIRST, 3));
        site.put("00000002.history", "1\t0/500100\twhy\n");
        let running = asks(&site).starts();
        said_once(running.until_it_says("branched off"), &[words]);
    }
}

#[test]
fn a_server_that_follows_timelines_is_let_go_when_a_later_one_has_begun() {
    for (version, file, content) in [
        ("18", "standby.signal", ""),
        ("11", "recovery.conf", "standby_mode = on\nrecovery_target_timeline = 'latest'\n"),
    ] {
        let site = Site::new();
        site.write("PG_VERSION", format!("{version}\n"));
        site.write(file, content);
        site.put_segment(&after(FIRST, 3));
        let running = asks(&site).starts().until_it_waits();
        site.put("00000002.history", "1\t0/500100\twhy\n");
        running.ends().with_status(1).in_silence();
    }
}

#[test]
fn a_trigger_file_that_cannot_promote_is_named() {
    let site = Site::new();
    site.write("PG_VERSION", "9.0\n");
    site.write("recovery.conf", "standby_mode = on\n");
    site.put_segment(FIRST);
    let running = asks(&site).with_trigger().starts().until_it_says("-t does not work");
    said_once(running, &["the trigger_file of its recovery.conf"]);
}

#[test]
fn a_wait_with_a_limit_says_it_at_the_latest_when_it_ends() {
    let site = Site::new();
    site.put_segment(&after(SEGMENT, 1));
    // It is as long as the sleep time.
    let ended = site.asks(&["-s", "1", "-w", "1"], SEGMENT).ends().with_status(1);
    ended.saying("is missing in");
}

#[test]
fn a_diagnosis_survives_noise_in_the_archive() {
    let site = Site::new();
    for name in ["0", "\u{e9}00000010000000000000005", "000000010000000000000006 ", "x.history"] {
        site.put(name, "noise");
    }
    fs::create_dir(site.archive().join(format!("{SEGMENT}.d"))).unwrap();
    let segment = Segment::named(&after(SEGMENT, 2));
    site.put(&after(SEGMENT, 2), segment.with(|header| header.magic = 1).bytes());
    let running = asks(&site).starts().until_it_says("is there only as");
    wait_until("it goes on", || running.stderr().lines().count() == 1);
}

#[test]
fn a_hole_behind_what_the_server_has_is_said_though_each_call_is_short() {
    let site = Site::new();
    site.write("PG_VERSION", "18\n");
    site.write("standby.signal", "");
    let segment = Segment::named(FIRST).with_records(10).bytes();
    site.write(&format!("pg_wal/{FIRST}"), &segment);
    site.put(&format!("{FIRST}.partial"), &segment[..Segment::record(10)]);
    site.put_segment(&after(FIRST, 1));
    // The call in which a minute of the clock ends speaks for the others.
    let asks = || site.asks(&["--partial", "-s", "0.1"], FIRST).with_fault("minute");
    wait_until("the later segment is no news", || {
        asks().ends().with_status(1).stderr.matches("is missing in").count() == 1
    });
}
