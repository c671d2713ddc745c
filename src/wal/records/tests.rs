//! What reads through and what does not: a test for each rule of the server's reader, then whatever a server may write,
//! with and without damage.

#![allow(clippy::arithmetic_side_effects)]
use super::super::damage::LongField;
use super::writer::{Wal, castagnoli};
use super::*;
use proptest::prelude::*;

mod crossing;
mod ends;
mod pages;
mod single;
mod written;

/// Where the first record of a segment begins that continues none.
const FIRST: usize = 40;

/// A segment with a record on each of its four pages, 24 bytes of header on all but the first.
fn four_pages() -> Wal {
    nearly_full(0)
}

/// The same with so many bytes of the last page free.
fn nearly_full(free: usize) -> Wal {
    let mut wal = Wal::new();
    for _ in 0..3 {
        wal.leave(0);
    }
    wal.leave(free);
    wal
}

/// The same with one record over pages 1 and 2.
fn crossing() -> Wal {
    let mut wal = Wal::new();
    wal.leave(0);
    wal.leave(200);
    wal.record(300);
    wal.leave(0);
    wal.leave(0);
    wal
}

fn whole(wal: &Wal) -> Vec<Verdict> {
    let verdicts = wal.check();
    assert_eq!(wal.stop(), None);
    assert_eq!(verdicts.len(), wal.bytes.len() / wal.segment);
    let records: u64 = verdicts.iter().map(|verdict| verdict.records).sum();
    assert_eq!(records, wal.records.len() as u64);
    verdicts
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(record::checksum(0, b"123456789"), 0xE306_9283);
    assert_eq!(castagnoli(b"123456789".iter()), 0xE306_9283);
}

#[cfg(target_endian = "little")]
#[test]
fn a_record_of_a_real_server_has_the_checksum_that_is_computed() {
    // A switch record of PostgreSQL 15.
    let record = [
        0x18, 0x00, 0x00, 0x00, 0x6D, 0x2E, 0x00, 0x00, 0xF8, 0xCD, 0x76, 0x06, 0x00, 0x00, 0x00,
        0x00, 0x40, 0x00, 0x00, 0x00, 0x9E, 0xF7, 0x3A, 0x68,
    ];
    assert_eq!(record::check_sum(&record, 0), Ok(()));
    assert!(record::is_switch(&record));
}

#[test]
fn records_that_fill_each_page_read_through() {
    let verdicts = whole(&four_pages());
    assert_eq!((verdicts[0].records, verdicts[0].end), (4, End::LastByte));
}

#[test]
fn every_magic_from_9_5_to_19_is_known_and_no_other() {
    for (magic, known) in [
        (0xD07E, false),
        (0xD086, false),
        (0xD087, true),
        (0xD093, true),
        (0xD110, true),
        (0xD118, true),
        (0xD121, true),
        (0xD122, false),
    ] {
        let header = Header { magic, ..Wal::new().header() };
        assert_eq!(Segment::new(&[], &header, 1).is_some(), known, "{magic:04X}");
    }
}

#[test]
fn block_sizes_and_segment_sizes_are_what_the_header_says() {
    for block in [1024, 8192, 65536] {
        for pages in [1, 2, 16] {
            let mut wal = Wal { block, segment: block * pages, ..Wal::new() };
            for length in (24..3 * block).step_by(block / 7) {
                wal.record(length);
            }
            wal.switch();
            whole(&wal);
        }
    }
}

#[test]
fn a_record_starts_at_the_next_multiple_of_8() {
    for length in 24..40 {
        let mut wal = Wal::new();
        wal.record(length);
        wal.record(30);
        wal.switch();
        whole(&wal);
    }
}

#[test]
fn a_header_may_be_cut_by_the_end_of_a_page_or_a_segment() {
    for free in [8, 16, 24, 32] {
        for page in 0..5 {
            for length in [24, 25, 100, 5000] {
                let mut wal = Wal::new();
                for _ in 0..page {
                    wal.leave(0);
                }
                wal.leave(free);
                wal.record(length);
                wal.switch();
                whole(&wal);
            }
        }
    }
}
