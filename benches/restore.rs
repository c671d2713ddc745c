//! What it costs to hand over a segment of 16 MB, in a server's loop and with a real server's WAL: the program as it is,
//! without the check of the records, `cp`, a program that copies and does nothing else, and the C program if
//! `C_PG_STANDBY` is the path of one. The same for compressed segments, against `gzip`, `lz4` and `zstd`, with the memory
//! that they take. Then how long other calls take.
//!
//! `cargo bench --bench restore`; it fails where a ratio is above its limit. `TMPDIR` says on which file system.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "no index is out of bounds"
)]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/machine/mod.rs"]
mod machine;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use machine::{Doing, Failure, Machine, Result};
use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::sys::resource::{UsageWho, getrusage};

const VERSION: u32 = 18;
const ROUNDS: usize = 41;
const CALLS: usize = 61;

/// With this word this program is the one that copies and does nothing else.
const BARE: &str = "--copy";

/// With this word it runs a command line and prints how many kB of memory that took at most.
const MEMORY: &str = "--memory";

/// What compresses, and the suffix of what it writes.
const TOOLS: [(&str, &str); 5] = [
    ("gzip", ".gz"),
    ("lz4 -q", ".lz4"),
    ("lz4 -q -B4 -BD", ".lz4"),
    ("zstd -q", ".zst"),
    ("zstd -q -19", ".zst"),
];

/// How long a call may take at most, of the time of the tool that decompresses into a file.
const LIMIT_OF_TOOL: f64 = 1.0;
/// How much more memory than for a plain segment, in kB.
const LIMIT_OF_MEMORY: u64 = 16 << 10;

/// Statements that fill several segments, by the kind of record.
const KINDS: [Kind; 2] = [
    Kind {
        name: "ordinary records, about 600 bytes each",
        statements: "create table orders (number int, item text);
            insert into orders select n, repeat('x', 540) from generate_series(1, 100000) n",
        limits: Limits { of_others: 0.65, of_bare: 1.6 },
    },
    // 50 bytes before the message, and a byte that ends the prefix.
    Kind {
        name: "short records, 64 bytes each",
        statements: "select count(pg_logical_emit_message(false, '', repeat('x', 13)))
            from generate_series(1, 900000)",
        limits: Limits { of_others: 1.0, of_bare: 2.2 },
    },
];

struct Kind {
    name: &'static str,
    statements: &'static str,
    limits: Limits,
}

/// How long a call may take at most: of the time of `cp` and the C program, and of a bare copy.
struct Limits {
    of_others: f64,
    of_bare: f64,
}

