//! How are a standby and its archive? One look at both, which changes nothing. What is wrong is in [`trouble`]; [`text`],
//! [`json`], [`plugin`] and [`prometheus`] tell the whole, each in its own form. Nothing is restored here.

mod call;
mod checks;
mod histories;
mod json;
mod line;
mod plugin;
mod prometheus;
mod records;
mod registered;
mod scan;
mod standby;
mod text;
mod trouble;
mod words;

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf, absolute};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;

use crate::data_directory::{self, WAL_DIRECTORIES};
use crate::error::Error;
use crate::file_system::{names_in, not_regular, open_regular};
use crate::options::{Format, Inquiry};
use crate::report::{self, Progress};
use crate::wal::header::{HEADER_SIZE, Header};
use crate::wal::history::Switch;
use crate::wal::name::{Numbering, Position, SegmentName, WalName};

use checks::{Checks, NotReady, Task};
use histories::History;
use line::{Hole, Line, Replay, Stock};
use scan::{Found, Scan};
use standby::Standby;
use trouble::Trouble;

pub use call::Parse;
pub use plugin::unknown;
pub use trouble::Severity;

/// By how much the clocks of a standby and a file server may differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// Everything that was found.
pub struct Status {
    now: SystemTime,
    location: PathBuf,
    scan: Scan,
    /// The history files in the archive, by timeline.
    histories: Vec<History>,
    checks: Checks,
    standby: Option<Standby>,
    asked: Option<Asked>,
    /// The timeline that the standby follows, or else the newest one.
    timeline: Option<u32>,
    /// Those that branched off from it.
    later: Vec<Later>,
    /// `None` where it is not known how segments are numbered.
    holes: Option<Vec<Hole>>,
    replay: Option<Replay>,
    /// The worst first.
    troubles: Vec<Trouble>,
}

/// What the standby asks for.
#[derive(Clone, Copy)]
struct Asked {
    segment: SegmentName,
    /// For how long it has been waiting; `None` while it replays the segment, between two calls, or where only its
    /// registration tells.
    since: Option<Duration>,
    /// It has the segment already.
    is_replayed: bool,
}

/// A timeline that branched off from the one that is followed.
struct Later {
    timeline: u32,
    left_at: Switch,
    /// It did so before the end of the segment that is asked for.
    has_begun: bool,
}

/// Finds out how things are. Returns the answer, and how bad they are.
///
/// # Errors
/// There is no data directory where one was named.
pub fn find_out(inquiry: &Inquiry, parse: &Parse) -> Result<(Vec<u8>, Severity), Error> {
    let here = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned());
    let location = here(&inquiry.archive_location);
    let trigger_file = inquiry.trigger_file.as_deref().map(here);
    let is_standby = enter(inquiry.data_directory.as_deref())?;
    let standby = is_standby.then(|| Standby::look(trigger_file.as_deref(), parse));
    let status = Status::new(inquiry, location, standby);
    let severity = status.severity();
    let answer = match inquiry.format {
        Format::Text => text::answer(&status, report::has_colours()),
        Format::Json => json::answer(&status),
        Format::Plugin => plugin::answer(&status, inquiry),
        Format::Prometheus => prometheus::answer(&status),
    };
    Ok((answer.into_bytes(), severity))
}

/// Makes the data directory the working directory, as it is for a `restore_command`. Returns whether there is one.
fn enter(data_directory: Option<&Path>) -> Result<bool, Error> {
    let Some(path) = data_directory else {
        return Ok(data_directory::version().is_some());
    };
    let version = path.join("PG_VERSION");
    let failed = |source| Error::NoDataDirectory { path: version.clone(), source };
    let opened = open_regular(&version, OpenOptions::new().read(true), OFlag::empty());
    opened.map_err(io::Error::from).and_then(|it| it.ok_or_else(not_regular)).map_err(failed)?;
    env::set_current_dir(path).map_err(failed)?;
    Ok(true)
}

impl Status {
    fn new(inquiry: &Inquiry, location: PathBuf, standby: Option<Standby>) -> Self {
        let mut progress = Progress::new();
        let call = standby.as_ref().and_then(|standby| standby.calls.call.as_ref());
        let of_call = call.and_then(|call| call.options.required_file.as_deref());
        let required_file = inquiry.required_file.as_deref().or(of_call);
        let scan = scan::scan(&location, required_file, &mut progress);
        let histories = histories::read_all(&location, &scan.histories);
        let asked = asked(standby.as_ref(), &scan, inquiry.standby_name.as_deref());
        let identifier = standby.as_ref().and_then(|it| it.system_identifier.clone().ok()?);
        let task = Task {
            location: &location,
            segments: scan.files.iter().filter(|found| found.form.is_whole()).collect(),
            system_identifier: identifier,
            asked: asked.map(|asked| asked.segment.position),
            call,
            reads_records: inquiry.reads_records,
        };
        let mut checks = task.run(&mut progress);
        checks.numbering =
            checks.numbering.or_else(|| standby.as_ref().and_then(|_| numbering_of_server()));
        let restart = call.and_then(call::Call::restart);
        let mut status = Self {
            now: SystemTime::now(),
            location,
            scan,
            histories,
            checks,
            standby,
            asked,
            timeline: None,
            later: Vec::new(),
            holes: None,
            replay: None,
            troubles: Vec::new(),
        };
        status.follow(restart);
        status.troubles = trouble::find(&status, inquiry);
        status
    }

