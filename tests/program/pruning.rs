//! Pruning: what is removed, what stays, and when nothing is touched; after a restore and with `--prune`.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::site::{Asking, FIRST, SEGMENT, Site};
use crate::wal::{Segment, after};

/// `--prune`, with more options, from a segment on.
fn prune<'a>(site: &'a Site, options: &[&str], restart: &str) -> Asking<'a> {
    let words = ["--prune"].into_iter().chain(options.iter().copied()).map(OsString::from);
    site.runs(words.chain([site.archive().into(), restart.into()]))
}

fn from(first: u32) -> Vec<String> {
    (first - 1..5).map(|count| after(FIRST, count)).collect()
}

#[test]
fn what_precedes_the_restart_file_goes_after_a_restore() {
    let site = Site::with_five_segments();
    site.asks(&[], SEGMENT).arg(after(FIRST, 2)).ends().with_status(0).in_silence();
    assert_eq!(site.listing(), from(3));
}

#[test]
fn a_restart_file_that_is_no_cutoff_removes_nothing() {
    for (restart, said) in [
        ("000000010000000000000006", ""),
        ("000000000000000000000000", ""),
        ("%r", "RESTARTWALFILE \"%r\": not the name of a segment"),
        ("", "RESTARTWALFILE \"\": not the name of a segment"),
        ("000000010000000000000003.partial", "not the name of a segment"),
    ] {
        let site = Site::with_five_segments();
        let ended =
            site.asks(&["-k", "1"], SEGMENT).arg(restart).ends().with_status(0).saying(said);
        assert_eq!(ended.stderr.is_empty(), said.is_empty(), "{ended:?}");
        assert_eq!(site.listing(), from(1), "{restart:?}");
    }
}

#[test]
fn the_timeline_of_names_does_not_count() {
    let site = Site::with_five_segments();
    site.put("000000070000000000000002", "of a later timeline");
    site.put("000000070000000000000004", "of a later timeline");
    site.asks(&[], SEGMENT).arg("000000090000000000000003").ends().with_status(0);
    let mut left = from(3);
    left.push("000000070000000000000004".to_owned());
    assert_eq!(site.listing(), left);
}

#[test]
fn only_segments_and_their_forms_go() {
    let site = Site::with_five_segments();
    let old = "000000010000000000000002";
    for form in [".partial", ".gz", ".lz4", ".zst", ".gz.partial", ".lz4.partial", ".zst.partial"] {
        site.put(&format!("{old}{form}"), "");
    }
    let kept = [
        format!("{old}.00000028.backup"),
        format!("{old}.tmp"),
        format!("{old}0"),
        old.replace('2', "a"),
        "00000001.history".to_owned(),
        "mounted".to_owned(),
    ];
    for name in &kept {
        site.put(name, "");
    }
    site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0).in_silence();
    let mut left = kept.to_vec();
    left.push(SEGMENT.to_owned());
    left.sort();
    assert_eq!(site.listing(), left);
}

#[test]
fn keep_files_counts_exactly_whatever_the_size_and_the_release() {
    let cases = [
        (1 << 20, 0xD110, "000000010000000100000001", "000000010000000000000FFE"),
        (16 << 20, 0xD110, "000000010000000100000001", "0000000100000000000000FE"),
        (16 << 20, 0xD071, "000000010000000100000001", "0000000100000000000000FD"),
        (64 << 20, 0xD093, "000000010000000100000002", "00000001000000000000003F"),
        (16 << 20, 0xD110, "000000010000000000000005", "000000010000000000000002"),
    ];
    for (size, magic, requested, oldest_kept) in cases {
        let site = Site::new();
        site.put(requested, Segment::sized(requested, size).with(|is| is.magic = magic).bytes());
        let number = u32::from_str_radix(&oldest_kept[16..], 16).unwrap();
        let gone = format!("{}{:08X}", &oldest_kept[..16], number - 1);
        site.put(&gone, "");
        site.put(oldest_kept, "");
        site.asks(&["-k", "3"], requested).ends().with_status(0).in_silence();
        assert_eq!(site.listing(), [oldest_kept, requested], "{size} {magic:X}");
    }
}

