//! Waiting for the next segment, and for an archive that has gone away; what is never waited for.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::wal::after;
use support::{SEGMENT, Site, wait_until};

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
fn a_segment_is_waited_for_in_silence_and_restored_when_it_comes() {
    let site = Site::new();
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().is_waiting();
    let bytes = site.put_segment(SEGMENT);
    running.ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn what_is_not_a_segment_is_looked_for_once_and_its_absence_is_not_worth_a_word() {
    for name in [HISTORY, BACKUP, &format!("{SEGMENT}.partial")] {
        let site = Site::new();
        site.asks(&["-s", "60"], name).ends().with_status(1).in_silence();
        assert_eq!(site.restored(), None);
    }
}

#[test]
fn what_is_not_a_segment_is_restored_as_it_is_whatever_failover_is_asked_for() {
    for name in [HISTORY, BACKUP] {
        for word in [None, Some(""), Some("fast"), Some("smart")] {
            let site = Site::new();
            site.put(name, "1\t0/3000000\tno recovery target specified\n");
            if let Some(word) = word {
                site.write("trigger", word);
            }
            site.asks(&[], name).with_trigger().ends().with_status(0).in_silence();
            assert_eq!(site.restored(), fs::read(site.archive().join(name)).ok());
        }
    }
}

#[test]
fn an_archive_that_goes_away_is_no_absence_and_is_said_once() {
    let site = Site::new();
    let away = site.path().join("away");
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().is_waiting();
    fs::rename(site.archive(), &away).unwrap();
    let running = running.has_said("could not read");
    // Several looks later it is still the one line.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(running.stderr().lines().count(), 1, "{}", running.stderr());
    fs::rename(&away, site.archive()).unwrap();
    let running = running.has_said("answers, waiting for");
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
        let running = site.asks(&["-s", "0.1"], name).starts().has_said("could not read");
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
    let running = site.asks(&["-s", "60"], HISTORY).starts().is_waiting();
    running.signal(Signal::SIGUSR1);
    running.ends().with_status(1).saying("taken for absent");
}

#[test]
fn a_directory_where_a_history_file_should_be_is_no_answer() {
    let site = Site::new();
    fs::create_dir(site.archive().join(HISTORY)).unwrap();
    let running = site.asks(&["-s", "0.1"], HISTORY).starts().has_said("it is no regular file");
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
    let running = running.has_said("could not read");
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
    }
}

#[test]
fn the_maximum_wait_time_ends_recovery_and_says_so() {
    let site = Site::new();
    let ended = site.asks(&["-w", "1", "-s", "60"], SEGMENT).ends().with_status(1);
    assert!(ended.wall >= Duration::from_secs(1), "{ended:?}");
    ended.saying(&format!("fast failover: {SEGMENT} has not come within 1 seconds"));
}

#[test]
fn a_segment_that_is_there_is_restored_however_short_the_maximum_wait_time() {
    let site = Site::new();
    let first = site.put_segment(SEGMENT);
    site.asks(&["-w", "1"], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(first));
}

#[test]
fn no_wait_looks_once() {
    let site = Site::new();
    let next = after(SEGMENT, 1);
    let bytes = site.put_segment(SEGMENT);
    site.put(&next, "half a file");
    site.asks(&["--no-wait"], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
    fs::remove_file(site.destination()).unwrap();
    site.asks(&["--no-wait"], &next).ends().with_status(1);
    site.asks(&["--no-wait"], &after(SEGMENT, 2)).ends().with_status(1).in_silence();
    site.asks(&["--no-wait"], HISTORY).ends().with_status(1).in_silence();
    make_unavailable(&site);
    site.asks(&["--no-wait"], SEGMENT).ends().with_status(1).saying("could not read");
    site.asks(&["--no-wait"], HISTORY).ends().with_status(1).saying("taken for absent");
    assert_eq!(site.restored(), None);
}

#[test]
fn a_file_that_is_half_there_is_waited_for_until_it_is_whole() {
    let site = Site::new();
    let bytes = support::wal::Segment::named(SEGMENT).bytes();
    for length in [0, 1, 39, 40, 4096, bytes.len() - 1] {
        let path = site.archive().join(SEGMENT);
        fs::write(&path, &bytes[..length]).unwrap();
        let running = site.asks(&["-s", "0.1"], SEGMENT).starts().has_said("is not ready");
        running.has_said(&format!("found {length} bytes")).still_waits_after(Duration::ZERO);
        assert_eq!(site.restored(), None);
    }
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().has_said("is not ready");
    fs::write(site.archive().join(SEGMENT), &bytes).unwrap();
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_segment_that_grows_is_not_complained_about() {
    let site = Site::new();
    let bytes = support::wal::Segment::named(SEGMENT).bytes();
    let path = site.archive().join(SEGMENT);
    let running = site.asks(&["-s", "0.5"], SEGMENT).starts().is_waiting();
    for step in 1..=8 {
        fs::write(&path, &bytes[..bytes.len() / 8 * step]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    running.ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_killed_wait_leaves_nothing_behind() {
    let site = Site::new();
    let running = site.asks(&[], SEGMENT).starts().is_waiting();
    running.signal(Signal::SIGKILL);
    running.ends().by_signal(Signal::SIGKILL);
    wait_until("nothing is there", || site.litter().is_empty() && site.restored().is_none());
    assert!(site.listing().is_empty());
}
