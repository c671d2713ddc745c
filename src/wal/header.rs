//! The header of a segment's first page: bytes to a checked value, or to the flaw that the file has.
//! Pure: where the bytes come from, and what follows from a flaw, is decided elsewhere.
//!
//! The layouts are those of `XLogLongPageHeaderData` in PostgreSQL's `xlog_internal.h`, 8.2 to 19, in the byte
//! order of the machine.

use super::flaw::{Flaw, LONG_HEADER, OLDEST_MAGIC};
use super::lsn::Lsn;
use super::name::{Numbering, SegmentName};

/// Bytes to read from the start of a segment; the longest header there is.
pub const HEADER_SIZE: usize = 40;

const FIRST_MODERN_MAGIC: u16 = 0xD075; // 9.3
const SEGMENT_SIZES: std::ops::RangeInclusive<u32> = 1 << 20..=1 << 30;
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 16;

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The layout of WAL, which each release writes in its own.
    pub magic: u16,
    /// The timeline of the first record, which may be earlier than the one in the file's name.
    pub timeline: u32,
    /// The LSN of the page.
    pub lsn: Lsn,
    /// The cluster that wrote it.
    pub system_identifier: u64,
    /// Segment size and numbering of the server that wrote it.
    pub numbering: Numbering,
    /// Size of a page, in bytes.
    pub block_size: u32,
}

impl Header {
    /// Reads the header from the first bytes of a segment.
    ///
    /// # Errors
    /// The first [`Flaw`] that the bytes alone show.
    pub fn parse(page: &[u8]) -> Result<Self, Flaw> {
        let page = Bytes(page);
        let no_header = Flaw::NoHeader { found: page.0.len().try_into().unwrap_or(u64::MAX) };
        let magic = page.u16_at(0).ok_or(no_header)?;
        if magic < OLDEST_MAGIC {
            return Err(Flaw::Magic { found: magic });
        }
        let is_modern = magic >= FIRST_MODERN_MAGIC;
        let fields = if is_modern { page.modern_fields() } else { page.old_fields() };
        let Fields { flags, timeline, lsn, system_identifier, segment_size, block_size } =
            fields.ok_or(no_header)?;
        if flags & LONG_HEADER == 0 {
            return Err(Flaw::ShortHeader { found: flags });
        }
        if !segment_size.is_power_of_two() || !SEGMENT_SIZES.contains(&segment_size) {
            return Err(Flaw::SegmentSize { found: segment_size });
        }
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
            return Err(Flaw::BlockSize { found: block_size });
        }
        let numbering = Numbering { segment_size, skips_last: !is_modern };
        Ok(Self { magic, timeline, lsn, system_identifier, numbering, block_size })
    }

    /// Checks the header against the file's name and length, and against the standby's own system identifier if that is
    /// known.
    ///
    /// # Errors
    /// The first [`Flaw`] found.
    pub fn check(
        &self,
        name: SegmentName,
        length: u64,
        system_identifier: Option<u64>,
    ) -> Result<(), Flaw> {
        match system_identifier {
            Some(expected) if expected != self.system_identifier => {
                return Err(Flaw::SystemIdentifier { found: self.system_identifier, expected });
            }
            _ => {}
        }
        let expected = self.numbering.lsn(name.position);
        if expected != Some(self.lsn) {
            return Err(Flaw::Lsn { found: self.lsn, expected });
        }
        if self.timeline == 0 || self.timeline > name.timeline {
            return Err(Flaw::Timeline { found: self.timeline, expected: name.timeline });
        }
        let expected = u64::from(self.numbering.segment_size);
        match length {
            found if found < expected => Err(Flaw::TooShort { found, expected }),
            found if found > expected => Err(Flaw::TooLong { found, expected }),
            _ => Ok(()),
        }
    }
}

/// A long header, field by field.
struct Fields {
    flags: u16,
    timeline: u32,
    lsn: Lsn,
    system_identifier: u64,
    segment_size: u32,
    block_size: u32,
}

