//! The life of a primary, told in lives: it starts with other settings each time, works, and is stopped, killed in
//! mid-write, or made to go on under a new timeline. All the WAL that it has finished is in the archive then.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use postgres::{Client, SimpleQueryMessage};

use crate::header::Header;
use crate::load::{Kind, Load, TABLES};
use crate::machine::{Doing, Failure, Machine, Result, Server, wait_for};
use crate::random::Random;
use crate::terminal::Interrupted;

const MB: u64 = 1 << 20;
const LEVELS: [&str; 5] = ["replica", "logical", "logical", "minimal", "replica"];
const LIFE: Duration = Duration::from_secs(30);

/// How much is to be written and tried on one cluster.
pub struct Amount {
    /// In MB.
    pub segment_size: u32,
    lives: usize,
    /// WAL of each life, in bytes.
    wal: u64,
    /// In MB, of a logical message that fills segments; servers are killed while they write such.
    message: u64,
    /// Random damages to a segment.
    pub damages: usize,
}

impl Amount {
    /// What is done on a version, in whole or in that part of it which CI runs.
    pub fn of(version: u32, part: bool) -> Vec<Self> {
        let only_16 = version < 11;
        let amount = |segment_size, lives, wal, message, damages| Self {
            segment_size,
            lives,
            wal: wal * MB,
            message,
            damages,
        };
        match (part, only_16) {
            (true, true) => vec![amount(16, 4, 10, 16, 60)],
            (true, false) => vec![amount(1, 8, 3, 8, 150)],
            (false, true) => vec![amount(16, 24, 12, 40, 20_000)],
            (false, false) => vec![
                amount(1, 24, 4, 40, 20_000),
                amount(16, 12, 12, 40, 0),
                amount(64, 6, 40, 40, 0),
                amount(1024, 3, 10, 40, 0),
            ],
        }
    }
}

/// A primary at the end of its lives.
pub struct Cluster {
    pub machine: Arc<Machine>,
    pub primary: Server,
    killed: usize,
    promoted: usize,
    settings: BTreeSet<String>,
}

impl Cluster {
    pub fn live(
        machine: &Arc<Machine>,
        amount: &Amount,
        random: &mut Random,
        interrupted: &Interrupted,
    ) -> Result<Self> {
        let mut options = Vec::new();
        let segment_size = format!("--wal-segsize={}", amount.segment_size);
        if machine.installation.major >= 11 {
            options.push(segment_size.as_str());
        }
        if random.happens(50) {
            options.push("--data-checksums");
        }
        let primary = machine.primary_of_its_own(&options)?;
        let archive = machine.archive().display().to_string();
        // The command may be killed as well, and what it leaves then is not to have a segment's name.
        primary.set(
            "archive_command",
            &format!("cp %p {archive}/%f.incoming && mv {archive}/%f.incoming {archive}/%f"),
        )?;
        primary.set("max_prepared_transactions", "100")?;
        // The fewer there are, the more of a record is written before it is whole.
        primary.set("wal_buffers", "64kB")?;
        if primary.major() >= 12 {
            primary.set("restore_command", &format!("cp {archive}/%f %p"))?;
        }
        let settings = options.iter().map(|option| (*option).to_owned()).collect();
        let machine = machine.clone();
        let mut cluster = Self { machine, primary, killed: 0, promoted: 0, settings };
        let mut compressions = vec![String::from("off")];
        for number in 0..amount.lives {
            interrupted.check()?;
            cluster
                .one_life(number, amount, &mut compressions, random)
                .doing(format_args!("life {number}"))?;
        }
        cluster.finish()?;
        Ok(cluster)
    }

