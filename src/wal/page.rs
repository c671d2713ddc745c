//! A page of WAL: bytes to a checked header and the body behind it, or to the damage that ends reading there. What
//! the body holds is the matter of `records`.
//!
//! The rules are those of the server's own reader, `xlogreader.c` with `xlog_internal.h`, 9.5 to 19.

use super::damage::{Damage, LongField};
use super::header::{Bytes, Header};
use super::lsn::Lsn;

const OLDEST: u16 = 0xD087; // 9.5, the first with a CRC-32C over records laid out like this
const NEWEST: u16 = 0xD121; // 19 beta
const FIRST_WITH_21: u16 = 0xD093; // 9.6 added the resource managers 20 and 21
const FIRST_WITH_CUSTOM: u16 = 0xD110; // 15 lets extensions have 128 and later
const NEW_FLAGS: u16 = 0xD11C; // 19, while it was being developed
const LAST_WITH_KNOWN_MANAGERS: u16 = 0xD118; // 18

const CONTINUATION: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;

const SHORT_SIZE: usize = 24;
const LONG_SIZE: usize = 40;

/// The layout of a segment, as its first page tells.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    magic: u16,
    /// Bytes of a page.
    pub block_size: u32,
    /// Bytes of a segment.
    pub segment_size: u32,
    system_identifier: u64,
}

impl Format {
    /// Returns the layout of a segment with that header; `None` where its records are laid out in a way not known
    /// here: before 9.5, or later than the last release known.
    pub fn of(header: &Header) -> Option<Self> {
        is_known(header.magic).then_some(Self {
            magic: header.magic,
            block_size: header.block_size,
            segment_size: header.numbering.segment_size,
            system_identifier: header.system_identifier,
        })
    }

    /// The flag of a page where a record was to go on and never will. It came with minor releases (13.5, 14.1 and
    /// their like), so the magic does not tell which of two servers wrote the page: it is taken from both.
    fn overwritten(self) -> u16 {
        if self.magic < NEW_FLAGS { 0x0008 } else { 0x0004 }
    }

    fn flags(self) -> u16 {
        if self.magic < NEW_FLAGS { 0x000F } else { 0x0007 }
    }

    /// Returns whether a server of that magic has the resource manager.
    pub fn has_manager(self, id: u8) -> bool {
        if self.magic > LAST_WITH_KNOWN_MANAGERS {
            return true;
        }
        let last = if self.magic < FIRST_WITH_21 { 19 } else { 21 };
        id <= last || (self.magic >= FIRST_WITH_CUSTOM && id >= 128)
    }
}

fn is_known(magic: u16) -> bool {
    (OLDEST..=NEWEST).contains(&magic)
}

/// Returns which magic a segment's first page should have, where that is not the one it has. All pages of a cluster have
/// one (`XLOG_PAGE_MAGIC` in `xlog_internal.h`): `before` is that of the segment before. Without it, the next page is
/// asked: if that is of a known release and this one is of none, this one is damaged.
pub fn other_magic(bytes: &[u8], header: &Header, before: Option<u16>) -> Option<u16> {
    let next_page = || Bytes(bytes.get(header.block_size as usize..)?).u16_at(0);
    let known = || next_page().filter(|next| !is_known(header.magic) && is_known(*next));
    before.or_else(known).filter(|expected| *expected != header.magic)
}

/// A page whose header is right.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    pub timeline: u32,
    /// What is left of the record that goes on here, over this page and later ones.
    pub remaining: u32,
    /// Whether it says that it begins with the rest of a record.
    pub continues: bool,
    /// Whether it says that the record that was to go on here never will.
    pub overwritten: bool,
    /// Bytes of its header.
    pub header_size: usize,
    /// What stands behind the header.
    pub body: &'a [u8],
}

impl<'a> Page<'a> {
    /// Bytes of it that there are.
    pub fn length(&self) -> usize {
        self.header_size.saturating_add(self.body.len())
    }

    /// Reads the page that stands `offset` bytes into its segment, at `address`.
    ///
    /// # Errors
    /// What the server would find wrong with the header, in the order in which it looks.
    pub fn read(
        format: Format,
        bytes: &'a [u8],
        address: Lsn,
        offset: usize,
    ) -> Result<Self, Damage> {
        Self::checked(format, bytes, address, offset).unwrap_or(Err(Damage::Short {
            found: (offset as u64).saturating_add(bytes.len() as u64),
            expected: u64::from(format.segment_size),
        }))
    }

    /// `None` where there are not even the bytes of a header.
    fn checked(
        format: Format,
        bytes: &'a [u8],
        page: Lsn,
        offset: usize,
    ) -> Option<Result<Self, Damage>> {
        let fields = Bytes(bytes);
        let magic = fields.u16_at(0)?;
        let info = fields.u16_at(2)?;
        let timeline = fields.u32_at(4)?;
        let found = Lsn(fields.u64_at(8)?);
        let remaining = fields.u32_at(16)?;
        let long = info & LONG_HEADER != 0;
        let header_size = if long { LONG_SIZE } else { SHORT_SIZE };
        let body = bytes.get(header_size..)?;
        if magic != format.magic {
            if bytes.iter().all(|byte| *byte == 0) {
                return Some(Err(Damage::Zeros { page }));
            }
            return Some(Err(Damage::Magic { page, found: magic, expected: format.magic }));
        }
        if info & !format.flags() != 0 {
            return Some(Err(Damage::Flags { page, found: info }));
        }
        if long {
            let of_both = [
                (LongField::SystemIdentifier, fields.u64_at(24)?, format.system_identifier),
                (LongField::SegmentSize, fields.u32_at(32)?.into(), format.segment_size.into()),
                (LongField::BlockSize, fields.u32_at(36)?.into(), format.block_size.into()),
            ];
            for (field, found, expected) in of_both {
                if found != expected {
                    return Some(Err(Damage::LongHeader { page, field, found, expected }));
                }
            }
        } else if offset == 0 {
            return Some(Err(Damage::ShortHeader { page }));
        }
        if found != page {
            return Some(Err(Damage::Address { page, found }));
        }
        let continues = info & CONTINUATION != 0;
        let overwritten = info & format.overwritten() != 0;
        Some(Ok(Self { timeline, remaining, continues, overwritten, header_size, body }))
    }
}
