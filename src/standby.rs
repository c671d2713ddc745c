//! The loop: look, ask for a decision, act, sleep. Why is decided in `decision`, and said in `obstacle` and `ending`.

use std::time::Instant;

use crate::archive::Archive;
use crate::caller::Caller;
use crate::data_directory;
use crate::decision::{Clocks, Decision, Ending, Mode, Situation, decide};
use crate::diagnosis::Diagnosis;
use crate::ending::Closing;
use crate::failover::{Failover, Request};
use crate::handover::Handover;
use crate::obstacle::Reporter;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::presence::Presence;
use crate::search::Search;
use crate::signals::Signals;
use crate::wait::Wait;

/// One request of the server, from the first look to the outcome.
pub struct Standby<'a> {
    options: &'a Options,
    archive: &'a Archive<'a>,
    caller: Caller<'a>,
    failover: Failover<'a>,
    mode: Mode,
    clocks: Clocks,
    handover: Handover<'a>,
    presence: Presence<'a>,
    wait: Wait<'a>,
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
        let caller = Caller::new(signals, options.requested);
        let diagnosis = Diagnosis::new(options, archive, started, clocks.longest_wait());
        Self {
            options,
            archive,
            caller,
            failover,
            mode: Mode::of(options, is_in_standby_mode),
            clocks,
            handover: Handover::new(options, search, Reporter::new(options, diagnosis)),
            presence: Presence::new(options, archive),
            wait: Wait::new(signals, files, options.polling_interval),
        }
    }

    /// Restores the requested file, or finds out that it is not available.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        loop {
            let request = self.failover.request();
            let must_leave = self.caller.must_leave();
            let until = loop {
                match self.decide(request.as_ref(), must_leave) {
                    Decision::Look => self.handover.look(request.as_ref()),
                    Decision::Restore => self.handover.restore(&self.caller),
                    Decision::RestorePart => self.handover.restore_part(&self.caller),
                    Decision::Wait(until) => break until,
                    Decision::End(ending) => return self.end(ending, request),
                }
            };
            self.handover.report(request.as_ref());
            self.presence.show();
            self.wait.until(until);
            self.handover.begin_anew();
        }
    }

    fn decide(&mut self, request: Option<&Request>, must_leave: Option<Ending>) -> Decision {
        let finding = self.handover.finding();
        let now = Instant::now();
        self.clocks.record(finding, request, now);
        decide(&Situation {
            requested: self.options.requested.into(),
            mode: self.mode,
            must_leave,
            request,
            finding,
            clocks: &self.clocks,
            now,
            changes_at: [self.handover.changes_at(), self.failover.settles_at()],
        })
    }

    fn end(self, ending: Ending, request: Option<Request>) -> Outcome {
        let Self { options, archive, failover, .. } = self;
        let (obstacle, numbering) = self.handover.finish(ending);
        let (failed_copies, server) = (self.clocks.failed_copies(), self.caller.pid());
        Closing { options, archive, failover, obstacle, numbering, failed_copies, server }
            .close(ending, request)
    }
}
