//! One record of WAL: its length, its checksum, and what was seen of it where it goes on over the edge of a page. Where
//! it stands and what stands around it is the matter of `records`.
//!
//! The layout is that of `XLogRecord` in PostgreSQL's `xlogrecord.h`, 9.5 to 19, in the byte order of the machine.

use super::damage::Damage;
use super::header::Bytes;
use super::lsn::Lsn;

/// Bytes of a record's header.
pub const HEADER_SIZE: u32 = 24;
/// Bytes of the header that the checksum covers, after what follows the header; behind them stands the checksum.
const COVERED: usize = 20;
/// Records begin at multiples of that.
const ALIGNMENT: usize = 8;
/// The most that a server allocates (`MaxAllocSize`), hence the longest record that one can read.
const LONGEST: u32 = 0x3FFF_FFFF;

/// A record's header.
pub type Head = [u8; HEADER_SIZE as usize];

/// A record of which a part was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub start: Lsn,
    length: u32,
    seen: u32,
    /// As much of it as was seen, then zeros.
    header: Head,
    /// Of the bytes behind the header.
    checksum: u32,
}

impl Unfinished {
    /// `part` is what stands on the page where it begins. The checksum is left out unless `checksums`.
    pub fn new(start: Lsn, length: u32, part: &[u8], checksums: bool) -> Self {
        let header = [0; HEADER_SIZE as usize];
        let mut unfinished = Self { start, length, seen: 0, header, checksum: 0 };
        unfinished.take(part, checksums);
        unfinished
    }

    /// Bytes still to come.
    pub fn missing(&self) -> u32 {
        self.length.saturating_sub(self.seen)
    }

    /// Takes its next part. Returns the header where that part completes it.
    pub fn take(&mut self, part: &[u8], checksums: bool) -> Option<Head> {
        let headless = self.seen < HEADER_SIZE;
        let of_header = self.header.get_mut(self.seen as usize..).unwrap_or_default();
        let (head, data) = part.split_at(of_header.len().min(part.len()));
        for (to, from) in of_header.iter_mut().zip(head) {
            *to = *from;
        }
        if checksums {
            self.checksum = checksum(self.checksum, data);
        }
        self.seen = self.seen.saturating_add(length(part));
        (headless && self.seen >= HEADER_SIZE).then_some(self.header)
    }

    /// Its header and the checksum of what follows; for when nothing is missing.
    pub fn whole(&self) -> (&Head, u32) {
        (&self.header, self.checksum)
    }
}

/// What the server holds against a length.
pub fn check_length(length: u32) -> Result<(), Damage> {
    match length {
        found if found < HEADER_SIZE => Err(Damage::RecordTooShort { found }),
        found if found > LONGEST => Err(Damage::RecordTooLong { found }),
        _ => Ok(()),
    }
}

/// `XLOG_SWITCH` of the resource manager 0.
pub fn is_switch(header: &Head) -> bool {
    let [.., info, manager, _, _, _, _, _, _] = *header;
    manager == 0 && info & 0xF0 == 0x40
}

/// Returns whether the last part of a record whose beginning was not seen is that of a switch record. Those are all
/// header, so one can only be cut 8 or 16 bytes in; zeros follow.
pub fn ends_in_switch(part: &[u8], body: &[u8]) -> bool {
    let Some([info, 0, 0, 0, _, _, _, _]) = part.last_chunk() else { return false };
    matches!(part.len(), 8 | 16)
        && info & 0xF0 == 0x40
        && body.get(part.len()..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// Rounds up to where the next record may begin. Pages are a multiple of that, so it stays within a page.
pub fn aligned(length: usize) -> usize {
    length.saturating_add(ALIGNMENT.wrapping_sub(1)) & !ALIGNMENT.wrapping_sub(1)
}

/// A length as records count it.
pub fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The CRC-32C of bytes that follow those which `before` is of.
pub fn checksum(before: u32, bytes: &[u8]) -> u32 {
    #[cfg(test)]
    SUMMED.set(SUMMED.get().saturating_add(bytes.len()));
    crc32c::crc32c_append(before, bytes)
}

#[cfg(test)]
thread_local! {
    /// Bytes that checksums were computed of.
    pub static SUMMED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Holds a record against its checksum; `of_data` is that of what follows its header.
pub fn check_sum(header: &Head, of_data: u32) -> Result<(), Damage> {
    let (covered, found) = header.split_at(COVERED);
    let found = Bytes(found).u32_at(0).unwrap_or_default();
    let expected = checksum(of_data, covered);
    if found == expected { Ok(()) } else { Err(Damage::Checksum { found, expected }) }
}
