//! History files: the ancestors of a timeline, and where each was left. Pure: bytes in, values out.

use std::fmt;
use std::str;

use super::lsn::Lsn;
use super::name::{Numbering, Position, SegmentName};

/// A timeline that another one descends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The timeline.
    pub timeline: u32,
    /// Where the next one branched off from it.
    pub left_at: Switch,
}

/// The place where a timeline branched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// As servers from 9.3 on write it.
    Lsn(Lsn),
    /// The last segment of the parent, as servers up to 9.2 write it.
    Segment(Position),
}

impl Switch {
    /// Returns whether the branch comes after the whole segment at `position`; `None` where no segment can have the
    /// position.
    #[must_use]
    pub fn comes_after(self, position: Position, numbering: Numbering) -> Option<bool> {
        match self {
            Self::Lsn(switch) => Some(numbering.end(position)? <= switch),
            Self::Segment(last) => Some(position < last),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lsn(lsn) => lsn.fmt(f),
            Self::Segment(Position { log, segment }) => {
                write!(f, "segment {segment:X} of log file {log:X}")
            }
        }
    }
}

/// Returns the ancestors in a history file, oldest first: each line that is not a comment has a timeline, the place
/// where it was left, and a reason. Other lines are skipped.
///
/// Source: `readTimeLineHistory` in PostgreSQL's `timeline.c`.
pub fn ancestors(file: &[u8]) -> impl DoubleEndedIterator<Item = Ancestor> + '_ {
    file.split(|byte| *byte == b'\n').filter_map(ancestor)
}

/// Returns whether a history file is complete: servers end each line with a newline.
#[must_use]
pub fn is_whole(file: &[u8]) -> bool {
    file.ends_with(b"\n")
}

fn ancestor(line: &[u8]) -> Option<Ancestor> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let timeline = str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let place = words.next()?;
    let left_at = match SegmentName::parse(place) {
        Some(segment) => Switch::Segment(segment.position),
        None => Switch::Lsn(Lsn::parse(str::from_utf8(place).ok()?)?),
    };
    Some(Ancestor { timeline, left_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn last(file: &[u8]) -> Option<Ancestor> {
        ancestors(file).next_back()
    }

    #[test]
    fn each_line_says_where_a_timeline_was_left() {
        let modern = b"1\t0/3000078\tno recovery target specified\n\n2\t1/A5000000\tbefore\n";
        let found: Vec<_> = ancestors(modern).collect();
        let at = |timeline, lsn| Ancestor { timeline, left_at: Switch::Lsn(Lsn(lsn)) };
        assert_eq!(found, [at(1, 0x300_0078), at(2, 0x1_A500_0000)]);
        let old = b"# comment\n1\t0000000100000002000000AB\tno recovery target specified\n\n";
        let left_at = Switch::Segment(Position { log: 2, segment: 0xAB });
        assert_eq!(last(old), Some(Ancestor { timeline: 1, left_at }));
        for nothing in
            ["", "\n", "# 1\t0/3000078\n", "1\n", "1\tthere\t\n", "1\t0/\t", "1\tG/1\t", "x\t0/1\t"]
        {
            assert_eq!(last(nothing.as_bytes()), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_segment_precedes_a_branch_only_as_a_whole() {
        let numbering = Numbering { segment_size: 1 << 24, skips_last: false };
        let at = |segment| Position { log: 0, segment };
        let comes_after = |switch: Switch, segment| switch.comes_after(at(segment), numbering);
        for (lsn, precedes) in [(0x400_0000, true), (0x3FF_FFFF, false), (0x400_0001, true)] {
            assert_eq!(comes_after(Switch::Lsn(Lsn(lsn)), 3), Some(precedes), "{lsn:X}");
        }
        assert_eq!(comes_after(Switch::Segment(at(3)), 2), Some(true));
        assert_eq!(comes_after(Switch::Segment(at(3)), 3), Some(false));
        assert_eq!(comes_after(Switch::Lsn(Lsn(0)), 0x100), None);
    }

    #[test]
    fn a_history_file_that_is_cut_short_is_not_whole() {
        let whole = b"1\t0/3000078\tno recovery target specified\n";
        assert!(is_whole(whole));
        for length in 0..whole.len() {
            assert!(!is_whole(&whole[..length]), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(file: Vec<u8>, timeline: u32, log: u32, low: u32) {
            prop_assert!(ancestors(&file).count() <= file.len());
            let line = format!("\n{timeline} {log:X}/{low:X} ");
            let whole = [&file, line.as_bytes()].concat();
            let left_at = Switch::Lsn(Lsn(u64::from(log) << 32 | u64::from(low)));
            prop_assert_eq!(last(&whole), Some(Ancestor { timeline, left_at }));
        }
    }
}
