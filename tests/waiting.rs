//! Waiting for the next segment, and for an archive that has gone away; what is never waited for.

mod support;

use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::wal::{Segment, after};
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
    let bytes = Segment::named(SEGMENT).bytes();
    for length in [0, 1, 39, 40, 4096, bytes.len() - 1] {
        site.put(SEGMENT, &bytes[..length]);
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
    let bytes = Segment::named(SEGMENT).bytes();
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

/// Whatever happens here has to be noticed long before this.
const SLEEP: [&str; 2] = ["-s", "60"];
const AT_ONCE: Duration = Duration::from_secs(5);

/// It is asleep; then `event` happens; then it restores the segment, without waiting for the next look.
fn wakes(event: impl Fn(&Site, &[u8])) {
    wakes_after(|_, _| (), event);
}

fn wakes_after(preparation: impl Fn(&Site, &[u8]), event: impl Fn(&Site, &[u8])) {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    preparation(&site, &bytes);
    let mut running = site.asks(&SLEEP, SEGMENT).unprivileged().starts().is_waiting();
    event(&site, &bytes);
    let ended = running.ends_within(AT_ONCE).expect("it wakes at once");
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
fn a_writer_that_never_closes_is_believed_one_sleep_time_after_its_last_write() {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    let running = site.asks(&["-s", "1"], SEGMENT).starts().is_waiting();
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
        let running = site.asks(&["-s", "1"], SEGMENT).starts().is_waiting();
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
    // Where the tests run as root, the file is root's and the program nobody's, who may have no lease on it.
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
        let mut running = site.asks(&["-s", "1"], SEGMENT).with_trigger().starts().is_waiting();
        assert!(running.goes_on());
        if closes {
            drop(file);
        }
        running.ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes));
    }
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
        let mut running = site.asks(&SLEEP, SEGMENT).with_trigger().starts().is_waiting();
        site.write("trigger", after);
        let ended = running.ends_within(AT_ONCE).expect("it wakes at once");
        ended.with_status(1).saying(&format!("{words} failover"));
    }
    let site = Site::new();
    let asking = site.asks(&SLEEP, SEGMENT).arg("-t").arg("trigger");
    let mut running = asking.starts().is_waiting();
    site.write("trigger", "");
    running.ends_within(AT_ONCE).expect("it wakes at once").with_status(1).saying("smart failover");
}

#[test]
fn it_wakes_at_a_promote_file_in_a_data_directory() {
    let site = Site::new();
    site.write("PG_VERSION", "18\n");
    let mut running = site.asks(&SLEEP, SEGMENT).starts().is_waiting();
    site.write("promote", "");
    let ended = running.ends_within(AT_ONCE).expect("it wakes at once").with_status(1);
    ended.saying("smart failover, asked for by pg_ctl promote or pg_promote()");
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
    let mut running = site.asks(&["-s", "2"], SEGMENT).starts().is_waiting();
    fs::rename(site.archive(), &away).unwrap();
    running = running.has_said("could not read");
    fs::create_dir(site.archive()).unwrap();
    // Another directory under the name: the first look in it is the last that the clock brings.
    running = running.has_said("answers, waiting for").is_waiting();
    let bytes = site.put_segment(SEGMENT);
    running.ends_within(Duration::from_millis(1500)).expect("it wakes at once").with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn files_that_are_not_asked_for_cause_no_look() {
    let site = Site::new();
    let running = site.asks(&["-s", "60", "-d"], SEGMENT).starts().is_waiting();
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
    let running = site.asks(&SLEEP, SEGMENT).with_trigger().starts().is_waiting();
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

#[test]
fn a_segment_before_its_timeline_began_is_not_waited_for() {
    for (history, numbered) in [
        ("1\t0/700028\tno recovery target specified\n", true),
        ("1\t1/28\tno recovery target specified\n", true),
        ("1\t000000010000000000000006\tno recovery target specified\n", false),
    ] {
        let site = Site::new();
        if numbered {
            site.put_segment("000000010000000000000001");
        }
        site.put("00000002.history", history);
        let asked = "000000020000000000000005";
        site.asks(&SLEEP, asked).ends().with_status(1).in_silence();
        let bytes = site.put_segment(asked);
        site.asks(&SLEEP, asked).ends().with_status(0);
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
        site.asks(&SLEEP, SEGMENT).ends().with_status(1);
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
    let mut postmaster = Command::new("sleep").arg("600").spawn().unwrap();
    site.write("postmaster.pid", format!("{}\n/data\n", postmaster.id()));
    let mut running = site.asks(&["-s", "0.5"], SEGMENT).with_trigger().starts().is_waiting();
    postmaster.kill().unwrap();
    postmaster.wait().unwrap();
    let ended = running.ends_within(AT_ONCE).expect("within a sleep time");
    ended.by_signal(Signal::SIGTERM).saying("is gone: nothing more is done for it");
    site.put_segment(SEGMENT);
    site.write("trigger", "fast");
    let asking = site.asks(&["-k", "1"], SEGMENT).with_trigger();
    asking.ends().by_signal(Signal::SIGTERM);
    assert_eq!(fs::read(site.trigger()).unwrap(), b"fast");
    assert_eq!(site.restored(), None);

    let site = Site::new();
    site.write("postmaster.pid", format!("{}\n", std::process::id()));
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().is_waiting();
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
    assert!(!warns(&[version("14\n")], HISTORY));
    assert!(!warns(&[version("9.6\n")], HISTORY));
    assert!(!warns(&[version("15\n"), ("standby.signal", "")], HISTORY));
    assert!(!warns(&[version("15\n")], BACKUP));
    assert!(!warns(&[version("15\n")], SEGMENT));
}

#[test]
fn an_archive_without_its_required_file_is_not_there_at_all() {
    for name in [SEGMENT, HISTORY] {
        let site = Site::new();
        let asking = site.asks(&["-s", "0.1", "--require-file", "mounted"], name);
        let running = asking.starts().has_said("waiting until the archive answers");
        let path = site.archive().join("mounted");
        let running = running.has_said(&format!("could not read {path:?}"));
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
    let running = running.has_said("smart failover as well: \"fast\" would end it");
    running.still_waits_after(Duration::from_secs(1));
    let running = site.asks(&options, SEGMENT).with_trigger().starts().has_said("could not read");
    site.put("mounted", "");
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
    fs::remove_file(site.archive().join("mounted")).unwrap();
    site.write("trigger", "fast");
    site.asks(&options, SEGMENT).with_trigger().ends().with_status(1).saying("fast failover");
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
        "{SEGMENT} is missing, so 3 later segments in the archive are not replayed"
    ));
    let ended = site.asks(&[], &after(SEGMENT, 6)).with_trigger().ends().with_status(1);
    assert!(!ended.stderr.contains("missing"), "{ended:?}");
}
