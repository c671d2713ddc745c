//! One open file to one whole destination. Why and when is decided elsewhere.
//!
//! The copy is made in a file without a name and gets its name when it is whole, so that a process killed at any
//! instant leaves nothing behind. It need not be synced: the server does that when it renames the file into place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::debug;
use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range};

use crate::archive::Unavailable;
use crate::decision::Finding;
use crate::decompress::{Fault, Reader, Trouble};
use crate::error::Failure;
use crate::file_system::{directory_of, remove_if_there};
use crate::mapping;
use crate::obstacle::Obstacle;
use crate::options::{Options, Verify};
use crate::partial::Partial;
use crate::source::{Reason, Rejected, Source, Wanting};
use crate::system;
use crate::verification::{self, Copy};
use crate::wal::flaw::Flaw;
use crate::wal::name::WalName;
use crate::wal::records::Stop;

/// The server makes its own files 0600, or 0640 in a cluster with group access, and sets the umask accordingly.
const MODE: u32 = 0o640;
const OWNER_MAY_READ_AND_WRITE: u32 = 0o600;
const BUFFER: usize = 1 << 16;
/// The same for what is decompressed: no Zstandard block is larger.
const PLAIN_BUFFER: usize = 1 << 17;

/// A whole copy that nobody can see yet. Dropped, it is gone.
struct Staged<'a> {
    destination: &'a Path,
    file: File,
    /// The name that it has meanwhile, where the file system has no files without one.
    name: Option<PathBuf>,
}

/// How much of a segment must be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it, as far as a server reads.
    Whole,
    /// Its beginning.
    Part,
}

/// What came of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is at its destination; where a server will stop in it, if it will.
    Done(Option<Stop>),
    /// It was dropped, because it is not good.
    NotYet(Wanting),
    /// It was dropped because something else was asked for meanwhile.
    Withdrawn,
}

/// Puts `source` at its destination, in place of whatever is there, unless it is not good to that `extent`, or
/// `is_withdrawn` once the copy is made.
///
/// # Errors
/// The archive or our own side failed, or the source was written to meanwhile.
pub fn restore(
    source: &Source,
    options: &Options,
    extent: Extent,
    is_withdrawn: impl FnOnce() -> bool,
) -> Result<Restored, Obstacle> {
    let destination = &options.destination;
    let staged = match stage(source, destination) {
        Err(Obstacle::Rejected(Rejected { reason, .. })) if reason != Reason::Changed => {
            return Ok(Restored::NotYet(Wanting::Rejected(reason)));
        }
        staged => staged?,
    };
    let stop = staged.stop(source, options)?;
    if let (Some(stop), Extent::Whole) = (stop, extent) {
        return Ok(Restored::NotYet(Wanting::Stops(stop)));
    }
    if is_withdrawn() {
        return Ok(Restored::Withdrawn);
    }
    staged.publish()?;
    debug!("restored {destination:?}");
    Ok(Restored::Done(stop))
}

/// Puts what has been received of a segment at its destination, with zeros behind it that take no space, unless
/// `is_withdrawn` once that is written.
///
/// # Errors
/// Our own side failed.
pub fn restore_partial(
    partial: &Partial,
    options: &Options,
    is_withdrawn: impl FnOnce() -> bool,
) -> Result<Finding, Obstacle> {
    let Partial { path, bytes, segment_size, end, .. } = partial;
    let destination = &options.destination;
    debug!("copying the valid part of {path:?}, {} bytes, up to {end}", bytes.len());
    let failed = |error| Obstacle::Failed(failure(error, destination, *segment_size));
    let staged = Staged::create(destination).map_err(failed)?;
    (&staged.file)
        .write_all(bytes)
        .and_then(|()| staged.file.set_len(*segment_size))
        .map_err(failed)?;
    if is_withdrawn() {
        return Ok(Finding::Withdrawn);
    }
    staged.publish()?;
    debug!("restored {destination:?}");
    Ok(Finding::Restored)
}

/// Copies or decompresses `source` to where it is one step away from being `destination`.
fn stage<'a>(source: &Source, destination: &'a Path) -> Result<Staged<'a>, Obstacle> {
    let failed = |error| Obstacle::Failed(failure(error, destination, source.length));
    debug!("copying {:?}, {} bytes", source.path, source.length);
    let staged = Staged::create(destination).map_err(failed)?;
    let copied = if source.is_compressed {
        reserve(&staged.file, source.length).map_err(failed)?;
        decompress(source, &staged.file, failed)
    } else if system::share_blocks(&source.file, &staged.file) {
        Ok(())
    } else {
        reserve(&staged.file, source.length).map_err(failed)?;
        let copied = copy_in_kernel(&source.file, &staged.file, source.length);
        copy_by_hand(source, &staged.file, copied, failed)
    };
    match source.is_unchanged() {
        Ok(true) => copied.map(|()| staged),
        Ok(false) => Err(changed(source)),
        Err(error) => Err(unavailable(source, error)),
    }
}

impl<'a> Staged<'a> {
    /// Returns where a server would stop in the copy of a segment, if it would and that was to be found out.
    fn stop(&self, source: &Source, options: &Options) -> Result<Option<Stop>, Obstacle> {
        let (Some(header), WalName::Segment(segment), Verify::Records) =
            (source.header, options.requested, options.verify)
        else {
            return Ok(None);
        };
        let length = usize::try_from(source.length).unwrap_or(usize::MAX);
        // A file without a name is nobody else's.
        let read = if self.name.is_none() { mapping::map } else { mapping::read };
        let contents = read(&self.file, length).map_err(|source| {
            let path = self.destination.to_owned();
            Obstacle::Failed(Failure::Read { path, source })
        })?;
        let copy = Copy { segment, header, contents: &contents };
        let has_read = directory_of(self.destination);
        Ok(verification::stop(&copy, Some(has_read).filter(|_| !options.is_before_redo())))
    }

