//! Faults enumerated, not sampled: for each kind of call, every system call that the program makes is made to fail with
//! every error that may be meant for it, once and lasting; the program is killed before it, gets each signal that means
//! something at it, and is held up at it while somebody else does something. What each run leaves, and what an
//! undisturbed call does in the same place afterwards, is held against what is promised (`check`). The kinds are a table
//! (`kinds`), and so are the exceptions that the contract makes, with their reasons (`rules`).
//!
//! `make enumerate` runs all of it, which takes a quarter of an hour on two processors; `slice=N` the Nth slice of
//! about a minute, `minutes=N` as many slices as that. `cargo test --test enumerate -- --only KIND:CALL:NUMBER:FAULT`
//! repeats one case, which each breach names, and tells what the program says; parts may be left out from the end, or
//! be empty for any. NUMBER counts the calls of that name since main began; FAULT is an error (`EIO`, `EIO+` where it
//! lasts), a signal, or what happens while the call is held up (`arrives`, `mounts`, `renews`, `decompresses`). `--list` shows the
//! calls of a kind. All of it happens in memory, or on the file system of TMPDIR where that is set: they differ.
//! Needs strace and a C compiler.

#![allow(clippy::print_stdout, reason = "it is what the report goes to")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "it is a test")]

mod check;
mod faults;
mod kinds;
mod place;
mod rules;
mod trace;
mod wal;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use check::{Verdict, check};
use faults::Fault;
use kinds::Kind;
use place::Place;
use rules::{EXCEPTIONS, Point};
use trace::{Call, Tracer};

/// Cases that two processors get through in a minute.
const A_MINUTE: usize = 2500;

/// Runs at a time for each processor: many of them only wait.
const AT_A_TIME: usize = 3;

/// Cases that may go wrong once and not again.
const MOST_UNSTEADY: usize = 3;

struct Options {
    only: Option<String>,
    slice: Option<usize>,
    minutes: Option<usize>,
    list: bool,
}

struct Case {
    kind: usize,
    call: usize,
    fault: Fault,
    name: String,
}

