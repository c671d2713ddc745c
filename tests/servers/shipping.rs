//! Segments that are followed while they are received: what was acknowledged is there after a failover, and rows come in
//! mid-segment. With `pg_receivewal`, and on each version with a stand-in for it.
//!
//! `PG_STANDBY_ROUNDS=20` repeats the crashes, `PG_STANDBY_SECONDS=600` has the long one take ten minutes.

use std::env::var;
use std::fs;
use std::time::{Duration, Instant};

use crate::machine::{Installation, Machine, PATIENCE, Result, Server, wait_for};
use crate::pair::{PG_STANDBY, Pair, ROWS};
use crate::shipment::{
    Acknowledged, Copier, Home, Load, Receiver, change, crash, current_segment, make_synchronous,
    partials_in, received, shipped_pair,
};

tests_on_every_version!(
    rows_come_in_mid_segment_and_a_smart_failover_has_the_last_one,
    outside_standby_mode_a_smart_failover_replays_what_was_received,
);

/// No look is due within [`PATIENCE`], and hand-overs are as close as they may be.
const SOON: &str = "-s 60 --partial=0.05";

/// What two servers must agree on.
const CONTENT: &str = "select concat_ws(' ', count(*), sum(number::bigint), sum(hashint4(number)::bigint)) from orders";

