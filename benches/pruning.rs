//! What pruning costs, as ratios: a call with nothing to remove in a large archive against one in a small archive, and
//! the removal of many files against a bare loop that unlinks them.
//!
//! `cargo bench --bench pruning`; it fails where a ratio is above its limit. `TMPDIR` says on which file system.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark that panics has failed"
)]

#[path = "../tests/shim/mod.rs"]
mod shim;
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
#[path = "../tests/program/site.rs"]
mod site;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/wal/mod.rs"]
mod wal;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use site::{SEGMENT, Site};
use wal::{Segment, after};

const FEW: u32 = 100;
const MANY: u32 = 100_000;
const CALLS: usize = 200;
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let nothing = ratio("nothing to remove, 100,000 files against 100", 1.1, nothing_to_remove());
    let removal = ratio("100,000 files removed, against a bare loop", 1.2, removal());
    if nothing && removal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the medians of what was measured and their ratio, and holds that against its limit.
fn ratio(what: &str, limit: f64, [mut ours, mut theirs]: [Vec<Duration>; 2]) -> bool {
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let ratio = ours / theirs;
    let _ = writeln!(
        io::stdout(),
        "{what}: {ours:.2} ms / {theirs:.2} ms = {ratio:.3}, at most {limit}"
    );
    ratio <= limit
}

/// The names of `count` segments, in order; as many in a log file as there are of 16 MB.
fn names(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("00000001{:08X}{:08X}", 1 + number / 256, number % 256))
}

fn fill(site: &Site, count: u32) {
    for name in names(count) {
        File::create(site.archive().join(name)).unwrap();
    }
}

/// One call after the other on the two archives, so that both see the same machine.
fn nothing_to_remove() -> [Vec<Duration>; 2] {
    let sites = [MANY, FEW].map(|count| {
        let site = Site::new();
        fill(&site, count);
        site.put(SEGMENT, Segment::sized(SEGMENT, 16 << 20).bytes());
        site
    });
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..CALLS {
        for (site, times) in sites.iter().zip(&mut times) {
            let asking = site.asks(&[], SEGMENT).arg(SEGMENT);
            times.push(asking.ends().with_status(0).in_silence().wall);
        }
    }
    times
}

fn removal() -> [Vec<Duration>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let site = Site::new();
        fill(&site, MANY);
        let cutoff: OsString = after("000000010000FFFF00000000", 0).into();
        let line = ["--prune".into(), site.archive().as_os_str().to_owned(), cutoff];
        let ended = site.runs(line).ends().with_status(0).in_silence();
        assert!(site.listing().is_empty());
        times[0].push(ended.wall);

        let site = Site::new();
        fill(&site, MANY);
        let paths: Vec<PathBuf> = names(MANY).map(|name| site.archive().join(name)).collect();
        let begin = Instant::now();
        for path in paths {
            fs::remove_file(path).unwrap();
        }
        times[1].push(begin.elapsed());
    }
    times
}