    /// Follows the line of timelines through the archive. `restart` is where the server would begin again.
    fn follow(&mut self, restart: Option<SegmentName>) {
        let Some(line) = self.line() else { return };
        self.timeline = Some(line.timeline);
        // Of an archive that does not answer nothing is known, and nothing is to be told.
        if self.scan.failure.is_some() {
            return;
        }
        let numbering = self.checks.numbering;
        let asked_at = self.asked.map(|asked| asked.segment.position);
        self.later = self.later_than(&line, asked_at);
        let Some(numbering) = numbering else { return };
        let number =
            |position: Position| numbering.lsn(position).and_then(|_| numbering.count_to(position));
        let on_line = |name: &SegmentName| line.segment(name.position, numbering) == *name;
        let numbers = |names: &mut dyn Iterator<Item = SegmentName>| -> BTreeSet<u64> {
            names.filter(on_line).filter_map(|name| number(name.position)).collect()
        };
        let stock = Stock {
            line: &line,
            numbering,
            present: numbers(&mut self.scan.whole().map(|found| found.name)),
            bad: numbers(&mut self.checks.not_ready.iter().map(|it| it.name)),
        };
        let asked = asked_at.and_then(number);
        // What is replayed it has, and may have let go from the archive.
        let has_it = self.asked.is_some_and(|asked| asked.is_replayed);
        let next = asked.map(|asked| asked.saturating_add(has_it.into()));
        let registered = self.scan.registered.iter().filter_map(|it| it.needed.clone().ok());
        let needed = registered.chain(restart).filter_map(|it| number(it.position));
        let mut holes = stock.holes(next, needed.chain(next).min());
        // What came while the directory was read may not have been listed, though what followed it was.
        holes.retain(|hole| {
            fs::symlink_metadata(self.location.join(hole.first.to_string())).is_err()
        });
        self.holes = Some(holes);
        self.replay =
            asked.zip(next).and_then(|(asked, next)| stock.replay(next, asked.saturating_add(1)));
    }

    /// The line of timelines that the standby follows; without a standby, that of the newest one.
    fn line(&self) -> Option<Line> {
        let Some(asked) = self.asked else {
            let newest = self.newest_timeline()?;
            return Some(Line::new(newest, &self.history(newest)));
        };
        let asked = asked.segment.timeline;
        // A server that replays a segment of an earlier timeline has the history of the one that it will follow.
        let kept = self.standby.is_some().then(newest_history_of_server).flatten();
        let followed = kept.map(|timeline| Line::new(timeline, &self.history(timeline)));
        let followed = followed.filter(|line| line.timeline > asked && line.has(asked));
        Some(followed.unwrap_or_else(|| Line::new(asked, &self.history(asked))))
    }

    /// What the history file of a timeline says, in the archive or else in the server's WAL directory.
    fn history(&self, timeline: u32) -> Vec<u8> {
        let of_archive = self.histories.iter().find(|it| it.timeline == timeline);
        let of_archive = of_archive.and_then(|history| history.content.as_ref().ok().cloned());
        let name = WalName::History(timeline).to_string();
        let of_server = || {
            self.standby.as_ref()?;
            let read = |wal| histories::read(&Path::new(wal).join(&name), false)?.ok();
            WAL_DIRECTORIES.into_iter().find_map(read)
        };
        of_archive.or_else(of_server).unwrap_or_default()
    }

    fn later_than(&self, line: &Line, asked: Option<Position>) -> Vec<Later> {
        let histories = self.histories.iter().filter(|it| it.timeline > line.timeline);
        histories
            .filter_map(|history| {
                let left_at = line.left_by(history.content.as_ref().ok()?)?;
                let comes_after = |position| left_at.comes_after(position, self.checks.numbering?);
                let has_begun = asked.and_then(comes_after) == Some(false);
                Some(Later { timeline: history.timeline, left_at, has_begun })
            })
            .collect()
    }

    /// How bad it is.
    fn severity(&self) -> Severity {
        self.troubles.iter().map(|trouble| trouble.severity).max().unwrap_or(Severity::Fine)
    }

