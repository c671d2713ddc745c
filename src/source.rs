//! May one open file be handed over? Judged by what that file says of itself, by who else has it open for writing, and
//! by what was seen of it before. How it was found, and what follows from the verdict, is decided elsewhere.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use filetime::FileTime;

use crate::archive::Found;
use crate::decompress::{Fault, Reader, Trouble};
use crate::file_system::age;
use crate::lease;
use crate::wal::flaw::Flaw;
use crate::wal::header::{HEADER_SIZE, Header};
use crate::wal::history;
use crate::wal::name::{Numbering, WalName};
use crate::wal::records::Stop;

/// Bytes of a history file that are looked at; thousands of timelines. A compressed one may not have more.
const LONGEST_HISTORY: u64 = 1 << 20;

/// A file can be written to for so long after a change, and have the same times: some file systems tell them in seconds.
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// A file that is ready, open for reading.
pub struct Source {
    /// Its path in the archive.
    pub path: PathBuf,
    /// The one open file that everything is read from.
    pub file: Rc<File>,
    /// It is to be decompressed.
    pub is_compressed: bool,
    /// Its length in bytes, once it is decompressed.
    pub length: u64,
    /// What its first page says; `None` for what is not a segment.
    pub header: Option<Header>,
    /// Where a server would stop in it, where it was read before and has not changed since.
    pub stop: Option<Stop>,
    /// When it will not have changed for one sleep time.
    pub settled_at: Instant,
    /// For whoever reads on where its header ends: what was read of a compressed segment.
    pub begun: Cell<Option<Begun>>,
    state: State,
}

/// The first bytes of a file, and what reads the rest.
pub type Begun = ([u8; HEADER_SIZE], Reader);

/// What a file has in it.
struct Content {
    header: Option<Header>,
    length: u64,
    begun: Option<Begun>,
}

/// A file that may not be handed over, at least not yet.
#[derive(Debug)]
pub struct Rejected {
    /// Its path in the archive.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A directory, a FIFO, a socket or a device.
    NotRegular,
    /// A segment that is not what its name promises.
    Flaw(Flaw),
    /// A history file that does not end with a line: half of one keeps the server from starting.
    HalfHistory,
    /// Somebody has it open for writing.
    OpenForWriting,
    /// It was written to while it was copied.
    Changed,
    /// What it holds cannot be decompressed.
    Compressed(Fault),
}

/// What was found wrong with a file when it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A server would stop in it.
    Stops(Stop),
    /// It may not be handed over.
    Rejected(Reason),
}

/// What makes a file good enough, and what is known of writers that do not let go of theirs.
pub struct Judge {
    /// The cluster that segments must be of, where that is known.
    pub system_identifier: Option<u64>,
    /// How long a file that is open for writing must not change before its writer is believed to be done.
    patience: Duration,
    /// The files that were seen, by their paths.
    seen: BTreeMap<PathBuf, Seen>,
}

/// What was seen of a file.
struct Seen {
    state: State,
    /// Since when it has been in this state.
    since: Instant,
    is_written: bool,
    /// When it was looked at last.
    looked_at: Instant,
    /// What a copy of it showed, and when it was looked at for that copy.
    defect: Option<(Defect, Instant)>,
}

/// One state of one file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    length: u64,
    modified: FileTime,
    /// When it was changed in any way, in seconds and nanoseconds; unlike the time above, nobody can set it.
    changed: (i64, i64),
}

