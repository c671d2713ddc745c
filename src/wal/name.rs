//! Names of WAL files: which names there are, how they are ordered, and the arithmetic of segments.
//! Pure: whether a file of that name exists is not known here.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::lsn::Lsn;

/// Where a segment stands in the stream of WAL, whatever its timeline: characters 9 to 24 of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The log file, characters 9 to 16.
    pub log: u32,
    /// The segment within the log file, characters 17 to 24.
    pub segment: u32,
}

impl Position {
    /// What servers pass for `%r` while there is no restart point: all zeros.
    pub const ZERO: Self = Self { log: 0, segment: 0 };
}

/// The name of a segment: timeline and position, 24 hexadecimal digits in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// The timeline, characters 1 to 8.
    pub timeline: u32,
    /// Everything else.
    pub position: Position,
}

impl SegmentName {
    /// Reads exactly 24 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let (timeline, position) = name.split_at_checked(8)?;
        let (log, segment) = position.split_at_checked(8)?;
        Some(Self {
            timeline: hexadecimal(timeline)?,
            position: Position { log: hexadecimal(log)?, segment: hexadecimal(segment)? },
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.position.log, self.position.segment)
    }
}

/// The four kinds of file that an archive of WAL holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalName {
    /// A whole segment.
    Segment(SegmentName),
    /// `TIMELINE.history`: where a timeline branched off.
    History(u32),
    /// `SEGMENT.OFFSET.backup`: where a base backup began and ended.
    BackupHistory(SegmentName, u32),
    /// `SEGMENT.partial`: the beginning of a segment, left by a promotion or by `pg_receivewal`.
    Partial(SegmentName),
}

impl WalName {
    /// Reads a name; anything but the exact forms is `None`.
    ///
    /// Source: `IsXLogFileName` and its neighbours in PostgreSQL's `xlog_internal.h`.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<Self> {
        let name = name.as_bytes();
        if let Some(timeline) = name.strip_suffix(b".history") {
            return hexadecimal(timeline).map(Self::History);
        }
        if let Some(segment) = name.strip_suffix(b".partial") {
            return SegmentName::parse(segment).map(Self::Partial);
        }
        if let Some(backup) = name.strip_suffix(b".backup") {
            let (segment, offset) = backup.split_at_checked(24)?;
            let offset = hexadecimal(offset.strip_prefix(b".")?)?;
            return Some(Self::BackupHistory(SegmentName::parse(segment)?, offset));
        }
        SegmentName::parse(name).map(Self::Segment)
    }
}

/// Suffixes of the compressed forms that an archive may hold instead of a file.
const COMPRESSED: [&str; 3] = [".gz", ".lz4", ".zst"];

impl WalName {
    /// The names of its compressed forms. Those of a partial segment are as `pg_receivewal` writes them.
    pub fn compressed(self) -> impl Iterator<Item = String> {
        COMPRESSED.iter().map(move |suffix| match self {
            Self::Partial(segment) => format!("{segment}{suffix}.partial"),
            Self::Segment(_) | Self::History(_) | Self::BackupHistory(..) => {
                format!("{self}{suffix}")
            }
        })
    }

    /// Reads the name of a file or of a compressed form of it.
    #[must_use]
    pub fn of_any_form(name: &OsStr) -> Option<Self> {
        let decompressed = |name: &[u8]| {
            let stem = COMPRESSED.iter().find_map(|suffix| name.strip_suffix(suffix.as_bytes()))?;
            Self::parse(OsStr::from_bytes(stem))
        };
        let name = name.as_bytes();
        let received = || decompressed(name.strip_suffix(b".partial")?)?.partial();
        Self::parse(OsStr::from_bytes(name)).or_else(|| decompressed(name)).or_else(received)
    }

    /// The name that a segment has while it is being received.
    #[must_use]
    pub fn partial(self) -> Option<Self> {
        match self {
            Self::Segment(segment) => Some(Self::Partial(segment)),
            Self::History(_) | Self::BackupHistory(..) | Self::Partial(_) => None,
        }
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::History(timeline) => write!(f, "{timeline:08X}.history"),
            Self::BackupHistory(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
        }
    }
}

/// How a cluster numbers its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Bytes in a segment, a power of two from 1 MB to 1 GB.
    pub segment_size: u32,
    /// Up to 9.2 the last segment of each log file does not exist.
    pub skips_last: bool,
}

