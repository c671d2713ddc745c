//! Signals: which ask for failover, which kill, and that a copy is never left half done.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal::{self, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1};

use crate::site::{SEGMENT, Site};
use crate::wal::Segment;

#[test]
fn sigusr1_and_sigint_ask_for_a_fast_failover() {
    for (signal, words) in [
        (SIGUSR1, "fast failover requested by SIGUSR1:"),
        (SIGINT, "SIGINT as a request for failover is deprecated"),
    ] {
        let site = Site::new();
        let running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
        running.signal(signal);
        running.ends().with_status(1).saying(words);
    }
}

#[test]
fn sigterm_and_sighup_kill_and_sigquit_kills_as_sigint() {
    for (signal, death) in [(SIGTERM, SIGTERM), (SIGHUP, SIGHUP), (SIGQUIT, SIGINT)] {
        let site = Site::new();
        // The tests may run with SIGHUP ignored, for example under nohup.
        let asking =
            site.asks(&["-s", "60"], SEGMENT).after("exec env --default-signal \"$0\" \"$@\"");
        let running = asking.starts().until_it_waits();
        running.signal(signal);
        let ended = running.ends().by_signal(death).in_silence();
        assert!(!ended.status.core_dumped());
        assert_eq!(site.restored(), None);
    }
}

#[test]
fn signals_that_the_server_left_ignored_are_heard() {
    for (signal, status) in [(SIGUSR1, Some(1)), (SIGINT, Some(1)), (SIGQUIT, None)] {
        let site = Site::new();
        let ignoring = site.asks(&["-s", "60"], SEGMENT).after("trap '' USR1 INT QUIT");
        let running = ignoring.starts().until_it_waits();
        running.signal(signal);
        assert_eq!(running.ends().status.code(), status, "{signal}");
    }
}

#[test]
fn signals_act_in_a_pause_between_retries() {
    let acts = |signal: Signal| {
        let site = Site::with("archive", "nowhere/RECOVERYXLOG");
        site.put_segment(SEGMENT);
        let running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_says("trying again");
        running.until_it_waits().signal_and_end(signal)
    };
    acts(SIGUSR1).with_status(1).saying("fast failover");
    acts(SIGQUIT).by_signal(SIGINT);
    acts(SIGTERM).by_signal(SIGTERM);
}

#[test]
fn a_signal_wins_over_the_trigger_file() {
    let site = Site::new();
    let running = site.asks(&["-s", "60"], SEGMENT).with_trigger().starts().until_it_waits();
    running.signal(SIGUSR1);
    running.ends().with_status(1).saying("by SIGUSR1");
}

#[test]
fn a_signal_during_the_copy_leaves_the_whole_segment_or_nothing() {
    let name = "000000010000000000000001";
    let bytes = Segment::sized(name, 64 << 20).bytes();
    for signal in [SIGUSR1, SIGQUIT, SIGTERM] {
        for step in 0..15 {
            let site = Site::new();
            site.put(name, &bytes);
            let running = site.asks(&[], name).starts();
            thread::sleep(Duration::from_millis(step * 3));
            let ended = running.signal_and_end(signal);
            assert!(site.litter().is_empty());
            match (ended.status.code(), ended.status.signal()) {
                (Some(0), _) => assert!(site.restored().as_ref() == Some(&bytes)),
                (Some(1), _) => assert!(site.restored().is_none()),
                // SIGTERM, and any signal before the program listens, kills at any point.
                (_, Some(_)) => {
                    assert!(site.restored().is_none_or(|restored| restored == bytes));
                }
                other => panic!("{other:?}: {ended:?}"),
            }
        }
    }
}

#[test]
fn killed_at_200_instants_of_a_restore_it_leaves_no_partial_destination_and_no_litter() {
    let name = "000000010000000000000001";
    let bytes = Segment::sized(name, 64 << 20).bytes();
    let site = Site::new();
    site.put(name, &bytes);
    // The shortest of several: after a busy moment most instants would come after the end.
    let whole = (0..5).map(|_| site.asks(&[], name).ends().with_status(0).wall).min().unwrap();
    let (mut killed, mut restored) = (0, 0);
    for instant in 0..200 {
        let _ = fs::remove_file(site.destination());
        let running = site.asks(&[], name).starts();
        // A golden-ratio walk through a restore's time visits it evenly and never twice.
        let part = (f64::from(instant) * 0.618_034).fract();
        thread::sleep(whole.mul_f64(part));
        let ended = running.signal_and_end(SIGKILL);
        killed += u32::from(ended.status.signal().is_some());
        assert!(site.litter().is_empty(), "{:?}", site.litter());
        if let Ok(metadata) = fs::metadata(site.destination()) {
            assert_eq!(metadata.len(), 64 << 20);
            assert!(site.restored().as_ref() == Some(&bytes));
            restored += 1;
        }
    }
    assert!(killed >= 50, "only {killed} of 200 were killed before they ended");
    assert!(restored < 200, "each of them had ended its copy");
}
