//! What can be wrong, how bad that is, and what to do about it. Finding it is the matter of [`of_archive`],
//! [`of_timelines`] and [`of_standby`].

mod of_archive;
mod of_standby;
mod of_timelines;

use std::cmp::Reverse;

use super::Status;
use crate::options::Inquiry;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong.
    Fine,
    /// Somebody should look at it.
    Warning,
    /// Somebody has to act.
    Critical,
}

/// What can be wrong, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The archive does not answer.
    Archive,
    /// The server has been promoted.
    Primary,
    /// The standby does not run.
    Stopped,
    /// Segments are of another cluster.
    Cluster,
    /// Segments are missing.
    Hole,
    /// A later timeline has begun, which the standby will not follow.
    Timeline,
    /// The history file of a timeline is missing, or not what it should be.
    History,
    /// A segment is not what it should be.
    Segment,
    /// A segment is there in a form that is not read.
    Form,
    /// There are no segments.
    Empty,
    /// No room is left for a segment.
    Full,
    /// The standby is not consistent yet, and there is nothing for it.
    Consistency,
    /// The standby reads another archive.
    Elsewhere,
    /// Failover is asked for, or the file that should is not acted upon.
    Trigger,
    /// More segments are waiting than `--behind` allows.
    Behind,
    /// Nothing has come for longer than `--silent` allows.
    Silent,
    /// A standby's registration keeps segments from being pruned.
    Standby,
    /// Something could not be found out.
    Unknown,
}

impl Kind {
    /// Its name in every form of the answer.
    #[must_use]
    pub fn code(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Something that is wrong.
pub struct Trouble {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong, the worst first.
#[must_use]
pub fn find(status: &Status, inquiry: &Inquiry) -> Vec<Trouble> {
    let mut finder = Finder { status, troubles: Vec::new() };
    if let Some(standby) = &status.standby {
        finder.look_at_standby(standby);
        finder.look_at_trigger(standby);
    }
    finder.look_at_archive(inquiry);
    finder.troubles.sort_by_key(|it| (Reverse(it.severity), it.kind));
    finder.troubles
}

struct Finder<'a> {
    status: &'a Status,
    troubles: Vec<Trouble>,
}

impl Finder<'_> {
    /// Takes note of something.
    fn add(&mut self, severity: Severity, kind: Kind, what: String, remedy: impl Into<String>) {
        self.troubles.push(Trouble { severity, kind, what, remedy: remedy.into() });
    }

    fn critical(&mut self, kind: Kind, what: String, remedy: impl Into<String>) {
        self.add(Severity::Critical, kind, what, remedy);
    }

    fn warn(&mut self, kind: Kind, what: String, remedy: impl Into<String>) {
        self.add(Severity::Warning, kind, what, remedy);
    }
}
