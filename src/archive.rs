//! Is the file in the archive, and ready? Opens it once and judges it by what that one open file says.
//! What follows from the answer is decided elsewhere.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use filetime::FileTime;
use nix::fcntl::OFlag;
use nix::libc::ENXIO;

use crate::cli::Options;
use crate::lease;
use crate::wal::header::{Flaw, HEADER_SIZE, Header};
use crate::wal::history::{self, Beginning};
use crate::wal::name::{Numbering, SegmentName, WalName};

/// Bytes of a history file that are read; thousands of timelines.
const LONGEST_HISTORY: u64 = 1 << 20;

/// The archive location, and what makes a segment in it one of ours.
pub struct Archive<'a> {
    location: &'a Path,
    /// Without this file in it the archive is not mounted.
    required_file: Option<PathBuf>,
    system_identifier: Option<u64>,
    /// How long a file that somebody has open for writing must not change before it is believed.
    patience: Duration,
    /// A file that somebody has open for writing: its state, and since when it is in it.
    held: Option<(u64, FileTime, Instant)>,
}

/// What one look at the archive found.
pub enum Look {
    /// The file is whole and as it should be.
    Ready(Source),
    /// The archive answers, and does not have it.
    Absent,
    /// Something of that name is there that may not be handed over.
    NotReady(Unfit),
    /// The archive does not answer, so nothing is known.
    Unavailable(Unavailable),
}

/// A file that is ready, open for reading.
pub struct Source {
    /// Its path in the archive.
    pub path: PathBuf,
    /// The one open file that everything is read from.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// How its cluster numbers segments; `None` for what is no segment.
    pub numbering: Option<Numbering>,
    modified: FileTime,
}

/// A file that may not be handed over, at least not yet.
pub struct Unfit {
    /// Its path in the archive.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A directory, a FIFO, a socket or a device.
    NotAFile,
    /// A segment that is not what its name promises.
    Flaw(Flaw),
    /// Somebody has it open for writing.
    Held,
    /// It was written to while it was copied.
    Changed,
}

/// What could not be read, and why.
pub struct Unavailable {
    /// The archive location or the file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl<'a> Archive<'a> {
    /// The archive that the options name. Segments of a cluster other than `system_identifier`, where that is known, are
    /// not ready in it, nor is a file that a writer has open and that has changed within a sleep time.
    #[must_use]
    pub fn of(options: &'a Options, system_identifier: Option<u64>) -> Self {
        let location = options.archive_location.as_path();
        let required_file = options.required_file.as_ref().map(|name| location.join(name));
        let patience = options.sleep_time;
        Self { location, required_file, system_identifier, patience, held: None }
    }

    /// The error that says that there is no such directory at all, rather than that it does not answer.
    #[must_use]
    pub fn missing(&self) -> Option<io::Error> {
        match fs::metadata(self.location) {
            Ok(metadata) if metadata.is_dir() => None,
            Ok(_) => Some(io::ErrorKind::NotADirectory.into()),
            Err(error) if is_absence(&error) => Some(error),
            Err(_) => None,
        }
    }

    /// Looks for one file, and opens it.
    #[must_use]
    pub fn look(&mut self, name: &WalName) -> Look {
        let look = self.look_anywhere(name);
        // Asked last: what a directory says of its files counts only if it was the mounted one all the while.
        self.lacks_required_file().map_or(look, Look::Unavailable)
    }

    /// What says that the archive is not mounted.
    #[must_use]
    pub fn lacks_required_file(&self) -> Option<Unavailable> {
        let path = self.required_file.as_ref()?;
        let source = fs::metadata(path).err()?;
        Some(Unavailable { path: path.clone(), source })
    }

    /// How many later segments of the same timeline the archive has.
    #[must_use]
    pub fn count_behind(&self, segment: SegmentName) -> usize {
        let is_behind = |name: &WalName| match name {
            WalName::Segment(other) => {
                other.timeline == segment.timeline && other.position > segment.position
            }
            _ => false,
        };
        names_in(self.location).filter(is_behind).count()
    }

    fn look_anywhere(&mut self, name: &WalName) -> Look {
        let path = self.location.join(name.to_string());
        match self.open(name, path) {
            Ok(look) => look,
            // The directory itself is asked, because a file is "absent" only where the archive answers.
            Err(Unavailable { source, .. }) if is_absence(&source) => {
                let path = self.location.to_owned();
                match fs::metadata(self.location) {
                    Ok(metadata) if metadata.is_dir() => Look::Absent,
                    Ok(_) => Look::Unavailable(Unavailable { path, source }),
                    Err(source) => Look::Unavailable(Unavailable { path, source }),
                }
            }
            Err(unavailable) => Look::Unavailable(unavailable),
        }
    }

