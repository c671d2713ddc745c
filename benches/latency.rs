//! How late a warm standby is, on real servers and with default options: from its start until it can be read, from a
//! segment's arrival in the archive until its rows are seen, from a request for failover until it takes writes. And with
//! `--partial`, behind `pg_receivewal`, from a commit until its row is seen.
//!
//! `cargo bench --bench latency`, or with versions behind `--`. `PG_STANDBY_UNDER_TEST` measures another program.

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/machine/mod.rs"]
mod machine;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/servers/pair.rs"]
mod pair;
#[allow(
    dead_code,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the tests use the rest, and may panic"
)]
#[path = "../tests/servers/shipment.rs"]
mod shipment;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use machine::{Doing, Installation, Machine, PATIENCE, Result, wait_for};
use pair::{PG_STANDBY, Pair, ROWS};
use shipment::{Home, Receiver, make_synchronous, shipped_pair};

const SEGMENTS: usize = 20;
const ROUNDS: usize = 6;
const COMMITS: i32 = 200;

fn main() -> ExitCode {
    let given: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let versions = if given.is_empty() { vec![10, 18] } else { given };
    match versions.into_iter().try_for_each(measure).and_then(|()| measure_records()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(major: u32) -> Result<()> {
    let [mut readable, mut seen, mut smart, mut promote] = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let mut pair = Pair::new(major, |machine| machine.restore_command(""))?;
        pair.ship()?;
        pair.standby.start()?;
        readable.push(pair.standby.wait_until("select 1", "1", PATIENCE)?);
        pair.standby_sees_every_row()?;
        let outbox = archive_aside(&pair)?;
        for _ in 0..if round == 0 { SEGMENTS } else { 1 } {
            seen.push(deliver(&mut pair, &outbox)?);
        }
        let begin = Instant::now();
        let times = if round % 2 == 0 {
            pair.machine.ask_for_failover("smart")?;
            &mut smart
        } else {
            pair.standby.promote()?;
            &mut promote
        };
        pair.standby.wait_for_promotion()?;
        times.push(begin.elapsed());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "PostgreSQL {major}: milliseconds, median and longest")?;
    row(&mut out, "start until readable", readable)?;
    row(&mut out, "segment in the archive until its rows are seen", seen)?;
    row(&mut out, "smart trigger file until primary", smart)?;
    row(&mut out, "pg_ctl promote until primary", promote)
}

/// Commits one row at a time, at moments that have nothing to do with the hand-overs, and waits until the standby shows it.
/// The receiver is the primary's synchronous standby.
fn measure_records() -> Result<()> {
    let installation = Installation::with("pg_receivewal")?;
    let machine = Machine::on(installation, PG_STANDBY)?;
    let mut pair = shipped_pair(machine, &[], Home::StandbyMode, "--partial=0.1")?;
    let _receiver = Receiver::start(&pair.machine, &pair.primary)?;
    pair.standby.start()?;
    make_synchronous(&pair.primary)?;
    pair.standby_sees_every_row()?;
    let [mut primary, mut standby] = [pair.primary.connect()?, pair.standby.connect()?];
    let mut times = Vec::new();
    for number in 1..=COMMITS {
        sleep(Duration::from_millis(u64::from(number.unsigned_abs()) * 37 % 300));
        primary.execute("insert into orders values ($1)", &[&number])?;
        let begin = Instant::now();
        while standby.query_one(ROWS, &[])?.get::<_, i64>(0) != i64::from(number) {
            if begin.elapsed() > PATIENCE {
                return Err(machine::Failure::new(format!("row {number} is not seen")));
            }
            sleep(Duration::from_millis(1));
        }
        times.push(begin.elapsed());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "PostgreSQL {}, pg_receivewal, --partial=0.1", pair.primary.major())?;
    row(&mut out, "commit until its row is seen", times)
}

/// From now on the primary archives into a directory that the standby does not see.
fn archive_aside(pair: &Pair) -> Result<PathBuf> {
    let outbox = pair.machine.path().join("outbox");
    pair.machine.make_directory(&outbox)?;
    pair.primary.set("archive_command", &format!("cp %p {}/%f", outbox.display()))?;
    pair.primary.pg_ctl(&["reload"])?;
    let expected = format!("cp %p {}/%f", outbox.display());
    wait_for("the new archive_command", PATIENCE, || {
        Ok(pair.primary.value("show archive_command")? == expected)
    })?;
    Ok(outbox)
}

/// Renames the next segment into the archive while the program waits for it; gives the time until its rows are seen.
fn deliver(pair: &mut Pair, outbox: &Path) -> Result<Duration> {
    let values = "insert into orders select generate_series(1, 1000)";
    pair.primary.sql(values)?;
    pair.rows = pair.rows.saturating_add(1000);
    let segment = pair.primary.value("select pg_walfile_name(pg_switch_wal())")?;
    let done = pair.primary.data.join(format!("pg_wal/archive_status/{segment}.done"));
    wait_for("archiving", PATIENCE, || Ok(done.exists()))?;
    let mut session = pair.standby.connect()?;
    wait_for("the wait", PATIENCE, || Ok(pair.standby.running("pg_standby").len() == 1))?;
    sleep(Duration::from_millis(100));

    let expected = i64::from(pair.rows);
    let arrival = pair.machine.archive().join(&segment);
    let begin = Instant::now();
    fs::rename(outbox.join(&segment), &arrival).doing(arrival.display())?;
    while session.query_one(ROWS, &[])?.get::<_, i64>(0) != expected {
        if begin.elapsed() > PATIENCE {
            return Err(machine::Failure::new(format!("{segment}: its rows are not seen")));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(begin.elapsed())
}

fn row(out: &mut impl Write, what: &str, mut times: Vec<Duration>) -> Result<()> {
    times.sort();
    let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let median = milliseconds(times.get(times.len() / 2));
    let longest = milliseconds(times.last());
    writeln!(out, "  {what:<48}{median:>8.1}{longest:>8.1}   (of {})", times.len())?;
    Ok(())
}