impl Numbering {
    /// Every segment size that there is, in the numbering of 9.3 and later.
    pub fn every_size() -> impl Iterator<Item = Self> {
        (20..=30).map(|power| Self { segment_size: 1 << power, skips_last: false })
    }

    /// Segments in one log file: 256 of 16 MB, or 255 up to 9.2.
    #[must_use]
    pub fn segments_per_log(self) -> u64 {
        let log_file = if self.skips_last { u64::from(u32::MAX) } else { 1 << 32 };
        log_file.checked_div(u64::from(self.segment_size)).unwrap_or(0)
    }

    /// The LSN of a segment's first byte; `None` where no segment of this size has that position.
    #[must_use]
    pub fn lsn(self, position: Position) -> Option<Lsn> {
        if u64::from(position.segment) >= self.segments_per_log() {
            return None;
        }
        let offset = u64::from(position.segment).checked_mul(u64::from(self.segment_size))?;
        (u64::from(position.log) << 32).checked_add(offset).map(Lsn)
    }

    /// The LSN that follows a segment's last byte; `None` where no segment of this size has that position.
    #[must_use]
    pub fn end(self, position: Position) -> Option<Lsn> {
        self.lsn(position)?.0.checked_add(self.segment_size.into()).map(Lsn)
    }

    /// The position `count` segments earlier; `None` where WAL began later than that.
    #[must_use]
    pub fn before(self, position: Position, count: u64) -> Option<Position> {
        self.position(self.count_to(position)?.checked_sub(count)?)
    }

    /// The position of the next segment; `None` where no name has it.
    #[must_use]
    pub fn after(self, position: Position) -> Option<Position> {
        self.position(self.count_to(position)?.checked_add(1)?)
    }

    /// How many segments precede a position; `None` where no number is large enough.
    #[must_use]
    pub fn count_to(self, position: Position) -> Option<u64> {
        let whole = u64::from(position.log).checked_mul(self.segments_per_log())?;
        whole.checked_add(u64::from(position.segment))
    }

    /// The position that so many segments precede; `None` where no name has it.
    #[must_use]
    pub fn position(self, count: u64) -> Option<Position> {
        let per_log = self.segments_per_log();
        Some(Position {
            log: u32::try_from(count.checked_div(per_log)?).ok()?,
            segment: u32::try_from(count.checked_rem(per_log)?).ok()?,
        })
    }
}

