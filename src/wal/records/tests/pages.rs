//! Pages: their headers, and what stands in place of one.

use super::*;

#[test]
fn a_page_of_zeros_ends_reading() {
    for page in 1..4 {
        let mut wal = four_pages();
        wal.set(page * 1024, &[0; 1024]);
        let at = page * 1024;
        assert_eq!(wal.damage(), (at, Damage::Zeros { page: wal.lsn(at) }));
        assert_eq!(wal.stop().unwrap().1.valid, at);
    }
}

#[test]
fn a_page_with_another_magic_ends_reading() {
    let mut wal = four_pages();
    wal.set(1024, &0xD10D_u16.to_ne_bytes());
    let (found, expected) = (0xD10D, 0xD110);
    assert_eq!(wal.damage(), (1024, Damage::Magic { page: wal.lsn(1024), found, expected }));
}

#[test]
fn the_first_page_has_the_magic_of_those_around_it() {
    let stops = |first: u16, next: u16, before| {
        let mut wal = four_pages();
        wal.set(0, &first.to_ne_bytes());
        wal.set(1024, &next.to_ne_bytes());
        let header = Header { magic: first, ..wal.header() };
        let stop = stop_at_magic(&wal.bytes, &header, before);
        stop.map(|stop| {
            assert_eq!((stop.at, stop.valid), (wal.lsn(0), 0));
            let Damage::Magic { page, found, expected } = stop.why else { panic!("{stop:?}") };
            assert_eq!((page, found), (wal.lsn(0), first));
            expected
        })
    };
    assert_eq!(stops(0xD110, 0xD110, Some(0xD110)), None);
    assert_eq!(stops(0xD110, 0xD110, None), None);
    assert_eq!(stops(0xD510, 0xD110, None), Some(0xD110));
    assert_eq!(stops(0xD083, 0xD087, None), Some(0xD087));
    assert_eq!(stops(0xD118, 0xD118, Some(0xD110)), Some(0xD110));
    assert_eq!(stops(0xD510, 0, Some(0xD110)), Some(0xD110));
    // A release to come, or one before 9.5; and damage on the next page, which is found there.
    assert_eq!(stops(0xD130, 0xD130, Some(0xD130)), None);
    assert_eq!(stops(0xD130, 0, None), None);
    assert_eq!(stops(0xD07E, 0x3030, None), None);
    assert_eq!(stops(0xD110, 0xD118, None), None);
    let header = Header { magic: 0xD130, ..four_pages().header() };
    assert_eq!(stop_at_magic(&[], &header, None), None);
}

#[test]
fn flags_that_do_not_exist_in_a_release_end_reading() {
    for (magic, legal) in [(0xD087, 0x000C), (0xD110, 0x000C), (0xD11B, 0x000C), (0xD11C, 0x0004)] {
        for flag in [4, 8, 16, 0x8000] {
            let mut wal = Wal { magic, ..Wal::new() };
            wal.leave(0);
            wal.flags = flag;
            wal.leave(0);
            wal.leave(0);
            wal.leave(0);
            if flag & legal != 0 {
                whole(&wal);
            } else {
                let why = Damage::Flags { page: wal.lsn(1024), found: flag };
                assert_eq!(wal.damage(), (1024, why), "{magic:04X} {flag:04X}");
            }
        }
    }
}

#[test]
fn the_first_page_needs_a_long_header() {
    let mut wal = four_pages();
    wal.set(2, &[0; 2]);
    assert_eq!(wal.damage(), (0, Damage::ShortHeader { page: wal.lsn(0) }));
    assert_eq!(wal.stop().unwrap().1.valid, 0);
}

#[test]
fn a_long_header_elsewhere_has_to_be_that_of_the_first_page() {
    let long = |field: usize, byte: u8| {
        let mut wal = Wal::new();
        wal.leave(0);
        let mut other = Wal { start: wal.start + 1024, ..wal.clone() };
        other.bytes.clear();
        other.page(None);
        let header = other.bytes;
        wal.bytes.extend(header);
        wal.used.resize(wal.bytes.len(), true);
        if field > 0 {
            wal.bytes[1024 + field] ^= byte;
        }
        wal.leave(0);
        wal.leave(0);
        wal.leave(0);
        wal
    };
    whole(&long(0, 0));
    for (at, wrong) in [
        (24, LongField::SystemIdentifier),
        (32, LongField::SegmentSize),
        (36, LongField::BlockSize),
    ] {
        let (at, why) = long(at, 0xFF).damage();
        assert_eq!(at, 1024);
        assert!(matches!(why, Damage::LongHeader { field, .. } if field == wrong), "{why}");
    }
}

#[test]
fn a_page_of_another_place_ends_reading() {
    let mut wal = four_pages();
    let found = wal.lsn(3072);
    wal.set(2048 + 8, &found.0.to_ne_bytes());
    assert_eq!(wal.damage(), (2048, Damage::Address { page: wal.lsn(2048), found }));
}

#[test]
fn the_timeline_may_rise_in_mid_segment_and_not_fall() {
    let timelines = |of: [u32; 5], name| {
        let mut wal = Wal::new();
        for timeline in of {
            wal.timeline = timeline;
            wal.leave(0);
        }
        wal.fill(0);
        wal.timeline = name;
        wal
    };
    assert_eq!(timelines([1, 1, 2, 2, 2], 2).check()[0].end, End::LastByte);
    let wal = timelines([1, 2, 1, 2, 2], 2);
    let (found, before) = (1, 2);
    let why = Damage::EarlierTimeline { page: wal.lsn(2048), found, before };
    assert_eq!(wal.damage(), (2048, why));
    let wal = timelines([2, 2, 2, 2, 1], 2);
    let why = Damage::EarlierTimeline { page: wal.lsn(4096), found, before };
    assert_eq!(wal.damage(), (4096, why), "from segment to segment");
    let wal = timelines([1, 1, 1, 2, 2], 1);
    let (found, expected) = (2, 1);
    let why = Damage::LaterTimeline { page: wal.lsn(3072), found, expected };
    assert_eq!(wal.damage(), (3072, why));
}
