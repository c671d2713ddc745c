//! Handing over a segment: which files are ready, what is reported of others, and what the destination is.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::site::{SEGMENT, Site};
use crate::wal::{Header, MB, SYSTEM_IDENTIFIER, Segment};

fn good() -> Segment {
    Segment::named(SEGMENT)
}

/// The program waits, reports why the file in the archive is not ready, and restores a good one that replaces it.
pub fn is_waited_on(site: &Site, reason: &str) {
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says(reason);
    let said = running.stderr();
    let place = format!("{:?} is not ready: ", site.archive().join(SEGMENT));
    assert!(said.contains(&place), "{place:?} is not in {said:?}");
    assert_eq!(site.restored(), None);
    let bytes = site.put_segment(SEGMENT);
    running.ends().with_status(0).saying("is ready now");
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_segment_that_is_not_what_its_name_says_is_waited_on_with_the_reason() {
    let with = |change: fn(&mut Header)| good().with(change).bytes();
    let cases: [(Vec<u8>, &str); 13] = [
        (vec![0; MB], "begins with zeros: found magic 0000, expected D05E or later"),
        (b"something else entirely".repeat(MB / 20), "not WAL: found magic 6F73"),
        (with(|is| is.magic = 0xD05D), "not WAL: found magic D05D"),
        (with(|is| is.info = 1), "found page flags 0001, expected 0002 among them"),
        (with(|is| is.segment_size = 12345), "found segment size 12345, expected a power of two"),
        (with(|is| is.segment_size = 1 << 19), "found segment size 524288"),
        (with(|is| is.block_size = 0), "found block size 0"),
        (with(|is| is.lsn = 77 << 20), "found LSN 0/4D00000, expected 0/500000"),
        (with(|is| is.timeline = 2), "found 2, expected 1 or an earlier one"),
        (with(|is| is.timeline = 0), "found 0, expected 1 or an earlier one"),
        ([good().bytes(), vec![7]].concat(), "found 1048577 bytes, expected 1048576"),
        (good().bytes()[..MB / 2].to_vec(), "found 524288 bytes, expected 1048576"),
        (Segment::sized(SEGMENT, 16 * MB).bytes()[..MB].to_vec(), "expected 16777216"),
    ];
    for (bytes, reason) in cases {
        let site = Site::new();
        site.put(SEGMENT, bytes);
        is_waited_on(&site, reason);
    }
}

#[test]
fn what_is_no_regular_file_is_waited_on_and_never_blocks() {
    let make: [fn(&Path); 4] = [
        |path| fs::create_dir(path).unwrap(),
        |path| mkfifo(path, Mode::S_IRWXU).unwrap(),
        |path| drop(UnixListener::bind(path).unwrap()),
        |path| symlink("/dev/null", path).unwrap(),
    ];
    for make in make {
        let site = Site::new();
        let path = site.archive().join(SEGMENT);
        make(&path);
        let running =
            site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says("not a regular file");
        fs::rename(&path, site.path().join("away")).unwrap();
        let bytes = site.put_segment(SEGMENT);
        running.ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes));
    }
}

#[test]
fn good_segments_of_every_kind_are_restored_byte_for_byte() {
    let old = |magic| Segment::sized(SEGMENT, 16 * MB).with(|is| is.magic = magic);
    let sized = |size| Segment::sized("000000010000000000000002", size * MB);
    let of_parent = Segment::named("000000070000000000000005").with(|is| is.timeline = 3);
    let segments = [
        good(),
        sized(2),
        sized(16),
        sized(64),
        old(0xD05E),
        old(0xD071),
        good().with(|is| is.magic = 0xD118),
        good().with(|is| is.magic = 0xD1FF),
        good().with(|is| is.info = 6),
        good().with(|is| is.block_size = 65536),
        of_parent,
    ];
    for segment in segments {
        let site = Site::new();
        site.write("global/pg_control", SYSTEM_IDENTIFIER.to_ne_bytes());
        site.put(&segment.name, segment.bytes());
        site.asks(&[], &segment.name).ends().with_status(0).in_silence();
        assert!(site.restored() == Some(segment.bytes()), "{}", segment.name);
    }
}

