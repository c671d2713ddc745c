//! Never late: with a sleep time of a minute, everything that ends a wait ends it at once, and the wait itself costs
//! nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use crate::site::{SEGMENT, Site};
use crate::wal::{Segment, after};

/// Longer than the deadline: whatever ends a wait in time has woken it.
const SLEEP: [&str; 2] = ["-s", "60"];

/// Asserts that a sleeping program restores the segment after `event`, without waiting for the next look.
fn wakes(event: impl Fn(&Site, &[u8])) {
    wakes_after(|_, _| (), event);
}

fn wakes_after(preparation: impl Fn(&Site, &[u8]), event: impl Fn(&Site, &[u8])) {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    preparation(&site, &bytes);
    let running = site.asks(&SLEEP, SEGMENT).unprivileged().starts().until_it_waits();
    event(&site, &bytes);
    let ended = running.ends();
    ended.with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn it_wakes_when_a_segment_is_renamed_into_place() {
    wakes(|site, bytes| drop(site.put(SEGMENT, bytes)));
}

#[test]
fn it_wakes_when_a_segment_is_renamed_over_one_that_was_not_ready() {
    wakes_after(
        |site, bytes| drop(site.put(SEGMENT, &bytes[..4096])),
        |site, bytes| drop(site.put(SEGMENT, bytes)),
    );
}

#[test]
fn it_wakes_when_a_segment_is_linked() {
    wakes(|site, bytes| {
        site.write("elsewhere", bytes);
        fs::hard_link(site.path().join("elsewhere"), site.archive().join(SEGMENT)).unwrap();
    });
    wakes(|site, bytes| {
        site.write("elsewhere", bytes);
        symlink("../elsewhere", site.archive().join(SEGMENT)).unwrap();
    });
}

#[test]
fn it_wakes_when_the_last_write_comes_through_another_name_of_the_file() {
    wakes_after(
        |site, bytes| {
            site.write("elsewhere", &bytes[..4096]);
            symlink("../elsewhere", site.archive().join(SEGMENT)).unwrap();
        },
        |site, bytes| fs::write(site.path().join("elsewhere"), bytes).unwrap(),
    );
}

#[test]
fn it_wakes_when_a_segment_becomes_readable() {
    let set_mode = |site: &Site, mode| {
        let path = site.archive().join(SEGMENT);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    wakes_after(
        |site, bytes| {
            site.put(SEGMENT, bytes);
            set_mode(site, 0);
        },
        |site, _| set_mode(site, 0o644),
    );
}

#[test]
fn it_wakes_at_a_trigger_file_and_at_its_word() {
    for (before, after, words) in
        [(None, "fast", "fast"), (None, "smart", "smart"), (Some("later"), "fast", "fast")]
    {
        let site = Site::new();
        if let Some(word) = before {
            site.write("trigger", word);
        }
        let running = site.asks(&SLEEP, SEGMENT).with_trigger().starts().until_it_waits();
        site.write("trigger", after);
        let ended = running.ends();
        ended.with_status(1).saying(&format!("{words} failover"));
    }
    let site = Site::new();
    let asking = site.asks(&SLEEP, SEGMENT).arg("-t").arg("trigger");
    let running = asking.starts().until_it_waits();
    site.write("trigger", "");
    running.ends().with_status(1).saying("smart failover");
}

#[test]
fn it_wakes_at_a_promote_file_in_a_data_directory() {
    let site = Site::new();
    site.write("PG_VERSION", "18\n");
    let running = site.asks(&SLEEP, SEGMENT).starts().until_it_waits();
    site.write("promote", "");
    let ended = running.ends().with_status(1);
    ended.saying("smart failover requested by pg_ctl promote or pg_promote()");
    assert!(site.path().join("promote").exists(), "it is the server's to remove");
    let bytes = site.put_segment(SEGMENT);
    site.asks(&SLEEP, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_file_called_promote_elsewhere_means_nothing() {
    let site = Site::new();
    site.write("promote", "");
    site.asks(&["-s", "0.1"], SEGMENT).starts().still_waits_after(Duration::from_millis(500));
}

#[test]
fn an_archive_that_comes_back_is_watched_again() {
    let site = Site::new();
    let away = site.path().join("away");
    let mut running = site.asks(&["-s", "2"], SEGMENT).starts().until_it_waits();
    fs::rename(site.archive(), &away).unwrap();
    running = running.until_it_says("could not read");
    fs::create_dir(site.archive()).unwrap();
    // Another directory under the name: after the first look in it, only events cause looks.
    running = running.until_it_says("answers, waiting for").until_it_waits();
    let bytes = site.put_segment(SEGMENT);
    running.ends_within(Duration::from_millis(1500)).expect("it wakes at once").with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn files_that_are_not_asked_for_cause_no_look() {
    let site = Site::new();
    let running = site.asks(&["-s", "60", "-d"], SEGMENT).starts().until_it_waits();
    let before = running.stderr();
    for count in 1..100 {
        site.put(&after(SEGMENT, count), "a segment");
    }
    site.put("00000002.history", "");
    let bytes = site.put_segment(SEGMENT);
    let ended = running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
    let looks = |said: &str| said.matches("is not there").count();
    assert_eq!(looks(&ended.stderr), looks(&before), "{ended:?}");
}

#[test]
fn a_wait_costs_nothing() {
    let site = Site::new();
    site.write("PG_VERSION", "18\n");
    let running = site.asks(&SLEEP, SEGMENT).with_trigger().starts().until_it_waits();
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = switches();
    std::thread::sleep(Duration::from_secs(19));
    assert_eq!(switches(), before);
}
