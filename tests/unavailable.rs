//! An archive that does not answer is never an empty one: it has gone away, it is not mounted, it cannot be read.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::{SEGMENT, Site};

const HISTORY: &str = "00000002.history";
const BACKUP: &str = "000000010000000000000005.00000028.backup";

/// Makes the archive location one that exists and does not answer, whoever asks: a link to itself.
fn make_unavailable(site: &Site) {
    fs::rename(site.archive(), site.path().join("away")).unwrap();
    symlink(site.archive(), site.archive()).unwrap();
}

fn make_available(site: &Site) {
    fs::remove_file(site.archive()).unwrap();
    fs::rename(site.path().join("away"), site.archive()).unwrap();
}

#[test]
fn an_archive_that_goes_away_is_no_absence_and_is_said_once() {
    let site = Site::new();
    let away = site.path().join("away");
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_waits();
    fs::rename(site.archive(), &away).unwrap();
    let running = running.until_it_says("could not read");
    // Several looks later it is still the one line.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(running.stderr().lines().count(), 1, "{}", running.stderr());
    fs::rename(&away, site.archive()).unwrap();
    let running = running.until_it_says("answers, waiting for");
    let bytes = site.put_segment(SEGMENT);
    let ended = running.ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn an_archive_that_does_not_answer_from_the_start_is_waited_for_by_every_request() {
    for name in [SEGMENT, HISTORY, BACKUP] {
        let site = Site::new();
        make_unavailable(&site);
        let running = site.asks(&["-s", "0.1"], name).starts().until_it_says("could not read");
        make_available(&site);
        if name == SEGMENT {
            site.put_segment(SEGMENT);
            running.ends().with_status(0);
        } else {
            running.ends().with_status(1);
        }
    }
}

#[test]
fn a_history_file_that_nobody_can_look_for_is_given_up_only_at_a_failover() {
    for word in ["", "smart", "fast", "smart before 000000010000000000000009"] {
        let site = Site::new();
        make_unavailable(&site);
        site.write("trigger", word);
        let ended = site.asks(&["-s", "60"], HISTORY).with_trigger().ends().with_status(1);
        ended.saying("00000002.history is taken for absent, though the archive could not tell");
    }
    let site = Site::new();
    make_unavailable(&site);
    let running = site.asks(&["-s", "60"], HISTORY).starts().until_it_waits();
    running.signal(Signal::SIGUSR1);
    running.ends().with_status(1).saying("taken for absent");
}

#[test]
fn a_directory_where_a_history_file_should_be_is_no_answer() {
    let site = Site::new();
    fs::create_dir(site.archive().join(HISTORY)).unwrap();
    let running =
        site.asks(&["-s", "0.1"], HISTORY).starts().until_it_says("it is no regular file");
    fs::remove_dir(site.archive().join(HISTORY)).unwrap();
    running.ends().with_status(1);
}

#[test]
fn a_missing_archive_location_is_no_error_once_failover_is_asked_for() {
    for (word, words) in [("smart", "smart failover"), ("fast", "fast failover")] {
        let site = Site::new();
        fs::remove_dir(site.archive()).unwrap();
        site.write("trigger", word);
        let ended = site.asks(&["-r", "0"], SEGMENT).with_trigger().ends().with_status(1);
        ended.saying(words);
    }
}

#[test]
fn a_smart_failover_gives_an_archive_that_does_not_answer_some_more_looks() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    make_unavailable(&site);
    site.write("trigger", "smart");
    let running = site.asks(&["-s", "0.3", "-r", "9"], SEGMENT).with_trigger().starts();
    let running = running.until_it_says("could not read");
    make_available(&site);
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_smart_failover_ends_without_an_archive_and_the_calls_that_follow_do_not_wait_again() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    make_unavailable(&site);
    site.write("trigger", "smart");
    let ended = site.asks(&["-s", "0.1", "-r", "2"], SEGMENT).with_trigger().ends().with_status(1);
    assert!(ended.wall >= Duration::from_millis(300), "0.1 s and 0.2 s of pauses: {ended:?}");
    let ended = ended
        .saying("failover goes on without what may be in the archive")
        .saying("smart failover");
    ended.saying(&format!("could not read \"{}", site.archive().display()));
    let mark = fs::read_to_string(site.trigger()).unwrap();
    assert_eq!(mark, format!("smart before {SEGMENT}\n"));
    let earlier = "000000010000000000000004";
    for name in [SEGMENT, earlier, HISTORY] {
        site.asks(&["-s", "60"], name).with_trigger().ends().with_status(1);
        assert_eq!(fs::read_to_string(site.trigger()).unwrap(), mark, "{name} moves it");
    }
    make_available(&site);
    site.put_segment(earlier);
    site.asks(&["-s", "60"], earlier).with_trigger().ends().with_status(0);
    site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(1);
}

#[test]
fn an_archive_without_its_required_file_is_not_there_at_all() {
    for name in [SEGMENT, HISTORY] {
        let site = Site::new();
        let asking = site.asks(&["-s", "0.1", "--require-file", "mounted"], name);
        let running = asking.starts().until_it_says("waiting until the archive answers");
        let path = site.archive().join("mounted");
        let running = running.until_it_says(&format!("could not read {path:?}"));
        site.put_segment(SEGMENT);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(site.restored(), None);
        site.put("mounted", "");
        running.ends().with_status(i32::from(name == HISTORY));
    }
}

#[test]
fn a_smart_failover_waits_for_the_required_file_without_end_and_a_fast_one_does_not() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    let options = ["-s", "0.1", "-r", "0", "--require-file=mounted"];
    site.write("trigger", "smart");
    let running = site.asks(&options, SEGMENT).with_trigger().starts();
    let running = running.until_it_says("smart failover as well: \"fast\" would end it");
    running.still_waits_after(Duration::from_secs(1));
    let running =
        site.asks(&options, SEGMENT).with_trigger().starts().until_it_says("could not read");
    site.put("mounted", "");
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
    fs::remove_file(site.archive().join("mounted")).unwrap();
    site.write("trigger", "fast");
    site.asks(&options, SEGMENT).with_trigger().ends().with_status(1).saying("fast failover");
}

#[test]
fn no_wait_does_not_wait_for_the_archive_either() {
    let site = Site::new();
    make_unavailable(&site);
    site.asks(&["--no-wait"], SEGMENT).ends().with_status(1).saying("could not read");
    site.asks(&["--no-wait"], HISTORY).ends().with_status(1).saying("taken for absent");
    assert_eq!(site.restored(), None);
}
