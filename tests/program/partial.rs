//! Segments that are still being received (`--partial`), and failover in standby mode, where a status alone ends nothing.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use crate::mounted::Mounted;
use crate::site::{SEGMENT, Site, spawn, wait_until};
use crate::wal::{MB, Segment, after};

/// Where the server keeps what it was given.
const OWN: &str = "pg_wal/000000010000000000000005";

fn partial_name() -> String {
    format!("{SEGMENT}.partial")
}

/// A segment of which so many records have been received, zeros behind them.
fn received(records: usize) -> Vec<u8> {
    let mut bytes = Segment::named(SEGMENT).with_records(records).bytes();
    bytes[Segment::record(records)..].fill(0);
    bytes
}

/// The same as `pg_receivewal` has it when half of the next record has come.
fn torn(records: usize) -> Vec<u8> {
    let mut bytes = Segment::named(SEGMENT).with_records(records + 1).bytes();
    bytes[Segment::record(records) + 30..].fill(0);
    bytes
}

/// A standby in standby mode of 15.
fn in_standby_mode() -> Site {
    let site = Site::new();
    site.write("PG_VERSION", "15\n");
    site.write("standby.signal", "");
    site
}

#[test]
fn in_standby_mode_the_valid_part_is_handed_over_with_zeros_behind_it() {
    let site = in_standby_mode();
    site.put(&partial_name(), torn(10));
    site.asks(&["--partial"], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(received(10)));
    let metadata = fs::metadata(site.destination()).unwrap();
    assert!(metadata.blocks() * 512 < MB as u64 / 2, "zeros take no space: {metadata:?}");
    assert!(site.litter().is_empty());
}

#[test]
fn the_free_space_on_a_full_disk_includes_what_the_unfinished_copy_took() {
    let site = in_standby_mode();
    site.put(&partial_name(), received(100));
    let Some(_disk) = Mounted::small(&site.path().join("pg_wal"), "4k") else { return };
    let full = site.asks(&["--partial", "-s", "0.1", "-r", "0"], SEGMENT).ends();
    // Its first page was written before there was no room for the second.
    full.with_status(201).saying("it needs 1048576 bytes, 4096 are free");
}

#[test]
fn what_the_server_has_is_not_handed_over_again_until_there_is_more() {
    let site = in_standby_mode();
    site.write(OWN, received(10));
    site.put(&partial_name(), torn(10));
    let running = site.asks(&["--partial=0.05", "-s", "60"], SEGMENT).starts().until_it_waits();
    assert_eq!(site.restored(), None);
    // As pg_receivewal does it: the file stays, and is written to.
    fs::write(site.archive().join(partial_name()), torn(12)).unwrap();
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(received(12)));
}

#[test]
fn a_server_that_has_all_there_is_goes_back_to_its_own_file_after_a_moment() {
    let site = in_standby_mode();
    site.write(OWN, received(10));
    site.put(&partial_name(), torn(10));
    let ended = site.asks(&["--partial", "-s", "60"], SEGMENT).ends().with_status(1).in_silence();
    assert!(ended.wall > Duration::from_millis(900), "{ended:?}");
    // On the timeline before as well.
    let next_timeline = SEGMENT.replacen("00000001", "00000002", 1);
    site.asks(&["-s", "60"], &next_timeline).ends().with_status(1);
    // A file of an earlier segment that has been given the name, to be used again, is no such file.
    site.write(OWN, Segment::named(&after(SEGMENT, 1)).bytes());
    let waits = |options: &[&str]| {
        let running = site.asks(options, SEGMENT).starts();
        running.still_waits_after(Duration::from_millis(1500));
    };
    waits(&["-s", "60"]);
    // Outside standby mode status 1 would promote.
    site.write(OWN, received(10));
    fs::remove_file(site.path().join("standby.signal")).unwrap();
    waits(&["--partial", "-s", "60"]);
}

#[test]
fn zeros_within_a_record_are_not_taken_for_the_end_of_what_was_received() {
    // Several times as long as the pieces in which the file is read.
    let bytes = Segment::named(SEGMENT).with_zeros(MB * 3 / 4).bytes();
    let site = in_standby_mode();
    site.put(&partial_name(), bytes.clone());
    site.asks(&["--partial"], SEGMENT).ends().with_status(0);
    assert!(site.restored() == Some(bytes), "it differs");
}

#[test]
fn it_is_handed_over_at_most_once_in_so_many_seconds() {
    let site = in_standby_mode();
    site.put(&partial_name(), torn(12));
    site.write(OWN, received(10));
    let ended = site.asks(&["--partial=0.8", "-s", "60"], SEGMENT).ends().with_status(0);
    assert!(ended.wall > Duration::from_millis(500), "{ended:?}");
    assert_eq!(site.restored(), Some(received(12)));
}

