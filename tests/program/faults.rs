//! Faults of the machine: a full disk, a limit on file sizes, standard error closed or full, file systems that cannot
//! do everything, a panic. Faults that cannot be caused on demand come from `tests/shim/shim.c`.

use std::fs;
use std::io::Read;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::mounted::Mounted;
use crate::site::{SEGMENT, Site, shim_that_is_loaded, wait_until};
use crate::wal::{Segment, after};

#[test]
fn a_panic_dies_by_sigabrt() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let broken = site.asks(&[], SEGMENT).with_fault("clock");
    broken.ends().by_signal(Signal::SIGABRT).saying("panicked");
    assert_eq!(site.restored(), None);
    let mute = site.asks(&[], SEGMENT).with_fault("clock");
    mute.redirected("2>/dev/full").ends().by_signal(Signal::SIGABRT);
}

#[test]
fn nothing_is_ever_done_by_another_process() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    site.put_segment(&after(SEGMENT, 1));
    let restart = after(SEGMENT, 0);
    let asking = site.asks(&["-s", "0.1"], SEGMENT).arg(&restart);
    asking.with_fault("child").ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
    site.write("trigger", "fast");
    let asking = site.asks(&["-s", "0.1"], &after(SEGMENT, 2)).with_trigger();
    asking.with_fault("child").ends().with_status(1);
}

#[test]
fn a_file_system_without_nameless_files_gets_a_temporary_name() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    // A killed process left this.
    site.write("pg_wal/RECOVERYXLOG.pg_standby", "half a segment");
    fs::write(site.destination(), "old").unwrap();
    let asking = || site.asks(&["-r", "0"], SEGMENT).with_fault("tmpfile");
    asking().ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
    assert!(site.litter().is_empty(), "{:?}", site.litter());

    fs::remove_file(site.destination()).unwrap();
    fs::create_dir(site.destination()).unwrap();
    asking().ends().with_status(201);
    assert!(site.litter().is_empty(), "{:?}", site.litter());
}

#[test]
fn standard_error_that_is_closed_or_full_changes_nothing_about_what_is_restored() {
    for redirection in ["2>&-", "2>/dev/full", ">&- 2>&- <&-", ">/dev/full 2>&1"] {
        let site = Site::new();
        let bytes = site.put_segment(SEGMENT);
        let asking = || site.asks(&["-d"], SEGMENT).arg("%r").redirected(redirection);
        asking().ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes), "{redirection}");
        site.write("trigger", "fast");
        let failover = site.asks(&["-d"], &after(SEGMENT, 1)).with_trigger();
        failover.redirected(redirection).ends().with_status(1);
        let nowhere = site.asks(&["-k", "many"], SEGMENT).redirected(redirection);
        nowhere.ends().with_status(202);
    }
}

#[test]
fn a_reader_of_standard_error_that_has_gone_changes_nothing() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    let asking = site.asks(&["-d"], SEGMENT).after("exec 2>pipe.fifo; rm pipe.fifo");
    mkfifo(&site.path().join("pipe.fifo"), Mode::S_IRWXU).unwrap();
    let running = asking.starts();
    drop(fs::File::open(site.path().join("pipe.fifo")).unwrap());
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_limit_on_file_sizes_is_201_and_leaves_nothing() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    // 512 blocks of 512 bytes or of 1024, which is less than the segment either way.
    let asking = site.asks(&["-s", "0.1", "-r", "1"], SEGMENT).after("ulimit -f 512");
    let ended = asking.ends().with_status(201);
    ended.saying("File too large").saying("gave up after 2 tries");
    assert_eq!((site.restored(), site.litter()), (None, Vec::new()));
    assert_eq!(site.listing(), [SEGMENT]);
}

