//! One primary and a standby whose archive the test controls: the test causes faults in it, checks that the standby
//! withstands them, and reads what is logged.

use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;

use crate::machine::{Doing, Failure, Machine, PATIENCE, Result, wait_for};
use crate::pair::Pair;
use crate::shim::shim;

/// Polls every tenth of a second, logs each step, and gives a smart failover many retries.
pub const OFTEN: &str = "-s 0.1 -d -r 50";
/// How many more looks of the same call a fault must last.
const LOOKS: u64 = 3;
pub const PROMOTED: &str = "pg_wal/00000002.history";

/// Two servers; the test controls the one that follows.
pub struct Trial {
    pub pair: Pair,
    /// Where a segment is put that the standby shall find: its archive, or what is mounted there.
    pub delivery: PathBuf,
    /// How much of the standby's log has been read.
    heard: usize,
}

/// Where the standby looks for segments.
pub fn archive(machine: &Machine) -> PathBuf {
    machine.path().join("delivered")
}

/// What the shell reads before each call of the restore command, if it exists.
fn prelude(machine: &Machine) -> PathBuf {
    machine.path().join("prelude")
}

fn restore_command(machine: &Machine, options: &str) -> String {
    let prelude = prelude(machine).display().to_string();
    format!(
        "if test -e {prelude}; then . {prelude}; fi; exec {} $OPTIONS {options} -t {} {} %f %p %r",
        machine.pg_standby().display(),
        machine.trigger_file().display(),
        archive(machine).display()
    )
}

impl Trial {
    /// A standby that follows, and has got a segment.
    pub fn new(major: u32, options: &str) -> Result<Self> {
        let mut trial = Self::not_started(major, options)?;
        trial.pair.standby.start()?;
        trial.follow()?;
        Ok(trial)
    }

    /// The same in the server's own standby mode, with nothing to stream from.
    pub fn in_standby_mode(major: u32, options: &str) -> Result<Self> {
        let mut trial = Self::not_started(major, options)?;
        let standby = &trial.pair.standby;
        standby.enter_standby_mode(&restore_command(&trial.pair.machine, options), None)?;
        standby.set("wal_retrieve_retry_interval", "50ms")?;
        trial.pair.standby.start()?;
        trial.follow()?;
        Ok(trial)
    }

    pub fn not_started(major: u32, options: &str) -> Result<Self> {
        let pair = Pair::new(major, |machine| restore_command(machine, options))?;
        pair.machine.make_directory(&archive(&pair.machine))?;
        let delivery = archive(&pair.machine);
        Ok(Self { pair, delivery, heard: 0 })
    }

    pub fn archive(&self) -> PathBuf {
        archive(&self.pair.machine)
    }

    /// Somewhere else on the machine.
    pub fn place(&self, name: &str) -> PathBuf {
        self.pair.machine.path().join(name)
    }

    /// A segment that comes through, with all its rows.
    pub fn follow(&mut self) -> Result<()> {
        let name = self.pair.ship()?;
        self.deliver(&name)?;
        self.pair.standby_sees_every_row().map(drop)
    }

    /// Gives the standby a segment that the primary has archived.
    pub fn deliver(&self, name: &str) -> Result<()> {
        // The archive may be on another file system.
        let incoming = self.delivery.join("incoming");
        self.pair.machine.copy(&self.pair.machine.archive().join(name), &incoming)?;
        fs::rename(incoming, self.delivery.join(name)).doing(name)
    }