#[test]
fn keeping_more_than_there_is_removes_nothing() {
    for keep in ["5", "6", "4294967295", "0"] {
        let site = Site::with_five_segments();
        site.asks(&["-k", keep], SEGMENT).ends().with_status(0).in_silence();
        assert_eq!(site.listing(), from(1), "-k {keep}");
    }
}

#[test]
fn nothing_goes_unless_a_segment_was_restored() {
    let site = Site::with_five_segments();
    let restart = after(FIRST, 2);
    let ask = |options: &[&str], name: &str| site.asks(options, name).arg(&restart);
    ask(&["--no-wait"], "000000010000000000000006").ends().with_status(1);
    site.put("00000001.history", "1\t0/3000000\tno recovery target specified\n");
    ask(&[], "00000001.history").ends().with_status(0);
    site.write("trigger", "fast");
    ask(&[], SEGMENT).with_trigger().ends().with_status(1);
    fs::remove_dir_all(site.path().join("pg_wal")).unwrap();
    ask(&["-r", "0"], SEGMENT).ends().with_status(201);
    let mut left = from(1);
    left.insert(0, "00000001.history".to_owned());
    left.sort();
    assert_eq!(site.listing(), left);
}

#[test]
fn one_that_cannot_be_removed_is_a_warning_and_the_rest_goes() {
    let site = Site::with_five_segments();
    let stubborn = site.archive().join("000000010000000000000000");
    fs::create_dir(&stubborn).unwrap();
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.saying(&format!("could not remove {stubborn:?}"));
    assert_eq!(site.listing(), ["000000010000000000000000", SEGMENT]);
}

#[test]
fn the_oldest_goes_first() {
    let site = Site::with_five_segments();
    let ended = site.asks(&["-d"], SEGMENT).arg(SEGMENT).ends().with_status(0);
    let removed: Vec<_> =
        ended.stderr.lines().filter_map(|line| line.split_once("removed \"")).collect();
    let order: Vec<_> = removed.iter().map(|(_, path)| path.trim_end_matches('"')).collect();
    assert_eq!(order.len(), 4, "{ended:?}");
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn an_archive_that_may_not_be_written_to_is_left_alone() {
    let site = Site::with_five_segments();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o555)).unwrap();
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).unprivileged().ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 1, "one file speaks for all: {ended:?}");
    let location = site.archive();
    let ended = ended.saying(&format!("could not remove \"{}/{FIRST}\"", location.display()));
    ended.saying("; the user is ").saying(&format!(", {location:?} is dr-xr-xr-x "));
    assert_eq!(site.listing(), from(1));
    fs::set_permissions(site.archive(), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_archive_without_its_required_file_is_not_pruned() {
    let site = Site::with_five_segments();
    let options = ["--require-file", "mounted", "--no-wait"];
    site.asks(&options, SEGMENT).arg(SEGMENT).ends().with_status(201);
    assert_eq!(site.listing(), from(1));
    site.put("mounted", "");
    site.asks(&options, SEGMENT).arg(SEGMENT).ends().with_status(0);
    assert_eq!(site.listing(), [SEGMENT, "mounted"]);
}

#[test]
fn the_directory_that_the_server_restores_to_is_never_pruned() {
    let site = Site::with("archive", "archive/RECOVERYXLOG");
    for count in 0..5 {
        site.put_segment(&after(FIRST, count));
    }
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0);
    ended.saying("is the WAL directory of a server; nothing is pruned");
    assert_eq!(site.listing().len(), 6);
}

