//! Files that the archive has only in a compressed form: what is restored, what is not ready, and that a compressed file is
//! otherwise treated like any other.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::site::{BACKUP, HISTORY, SEGMENT, Site};
use crate::wal::{MB, Segment, after};

const HISTORY_CONTENT: &[u8] = b"1\t0/380000\tno recovery target specified\n";

/// One compressed form.
#[derive(Clone, Copy, Debug)]
struct Form {
    suffix: &'static str,
    /// As `-d` calls it.
    name: &'static str,
    compress: fn(&[u8]) -> Vec<u8>,
    is_built: bool,
}

const FORMS: [Form; 3] = [
    Form { suffix: ".gz", name: "gzip", compress: gzip, is_built: cfg!(feature = "gzip") },
    Form { suffix: ".lz4", name: "LZ4", compress: lz4, is_built: cfg!(feature = "lz4") },
    Form { suffix: ".zst", name: "Zstandard", compress: zstd, is_built: cfg!(feature = "zstd") },
];

/// Those that the program was built with.
fn forms() -> impl Iterator<Item = Form> {
    FORMS.into_iter().filter(|form| form.is_built)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With blocks that depend on each other, as `pg_receivewal` writes them.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    lz4_with(FrameInfo::new().block_mode(BlockMode::Linked).content_checksum(true), bytes)
}

fn lz4_with(info: FrameInfo, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd_with(3, None, bytes)
}

