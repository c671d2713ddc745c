//! WAL made for tests, laid out as a server lays it out, with every field within reach.

#![allow(clippy::arithmetic_side_effects)]
use std::ops::Range;

use super::*;
use crate::wal::name::Numbering;

const SYSTEM: u64 = 7_000_000_000_000_000_001;

/// Consecutive segments, written record by record.
#[derive(Clone)]
pub struct Wal {
    pub magic: u16,
    pub block: usize,
    pub segment: usize,
    pub timeline: u32,
    pub start: u64,
    pub bytes: Vec<u8>,
    /// What the next record names as the one before it.
    pub previous: u64,
    /// For each byte, whether a reader has to look at it.
    pub used: Vec<bool>,
    /// Parts of records that were overwritten: damage there may be noticed.
    pub dropped: Vec<Range<usize>>,
    /// Where each record begins, as offsets into the bytes.
    pub records: Vec<usize>,
    /// Flags of the next page besides those that it needs.
    pub flags: u16,
}

impl Wal {
    /// Nothing yet, as 15 writes it, in segments of four pages of 1 kB.
    pub fn new() -> Self {
        let (block, segment) = (1024, 4096);
        let start = 5 << 24;
        Self {
            magic: 0xD110,
            block,
            segment,
            timeline: 1,
            start,
            bytes: Vec::new(),
            previous: start - 100,
            used: Vec::new(),
            dropped: Vec::new(),
            records: Vec::new(),
            flags: 0,
        }
    }

    fn emit(&mut self, bytes: &[u8], used: bool) {
        self.bytes.extend(bytes);
        self.used.resize(self.bytes.len(), used);
    }

    /// Begins a page where one is due.
    pub fn page(&mut self, continuation: Option<usize>) {
        if self.bytes.len() % self.block != 0 {
            return;
        }
        let first = self.bytes.len() % self.segment == 0;
        let address = self.start + self.bytes.len() as u64;
        let info = u16::from(continuation.is_some()) | u16::from(first) << 1 | self.flags;
        self.flags = 0;
        self.emit(&self.magic.to_ne_bytes(), true);
        self.emit(&info.to_ne_bytes(), true);
        self.emit(&self.timeline.to_ne_bytes(), true);
        self.emit(&address.to_ne_bytes(), true);
        let remaining = u32::try_from(continuation.unwrap_or(0)).unwrap();
        self.emit(&remaining.to_ne_bytes(), continuation.is_some());
        self.emit(&[0; 4], false);
        if first {
            self.emit(&SYSTEM.to_ne_bytes(), true);
            self.emit(&u32::try_from(self.segment).unwrap().to_ne_bytes(), true);
            self.emit(&u32::try_from(self.block).unwrap().to_ne_bytes(), true);
        }
    }

    /// A record of that length whose link is right.
    pub fn bytes_of(&self, length: usize, manager: u8, info: u8) -> Vec<u8> {
        let mut record = Vec::new();
        record.extend(u32::try_from(length).unwrap().to_ne_bytes());
        record.extend(7_u32.to_ne_bytes());
        record.extend(self.previous.to_ne_bytes());
        record.extend([info, manager, 0, 0, 0, 0, 0, 0]);
        record.extend((record.len()..length).map(|n| u8::try_from(n % 251).unwrap()));
        seal(&mut record);
        record
    }

    /// Writes a record as far as to the end of the page on which `enough` bytes of it stand. Returns its offset.
    fn begin(&mut self, record: &[u8], enough: usize) -> usize {
        self.page(None);
        let at = self.bytes.len();
        let mut written = 0;
        while written < enough {
            if written > 0 {
                self.page(Some(record.len() - written));
            }
            let room = self.block - self.bytes.len() % self.block;
            let part = room.min(record.len() - written);
            self.emit(&record[written..written + part], true);
            written += part;
        }
        self.previous = self.start + at as u64;
        at
    }

    fn align(&mut self) {
        self.emit(&vec![0; self.bytes.len().next_multiple_of(8) - self.bytes.len()], false);
    }

