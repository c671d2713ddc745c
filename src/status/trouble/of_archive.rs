//! What is wrong with the archive, and with how far the standby has come in it.

use std::time::Duration;

use super::super::checks::{NotReady, Why};
use super::super::line::Hole;
use super::super::scan::{Form, Found};
use super::super::words::{self, count, short};
use super::{Finder, Kind, Severity};
use crate::options::{Inquiry, Limits};
use crate::wal::flaw::Flaw;
use crate::wal::name::SegmentName;

/// A standby that has not renewed its registration for this long may be gone.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// So many segments that are not ready are named; of the others the number is.
const MOST_NAMED: usize = 5;

impl Finder<'_> {
    pub(super) fn look_at_archive(&mut self, inquiry: &Inquiry) {
        if let Some(failure) = &self.status.scan.failure {
            let remedy = "mount it, or correct the path; the standby waits until it answers";
            return self.critical(Kind::Archive, failure.clone(), remedy);
        }
        self.look_for_holes();
        self.look_at_segments();
        self.look_at_times();
        self.look_at_what_is_asked_for();
        self.look_for_later_timeline();
        self.look_at_histories();
        self.look_for_missing_history();
        self.look_at_room();
        self.look_at_registered();
        self.compare_with_limits(inquiry);
    }

    fn look_for_holes(&mut self) {
        let needed = |hole: &&Hole| hole.is_needed;
        for hole in self.status.holes.iter().flatten().filter(needed) {
            let Hole { first, count: number, next, last, .. } = hole;
            let missing = match number {
                1 => format!("{first} is missing"),
                number => format!("{first} and {} more are missing", number.saturating_sub(1)),
            };
            let there = if next == last {
                format!("{} is there", short(*next, *first))
            } else {
                format!("{} to {} are there", short(*next, *first), short(*last, *first))
            };
            let version = self.status.standby.as_ref().and_then(|standby| standby.version);
            let is_old = version.is_some_and(|version| version < (10, 0));
            let wal = if is_old { "pg_xlog" } else { "pg_wal" };
            let remedy = format!("on the primary: ls {wal}/{first}; send it again");
            let only = self.other_form(*first).map(|found| found.suffix);
            let only = only.map(|suffix| format!(" (there is only its {suffix})"));
            let only = only.unwrap_or_default();
            self.critical(Kind::Hole, format!("{missing}{only}, {there}"), remedy);
        }
    }

    /// A file of the segment that cannot be handed over as the segment.
    fn other_form(&self, name: SegmentName) -> Option<&Found> {
        let files = &self.status.scan.files;
        files.iter().find(|found| found.name == name && !found.form.is_whole())
    }

    fn look_at_segments(&mut self) {
        let status = self.status;
        let of_another_cluster =
            |it: &&NotReady| matches!(it.why, Why::Flaw(Flaw::SystemIdentifier { .. }));
        let strange = status.checks.not_ready.iter().filter(of_another_cluster);
        if let Some(first) = strange.clone().next() {
            let more = match strange.count().saturating_sub(1) {
                0 => String::new(),
                more => format!(", and {} as well", count(more, "other segment")),
            };
            self.critical(
                Kind::Cluster,
                format!("{} is {}{more}", first.name, first.why),
                "find out which primary archives here; each cluster needs a directory of its own",
            );
        }
        let asked = status.asked.map(|asked| asked.segment.position);
        let is_needed = |it: &NotReady| asked.is_none_or(|asked| it.name.position >= asked);
        let is_bad = |it: &&NotReady| !of_another_cluster(it) && !it.is_arriving(status.now);
        // What the standby will ask for comes first.
        let mut bad: Vec<_> = status.checks.not_ready.iter().filter(is_bad).collect();
        bad.sort_by_key(|it| !is_needed(it));
        for it in bad.iter().take(MOST_NAMED) {
            let severity = if is_needed(it) { Severity::Critical } else { Severity::Warning };
            let what = format!("{} is not ready: {}", it.name, it.why);
            let remedy = if matches!(it.why, Why::Unreadable(_)) {
                "make it readable for the server's user, or send it again"
            } else if is_needed(it) {
                "send it again from the primary's archive or its WAL directory"
            } else {
                "the standby is past it; other standbys and backups may need it"
            };
            self.add(severity, Kind::Segment, what, remedy);
        }
        let rest = bad.get(MOST_NAMED..).unwrap_or_default();
        if let Some(first) = rest.first() {
            let severity = if is_needed(first) { Severity::Critical } else { Severity::Warning };
            let what = format!("{} more are not ready", count(rest.len(), "segment"));
            self.add(severity, Kind::Segment, what, "--status=json names them all");
        }
    }

    /// Where a segment's time is wrong, nobody knows when the last one came.
    fn look_at_times(&mut self) {
        let status = self.status;
        let ahead: Vec<_> = status
            .scan
            .whole()
            .filter_map(|found| Some((status.is_ahead(found.modified?)?, found.file_name())))
            .collect();
        let Some((by, name)) = ahead.iter().max() else { return };
        let others = match ahead.len().saturating_sub(1) {
            0 => String::new(),
            others => format!(", and {} as well", count(others, "other segment")),
        };
        self.warn(
            Kind::Unknown,
            format!(
                "when {name} came is not known: its time is {} ahead{others}",
                words::time(*by)
            ),
            "set the clock of the machine that wrote it; touch(1) corrects the file's time",
        );
    }

    fn look_at_what_is_asked_for(&mut self) {
        let status = self.status;
        let is_there = |name| status.scan.whole().any(|found| found.name == name);
        let waiting = status.asked.filter(|asked| !asked.is_replayed).map(|asked| asked.segment);
        let other = waiting.filter(|name| !is_there(*name)).and_then(|name| self.other_form(name));
        let call = status.standby.as_ref().and_then(|standby| standby.calls.call.as_ref());
        let takes_partial = call.is_some_and(|call| call.options.partial.is_some());
        let Some(found) = other else { return self.look_for_emptiness() };
        let file = found.file_name();
        if found.form == Form::Unread {
            self.critical(
                Kind::Form,
                format!("there is only {file}, which is not read"),
                "decompress it; .gz, .lz4 and .zst are read as they are",
            );
        } else if !takes_partial {
            self.warn(
                Kind::Form,
                format!("there is only {file}, which is not read without --partial"),
                "add --partial to the restore_command, or wait for the whole segment",
            );
        }
    }

    fn look_for_emptiness(&mut self) {
        let status = self.status;
        if status.scan.whole().next().is_some() {
            return;
        }
        // One that has come so far may wait until the primary has something to archive.
        let is_consistent = status.standby.as_ref().is_some_and(|it| !it.may_be_inconsistent);
        let severity = if is_consistent { Severity::Warning } else { Severity::Critical };
        let unread = status.scan.files.iter().find(|it| !it.form.is_whole());
        let only = unread.map(|it| format!(" that can be restored, only {}", it.file_name()));
        self.add(
            severity,
            Kind::Empty,
            format!("the archive holds no segment{}", only.unwrap_or_default()),
            "on the primary: check archive_command, and select * from pg_stat_archiver",
        );
    }

    fn look_at_room(&mut self) {
        let segment = self.status.checks.numbering.map(|numbering| numbering.segment_size);
        let free = self.status.scan.file_system.as_ref().map(|file_system| file_system.free);
        if let (Some(segment), Some(free)) = (segment, free) {
            if free < u64::from(segment) {
                self.critical(
                    Kind::Full,
                    format!("{} are free, less than a segment", words::size(free)),
                    "make room: the primary cannot archive any more",
                );
            }
        }
    }

    fn look_at_registered(&mut self) {
        if let Some(failure) = &self.status.scan.unlisted {
            let what = format!("{failure}; nothing is pruned");
            let remedy = "it has to be a directory that the server's user can read";
            self.warn(Kind::Standby, what, remedy);
        }
        for it in &self.status.scan.registered {
            let name = words::name(&it.name);
            let age = self.status.age(it.renewed);
            match &it.needed {
                Err(why) => self.warn(
                    Kind::Standby,
                    format!("the registration of {name} {why}; nothing is pruned"),
                    format!(
                        "remove .pg_standby/{name}, and write a file with the oldest segment that it needs"
                    ),
                ),
                Ok(needed) if age >= STALE => self.warn(
                    Kind::Standby,
                    format!(
                        "{name} has been silent for {}; nothing is pruned from {needed} on",
                        words::time(age)
                    ),
                    format!("start it, or remove .pg_standby/{name} if it is gone"),
                ),
                Ok(_) => {}
            }
        }
    }

    fn compare_with_limits(&mut self, inquiry: &Inquiry) {
        let behind = self.status.behind().and_then(|behind| u64::try_from(behind).ok());
        if let Some((severity, limit, behind)) = exceeds(inquiry.behind, behind) {
            let what = format!("{} behind, the limit is {limit}", count(behind, "segment"));
            self.add(
                severity,
                Kind::Behind,
                what,
                "the standby replays more slowly than WAL comes",
            );
        }
        let newest = self.status.newest().map(|(_, arrived)| self.status.age(arrived).as_secs());
        if let Some((severity, limit, silent)) = exceeds(inquiry.silent, newest) {
            let [silent, limit] = [silent, limit].map(|it| words::time(Duration::from_secs(it)));
            self.add(
                severity,
                Kind::Silent,
                format!("nothing has come for {silent}, the limit is {limit}"),
                "on the primary: check archive_command and archive_timeout",
            );
        }
    }
}

/// How bad a value is, by which limit.
fn exceeds(limits: Limits, value: Option<u64>) -> Option<(Severity, u64, u64)> {
    let value = value?;
    let limits = [(Severity::Critical, limits.critical), (Severity::Warning, limits.warning)];
    limits.into_iter().find_map(|(severity, limit)| {
        limit.filter(|limit| value > *limit).map(|limit| (severity, limit, value))
    })
}
