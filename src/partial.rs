//! The valid part of a segment that is still being received, SEGMENT.partial: from its start to the end of the last whole
//! record. `pg_receivewal` leaves such a file, with zeros behind what it has received. When the part is handed over is
//! decided in `search` and `decision`, and how in `restore`.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::OFlag;

use crate::archive::Found;
use crate::decompress::{Reader, Trouble};
use crate::file_system::open_regular;
use crate::source::Reason;
use crate::verification::Verification;
use crate::wal::flaw::Flaw;
use crate::wal::header::{HEADER_SIZE, Header};
use crate::wal::lsn::Lsn;
use crate::wal::name::SegmentName;
use crate::wal::records::PIECE;

/// The valid part of a segment.
#[derive(Debug)]
pub struct Partial {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How long the whole segment will be, in bytes.
    pub segment_size: u64,
    /// Where it ends in WAL.
    pub end: Lsn,
    /// How its cluster numbers segments, and what else its first page says.
    pub header: Header,
}

/// Reads the valid part; `None` where no record is whole yet, or the layout of the records is not known. Compressed data
/// end where they cannot be decompressed any further: their writer may not be done.
///
/// # Errors
/// The file cannot be read; or it is no file, it cannot be decompressed at all, or what its header says is wrong.
pub fn read(
    found: Found,
    segment: SegmentName,
    system_identifier: Option<u64>,
    wal_directory: &Path,
) -> io::Result<Result<Option<Partial>, Reason>> {
    let Found { path, opened: Some((file, _)), is_compressed } = found else {
        return Ok(Ok(None));
    };
    let mut bytes = Vec::new();
    let mut reader = Reader::new(&Rc::new(file), is_compressed);
    let header = loop {
        let filled = match read_piece(&mut reader, &mut bytes) {
            Ok(filled) => filled,
            Err(Trouble::Read(error)) => return Err(error),
            Err(Trouble::Fault(fault)) if bytes.is_empty() && !fault.is_passing() => {
                return Ok(Err(Reason::Compressed(fault)));
            }
            Err(Trouble::Fault(_)) => false,
        };
        match Header::parse(&bytes) {
            // A file that has just been made.
            Err(Flaw::NoHeader { .. } | Flaw::Magic { found: 0 }) => return Ok(Ok(None)),
            Err(flaw) => return Ok(Err(Reason::Flaw(flaw))),
            Ok(header) => {
                let is_all = bytes.len() >= header.numbering.segment_size as usize;
                if is_all || !filled || !has_last_page(&bytes, header.block_size as usize) {
                    break header;
                }
            }
        }
    };
    let segment_size = u64::from(header.numbering.segment_size);
    bytes.truncate(header.numbering.segment_size as usize);
    if let Err(flaw) = header.check(segment, segment_size, system_identifier) {
        return Ok(Err(Reason::Flaw(flaw)));
    }
    let mut verification = Verification::new(segment, header, Some(wal_directory));
    verification.read(&bytes);
    let Some(valid) = verification.valid(bytes.len()) else {
        return Ok(Ok(None));
    };
    bytes.truncate(valid);
    let end = header.lsn.plus(valid);
    let partial = Partial { path, bytes, segment_size, end, header };
    Ok(Ok((valid > HEADER_SIZE).then_some(partial)))
}

/// Returns where the valid part of the server's own file ends: what was handed over last. `None` where there is none.
#[must_use]
pub fn end_in(wal_directory: &Path, segment: SegmentName, expected: &Header) -> Option<Lsn> {
    let path = wal_directory.join(segment.to_string());
    let opened = open_regular(&path, OpenOptions::new().read(true), OFlag::empty()).ok()?;
    let identifier = Some(expected.system_identifier);
    let found = Found { path, opened, is_compressed: false };
    let partial = read(found, segment, identifier, wal_directory).ok()?.ok()??;
    Some(partial.end)
}

/// Returns whether the server's own file has the beginning of the segment. A file that has the name and waits for being
/// used again has not.
#[must_use]
pub fn begins_in(
    wal_directory: &Path,
    segment: SegmentName,
    system_identifier: Option<u64>,
) -> bool {
    let path = wal_directory.join(segment.to_string());
    let opened = open_regular(&path, OpenOptions::new().read(true), OFlag::empty());
    let Ok(Some((file, metadata))) = opened else { return false };
    let mut page = [0; HEADER_SIZE];
    let header = file.read_exact_at(&mut page, 0).map(|()| Header::parse(&page));
    matches!(header, Ok(Ok(header)) if header.check(segment, metadata.len(), system_identifier).is_ok())
}

/// Returns whether something of the last page has been received: what has not been is zeros. A page that is full of data
/// may end in zeros, but never begins with them.
fn has_last_page(bytes: &[u8], block_size: usize) -> bool {
    let begin = bytes.len().saturating_sub(block_size);
    bytes.get(begin..).unwrap_or_default().iter().take(2).any(|byte| *byte != 0)
}

/// Adds the next piece of the file, as far as that can be read. Returns whether it was a full one.
fn read_piece(reader: &mut Reader, bytes: &mut Vec<u8>) -> Result<bool, Trouble> {
    let before = bytes.len();
    bytes.resize(before.saturating_add(PIECE), 0);
    let (filled, result) = reader.fill(bytes.get_mut(before..).unwrap_or_default());
    bytes.truncate(before.saturating_add(filled));
    result.map(|()| filled == PIECE)
}
