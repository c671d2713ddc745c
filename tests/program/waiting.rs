//! Waiting for the next segment: what is waited for, what is not, and until when.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::site::{BACKUP, HISTORY, SEGMENT, Site, spawn, wait_until};
use crate::wal::{Segment, after};

#[test]
fn a_segment_is_waited_for_in_silence_and_restored_when_it_comes() {
    let site = Site::new();
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_waits();
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
fn the_maximum_wait_time_ends_recovery_and_says_so() {
    let site = Site::new();
    let ended = site.asks(&["-w", "1", "-s", "60"], SEGMENT).ends().with_status(1);
    assert!(ended.wall >= Duration::from_secs(1), "{ended:?}");
    ended.saying(&format!("fast failover: {SEGMENT} has not come within 1 s; recovery ends"));
}

#[test]
fn in_standby_mode_the_maximum_wait_time_ends_a_poll_in_silence() {
    for (file, content) in [("standby.signal", ""), ("recovery.conf", "standby_mode = 'on'\n")] {
        let site = Site::new();
        site.write(file, content);
        site.asks(&["-w", "1"], SEGMENT).ends().with_status(1).in_silence();
    }
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
    let ended = site.asks(&["--no-wait"], &next).ends().with_status(201);
    ended.saying("is not ready: not WAL").saying("; the server stops");
    site.asks(&["--no-wait"], &after(SEGMENT, 2)).ends().with_status(1).in_silence();
    site.asks(&["--no-wait"], HISTORY).ends().with_status(1).in_silence();
    assert_eq!(site.restored(), None);
    // In standby mode the server asks again.
    site.write("standby.signal", "");
    site.asks(&["--no-wait"], &next).ends().with_status(1).saying("is not ready");
}

#[test]
fn a_file_that_is_half_there_is_waited_for_until_it_is_whole() {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    for length in [0, 1, 39, 40, 4096, bytes.len() - 1] {
        site.put(SEGMENT, &bytes[..length]);
        let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says("is not ready");
        running.until_it_says(&format!("found {length} bytes")).still_waits_after(Duration::ZERO);
        assert_eq!(site.restored(), None);
    }
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says("is not ready");
    fs::write(site.archive().join(SEGMENT), &bytes).unwrap();
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_segment_that_grows_is_not_complained_about() {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    let path = site.archive().join(SEGMENT);
    // Longer than a sleep time in all, but every pause is much shorter than one.
    let running = site.asks(&["-s", "2"], SEGMENT).starts().until_it_waits();
    for step in 1..=8 {
        fs::write(&path, &bytes[..bytes.len() / 8 * step]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    running.ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_killed_wait_leaves_nothing_behind() {
    let site = Site::new();
    let running = site.asks(&[], SEGMENT).starts().until_it_waits();
    running.signal(Signal::SIGKILL);
    running.ends().by_signal(Signal::SIGKILL);
    wait_until("nothing is there", || site.litter().is_empty() && site.restored().is_none());
    assert!(site.listing().is_empty());
}

#[test]
fn a_writer_that_never_closes_is_believed_one_sleep_time_after_its_last_write() {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    let running = site.asks(&["-s", "1"], SEGMENT).starts().until_it_waits();
    let mut file = File::create(site.archive().join(SEGMENT)).unwrap();
    for part in bytes.chunks(300_000) {
        std::thread::sleep(Duration::from_millis(20));
        file.write_all(part).unwrap();
    }
    let last_write = Instant::now();
    running.ends().with_status(0);
    assert!(last_write.elapsed() >= Duration::from_millis(900), "{:?}", last_write.elapsed());
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_writer_that_sets_the_length_first_is_waited_for() {
    for with_header in [false, true] {
        let site = Site::new();
        let bytes = Segment::named(SEGMENT).bytes();
        let running = site.asks(&["-s", "1"], SEGMENT).starts().until_it_waits();
        let mut file = File::create(site.archive().join(SEGMENT)).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        let parts: Vec<_> = bytes.chunks(bytes.len() / 8).collect();
        let order: Vec<usize> = if with_header { (0..8).collect() } else { (0..8).rev().collect() };
        for part in order {
            file.seek(SeekFrom::Start((part * parts[0].len()) as u64)).unwrap();
            file.write_all(parts[part]).unwrap();
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(site.restored(), None);
        }
        drop(file);
        running.ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes));
    }
}

#[test]
fn another_owners_file_is_judged_by_size_and_header() {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    let mut file = File::create(site.archive().join(SEGMENT)).unwrap();
    file.write_all(&bytes).unwrap();
    // If the tests run as root, the file belongs to root, and the program runs as nobody, who gets no lease on it.
    let running = site.asks(&["-s", "1"], SEGMENT).unprivileged().starts();
    let ended = running.ends().with_status(0);
    let may_know = !nix::unistd::geteuid().is_root();
    assert_eq!(ended.wall >= Duration::from_secs(1), may_know, "{ended:?}");
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_smart_failover_gives_a_writer_that_holds_a_whole_segment_one_sleep_time() {
    for closes in [true, false] {
        let site = Site::new();
        let bytes = Segment::named(SEGMENT).bytes();
        let mut file = File::create(site.archive().join(SEGMENT)).unwrap();
        file.write_all(&bytes).unwrap();
        site.write("trigger", "smart");
        let mut running = site.asks(&["-s", "1"], SEGMENT).with_trigger().starts().until_it_waits();
        assert!(running.goes_on());
        if closes {
            drop(file);
        }
        running.ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes));
    }
}

#[test]
fn a_segment_before_its_timeline_began_is_not_waited_for() {
    for (history, numbered) in [
        ("1\t0/700028\tno recovery target specified\n", true),
        ("1\t1/28\tno recovery target specified\n", false),
        ("1\t000000010000000000000006\tno recovery target specified\n", false),
    ] {
        let site = Site::new();
        if numbered {
            site.put_segment("000000010000000000000005");
        }
        site.put("00000002.history", history);
        let asked = "000000020000000000000005";
        site.asks(&["-s", "60"], asked).ends().with_status(1).in_silence();
        let bytes = site.put_segment(asked);
        site.asks(&["-s", "60"], asked).ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes), "what is there is taken all the same");
    }
}

#[test]
fn a_segment_in_which_its_timeline_began_is_waited_for() {
    for history in [
        "1\t0/500028\tno recovery target specified\n",
        "1\t0/5FFFFF\tno recovery target specified\n",
        "1\t000000010000000000000005\tno recovery target specified\n",
        "1\t0/300028\tno recovery target specified\n",
        "not a history",
    ] {
        let site = Site::new();
        site.put_segment("000000010000000000000001");
        site.put("00000002.history", history);
        let running = site.asks(&["-s", "0.1"], "000000020000000000000005").starts();
        running.still_waits_after(Duration::from_millis(400));
    }
}

#[test]
fn pg_rewind_is_not_kept_waiting_and_nothing_is_pruned_for_it() {
    for directory in ["pg_wal", "pg_xlog"] {
        let site = Site::with("archive", format!("{directory}/{SEGMENT}"));
        fs::create_dir_all(site.path().join(directory)).unwrap();
        site.asks(&["-s", "60"], SEGMENT).ends().with_status(1);
        let bytes = site.put_segment(SEGMENT);
        let older = "000000010000000000000004";
        site.put_segment(older);
        site.asks(&["-k", "1"], SEGMENT).arg(SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(site.restored(), Some(bytes));
        assert_eq!(site.listing(), [older, SEGMENT]);
    }
}

#[test]
fn a_server_that_has_gone_is_left_by_sigterm_with_nothing_touched() {
    let site = Site::new();
    let mut postmaster = spawn(Command::new("sleep").arg("600"));
    site.write("postmaster.pid", format!("{}\n/data\n", postmaster.id()));
    let mut running = site.asks(&["-s", "0.5"], SEGMENT).with_trigger().starts().until_it_waits();
    postmaster.kill().unwrap();
    postmaster.wait().unwrap();
    let ended = running.ends_within(Duration::from_secs(5)).expect("within a sleep time");
    ended.by_signal(Signal::SIGTERM).saying(") is gone");
    site.put_segment(SEGMENT);
    site.write("trigger", "fast");
    let asking = site.asks(&["-k", "1"], SEGMENT).with_trigger();
    asking.ends().by_signal(Signal::SIGTERM);
    assert_eq!(fs::read(site.trigger()).unwrap(), b"fast");
    assert_eq!(site.restored(), None);

    let site = Site::new();
    site.write("postmaster.pid", format!("{}\n", std::process::id()));
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_waits();
    site.write("postmaster.pid", "1\n");
    running.ends().by_signal(Signal::SIGTERM);
}

#[test]
fn recovery_prefetch_is_warned_of_once_at_the_start_of_recovery() {
    let warns = |files: &[(&str, &str)], name: &str| {
        let site = Site::new();
        for (file, content) in files {
            site.write(file, content);
        }
        let ended = site.asks(&["--no-wait"], name).ends().with_status(1);
        let warned = ended.stderr.contains("set recovery_prefetch = off");
        assert_eq!(warned, !ended.stderr.is_empty(), "{ended:?}");
        warned
    };
    let version = |version| ("PG_VERSION", version);
    let set = |value| ("postgresql.conf", value);
    assert!(warns(&[version("15\n")], HISTORY));
    assert!(warns(&[version("18\n"), set("recovery_prefetch = try\n")], HISTORY));
    assert!(warns(
        &[
            version("18\n"),
            set("recovery_prefetch = off"),
            ("postgresql.auto.conf", "recovery_prefetch = 'on'\n")
        ],
        HISTORY
    ));
    assert!(!warns(&[version("15\n"), set("recovery_prefetch = off")], HISTORY));
    assert!(!warns(
        &[version("15\n"), ("postgresql.auto.conf", "recovery_prefetch = 'off'")],
        HISTORY
    ));
    let elsewhere = ("postmaster.opts", "postgres \"-c\" \"config_file=elsewhere.conf\"\n");
    assert!(!warns(
        &[version("15\n"), elsewhere, ("elsewhere.conf", "recovery_prefetch = off")],
        HISTORY
    ));
    assert!(!warns(&[version("14\n")], HISTORY));
    assert!(!warns(&[version("9.6\n")], HISTORY));
    assert!(!warns(&[version("15\n")], BACKUP));
    assert!(!warns(&[version("15\n")], SEGMENT));

    // In standby mode a call that returns soon holds nothing back.
    for (options, warned) in [(&[][..], true), (&["--no-wait"], false), (&["-w", "5"], false)] {
        let site = Site::new();
        site.write("PG_VERSION", "15\n");
        site.write("standby.signal", "");
        let ended = site.asks(options, HISTORY).ends().with_status(1);
        assert_eq!(ended.stderr.contains("set recovery_prefetch = off"), warned, "{ended:?}");
    }
}

#[test]
fn a_hole_in_the_archive_is_said_at_a_smart_failover() {
    let site = Site::new();
    for count in [1, 2, 5] {
        site.put_segment(&after(SEGMENT, count));
    }
    site.put("000000020000000000000009", "another timeline");
    site.put("000000010000000000000001", "an earlier one");
    site.write("trigger", "smart");
    let ended = site.asks(&[], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying(&format!(
        "{SEGMENT} is missing; later segments in the archive that are not replayed: 3"
    ));
    let ended = site.asks(&[], &after(SEGMENT, 6)).with_trigger().ends().with_status(1);
    assert!(!ended.stderr.contains("missing"), "{ended:?}");
}

#[test]
fn whatever_the_server_takes_for_off_is_no_standby_mode() {
    for value in ["off", "f", "fal", "of", "n", "no", "0"] {
        let site = Site::new();
        site.write("recovery.conf", format!("standby_mode = '{value}'\n"));
        site.put(SEGMENT, "half");
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(201);
    }
}
