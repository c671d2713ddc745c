//! What is concluded from what was found: how far behind, what is missing, where a failover would end.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use crate::mounted::Mounted;
use crate::site::{Site, program};
use crate::wal::{self, Segment};

use super::{Answer, MISSING, Process, Standby, make_newer, make_older, unwrapped};

#[test]
fn what_is_in_an_archive_that_does_not_answer_is_not_known() {
    let standby = Standby::that_waits();
    standby.make_hole();
    standby.freeze();
    fs::rename(standby.archive(), standby.site.path().join("unmounted")).unwrap();
    let text = standby.asks(&["--status"]).with_status(2);
    assert!(text.starts_with("ARCHIVE "), "{text}");
    assert!(text.contains(&format!("\nwaiting for {MISSING}, for ")), "{text}");
    assert!(text.ends_with("\nfailover    not known until the archive answers\n"), "{text}");
    assert!(!text.contains("\nbehind "), "{text}");

    let json = standby.asks(&["--status=json"]).with_status(2);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["asked_for"]["segment"], MISSING);
    for key in ["behind_segments", "failover"] {
        assert!(read[key].is_null(), "{key}: {}", read[key]);
    }
    for key in ["segments", "bytes", "other_files", "missing_segments", "newest_timeline"] {
        assert!(read["archive"][key].is_null(), "{key}: {}", read["archive"][key]);
    }

    let line = standby.asks(&["--status=plugin"]).with_status(2);
    assert!(line.contains("| waiting="), "{line}");
    assert!(!line.contains("behind=") && !line.contains("missing="), "{line}");
    let page = standby.asks(&["--status=prometheus"]).with_status(2);
    assert!(!page.contains("segments_behind") && !page.contains("segments_missing"), "{page}");
}

#[test]
fn between_two_calls_the_startup_process_says_what_is_replayed() {
    let mut standby = Standby::that_waits();
    standby.waiting = None;
    let asks = |standby: &Standby| standby.asks(&["--status"]).with_status(0);
    let text = asks(&standby);
    assert!(!text.contains("waiting for") && !text.contains("behind"), "{text}");
    // It is pruned as soon as it has been handed over.
    fs::remove_file(standby.archive().join("000000010000000000000001")).unwrap();
    let title = "exec -a 'postgres: startup recovering 000000010000000000000001' sleep 1000";
    let args = ["-c", title].map(OsStr::new);
    let startup = Process::in_directory(standby.site.path(), "bash", &args);
    crate::site::wait_until("it is named", || asks(&standby).contains("waiting for"));
    let text = asks(&standby);
    assert!(
        text.starts_with("OK          the standby is replaying what is in the archive\n"),
        "{text}"
    );
    assert!(
        text.contains("\nwaiting for nothing: 000000010000000000000001 is being replayed\n"),
        "{text}"
    );
    assert!(text.contains("\nbehind      2 segments that are in the archive\n"), "{text}");
    let end = "000000010000000000000004 and lose nothing";
    assert!(text.contains(&format!("\nfailover    now would end before {end}")), "{text}");

    // It has the history of a later timeline, and will go over to that.
    let history = "1\t0/300100\tno recovery target specified\n";
    standby.site.put("00000002.history", history);
    standby.site.write("pg_wal/00000002.history", history);
    standby.site.put_segment("000000020000000000000003");
    standby.site.put_segment("000000020000000000000004");
    let text = asks(&standby);
    assert!(text.contains("\nbehind      3 segments that are in the archive\n"), "{text}");
    assert!(text.contains("\ntimelines   2; none later in the archive\n"), "{text}");
    drop(startup);

    // It waits between two calls as well.
    fs::remove_file(standby.archive().join("000000010000000000000002")).unwrap();
    let title = title.replace("recovering", "waiting for").replace("000001'", "000002'");
    let args = ["-c", &title].map(OsStr::new);
    let _startup = Process::in_directory(standby.site.path(), "bash", &args);
    let text = || standby.asks(&["--status"]).text;
    crate::site::wait_until("it is named", || text().contains("waiting for"));
    let said = "HOLE        000000010000000000000002 is missing, ";
    assert!(text().starts_with(said), "{}", text());
    let said = "\nwaiting for 000000010000000000000002, between two calls\n";
    assert!(text().contains(said), "{}", text());
}

#[test]
fn an_archive_without_room_for_a_segment_is_full() {
    let site = Site::new();
    let Some(_disk) = Mounted::small(site.archive(), "3m") else { return };
    let asks = || Answer::of(Command::new(program()).arg("--status").arg(site.archive()));
    site.put_segment("000000010000000000000001");
    let well = asks();
    site.put_segment("000000010000000000000002");
    site.put("000000010000000000000003.partial", [1]);
    let full = asks();
    let text = well.with_status(0);
    assert!(text.contains("answers; tmpfs; 1 segment, 1 MB; 2 MB free"), "{text}");
    assert!(full.with_status(2).starts_with("FULL        1020 kB are free, less than a segment"));
}

#[test]
fn a_standby_without_room_for_a_segment_is_full() {
    let standby = Standby::that_waits();
    let wal_directory = standby.site.path().join("pg_wal");
    fs::create_dir_all(&wal_directory).unwrap();
    let Some(_disk) = Mounted::small(&wal_directory, "1m") else { return };
    standby.asks(&["--status"]).with_status(0);
    crate::site::write(&wal_directory.join("some"), [1]);
    let text = unwrapped(&standby.asks(&["--status"]).with_status(2));
    let path = fs::canonicalize(&wal_directory).unwrap();
    let said = format!("FULL        1020 kB are free in {path:?}, less than a segment");
    assert!(text.starts_with(&said), "{text}");
}

