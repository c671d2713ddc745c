//! Records: a segment with a good header in which a server would stop is not ready, whatever its length. What each kind
//! of damage is called is tested beside the reader itself, and on real WAL by `tests/servers`.

use std::fs::{self, OpenOptions, Permissions, set_permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filetime::{FileTime, set_file_handle_times, set_file_mtime};
use tempfile::TempDir;

use crate::mounted::Mounted;
use crate::site::{Asking, SEGMENT, Site, wait_until};
use crate::wal::{RECORD, Segment, after};

/// Segments have 1 MB: [`SEGMENT`] begins at 0/500000, its records at 0/500028.
const DAMAGED: usize = 10;
const LSN: &str = "0/5002A8";
const MESSAGE: &str =
    "is not ready: the server could read it only up to 0/5002A8, where record checksum";

fn good() -> Vec<u8> {
    Segment::named(SEGMENT).with_records(50).bytes()
}

/// One bit is flipped in the tenth record.
fn damaged() -> Vec<u8> {
    let mut bytes = good();
    bytes[Segment::record(DAMAGED) + RECORD - 1] ^= 1;
    bytes
}

fn site() -> Site {
    let site = Site::new();
    site.put(SEGMENT, damaged());
    site
}

#[test]
fn a_damaged_record_is_waited_out_named_and_taken_when_it_is_mended() {
    let site = site();
    site.put_segment(&after(SEGMENT, 1));
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says(MESSAGE);
    assert!(running.stderr().contains("send it again from the primary's archive"));
    assert_eq!((site.restored(), site.litter()), (None, Vec::new()));
    site.put(SEGMENT, good());
    running.ends().with_status(0).saying("is ready now");
    assert_eq!(site.restored(), Some(good()));
}

#[test]
fn what_was_found_wanting_is_read_again_only_when_it_has_changed() {
    let site = site();
    let running = site.asks(&["-d", "-s", "0.1"], SEGMENT).starts().until_it_says(MESSAGE);
    let readings = |stderr: &str| stderr.matches("records of").count();
    assert_eq!(readings(&running.still_waits_after(Duration::from_millis(900))), 1);

    let running = site.asks(&["-d", "-s", "0.1"], SEGMENT).starts().until_it_says(MESSAGE);
    site.put(SEGMENT, damaged());
    wait_until("a second reading", || readings(&running.stderr()) == 2);
    site.put(SEGMENT, good());
    let ended = running.ends().with_status(0).saying("checked 51 records of");
    assert_eq!(readings(&ended.stderr), 3, "{ended:?}");
}

#[test]
fn zeros_from_the_middle_on_are_no_end() {
    let site = Site::new();
    let mut bytes = good();
    bytes[Segment::record(DAMAGED)..].fill(0);
    site.put(SEGMENT, bytes);
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts();
    let running = running.until_it_says("only up to 0/5002A8, where no record begins there");
    site.put(SEGMENT, good());
    running.ends().with_status(0);
}

#[test]
fn damage_behind_a_switch_record_is_none() {
    let site = Site::new();
    let mut bytes = good();
    bytes[8192..].fill(0);
    site.put(SEGMENT, &bytes);
    site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn a_smart_failover_takes_the_good_part_and_says_where_it_ends() {
    for word in ["smart", "smart before 000000010000000000000006"] {
        let site = site();
        site.write("trigger", word);
        let ended = site.asks(&["-s", "0.5"], SEGMENT).with_trigger().ends().with_status(0);
        let ended = ended.saying(&format!("recovery ends at {LSN}, within"));
        assert!(ended.wall < Duration::from_secs(10), "{ended:?}");
        assert_eq!(site.restored(), Some(damaged()));
    }
    // It may be on its way: what changes is waited for.
    let site = site();
    site.write("trigger", "smart");
    let running = site.asks(&["-d", "-s", "10"], SEGMENT).with_trigger().starts();
    let running = running.until_it_says("checked 10 records").until_it_waits();
    assert_eq!(site.restored(), None);
    site.put(SEGMENT, good());
    running.ends().with_status(0);
    assert_eq!(site.restored(), Some(good()));
}

#[test]
fn no_other_end_of_the_wait_hands_over_a_part() {
    let site = site();
    site.asks(&["-s", "0.1", "-w", "0.4"], SEGMENT).ends().with_status(1).saying(MESSAGE);
    site.write("trigger", "fast");
    site.asks(&["-s", "0.1"], SEGMENT).with_trigger().ends().with_status(1);
    assert_eq!(site.restored(), None);
}

#[test]
fn a_single_look_takes_the_last_segment_of_an_archive_as_far_as_it_goes() {
    let site = site();
    let asks = || site.asks(&["--no-wait"], SEGMENT);
    asks().ends().with_status(0).saying(&format!("recovery ends at {LSN}"));
    assert_eq!(site.restored(), Some(damaged()));
    fs::remove_file(site.destination()).unwrap();
    // Not where more has come, nor where the server asks again.
    site.put_segment(&after(SEGMENT, 1));
    asks().ends().with_status(201).saying(MESSAGE).saying("the server stops");
    fs::remove_file(site.archive().join(after(SEGMENT, 1))).unwrap();
    site.write("standby.signal", "");
    asks().ends().with_status(1).saying(MESSAGE);
    assert_eq!(site.restored(), None);

    let rewind = Site::with("archive", format!("pg_wal/{SEGMENT}"));
    rewind.put(SEGMENT, damaged());
    rewind.asks(&[], SEGMENT).ends().with_status(1).saying(MESSAGE);
    assert_eq!(rewind.restored(), None);
}

#[test]
fn verify_header_hands_over_whatever_follows_the_header() {
    let site = site();
    site.asks(&["--verify=header"], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(damaged()));
    let records = site.asks(&["--verify=header", "--verify", "records", "-w", "0.2"], SEGMENT);
    records.ends().with_status(1);
}

#[test]
fn the_first_record_must_follow_the_last_one_of_the_segment_before() {
    let before = "000000010000000000000004";
    for (records, is_good) in [(0, true), (3, false)] {
        let site = Site::new();
        site.put(SEGMENT, good());
        let before_it = Segment::named(before).with_records(records).bytes();
        site.write(&format!("pg_wal/{before}"), before_it);
        let asking = site.asks(&["-s", "0.1", "-w", "0.4"], SEGMENT);
        if is_good {
            asking.ends().with_status(0).in_silence();
        } else {
            asking.ends().with_status(1).saying("link to the one before is wrong: found 0/400028");
        }
    }
    // One that is not what it should be says nothing: another cluster's, half of one, a directory.
    let strange = Segment::named(before).with_records(3).with(|is| is.system_identifier = 42);
    for content in [strange.bytes(), vec![0; 1 << 20], Vec::new()] {
        let site = Site::new();
        site.put(SEGMENT, good());
        site.write(&format!("pg_wal/{before}"), content);
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    }
}

#[test]
fn what_the_server_has_not_read_says_nothing_about_a_segment() {
    // Left in the WAL directory by whatever was there before: recovery begins behind it, as the server says by %r.
    let site = Site::new();
    site.put(SEGMENT, good());
    let before = "000000010000000000000004";
    let before_it = Segment::named(before).with_records(3).bytes();
    site.write(&format!("pg_wal/{before}"), before_it);
    let asks = || site.asks(&["-s", "0.1", "-w", "0.4"], SEGMENT);
    asks().arg("0".repeat(24)).ends().with_status(0).in_silence();
    asks().arg(before).ends().with_status(1).saying("link to the one before is wrong");
}

#[test]
fn a_magic_that_only_the_first_page_has_hides_no_damage() {
    let says = |site: &Site, magic| {
        let asking = site.asks(&["-s", "0.1", "-w", "0.4"], SEGMENT);
        asking.ends().with_status(1).saying(&format!(
            "only up to 0/500000, where the page at 0/500000 is no page of this WAL: \
             found magic {magic:04X}, expected D110"
        ));
    };
    let with = |magic| Segment::named(SEGMENT).with(|is| is.magic = magic).with_records(50).bytes();
    for magic in [0xD510, 0xD130, 0xD083] {
        let site = Site::new();
        let mut bytes = with(magic);
        bytes[8192..8194].copy_from_slice(&0xD110_u16.to_ne_bytes());
        site.put(SEGMENT, &bytes);
        says(&site, magic);
    }
    // Or the segment before tells, which is of this WAL, as its header says.
    let before = "000000010000000000000004";
    for magic in [0xD510, 0xD083, 0xD118] {
        let site = Site::new();
        site.put(SEGMENT, with(magic));
        site.write(&format!("pg_wal/{before}"), Segment::named(before).bytes());
        says(&site, magic);
    }
}

#[test]
fn records_of_a_layout_that_is_not_known_are_not_read_which_d_says() {
    for magic in [0xD1FF, 0xD07E] {
        let site = Site::new();
        let mut bytes = Segment::named(SEGMENT).with(|is| is.magic = magic).bytes();
        bytes[4096..].fill(0xFF);
        site.put(SEGMENT, &bytes);
        let ended = site.asks(&["-d"], SEGMENT).ends().with_status(0);
        ended.saying(&format!(
            "records of {SEGMENT} are not checked: magic {magic:04X} is not known"
        ));
        assert_eq!(site.restored(), Some(bytes));
    }
}

/// A damaged segment is refused, and taken when it is mended.
fn records_are_checked<'a>(site: &'a Site, on_this_machine: impl Fn(Asking<'a>) -> Asking<'a>) {
    site.put(SEGMENT, damaged());
    let asks = |options: &[&str]| on_this_machine(site.asks(options, SEGMENT));
    asks(&["-s", "0.1", "-w", "0.4"]).ends().with_status(1).saying(MESSAGE);
    assert!(site.litter().is_empty(), "{:?}", site.litter());
    site.put(SEGMENT, good());
    asks(&[]).ends().with_status(0);
    assert_eq!(site.restored(), Some(good()));
}

#[test]
fn a_record_that_is_longer_than_what_is_read_at_a_time_is_checked_to_its_end() {
    let site = Site::new();
    let mut bytes = Segment::named(SEGMENT).with_zeros(600_000).bytes();
    let waits = || site.asks(&["-s", "0.1", "-w", "0.4"], SEGMENT).ends().with_status(1);
    site.put(SEGMENT, &bytes);
    waits().saying("where no record begins there");
    bytes[500_000] ^= 1;
    site.put(SEGMENT, &bytes);
    waits().saying("only up to 0/500028, where record checksum");
}

#[test]
fn a_file_system_without_nameless_files_changes_nothing() {
    records_are_checked(&Site::new(), |asking| asking.with_fault("tmpfile"));
}

#[test]
fn a_copy_that_shares_the_blocks_of_the_segment_is_checked_as_well() {
    let (site, image) = (Site::new(), TempDir::new().unwrap());
    let mounted = Mounted::btrfs(&image.path().join("btrfs"), site.path());
    if let Err(reason) = &mounted {
        eprintln!("no btrfs to test on ({reason}): elsewhere no blocks are shared");
        return;
    }
    for directory in [site.archive(), &site.path().join("pg_wal")] {
        fs::create_dir(directory).unwrap();
    }
    records_are_checked(&site, |asking| asking);
}

#[test]
fn a_segment_sent_again_in_place_with_its_old_time_is_taken() {
    // As cp -p and rsync --inplace do: same inode, same length, and the primary's time of change again.
    for _ in 0..10 {
        let site = Site::new();
        let path = site.put(SEGMENT, damaged());
        let time = FileTime::from_unix_time(1_700_000_000, 0);
        set_file_mtime(&path, time).unwrap();
        let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says(MESSAGE);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&good(), 0).unwrap();
        set_file_handle_times(&file, None, Some(time)).unwrap();
        drop(file);
        running.ends().with_status(0);
        assert_eq!(site.restored(), Some(good()));
    }
}

#[test]
fn an_archive_that_cannot_be_listed_does_not_end_at_a_damaged_segment() {
    let site = site();
    site.put_segment(&after(SEGMENT, 1));
    set_permissions(site.archive(), Permissions::from_mode(0o311)).unwrap();
    let asking = site.asks(&["--no-wait"], SEGMENT).unprivileged();
    asking.ends().with_status(201);
    assert_eq!(site.restored(), None);
}

#[test]
fn a_smart_failover_gives_what_ends_early_a_whole_sleep_time() {
    // Late in a second of the clock, where whole seconds would count almost one too many.
    let site = Site::new();
    wait_until("a second is almost over", || {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis() > 900
    });
    site.put(SEGMENT, damaged());
    let written = Instant::now();
    wait_until("the next second has begun", || {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis() < 900
    });
    site.write("trigger", "smart");
    site.asks(&["-s", "1"], SEGMENT).with_trigger().ends().with_status(0);
    // The kernel's own times are a few milliseconds old.
    assert!(written.elapsed() >= Duration::from_millis(980), "{:?}", written.elapsed());
}

#[test]
fn a_smart_failover_keeps_the_good_part_though_somebody_opens_the_segment_once_more() {
    let site = Site::new();
    let path = site.archive().join(SEGMENT);
    let open = || OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
    let first = open();
    first.write_all_at(&damaged(), 0).unwrap();
    site.write("trigger", "smart");
    let running = site.asks(&["-d", "-s", "3"], SEGMENT).with_trigger().starts().until_it_waits();
    drop(first);
    let running = running.until_it_says("checked 10 records");
    // The grace for the first writer is not over yet when the second comes, and is over before it leaves.
    let comes = Instant::now() + Duration::from_millis(1500);
    wait_until("the second writer comes", || Instant::now() >= comes);
    let second = open();
    second.write_all_at(&[1], (1 << 20) - 1).unwrap();
    let left = Instant::now() + Duration::from_millis(2500);
    wait_until("the second writer is done", || Instant::now() >= left);
    drop(second);
    running.ends().with_status(0).saying(&format!("recovery ends at {LSN}"));
}