    /// Gives the copy its name, in place of whatever has it. That fails where the destination is a directory, or its
    /// directory may not be written to.
    fn publish(mut self) -> Result<(), Obstacle> {
        let destination = self.destination;
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.rename(length).map_err(|error| Obstacle::Failed(failure(error, destination, length)))
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
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(MODE)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(directory_of(destination))?;
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
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&name)?;
        Ok(Self { destination, file, name: Some(name) })
    }

    fn rename(&mut self, length: u64) -> io::Result<()> {
        if self.name.is_none() {
            remove_if_there(self.destination)?;
            if system::link(&by_descriptor(&self.file), self.destination).is_ok() {
                return Ok(());
            }
            // Where a nameless file can be had, and cannot be given a name, one that has a name does as well.
            let mut named = Self::named(self.destination)?;
            if copy_in_kernel(&self.file, &named.file, length) < length {
                let mut whole = &self.file;
                whole.rewind()?;
                named.file.rewind()?;
                io::copy(&mut whole, &mut named.file)?;
            }
            *self = named;
        }
        if let Some(name) = &self.name {
            // A network file system may take every write and tell only now that there was no room for it.
            self.file.sync_data()?;
            fs::rename(name, self.destination)?;
            self.name = None;
        }
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

/// Has the file system find space for the copy before it is written, which makes the rename that the server does cheaper
/// by half. A file system that cannot do that finds it later.
fn reserve(file: &File, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    match system::allocate(file, length) {
        Err(full @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) => Err(full.into()),
        _ => Ok(()),
    }
}

/// Copies as much as the kernel does without a buffer of ours, sharing blocks where the file system can; returns how
/// many bytes that was. Errors are left to [`copy_by_hand`], which can tell the two sides apart.
fn copy_in_kernel(from: &File, to: &File, length: u64) -> u64 {
    let mut copied: i64 = 0;
    loop {
        let done = u64::try_from(copied).unwrap_or(0);
        let rest = usize::try_from(length.saturating_sub(done)).unwrap_or(usize::MAX);
        if rest == 0 {
            return done;
        }
        if !copy_file_range(from, Some(&mut copied), to, None, rest).is_ok_and(|n| n > 0) {
            return done;
        }
    }
}

/// Copies what is left, `copied` bytes being done; `failed` makes the error of the destination's side.
fn copy_by_hand(
    source: &Source,
    mut to: &File,
    mut copied: u64,
    failed: impl Fn(io::Error) -> Obstacle,
) -> Result<(), Obstacle> {
    if copied >= source.length {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER];
    while copied < source.length {
        let rest = usize::try_from(source.length.saturating_sub(copied)).unwrap_or(usize::MAX);
        let Some(buffer) = buffer.get_mut(..rest.min(BUFFER)) else {
            break;
        };
        let count = match source.file.read_at(buffer, copied) {
            Ok(0) => return Err(changed(source)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unavailable(source, error)),
        };
        to.write_all(buffer.get(..count).unwrap_or_default()).map_err(&failed)?;
        copied = copied.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Decompresses all of the source, which must be as long as was found out before.
fn decompress(
    source: &Source,
    mut to: &File,
    failed: impl Fn(io::Error) -> Obstacle,
) -> Result<(), Obstacle> {
    let Source { path, file, length: expected, .. } = source;
    let rejected = |reason| Obstacle::Rejected(Rejected { path: path.clone(), reason });
    let started = Instant::now();
    let mut buffer = vec![0; PLAIN_BUFFER];
    let mut found: u64 = 0;
    let mut reader = match source.begun.take() {
        Some((start, reader)) => {
            to.write_all(&start).map_err(&failed)?;
            found = start.len() as u64;
            reader
        }
        None => Reader::new(file, true),
    };
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(Trouble::Read(error)) => return Err(unavailable(source, error)),
            Err(Trouble::Fault(fault)) => return Err(rejected(Reason::Compressed(fault))),
        };
        found = found.saturating_add(count as u64);
        if found > *expected {
            return Err(rejected(Reason::Compressed(Fault::TooLong { expected: *expected })));
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).map_err(&failed)?;
    }
    if found < *expected {
        return Err(rejected(Reason::Flaw(Flaw::TooShort { found, expected: *expected })));
    }
    if let Some(format) = reader.format() {
        let compressed = file.metadata().map_or(0, |metadata| metadata.len());
        let elapsed = started.elapsed().as_secs_f64();
        debug!(
            "decompressed {path:?}, {format}: {compressed} bytes to {found} in {:.1} ms, {:.0} MB/s",
            elapsed * 1e3,
            f64::from(u32::try_from(found).unwrap_or(u32::MAX)) / elapsed / 1e6
        );
    }
    Ok(())
}

fn unavailable(source: &Source, error: io::Error) -> Obstacle {
    let path = source.path.clone();
    Obstacle::Unavailable(Unavailable { path, source: error, no_such_location: false })
}

fn changed(source: &Source) -> Obstacle {
    Obstacle::Rejected(Rejected { path: source.path.clone(), reason: Reason::Changed })
}

fn failure(source: io::Error, destination: &Path, needed: u64) -> Failure {
    let is_full =
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let needed = is_full.then_some(needed);
    Failure::Write { destination: destination.to_owned(), source, needed }
}

fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
