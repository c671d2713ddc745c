//! Damages to a segment: what disks, copies and people do to files.

use std::fmt;

use crate::random::Random;

pub const SECTOR: usize = 512;

/// Other bytes from an offset on.
pub struct Damage {
    pub at: usize,
    pub bytes: Vec<u8>,
    what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#X}, {} bytes", self.what, self.at, self.bytes.len())
    }
}

/// A damage that is yet to be done.
#[derive(Clone, Copy)]
pub enum Plan {
    Zeros { at: usize, length: usize },
    Bit { at: usize, bit: u8 },
    Random { seed: u64 },
}

impl Plan {
    /// Each piece of that size zeroed, one after the other, or of so many pieces one.
    pub fn zeros(segment: usize, length: usize, one_of: usize) -> impl Iterator<Item = Self> {
        let starts = (0..segment).step_by(length).step_by(one_of.max(1));
        starts.map(move |at| Self::Zeros { at, length })
    }

    /// Each bit of the first bytes, flipped.
    pub fn bits(bytes: usize) -> impl Iterator<Item = Self> {
        (0..bytes).flat_map(|at| (0..8).map(move |bit| Self::Bit { at, bit }))
    }

    /// Does it to a segment whose WAL ends at `end`; `older` is another one.
    pub fn on(self, good: &[u8], older: &[u8], end: usize, block: usize) -> Damage {
        match self {
            Self::Zeros { at, length } => Damage { at, bytes: vec![0; length], what: "zeros" },
            Self::Bit { at, bit } => {
                let bytes = vec![good[at] ^ (1 << bit)];
                Damage { at, bytes, what: "a flipped bit in the first page's header" }
            }
            Self::Random { seed } => random(good, older, end, block, &mut Random::new(seed)),
        }
    }
}

/// Anything, before the end of its WAL for most of them.
fn random(good: &[u8], older: &[u8], end: usize, block: usize, random: &mut Random) -> Damage {
    let end = if random.happens(90) { end } else { good.len() };
    let mut one_of =
        |size: usize, within: usize| random.length_between(0, (within / size).max(1) - 1) * size;
    let (byte, sector, page) = (one_of(1, end), one_of(SECTOR, end), one_of(block, end));
    let (other_sector, other_page) = (one_of(SECTOR, good.len()), one_of(block, good.len()));
    let copy = |what, at: usize, from: &[u8]| Damage { at, bytes: from.to_vec(), what };
    match random.between(0, 13) {
        0..=3 => {
            let bit = 1 << random.between(0, 7);
            Damage { at: byte, bytes: vec![good[byte] ^ bit], what: "a flipped bit" }
        }
        4 => {
            let in_header = page + random.length_between(0, 39);
            let bit = 1 << random.between(0, 7);
            Damage {
                at: in_header,
                bytes: vec![good[in_header] ^ bit],
                what: "a flipped bit in a page's header",
            }
        }
        5 => {
            let length = random.length_between(1, 16).min(good.len() - byte);
            let bytes = (0..length).map(|_| random.between(0, 255).to_le_bytes()[0]).collect();
            Damage { at: byte, bytes, what: "other bytes" }
        }
        6 => copy("another sector", sector, &good[other_sector..other_sector + SECTOR]),
        7 => copy("another segment's sector", sector, &older[sector..sector + SECTOR]),
        8 => copy("another page", page, &good[other_page..other_page + block]),
        9 => copy("another segment's page", page, &older[page..page + block]),
        10 => {
            let (low, high) = (sector.min(other_sector), sector.max(other_sector));
            let mut bytes = good[low..high + SECTOR].to_vec();
            let last = bytes.len() - SECTOR;
            bytes[..SECTOR].copy_from_slice(&good[high..high + SECTOR]);
            bytes[last..].copy_from_slice(&good[low..low + SECTOR]);
            Damage { at: low, bytes, what: "two sectors swapped" }
        }
        11 => Damage { at: sector, bytes: vec![0; good.len() - sector], what: "zeros to the end" },
        12 => copy("an older segment's end", sector, &older[sector..]),
        _ => copy("an older segment's end from within a sector", byte, &older[byte..]),
    }
}
