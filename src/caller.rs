//! Does the server that asked still want an answer? Its postmaster may be gone, or it may have sent SIGQUIT. Then `decision`
//! ends the call before anything else, and `outcome` has it die by SIGINT.

use crate::data_directory::Postmaster;
use crate::decision::Ending;
use crate::signals::Signals;
use crate::wal::name::WalName;

/// The server that asked.
pub struct Caller<'a> {
    signals: &'a Signals,
    requested: WalName,
    postmaster: Option<Postmaster>,
}

impl<'a> Caller<'a> {
    /// Takes the server whose data directory is the working directory, if it is one.
    #[must_use]
    pub fn new(signals: &'a Signals, requested: WalName) -> Self {
        Self { signals, requested, postmaster: Postmaster::here() }
    }

    /// Returns the ending if nobody wants an answer any more: SIGQUIT has arrived, or the server is gone.
    #[must_use]
    pub fn must_leave(&self) -> Option<Ending> {
        if self.signals.quit() {
            return Some(Ending::Quit);
        }
        self.postmaster.is_some_and(Postmaster::is_gone).then_some(Ending::ServerGone)
    }

    /// Returns whether a copy that is whole must not be handed over any more: nobody wants an answer, or a signal asks for
    /// fast failover, which no segment may follow.
    #[must_use]
    pub fn has_withdrawn(&self) -> bool {
        let is_segment = matches!(self.requested, WalName::Segment(_));
        is_segment && self.signals.failover().is_some() || self.must_leave().is_some()
    }

    /// Returns the server's process id, if it is known.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.map(Postmaster::pid)
    }
}
