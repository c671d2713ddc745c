//! One look for the requested file: is there something that may be handed over, or what is in the way? Asks the archive,
//! the judge of sources and the timelines, in this order. What follows is decided elsewhere.

use std::fs;
use std::iter::once;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::archive::{Archive, Found, Unavailable};
use crate::data_directory;
use crate::failover::Request;
use crate::file_system::{directory_of, names_in};
use crate::obstacle::{EarlyEnd, Obstacle, Received};
use crate::options::Options;
use crate::partial::{self, Partial};
use crate::source::{Defect, Judge, Rejected, Source};
use crate::timeline;
use crate::wal::lsn::Lsn;
use crate::wal::name::{Numbering, SegmentName, WalName};
use crate::wal::records::Stop;

/// All looks of one invocation.
pub struct Search<'a> {
    options: &'a Options,
    archive: &'a Archive<'a>,
    judge: Judge,
    is_in_standby_mode: bool,
    /// Nothing has been looked for yet.
    is_first: bool,
}

impl<'a> Search<'a> {
    /// Nothing has been looked for.
    #[must_use]
    pub fn new(options: &'a Options, archive: &'a Archive<'a>, is_in_standby_mode: bool) -> Self {
        let judge = Judge::new(options.sleep_time);
        Self { options, archive, judge, is_in_standby_mode, is_first: true }
    }

