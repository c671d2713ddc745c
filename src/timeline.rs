//! Can a segment of this timeline ever come, and may it still be replayed? Asks the history files. What follows is
//! decided elsewhere.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::archive::{Archive, Found, Unavailable};
use crate::data_directory::{self, HistoryPlace};
use crate::error::Failure;
use crate::file_system::{is_absence, names_in, not_regular};
use crate::source::{self, Judge, Source};
use crate::wal::history::{self, Ancestor, Switch};
use crate::wal::lsn::Lsn;
use crate::wal::name::{Numbering, SegmentName, WalName};

/// How many history files are read for one answer.
const MOST_HISTORIES: usize = 64;

/// A segment that an old primary wrote after the server's timeline had branched off.
#[derive(Debug)]
pub struct Abandoned {
    /// The segment.
    pub segment: SegmentName,
    /// The timeline that the server follows.
    pub followed: u32,
    /// Where the line of the followed timeline left the segment's.
    pub left_at: Switch,
    /// The history file that says so.
    pub history: PathBuf,
}

/// Returns whether the segment can never exist because its timeline began after it, as the timeline's history file in the
/// archive says.
///
/// Servers before 9.5.22, 9.6.18, 10.13, 11.8 and 12.3 ask for each old segment under the newest timeline first.
#[must_use]
pub fn began_after(segment: SegmentName, archive: &Archive, judge: &mut Judge) -> bool {
    let history = open(&WalName::History(segment.timeline), archive, judge);
    let Some(content) = history.and_then(|history| history.content().ok()) else {
        return false;
    };
    let Some(Ancestor { left_at, .. }) = history::ancestors(&content).next_back() else {
        return false;
    };
    match left_at {
        Switch::Segment(first) => segment.position < first,
        // An archive may hold several sizes. The segment that the server asks for next tells for certain how long this
        // one would be; without it, it has to be too early whatever its size is.
        switch @ Switch::Lsn(_) => {
            let same_place = history::ancestors(&content).rev().find_map(|ancestor| {
                let name = SegmentName { timeline: ancestor.timeline, ..segment };
                open(&WalName::Segment(name), archive, judge)?.numbering()
            });
            let comes_after = |numbering| switch.comes_after(segment.position, numbering);
            match same_place {
                Some(numbering) => comes_after(numbering) == Some(true),
                None => {
                    Numbering::every_size().all(|numbering| comes_after(numbering) != Some(false))
                }
            }
        }
    }
}

/// A later timeline that branched off from a segment's within its valid part.
#[derive(Debug)]
pub struct Branch {
    /// The later timeline.
    pub timeline: u32,
    /// Where it branched off.
    pub left_at: Switch,
}

/// Returns a later timeline that left this one before `end`, as its history file in the archive says: what an old primary
/// went on to write is not part of it. Timelines are numbered without gaps.
#[must_use]
pub fn branch_before(
    end: Lsn,
    timeline: u32,
    archive: &Archive,
    judge: &mut Judge,
) -> Option<Branch> {
    let mut later = timeline;
    loop {
        later = later.checked_add(1)?;
        let history = open(&WalName::History(later), archive, judge)?;
        let content = history.content().ok()?;
        let ancestor = history::ancestors(&content).find(|it| it.timeline == timeline);
        match ancestor.map(|ancestor| ancestor.left_at) {
            Some(left_at @ Switch::Lsn(lsn)) if lsn < end => {
                return Some(Branch { timeline: later, left_at });
            }
            _ => {}
        }
    }
}

