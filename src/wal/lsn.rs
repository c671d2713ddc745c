//! LSNs: places in the stream of WAL, in bytes from its beginning. Pure.

use std::fmt;

/// A log sequence number, printed the way the server prints it, `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Behind everything.
    pub const MAX: Self = Self(u64::MAX);

    /// The place so many bytes further on. Wraps where no WAL can be.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u64))
    }

    /// Reads what the server prints: two hexadecimal numbers with a slash between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let half = |digits| u32::from_str_radix(digits, 16).ok().map(u64::from);
        Some(Self(half(high)? << 32 | half(low)?))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let lsn = Lsn(0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(Lsn::parse("16/B374D848"), Some(lsn));
        assert_eq!(Lsn(u64::MAX).plus(1), Lsn(0));
        for other in ["", "/", "16", "16/", "/B374D848", "G/0", "1/2/3", "1/100000000"] {
            assert_eq!(Lsn::parse(other), None, "{other:?}");
        }
    }
}
