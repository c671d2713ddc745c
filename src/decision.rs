//! What is to be done next? Pure: what was asked for, what was found, the mode and the clocks go in; restore, wait or end
//! comes out. Looks at nothing and takes no time, so that every combination can be tested.
//!
//! One promise stands above all others: recovery ends only because somebody asked for it, set a limit, or asked a
//! question that the archive has answered.

mod clocks;

use std::time::{Duration, Instant};

use crate::failover::Request;
use crate::options::{OnError, Options};
use crate::source::Reason;
use crate::wal::flaw::Flaw;
use crate::wal::name::{Position, WalName};

pub use clocks::Clocks;

/// What the loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Look at the archive.
    Look,
    /// Copy what is ready into place.
    Restore,
    /// Copy into place what ends early: nothing better is to come, and its good part counts.
    RestorePart,
    /// Wait for a change, at the longest until then, and begin again.
    Wait(Instant),
    /// End, for this reason.
    End(Ending),
}

/// Why a run ends. `outcome` says which status each one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The file is whole at its destination.
    Restored,
    /// A fast failover.
    Fast,
    /// A smart failover: nothing more is ready. `leave_mark` where the calls that follow must not wait again.
    Smart { leave_mark: bool },
    /// An earlier call has ended recovery before this segment already.
    Refused,
    /// The maximum wait time has passed.
    WaitedEnough,
    /// The server is in standby mode and has something else to read: more of the same segment in its own WAL directory, or
    /// a later timeline.
    Reread,
    /// It is not available, and one look was asked for.
    LookedOnce,
    /// It may be available later, one look was asked for, and the server would take "not available" for the end of WAL.
    NotYet,
    /// The segment can never exist: its timeline began after it.
    Impossible,
    /// The archive answers that it has no such history or backup history file.
    Absent,
    /// A history or backup history file is given up, though the archive could not tell whether it has it.
    Unanswered,
    /// The segment is longer than its header says, and that is to end recovery.
    TooLong,
    /// There is no archive location.
    NoArchive,
    /// The copy failed, and no retry is left.
    NotRestored,
    /// SIGQUIT.
    Quit,
    /// The server that asked is gone.
    ServerGone,
}

/// Which kind of file the server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// A segment, which is waited for.
    Segment(Position),
    /// A history or backup history file, which is there or not.
    Auxiliary,
}

impl From<WalName> for Requested {
    fn from(name: WalName) -> Self {
        match name {
            WalName::Segment(segment) => Self::Segment(segment.position),
            WalName::History(_) | WalName::BackupHistory(..) | WalName::Partial(_) => {
                Self::Auxiliary
            }
        }
    }
}

/// What is known of the requested file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finding {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is in the archive, and good.
    Ready,
    /// It is not in the archive.
    Absent,
    /// It is not in the archive, which has a later timeline that branched off from its own.
    Superseded,
    /// It is not there, or worse than nothing, and the server itself follows a later timeline already.
    LeftBehind,
    /// It is not in the archive, and never can be.
    Impossible,
    /// It is in the archive and may not be handed over.
    Rejected(Reason),
    /// It is in the archive, good up to a record at which a server would stop.
    EndsEarly {
        /// When it will not have changed for one sleep time.
        settled_at: Instant,
        /// No later segment of its timeline is in the archive, as far as that was asked for.
        is_last: bool,
    },
    /// It is still being received: the archive has more of it than the server, which may be given that then.
    Partial {
        /// When, where nobody asks for failover.
        due_at: Instant,
    },
    /// The archive does not answer.
    Unavailable,
    /// The archive location does not exist, as the first look shows.
    NoArchive,
    /// It could not be copied: our own side failed.
    Failed,
    /// It was copied, and the copy was dropped because something else was asked for meanwhile.
    Withdrawn,
    /// It is at its destination.
    Restored,
}

/// How the program was told to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// One look: `--no-wait`, or the caller is `pg_rewind`.
    pub looks_once: bool,
    /// The caller takes "not available" for the end of WAL: a server outside standby mode.
    pub is_plain: bool,
    /// Without its required file the archive is not mounted, which no smart failover takes for its end.
    pub requires_file: bool,
    /// What an error does to recovery.
    pub on_error: OnError,
}

impl Mode {
    /// The mode that the options ask for.
    #[must_use]
    pub fn of(options: &Options, is_in_standby_mode: bool) -> Self {
        Self {
            looks_once: options.no_wait || options.is_for_pg_rewind(),
            is_plain: !is_in_standby_mode && !options.is_for_pg_rewind(),
            requires_file: options.required_file.is_some(),
            on_error: options.on_error,
        }
    }
}

