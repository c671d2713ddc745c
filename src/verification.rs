//! Would the server read through this copy of a segment? A server outside standby mode takes a record that it cannot read
//! for the end of WAL, and promotes there. What follows from the answer is decided elsewhere.

use std::fs::OpenOptions;
use std::mem;
use std::path::Path;
use std::time::Instant;

use log::debug;
use nix::fcntl::OFlag;

use crate::file_system::open_regular;
use crate::mapping::{self, Contents};
use crate::wal::header::Header;
use crate::wal::name::SegmentName;
use crate::wal::records::{Carry, End, Segment, Stop};

/// A copy of a segment that is to be read.
pub struct Copy<'a> {
    /// The segment.
    pub segment: SegmentName,
    /// What its first page says.
    pub header: Header,
    /// Its bytes, all of them.
    pub contents: &'a [u8],
}

/// Reads the records of a copy as the server would. Returns where the server would stop before the segment's end, if it
/// would. Records laid out in a way that is not known here are not read. `wal_directory` has what the server has read
/// before; `None` where it begins with this segment.
#[must_use]
pub fn stop(copy: &Copy, wal_directory: Option<&Path>) -> Option<Stop> {
    match read(copy, wal_directory)? {
        End::Switch | End::LastByte => None,
        End::Stops(stop) => Some(stop),
    }
}

/// Reads the records of the beginning of a segment. Returns how many bytes of it are valid: up to the end of the last whole
/// record. `None` where the records are laid out in a way that is not known here.
#[must_use]
pub fn valid(copy: &Copy, wal_directory: &Path) -> Option<usize> {
    match read(copy, Some(wal_directory))? {
        End::Switch | End::LastByte => Some(copy.contents.len()),
        End::Stops(stop) => Some(stop.valid),
    }
}

fn read(copy: &Copy, wal_directory: Option<&Path>) -> Option<End> {
    let Copy { segment, header, contents } = copy;
    let before = wal_directory.and_then(|directory| before(*segment, header, directory));
    let magic = before.as_ref().map(|(_, header, _)| header.magic);
    if let Some(stop) = Segment::stop_at_magic(contents, header, magic) {
        return Some(End::Stops(stop));
    }
    let Some(records) = Segment::new(contents, header, segment.timeline) else {
        debug!("records of {segment} are not checked: magic {:04X} is not known", header.magic);
        return None;
    };
    let started = Instant::now();
    let carry = before.zip(wal_directory).and_then(|(before, directory)| carry(before, directory));
    let verdict = records.check(carry.as_ref());
    let elapsed = started.elapsed().as_secs_f64() * 1000.0;
    debug!("checked {} records of {segment} in {elapsed:.1} ms", verdict.records);
    Some(verdict.end)
}

/// A segment in the server's WAL directory.
type Replayed = (SegmentName, Header, Contents);

/// What the segments before say about the first record, which may have begun in one of them: they are where the server
/// keeps what it has replayed. As far back as is needed, or as they are there and what they should be.
fn carry(last: Replayed, wal_directory: &Path) -> Option<Carry> {
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
        let contents = mapping::map_in_part(&file, usize::try_from(metadata.len()).ok()?).ok()?;
        let found = Header::parse(&contents).ok()?;
        found.check(name, metadata.len(), Some(header.system_identifier)).ok()?;
        Some((name, found, contents))
    })
}