/// With a checksum, as the tool writes it, and a window of its own choice or of 2 to that power.
fn zstd_with(level: i32, window_log: Option<u32>, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(true).unwrap();
    if let Some(log) = window_log {
        encoder.window_log(log).unwrap();
    }
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A segment that does not compress to nothing.
fn segment(name: &str) -> Vec<u8> {
    let mut bytes = Segment::named(name).with_records(50).bytes();
    // What follows the switch record does not count.
    let mut noise: u32 = 1;
    for byte in &mut bytes[MB / 2..] {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (noise >> 24) as u8;
    }
    bytes
}

impl Form {
    fn name_of(self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    /// The archive of a standby that has `bytes` as this form of [`SEGMENT`].
    fn site(self, bytes: impl AsRef<[u8]>) -> Site {
        let site = Site::new();
        site.put(&self.name_of(SEGMENT), bytes);
        site
    }

    fn packed(self) -> Vec<u8> {
        (self.compress)(&segment(SEGMENT))
    }
}

/// Asserts that it is not ready for this reason, leaves nothing behind, and is taken once it is good.
#[track_caller]
fn is_waited_out(form: Form, bytes: impl AsRef<[u8]>, reason: &str) {
    let site = form.site(bytes);
    let running = site.asks(&["-s", "0.1"], SEGMENT).starts();
    let running =
        running.until_it_says(&format!("{SEGMENT}{}\" is not ready: {reason}", form.suffix));
    assert_eq!((site.restored(), site.litter()), (None, Vec::new()));
    site.put(&form.name_of(SEGMENT), form.packed());
    let ended = running.ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 2, "one line, and that it is ready: {ended:?}");
    assert_eq!(site.restored(), Some(segment(SEGMENT)));
}

#[test]
fn every_kind_of_file_is_decompressed_and_the_archive_stays_as_it_is() {
    for form in forms() {
        for (name, content) in [
            (SEGMENT, segment(SEGMENT)),
            (HISTORY, HISTORY_CONTENT.to_vec()),
            (BACKUP, b"START WAL LOCATION: 0/500028\n".to_vec()),
        ] {
            let site = Site::new();
            let packed = (form.compress)(&content);
            site.put(&form.name_of(name), &packed);
            site.asks(&[], name).ends().with_status(0).in_silence();
            assert!(site.restored() == Some(content), "{name} {form:?}");
            assert_eq!((site.listing(), site.litter()), (vec![form.name_of(name)], Vec::new()));
            let ended = site.asks(&["-d"], name).ends().with_status(0).saying("MB/s");
            let sizes = format!("{}: {} bytes to", form.name, packed.len());
            ended.saying(&form.name_of(name)).saying(&sizes);
        }
    }
}

#[test]
fn every_size_of_block_and_window_that_is_allowed_is_read() {
    use BlockSize::{Max1MB, Max4MB, Max64KB, Max256KB};
    let bytes = segment(SEGMENT);
    let mut packed = Vec::new();
    if cfg!(feature = "lz4") {
        for size in [Max64KB, Max256KB, Max1MB, Max4MB] {
            for mode in [BlockMode::Linked, BlockMode::Independent] {
                let info = FrameInfo::new().block_size(size).block_mode(mode);
                packed.push(lz4_with(info.clone(), &bytes));
                let length = Some(bytes.len() as u64);
                let checked = info.content_checksum(true).block_checksums(true);
                packed.push(lz4_with(checked.content_size(length), &bytes));
            }
        }
    }
    if cfg!(feature = "zstd") {
        for (level, window) in [(1, None), (19, None), (3, Some(10)), (3, Some(23))] {
            packed.push(zstd_with(level, window, &bytes));
        }
    }
    for (number, packed) in packed.iter().enumerate() {
        let site = FORMS[1].site(packed);
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        assert!(site.restored().as_ref() == Some(&bytes), "number {number}");
    }
}

#[test]
fn all_members_or_frames_are_read_and_empty_ones_do_not_matter() {
    for form in forms() {
        let bytes = segment(SEGMENT);
        let pieces = [&bytes[..1], &bytes[1..1], &bytes[1..300_000], &bytes[300_000..]];
        let packed = pieces.map(form.compress).concat();
        let site = form.site(packed);
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        assert!(site.restored() == Some(bytes), "{form:?}");
    }
}

#[test]
fn frames_without_data_are_left_out() {
    let skippable = [&[0x5A, 0x2A, 0x4D, 0x18, 200, 0, 0, 0][..], &[7; 200]].concat();
    for form in forms().filter(|form| form.suffix != ".gz") {
        let site = form.site([&skippable, &form.packed(), &skippable].map(Vec::as_slice).concat());
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        let cut = [&form.packed()[..], &skippable[..100]].concat();
        is_waited_out(form, cut, "compressed data cut short");
        is_waited_out(form, &skippable, "empty: expected compressed data");
    }
}

#[test]
fn the_first_bytes_tell_the_format_not_the_name() {
    for form in forms() {
        for called in FORMS {
            let site = called.site(form.packed());
            site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
            assert!(site.restored() == Some(segment(SEGMENT)), "{form:?} called {called:?}");
        }
    }
}

#[test]
fn a_stream_that_is_cut_short_anywhere_is_not_ready() {
    for form in forms() {
        let packed = form.packed();
        let cuts = (1..12).chain((1..20).map(|part| packed.len() * part / 20));
        for length in cuts.chain(packed.len() - 10..packed.len()) {
            let site = form.site(&packed[..length]);
            let ended = site.asks(&["--no-wait", "-d"], SEGMENT).ends().with_status(201);
            let ended = ended.saying("is not ready: compressed data cut short");
            assert_eq!((site.restored(), site.litter()), (None, Vec::new()), "{length} {ended:?}");
        }
        is_waited_out(form, &packed[..packed.len() / 2], "compressed data cut short: found ");
        is_waited_out(form, "", "empty: expected compressed data");
    }
}

#[test]
fn what_is_damaged_is_not_ready_wherever_that_is() {
    for form in forms() {
        let packed = form.packed();
        // The last bytes of each format are a checksum, of which gzip has the length behind it.
        for at in [packed.len() / 3, packed.len() / 2, packed.len() - 1] {
            let mut packed = packed.clone();
            packed[at] ^= 0x10;
            is_waited_out(
                form,
                packed,
                &format!("damaged {} data: decompression failed", form.name),
            );
        }
    }
}

#[test]
fn nothing_else_may_follow() {
    for form in forms() {
        let packed = form.packed();
        let other = FORMS.iter().find(|other| other.suffix != form.suffix).unwrap();
        for more in [&b"x"[..], &[0; 512], b"and so on", &other.packed()] {
            let reason =
                format!("trailing garbage after {} bytes of compressed data", packed.len());
            is_waited_out(form, [&packed, more].concat(), &reason);
        }
    }
}

#[test]
fn a_plain_segment_in_disguise_is_not_ready() {
    for form in FORMS {
        if form.is_built {
            let reason =
                "not compressed: begins with 10D10200, expected gzip, LZ4 or Zstandard data";
            is_waited_out(form, segment(SEGMENT), reason);
            is_waited_out(form, vec![0; MB], "not compressed: begins with 00000000");
        }
    }
}

#[test]
fn what_is_longer_or_shorter_than_its_segment_is_not_ready() {
    for form in forms() {
        let bytes = segment(SEGMENT);
        let longer = [&bytes[..], b"x"].concat();
        is_waited_out(
            form,
            (form.compress)(&longer),
            "too long: decompresses to more than 1048576",
        );
        // A gigabyte of zeros in less than the segment itself takes.
        let zeros = (form.compress)(&vec![0; 64 * MB]);
        let bomb = [form.packed(), zeros.repeat(16)].concat();
        assert!(bomb.len() < 8 * MB, "{}", bomb.len());
        is_waited_out(form, bomb, "too long: decompresses to more than 1048576 bytes");
        let shorter = (form.compress)(&bytes[..MB - 8192]);
        is_waited_out(form, shorter, "too short: found 1040384 bytes, expected 1048576");
        is_waited_out(form, (form.compress)(b""), "too short for a header: found 0 bytes");
    }
}

#[test]
fn what_is_decompressed_is_checked_like_any_other_segment() {
    for form in forms() {
        let of_another_place = Segment::named(&after(SEGMENT, 1)).bytes();
        is_waited_out(form, (form.compress)(&of_another_place), "wrong part of WAL");
        let mut damaged = segment(SEGMENT);
        damaged[Segment::record(10) + 40] ^= 1;
        let packed = (form.compress)(&damaged);
        is_waited_out(form, &packed, "the server could read it only up to 0/5002A8");

        let site = form.site(form.packed());
        site.write("global/pg_control", 7_u64.to_ne_bytes());
        site.asks(&["-w", "0.3", "-s", "0.1"], SEGMENT)
            .ends()
            .with_status(1)
            .saying("another cluster");
        let site = form.site(packed);
        site.asks(&["--verify=header"], SEGMENT).ends().with_status(0).in_silence();
    }
}

#[test]
fn half_a_history_file_and_an_endless_one_are_not_ready() {
    for form in forms() {
        let endless = b"1\t0/380000\tno recovery target specified\n".repeat(MB);
        let half = &HISTORY_CONTENT[..HISTORY_CONTENT.len() - 1];
        let packed = (form.compress)(HISTORY_CONTENT);
        for (bytes, reason) in [
            ((form.compress)(half), "incomplete history file"),
            ((form.compress)(&endless), "too long: decompresses to more than 1048576 bytes"),
            (packed[..packed.len() - 1].to_vec(), "compressed data cut short"),
            (Vec::new(), "empty: expected compressed data"),
        ] {
            let site = Site::new();
            site.put(&form.name_of(HISTORY), bytes);
            let running = site.asks(&["-s", "0.1"], HISTORY).starts().until_it_says(reason);
            assert_eq!(site.restored(), None);
            site.put(&form.name_of(HISTORY), &packed);
            running.ends().with_status(0);
            assert_eq!(site.restored().as_deref(), Some(HISTORY_CONTENT));
        }
    }
}

#[test]
fn the_plain_file_wins_when_it_is_ready_and_only_then() {
    let other = Segment::named(SEGMENT).with_records(7).bytes();
    let mut damaged = segment(SEGMENT);
    damaged[Segment::record(10) + 40] ^= 1;
    for form in forms() {
        let site = form.site(form.packed());
        site.put(SEGMENT, &other);
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        assert!(site.restored().as_ref() == Some(&other), "{form:?}");
        for wrong in [&other[..MB / 2], b"", b"something else", &damaged] {
            site.put(SEGMENT, wrong);
            let ended = site.asks(&["-s", "60"], SEGMENT).ends().with_status(0);
            assert!(site.restored() == Some(segment(SEGMENT)), "{form:?} {ended:?}");
        }
    }
}

#[test]
fn of_several_forms_one_that_is_good_is_taken() {
    let mut built = forms();
    let (Some(bad), Some(good)) = (built.next(), built.next()) else { return };
    let mut damaged = bad.packed();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let site = bad.site(damaged);
    site.put(&good.name_of(SEGMENT), good.packed());
    site.asks(&["-s", "60"], SEGMENT).ends().with_status(0);
    assert!(site.restored() == Some(segment(SEGMENT)));
}

#[test]
fn what_was_found_damaged_is_decompressed_again_only_when_it_has_changed() {
    for form in forms() {
        let mut damaged = form.packed();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let site = form.site(&damaged);
        let times = |stderr: &str| stderr.matches("copying").count();
        let starts = || site.asks(&["-d", "-s", "0.1"], SEGMENT).starts();
        let running = starts().until_it_says("decompression failed");
        assert_eq!(times(&running.still_waits_after(Duration::from_millis(900))), 1);
        let running = starts().until_it_says("data: decompression failed");
        site.put(&form.name_of(SEGMENT), form.packed());
        assert_eq!(times(&running.ends().with_status(0).stderr), 2);
    }
}

#[test]
fn memory_is_bounded_whatever_the_data_say_of_themselves() {
    let bytes = segment(SEGMENT);
    // The mappings of the program and of the C library are most of it.
    let limited = |site: &Site| {
        let ended = site.asks(&["--no-wait"], SEGMENT).after("ulimit -v 40000").ends();
        assert_eq!(site.litter(), Vec::<String>::new());
        ended
    };
    for form in forms() {
        limited(&form.site(form.packed())).with_status(0).in_silence();
    }
    if cfg!(feature = "lz4") {
        let info = FrameInfo::new().block_size(BlockSize::Max4MB).block_mode(BlockMode::Linked);
        limited(&FORMS[1].site(lz4_with(info, &bytes))).with_status(0).in_silence();
    }
    if cfg!(feature = "zstd") {
        let site = FORMS[2].site(zstd_with(19, Some(23), &bytes));
        limited(&site).with_status(0).in_silence();
        for window in [24, 27, 30] {
            let site = FORMS[2].site(zstd_with(3, Some(window), &bytes));
            limited(&site).with_status(201).saying(&format!(
                "needs too much memory to decompress: found a window of {} bytes, expected 8388608 at most",
                1 << window
            ));
        }
        // A frame in one piece needs as much as it says that it holds.
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE0];
        frame.extend((1_u64 << 40).to_le_bytes());
        limited(&FORMS[2].site(frame)).with_status(201).saying("window of 1099511627776 bytes");
    }
}

