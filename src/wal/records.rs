//! The records of a segment: would a server read through them, and if not, where would it end and why? Decides as the
//! server's own reader does (`xlogreader.c`, 9.5 to 19), since outside standby mode a server promotes where a record
//! cannot be read.
//!
//! Pure and linear in the length. A record may go on in later segments; a [`Carry`] takes over what the segments before
//! tell. What a record does once it is replayed is the server's matter, and so is whether its contents make sense.

mod carry;
mod skim;

use std::mem;

use super::damage::Damage;
use super::header::{Bytes, Header};
use super::lsn::Lsn;
use super::page::{Format, Page, other_magic};
use super::record::{self, Head, Unfinished};

use carry::Open;

pub use carry::Carry;
pub use skim::Segment;

/// Bytes to read a segment in: whole pages, whatever their size, and two of them at least.
pub const PIECE: usize = 1 << 18;

/// Where a segment stands, and how it is laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    format: Format,
    start: Lsn,
    timeline: u32,
}

impl Layout {
    fn of(header: &Header, timeline: u32) -> Option<Self> {
        Some(Self { format: Format::of(header)?, start: header.lsn, timeline })
    }

    fn segment_size(self) -> usize {
        self.format.segment_size as usize
    }

    fn block_size(self) -> usize {
        self.format.block_size as usize
    }
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

/// Returns where a server stops if the magic of the first page is not its own: at once. Its own is that of the segment
/// `before`, or else that of the next page, where `bytes` has that.
#[must_use]
pub fn stop_at_magic(bytes: &[u8], header: &Header, before: Option<u16>) -> Option<Stop> {
    let expected = other_magic(bytes, header, before)?;
    let (page, found) = (header.lsn, header.magic);
    Some(Stop { at: page, valid: 0, why: Damage::Magic { page, found, expected } })
}

/// Reads the records of a segment and their checksums, page after page.
pub struct Scan {
    layout: Layout,
    /// Whether to compute checksums.
    checksums: bool,
    /// Bytes from the segment's start to the page that comes next.
    offset: usize,
    /// Bytes from the start of that page to the record to begin with; 0 for whatever begins or goes on there.
    into_page: usize,
    /// Of the page read last.
    timeline: u32,
    open: Open,
    /// The last whole record, where one was seen.
    previous: Option<Lsn>,
    records: u64,
    valid: usize,
    /// `None` while there is more to read.
    end: Option<End>,
}

/// The record that cannot be read, and why.
type Bad = (Lsn, Damage);

/// What a record turned out to be.
#[derive(PartialEq, Eq)]
enum Kind {
    Switch,
    Other,
}

impl Scan {
    /// A segment whose first page has that header and whose name has that timeline. `None` where its records are laid
    /// out in a way not known here, so that the header alone counts: before 9.5, or later than the last release known.
    ///
    /// Without a `carry` (or with one for another segment) a record that goes on from the segment before is held
    /// against the lengths on its pages only, and the first record's link to the one before only has to lead back.
    /// A carry has to come from the segment that the server itself read before this one.
    #[must_use]
    pub fn new(header: &Header, timeline: u32, carry: Option<&Carry>) -> Option<Self> {
        Some(Self::with_checksums(true, Layout::of(header, timeline)?, carry))
    }

    fn with_checksums(checksums: bool, layout: Layout, carry: Option<&Carry>) -> Self {
        let carry = carry.filter(|carry| carry.next == layout.start);
        Self {
            layout,
            checksums,
            offset: 0,
            into_page: 0,
            timeline: carry.map_or(0, |carry| carry.timeline),
            open: carry.map_or(Open::Unknown, |carry| carry.open.clone()),
            previous: carry.and_then(|carry| carry.previous),
            records: 0,
            valid: 0,
            end: None,
        }
    }

    /// Reads on. Only the last piece may end within a page: that is where the file ends.
    pub fn read(&mut self, piece: &[u8]) {
        for page in piece.chunks(self.layout.block_size()) {
            if self.end.is_some() {
                return;
            }
            self.end = self
                .read_page(page)
                .unwrap_or_else(|(at, why)| Some(End::Stops(Stop { at, valid: self.valid, why })));
        }
    }

    /// To be asked when there is nothing more to read.
    #[must_use]
    pub fn verdict(mut self) -> Verdict {
        let end = self.end.unwrap_or_else(|| {
            let why = self.short(0);
            End::Stops(Stop { at: self.reading(&self.open), valid: self.valid, why })
        });
        let carry = match end {
            End::Switch | End::LastByte => Some(self.carry()),
            End::Stops(_) => None,
        };
        Verdict { records: self.records, end, carry }
    }

    fn carry(&mut self) -> Carry {
        let next = self.layout.start.plus(self.layout.segment_size());
        let open = mem::replace(&mut self.open, Open::Nothing);
        Carry { next, timeline: self.timeline, previous: self.previous, open }
    }

