//! What keeps the requested file from being restored, in words, and not too often. What to do about it is decided
//! elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{debug, warn};

use crate::archive::Unavailable;
use crate::decision::{Ending, Finding};
use crate::diagnosis::Diagnosis;
use crate::error::Failure;
use crate::failover::Request;
use crate::options::Options;
use crate::partial::Partial;
use crate::report::Condition;
use crate::source::Rejected;
use crate::timeline::{Abandoned, Branch};
use crate::wal::lsn::Lsn;
use crate::wal::name::{SegmentName, WalName};
use crate::wal::records::Stop;

/// Why the file is not restored, or not yet.
#[derive(Debug)]
pub enum Obstacle {
    /// The archive does not have it.
    Absent,
    /// The archive has a later timeline that branched off from its own, and does not have it, or only with what was written
    /// behind the branch.
    Superseded(Branch),
    /// The archive does not have it, and the server follows a later timeline, so that it can do without.
    LeftBehind,
    /// Its timeline began after it.
    Impossible,
    /// The archive has it, of a timeline that the server has left behind, which is as if it were absent.
    Abandoned(Abandoned),
    /// What the archive has may not be handed over.
    Rejected(Rejected),
    /// What the archive has is good up to a record at which a server would stop.
    EndsEarly(EarlyEnd),
    /// The archive has what has been received of it so far.
    Partial(Received),
    /// The same, but a later timeline has branched off within it.
    Branched {
        /// Its path in the archive.
        path: PathBuf,
        /// Where the last whole record in it ends.
        end: Lsn,
        /// The later timeline.
        branch: Branch,
    },
    /// The archive does not answer.
    Unavailable(Unavailable),
    /// The standby's own side failed.
    Failed(Failure),
}

/// What has been received of a segment.
#[derive(Debug)]
pub struct Received {
    /// When the server may be given it.
    pub due_at: Instant,
    /// What there is beyond what the server has; `None` before that is due.
    pub partial: Option<Partial>,
}

/// A segment that is good up to a record at which a server would stop.
#[derive(Debug)]
pub struct EarlyEnd {
    /// Its path in the archive.
    pub path: PathBuf,
    /// Where, and why.
    pub stop: Stop,
    /// When the file will not have changed for one sleep time.
    pub settled_at: Instant,
    /// The archive holds no later segment of its timeline, as far as that was asked for.
    pub is_last: bool,
    /// The server is to fail over, and has its good part already.
    pub is_replayed: bool,
    /// The record begins in the segment before, which may be the one that is damaged.
    pub begins_before: bool,
}

impl Obstacle {
    /// Returns what a decision needs to know of it.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Absent | Self::EndsEarly(EarlyEnd { is_replayed: true, .. }) => Finding::Absent,
            Self::LeftBehind | Self::Abandoned(_) => Finding::LeftBehind,
            Self::Superseded(_) | Self::Branched { .. } => Finding::Superseded,
            Self::Partial(Received { due_at, .. }) => Finding::Partial { due_at: *due_at },
            Self::Impossible => Finding::Impossible,
            Self::Rejected(rejected) => Finding::Rejected(rejected.reason),
            Self::EndsEarly(EarlyEnd { settled_at, is_last, .. }) => {
                Finding::EndsEarly { settled_at: *settled_at, is_last: *is_last }
            }
            Self::Unavailable(it) if it.no_such_location => Finding::NoArchive,
            Self::Unavailable(_) => Finding::Unavailable,
            Self::Failed(_) => Finding::Failed,
        }
    }

    /// Reports it where nothing waits for it to clear.
    pub fn complain(&self) {
        match self {
            Self::Rejected(rejected) if rejected.reason.is_passing() => debug!("{rejected}"),
            Self::Absent
            | Self::Superseded(_)
            | Self::LeftBehind
            | Self::Impossible
            | Self::Partial(_) => {}
            Self::Abandoned(_)
            | Self::Branched { .. }
            | Self::Rejected(_)
            | Self::EndsEarly(_)
            | Self::Unavailable(_)
            | Self::Failed(_) => {
                warn!("{self}");
            }
        }
    }
}

/// Reports what keeps the file from being restored while it is waited for.
pub struct Reporter<'a> {
    options: &'a Options,
    condition: Condition,
    diagnosis: Diagnosis<'a>,
    /// What the diagnosis has found.
    trouble: Condition,
    /// Of calls that follow each other, this one speaks for all.
    speaks: bool,
}

impl<'a> Reporter<'a> {
    /// Nothing has been said since the wait began.
    #[must_use]
    pub fn new(options: &'a Options, diagnosis: Diagnosis<'a>) -> Self {
        let condition = Condition::default;
        let speaks = diagnosis.speaks();
        Self { options, condition: condition(), diagnosis, trouble: condition(), speaks }
    }