#[test]
fn a_link_to_a_segment_and_a_read_only_archive_are_fine() {
    let site = Site::new();
    let bytes = good().bytes();
    site.write("elsewhere", &bytes);
    symlink("../elsewhere", site.archive().join(SEGMENT)).unwrap();
    fs::set_permissions(site.path().join("elsewhere"), Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(site.archive(), Permissions::from_mode(0o555)).unwrap();
    site.asks(&[], SEGMENT).unprivileged().ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
    fs::set_permissions(site.archive(), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_segment_that_may_not_be_read_is_no_absence() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    let path = site.archive().join(SEGMENT);
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let running = site.asks(&["-s", "0.1"], SEGMENT).unprivileged().starts();
    let running = running.until_it_says(&format!("could not read {path:?}"));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn the_destination_is_a_copy_that_its_owner_may_write_and_the_world_may_not_read() {
    for (umask, mode) in [("0000", 0o640), ("0022", 0o640), ("0077", 0o600), ("0777", 0o600)] {
        let site = Site::new();
        site.put_segment(SEGMENT);
        let archived = site.archive().join(SEGMENT);
        fs::set_permissions(&archived, Permissions::from_mode(0o444)).unwrap();
        site.asks(&["-l"], SEGMENT).after(&format!("umask {umask}")).ends().with_status(0);
        let restored = fs::symlink_metadata(site.destination()).unwrap();
        assert_eq!(restored.permissions().mode() & 0o7777, mode, "umask {umask}");
        assert_ne!(restored.ino(), fs::metadata(&archived).unwrap().ino());
        assert!(restored.is_file());
    }
}

#[test]
fn whatever_was_at_the_destination_is_replaced() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    site.write("precious", "untouched");
    fs::write(site.destination(), "old").unwrap();
    site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    fs::remove_file(site.destination()).unwrap();
    symlink(site.path().join("precious"), site.destination()).unwrap();
    site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
    assert!(!fs::symlink_metadata(site.destination()).unwrap().is_symlink());
    assert_eq!(fs::read(site.path().join("precious")).unwrap(), b"untouched");
    assert!(site.litter().is_empty());
}

#[test]
fn a_relative_destination_is_relative_to_the_working_directory() {
    for destination in ["pg_wal/RECOVERYXLOG", "RECOVERYXLOG", "./RECOVERYXLOG"] {
        let site = Site::new();
        let bytes = site.put_segment(SEGMENT);
        let args: [OsString; 3] = ["archive".into(), SEGMENT.into(), destination.into()];
        site.runs(args).ends().with_status(0).in_silence();
        assert_eq!(fs::read(site.path().join(destination)).unwrap(), bytes);
    }
}

#[test]
fn a_destination_that_cannot_be_written_is_201_after_the_retries() {
    let site = Site::with("archive", "nowhere/RECOVERYXLOG");
    site.put_segment(SEGMENT);
    let ended = site.asks(&["-s", "0.1", "-r", "2"], SEGMENT).ends().with_status(201);
    assert!(ended.wall >= Duration::from_millis(300), "0.1 s and 0.2 s of pauses: {ended:?}");
    assert_eq!(ended.stderr.matches("; trying again").count(), 2, "{ended:?}");
    ended.saying("gave up after 3 tries");

    let site = Site::new();
    site.put_segment(SEGMENT);
    fs::create_dir(site.destination()).unwrap();
    let ended = site.asks(&["-r", "0"], SEGMENT).ends().with_status(201);
    ended.saying(&format!("could not write {:?}", site.destination())).saying("after one try");
    assert!(site.litter().is_empty());
}

#[test]
fn a_destination_that_can_be_written_again_is_written_at_a_retry() {
    let site = Site::with("archive", "later/RECOVERYXLOG");
    let bytes = site.put_segment(SEGMENT);
    let running =
        site.asks(&["-s", "0.1", "-r", "9"], SEGMENT).starts().until_it_says("trying again");
    fs::create_dir(site.path().join("later")).unwrap();
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn on_error_promote_gives_the_statuses_of_the_c_program() {
    let classic = ["--on-error=promote", "-r", "0"];
    let site = Site::with("archive", "nowhere/RECOVERYXLOG");
    site.put_segment(SEGMENT);
    site.asks(&classic, SEGMENT).ends().with_status(1).saying("could not write");
    site.put(SEGMENT, [good().bytes(), vec![7]].concat());
    site.asks(&classic, SEGMENT).ends().with_status(3).saying("too long");
    fs::remove_file(site.archive().join(SEGMENT)).unwrap();
    fs::remove_dir(site.archive()).unwrap();
    site.asks(&classic, SEGMENT).ends().with_status(2).saying("does not exist");
    site.asks(&classic, "nonsense").ends().with_status(202);
    site.runs(["--on-error=promote"]).ends().with_status(202);
}

#[test]
fn half_a_history_file_is_not_handed_over() {
    let whole = "1\t0/3000000\tno recovery target specified\n";
    for half in ["", "1\t0/300", &whole[..whole.len() - 1]] {
        let site = Site::new();
        site.put("00000002.history", half);
        let running = site.asks(&["-s", "0.1"], "00000002.history").starts();
        let running =
            running.until_it_says("incomplete history file: expected a newline at the end");
        assert_eq!(site.restored(), None);
        site.put("00000002.history", whole);
        running.ends().with_status(0);
        assert_eq!(site.restored().as_deref(), Some(whole.as_bytes()));

        // At a failover it is given up, aloud.
        fs::remove_file(site.destination()).unwrap();
        site.put("00000002.history", half);
        site.write("trigger", "");
        let asking = site.asks(&[], "00000002.history").with_trigger();
        asking.ends().with_status(1).saying("is treated as absent");
        assert_eq!(site.restored(), None);
    }
}

#[test]
fn a_symbolic_link_that_leads_nowhere_is_not_absent() {
    for name in [SEGMENT, "00000002.history"] {
        let site = Site::new();
        let path = site.archive().join(name);
        symlink("not/mounted", &path).unwrap();
        let running = site.asks(&["-s", "0.1"], name).starts();
        let running = running.until_it_says(&format!("could not read {path:?}: No such file"));
        fs::remove_file(&path).unwrap();
        site.put(name, if name == SEGMENT { Segment::named(name).bytes() } else { b"\n".to_vec() });
        running.ends().with_status(0);
    }
}
