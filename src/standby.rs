//! The loop: the order of the checks, and nothing else.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use log::{debug, error, info, warn};

use crate::archive::{Reason, Unfit};
use crate::attempt::{self, Attempts, Tried};
use crate::cli::Options;
use crate::error::Error;
use crate::failover::{By, Failover, Request};
use crate::outcome::Outcome;
use crate::prune;
use crate::server::{self, Postmaster};
use crate::signals::Signals;
use crate::wait::{Tries, Wait};
use crate::wal::header::Flaw;
use crate::wal::name::{Numbering, SegmentName, WalName};

/// One request of the server, from the first look to the outcome.
pub struct Standby<'a> {
    options: &'a Options,
    signals: &'a Signals,
    attempts: Attempts<'a>,
    failover: Failover<'a>,
    postmaster: Option<Postmaster>,
    wait: Wait<'a>,
    started: Instant,
    /// Looks that a smart failover gives an archive that does not answer.
    looks: Tries,
    /// Since when a smart failover has had a segment that was all but ready.
    hoping_since: Option<Instant>,
}

impl<'a> Standby<'a> {
    /// Takes in what the data directory says at the start.
    #[must_use]
    pub fn new(options: &'a Options, signals: &'a Signals) -> Self {
        let watched = [Some(options.archive_location.join(options.requested.to_string()))]
            .into_iter()
            .chain([options.trigger_file.clone(), server::promotion_place().map(PathBuf::from)])
            .flatten();
        Self {
            options,
            signals,
            attempts: Attempts::new(options),
            failover: Failover::new(signals, options.trigger_file.as_deref()),
            postmaster: Postmaster::here(),
            wait: Wait::new(signals, watched),
            started: Instant::now(),
            looks: Tries::new(options.sleep_time, options.max_retries),
            hoping_since: None,
        }
    }

    /// Restores the requested file, or finds out that it is not to be had.
    ///
    /// # Errors
    /// There is no archive, or the destination cannot be written.
    pub fn run(mut self) -> Result<Outcome, Error> {
        if let Some(source) = self.attempts.archive.missing() {
            if self.failover.asked().is_none() && self.failover.settles_at().is_none() {
                let location = self.options.archive_location.clone();
                return Err(Error::NoArchive { location, source });
            }
        }
        match self.options.requested {
            WalName::Segment(segment) => self.wait_for(segment),
            _ => self.look_for(),
        }
    }

    fn wait_for(&mut self, segment: SegmentName) -> Result<Outcome, Error> {
        loop {
            if let Some(end) = self.must_leave() {
                return Ok(end);
            }
            let request = self.failover.asked();
            match &request {
                Some(Request::Fast(by)) => return Ok(fast_failover(by, segment)),
                Some(Request::SmartBefore(first, by)) if segment.position >= *first => {
                    info!(
                        "{segment} is refused, failover was asked for by {by}, which says so: \
                         remove it if no failover is meant"
                    );
                    return Ok(Outcome::NotThere);
                }
                _ => {}
            }
            let tried = self.attempt()?;
            match &tried {
                Tried::Restored(numbering) => return Ok(self.prune_behind(segment, *numbering)),
                Tried::Absent if self.attempts.archive.can_never_hold(segment) => {
                    debug!("{segment} cannot exist: its timeline began after it");
                    return Ok(Outcome::NotThere);
                }
                Tried::NotReady(unfit) if self.ends_classically(unfit) => {
                    error!("{unfit}; the server takes that for the end of WAL");
                    return Ok(Outcome::ClassicTooLong);
                }
                _ => {}
            }
            match (&request, &tried) {
                (_, Tried::Undone) => {}
                (Some(Request::Smart(_)), Tried::Unavailable(_)) if self.look_again() => {
                    self.attempts.say(&tried);
                }
                (Some(Request::Smart(_)), Tried::NotReady(unfit)) if self.can_hope_for(unfit) => {}
                (Some(Request::Smart(by)), _) => {
                    if matches!(tried, Tried::Unavailable(_)) {
                        Failover::use_up(by, segment);
                    }
                    return Ok(self.smart_failover(by, segment, &tried));
                }
                (Some(Request::SmartBefore(_, by)), _) => {
                    return Ok(self.smart_failover(by, segment, &tried));
                }
                _ if self.looks_once() => {
                    attempt::complain(&tried);
                    return Ok(Outcome::NotThere);
                }
                _ if self.has_waited_enough() => {
                    attempt::complain(&tried);
                    self.hand_back(segment);
                    return Ok(Outcome::NotThere);
                }
                _ => self.attempts.say(&tried),
            }
            self.pause();
        }
    }

    /// History and backup history files are never waited for. Only an archive that does not answer is: a false "not
    /// there" would make the server choose a wrong timeline.
    fn look_for(&mut self) -> Result<Outcome, Error> {
        loop {
            if let Some(end) = self.must_leave() {
                return Ok(end);
            }
            let tried = self.attempt()?;
            match tried {
                Tried::Restored(_) => return Ok(Outcome::Done),
                Tried::Absent => {
                    self.warn_of_prefetching();
                    return Ok(Outcome::NotThere);
                }
                Tried::Undone => {}
                Tried::NotReady(_) | Tried::Unavailable(_) => {
                    let given_up = self.looks_once() || self.has_waited_enough();
                    if given_up || self.failover.asked().is_some() {
                        attempt::complain(&tried);
                        let name = self.options.requested;
                        warn!("{name} is taken for absent, though the archive could not tell");
                        return Ok(Outcome::NotThere);
                    }
                    self.attempts.say(&tried);
                }
            }
            self.pause();
        }
    }