    fn one_life(
        &mut self,
        number: usize,
        amount: &Amount,
        compressions: &mut Vec<String>,
        random: &mut Random,
    ) -> Result<()> {
        let level = LEVELS[number % LEVELS.len()];
        let before = number.checked_sub(1).map(|before| LEVELS[before % LEVELS.len()]);
        let compression = compressions[number % compressions.len()].clone();
        let minimal = level == "minimal";
        // Nobody archives meanwhile, so nothing may be removed until the next life has looked after it.
        let keeps = minimal || before == Some("minimal");
        self.configure(level, &compression, number % 3 != 1, keeps, amount)?;
        let promotes = number % 5 == 2;
        if promotes {
            self.start_on_a_new_timeline()?;
        } else {
            self.primary.start_and_wait()?;
        }
        if number == 0 {
            self.primary.sql(TABLES)?;
            let allowed = "select array_to_string(enumvals, ' ') from pg_settings \
                           where name = 'wal_compression'";
            let allowed = self.primary.value(allowed)?;
            let others = if allowed.is_empty() { "on" } else { &allowed };
            let others = others.split(' ').filter(|one| *one != "off" && *one != "on");
            compressions.extend(others.map(str::to_owned));
            if compressions.len() == 1 {
                compressions.push("on".into());
            }
        }
        if before == Some("minimal") {
            self.archive_what_nobody_has()?;
        }
        let kind = if number % 2 == 1 { Kind::Long } else { Kind::Mixed };
        let kills = number % 4 != 0;
        let load = Load::on(&self.primary, kind, minimal, random)?;
        let written = self.wait_for_wal(amount.wal);
        let message = match number % 8 {
            4 | 5 => Some(self.long_message(amount.message)?),
            _ if kills && kind == Kind::Long => Some(self.long_message(amount.message.min(12))?),
            _ => None,
        };
        if kills {
            self.kill(random)?;
        }
        load.end(kills)?;
        if let Some(message) = message {
            let sent = message.join().map_err(|_| Failure::new("a session panicked"))?;
            if !kills {
                sent?;
            }
        }
        written?;
        if kills { Ok(()) } else { self.primary.stop_fast().map(drop) }
    }

    /// `kill -9` of the server at any moment, all processes of it at once.
    fn kill(&mut self, random: &mut Random) -> Result<()> {
        let processes = self.primary.running("postgres");
        thread::sleep(random.milliseconds(0, 15));
        for process in processes {
            // It may have ended by itself since.
            let _ = kill(process, Signal::SIGKILL);
        }
        self.primary.kill_postmaster()?;
        self.killed += 1;
        self.primary.wait_for_end().map(drop)
    }

    fn configure(
        &mut self,
        level: &str,
        compression: &str,
        full_page_writes: bool,
        keeps: bool,
        amount: &Amount,
    ) -> Result<()> {
        let minimal = level == "minimal";
        let full_page_writes = if full_page_writes { "on" } else { "off" };
        for (setting, value) in [
            ("wal_level", level),
            ("wal_compression", compression),
            ("full_page_writes", full_page_writes),
        ] {
            self.primary.set(setting, value)?;
            self.settings.insert(format!("{setting}={value}"));
        }
        self.primary.set("archive_mode", if minimal { "off" } else { "on" })?;
        self.primary.set("max_wal_senders", if minimal { "0" } else { "10" })?;
        let mb = if keeps { 20_000 } else { 0 };
        if self.primary.major() >= 13 {
            self.primary.set("wal_keep_size", &format!("{mb}MB"))
        } else {
            let segments = mb / amount.segment_size;
            self.primary.set("wal_keep_segments", &segments.to_string())
        }
    }

    /// Recovers to the end of the WAL that there is, as a copy of the archive's would, and comes up on a timeline of its own.
    fn start_on_a_new_timeline(&mut self) -> Result<()> {
        self.archive_what_nobody_has()?;
        let file = if self.primary.major() >= 12 { "recovery.signal" } else { "recovery.conf" };
        let line = format!("restore_command = 'cp {}/%f %p'\n", self.machine.archive().display());
        let line = if self.primary.major() >= 12 { String::new() } else { line };
        self.machine.write(&self.primary.data.join(file), line)?;
        let last = self.copy_of_the_last()?;
        self.primary.start()?;
        self.primary.wait_for_promotion()?;
        self.promoted += 1;
        if let Some((name, copy)) = last {
            self.archive_unless_left(&name, &copy)?;
        }
        Ok(())
    }

    /// The segment that was being written, or had just been finished: a killed server had no time to say which.
    fn copy_of_the_last(&self) -> Result<Option<(String, PathBuf)>> {
        let own = files(&self.primary.data.join("pg_wal"))?;
        let Some(last) = own.iter().rfind(|path| start(path).is_some()) else { return Ok(None) };
        let name = last.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let copy = self.machine.path().join(&name);
        self.machine.copy(last, &copy)?;
        Ok(Some((name, copy)))
    }