    pub fn put(&mut self, record: &[u8]) -> usize {
        let at = self.begin(record, record.len());
        self.records.push(at);
        self.align();
        at
    }

    /// Writes a good record of that length. Returns its offset.
    pub fn record(&mut self, length: usize) -> usize {
        self.put(&self.bytes_of(length, 10, 0))
    }

    /// Writes a record that leaves so many bytes of the page free.
    pub fn leave(&mut self, free: usize) -> usize {
        self.page(None);
        self.record(self.block - self.bytes.len() % self.block - free)
    }

    /// Writes a switch record and what comes behind it. Returns its offset.
    pub fn switch(&mut self) -> usize {
        let at = self.put(&self.bytes_of(24, 0, 0x40));
        self.fill(0);
        at
    }

    /// Fills the segment with bytes that nobody has to look at.
    pub fn fill(&mut self, byte: u8) {
        let rest = self.bytes.len().next_multiple_of(self.segment) - self.bytes.len();
        self.emit(&vec![byte; rest], false);
    }

    /// Writes the start of a record up to the end of a page, and lets a crash keep the server from writing more: the
    /// next page says so.
    pub fn aborted(&mut self, length: usize, enough: usize) -> usize {
        let previous = self.previous;
        let at = self.begin(&self.bytes_of(length, 10, 0), enough);
        self.dropped.push(at..self.bytes.len());
        assert_eq!(self.bytes.len() % self.block, 0, "the record has to go over a page's end");
        self.previous = previous;
        self.flags |= if self.magic < 0xD11C { 8 } else { 4 };
        at
    }

    pub fn header(&self) -> Header {
        Header {
            magic: self.magic,
            timeline: 1,
            lsn: Lsn(self.start),
            system_identifier: SYSTEM,
            numbering: Numbering {
                segment_size: u32::try_from(self.segment).unwrap(),
                skips_last: false,
            },
            block_size: u32::try_from(self.block).unwrap(),
        }
    }

    pub fn segments(&self) -> Vec<Segment<'_>> {
        self.bytes.chunks(self.segment).enumerate().map(|(n, bytes)| self.part(n, bytes)).collect()
    }

    pub fn part<'a>(&self, number: usize, bytes: &'a [u8]) -> Segment<'a> {
        let address = self.start + (number * self.segment) as u64;
        Segment::new(bytes, &Header { lsn: Lsn(address), ..self.header() }, self.timeline).unwrap()
    }

    /// Checks segment after segment, up to the first bad one.
    pub fn check(&self) -> Vec<Verdict> {
        self.check_from(None)
    }

    pub fn check_from(&self, before: Option<&Carry>) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = Vec::new();
        for segment in self.segments() {
            let carry = verdicts.last().map_or(before, |verdict| verdict.carry.as_ref());
            verdicts.push(segment.check(carry));
            if verdicts.last().is_some_and(|verdict| verdict.carry.is_none()) {
                break;
            }
        }
        verdicts
    }

    /// The first stop, and in which segment it is.
    pub fn stop(&self) -> Option<(usize, Stop)> {
        self.stop_from(None)
    }

    pub fn stop_from(&self, before: Option<&Carry>) -> Option<(usize, Stop)> {
        let verdicts = self.check_from(before);
        let End::Stops(stop) = verdicts.last()?.end else { return None };
        Some((verdicts.len() - 1, stop))
    }

    /// What is wrong with it, and at which offset into the bytes.
    #[track_caller]
    pub fn damage(&self) -> (usize, Damage) {
        let (_, stop) = self.stop().expect("it reads through");
        (usize::try_from(stop.at.0 - self.start).unwrap(), stop.why)
    }

    pub fn lsn(&self, offset: usize) -> Lsn {
        Lsn(self.start + offset as u64)
    }

    /// Overwrites bytes.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn seal(record: &mut [u8]) {
    let sum = castagnoli(record[24..].iter().chain(&record[..20]));
    record[20..24].copy_from_slice(&sum.to_ne_bytes());
}

/// CRC-32C bit by bit, by its definition.
pub fn castagnoli<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82F6_3B78 * (sum & 1)))
    })
}