    /// Reports `obstacle`, if that is news, while `request` is what somebody asks for.
    pub fn report(&mut self, obstacle: &Obstacle, request: Option<&Request>) {
        let name = self.options.requested;
        match obstacle {
            Obstacle::Absent | Obstacle::Partial(_) => {}
            _ => {
                self.trouble = Condition::default();
                self.diagnosis.reset();
            }
        }
        match obstacle {
            Obstacle::Unavailable(unavailable) => {
                let is_decided = matches!(request, Some(Request::SmartBefore(..)));
                let end = match self.options.required_file {
                    Some(_) if !is_decided => {
                        ", even at a smart failover: only \"fast\" ends the wait"
                    }
                    _ => "",
                };
                let message = format!("{unavailable}; waiting until the archive answers{end}");
                self.condition.report("unavailable", Duration::ZERO, &message);
            }
            Obstacle::Rejected(rejected) => {
                let is_passing = rejected.reason.is_passing();
                let grace = if is_passing { self.options.sleep_time } else { Duration::ZERO };
                let what = rejected.to_string();
                let message = format!("{what}; waiting for a good one");
                self.condition.report(&what, grace, &message);
            }
            Obstacle::EndsEarly(early) => {
                let grace = self.options.sleep_time;
                self.condition.report(&early.to_string(), grace, &early.with_advice());
            }
            Obstacle::Branched { .. } => {
                let message = format!("{obstacle}; waiting for the whole segment");
                self.condition.report("branched", Duration::ZERO, &message);
            }
            Obstacle::Abandoned(abandoned) => {
                let message = format!(
                    "{abandoned}; waiting for failover, or until that history file is removed"
                );
                self.condition.report("abandoned", Duration::ZERO, &message);
            }
            Obstacle::Failed(failure) => warn!("{failure}; trying again"),
            Obstacle::Absent
            | Obstacle::Superseded(_)
            | Obstacle::LeftBehind
            | Obstacle::Impossible
            | Obstacle::Partial(_) => {
                debug!("{name} is not there");
                let location = &self.options.archive_location;
                let message = format!("archive {location:?} answers, waiting for {name}");
                self.condition.clear(&message);
            }
        }
        if let (Obstacle::Absent, WalName::Segment(segment)) = (obstacle, name) {
            self.explain(segment);
        }
    }

    /// Says why a segment does not come, where that is known.
    fn explain(&mut self, segment: SegmentName) {
        if let Some(trouble) = self.diagnosis.trouble(segment) {
            self.trouble.report(trouble.kind(), Duration::ZERO, trouble);
        } else {
            let message = format!("nothing is in the way of {segment} any more");
            self.trouble.clear(&message);
        }
    }

    /// Reports what keeps an absent file from coming, where the wait for it ends without an answer.
    pub fn close(&mut self, ending: Ending, obstacle: &Obstacle) {
        match (ending, obstacle) {
            (Ending::WaitedEnough | Ending::Reread, Obstacle::Absent) => {
                self.report(obstacle, None);
            }
            (Ending::Reread, Obstacle::EndsEarly(early)) if self.speaks => {
                self.condition.report("", Duration::ZERO, &early.with_advice());
            }
            _ => {}
        }
    }

    /// Reports that the file is ready now, if it was reported as not ready, and where a server will stop in it.
    pub fn restored(&mut self, path: &Path, stop: Option<Stop>) {
        if let Some(stop) = stop {
            warn_of_early_end(path, stop);
        }
        let message = format!("{path:?} is ready now");
        self.condition.clear(&message);
        self.trouble.clear(&message);
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "it is not there"),
            Self::Superseded(Branch { timeline, left_at }) => {
                write!(f, "timeline {timeline} branched off at {left_at}")
            }
            Self::LeftBehind => write!(f, "the server follows a later timeline"),
            Self::Impossible => write!(f, "its timeline began after it"),
            Self::Partial(_) => write!(f, "it is still being received"),
            Self::Branched { path, end, branch: Branch { timeline, left_at } } => write!(
                f,
                "{path:?} is not handed over: it goes to {end}, and timeline {timeline} branched off at {left_at}"
            ),
            Self::Abandoned(abandoned) => abandoned.fmt(f),
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::EndsEarly(early) => early.fmt(f),
            Self::Unavailable(unavailable) => unavailable.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Says where recovery will end in a segment whose records end early.
pub fn warn_of_early_end(path: &Path, Stop { at, why, .. }: Stop) {
    warn!("recovery ends at {at}, within {path:?}, where {why}");
}

impl EarlyEnd {
    fn with_advice(&self) -> String {
        let advice = if self.begins_before {
            "that record begins in the segment before: send both again, then restart the standby"
        } else {
            "send it again from the primary's archive or WAL directory, or fail over to replay up to there"
        };
        format!("{self}; {advice}")
    }
}

impl fmt::Display for EarlyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, stop: Stop { at, why, .. }, .. } = self;
        write!(f, "{path:?} is not ready: the server could read it only up to {at}, where {why}")
    }
}
