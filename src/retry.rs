//! Pauses that grow: one sleep time after the first failure, two after the second, and so on. What is
//! retried, and what follows when no retry is left, is decided elsewhere. The caller gives the time.

use std::time::{Duration, Instant};

/// How often something has failed, and when it may be tried again.
#[derive(Clone, Debug)]
pub struct Backoff {
    pause: Duration,
    retries: u32,
    failures: u32,
    due: Option<Instant>,
}

impl Backoff {
    /// One try and `retries` more; `pause` follows the first failure.
    #[must_use]
    pub fn new(pause: Duration, retries: u32) -> Self {
        Self { pause, retries, failures: 0, due: None }
    }

    /// Takes note of a failure at `now`.
    pub fn record_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.due = now.checked_add(self.pause.saturating_mul(self.failures));
    }

    /// Returns whether the pause since the last failure is over.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Returns whether it has failed once more than there are retries.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.failures > self.retries
    }

    /// Returns how many failures have been recorded.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns when the next try is due; `None` before the first failure.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    #[test]
    fn pauses_grow_and_retries_end() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut backoff = Backoff::new(second, 2);
        assert!(backoff.is_due(start) && !backoff.is_exhausted());
        for failure in 1..=3 {
            backoff.record_failure(start);
            assert_eq!(backoff.failures(), failure);
            let due = start + second * failure;
            assert_eq!(backoff.due(), Some(due));
            assert!(backoff.is_due(due) && !backoff.is_due(start));
            assert_eq!(backoff.is_exhausted(), failure == 3);
        }
    }
}
