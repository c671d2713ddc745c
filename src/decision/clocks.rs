//! The limits in time that a decision goes by, and how much of them is used up. What follows when one is reached is decided
//! in `decision`; the caller gives the time.

use std::time::{Duration, Instant};

use super::Finding;
use crate::failover::Request;
use crate::options::Options;
use crate::retry::Backoff;

/// Limits in time, and how much of them is used up.
#[derive(Clone, Debug)]
pub struct Clocks {
    pub(super) started: Instant,
    pub(super) sleep_time: Duration,
    pub(super) max_wait_time: Option<Duration>,
    /// Copies that our own side has failed.
    pub(super) copies: Backoff,
    /// Looks that a smart failover gives an archive that does not answer.
    pub(super) looks: Backoff,
    /// Since when a smart failover has had a segment that is not ready.
    pub(super) rejected_since: Option<Instant>,
    /// The server is in standby mode and has the segment already, or as much as has been received of it.
    pub(super) server_has_it: bool,
}

impl Clocks {
    /// Nothing is used up at `started`. `server_has_it` where a server in standby mode has the segment already.
    #[must_use]
    pub fn new(started: Instant, options: &Options, server_has_it: bool) -> Self {
        let Options { sleep_time, max_wait_time, max_retries, .. } = *options;
        Self {
            started,
            sleep_time,
            max_wait_time,
            copies: Backoff::new(sleep_time, max_retries),
            looks: Backoff::new(sleep_time, max_retries),
            rejected_since: None,
            server_has_it,
        }
    }

    /// Takes note of what was found at `now`, while `request` was what somebody asked for.
    pub fn record(&mut self, finding: Finding, request: Option<&Request>, now: Instant) {
        let smart = matches!(request, Some(Request::Smart(_) | Request::SmartBefore(..)));
        match finding {
            Finding::Failed => self.copies.record_failure(now),
            Finding::Unavailable | Finding::NoArchive if smart && self.looks.is_due(now) => {
                self.looks.record_failure(now);
            }
            Finding::Rejected(_) if smart => {
                self.rejected_since.get_or_insert(now);
            }
            Finding::EndsEarly { .. } => self.rejected_since = None,
            _ => {}
        }
    }

    /// How long an idle wait may take, where that is limited.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        let reread = self.server_has_it.then_some(super::REREAD);
        self.max_wait_time.into_iter().chain(reread).min()
    }

    /// How many copies have failed.
    #[must_use]
    pub fn failed_copies(&self) -> u32 {
        self.copies.failures()
    }
}
