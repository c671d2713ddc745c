//! May one open file be handed over? Judged by what that file says of itself, by who else has it open for writing, and
//! by what was seen of it before. How it was found, and what follows from the verdict, is decided elsewhere.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use filetime::FileTime;

use crate::file_system::age;
use crate::lease;
use crate::wal::flaw::Flaw;
use crate::wal::header::{HEADER_SIZE, Header};
use crate::wal::history;
use crate::wal::name::{Numbering, SegmentName, WalName};
use crate::wal::records::Stop;

/// Bytes of a history file that are looked at; thousands of timelines.
const LONGEST_HISTORY: u64 = 1 << 20;

/// A file can be written to for so long after a change, and have the same times: some file systems tell them in seconds.
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// A file that is ready, open for reading.
pub struct Source {
    /// Its path in the archive.
    pub path: PathBuf,
    /// The one open file that everything is read from.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// What its first page says; `None` for what is not a segment.
    pub header: Option<Header>,
    /// Where a server would stop in it, where it was read before and has not changed since.
    pub stop: Option<Stop>,
    /// When it will not have changed for one sleep time.
    pub settled_at: Instant,
    state: State,
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
}

/// What makes a file good enough, and what is known of writers that do not let go of theirs.
pub struct Judge {
    /// The cluster that segments must be of, where that is known.
    pub system_identifier: Option<u64>,
    /// How long a file that is open for writing must not change before its writer is believed to be done.
    patience: Duration,
    /// The last file that was seen, and since when it has not changed.
    last: Option<(State, Instant)>,
    /// Whether it is open for writing.
    is_written: bool,
    /// When it was looked at last.
    looked_at: Instant,
    /// Where a server would stop in it, and when what says so was looked at.
    stop: Option<(Stop, Instant)>,
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
        Self {
            system_identifier: None,
            patience,
            last: None,
            is_written: false,
            looked_at: Instant::now(),
            stop: None,
        }
    }

    /// Decides whether the file of that name may be handed over. `opened` is what opening it gave: `None` for what is
    /// not a regular file.
    ///
    /// # Errors
    /// The open file cannot be read.
    pub fn judge(
        &mut self,
        name: &WalName,
        path: PathBuf,
        opened: Option<(File, Metadata)>,
    ) -> io::Result<Result<Source, Rejected>> {
        let Some((file, metadata)) = opened else {
            return Ok(Err(Rejected { path, reason: Reason::NotRegular }));
        };
        let length = metadata.len();
        let header = match self.check_content(name, &file, length)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(Rejected { path, reason })),
        };
        let state = State::of(&metadata);
        self.looked_at = Instant::now();
        let unchanged_since = self.unchanged_since(state);
        let trusted_at = unchanged_since.checked_add(self.patience);
        self.is_written = lease::has_writer(&file) == Some(true);
        if self.is_written && trusted_at.is_none_or(|trusted_at| trusted_at > Instant::now()) {
            return Ok(Err(Rejected { path, reason: Reason::OpenForWriting }));
        }
        let settled_at = self.settled_at(&metadata, unchanged_since);
        let stop = self.known_stop(unchanged_since);
        Ok(Ok(Source { path, file, length, header, stop, settled_at, state }))
    }

    /// When a file that is open for writing will be trusted, if it does not change.
    #[must_use]
    pub fn trusted_at(&self) -> Option<Instant> {
        let (_, unchanged_since) = self.last?;
        unchanged_since.checked_add(self.patience).filter(|_| self.is_written)
    }

    /// Takes note of where a server would stop in `source`, so that it is not read again before it has changed.
    pub fn remember(&mut self, source: &Source, stop: Stop) {
        if self.last.is_some_and(|(state, _)| state == source.state) {
            self.stop = Some((stop, self.looked_at));
        }
    }

    /// Forgets where a server would stop, so that the file is taken as it is.
    pub fn forget_stop(&mut self) {
        self.stop = None;
    }

    fn check_content(
        &self,
        name: &WalName,
        file: &File,
        length: u64,
    ) -> io::Result<Result<Option<Header>, Reason>> {
        Ok(match name {
            WalName::Segment(segment) => {
                self.check_segment(*segment, file, length)?.map(Some).map_err(Reason::Flaw)
            }
            WalName::History(_) if !history::is_whole(&read_history(file)?) => {
                Err(Reason::HalfHistory)
            }
            _ => Ok(None),
        })
    }

    fn check_segment(
        &self,
        segment: SegmentName,
        file: &File,
        length: u64,
    ) -> io::Result<Result<Header, Flaw>> {
        let mut page = [0; HEADER_SIZE];
        let page = read_start(file, &mut page)?;
        Ok(Header::parse(page).and_then(|header| {
            header.check(segment, length, self.system_identifier)?;
            Ok(header)
        }))
    }

    /// Since when the file has been in this state, as far as it was looked at.
    fn unchanged_since(&mut self, state: State) -> Instant {
        match self.last {
            Some((last, since)) if last == state => since,
            _ => {
                let now = Instant::now();
                self.last = Some((state, now));
                self.stop = None;
                now
            }
        }
    }

    /// Where a server would stop, unless that was read so soon that later bytes may be there under the same times.
    fn known_stop(&self, unchanged_since: Instant) -> Option<Stop> {
        let is_early = |at: Instant| at.saturating_duration_since(unchanged_since) < COARSEST_TIME;
        let (stop, read_at) = self.stop?;
        (!is_early(read_at) || is_early(self.looked_at)).then_some(stop)
    }

    /// When the file will not have changed for one sleep time, by what was seen of it or by its own time of change,
    /// which nobody can set.
    fn settled_at(&self, metadata: &Metadata, unchanged_since: Instant) -> Instant {
        let waited = age(metadata).max(unchanged_since.elapsed());
        let left = self.patience.saturating_sub(waited);
        Instant::now().checked_add(left).unwrap_or(unchanged_since)
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
            Self::Flaw(flaw) => flaw.is_passing(),
        }
    }

    /// Returns whether the file is good as far as it can be seen, but for somebody who may still write to it.
    #[must_use]
    pub fn is_unfinished(self) -> bool {
        match self {
            Self::OpenForWriting | Self::Changed => true,
            Self::NotRegular | Self::Flaw(_) | Self::HalfHistory => false,
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
        }
    }
}

/// Reads a history file, wherever its file position is.
///
/// # Errors
/// What the system says.
pub fn read_history(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut piece = [0; 8192];
    loop {
        let offset = u64::try_from(content.len()).unwrap_or(u64::MAX);
        match file.read_at(&mut piece, offset) {
            Ok(count) if count > 0 && offset < LONGEST_HISTORY => {
                content.extend(piece.iter().take(count));
            }
            Ok(_) => return Ok(content),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
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
