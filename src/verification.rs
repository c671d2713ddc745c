//! Would the server read through this copy of a segment? A server outside standby mode takes a record that it cannot read
//! for the end of WAL, and promotes there. What follows from the answer is decided elsewhere.

use std::fs::OpenOptions;
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
/// would. Records laid out in a way that is not known here are not read.
#[must_use]
pub fn stop(copy: &Copy, wal_directory: &Path) -> Option<Stop> {
    match read(copy, wal_directory)? {
        End::Switch | End::LastByte => None,
        End::Stops(stop) => Some(stop),
    }
}

/// Reads the records of the beginning of a segment. Returns how many bytes of it are valid: up to the end of the last whole
/// record. `None` where the records are laid out in a way that is not known here.
#[must_use]
pub fn valid(copy: &Copy, wal_directory: &Path) -> Option<usize> {
    match read(copy, wal_directory)? {
        End::Switch | End::LastByte => Some(copy.contents.len()),
        End::Stops(stop) => Some(stop.valid),
    }
}

fn read(copy: &Copy, wal_directory: &Path) -> Option<End> {
    let Copy { segment, header, contents } = copy;
    let Some(records) = Segment::new(contents, header, segment.timeline) else {
        debug!("records of {segment} are not checked: magic {:04X} is not known", header.magic);
        return None;
    };
    let started = Instant::now();
    let carry = carry(*segment, header, wal_directory);
    let verdict = records.check(carry.as_ref());
    let elapsed = started.elapsed().as_secs_f64() * 1000.0;
    debug!("checked {} records of {segment} in {elapsed:.1} ms", verdict.records);
    Some(verdict.end)
}

/// What the segments before say about the first record, which may have begun in one of them: they are where the server
/// keeps what it has replayed. As far back as is needed, or as they are there and what they should be.
fn carry(segment: SegmentName, header: &Header, wal_directory: &Path) -> Option<Carry> {
    let mut before = Vec::new();
    let mut position = segment.position;
    let mut carry = None;
    while carry.as_ref().is_none_or(Carry::begins_earlier) {
        position = header.numbering.before(position, 1)?;
        // The first page may be of an earlier timeline, and the segment before with it.
        let mut timelines = [segment.timeline, header.timeline].into_iter();
        let Some(found) = timelines.find_map(|timeline| {
            open_before(SegmentName { timeline, position }, header, wal_directory)
        }) else {
            break;
        };
        before.push(found);
        carry =
            before.iter().rev().try_fold(None, |carry: Option<Carry>, (name, header, bytes)| {
                Segment::new(bytes, header, name.timeline)?.skim(carry.as_ref()).map(Some)
            })?;
    }
    carry
}

fn open_before(
    name: SegmentName,
    expected: &Header,
    wal_directory: &Path,
) -> Option<(SegmentName, Header, Contents)> {
    let path = wal_directory.join(name.to_string());
    let (file, metadata) =
        open_regular(&path, OpenOptions::new().read(true), OFlag::empty()).ok()??;
    let contents = mapping::map_in_part(&file, usize::try_from(metadata.len()).ok()?).ok()?;
    let header = Header::parse(&contents).ok()?;
    header.check(name, metadata.len(), Some(expected.system_identifier)).ok()?;
    (header.magic == expected.magic).then_some((name, header, contents))
}
