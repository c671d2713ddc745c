//! Several standbys on one archive: what each has on record, and what is removed because of that.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod shim;
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use filetime::FileTime;
use nix::sys::signal::Signal;
use shim::shim;
use support::wal::after;
use support::{Asking, SEGMENT, Site};

const FIRST: &str = "000000010000000000000001";
const ZEROS: &str = "000000000000000000000000";

/// An archive with segments 1 to 5.
fn site() -> Site {
    let site = Site::new();
    for count in 0..5 {
        site.put_segment(&after(FIRST, count));
    }
    site
}

/// The standby `name` asks for `requested`; its restart point is in `restart`.
fn asks<'a>(site: &'a Site, name: &str, requested: &str, restart: &str) -> Asking<'a> {
    site.asks(&["--standby-name", name], requested).arg(restart)
}

/// What the standby `name` has on record.
fn record(site: &Site, name: &str) -> Option<String> {
    fs::read_to_string(site.archive().join(".pg_standby").join(name)).ok()
}

/// Writes a record by hand.
fn put_record(site: &Site, name: &str, content: &str) {
    site.write(&format!("archive/.pg_standby/{name}"), content);
}

/// How many segments there are, the directory of records left out.
fn segments(site: &Site) -> usize {
    site.listing().iter().filter(|name| name.len() == 24).count()
}

/// Makes a record as old as that.
fn age(site: &Site, name: &str, age: Duration) {
    let time = FileTime::from_system_time(SystemTime::now() - age);
    let path = site.archive().join(".pg_standby").join(name);
    filetime::set_file_mtime(path, time).unwrap();
}

#[test]
fn files_go_only_below_the_lowest_record() {
    let site = site();
    asks(&site, "b.2_-", &after(FIRST, 1), &after(FIRST, 1)).ends().with_status(0).in_silence();
    assert_eq!(record(&site, "b.2_-").unwrap(), format!("{}\n", after(FIRST, 1)));
    assert_eq!(segments(&site), 4);
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(record(&site, "a").unwrap(), format!("{SEGMENT}\n"));
    assert_eq!(segments(&site), 4, "the other one still needs them");
    asks(&site, "b.2_-", SEGMENT, &after(FIRST, 3)).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 2);
}

#[test]
fn the_timeline_of_a_record_does_not_count() {
    let site = site();
    put_record(&site, "b", "000000070000000000000003");
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 3);
}

#[test]
fn a_standby_without_a_name_and_a_call_by_hand_respect_the_records() {
    for line in [vec![], vec!["--prune"]] {
        let site = site();
        put_record(&site, "b", &after(FIRST, 2));
        let asking = match line.as_slice() {
            [] => site.asks(&[], SEGMENT).arg(SEGMENT),
            _ => {
                site.runs(["--prune".into(), site.archive().as_os_str().to_owned(), SEGMENT.into()])
            }
        };
        asking.ends().with_status(0).in_silence();
        assert_eq!(segments(&site), 3, "{line:?}");
        fs::remove_file(site.archive().join(".pg_standby/b")).unwrap();
        site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(segments(&site), 1, "a record is removed by hand");
    }
}

#[test]
fn prune_records_for_a_standby_that_streams() {
    let site = site();
    let line = |options: &[&str]| {
        let words = ["--prune", "--standby-name", "a"].iter().chain(options).map(Into::into);
        site.runs(words.chain([site.archive().as_os_str().to_owned(), after(FIRST, 2).into()]))
    };
    let listed = line(&["-n"]).ends().with_status(0).stdout;
    assert_eq!((listed.lines().count(), record(&site, "a"), segments(&site)), (2, None, 5));
    line(&[]).ends().with_status(0).in_silence();
    assert_eq!(
        (record(&site, "a").unwrap(), segments(&site)),
        (format!("{}\n", after(FIRST, 2)), 3)
    );
}

