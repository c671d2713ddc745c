//! Primary, archive and warm standby, what can be done to them, and what must hold whatever is done.

/// Archiving is held up, and the next segment is the test's.
mod archiving;
/// The standby is stopped, ends by itself, and is started again.
mod restarts;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::SimpleQueryMessage;

use crate::load::{LAST_ROW, Load, NONE_MISSING, ROWS};
use crate::log::Log;
use crate::machine::{Failure, Machine, PATIENCE, Result, Server, wait_for};
use crate::random::Random;
use crate::terminal::Interrupted;

pub use restarts::{Stop, end};

const STATE: &str =
    "select concat_ws(' ', pg_is_in_recovery(), timeline_id) from pg_control_checkpoint()";
const LOOK: Duration = Duration::from_millis(50);

pub struct Stage {
    pub load: Load,
    pub standby: Server,
    pub primary: Server,
    pub machine: Arc<Machine>,
    pub random: Random,
    pub log: Log,
    pub restarts: u64,
    interrupted: Interrupted,
    /// What may be the reason when the standby ends by itself.
    excuses: Vec<&'static str>,
}

impl Stage {
    /// Both servers run, and the standby has rows.
    ///
    /// # Errors
    /// What did not work.
    pub fn set(
        machine: &Arc<Machine>,
        mut random: Random,
        interrupted: Interrupted,
    ) -> Result<Self> {
        let small: &[&str] =
            if machine.installation.major >= 11 { &["--wal-segsize=1"] } else { &[] };
        let path = |name| machine.path().join(name).display().to_string();
        let mut primary = machine.primary(small)?;
        let archive = machine.archive();
        let archive_command =
            format!("test ! -e {} && cp %p {}/%f", path("held"), archive.display());
        primary.set("archive_command", &archive_command)?;
        // Each call of the command gets the limit anew, so that it can come and go while the server runs.
        let restore_command = format!(
            "if test -e {}; then ulimit -f 100; fi; exec {}",
            path("limited"),
            machine.restore_command("-s 1 -r 3 --standby-name soak")
        );
        let standby = primary.warm_standby("standby", &restore_command)?;
        primary.start_and_wait()?;
        let load = Load::on(&primary, Random::new(random.between(0, u64::MAX)))?;
        let log = Log::at(machine.path().join("standby.log"));
        let mut stage = Self {
            load,
            standby,
            primary,
            machine: machine.clone(),
            random,
            log,
            restarts: 0,
            interrupted,
            excuses: Vec::new(),
        };
        stage.standby.start()?;
        stage.wait("the first segment", |stage| Ok(stage.load.shipped() > 0))?;
        stage.catch_up()?;
        Ok(stage)
    }

    /// Looks at everything that must hold whatever is done: nothing is promoted, and the primary works.
    ///
    /// # Errors
    /// Something does not hold.
    pub fn look(&mut self) -> Result<()> {
        self.interrupted.check()?;
        self.load.check()?;
        self.log.read_on()?;
        for place in [self.machine.archive(), self.standby.data.join("pg_wal")] {
            let history = place.join("00000002.history");
            if history.exists() {
                return Err(Failure::new(format!("nobody asked for {}", history.display())));
            }
        }
        match self.answer(STATE).as_deref() {
            None | Some("t 1") => Ok(()),
            Some(other) => Err(Failure::new(format!(
                "in recovery and timeline of the standby: {other}, and not t 1"
            ))),
        }
    }

    /// Waits until `condition` holds, and looks all the time.
    ///
    /// # Errors
    /// It does not within the deadline.
    pub fn wait(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<Duration> {
        wait_for(what, PATIENCE, || {
            self.look()?;
            condition(self)
        })
    }

    /// Looks for so long.
    ///
    /// # Errors
    /// Something does not hold.
    pub fn linger(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            self.look()?;
            let rest = time.saturating_sub(begin.elapsed());
            if rest.is_zero() {
                return Ok(());
            }
            sleep(rest.min(LOOK));
        }
    }

    /// What the standby answers, if it does.
    fn answer(&self, query: &str) -> Option<String> {
        let messages = self.standby.connect().ok()?.simple_query(query).ok()?;
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(Into::into),
            _ => None,
        })
    }

    /// Waits until the standby has every row that is in a segment which has ended by now, and no row is missing. A
    /// standby that ends meanwhile with an excuse is started again.
    ///
    /// # Errors
    /// It does not get there within the deadline.
    pub fn catch_up(&mut self) -> Result<Duration> {
        let target = self.load.shipped();
        let mut last = String::from("no answer");
        let caught_up = self.wait("the last archived row on the standby", |stage| {
            stage.revive()?;
            let Some(answer) = stage.answer(LAST_ROW) else { return Ok(false) };
            let seen: u64 = answer.parse()?;
            last = answer;
            Ok(seen >= target)
        });
        let took =
            caught_up.map_err(|failure| Failure::new(format!("{failure}: {last} of {target}")))?;
        self.wait("rows without a gap on the standby", |stage| {
            stage.revive()?;
            match stage.answer(NONE_MISSING).as_deref() {
                Some("t") => Ok(true),
                None => Ok(false),
                Some(_) => Err(Failure::new(format!(
                    "count, sum, last and hash of the standby's rows do not fit together: {}",
                    stage.answer(ROWS).unwrap_or_default()
                ))),
            }
        })?;
        Ok(took)
    }

    pub fn limited(&self) -> PathBuf {
        self.machine.path().join("limited")
    }

    pub fn segment_size(&self) -> u64 {
        if self.primary.major() >= 11 { 1 << 20 } else { 1 << 24 }
    }

    /// The one promotion that is asked for: all rows of the primary are there.
    ///
    /// # Errors
    /// They are not, or it is not done once.
    pub fn fail_over(&mut self) -> Result<(Duration, String)> {
        self.excuse(&[]);
        // With segments that are ready and that it has not read: what a smart failover must not lose.
        let stopped = self.random.happens(50);
        if stopped {
            self.stop(Stop::Fast)?;
        } else {
            self.standby.sql("select pg_wal_replay_pause()")?;
        }
        self.linger(Duration::from_secs(3))?;
        self.load.finish()?;
        self.primary.switch_wal()?;
        self.machine.ask_for_failover("smart")?;
        if stopped {
            self.start()?;
        } else {
            self.standby.sql("select pg_wal_replay_resume()")?;
        }
        let took = self.standby.wait_for_promotion()?;
        let rows = self.primary.value(ROWS)?;
        let here = self.standby.value(ROWS)?;
        if here != rows {
            return Err(Failure::new(format!(
                "count, sum, last and hash of the rows on the promoted standby: {here}; on the primary: {rows}"
            )));
        }
        self.standby.wait_for_timeline("2")?;
        let log = self.standby.log();
        for words in [
            "selected new timeline ID: 2",
            "archive recovery complete",
            ": smart failover requested by",
        ] {
            // The last but one request of the server is refused as well, and from 15 on twice.
            let count = log.matches(words).count();
            if count == 0 || count > 1 && !words.starts_with(':') {
                return Err(Failure::new(format!("{count} times in the standby's log: {words}")));
            }
        }
        Ok((took, rows))
    }
}
