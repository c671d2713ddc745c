//! A server on its data directory: a primary, a warm standby, or the primary that a standby became.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use postgres::{Client, NoTls, SimpleQueryMessage};

use super::processes::{kill_all_in, processes_in};
use super::{Doing, Failure, Machine, PATIENCE, Result, wait_for};

/// What every server here is run with: loopback only, nothing that waits for a disk, and no WAL but what the
/// test itself writes.
const SETTINGS: [(&str, &str); 8] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("fsync", "off"),
    ("autovacuum", "off"),
    ("shared_buffers", "16MB"),
    ("wal_level", "replica"),
    ("hot_standby", "on"),
    ("log_line_prefix", "%m [%p] "),
];

const TIMELINE: &str = "select timeline_id from pg_control_checkpoint()";

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

    /// Adds a line to postgresql.conf, for the next start. The last of several lines counts.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        self.append("postgresql.conf", setting, value)
    }

    /// The same for a setting of recovery, which has a file of its own up to 11.
    pub fn set_recovery(&self, setting: &str, value: &str) -> Result<()> {
        self.append(
            if self.major() >= 12 { "postgresql.conf" } else { "recovery.conf" },
            setting,
            value,
        )
    }

    fn append(&self, file: &str, setting: &str, value: &str) -> Result<()> {
        let path = self.data.join(file);
        let mut file = OpenOptions::new().append(true).open(&path).doing(path.display())?;
        file.write_all(assignment(setting, value).as_bytes()).doing(path.display())
    }

    pub fn set_restore_command(&self, command: &str) -> Result<()> {
        if self.major() >= 12 {
            return self.set("restore_command", command);
        }
        self.machine.write(&self.data.join("recovery.conf"), assignment("restore_command", command))
    }

    /// Puts a standby that does not run into the server's own standby mode, where it retries by itself, and streams from
    /// `primary` where there is one.
    pub fn enter_standby_mode(&self, restore_command: &str, primary: Option<&Self>) -> Result<()> {
        let conninfo =
            primary.map(|primary| format!("host=127.0.0.1 port={} user=postgres", primary.port));
        if self.major() >= 12 {
            fs::rename(self.data.join("recovery.signal"), self.data.join("standby.signal"))?;
            self.set("restore_command", restore_command)?;
            return conninfo.map_or(Ok(()), |value| self.set("primary_conninfo", &value));
        }
        let mut lines = vec![assignment("standby_mode", "on")];
        lines.push(assignment("restore_command", restore_command));
        lines.extend(conninfo.map(|value| assignment("primary_conninfo", &value)));
        self.machine.write(&self.data.join("recovery.conf"), lines.concat())
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

    pub fn connect(&self) -> Result<Client> {
        Ok(postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .dbname("postgres")
            .connect_timeout(PATIENCE)
            .connect(NoTls)?)
    }

    /// Runs one or more statements.
    pub fn sql(&self, statements: &str) -> Result<()> {
        self.connect()
            .and_then(|mut session| Ok(session.batch_execute(statements)?))
            .map_err(|failure| self.with_log(&failure))
    }

    /// The first column of the first row, as text.
    pub fn value(&self, query: &str) -> Result<String> {
        self.connect()
            .and_then(|mut session| first_value(&mut session, query))
            .map_err(|failure| self.with_log(&failure))
    }

    pub fn is_in_recovery(&self) -> Result<bool> {
        Ok(self.value("select pg_is_in_recovery()")? == "t")
    }

    /// The timeline of the last checkpoint or restart point.
    pub fn timeline(&self) -> Result<String> {
        self.value(TIMELINE)
    }

    /// Waits until the server is a primary; gives the time that took.
    pub fn wait_for_promotion(&mut self) -> Result<Duration> {
        self.wait_until("select pg_is_in_recovery()", "f", PATIENCE)
    }

    /// Waits for a checkpoint on a timeline. In standby mode a server is a primary before it has written that.
    pub fn wait_for_timeline(&mut self, timeline: &str) -> Result<()> {
        self.wait_until(TIMELINE, timeline, PATIENCE).map(drop)
    }

    /// Asks again and again until the answer is `expected`; gives the time that took. A server that does not
    /// answer yet is asked on, one that has ended is not.
    ///
    /// # Errors
    /// When `limit` has passed, with the last answer and the end of the log.
    pub fn wait_until(&mut self, query: &str, expected: &str, limit: Duration) -> Result<Duration> {
        let mut session = None;
        let mut last = String::from("nothing");
        let mut ended = None;
        let waited = wait_for(query, limit, || {
            if let Some(postmaster) = &mut self.postmaster {
                ended = postmaster.try_wait()?;
            }
            if ended.is_some() {
                self.postmaster = None;
            }
            if self.postmaster.is_none() {
                return Err(Failure::new("it does not run"));
            }
            if session.is_none() {
                session = self.connect().map_err(|failure| last = failure.to_string()).ok();
            }
            match session.as_mut().map(|session| first_value(session, query)) {
                Some(Ok(answer)) => last = answer,
                Some(Err(failure)) => (last, session) = (failure.to_string(), None),
                None => {}
            }
            Ok(last == expected)
        });
        waited.map_err(|failure| {
            let status =
                ended.map(|status| format!(", it ended with {status}")).unwrap_or_default();
            self.with_log(&Failure::new(format!("{failure}; last answer: {last}{status}")))
        })
    }

    /// Ends the current segment, with something in it, and waits until the archive has it. Gives its name.
    pub fn switch_wal(&self) -> Result<String> {
        self.switch_wal_into(&self.machine.archive())
    }

    /// The same for a server whose `archive_command` copies to `directory`.
    pub fn switch_wal_into(&self, directory: &Path) -> Result<String> {
        let point = "select pg_walfile_name(pg_create_restore_point('switch')), pg_switch_wal()";
        let segment = self.value(point)?;
        let to_archive = self.data.join(format!("pg_wal/archive_status/{segment}.ready"));
        let archived = directory.join(&segment);
        wait_for(format_args!("archiving of {segment}"), PATIENCE, || {
            Ok(archived.exists() && !to_archive.exists())
        })
        .map_err(|failure| self.with_log(&failure))?;
        Ok(segment)
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

/// A line of a configuration file.
fn assignment(setting: &str, value: &str) -> String {
    format!("{setting} = '{}'\n", value.replace('\'', "''"))
}

fn first_value(session: &mut Client, query: &str) -> Result<String> {
    let rows = session.simple_query(query)?;
    let value = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(value.unwrap_or_default().into())
}

/// A port that nothing listens on, below those that the kernel gives to outgoing connections: between a
/// server's stop and its next start, none of them can take it.
fn free_port() -> Result<u16> {
    for attempt in 0..100 {
        let random = RandomState::new().hash_one(attempt);
        let port = u16::try_from(random % 20_000)?.saturating_add(10_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::new("no free port found on 127.0.0.1"))
}