#[test]
fn a_server_s_own_wal_is_never_pruned_whoever_names_it() {
    let site = Site::with_five_segments();
    let wal = site.path().join("pg_xlog");
    fs::rename(site.archive(), &wal).unwrap();
    let count = || fs::read_dir(&wal).unwrap().count();
    let line = |wal: &Path| ["--prune".into(), wal.as_os_str().to_owned(), SEGMENT.into()];
    let said = "is the WAL directory of a server";
    // In the working directory, which is a data directory for archive_cleanup_command; through a link as well.
    symlink(&wal, site.path().join("link")).unwrap();
    for name in ["pg_xlog", "link"] {
        site.runs(line(Path::new(name))).ends().with_status(1).saying(said);
    }
    // Another server's.
    fs::create_dir(site.path().join("other")).unwrap();
    let elsewhere = site.path().join("other/pg_wal");
    fs::rename(&wal, &elsewhere).unwrap();
    site.write("other/PG_VERSION", "18\n");
    site.runs(line(&elsewhere)).ends().with_status(1).saying(said);
    let restore: [OsString; 4] =
        [elsewhere.clone().into(), SEGMENT.into(), site.destination().into(), SEGMENT.into()];
    site.runs(restore).ends().with_status(0).saying(said);
    fs::rename(&elsewhere, &wal).unwrap();
    assert_eq!(count(), 5);
    fs::rename(&wal, site.archive()).unwrap();
    prune(&site, &[], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.listing(), from(5));
}

#[test]
fn the_working_directory_is_not_pruned_when_it_is_what_the_server_restores_to() {
    let site = Site::new();
    site.write(&after(FIRST, 2), "");
    site.write(SEGMENT, Segment::named(SEGMENT).bytes());
    let ended = site.runs([".", SEGMENT, "RECOVERYXLOG", SEGMENT]).ends().with_status(0);
    ended.saying("is the WAL directory of a server; nothing is pruned");
    assert!(site.path().join(after(FIRST, 2)).exists());
}

#[test]
fn prune_removes_what_precedes_any_kind_of_restart_file() {
    let name = after(FIRST, 2);
    for form in ["", ".partial", ".00000028.backup"] {
        let site = Site::with_five_segments();
        site.put("00000001.history", "1\t0/3000000\tno recovery target specified\n");
        prune(&site, &[], &format!("{name}{form}")).ends().with_status(0).in_silence();
        let mut left = from(3);
        left.insert(0, "00000001.history".to_owned());
        left.sort();
        assert_eq!(site.listing(), left, "{form}");
    }
}

#[test]
fn a_dry_run_prints_the_paths_oldest_first_and_removes_nothing() {
    let site = Site::with(OsString::from_vec(b"\xFF".to_vec()), "pg_wal/RECOVERYXLOG");
    for count in (0..5).rev() {
        site.put(&after(FIRST, count), "");
    }
    for options in [["-n", "-d"], ["--dry-run", "--debug"]] {
        prune(&site, &options, SEGMENT).ends().with_status(0);
        let printed = fs::read(site.path().join("stdout")).unwrap();
        let expected = (0..4).flat_map(|count| {
            let path = site.archive().join(after(FIRST, count)).into_os_string();
            [path.into_vec(), b"\n".to_vec()].concat()
        });
        assert_eq!(printed, expected.collect::<Vec<u8>>());
    }
    assert_eq!(site.listing(), from(1));
    prune(&site, &["-n"], FIRST).ends().with_status(0).in_silence();
    prune(&site, &["-n"], SEGMENT)
        .redirected(">/dev/full")
        .ends()
        .with_status(1)
        .saying("standard output");
}

#[test]
fn prune_with_no_restart_point_removes_nothing() {
    let site = Site::with_five_segments();
    let options = ["--standby-name", "a"];
    prune(&site, &options, &"0".repeat(24)).ends().with_status(0).in_silence();
    assert_eq!(site.listing(), from(1), "nor is it registered");
}

