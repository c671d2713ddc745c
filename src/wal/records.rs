//! The records of a segment: would a server read through them, and if not, where would it end and why? Decides as the
//! server's own reader does (`xlogreader.c`, 9.5 to 19), since outside standby mode a server promotes where a record
//! cannot be read.
//!
//! Pure and linear in the length. A record may go on in later segments; a [`Carry`] takes over what the segments before
//! tell. What a record does once it is replayed is the server's matter, and so is whether its contents make sense.

mod skim;

use super::damage::Damage;
use super::header::{Bytes, Header};
use super::lsn::Lsn;
use super::page::{Format, Page, other_magic};
use super::record::{self, Head, Unfinished};

/// The bytes of a segment, or of as much of it as there is.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    format: Format,
    start: Lsn,
    timeline: u32,
}

/// What became of reading a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Records that end in the segment and were checked.
    pub records: u64,
    pub end: End,
    /// For the next segment; `None` where reading does not get there.
    pub carry: Option<Carry>,
}

/// Where reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a switch record: what follows in the segment is of no interest.
    Switch,
    /// At the last byte; a record may go on in the next segment.
    LastByte,
    /// Before the segment's end.
    Stops(Stop),
}

/// Where and why a server would take WAL to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The first record that cannot be read; of one that began in an earlier segment not known here, the segment's
    /// start.
    pub at: Lsn,
    /// Bytes from the segment's start to the end of the last whole record, or of the first page's header where none
    /// ends; 0 where that header is wrong.
    pub valid: usize,
    pub why: Damage,
}

/// What the segments before a segment tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carry {
    /// The segment it is for.
    next: Lsn,
    /// Of the last page.
    timeline: u32,
    /// The last whole record, where one was seen.
    previous: Option<Lsn>,
    open: Open,
}

/// What goes on over the edge of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
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

impl<'a> Segment<'a> {
    /// A segment whose first page has that header and whose name has that timeline. `None` where its records are laid
    /// out in a way not known here, so that the header alone counts: before 9.5, or later than the last release known.
    #[must_use]
    pub fn new(bytes: &'a [u8], header: &Header, timeline: u32) -> Option<Self> {
        Some(Self { bytes, format: Format::of(header)?, start: header.lsn, timeline })
    }

    /// Returns where a server stops that finds a magic on the first page which is not its own: at once. It is told from
    /// that of the segment `before`, or from the next page.
    #[must_use]
    pub fn stop_at_magic(bytes: &[u8], header: &Header, before: Option<u16>) -> Option<Stop> {
        let expected = other_magic(bytes, header, before)?;
        let (page, found) = (header.lsn, header.magic);
        Some(Stop { at: page, valid: 0, why: Damage::Magic { page, found, expected } })
    }

    /// Reads the records and their checksums.
    ///
    /// Without a `carry` (or with one for another segment) a record that goes on from the segment before is held
    /// against the lengths on its pages only, and the first record's link to the one before only has to lead back.
    /// A carry has to come from the segment that the server itself read before this one.
    #[must_use]
    pub fn check(&self, carry: Option<&Carry>) -> Verdict {
        let mut scan = Scan::new(*self, carry, true);
        let open = self.open(carry);
        let end = scan.run(open, 0);
        let (end, carry) = match end {
            Ok((end, open)) => (end, Some(scan.carry(open))),
            Err((at, why)) => (End::Stops(Stop { at, valid: scan.valid, why }), None),
        };
        Verdict { records: scan.records, end, carry }
    }

    fn open(&self, carry: Option<&Carry>) -> Open {
        self.own(carry).map_or(Open::Unknown, |carry| carry.open.clone())
    }

    fn own<'c>(&self, carry: Option<&'c Carry>) -> Option<&'c Carry> {
        carry.filter(|carry| carry.next == self.start)
    }
}

/// A reader on its way through a segment.
struct Scan<'a> {
    segment: Segment<'a>,
    /// Whether to compute checksums.
    checksums: bool,
    /// Of the page read last.
    timeline: u32,
    /// The last whole record, where one was seen.
    previous: Option<Lsn>,
    records: u64,
    valid: usize,
}

/// The record that cannot be read, and why.
type Bad = (Lsn, Damage);

/// What a record turned out to be.
#[derive(PartialEq, Eq)]
enum Kind {
    Switch,
    Other,
}

