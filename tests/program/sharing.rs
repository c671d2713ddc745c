//! Several standbys on one archive: what each has registered there, and what is removed because of that.

/// What a standby registers of its requests, while it waits too.
mod asked;
/// Registrations that are damaged, old, or cannot be read.
mod doubtful;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use filetime::FileTime;
use nix::sys::signal::Signal;

use crate::mounted::Mounted;
use crate::site::{Asking, FIRST, SEGMENT, Site};
use crate::wal::after;

const ZEROS: &str = "000000000000000000000000";

/// The standby `name` asks for `requested`; its restart point is in `restart`.
fn asks<'a>(site: &'a Site, name: &str, requested: &str, restart: &str) -> Asking<'a> {
    site.asks(&["--standby-name", name], requested).arg(restart)
}

/// The registration of the standby `name`.
fn whole_registration(site: &Site, name: &str) -> Option<String> {
    fs::read_to_string(site.archive().join(".pg_standby").join(name)).ok()
}

/// The line of it that says what the standby still needs.
fn registration(site: &Site, name: &str) -> Option<String> {
    let registration = whole_registration(site, name)?;
    registration.split_inclusive('\n').next().map(str::to_owned)
}

/// Writes a registration by hand.
fn put_registration(site: &Site, name: &str, content: &str) {
    site.write(&format!("archive/.pg_standby/{name}"), content);
}

/// How many segments there are, the directory of registrations left out.
fn segments(site: &Site) -> usize {
    site.listing().iter().filter(|name| name.len() == 24).count()
}

/// Makes a registration as old as that.
fn age(site: &Site, name: &str, age: Duration) {
    let time = FileTime::from_system_time(SystemTime::now() - age);
    let path = site.archive().join(".pg_standby").join(name);
    filetime::set_file_mtime(path, time).unwrap();
}

#[test]
fn files_go_only_below_the_lowest_registration() {
    let site = Site::with_five_segments();
    asks(&site, "b.2_-", &after(FIRST, 1), &after(FIRST, 1)).ends().with_status(0).in_silence();
    assert_eq!(registration(&site, "b.2_-").unwrap(), format!("{}\n", after(FIRST, 1)));
    assert_eq!(segments(&site), 4);
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(registration(&site, "a").unwrap(), format!("{SEGMENT}\n"));
    assert_eq!(segments(&site), 4, "the other one still needs them");
    asks(&site, "b.2_-", SEGMENT, &after(FIRST, 3)).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 2);
}

#[test]
fn the_timeline_of_a_registration_does_not_count() {
    let site = Site::with_five_segments();
    put_registration(&site, "b", "000000070000000000000003");
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(segments(&site), 3);
}

#[test]
fn a_standby_without_a_name_and_a_call_by_hand_respect_registrations() {
    for line in [vec![], vec!["--prune"]] {
        let site = Site::with_five_segments();
        put_registration(&site, "b", &after(FIRST, 2));
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
        assert_eq!(segments(&site), 1, "the registration was removed by hand");
    }
}

#[test]
fn prune_registers_for_a_standby_that_streams() {
    let site = Site::with_five_segments();
    let line = |options: &[&str]| {
        let words = ["--prune", "--standby-name", "a"].iter().chain(options).map(Into::into);
        site.runs(words.chain([site.archive().as_os_str().to_owned(), after(FIRST, 2).into()]))
    };
    let listed = line(&["-n"]).ends().with_status(0).stdout;
    assert_eq!((listed.lines().count(), registration(&site, "a"), segments(&site)), (2, None, 5));
    line(&[]).ends().with_status(0).in_silence();
    assert_eq!(
        (registration(&site, "a").unwrap(), segments(&site)),
        (format!("{}\n", after(FIRST, 2)), 3)
    );
}

#[test]
fn a_dry_run_leaves_the_own_registration_as_it_is() {
    let site = Site::with_five_segments();
    put_registration(&site, "a", FIRST);
    let line = ["--prune", "-n", "--standby-name", "a"].map(Into::into).into_iter();
    let ended =
        site.runs(line.chain([site.archive().as_os_str().to_owned(), SEGMENT.into()])).ends();
    assert_eq!(ended.with_status(0).stdout.lines().count(), 4);
    assert_eq!(registration(&site, "a").unwrap(), FIRST);
}

#[test]
fn a_standby_without_a_restart_point_needs_what_it_asks_for() {
    let site = Site::with_five_segments();
    asks(&site, "a", &after(FIRST, 2), ZEROS).ends().with_status(0).in_silence();
    assert_eq!(registration(&site, "a").unwrap(), format!("{}\n", after(FIRST, 2)));
    assert_eq!(segments(&site), 5);
    asks(&site, "a", &after(FIRST, 4), ZEROS).ends().with_status(0).in_silence();
    assert_eq!(
        registration(&site, "a").unwrap(),
        format!("{}\n", after(FIRST, 2)),
        "it may need more"
    );
    asks(&site, "a", &after(FIRST, 1), ZEROS).ends().with_status(0).in_silence();
    assert_eq!(registration(&site, "a").unwrap(), format!("{}\n", after(FIRST, 1)), "made anew");
    asks(&site, "a", &after(FIRST, 4), &after(FIRST, 3)).ends().with_status(0).in_silence();
    assert_eq!(
        (registration(&site, "a").unwrap(), segments(&site)),
        (format!("{}\n", after(FIRST, 3)), 2)
    );
}

