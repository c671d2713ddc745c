//! What is in the archive? One walk through it; how each segment is is asked of `checks`. What follows is decided
//! elsewhere. A file that goes away meanwhile is as if it had never been there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::EPERM;
use nix::sys::stat::Mode;

use crate::archive::Archive;
use crate::file_system::{OpenError, is_absence, open_regular};
use crate::report::Progress;
use crate::wal::name::{SegmentName, WalName};

use super::registered::{self, Registered};

/// What may follow the name of a segment, and what the file has of it then.
const FORMS: [(&str, Form); 18] = [
    ("", Form::Plain),
    (".gz", Form::Compressed),
    (".lz4", Form::Compressed),
    (".zst", Form::Compressed),
    (".partial", Form::Partial),
    (".gz.partial", Form::Partial),
    (".lz4.partial", Form::Partial),
    (".zst.partial", Form::Partial),
    (".partial.gz", Form::Partial),
    (".partial.lz4", Form::Partial),
    (".partial.zst", Form::Partial),
    (".bz2", Form::Unread),
    (".xz", Form::Unread),
    (".lzo", Form::Unread),
    (".br", Form::Unread),
    (".zip", Form::Unread),
    (".7z", Form::Unread),
    (".Z", Form::Unread),
];

/// What was found.
#[derive(Default)]
pub struct Scan {
    /// Why the archive does not answer, if it does not.
    pub failure: Option<String>,
    /// Where it is, and how much room it has.
    pub file_system: Option<FileSystem>,
    /// Segments in every form, by position.
    pub files: Vec<Found>,
    /// Timelines that have a history file, in whatever form.
    pub histories: BTreeSet<u32>,
    /// What the standbys that share the archive have registered, by name.
    pub registered: Vec<Registered>,
    /// Why that is not known, if it is not.
    pub unlisted: Option<String>,
    /// Files that are nothing of all this.
    pub others: usize,
}

/// A file system.
pub struct FileSystem {
    /// Its type, as the kernel names it.
    pub kind: Option<String>,
    /// Bytes that a user may still write.
    pub free: u64,
}

/// A file that has a segment in it, or should have.
#[derive(Clone, Copy)]
pub struct Found {
    /// The segment.
    pub name: SegmentName,
    /// What follows the segment's name in the file's.
    pub suffix: &'static str,
    /// In what form.
    pub form: Form,
    /// Its length in bytes; `None` for what cannot be opened at all.
    pub length: Option<u64>,
    /// When it was written to last; `None` where the file system does not say.
    pub modified: Option<SystemTime>,
}

/// How a segment is in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// Compressed.
    Compressed,
    /// Its beginning.
    Partial,
    /// Compressed by a program whose files are not read here.
    Unread,
}

impl Found {
    /// Its name in the archive.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}{}", self.name, self.suffix)
    }
}

impl Form {
    /// Returns whether it is a whole segment that can be restored.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Plain | Self::Compressed)
    }
}

/// Looks through the archive at `location`.
#[must_use]
pub fn scan(location: &Path, required_file: Option<&OsStr>, progress: &mut Progress) -> Scan {
    let mut scan = Scan::default();
    progress.show(&format_args!("looking at {location:?}"));
    let archive = Archive::new(location, required_file);
    let lacks = || archive.lacks_required_file().map(|it| it.to_string());
    let read = match lacks() {
        Some(failure) => Err(failure),
        None => scan
            .walk(location, progress)
            .map_err(|(path, error)| format!("could not read {path:?}: {error}")),
    };
    // What was unmounted meanwhile looked empty.
    scan.failure = read.err().or_else(lacks);
    if scan.failure.is_none() {
        scan.file_system = file_system(location);
        match registered::list(location) {
            Ok(registered) => scan.registered = registered,
            Err(failure) => scan.unlisted = Some(failure),
        }
    }
    scan
}

impl Scan {
    /// Whole segments that can be restored, by position.
    pub fn whole(&self) -> impl Iterator<Item = &Found> {
        self.files.iter().filter(|found| found.form.is_whole())
    }

    fn walk(
        &mut self,
        location: &Path,
        progress: &mut Progress,
    ) -> Result<(), (PathBuf, io::Error)> {
        let failed = |error: Errno| (location.to_owned(), io::Error::from(error));
        let mut names = Vec::new();
        for entry in open(location).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            names.push((entry.ino(), entry.file_name().to_owned()));
        }
        // In this order they are on the disk.
        names.sort_unstable();
        for (count, (_, name)) in names.iter().enumerate() {
            let name = OsStr::from_bytes(name.to_bytes());
            if let Some(WalName::History(timeline)) = WalName::of_any_form(name) {
                self.histories.insert(timeline);
            } else if let Some((segment, form)) = form_of(name.as_bytes()) {
                let path = location.join(name);
                let found = examine(&path, segment, form);
                // An archive that has gone away fails for every file, each time after a while.
                if found.is_some_and(|it| it.modified.is_none()) {
                    fs::metadata(location).map_err(|error| (location.to_owned(), error))?;
                }
                self.files.extend(found);
            } else if !name.as_bytes().starts_with(b".") {
                self.others = self.others.saturating_add(1);
            }
            progress.show(&format_args!("looking at {location:?}: {count} files"));
        }
        self.files.sort_unstable_by_key(|it| (it.name.position, it.name.timeline));
        Ok(())
    }
}

