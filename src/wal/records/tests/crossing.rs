//! Records that go over the edge of a page or of a segment, or were to do so and were overwritten.

use super::*;

#[test]
fn a_page_has_to_say_that_it_goes_on_with_a_record() {
    let mut wal = crossing();
    wal.set(2048 + 2, &0_u16.to_ne_bytes());
    let record = wal.records[2];
    assert_eq!(wal.damage(), (record, Damage::NotContinued { page: wal.lsn(2048) }));
    assert_eq!(wal.stop().unwrap().1.valid, record);
}

#[test]
fn a_page_has_to_say_how_much_of_a_record_is_left() {
    for found in [0, 99, 101, u32::MAX] {
        let mut wal = crossing();
        wal.set(2048 + 16, &found.to_ne_bytes());
        let why = Damage::RemainingLength { page: wal.lsn(2048), found, expected: 100 };
        assert_eq!(wal.damage(), (wal.records[2], why));
    }
}

#[test]
fn a_page_may_only_go_on_with_a_record_that_is_unfinished() {
    let mut wal = four_pages();
    wal.set(1024 + 2, &1_u16.to_ne_bytes());
    wal.set(1024 + 16, &100_u32.to_ne_bytes());
    let why = Damage::NothingToContinue { page: wal.lsn(1024), found: 100 };
    assert_eq!(wal.damage(), (1024 + 24, why));
}

#[test]
fn a_segment_may_only_go_on_with_a_record_that_is_unfinished_where_that_is_known() {
    for switch in [true, false] {
        let mut wal = four_pages();
        if switch {
            wal.bytes.truncate(wal.records[3]);
            wal.previous = wal.start + wal.records.remove(2) as u64;
            wal.records.pop();
            wal.switch();
        }
        wal.page(Some(60));
        wal.bytes.extend([7; 64]);
        let at = wal.record(60);
        wal.switch();
        let why = Damage::NothingToContinue { page: wal.lsn(4096), found: 60 };
        assert_eq!(wal.damage(), (4096 + FIRST, why));
        assert_eq!(wal.segments()[1].check(None).records, 2, "{at}");
    }
}

#[test]
fn a_segment_has_to_go_on_with_an_unfinished_record_where_that_is_known() {
    let mut wal = nearly_full(100);
    let record = wal.record(300);
    wal.switch();
    let mut other = Wal { start: wal.start + 4096, previous: 0, bytes: Vec::new(), ..wal.clone() };
    other.record(60);
    other.switch();
    wal.set(4096, &other.bytes);
    assert_eq!(wal.damage(), (record, Damage::NotContinued { page: wal.lsn(4096) }));
    assert_eq!(wal.stop().unwrap().1.valid, FIRST);
    assert_eq!(wal.segments()[1].check(None).end, End::Switch);
}

#[test]
fn a_record_from_the_segment_before_is_checked_whole_where_its_beginning_is_known() {
    let mut wal = Wal::new();
    wal.leave(0);
    let record = wal.record(6000);
    wal.record(60);
    wal.switch();
    let verdicts = whole(&wal);
    assert_eq!(verdicts[0].records, 1);
    wal.bytes[4096 + 500] ^= 1;
    let (segment, stop) = wal.stop().unwrap();
    assert_eq!((segment, stop.at), (1, wal.lsn(record)));
    assert!(matches!(stop.why, Damage::Checksum { .. }));
    let unknown = wal.segments()[1].check(None);
    assert_eq!((unknown.records, unknown.end), (2, End::Switch));
}

#[test]
fn a_record_from_the_segment_before_is_held_against_its_lengths_where_nothing_is_known() {
    let mut wal = Wal::new();
    wal.leave(0);
    wal.record(6000);
    wal.record(60);
    wal.switch();
    let clean = wal.clone();
    let check = |wal: &Wal| wal.segments()[1].check(None).end;
    assert_eq!(check(&clean), End::Switch);
    let remaining = u32::from_ne_bytes(*clean.bytes[5120 + 16..].first_chunk().unwrap());
    wal.set(5120 + 16, &(remaining + 1).to_ne_bytes());
    let End::Stops(stop) = check(&wal) else { panic!() };
    let (found, expected) = (remaining + 1, remaining);
    let why = Damage::RemainingLength { page: wal.lsn(5120), found, expected };
    assert_eq!(stop, Stop { at: wal.lsn(4096), valid: FIRST, why });
    let mut wal = clean.clone();
    wal.set(5120 + 2, &[0; 2]);
    let End::Stops(stop) = check(&wal) else { panic!() };
    assert_eq!(stop.why, Damage::NotContinued { page: wal.lsn(5120) });
    let mut wal = clean;
    wal.set(4096 + 16, &[0; 4]);
    let End::Stops(stop) = check(&wal) else { panic!() };
    assert_eq!(stop.why, Damage::NothingToContinue { page: wal.lsn(4096), found: 0 });
}

