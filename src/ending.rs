//! What is said, done and left behind when a run ends, for each [`Ending`]: a failover in standby mode asks for the
//! promotion here. That it ends, and how, is decided in `decision`.

use std::fs;

use log::{debug, error, info, warn};

use crate::archive::Archive;
use crate::data_directory;
use crate::decision::Ending;
use crate::failover::{Failover, Request, Requester};
use crate::obstacle::{EarlyEnd, Obstacle, Received, warn_of_early_end};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::partial::Partial;
use crate::promotion;
use crate::prune;
use crate::signals::FailoverSignal;
use crate::wal::name::{Numbering, SegmentName, WalName};

/// A run at its end, with what is known of it.
pub struct Closing<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// Where it was looked for.
    pub archive: &'a Archive<'a>,
    /// Whoever may ask for failover, to the last.
    pub failover: Failover<'a>,
    /// What kept the file from being restored.
    pub obstacle: Option<Obstacle>,
    /// How the cluster numbers its segments, where one was restored.
    pub numbering: Option<Numbering>,
    /// How many copies have failed.
    pub failed_copies: u32,
    /// The process id of the server that asked, where it is known.
    pub server: Option<i32>,
}

/// Says where recovery will end in a segment that has not been received as a whole.
fn announce_partial_end(received: &Received) {
    if let Some(Partial { path, end, .. }) = &received.partial {
        info!("recovery ends at {end}, with the last whole record of {path:?}");
    }
}

