//! How are the segments in the archive? Their lengths and headers. Reading the first page of a hundred thousand segments
//! would take minutes on a disk, so of many only some are opened, and how many is told. Records are read in `records`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::decompress::{Fault, Reader, Trouble};
use crate::file_system::is_absence;
use crate::report::Progress;
use crate::source::Reason;
use crate::wal::flaw::Flaw;
use crate::wal::header::{HEADER_SIZE, Header};
use crate::wal::name::{Numbering, Position, SegmentName};
use crate::wal::records::Stop;

use super::call::Call;
use super::scan::{Form, Found, open_unnoticed};

/// So many segments are opened for their header at most.
const MOST_HEADERS: usize = 1000;

/// A file that looks unfinished and is younger than this is on its way.
pub const ARRIVAL: Duration = Duration::from_secs(60);

/// What became of checking.
#[derive(Default)]
pub struct Checks {
    /// Segments that a server would not get, by position.
    pub not_ready: Vec<NotReady>,
    /// Segments whose header was read.
    pub headers: usize,
    /// Segments whose records were read.
    pub records: usize,
    /// How the newest segment's cluster numbers segments.
    pub numbering: Option<Numbering>,
    /// The cluster of the newest segment.
    pub system_identifier: Option<u64>,
}

/// A segment that a server would not get.
pub struct NotReady {
    /// The segment.
    pub name: SegmentName,
    /// Why.
    pub why: Why,
    /// When the file was written to last; `None` where the file system does not say.
    pub modified: Option<SystemTime>,
}

/// What is wrong with a segment.
pub enum Why {
    /// A directory, a FIFO, a socket, a device, or a symbolic link that leads nowhere.
    NotRegular,
    /// It cannot be read.
    Unreadable(String),
    /// What it holds cannot be decompressed.
    Compressed(Fault),
    /// It is a history file without its last line.
    HalfHistory,
    /// It is not what its name promises.
    Flaw(Flaw),
    /// A server would take a place in it for the end of WAL.
    Stop(Stop),
}

impl NotReady {
    /// Returns whether it looks as if it were being written at the moment.
    #[must_use]
    pub fn is_arriving(&self, now: SystemTime) -> bool {
        self.why.is_arriving(self.modified, now)
    }
}

impl Why {
    /// Every label that there is.
    pub const LABELS: [&str; 9] = [
        "not_regular",
        "unreadable",
        "compressed",
        "header",
        "lsn",
        "timeline",
        "system_identifier",
        "length",
        "records",
    ];

    /// Returns whether a file that was written to last at that time looks as if it were being written at the moment.
    #[must_use]
    pub fn is_arriving(&self, modified: Option<SystemTime>, now: SystemTime) -> bool {
        let is_young = |modified| match now.duration_since(modified) {
            Ok(age) => age < ARRIVAL,
            Err(ahead) => ahead.duration() < ARRIVAL,
        };
        let is_passing = match self {
            Self::HalfHistory => true,
            Self::Compressed(fault) => fault.is_passing(),
            // What is on its way grows up to its length, and not beyond.
            Self::Flaw(flaw) => flaw.is_passing() && !matches!(flaw, Flaw::TooLong { .. }),
            Self::NotRegular | Self::Unreadable(_) | Self::Stop(_) => false,
        };
        is_passing && modified.is_some_and(is_young)
    }

    /// One word for it, which stays the same.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotRegular => "not_regular",
            Self::Unreadable(_) => "unreadable",
            Self::Compressed(_) => "compressed",
            Self::HalfHistory => "length",
            Self::Stop(_) => "records",
            Self::Flaw(flaw) => match flaw {
                Flaw::NoHeader { .. }
                | Flaw::Magic { .. }
                | Flaw::ShortHeader { .. }
                | Flaw::SegmentSize { .. }
                | Flaw::BlockSize { .. } => "header",
                Flaw::Lsn { .. } => "lsn",
                Flaw::Timeline { .. } => "timeline",
                Flaw::SystemIdentifier { .. } => "system_identifier",
                Flaw::TooShort { .. } | Flaw::TooLong { .. } => "length",
            },
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular => write!(f, "not a regular file"),
            Self::Unreadable(reason) => write!(f, "could not be read: {reason}"),
            Self::Compressed(fault) => fault.fmt(f),
            Self::HalfHistory => Reason::HalfHistory.fmt(f),
            Self::Flaw(flaw) => flaw.fmt(f),
            Self::Stop(Stop { at, why, .. }) => {
                write!(f, "the server could read it only up to {at}, where {why}")
            }
        }
    }
}

impl From<Trouble> for Why {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Read(error) => Self::Unreadable(error.to_string()),
            Trouble::Fault(fault) => Self::Compressed(fault),
        }
    }
}

/// What is to be checked.
pub struct Task<'a> {
    /// The archive.
    pub location: &'a Path,
    /// The segments in it as they are, by position.
    pub segments: Vec<&'a Found>,
    /// The cluster that they must be of; where it is not known, that of the newest one.
    pub system_identifier: Option<u64>,
    /// What the standby asks for: what follows matters most.
    pub asked: Option<Position>,
    /// The call that waits: the records of its segment are read as it would read them.
    pub call: Option<&'a Call>,
    /// Read every record as well.
    pub reads_records: bool,
}

