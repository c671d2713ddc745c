//! A server on its data directory: a primary, a warm standby, or the primary that a standby became.

/// Its configuration, in the files that its version has for it.
mod configuration;
/// What is asked of it in SQL.
mod session;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use configuration::SETTINGS;

use super::processes::{kill_all_in, processes_in};
use super::{Doing, Failure, Machine, PATIENCE, Result, wait_for};

pub struct Server {
    machine: Arc<Machine>,
    pub name: String,
    pub data: PathBuf,
    pub port: u16,
    postmaster: Option<Child>,
}

impl Server {
    /// A server on an existing data directory, not running yet.
    pub(super) fn new(machine: &Arc<Machine>, name: &str, data: PathBuf) -> Result<Self> {
        let server = Self {
            machine: machine.clone(),
            name: name.into(),
            data,
            port: free_port()?,
            postmaster: None,
        };
        for (setting, value) in SETTINGS {
            server.set(setting, value)?;
        }
        server.set("port", &server.port.to_string())?;
        Ok(server)
    }

    /// A warm standby on a cold copy of this server, which is stopped for it if it runs. The standby is not
    /// running yet, and has no WAL: all of it comes through `restore_command`.
    pub fn warm_standby(&mut self, name: &str, restore_command: &str) -> Result<Self> {
        let data = self.machine.path().join(name);
        let runs = self.postmaster.is_some();
        if runs {
            self.stop_fast()?;
        }
        self.machine.copy(&self.data, &data)?;
        if runs {
            self.start_and_wait()?;
        }
        Self::standby_on(&self.machine, name, data, restore_command)
    }

    fn standby_on(
        machine: &Arc<Machine>,
        name: &str,
        data: PathBuf,
        restore_command: &str,
    ) -> Result<Self> {
        for entry in fs::read_dir(data.join("pg_wal")).doing("pg_wal")? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        let standby = Self::new(machine, name, data)?;
        standby.set("archive_mode", "off")?;
        standby.set_restore_command(restore_command)?;
        if standby.major() >= 12 {
            standby.machine.write(&standby.data.join("recovery.signal"), "")?;
        }
        if standby.major() >= 15 {
            // Reading ahead asks for the next segment while the last rows of this one wait to be replayed.
            standby.set("recovery_prefetch", "off")?;
        }
        Ok(standby)
    }

    /// A port for something else, which stays free as those of servers do.
    pub fn another_port() -> Result<u16> {
        free_port()
    }

    pub fn major(&self) -> u32 {
        self.machine.installation.major
    }

