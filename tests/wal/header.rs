//! The header that the first page of a segment begins with, written once for all tests: its fields by name, as a server on
//! this machine has them in memory (`XLogLongPageHeaderData` in PostgreSQL's `xlog_internal.h`).

/// The long header. Each field may be made wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub magic: u16,
    pub info: u16,
    pub timeline: u32,
    pub lsn: u64,
    /// How many bytes of a record that began before this page are still to come.
    pub remaining: u32,
    pub system_identifier: u64,
    pub segment_size: u32,
    pub block_size: u32,
}

impl Header {
    /// The first magic of the layout that there is since 9.3.
    pub const NEW_LAYOUT: u16 = 0xD075;

    /// Returns the header of a segment of 9.3 or later, `None` where the bytes are too few.
    pub fn of(segment: &[u8]) -> Option<Self> {
        let mut rest = segment;
        let header = Self {
            magic: u16::from_ne_bytes(take(&mut rest)?),
            info: u16::from_ne_bytes(take(&mut rest)?),
            timeline: u32::from_ne_bytes(take(&mut rest)?),
            lsn: u64::from_ne_bytes(take(&mut rest)?),
            remaining: u32::from_ne_bytes(take(&mut rest)?),
            system_identifier: {
                let _padding: [u8; 4] = take(&mut rest)?;
                u64::from_ne_bytes(take(&mut rest)?)
            },
            segment_size: u32::from_ne_bytes(take(&mut rest)?),
            block_size: u32::from_ne_bytes(take(&mut rest)?),
        };
        Some(header)
    }

    /// Returns its bytes: 40, or 32 in the layout up to 9.2, which has the halves of the LSN the other way round and
    /// nothing of a record.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40);
        bytes.extend(self.magic.to_ne_bytes());
        bytes.extend(self.info.to_ne_bytes());
        bytes.extend(self.timeline.to_ne_bytes());
        if self.magic < Self::NEW_LAYOUT {
            for half in [self.lsn >> 32, self.lsn & u64::from(u32::MAX)] {
                bytes.extend(u32::try_from(half).unwrap_or_default().to_ne_bytes());
            }
        } else {
            bytes.extend(self.lsn.to_ne_bytes());
            bytes.extend(self.remaining.to_ne_bytes());
            bytes.extend([0; 4]);
        }
        bytes.extend(self.system_identifier.to_ne_bytes());
        bytes.extend(self.segment_size.to_ne_bytes());
        bytes.extend(self.block_size.to_ne_bytes());
        bytes
    }

    /// Puts it in the place of a segment's own.
    pub fn put_on(&self, segment: &mut [u8]) {
        for (byte, new) in segment.iter_mut().zip(self.bytes()) {
            *byte = new;
        }
    }
}

fn take<const COUNT: usize>(rest: &mut &[u8]) -> Option<[u8; COUNT]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*first)
}