#[test]
fn a_compressed_file_that_comes_wakes_it_at_once() {
    for form in forms() {
        for option in ["-c", "--partial"] {
            let site = Site::new();
            let running = site.asks(&["-s", "60", option], SEGMENT).starts().until_it_waits();
            site.put(&form.name_of(SEGMENT), form.packed());
            running.ends().with_status(0).in_silence();
        }
        // In place of one that was not good.
        let site = form.site("");
        let running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
        fs::write(site.archive().join(form.name_of(SEGMENT)), form.packed()).unwrap();
        running.ends().with_status(0).in_silence();
    }
}

#[test]
fn a_compressed_file_that_is_open_for_writing_is_not_ready() {
    for form in forms() {
        let site = form.site(form.packed());
        let path = site.archive().join(form.name_of(SEGMENT));
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        let mut running = site.asks(&["-s", "60"], SEGMENT).starts().until_it_waits();
        assert!(running.goes_on());
        assert_eq!(site.restored(), None);
        drop(writer);
        running.ends().with_status(0);
    }
}

#[test]
fn a_smart_failover_ends_before_a_damaged_one_and_counts_each_later_one_once() {
    for form in forms() {
        let packed = form.packed();
        let site = form.site(&packed[..packed.len() - 1]);
        for (count, other) in FORMS.iter().enumerate() {
            let name = after(SEGMENT, u32::try_from(count).unwrap() + 1);
            site.put_segment(&name);
            site.put(&other.name_of(&name), "");
        }
        site.put(&form.name_of(&after(SEGMENT, 9)), "");
        site.write("trigger", "smart");
        let ended = site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(1);
        ended
            .saying("compressed data cut short")
            .saying("; failover continues without it")
            .saying("later segments in the archive that are not replayed: 4");
        assert_eq!(site.restored(), None);
    }
}