/// Eight upper-case hexadecimal digits; the standard library's parser would take lower case and a sign.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if digits.len() != 8 {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit.wrapping_sub(b'0'),
            b'A'..=b'F' => digit.wrapping_sub(b'A').wrapping_add(10),
            _ => return None,
        };
        Some(value << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use proptest::prelude::*;

    const MB: u32 = 1 << 20;

    fn at(log: u32, segment: u32) -> Position {
        Position { log, segment }
    }

    fn parse(name: &str) -> Option<WalName> {
        WalName::parse(OsStr::new(name))
    }

    #[test]
    fn the_four_kinds_of_name_are_told_apart() {
        let segment = SegmentName { timeline: 1, position: at(2, 0xAB) };
        assert_eq!(parse("0000000100000002000000AB"), Some(WalName::Segment(segment)));
        assert_eq!(parse("0000000A.history"), Some(WalName::History(10)));
        assert_eq!(
            parse("0000000100000002000000AB.00000028.backup"),
            Some(WalName::BackupHistory(segment, 0x28))
        );
        assert_eq!(parse("0000000100000002000000AB.partial"), Some(WalName::Partial(segment)));
    }

    #[test]
    fn near_misses_are_no_names() {
        for name in [
            "",
            "0000000100000002000000ab",
            "0000000100000002000000A",
            "0000000100000002000000ABC",
            "+000000100000002000000AB",
            "0000000100000002000000AB ",
            "0000000100000002000000AB.gz",
            "0000000100000002000000AB.backup",
            "0000000100000002000000AB.0000028.backup",
            "0000000100000002000000AB00000028.backup",
            "0000000100000002000000AB.partial.partial",
            "000000010.history",
            "0000000a.history",
            ".history",
            "RECOVERYXLOG",
        ] {
            assert_eq!(parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn compressed_forms_are_known_by_their_names() {
        let any = |name: &str| WalName::of_any_form(OsStr::new(name));
        for name in [
            "0000000100000002000000AB",
            "0000000A.history",
            "0000000100000002000000AB.00000028.backup",
            "0000000100000002000000AB.partial",
        ] {
            let parsed = parse(name);
            assert_eq!(any(name), parsed);
            let forms: Vec<_> = parsed.unwrap().compressed().collect();
            assert_eq!(forms.len(), 3);
            assert!(
                forms.iter().all(|form| any(form) == parsed && parse(form).is_none()),
                "{forms:?}"
            );
        }
        let partial = parse("0000000100000002000000AB.partial");
        assert_eq!(any("0000000100000002000000AB.partial.gz"), partial);
        assert_eq!(
            partial.unwrap().compressed().next().unwrap(),
            "0000000100000002000000AB.gz.partial"
        );
        for name in [
            "gz",
            ".gz",
            "0000000100000002000000AB.gz.gz",
            "0000000100000002000000AB.bz2",
            "0000000100000002000000AB.GZ",
            "0000000A.history.partial",
            "0000000A.gz.history",
        ] {
            assert_eq!(any(name), None, "{name}");
        }
    }

    #[test]
    fn order_is_that_of_wal_and_leaves_the_timeline_out() {
        assert!(at(0, 0xFF) < at(1, 0));
        assert!(at(1, 0) < at(1, 1));
    }

    #[test]
    fn log_files_hold_what_the_segment_size_and_the_server_say() {
        for (size, skips_last, expected) in [
            (16 * MB, false, 256),
            (16 * MB, true, 255),
            (MB, false, 4096),
            (MB, true, 4095),
            (64 * MB, true, 63),
            (1024 * MB, false, 4),
        ] {
            let numbering = Numbering { segment_size: size, skips_last };
            assert_eq!(numbering.segments_per_log(), expected, "{numbering:?}");
        }
    }

    #[test]
    fn going_back_crosses_log_files_exactly() {
        let modern = Numbering { segment_size: 16 * MB, skips_last: false };
        assert_eq!(modern.before(at(1, 1), 3), Some(at(0, 0xFE)));
        assert_eq!(modern.before(at(1, 0), 1), Some(at(0, 0xFF)));
        let old = Numbering { skips_last: true, ..modern };
        assert_eq!(old.before(at(1, 0), 1), Some(at(0, 0xFE)));
        let gigabyte = Numbering { segment_size: 1024 * MB, skips_last: false };
        assert_eq!(gigabyte.before(at(2, 1), 6), Some(at(0, 3)));
        assert_eq!(gigabyte.before(at(0, 3), 4), None);
    }

    #[test]
    fn a_position_beyond_its_log_file_has_no_lsn() {
        let modern = Numbering { segment_size: 16 * MB, skips_last: false };
        assert_eq!(modern.lsn(at(2, 3)), Some(Lsn(2 << 32 | 3 << 24)));
        assert_eq!(modern.lsn(at(0, 0xFF)), Some(Lsn(0xFF << 24)));
        assert_eq!(modern.lsn(at(0, 0x100)), None);
        assert_eq!(Numbering { skips_last: true, ..modern }.lsn(at(0, 0xFF)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_do_not_and_what_parses_prints_the_same(name: Vec<u8>) {
            if let Some(parsed) = WalName::parse(OsStr::from_bytes(&name)) {
                prop_assert_eq!(parsed.to_string().into_bytes(), name);
            }
        }

        #[test]
        fn every_name_survives_the_round_trip(timeline: u32, log: u32, segment: u32, offset: u32, kind in 0..4) {
            let name = SegmentName { timeline, position: at(log, segment) };
            let name = match kind {
                0 => WalName::Segment(name),
                1 => WalName::History(timeline),
                2 => WalName::BackupHistory(name, offset),
                _ => WalName::Partial(name),
            };
            prop_assert_eq!(parse(&name.to_string()), Some(name));
        }

        #[test]
        fn going_back_one_at_a_time_or_at_once_is_the_same(
            log in 0..5_u32, segment in 0..4_u32, count in 0..20_u64, shift in 20..31_u32, skips_last: bool
        ) {
            let numbering = Numbering { segment_size: 1 << shift, skips_last };
            prop_assume!(u64::from(segment) < numbering.segments_per_log());
            let steps = (0..count).try_fold(at(log, segment), |at, _| numbering.before(at, 1));
            prop_assert_eq!(numbering.before(at(log, segment), count), steps);
            if let Some(earlier) = steps {
                let lsn = |position| numbering.lsn(position).unwrap().0;
                let gap = lsn(at(log, segment)) - lsn(earlier);
                let skipped = if skips_last { u64::from(log - earlier.log) } else { 0 };
                prop_assert_eq!(gap >> shift, count + skipped);
            }
        }
    }
}
