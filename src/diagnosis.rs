//! Why does a segment not come? Looks at what the archive has instead, seldom, while the segment is absent. When that is
//! said, and what else can keep a segment from being restored, is for `obstacle`.
//!
//! An archive in which nothing new arrives is no trouble, and a segment that is late is none either.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use log::debug;

use crate::archive::Archive;
use crate::data_directory;
use crate::file_system::{age, directory_of, names_in};
use crate::options::Options;
use crate::promotion;
use crate::timeline::{self, Branch};
use crate::wal::name::{Position, SegmentName, WalName};

/// How often the archive is listed at least, and how often a trouble is said at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// After a change of the archive it is listed before that, once this many times the time has passed that a listing takes.
const SHARE: u32 = 100;

/// How long a listing may take, as nobody hears a request for failover meanwhile.
const LONGEST_LISTING: Duration = Duration::from_millis(500);

/// Names after which the time is looked at.
const PIECE: usize = 1024;

/// Why a segment does not come.
#[derive(Debug)]
pub enum Trouble {
    /// The segment is missing, and so many later ones are there; the first of them is at that path.
    Hole { segment: SegmentName, location: PathBuf, later: usize, next: SegmentName, path: PathBuf },
    /// A server that is not consistent yet has nothing to read.
    NoSegments { location: PathBuf },
    /// The segment is there, but not as a file that this call reads.
    OtherForm { segment: SegmentName, path: PathBuf },
    /// The segment's timeline was left before its end, and the server does not follow the later one.
    LaterTimeline { segment: SegmentName, branch: Branch, history: PathBuf, version_is_old: bool },
    /// A trigger file that cannot promote.
    TriggerFile,
}

/// What keeps a segment from coming, as far as that was looked for.
pub struct Diagnosis<'a> {
    options: &'a Options,
    archive: &'a Archive<'a>,
    longest_wait: Option<Duration>,
    due_at: Option<Instant>,
    /// When it may be listed before that, if it has changed, and what its time of change was.
    early: Option<(Instant, SystemTime)>,
    found: Option<Trouble>,
}

/// What one listing of the archive shows.
#[derive(Default)]
struct Listing {
    /// Files that hold a segment of any timeline, in any form.
    segments: usize,
    /// One of those that are whole.
    example: Option<SegmentName>,
    /// Later timelines whose history files are there.
    histories: Vec<u32>,
    /// Which segments of the same timeline come later.
    later: BTreeSet<Position>,
    /// The first of these, and its name in the archive.
    next: Option<(SegmentName, OsString)>,
    /// The segment under a name that says more.
    other_forms: Vec<OsString>,
    /// There is more than was listed.
    is_cut_short: bool,
}

impl<'a> Diagnosis<'a> {
    /// Looks for the first time when the wait that began at `started` has lasted for one sleep time, or is over: it takes
    /// no longer than `longest_wait`.
    #[must_use]
    pub fn new(
        options: &'a Options,
        archive: &'a Archive<'a>,
        started: Instant,
        longest_wait: Option<Duration>,
    ) -> Self {
        let limit = longest_wait.unwrap_or(INTERVAL);
        let is_silent = limit < INTERVAL
            && data_directory::is_in_standby_mode()
            && !ends_a_minute(SystemTime::now(), limit);
        let due_at = started.checked_add(options.sleep_time.min(limit)).filter(|_| !is_silent);
        Self { options, archive, longest_wait, due_at, early: None, found: None }
    }

