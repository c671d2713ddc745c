//! Formats of compressed data, and what can be wrong with such data, in words. Finding it is left to the decoder.

use std::fmt;

/// A format of compressed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Members, as `gzip` writes them.
    Gzip,
    /// Frames, as `lz4` and `pg_receivewal` write them.
    Lz4,
    /// Frames, as `zstd` writes them.
    Zstd,
}

/// What is wrong with compressed data. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There are none.
    Empty,
    /// They begin like none of the formats.
    Unknown { found: u32 },
    /// This program was built without their format.
    NotBuilt(Format),
    /// They ask for more memory than they are given.
    Window { found: u64, expected: u64 },
    /// The file ends before they do.
    CutShort { found: u64 },
    /// They cannot be decompressed any further, or a checksum is wrong.
    Damaged { format: Format, good: u64 },
    /// Something else follows.
    Trailing { after: u64 },
    /// They decompress to more than they may.
    TooLong { expected: u64 },
}

impl Format {
    /// What begins like this, if it does.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x1F, 0x8B, ..] => Some(Self::Gzip),
            [0x04, 0x22, 0x4D, 0x18, ..] => Some(Self::Lz4),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Fault {
    /// Returns whether this is normal for a file that is still being written.
    #[must_use]
    pub fn is_passing(self) -> bool {
        match self {
            Self::Empty | Self::CutShort { .. } | Self::Unknown { found: 0 } => true,
            Self::Unknown { .. }
            | Self::NotBuilt(_)
            | Self::Window { .. }
            | Self::Damaged { .. }
            | Self::Trailing { .. }
            | Self::TooLong { .. } => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Lz4 => "LZ4",
            Self::Zstd => "Zstandard",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "empty: expected compressed data"),
            Self::Unknown { found } => {
                write!(
                    f,
                    "not compressed: begins with {found:08X}, expected gzip, LZ4 or Zstandard data"
                )
            }
            Self::NotBuilt(format) => {
                write!(f, "this pg_standby was built without {format}")
            }
            Self::Window { found, expected } => write!(
                f,
                "needs too much memory to decompress: found a window of {found} bytes, expected {expected} at most"
            ),
            Self::CutShort { found } => {
                write!(f, "compressed data cut short: found {found} bytes, expected more")
            }
            Self::Damaged { format, good } => {
                write!(f, "damaged {format} data: decompression failed after {good} bytes")
            }
            Self::Trailing { after } => {
                write!(f, "trailing garbage after {after} bytes of compressed data")
            }
            Self::TooLong { expected } => {
                write!(f, "too long: decompresses to more than {expected} bytes")
            }
        }
    }
}