fn main() -> ExitCode {
    match enumerate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("could not enumerate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn enumerate() -> io::Result<bool> {
    let options = options()?;
    let started = Instant::now();
    let memory = || tempfile::tempdir_in("/dev/shm").ok();
    let scratch = match std::env::var_os("TMPDIR").is_none().then(memory).flatten() {
        Some(scratch) => scratch,
        None => tempfile::tempdir()?,
    };
    let workers = thread::available_parallelism().map_or(2, usize::from) * AT_A_TIME;
    let places: Vec<Place> = (0..workers)
        .map(|number| Place::new(&scratch.path().join(number.to_string())))
        .collect::<io::Result<_>>()?;
    let tracer = Tracer::new(scratch.path())?;

    let wanted = options.only.as_deref().map(|only| only.split(':').next().unwrap_or(only));
    let kinds: Vec<&Kind> = kinds::all()
        .filter(|kind| wanted.is_none_or(|wanted| wanted.is_empty() || wanted == kind.name))
        .collect();
    let listed = in_parallel(&places, &kinds, |place, kind| tracer.list(kind, place))?;
    let mut right = true;
    for (kind, (calls, end)) in kinds.iter().zip(&listed) {
        if *end != kind.ends {
            right = false;
            println!("{}: {end} without a fault, not {}", kind.name, kind.ends);
        }
        if options.list {
            println!("{}:", kind.name);
            for call in calls {
                println!("  {}:{}  {}", call.name, call.number, call.line);
            }
        }
    }
    if options.list || !right {
        return Ok(right);
    }

    let (all, cases) = choose(&options, &kinds, &listed);
    let unsteady = AtomicUsize::new(0);
    let verdicts = in_parallel(&places, &cases, |place, case| {
        let calls = &listed[case.kind].0;
        let run = || check(&tracer, place, kinds[case.kind], calls, case.call, case.fault);
        let verdict = run()?;
        tell(case, &calls[case.call], &verdict, options.only.is_some());
        if verdict.breaches.is_empty() || options.only.is_some() {
            return Ok(verdict);
        }
        // A busy machine is late now and then, but hardly twice in the same place.
        let second = run()?;
        unsteady.fetch_add(usize::from(second.breaches.is_empty()), Ordering::Relaxed);
        Ok(second)
    })?;
    let unsteady = unsteady.into_inner();
    if unsteady > 0 {
        println!("told above, and not at a second try: {unsteady}");
        right = unsteady <= MOST_UNSTEADY;
    }
    for place in &places {
        if !place.is_untouched()? {
            println!("the bytes of a segment in an archive have changed");
            right = false;
        }
    }
    println!("{} kinds of call, {all} cases, {} of them run", kinds.len(), cases.len());
    let failed = report(&listed, &cases, &verdicts);
    println!("{} s", started.elapsed().as_secs());
    println!("{} passed, {failed} failed", cases.len() - failed);
    Ok(right && failed == 0)
}

fn options() -> io::Result<Options> {
    let mut options = Options { only: None, slice: None, minutes: None, list: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().filter(|value| !value.is_empty());
        let number = |value: Option<String>| {
            let number = value.as_deref().and_then(|value| value.parse().ok());
            number.ok_or_else(|| io::Error::other(format!("{argument} needs a number")))
        };
        match argument.as_str() {
            "--only" => options.only = value(),
            "--slice" => options.slice = Some(number(value())?),
            "--minutes" => options.minutes = Some(number(value())?),
            "--list" => options.list = true,
            _ => return Err(io::Error::other(format!("there is no option {argument:?}"))),
        }
    }
    Ok(options)
}

/// How many cases there are, and those to run, in an order that has nothing to do with what they are, so that slices are
/// even and runs that wait go on beside runs that do not.
fn choose(
    options: &Options,
    kinds: &[&Kind],
    listed: &[(Vec<Call>, kinds::End)],
) -> (usize, Vec<Case>) {
    let mut cases = Vec::new();
    for (index, (kind, (calls, _))) in kinds.iter().zip(listed).enumerate() {
        for (call, fault) in faults::cases(kind, calls) {
            let Call { name, number, .. } = &calls[call];
            let name = format!("{}:{name}:{number}:{fault}", kind.name);
            cases.push(Case { kind: index, call, fault, name });
        }
    }
    let all = cases.len();
    if let Some(only) = &options.only {
        let wanted: Vec<&str> = only.split(':').collect();
        cases.retain(|case| {
            let parts = case.name.split(':');
            wanted.iter().zip(parts).all(|(wanted, part)| wanted.is_empty() || *wanted == part)
        });
    }
    let slices = all.div_ceil(A_MINUTE).max(1);
    let (first, count) = match (options.slice, options.minutes) {
        (None, None) => (0, slices),
        (slice, minutes) => (slice.unwrap_or(0), minutes.unwrap_or(1)),
    };
    if count < slices {
        let last = first + count - 1;
        println!("slices {first} to {last} of {slices}, a minute each, the first being 0");
    }
    cases.retain(|case| (hash(&case.name) % slices + slices - first % slices) % slices < count);
    cases.sort_by_key(|case| hash(&case.name));
    (all, cases)
}

/// FNV-1a, folded: the same everywhere and for ever, so a case stays in its slice.
fn hash(name: &str) -> usize {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    usize::try_from((hash >> 32) ^ (hash & 0xFFFF_FFFF)).unwrap_or_default()
}

/// Does `job` for all `items`, each in one of `places`.
fn in_parallel<T: Sync, R: Send>(
    places: &[Place],
    items: &[T],
    job: impl Fn(&Place, &T) -> io::Result<R> + Sync,
) -> io::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for place in places {
            let (next, done, job) = (&next, &done, &job);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = job(place, item);
                    if let Ok(mut done) = done.lock() {
                        done.insert(index, result);
                    }
                }
            });
        }
    });
    let done = done.into_inner().map_err(|_| io::Error::other("a worker has panicked"))?;
    done.into_values().collect()
}

/// Prints the breaches of one case, and how to see it again.
fn tell(case: &Case, call: &Call, verdict: &Verdict, has_room: bool) {
    let mut text = String::new();
    for breach in &verdict.breaches {
        let _ = writeln!(text, "{}: {}\n    {}", case.name, breach.what, call.line);
        let _ = writeln!(text, "    cargo test --test enumerate -- --only {}", case.name);
        for line in breach.said.lines().filter(|_| has_room) {
            let _ = writeln!(text, "    {line}");
        }
    }
    print!("{text}");
}

/// Prints the counts and a line for all breaches that are alike; returns how many cases have any.
fn report(listed: &[(Vec<Call>, kinds::End)], cases: &[Case], verdicts: &[Verdict]) -> usize {
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut exceptions: BTreeMap<usize, usize> = BTreeMap::new();
    let mut alike: BTreeMap<(Point, String), (usize, &str)> = BTreeMap::new();
    let mut failed = 0;
    for (case, verdict) in cases.iter().zip(verdicts) {
        *classes.entry(case.fault.class()).or_default() += 1;
        for exception in &verdict.excepted {
            *exceptions.entry(*exception).or_default() += 1;
        }
        failed += usize::from(!verdict.breaches.is_empty());
        for breach in &verdict.breaches {
            let call = &listed[case.kind].0[case.call].name;
            let kind = case.name.split(':').next().unwrap_or_default();
            let class = format!("{kind}, {} at {call}: {}", case.fault.class(), breach.what);
            alike.entry((breach.point, class)).or_insert((0, &case.name)).0 += 1;
        }
    }
    for ((point, class), (count, example)) in alike {
        println!("{point:?}: {count} x {class} ({example})");
    }
    for (class, count) in classes {
        println!("{class}: {count}");
    }
    let missed = verdicts.iter().filter(|verdict| !verdict.is_hit).count();
    println!("not come to pass: {missed}");
    for (exception, count) in exceptions {
        println!("excepted: {count} x {}", EXCEPTIONS[exception].reason);
    }
    failed
}
