//! What fills an archive with the segment that is still being written: `pg_receivewal`, and a thread that does what it does
//! for versions of which there is none. And the load on the primary that is shipped this way.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::Client;

use crate::machine::{Doing, Failure, Machine, PATIENCE, Result, Server, wait_for};
use crate::pair::Pair;

/// Where a standby lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// It asks again by itself.
    StandbyMode,
    /// The first segment that it does not get ends recovery.
    Plain,
}

/// A primary that archives nothing, and a standby of the records that somebody else ships. It is not started.
pub fn shipped_pair(
    machine: Arc<Machine>,
    initdb_options: &[&str],
    home: Home,
    options: &str,
) -> Result<Pair> {
    let pair = Pair::on(machine, initdb_options, |machine| machine.restore_command(options))?;
    change(&pair.primary, "archive_command", "true")?;
    begin_archive(&pair)?;
    if home == Home::StandbyMode {
        pair.standby.enter_standby_mode(&pair.machine.restore_command(options), None)?;
    }
    pair.standby.set("wal_retrieve_retry_interval", "50ms")?;
    pair.standby.set_recovery("recovery_target_timeline", "latest")?;
    Ok(pair)
}

/// Changes a setting of a server that runs.
pub fn change(server: &Server, setting: &str, value: &str) -> Result<()> {
    server.set(setting, value)?;
    server.pg_ctl(&["reload"])?;
    wait_for(format_args!("{setting} = {value}"), PATIENCE, || {
        Ok(server.value(&format!("show {setting}"))? == value)
    })
    .map(drop)
}

/// Puts what precedes the current segment into the archive: a receiver begins with that one.
fn begin_archive(pair: &Pair) -> Result<()> {
    let current = current_segment(&pair.primary)?;
    for entry in fs::read_dir(pair.primary.data.join("pg_wal")).doing("pg_wal")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.len() == current.len() && name < current {
            let from = pair.primary.data.join("pg_wal").join(&name);
            pair.machine.copy(&from, &pair.machine.archive().join(&name))?;
        }
    }
    Ok(())
}

/// The segment that the server writes to.
pub fn current_segment(server: &Server) -> Result<String> {
    server.value("select pg_walfile_name(pg_current_wal_flush_lsn())")
}

/// A running `pg_receivewal` with a slot, whose place is the archive.
pub struct Receiver(Child);

impl Receiver {
    /// Starts it, and waits until it receives. The machine's installation must have it.
    pub fn start(machine: &Machine, primary: &Server) -> Result<Self> {
        Self::start_with(&[], machine, primary)
    }

    /// The same with further options.
    pub fn start_with(options: &[&str], machine: &Machine, primary: &Server) -> Result<Self> {
        let streaming = "select count(*) from pg_stat_replication where application_name = \
                        'pg_receivewal' and state = 'streaming'";
        let slot = "select count(*) from pg_replication_slots where slot_name = 'archive'";
        if primary.value(slot)? == "0" {
            Machine::run(pg_receivewal(machine, primary).args(["--create-slot"]))?;
        }
        let log = File::create(machine.path().join("receiver.log"))?;
        let mut receiver = pg_receivewal(machine, primary);
        receiver.args(options).arg("--synchronous").arg("-D").arg(machine.archive());
        receiver.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let receiver = Self(receiver.spawn().doing("pg_receivewal")?);
        wait_for("pg_receivewal to receive", PATIENCE, || Ok(primary.value(streaming)? == "1"))
            .map_err(|failure| primary.with_log(&failure))?;
        Ok(receiver)
    }

    /// Ends it in mid-write.
    pub fn kill(mut self, primary: &Server) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        // Its slot is free again once the primary has noticed.
        let active = "select count(*) from pg_replication_slots where active";
        wait_for("a free slot", PATIENCE, || Ok(primary.value(active)? == "0")).map(drop)
    }

    /// Has it end as an operator would.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGINT)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pg_receivewal(machine: &Machine, primary: &Server) -> std::process::Command {
    let mut command = machine.command(machine.installation.program("pg_receivewal"));
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-w", "--slot=archive", "-p"]);
    command.arg(primary.port.to_string());
    command
}