/// How long a server in standby mode waits for more of a segment that it has, or for one that a later timeline may take the
/// place of. Promoted by `pg_ctl promote`, it asks for the last segment again when the request is no longer to be seen, and
/// must not wait for ever; and only between two calls does it look for later timelines.
const REREAD: Duration = Duration::from_secs(1);
/// The same where the archive does not answer or has something that is not ready, which each call reports anew.
const REREAD_IN_TROUBLE: Duration = Duration::from_secs(30);

/// Everything that a decision depends on.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The file.
    pub requested: Requested,
    /// How it was told to go about it.
    pub mode: Mode,
    /// Why to leave whatever else there is: [`Ending::Quit`] or [`Ending::ServerGone`].
    pub must_leave: Option<Ending>,
    /// A failover that somebody asks for.
    pub request: Option<&'a Request>,
    /// What is known of the file.
    pub finding: Finding,
    /// The limits.
    pub clocks: &'a Clocks,
    /// The present.
    pub now: Instant,
    /// When the answer may change though nothing is seen to happen: a writer that will be trusted, a trigger file that
    /// may still be written.
    pub changes_at: [Option<Instant>; 2],
}

/// Decides what comes next.
#[must_use]
pub fn decide(situation: &Situation) -> Decision {
    if let Some(ending) = situation.must_leave {
        return Decision::End(ending);
    }
    match situation.requested {
        Requested::Segment(position) => situation.decide_segment(position),
        Requested::Auxiliary => situation.decide_auxiliary(),
    }
}