/// Opens a directory, if that is allowed without leaving a trace of having been read.
///
/// # Errors
/// What the system says.
pub fn open(location: &Path) -> Result<Dir, Errno> {
    let open = |more| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Dir::open(location, flags | more, Mode::empty())
    };
    match open(OFlag::O_NOATIME) {
        Err(Errno::EPERM) => open(OFlag::empty()),
        opened => opened,
    }
}

/// The segment that a file name stands for, and the suffix with what that means.
fn form_of(name: &[u8]) -> Option<(SegmentName, (&'static str, Form))> {
    let (segment, suffix) = name.split_at_checked(24)?;
    let form = FORMS.into_iter().find(|(it, _)| it.as_bytes() == suffix)?;
    Some((SegmentName::parse(segment)?, form))
}

/// Length and age of a file; `None` where it has gone. Why one cannot be examined shows when it is opened.
fn examine(path: &Path, name: SegmentName, (suffix, form): (&'static str, Form)) -> Option<Found> {
    // A symbolic link that leads nowhere, or to itself, is not gone.
    let metadata = match fs::metadata(path).or_else(|_| fs::symlink_metadata(path)) {
        Ok(metadata) => Some(metadata),
        Err(error) if is_absence(&error) => return None,
        Err(_) => None,
    };
    let length = metadata.as_ref().filter(|it| it.is_file()).map(Metadata::len);
    let modified = metadata.and_then(|it| it.modified().ok());
    Some(Found { name, suffix, form, length, modified })
}

/// Opens a file, if that is allowed without leaving a trace of having been read.
///
/// # Errors
/// As [`open_regular`].
pub fn open_unnoticed(path: &Path) -> Result<Option<(File, Metadata)>, OpenError> {
    match open_regular(path, OpenOptions::new().read(true), OFlag::O_NOATIME) {
        Err(OpenError::NotOpened(error)) if error.raw_os_error() == Some(EPERM) => {
            open_regular(path, OpenOptions::new().read(true), OFlag::empty())
        }
        opened => opened,
    }
}

fn file_system(location: &Path) -> Option<FileSystem> {
    let free = fs2::available_space(location).ok()?;
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let resolved = fs::canonicalize(location).ok()?;
    Some(FileSystem { kind: kind_of(&resolved, &mounts), free })
}

/// The type of the file system that a path is on, by the lines of `mountinfo`: of the mounts on the way to it, the last
/// one of the longest.
fn kind_of(path: &Path, mounts: &[u8]) -> Option<String> {
    let mounts = mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (mount, kind) = line.split_once(" - ")?;
        // A blank in the name is written as an octal number.
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (point.len(), kind.split(' ').next()))
    });
    mounts.max_by_key(|(length, _)| *length)?.1.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_segment_is_told_by_its_suffix() {
        for (suffix, form) in [
            ("", Some(Form::Plain)),
            (".gz", Some(Form::Compressed)),
            (".lz4", Some(Form::Compressed)),
            (".zst", Some(Form::Compressed)),
            (".partial", Some(Form::Partial)),
            (".gz.partial", Some(Form::Partial)),
            (".xz", Some(Form::Unread)),
            (".00000028.backup", None),
            (".tmp", None),
            ("0", None),
        ] {
            let found = form_of(format!("0000000100000000000000AB{suffix}").as_bytes());
            assert!(found.map(|(_, (_, form))| form) == form, "{suffix}");
        }
        assert!(form_of(b"RECOVERYXLOG").is_none());
    }

    #[test]
    fn the_last_of_the_longest_mounts_has_the_file_system() {
        let mounts = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:40 / /srv/pg\\040a rw,noatime shared:1 - nfs4 host:/a rw\n\
            3 1 0:41 / /srv/pg rw - tmpfs tmpfs rw\n\
            4 1 0:42 / /srv/pg rw - xfs /dev/sdb rw\n";
        for (path, kind) in
            [("/srv/pg a/wal", "nfs4"), ("/srv/pg/wal", "xfs"), ("/srv/pgx", "ext4")]
        {
            assert_eq!(kind_of(Path::new(path), mounts).as_deref(), Some(kind), "{path}");
        }
    }
}
