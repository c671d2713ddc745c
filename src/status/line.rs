//! Which segments a server reads one after the other, over all timelines, and which of them an archive lacks. Pure:
//! segments are numbered as their headers say, timelines change where history files say.

use std::collections::BTreeSet;

use crate::wal::history::{self, Ancestor, Switch};
use crate::wal::name::{Numbering, Position, SegmentName};

/// A timeline with all that it descends from.
pub struct Line {
    /// The timeline.
    pub timeline: u32,
    ancestors: Vec<Ancestor>,
}

/// Segments that an archive lacks between others that it has, or before them.
#[derive(Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub first: SegmentName,
    /// How many they are.
    pub count: u64,
    /// The first segment after them.
    pub next: SegmentName,
    /// The last segment of all.
    pub last: SegmentName,
    /// How many of the later segments there are.
    pub later: usize,
    /// A standby will ask for them.
    pub is_needed: bool,
}

/// What a failover would give at this moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Replay {
    /// Segments that could be handed over and have not been asked for.
    pub behind: usize,
    /// The first segment that could not be handed over.
    pub ends_before: SegmentName,
    /// Segments behind that, which would be lost.
    pub lost: usize,
}

impl Line {
    /// The line of `timeline`, by its history file; without one, it is the first.
    #[must_use]
    pub fn new(timeline: u32, history: &[u8]) -> Self {
        Self { timeline, ancestors: history::ancestors(history).collect() }
    }

    /// Returns whether the timeline is this one or one before.
    #[must_use]
    pub fn has(&self, timeline: u32) -> bool {
        timeline == self.timeline || self.ancestors.iter().any(|it| it.timeline == timeline)
    }

    /// The timeline of the segment at a position: the last one that has a part in it.
    #[must_use]
    pub fn segment(&self, position: Position, numbering: Numbering) -> SegmentName {
        let is_before = |it: &&Ancestor| it.left_at.comes_after(position, numbering) == Some(true);
        let timeline =
            self.ancestors.iter().find(is_before).map_or(self.timeline, |it| it.timeline);
        SegmentName { timeline, position }
    }

    /// Where another line left this one; `None` where it does not descend from it.
    #[must_use]
    pub fn left_by(&self, other: &[u8]) -> Option<Switch> {
        let left = history::ancestors(other).rfind(|it| self.has(it.timeline))?;
        Some(left.left_at)
    }
}

/// The segments of one line, by the number of segments that precede each.
pub struct Stock<'a> {
    /// The line.
    pub line: &'a Line,
    /// How its cluster numbers segments.
    pub numbering: Numbering,
    /// Those that are in the archive.
    pub present: BTreeSet<u64>,
    /// Those that are not as they should be.
    pub bad: BTreeSet<u64>,
}

