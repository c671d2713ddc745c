//! A primary and the servers that were its standbys: who is promoted when, and who goes on alone.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BLIND, Way};
use crate::machine::{Doing, Machine, PATIENCE, Result, Server};
use crate::pair::{PG_STANDBY, ROWS};

/// A primary and what becomes of its standbys, before the line that the standbys follow is laid down.
pub(super) struct Cast {
    pub(super) machine: Arc<Machine>,
    pub(super) primary: Server,
    /// Will be promoted, one after the other. Each archives into a directory of its own.
    pub(super) heirs: Vec<Server>,
    pub(super) standbys: Vec<(Way, Server)>,
}

impl Cast {
    pub(super) fn new(major: u32, ways: &[Way], heirs: &[&str]) -> Result<Self> {
        let machine = Machine::new(major, PG_STANDBY)?;
        let small: &[&str] = if major >= 11 { &["--wal-segsize=1"] } else { &[] };
        let mut primary = machine.primary(small)?;
        let command = |options: &str| {
            // Nothing is pruned: several follow, and none of them for long.
            machine.restore_command(options).trim_end_matches(" %r").to_owned()
        };
        let mut standbys = Vec::new();
        for way in ways {
            let command = command(way.options());
            let standby = primary.warm_standby(&format!("{way:?}"), &command)?;
            if way.is_in_standby_mode() {
                standby.enter_standby_mode(&command, None)?;
            }
            follows_the_latest(&standby)?;
            standbys.push((*way, standby));
        }
        let mut promoted = Vec::new();
        for name in heirs {
            let heir = primary.warm_standby(name, &command(BLIND))?;
            let held = held(&machine, name);
            machine.make_directory(&held)?;
            heir.set("archive_mode", "on")?;
            heir.set("archive_command", &format!("cp %p {}/%f", held.display()))?;
            promoted.push(heir);
        }
        primary.start_and_wait()?;
        primary.sql("create table orders (number int)")?;
        for _ in 0..2 {
            primary.sql("insert into orders select generate_series(1, 100)")?;
            primary.switch_wal()?;
        }
        Ok(Self { machine, primary, heirs: promoted, standbys })
    }

    /// What every standby is given.
    pub(super) const ROWS: u32 = 200;

    /// Promotes an heir once it has so many rows, and hands its history file over to all. Gives its line.
    pub(super) fn promote(&mut self, heir: usize, rows: u32) -> Result<Vec<(String, String)>> {
        let timeline = format!("0000000{}.history", heir + 2);
        let heir = &mut self.heirs[heir];
        heir.wait_until(ROWS, &rows.to_string(), PATIENCE)?;
        heir.promote()?;
        heir.wait_for_promotion()?;
        let incoming = self.machine.archive().join("incoming");
        self.machine.copy(&heir.data.join("pg_wal").join(&timeline), &incoming)?;
        fs::rename(incoming, self.machine.archive().join(&timeline))?;
        line(heir, &timeline)
    }

    /// Has an heir stream from the primary, or from the heir before it.
    pub(super) fn streams(&mut self, heir: usize) -> Result<()> {
        let (before, after) = self.heirs.split_at_mut(heir);
        let source = before.last().unwrap_or(&self.primary);
        let command = self.machine.restore_command("--no-wait");
        after[0].enter_standby_mode(command.trim_end_matches(" %r"), Some(source))?;
        follows_the_latest(&after[0])?;
        after[0].start()
    }

    /// Nobody follows the primary any more, and it goes on. Gives the segment in which it does.
    pub(super) fn primary_goes_on(&self) -> Result<String> {
        self.primary.sql("insert into orders values (-1)")?;
        let dead = self.primary.switch_wal()?;
        self.primary.sql("insert into orders values (-2)")?;
        self.primary.switch_wal()?;
        Ok(dead)
    }

    /// The last heir goes on with ten rows, and keeps the segment to itself.
    pub(super) fn timeline_goes_on(&self) -> Result<String> {
        let heir = &self.heirs[self.heirs.len() - 1];
        heir.sql("insert into orders select generate_series(1, 10)")?;
        heir.switch_wal_into(&held(&self.machine, &heir.name))
    }
}

/// Where the segments of an heir are until the test hands them over.
pub(super) fn held(machine: &Machine, heir: &str) -> PathBuf {
    machine.path().join(format!("held-by-{heir}"))
}

/// From 12 on they do so by default.
fn follows_the_latest(standby: &Server) -> Result<()> {
    standby.set("wal_retrieve_retry_interval", "100ms")?;
    match standby.major() {
        10 | 11 => standby.set_recovery("recovery_target_timeline", "latest"),
        _ => Ok(()),
    }
}

/// What a history file in a server's WAL directory says: timelines, and where each was left.
pub(super) fn line(server: &Server, name: &str) -> Result<Vec<(String, String)>> {
    let path = server.data.join("pg_wal").join(name);
    let text = fs::read_to_string(&path).doing(path.display())?;
    let fields = text.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    Ok(fields.collect())
}

/// The first byte of a segment in the archive, or of one that comes so many after it, as a history file writes it.
pub(super) fn first_byte(machine: &Machine, segment: &str, after: u64) -> Result<String> {
    let size = fs::metadata(machine.archive().join(segment)).doing(segment)?.len();
    let number = u64::from_str_radix(&segment[16..], 16)? + after;
    Ok(format!("0/{:X}", number * size))
}