/// Commits wait until the receiver has them.
pub fn make_synchronous(primary: &Server) -> Result<()> {
    change(primary, "synchronous_standby_names", "pg_receivewal")?;
    let state = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    wait_for("a synchronous receiver", PATIENCE, || Ok(primary.value(state)? == "1")).map(drop)
}

/// What a receiver does, for versions of which there is none: it makes SEGMENT.partial of the full size with zeros, writes
/// into it what the primary has flushed, and renames it when it is whole.
pub struct Copier {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Copier {
    pub fn start(pair: &Pair) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut session = pair.primary.connect()?;
        let size = number(
            &mut session,
            "select pg_size_bytes(current_setting('wal_segment_size'))::text",
        )?;
        let copy = Copy {
            machine: pair.machine.clone(),
            pg_wal: pair.primary.data.join("pg_wal"),
            size,
            position: flushed(&mut session)? / size * size,
        };
        let thread = {
            let stop = stop.clone();
            thread::spawn(move || copy.run(session, &stop))
        };
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it, and tells what it failed with.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("no panic"))
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Copy {
    machine: Arc<Machine>,
    pg_wal: PathBuf,
    size: u64,
    position: u64,
}

impl Copy {
    /// Until it is told to stop, or the primary is gone.
    fn run(mut self, mut session: Client, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::SeqCst) {
            let Ok(flushed) = flushed(&mut session) else { return Ok(()) };
            while self.position < flushed {
                self.copy_until(flushed)?;
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn copy_until(&mut self, flushed: u64) -> Result<()> {
        let number = self.position / self.size;
        let next = (number + 1) * self.size;
        let end = flushed.min(next);
        let per_log = (1_u64 << 32) / self.size;
        let name = format!("00000001{:08X}{:08X}", number / per_log, number % per_log);
        let mut bytes = vec![0; usize::try_from(end - self.position)?];
        let offset = self.position % self.size;
        File::open(self.pg_wal.join(&name)).doing(&name)?.read_exact_at(&mut bytes, offset)?;
        let partial = self.machine.archive().join(format!("{name}.partial"));
        if !partial.exists() {
            File::create(&partial)?.set_len(self.size)?;
            self.machine.give_to_server(&partial)?;
        }
        OpenOptions::new().write(true).open(&partial)?.write_all_at(&bytes, offset)?;
        self.position = end;
        if end == next {
            fs::rename(&partial, self.machine.archive().join(name))?;
        }
        Ok(())
    }
}

fn flushed(session: &mut Client) -> Result<u64> {
    number(session, "select (pg_current_wal_flush_lsn() - '0/0')::text")
}

fn number(session: &mut Client, query: &str) -> Result<u64> {
    Ok(session.query_one(query, &[])?.get::<_, String>(0).parse()?)
}

/// Sessions that commit one transaction after the other, each with a number of its own in [`ROWS_EACH`] rows, and roll some
/// back, with negative numbers.
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU32>,
    sessions: Vec<JoinHandle<Vec<i32>>>,
}

/// What was acknowledged to the clients of a load.
pub struct Acknowledged {
    pub numbers: Vec<i32>,
    /// So many more may have been committed.
    in_doubt: usize,
}

const ROWS_EACH: i64 = 3;
const SESSIONS: i32 = 4;
/// How far the numbers of two sessions are apart.
const APART: i32 = 100_000;

impl Load {
    /// Begins. Loads with different `series` have different numbers.
    pub fn on(primary: &Server, series: i32) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let committed = Arc::<AtomicU32>::default();
        let mut sessions = Vec::new();
        for session in 0..SESSIONS {
            let (client, stop, committed) = (primary.connect()?, stop.clone(), committed.clone());
            let first = (series * SESSIONS + session) * APART + 1;
            sessions.push(thread::spawn(move || work(client, first, &stop, &committed)));
        }
        Ok(Self { stop, committed, sessions })
    }