    /// Returns whether this call speaks, which of those that follow each other every second only one a minute does.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.due_at.is_some()
    }

    /// Forgets everything, as the segment is not simply absent any more.
    pub fn reset(&mut self) {
        *self = Self::new(self.options, self.archive, Instant::now(), self.longest_wait);
    }

    /// Returns what keeps `segment` from coming, if anything does, as of the last minute.
    pub fn trouble(&mut self, segment: SegmentName) -> Option<&Trouble> {
        if self.is_due() {
            let start = Instant::now();
            let modified = self.modified();
            let sleep_time = self.options.sleep_time;
            let found = self.examine(segment);
            let pause = start.elapsed().saturating_mul(SHARE).clamp(sleep_time, INTERVAL);
            let after = |time| Instant::now().checked_add(time);
            // What has only just come may be followed by the segment.
            let is_early = found.as_ref().is_some_and(|it| !it.has_lasted(sleep_time));
            self.due_at = after(if is_early { pause } else { INTERVAL });
            self.early = after(pause).zip(modified);
            self.found = found.filter(|_| !is_early);
        }
        self.found.as_ref()
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        let has_changed = |(at, modified)| at <= now && self.modified() != Some(modified);
        self.due_at.is_some_and(|due_at| due_at <= now) || self.early.is_some_and(has_changed)
    }

    fn modified(&self) -> Option<SystemTime> {
        fs::metadata(&self.options.archive_location).and_then(|it| it.modified()).ok()
    }

    fn examine(&self, segment: SegmentName) -> Option<Trouble> {
        let location = &self.options.archive_location;
        let listing = self.list(segment);
        let listing = listing.map_err(|error| debug!("could not list {location:?}: {error}")).ok();
        let listing = listing.filter(|_| self.archive.lacks_required_file().is_none())?;
        let branch =
            timeline::branch_within(segment, &listing.histories, listing.example, self.archive);
        if let Some(branch) = branch {
            return self.left_behind(segment, branch);
        }
        if let Some(name) = listing.other_forms.first() {
            return Some(Trouble::OtherForm { segment, path: location.join(name) });
        }
        let location = location.clone();
        if let Some((next, name)) = listing.next {
            let path = location.join(name);
            return Some(Trouble::Hole {
                segment,
                location,
                later: listing.later.len(),
                next,
                path,
            });
        }
        let is_empty = listing.segments == 0 && !listing.is_cut_short;
        if is_empty && data_directory::is_inconsistent(directory_of(&self.options.destination)) {
            return Some(Trouble::NoSegments { location });
        }
        let is_deaf = self.options.trigger_file.is_some()
            && !promotion::is_known()
            && data_directory::is_in_standby_mode();
        is_deaf.then_some(Trouble::TriggerFile)
    }

    /// A server that follows later timelines needs no advice.
    fn left_behind(&self, segment: SegmentName, branch: Branch) -> Option<Trouble> {
        let version_is_old = data_directory::version().is_some_and(|version| version < (12, 0));
        let history = WalName::History(branch.timeline).to_string();
        let history = self.options.archive_location.join(history);
        (!data_directory::follows_timelines()).then_some(Trouble::LaterTimeline {
            segment,
            branch,
            history,
            version_is_old,
        })
    }

    fn list(&self, segment: SegmentName) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let until = Instant::now().checked_add(LONGEST_LISTING);
        for (count, name) in names_in(&self.options.archive_location)?.enumerate() {
            if count % PIECE == 0 && until.is_some_and(|until| until <= Instant::now()) {
                listing.is_cut_short = true;
                break;
            }
            listing.add(name?, segment, self.options.partial.is_some());
        }
        listing.histories.sort_unstable();
        debug!("listed the archive: {} files of segments", listing.segments);
        Ok(listing)
    }
}

impl Listing {
    fn add(&mut self, name: OsString, wanted: SegmentName, takes_partial: bool) {
        let kind = WalName::of_any_form(&name);
        match kind {
            Some(WalName::History(timeline)) if timeline > wanted.timeline => {
                self.histories.push(timeline);
            }
            Some(WalName::Segment(segment)) => self.example = Some(segment),
            Some(WalName::BackupHistory(..)) => return,
            Some(WalName::History(_) | WalName::Partial(_)) | None => {}
        }
        let Some((segment, _)) = name.as_encoded_bytes().split_at_checked(24) else { return };
        let Some(segment) = SegmentName::parse(segment) else { return };
        self.segments = self.segments.saturating_add(1);
        let is_whole = matches!(kind, Some(WalName::Segment(_)));
        let is_read = is_whole || takes_partial && matches!(kind, Some(WalName::Partial(_)));
        if segment == wanted && !is_read {
            self.other_forms.push(name);
        } else if is_whole
            && segment.timeline == wanted.timeline
            && segment.position > wanted.position
        {
            self.later.insert(segment.position);
            if self.next.as_ref().is_none_or(|(next, _)| segment.position < next.position) {
                self.next = Some((segment, name));
            }
        }
    }
}