impl Closing<'_> {
    /// Prunes the archive where a segment was restored, says why the run ends, leaves a mark where one is needed, and
    /// returns the outcome.
    #[must_use]
    pub fn close(&self, mut ending: Ending, mut request: Option<Request>) -> Outcome {
        if let (Ending::Restored, WalName::Segment(segment)) = (ending, self.options.requested) {
            prune::after_restore(segment, self.numbering, self.archive, self.options);
            // Removing many files takes long enough for an operator to ask meanwhile, and nobody would hear it later.
            let signalled = self.failover.signalled();
            if signalled.is_some() && fs::remove_file(&self.options.destination).is_ok() {
                (ending, request) = (Ending::Fast, signalled);
            }
        }
        let outcome = Outcome::of_ending(ending, self.options.on_error);
        match (ending, &self.obstacle) {
            (Ending::Restored, Some(Obstacle::Partial(received))) if request.is_some() => {
                announce_partial_end(received);
                self.ask_with_part(received, request.as_ref());
            }
            (
                Ending::NoArchive | Ending::NotRestored | Ending::NotYet | Ending::TooLong,
                Some(obstacle),
            ) => {
                self.give_up(ending, obstacle, outcome);
            }
            (Ending::WaitedEnough | Ending::LookedOnce | Ending::Unanswered, Some(obstacle)) => {
                obstacle.complain();
            }
            _ => {}
        }
        match (self.options.requested, &request) {
            (WalName::Segment(segment), Some(request)) => {
                self.end_recovery(ending, segment, request);
            }
            _ => self.end_unasked(ending),
        }
        outcome
    }

    /// Ends a run during which somebody asked for failover.
    fn end_recovery(&self, ending: Ending, segment: SegmentName, request: &Request) {
        let by = request.requester();
        // Whoever has left the mark has asked as well.
        let is_over =
            matches!(request, Request::SmartBefore(..)) && data_directory::is_in_standby_mode();
        match ending {
            Ending::Fast => {
                if *by == Requester::Signal(FailoverSignal::Int) {
                    warn!("SIGINT as a request for failover is deprecated: send SIGUSR1");
                }
                by.leave_mark(segment);
                info!("fast failover requested by {by}: recovery ends before {segment}");
                self.promote(by);
            }
            Ending::Smart { .. } if is_over => {
                debug!("{segment} is not there, and the server has been asked to promote");
            }
            Ending::Smart { leave_mark } => {
                if leave_mark || data_directory::is_in_standby_mode() {
                    by.leave_mark(segment);
                }
                self.warn_of_losses(segment);
                info!("smart failover requested by {by}: recovery ends before {segment}");
                self.promote(by);
            }
            Ending::Refused if by.is_of_this_server() => {
                debug!("{segment} is refused: failover is under way");
            }
            Ending::Refused => info!(
                "{segment} is refused: {by} has the mark of an earlier failover; \
                 remove that file if no failover is wanted, or else run pg_ctl promote"
            ),
            _ => self.end_unasked(ending),
        }
    }

    /// Asks a server in standby mode to promote along with the last part of a segment: while that grows, the server would
    /// be given more and more of it instead. What follows that segment is refused.
    fn ask_with_part(&self, received: &Received, request: Option<&Request>) {
        let (Some(Request::Smart(by @ Requester::TriggerFile(..))), Some(partial)) =
            (request, &received.partial)
        else {
            return;
        };
        let WalName::Segment(segment) = self.options.requested else { return };
        let next = partial.header.numbering.after(segment.position);
        if let Some(position) = next.filter(|_| data_directory::is_in_standby_mode()) {
            let next = SegmentName { position, ..segment };
            by.leave_mark(next);
            info!("smart failover requested by {by}: recovery ends before {next}");
            self.promote(by);
        }
    }

    /// In standby mode the server goes on whatever the status is, so it is asked to promote, unless that is where the
    /// request came from.
    fn promote(&self, by: &Requester) {
        match by {
            Requester::Signal(_) | Requester::TriggerFile(..) => {
                if data_directory::is_in_standby_mode() {
                    promotion::ask(self.server);
                }
            }
            Requester::PromoteFile(_) => {}
        }
    }

    /// Warns of what a smart failover leaves unreplayed.
    fn warn_of_losses(&self, segment: SegmentName) {
        match &self.obstacle {
            Some(Obstacle::Unavailable(unavailable)) => {
                warn!("{unavailable}; failover continues without what may be in the archive");
            }
            Some(Obstacle::Rejected(rejected)) => {
                warn!("{rejected}; failover continues without it");
            }
            Some(Obstacle::Abandoned(abandoned)) => {
                warn!("{abandoned}");
                return;
            }
            Some(Obstacle::EndsEarly(EarlyEnd { path, stop, .. })) => {
                warn_of_early_end(path, *stop);
                return;
            }
            _ => {}
        }
        match self.archive.count_after(segment).unwrap_or(0) {
            0 => {}
            count => warn!(
                "{segment} is missing; later segments in the archive that are not replayed: {count}"
            ),
        }
    }

    fn end_unasked(&self, ending: Ending) {
        let name = self.options.requested;
        match ending {
            Ending::WaitedEnough => {
                let limit = self.options.max_wait_time.unwrap_or_default().as_secs_f64();
                if data_directory::is_in_standby_mode() {
                    debug!("{name} has not come within {limit} s; the server will ask again");
                } else {
                    info!(
                        "fast failover: {name} has not come within {limit} s; recovery ends before it"
                    );
                }
            }
            Ending::Reread => match &self.obstacle {
                Some(
                    obstacle @ (Obstacle::Superseded(_)
                    | Obstacle::LeftBehind
                    | Obstacle::Abandoned(_)),
                ) => debug!("{name}: {obstacle}"),
                _ => debug!("the server has {name}, and the archive has no more of it"),
            },
            Ending::Unanswered => {
                warn!("{name} is treated as absent, though the archive could not tell");
            }
            Ending::Impossible => debug!("{name} cannot exist: its timeline began after it"),
            Ending::Absent => self.warn_of_prefetching(),
            Ending::ServerGone => {
                let server = self.server.unwrap_or_default();
                warn!("the server that asked for {name} (PID {server}) is gone");
            }
            _ => {}
        }
    }

    /// Reports an error that cannot be waited out, and what the server does because of it, outside standby mode.
    fn give_up(&self, ending: Ending, obstacle: &Obstacle, outcome: Outcome) {
        let consequence = match outcome {
            Outcome::NotRestored | Outcome::Unusable => {
                "the server stops, and resumes where it left off when restarted"
            }
            _ => "the server takes that for the end of WAL",
        };
        match ending {
            Ending::NoArchive => {
                let location = &self.options.archive_location;
                let what = if location.exists() { "is not a directory" } else { "does not exist" };
                error!("archive location {location:?} {what}; {consequence}");
            }
            Ending::NotRestored => {
                let tries = self.failed_copies;
                let tries = if tries == 1 { "one try" } else { &format!("{tries} tries") };
                error!("{obstacle}; gave up after {tries}; {consequence}");
            }
            _ => error!("{obstacle}; {consequence}"),
        }
    }

    /// Warns at the start of recovery, which is when a server asks for the history file of a timeline that does not exist.
    fn warn_of_prefetching(&self) {
        let is_history = matches!(self.options.requested, WalName::History(_));
        // A call that returns soon does not keep a server in standby mode from what it holds back.
        let returns = self.options.no_wait || self.options.max_wait_time.is_some();
        if is_history
            && data_directory::will_prefetch()
            && !(returns && data_directory::is_in_standby_mode())
        {
            warn!(
                "recovery_prefetch is not off in this data directory: the server holds back up to 512 kB of WAL \
                 until more comes; set recovery_prefetch = off"
            );
        }
    }
}
