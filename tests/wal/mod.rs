//! Files of WAL made for tests: segments with a good header, one record that ends them, and recognizable bytes behind it.

mod header;

pub use header::Header;

pub const MB: usize = 1 << 20;

/// The cluster that the segments are of, unless they say otherwise.
pub const SYSTEM_IDENTIFIER: u64 = 7_000_000_000_000_000_001;

/// A segment. Whatever is in it may be made wrong.
#[derive(Clone)]
pub struct Segment {
    pub name: String,
    pub size: usize,
    pub header: Header,
    /// How many records of [`RECORD`] bytes stand before the one that ends it.
    pub records: usize,
    /// How long the text of the one record is that stands there instead, all zeros.
    pub zeros: usize,
}

/// Bytes of each record before the last one, a header and a text.
pub const RECORD: usize = 64;

/// Bytes of a record's header.
const RECORD_HEADER: usize = 24;

impl Segment {
    /// A good one of 1 MB, as PostgreSQL 15 writes it.
    pub fn named(name: &str) -> Self {
        Self::sized(name, MB)
    }

    /// A good one of another size.
    pub fn sized(name: &str, size: usize) -> Self {
        let digits = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).unwrap();
        let header = Header {
            magic: 0xD110,
            info: 2,
            timeline: digits(0),
            lsn: (u64::from(digits(8)) << 32) + u64::from(digits(16)) * size as u64,
            remaining: 0,
            system_identifier: SYSTEM_IDENTIFIER,
            segment_size: size.try_into().unwrap(),
            block_size: 8192,
        };
        Self { name: name.to_owned(), size, header, records: 0, zeros: 0 }
    }

    /// The same with another header.
    pub fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    /// The same with so many records, as many as its first page holds at most.
    pub fn with_records(mut self, records: usize) -> Self {
        assert!(Self::record(records) + RECORD <= self.header.block_size as usize);
        self.records = records;
        self
    }

    /// The same with one record of so many zeros, over as many pages as that takes, and nothing behind it.
    pub fn with_zeros(mut self, zeros: usize) -> Self {
        self.zeros = zeros;
        self
    }

    /// Where the record of that number begins, in bytes from the beginning of the segment.
    pub fn record(number: usize) -> usize {
        HEADER + number * RECORD
    }

    /// Its bytes. In the layout up to 9.2 there is no record in it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size);
        bytes.extend(self.header.bytes());
        if self.zeros > 0 {
            self.lay_zeros(&mut bytes);
            bytes.resize(self.size, 0);
            return bytes;
        }
        if self.header.magic >= Header::NEW_LAYOUT {
            // The record before the first is the only one in the segment before.
            let before = self.header.lsn.checked_sub(self.header.segment_size.into());
            let mut previous = before.map_or(0, |segment| segment + HEADER as u64);
            for number in 0..self.records {
                let text = format!("{:RECORD_TEXT$}", format!("record {number}"));
                bytes.extend(record(XLOG_NOOP, previous, text.as_bytes()));
                previous = self.header.lsn + Self::record(number) as u64;
            }
            bytes.extend(record(XLOG_SWITCH, previous, &[]));
        }
        let mut body = self.name.repeat(self.size / self.name.len() + 1).into_bytes();
        body.truncate(self.size - bytes.len());
        bytes.extend(body);
        bytes
    }
}

impl Segment {
    /// Adds the one record, with a header on each page that it goes on to.
    fn lay_zeros(&self, bytes: &mut Vec<u8>) {
        let page = self.header.block_size as usize;
        let before = self.header.lsn - u64::from(self.header.segment_size) + HEADER as u64;
        for byte in record(XLOG_NOOP, before, &vec![0; self.zeros]) {
            if bytes.len() % page == 0 {
                let done = bytes.len() - HEADER - (bytes.len() / page - 1) * PAGE_HEADER;
                let header = Header {
                    info: 1,
                    lsn: self.header.lsn + bytes.len() as u64,
                    remaining: u32::try_from(RECORD_HEADER + self.zeros - done).unwrap(),
                    ..self.header
                };
                bytes.extend(&header.bytes()[..PAGE_HEADER]);
            }
            bytes.push(byte);
        }
    }
}

const HEADER: usize = 40;
/// Of the pages after the first.
const PAGE_HEADER: usize = 24;
const RECORD_TEXT: usize = RECORD - RECORD_HEADER;

/// The record that `pg_switch_wal` leaves: what follows it in its segment is not WAL to any reader.
const XLOG_SWITCH: u8 = 0x40;
/// A record that does nothing.
const XLOG_NOOP: u8 = 0x20;

/// A record of the resource manager 0 (`XLogRecord` in PostgreSQL's `xlogrecord.h`, kinds in `pg_control.h`).
fn record(kind: u8, previous: u64, text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(RECORD_HEADER + text.len()).unwrap();
    let transaction: u32 = 0;
    let mut record = Vec::from(length.to_ne_bytes());
    record.extend(transaction.to_ne_bytes());
    record.extend(previous.to_ne_bytes());
    record.extend([kind, 0, 0, 0]);
    let checksum = crc32c(&[text, &record].concat());
    record.extend(checksum.to_ne_bytes());
    record.extend(text);
    record
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    });
    !crc
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let good = Segment::named("000000010000000000000005");
    let mut bytes = good.bytes();
    let read = Header::of(&bytes).unwrap();
    assert_eq!(read, good.header);
    let changed = Header { timeline: 7, lsn: 77 << 20, ..read };
    changed.put_on(&mut bytes);
    assert_eq!(Header::of(&bytes).unwrap(), changed);
    assert_eq!(bytes[40..], good.bytes()[40..]);
}

#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

/// The name `count` segments after `name`, within its log file.
pub fn after(name: &str, count: u32) -> String {
    let number = u32::from_str_radix(&name[16..], 16).unwrap();
    format!("{}{:08X}", &name[..16], number + count)
}