#[test]
fn what_prune_cannot_do_is_status_1() {
    let site = Site::with_five_segments();
    let stubborn = site.archive().join("000000010000000000000000");
    fs::create_dir(&stubborn).unwrap();
    let ended = prune(&site, &[], SEGMENT).ends().with_status(1);
    ended
        .saying(&format!("could not remove {stubborn:?}"))
        .saying("files that could not be removed: 1");
    assert_eq!(site.listing(), ["000000010000000000000000", SEGMENT]);
    let required = ["--require-file", "mounted"];
    prune(&site, &required, SEGMENT).ends().with_status(1).saying("mounted\": No such file");
    fs::rename(site.archive(), site.path().join("elsewhere")).unwrap();
    prune(&site, &[], SEGMENT).ends().with_status(1).saying("could not list");
    site.write("archive", "a file");
    prune(&site, &[], SEGMENT).ends().with_status(1).saying("could not list");
}

#[test]
fn nothing_goes_through_a_symbolic_link_to_a_directory() {
    let site = Site::with_five_segments();
    fs::create_dir(site.path().join("elsewhere")).unwrap();
    site.write(&format!("elsewhere/{FIRST}"), "");
    let link = site.archive().join("000000010000000000000000");
    symlink(site.path().join("elsewhere"), &link).unwrap();
    symlink(
        site.path().join("elsewhere").join(FIRST),
        site.archive().join("000000020000000000000000"),
    )
    .unwrap();
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0);
    ended.saying(&format!("{link:?} is a symbolic link to a directory and is not removed"));
    assert_eq!(site.listing(), ["000000010000000000000000", SEGMENT]);
    assert!(site.path().join("elsewhere").join(FIRST).exists());
}

#[test]
fn leftovers_in_a_large_archive_are_found_when_the_restart_point_moves() {
    let site = Site::new();
    // So many that the part of the directory that every call reads hardly ever has a leftover.
    for number in 0..10_000 {
        fs::write(site.archive().join(after("000000020000000100000000", number)), "").unwrap();
    }
    let requested = after("000000020000000100000000", 100);
    site.put_segment(&requested);
    let count = || fs::read_dir(site.archive()).unwrap().count();
    let old = "000000010000000000000007";
    // An interrupted pass leaves the files nearest to the cut-off, in any form and on either timeline.
    for last in ["000000010000000000000FFF.gz", "000000020000000000000FFF"] {
        site.put(last, "");
        site.put(old, "");
        let asking = site.asks(&[], &requested).arg("000000010000000100000000");
        asking.ends().with_status(0).in_silence();
        assert_eq!(count(), 10_000, "{last}");
    }
    // This one came late, far from the cut-off.
    site.put(old, "");
    site.asks(&[], &requested).arg("000000020000000100000001").ends().with_status(0).in_silence();
    assert_eq!(count(), 9_999);
    site.put(old, "");
    prune(&site, &[], "000000010000000100000001").ends().with_status(0).in_silence();
    assert_eq!(count(), 9_999);
}

#[test]
fn a_server_s_wal_directory_is_known_through_a_symbolic_link_and_by_what_is_in_it() {
    let said = "is the WAL directory of a server";
    // initdb --waldir: the name is a link's, and what it leads to has another.
    let site = Site::with_five_segments();
    fs::create_dir(site.path().join("data")).unwrap();
    site.write("data/PG_VERSION", "18\n");
    symlink(site.archive(), site.path().join("data/pg_wal")).unwrap();
    let link = site.path().join("data/pg_wal");
    for path in [
        link.clone(),
        Path::new("data/pg_wal/").to_owned(),
        Path::new("./data/../data/pg_wal").to_owned(),
    ] {
        let arguments: [OsString; 3] = ["--prune".into(), path.into(), SEGMENT.into()];
        site.runs(arguments).ends().with_status(1).saying(said);
    }
    let restore: [OsString; 4] =
        [link.into(), SEGMENT.into(), site.destination().into(), SEGMENT.into()];
    site.runs(restore).ends().with_status(0).saying(said);
    assert_eq!(site.listing(), from(1));

    // What it leads to is the same directory, whose own name tells nothing.
    fs::create_dir(site.archive().join("archive_status")).unwrap();
    prune(&site, &[], SEGMENT).ends().with_status(1).saying(said);
    site.asks(&[], SEGMENT).arg(SEGMENT).ends().with_status(0).saying(said);
    assert_eq!(site.listing().len(), 6);
}