#[test]
fn a_dry_run_leaves_the_own_record_out() {
    let site = site();
    put_record(&site, "a", FIRST);
    let line = ["--prune", "-n", "--standby-name", "a"].map(Into::into).into_iter();
    let ended =
        site.runs(line.chain([site.archive().as_os_str().to_owned(), SEGMENT.into()])).ends();
    assert_eq!(ended.with_status(0).stdout.lines().count(), 4);
    assert_eq!(record(&site, "a").unwrap(), FIRST);
}

#[test]
fn a_standby_without_a_restart_point_needs_what_it_asks_for() {
    let site = site();
    asks(&site, "a", &after(FIRST, 2), ZEROS).ends().with_status(0).in_silence();
    assert_eq!(record(&site, "a").unwrap(), format!("{}\n", after(FIRST, 2)));
    assert_eq!(segments(&site), 5);
    asks(&site, "a", &after(FIRST, 4), ZEROS).ends().with_status(0).in_silence();
    assert_eq!(record(&site, "a").unwrap(), format!("{}\n", after(FIRST, 2)), "it may need more");
    asks(&site, "a", &after(FIRST, 1), ZEROS).ends().with_status(0).in_silence();
    assert_eq!(record(&site, "a").unwrap(), format!("{}\n", after(FIRST, 1)), "made anew");
    asks(&site, "a", &after(FIRST, 4), &after(FIRST, 3)).ends().with_status(0).in_silence();
    assert_eq!(
        (record(&site, "a").unwrap(), segments(&site)),
        (format!("{}\n", after(FIRST, 3)), 2)
    );
}

#[test]
fn nothing_is_recorded_unless_a_segment_was_restored() {
    let site = site();
    site.put("00000002.history", "");
    asks(&site, "a", "00000002.history", ZEROS).ends().with_status(0);
    asks(&site, "a", "000000010000000000000009", FIRST).arg("--no-wait").ends().with_status(1);
    let required = asks(&site, "a", SEGMENT, FIRST).arg("--require-file").arg("mounted");
    required.arg("--no-wait").ends().with_status(1);
    assert!(!site.archive().join(".pg_standby").exists());
}

#[test]
fn a_damaged_record_is_named_and_nothing_is_pruned() {
    let damaged: [(&str, &str); 5] = [
        ("", "found \"\", expected the name of a segment"),
        ("00000001000000000000000", "found \"00000001000000000000000\""),
        ("000000010000000000000002\n000000010000000000000002\n", "expected the name of a segment"),
        ("%r", "found \"%r\""),
        ("000000010000000000000002.partial", "expected the name of a segment"),
    ];
    for (content, said) in damaged {
        let site = site();
        put_record(&site, "b", content);
        let ended = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).saying(said);
        let path = site.archive().join(".pg_standby/b");
        let ended = ended.saying(&format!("{path:?} does not say what its standby needs"));
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert_eq!(segments(&site), 5);
        let line = ["--prune".into(), site.archive().as_os_str().to_owned(), SEGMENT.into()];
        site.runs(line).ends().with_status(1).saying(said);
        assert_eq!(segments(&site), 5);
    }
}

#[test]
fn what_is_no_file_is_no_record_and_what_has_a_dot_in_front_is_none_either() {
    let site = site();
    put_record(&site, ".b", "half a reco");
    fs::create_dir(site.archive().join(".pg_standby/c")).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT)
        .ends()
        .with_status(0)
        .saying("pg_standby/c\"")
        .saying("no file of one line");
    assert_eq!(segments(&site), 5);
    fs::remove_dir(site.archive().join(".pg_standby/c")).unwrap();
    symlink("/dev/zero", site.archive().join(".pg_standby/c")).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).saying("no file of one line");
    assert_eq!(segments(&site), 5);
    fs::remove_file(site.archive().join(".pg_standby/c")).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 1);
}

