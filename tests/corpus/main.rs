//! `make corpus`: a standby that holds for ever on good WAL would be the fault of the program alone, and so would be one
//! that promotes on bad WAL. Real servers write WAL of every kind (`lives`); then the program is asked for each segment of
//! their archives, in order, and must take it, whatever lies in the WAL directory beside it (`standby`). After that, one
//! segment after the other is damaged, and the program must refuse it where the damage counts, and take it where no server
//! would notice (`trials`). Which bytes count is told by a second reader, which knows only good WAL (`layout`), and for
//! the versions that have one here, Debian's at least, also by `pg_waldump`.
//!
//! `make corpus` runs all of it, which takes a while and a few GB below TMPDIR;
//! `cargo test --test corpus -- [--part] [--versions 15,18] [--sizes 1,16] [--damages N] [--seed N]`
//! for less. `--part` is the part that CI runs. A seed
//! repeats all choices, though not the moments at which servers are killed.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "it is a test")]

#[path = "../wal/header.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod header;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../machine/mod.rs"]
mod machine;
#[allow(dead_code, reason = "the soak uses the rest")]
#[path = "../soak/random.rs"]
mod random;
#[allow(dead_code, reason = "the soak uses the rest")]
#[path = "../soak/terminal.rs"]
mod terminal;

mod archive;
mod damage;
mod judge;
mod layout;
mod lives;
mod load;
mod standby;
mod trials;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use archive::Archive;
use judge::WalDump;
use lives::{Amount, Cluster};
use machine::{Doing, Failure, Machine, Result};
use random::Random;
use standby::Taken;
use terminal::{Interrupted, say};
use trials::{Counts, Trials};

const VERSIONS: std::ops::RangeInclusive<u32> = 10..=18;
/// The versions that CI runs: the oldest, the one that `pg_waldump` judges, the newest.
const PART: [u32; 3] = [10, 15, 18];

fn main() -> ExitCode {
    let interrupted = Interrupted::default();
    let options = match interrupted.watch().and_then(|()| Options::from_arguments()) {
        Ok(options) => options,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "corpus: {failure}");
            return ExitCode::FAILURE;
        }
    };
    match corpus(&options, &interrupted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "\ncorpus: {failure}\n\nagain: --seed {}", options.seed);
            ExitCode::FAILURE
        }
    }
}

fn corpus(options: &Options, interrupted: &Interrupted) -> Result<()> {
    let begin = Instant::now();
    say(format_args!("seed {}", options.seed))?;
    let judges = WalDump::find()?;
    let (mut taken, mut counts) = (Taken::default(), Counts::default());
    for version in &options.versions {
        let mut random = Random::new(options.seed.wrapping_add(u64::from(*version)));
        let judge = judges.iter().find(|judge| judge.major == *version);
        let (good, bad) = try_version(*version, options, judge, &mut random, interrupted)
            .doing(format_args!("PostgreSQL {version}"))?;
        taken.add(&good);
        counts.add(&bad);
    }
    say(format_args!(
        "\nin all: {taken}\n        {counts}\n        {} s",
        begin.elapsed().as_secs()
    ))?;
    counts.check()
}

fn try_version(
    version: u32,
    options: &Options,
    judge: Option<&WalDump>,
    random: &mut Random,
    interrupted: &Interrupted,
) -> Result<(Taken, Counts)> {
    let (mut taken, mut counts) = (Taken::default(), Counts::default());
    let amounts = Amount::of(version, options.part).into_iter();
    for amount in amounts.filter(|amount| options.takes(amount.segment_size)) {
        let begin = Instant::now();
        let machine = Machine::new(version, env!("CARGO_BIN_EXE_pg_standby"))?;
        let cluster = Cluster::live(&machine, &amount, random, interrupted)?;
        let wrote = begin.elapsed();
        let archive = Archive::of(&cluster)?;
        let good = standby::take_all(&archive, judge, random, interrupted)?;
        say(format_args!(
            "{version}, segments of {} MB: {good}; {} s, {} s of them to write it",
            amount.segment_size,
            begin.elapsed().as_secs(),
            wrote.as_secs()
        ))?;
        say(format_args!("    {}", cluster.told()))?;
        taken.add(&good);
        if amount.damages > 0 {
            let damages = options.damages.unwrap_or(amount.damages);
            let bad = Trials::on(&archive, judge)?.run(damages, random, interrupted)?;
            say(format_args!("    {bad}; {} s", begin.elapsed().as_secs()))?;
            counts.add(&bad);
        }
    }
    Ok((taken, counts))
}

struct Options {
    part: bool,
    versions: Vec<u32>,
    /// In MB; all there are unless said.
    sizes: Option<Vec<u32>>,
    /// Random ones for each version.
    damages: Option<usize>,
    seed: u64,
}

impl Options {
    fn from_arguments() -> Result<Self> {
        let mut part = false;
        let (mut versions, mut sizes, mut damages) = (None, None, None);
        let numbers = |name: &str, list: Option<String>| -> Result<Vec<u32>> {
            let list = list.unwrap_or_default();
            list.split(',').map(|number| number.parse().doing(name)).collect()
        };
        let mut seed = RandomState::new().hash_one(0) % 1_000_000;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--part" => part = true,
                "--versions" => versions = Some(numbers(&argument, arguments.next())?),
                "--sizes" => sizes = Some(numbers(&argument, arguments.next())?),
                "--damages" => {
                    damages =
                        Some(arguments.next().unwrap_or_default().parse().doing("--damages")?);
                }
                "--seed" => seed = arguments.next().unwrap_or_default().parse().doing("--seed")?,
                _ => {
                    return Err(Failure::new(format!(
                        "`{argument}` is none of --part, --versions 15,18, --sizes 1,16, --damages N, \
                         --seed N"
                    )));
                }
            }
        }
        let usual = || if part { PART.to_vec() } else { VERSIONS.collect() };
        Ok(Self { part, versions: versions.unwrap_or_else(usual), sizes, damages, seed })
    }

    fn takes(&self, size: u32) -> bool {
        self.sizes.as_ref().is_none_or(|sizes| sizes.contains(&size))
    }
}
