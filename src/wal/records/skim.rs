//! What a segment tells about the next one, without reading all of it: the record that goes on there, and the one before.

use super::super::page::Format;
use super::super::record;
use super::{Carry, Open, Scan, Segment};

impl Segment<'_> {
    /// Returns what the segment tells about the next one, from as few of its last pages as tell it, or else by the
    /// lengths of all its records: of their checksums, it computes only the one that is needed. `None` where reading does
    /// not get to the next segment.
    #[must_use]
    pub fn skim(&self, carry: Option<&Carry>) -> Option<Carry> {
        self.skim_end(carry).or_else(|| self.skim_all(carry))
    }

    /// Steps back from the last page, each time twice as far, to one from which on the records can be read. A server
    /// fills a segment before it begins the next, so records that are whole there are those that a reader gets to.
    pub(super) fn skim_end(&self, carry: Option<&Carry>) -> Option<Carry> {
        let Format { segment_size, block_size, .. } = self.format;
        let twice_as_far = |back: &u32| back.checked_mul(2);
        std::iter::successors(Some(block_size), twice_as_far)
            .map_while(|back| segment_size.checked_sub(back))
            .find_map(|offset| self.skim_from(offset as usize, carry))
    }

    /// Reads the records that begin on the page at `offset`, and on. `None` unless one of them ends in the segment, so that
    /// the link of what follows can be checked.
    fn skim_from(&self, offset: usize, carry: Option<&Carry>) -> Option<Carry> {
        let mut scan = Scan::new(*self, carry, true);
        scan.previous = None;
        let page = scan.page(offset).ok()?;
        let rest = if page.continues { record::aligned(page.remaining as usize) } else { 0 };
        let from = offset.saturating_add(page.header_size).saturating_add(rest);
        if rest >= page.body.len() {
            return None;
        }
        let (_, open) = scan.run(Open::Nothing, from).ok()?;
        scan.previous.is_some().then(|| scan.carry(open))
    }

    pub(super) fn skim_all(&self, carry: Option<&Carry>) -> Option<Carry> {
        let mut scan = Scan::new(*self, carry, false);
        let (_, open) = scan.run(self.open(carry), 0).ok()?;
        let Open::Record(unfinished) = &open else { return Some(scan.carry(open)) };
        let into = unfinished.start.0.checked_sub(self.start.0);
        let (open, from) = match into.and_then(|into| usize::try_from(into).ok()) {
            Some(into) => (Open::Nothing, into),
            None => (self.open(carry), 0),
        };
        scan.checksums = true;
        scan.timeline = 0;
        let (_, open) = scan.run(open, from).ok()?;
        Some(scan.carry(open))
    }
}
