//! One open file to one whole destination. Why and when is decided elsewhere.
//!
//! The copy is made in a file without a name and gets its name when it is whole, so that a process killed at any
//! instant leaves nothing behind. It need not be synced: the server does that when it renames the file into place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, copy_file_range};
use nix::unistd::linkat;

use crate::archive::Source;
use crate::error::Failure;

/// The server makes its own files 0600, or 0640 in a cluster with group access, and sets the umask accordingly.
const MODE: u32 = 0o640;
const OWNER_MAY_READ_AND_WRITE: u32 = 0o600;
const BUFFER: usize = 1 << 16;

/// A whole copy that nobody can see yet. Dropped, it is gone.
pub struct Staged<'a> {
    destination: &'a Path,
    file: File,
    /// The name that it has meanwhile, where the file system has no files without one.
    name: Option<PathBuf>,
}

/// Which side of a copy failed.
pub enum CopyError {
    /// The archive.
    Source(io::Error),
    /// The archive's file was written to meanwhile.
    Changed,
    /// The destination.
    Destination(Failure),
}

/// Copies `source` to where it is one step away from being `destination`.
///
/// # Errors
/// The side that failed, and how.
pub fn stage<'a>(source: &Source, destination: &'a Path) -> Result<Staged<'a>, CopyError> {
    let on_our_side = |error| CopyError::Destination(failure(error, destination, source.length));
    let staged = Staged::create(destination).map_err(on_our_side)?;
    let in_kernel = copy_in_kernel(source, &staged.file);
    copy_by_hand(source, &staged.file, in_kernel).map_err(|error| match error {
        Side::Source(error) => CopyError::Source(error),
        Side::SourceEnded => CopyError::Changed,
        Side::Destination(error) => on_our_side(error),
    })?;
    match source.is_unchanged() {
        Ok(true) => Ok(staged),
        Ok(false) => Err(CopyError::Changed),
        Err(error) => Err(CopyError::Source(error)),
    }
}

impl<'a> Staged<'a> {
    /// Gives the copy its name, in place of whatever has it.
    ///
    /// # Errors
    /// The name cannot be had: the destination is a directory, or its directory may not be written to.
    pub fn publish(mut self) -> Result<(), Failure> {
        let destination = self.destination;
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.rename().map_err(|error| failure(error, destination, length))
    }

    fn create(destination: &'a Path) -> io::Result<Self> {
        let staged = Self::nameless(destination).or_else(|_| Self::named(destination))?;
        let mode = staged.file.metadata()?.permissions().mode();
        if mode & OWNER_MAY_READ_AND_WRITE != OWNER_MAY_READ_AND_WRITE {
            staged.file.set_permissions(Permissions::from_mode(OWNER_MAY_READ_AND_WRITE))?;
        }
        Ok(staged)
    }

    fn nameless(destination: &'a Path) -> io::Result<Self> {
        let directory = match destination.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        };
        let file = OpenOptions::new()
            .write(true)
            .mode(MODE)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(directory)?;
        // Without /proc the file could never get its name.
        fs::symlink_metadata(by_descriptor(&file))?;
        Ok(Self { destination, file, name: None })
    }

    /// For file systems without nameless files, such as NFS. The name is always the same, so that what a killed process
    /// leaves is used up by the next one.
    fn named(destination: &'a Path) -> io::Result<Self> {
        let mut name = destination.as_os_str().to_owned();
        name.push(".pg_standby");
        let name = PathBuf::from(name);
        remove_if_there(&name)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&name)?;
        Ok(Self { destination, file, name: Some(name) })
    }

    fn rename(&mut self) -> io::Result<()> {
        if let Some(name) = &self.name {
            // A network file system may take every write and tell only now that there was no room for it.
            self.file.sync_data()?;
            fs::rename(name, self.destination)?;
            self.name = None;
            return Ok(());
        }
        remove_if_there(self.destination)?;
        let descriptor = by_descriptor(&self.file);
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, &descriptor, AT_FDCWD, self.destination, follow)?;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

enum Side {
    Source(io::Error),
    SourceEnded,
    Destination(io::Error),
}

/// Copies as much as the kernel does without a buffer of ours, sharing blocks where the file system can; returns how
/// many bytes that was. Errors are left to [`copy_by_hand`], which can tell the two sides apart.
fn copy_in_kernel(source: &Source, to: &File) -> u64 {
    let mut copied: i64 = 0;
    loop {
        let done = u64::try_from(copied).unwrap_or(0);
        let rest = usize::try_from(source.length.saturating_sub(done)).unwrap_or(usize::MAX);
        if rest == 0 {
            return done;
        }
        if !copy_file_range(&source.file, Some(&mut copied), to, None, rest).is_ok_and(|n| n > 0) {
            return done;
        }
    }
}

fn copy_by_hand(source: &Source, mut to: &File, from: u64) -> Result<(), Side> {
    if from >= source.length {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER];
    let mut copied = from;
    while copied < source.length {
        let rest = usize::try_from(source.length.saturating_sub(copied)).unwrap_or(usize::MAX);
        let Some(buffer) = buffer.get_mut(..rest.min(BUFFER)) else {
            break;
        };
        let count = match source.file.read_at(buffer, copied) {
            Ok(0) => return Err(Side::SourceEnded),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Side::Source(error)),
        };
        to.write_all(buffer.get(..count).unwrap_or_default()).map_err(Side::Destination)?;
        copied = copied.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    Ok(())
}

fn failure(source: io::Error, destination: &Path, needed: u64) -> Failure {
    let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let free = || fs2::available_space(destination.parent()?).ok();
    let space = if full { free().map(|free| (needed, free)) } else { None };
    Failure { destination: destination.to_owned(), source, space }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