impl<'a> Scan<'a> {
    fn new(segment: Segment<'a>, carry: Option<&Carry>, checksums: bool) -> Self {
        let carry = segment.own(carry);
        Self {
            segment,
            checksums,
            timeline: carry.map_or(0, |carry| carry.timeline),
            previous: carry.and_then(|carry| carry.previous),
            records: 0,
            valid: 0,
        }
    }

    fn carry(&self, open: Open) -> Carry {
        let next = self.segment.start.plus(self.segment.format.segment_size as usize);
        Carry { next, timeline: self.timeline, previous: self.previous, open }
    }

    /// Reads from a record that begins `from` bytes into the segment, or from the segment's start on.
    fn run(&mut self, mut open: Open, from: usize) -> Result<(End, Open), Bad> {
        let block_size = self.segment.format.block_size as usize;
        let mut into_page = from & block_size.wrapping_sub(1);
        let mut offset = from.wrapping_sub(into_page);
        while offset < self.segment.format.segment_size as usize {
            let page = self.page(offset).map_err(|damage| (self.reading(&open, offset), damage))?;
            if offset == 0 && self.valid == 0 {
                self.valid = page.header_size;
            }
            let mut at = into_page.saturating_sub(page.header_size);
            if into_page == 0 {
                let (kind, behind) = self.go_on(&mut open, &page, offset)?;
                if kind == Kind::Switch {
                    return Ok((End::Switch, Open::Nothing));
                }
                at = behind;
            }
            into_page = 0;
            if matches!(open, Open::Nothing) {
                open = match self.page_of_records(&page, offset, at)? {
                    Some(open) => open,
                    None => return Ok((End::Switch, Open::Nothing)),
                };
            }
            offset = offset.saturating_add(block_size);
        }
        Ok((End::LastByte, open))
    }