impl Judge {
    /// Takes segments of any cluster.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { system_identifier: None, patience, seen: BTreeMap::new() }
    }

    /// Decides whether what was found may be handed over as the file of that name.
    ///
    /// # Errors
    /// The open file cannot be read.
    pub fn judge(&mut self, name: &WalName, found: Found) -> io::Result<Result<Source, Rejected>> {
        let Found { path, opened, is_compressed } = found;
        let Some((file, metadata)) = opened else {
            return Ok(Err(Rejected { path, reason: Reason::NotRegular }));
        };
        let state = State::of(&metadata);
        let seen = self.see(&path, state);
        seen.looked_at = Instant::now();
        let known = seen.known();
        if let Some(Defect::Rejected(reason)) = known {
            return Ok(Err(Rejected { path, reason }));
        }
        let file = Rc::new(file);
        let content = match self.check_content(name, &file, &metadata, is_compressed) {
            Ok(content) => content,
            Err(Wrong::Unreadable(error)) => return Err(error),
            Err(Wrong::Content(reason)) => return Ok(Err(Rejected { path, reason })),
        };
        let patience = self.patience;
        let seen = self.see(&path, state);
        seen.is_written = lease::has_writer(&file) == Some(true);
        let (since, is_written) = (seen.since, seen.is_written);
        let stop = match known {
            Some(Defect::Stops(stop)) => Some(stop),
            Some(Defect::Rejected(_)) | None => None,
        };
        let trusted_at = since.checked_add(patience);
        if is_written && trusted_at.is_none_or(|trusted_at| trusted_at > Instant::now()) {
            return Ok(Err(Rejected { path, reason: Reason::OpenForWriting }));
        }
        let settled_at = self.settled_at(&metadata, since);
        let Content { header, length, begun } = content;
        let begun = Cell::new(begun);
        Ok(Ok(Source { path, file, is_compressed, length, header, stop, settled_at, begun, state }))
    }

    /// When a file that is open for writing will be trusted, if it does not change.
    #[must_use]
    pub fn trusted_at(&self) -> Option<Instant> {
        let written = self.seen.values().filter(|seen| seen.is_written);
        let trusted_at = written.filter_map(|seen| seen.since.checked_add(self.patience));
        trusted_at.filter(|at| *at > Instant::now()).min()
    }

    /// Takes note of what is wrong with `source`, so that it is not read again before it has changed.
    pub fn remember(&mut self, source: &Source, defect: Defect) {
        let seen = self.see(&source.path, source.state);
        seen.defect = Some((defect, seen.looked_at));
    }

    /// Forgets where a server would stop, so that files are taken as they are.
    pub fn forget_stops(&mut self) {
        for seen in self.seen.values_mut() {
            seen.defect = seen.defect.filter(|(it, _)| !matches!(it, Defect::Stops(_)));
        }
    }

    /// Returns what the first page says, and the length of the file.
    fn check_content(
        &self,
        name: &WalName,
        file: &Rc<File>,
        metadata: &Metadata,
        is_compressed: bool,
    ) -> Result<Content, Wrong> {
        let length = metadata.len();
        match name {
            WalName::Segment(segment) => {
                let mut page = [0; HEADER_SIZE];
                let mut reader = Reader::new(file, is_compressed);
                let (filled, result) = reader.fill(&mut page);
                result?;
                let header = Header::parse(page.get(..filled).unwrap_or_default())?;
                // That of a compressed one is found out when it is decompressed.
                let promised = u64::from(header.numbering.segment_size);
                let length = if is_compressed { promised } else { length };
                header.check(*segment, length, self.system_identifier)?;
                let begun = is_compressed.then_some((page, reader));
                Ok(Content { header: Some(header), length, begun })
            }
            WalName::BackupHistory(..) | WalName::Partial(_) if !is_compressed => {
                Ok(Content { header: None, length, begun: None })
            }
            _ => {
                let content = content(file, is_compressed)?;
                if matches!(name, WalName::History(_)) && !history::is_whole(&content) {
                    return Err(Wrong::Content(Reason::HalfHistory));
                }
                let length = if is_compressed { content.len() as u64 } else { length };
                Ok(Content { header: None, length, begun: None })
            }
        }
    }

    /// What was seen of the file in this state.
    fn see(&mut self, path: &Path, state: State) -> &mut Seen {
        let new = || {
            let now = Instant::now();
            Seen { state, since: now, is_written: false, looked_at: now, defect: None }
        };
        let seen = self.seen.entry(path.to_owned()).or_insert_with(new);
        if seen.state != state {
            *seen = new();
        }
        seen
    }

    /// When the file will not have changed for one sleep time, by what was seen of it or by its own time of change,
    /// which nobody can set.
    fn settled_at(&self, metadata: &Metadata, unchanged_since: Instant) -> Instant {
        let waited = age(metadata).max(unchanged_since.elapsed());
        let left = self.patience.saturating_sub(waited);
        Instant::now().checked_add(left).unwrap_or(unchanged_since)
    }
}

