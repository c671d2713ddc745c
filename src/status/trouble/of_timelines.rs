//! What is wrong with the timelines in the archive, and with the history files that a standby needs to follow them.

use super::super::Later;
use super::super::checks::{ARRIVAL, Why};
use super::{Finder, Kind, Severity};
use crate::wal::name::WalName;

impl Finder<'_> {
    pub(super) fn look_for_later_timeline(&mut self) {
        let status = self.status;
        let follows = status.standby.as_ref().is_none_or(|it| it.is_in_standby_mode);
        let later = status.later.iter().find(|later| later.has_begun);
        if let (Some(Later { timeline, left_at, .. }), Some(asked), false) =
            (later, status.asked, follows)
        {
            self.critical(
                Kind::Timeline,
                format!(
                    "timeline {timeline} began at {left_at}; the standby still asks for {} of timeline {}",
                    asked.segment, asked.segment.timeline
                ),
                "restart the standby, or use standby mode, and it follows the later timeline",
            );
        }
    }

    pub(super) fn look_at_histories(&mut self) {
        let status = self.status;
        let followed = status.asked.and(status.timeline);
        for history in &status.histories {
            let Err(bad) = &history.content else { continue };
            if bad.why.is_arriving(bad.modified, status.now) {
                continue;
            }
            let is_past = followed.is_some_and(|followed| history.timeline < followed);
            let severity = if is_past { Severity::Warning } else { Severity::Critical };
            let what = format!("{} is not ready: {}", bad.file_name, bad.why);
            let remedy = match bad.why {
                Why::Unreadable(_) => "make it readable for the server's user, or send it again",
                _ if is_past => "the standby is past it; other standbys may need it",
                _ => "send it again from the primary's archive or its WAL directory",
            };
            self.add(severity, Kind::History, what, remedy);
        }
    }

    /// A standby that waits goes on with a later timeline only once it has that one's history file.
    pub(super) fn look_for_missing_history(&mut self) {
        let status = self.status;
        let Some(asked) = status.asked.filter(|asked| !asked.is_replayed) else { return };
        let asked = asked.segment;
        if status.scan.whole().any(|found| found.name == asked) {
            return;
        }
        // By position: the first of them is the one to name.
        let later = status.scan.whole().find(|found| {
            let is_old = found.modified.is_some_and(|modified| status.age(modified) >= ARRIVAL);
            let name = found.name;
            is_old && name.timeline > asked.timeline && name.position >= asked.position
        });
        let Some(first) = later.map(|found| found.name) else { return };
        let is_known = status.histories.iter().any(|it| it.timeline == first.timeline);
        if is_known || !status.history(first.timeline).is_empty() {
            return;
        }
        self.critical(
            Kind::History,
            format!(
                "{} is missing, segments of timeline {} are there from {first} on",
                WalName::History(first.timeline),
                first.timeline
            ),
            "send it from the primary's archive or its WAL directory; the standby needs it to go on",
        );
    }
}