    fn page(&mut self, offset: usize) -> Result<Page<'a>, Damage> {
        let Segment { bytes, format, start, timeline } = self.segment;
        let end = offset.saturating_add(format.block_size as usize).min(bytes.len());
        let address = start.plus(offset);
        let page = Page::read(format, bytes.get(offset..end).unwrap_or_default(), address, offset)?;
        if page.timeline < self.timeline {
            let (found, before) = (page.timeline, self.timeline);
            return Err(Damage::EarlierTimeline { page: address, found, before });
        }
        // The server takes this page, and then no other any more.
        if page.timeline > timeline {
            let (found, expected) = (page.timeline, timeline);
            return Err(Damage::LaterTimeline { page: address, found, expected });
        }
        self.timeline = page.timeline;
        Ok(page)
    }

    /// The record that is being read where a page does not help.
    fn reading(&self, open: &Open, offset: usize) -> Lsn {
        match open {
            Open::Record(unfinished) => unfinished.start,
            Open::Tail { .. } => self.segment.start,
            Open::Nothing | Open::Unknown => self.segment.start.plus(offset),
        }
    }

    /// Takes what is left of a record from the page's start. Returns what it was if it ends there, and where in the
    /// page's body the next one begins.
    fn go_on(
        &mut self,
        open: &mut Open,
        page: &Page<'a>,
        offset: usize,
    ) -> Result<(Kind, usize), Bad> {
        if matches!(open, Open::Unknown) && page.continues {
            *open = Open::Tail { missing: page.remaining };
        }
        let missing = match open {
            Open::Nothing | Open::Unknown => None,
            Open::Record(unfinished) => Some(unfinished.missing()),
            Open::Tail { missing } => Some(*missing),
        };
        let Some(missing) = missing.filter(|_| !page.overwritten) else {
            *open = Open::Nothing;
            return Ok((Kind::Other, 0));
        };
        let record = self.reading(open, offset);
        let address = self.segment.start.plus(offset);
        if !page.continues {
            return Err((record, Damage::NotContinued { page: address }));
        }
        if page.remaining != missing {
            let (found, expected) = (page.remaining, missing);
            return Err((record, Damage::RemainingLength { page: address, found, expected }));
        }
        let Some(part) = self.part(page, missing) else {
            return Err((record, self.short()));
        };
        let whole = part.len() == missing as usize;
        let behind = record::aligned(part.len());
        let kind = match open {
            Open::Record(unfinished) => {
                let head = unfinished.take(part, self.checksums);
                if let Some(head) = head {
                    self.check_header(&head, record).map_err(|why| (record, why))?;
                }
                if whole {
                    let (head, checksum) = unfinished.whole();
                    self.check_sum(head, checksum).map_err(|why| (record, why))?;
                    self.finish(record, head)
                } else {
                    Kind::Other
                }
            }
            _ if whole && offset == 0 && record::ends_in_switch(part, page.body) => Kind::Switch,
            _ => {
                *open = Open::Tail { missing: missing.saturating_sub(record::length(part)) };
                Kind::Other
            }
        };
        if whole {
            *open = Open::Nothing;
            self.valid = offset.saturating_add(page.header_size).saturating_add(behind);
        }
        Ok((kind, behind))
    }

    /// Reads the records that begin at `at` in the page's body and behind. Returns what goes on over the page's end;
    /// `None` where there was a switch record.
    fn page_of_records(
        &mut self,
        page: &Page<'a>,
        offset: usize,
        mut at: usize,
    ) -> Result<Option<Open>, Bad> {
        let body_offset = offset.saturating_add(page.header_size);
        let body_size = (self.segment.format.block_size as usize).saturating_sub(page.header_size);
        while at < body_size {
            let record = self.segment.start.plus(body_offset.saturating_add(at));
            if at == 0 && page.continues {
                let (page, found) = (self.segment.start.plus(offset), page.remaining);
                return Err((record, Damage::NothingToContinue { page, found }));
            }
            let rest = page.body.get(at..).unwrap_or_default();
            let length = Bytes(rest).u32_at(0).ok_or_else(|| (record, self.short()))?;
            if let Some(header) = rest.first_chunk() {
                self.check_header(header, record).map_err(|why| (record, why))?;
            }
            record::check_length(length).map_err(|why| (record, why))?;
            if let Some(bytes) = rest.get(..length as usize) {
                let (header, data) =
                    bytes.split_first_chunk().ok_or_else(|| (record, self.short()))?;
                let checksum = if self.checksums { record::checksum(0, data) } else { 0 };
                self.check_sum(header, checksum).map_err(|why| (record, why))?;
                at = at.saturating_add(record::aligned(length as usize));
                self.valid = body_offset.saturating_add(at);
                if self.finish(record, header) == Kind::Switch {
                    return Ok(None);
                }
            } else if at.saturating_add(rest.len()) < body_size {
                return Err((record, self.short()));
            } else {
                return Ok(Some(Open::Record(Unfinished::new(
                    record,
                    length,
                    rest,
                    self.checksums,
                ))));
            }
        }
        Ok(Some(Open::Nothing))
    }

    /// The part of a record that stands at the start of a page; `None` where the file ends within.
    fn part(&self, page: &Page<'a>, missing: u32) -> Option<&'a [u8]> {
        let room = (self.segment.format.block_size as usize).saturating_sub(page.header_size);
        page.body.get(..room.min(missing as usize))
    }

    fn short(&self) -> Damage {
        let found = self.segment.bytes.len() as u64;
        Damage::Short { found, expected: self.segment.format.segment_size.into() }
    }

    /// What the server holds against a record's header as soon as it has it.
    fn check_header(&self, header: &Head, record: Lsn) -> Result<(), Damage> {
        record::check_length(Bytes(header).u32_at(0).unwrap_or_default())?;
        let [.., _, manager, _, _, _, _, _, _] = *header;
        if !self.segment.format.has_manager(manager) {
            return Err(Damage::ResourceManager { found: manager });
        }
        let found = Lsn(Bytes(header).u64_at(8).unwrap_or_default());
        match self.previous {
            Some(expected) if found != expected => Err(Damage::Link { found, expected }),
            None if found >= record => Err(Damage::LinkAhead { found }),
            _ => Ok(()),
        }
    }

    /// Holds a record against its checksum; `checksum` is that of what follows its header.
    fn check_sum(&self, header: &Head, checksum: u32) -> Result<(), Damage> {
        if self.checksums { record::check_sum(header, checksum) } else { Ok(()) }
    }

    fn finish(&mut self, record: Lsn, header: &Head) -> Kind {
        self.previous = Some(record);
        self.records = self.records.saturating_add(1);
        if record::is_switch(header) { Kind::Switch } else { Kind::Other }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer;
