//! What is read: every format with all that it allows, within bounds.

use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};

use super::{FORMS, HISTORY_CONTENT, forms, gzip, is_waited_out, lz4_with, segment, zstd_with};
use crate::site::{BACKUP, HISTORY, SEGMENT, Site};
use crate::wal::Segment;

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
fn frames_that_hold_nothing_are_passed_over_but_not_for_ever() {
    let bytes = Segment::named(SEGMENT).bytes();
    for (count, status) in [(100, 0), (200_000, 201)] {
        let site = Site::new();
        let packed = [gzip(&[]).repeat(count), gzip(&bytes)].concat();
        site.put(&format!("{SEGMENT}.gz"), packed);
        site.asks(&["--no-wait"], SEGMENT).ends().with_status(status);
    }
}
