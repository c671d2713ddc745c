//! Which names may go from the archive, and removing them.
//! That a segment was restored first is the caller's to see to.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use log::{debug, warn};

use crate::wal::name::{Numbering, Position, SegmentName, WalName};

/// Compressed forms that go together with the segments they hold.
const COMPRESSED: [&[u8]; 3] = [b".gz", b".lz4", b".zst"];

/// What is kept from pruning.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// RESTARTWALFILE and everything after it.
    From(&'a OsStr),
    /// So many segments before the requested one; 0 keeps all.
    Count(u32),
}

/// The first position that stays, given that `requested` has just been restored; `None` where everything stays.
#[must_use]
pub fn cutoff(keep: Keep<'_>, requested: Position, numbering: Numbering) -> Option<Position> {
    match keep {
        Keep::Count(0) => None,
        Keep::Count(count) => numbering.before(requested, count.into()),
        Keep::From(restart_file) => {
            let Some(restart) = SegmentName::parse(restart_file.as_bytes()) else {
                warn!(
                    "RESTARTWALFILE {restart_file:?} is no name of a segment, nothing is pruned: \
                     expected what the server gives as %r"
                );
                return None;
            };
            let cutoff = restart.position;
            (cutoff != Position::ZERO && cutoff <= requested).then_some(cutoff)
        }
    }
}

/// Removes what precedes `cutoff` from the archive, oldest first, so that an interruption leaves no hole. A file that
/// cannot be removed is a warning.
pub fn remove_before(cutoff: Position, archive_location: &Path, destination: &Path) {
    if is_same_directory(archive_location, destination.parent()) {
        warn!(
            "archive location {archive_location:?} is the directory that the server restores to: nothing is pruned"
        );
        return;
    }
    let mut doomed = match preceding(cutoff, archive_location) {
        Ok(doomed) => doomed,
        Err(error) => {
            warn!("could not list {archive_location:?}: {error}; nothing is pruned");
            return;
        }
    };
    doomed.sort();
    for (_, path) in doomed {
        match fs::remove_file(&path) {
            Ok(()) => debug!("removed {path:?}"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                warn!("could not remove {path:?}: {error}; nothing is pruned");
                return;
            }
            Err(error) => warn!("could not remove {path:?}: {error}"),
        }
    }
}

fn preceding(cutoff: Position, archive_location: &Path) -> io::Result<Vec<(Position, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(archive_location)? {
        let entry = entry?;
        if let Some(position) = prunable(&entry.file_name()).filter(|at| *at < cutoff) {
            found.push((position, entry.path()));
        }
    }
    Ok(found)
}

/// The position of a segment, of a partial or of a compressed one. Nothing else is ever removed.
fn prunable(name: &OsStr) -> Option<Position> {
    let name = name.as_bytes();
    let name = COMPRESSED.iter().find_map(|suffix| name.strip_suffix(*suffix)).unwrap_or(name);
    match WalName::parse(OsStr::from_bytes(name))? {
        WalName::Segment(segment) | WalName::Partial(segment) => Some(segment.position),
        WalName::History(_) | WalName::BackupHistory(..) => None,
    }
}

fn is_same_directory(one: &Path, other: Option<&Path>) -> bool {
    let identity = |path| fs::metadata(path).map(|is| (is.dev(), is.ino())).ok();
    match other {
        Some(other) => identity(one).is_some_and(|one| identity(other) == Some(one)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERING: Numbering = Numbering { segment_size: 16 << 20, skips_last: false };

    fn at(log: u32, segment: u32) -> Position {
        Position { log, segment }
    }

    fn from(restart_file: &str) -> Option<Position> {
        cutoff(Keep::From(OsStr::new(restart_file)), at(1, 5), NUMBERING)
    }

    #[test]
    fn the_restart_file_is_the_cutoff_unless_it_cannot_be() {
        assert_eq!(from("000000010000000100000003"), Some(at(1, 3)));
        assert_eq!(from("000000090000000100000005"), Some(at(1, 5)), "timelines do not count");
        assert_eq!(from("000000010000000100000006"), None, "later than the requested segment");
        assert_eq!(from("000000000000000000000000"), None, "no restart point");
        assert_eq!(from("%r"), None, "8.2 passes it through");
    }

    #[test]
    fn a_count_goes_back_from_the_requested_segment() {
        let keep = |count| cutoff(Keep::Count(count), at(1, 1), NUMBERING);
        assert_eq!(keep(0), None);
        assert_eq!(keep(3), Some(at(0, 0xFE)));
        assert_eq!(keep(257), Some(at(0, 0)));
        assert_eq!(keep(258), None);
    }

    #[test]
    fn only_segments_and_their_forms_may_go() {
        let segment = "000000010000000200000003";
        for name in ["", ".partial", ".gz", ".lz4", ".zst", ".partial.gz"] {
            let name = format!("{segment}{name}");
            assert_eq!(prunable(OsStr::new(&name)), Some(at(2, 3)), "{name}");
        }
        for name in [".00000028.backup", ".history", ".tmp", ".gz.gz", ".GZ", "0", " "] {
            let name = format!("{segment}{name}");
            assert_eq!(prunable(OsStr::new(&name)), None, "{name}");
        }
        for name in ["00000002.history", "00000002.history.gz", "mounted", ""] {
            assert_eq!(prunable(OsStr::new(name)), None, "{name}");
        }
    }
}
