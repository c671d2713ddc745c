//! Is the file in the archive, and in which forms? Present, absent, or the archive does not answer: an archive that is
//! not mounted looks empty, and must not be taken for one. Whether a file is good is decided elsewhere.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::iter::{from_fn, once};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::file_system::{OpenError, is_absence, names_in, open_regular};
use crate::permission::explained;
use crate::wal::name::{SegmentName, WalName};

/// The archive location.
pub struct Archive<'a> {
    location: &'a Path,
    /// Without this file the archive counts as not mounted.
    required_file: Option<PathBuf>,
}

/// Something that has the name of the file, or of one of its compressed forms.
pub struct Found {
    /// Its path.
    pub path: PathBuf,
    /// The same, open for reading; `None` where it is not a regular file.
    pub opened: Option<(File, Metadata)>,
    /// It has the name of a compressed form.
    pub is_compressed: bool,
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

    /// Looks for one file: as it is first, then for its compressed forms, each when the one before was not good enough.
    /// Nothing at all means that the archive answers, and does not have it; an error, that nothing is known of that form.
    pub fn look(&self, name: WalName) -> impl Iterator<Item = Result<Found, Unavailable>> {
        let plain = move || (name.to_string(), false);
        let mut forms = once(plain()).chain(name.compressed().map(|name| (name, true)));
        // The answer counts only if the archive was mounted all the while.
        let mut unmounted = self.lacks_required_file();
        let (mut is_there, mut is_over) = (false, false);
        from_fn(move || {
            if is_over {
                return None;
            }
            if let Some(unavailable) = unmounted.take() {
                is_over = true;
                return Some(Err(unavailable));
            }
            for form in forms.by_ref() {
                let found = self.open(form).transpose();
                if found.is_some() {
                    is_there = true;
                    return found;
                }
            }
            is_over = true;
            if is_there {
                return None;
            }
            // Between two of these looks somebody may have decompressed it in place.
            let absent = || self.unanswered().or_else(|| self.lacks_required_file()).map(Err);
            self.open(plain()).transpose().or_else(absent)
        })
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

    /// Lists the WAL files in the archive, whatever form they have.
    ///
    /// # Errors
    /// It cannot be listed; each name may be an error of reading it as well.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<WalName>> + use<>> {
        let parsed = |name: io::Result<OsString>| name.map(|name| WalName::of_any_form(&name));
        Ok(names_in(self.location)?.filter_map(move |name| parsed(name).transpose()))
    }

    /// Counts the later segments of the same timeline that the archive has, each of them once whatever its forms.
    ///
    /// # Errors
    /// The archive cannot be listed.
    pub fn count_after(&self, segment: SegmentName) -> io::Result<usize> {
        let mut later = BTreeSet::new();
        for name in self.names()? {
            match name? {
                WalName::Segment(SegmentName { timeline, position })
                    if timeline == segment.timeline && position > segment.position =>
                {
                    later.insert(position);
                }
                _ => {}
            }
        }
        Ok(later.len())
    }

    /// `None` where there is no such file.
    fn open(&self, (name, is_compressed): (String, bool)) -> Result<Option<Found>, Unavailable> {
        let path = self.location.join(name);
        match open_regular(&path, OpenOptions::new().read(true), OFlag::empty()) {
            Ok(opened) => Ok(Some(Found { path, opened, is_compressed })),
            // A symbolic link without a target is not absent.
            Err(OpenError::NotOpened(error))
                if is_absence(&error)
                    && !fs::symlink_metadata(&path).is_ok_and(|it| it.is_symlink()) =>
            {
                Ok(None)
            }
            Err(OpenError::NotOpened(source) | OpenError::NotExamined(source)) => {
                Err(Unavailable { path, source, no_such_location: false })
            }
        }
    }

    /// A file counts as absent only if the archive answers: returns why it does not.
    fn unanswered(&self) -> Option<Unavailable> {
        let (source, no_such_location) = match fs::metadata(self.location) {
            Ok(metadata) if metadata.is_dir() => return None,
            Ok(_) => (Errno::ENOTDIR.into(), true),
            Err(error) => {
                let is_absence = is_absence(&error);
                (error, is_absence)
            }
        };
        Some(Unavailable { path: self.location.to_owned(), source, no_such_location })
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not read {:?}: {}", self.path, explained(&self.source, &self.path))
    }
}