impl Task<'_> {
    /// Checks them.
    #[must_use]
    pub fn run(self, progress: &mut Progress) -> Checks {
        let mut checks = Checks::default();
        let mut expected = self.system_identifier;
        let chosen =
            if self.reads_records { (0..self.segments.len()).collect() } else { self.choose() };
        // The newest first: it says what is expected of the others.
        for index in chosen.iter().rev() {
            let Some(found) = self.segments.get(*index) else { continue };
            let path = self.location.join(found.file_name());
            let is_asked_for = self.asked == Some(found.name.position);
            let read = read_header(&path, found, expected, is_asked_for);
            let Some(read) = read else { continue };
            checks.headers = checks.headers.saturating_add(1);
            progress.show(&format_args!("headers read: {} of {}", checks.headers, chosen.len()));
            match read {
                Ok(header) => {
                    expected = expected.or(Some(header.system_identifier));
                    checks.numbering = checks.numbering.or(Some(header.numbering));
                    checks.system_identifier =
                        checks.system_identifier.or(Some(header.system_identifier));
                }
                Err(why) => {
                    if let Why::Flaw(Flaw::SystemIdentifier { found, .. }) = why {
                        checks.system_identifier = checks.system_identifier.or(Some(found));
                    }
                    checks.add(found, why);
                }
            }
        }
        self.compare_lengths(&chosen, &mut checks);
        self.read_records(&mut checks, progress);
        checks.not_ready.sort_by_key(|it| (it.name.position, it.name.timeline));
        checks
    }

    /// All of them, if they are few; else those that the standby will ask for next, and others evenly over all.
    fn choose(&self) -> BTreeSet<usize> {
        let count = self.segments.len();
        if count <= MOST_HEADERS {
            return (0..count).collect();
        }
        let half = MOST_HEADERS / 2;
        let asked = self.asked.unwrap_or(Position::ZERO);
        let next = self.segments.partition_point(|it| it.name.position < asked);
        let stride = count.div_ceil(half);
        let last = count.saturating_sub(1);
        (next..next.saturating_add(half).min(count))
            .chain((0..count).step_by(stride))
            .chain([last])
            .collect()
    }

    /// Of what was not opened the length is known.
    fn compare_lengths(&self, opened: &BTreeSet<usize>, checks: &mut Checks) {
        let Some(numbering) = checks.numbering else { return };
        let expected = u64::from(numbering.segment_size);
        for (_, found) in self.segments.iter().enumerate().filter(|(it, _)| !opened.contains(it)) {
            if found.is_compressed() {
                continue;
            }
            let flaw = match found.length {
                Some(found) if found < expected => Flaw::TooShort { found, expected },
                Some(found) if found > expected => Flaw::TooLong { found, expected },
                Some(_) => continue,
                None => {
                    let path = self.location.join(found.file_name());
                    if let Some(Err(why)) = open(&path) {
                        checks.add(found, why);
                    }
                    continue;
                }
            };
            checks.add(found, Why::Flaw(flaw));
        }
    }
}

impl Checks {
    /// Takes note of one.
    pub fn add(&mut self, found: &Found, why: Why) {
        self.not_ready.push(NotReady { name: found.name, why, modified: found.modified });
    }
}

/// Reads the header of a segment and checks it; `None` where the file has gone. How long a compressed one is is known only
/// when all of it has been decompressed.
fn read_header(
    path: &Path,
    found: &Found,
    expected: Option<u64>,
    decompresses: bool,
) -> Option<Result<Header, Why>> {
    let (file, length) = match open(path)? {
        Ok(opened) => opened,
        Err(why) => return Some(Err(why)),
    };
    let mut page = [0; HEADER_SIZE];
    let mut reader = Reader::new(&file, found.is_compressed());
    let (filled, result) = reader.fill(&mut page);
    Some(result.map_err(Why::from).and_then(|()| {
        let header = Header::parse(page.get(..filled).unwrap_or_default()).map_err(Why::Flaw)?;
        let promised = u64::from(header.numbering.segment_size);
        let length = match (found.is_compressed(), decompresses) {
            (false, _) => length,
            (true, false) => promised,
            (true, true) => count_rest(&mut reader, promised)?.saturating_add(filled as u64),
        };
        header.check(found.name, length, expected).map_err(Why::Flaw)?;
        Ok(header)
    }))
}

/// Counts the bytes that are left, as far as `most`.
fn count_rest(reader: &mut Reader, most: u64) -> Result<u64, Trouble> {
    let mut piece = vec![0; 1 << 16];
    let mut count: u64 = 0;
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(count),
            read => count = count.saturating_add(read as u64),
        }
        if count > most {
            return Ok(count);
        }
    }
}

/// Opens a file of the archive to read it; `None` where there is none.
#[must_use]
pub fn open(path: &Path) -> Option<Result<(Rc<File>, u64), Why>> {
    Some(match open_unnoticed(path).map_err(io::Error::from) {
        Ok(Some((file, metadata))) => Ok((Rc::new(file), metadata.len())),
        Ok(None) => Err(Why::NotRegular),
        Err(error) if is_absence(&error) => {
            // A symbolic link that leads nowhere is not gone.
            std::fs::symlink_metadata(path).ok()?;
            Err(Why::NotRegular)
        }
        Err(error) => Err(Why::Unreadable(error.to_string())),
    })
}

impl Found {
    /// Returns whether it has to be decompressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.form == Form::Compressed
    }
}
