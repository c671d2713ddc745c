//! Timelines: segments that can never exist, and those that an old primary wrote after the server's timeline had branched
//! off, which are as good as absent.

use std::fs;
use std::time::Duration;

use crate::site::{Asking, Ended, SEGMENT, Site};
use crate::wal::{Segment, after};

/// Segments have 1 MB: [`SEGMENT`] begins at 0/500000.
const FOLLOWED: &str = "pg_wal/00000002.history";

/// A standby that follows timeline 2, which left timeline 1 there.
fn site(left_at: &str) -> Site {
    let site = Site::new();
    site.write(FOLLOWED, format!("1\t{left_at}\tno recovery target specified\n"));
    site.put_segment(SEGMENT);
    site
}

fn is_refused(site: &Site, asking: Asking) -> Ended {
    let ended = asking.ends().with_status(1);
    assert_eq!(site.restored(), None);
    assert!(site.archive().join(SEGMENT).exists());
    ended.saying(&format!(
        "{SEGMENT} is treated as absent: the server follows timeline 2, which left"
    ))
}

#[test]
fn a_segment_of_an_abandoned_timeline_is_absent_for_every_way_to_end() {
    for left_at in ["0/500000", "0/500028", "0/480000", "0/5FFFFF"] {
        let site = site(left_at);
        let asks = |options: &[&str]| site.asks(options, SEGMENT);
        is_refused(&site, asks(&["-w", "1"])).saying(&format!("left timeline 1 at {left_at}"));
        is_refused(&site, asks(&["--no-wait"]));
        site.write("trigger", "smart");
        is_refused(&site, asks(&[]).with_trigger()).saying("smart failover requested by");
        fs::remove_file(site.trigger()).unwrap();
        site.write("PG_VERSION", "18\n");
        site.write("promote", "");
        is_refused(&site, asks(&[])).saying("smart failover requested by");
    }
}

#[test]
fn it_waits_for_an_abandoned_segment_as_for_any_other_and_says_why_once() {
    let site = site("0/500000");
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_waits();
    let stderr = running.still_waits_after(Duration::from_millis(600));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("according to ") && stderr.contains("00000002.history"), "{stderr}");

    // The operator knows better.
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says("as absent");
    fs::remove_file(site.path().join(FOLLOWED)).unwrap();
    running.ends().with_status(0);
    assert!(site.restored().is_some());
}

#[test]
fn what_precedes_the_branch_and_what_is_not_on_its_line_is_restored() {
    site("0/600000").asks(&[], SEGMENT).ends().with_status(0).in_silence();
    let other = site("0/480000");
    other.write("pg_wal/00000003.history", "7\t0/480000\tno recovery target specified\n");
    other.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    // The timeline itself, and a later one.
    let own = site("0/480000");
    for timeline in [2, 3] {
        let name = format!("{timeline:08X}{}", &SEGMENT[8..]);
        own.put_segment(&name);
        own.asks(&[], &name).ends().with_status(0).in_silence();
    }
}

#[test]
fn three_timelines_in_a_row_each_leave_the_one_before() {
    let site = Site::new();
    site.write("pg_wal/00000002.history", "1\t0/380000\tno recovery target specified\n");
    site.write(
        "pg_wal/00000003.history",
        "1\t0/380000\tno recovery target specified\n2\t0/580000\tno recovery target specified\n",
    );
    let name = |timeline, count| format!("{timeline:08X}{}", &after(SEGMENT, count)[8..]);
    for (name, is_restored) in [
        ("000000010000000000000002".to_owned(), true),
        ("000000010000000000000003".to_owned(), false),
        (name(1, 0), false),
        ("000000020000000000000004".to_owned(), true),
        (name(2, 0), false),
        (name(3, 0), true),
        (name(3, 1), true),
    ] {
        site.put_segment(&name);
        let status = i32::from(!is_restored);
        let ended = site.asks(&["--no-wait"], &name).ends().with_status(status);
        assert_eq!(ended.stderr.contains("timeline 3, which left"), !is_restored, "{ended:?}");
    }
}

#[test]
fn pg_rewind_gets_what_it_asks_for() {
    let site = Site::with("archive", format!("pg_wal/{SEGMENT}"));
    site.write(FOLLOWED, "1\t0/480000\tno recovery target specified\n");
    site.put_segment(SEGMENT);
    site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
}

#[test]
fn servers_up_to_9_2_follow_what_the_archive_holds_only_where_they_are_told_to() {
    let site = Site::new();
    site.write("PG_VERSION", "9.2\n");
    site.put_segment(SEGMENT);
    site.put("00000002.history", "1\t000000010000000000000004\tno recovery target specified\n");
    site.asks(&["--no-wait"], SEGMENT).ends().with_status(0).in_silence();
    fs::remove_file(site.destination()).unwrap();
    site.write("recovery.conf", "recovery_target_timeline = 'latest'\n");
    is_refused(&site, site.asks(&["--no-wait"], SEGMENT)).saying("segment 4 of log file 0");
}

#[test]
fn an_archive_with_two_segment_sizes_makes_nothing_impossible() {
    // As after pg_resetwal --wal-segsize: what is asked for has 4 MB and lies behind the branch.
    let site = Site::new();
    site.put_segment("000000010000000000000010");
    let name = "000000020000000000000025";
    site.put("00000002.history", "1\t0/9000078\tno recovery target specified\n");
    let running = site.asks(&["-s", "0.1"], name).starts();
    assert_eq!(running.still_waits_after(Duration::from_millis(500)), "");
    let bytes = Segment::sized(name, 4 << 20).bytes();
    let running = site.asks(&["-s", "0.1"], name).starts().until_it_waits();
    site.put(name, &bytes);
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn in_standby_mode_a_later_timeline_in_the_archive_ends_the_wait_after_a_moment() {
    let history = "1\t0/500028\tno recovery target specified\n";
    let site = Site::new();
    site.write("standby.signal", "");
    let running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
    site.put("00000002.history", history);
    running.ends().with_status(1).in_silence();
    // A server that has gone on already asks for the older timeline only because the later one has nothing.
    let gone_on = self::site("0/500000");
    gone_on.write("standby.signal", "");
    for name in [SEGMENT, &after(SEGMENT, 1)] {
        gone_on.asks(&["-s", "60", "-w", "50"], name).ends().with_status(1).in_silence();
        assert_eq!(gone_on.restored(), None);
    }
    // What is there is restored first if it ends before the branch: what an old primary may have written is not.
    site.put_segment(SEGMENT);
    site.asks(&["-s", "60"], SEGMENT).ends().with_status(1).in_silence();
    for (content, setting) in
        [("1\t0/600000\tnone\n", ""), (history, "recovery_target_timeline = '1'\n")]
    {
        site.put("00000002.history", content);
        site.write("PG_VERSION", "18\n");
        site.write("postgresql.conf", setting);
        site.asks(&["-s", "60"], SEGMENT).ends().with_status(0);
        fs::remove_file(site.destination()).unwrap();
    }
    site.write("postgresql.conf", "");
    // A failover takes what there is. A timeline of another line is none to go on with.
    site.write("trigger", "smart");
    site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(0);
    site.put("00000002.history", "7\t0/500028\tno recovery target specified\n");
    let still_waits = |site: &Site| {
        let running = site.asks(&["-s", "60"], &after(SEGMENT, 1)).starts();
        assert_eq!(running.still_waits_after(Duration::from_millis(1500)), "");
    };
    still_waits(&site);
    // Outside standby mode status 1 would promote.
    site.put("00000002.history", history);
    fs::remove_file(site.path().join("standby.signal")).unwrap();
    still_waits(&site);
}
