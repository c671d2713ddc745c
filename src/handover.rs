//! The way of the requested file from the archive to its destination: one look, one copy, and what is known since. When
//! to do which, and when to begin anew, is decided elsewhere.

use std::time::Instant;

use crate::caller::Caller;
use crate::decision::{Ending, Finding};
use crate::failover::Request;
use crate::obstacle::{Obstacle, Reporter};
use crate::options::Options;
use crate::restore::{self, Extent, Restored};
use crate::search::Search;
use crate::source::Source;
use crate::wal::name::Numbering;

/// The requested file, and how far it has come.
pub struct Handover<'a> {
    options: &'a Options,
    search: Search<'a>,
    reporter: Reporter<'a>,
    finding: Finding,
    /// What the last look that found the file has opened.
    source: Option<Source>,
    /// What was in the way last.
    obstacle: Option<Obstacle>,
}

impl<'a> Handover<'a> {
    /// Nothing is known of the file.
    #[must_use]
    pub fn new(options: &'a Options, search: Search<'a>, reporter: Reporter<'a>) -> Self {
        let finding = Finding::Unknown;
        Self { options, search, reporter, finding, source: None, obstacle: None }
    }

    /// Forgets what is known of the file: that may have changed.
    pub fn begin_anew(&mut self) {
        (self.finding, self.source, self.obstacle) = (Finding::Unknown, None, None);
    }

    /// Returns what is known of the file.
    #[must_use]
    pub fn finding(&self) -> Finding {
        self.finding
    }

    /// Returns when that may change though nothing is seen to happen.
    #[must_use]
    pub fn changes_at(&self) -> Option<Instant> {
        self.search.trusted_at()
    }

    /// Looks for the file.
    pub fn look(&mut self, request: Option<&Request>) {
        let found = self.search.look(request).map(|source| {
            self.source = Some(source);
            Finding::Ready
        });
        self.learn(found);
    }

    /// Puts the file that was found at its destination.
    pub fn restore(&mut self, caller: &Caller) {
        let restored = self.copy(Extent::Whole, caller);
        self.learn(restored);
    }

    /// Puts at its destination what has been received of a segment, or what can be read of one.
    pub fn restore_part(&mut self, caller: &Caller) {
        let restored = match &self.obstacle {
            Some(Obstacle::Partial(received)) => match &received.partial {
                Some(partial) => {
                    restore::restore_partial(partial, self.options, || caller.has_withdrawn())
                }
                // It was not due yet when it was looked for.
                None => Ok(Finding::Withdrawn),
            },
            _ => self.search.look_for_part().and_then(|source| {
                self.source = Some(source);
                self.copy(Extent::Part, caller)
            }),
        };
        self.learn(restored);
    }

    fn copy(&mut self, extent: Extent, caller: &Caller) -> Result<Finding, Obstacle> {
        let Some(source) = &self.source else { return Ok(Finding::Unknown) };
        match restore::restore(source, self.options, extent, || caller.has_withdrawn())? {
            Restored::Withdrawn => Ok(Finding::Withdrawn),
            Restored::NotYet(defect) => {
                self.search.remember(source, defect);
                // There may be another form of it.
                Ok(Finding::Unknown)
            }
            Restored::Done(stop) => {
                self.reporter.restored(&source.path, stop);
                Ok(Finding::Restored)
            }
        }
    }

    fn learn(&mut self, result: Result<Finding, Obstacle>) {
        self.finding = result.unwrap_or_else(|it| self.obstacle.insert(it).finding());
    }

    /// Reports what is in the way, while it is waited for.
    pub fn report(&mut self, request: Option<&Request>) {
        self.obstacle.iter().for_each(|obstacle| self.reporter.report(obstacle, request));
    }

    /// Reports what is in the way where the wait ends, and returns that, and how the cluster numbers its segments if one
    /// was found.
    #[must_use]
    pub fn finish(mut self, ending: Ending) -> (Option<Obstacle>, Option<Numbering>) {
        self.obstacle.iter().for_each(|obstacle| self.reporter.close(ending, obstacle));
        (self.obstacle, self.source.and_then(|source| source.numbering()))
    }
}