impl Stock<'_> {
    /// What is lacking. `asked` is what the standby waits for, `needed` the first segment that a standby may ask for.
    #[must_use]
    pub fn holes(&self, asked: Option<u64>, needed: Option<u64>) -> Vec<Hole> {
        let Some(last) = self.present.iter().rev().find(|it| !self.bad.contains(it)).copied()
        else {
            return Vec::new();
        };
        let mut holes = Vec::new();
        let mut before = None;
        for number in self.present.range(..=last).copied() {
            let first = match (before, asked) {
                (Some(before), _) => u64::saturating_add(before, 1),
                // Nothing is known before the first one but what the standby asks for.
                (None, Some(asked)) => asked.min(number),
                (None, None) => number,
            };
            holes.extend(self.hole(first, number, last, needed));
            before = Some(number);
        }
        holes
    }

    /// The hole from `first` to what is before `next`.
    fn hole(&self, first: u64, next: u64, last: u64, needed: Option<u64>) -> Option<Hole> {
        let count = next.checked_sub(first).filter(|count| *count > 0)?;
        // Of a hole that begins too early to matter, what matters.
        let is_needed = needed.is_none_or(|needed| needed < next);
        let first = needed.filter(|_| is_needed).map_or(first, |needed| needed.max(first));
        let count = if is_needed { next.saturating_sub(first) } else { count };
        Some(Hole {
            first: self.name(first)?,
            count,
            next: self.name(next)?,
            last: self.name(last)?,
            later: self.present.range(next..=last).count(),
            is_needed,
        })
    }

    /// What a failover would give if the server asked for the segment of this number next; of those before `unasked`
    /// it has.
    #[must_use]
    pub fn replay(&self, next: u64, unasked: u64) -> Option<Replay> {
        let is_ready = |number: &u64| !self.bad.contains(number);
        let ready = || self.present.range(next..).filter(|number| is_ready(number));
        let whole = ready().zip(next..).take_while(|(found, expected)| *found == expected).count();
        let ends_before = next.checked_add(whole.try_into().ok()?)?;
        Some(Replay {
            behind: ready().filter(|number| **number >= unasked).count(),
            ends_before: self.name(ends_before)?,
            lost: ready().filter(|number| **number > ends_before).count(),
        })
    }

    fn name(&self, number: u64) -> Option<SegmentName> {
        Some(self.line.segment(self.numbering.position(number)?, self.numbering))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB16: Numbering = Numbering { segment_size: 1 << 24, skips_last: false };

    fn stock<'a>(line: &'a Line, present: &[u64], bad: &[u64]) -> Stock<'a> {
        let set = |numbers: &[u64]| numbers.iter().copied().collect();
        Stock { line, numbering: MB16, present: set(present), bad: set(bad) }
    }

    fn holes(present: &[u64], asked: Option<u64>, needed: Option<u64>) -> Vec<(String, u64, bool)> {
        let line = Line::new(1, b"");
        let holes = stock(&line, present, &[]).holes(asked, needed);
        holes.iter().map(|hole| (hole.first.to_string(), hole.count, hole.is_needed)).collect()
    }

    fn name(number: u64) -> String {
        format!("0000000100000000{number:08X}")
    }

    #[test]
    fn what_is_between_two_segments_is_a_hole_across_log_files_too() {
        assert_eq!(holes(&[], Some(4), None), []);
        assert_eq!(holes(&[2, 3, 4], None, None), []);
        assert_eq!(holes(&[2, 5, 6], None, None), [(name(3), 2, true)]);
        assert_eq!(holes(&[255, 256], None, None), []);
        assert_eq!(holes(&[255, 257], None, None), [("000000010000000100000000".into(), 1, true)]);
    }

    #[test]
    fn what_is_waited_for_is_a_hole_only_before_others() {
        assert_eq!(holes(&[1, 2, 3], Some(4), Some(4)), []);
        assert_eq!(holes(&[1, 2, 3, 5], Some(4), Some(4)), [(name(4), 1, true)]);
        assert_eq!(holes(&[5, 6], Some(4), Some(4)), [(name(4), 1, true)]);
        assert_eq!(holes(&[7], Some(4), Some(4)), [(name(4), 3, true)]);
    }

    #[test]
    fn a_hole_that_nobody_will_ask_for_is_not_needed() {
        assert_eq!(holes(&[1, 3, 4], Some(5), Some(5)), [(name(2), 1, false)]);
        assert_eq!(holes(&[1, 3, 4], Some(5), Some(1)), [(name(2), 1, true)]);
        assert_eq!(holes(&[1, 9], Some(5), Some(5)), [(name(5), 4, true)]);
    }

    #[test]
    fn timelines_change_where_the_history_says() {
        let line = Line::new(3, b"1\t0/5000100\tx\n2\t0/8000000\tx\n");
        let at = |segment| line.segment(Position { log: 0, segment }, MB16).timeline;
        assert_eq!([4, 5, 6, 7, 8, 9].map(at), [1, 2, 2, 2, 3, 3]);
        assert!(line.has(1) && line.has(3) && !line.has(4));
        let other = b"1\t0/5000100\tx\n2\t0/7000000\tx\n";
        assert_eq!(line.left_by(other).map(|it| it.to_string()).as_deref(), Some("0/7000000"));
        assert_eq!(line.left_by(b"7\t0/5000100\tx\n"), None);
    }

    #[test]
    fn a_failover_ends_before_what_is_missing_or_bad() {
        let line = Line::new(1, b"");
        let replay = |present: &[u64], bad: &[u64], next, unasked| {
            let replay = stock(&line, present, bad).replay(next, unasked).unwrap();
            (replay.behind, replay.ends_before.position.segment, replay.lost)
        };
        assert_eq!(replay(&[1, 2, 3], &[], 4, 5), (0, 4, 0));
        assert_eq!(replay(&[3, 5, 6, 7], &[], 4, 5), (3, 4, 3));
        assert_eq!(replay(&[4, 5, 6, 8], &[], 4, 5), (3, 7, 1));
        assert_eq!(replay(&[4, 5, 6, 7], &[6], 4, 5), (2, 6, 1));
        assert_eq!(replay(&[4, 5], &[], 4, 4), (2, 6, 0));
    }
}
