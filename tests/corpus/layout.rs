//! Which bytes of a good segment a server looks at. Another reader than the program's, and a simpler one: it believes every
//! length that it finds.

use std::ops::Range;

use crate::header::Header;
use crate::machine::{Failure, Result};

/// What changing a byte does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing: padding, or behind a switch record.
    Free,
    /// The segment cannot be read any more.
    Counts,
    /// The same, where the segment before is known: the rest of a record that began there.
    Tail,
    /// The next segment cannot be read any more, unless it shows in this one already.
    Open,
    /// The same: what follows would be taken for the rest of a record. The length of one that begins on the last page.
    Length,
    /// Either.
    Either,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Layout {
    pub classes: Vec<Class>,
    /// Records that begin and end here.
    pub records: usize,
    pub has_switch: bool,
    /// A record that began in the segment before ends here.
    pub has_tail: bool,
    /// The last record goes on in the next segment.
    pub has_open: bool,
    block: usize,
    /// A record was to go on and never will.
    pub has_overwritten: bool,
    pub timelines: Vec<u32>,
    /// The last record that begins here, in bytes from the beginning of the segment.
    pub last: Option<usize>,
}

const CONTINUES: u16 = 1;
const LONG: u16 = 2;
/// Flags that change nothing where they are not expected, and the one that means that a record does not go on. It is new
/// in minor releases up to 14.1.
const IDLE: u8 = 0b1100;
pub const OVERWRITTEN: u16 = 8;
const RECORD_HEADER: usize = 24;

/// A record that is being read.
struct Record {
    missing: usize,
    spans: Vec<Range<usize>>,
    /// It began in the segment before.
    is_tail: bool,
}

impl Layout {
    pub fn of(bytes: &[u8], timeline: u32) -> Result<Self> {
        let wrong = |what: &str, at: usize| Failure::new(format!("{what} at {at:#X}"));
        let header = Header::of(bytes).ok_or_else(|| wrong("no header", 0))?;
        let block = header.block_size as usize;
        let mut layout = Self {
            classes: vec![Class::Free; bytes.len()],
            records: 0,
            has_switch: false,
            has_tail: false,
            has_open: false,
            block,
            has_overwritten: false,
            timelines: Vec::new(),
            last: None,
        };
        let missing = header.remaining as usize;
        let mut record = (header.info & CONTINUES != 0).then_some(Record {
            missing,
            spans: Vec::new(),
            is_tail: true,
        });
        'pages: for page in (0..bytes.len()).step_by(block) {
            let info = u16::from_ne_bytes([bytes[page + 2], bytes[page + 3]]);
            let size = layout.page(bytes, page, info, timeline);
            let mut at = page + size;
            if let Some(going) = record.take_if(|_| info & OVERWRITTEN != 0) {
                layout.mark(&going.spans, Class::Either);
                layout.has_overwritten = true;
            }
            if record.is_some() != (info & CONTINUES != 0) {
                return Err(wrong("a continuation that is none", page));
            }
            loop {
                let room = page + block - at;
                let Some(going) = &mut record else {
                    if room == 0 {
                        continue 'pages;
                    }
                    let length = u32_at(bytes, at);
                    // Behind the rest of a switch record whose beginning is not here.
                    if length == 0 && layout.records == 0 && layout.last.is_none() {
                        layout.has_switch = true;
                        break 'pages;
                    }
                    if length < RECORD_HEADER {
                        return Err(wrong("no record", at));
                    }
                    layout.last = Some(at);
                    record = Some(Record { missing: length, spans: Vec::new(), is_tail: false });
                    continue;
                };
                let part = going.missing.min(room);
                going.spans.push(at..at + part);
                going.missing -= part;
                if going.missing > 0 {
                    continue 'pages;
                }
                at += part.next_multiple_of(8);
                let is_switch = !going.is_tail && is_switch(bytes, &going.spans);
                let class = if going.is_tail { Class::Tail } else { Class::Counts };
                layout.records += usize::from(!going.is_tail);
                layout.has_tail |= going.is_tail;
                let spans = std::mem::take(&mut going.spans);
                record = None;
                layout.mark(&spans, class);
                if let Some(at) = layout.last.filter(|at| *at >= bytes.len() - block) {
                    layout.mark(std::slice::from_ref(&(at..at + 4)), Class::Length);
                }
                if is_switch {
                    layout.has_switch = true;
                    break 'pages;
                }
            }
        }
        if let Some(going) = record {
            // One that fills the segment shows only where it ends, whenever it began.
            layout.mark(&going.spans, Class::Open);
            layout.has_open = true;
        }
        Ok(layout)
    }

    /// Marks what counts of a page's header, and returns its size.
    fn page(&mut self, bytes: &[u8], page: usize, info: u16, timeline: u32) -> usize {
        let found = u32_at(bytes, page + 4);
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        if self.timelines.last() != Some(&found) {
            self.timelines.push(found);
        }
        let mut marks = vec![page..page + 4, page + 8..page + 16];
        if info & CONTINUES != 0 {
            marks.push(page + 16..page + 20);
        }
        let is_long = info & LONG != 0;
        if is_long {
            marks.push(page + 24..page + 40);
        }
        self.mark(&marks, Class::Counts);
        // Where timelines change, another one may do as well.
        let class = if found == timeline && timeline == 1 { Class::Counts } else { Class::Either };
        self.classes[page + 4..page + 8].fill(class);
        if is_long { 40 } else { 24 }
    }

    fn mark(&mut self, spans: &[Range<usize>], class: Class) {
        for span in spans {
            self.classes[span.clone()].fill(class);
        }
    }

    /// For a record that goes on in the next segment, and does not end there.
    pub fn forget_what_is_open(&mut self) {
        for class in &mut self.classes {
            if *class == Class::Open {
                *class = Class::Either;
            }
        }
    }

    /// What changing these bytes of the good segment does: the strongest of what each does.
    pub fn consequence(&self, good: &[u8], changed: &[u8], from: usize) -> Class {
        let differs = |index: &usize| good[*index] != changed[*index];
        let last_page = (self.classes.len() - self.block).saturating_sub(from).min(good.len());
        let mut on_last_page = (last_page..good.len()).filter(differs);
        if on_last_page.any(|index| self.classes[from + index] == Class::Length) {
            return Class::Open;
        }
        let mut strongest = Class::Free;
        for index in (0..good.len()).filter(differs) {
            let at = from + index;
            let is_flag = at % self.block == 2 && (good[index] ^ changed[index]) & !IDLE == 0;
            match self.classes[at] {
                Class::Counts | Class::Tail | Class::Length if !is_flag => return Class::Counts,
                Class::Open => strongest = Class::Open,
                Class::Free => {}
                _ if strongest == Class::Free => strongest = Class::Either,
                _ => {}
            }
        }
        strongest
    }
}

fn is_switch(bytes: &[u8], spans: &[Range<usize>]) -> bool {
    let header: Vec<u8> =
        spans.iter().flat_map(|span| &bytes[span.clone()]).take(RECORD_HEADER).copied().collect();
    header[17] == 0 && header[16] & 0xF0 == 0x40
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}
