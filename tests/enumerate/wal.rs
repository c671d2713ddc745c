//! The files of WAL that the stages are made of: segments that hold nothing but their switch record, and what goes
//! with them.

use std::io::{self, Write};

/// The cluster that wrote the segments.
pub const SYSTEM_IDENTIFIER: u64 = 7_000_000_000_000_000_001;

/// The smallest segments that there are.
const SIZE: u32 = 1 << 20;

/// Where a server switched to timeline 2.
pub const HISTORY: &str = "1\t0/380000\tno recovery target specified\n";

/// The beginning of what a base backup leaves.
pub const BACKUP_HISTORY: &str = "START WAL LOCATION: 0/300028 (file 000000010000000000000003)\n";

/// A segment of PostgreSQL 15 with a long page header (`XLogLongPageHeaderData` in `xlog_internal.h`) and a switch
/// record (`XLogRecord` in `xlogrecord.h`), behind which nothing counts.
pub fn segment(name: &str) -> Vec<u8> {
    let digits = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).unwrap_or_default();
    let address = (u64::from(digits(8)) << 32) + u64::from(digits(16)) * u64::from(SIZE);
    let mut bytes = Vec::with_capacity(SIZE as usize);
    bytes.extend(0xD110_u16.to_ne_bytes());
    bytes.extend(2_u16.to_ne_bytes()); // it is a long header
    bytes.extend(digits(0).to_ne_bytes());
    bytes.extend(address.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(SYSTEM_IDENTIFIER.to_ne_bytes());
    bytes.extend(SIZE.to_ne_bytes());
    bytes.extend(8192_u32.to_ne_bytes());

    let mut record = Vec::with_capacity(24);
    record.extend(24_u32.to_ne_bytes());
    record.extend(0_u32.to_ne_bytes());
    // The record before it is the one in the segment before.
    let before = address.checked_sub(SIZE.into()).map_or(0, |start| start + 40);
    record.extend(before.to_ne_bytes());
    record.extend([0x40, 0, 0, 0]); // XLOG_SWITCH of the resource manager 0
    record.extend(crc32c(&record).to_ne_bytes());
    bytes.extend(record);
    bytes.resize(SIZE as usize, 0);
    bytes
}

/// As the tool writes it.
pub fn zstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 }
        })
    })
}
