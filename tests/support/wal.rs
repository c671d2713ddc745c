//! Files of WAL made for tests: segments with a good first page and recognizable bytes behind it.

const MB: usize = 1 << 20;

/// The cluster that the segments are of, unless they say otherwise.
pub const SYSTEM_IDENTIFIER: u64 = 7_000_000_000_000_000_001;

/// A segment; each field may be made wrong.
#[derive(Clone)]
#[allow(clippy::struct_field_names, reason = "the field's own words")]
pub struct Segment {
    pub name: String,
    pub size: usize,
    pub magic: u16,
    pub info: u16,
    pub timeline: u32,
    pub address: u64,
    pub system_identifier: u64,
    pub segment_size: u32,
    pub block_size: u32,
}

impl Segment {
    /// A good one of 1 MB, as PostgreSQL 15 writes it.
    pub fn named(name: &str) -> Self {
        Self::sized(name, MB)
    }

    /// A good one of another size.
    pub fn sized(name: &str, size: usize) -> Self {
        let digits = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).unwrap();
        Self {
            name: name.to_owned(),
            size,
            magic: 0xD110,
            info: 2,
            timeline: digits(0),
            address: (u64::from(digits(8)) << 32) + u64::from(digits(16)) * size as u64,
            system_identifier: SYSTEM_IDENTIFIER,
            segment_size: size.try_into().unwrap(),
            block_size: 8192,
        }
    }

    /// Its bytes; up to 9.2 (magic D071) in the layout of that time.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size);
        bytes.extend(self.magic.to_ne_bytes());
        bytes.extend(self.info.to_ne_bytes());
        bytes.extend(self.timeline.to_ne_bytes());
        if self.magic < 0xD075 {
            let (log, offset) = (self.address >> 32, self.address & 0xFFFF_FFFF);
            bytes.extend(u32::try_from(log).unwrap().to_ne_bytes());
            bytes.extend(u32::try_from(offset).unwrap().to_ne_bytes());
        } else {
            bytes.extend(self.address.to_ne_bytes());
            bytes.extend([0; 8]);
        }
        bytes.extend(self.system_identifier.to_ne_bytes());
        bytes.extend(self.segment_size.to_ne_bytes());
        bytes.extend(self.block_size.to_ne_bytes());
        let mut body = self.name.repeat(self.size / self.name.len() + 1).into_bytes();
        body.truncate(self.size - bytes.len());
        bytes.extend(body);
        bytes
    }
}

/// The name `count` segments after `name`, within its log file.
pub fn after(name: &str, count: u32) -> String {
    let number = u32::from_str_radix(&name[16..], 16).unwrap();
    format!("{}{:08X}", &name[..16], number + count)
}
