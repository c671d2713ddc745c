//! Single records: length, kind, link and checksum.

use super::*;

#[test]
fn a_record_is_never_shorter_than_its_header() {
    for found in [0, 1, 23] {
        let mut wal = four_pages();
        wal.set(1024 + 24, &u32::to_ne_bytes(found));
        assert_eq!(wal.damage(), (1048, Damage::RecordTooShort { found }));
        assert_eq!(wal.stop().unwrap().1.valid, 1024);
        let mut wal = Wal::new();
        wal.leave(8);
        let at = wal.record(100);
        wal.switch();
        wal.set(at, &u32::to_ne_bytes(found));
        assert_eq!(wal.damage(), (at, Damage::RecordTooShort { found }), "its header is cut");
    }
}

#[test]
fn a_record_of_a_gigabyte_is_none() {
    for leave in [8, 104] {
        let mut wal = Wal::new();
        wal.leave(leave);
        let at = wal.record(200);
        wal.switch();
        wal.set(at, &0x4000_0000_u32.to_ne_bytes());
        assert_eq!(wal.damage(), (at, Damage::RecordTooLong { found: 0x4000_0000 }));
        wal.set(at, &0x3FFF_FFFF_u32.to_ne_bytes());
        let leave = u32::try_from(leave).unwrap();
        let (found, expected) = (200 - leave, 0x3FFF_FFFF - leave);
        let why = Damage::RemainingLength { page: wal.lsn(1024), found, expected };
        assert_eq!(wal.damage(), (at, why));
    }
}

#[test]
fn a_resource_manager_has_to_exist_in_the_release() {
    for (magic, legal, not) in [
        (0xD087, vec![0, 19], vec![20, 128, 255]),
        (0xD093, vec![0, 21], vec![22, 128, 255]),
        (0xD10D, vec![0, 21], vec![22, 128, 255]),
        (0xD110, vec![0, 21, 128, 255], vec![22, 127]),
        (0xD118, vec![0, 21, 128, 255], vec![22, 127]),
        (0xD121, vec![0, 22, 127, 128, 255], vec![]),
    ] {
        let with = |manager, free| {
            let mut wal = Wal { magic, ..Wal::new() };
            wal.leave(free);
            let at = wal.put(&wal.bytes_of(60, manager, 0));
            wal.switch();
            (wal, at)
        };
        for free in [100, 8, 16] {
            for manager in &legal {
                whole(&with(*manager, free).0);
            }
            for found in &not {
                let (wal, at) = with(*found, free);
                assert_eq!(wal.damage(), (at, Damage::ResourceManager { found: *found }));
            }
        }
    }
}

#[test]
fn each_record_names_the_one_before_it() {
    for free in [100, 8, 16] {
        let mut wal = Wal::new();
        let before = wal.leave(free);
        wal.previous -= 8;
        let at = wal.record(60);
        wal.switch();
        let (found, expected) = (wal.lsn(before - 8), wal.lsn(before));
        assert_eq!(wal.damage(), (at, Damage::Link { found, expected }));
    }
}

#[test]
fn the_first_record_names_one_before_itself_that_nobody_knows() {
    for (previous, fine) in [(-(5 << 24), true), (-1, true), (39, true), (40, false), (48, false)] {
        let mut wal = Wal::new();
        wal.previous = wal.start.wrapping_add_signed(previous);
        wal.record(60);
        wal.switch();
        if fine {
            whole(&wal);
        } else {
            let found = wal.lsn(usize::try_from(previous).unwrap());
            assert_eq!(wal.damage(), (FIRST, Damage::LinkAhead { found }));
        }
    }
}

#[test]
fn the_first_record_names_the_last_one_of_the_segment_before_where_that_is_known() {
    for switch in [true, false] {
        let mut wal = four_pages();
        let before = wal.leave(0);
        let before = if switch { wal.switch() } else { before };
        wal.fill(0);
        let segments = wal.bytes.len() / 4096;
        if !switch {
            // Nothing but one record and zeros is no whole segment.
            wal.bytes.truncate(4096);
            wal.previous = wal.start + wal.records[3] as u64;
        }
        let (first, expected) =
            if switch { (segments * 4096, before) } else { (4096, wal.records[3]) };
        wal.previous -= 8;
        let at = wal.record(60);
        wal.switch();
        assert_eq!(at, first + FIRST);
        let why = Damage::Link { found: wal.lsn(expected - 8), expected: wal.lsn(expected) };
        assert_eq!(wal.damage(), (at, why));
        assert_eq!(wal.segments().last().unwrap().check(None).end, End::Switch);
    }
}

#[test]
fn a_record_has_the_checksum_of_its_bytes() {
    for at in [0, 4, 8, 12, 16, 18, 19, 20, 23, 24, 59] {
        let mut wal = Wal::new();
        wal.record(60);
        let record = wal.record(60);
        wal.switch();
        wal.bytes[record + at] ^= 1;
        assert_eq!(wal.damage().0, record);
        if at >= 18 {
            assert!(matches!(wal.damage().1, Damage::Checksum { .. }));
        }
    }
}

#[test]
fn a_record_over_pages_has_the_checksum_of_its_bytes() {
    let wal = crossing();
    let record = wal.records[2];
    for (at, used) in wal.used.iter().enumerate().take(wal.records[3]).skip(record) {
        let mut wal = wal.clone();
        wal.bytes[at] ^= 0x10;
        assert_eq!(wal.stop().map(|(_, stop)| stop.at), used.then_some(wal.lsn(record)), "{at}");
    }
}