/// Returns whether a minute of the clock ends during a call that begins at `start` and takes `time`.
///
/// A server in standby mode whose calls have a limit asks again and again. So one call in each minute speaks for all.
fn ends_a_minute(start: SystemTime, time: Duration) -> bool {
    let since = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let minute = |time: Duration| time.as_secs() / 60;
    minute(since.saturating_add(time)) > minute(since)
}

impl Trouble {
    /// Returns whether the files that show it have been there for `time`.
    fn has_lasted(&self, time: Duration) -> bool {
        match self {
            Self::Hole { path, .. } | Self::OtherForm { path, .. } => {
                fs::metadata(path).is_ok_and(|it| age(&it) >= time)
            }
            Self::NoSegments { .. } | Self::LaterTimeline { .. } | Self::TriggerFile => true,
        }
    }

    /// Which trouble it is, whatever its details are.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hole { .. } => "hole",
            Self::NoSegments { .. } => "no segments",
            Self::OtherForm { .. } => "other form",
            Self::LaterTimeline { .. } => "later timeline",
            Self::TriggerFile => "trigger file",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { segment, location, later, next, .. } => write!(
                f,
                "{segment} is missing in {location:?}, later segments that are there: {later}, from {next} on; copy \
                 it there again from the primary, or make the standby anew from a base backup"
            ),
            Self::NoSegments { location } => write!(
                f,
                "there are no segments in {location:?}, and the server is not consistent yet; check whether this is \
                 the archive, and archive_command on the primary"
            ),
            Self::OtherForm { segment, path } => {
                write!(f, "{segment} is there only as {path:?}, which is not read; ")?;
                match path.extension() {
                    Some(form) if form == "partial" => {
                        write!(f, "give --partial to replay at a failover what it holds")
                    }
                    _ => write!(f, "put it there uncompressed, and under its own name"),
                }
            }
            Self::LaterTimeline { segment, branch, history, version_is_old } => {
                let Branch { timeline, left_at } = branch;
                write!(
                    f,
                    "timeline {timeline} branched off at {left_at}, before the end of {segment}, according to \
                     {history:?}; restart the standby to follow it, or use standby mode"
                )?;
                let target = ", with recovery_target_timeline = 'latest'";
                write!(f, "{}", if *version_is_old { target } else { "" })
            }
            Self::TriggerFile => write!(
                f,
                "-t does not work in the standby mode of PostgreSQL 9.0; use the trigger_file of its recovery.conf"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_each_minute_speaks_for_those_that_follow_each_other() {
        let speaks = |start, time| {
            let start = SystemTime::UNIX_EPOCH + Duration::from_secs(start);
            ends_a_minute(start, Duration::from_secs(time))
        };
        assert!(!speaks(120, 5));
        assert!(speaks(175, 5) && speaks(179, 5) && !speaks(174, 5));
        let speaking = (0..60).filter(|call| speaks(1000 + call * 5, 5)).count();
        assert_eq!(speaking, 5);
        assert!(speaks(0, 60));
    }

    #[test]
    fn a_form_is_what_stands_behind_the_name_of_the_segment() {
        let wanted = SegmentName::parse(b"000000010000000000000005").unwrap();
        let listed = |name: &str| {
            let mut listing = Listing::default();
            listing.add(OsString::from(name), wanted, false);
            (listing.segments, listing.later.len(), listing.other_forms.len())
        };
        for form in [".bz2", ".partial", ".gz.partial", ".partial.gz", "-0123abcd.gz", ".gpg"] {
            assert_eq!(listed(&format!("{wanted}{form}")), (1, 0, 1), "{form}");
        }
        for form in ["", ".gz", ".lz4", ".zst"] {
            assert_eq!(listed(&format!("{wanted}{form}")), (1, 0, 0), "{form}");
            assert_eq!(listed(&format!("000000010000000000000006{form}")), (1, 1, 0), "{form}");
        }
        assert_eq!(listed("000000020000000000000006"), (1, 0, 0));
        assert_eq!(listed("000000010000000000000004.gz"), (1, 0, 0));
        for other in ["000000010000000000000005.00000028.backup", "00000002.history", "x", ""] {
            assert_eq!(listed(other), (0, 0, 0), "{other}");
        }
    }
}