#[test]
fn a_whole_segment_always_wins() {
    let site = in_standby_mode();
    site.put(&partial_name(), received(10));
    let whole = site.put_segment(SEGMENT);
    site.asks(&["--partial"], SEGMENT).ends().with_status(0);
    assert_eq!(site.restored(), Some(whole));

    let site = in_standby_mode();
    site.write(OWN, received(10));
    site.put(&partial_name(), received(10));
    let running = site.asks(&["--partial=60", "-s", "60"], SEGMENT).starts().until_it_waits();
    let whole = site.put_segment(SEGMENT);
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(whole));
}

#[test]
fn outside_standby_mode_it_is_for_a_smart_failover_alone() {
    let site = Site::new();
    site.put(&partial_name(), torn(10));
    let asks = |options: &[&str]| site.asks(&[&["--partial"], options].concat(), SEGMENT);
    asks(&["-w", "0.3"]).ends().with_status(1);
    site.write("trigger", "fast");
    asks(&[]).with_trigger().ends().with_status(1);
    assert_eq!(site.restored(), None);
    site.write("trigger", "smart");
    // As often as the server asks.
    for _ in 0..2 {
        let ended = asks(&[]).with_trigger().ends().with_status(0);
        ended.saying("recovery ends at 0/5002A8, with the last whole record of");
        assert_eq!(site.restored(), Some(received(10)));
        site.write(OWN, received(10));
        fs::remove_file(site.destination()).unwrap();
    }
    asks(&[]).arg(SEGMENT).with_trigger().ends().with_status(0);
    assert_eq!(site.listing(), [partial_name()], "nothing of it is pruned");
    fs::remove_file(site.destination()).unwrap();
    // Only with --partial, and not for the segment after it.
    site.asks(&[], SEGMENT).with_trigger().ends().with_status(1);
    site.write("trigger", "smart");
    site.asks(&["--partial"], &after(SEGMENT, 1)).with_trigger().ends().with_status(1);
    let rewind = Site::with("archive", OWN);
    rewind.put(&partial_name(), torn(10));
    rewind.asks(&["--partial"], SEGMENT).ends().with_status(1);
    assert_eq!(rewind.restored(), None);
}

#[test]
fn what_an_old_primary_wrote_behind_a_branch_is_named_and_not_handed_over() {
    let site = in_standby_mode();
    site.put(&partial_name(), torn(10));
    site.put("00000002.history", "1\t0/500100\tno recovery target specified\n");
    let running = site.asks(&["--partial", "-s", "0.1"], SEGMENT).starts();
    let said = "it goes to 0/5002A8, and timeline 2 branched off at 0/500100";
    running.until_it_says(said).still_waits_after(Duration::from_millis(300));
    assert_eq!(site.restored(), None);
    // What ends before the branch is good.
    site.put("00000002.history", "1\t0/5002A8\tno recovery target specified\n");
    site.asks(&["--partial"], SEGMENT).ends().with_status(0);
}

#[test]
fn a_partial_segment_that_is_not_this_cluster_s_is_refused_aloud() {
    let site = in_standby_mode();
    let strange = Segment::named(SEGMENT).with_records(10).with(|is| is.system_identifier = 42);
    site.write("global/pg_control", crate::wal::SYSTEM_IDENTIFIER.to_ne_bytes());
    site.put(&partial_name(), strange.bytes());
    let running = site.asks(&["--partial", "-s", "0.1"], SEGMENT).starts();
    running.until_it_says(".partial\" is not ready: from another cluster");
    // One that nothing has been received of, or that is cut short, says nothing.
    for content in [vec![0; MB], Vec::new(), received(10)[..41].to_vec()] {
        let site = in_standby_mode();
        site.put(&partial_name(), content);
        site.asks(&["--partial", "-w", "0.2"], SEGMENT).ends().with_status(1).in_silence();
    }
    let site = in_standby_mode();
    site.put(&partial_name(), &received(10)[..Segment::record(4) + 7]);
    site.asks(&["--partial"], SEGMENT).ends().with_status(0);
    assert_eq!(site.restored(), Some(received(4)));
}

#[test]
fn servers_before_9_5_have_no_checksums_to_go_by() {
    let site = Site::new();
    site.write("PG_VERSION", "9.4\n");
    site.put_segment(SEGMENT);
    let ended = site.asks(&["--partial"], SEGMENT).ends().with_status(202);
    ended.saying("option --partial requires PostgreSQL 9.5 or later: found 9.4");
    assert_eq!(site.restored(), None);
}

/// A process that stands for the postmaster: SIGUSR1 kills it.
struct Postmaster {
    process: Child,
    file: PathBuf,
}

impl Postmaster {
    fn of(site: &Site) -> Self {
        let process = spawn(Command::new("sleep").arg("600"));
        site.write("postmaster.pid", format!("{}\n", process.id()));
        let file = site.path().join("postmaster.pid");
        Self { process, file }
    }

