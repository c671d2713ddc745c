//! The standby is stopped, ends by itself for a reason that is an excuse, and is started again.

use std::fs;
use std::time::{Duration, Instant};

use super::Stage;
use crate::log::QUIETLY;
use crate::machine::{Doing, Failure, Result};

/// How a standby is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Fast,
    Immediate,
    /// `kill -9` of the postmaster.
    Kill,
}

impl Stage {
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
}

/// Reasons for which a server ends by itself.
pub mod end {
    pub const NO_ROOM: &str = "child process exited with exit code 201";
    pub const NO_ARCHIVE: &str = "child process exited with exit code 202";
    pub const KILLED: &str = "child process was terminated by signal 9";
    pub const TERMINATED: &str = super::QUIETLY;
}