    /// The segment's timeline began after it, as its history file in the archive says: there is nothing to wait for.
    #[must_use]
    pub fn can_never_hold(&mut self, segment: SegmentName) -> bool {
        let Look::Ready(history) = self.look(&WalName::History(segment.timeline)) else {
            return false;
        };
        let mut content = Vec::new();
        if history.file.take(LONGEST_HISTORY).read_to_end(&mut content).is_err() {
            return false;
        }
        match history::beginning(&content) {
            Some(Beginning::Segment(first)) => segment.position < first,
            Some(Beginning::Address(switch)) => {
                let end = |numbering: Numbering| {
                    let start = numbering.address(segment.position)?;
                    start.checked_add(numbering.segment_size.into())
                };
                self.numbering().and_then(end).is_some_and(|end| end <= switch)
            }
            None => false,
        }
    }

    /// How the cluster numbers its segments, from the first segment that the directory happens to list.
    fn numbering(&mut self) -> Option<Numbering> {
        names_in(self.location).find_map(|name| match self.look(&name) {
            Look::Ready(source) => source.numbering,
            _ => None,
        })
    }

    /// A file that is held open for writing has not changed for so long that its writer is believed to be done.
    fn is_at_rest(&mut self, length: u64, modified: FileTime) -> bool {
        let since = match self.held {
            Some((same_length, same_time, since))
                if (same_length, same_time) == (length, modified) =>
            {
                since
            }
            _ => Instant::now(),
        };
        self.held = Some((length, modified, since));
        since.elapsed() >= self.patience
    }

    /// When a file that is held open for writing will be believed, if it does not change.
    #[must_use]
    pub fn believes_at(&self) -> Option<Instant> {
        self.held.and_then(|(_, _, since)| since.checked_add(self.patience))
    }

    fn open(&mut self, name: &WalName, path: PathBuf) -> Result<Look, Unavailable> {
        // Non-blocking, or a FIFO would hold the open until somebody writes to it.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path);
        let (file, metadata) = match opened.and_then(|file| Ok((file.metadata()?, file))) {
            Ok((metadata, file)) if metadata.is_file() => (file, metadata),
            Ok(_) => {
                return Ok(Look::NotReady(Unfit { path, reason: Reason::NotAFile }));
            }
            Err(error) if error.raw_os_error() == Some(ENXIO) => {
                return Ok(Look::NotReady(Unfit { path, reason: Reason::NotAFile }));
            }
            Err(source) => return Err(Unavailable { path, source }),
        };
        let length = metadata.len();
        let modified = FileTime::from_last_modification_time(&metadata);
        let numbering = match name {
            WalName::Segment(segment) => {
                let mut page = [0; HEADER_SIZE];
                let page = match read_start(&file, &mut page) {
                    Ok(page) => page,
                    Err(source) => return Err(Unavailable { path, source }),
                };
                let header = Header::parse(page).and_then(|header| {
                    header.check(*segment, length, self.system_identifier)?;
                    Ok(header)
                });
                match header {
                    Ok(header) => Some(header.numbering),
                    Err(flaw) => {
                        return Ok(Look::NotReady(Unfit { path, reason: Reason::Flaw(flaw) }));
                    }
                }
            }
            _ => None,
        };
        if lease::has_writer(&file) == Some(true) && !self.is_at_rest(length, modified) {
            return Ok(Look::NotReady(Unfit { path, reason: Reason::Held }));
        }
        Ok(Look::Ready(Source { path, file, length, numbering, modified }))
    }
}

impl Source {
    /// Nobody has written to the file since it was looked at.
    ///
    /// # Errors
    /// The file does not answer any more.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        let modified = FileTime::from_last_modification_time(&metadata);
        Ok(metadata.len() == self.length && modified == self.modified)
    }
}

impl Reason {
    /// What anybody sees who looks while the file is written: worth a word only when it stays so.
    #[must_use]
    pub fn may_be_in_transit(&self) -> bool {
        match self {
            Self::Held | Self::Changed => true,
            Self::NotAFile => false,
            Self::Flaw(flaw) => matches!(
                flaw,
                Flaw::Headerless { .. }
                    | Flaw::Magic { found: 0 }
                    | Flaw::TooShort { .. }
                    | Flaw::TooLong { .. }
            ),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not ready: ", self.path)?;
        match self.reason {
            Reason::NotAFile => write!(f, "it is no regular file"),
            Reason::Flaw(flaw) => flaw.fmt(f),
            Reason::Held => write!(f, "somebody has it open for writing"),
            Reason::Changed => write!(f, "it was written to while it was copied"),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not read {:?}: {}", self.path, self.source)
    }
}

fn names_in(directory: &Path) -> impl Iterator<Item = WalName> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().map_while(Result::ok);
    entries.filter_map(|entry| WalName::parse(&entry.file_name()))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Fills as much of `page` as the file has.
fn read_start<'a>(file: &File, page: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut filled: usize = 0;
    while let Some(rest) = page.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(filled).unwrap_or(u64::MAX);
        match file.read_at(rest, offset) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(page.get(..filled).unwrap_or_default())
}