impl Seen {
    /// Returns what is wrong with the file, unless it was read so soon that later bytes may be there under the same times.
    fn known(&self) -> Option<Defect> {
        let is_early = |at: Instant| at.saturating_duration_since(self.since) < COARSEST_TIME;
        let (defect, read_at) = self.defect?;
        (!is_early(read_at) || is_early(self.looked_at)).then_some(defect)
    }
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: FileTime::from_last_modification_time(metadata),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Source {
    /// How its cluster numbers segments; `None` for what is not a segment.
    #[must_use]
    pub fn numbering(&self) -> Option<Numbering> {
        self.header.map(|header| header.numbering)
    }

    /// Reads a history or backup history file.
    ///
    /// # Errors
    /// It cannot be read or decompressed.
    pub fn content(&self) -> Result<Vec<u8>, Trouble> {
        content(&self.file, self.is_compressed)
    }

    /// Returns whether nobody has written to the file since it was looked at.
    ///
    /// # Errors
    /// The file does not answer any more.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        // A new name or none is no write.
        let changed = self.state.changed;
        Ok(State { changed, ..State::of(&self.file.metadata()?) } == self.state)
    }
}

impl Reason {
    /// Returns whether a file looks like this for a while when it is being written: that is normal, and reported only if
    /// it persists.
    #[must_use]
    pub fn is_passing(self) -> bool {
        match self {
            Self::OpenForWriting | Self::Changed | Self::HalfHistory => true,
            Self::NotRegular => false,
            Self::Compressed(fault) => fault.is_passing(),
            Self::Flaw(flaw) => flaw.is_passing(),
        }
    }

    /// Returns whether the file is good as far as it can be seen, but for somebody who may still write to it.
    #[must_use]
    pub fn is_unfinished(self) -> bool {
        match self {
            Self::OpenForWriting | Self::Changed => true,
            Self::NotRegular | Self::Flaw(_) | Self::HalfHistory | Self::Compressed(_) => false,
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not ready: {}", self.path, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular => write!(f, "not a regular file"),
            Self::Flaw(flaw) => flaw.fmt(f),
            Self::HalfHistory => {
                write!(f, "incomplete history file: expected a newline at the end")
            }
            Self::OpenForWriting => write!(f, "still open for writing"),
            Self::Changed => write!(f, "written to while it was copied"),
            Self::Compressed(fault) => fault.fmt(f),
        }
    }
}

/// Why the content of a file is not good.
enum Wrong {
    Unreadable(io::Error),
    Content(Reason),
}

impl From<Flaw> for Wrong {
    fn from(flaw: Flaw) -> Self {
        Self::Content(Reason::Flaw(flaw))
    }
}

impl From<Trouble> for Wrong {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Read(error) => Self::Unreadable(error),
            Trouble::Fault(fault) => Self::Content(Reason::Compressed(fault)),
        }
    }
}

/// Reads a history or backup history file, wherever its file position is.
///
/// # Errors
/// It cannot be read or decompressed.
pub fn content(file: &Rc<File>, is_compressed: bool) -> Result<Vec<u8>, Trouble> {
    let mut content = Vec::new();
    let mut piece = [0; 8192];
    let mut reader = Reader::new(file, is_compressed);
    loop {
        let is_full = content.len() as u64 >= LONGEST_HISTORY;
        match reader.read(&mut piece)? {
            0 => return Ok(content),
            _ if is_full && is_compressed => {
                return Err(Fault::TooLong { expected: LONGEST_HISTORY }.into());
            }
            _ if is_full => return Ok(content),
            count => content.extend(piece.iter().take(count)),
        }
    }
}
