//! Tells when something has happened to the files that matter, where the file system can: inotify on their
//! directories. What has happened is for others to see.
//!
//! Only events about the names asked for count, so that many programs can wait on one busy archive without each of them
//! looking at it for every file that comes.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use log::{debug, warn};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::{self, FsType, statfs};

use crate::file_system::directory_of;

/// What may happen in a directory: a file appears, is renamed into it, closed by its writer, made readable; or the
/// directory itself goes away. Writes are left out, or every wait would wake at every write to any file in it.
const IN_DIRECTORY: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What may happen to a file that is there and not ready: its last write is seen even where it is never closed, and
/// both even where the writer knows it by another name.
const TO_FILE: AddWatchFlags = AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_CLOSE_WRITE);

/// File systems on which others write without the kernel here knowing.
const REMOTE: [FsType; 9] = [
    statfs::NFS_SUPER_MAGIC,
    statfs::FUSE_SUPER_MAGIC,
    statfs::SMB_SUPER_MAGIC,
    statfs::AFS_SUPER_MAGIC,
    statfs::CODA_SUPER_MAGIC,
    statfs::OCFS2_SUPER_MAGIC,
    FsType(0xFF53_4D42), // CIFS
    FsType(0xFE53_4D42), // SMB 2
    FsType(0x0102_1997), // 9P
];

/// The files that matter, and the watches on them that are in place.
pub struct Watches {
    inotify: Option<Inotify>,
    is_refused: bool,
    directories: Vec<Watched>,
}

/// A directory, and the files in it that matter, there or not.
struct Watched {
    directory: PathBuf,
    in_directory: Option<WatchDescriptor>,
    files: Vec<(OsString, Option<WatchDescriptor>)>,
    is_remote: bool,
}

impl Watches {
    /// Nothing is watched until [`Watches::place`].
    #[must_use]
    pub fn on(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut directories: Vec<Watched> = Vec::new();
        for path in files {
            let Some(name) = path.file_name() else { continue };
            let file = (name.to_owned(), None);
            let directory = directory_of(&path);
            match directories.iter_mut().find(|known| known.directory == directory) {
                Some(known) => known.files.push(file),
                None => directories.push(Watched {
                    directory: directory.to_owned(),
                    in_directory: None,
                    files: vec![file],
                    is_remote: false,
                }),
            }
        }
        Self { inotify: None, is_refused: false, directories }
    }

    /// Watches what is not watched yet. Returns whether a watch is new, so that what happened before it has to be looked for
    /// once more.
    pub fn place(&mut self) -> bool {
        if self.is_refused {
            return false;
        }
        match self.try_to_place() {
            Ok(is_new) => is_new,
            Err(error) => {
                self.is_refused = true;
                self.inotify = None;
                warn!("could not watch for changes: {error}; polling instead");
                false
            }
        }
    }

    fn try_to_place(&mut self) -> nix::Result<bool> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = match &mut self.inotify {
            Some(inotify) => inotify,
            none => none.insert(Inotify::init(flags)?),
        };
        let mut is_new = false;
        for Watched { directory, in_directory, files, is_remote } in &mut self.directories {
            if watch(inotify, directory, IN_DIRECTORY, in_directory)? {
                *is_remote = is_on_remote(directory);
                is_new = true;
            }
            for (name, to_file) in files {
                is_new |= watch(inotify, &directory.join(name), TO_FILE, to_file)?;
            }
        }
        Ok(is_new)
    }

    /// Returns whether something has happened to one of the files since the last call.
    pub fn have_news(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut news = false;
        while let Ok(events) = inotify.read_events() {
            news |= events.iter().any(|event| self.directories.iter().any(|it| it.is_in(event)));
        }
        news
    }

    /// Returns whether changes may go unseen: one of the files is on a file system that others change without a word from
    /// the kernel here, or the kernel has no more watches.
    #[must_use]
    pub fn miss_some(&self) -> bool {
        self.is_refused || self.directories.iter().any(|it| it.is_remote)
    }

    /// Readable when there are events, which need not be news.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(Inotify::as_fd)
    }
}

impl Watched {
    fn is_in(&self, event: &InotifyEvent) -> bool {
        let whole_queue = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
        let is_here = self.in_directory == Some(event.wd);
        let is_one = |name: &OsString| self.files.iter().any(|(known, _)| known == name);
        whole_queue
            || self.files.iter().any(|(_, to_file)| *to_file == Some(event.wd))
            || is_here && event.name.as_ref().is_none_or(is_one)
    }
}

/// Sets `watch` to the watch that is on `path` now, if there can be one. Returns whether that is a new one.
fn watch(
    inotify: &Inotify,
    path: &Path,
    events: AddWatchFlags,
    watch: &mut Option<WatchDescriptor>,
) -> nix::Result<bool> {
    let now = match inotify.add_watch(path, events) {
        Ok(now) => Some(now),
        Err(limit @ (Errno::ENOSPC | Errno::ENOMEM)) => return Err(limit),
        Err(_) => None,
    };
    if now == *watch {
        return Ok(false);
    }
    if let Some(before) = std::mem::replace(watch, now) {
        // It is on a file that has another name now, or none.
        let _ = inotify.rm_watch(before);
    }
    debug!("{} {path:?}", if now.is_some() { "watching" } else { "no longer watching" });
    Ok(now.is_some())
}

fn is_on_remote(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|is| REMOTE.contains(&is.filesystem_type()))
}