    /// Said once, at the start of recovery: that is when a server looks for a timeline that is not there.
    fn warn_of_prefetching(&self) {
        if matches!(self.options.requested, WalName::History(_)) && server::will_prefetch() {
            warn!(
                "recovery_prefetch is not off in this data directory: the server holds the last records of each \
                 segment back until the next one comes; set recovery_prefetch = off"
            );
        }
    }

    /// The C program gave up on a segment that is too long.
    fn ends_classically(&self, unfit: &Unfit) -> bool {
        self.options.classic_statuses && matches!(unfit.reason, Reason::Flaw(Flaw::TooLong { .. }))
    }

    /// The maximum wait time is over. In standby mode that ends a poll, elsewhere recovery.
    fn hand_back(&self, segment: SegmentName) {
        let seconds = self.options.max_wait_time.unwrap_or_default().as_secs();
        if server::is_in_standby_mode() {
            debug!("{segment} has not come within {seconds} s, the server will ask again");
        } else {
            info!(
                "fast failover: {segment} has not come within {seconds} s, recovery ends before it"
            );
        }
    }

    /// SIGQUIT, or nobody left to work for.
    fn must_leave(&self) -> Option<Outcome> {
        if self.signals.quit() {
            return Some(Outcome::Interrupted);
        }
        let postmaster = self.postmaster.filter(|postmaster| postmaster.is_gone())?;
        warn!(
            "the server that asked (PID {}) is gone: nothing more is done for it",
            postmaster.pid()
        );
        Some(Outcome::Terminated)
    }

    fn attempt(&mut self) -> Result<Tried, Error> {
        let is_segment = matches!(self.options.requested, WalName::Segment(_));
        self.attempts.make(|| {
            let refused = is_segment && self.failover.signalled().is_some();
            refused || self.signals.quit() || self.postmaster.is_some_and(Postmaster::is_gone)
        })
    }

    fn prune_behind(&self, segment: SegmentName, numbering: Option<Numbering>) -> Outcome {
        let options = self.options;
        if options.is_for_pg_rewind() || self.attempts.archive.lacks_required_file().is_some() {
            return Outcome::Done;
        }
        let pruned = numbering.map_or(Ok(()), |numbers| prune::behind(segment, numbers, options));
        if let Err(why) = pruned {
            warn!("{why}; nothing is pruned");
        }
        // Removing many files takes long enough for an operator to ask meanwhile, and nobody would hear it later.
        match self.failover.signalled() {
            Some(Request::Fast(by)) if fs::remove_file(&options.destination).is_ok() => {
                fast_failover(&by, segment)
            }
            _ => Outcome::Done,
        }
    }

    fn smart_failover(&self, by: &By, segment: SegmentName, tried: &Tried) -> Outcome {
        match tried {
            Tried::Unavailable(unavailable) => {
                warn!("{unavailable}; failover goes on without what may be in the archive");
            }
            Tried::NotReady(unfit) => warn!("{unfit}; failover goes on without it"),
            _ => {}
        }
        match self.attempts.archive.count_behind(segment) {
            0 => {}
            count => warn!(
                "{segment} is missing, so {count} later segments in the archive are not replayed"
            ),
        }
        info!("smart failover, asked for by {by}: recovery ends before {segment}");
        Outcome::NotThere
    }

    /// The segment is whole but for a writer that has not let go of it, or did so only during the copy; that is given one
    /// sleep time to change.
    fn can_hope_for(&mut self, unfit: &Unfit) -> bool {
        let since = *self.hoping_since.get_or_insert_with(Instant::now);
        let is_written = matches!(unfit.reason, Reason::Held | Reason::Changed);
        is_written && since.elapsed() < self.options.sleep_time
    }

    /// A pause of the looks that are left to a smart failover is on, or another one begins. An archive that has to be
    /// mounted is looked for without end.
    fn look_again(&mut self) -> bool {
        self.options.required_file.is_some() || !self.looks.is_due() || self.looks.another()
    }

    /// `--no-wait`, or `pg_rewind`, which takes "not there" for an error of its own.
    fn looks_once(&self) -> bool {
        self.options.no_wait || self.options.is_for_pg_rewind()
    }

    fn has_waited_enough(&self) -> bool {
        self.options.max_wait_time.is_some_and(|time| self.started.elapsed() >= time)
    }

    /// Sleeps until something may have changed, at most one sleeptime.
    fn pause(&mut self) {
        let now = Instant::now();
        let enough = self.options.max_wait_time.and_then(|time| self.started.checked_add(time));
        let deadline = [
            now.checked_add(self.options.sleep_time),
            enough,
            self.attempts.next_due(),
            self.looks.due(),
            self.failover.settles_at(),
        ];
        let next = deadline.into_iter().flatten().filter(|deadline| *deadline > now).min();
        self.wait.until(next.unwrap_or(now));
    }
}

fn fast_failover(by: &By, segment: SegmentName) -> Outcome {
    if *by == By::Signal("SIGINT") {
        warn!("SIGINT as a request for failover is deprecated: send SIGUSR1");
    }
    Failover::use_up(by, segment);
    info!("fast failover, asked for by {by}: recovery ends before {segment}");
    Outcome::NotThere
}
