//! What a segment tells about the next one, without reading all of it: the record that goes on there, and the one before.

use super::super::header::Header;
use super::super::record;
use super::{Carry, End, Layout, Open, Scan};

/// All bytes of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> Segment<'a> {
    /// A segment whose first page has that header and whose name has that timeline. `None` where its records are laid
    /// out in a way not known here.
    #[must_use]
    pub fn new(bytes: &'a [u8], header: &Header, timeline: u32) -> Option<Self> {
        Some(Self { bytes, layout: Layout::of(header, timeline)? })
    }

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
        let twice_as_far = |back: &usize| back.checked_mul(2);
        std::iter::successors(Some(self.layout.block_size()), twice_as_far)
            .map_while(|back| self.layout.segment_size().checked_sub(back))
            .find_map(|offset| self.skim_from(offset, carry))
    }

    /// Reads the records that begin on the page at `offset`, and on. `None` unless one of them ends in the segment, so that
    /// the link of what follows can be checked.
    fn skim_from(&self, offset: usize, carry: Option<&Carry>) -> Option<Carry> {
        let mut scan = Scan::with_checksums(true, self.layout, carry);
        scan.previous = None;
        scan.offset = offset;
        let bytes = self.bytes.get(offset..)?;
        let page = scan.page(bytes.get(..self.layout.block_size()).unwrap_or(bytes)).ok()?;
        let rest = if page.continues { record::aligned(page.remaining as usize) } else { 0 };
        if rest >= page.body.len() {
            return None;
        }
        let from = offset.saturating_add(page.header_size).saturating_add(rest);
        let carry = self.read_from(from, Open::Nothing, scan)?;
        carry.previous.is_some().then_some(carry)
    }

    pub(super) fn skim_all(&self, carry: Option<&Carry>) -> Option<Carry> {
        let begin = |checksums| Scan::with_checksums(checksums, self.layout, carry);
        let lengths = self.read_from(0, begin(false).open, begin(false))?;
        let Open::Record(unfinished) = &lengths.open else { return Some(lengths) };
        let into = unfinished.start.0.checked_sub(self.layout.start.0);
        match into.and_then(|into| usize::try_from(into).ok()) {
            Some(into) => {
                let scan = Scan { previous: lengths.previous, ..begin(true) };
                self.read_from(into, Open::Nothing, scan)
            }
            None => self.read_from(0, begin(true).open, begin(true)),
        }
    }

    /// Reads from a record that begins `from` bytes into the segment, or from the segment's start on.
    fn read_from(&self, from: usize, open: Open, mut scan: Scan) -> Option<Carry> {
        scan.into_page = from & self.layout.block_size().wrapping_sub(1);
        scan.offset = from.wrapping_sub(scan.into_page);
        scan.open = open;
        scan.read(self.bytes.get(scan.offset..)?);
        match scan.end? {
            End::Switch | End::LastByte => Some(scan.carry()),
            End::Stops(_) => None,
        }
    }

    /// Reads all of it at once.
    #[cfg(test)]
    pub fn check(&self, carry: Option<&Carry>) -> super::Verdict {
        self.check_in_pieces(usize::MAX, carry)
    }

    /// Reads all of it, so many bytes at a time.
    #[cfg(test)]
    pub fn check_in_pieces(&self, size: usize, carry: Option<&Carry>) -> super::Verdict {
        let mut scan = Scan::with_checksums(true, self.layout, carry);
        self.bytes.chunks(size).for_each(|piece| scan.read(piece));
        scan.verdict()
    }
}