    /// Gives the standby something else under that name.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let incoming = self.delivery.join("incoming");
        self.pair.machine.write(&incoming, bytes)?;
        fs::rename(incoming, self.delivery.join(name)).doing(name)
    }

    /// Has the shell run `script` before each call from now on.
    pub fn before_each_call(&self, script: &str) -> Result<()> {
        self.pair.machine.write(&prelude(&self.pair.machine), script)
    }

    pub fn nothing_before_a_call(&self) -> Result<()> {
        fs::remove_file(prelude(&self.pair.machine)).doing("the prelude")
    }

    /// Loads `shim/shim.c` into each call from now on.
    pub fn load_shim(&self, fault: &str) -> Result<()> {
        let library = self.place("shim.so");
        if !library.exists() {
            self.pair.machine.copy(shim(), &library)?;
        }
        self.before_each_call(&format!(
            "export LD_PRELOAD={} FAULT={fault} FAULT_IN=/delivered FAULT_FILE={}",
            library.display(),
            self.order().display()
        ))
    }

    /// What the shim is to do while this file is there.
    pub fn order(&self) -> PathBuf {
        self.place("order")
    }

    /// The call that waits.
    pub fn call(&mut self) -> Result<Pid> {
        let mut call = None;
        let waits = wait_for("a call that waits", PATIENCE, || {
            self.must_hold()?;
            call = self.pair.standby.running("pg_standby").first().copied();
            Ok(call.is_some_and(waits))
        });
        self.with_log(waits)?;
        call.ok_or_else(|| Failure::new("no call"))
    }

    /// # Errors
    /// The standby has promoted itself, or has ended.
    pub fn must_hold(&mut self) -> Result<()> {
        self.must_not_promote()?;
        if !self.pair.standby.runs()? {
            return Err(Failure::new("the standby has stopped"));
        }
        Ok(())
    }

    pub fn must_not_promote(&self) -> Result<()> {
        if self.pair.standby.data.join(PROMOTED).exists() {
            return Err(Failure::new("nobody asked for it, and recovery has ended"));
        }
        Ok(())
    }

    /// How often the call has slept, which is how often it has looked, roughly.
    ///
    /// # Errors
    /// It has ended: the message is what the server made of that.
    pub fn sleeps(&mut self, call: Pid) -> Result<u64> {
        if let Ok(count) = sleeps(call) {
            return Ok(count);
        }
        wait_for("a consequence of the end of the call", PATIENCE, || {
            self.must_hold()?;
            Ok(false)
        })?;
        Ok(0)
    }

    pub fn with_log<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|failure| self.pair.standby.with_log(&failure))
    }

    /// It has been said since the last words that were heard.
    pub fn heard(&mut self, words: &str) -> bool {
        let log = self.pair.standby.log();
        let new = log.get(self.heard..).unwrap_or_default();
        let end = new.find(words).and_then(|at| at.checked_add(words.len()));
        self.heard = end.and_then(|end| self.heard.checked_add(end)).unwrap_or(self.heard);
        end.is_some()
    }

    /// What has been said up to now does not count.
    pub fn listen(&mut self) {
        self.heard = self.pair.standby.log().len();
    }

    pub fn says(&mut self, words: &str) -> Result<()> {
        let said = wait_for(format_args!("the words {words:?}"), PATIENCE, || {
            self.must_hold()?;
            Ok(self.heard(words))
        });
        self.with_log(said).map(drop)
    }

    /// The call has gone on looking, whatever it has seen.
    pub fn looks_on(&mut self, call: Pid) -> Result<()> {
        self.looks_again(call, LOOKS, |_| Ok(()))
    }

    /// The call looks so many times after `deed`.
    pub fn looks_again(
        &mut self,
        call: Pid,
        times: u64,
        deed: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let enough = self.sleeps(call).map(|count| count.saturating_add(times));
        let enough = self.with_log(enough)?;
        deed(self)?;
        let looked = wait_for("more looks of the same call", PATIENCE, || {
            self.must_hold()?;
            Ok(self.sleeps(call)? >= enough)
        });
        self.with_log(looked).map(drop)
    }

    /// The call says so, goes on looking, and the standby is what it was.
    pub fn withstands(&mut self, call: Pid, words: &str) -> Result<()> {
        self.says(words)?;
        self.looks_on(call)?;
        self.pair.assert_still_a_standby()
    }

    /// Makes a fault of the archive, which is said in these words, and mends it. Then the next segment comes.
    pub fn outage(
        &mut self,
        words: &str,
        fault: impl FnOnce(&Self) -> Result<()>,
        mend: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let call = self.call()?;
        self.listen();
        fault(self)?;
        self.withstands(call, words)?;
        mend(self)?;
        self.follow()
    }

    /// Something is in the place of the next segment, which is refused in these words, until the good one comes.
    pub fn refusal(
        &mut self,
        words: &str,
        place: impl FnOnce(&Self, &str, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let call = self.call()?;
        let name = self.pair.ship()?;
        let good = fs::read(self.pair.machine.archive().join(&name)).doing(&name)?;
        self.listen();
        place(self, &name, good)?;
        self.withstands(call, &format!("{name}\" is not ready: {words}"))?;
        let path = self.archive().join(&name);
        if path.is_dir() {
            fs::remove_dir(&path)?;
        }
        self.deliver(&name)?;
        self.pair.standby_sees_every_row().map(drop)
    }

    /// The server ends, for this reason, and is still the standby that it was.
    pub fn stops(&mut self, reason: &str) -> Result<()> {
        let ended = wait_for("the end of the server", PATIENCE, || {
            self.must_not_promote()?;
            Ok(!self.pair.standby.runs()?)
        });
        self.with_log(ended)?;
        let status = self.pair.standby.wait_for_end()?;
        assert!(status.is_some_and(|status| !status.success()), "{status:?}");
        assert!(self.heard(reason), "expected {reason:?} in {}", self.pair.standby.log());
        self.must_not_promote()
    }

    /// Started again, it follows.
    pub fn goes_on(&mut self) -> Result<()> {
        self.pair.standby.start()?;
        self.follow()?;
        self.pair.assert_still_a_standby()
    }

    /// The next segment brings the next call, which nobody survives.
    pub fn next_call_stops_the_server(&mut self, reason: &str) -> Result<()> {
        self.call()?;
        let name = self.pair.ship()?;
        self.deliver(&name)?;
        self.stops(reason)
    }
}

/// Returns whether a process is in its `poll`, and so has its handlers and watches in place. That it has slept does not
/// tell: it may have waited for its own pages.
pub fn waits(pid: Pid) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    // poll and ppoll on x86-64, ppoll on arm64.
    let is_poll = |number: &str| ["7", "271", "73"].contains(&number);
    read("wchan").contains("poll") || read("syscall").split(' ').next().is_some_and(is_poll)
}

/// How often a process has slept.
fn sleeps(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).doing(pid)?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(count.unwrap_or_default().trim().parse()?)
}
