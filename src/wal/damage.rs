//! What can be wrong with the records of a segment, in words: found against expected. Finding it is the matter of
//! `records` and `page`.

use std::fmt;

use super::lsn::Lsn;

/// Why a server cannot read on. Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The bytes given end before the segment does.
    Short { found: u64, expected: u64 },
    /// A page of nothing but zeros.
    Zeros { page: Lsn },
    /// The page does not begin with the magic of the segment's first page.
    Magic { page: Lsn, found: u16, expected: u16 },
    /// The page has flags that no page has.
    Flags { page: Lsn, found: u16 },
    /// The segment's first page has a short header.
    ShortHeader { page: Lsn },
    /// A long header, and not that of the segment's first page.
    LongHeader { page: Lsn, field: LongField, found: u64, expected: u64 },
    /// The page is of another place in WAL.
    Address { page: Lsn, found: Lsn },
    /// The page is of an earlier timeline than one before it.
    EarlierTimeline { page: Lsn, found: u32, before: u32 },
    /// The page is of a later timeline than the segment. The server itself only complains at the page after it.
    LaterTimeline { page: Lsn, found: u32, expected: u32 },
    /// The record goes on at the page, but the page does not say so.
    NotContinued { page: Lsn },
    /// The page says that more or less of the record is left than there is.
    RemainingLength { page: Lsn, found: u32, expected: u32 },
    /// The page begins with the rest of a record, but there is none to go on with.
    NothingToContinue { page: Lsn, found: u32 },
    /// No record is so short.
    RecordTooShort { found: u32 },
    /// No server can hold a record of that length.
    RecordTooLong { found: u32 },
    /// The record is of a kind that its server does not have.
    ResourceManager { found: u8 },
    /// The record names another one as the one before it.
    Link { found: Lsn, expected: Lsn },
    /// The record names one as before it that is not.
    LinkAhead { found: Lsn },
    /// The record's checksum is not that of its bytes.
    Checksum { found: u32, expected: u32 },
}

/// What stands in a long page header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongField {
    SystemIdentifier,
    SegmentSize,
    BlockSize,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short { found, expected } => {
                write!(f, "the file ends there: found {found} bytes, expected {expected}")
            }
            Self::Zeros { page } => write!(f, "the page at {page} is all zeros"),
            Self::Magic { page, found: 0, expected } => write!(
                f,
                "the page at {page} begins with zeros: found magic 0000, expected {expected:04X}"
            ),
            Self::Magic { page, found, expected } => write!(
                f,
                "the page at {page} is no page of this WAL: found magic {found:04X}, expected {expected:04X}"
            ),
            Self::Flags { page, found } => {
                write!(f, "the page at {page} has flags that do not exist: found {found:04X}")
            }
            Self::ShortHeader { page } => {
                write!(f, "the page at {page} does not begin like a segment: it has a short header")
            }
            Self::LongHeader { page, field, found, expected } => write!(
                f,
                "the page at {page} is of another cluster: found {field} {found}, expected {expected}"
            ),
            Self::Address { page, found } => write!(
                f,
                "the page at {page} is another part of WAL: found LSN {found}, expected {page}"
            ),
            Self::EarlierTimeline { page, found, before } => write!(
                f,
                "the page at {page} goes back to an earlier timeline: found {found}, expected {before} or later"
            ),
            Self::LaterTimeline { page, found, expected } => write!(
                f,
                "the page at {page} is of a later timeline than the segment: found {found}, expected {expected} or earlier"
            ),
            Self::NotContinued { page } => {
                write!(f, "the record is cut off: the page at {page} does not go on with it")
            }
            Self::RemainingLength { page, found, expected } => write!(
                f,
                "the page at {page} goes on with another record: found {found} bytes left of it, expected {expected}"
            ),
            Self::NothingToContinue { page, found } => write!(
                f,
                "the page at {page} begins with the last {found} bytes of a record, but no record is unfinished there"
            ),
            Self::RecordTooShort { found: 0 } => {
                write!(f, "no record begins there: found length 0, expected 24 or more")
            }
            Self::RecordTooShort { found } => {
                write!(f, "record length is wrong: found {found}, expected 24 or more")
            }
            Self::RecordTooLong { found } => {
                write!(f, "record length is wrong: found {found}, expected less than 1 GB")
            }
            Self::ResourceManager { found } => {
                write!(
                    f,
                    "the record is of a kind that does not exist: found resource manager {found}"
                )
            }
            Self::Link { found, expected } => write!(
                f,
                "the record's link to the one before is wrong: found {found}, expected {expected}"
            ),
            Self::LinkAhead { found } => write!(
                f,
                "the record's link to the one before is wrong: found {found}, expected an earlier place"
            ),
            Self::Checksum { found, expected } => write!(
                f,
                "record checksum does not match: found {found:08X}, expected {expected:08X}"
            ),
        }
    }
}

impl fmt::Display for LongField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemIdentifier => "system identifier",
            Self::SegmentSize => "segment size",
            Self::BlockSize => "block size",
        })
    }
}