    /// Waits until so many have been acknowledged.
    pub fn wait_for(&self, transactions: u32) -> Result<()> {
        wait_for(format_args!("{transactions} transactions"), PATIENCE, || {
            Ok(self.committed.load(Ordering::SeqCst) >= transactions)
        })
        .map(drop)
    }

    /// Ends it, if the end of the primary has not.
    pub fn finish(self) -> Acknowledged {
        self.stop.store(true, Ordering::SeqCst);
        let in_doubt = self.sessions.len();
        let numbers = self.sessions.into_iter().flat_map(|it| it.join().expect("no panic"));
        Acknowledged { numbers: numbers.collect(), in_doubt }
    }
}

fn work(mut client: Client, first: i32, stop: &AtomicBool, committed: &AtomicU32) -> Vec<i32> {
    let mut acknowledged = Vec::new();
    for number in first..first + APART - 1 {
        let insert = |number: i32| {
            format!("insert into orders select {number} from generate_series(1, {ROWS_EACH})")
        };
        if number % 5 == 0 {
            let rolled_back = format!("begin; {}; rollback", insert(-number));
            let _ = client.batch_execute(&rolled_back);
        }
        if stop.load(Ordering::SeqCst) || client.batch_execute(&insert(number)).is_err() {
            break;
        }
        acknowledged.push(number);
        committed.fetch_add(1, Ordering::SeqCst);
    }
    acknowledged
}

impl Acknowledged {
    /// What was acknowledged to the clients of several loads.
    pub fn of_all(loads: Vec<Self>) -> Self {
        let in_doubt = loads.iter().map(|load| load.in_doubt).sum();
        Self { numbers: loads.into_iter().flat_map(|load| load.numbers).collect(), in_doubt }
    }

    /// Has the standby of the pair fail over, and asserts that it has all of it then.
    pub fn survives_a_smart_failover(&self, pair: &mut Pair) -> Result<()> {
        pair.machine.ask_for_failover("smart")?;
        pair.standby.wait_for_promotion()?;
        self.assert_all_on(&pair.standby)
    }

    /// Asserts that the server has all of it, and nothing that was never committed.
    fn assert_all_on(&self, server: &Server) -> Result<()> {
        let mut session = server.connect()?;
        let rows = session.query("select number, count(*) from orders group by number", &[])?;
        let found: HashMap<i32, i64> =
            rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, i64>(1))).collect();
        let lost: Vec<_> = self.numbers.iter().filter(|it| !found.contains_key(it)).collect();
        let strange: Vec<_> =
            found.iter().filter(|(number, count)| **number < 0 || **count != ROWS_EACH).collect();
        let more = found.len().saturating_sub(self.numbers.len());
        if lost.is_empty() && strange.is_empty() && more <= self.in_doubt {
            return Ok(());
        }
        let failure = format!(
            "of {} acknowledged transactions {} are lost ({:?}); never committed: {strange:?}; in doubt: {more}",
            self.numbers.len(),
            lost.len(),
            lost.iter().take(20).collect::<Vec<_>>()
        );
        Err(server.with_log(&Failure::new(failure)))
    }
}

/// `kill -9` of everything that a server consists of.
pub fn crash(server: &mut Server) -> Result<()> {
    server.kill_postmaster()?;
    wait_for(format_args!("the end of the {}", server.name), PATIENCE, || {
        let left = server.running("postgres");
        for process in &left {
            let _ = kill(*process, Signal::SIGKILL);
        }
        Ok(left.is_empty())
    })
    .map(drop)
}

/// The bytes of the segment that the primary writes to, as a receiver has them now: zeros behind what was flushed.
pub fn received(primary: &Server) -> Result<(String, Vec<u8>)> {
    let mut session = primary.connect()?;
    let flushed = flushed(&mut session)?;
    let name = current_segment(primary)?;
    let mut bytes = fs::read(primary.data.join("pg_wal").join(&name)).doing(&name)?;
    let length = flushed % u64::try_from(bytes.len())?;
    bytes[usize::try_from(length)?..].fill(0);
    Ok((name, bytes))
}

/// Names of segments that are still being received, in an archive.
pub fn partials_in(archive: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(archive).doing(archive.display())?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(".partial")).collect())
}