/// What the server does with the file that it was given. It is in place of an older one, as the files of its WAL
/// directory are used again.
#[derive(Clone, Copy)]
enum Then {
    /// Up to 9.2.15: rename.
    Rename,
    /// From 9.2.16 on (`durable_rename` in PostgreSQL's `fd.c`): remove the older one, sync, rename, sync.
    SyncAndRename,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match arguments.as_slice() {
        [word, from, to] if word == BARE => copy_and_nothing_else(from, to),
        [word, line] if word == MEMORY => run_and_print_memory(line),
        _ => Bench::new().and_then(|bench| bench.run()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Space for the copy, and the copy, made by the kernel.
fn copy_and_nothing_else(from: &OsStr, to: &OsStr) -> Result<bool> {
    let from = File::open(from)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut rest = usize::try_from(from.metadata()?.len())?;
    fallocate(&to, FallocateFlags::empty(), 0, i64::try_from(rest)?)?;
    while rest > 0 {
        let copied = copy_file_range(&from, None, &to, None, rest)?;
        rest = rest.checked_sub(copied).filter(|_| copied > 0).unwrap_or_default();
    }
    Ok(true)
}

/// What the largest process of a command line took.
fn run_and_print_memory(line: &OsStr) -> Result<bool> {
    let ended = Command::new("/bin/sh").arg("-c").arg(line).status()?;
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    writeln!(io::stdout(), "{memory}")?;
    Ok(ended.success())
}

/// The archive of a primary that has done its work, and a directory that looks like a standby's.
struct Bench {
    machine: std::sync::Arc<Machine>,
    data: PathBuf,
    /// The segment of each kind that is asked for.
    segments: Vec<String>,
    /// The oldest segment that the standby needs: nothing is to be pruned.
    oldest: String,
}

/// A program, and its command line.
struct Contestant {
    name: &'static str,
    command: String,
    /// How much of its time ours may take.
    limit: Option<f64>,
}

impl Bench {
    fn new() -> Result<Self> {
        let machine = Machine::new(VERSION, env!("CARGO_BIN_EXE_pg_standby"))?;
        let mut primary = machine.primary(&[])?;
        primary.start_and_wait()?;
        let data = machine.path().join("standby");
        fs::create_dir_all(data.join("pg_wal"))?;
        let mut segments = Vec::new();
        for kind in &KINDS {
            let last = primary.switch_wal()?;
            primary.sql(kind.statements)?;
            primary.switch_wal()?;
            let archived = machine.archived()?;
            let mut full = archived.into_iter().filter(|name| *name > last);
            let (Some(before), Some(segment)) = (full.next(), full.next()) else {
                return Err(Failure::new("the statements have not filled two segments"));
            };
            // A record goes on from the segment before, which the server has replayed.
            machine.copy(&machine.archive().join(&before), &data.join("pg_wal").join(before))?;
            segments.push(segment);
        }
        primary.stop_fast()?;
        for file in ["PG_VERSION", "global/pg_control"] {
            fs::create_dir_all(data.join("global"))?;
            machine.copy(&primary.data.join(file), &data.join(file))?;
        }
        machine.write(&data.join("postgresql.conf"), "recovery_prefetch = off\n")?;
        let oldest = machine.archived()?.swap_remove(0);
        Ok(Self { machine, data, segments, oldest })
    }

    fn run(&self) -> Result<bool> {
        let mut out = io::stdout().lock();
        let mut holds = true;
        for (kind, segment) in KINDS.iter().zip(&self.segments) {
            let contestants = self.contestants(segment, &kind.limits)?;
            writeln!(out, "{}: milliseconds, median and shortest", kind.name)?;
            let times = self.compare(&contestants, segment, Then::Rename)?;
            let ours = times.first().map_or(0.0, |times| median(times));
            for (contestant, times) in contestants.iter().zip(&times) {
                row(&mut out, contestant.name, times)?;
                let ratio = ours / median(times);
                if let Some(limit) = contestant.limit {
                    writeln!(out, "    pg_standby takes {ratio:.2} of that, at most {limit}")?;
                    holds &= ratio <= limit;
                }
            }
            writeln!(out, "  with what the server syncs from 9.2.16 on")?;
            let times = self.compare(&contestants, segment, Then::SyncAndRename)?;
            for (contestant, times) in contestants.iter().zip(&times) {
                row(&mut out, contestant.name, times)?;
            }
        }
        for (kind, segment) in KINDS.iter().zip(&self.segments) {
            writeln!(out, "{}, compressed: milliseconds, median and shortest", kind.name)?;
            for (tool, suffix) in TOOLS {
                holds &= self.decompress(&mut out, segment, tool, suffix)?;
            }
        }
        writeln!(out, "other calls: milliseconds, median and shortest")?;
        row(&mut out, "a program that does nothing (true)", &self.calls("exec true", 0)?)?;
        let absent = self.command(&self.pg_standby(""), "00000009.history");
        row(&mut out, "no such history file", &self.calls(&absent, 1)?)?;
        let segment = self.segments.last().map_or("", String::as_str);
        row(&mut out, "segment comes until the wait has ended", &self.wakes(segment)?)?;
        Ok(holds)
    }

    fn pg_standby(&self, options: &str) -> String {
        let (program, archive) = (self.machine.pg_standby(), self.machine.archive());
        format!("{} {options} {} %f %p %r", program.display(), archive.display())
    }

    /// The command line as the server completes it.
    fn command(&self, restore_command: &str, name: &str) -> String {
        let command = restore_command.replace("%f", name).replace("%p", "pg_wal/RECOVERYXLOG");
        command.replace("%r", &self.oldest)
    }

    /// The program first.
    fn contestants(&self, segment: &str, limits: &Limits) -> Result<Vec<Contestant>> {
        let archive = self.machine.archive();
        let bare = std::env::current_exe()?;
        let copy = |program: &str| format!("{program} {}/%f %p", archive.display());
        let mut contestants = vec![
            ("pg_standby", self.pg_standby(""), None),
            ("pg_standby --verify=header", self.pg_standby("--verify=header"), None),
            ("cp", copy("cp"), Some(limits.of_others)),
            ("a bare copy", copy(&format!("{} {BARE}", bare.display())), Some(limits.of_bare)),
        ];
        if let Some(original) = std::env::var_os("C_PG_STANDBY") {
            let original = fs::canonicalize(original).doing("C_PG_STANDBY")?;
            let command = format!("{} {} %f %p %r", original.display(), archive.display());
            contestants.push(("the C program", command, Some(limits.of_others)));
        }
        let complete = |(name, command, limit): (_, String, _)| {
            let command = self.command(&command, segment);
            Contestant { name, command, limit }
        };
        Ok(contestants.into_iter().map(complete).collect())
    }

    /// Compares the program with the tool that wrote the segment. Returns whether it takes no more than it may.
    fn decompress(
        &self,
        out: &mut impl Write,
        segment: &str,
        tool: &str,
        suffix: &str,
    ) -> Result<bool> {
        let archive = self.machine.path().join("compressed");
        let _ = fs::remove_dir_all(&archive);
        self.machine.make_directory(&archive)?;
        let (plain, packed) = (self.machine.archive().join(segment), archive.join(segment));
        let packed = format!("{}{suffix}", packed.display());
        self.call(&format!("{tool} <{} >{packed}", plain.display()), 0)?;
        let program = tool.split(' ').next().unwrap_or_default();
        let ours = format!("{} {} %f %p", self.machine.pg_standby().display(), archive.display());
        let contestants =
            [("pg_standby", ours), ("the tool", format!("{program} -dc <{packed} >%p"))].map(
                |(name, command)| Contestant {
                    name,
                    command: self.command(&command, segment),
                    limit: None,
                },
            );
        let times = self.compare(&contestants, segment, Then::Rename)?;
        let ratio = median(&times[0]) / median(&times[1]);
        let more = self
            .memory(&contestants[0].command)?
            .saturating_sub(self.memory(&self.command(&self.pg_standby(""), segment))?);
        row(out, &format!("pg_standby, {tool}"), &times[0])?;
        row(out, &format!("{program} -dc"), &times[1])?;
        writeln!(
            out,
            "    pg_standby takes {ratio:.2} of that, at most {LIMIT_OF_TOOL}, and {more} kB more memory than for a \
             plain segment, at most {LIMIT_OF_MEMORY}"
        )?;
        Ok(ratio <= LIMIT_OF_TOOL && more <= LIMIT_OF_MEMORY)
    }

    /// How much memory a command line takes, in kB.
    fn memory(&self, command: &str) -> Result<u64> {
        let mut measure = Command::new(std::env::current_exe()?);
        let output = measure.args([MEMORY, command]).current_dir(&self.data).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }

    /// One call after the other, and another one first in each round, so that all see the same machine.
    fn compare(
        &self,
        contestants: &[Contestant],
        segment: &str,
        then: Then,
    ) -> Result<Vec<Vec<Duration>>> {
        let mut times = vec![Vec::new(); contestants.len()];
        for round in 0..ROUNDS {
            for turn in 0..contestants.len() {
                let whose = (round + turn) % contestants.len();
                times[whose].push(self.restore(&contestants[whose].command, segment, then)?);
            }
        }
        Ok(times)
    }

    /// What a server does to restore a segment.
    fn restore(&self, command: &str, segment: &str, then: Then) -> Result<Duration> {
        let directory = self.data.join("pg_wal");
        let (incoming, name) = (directory.join("RECOVERYXLOG"), directory.join(segment));
        let sync = |path: &Path| File::open(path)?.sync_all().doing(path.display());
        let begin = Instant::now();
        let _ = fs::remove_file(&incoming);
        self.call(command, 0)?;
        match then {
            Then::Rename => fs::rename(&incoming, &name)?,
            Then::SyncAndRename => {
                let _ = fs::remove_file(&name);
                sync(&incoming)?;
                fs::rename(&incoming, &name)?;
                sync(&name)?;
                sync(&directory)?;
            }
        }
        let elapsed = begin.elapsed();
        if fs::read(&name)? != fs::read(self.machine.archive().join(segment))? {
            return Err(Failure::new(format!("not a copy of {segment}: {command}")));
        }
        // What one leaves to be written is not to delay the next.
        sync(&name)?;
        Ok(elapsed)
    }

    /// Runs a line in a shell, as a server does.
    fn call(&self, command: &str, status: i32) -> Result<()> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).current_dir(&self.data).stdin(Stdio::null());
        let ended = shell.status().doing(command)?;
        if ended.code() == Some(status) {
            return Ok(());
        }
        Err(Failure::new(format!("{command}: {ended}")))
    }

    fn calls(&self, command: &str, status: i32) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let begin = Instant::now();
            self.call(command, status)?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// From the rename of a segment into the archive until the program that waits for it has ended.
    fn wakes(&self, segment: &str) -> Result<Vec<Duration>> {
        let (archived, aside) =
            (self.machine.archive().join(segment), self.machine.path().join("aside"));
        let incoming = self.data.join("pg_wal/RECOVERYXLOG");
        let mut times = Vec::new();
        for _ in 0..CALLS {
            fs::rename(&archived, &aside)?;
            let _ = fs::remove_file(&incoming);
            let command = self.command(&self.pg_standby("-s 60"), segment);
            let mut program = Command::new("/bin/sh")
                .args(["-c", &command])
                .current_dir(&self.data)
                .stdin(Stdio::null())
                .spawn()?;
            // It sleeps by then.
            sleep(Duration::from_millis(50));
            let begin = Instant::now();
            fs::rename(&aside, &archived)?;
            let ended = program.wait()?;
            times.push(begin.elapsed());
            if !ended.success() {
                return Err(Failure::new(format!("{command}: {ended}")));
            }
            File::open(&incoming)?.sync_all()?;
        }
        Ok(times)
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn row(out: &mut impl Write, what: &str, times: &[Duration]) -> Result<()> {
    let shortest = times.iter().min().map_or(0.0, |time| time.as_secs_f64() * 1e3);
    writeln!(out, "  {what:<44}{:>8.1}{shortest:>8.1}", median(times))?;
    Ok(())
}
