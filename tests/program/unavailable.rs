//! An archive that does not answer is never an empty one: it has gone away, it is not mounted, it cannot be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::site::{Asking, BACKUP, HISTORY, SEGMENT, Site, output_of};
use crate::wal::{Segment, after};

/// Makes the archive location one that exists but does not answer, even to root: a symbolic link to itself.
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
    // Several looks later there is still only the one line.
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
fn a_file_that_may_not_be_read_is_named_with_its_mode_and_the_user() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let path = site.archive().join(SEGMENT);
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let user = if geteuid().is_root() { "nobody".to_owned() } else { me() };
    let asks = || site.asks(&["-s", "0.1"], SEGMENT).unprivileged();
    let said = |path: &Path, mode| {
        format!("denied (os error 13); the user is {user}, {path:?} is {mode} {} ", me())
    };
    mode(&path, 0o040);
    drop(asks().starts().until_it_says(&said(&path, "----r-----")));
    mode(&path, 0o644);
    // The directory on the way, where that is what keeps the user out.
    mode(site.archive(), 0o600);
    drop(asks().starts().until_it_says(&said(site.archive(), "drw-------")));
    mode(site.archive(), 0o755);
    asks().ends().with_status(0).in_silence();
}

/// The name of the user who runs the tests.
fn me() -> String {
    let name = output_of(Command::new("id").arg("-un")).stdout;
    String::from_utf8(name).unwrap().trim_end().to_owned()
}

#[test]
fn a_history_file_that_nobody_can_look_for_is_given_up_only_at_a_failover() {
    for word in ["", "smart", "fast", "smart before 000000010000000000000009"] {
        let site = Site::new();
        make_unavailable(&site);
        site.write("trigger", word);
        let ended = site.asks(&["-s", "60"], HISTORY).with_trigger().ends().with_status(1);
        ended.saying("00000002.history is treated as absent, though the archive could not tell");
    }
    let site = Site::new();
    make_unavailable(&site);
    let running = site.asks(&["-s", "60"], HISTORY).starts().until_it_waits();
    running.signal(Signal::SIGUSR1);
    running.ends().with_status(1).saying("treated as absent");
}

