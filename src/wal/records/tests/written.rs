//! Whatever a server may write, with and without damage.

use super::*;

/// What a server may write.
#[derive(Clone, Debug)]
enum Act {
    Record(usize),
    /// Leaves so many multiples of 8 bytes on the page, where there is room.
    Leave(usize),
    Switch,
    /// Dies within a record of that length, once so much of it is written.
    Die(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (24..200_usize).prop_map(Act::Record),
        2 => (24..20_000_usize).prop_map(Act::Record),
        2 => (0..5_usize).prop_map(Act::Leave),
        1 => Just(Act::Switch),
        2 => (24..20_000_usize, 1..20_000_usize).prop_map(|(length, enough)| Act::Die(length, enough)),
    ]
}

/// WAL to be written.
#[derive(Clone, Debug)]
struct Plan {
    magic: u16,
    block: usize,
    pages: usize,
    acts: Vec<Act>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let magics = proptest::sample::select(vec![0xD087, 0xD097, 0xD110, 0xD118, 0xD120]);
    let acts = proptest::collection::vec(act(), 0..40);
    (magics, 10..14_u32, 1..6_usize, acts).prop_map(|(magic, block, pages, acts)| Plan {
        magic,
        block: 1 << block,
        pages,
        acts,
    })
}

impl Plan {
    fn write(&self) -> Wal {
        let &Self { magic, block, pages, .. } = self;
        let mut wal = Wal { magic, block, segment: block * pages, ..Wal::new() };
        for act in &self.acts {
            wal.page(None);
            let room = block - wal.bytes.len() % block;
            match *act {
                Act::Record(length) => {
                    wal.record(length);
                }
                Act::Leave(words) if room >= 24 + words * 8 => {
                    wal.leave(words * 8);
                }
                Act::Switch => {
                    wal.switch();
                }
                Act::Die(length, enough) if length > enough + block => {
                    wal.aborted(length, enough);
                }
                Act::Leave(_) | Act::Die(..) => {}
            }
        }
        wal.switch();
        wal
    }
}

/// Returns of how many bytes a checksum was computed meanwhile as well.
fn counting<T>(read: impl FnOnce() -> T) -> (T, usize) {
    record::SUMMED.set(0);
    (read(), record::SUMMED.get())
}

