//! What several modules ask of the file system in the same way: whether an error means absence, opening without blocking,
//! removing what may not be there, the directory of a path. Which file, and why, is the caller's business.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::ENXIO;

use crate::system;

/// Bytes of a configuration file or the like that are read.
pub const LARGEST: u64 = 1 << 20;

/// Returns whether `error` says that there is no such file, or no such directory on the way to it.
#[must_use]
pub fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens `path` with `options`, without blocking: opening a FIFO would otherwise wait until somebody opens its other end.
/// Returns `None` if it is not a regular file.
///
/// # Errors
/// `path` cannot be opened, or the open file cannot be examined; [`OpenError`] tells the two apart.
pub fn open_regular(
    path: &Path,
    options: &mut OpenOptions,
    flags: OFlag,
) -> Result<Option<(File, Metadata)>, OpenError> {
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match options.custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        // A socket, or a FIFO opened for writing that nobody reads.
        Err(error) if error.raw_os_error() == Some(ENXIO) => return Ok(None),
        Err(error) => return Err(OpenError::NotOpened(error)),
    };
    let metadata = file.metadata().map_err(OpenError::NotExamined)?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

/// Reads a file that must be a regular one, without blocking, and no more of it than [`LARGEST`].
///
/// # Errors
/// It cannot be opened or read, or is not a regular file. Only where it cannot be opened may the error mean absence.
pub fn read_regular(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let opened = open_regular(path.as_ref(), OpenOptions::new().read(true), OFlag::empty());
    let (file, _) = match opened {
        Err(OpenError::NotOpened(error)) => return Err(error),
        Err(OpenError::NotExamined(error)) => return Err(io::Error::other(error)),
        Ok(opened) => opened.ok_or_else(not_regular)?,
    };
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content).map_err(io::Error::other)?;
    Ok(content)
}

/// What went wrong when a file was opened. Only [`OpenError::NotOpened`] can mean that it is absent.
#[derive(Debug)]
pub enum OpenError {
    /// It could not be opened.
    NotOpened(io::Error),
    /// It was opened, but could not be examined.
    NotExamined(io::Error),
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotOpened(error) | OpenError::NotExamined(error) => error,
        }
    }
}

/// Opens a directory, to be listed.
///
/// # Errors
/// It is none, or cannot be opened.
pub fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path)
}

/// Lists the names in a directory. The standard library's way panics where the kernel reports an error when the directory
/// is closed.
///
/// # Errors
/// The directory cannot be opened; each name may be an error of reading it as well.
pub fn names_in(
    directory: &Path,
) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
    let open = open_directory(directory)?;
    // It is open: whatever goes wrong from here on does not mean that it is absent.
    let trouble = |error: Errno| io::Error::other(error.desc());
    let names = system::listing(open).map_err(trouble)?.into_iter().map(move |entry| {
        let entry = entry.map_err(trouble)?;
        Ok(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
    });
    let is_itself = |name: &OsString| name == "." || name == "..";
    Ok(names.filter(move |name| !name.as_ref().is_ok_and(is_itself)))
}

/// The error for a path that must name a regular file and does not.
#[must_use]
pub fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Returns how long ago a file was last changed in any way, by a time that nobody can set.
#[must_use]
pub fn age(metadata: &Metadata) -> Duration {
    let seconds = u64::try_from(metadata.ctime()).map(Duration::from_secs).unwrap_or_default();
    let nanoseconds = u64::try_from(metadata.ctime_nsec()).unwrap_or_default();
    let changed = seconds.saturating_add(Duration::from_nanos(nanoseconds));
    let age = SystemTime::UNIX_EPOCH.checked_add(changed).and_then(|at| at.elapsed().ok());
    age.unwrap_or_default()
}

/// Removes a file. If there is none, that is no error.
///
/// # Errors
/// The file exists and cannot be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the directory that `path` is in: the working directory for a bare name, whose parent is empty.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}
