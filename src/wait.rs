//! Sleeps until something may have changed: one `poll` over everything that can end a wait.
//! What has changed is for others to see.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::signals::Signals;
use crate::watch::Watches;

/// Everything that can wake the program before its time.
pub struct Wait<'a> {
    signals: &'a Signals,
    watches: Watches,
    /// How long to trust a file system that cannot tell what others do to it.
    polling_interval: Duration,
}

impl<'a> Wait<'a> {
    /// A wait that signals end, and changes to any of `files`.
    #[must_use]
    pub fn new(
        signals: &'a Signals,
        files: impl IntoIterator<Item = PathBuf>,
        polling_interval: Duration,
    ) -> Self {
        Self { signals, watches: Watches::on(files), polling_interval }
    }

    /// Sleeps until `deadline`, or less where something may have changed: not at all where the files were not watched
    /// yet when the caller looked.
    pub fn until(&mut self, deadline: Instant) {
        if self.watches.place() {
            return;
        }
        let blind =
            self.watches.miss_some().then(|| Instant::now().checked_add(self.polling_interval));
        let deadline = blind.flatten().map_or(deadline, |blind| blind.min(deadline));
        loop {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.watches.as_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = poll(&mut fds, timeout(left));
            if self.signals.drain() || self.watches.have_news() || deadline <= Instant::now() {
                return;
            }
        }
    }
}

/// Rounded up to poll's milliseconds: rounded down, the last fraction would be spent in a busy loop.
fn timeout(time: Duration) -> PollTimeout {
    let up = time.saturating_add(Duration::from_micros(999));
    PollTimeout::try_from(up).unwrap_or(PollTimeout::MAX)
}