#[test]
fn a_full_file_system_is_201_until_there_is_room() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    let Some(disk) = Mounted::small(&site.path().join("pg_wal"), "512k") else {
        // The limit on file sizes takes the same path.
        return a_limit_on_file_sizes_is_201_and_leaves_nothing();
    };
    let full = site.asks(&["-s", "0.1", "-r", "1"], SEGMENT).ends();
    let left = (site.restored(), site.litter());
    disk.resize("4m");
    let roomy = site.asks(&[], SEGMENT).ends();
    let restored = site.restored();
    let full = full.with_status(201).saying("No space left on device");
    full.saying("it needs 1048576 bytes, ");
    assert_eq!(left, (None, Vec::new()));
    roomy.with_status(0);
    assert_eq!(restored, Some(bytes));
}

#[test]
fn the_limits_of_inotify_are_one_warning_and_the_looks_go_on() {
    for limit in ["instances", "watches"] {
        let site = Site::new();
        let running = site.asks(&["-s", "0.2"], SEGMENT).with_fault(limit).starts();
        let running = running.until_it_says("could not watch for changes");
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(running.stderr().lines().count(), 1, "{}", running.stderr());
        let bytes = site.put_segment(SEGMENT);
        running.ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes));
    }
}

#[test]
fn a_long_sleep_time_is_cut_to_a_second_where_changes_go_unseen() {
    for fault in ["remote", "instances", "watches"] {
        let site = Site::new();
        let asking = site.asks(&["-s", "60"], SEGMENT).with_fault(fault);
        let mut running = asking.starts().until_it_waits();
        let bytes = site.put_segment(SEGMENT);
        running.ends_within(Duration::from_secs(10)).expect("within a second").with_status(0);
        assert_eq!(site.restored(), Some(bytes), "{fault}");
    }
}

#[test]
fn without_a_sleep_time_a_look_is_due_five_times_a_second_where_changes_go_unseen() {
    // One look a second, let alone one every five, would take longer than the deadline.
    const LOOKS: usize = 25;
    for fault in ["remote", "instances"] {
        let site = Site::new();
        let running = site.asks(&["-d"], SEGMENT).with_fault(fault).starts().until_it_waits();
        let looks = || running.stderr().matches("is not there").count();
        let before = looks();
        wait_until(fault, || looks() >= before + LOOKS);
    }
}

