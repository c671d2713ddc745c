//! Where a segment ends: at a switch record, at its last byte, or where nothing has been received yet; and the words for it.

use super::*;

#[test]
fn what_follows_a_switch_record_is_not_looked_at() {
    for byte in [0, 0xFF] {
        let mut wal = Wal::new();
        wal.record(60);
        wal.put(&wal.bytes_of(24, 0, 0x4F));
        wal.fill(byte);
        wal.record(60);
        wal.switch();
        assert_eq!(whole(&wal)[0].end, End::Switch);
    }
    let mut wal = Wal::new();
    wal.put(&wal.bytes_of(24, 1, 0x40));
    wal.fill(0);
    assert_eq!(wal.damage().1, Damage::RecordTooShort { found: 0 }, "another manager's");
    let mut wal = Wal::new();
    wal.put(&wal.bytes_of(24, 0, 0x50));
    wal.fill(0);
    assert_eq!(wal.damage().1, Damage::RecordTooShort { found: 0 }, "another record");
}

#[test]
fn a_switch_record_may_end_with_the_segment_or_go_over_its_end() {
    for free in [8, 16, 24] {
        let mut wal = nearly_full(free);
        wal.switch();
        wal.record(60);
        wal.switch();
        let verdicts = whole(&wal);
        assert_eq!(verdicts.len(), if free == 24 { 2 } else { 3 });
        for (segment, verdict) in wal.segments().iter().zip(&verdicts) {
            assert_eq!(segment.check(None).end, verdict.end, "{free}");
        }
    }
}

#[test]
fn the_end_of_another_record_is_not_taken_for_a_switch() {
    let with_the_look_of_a_switch = |length: usize| {
        let mut wal = nearly_full(200);
        let mut record = wal.bytes_of(length, 10, 0);
        record[length - 8..].copy_from_slice(&[0x40, 0, 0, 0, 1, 2, 3, 4]);
        wal.put(&record);
        wal
    };
    let valid = |mut wal: Wal| {
        wal.fill(0);
        let End::Stops(stop) = wal.segments()[1].check(None).end else { panic!() };
        stop.valid
    };
    // It looks like one, but a record follows.
    let mut wal = with_the_look_of_a_switch(208);
    let at = wal.record(60);
    assert_eq!(valid(wal), at - 4096 + 64);
    // Longer ends are none, whatever they look like.
    assert_eq!(valid(with_the_look_of_a_switch(224)), FIRST + 24);
    // Nor are those that are not on the first page.
    assert_eq!(valid(with_the_look_of_a_switch(200 + 984 + 8)), 1024 + 24 + 8);
}

#[test]
fn a_skim_over_a_rising_timeline_tells_the_same_as_a_check() {
    let mut wal = Wal::new();
    wal.leave(100);
    let mut later = Wal { timeline: 2, ..wal.clone() };
    let record = later.bytes_of(5000, 10, 0);
    later.put(&record);
    later.switch();
    let segments = later.segments();
    let carry = segments[0].check(None).carry.unwrap();
    assert_eq!(carry.timeline, 2);
    assert_eq!(segments[0].skim(None), Some(carry));
}

#[test]
fn a_skim_needs_only_the_end_of_the_segment() {
    let mut wal = Wal::new();
    while wal.bytes.len() < 4000 {
        wal.record(100);
    }
    wal.record(200);
    wal.switch();
    let carry = wal.segments()[0].check(None).carry;
    assert!(matches!(&carry, Some(Carry { open: Open::Record(_), .. })));
    let mut damaged = wal.clone();
    damaged.bytes[..1024].fill(0);
    assert_eq!(damaged.segments()[0].skim_all(None), None);
    assert_eq!(damaged.segments()[0].skim(None), carry);
    // Where the end does not tell, all of it does.
    let mut damaged = wal.clone();
    damaged.bytes[3072 + 500] ^= 1;
    assert_eq!(damaged.segments()[0].skim_end(None), None);
    assert_eq!(damaged.segments()[0].skim(None), carry);
}

#[test]
fn a_carry_for_another_segment_counts_for_nothing() {
    let mut wal = crossing();
    wal.leave(100);
    wal.record(200);
    wal.switch();
    let segments = wal.segments();
    let carry = segments[0].check(None).carry;
    assert_eq!(segments[0].check(carry.as_ref()), segments[0].check(None));
}

#[test]
fn bytes_that_end_too_early_end_reading_behind_the_last_whole_record() {
    let wal = crossing();
    for length in 0..wal.segment {
        let verdict = wal.part(0, &wal.bytes[..length]).check(None);
        let End::Stops(stop) = verdict.end else { panic!("{length}: {verdict:?}") };
        let found = length as u64;
        assert_eq!(stop.why, Damage::Short { found, expected: 4096 }, "{length}");
        let ends = [1024, 1848, 2172 + 4, 3072, 4096];
        let valid = ends.iter().filter(|end| **end <= length).max();
        let valid = valid.copied().unwrap_or(if length < FIRST { 0 } else { FIRST });
        // The bytes of alignment behind a record count as its own.
        assert!(stop.valid == valid || (2172..2176).contains(&length), "{length}: {stop:?}");
        assert_eq!(verdict.carry, None);
    }
}

#[test]
fn the_valid_part_of_a_segment_that_is_being_received_ends_with_its_last_whole_record() {
    let wal = crossing();
    for received in 0..wal.segment {
        let mut bytes = wal.bytes.clone();
        bytes[received..].fill(0);
        if received < 40 {
            continue;
        }
        let End::Stops(stop) = wal.part(0, &bytes).check(None).end else {
            assert!(bytes == wal.bytes, "{received}");
            continue;
        };
        assert!(stop.valid <= received.next_multiple_of(8), "{received}: {stop:?}");
        bytes[stop.valid..].fill(0);
        let End::Stops(again) = wal.part(0, &bytes).check(None).end else { panic!() };
        assert_eq!(again.valid, stop.valid);
    }
}

#[test]
fn each_damage_is_told_in_plain_words() {
    let page = Lsn(0x5_0000_2000);
    for (damage, words) in [
        (Damage::Zeros { page }, "the page at 5/2000 is all zeros"),
        (
            Damage::Magic { page, found: 0, expected: 0xD110 },
            "the page at 5/2000 begins with zeros: found magic 0000, expected D110",
        ),
        (
            Damage::Link { found: Lsn(8), expected: Lsn(40) },
            "the record's link to the one before is wrong: found 0/8, expected 0/28",
        ),
        (
            Damage::Checksum { found: 1, expected: 0xABCD },
            "record checksum does not match: found 00000001, expected 0000ABCD",
        ),
        (
            Damage::LongHeader { page, field: LongField::BlockSize, found: 1, expected: 2 },
            "the page at 5/2000 is of another cluster: found block size 1, expected 2",
        ),
        (
            Damage::RecordTooShort { found: 0 },
            "no record begins there: found length 0, expected 24 or more",
        ),
    ] {
        assert_eq!(damage.to_string(), words);
    }
}