    /// The processes of this server that run a program of that name.
    pub fn running(&self, program: &str) -> Vec<Pid> {
        let is_one = |pid: &Pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == program)
        };
        processes_in(&self.data).into_iter().filter(is_one).collect()
    }

    /// Starts the server and does not wait: a warm standby can be asked once it has seen enough WAL.
    pub fn start(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let program = self.machine.installation.program("postgres");
        // A child of this process and of its process group: Ctrl-C in a terminal stops it as well.
        let postmaster = self
            .machine
            .command(&program)
            .arg("-D")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .doing(program.display())?;
        self.postmaster = Some(postmaster);
        Ok(())
    }

    /// The postmaster that was started last runs. If it has ended, `wait_for_end` tells with what status.
    pub fn runs(&mut self) -> Result<bool> {
        match &mut self.postmaster {
            Some(postmaster) => Ok(postmaster.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Starts the server and waits until it answers.
    pub fn start_and_wait(&mut self) -> Result<()> {
        self.start()?;
        self.wait_until("select 1", "1", PATIENCE).map(drop)
    }

    /// `pg_ctl stop -m fast`; gives the time it took.
    ///
    /// # Errors
    /// When `pg_ctl` fails or something of the server stays.
    pub fn stop_fast(&mut self) -> Result<Duration> {
        self.stop("fast")
    }

    /// `pg_ctl stop -m immediate`, which leaves the data directory as a crash would.
    ///
    /// # Errors
    /// When `pg_ctl` fails or something of the server stays.
    pub fn stop_immediate(&mut self) -> Result<Duration> {
        self.stop("immediate")
    }

    fn stop(&mut self, mode: &str) -> Result<Duration> {
        let begin = Instant::now();
        self.pg_ctl(&["stop", "-m", mode])?;
        self.wait_for_end()?;
        Ok(begin.elapsed())
    }

    /// `kill -9` of the postmaster alone. Its children and the command they run find out by themselves.
    pub fn kill_postmaster(&mut self) -> Result<()> {
        let mut postmaster = self
            .postmaster
            .take()
            .ok_or_else(|| Failure::new(format!("{} does not run", self.name)))?;
        postmaster.kill()?;
        postmaster.wait()?;
        Ok(())
    }

    /// Waits until nothing of this server runs any more; gives the postmaster's exit status.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn wait_for_end(&mut self) -> Result<Option<ExitStatus>> {
        self.wait_for_end_with(|| ())
    }

    fn wait_for_end_with(&mut self, each_look: impl Fn()) -> Result<Option<ExitStatus>> {
        let mut status = None;
        let ended = wait_for(format_args!("end of the {}", self.name), PATIENCE, || {
            each_look();
            if let Some(postmaster) = &mut self.postmaster {
                status = postmaster.try_wait()?;
                if status.is_some() {
                    self.postmaster = None;
                }
            }
            Ok(self.postmaster.is_none() && processes_in(&self.data).is_empty())
        });
        ended.map_err(|failure| self.with_log(&failure))?;
        Ok(status)
    }

    /// `pg_ctl promote`, without waiting for the end of it.
    pub fn promote(&self) -> Result<()> {
        self.pg_ctl(&["promote", "-W"])
    }

    pub fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        let mut pg_ctl = self.machine.command(self.machine.installation.program("pg_ctl"));
        Machine::run(pg_ctl.args(arguments).arg("-D").arg(&self.data))
            .map_err(|failure| self.with_log(&failure))
    }

    /// Everything the server and the commands it ran have printed.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map_or_else(
            |error| format!("{}: {error}", self.log_file().display()),
            |log| String::from_utf8_lossy(&log).into_owned(),
        )
    }

    fn log_file(&self) -> PathBuf {
        self.machine.path().join(format!("{}.log", self.name))
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        // Every look of `wait_until` at a server that cannot answer yet leaves a line.
        let not_yet =
            ["system is starting up", "not yet accepting connections", "not accepting connections"];
        let lines: Vec<&str> =
            log.lines().filter(|line| not_yet.iter().all(|words| !line.contains(words))).collect();
        let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        format!("--- end of the log of the {} ---\n{}", self.name, end.join("\n"))
    }

    /// A failure, with the end of the log.
    pub fn with_log(&self, failure: &Failure) -> Failure {
        Failure::new(format!("{}: {failure}\n{}", self.name, self.end_of_log()))
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a destructor has no other way to say it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.end_of_log());
        }
        if self.postmaster.is_some() && self.stop_immediate().is_ok() {
            return;
        }
        // Its postmaster was killed, or it does not obey: what works in its data directory is its own.
        let data = self.data.clone();
        if let Err(failure) = self.wait_for_end_with(|| kill_all_in(&data)) {
            eprintln!("{failure}");
        }
    }
}

/// A port that nothing listens on, below those that the kernel gives to outgoing connections: between a
/// server's stop and its next start, none of them can take it. Nor does another test get it, which would not see that it
/// belongs to a server that is not running.
fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for attempt in 0..100 {
        let random = RandomState::new().hash_one(attempt);
        let port = u16::try_from(random % 20_000)?.saturating_add(10_000);
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return Ok(port);
        }
    }
    Err(Failure::new("no free port found on 127.0.0.1"))
}