    /// Archives it if it was finished: the new timeline has begun behind it.
    fn archive_unless_left(&self, name: &str, copy: &Path) -> Result<()> {
        let archived = self.machine.archive().join(name);
        let own = files(&self.primary.data.join("pg_wal"))?;
        let is_newer = |path: &&PathBuf| {
            let other = path.file_name().unwrap_or_default().to_string_lossy();
            start(path).is_some() && other[..8] > name[..8]
        };
        let first = own.iter().find(is_newer).and_then(|path| start(path));
        if first > start(copy) && !archived.exists() {
            return fs::rename(copy, archived).doing(name.to_owned());
        }
        Ok(fs::remove_file(copy)?)
    }

    fn wait_for_wal(&self, amount: u64) -> Result<()> {
        let mut session = self.primary.connect()?;
        let end = position(&mut session)? + amount;
        wait_for("WAL of a life", LIFE, || Ok(position(&mut session)? >= end)).map(drop)
    }

    /// Begins to write a message that fills segments, and waits until that is under way.
    fn long_message(&self, size: u64) -> Result<thread::JoinHandle<Result<()>>> {
        let mut session = self.primary.connect()?;
        let statement = format!(
            "select pg_logical_emit_message(false, 'corpus', repeat(md5('long'), {}))",
            size * MB / 32
        );
        let begin = position(&mut session)?;
        let thread = thread::spawn(move || Ok(session.batch_execute(&statement)?));
        let mut watching = self.primary.connect()?;
        wait_for("a long message", LIFE, || {
            // The position is behind the message as soon as there is a place for it, and before it is written.
            let here = position(&mut watching)?;
            Ok(thread.is_finished() || here > begin + size * MB / 3)
        })?;
        Ok(thread)
    }

    /// Copies the segments that were finished while there was no archiving, or that the archiver has not got to. In archive recovery the server would use them again without archiving them.
    fn archive_what_nobody_has(&self) -> Result<()> {
        let archive = self.machine.archive();
        let wal = self.primary.data.join("pg_wal");
        let own = files(&wal)?;
        let starts: Vec<Option<u64>> = own.iter().map(|path| start(path)).collect();
        let size = own.iter().filter_map(|path| path.metadata().ok()).map(|it| it.len()).max();
        for (index, path) in own.iter().enumerate() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let end = starts[index].zip(size).map(|(start, size)| start + size);
            let next_has_begun = end.is_some() && starts.get(index + 1) == Some(&end);
            let waits = wal.join(format!("archive_status/{name}.ready")).exists();
            if name.len() == 24 && (next_has_begun || waits) && !archive.join(&name).exists() {
                let incoming = archive.join(format!("{name}.by_hand"));
                self.machine.copy(path, &incoming)?;
                fs::rename(incoming, archive.join(&name)).doing(name)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.primary.set("wal_level", "replica")?;
        self.primary.set("archive_mode", "on")?;
        self.primary.start_and_wait()?;
        self.archive_what_nobody_has()?;
        self.primary.switch_wal()?;
        self.primary.stop_fast().map(drop)
    }

    /// What it went through.
    pub fn told(&self) -> String {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        format!(
            "killed in mid-write {} times, {} new timelines; {}",
            self.killed,
            self.promoted,
            settings.join(" ")
        )
    }
}

/// The end of the WAL that the server has written, in bytes.
fn position(session: &mut Client) -> Result<u64> {
    let messages = session.simple_query("select pg_current_wal_insert_lsn() - '0/0'")?;
    let first = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(first.unwrap_or_default().parse()?)
}

/// Where a segment begins in WAL, unless it is a file that waits for being used: with the beginning of another, or zeros.
fn start(path: &Path) -> Option<u64> {
    let mut bytes = [0; 40];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    let Header { lsn, segment_size, .. } = Header::of(&bytes)?;
    let name = path.file_name()?.to_str().filter(|name| name.len() == 24)?;
    let half = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let named = (half(&name[8..16])? << 32) + half(&name[16..])? * u64::from(segment_size);
    (named == lsn && segment_size > 0).then_some(lsn)
}

/// The regular files of a directory.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).doing(directory.display())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
