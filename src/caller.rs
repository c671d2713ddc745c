//! Does the server that asked still want an answer? Its postmaster may be gone, or it may have told us to stop. What
//! follows is decided elsewhere.

use crate::data_directory::Postmaster;
use crate::decision::Ending;
use crate::signals::Signals;

/// The server that asked.
pub struct Caller<'a> {
    signals: &'a Signals,
    postmaster: Option<Postmaster>,
}

impl<'a> Caller<'a> {
    /// Takes the server whose data directory is the working directory, if it is one.
    #[must_use]
    pub fn new(signals: &'a Signals) -> Self {
        Self { signals, postmaster: Postmaster::here() }
    }

    /// Returns the ending if nobody wants an answer any more: SIGQUIT has arrived, or the server is gone.
    #[must_use]
    pub fn must_leave(&self) -> Option<Ending> {
        if self.signals.quit() {
            return Some(Ending::Quit);
        }
        self.postmaster.is_some_and(Postmaster::is_gone).then_some(Ending::ServerGone)
    }

    /// Returns the server's process id, if it is known.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.map(Postmaster::pid)
    }
}
