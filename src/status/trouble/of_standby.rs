//! What is wrong with the standby itself, and with its trigger file.

use std::fs;
use std::path::Path;

use super::super::standby::{Standby, Trigger};
use super::super::words;
use super::{Finder, Kind};
use crate::data_directory::WAL_DIRECTORIES;
use crate::promotion;

impl Finder<'_> {
    pub(super) fn look_at_standby(&mut self, standby: &Standby) {
        if standby.recovery_file.is_none() {
            self.critical(
                Kind::Primary,
                "the server is not in recovery: it has been promoted, or is no standby".to_owned(),
                "if nobody asked for that, make sure that only one primary is running",
            );
        } else if standby.pid.is_none() {
            self.critical(
                Kind::Stopped,
                "the standby does not run".to_owned(),
                "its log says why; start it, and it resumes where it left off",
            );
        }
        self.look_at_consistency(standby);
        self.look_at_own_room(standby);
        if let Err(failure) = &standby.system_identifier {
            let remedy = "run this as the server's user";
            self.warn(Kind::Unknown, failure.clone(), remedy);
        }
        if let Some(call) = &standby.calls.call {
            let reads = &call.options.archive_location;
            let path = standby.data_directory.join(reads);
            if !is_same(&path, &self.status.location) {
                self.warn(
                    Kind::Elsewhere,
                    format!("the standby waits for files in another archive, {reads:?}"),
                    "name that archive instead of this one",
                );
            }
        }
    }

    /// A server that waits before it is consistent has no use for a failover: it would stop.
    fn look_at_consistency(&mut self, standby: &Standby) {
        let waits = self.status.asked.is_some_and(|asked| asked.since.is_some());
        let tells = standby.version.is_some_and(|version| version >= (10, 0));
        let is_starting = tells && standby.may_be_inconsistent && standby.pid.is_some();
        let has_segments = self.status.scan.whole().next().is_some();
        if waits && is_starting && has_segments && self.status.behind() == Some(0) {
            self.warn(
                Kind::Consistency,
                "the standby is not consistent yet, and would stop at a failover".to_owned(),
                "it waits for later WAL; on an idle primary: checkpoint, then select pg_switch_wal()",
            );
        }
    }

    fn look_at_own_room(&mut self, standby: &Standby) {
        let segment = self.status.checks.numbering.map(|numbering| numbering.segment_size);
        let rooms = WAL_DIRECTORIES.into_iter().filter_map(|wal| {
            Some((standby.data_directory.join(wal), fs2::available_space(wal).ok()?))
        });
        for (wal_directory, free) in rooms {
            if segment.is_some_and(|segment| free < u64::from(segment)) {
                let free = words::size(free);
                self.critical(
                    Kind::Full,
                    format!("{free} are free in {wal_directory:?}, less than a segment"),
                    "make room: the standby cannot be given the next one",
                );
            }
        }
    }

    pub(super) fn look_at_trigger(&mut self, standby: &Standby) {
        let may_promote = standby.recovery_file.is_some();
        if standby.is_to_promote && may_promote {
            self.warn(
                Kind::Trigger,
                "pg_ctl promote or pg_promote() has asked for failover".to_owned(),
                "recovery ends before the first segment that is not ready",
            );
        }
        let Some((path, trigger)) = &standby.trigger else { return };
        if standby.is_in_standby_mode && !promotion::is_known() {
            self.warn(
                Kind::Trigger,
                "-t does not work in the standby mode of PostgreSQL 9.0".to_owned(),
                "use the trigger_file of its recovery.conf",
            );
        }
        match trigger {
            Trigger::None => {}
            Trigger::Request { word, owner } => {
                let remedy = match (standby.pid, may_promote) {
                    (Some(_), true) => {
                        "recovery will end; that is as it was asked for, or remove the file"
                    }
                    (None, true) => "remove it, or the standby promotes once it is started",
                    (_, false) => "remove it, or the next standby that is given it promotes",
                };
                let what = format!("trigger file {path:?} of {owner} asks for failover ({word})");
                self.warn(Kind::Trigger, what, remedy);
            }
            Trigger::Ignored(why) => self.warn(
                Kind::Trigger,
                format!("trigger file {path:?} is ignored: {why}"),
                "write \"smart\" or \"fast\" into it, or remove it",
            ),
        }
    }
}

/// Returns whether two paths lead to the same directory, as far as that can be told.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => true,
    }
}