#[test]
fn what_comes_between_the_look_and_the_watch_is_not_missed() {
    let site = Site::new();
    let bytes = Segment::named(SEGMENT).bytes();
    site.write("elsewhere", &bytes);
    let asking = site.asks(&["-s", "60"], SEGMENT).with_fault("gap");
    let asking = asking.env("FAULT_FROM", site.path().join("elsewhere"));
    let mut running = asking.env("FAULT_TO", site.archive().join(SEGMENT)).starts();
    running.ends_within(Duration::from_secs(10)).expect("it looks again").with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_signal_in_the_middle_of_a_copy_undoes_it() {
    for signal in [Signal::SIGUSR1, Signal::SIGQUIT] {
        let site = Site::new();
        site.put_segment(SEGMENT);
        site.write("order", "halt 1");
        let running = site.asks(&[], SEGMENT).with_ordered_fault().starts();
        let halted = site.path().join("order.halted");
        wait_until("half of it is copied", || halted.exists());
        running.signal(signal);
        fs::remove_file(halted).unwrap();
        let ended = running.ends();
        match signal {
            Signal::SIGUSR1 => ended.with_status(1).saying("fast failover requested by SIGUSR1"),
            _ => ended.by_signal(Signal::SIGINT),
        };
        assert_eq!((site.restored(), site.litter()), (None, Vec::new()));
    }
}

#[test]
fn a_smart_failover_does_not_drop_a_segment_that_was_written_to_while_it_was_copied() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    site.write("trigger", "smart");
    site.write("order", "halt 1");
    let asking = site.asks(&["-s", "2"], SEGMENT).with_trigger();
    let running = asking.with_ordered_fault().starts();
    let halted = site.path().join("order.halted");
    wait_until("half of it is copied", || halted.exists());
    crate::site::write(&site.archive().join(SEGMENT), &bytes);
    fs::remove_file(halted).unwrap();
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_read_only_archive_is_one_warning_and_nothing_more_is_tried() {
    let site = Site::new();
    for count in 0..3 {
        site.put_segment(&after(SEGMENT, count));
    }
    let last = after(SEGMENT, 2);
    let asking = site.asks(&[], &last).arg(&last);
    let ended = asking.with_fault("readonly").ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.saying("Read-only file system").saying("; nothing is pruned");
    let line = ["--prune".into(), site.archive().as_os_str().to_owned(), last.into()];
    let asking = site.runs(line).with_fault("readonly");
    let ended = asking.ends().with_status(1).saying("Read-only file system");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(site.listing().len(), 3);
}

#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let full = "mkfifo full; exec 3<>full; head -c 65536 /dev/zero >&3; exec 2>&3";
    let site = Site::new();
    site.put(SEGMENT, "half a segment");
    let asks = || site.asks(&["-d", "-s", "0.1", "-r", "0"], SEGMENT).with_trigger().after(full);
    let waits = || asks().starts().until_it_waits();
    for signal in [Signal::SIGUSR1, Signal::SIGQUIT] {
        let ended = waits().signal_and_end(signal);
        match signal {
            Signal::SIGUSR1 => ended.with_status(1),
            _ => ended.by_signal(Signal::SIGINT),
        };
        fs::remove_file(site.path().join("full")).unwrap();
    }
    let running = waits();
    site.write("trigger", "fast");
    running.ends().with_status(1);
    fs::remove_file(site.trigger()).unwrap();
    fs::remove_file(site.path().join("full")).unwrap();

    let running = waits();
    let good = site.put_segment(SEGMENT);
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(good));
    fs::remove_file(site.path().join("full")).unwrap();
    let panics =
        format!("{full}; export LD_PRELOAD={} FAULT=clock", shim_that_is_loaded().display());
    site.asks(&[], SEGMENT).after(&panics).ends().by_signal(Signal::SIGABRT);
}

#[test]
fn what_standard_error_did_not_take_is_counted() {
    let site = Site::new();
    site.put(SEGMENT, "half a segment");
    // It is emptied when the segment is asked for again.
    let script = "mkfifo full; exec 3<>full; head -c 65536 /dev/zero >&3; exec 2>&3";
    let running = site.asks(&["-d", "-s", "0.1"], SEGMENT).after(script).starts().until_it_waits();
    let mut pipe = fs::File::open(site.path().join("full")).unwrap();
    pipe.read_exact(&mut vec![0; 65536]).unwrap();
    site.put_segment(SEGMENT);
    running.ends().with_status(0);
    let mut said = vec![0; 4096];
    let count = pipe.read(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..count]);
    assert!(said.starts_with("pg_standby: warning: "), "{said}");
    assert!(said.contains("messages that could not be written: "), "{said}");
    assert!(said.contains("debug: restored"), "{said}");
}

#[test]
fn a_fifo_in_the_place_of_a_file_of_the_data_directory_holds_nothing_up() {
    for name in
        ["PG_VERSION", "postmaster.pid", "recovery.conf", "postgresql.conf", "postmaster.opts"]
    {
        let site = Site::new();
        mkfifo(&site.path().join(name), Mode::S_IRWXU).unwrap();
        site.put_segment(SEGMENT);
        site.asks(&[], SEGMENT).ends().with_status(0);
    }
    let site = Site::new();
    site.write("global/here", "");
    mkfifo(&site.path().join("global/pg_control"), Mode::S_IRWXU).unwrap();
    site.put_segment(SEGMENT);
    let ended = site.asks(&["-r", "0"], SEGMENT).ends().with_status(201);
    ended.saying("pg_control\": not a regular file");
}
