//! Would the server read through this segment? A server outside standby mode takes a record that it cannot read
//! for the end of WAL, and promotes there. What follows from the answer is decided elsewhere.

use std::fs::OpenOptions;
use std::mem;
use std::path::Path;
use std::time::{Duration, Instant};

use log::debug;
use nix::fcntl::OFlag;

use crate::file_system::open_regular;
use crate::mapping::{self, Contents};
use crate::wal::header::Header;
use crate::wal::name::SegmentName;
use crate::wal::records::{Carry, End, Scan, Segment, Stop, stop_at_magic};

/// Reads the records of a segment as the server would, piece by piece.
pub struct Verification {
    segment: SegmentName,
    header: Header,
    /// The magic of the segment before, where that is known.
    magic: Option<u16>,
    /// `None` where the records are laid out in a way that is not known here.
    scan: Option<Scan>,
    has_begun: bool,
    /// Where the server would not even begin.
    stop: Option<Stop>,
    elapsed: Duration,
}

impl Verification {
    /// A segment whose first page says that. `wal_directory` has what the server has read before; `None` where it begins
    /// with this segment.
    #[must_use]
    pub fn new(segment: SegmentName, header: Header, wal_directory: Option<&Path>) -> Self {
        let started = Instant::now();
        let before = wal_directory.and_then(|directory| before(segment, &header, directory));
        let magic = before.as_ref().map(|(_, header, _)| header.magic);
        let carry = before.zip(wal_directory).and_then(|(before, path)| carried(before, path));
        let scan = Scan::new(&header, segment.timeline, carry.as_ref());
        let elapsed = started.elapsed();
        Self { segment, header, magic, scan, has_begun: false, stop: None, elapsed }
    }

    /// Reads on. Only the last piece may be shorter than
    /// [`PIECE`](crate::wal::records::PIECE).
    pub fn read(&mut self, piece: &[u8]) {
        let started = Instant::now();
        if !mem::replace(&mut self.has_begun, true) {
            self.stop = stop_at_magic(piece, &self.header, self.magic);
        }
        if let (None, Some(scan)) = (self.stop, &mut self.scan) {
            scan.read(piece);
        }
        self.elapsed = self.elapsed.saturating_add(started.elapsed());
    }

    /// Returns where the server would stop before the segment's end, if it would.
    #[must_use]
    pub fn stop(self) -> Option<Stop> {
        match self.end()? {
            End::Switch | End::LastByte => None,
            End::Stops(stop) => Some(stop),
        }
    }

    /// Returns how many of the `length` bytes that were read are valid: up to the end of the last whole record. `None`
    /// where the records are laid out in a way that is not known here.
    #[must_use]
    pub fn valid(self, length: usize) -> Option<usize> {
        match self.end()? {
            End::Switch | End::LastByte => Some(length),
            End::Stops(stop) => Some(stop.valid),
        }
    }

    fn end(self) -> Option<End> {
        let Self { segment, header, scan, stop, elapsed, .. } = self;
        if let Some(stop) = stop {
            return Some(End::Stops(stop));
        }
        let Some(scan) = scan else {
            debug!("records of {segment} are not checked: magic {:04X} is not known", header.magic);
            return None;
        };
        let verdict = scan.verdict();
        let milliseconds = elapsed.as_secs_f64() * 1000.0;
        debug!("checked {} records of {segment} in {milliseconds:.1} ms", verdict.records);
        Some(verdict.end)
    }
}

/// A segment in the server's WAL directory.
type Replayed = (SegmentName, Header, Contents);

/// What the segments before say about the first record of a segment, which may have begun in one of them: they are where
/// the server keeps what it has replayed. As far back as is needed, or as they are there and what they should be.
#[must_use]
pub fn carry(segment: SegmentName, header: &Header, wal_directory: &Path) -> Option<Carry> {
    carried(before(segment, header, wal_directory)?, wal_directory)
}

fn carried(last: Replayed, wal_directory: &Path) -> Option<Carry> {
    let skim = |(name, header, contents): &Replayed, carry: Option<&Carry>| {
        Segment::new(contents, header, name.timeline)?.skim(carry)
    };
    let mut first = last;
    let mut others = Vec::new();
    let mut carry = skim(&first, None)?;
    while carry.begins_earlier() {
        let Some(earlier) = before(first.0, &first.1, wal_directory) else { break };
        others.push(mem::replace(&mut first, earlier));
        carry = skim(&first, None)?;
    }
    others.iter().rev().try_fold(carry, |carry, other| skim(other, Some(&carry)))
}

/// The segment before, as the server has it, if it is there and what it should be. The first page may be of an earlier
/// timeline, and the segment before with it.
fn before(segment: SegmentName, header: &Header, wal_directory: &Path) -> Option<Replayed> {
    let position = header.numbering.before(segment.position, 1)?;
    [segment.timeline, header.timeline].into_iter().find_map(|timeline| {
        let name = SegmentName { timeline, position };
        let path = wal_directory.join(name.to_string());
        let (file, metadata) =
            open_regular(&path, OpenOptions::new().read(true), OFlag::empty()).ok()??;
        let contents = mapping::map(&file, usize::try_from(metadata.len()).ok()?).ok()?;
        let found = Header::parse(&contents).ok()?;
        found.check(name, metadata.len(), Some(header.system_identifier)).ok()?;
        Some((name, found, contents))
    })
}
