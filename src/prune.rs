//! Which names may go from the archive, and removing them.
//! That a segment was restored first is the caller's to see to.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use log::{debug, warn};
use nix::dir::{Dir, Type};
use nix::errno::Errno;

use crate::archive::Archive;
use crate::data_directory::{self, WAL_DIRECTORIES};
use crate::error::PruneError;
use crate::file_system::{directory_of, open_directory};
use crate::options::{Options, Pruning};
use crate::permission::explained;
use crate::registrations::{self, Asked, Renewal};
use crate::system;
use crate::timestamp::Timestamp;
use crate::wal::name::{Numbering, Position, SegmentName, WalName};

/// Entries that are looked at in any case: about as many as the kernel gives at a time.
const SCAN_LIMIT: usize = 512;

/// Removes from the archive what nobody needs any more, now that `restored` has been restored; `numbering` is what its
/// header says. Nothing that goes wrong here is more than a warning.
pub fn after_restore(
    restored: SegmentName,
    numbering: Option<Numbering>,
    archive: &Archive,
    options: &Options,
) {
    if options.is_for_pg_rewind() || archive.lacks_required_file().is_some() {
        return;
    }
    let pruned =
        numbering.map_or(Ok(()), |numbering| remove_preceding(restored, numbering, options));
    if let Err(error) = pruned {
        warn!("{error}; nothing is pruned");
    }
}

fn remove_preceding(
    restored: SegmentName,
    numbering: Numbering,
    options: &Options,
) -> Result<(), PruneError> {
    let location = &options.archive_location;
    let cutoff = cutoff(options, restored, numbering);
    let name = options.standby_name.as_deref();
    if cutoff.is_none() && name.is_none() {
        return Ok(());
    }
    let mut directory = Directory::open(location, Some(directory_of(&options.destination)))?;
    let asked = Asked { segment: restored, since: Timestamp::now() };
    let renewal =
        name.map(|name| registrations::renew(location, name, cutoff, Some(asked))).transpose()?;
    renewal.iter().for_each(warn_of_old_registration);
    let Some(cutoff) = cutoff else {
        return Ok(());
    };
    // While the own registration is fresh, others that are stale were named a moment ago.
    let warn_of_stale = !matches!(renewal, Some(Renewal::Fresh));
    let cutoff = registrations::lowest(location, cutoff, name, warn_of_stale)?;
    debug!("pruning what precedes {cutoff}");
    let last = numbering.before(cutoff.position, 1);
    let doomed = directory.preceding(cutoff.position, || {
        [cutoff.timeline, restored.timeline].into_iter().any(|timeline| {
            last.is_some_and(|position| is_there(location, SegmentName { timeline, position }))
        })
    })?;
    directory.remove(&doomed).map(drop)
}

/// Removes by the same rules what nobody needs any more, whatever has been restored. Returns the paths that would be
/// removed in a dry run.
///
/// # Errors
/// Why it has removed nothing, or not everything.
pub fn standalone(pruning: &Pruning) -> Result<Vec<PathBuf>, PruneError> {
    let location = &pruning.archive_location;
    let cutoff = pruning.restart;
    let name = pruning.standby_name.as_deref();
    let mut directory = Directory::open(location, None)?;
    if let Some(path) = pruning.required_file.as_ref().map(|name| location.join(name)) {
        fs::metadata(&path).map_err(|source| PruneError::ReadFile { path, source })?;
    }
    if cutoff.position == Position::ZERO {
        return Ok(Vec::new());
    }
    if let Some(name) = name.filter(|_| !pruning.dry_run) {
        warn_of_old_registration(&registrations::renew(location, name, Some(cutoff), None)?);
    }
    let cutoff = registrations::lowest(location, cutoff, name, true)?;
    let doomed = directory.preceding(cutoff.position, || true)?;
    if pruning.dry_run {
        return Ok(doomed.iter().map(|(_, name)| path_of(location, name)).collect());
    }
    match directory.remove(&doomed)? {
        0 => Ok(Vec::new()),
        count => Err(PruneError::NotRemoved { count }),
    }
}

/// Nothing can be pruned that this standby needs: its own cut-off is what it would have registered.
fn warn_of_old_registration(renewal: &Renewal) {
    if let Renewal::Failed(path, error) = renewal {
        let error = explained(error, directory_of(path));
        warn!("could not write {path:?}: {error}; other standbys use its previous content");
    }
}

/// Registers what a standby with a name needs while it waits for `asked`. Errors are reported by the call that prunes, not
/// here.
pub fn while_waiting(asked: Asked, archive: &Archive, options: &Options) {
    let Some(name) = options.standby_name.as_deref() else { return };
    if archive.lacks_required_file().is_some() {
        return;
    }
    let location = &options.archive_location;
    let restart = restart(options).filter(|it| is_cutoff(*it, asked.segment));
    let renewal = Directory::open(location, Some(directory_of(&options.destination)))
        .and_then(|_| registrations::renew(location, name, restart, Some(asked)));
    debug!("registration: {renewal:?}");
}

/// The first segment that stays, given that `requested` has just been restored; `None` where everything stays.
fn cutoff(options: &Options, requested: SegmentName, numbering: Numbering) -> Option<SegmentName> {
    let Some(restart_file) = &options.restart_file else {
        let count = options.keep_files;
        let position = numbering.before(requested.position, count.into()).filter(|_| count > 0)?;
        return Some(SegmentName { position, ..requested });
    };
    let Some(restart) = restart(options) else {
        warn!(
            "RESTARTWALFILE {restart_file:?}: not the name of a segment, \
             expected what the server gives as %r; nothing is pruned"
        );
        return None;
    };
    is_cutoff(restart, requested).then_some(restart)
}