#[test]
fn other_ways_to_end_take_a_damaged_one_for_no_end_of_the_archive() {
    for form in forms() {
        let packed = form.packed();
        let site = form.site(&packed[..packed.len() - 1]);
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(201).saying("the server stops");
        site.asks(&["--on-error=promote", "--no-wait"], SEGMENT).ends().with_status(201);
        site.write("standby.signal", "");
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(1);
        let longer = (form.compress)(&[&segment(SEGMENT)[..], b"x"].concat());
        let site = form.site(longer);
        let running = site.asks(&["-s", "0.1", "--on-error=promote"], SEGMENT).starts();
        running.until_it_says("decompresses to more than").until_it_waits();
    }
}

#[test]
fn compressed_history_files_tell_of_timelines_as_plain_ones_do() {
    for form in forms() {
        // A segment before its timeline began.
        let site = Site::new();
        let early = SEGMENT.replacen("00000001", "00000002", 1);
        let history = (form.compress)(b"1\t0/A000000\tno recovery target specified\n");
        site.put(&form.name_of(HISTORY), &history);
        site.put(&form.name_of(SEGMENT), form.packed());
        site.asks(&["-s", "60"], &early).ends().with_status(1).in_silence();

        // Up to 9.2 only the archive has the history file of the timeline that the server follows.
        let site = form.site((form.compress)(&segment(SEGMENT)));
        site.write("PG_VERSION", "9.2\n");
        site.write("recovery.conf", "recovery_target_timeline = 'latest'\n");
        let history =
            (form.compress)(b"1\t000000010000000000000005\tno recovery target specified\n");
        site.put(&form.name_of(HISTORY), &history);
        let ended = site.asks(&["-w", "0.2", "-s", "0.1"], SEGMENT).ends().with_status(1);
        ended.saying("follows timeline 2").saying(&form.name_of(HISTORY));

        // An abandoned one that is compressed itself.
        let site = form.site(form.packed());
        site.write("pg_wal/00000002.history", "1\t0/500000\tno recovery target specified\n");
        let ended = site.asks(&["-w", "0.2", "-s", "0.1"], SEGMENT).ends().with_status(1);
        ended.saying("is treated as absent");
    }
}

