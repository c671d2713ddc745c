//! `make soak`: minutes of random faults under load, in which nothing may be lost and nothing promoted.
//!
//! A primary ships segments into an archive with `cp`; a warm standby restores them with `pg_standby`, while the archive
//! goes away, segments come damaged, servers and programs are killed. After each fault is mended, the standby must catch
//! up to the last row; at the end it is promoted, once, and must have every row of the primary.
//!
//! `cargo test --test soak -- [--minutes M] [--seed N] [--version MAJOR]`; `cargo test` alone leaves it out. A seed repeats
//! faults and pauses, though not the moments at which the servers are hit.

#[path = "../wal/header.rs"]
mod header;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../machine/mod.rs"]
mod machine;

mod faults;
mod load;
mod log;
mod random;
mod segments;
mod stage;
mod terminal;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use faults::Fault;
use machine::{Doing, Failure, Machine, Result};
use random::Random;
use stage::Stage;
use terminal::{Interrupted, say};

fn main() -> ExitCode {
    let interrupted = Interrupted::default();
    let options = match interrupted.watch().and_then(|()| Options::from_arguments()) {
        Ok(options) => options,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "soak: {failure}");
            return ExitCode::FAILURE;
        }
    };
    let Err(failure) = soak(&options, &interrupted) else { return ExitCode::SUCCESS };
    let _ = match interrupted.check() {
        // An interruption makes one of the steps fail as well.
        Err(interruption) => writeln!(io::stderr(), "\nsoak: {interruption}"),
        Ok(()) => {
            writeln!(io::stderr(), "\nsoak: this did not hold: {failure}\n\nagain: {options}")
        }
    };
    ExitCode::FAILURE
}

fn soak(options: &Options, interrupted: &Interrupted) -> Result<()> {
    say(format_args!("{options}\n"))?;
    let machine = Machine::new(options.version, env!("CARGO_BIN_EXE_pg_standby"))?;
    let outcome = Stage::set(&machine, Random::new(options.seed), interrupted.clone())
        .and_then(|mut stage| run(&mut stage, options));
    outcome.map_err(|failure| {
        if interrupted.check().is_err() {
            return failure;
        }
        match keep(&machine, options) {
            Ok(kept) => Failure::new(format!("{failure}\n\nkept: {}", kept.display())),
            Err(other) => Failure::new(format!("{failure}\n\nthe logs could not be kept: {other}")),
        }
    })
}

fn run(stage: &mut Stage, options: &Options) -> Result<()> {
    line("time", "fault", "how it was survived")?;
    let begin = Instant::now();
    let mut deck = Vec::new();
    let mut survived: BTreeMap<&str, u32> = BTreeMap::new();
    while begin.elapsed() < options.time {
        // Each turn has all of them, in another order.
        if deck.is_empty() {
            deck = Fault::all();
            stage.random.shuffle(&mut deck);
        }
        let Some(fault) = deck.pop() else { break };
        let at = clock(begin.elapsed());
        let how = stage.suffer(fault).doing(format_args!("{at}, {}", fault.name()))?;
        line(&at, fault.name(), &how)?;
        let count = survived.entry(fault.name()).or_default();
        *count = count.saturating_add(1);
    }
    let at = clock(begin.elapsed());
    let (took, rows) = stage.fail_over().doing(format_args!("{at}, failover"))?;
    line(&at, "failover, asked for", &format!("after {} with every row", seconds(took)))?;

    say("\nsurvived\n")?;
    for (name, count) in &survived {
        say(format_args!("  {count:>6}  {name}"))?;
    }
    let faults = survived.values().fold(0, |sum: u32, count| sum.saturating_add(*count));
    say("\nin all\n")?;
    say(format_args!("  {faults:>6}  faults"))?;
    say(format_args!("  {:>6}  starts of the standby", stage.restarts))?;
    say(format_args!("  {:>6}  segments ended early by the primary", stage.load.switches()))?;
    say(format_args!("  {:>6}  segments restored", stage.log.restored))?;
    let left = stage.machine.archived()?.iter().filter(|name| name.len() == 24).count();
    say(format_args!("  {left:>6}  segments left in the archive, the others pruned"))?;
    let count = rows.split(' ').next().unwrap_or_default();
    say(format_args!("  {count:>6}  rows, the same on both sides"))?;
    say(format_args!("  {:>6}  promotion, the one that was asked for", 1))
}

/// Keeps the logs and listings of the archive and of the standby's `pg_wal`, in a directory that stays.
fn keep(machine: &Machine, options: &Options) -> Result<PathBuf> {
    let kept = std::env::temp_dir().join(format!(
        "pg_standby-soak-{}-{}-{}",
        options.version,
        options.seed,
        std::process::id()
    ));
    fs::create_dir_all(&kept)?;
    for name in ["primary.log", "standby.log", "trigger"] {
        if machine.path().join(name).exists() {
            fs::copy(machine.path().join(name), kept.join(name))?;
        }
    }
    let mut listing = String::new();
    for place in ["archive", "standby/pg_wal", "primary/pg_wal/archive_status"] {
        listing.push_str(&list(&machine.path().join(place)));
    }
    fs::write(kept.join("listing"), listing)?;
    Ok(kept)
}

fn list(directory: &Path) -> String {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return format!("{}: {error}\n", directory.display()),
    };
    let mut lines: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let length = entry.metadata().map_or(0, |metadata| metadata.len());
            format!("{length:>10}  {}\n", entry.file_name().to_string_lossy())
        })
        .collect();
    lines.sort_by_key(|line| line.get(12..).unwrap_or_default().to_owned());
    format!("{}:\n{}", directory.display(), lines.concat())
}

struct Options {
    time: Duration,
    seed: u64,
    version: u32,
}

impl Options {
    fn from_arguments() -> Result<Self> {
        let mut minutes = 5.0;
        let mut seed = RandomState::new().hash_one(0) % 1_000_000;
        let mut version = 18;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), arguments.next()),
            };
            let value = value.unwrap_or_default();
            let wrong = format!("`{value}` is no value for {name}");
            match name {
                "--minutes" => minutes = value.parse().doing(wrong)?,
                "--seed" => seed = value.parse().doing(wrong)?,
                "--version" => version = value.parse().doing(wrong)?,
                _ => {
                    return Err(Failure::new(format!(
                        "`{argument}` is none of --minutes M, --seed N, --version MAJOR"
                    )));
                }
            }
        }
        let time = Duration::try_from_secs_f64(minutes * 60.0).doing("--minutes")?;
        Ok(Self { time, seed, version })
    }
}

/// The line that runs the same faults again.
impl Display for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = self.time.as_secs_f64() / 60.0;
        let Self { seed, version, .. } = self;
        write!(f, "cargo test --test soak -- --seed {seed} --minutes {minutes} --version {version}")
    }
}

fn line(time: &str, fault: &str, outcome: &str) -> Result<()> {
    say(format_args!("  {time:>6}  {fault:<42}  {outcome}"))
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