#[test]
fn a_record_that_fills_segments_is_carried_through_them() {
    let mut wal = Wal::new();
    let before = wal.leave(300);
    let record = wal.record(20_000);
    wal.record(60);
    wal.switch();
    let verdicts = whole(&wal);
    let records: Vec<u64> = verdicts.iter().map(|verdict| verdict.records).collect();
    assert_eq!(records, [1, 0, 0, 0, 0, 3]);
    let segments = wal.segments();
    // Nothing of it begins in the fifth segment: the one before has to be asked, and so on to the first.
    let mut from = 4;
    while segments[from].skim(None).unwrap().begins_earlier() {
        from -= 1;
    }
    assert_eq!(from, 0);
    let carry = (from..5).fold(None, |carry, n| segments[n].skim(carry.as_ref())).unwrap();
    assert_eq!(Some(&carry), verdicts[4].carry.as_ref());
    assert_eq!((carry.previous, carry.next()), (Some(wal.lsn(before)), wal.lsn(5 * 4096)));
    let last = segments[5].check(Some(&carry));
    assert_eq!((last.records, last.end), (3, End::Switch));
    let mut damaged = wal.clone();
    damaged.bytes[3 * 4096 + 700] ^= 1;
    let (segment, stop) = damaged.stop().unwrap();
    assert_eq!((segment, stop.at), (5, wal.lsn(record)));
}

#[test]
fn an_overwritten_record_is_dropped_and_the_next_one_begins_behind_the_header() {
    for magic in [0xD087, 0xD110, 0xD11B, 0xD11C, 0xD121] {
        for (length, enough) in [(1500, 1), (3000, 1), (3000, 1500), (9000, 1), (9000, 5000)] {
            for free in [8, 16, 24, 500] {
                let mut wal = Wal { magic, ..Wal::new() };
                wal.leave(free);
                wal.aborted(length, enough);
                let at = wal.record(60);
                wal.switch();
                whole(&wal);
                assert_eq!(at % 1024, if at % 4096 < 1024 { 40 } else { 24 });
            }
        }
    }
}

/// One more record, and the second segment reads through both behind the first and alone.
fn goes_on_with_a_record(mut wal: Wal) {
    wal.record(60);
    wal.switch();
    whole(&wal);
    let verdict = wal.segments()[1].check(None);
    assert_eq!((verdict.records, verdict.end), (2, End::Switch));
}

#[test]
fn an_overwritten_record_at_the_segments_start_is_dropped_with_and_without_a_carry() {
    let mut wal = nearly_full(200);
    wal.aborted(500, 1);
    goes_on_with_a_record(wal);
}

#[test]
fn a_tail_may_be_overwritten_too() {
    let mut wal = Wal::new();
    wal.leave(200);
    wal.aborted(9000, 6000);
    goes_on_with_a_record(wal);
}

#[test]
fn the_record_behind_an_overwritten_one_names_the_last_whole_one() {
    let mut wal = Wal::new();
    let before = wal.leave(200);
    let aborted = wal.aborted(500, 1);
    wal.previous = wal.start + aborted as u64;
    let at = wal.record(60);
    wal.switch();
    let (found, expected) = (wal.lsn(aborted), wal.lsn(before));
    assert_eq!(wal.damage(), (at, Damage::Link { found, expected }));
    assert_eq!(wal.stop().unwrap().1.valid, aborted);
}

#[test]
fn an_overwritten_page_goes_on_with_nothing() {
    let mut wal = crossing();
    wal.set(2048 + 2, &9_u16.to_ne_bytes());
    let why = Damage::NothingToContinue { page: wal.lsn(2048), found: 100 };
    assert_eq!(wal.damage(), (2048 + 24, why));
}