#[test]
fn pg_rewind_is_given_decompressed_segments() {
    for form in forms() {
        let site = Site::with("archive", format!("pg_wal/{SEGMENT}"));
        site.put(&form.name_of(SEGMENT), form.packed());
        site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
        assert!(site.restored() == Some(segment(SEGMENT)), "{form:?}");
    }
}

#[test]
fn of_a_compressed_segment_that_is_being_received_what_has_come_is_handed_over() {
    let whole = Segment::named(SEGMENT).with_records(100).bytes();
    for form in forms() {
        let site = Site::new();
        site.write("trigger", "smart");
        let name = format!("{SEGMENT}{}.partial", form.suffix);
        let asks = || site.asks(&["--partial"], SEGMENT).with_trigger().ends();
        // Frames that are whole, and the beginning of one more.
        let one = (form.compress)(&whole[..Segment::record(60)]);
        let two = (form.compress)(&whole[Segment::record(60)..]);
        for more in [0, 1, two.len() / 2] {
            site.put(&name, [&one, &two[..more]].concat());
            let ended = asks().with_status(0).saying("recovery ends at 0/5");
            let restored = site.restored().unwrap();
            assert!(
                restored.len() == MB
                    && restored[..Segment::record(60)] == whole[..Segment::record(60)]
            );
            assert!(ended.stderr.contains(&name), "{ended:?}");
            fs::remove_file(site.destination()).unwrap();
        }
        // All of it.
        site.put(&name, [&one[..], &two].concat());
        asks().with_status(0);
        assert!(site.restored().unwrap()[..Segment::record(100)] == whole[..Segment::record(100)]);
        fs::remove_file(site.destination()).unwrap();
        // Nothing yet, and nothing that can be read.
        for (bytes, words) in
            [(&one[..0], ""), (&one[..9], ""), (b"nonsense", "is not ready: not compressed")]
        {
            site.put(&name, bytes);
            asks().with_status(1).saying("smart failover requested").saying(words);
            assert_eq!(site.restored(), None);
        }
    }
}

