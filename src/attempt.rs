//! One attempt to bring the requested file from the archive to its destination, and what is said of one that did not
//! succeed. When to make another is the loop's to decide.

use std::time::{Duration, Instant};

use log::{debug, warn};

use crate::archive::{Archive, Look, Reason, Source, Unavailable, Unfit};
use crate::cli::Options;
use crate::error::{Error, Failure};
use crate::report::Lasting;
use crate::restore::{self, CopyError};
use crate::server;
use crate::wait::Tries;
use crate::wal::name::Numbering;

/// What came of one attempt.
pub enum Tried {
    /// It is whole at its destination; how its cluster numbers segments, if it is one.
    Restored(Option<Numbering>),
    /// The copy failed on our side, or it was forbidden in the end: to be tried again.
    Undone,
    /// The archive does not have it.
    Absent,
    /// What the archive has may not be handed over.
    NotReady(Unfit),
    /// The archive does not answer.
    Unavailable(Unavailable),
}

/// All attempts of one invocation.
pub struct Attempts<'a> {
    options: &'a Options,
    /// Where the file is to come from.
    pub archive: Archive<'a>,
    /// Copies that our own side has failed.
    copies: Tries,
    /// What keeps the file from being restored.
    obstacle: Lasting,
}

impl<'a> Attempts<'a> {
    /// Nothing has been attempted.
    #[must_use]
    pub fn new(options: &'a Options) -> Self {
        Self {
            options,
            archive: Archive::of(options, server::system_identifier()),
            copies: Tries::new(options.sleep_time, options.max_retries),
            obstacle: Lasting::default(),
        }
    }

    /// Looks for the file, and copies it into place if it is ready, unless `is_forbidden` once the copy is made.
    ///
    /// # Errors
    /// The destination could not be written, and no retry is left.
    pub fn make(&mut self, is_forbidden: impl FnOnce() -> bool) -> Result<Tried, Error> {
        let source = match self.archive.look(&self.options.requested) {
            Look::Ready(source) => source,
            Look::Absent => return Ok(Tried::Absent),
            Look::NotReady(unfit) => return Ok(Tried::NotReady(unfit)),
            Look::Unavailable(unavailable) => return Ok(Tried::Unavailable(unavailable)),
        };
        if !self.copies.is_due() {
            return Ok(Tried::Undone);
        }
        let Source { path, length, .. } = &source;
        debug!("copying {path:?}, {length} bytes");
        let staged = match restore::stage(&source, &self.options.destination) {
            Ok(staged) => staged,
            Err(CopyError::Source(error)) => {
                let path = source.path;
                return Ok(Tried::Unavailable(Unavailable { path, source: error }));
            }
            Err(CopyError::Changed) => {
                let (path, reason) = (source.path, Reason::Changed);
                return Ok(Tried::NotReady(Unfit { path, reason }));
            }
            Err(CopyError::Destination(failure)) => return self.copy_failed(failure),
        };
        if is_forbidden() {
            return Ok(Tried::Undone);
        }
        if let Err(failure) = staged.publish() {
            return self.copy_failed(failure);
        }
        self.obstacle.is_over(&format_args!("{path:?} is ready now", path = source.path));
        debug!("restored {:?}", self.options.destination);
        Ok(Tried::Restored(source.numbering))
    }

    fn copy_failed(&mut self, failure: Failure) -> Result<Tried, Error> {
        if self.copies.another() {
            warn!("{failure}; trying again");
            return Ok(Tried::Undone);
        }
        Err(Error::NotRestored { failure, tries: self.copies.failed() })
    }

    /// Says what keeps the file from being restored, if it lasts.
    pub fn say(&mut self, tried: &Tried) {
        let name = self.options.requested;
        match tried {
            Tried::Unavailable(unavailable) => {
                let end = match self.options.required_file {
                    Some(_) => ", smart failover as well: \"fast\" would end it",
                    None => "",
                };
                self.obstacle.goes_on(
                    "unavailable",
                    Duration::ZERO,
                    &format_args!("{unavailable}; waiting until the archive answers{end}"),
                );
            }
            Tried::NotReady(unfit) => {
                let in_transit = unfit.reason.may_be_in_transit();
                let grace = if in_transit { self.options.sleep_time } else { Duration::ZERO };
                let why = unfit.to_string();
                self.obstacle.goes_on(&why, grace, &format_args!("{why}; waiting for one that is"));
            }
            Tried::Absent => {
                debug!("{name} is not there");
                let location = &self.options.archive_location;
                self.obstacle
                    .is_over(&format_args!("archive {location:?} answers, waiting for {name}"));
            }
            Tried::Restored(_) | Tried::Undone => {}
        }
    }

    /// When an attempt may have another result though nothing has changed.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let times = [self.copies.due(), self.archive.believes_at()];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }
}

/// What kept the file from being restored, when nobody will wait for it.
pub fn complain(tried: &Tried) {
    match tried {
        Tried::Unavailable(unavailable) => warn!("{unavailable}"),
        Tried::NotReady(unfit) if unfit.reason.may_be_in_transit() => debug!("{unfit}"),
        Tried::NotReady(unfit) => warn!("{unfit}"),
        Tried::Absent | Tried::Restored(_) | Tried::Undone => {}
    }
}
