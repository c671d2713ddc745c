//! The loop: look, ask for a decision, act, sleep. Why is decided in `decision`, and said in `obstacle` and `ending`.

use std::time::Instant;

use crate::archive::Archive;
use crate::caller::Caller;
use crate::data_directory;
use crate::decision::{Clocks, Decision, Ending, Finding, Mode, Situation, decide};
use crate::ending::Closing;
use crate::failover::{Failover, Request};
use crate::obstacle::{Obstacle, Reporter};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::presence::Presence;
use crate::restore::{self, Extent, Restored};
use crate::search::Search;
use crate::signals::Signals;
use crate::source::Source;
use crate::wait::Wait;
use crate::wal::name::WalName;

/// One request of the server, from the first look to the outcome.
pub struct Standby<'a> {
    options: &'a Options,
    caller: Caller<'a>,
    failover: Failover<'a>,
    archive: &'a Archive<'a>,
    search: Search<'a>,
    mode: Mode,
    clocks: Clocks,
    reporter: Reporter<'a>,
    presence: Presence<'a>,
    wait: Wait<'a>,
}

/// What one turn of the loop has brought.
#[derive(Default)]
struct Turn {
    request: Option<Request>,
    finding: Finding,
    source: Option<Source>,
    obstacle: Option<Obstacle>,
}

impl<'a> Standby<'a> {
    /// Reads from the data directory which server asks, before anything else.
    #[must_use]
    pub fn new(options: &'a Options, archive: &'a Archive<'a>, signals: &'a Signals) -> Self {
        let started = Instant::now();
        let is_in_standby_mode = data_directory::is_in_standby_mode();
        let search = Search::new(options, archive, is_in_standby_mode);
        let failover = Failover::new(signals, options.trigger_file.as_deref());
        let files = search.files().chain(failover.files());
        let clocks = Clocks::new(started, options, is_in_standby_mode && search.server_has_it());
        Self {
            options,
            caller: Caller::new(signals),
            archive,
            mode: Mode::of(options, is_in_standby_mode),
            reporter: Reporter::new(options, archive, started, clocks.longest_wait()),
            clocks,
            presence: Presence::new(options, archive),
            failover,
            search,
            wait: Wait::new(signals, files, options.polling_interval),
        }
    }

    /// Restores the requested file, or finds out that it is not available.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        loop {
            let mut turn = Turn { request: self.failover.request(), ..Turn::default() };
            match self.take(&mut turn) {
                Decision::End(ending) => return self.end(ending, turn),
                Decision::Wait(until) => {
                    turn.obstacle.iter().for_each(|obstacle| self.reporter.report(obstacle));
                    self.presence.show();
                    self.wait.until(until);
                }
                Decision::Look | Decision::Restore | Decision::RestorePart => {}
            }
        }
    }

    /// Looks and restores for as long as the decision says so; returns the first other decision.
    fn take(&mut self, turn: &mut Turn) -> Decision {
        let must_leave = self.caller.must_leave();
        loop {
            let now = Instant::now();
            self.clocks.record(turn.finding, turn.request.as_ref(), now);
            let decision = decide(&Situation {
                requested: self.options.requested.into(),
                mode: self.mode,
                must_leave,
                request: turn.request.as_ref(),
                finding: turn.finding,
                clocks: &self.clocks,
                now,
                changes_at: [self.search.trusted_at(), self.failover.settles_at()],
            });
            let found = match (decision, &turn.source) {
                (Decision::Look, _) => self.search.look(turn.request.as_ref()).map(|source| {
                    turn.source = Some(source);
                    Finding::Ready
                }),
                (Decision::Restore, Some(source)) => self.restore(source, Extent::Whole),
                (Decision::RestorePart, _) => self.restore_part(turn),
                _ => return decision,
            };
            turn.finding = found.unwrap_or_else(|it| turn.obstacle.insert(it).finding());
        }
    }

    fn restore(&mut self, source: &Source, extent: Extent) -> Result<Finding, Obstacle> {
        Ok(match restore::restore(source, self.options, extent, || self.is_withdrawn())? {
            Restored::Withdrawn => Finding::Withdrawn,
            Restored::NotYet(wanting) => self.search.remember(source, wanting),
            Restored::Done(stop) => self.reporter.restored(&source.path, stop),
        })
    }

    /// Restores what has been received of a segment, or what can be read of one.
    fn restore_part(&mut self, turn: &mut Turn) -> Result<Finding, Obstacle> {
        if let Some(Obstacle::Partial(received)) = &turn.obstacle {
            let Some(partial) = &received.partial else { return Ok(Finding::Withdrawn) };
            return restore::restore_partial(partial, self.options, || self.is_withdrawn());
        }
        let source = self.search.look_for_part()?;
        let finding = self.restore(&source, Extent::Part);
        turn.source = Some(source);
        finding
    }

    /// Returns whether what has been copied must not be handed over any more.
    fn is_withdrawn(&self) -> bool {
        let is_segment = matches!(self.options.requested, WalName::Segment(_));
        is_segment && self.failover.signalled().is_some() || self.caller.must_leave().is_some()
    }

    fn end(mut self, ending: Ending, turn: Turn) -> Outcome {
        turn.obstacle.iter().for_each(|obstacle| self.reporter.close(ending, obstacle));
        let Self { options, archive, failover, .. } = self;
        let Turn { request, source, obstacle, .. } = turn;
        let (failed_copies, server) = (self.clocks.failed_copies(), self.caller.pid());
        let numbering = source.and_then(|source| source.numbering());
        Closing { options, archive, failover, obstacle, numbering, failed_copies, server }
            .close(ending, request)
    }
}