#[test]
fn a_directory_where_a_history_file_should_be_is_no_answer() {
    let site = Site::new();
    fs::create_dir(site.archive().join(HISTORY)).unwrap();
    let running = site.asks(&["-s", "0.1"], HISTORY).starts().until_it_says("not a regular file");
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
        .saying("failover continues without what may be in the archive")
        .saying("smart failover");
    ended.saying(&format!("could not read \"{}", site.archive().display()));
    let mark = fs::read_to_string(site.trigger()).unwrap();
    assert_eq!(mark, format!("smart before {SEGMENT}\n"));
    let earlier = "000000010000000000000004";
    // Segments before the mark may have been replayed, and must be restored again: the archive gets its retries again.
    for (name, sleep_time) in [(SEGMENT, "60"), (earlier, "0.1"), (HISTORY, "60")] {
        site.asks(&["-s", sleep_time, "-r", "1"], name).with_trigger().ends().with_status(1);
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
    let running = running.until_it_says("even at a smart failover: only \"fast\" ends the wait");
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
fn a_failover_that_is_decided_does_not_wait_for_the_required_file() {
    let next = after(SEGMENT, 1);
    for (retries, server_has_it) in [("0", false), ("9", true)] {
        let site = Site::new();
        site.write("PG_VERSION", "18\n");
        site.write("standby.signal", "");
        if server_has_it {
            site.write(&format!("pg_wal/{SEGMENT}"), Segment::named(SEGMENT).bytes());
        }
        site.write("trigger", "fast");
        let options = ["-s", "60", "-r", retries, "--require-file=mounted"];
        let asks = |name| site.asks(&options, name).with_trigger().ends().with_status(1);
        asks(&next).saying("fast failover requested");
        // The server asks for its last segment once more.
        asks(SEGMENT);
        // "fast" has been said.
        let options = ["-s", "0.1", "-r", "2", "--require-file=mounted"];
        let ended = site.asks(&options, SEGMENT).with_trigger().ends().with_status(1);
        assert!(!ended.stderr.contains("only \"fast\""), "{ended:?}");
        assert_eq!(ended.stderr.contains("waiting until the archive"), !server_has_it, "{ended:?}");
        assert_eq!(site.restored(), None);
    }
}

#[test]
fn no_wait_does_not_wait_for_the_archive_either() {
    let site = Site::new();
    make_unavailable(&site);
    // Outside standby mode the server would take "not available" for the end of WAL.
    for name in [SEGMENT, HISTORY] {
        let ended = site.asks(&["--no-wait"], name).ends().with_status(201);
        ended.saying("could not read").saying("; the server stops");
    }
    site.write("standby.signal", "");
    site.asks(&["--no-wait"], SEGMENT).ends().with_status(1).saying("could not read");
    site.asks(&["--no-wait"], HISTORY).ends().with_status(1).saying("treated as absent");
    assert_eq!(site.restored(), None);
}

#[test]
fn an_archive_that_fails_for_a_moment_still_serves_what_precedes_the_mark() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    make_unavailable(&site);
    site.write("trigger", format!("smart before {}\n", after(SEGMENT, 1)));
    let running = site.asks(&["-s", "0.3", "-r", "9"], SEGMENT).with_trigger().starts();
    let running = running.until_it_says("could not read");
    make_available(&site);
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

/// More calls than the program makes on paths of the archive until it has decided.
const CALLS: usize = 12;

/// The files that are asked for, and the failover that is: for a file that is there, none of them is the end.
const ASKED: [(&str, &str); 2] = [(HISTORY, ""), (SEGMENT, "smart")];

/// A call for a file that is in the archive or in the directory `other`, which takes the archive's place before the call
/// number `at` on a path of the archive.
fn with_a_swap<'a>(site: &'a Site, (name, trigger): (&str, &str), at: usize) -> Asking<'a> {
    if !trigger.is_empty() {
        site.write("trigger", trigger);
    }
    let asking = site.asks(&["-s", "0.1", "--require-file", "mounted"], name).with_trigger();
    let asking = asking.with_fault("swap").env("FAULT_AT", at.to_string());
    let asking = asking.env("FAULT_IN", "/archive").env("FAULT_TO", site.archive());
    asking.env("FAULT_FROM", site.path().join("other"))
}

/// Puts the required file and all that is asked for into the archive.
fn fill(site: &Site) {
    site.put("mounted", "");
    site.put(HISTORY, "1\t0/3000000\tno recovery target specified\n");
    site.put_segment(SEGMENT);
}

#[test]
fn an_archive_that_is_mounted_in_the_middle_of_a_look_is_no_absence() {
    for asked in ASKED {
        for at in 1..=CALLS {
            let site = Site::new();
            fill(&site);
            fs::rename(site.archive(), site.path().join("other")).unwrap();
            fs::create_dir(site.archive()).unwrap();
            with_a_swap(&site, asked, at).ends().with_status(0);
            assert!(site.restored().is_some(), "{asked:?} {at}");
        }
    }
}

#[test]
fn an_archive_that_goes_away_in_the_middle_of_a_look_is_no_absence() {
    for asked in ASKED {
        for at in 1..=CALLS {
            let site = Site::new();
            fill(&site);
            fs::create_dir(site.path().join("other")).unwrap();
            let mut running = with_a_swap(&site, asked, at).starts();
            let ended = loop {
                if let Some(ended) = running.ends_within(Duration::from_millis(10)) {
                    break ended;
                }
                let away = site.path().join("archive.away");
                if away.exists() && running.stderr().contains("could not read") {
                    fs::rename(site.archive(), site.path().join("empty")).unwrap();
                    fs::rename(away, site.archive()).unwrap();
                    break running.ends();
                }
            };
            ended.with_status(0);
            assert!(site.restored().is_some(), "{asked:?} {at}");
        }
    }
}