#[test]
fn a_compressed_partial_segment_that_grows_wakes_it_in_standby_mode() {
    for form in forms() {
        let site = Site::new();
        site.write("PG_VERSION", "15\n");
        site.write("standby.signal", "");
        let whole = Segment::named(SEGMENT).with_records(100).bytes();
        let running = site.asks(&["--partial=0.05", "-s", "60"], SEGMENT).starts().until_it_waits();
        site.put(
            &format!("{SEGMENT}{}.partial", form.suffix),
            (form.compress)(&whole[..Segment::record(60)]),
        );
        running.ends().with_status(0);
        assert!(site.restored().unwrap()[..Segment::record(60)] == whole[..Segment::record(60)]);
    }
}

#[test]
fn a_form_that_this_build_lacks_is_named() {
    for form in FORMS.into_iter().filter(|form| !form.is_built) {
        let site = form.site(form.packed());
        let words = format!("is not ready: this pg_standby was built without {}", form.name);
        let running = site.asks(&["-s", "0.1"], SEGMENT).starts().until_it_says(&words);
        site.put_segment(SEGMENT);
        running.ends().with_status(0);
    }
}

#[test]
fn a_link_without_a_target_does_not_hide_a_good_form() {
    for (broken, good) in [("", ".gz"), (".gz", ".zst")] {
        for target in ["nowhere".to_owned(), format!("{SEGMENT}{broken}")] {
            let site = Site::new();
            symlink(&target, site.archive().join(format!("{SEGMENT}{broken}"))).unwrap();
            let bytes = Segment::named(SEGMENT).bytes();
            let packed = if good == ".gz" { gzip(&bytes) } else { zstd(&bytes) };
            site.put(&format!("{SEGMENT}{good}"), packed);
            site.write("trigger", "smart");
            site.asks(&["-s", "0.1"], SEGMENT).with_trigger().ends().with_status(0);
            assert!(site.restored() == Some(bytes), "it differs");
        }
    }
}

#[test]
fn frames_that_hold_nothing_are_passed_over_but_not_for_ever() {
    let bytes = Segment::named(SEGMENT).bytes();
    for (count, status) in [(100, 0), (200_000, 201)] {
        let site = Site::new();
        let packed = [gzip(&[]).repeat(count), gzip(&bytes)].concat();
        site.put(&format!("{SEGMENT}.gz"), packed);
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(status);
    }
}
