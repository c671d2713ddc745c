//! What can be wrong with a segment, as far as its length and the header of its first page show, in words.
//! Finding it is left to [`super::header`].

use std::fmt;

use super::lsn::Lsn;

/// The magic of 8.2, the oldest that is known.
pub const OLDEST_MAGIC: u16 = 0xD05E;
/// The page flag that says that the header is a long one.
pub const LONG_HEADER: u16 = 0x0002;

/// Why a file is not the segment that its name promises. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file is shorter than a header.
    NoHeader { found: u64 },
    /// The first two bytes are not the magic of a WAL page.
    Magic { found: u16 },
    /// The first page has a short header.
    ShortHeader { found: u16 },
    /// The segment size is not a power of two from 1 MB to 1 GB.
    SegmentSize { found: u32 },
    /// The block size is not a power of two from 1 kB to 64 kB.
    BlockSize { found: u32 },
    /// The page belongs somewhere else in WAL; `expected` is `None` where no segment of this size can have the name.
    Lsn { found: Lsn, expected: Option<Lsn> },
    /// The page is of a later timeline than the name, or of none.
    Timeline { found: u32, expected: u32 },
    /// The page was written by another cluster.
    SystemIdentifier { found: u64, expected: u64 },
    /// The file is shorter than its header says.
    TooShort { found: u64, expected: u64 },
    /// The file is longer than its header says.
    TooLong { found: u64, expected: u64 },
}

impl Flaw {
    /// Returns whether this is normal for a file that is still being written.
    #[must_use]
    pub fn is_passing(self) -> bool {
        match self {
            Self::NoHeader { .. }
            | Self::Magic { found: 0 }
            | Self::TooShort { .. }
            | Self::TooLong { .. } => true,
            Self::Magic { .. }
            | Self::ShortHeader { .. }
            | Self::SegmentSize { .. }
            | Self::BlockSize { .. }
            | Self::Lsn { .. }
            | Self::Timeline { .. }
            | Self::SystemIdentifier { .. } => false,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoHeader { found } => {
                write!(f, "too short for a header: found {found} bytes, expected a whole segment")
            }
            Self::Magic { found: 0 } => {
                write!(
                    f,
                    "begins with zeros: found magic 0000, expected {OLDEST_MAGIC:04X} or later"
                )
            }
            Self::Magic { found } => {
                write!(f, "not WAL: found magic {found:04X}, expected {OLDEST_MAGIC:04X} or later")
            }
            Self::ShortHeader { found } => write!(
                f,
                "does not begin like a segment: found page flags {found:04X}, expected {LONG_HEADER:04X} among them"
            ),
            Self::SegmentSize { found } => write!(
                f,
                "damaged header: found segment size {found}, expected a power of two from 1 MB to 1 GB"
            ),
            Self::BlockSize { found } => write!(
                f,
                "damaged header: found block size {found}, expected a power of two from 1 kB to 64 kB"
            ),
            Self::Lsn { found, expected: Some(expected) } => {
                write!(f, "wrong part of WAL: found LSN {found}, expected {expected}")
            }
            Self::Lsn { found, expected: None } => write!(
                f,
                "no segment of its size can have this name: found LSN {found}, expected one in the log file of its name"
            ),
            Self::Timeline { found, expected } => {
                write!(f, "wrong timeline: found {found}, expected {expected} or an earlier one")
            }
            Self::SystemIdentifier { found, expected } => {
                write!(
                    f,
                    "from another cluster: found system identifier {found}, expected {expected}"
                )
            }
            Self::TooShort { found, expected } => {
                write!(f, "too short: found {found} bytes, expected {expected}")
            }
            Self::TooLong { found, expected } => {
                write!(f, "too long: found {found} bytes, expected {expected}")
            }
        }
    }
}