/// A whole number from the environment.
fn setting(name: &str, default: u32) -> u32 {
    var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Adds ten rows in one transaction.
fn insert_ten(pair: &mut Pair) -> Result<()> {
    pair.primary.sql("insert into orders select generate_series(1, 10)")?;
    pair.rows = pair.rows.saturating_add(10);
    Ok(())
}

fn rows_come_in_mid_segment_and_a_smart_failover_has_the_last_one(major: u32) -> Result<()> {
    let machine = Machine::new(major, PG_STANDBY)?;
    let mut pair = shipped_pair(machine, &[], Home::StandbyMode, SOON)?;
    let copier = Copier::start(&pair)?;
    pair.standby.start()?;
    insert_ten(&mut pair)?;
    pair.standby_sees_every_row()?;
    let segment = current_segment(&pair.primary)?;
    for _ in 0..10 {
        insert_ten(&mut pair)?;
        pair.standby_sees_every_row()?;
    }
    assert_eq!(current_segment(&pair.primary)?, segment, "a segment is long enough for this");
    assert_eq!(partials_in(&pair.machine.archive())?, [format!("{segment}.partial")]);
    // From a partial segment to the whole one and on to the next partial one.
    for _ in 0..3 {
        pair.primary.sql("select pg_switch_wal()")?;
        insert_ten(&mut pair)?;
        pair.standby_sees_every_row()?;
    }
    pair.assert_still_a_standby()?;
    insert_ten(&mut pair)?;
    let (_, bytes) = received(&pair.primary)?;
    wait_for("the last rows in the archive", PATIENCE, || holds(&pair, &bytes))?;
    crash(&mut pair.primary)?;
    copier.stop()?;
    pair.machine.ask_for_failover("smart")?;
    let rows = pair.rows;
    pair.assert_failed_over_with(rows)?;
    let log = pair.standby.log();
    assert_eq!(log.matches("received promote request").count(), 1, "{log}");
    Ok(())
}

/// Returns whether the archive has everything in a partial segment that these bytes have.
fn holds(pair: &Pair, bytes: &[u8]) -> Result<bool> {
    let archive = pair.machine.archive();
    let valid = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    for name in partials_in(&archive)? {
        let found = fs::read(archive.join(name))?;
        if found.get(..=valid) == bytes.get(..=valid) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn outside_standby_mode_a_smart_failover_replays_what_was_received(major: u32) -> Result<()> {
    let machine = Machine::new(major, PG_STANDBY)?;
    let mut pair = shipped_pair(machine, &[], Home::Plain, SOON)?;
    let copier = Copier::start(&pair)?;
    pair.standby.start()?;
    insert_ten(&mut pair)?;
    pair.primary.sql("select pg_switch_wal()")?;
    pair.standby_sees_every_row()?;
    insert_ten(&mut pair)?;
    let (_, bytes) = received(&pair.primary)?;
    wait_for("the last rows in the archive", PATIENCE, || holds(&pair, &bytes))?;
    crash(&mut pair.primary)?;
    copier.stop()?;
    // Nobody asks for failover: nothing is handed over that would end recovery.
    pair.assert_still_a_standby()?;
    assert_eq!(pair.standby.value(ROWS)?, (pair.rows - 10).to_string());
    pair.machine.ask_for_failover("smart")?;
    let rows = pair.rows;
    pair.assert_failed_over_with(rows)?;
    assert!(pair.standby.log().contains("with the last whole record of"), "{}", pair.standby.log());
    Ok(())
}

fn with_receiver(home: Home, initdb_options: &[&str], options: &str) -> Result<Pair> {
    let installation = Installation::with("pg_receivewal")?;
    shipped_pair(Machine::on(installation, PG_STANDBY)?, initdb_options, home, options)
}

/// The primary is killed under load while `pg_receivewal` is its synchronous standby.
fn nothing_acknowledged_is_lost(home: Home, options: &str) -> Result<()> {
    for round in 1..=setting("PG_STANDBY_ROUNDS", 2) {
        let mut pair = with_receiver(home, &[], options)?;
        let receiver = Receiver::start(&pair.machine, &pair.primary)?;
        pair.standby.start()?;
        make_synchronous(&pair.primary)?;
        let load = Load::on(&pair.primary, 0)?;
        // A place in a segment, or in the one after it, that is another one in each round.
        load.wait_for(round * 97)?;
        if round % 2 == 0 {
            pair.primary.sql("select pg_switch_wal()")?;
            load.wait_for(round * 97 + 150)?;
        }
        crash(&mut pair.primary)?;
        let acknowledged = load.finish();
        assert!(acknowledged.numbers.len() > 90);
        acknowledged.survives_a_smart_failover(&mut pair)?;
        drop(receiver);
    }
    Ok(())
}

#[test]
fn in_standby_mode_nothing_acknowledged_is_lost_when_the_primary_is_killed() -> Result<()> {
    nothing_acknowledged_is_lost(Home::StandbyMode, SOON)
}

#[test]
fn outside_standby_mode_nothing_acknowledged_is_lost_when_the_primary_is_killed() -> Result<()> {
    nothing_acknowledged_is_lost(Home::Plain, SOON)
}

/// A primary whose segments of 1 MB are shipped to a standby, and to a server that will take its place.
struct Relay {
    pair: Pair,
    heir: Server,
    receiver: Option<Receiver>,
    acknowledged: Vec<Acknowledged>,
    series: i32,
}

impl Relay {
    fn new() -> Result<Self> {
        let mut pair = with_receiver(Home::StandbyMode, &["--wal-segsize=1"], SOON)?;
        let receiver = Some(Receiver::start(&pair.machine, &pair.primary)?);
        pair.standby.start()?;
        // Nothing is pruned, as two follow.
        let command = pair.machine.restore_command(SOON).replace("/trigger", "/trigger-of-heir");
        let command = command.trim_end_matches(" %r");
        pair.standby_sees_every_row()?;
        pair.standby.stop_fast()?;
        let standby = pair.machine.restore_command(SOON);
        pair.standby.set_restore_command(standby.trim_end_matches(" %r"))?;
        pair.standby.start()?;
        let heir = pair.primary.warm_standby("heir", command)?;
        heir.enter_standby_mode(command, None)?;
        heir.set("wal_retrieve_retry_interval", "50ms")?;
        heir.set("max_wal_size", "1GB")?;
        let mut relay = Self { pair, heir, receiver, acknowledged: Vec::new(), series: 0 };
        relay.heir.start()?;
        Ok(relay)
    }

    fn primary(&self) -> &Server {
        if self.is_failed_over() { &self.heir } else { &self.pair.primary }
    }

    fn is_failed_over(&self) -> bool {
        self.pair.machine.archive().join("00000002.history").exists()
    }

    fn restart_receiver(&mut self, hard: bool) -> Result<()> {
        if let Some(receiver) = self.receiver.take() {
            if hard { receiver.kill(self.primary())? } else { receiver.stop()? }
        }
        Ok(())
    }

    fn restart_standby(&mut self, hard: bool) -> Result<()> {
        if hard {
            self.pair.standby.stop_immediate()?
        } else {
            self.pair.standby.stop_fast()?
        };
        self.pair.standby.start()
    }

    /// One load, during which `deed` is done, and the same rows on both sides after it.
    fn turn(&mut self, deed: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let load = Load::on(self.primary(), self.series)?;
        self.series += 1;
        load.wait_for(100)?;
        deed(self)?;
        load.wait_for(400)?;
        if self.receiver.is_none() {
            self.receiver = Some(Receiver::start(&self.pair.machine, self.primary())?);
            load.wait_for(600)?;
        }
        self.acknowledged.push(load.finish());
        self.same_rows()
    }

    fn same_rows(&mut self) -> Result<()> {
        let content = self.primary().value(CONTENT)?;
        let same = self.pair.standby.wait_until(CONTENT, &content, PATIENCE);
        same.map_err(|failure| self.primary().with_log(&failure))?;
        assert!(self.pair.standby.is_in_recovery()?);
        Ok(())
    }

    /// The heir becomes the primary, and the receiver goes on with it. The old primary goes on as well, and what it writes
    /// comes into the archive.
    fn fail_over(&mut self) -> Result<()> {
        let content = self.pair.primary.value(CONTENT)?;
        self.heir.wait_until(CONTENT, &content, PATIENCE)?;
        self.receiver.take();
        self.heir.promote()?;
        self.heir.wait_for_promotion()?;
        self.receiver = Some(Receiver::start(&self.pair.machine, &self.heir)?);
        wait_for("the history file", PATIENCE, || Ok(self.is_failed_over()))?;
        self.pair.primary.sql("insert into orders select -1 from generate_series(1, 500)")?;
        let (name, bytes) = received(&self.pair.primary)?;
        let partial = self.pair.machine.archive().join(format!("{name}.partial"));
        self.pair.machine.write(&partial, bytes)?;
        self.heir.sql("insert into orders values (0), (0), (0)")?;
        self.same_rows()?;
        // As a whole segment, it is what the server asks for whenever its own timeline has no more.
        self.pair.primary.sql("select pg_switch_wal()")?;
        let whole = self.pair.primary.data.join("pg_wal").join(&name);
        self.pair.machine.copy(&whole, &self.pair.machine.archive().join(&name))?;
        self.heir.sql("insert into orders values (0), (0), (0)")?;
        self.same_rows()?;
        self.heir.sql("delete from orders where number = 0")?;
        self.same_rows()
    }

    fn round(&mut self) -> Result<()> {
        self.turn(|_| Ok(()))?;
        self.turn(|it| it.restart_receiver(true))?;
        self.turn(|it| it.restart_standby(false))?;
        self.turn(|it| it.primary().sql("select pg_switch_wal()"))?;
        self.turn(|it| it.restart_receiver(false))?;
        self.turn(|it| it.restart_standby(true))?;
        self.turn(|it| {
            it.restart_receiver(true)?;
            it.restart_standby(false)
        })?;
        self.turn(|it| {
            it.primary().sql("checkpoint")?;
            it.pair.standby.sql("checkpoint")
        })
    }
}

#[test]
fn segment_after_segment_the_standby_has_the_same_rows_over_restarts_and_a_failover() -> Result<()>
{
    let limit = Duration::from_secs(u64::from(setting("PG_STANDBY_SECONDS", 20)));
    let begin = Instant::now();
    let mut relay = Relay::new()?;
    change(&relay.pair.primary, "checkpoint_timeout", "30s")?;
    while begin.elapsed() < limit / 2 {
        relay.round()?;
    }
    relay.fail_over()?;
    relay.round()?;
    while begin.elapsed() < limit {
        relay.round()?;
    }
    assert_eq!(relay.pair.standby.value("select min(number) > 0 from orders")?, "t");
    Acknowledged::of_all(relay.acknowledged).survives_a_smart_failover(&mut relay.pair)
}