/// RESTARTWALFILE, if it is the name of a segment.
fn restart(options: &Options) -> Option<SegmentName> {
    SegmentName::parse(options.restart_file.as_ref()?.as_bytes())
}

/// Servers pass zeros before redo and after it.
fn is_cutoff(restart: SegmentName, requested: SegmentName) -> bool {
    restart.position != Position::ZERO && restart.position <= requested.position
}

/// The archive location, opened once, so that what is removed is in the directory that was listed.
struct Directory<'a> {
    location: &'a Path,
    open: Dir,
}

impl<'a> Directory<'a> {
    /// Refuses the WAL directory of a server; `restores_to` is the one that this server restores to.
    fn open(location: &'a Path, restores_to: Option<&Path>) -> Result<Self, PruneError> {
        let unlisted = |error| unlisted(location, error);
        let open = open_directory(location).map_err(unlisted)?;
        let opened = open.metadata().map_err(unlisted)?;
        let is_it = |path: &Path| {
            fs::metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (opened.dev(), opened.ino()))
        };
        let wal = WAL_DIRECTORIES.map(Path::new);
        if restores_to.into_iter().chain(wal).any(is_it)
            || data_directory::is_wal_directory(location)
        {
            return Err(PruneError::WalDirectory { location: location.to_owned() });
        }
        let open = system::listing(open).map_err(|error| unlisted(error.into()))?;
        Ok(Self { location, open })
    }

    /// What is there before `cutoff`, oldest first.
    ///
    /// To read a directory takes as long as it is large, and most calls have nothing to remove. So where its beginning
    /// shows nothing that may go, `has_last` decides whether to read on: it looks for the last segment before the
    /// cut-off. Passes go oldest first, so that one is the last to go in each, and while it is gone a pass with this
    /// cut-off has been to its end. What that one could not remove, and what came after it, the next one finds, when the
    /// restart point has moved.
    fn preceding(
        &mut self,
        cutoff: Position,
        has_last: impl Fn() -> bool,
    ) -> Result<Vec<(Position, CString)>, PruneError> {
        let mut found = Vec::new();
        for (count, entry) in self.open.iter().enumerate() {
            if count == SCAN_LIMIT && found.is_empty() && !has_last() {
                break;
            }
            let entry = entry.map_err(|error| unlisted(self.location, error.into()))?;
            let name = entry.file_name();
            let Some(position) = prunable(name.to_bytes()).filter(|at| *at < cutoff) else {
                continue;
            };
            let may_be_link = matches!(entry.file_type(), Some(Type::Symlink) | None);
            if may_be_link && is_link_to_directory(&path_of(self.location, name)) {
                warn!(
                    "{:?} is a symbolic link to a directory and is not removed",
                    path_of(self.location, name)
                );
                continue;
            }
            found.push((position, name.to_owned()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes them, and returns how many could not be. Where permissions are missing, the first file speaks for all.
    fn remove(&self, doomed: &[(Position, CString)]) -> Result<usize, PruneError> {
        let mut left: usize = 0;
        let mut was_forbidden = false;
        for (_, name) in doomed {
            let path = || path_of(self.location, name);
            match system::remove_in(&self.open, name) {
                Ok(()) => debug!("removed {:?}", path()),
                Err(Errno::ENOENT) => {}
                Err(error @ Errno::EROFS) => {
                    return Err(PruneError::ReadOnly { path: path(), source: error.into() });
                }
                Err(error) => {
                    let is_forbidden = matches!(error, Errno::EACCES | Errno::EPERM);
                    if !(is_forbidden && was_forbidden) {
                        let error = io::Error::from(error);
                        let error = explained(&error, self.location);
                        warn!("could not remove {:?}: {error}", path());
                    }
                    was_forbidden |= is_forbidden;
                    left = left.saturating_add(1);
                }
            }
        }
        Ok(left)
    }
}

/// The position of a segment, of a partial or of a compressed one. Nothing else is ever removed.
fn prunable(name: &[u8]) -> Option<Position> {
    match WalName::of_any_form(OsStr::from_bytes(name))? {
        WalName::Segment(segment) | WalName::Partial(segment) => Some(segment.position),
        WalName::History(_) | WalName::BackupHistory(..) => None,
    }
}

/// The archive has the segment, as it is or compressed.
fn is_there(location: &Path, segment: SegmentName) -> bool {
    let mut forms = WalName::Segment(segment).compressed().chain([segment.to_string()]);
    forms.any(|name| fs::symlink_metadata(location.join(name)).is_ok())
}

fn is_link_to_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink())
        && fs::metadata(path).is_ok_and(|it| it.is_dir())
}

fn path_of(location: &Path, name: &CStr) -> PathBuf {
    location.join(OsStr::from_bytes(name.to_bytes()))
}

fn unlisted(location: &Path, source: io::Error) -> PruneError {
    PruneError::ListDirectory { path: location.to_owned(), source }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_and_their_forms_may_go() {
        let segment = "000000010000000200000003";
        let position = Position { log: 2, segment: 3 };
        for form in
            ["", ".partial", ".gz", ".lz4", ".zst", ".partial.gz", ".gz.partial", ".zst.partial"]
        {
            let name = format!("{segment}{form}");
            assert_eq!(prunable(name.as_bytes()), Some(position), "{name}");
        }
        for form in
            [".00000028.backup", ".history", ".tmp", ".gz.gz", ".gz.partial.gz", ".GZ", "0", " "]
        {
            let name = format!("{segment}{form}");
            assert_eq!(prunable(name.as_bytes()), None, "{name}");
        }
        for name in ["00000002.history", "00000002.history.gz", "mounted", ""] {
            assert_eq!(prunable(name.as_bytes()), None, "{name}");
        }
    }
}