#[test]
fn nothing_is_registered_unless_a_segment_was_restored() {
    let site = Site::with_five_segments();
    site.put("00000002.history", "1\t0/3000000\tno recovery target specified\n");
    asks(&site, "a", "00000002.history", ZEROS).ends().with_status(0);
    asks(&site, "a", "000000010000000000000009", FIRST).arg("--no-wait").ends().with_status(1);
    let required = asks(&site, "a", SEGMENT, FIRST).arg("--require-file").arg("mounted");
    required.arg("--no-wait").ends().with_status(201);
    assert!(!site.archive().join(".pg_standby").exists());
}

#[test]
fn a_full_archive_is_pruned_though_the_registration_cannot_be_written() {
    let site = Site::with_five_segments();
    site.write("archive/.pg_standby", "not a directory");
    let said = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0);
    let said = said.saying("could not list").saying("nothing is pruned");
    said.saying(&format!("could not write {:?}", site.archive().join(".pg_standby/a")));
    assert_eq!(segments(&site), 5);
    fs::remove_file(site.archive().join(".pg_standby")).unwrap();
    put_registration(&site, "b", &after(FIRST, 2));
    fs::create_dir(site.archive().join(".pg_standby/.a")).unwrap();
    let ended = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0);
    let ended = ended.saying("could not write").saying(".pg_standby/a\"");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!((registration(&site, "a"), segments(&site)), (None, 3));
}

#[test]
fn an_archive_without_any_room_left_is_pruned() {
    let site = Site::new();
    let Some(_disk) = Mounted::small(site.archive(), "6m") else { return };
    for count in 0..5 {
        site.put_segment(&after(FIRST, count));
    }
    let mut ballast = fs::File::create(site.archive().join("ballast")).unwrap();
    let full = std::io::copy(&mut std::io::repeat(1), &mut ballast).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let ended = asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0);
    ended.saying("could not write").saying("No space left on device");
    assert_eq!((registration(&site, "a"), segments(&site)), (None, 1));
    asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(registration(&site, "a").unwrap(), format!("{SEGMENT}\n"));
}

/// The standby `b` renews its registration after `a` has opened the directory of them, and before it reads it.
fn a_registration_counts_that_is_renewed_while_others_list(site: &Site, fault: &str) {
    for count in 0..5 {
        site.put_segment(&after(FIRST, count));
    }
    let needed = after(FIRST, 1);
    for name in ["b", ".b"] {
        put_registration(site, name, &format!("{needed}\n"));
    }
    let registrations = site.archive().join(".pg_standby");
    asks(site, "a", SEGMENT, SEGMENT)
        .with_fault(fault)
        .env("FAULT_FROM", registrations.join(".b"))
        .env("FAULT_TO", registrations.join("b"))
        .ends()
        .with_status(0)
        .in_silence();
    assert!(!registrations.join(".b").exists(), "it was not renewed at that moment");
    assert_eq!(registration(site, "b").unwrap(), format!("{needed}\n"));
    assert_eq!(segments(site), 4);
}

#[test]
fn a_registration_that_is_renewed_between_opening_and_reading_their_directory_counts() {
    for fault in ["renewal", "hidden"] {
        a_registration_counts_that_is_renewed_while_others_list(&Site::new(), fault);
    }
}

#[test]
fn the_same_holds_on_btrfs() {
    let site = Site::new();
    let mounted = Mounted::btrfs(&site.path().join("btrfs"), site.archive());
    if let Err(reason) = &mounted {
        eprintln!("no btrfs to test on ({reason}): the test that hides a name stands for this one");
        return;
    }
    a_registration_counts_that_is_renewed_while_others_list(&site, "renewal");
}

#[test]
fn an_archive_that_may_not_be_written_to_is_named_once_for_all_its_files() {
    let site = Site::with_five_segments();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o555)).unwrap();
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).unprivileged().ends().with_status(0);
    let ended = ended.saying("could not remove").saying("Permission denied");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(segments(&site), 5);
    fs::set_permissions(site.archive(), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn registrations_are_for_all_who_use_the_archive() {
    let site = Site::with_five_segments();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o770)).unwrap();
    asks(&site, "a", SEGMENT, SEGMENT).after("umask 077").ends().with_status(0);
    let mode =
        |name: &str| fs::metadata(site.archive().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".pg_standby"), mode(".pg_standby/a")), (0o770, 0o644));
}

#[test]
fn a_file_system_without_permissions_has_registrations_all_the_same() {
    let site = Site::with_five_segments();
    let asking = asks(&site, "a", SEGMENT, SEGMENT).with_fault("modes");
    asking.ends().with_status(0).in_silence();
    assert_eq!((registration(&site, "a").unwrap(), segments(&site)), (format!("{SEGMENT}\n"), 1));
}

#[test]
fn a_crash_while_a_registration_is_written_leaves_the_old_one() {
    for fault in ["unsynced", "unnamed"] {
        let site = Site::with_five_segments();
        asks(&site, "a", &after(FIRST, 1), &after(FIRST, 1)).ends().with_status(0);
        let crashes = asks(&site, "a", SEGMENT, SEGMENT).with_fault(fault);
        crashes.ends().by_signal(Signal::SIGKILL);
        assert_eq!(registration(&site, "a").unwrap(), format!("{}\n", after(FIRST, 1)), "{fault}");
        assert_eq!(segments(&site), 4);
        asks(&site, "b", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(segments(&site), 4, "what it left is not a registration");
        asks(&site, "a", SEGMENT, SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(
            (registration(&site, "a").unwrap(), segments(&site)),
            (format!("{SEGMENT}\n"), 1)
        );
    }
}

#[test]
fn pg_rewind_leaves_no_registration() {
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