    /// Reads the next page. Returns how reading the segment ends, if it does with that page.
    fn read_page(&mut self, bytes: &[u8]) -> Result<Option<End>, Bad> {
        let mut open = mem::replace(&mut self.open, Open::Nothing);
        let page = self.page(bytes).map_err(|damage| (self.reading(&open), damage))?;
        if self.offset == 0 && self.valid == 0 {
            self.valid = page.header_size;
        }
        let mut at = self.into_page.saturating_sub(page.header_size);
        if self.into_page == 0 {
            let (kind, behind) = self.go_on(&mut open, &page)?;
            if kind == Kind::Switch {
                return Ok(Some(End::Switch));
            }
            at = behind;
        }
        self.into_page = 0;
        if matches!(open, Open::Nothing) {
            open = match self.page_of_records(&page, at)? {
                Some(open) => open,
                None => return Ok(Some(End::Switch)),
            };
        }
        self.open = open;
        self.offset = self.offset.saturating_add(self.layout.block_size());
        Ok((self.offset >= self.layout.segment_size()).then_some(End::LastByte))
    }

    fn page<'a>(&mut self, bytes: &'a [u8]) -> Result<Page<'a>, Damage> {
        let Layout { format, timeline, .. } = self.layout;
        let address = self.address();
        let page = Page::read(format, bytes, address, self.offset)?;
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

    /// Of the page that is being read.
    fn address(&self) -> Lsn {
        self.layout.start.plus(self.offset)
    }

    /// The record that is being read where a page does not help.
    fn reading(&self, open: &Open) -> Lsn {
        match open {
            Open::Record(unfinished) => unfinished.start,
            Open::Tail { .. } => self.layout.start,
            Open::Nothing | Open::Unknown => self.address(),
        }
    }

    /// Takes what is left of a record from the page's start. Returns what it was if it ends there, and where in the
    /// page's body the next one begins.
    fn go_on(&mut self, open: &mut Open, page: &Page) -> Result<(Kind, usize), Bad> {
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
        let (record, address) = (self.reading(open), self.address());
        if !page.continues {
            return Err((record, Damage::NotContinued { page: address }));
        }
        if page.remaining != missing {
            let (found, expected) = (page.remaining, missing);
            return Err((record, Damage::RemainingLength { page: address, found, expected }));
        }
        let Some(part) = self.part(page, missing) else {
            return Err((record, self.short(page.length())));
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
            _ if whole && self.offset == 0 && record::ends_in_switch(part, page.body) => {
                Kind::Switch
            }
            _ => {
                *open = Open::Tail { missing: missing.saturating_sub(record::length(part)) };
                Kind::Other
            }
        };
        if whole {
            *open = Open::Nothing;
            self.valid = self.offset.saturating_add(page.header_size).saturating_add(behind);
        }
        Ok((kind, behind))
    }

    /// Reads the records that begin at `at` in the page's body and behind. Returns what goes on over the page's end;
    /// `None` where there was a switch record.
    fn page_of_records(&mut self, page: &Page, mut at: usize) -> Result<Option<Open>, Bad> {
        let body_offset = self.offset.saturating_add(page.header_size);
        let body_size = self.layout.block_size().saturating_sub(page.header_size);
        while at < body_size {
            let record = self.layout.start.plus(body_offset.saturating_add(at));
            if at == 0 && page.continues {
                let (page, found) = (self.address(), page.remaining);
                return Err((record, Damage::NothingToContinue { page, found }));
            }
            let rest = page.body.get(at..).unwrap_or_default();
            let length =
                Bytes(rest).u32_at(0).ok_or_else(|| (record, self.short(page.length())))?;
            if let Some(header) = rest.first_chunk() {
                self.check_header(header, record).map_err(|why| (record, why))?;
            }
            record::check_length(length).map_err(|why| (record, why))?;
            if let Some(bytes) = rest.get(..length as usize) {
                let (header, data) =
                    bytes.split_first_chunk().ok_or_else(|| (record, self.short(page.length())))?;
                let checksum = if self.checksums { record::checksum(0, data) } else { 0 };
                self.check_sum(header, checksum).map_err(|why| (record, why))?;
                at = at.saturating_add(record::aligned(length as usize));
                self.valid = body_offset.saturating_add(at);
                if self.finish(record, header) == Kind::Switch {
                    return Ok(None);
                }
            } else if at.saturating_add(rest.len()) < body_size {
                return Err((record, self.short(page.length())));
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
    fn part<'a>(&self, page: &Page<'a>, missing: u32) -> Option<&'a [u8]> {
        let room = self.layout.block_size().saturating_sub(page.header_size);
        page.body.get(..room.min(missing as usize))
    }

    /// The file ends so many bytes into the page.
    fn short(&self, bytes: usize) -> Damage {
        let found = self.offset.saturating_add(bytes) as u64;
        Damage::Short { found, expected: self.layout.format.segment_size.into() }
    }

    /// What the server holds against a record's header as soon as it has it.
    fn check_header(&self, header: &Head, record: Lsn) -> Result<(), Damage> {
        record::check_length(Bytes(header).u32_at(0).unwrap_or_default())?;
        let [.., _, manager, _, _, _, _, _, _] = *header;
        if !self.layout.format.has_manager(manager) {
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
