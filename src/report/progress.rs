//! One line on a terminal that tells how far something has come, and goes when that is over.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::stderr::Stderr;
use super::takes_escapes;

/// How long a line stands at least.
const INTERVAL: Duration = Duration::from_millis(100);

/// The line on standard error, where that is a terminal.
pub struct Progress {
    terminal: Option<Stderr>,
    shown: Option<Instant>,
}

impl Progress {
    /// Nothing is shown yet, nor will it be where a line could not be taken back.
    #[must_use]
    pub fn new() -> Self {
        let is_shown = io::stderr().is_terminal() && takes_escapes();
        Self { terminal: is_shown.then(Stderr::open), shown: None }
    }

    /// Shows this instead of what was shown, if that has stood for a while.
    pub fn show(&mut self, line: &dyn Display) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL);
        if let (Some(terminal), true) = (&mut self.terminal, is_due) {
            let _ = terminal.write(format!("\r\x1b[K{line}").as_bytes());
            self.shown = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let (Some(terminal), Some(_)) = (&mut self.terminal, self.shown) {
            let _ = terminal.write(b"\r\x1b[K");
        }
    }
}