impl Situation<'_> {
    fn decide_segment(&self, position: Position) -> Decision {
        match self.request {
            _ if self.finding == Finding::Restored => return Decision::End(Ending::Restored),
            Some(Request::Fast(_)) => return Decision::End(Ending::Fast),
            Some(Request::SmartBefore(first, _)) if position >= *first => {
                return Decision::End(Ending::Refused);
            }
            _ => {}
        }
        match self.finding {
            Finding::Impossible => Decision::End(Ending::Impossible),
            Finding::Rejected(Reason::Flaw(Flaw::TooLong { .. }))
                if self.mode.on_error == OnError::Promote =>
            {
                Decision::End(Ending::TooLong)
            }
            _ => self.go_on().unwrap_or_else(|| self.decide_unready_segment()),
        }
    }

    /// Nothing can be restored now, and our own side is not to blame.
    fn decide_unready_segment(&self) -> Decision {
        let is_unavailable = matches!(self.finding, Finding::Unavailable | Finding::NoArchive);
        match self.request {
            Some(Request::Smart(_)) if is_unavailable => {
                if self.mode.requires_file || !self.clocks.looks.is_exhausted() {
                    return self.wait_or_end(Ending::WaitedEnough);
                }
                Decision::End(Ending::Smart { leave_mark: true })
            }
            // The failover is decided, and the server asks once more for what it was given last.
            Some(Request::SmartBefore(..)) if is_unavailable => {
                if !self.clocks.server_has_it && !self.clocks.looks.is_exhausted() {
                    return self.wait_or_end(Ending::WaitedEnough);
                }
                Decision::End(Ending::Smart { leave_mark: false })
            }
            Some(_) if self.is_within_grace() => self.wait_or_end(Ending::WaitedEnough),
            Some(_) => match self.finding {
                Finding::EndsEarly { settled_at, .. } if settled_at <= self.now => {
                    Decision::RestorePart
                }
                Finding::EndsEarly { .. } => self.wait_or_end(Ending::WaitedEnough),
                Finding::Partial { .. } => Decision::RestorePart,
                _ => Decision::End(Ending::Smart { leave_mark: false }),
            },
            None if self.is_part_due() => Decision::RestorePart,
            None if self.mode.looks_once => self.decide_single_look(),
            None => self.wait_or_end(Ending::WaitedEnough),
        }
    }

    /// More of the segment has been received than the server has, and it may be given that.
    fn is_part_due(&self) -> bool {
        matches!(self.finding, Finding::Partial { due_at } if due_at <= self.now)
    }

    /// Outside standby mode only what the archive does not have may end recovery.
    fn decide_single_look(&self) -> Decision {
        match self.finding {
            _ if !self.mode.is_plain => Decision::End(Ending::LookedOnce),
            Finding::Absent | Finding::Superseded | Finding::LeftBehind => {
                Decision::End(Ending::LookedOnce)
            }
            Finding::EndsEarly { is_last: true, .. } => Decision::RestorePart,
            _ => Decision::End(Ending::NotYet),
        }
    }

    /// History and backup history files are never waited for. Only an archive that does not answer is: a false "absent"
    /// would make the server choose a wrong timeline.
    fn decide_auxiliary(&self) -> Decision {
        if let Some(decision) = self.go_on() {
            return decision;
        }
        match self.finding {
            Finding::Restored => Decision::End(Ending::Restored),
            Finding::Absent | Finding::Superseded | Finding::LeftBehind => {
                Decision::End(Ending::Absent)
            }
            _ if self.request.is_some() => Decision::End(Ending::Unanswered),
            _ if self.mode.looks_once && self.mode.is_plain => Decision::End(Ending::NotYet),
            _ if self.mode.looks_once => Decision::End(Ending::Unanswered),
            _ => self.wait_or_end(Ending::Unanswered),
        }
    }

    /// What comes next, whatever kind of file it is; `None` where it is not ready, which is for its kind to decide.
    fn go_on(&self) -> Option<Decision> {
        let enough = match self.requested {
            Requested::Segment(_) => Ending::WaitedEnough,
            Requested::Auxiliary => Ending::Unanswered,
        };
        match self.finding {
            Finding::Unknown if self.clocks.copies.is_due(self.now) => Some(Decision::Look),
            Finding::Ready => Some(Decision::Restore),
            Finding::Withdrawn => Some(Decision::Wait(self.now)),
            Finding::Failed if self.clocks.copies.is_exhausted() => {
                Some(Decision::End(Ending::NotRestored))
            }
            Finding::Unknown | Finding::Failed => Some(self.wait_or_end(enough)),
            // A trigger file that is being written may yet ask for failover.
            Finding::NoArchive if self.request.is_none() && self.changes_at == [None; 2] => {
                Some(Decision::End(Ending::NoArchive))
            }
            Finding::NoArchive
            | Finding::Absent
            | Finding::Superseded
            | Finding::LeftBehind
            | Finding::Impossible
            | Finding::Rejected(_)
            | Finding::EndsEarly { .. }
            | Finding::Partial { .. }
            | Finding::Unavailable
            | Finding::Restored => None,
        }
    }

    /// The segment is whole but for a writer that has not let go of it, or did so only during the copy: that is given one
    /// sleep time to change.
    fn is_within_grace(&self) -> bool {
        let since = self.clocks.rejected_since.unwrap_or(self.now);
        let is_unfinished =
            matches!(self.finding, Finding::Rejected(reason) if reason.is_unfinished());
        is_unfinished && self.now.saturating_duration_since(since) < self.clocks.sleep_time
    }

    /// When a server in standby mode gets to read something else, if nobody asks for failover.
    fn reread_at(&self) -> Option<Instant> {
        let time = match self.finding {
            Finding::LeftBehind => Duration::ZERO,
            Finding::Absent
            | Finding::Superseded
            | Finding::Partial { .. }
            | Finding::EndsEarly { .. } => REREAD,
            _ => REREAD_IN_TROUBLE,
        };
        let is_passed_by = matches!(self.finding, Finding::Superseded | Finding::LeftBehind);
        let rereads = self.clocks.server_has_it || is_passed_by && !self.mode.is_plain;
        if rereads && self.request.is_none() { self.clocks.started.checked_add(time) } else { None }
    }

    fn wait_or_end(&self, enough: Ending) -> Decision {
        let clocks = self.clocks;
        let limit = clocks.max_wait_time.and_then(|time| clocks.started.checked_add(time));
        if limit.is_some_and(|limit| limit <= self.now) {
            return Decision::End(enough);
        }
        let reread_at = self.reread_at();
        if reread_at.is_some_and(|at| at <= self.now) {
            return Decision::End(Ending::Reread);
        }
        let grace_ends =
            clocks.rejected_since.and_then(|since| since.checked_add(clocks.sleep_time));
        let next = [
            self.now.checked_add(clocks.sleep_time),
            limit,
            clocks.copies.due(),
            clocks.looks.due(),
            grace_ends,
            reread_at,
        ];
        let settled_at = match self.finding {
            Finding::EndsEarly { settled_at, .. } => Some(settled_at),
            Finding::Partial { due_at } => Some(due_at),
            _ => None,
        };
        let next = next.into_iter().chain([settled_at]).chain(self.changes_at).flatten();
        Decision::Wait(next.filter(|time| *time > self.now).min().unwrap_or(self.now))
    }
}

#[cfg(test)]
mod tests;