/// The first bytes of a page, in the byte order of the machine.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    /// From 9.3 on.
    fn modern_fields(&self) -> Option<Fields> {
        Some(Fields {
            flags: self.u16_at(2)?,
            timeline: self.u32_at(4)?,
            lsn: Lsn(self.u64_at(8)?),
            system_identifier: self.u64_at(24)?,
            segment_size: self.u32_at(32)?,
            block_size: self.u32_at(36)?,
        })
    }

    /// 8.2 to 9.2: the LSN is two halves, and nothing stands before the system identifier.
    fn old_fields(&self) -> Option<Fields> {
        Some(Fields {
            flags: self.u16_at(2)?,
            timeline: self.u32_at(4)?,
            lsn: Lsn(u64::from(self.u32_at(8)?) << 32 | u64::from(self.u32_at(12)?)),
            system_identifier: self.u64_at(16)?,
            segment_size: self.u32_at(24)?,
            block_size: self.u32_at(28)?,
        })
    }

    pub(super) fn u16_at(&self, offset: usize) -> Option<u16> {
        self.0.get(offset..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    pub(super) fn u32_at(&self, offset: usize) -> Option<u32> {
        self.0.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    pub(super) fn u64_at(&self, offset: usize) -> Option<u64> {
        self.0.get(offset..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use crate::wal::name::Position;
    use proptest::prelude::*;

    const SYSTEM: u64 = 7_000_000_000_000_000_001;
    const MB: u32 = 1 << 20;
    /// Every release that wrote a magic of its own, and some of the one that is being made.
    const MAGICS: [(&str, u16); 22] = [
        ("8.2", 0xD05E),
        ("8.3", 0xD062),
        ("8.4", 0xD063),
        ("9.0", 0xD064),
        ("9.1", 0xD066),
        ("9.2", 0xD071),
        ("9.3", 0xD075),
        ("9.4", 0xD07E),
        ("9.5", 0xD087),
        ("9.6", 0xD093),
        ("10", 0xD097),
        ("11", 0xD098),
        ("12", 0xD101),
        ("13", 0xD106),
        ("14", 0xD10D),
        ("15", 0xD110),
        ("16", 0xD113),
        ("17", 0xD116),
        ("18", 0xD118),
        ("19, first", 0xD119),
        ("19, flags changed", 0xD11C),
        ("19 beta", 0xD121),
    ];

    struct Page {
        magic: u16,
        info: u16,
        timeline: u32,
        log: u32,
        offset: u32,
        segment_size: u32,
        block_size: u32,
    }

    impl Page {
        fn of(magic: u16) -> Self {
            let (segment_size, block_size) = (16 * MB, 8192);
            Self { magic, info: 2, timeline: 1, log: 2, offset: 3 << 24, segment_size, block_size }
        }

        fn bytes(&self) -> Vec<u8> {
            let mut page = Vec::new();
            page.extend(self.magic.to_ne_bytes());
            page.extend(self.info.to_ne_bytes());
            page.extend(self.timeline.to_ne_bytes());
            if self.magic < 0xD075 {
                page.extend(self.log.to_ne_bytes());
                page.extend(self.offset.to_ne_bytes());
            } else {
                page.extend((u64::from(self.log) << 32 | u64::from(self.offset)).to_ne_bytes());
                page.extend([0; 8]);
            }
            page.extend(SYSTEM.to_ne_bytes());
            page.extend(self.segment_size.to_ne_bytes());
            page.extend(self.block_size.to_ne_bytes());
            page
        }

        fn parse(&self) -> Result<Header, Flaw> {
            Header::parse(&self.bytes())
        }
    }

    fn name(timeline: u32) -> SegmentName {
        SegmentName { timeline, position: Position { log: 2, segment: 3 } }
    }

    #[test]
    fn every_release_from_8_2_to_19_is_read() {
        for (release, magic) in MAGICS {
            let header = Page::of(magic).parse().unwrap_or_else(|flaw| panic!("{release}: {flaw}"));
            let numbering = Numbering { segment_size: 16 * MB, skips_last: magic < 0xD075 };
            let (timeline, lsn) = (1, Lsn(2 << 32 | 3 << 24));
            assert_eq!(
                header,
                Header {
                    magic,
                    timeline,
                    lsn,
                    system_identifier: SYSTEM,
                    numbering,
                    block_size: 8192
                },
                "{release}"
            );
            assert_eq!(header.check(name(1), 16 << 20, Some(SYSTEM)), Ok(()), "{release}");
        }
    }

    #[test]
    fn a_magic_newer_than_any_known_has_the_newest_layout() {
        let header = Page::of(0xD1FF).parse().unwrap();
        assert_eq!(header.check(name(1), 16 << 20, Some(SYSTEM)), Ok(()));
    }

    #[test]
    fn other_flags_beside_the_long_header_are_fine() {
        for info in [6, 7] {
            assert!(Page { info, ..Page::of(0xD110) }.parse().is_ok());
        }
    }

    #[test]
    fn each_field_out_of_range_is_named() {
        let page = || Page::of(0xD110);
        assert_eq!(Header::parse(&[0; 8192]), Err(Flaw::Magic { found: 0 }));
        assert_eq!(Page { magic: 0xD05D, ..page() }.parse(), Err(Flaw::Magic { found: 0xD05D }));
        assert_eq!(Page { info: 5, ..page() }.parse(), Err(Flaw::ShortHeader { found: 5 }));
        for found in [0, 12345, 1 << 19, 1 << 31] {
            let flaw = Page { segment_size: found, ..page() }.parse();
            assert_eq!(flaw, Err(Flaw::SegmentSize { found }));
        }
        for found in [0, 512, 8191, 1 << 17] {
            let flaw = Page { block_size: found, ..page() }.parse();
            assert_eq!(flaw, Err(Flaw::BlockSize { found }));
        }
        let whole = page().bytes();
        for length in 0..whole.len() {
            let found = length as u64;
            assert_eq!(Header::parse(&whole[..length]), Err(Flaw::NoHeader { found }));
        }
    }

    #[test]
    fn a_header_is_held_against_name_length_and_cluster() {
        let header = Page::of(0xD110).parse().unwrap();
        let size = 16 << 20;
        let check = |name, length| header.check(name, length, None);
        assert_eq!(check(name(1), size), Ok(()));
        assert_eq!(check(name(7), size), Ok(()), "an earlier timeline in the header is fine");
        assert_eq!(
            check(name(1), size - 1),
            Err(Flaw::TooShort { found: size - 1, expected: size })
        );
        assert_eq!(
            check(name(1), size + 1),
            Err(Flaw::TooLong { found: size + 1, expected: size })
        );
        let elsewhere = SegmentName { timeline: 1, position: Position { log: 2, segment: 4 } };
        assert_eq!(
            check(elsewhere, size),
            Err(Flaw::Lsn {
                found: Lsn(2 << 32 | 3 << 24),
                expected: Some(Lsn(2 << 32 | 4 << 24))
            })
        );
        assert_eq!(
            header.check(name(1), size, Some(42)),
            Err(Flaw::SystemIdentifier { found: SYSTEM, expected: 42 })
        );
        let later = Page { timeline: 2, ..Page::of(0xD110) }.parse().unwrap();
        assert_eq!(later.check(name(1), size, None), Err(Flaw::Timeline { found: 2, expected: 1 }));
        let none = Page { timeline: 0, ..Page::of(0xD110) }.parse().unwrap();
        assert_eq!(none.check(name(1), size, None), Err(Flaw::Timeline { found: 0, expected: 1 }));
    }

    #[test]
    fn an_lsn_that_wraps_into_the_next_log_file_is_not_taken() {
        let page = Page { log: 3, offset: 0, ..Page::of(0xD110) };
        let beyond = SegmentName { timeline: 1, position: Position { log: 2, segment: 256 } };
        assert_eq!(
            page.parse().unwrap().check(beyond, 16 << 20, None),
            Err(Flaw::Lsn { found: Lsn(3 << 32), expected: None })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            magic in proptest::option::of(0xD05E..0xD200_u16),
            mut page in proptest::collection::vec(any::<u8>(), 0..64),
            timeline: u32, log: u32, segment: u32, length: u64, system: Option<u64>,
        ) {
            if let (Some(magic), Some(start)) = (magic, page.first_chunk_mut()) {
                *start = magic.to_ne_bytes();
            }
            if let Ok(header) = Header::parse(&page) {
                let name = SegmentName { timeline, position: Position { log, segment } };
                if header.check(name, length, system).is_ok() {
                    prop_assert_eq!(length, u64::from(header.numbering.segment_size));
                    prop_assert_eq!(header.numbering.lsn(name.position), Some(header.lsn));
                }
            }
        }
    }
}