    /// So long ago.
    fn has_started(&self, age: Duration) {
        File::open(&self.file).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    fn was_signalled(&mut self) -> bool {
        let status = self.process.try_wait().unwrap();
        status.is_some_and(|status| status.signal() == Some(Signal::SIGUSR1 as i32))
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn in_standby_mode_a_failover_asks_the_server_to_promote_once() {
    for (word, kind) in [("smart", "smart"), ("fast", "fast")] {
        let site = in_standby_mode();
        let mut postmaster = Postmaster::of(&site);
        site.write("trigger", word);
        site.put_segment(&after(SEGMENT, 1));
        let asks = |name: &str| site.asks(&["-s", "0.1"], name).with_trigger();
        if word == "smart" {
            asks(&after(SEGMENT, 1)).ends().with_status(0);
            assert!(!site.path().join("promote").exists(), "only when a segment is refused");
        }
        let ended = asks(SEGMENT).ends().with_status(1);
        ended.saying(&format!("{kind} failover requested by trigger file"));
        wait_until("the signal", || postmaster.was_signalled());
        assert!(site.path().join("promote").exists());
        // The server may ask again before it has seen that, and nothing is wrong then.
        let mut other = Postmaster::of(&site);
        asks(SEGMENT).ends().with_status(1).in_silence();
        // Nor when it has taken it.
        fs::remove_file(site.path().join("promote")).unwrap();
        other.has_started(Duration::from_secs(10));
        asks(SEGMENT).ends().with_status(1).in_silence();
        // To one that has started since it is the mark of an earlier failover.
        other.has_started(Duration::ZERO);
        asks(SEGMENT).ends().with_status(1).saying("is refused");
        assert!(!site.path().join("promote").exists() && !other.was_signalled());
    }
}

#[test]
fn in_standby_mode_sigusr1_promotes_as_well_and_pg_ctl_needs_no_help() {
    let site = in_standby_mode();
    let mut postmaster = Postmaster::of(&site);
    let running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
    running.signal_and_end(Signal::SIGUSR1).with_status(1);
    wait_until("the signal", || postmaster.was_signalled());

    let site = in_standby_mode();
    let mut postmaster = Postmaster::of(&site);
    site.write("promote", "");
    site.asks(&[], SEGMENT).ends().with_status(1);
    assert!(!postmaster.was_signalled());
}

#[test]
fn a_server_that_cannot_be_asked_to_promote_is_left_with_advice() {
    let site = in_standby_mode();
    site.write("trigger", "fast");
    let ended = site.asks(&[], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying("there is no postmaster.pid: run pg_ctl promote");

    let site = Site::new();
    site.write("PG_VERSION", "9.0\n");
    site.write("recovery.conf", "standby_mode = on\n");
    site.write("trigger", "fast");
    let mut postmaster = Postmaster::of(&site);
    let ended = site.asks(&[], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying("create the trigger_file of its recovery.conf");
    assert!(!postmaster.was_signalled() && !site.path().join("promote").exists());
}

#[test]
fn in_standby_mode_the_last_part_comes_with_the_request_to_promote() {
    let site = in_standby_mode();
    let mut postmaster = Postmaster::of(&site);
    site.put(&partial_name(), torn(10));
    site.write("trigger", "smart");
    let ended = site.asks(&["--partial"], SEGMENT).with_trigger().ends().with_status(0);
    ended.saying("smart failover requested by trigger file");
    wait_until("the signal", || postmaster.was_signalled());
    let mark = format!("smart before {}\n", after(SEGMENT, 1));
    assert_eq!(fs::read_to_string(site.trigger()).unwrap(), mark);
    // More of it may come, and nobody is asked again.
    fs::remove_file(site.path().join("promote")).unwrap();
    let mut other = Postmaster::of(&site);
    site.write(OWN, received(10));
    site.put(&partial_name(), torn(12));
    site.asks(&["--partial"], SEGMENT).with_trigger().ends().with_status(0);
    site.write(OWN, received(12));
    site.asks(&["--partial"], SEGMENT).with_trigger().ends().with_status(1);
    site.asks(&["--partial"], &after(SEGMENT, 1)).with_trigger().ends().with_status(1);
    assert!(!site.path().join("promote").exists() && !other.was_signalled());
}

#[test]
fn in_standby_mode_the_good_part_of_a_damaged_segment_is_handed_over_once() {
    let damaged = || {
        let mut bytes = Segment::named(SEGMENT).with_records(20).bytes();
        bytes[Segment::record(10) + 30] ^= 1;
        bytes
    };
    let site = in_standby_mode();
    site.put(SEGMENT, damaged());
    site.write("trigger", "smart");
    let asks = || site.asks(&["-s", "0.1"], SEGMENT).with_trigger();
    asks().ends().with_status(0).saying("recovery ends at");
    site.write(OWN, damaged());
    fs::remove_file(site.destination()).unwrap();
    asks().ends().with_status(1).saying("smart failover requested by");
    // Whoever has promoted the server by itself gets back to it.
    let site = in_standby_mode();
    site.put(SEGMENT, damaged());
    site.write(OWN, damaged());
    site.asks(&["-s", "60"], SEGMENT).ends().with_status(1);
}
