//! History files: where a timeline began. Pure: bytes in, a value out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::name::{Position, SegmentName};

/// Where a timeline branched off from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The address of the switch, as servers from 9.3 on write it.
    Address(u64),
    /// The last segment of the parent, as servers up to 9.2 write it.
    Segment(Position),
}

/// The last line of a history file that is not a comment: parent timeline, place of the switch, reason.
///
/// Source: `readTimeLineHistory` in PostgreSQL's `timeline.c`.
#[must_use]
pub fn beginning(file: &[u8]) -> Option<Beginning> {
    let mut lines = file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let last = lines.rfind(|line| !line.is_empty() && !line.starts_with(b"#"))?;
    let mut words = last.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let place = words.nth(1)?;
    if let Some(segment) = SegmentName::parse(place) {
        return Some(Beginning::Segment(segment.position));
    }
    let (high, low) = OsStr::from_bytes(place).to_str()?.split_once('/')?;
    let half = |digits| u32::from_str_radix(digits, 16).ok().map(u64::from);
    Some(Beginning::Address(half(high)? << 32 | half(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_line_says_where_the_timeline_began() {
        let modern = b"1\t0/3000078\tno recovery target specified\n\n2\t1/A5000000\tbefore\n";
        assert_eq!(beginning(modern), Some(Beginning::Address(0x1_A500_0000)));
        let old = b"# comment\n1\t0000000100000002000000AB\tno recovery target specified\n\n";
        let position = Position { log: 2, segment: 0xAB };
        assert_eq!(beginning(old), Some(Beginning::Segment(position)));
        for nothing in ["", "\n", "# 1\t0/3000078\n", "1\n", "1\tthere\t\n", "1\t0/\t", "1\tG/1\t"]
        {
            assert_eq!(beginning(nothing.as_bytes()), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(file: Vec<u8>, log: u32, low: u32) {
            let _ = beginning(&file);
            let line = format!("\n7 {log:X}/{low:X} ");
            let whole = [&file, line.as_bytes()].concat();
            let address = u64::from(log) << 32 | u64::from(low);
            prop_assert_eq!(beginning(&whole), Some(Beginning::Address(address)));
        }
    }
}
