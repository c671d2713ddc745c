//! What reading takes over from one segment to the next.

use super::super::lsn::Lsn;
use super::super::record::Unfinished;

/// What the segments before a segment tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carry {
    /// The segment it is for.
    pub(super) next: Lsn,
    /// Of the last page.
    pub(super) timeline: u32,
    /// The last whole record, where one was seen.
    pub(super) previous: Option<Lsn>,
    pub(super) open: Open,
}

/// What goes on over the edge of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Nothing: the next record begins there.
    Nothing,
    /// A record whose beginning was seen.
    Record(Unfinished),
    /// A record whose beginning was not seen, so much is missing of it.
    Tail { missing: u32 },
    /// Whatever the first page says.
    Unknown,
}

impl Carry {
    /// Returns whether a record goes on whose beginning lies before all the segments that were read for this. To check
    /// that record whole, begin one segment earlier.
    #[must_use]
    pub fn begins_earlier(&self) -> bool {
        matches!(self.open, Open::Tail { .. })
    }

    /// The start of the segment it is for.
    #[cfg(test)]
    #[must_use]
    pub fn next(&self) -> Lsn {
        self.next
    }
}