proptest! {
    #[test]
    fn whatever_a_server_writes_reads_through(plan in plan()) {
        let wal = plan.write();
        let verdicts = wal.check();
        prop_assert_eq!(wal.stop(), None);
        prop_assert_eq!(verdicts.len(), wal.bytes.len() / wal.segment);
        let records: u64 = verdicts.iter().map(|verdict| verdict.records).sum();
        prop_assert_eq!(records, wal.records.len() as u64);
        let mut carry = None;
        for (segment, verdict) in wal.segments().iter().zip(&verdicts) {
            prop_assert_eq!(segment.check(None).end, verdict.end, "without what went before");
            carry = segment.skim(carry.as_ref());
            prop_assert_eq!(&carry, &verdict.carry);
        }
    }

    #[test]
    fn damage_of_any_byte_that_counts_is_found(
        plan in plan(), at: prop::sample::Index, xor in 1..=255_u8,
    ) {
        let mut wal = plan.write();
        let at = at.index(wal.bytes.len());
        // Damage can make the last record of a segment longer: the next segment tells.
        wal.record(60);
        wal.switch();
        // It can make the first record look like one that was overwritten: the link tells.
        let carry = Carry {
            next: wal.lsn(0),
            timeline: 1,
            previous: Some(Lsn(Wal::new().previous)),
            open: Open::Nothing,
        };
        // Two flags are legal, and without meaning where no record was to go on.
        let flag = at % wal.block == 2 && xor & 0b1111_0011 == 0;
        wal.bytes[at] ^= xor;
        let stop = wal.stop_from(Some(&carry));
        if wal.dropped.iter().any(|dropped| dropped.contains(&at)) || flag {
            return Ok(());
        }
        prop_assert_eq!(stop.is_some(), wal.used[at], "byte {} of a page", at % wal.block);
        if let Some((segment, stop)) = stop {
            let sound = segment * wal.segment + stop.valid;
            prop_assert!(
                sound <= at || at / wal.segment < segment || stop.valid == FIRST,
                "{stop:?} at {at}"
            );
        }
    }

    #[test]
    fn damage_of_any_extent_that_counts_is_found(
        plan in plan(),
        whence in proptest::option::of(any::<prop::sample::Index>()),
        whither: prop::sample::Index,
        extent in prop_oneof![1..64_usize, 1..5000_usize, Just(512), Just(1024), Just(usize::MAX)],
    ) {
        let mut wal = plan.write();
        let length = wal.bytes.len();
        wal.record(60);
        wal.switch();
        let good = wal.clone();
        let carry = Carry {
            next: wal.lsn(0),
            timeline: 1,
            previous: Some(Lsn(Wal::new().previous)),
            open: Open::Nothing,
        };
        // Zeros, or what stands elsewhere.
        let to = whither.index(length);
        let from = whence.map(|whence| whence.index(length));
        let extent = extent.min(length - to.max(from.unwrap_or(0)));
        match from {
            Some(from) => wal.bytes.copy_within(from..from + extent, to),
            None => wal.bytes[to..to + extent].fill(0),
        }
        let differs = |at: usize| wal.bytes[at] ^ good.bytes[at];
        let changed = (to..to + extent).filter(|at| differs(*at) != 0);
        let is_either = |at: usize| {
            let is_flag = at % wal.block == 2 && differs(at) & 0b1111_0011 == 0;
            is_flag || wal.dropped.iter().any(|dropped| dropped.contains(&at))
        };
        let (either, sure): (Vec<_>, Vec<_>) = changed.partition(|at| is_either(*at));
        let counts = sure.iter().any(|at| wal.used[*at]);
        let stop = wal.stop_from(Some(&carry));
        if counts || either.is_empty() {
            prop_assert_eq!(stop.is_some(), counts, "{} bytes at {}: {:?}", extent, to, stop);
        }
        for segment in wal.segments() {
            let _ = segment.skim(Some(&carry));
        }
    }

    #[test]
    fn a_segment_that_comes_in_pieces_reads_like_one_that_comes_at_once(
        plan in plan(), pages in 1..5_usize, at: prop::sample::Index, xor: u8, cut: prop::sample::Index,
    ) {
        let mut wal = plan.write();
        let at = at.index(wal.bytes.len());
        wal.bytes[at] ^= xor;
        wal.bytes.truncate(wal.bytes.len() - cut.index(wal.segment));
        let size = pages * wal.block;
        let mut carry = None;
        for segment in wal.segments() {
            let verdict = segment.check(carry.as_ref());
            prop_assert_eq!(&segment.check_in_pieces(size, carry.as_ref()), &verdict);
            carry = verdict.carry;
        }
    }

    #[test]
    fn any_bytes_are_read_in_linear_time_and_without_a_panic(
        plan in plan(),
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..20),
        bytes in proptest::collection::vec(any::<u8>(), 0..5000),
        length: prop::sample::Index,
    ) {
        let mut wal = plan.write();
        let mut carry = None;
        for (at, value) in noise {
            let at = at.index(wal.bytes.len() - 7);
            wal.set(at, &value.to_ne_bytes());
        }
        for segment in wal.segments() {
            let (verdict, summed) = counting(|| segment.check(carry.as_ref()));
            // Time is linear in the length: no byte is looked at twice, but for steps back that are twice as far each time.
            prop_assert!(summed <= wal.segment, "{summed} bytes");
            let (_, summed) = counting(|| segment.skim(carry.as_ref()));
            prop_assert!(summed <= 3 * wal.segment, "{summed} bytes");
            if let End::Stops(stop) = verdict.end {
                prop_assert!(stop.valid <= wal.segment);
                let _ = stop.why.to_string();
            }
            carry = verdict.carry;
        }
        let _ = wal.part(0, &bytes).check(None);
        let _ = wal.part(0, &wal.bytes[..length.index(wal.bytes.len())]).check(None);
    }
}