#[test]
fn a_failover_ends_within_a_segment_that_is_damaged() {
    let standby = Standby::that_waits();
    let mut bytes = Segment::named(MISSING).with_records(20).bytes();
    bytes[Segment::record(7) + 30] ^= 1;
    standby.site.put(MISSING, bytes);
    let ends = |beginning: &str, ending: &str, lost: usize| {
        let text = unwrapped(&standby.asks(&["--status"]).with_status(2));
        let line = text.lines().find(|line| line.starts_with("failover"));
        assert_eq!(line, Some(format!("failover    now would end {beginning}{ending}").as_str()));
        let json = standby.asks(&["--status=json"]).with_status(2);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["failover"]["lost_segments"], lost);
    };
    let at = format!("at 0/{:X}, within {MISSING}", (4 << 20) + Segment::record(7));
    ends(&at, ", and lose its rest", 1);
    standby.make_hole();
    ends(&at, ", and lose its rest and 3 later segments", 4);
    // Of one that is nothing, nothing is replayed.
    make_older(&standby.site.put(MISSING, vec![0; wal::MB]), 61);
    ends(&format!("before {MISSING}"), " and lose 4 segments", 4);
}

#[test]
fn a_trigger_file_that_was_left_behind_is_told_with_its_owner() {
    let mut standby = Standby::that_waits();
    standby.waiting = None;
    let trigger = standby.site.trigger();
    let asks = |standby: &Standby| {
        let text = standby.asks(&["--status", "-t", trigger.to_str().unwrap()]);
        (text.status, unwrapped(&text.text))
    };
    let (status, text) = asks(&standby);
    assert!(status == 0 && text.starts_with("OK  "), "{text}");
    for (content, word) in [
        ("", "smart"),
        ("fast\n", "fast"),
        ("smart before 000000010000000000000003\n", "smart before"),
    ] {
        fs::write(&trigger, content).unwrap();
        let (status, text) = asks(&standby);
        let start = format!("TRIGGER     trigger file {trigger:?} of ");
        assert!(status == 1 && text.starts_with(&start), "{text}");
        assert!(text.contains(&format!(" asks for failover ({word}) recovery will end")), "{text}");
    }
    standby.postmaster = None;
    let (status, text) = asks(&standby);
    assert!(status == 2 && text.starts_with("STOPPED "), "{text}");
    assert!(text.contains("(smart before) remove it, or the standby promotes once"), "{text}");
    fs::remove_file(standby.site.path().join("recovery.signal")).unwrap();
    let (_, text) = asks(&standby);
    assert!(text.contains("(smart before) remove it, or the next standby that"), "{text}");
}

#[test]
fn an_idle_primary_makes_no_lag_and_a_limit_is_exceeded_above_it() {
    let standby = Standby::that_waits();
    for name in standby.site.listing() {
        make_older(&standby.archive().join(name), 7200);
    }
    let limits = ["--status", "--behind=0,0"];
    let text = standby.asks(&limits).with_status(0);
    assert!(text.contains("\nbehind      nothing that is in the archive\n"), "{text}");
    standby.asks(&["--status", "--silent=7300"]).with_status(0);
    let text = standby.asks(&["--status", "--silent=7000"]).with_status(1);
    assert!(
        text.starts_with("SILENT      nothing has come for 2 h, the limit is 1 h 56 min"),
        "{text}"
    );
    standby.asks(&["--status", "--silent=60,7000"]).with_status(2);
    // A time that cannot be true hides nothing.
    make_newer(&standby.archive().join("000000010000000000000003"), 3600);
    let text = standby.asks(&["--status", "--silent=60,7000"]).with_status(2);
    assert!(text.contains("\nnewest      000000010000000000000002, arrived 2 h ago"), "{text}");
    standby.make_hole();
    standby.asks(&["--status=plugin", "--behind=3"]).with_status(2);
}

#[test]
fn holes_are_looked_for_along_the_line_of_timelines() {
    let site = Site::new();
    let asks = || Answer::of(Command::new(program()).arg("--status").arg(site.archive()));
    // The second began within the segment 3, and the old primary has gone on to 6.
    site.put("00000002.history", "1\t0/300100\tno recovery target specified\n");
    for name in ["000000010000000000000002", "000000010000000000000003", "000000010000000000000006"]
    {
        site.put_segment(name);
    }
    for name in ["000000020000000000000003", "000000020000000000000004"] {
        site.put_segment(name);
    }
    let text = asks().with_status(0);
    assert!(text.contains("\ntimelines   2; none later in the archive\n"), "{text}");
    fs::remove_file(site.archive().join("000000020000000000000003")).unwrap();
    let text = asks().with_status(2);
    assert!(
        text.starts_with("HOLE        000000020000000000000003 is missing, 04 is there"),
        "{text}"
    );
}

#[test]
fn other_standbys_may_need_what_this_one_has_replayed() {
    let standby = Standby::that_waits();
    fs::remove_file(standby.archive().join("000000010000000000000001")).unwrap();
    standby.site.put_segment("000000010000000000000000");
    let text = unwrapped(&standby.asks(&["--status"]).with_status(0));
    let said = "\nholes       1 segment that no standby needs is missing, from 000000010000000000000001 on";
    assert!(text.contains(said), "{text}");
    standby.site.write("archive/.pg_standby/dr1", "000000010000000000000000\n");
    let text = standby.asks(&["--status"]).with_status(2);
    assert!(
        text.starts_with("HOLE        000000010000000000000001 is missing, 02 to 03"),
        "{text}"
    );
}
