//! Is the file in the archive? Present, absent, or the archive does not answer: an archive that is not mounted looks
//! empty, and must not be taken for one. Whether a file is good is decided elsewhere.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::file_system::{Trouble, is_absence, names_in, open_regular};
use crate::permission::explained;
use crate::wal::name::{SegmentName, WalName};

/// The archive location.
pub struct Archive<'a> {
    location: &'a Path,
    /// Without this file the archive counts as not mounted.
    required_file: Option<PathBuf>,
}

/// What one look at the archive found.
pub enum Look {
    /// Something of that name, open for reading; `None` where it is not a regular file.
    Present(PathBuf, Option<(File, Metadata)>),
    /// The archive answers, and does not have it.
    Absent,
    /// The archive does not answer, so nothing is known.
    Unavailable(Unavailable),
}

/// What could not be read, and why.
#[derive(Debug)]
pub struct Unavailable {
    /// The archive location or the file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// The archive location itself does not exist, which is an error only where it never did.
    pub no_such_location: bool,
}

impl<'a> Archive<'a> {
    /// The archive at `location`, which counts as available only while it holds `required_file`, where one is named.
    #[must_use]
    pub fn new(location: &'a Path, required_file: Option<&OsStr>) -> Self {
        Self { location, required_file: required_file.map(|name| location.join(name)) }
    }

    /// Looks for one file, and opens it.
    #[must_use]
    pub fn look(&self, name: &WalName) -> Look {
        // Checked before the look and, if the file is absent, after it: the answer counts only if the archive was mounted
        // all the while.
        if let Some(unavailable) = self.lacks_required_file() {
            return Look::Unavailable(unavailable);
        }
        let look = self.open(self.location.join(name.to_string()));
        match &look {
            Look::Absent => self.lacks_required_file().map_or(look, Look::Unavailable),
            Look::Present(..) | Look::Unavailable(_) => look,
        }
    }

    /// Returns why the archive counts as not mounted, or `None` if it holds its required file or needs none.
    #[must_use]
    pub fn lacks_required_file(&self) -> Option<Unavailable> {
        let path = self.required_file.as_ref()?;
        let source = fs::metadata(path).err()?;
        let no_such_location = is_absence(&source)
            && fs::metadata(self.location).is_err_and(|error| is_absence(&error));
        let path = if no_such_location { self.location } else { path };
        Some(Unavailable { path: path.to_owned(), source, no_such_location })
    }

    /// Lists the WAL files in the archive.
    ///
    /// # Errors
    /// It cannot be listed; each name may be an error of reading it as well.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<WalName>> + use<>> {
        let parsed = |name: io::Result<OsString>| name.map(|name| WalName::parse(&name));
        Ok(names_in(self.location)?.filter_map(move |name| parsed(name).transpose()))
    }

    /// Counts the later segments of the same timeline that the archive has.
    ///
    /// # Errors
    /// The archive cannot be listed.
    pub fn count_after(&self, segment: SegmentName) -> io::Result<usize> {
        let is_later = |name: &WalName| match name {
            WalName::Segment(other) => {
                other.timeline == segment.timeline && other.position > segment.position
            }
            _ => false,
        };
        self.names()?.try_fold(0_usize, |count, name| {
            Ok(count.saturating_add(usize::from(is_later(&name?))))
        })
    }

    fn open(&self, path: PathBuf) -> Look {
        match open_regular(&path, OpenOptions::new().read(true), OFlag::empty()) {
            Ok(file) => Look::Present(path, file),
            Err(Trouble::Opening(error)) if is_absence(&error) => self.confirm_absence(path, error),
            Err(Trouble::Opening(source) | Trouble::Opened(source)) => {
                Look::Unavailable(Unavailable { path, source, no_such_location: false })
            }
        }
    }

    /// A file counts as absent only if the archive answers. A symbolic link without a target is not absent.
    fn confirm_absence(&self, path: PathBuf, source: io::Error) -> Look {
        let unavailable = |path, source, no_such_location| {
            Look::Unavailable(Unavailable { path, source, no_such_location })
        };
        if fs::symlink_metadata(&path).is_ok_and(|it| it.is_symlink()) {
            return unavailable(path, source, false);
        }
        let path = self.location.to_owned();
        match fs::metadata(self.location) {
            Ok(metadata) if metadata.is_dir() => Look::Absent,
            Ok(_) => unavailable(path, source, true),
            Err(error) => {
                let no_such_location = is_absence(&error);
                unavailable(path, error, no_such_location)
            }
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not read {:?}: {}", self.path, explained(&self.source, &self.path))
    }
}
