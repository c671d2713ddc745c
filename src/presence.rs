//! Shows those who share an archive that this standby is alive while it waits, and for which segment. What is registered,
//! and in which form, is decided elsewhere.

use std::time::{Duration, Instant};

use crate::archive::Archive;
use crate::options::Options;
use crate::prune;
use crate::registrations::Asked;
use crate::timestamp::Timestamp;
use crate::wal::name::WalName;

/// How often to see whether the registration is old. It is written once a minute at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// The registration of a standby that waits.
pub struct Presence<'a> {
    options: &'a Options,
    archive: &'a Archive<'a>,
    asked: Option<Asked>,
    due_at: Instant,
}

impl<'a> Presence<'a> {
    /// Nothing is registered yet. A standby without a name never is, nor is one that asks for no segment.
    #[must_use]
    pub fn new(options: &'a Options, archive: &'a Archive<'a>) -> Self {
        let asked = match options.requested {
            WalName::Segment(segment) => Some(Asked { segment, since: Timestamp::now() }),
            WalName::History(_) | WalName::BackupHistory(..) | WalName::Partial(_) => None,
        };
        Self { options, archive, asked, due_at: Instant::now() }
    }

    /// Renews the registration, if that is due.
    pub fn show(&mut self) {
        let now = Instant::now();
        if let Some(asked) = self.asked.filter(|_| self.due_at <= now) {
            self.due_at = now.checked_add(INTERVAL).unwrap_or(now);
            prune::while_waiting(asked, self.archive, self.options);
        }
    }
}