#[test]
fn an_own_record_that_is_damaged_is_named_and_replaced() {
    let site = site();
    put_record(&site, "a", "");
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).saying(".pg_standby/a");
    assert_eq!((record(&site, "a").unwrap(), segments(&site)), (format!("{SEGMENT}\n"), 5));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 1);
}

#[test]
fn a_record_that_was_not_renewed_for_a_day_counts_and_is_warned_about_once_a_minute() {
    let site = site();
    let day = Duration::from_secs(24 * 60 * 60);
    put_record(&site, "b", &after(FIRST, 2));
    age(&site, "b", Duration::from_secs(23 * 60 * 60));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 3);
    age(&site, "b", day * 3);
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    age(&site, "a", Duration::from_secs(60));
    let ended = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0);
    ended.saying("pg_standby/b\" has not been renewed for 72 hours").saying(&after(FIRST, 2));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 3);
}

#[test]
fn a_record_that_cannot_be_written_is_named_and_nothing_is_pruned() {
    let site = site();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o555)).unwrap();
    let ended = asks(&site, "a", SEGMENT, SEGMENT).unprivileged().ends().with_status(0);
    let ended = ended.saying("could not write").saying(".pg_standby/a");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(segments(&site), 5);
    fs::set_permissions(site.archive(), Permissions::from_mode(0o755)).unwrap();
    site.write("archive/.pg_standby", "no directory");
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).saying("could not write");
    assert_eq!(segments(&site), 5);
}

#[test]
fn records_are_for_all_who_use_the_archive() {
    let site = site();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o770)).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT).after("umask 077").ends().with_status(0);
    let mode =
        |name: &str| fs::metadata(site.archive().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".pg_standby"), mode(".pg_standby/a")), (0o770, 0o644));
}

#[test]
fn a_file_system_without_permissions_has_records_all_the_same() {
    let site = site();
    let asking = asks(&site, "a", SEGMENT, SEGMENT).env("LD_PRELOAD", shim()).env("FAULT", "modes");
    asking.ends().with_status(0).in_silence();
    assert_eq!((record(&site, "a").unwrap(), segments(&site)), (format!("{SEGMENT}\n"), 1));
}

#[test]
fn a_crash_while_a_record_is_written_leaves_the_old_one() {
    for fault in ["unsynced", "unnamed"] {
        let site = site();
        asks(&site, "a", &after(FIRST, 1), &after(FIRST, 1)).ends().with_status(0);
        let crashes = asks(&site, "a", SEGMENT, SEGMENT).env("LD_PRELOAD", shim());
        crashes.env("FAULT", fault).ends().by_signal(Signal::SIGKILL);
        assert_eq!(record(&site, "a").unwrap(), format!("{}\n", after(FIRST, 1)), "{fault}");
        assert_eq!(segments(&site), 4);
        asks(&site, "b", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(segments(&site), 4, "what it left is no record");
        asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
        assert_eq!((record(&site, "a").unwrap(), segments(&site)), (format!("{SEGMENT}\n"), 1));
    }
}

#[test]
fn pg_rewind_leaves_no_record() {
    let site = Site::with("archive", format!("pg_wal/{SEGMENT}"));
    let bytes = site.put_segment(SEGMENT);
    site.asks(&["--standby-name", "a"], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
    assert_eq!(site.listing(), [SEGMENT]);
}

#[test]
fn two_that_prune_at_the_same_moment_do_not_disturb_each_other() {
    let (one, other) = (Site::new(), Site::new());
    for count in 0..2000 {
        fs::write(one.archive().join(after("000000010000000000000000", count)), "").unwrap();
    }
    let line = || {
        ["--prune".into(), one.archive().as_os_str().to_owned(), "000000010000000100000000".into()]
    };
    let (first, second) = (one.runs(line()).starts(), other.runs(line()).starts());
    first.ends().with_status(0).in_silence();
    second.ends().with_status(0).in_silence();
    assert_eq!(segments(&one), 0);
}