    /// What may come to the archive and answer the request.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> + use<'a> {
        let Options { archive_location, requested, partial, .. } = self.options;
        let received = partial.and(requested.partial());
        let later = self.next_history();
        let names = [Some(*requested), received, later].into_iter().flatten();
        let forms = names.flat_map(|name| once(name.to_string()).chain(name.compressed()));
        forms.map(move |name| archive_location.join(name))
    }

    /// The history file that a server in standby mode waits for as well.
    fn next_history(&self) -> Option<WalName> {
        match self.options.requested {
            WalName::Segment(SegmentName { timeline, .. }) if self.is_in_standby_mode => {
                timeline.checked_add(1).map(WalName::History)
            }
            _ => None,
        }
    }

    /// Looks for the file, and opens it.
    ///
    /// # Errors
    /// What keeps it from being restored.
    pub fn look(&mut self, request: Option<&Request>) -> Result<Source, Obstacle> {
        let is_first = mem::take(&mut self.is_first);
        if self.judge.system_identifier.is_none() {
            self.judge.system_identifier =
                data_directory::system_identifier().map_err(Obstacle::Failed)?;
        }
        let mut in_the_way = None;
        for found in self.archive.look(self.options.requested) {
            let judged =
                found.map_err(Obstacle::Unavailable).and_then(|found| self.judge(found, request));
            let obstacle = match judged {
                // A location that was there before has gone away, and may come back.
                Err(Obstacle::Unavailable(it)) => Obstacle::Unavailable(Unavailable {
                    no_such_location: it.no_such_location && is_first,
                    ..it
                }),
                Err(obstacle @ (Obstacle::Rejected(_) | Obstacle::EndsEarly(_))) => obstacle,
                result => return result,
            };
            in_the_way = Some(worth_more(in_the_way, obstacle));
        }
        if let Some(obstacle) = in_the_way {
            return Err(obstacle);
        }
        if self.is_impossible() {
            return Err(Obstacle::Impossible);
        }
        match self.look_for_partial(request)? {
            Some(partial) => Err(Obstacle::Partial(partial)),
            None => Err(self.later_timeline()?.unwrap_or(Obstacle::Absent)),
        }
    }

    /// Decides whether one form of the file may be handed over.
    fn judge(&mut self, found: Found, request: Option<&Request>) -> Result<Source, Obstacle> {
        let path = found.path.clone();
        let unavailable = |source| Unavailable { path, source, no_such_location: false };
        let judged = self.judge.judge(&self.options.requested, found);
        let source = judged
            .map_err(|error| Obstacle::Unavailable(unavailable(error)))?
            .map_err(Obstacle::Rejected)?;
        self.find_abandoned(source.numbering())?;
        if request.is_none() {
            self.find_branch(source.numbering())?;
        }
        match source.stop {
            Some(stop) => Err(self.ends_early(&source, stop, request)),
            None => Ok(source),
        }
    }

    /// Takes note of what was found wrong with a file when it was copied.
    pub fn remember(&mut self, source: &Source, defect: Defect) {
        self.judge.remember(source, defect);
    }

    /// Returns whether the requested segment is in the server's WAL directory, on its own timeline or one before.
    #[must_use]
    pub fn server_has_it(&self) -> bool {
        let WalName::Segment(wanted) = self.options.requested else { return false };
        let wal_directory = directory_of(&self.options.destination);
        let identifier = data_directory::system_identifier().ok().flatten();
        let names = names_in(wal_directory).into_iter().flatten().map_while(Result::ok);
        names.filter_map(|name| WalName::parse(&name)).any(|name| match name {
            WalName::Segment(own) => {
                own.position == wanted.position
                    && own.timeline <= wanted.timeline
                    && partial::begins_in(wal_directory, own, identifier)
            }
            WalName::History(_) | WalName::BackupHistory(..) | WalName::Partial(_) => false,
        })
    }

    /// Looks for the file, and opens it wherever its records end.
    ///
    /// # Errors
    /// What keeps it from being restored.
    pub fn look_for_part(&mut self) -> Result<Source, Obstacle> {
        self.judge.forget_stops();
        self.look(None)
    }

    /// Looks for what has been received of a segment that is not whole yet, where that is wanted.
    fn look_for_partial(
        &mut self,
        request: Option<&Request>,
    ) -> Result<Option<Received>, Obstacle> {
        let (WalName::Segment(segment), Some(interval), false) =
            (self.options.requested, self.options.partial, self.options.is_for_pg_rewind())
        else {
            return Ok(None);
        };
        if request.is_none() && !self.is_in_standby_mode {
            return Ok(None);
        }
        let wal_directory = directory_of(&self.options.destination);
        let due_at = due_at(&wal_directory.join(segment.to_string()), interval);
        if request.is_none() && due_at > Instant::now() {
            return Ok(Some(Received { due_at, partial: None }));
        }
        let Some(found) = self.archive.look(WalName::Partial(segment)).next() else {
            return Ok(None);
        };
        let found = found.map_err(Obstacle::Unavailable)?;
        let path = found.path.clone();
        let unavailable =
            |source| Unavailable { path: path.clone(), source, no_such_location: false };
        let identifier = self.judge.system_identifier;
        let read = partial::read(found, segment, identifier, wal_directory);
        let partial = match read.map_err(|source| Obstacle::Unavailable(unavailable(source)))? {
            Ok(partial) => partial,
            Err(reason) => return Err(Obstacle::Rejected(Rejected { path, reason })),
        };
        let Some(partial) = partial else {
            return Ok(None);
        };
        self.find_abandoned(Some(partial.header.numbering))?;
        let branch =
            timeline::branch_before(partial.end, segment.timeline, self.archive, &mut self.judge);
        if let Some(branch) = branch {
            let Partial { path, end, .. } = partial;
            return Err(Obstacle::Branched { path, end, branch });
        }
        // Outside standby mode it is served as often as the server asks for it.
        let goes_further = !self.is_in_standby_mode
            || partial::end_in(wal_directory, segment, &partial.header)
                .is_none_or(|end| partial.end > end);
        Ok(goes_further.then_some(Received { due_at, partial: Some(partial) }))
    }

    fn ends_early(&self, source: &Source, stop: Stop, request: Option<&Request>) -> Obstacle {
        let is_followed_by_none = || match self.options.requested {
            WalName::Segment(segment) => self.archive.count_after(segment).is_ok_and(|n| n == 0),
            WalName::History(_) | WalName::BackupHistory(..) | WalName::Partial(_) => false,
        };
        // Only a single look needs to know; for others the directory may be large.
        let is_last = self.options.no_wait && is_followed_by_none();
        // A server in standby mode would ask for its good part again and again.
        let is_replayed =
            self.is_in_standby_mode && request.is_some() && self.has_good_part(source, stop);
        let begins_before = source.header.is_some_and(|header| stop.at < header.lsn);
        let (path, settled_at) = (source.path.clone(), source.settled_at);
        Obstacle::EndsEarly(EarlyEnd {
            path,
            stop,
            settled_at,
            is_last,
            is_replayed,
            begins_before,
        })
    }

    /// Returns whether the server's own file goes as far as the good part of `source`.
    fn has_good_part(&self, source: &Source, stop: Stop) -> bool {
        let (WalName::Segment(segment), Some(header)) = (self.options.requested, &source.header)
        else {
            return false;
        };
        let wal_directory = directory_of(&self.options.destination);
        partial::end_in(wal_directory, segment, header)
            .is_some_and(|end| end >= header.lsn.plus(stop.valid))
    }

    /// When a file that is open for writing will be trusted, if it does not change.
    #[must_use]
    pub fn trusted_at(&self) -> Option<Instant> {
        self.judge.trusted_at()
    }

    /// What an old primary wrote after the server's timeline had branched off is worse than nothing.
    fn find_abandoned(&self, numbering: Option<Numbering>) -> Result<(), Obstacle> {
        let (WalName::Segment(segment), Some(numbering), false) =
            (self.options.requested, numbering, self.options.is_for_pg_rewind())
        else {
            return Ok(());
        };
        let wal_directory = directory_of(&self.options.destination);
        let archive = &self.options.archive_location;
        match timeline::abandoned(segment, numbering, wal_directory, archive) {
            Ok(None) => Ok(()),
            Ok(Some(abandoned)) => Err(Obstacle::Abandoned(abandoned)),
            Err(failure) => Err(Obstacle::Failed(failure)),
        }
    }

    /// A later timeline that a server in standby mode can go on with, wherever it branched off.
    fn later_timeline(&mut self) -> Result<Option<Obstacle>, Obstacle> {
        let (WalName::Segment(SegmentName { timeline, .. }), true) =
            (self.options.requested, self.is_in_standby_mode)
        else {
            return Ok(None);
        };
        let wal_directory = directory_of(&self.options.destination);
        let followed = timeline::newest_timeline(wal_directory).map_err(Obstacle::Failed)?;
        if followed.is_some_and(|followed| followed > timeline) {
            return Ok(Some(Obstacle::LeftBehind));
        }
        if !data_directory::follows_timelines() {
            return Ok(None);
        }
        let branch = timeline::branch_before(Lsn::MAX, timeline, self.archive, &mut self.judge);
        Ok(branch.map(Obstacle::Superseded))
    }

    /// A segment that goes on behind the branch of a later timeline is not for a server that can follow that one: it may
    /// hold what an old primary wrote. The server looks for later timelines once it is asked back.
    fn find_branch(&mut self, numbering: Option<Numbering>) -> Result<(), Obstacle> {
        let (WalName::Segment(SegmentName { timeline, position }), Some(numbering), true) =
            (self.options.requested, numbering, self.is_in_standby_mode)
        else {
            return Ok(());
        };
        let end = numbering.end(position).filter(|_| data_directory::follows_timelines());
        let branch = end
            .and_then(|end| timeline::branch_before(end, timeline, self.archive, &mut self.judge));
        branch.map_or(Ok(()), |branch| Err(Obstacle::Superseded(branch)))
    }

    fn is_impossible(&mut self) -> bool {
        match self.options.requested {
            WalName::Segment(segment) => {
                timeline::began_after(segment, self.archive, &mut self.judge)
            }
            WalName::History(_) | WalName::BackupHistory(..) | WalName::Partial(_) => false,
        }
    }
}

/// Of what two forms of a file have in the way, what says more.
fn worth_more(first: Option<Obstacle>, second: Obstacle) -> Obstacle {
    match first {
        Some(first) if worth(&first) >= worth(&second) => first,
        _ => second,
    }
}

/// The more, the sooner it may become good, or the more of it is good.
fn worth(obstacle: &Obstacle) -> u8 {
    match obstacle {
        Obstacle::Rejected(rejected) if rejected.reason.is_unfinished() => 3,
        Obstacle::EndsEarly(_) => 2,
        Obstacle::Unavailable(_) => 1,
        _ => 0,
    }
}

/// When the server may be given more of a segment: `interval` after it was given the file at `path`.
fn due_at(path: &Path, interval: Duration) -> Instant {
    let now = Instant::now();
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let age = modified.and_then(|modified| modified.elapsed().ok()).unwrap_or(interval);
    now.checked_add(interval.saturating_sub(age)).unwrap_or(now)
}
