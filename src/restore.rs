//! One open file to one whole destination. Why and when is decided elsewhere.
//!
//! The copy is made in a file without a name and gets its name when it is whole, so that a process killed at any
//! instant leaves nothing behind. It need not be synced: the server does that when it renames the file into place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use log::debug;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::archive::Unavailable;
use crate::decision::Finding;
use crate::decompress::{Fault, Reader, Trouble};
use crate::error::Failure;
use crate::file_system::{directory_of, remove_if_there};
use crate::obstacle::Obstacle;
use crate::options::{Options, Verify};
use crate::partial::Partial;
use crate::source::{Defect, Reason, Rejected, Source};
use crate::system;
use crate::verification::Verification;
use crate::wal::flaw::Flaw;
use crate::wal::name::WalName;
use crate::wal::records::{PIECE, Stop};

/// The server makes its own files 0600, or 0640 in a cluster with group access, and sets the umask accordingly.
const MODE: u32 = 0o640;
const OWNER_MAY_READ_AND_WRITE: u32 = 0o600;

/// A whole copy that nobody can see yet. Dropped, it is gone.
struct Staged<'a> {
    destination: &'a Path,
    file: Rc<File>,
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
    NotYet(Defect),
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
    let (staged, stop) = match stage(source, options) {
        Err(Obstacle::Rejected(Rejected { reason, .. })) if reason != Reason::Changed => {
            return Ok(Restored::NotYet(Defect::Rejected(reason)));
        }
        staged => staged?,
    };
    if let (Some(stop), Extent::Whole) = (stop, extent) {
        return Ok(Restored::NotYet(Defect::Stops(stop)));
    }
    if is_withdrawn() {
        return Ok(Restored::Withdrawn);
    }
    staged.publish()?;
    debug!("restored {:?}", options.destination);
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
    (&*staged.file)
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

/// Copies or decompresses `source` to where it is one step away from being the destination. Returns where a server would
/// stop in it as well, if it would and that was to be found out.
fn stage<'a>(
    source: &Source,
    options: &'a Options,
) -> Result<(Staged<'a>, Option<Stop>), Obstacle> {
    let destination = &options.destination;
    let failed = |error| Obstacle::Failed(failure(error, destination, source.length));
    debug!("copying {:?}, {} bytes", source.path, source.length);
    let staged = Staged::create(destination).map_err(failed)?;
    let mut verification = verification(source, options);
    let copied = copy(source, &staged, verification.as_mut(), failed);
    match source.is_unchanged() {
        Ok(true) => copied.map(|()| (staged, verification.and_then(Verification::stop))),
        Ok(false) => Err(rejected(source, Reason::Changed)),
        Err(error) => Err(unavailable(source, error)),
    }
}

/// What reads the records of the copy, if they are to be read.
fn verification(source: &Source, options: &Options) -> Option<Verification> {
    let (Some(header), WalName::Segment(segment), Verify::Records) =
        (source.header, options.requested, options.verify)
    else {
        return None;
    };
    let has_read = directory_of(&options.destination);
    let has_read = Some(has_read).filter(|_| !options.is_before_redo());
    Some(Verification::new(segment, header, has_read))
}

impl<'a> Staged<'a> {
    /// Gives the copy its name, in place of whatever has it. That fails where the destination is a directory, or its
    /// directory may not be written to.
    fn publish(mut self) -> Result<(), Obstacle> {
        let destination = self.destination;
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.rename().map_err(|error| Obstacle::Failed(failure(error, destination, length)))
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
        Ok(Self { destination, file: Rc::new(file), name: None })
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
        Ok(Self { destination, file: Rc::new(file), name: Some(name) })
    }

    fn rename(&mut self) -> io::Result<()> {
        if self.name.is_none() {
            remove_if_there(self.destination)?;
            if system::link(&by_descriptor(&self.file), self.destination).is_ok() {
                return Ok(());
            }
            // Where a nameless file can be had, and cannot be given a name, one that has a name does as well.
            let named = Self::named(self.destination)?;
            let mut whole = &*self.file;
            whole.rewind()?;
            io::copy(&mut whole, &mut &*named.file)?;
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

/// Copies the plain bytes of the source, unless the copy can share them. What is handed over is what was read and checked:
/// each piece is written while it is in the processor's cache. `failed` makes the error of the destination's side.
fn copy(
    source: &Source,
    staged: &Staged,
    mut verification: Option<&mut Verification>,
    failed: impl Fn(io::Error) -> Obstacle,
) -> Result<(), Obstacle> {
    let is_shared = !source.is_compressed && system::share_blocks(&source.file, &staged.file);
    if !is_shared {
        reserve(&staged.file, source.length).map_err(&failed)?;
    } else if verification.is_none() {
        return Ok(());
    }
    let started = Instant::now();
    let mut buffer = vec![0; PIECE];
    let mut filled = 0;
    let mut reader = match source.begun.take() {
        Some((start, reader)) => {
            buffer.iter_mut().zip(start).for_each(|(to, from)| *to = from);
            filled = start.len();
            reader
        }
        None if is_shared => Reader::new(&staged.file, false),
        None => Reader::new(&source.file, source.is_compressed),
    };
    let mut found: u64 = 0;
    loop {
        let (count, read) = reader.fill(buffer.get_mut(filled..).unwrap_or_default());
        read.map_err(|trouble| unread(source, trouble))?;
        let piece = buffer.get(..filled.saturating_add(count)).unwrap_or_default();
        filled = 0;
        if piece.is_empty() {
            break;
        }
        found = found.saturating_add(piece.len() as u64);
        if found > source.length {
            return Err(of_other_length(source, found));
        }
        if let Some(verification) = &mut verification {
            verification.read(piece);
        }
        if !is_shared {
            (&*staged.file).write_all(piece).map_err(&failed)?;
        }
    }
    if found < source.length {
        return Err(of_other_length(source, found));
    }
    if let Some(format) = reader.format() {
        let compressed = source.file.metadata().map_or(0, |metadata| metadata.len());
        let elapsed = started.elapsed().as_secs_f64();
        debug!(
            "decompressed {:?}, {format}: {compressed} bytes to {found} in {:.1} ms, {:.0} MB/s",
            source.path,
            elapsed * 1e3,
            f64::from(u32::try_from(found).unwrap_or(u32::MAX)) / elapsed / 1e6
        );
    }
    Ok(())
}

fn unread(source: &Source, trouble: Trouble) -> Obstacle {
    match trouble {
        Trouble::Read(error) => unavailable(source, error),
        Trouble::Fault(fault) => rejected(source, Reason::Compressed(fault)),
    }
}

fn of_other_length(source: &Source, found: u64) -> Obstacle {
    let expected = source.length;
    rejected(
        source,
        match source.is_compressed {
            true if found > expected => Reason::Compressed(Fault::TooLong { expected }),
            true => Reason::Flaw(Flaw::TooShort { found, expected }),
            false => Reason::Changed,
        },
    )
}

fn rejected(source: &Source, reason: Reason) -> Obstacle {
    Obstacle::Rejected(Rejected { path: source.path.clone(), reason })
}

fn unavailable(source: &Source, error: io::Error) -> Obstacle {
    let path = source.path.clone();
    Obstacle::Unavailable(Unavailable { path, source: error, no_such_location: false })
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
