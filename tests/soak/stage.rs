//! Primary, archive and warm standby, what can be done to them, and what must hold whatever is done.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::SimpleQueryMessage;

use crate::load::{LAST_ROW, Load, NONE_MISSING, ROWS};
use crate::log::{Log, QUIETLY};
use crate::machine::{Doing, Failure, Machine, PATIENCE, Result, Server, wait_for};
use crate::random::Random;
use crate::terminal::Interrupted;

const STATE: &str =
    "select concat_ws(' ', pg_is_in_recovery(), timeline_id) from pg_control_checkpoint()";
const LOOK: Duration = Duration::from_millis(50);

/// How a standby is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Fast,
    Immediate,
    /// `kill -9` of the postmaster.
    Kill,
}

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

    /// From now on the standby may end by itself for these reasons, and for no other.
    pub fn excuse(&mut self, reasons: &[&'static str]) {
        self.excuses = reasons.to_vec();
    }

    /// Starts the standby if it has ended; says why it had.
    ///
    /// # Errors
    /// It had for a reason that is no excuse.
    pub fn revive(&mut self) -> Result<Option<String>> {
        if self.standby.runs()? {
            return Ok(None);
        }
        let reason = self.end()?;
        self.start()?;
        Ok(Some(reason))
    }

    /// Waits until nothing is left of a standby that has ended by itself; gives its reason.
    ///
    /// # Errors
    /// It is no excuse.
    pub fn end(&mut self) -> Result<String> {
        self.standby.wait_for_end()?;
        self.look()?;
        self.check_what_is_left()?;
        let reason = self.log.reason();
        if self.excuses.iter().any(|excuse| reason.starts_with(excuse)) {
            return Ok(reason);
        }
        Err(Failure::new(format!("the standby has ended by itself: {reason}")))
    }

    /// Starts the standby.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&mut self) -> Result<()> {
        self.log.forget();
        self.restarts = self.restarts.saturating_add(1);
        self.standby.start()
    }

    /// Stops the standby, if it has not ended by itself meanwhile, and waits until nothing of it is left.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&mut self, how: Stop) -> Result<Duration> {
        let begin = Instant::now();
        // pg_ctl finds a server that has just been started by this file.
        let pid_file = self.standby.data.join("postmaster.pid");
        self.wait("the standby's postmaster.pid", |stage| {
            let pid = fs::read_to_string(&pid_file).unwrap_or_default();
            let pid = pid.lines().next().unwrap_or_default();
            let named = stage.standby.running("postgres").iter().any(|one| one.to_string() == pid);
            Ok(named || !stage.standby.runs()?)
        })?;
        if !self.standby.runs()? {
            return self.end().map(|_| begin.elapsed());
        }
        let stopped = match how {
            Stop::Fast => self.standby.stop_fast().map(drop),
            Stop::Immediate => self.standby.stop_immediate().map(drop),
            Stop::Kill => {
                self.standby.kill_postmaster().and_then(|()| self.standby.wait_for_end().map(drop))
            }
        };
        match stopped {
            Err(failure) if self.standby.runs()? => return Err(failure),
            Err(_) => self.end().map(drop)?,
            Ok(()) => {
                self.look()?;
                self.check_what_is_left()?;
            }
        }
        Ok(begin.elapsed())
    }

    /// A killed command leaves a whole file or none, and nothing else.
    fn check_what_is_left(&self) -> Result<()> {
        let pg_wal = self.standby.data.join("pg_wal");
        for entry in fs::read_dir(&pg_wal).doing(pg_wal.display())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_segment = name.len() == 24 || name == "RECOVERYXLOG";
            let is_whole = || Ok::<_, Failure>(entry.metadata()?.len() == self.segment_size());
            let is_servers = ["archive_status", "summaries"].contains(&name.as_str())
                || name.starts_with("xlogtemp.");
            if !(is_servers || is_segment && is_whole()?) {
                return Err(Failure::new(format!("{name} was left in the standby's pg_wal")));
            }
        }
        Ok(())
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

    /// The file that a running `pg_standby` has been asked for.
    pub fn wanted(&self) -> Option<String> {
        let archive = self.machine.archive();
        self.standby.running("pg_standby").into_iter().find_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0);
            words.find(|word| *word == archive.as_os_str().as_bytes())?;
            String::from_utf8(words.next()?.into()).ok()
        })
    }

    /// Keeps the primary from archiving, and waits until no copy is on its way any more.
    ///
    /// # Errors
    /// There still is one after the deadline.
    pub fn hold(&mut self) -> Result<()> {
        self.machine.write(&self.held(), "")?;
        self.wait("the end of archiving", |stage| {
            let is_at_work = |program| !stage.primary.running(program).is_empty();
            Ok(!["sh", "cp"].into_iter().any(is_at_work))
        })
        .map(drop)
    }

    /// Lets the primary archive again, what is in the archive already included.
    ///
    /// # Errors
    /// What the file system says.
    pub fn release(&self) -> Result<()> {
        fs::remove_file(self.held()).doing("the flag file")
    }

    /// With archiving held: the segment that the standby waits for, once it has all that are in the archive, and its
    /// bytes as the primary has them.
    ///
    /// # Errors
    /// It does not get so far.
    pub fn next_segment(&mut self) -> Result<(String, Vec<u8>)> {
        let mut next = None;
        self.wait("a standby that has read everything", |stage| {
            stage.revive()?;
            let is_next = |name: &String| name.len() == 24 && !stage.archived(name).exists();
            next = stage.wanted().filter(is_next);
            Ok(next.is_some())
        })?;
        let next = next.unwrap_or_default();
        let bytes = self.primarys(&next)?;
        Ok((next, bytes))
    }

    /// A segment as the primary has it, once it has ended there.
    ///
    /// # Errors
    /// It does not end.
    pub fn primarys(&mut self, name: &str) -> Result<Vec<u8>> {
        let pg_wal = self.primary.data.join("pg_wal");
        let ready = pg_wal.join(format!("archive_status/{name}.ready"));
        self.wait(&format!("{name} on the primary"), |_| Ok(ready.exists()))?;
        fs::read(pg_wal.join(name)).doing(name)
    }

    /// Where the archive has a file of that name.
    pub fn archived(&self, name: &str) -> PathBuf {
        self.machine.archive().join(name)
    }

    pub fn limited(&self) -> PathBuf {
        self.machine.path().join("limited")
    }

    fn held(&self) -> PathBuf {
        self.machine.path().join("held")
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

/// Reasons for which a server ends by itself.
pub mod end {
    pub const NO_ROOM: &str = "child process exited with exit code 201";
    pub const NO_ARCHIVE: &str = "child process exited with exit code 202";
    pub const KILLED: &str = "child process was terminated by signal 9";
    pub const TERMINATED: &str = super::QUIETLY;
}
