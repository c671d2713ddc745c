//! Could a server read the records of the segments in the archive? All of them are read on demand only, because that takes
//! as long as reading the whole archive; those of the segment that a call waits for always are, if it reads them too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::decompress::Reader;
use crate::options::Verify;
use crate::report::Progress;
use crate::verification;
use crate::wal::header::Header;
use crate::wal::records::{Carry, End, PIECE, Scan};

use super::call::Call;
use super::checks::{Checks, Task, Why, open};
use super::scan::Found;
use super::words;

impl Task<'_> {
    /// Reads the records of what is not known to be bad.
    pub(super) fn read_records(&self, checks: &mut Checks, progress: &mut Progress) {
        let bad: BTreeSet<_> = checks.not_ready.iter().map(|it| it.name).collect();
        let call = self.call.filter(|call| call.options.verify == Verify::Records);
        let awaited = call.and_then(Call::segment);
        let is_read = |it: &&&Found| self.reads_records || Some(it.name) == awaited;
        let good: Vec<_> =
            self.segments.iter().filter(is_read).filter(|it| !bad.contains(&it.name)).collect();
        let total: u64 = good.iter().filter_map(|it| it.length).sum();
        let (started, mut done) = (Instant::now(), 0_u64);
        // What the segment before says of each timeline's next one.
        let mut carries: BTreeMap<u32, Carry> = BTreeMap::new();
        for found in good {
            let carry = carries.remove(&found.name.timeline);
            let path = self.location.join(found.file_name());
            let has_read = call.filter(|_| Some(found.name) == awaited).and_then(Call::has_read);
            match read_records(&path, found, carry, has_read) {
                Ok(Some((end, carry))) => {
                    checks.records = checks.records.saturating_add(1);
                    carries.extend(carry.map(|carry| (found.name.timeline, carry)));
                    if let End::Stops(stop) = end {
                        checks.add(found, Why::Stop(stop));
                    }
                }
                Ok(None) => {}
                Err(why) => checks.add(found, why),
            }
            done = done.saturating_add(found.length.unwrap_or_default());
            progress.show(&rate(done, total, started.elapsed()));
        }
    }
}

/// How far reading has come, how fast it is, and how long it will take.
fn rate(done: u64, total: u64, elapsed: Duration) -> String {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let per_second = done.saturating_mul(1000).checked_div(milliseconds).unwrap_or_default();
    let left = total.saturating_sub(done).checked_div(per_second.max(1)).unwrap_or_default();
    format!(
        "reading records: {} of {}, {} a second, {} left",
        words::size(done),
        words::size(total),
        words::size(per_second),
        words::time(Duration::from_secs(left))
    )
}

/// Reads the records of a segment, if their layout is known and the file has not gone. What the segments before it say
/// is in `carry`, or in those that the server `has_read`.
fn read_records(
    path: &Path,
    found: &Found,
    carry: Option<Carry>,
    has_read: Option<&Path>,
) -> Result<Option<(End, Option<Carry>)>, Why> {
    let Some(Ok((file, _))) = open(path) else { return Ok(None) };
    let mut reader = Reader::new(&file, found.is_compressed());
    let mut piece = vec![0; PIECE];
    let mut read_on = |piece: &mut [u8]| {
        let (filled, result) = reader.fill(piece);
        result.map(|()| filled).map_err(Why::from)
    };
    let mut filled = read_on(&mut piece)?;
    let Ok(header) = Header::parse(piece.get(..filled).unwrap_or_default()) else {
        return Ok(None);
    };
    let mut length: u64 = 0;
    let of_server = || verification::carry(found.name, &header, has_read?);
    let carry = carry.or_else(of_server);
    let mut scan = Scan::new(&header, found.name.timeline, carry.as_ref());
    // To the end: what follows a compressed segment, or its checksum, is read as well.
    while filled > 0 {
        length = length.saturating_add(filled as u64);
        if length > header.numbering.segment_size.into() {
            return Err(Why::Unreadable("longer than a segment".to_owned()));
        }
        if let Some(scan) = &mut scan {
            scan.read(piece.get(..filled).unwrap_or_default());
        }
        filled = read_on(&mut piece)?;
    }
    Ok(scan.map(Scan::verdict).map(|verdict| (verdict.end, verdict.carry)))
}