/// Returns one of the timelines `later` that left the segment's before the end of the segment, as its history file in the
/// archive says. `example` is a segment in the archive, which tells how long segments are.
#[must_use]
pub fn branch_within(
    segment: SegmentName,
    later: &[u32],
    example: Option<SegmentName>,
    archive: &Archive,
) -> Option<Branch> {
    let mut judge = Judge::new(Duration::ZERO);
    let mut left_by = |timeline: u32| {
        let history = open(&WalName::History(timeline), archive, &mut judge)?;
        let content = history.content().ok()?;
        let ancestor = history::ancestors(&content).find(|it| it.timeline == segment.timeline);
        ancestor.map(|ancestor| Branch { timeline, left_at: ancestor.left_at })
    };
    let branches: Vec<_> =
        later.iter().take(MOST_HISTORIES).filter_map(|timeline| left_by(*timeline)).collect();
    let numbering = example.filter(|_| !branches.is_empty()).and_then(|example| {
        open(&WalName::Segment(example), archive, &mut Judge::new(Duration::ZERO))?.numbering()
    });
    branches.into_iter().find(|branch| {
        let comes_after = |numbering| branch.left_at.comes_after(segment.position, numbering);
        match numbering {
            Some(numbering) => comes_after(numbering) == Some(false),
            None => Numbering::every_size().all(|numbering| comes_after(numbering) != Some(true)),
        }
    })
}

/// Returns how a segment belongs to an abandoned timeline, where it does: the server follows a later timeline, whose line
/// left this one before the end of the segment. A server that was refused a segment of the timeline that it follows asks
/// for the same position on the timeline before.
///
/// `wal_directory` is the server's, which holds the history file of the timeline that it follows from 9.3 on; up to 9.2
/// only `archive` does.
///
/// # Errors
/// The WAL directory or the history file cannot be read.
pub fn abandoned(
    segment: SegmentName,
    numbering: Numbering,
    wal_directory: &Path,
    archive: &Path,
) -> Result<Option<Abandoned>, Failure> {
    let directory = match data_directory::history_place() {
        HistoryPlace::WalDirectory => wal_directory,
        HistoryPlace::Archive => archive,
        HistoryPlace::Nowhere => return Ok(None),
    };
    let Some(followed) = newest_timeline(directory)?.filter(|it| *it > segment.timeline) else {
        return Ok(None);
    };
    let (history, content) = read_history(followed, directory)?;
    let mut ancestors = history::ancestors(&content);
    let left = ancestors.find(|ancestor| ancestor.timeline == segment.timeline);
    Ok(left
        .map(|ancestor| ancestor.left_at)
        .filter(|left_at| left_at.comes_after(segment.position, numbering) == Some(false))
        .map(|left_at| Abandoned { segment, followed, left_at, history }))
}

/// Returns the newest timeline whose history file is in `directory`; `None` where there is none, or no such directory.
///
/// # Errors
/// The directory cannot be read.
pub fn newest_timeline(directory: &Path) -> Result<Option<u32>, Failure> {
    let failed = |source| Failure::Read { path: directory.to_owned(), source };
    let names = match names_in(directory) {
        Ok(names) => names,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut newest = None;
    for name in names {
        if let Some(WalName::History(timeline)) = WalName::of_any_form(&name.map_err(failed)?) {
            newest = newest.max(Some(timeline));
        }
    }
    Ok(newest)
}

/// Reads the history file of a timeline, as it is in `directory`. Returns its path as well.
fn read_history(timeline: u32, directory: &Path) -> Result<(PathBuf, Vec<u8>), Failure> {
    let name = WalName::History(timeline);
    let failed = |path, source| Failure::Read { path, source };
    match Archive::new(directory, None).look(name).next() {
        Some(Ok(Found { path, opened: Some((file, _)), is_compressed })) => {
            match source::content(&Rc::new(file), is_compressed) {
                Ok(content) => Ok((path, content)),
                Err(trouble) => Err(failed(path, trouble.into())),
            }
        }
        Some(Ok(Found { path, opened: None, .. })) => Err(failed(path, not_regular())),
        Some(Err(Unavailable { path, source, .. })) => Err(failed(path, source)),
        None => Err(failed(directory.join(name.to_string()), io::ErrorKind::NotFound.into())),
    }
}

fn open(name: &WalName, archive: &Archive, judge: &mut Judge) -> Option<Source> {
    archive.look(*name).find_map(|found| judge.judge(name, found.ok()?).ok()?.ok())
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, followed, left_at, history } = self;
        write!(
            f,
            "{segment} is treated as absent: the server follows timeline {followed}, which left timeline {} at \
             {left_at}, according to {history:?}",
            segment.timeline
        )
    }
}