    /// How long ago.
    fn age(&self, time: SystemTime) -> Duration {
        // A file server's clock may be ahead of ours.
        self.now.duration_since(time).unwrap_or_default()
    }

    /// The newest timeline that has a history file, or a segment.
    fn newest_timeline(&self) -> Option<u32> {
        let of_segments = self.scan.whole().map(|found| found.name.timeline);
        let good = self.histories.iter().filter(|history| history.content.is_ok());
        of_segments.chain(good.map(|history| history.timeline)).max()
    }

    /// The segment that was written to last, and when, of those whose times can be true.
    fn newest(&self) -> Option<(&Found, SystemTime)> {
        let dated = self.scan.whole().filter_map(|found| Some((found, found.modified?)));
        let past = dated.filter(|(_, modified)| self.is_ahead(*modified).is_none());
        past.max_by_key(|(found, modified)| (*modified, found.name))
    }

    /// By how much a time lies in the future, where that is more than clocks differ.
    fn is_ahead(&self, time: SystemTime) -> Option<Duration> {
        time.duration_since(self.now).ok().filter(|ahead| *ahead > CLOCKS)
    }

    /// Segments that are ready and have not been asked for.
    fn behind(&self) -> Option<usize> {
        let is_empty = self.scan.failure.is_none() && self.scan.whole().next().is_none();
        let nothing = self.asked.filter(|_| is_empty).map(|_| 0);
        self.replay.as_ref().map(|replay| replay.behind).or(nothing)
    }

    /// What a failover would end at, where that is there and not as it should be.
    fn bad_end(&self) -> Option<&NotReady> {
        let end = self.replay.as_ref()?.ends_before;
        let not_ready = self.checks.not_ready.iter();
        not_ready.filter(|it| !it.is_arriving(self.now)).find(|it| it.name == end)
    }

    /// Segments that have arrived and that a failover would lose, in whole or in part.
    fn lost(&self) -> Option<usize> {
        let lost = self.replay.as_ref()?.lost;
        Some(lost.saturating_add(self.bad_end().is_some().into()))
    }

    /// Segments that are lacking and will be asked for.
    fn missing(&self) -> Option<u64> {
        let needed = self.holes.as_ref()?.iter().filter(|hole| hole.is_needed);
        Some(needed.map(|hole| hole.count).sum())
    }

    /// Bytes in segments of every form.
    fn bytes(&self) -> u64 {
        self.scan.files.iter().filter_map(|found| found.length).sum()
    }
}

/// What the standby asks for: what its process or, between two calls, its server waits for, what it replays, or what it
/// has registered under `name`.
fn asked(standby: Option<&Standby>, scan: &Scan, name: Option<&str>) -> Option<Asked> {
    let calls = standby.map(|standby| &standby.calls);
    let waiting = calls.and_then(|calls| calls.call.as_ref()).and_then(|call| {
        Some(Asked { segment: call.segment()?, since: Some(call.lasts), is_replayed: false })
    });
    let awaited = || {
        let segment = calls?.awaited?;
        Some(Asked { segment, since: None, is_replayed: false })
    };
    let replaying = || {
        let segment = calls?.replayed?;
        Some(Asked { segment, since: None, is_replayed: true })
    };
    let registered = || {
        let registered = scan.registered.iter().find(|it| Some(it.name.as_str()) == name)?;
        Some(Asked { segment: registered.asked?, since: None, is_replayed: false })
    };
    waiting.or_else(awaited).or_else(replaying).or_else(registered)
}

/// The newest timeline whose history file the server has.
fn newest_history_of_server() -> Option<u32> {
    let names = WAL_DIRECTORIES.iter().filter_map(|wal| names_in(Path::new(wal)).ok()).flatten();
    let timelines = names.map_while(Result::ok).filter_map(|name| match WalName::parse(&name)? {
        WalName::History(timeline) => Some(timeline),
        WalName::Segment(_) | WalName::BackupHistory(..) | WalName::Partial(_) => None,
    });
    timelines.max()
}

/// How the server numbers segments, by one in its WAL directory: an archive of compressed ones does not say.
fn numbering_of_server() -> Option<Numbering> {
    WAL_DIRECTORIES.iter().find_map(|wal| {
        let names = names_in(Path::new(wal)).ok()?.map_while(Result::ok);
        let segments = names.filter(|name| SegmentName::parse(name.as_encoded_bytes()).is_some());
        segments.take(16).find_map(|name| {
            let path = Path::new(wal).join(name);
            let options = &mut OpenOptions::new();
            let (file, _) = open_regular(&path, options.read(true), OFlag::empty()).ok()??;
            let mut page = [0; HEADER_SIZE];
            file.read_exact_at(&mut page, 0).ok()?;
            let header = Header::parse(&page).ok()?;
            Some(header.numbering)
        })
    })
}
