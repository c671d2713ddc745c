//! A primary and its warm standby, and what every test of the two asks them.

use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Failure, Machine, PATIENCE, Result, Server};

/// The program that was built with the tests.
pub const PG_STANDBY: &str = env!("CARGO_BIN_EXE_pg_standby");

/// How many rows a server has.
pub const ROWS: &str = "select count(*) from orders";
const ROWS_A_SEGMENT: u32 = 1000;

/// A running primary with a table, and a standby that does not run yet.
pub struct Pair {
    pub machine: Arc<Machine>,
    pub primary: Server,
    pub standby: Server,
    /// How many rows the primary has.
    pub rows: u32,
}

impl Pair {
    pub fn new(major: u32, restore_command: impl FnOnce(&Machine) -> String) -> Result<Self> {
        Self::on(Machine::new(major, PG_STANDBY)?, &[], restore_command)
    }

    /// The same on a machine that exists.
    pub fn on(
        machine: Arc<Machine>,
        initdb_options: &[&str],
        restore_command: impl FnOnce(&Machine) -> String,
    ) -> Result<Self> {
        let mut primary = machine.primary(initdb_options)?;
        let standby = primary.warm_standby("standby", &restore_command(&machine))?;
        primary.start_and_wait()?;
        primary.sql("create table orders (number int)")?;
        Ok(Self { machine, primary, standby, rows: 0 })
    }

    /// Adds rows on the primary, in a segment of their own, and waits until it is archived. Returns its name.
    pub fn ship(&mut self) -> Result<String> {
        self.primary
            .sql(&format!("insert into orders select generate_series(1, {ROWS_A_SEGMENT})"))?;
        self.rows = self.rows.saturating_add(ROWS_A_SEGMENT);
        self.primary.switch_wal()
    }

    pub fn standby_sees_every_row(&mut self) -> Result<Duration> {
        self.standby.wait_until(ROWS, &self.rows.to_string(), PATIENCE)
    }

    /// Has the standby find three segments that it has not read, and a trigger file that says `word`, when it is started
    /// again.
    pub fn restart_with_unread_segments(&mut self, word: &str) -> Result<()> {
        self.standby.stop_fast()?;
        for _ in 0..3 {
            self.ship()?;
        }
        self.machine.ask_for_failover(word)?;
        self.standby.start()
    }

    pub fn assert_still_a_standby(&self) -> Result<()> {
        let [recovery, timeline] =
            [self.standby.is_in_recovery()?, self.standby.timeline()? == "1"];
        let history = self.standby.data.join("pg_wal/00000002.history").exists();
        if recovery && timeline && !history {
            return Ok(());
        }
        let failure = Failure::new(format!(
            "no standby any more: recovery {recovery}, timeline 1 {timeline}, history file of 2 {history}"
        ));
        Err(self.standby.with_log(&failure))
    }

    /// Asserts that the standby has become a primary on timeline 2 with `rows` rows, and accepts another one.
    pub fn assert_failed_over_with(&mut self, rows: u32) -> Result<()> {
        self.standby.wait_for_promotion()?;
        assert_eq!(self.standby.value(ROWS)?, rows.to_string());
        self.standby.wait_for_timeline("2")?;
        self.standby.sql("insert into orders values (0)")?;
        assert_eq!(self.standby.value(ROWS)?, rows.saturating_add(1).to_string());
        Ok(())
    }
}
