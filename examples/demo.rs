//! `make demo`: a warm standby from its first start to its failover, on this machine, in a few seconds.
//!
//! One primary archives its WAL with `cp`; one standby restores it with `pg_standby`. Each step is timed and
//! checked, so that exit status 0 says that all of it was seen to work. The version is the newest that there is,
//! or the argument: `cargo run --example demo 15`. Everything lives in a temporary directory and on
//! 127.0.0.1.

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/machine/mod.rs"]
mod machine;
#[path = "../tests/soak/terminal.rs"]
mod terminal;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use machine::{Doing, Failure, Installation, Machine, PATIENCE, Result, Server};
use terminal::{Interrupted, say};

const ROWS: &str = "select count(*) from orders";
const ROWS_A_SEGMENT: u32 = 10_000;
const WAITS: &str = "select case when pg_is_in_recovery() then 'yes' else 'no' end";

fn main() -> ExitCode {
    let interrupted = Interrupted::default();
    let outcome = demo(&interrupted);
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    // An interruption makes one of the steps fail as well.
    let failure = interrupted.check().err().unwrap_or(failure);
    let _ = writeln!(io::stderr(), "\ndemo: this did not work: {failure}");
    ExitCode::FAILURE
}

fn demo(interrupted: &Interrupted) -> Result<()> {
    interrupted.watch()?;
    let installation = match std::env::args().nth(1) {
        Some(major) => Installation::of(
            major.parse().doing(format_args!("`{major}` is no version of PostgreSQL"))?,
        )?,
        None => newest()?,
    };
    let machine = Machine::on(installation, &built_pg_standby()?)?;
    let restore_command = machine.restore_command("-s 1");
    let mut primary = machine.primary(&[])?;
    let mut standby = primary.warm_standby("standby", &restore_command)?;

    heading("A primary and a warm standby")?;
    primary.start_and_wait()?;
    fact("PostgreSQL", &primary.value("show server_version")?)?;
    fact("primary", &format!("127.0.0.1:{}", primary.port))?;
    fact("archive_command", &primary.value("show archive_command")?)?;
    fact("standby", &format!("127.0.0.1:{}, a cold copy of the primary", standby.port))?;
    fact("restore_command", &restore_command)?;

    primary.sql("create table orders (number int)")?;
    primary.switch_wal()?;
    standby.start()?;
    let readable = standby.wait_until("select pg_is_in_recovery()", "t", PATIENCE)?;
    step("the standby can be read", &format!("{} after its start", seconds(readable)))?;
    interrupted.check()?;

    heading("Each segment of WAL that the primary completes appears on the standby")?;
    say(format_args!(
        "  {:<24}  {:>14}  {:>29}",
        "segment", "rows in all", "seen there, once archived"
    ))?;
    let mut rows: u32 = 0;
    for _ in 0..5 {
        rows = rows.saturating_add(ROWS_A_SEGMENT);
        let segment = ship(&primary)?;
        let lag = standby.wait_until(ROWS, &rows.to_string(), PATIENCE)?;
        say(format_args!(
            "  {segment:<24}  {rows:>14}  {:>29}",
            format!("after {}", seconds(lag))
        ))?;
        interrupted.check()?;
    }

    heading("The primary is lost, with segments that the standby has not read yet")?;
    let down = standby.stop_fast()?;
    step("a fast shutdown of the waiting standby", &seconds(down))?;
    for _ in 0..3 {
        rows = rows.saturating_add(ROWS_A_SEGMENT);
        step("archived meanwhile", &ship(&primary)?)?;
    }
    primary.stop_immediate()?;
    step("the primary", "gone")?;
    standby.start()?;
    let caught_up = standby.wait_until(ROWS, &rows.to_string(), PATIENCE)?;
    step("started again, the standby has all rows", &seconds(caught_up))?;
    check("and waits for more", &standby.value(WAITS)?, "yes")?;
    interrupted.check()?;

    heading("Failover")?;
    fact("trigger file", &format!("echo smart >{}", machine.trigger_file().display()))?;
    machine.ask_for_failover("smart")?;
    let failover = standby.wait_for_promotion()?;
    step("the standby is a primary", &seconds(failover))?;
    check("its timeline", &standby.timeline()?, "2")?;
    check("rows, none lost", &standby.value(ROWS)?, &rows.to_string())?;
    standby.sql("insert into orders values (0)")?;
    check("rows, one written here", &standby.value(ROWS)?, &rows.saturating_add(1).to_string())?;

    let said: Vec<String> = standby
        .log()
        .lines()
        .filter(|line| line.starts_with("pg_standby: "))
        .map(Into::into)
        .collect();
    if !said.is_empty() {
        heading("What pg_standby wrote to the standby's log")?;
        for line in said {
            say(format_args!("  {line}"))?;
        }
    }
    standby.stop_fast()?;
    let directory = machine.path().to_owned();
    drop((standby, primary, machine));
    if directory.exists() {
        return Err(Failure::new(format!("{} could not be removed", directory.display())));
    }
    say(format_args!("\nEvery step worked. Both servers are stopped, their files removed."))?;
    Ok(())
}

/// Rows on the primary, in a segment of their own that is in the archive. Gives its name.
fn ship(primary: &Server) -> Result<String> {
    primary.sql(&format!("insert into orders select generate_series(1, {ROWS_A_SEGMENT})"))?;
    primary.switch_wal()
}

fn newest() -> Result<Installation> {
    let brings = "there is no PostgreSQL; this brings one:\n\n    scripts/get-postgres any\n";
    let found = (10..=18).rev().find_map(|major| Installation::of(major).ok());
    found.ok_or_else(|| Failure::new(brings))
}

fn heading(text: &str) -> Result<()> {
    say(format_args!("\n{text}\n"))
}

fn fact(name: &str, value: &str) -> Result<()> {
    say(format_args!("  {name:<16}  {value}"))
}

fn step(what: &str, outcome: &str) -> Result<()> {
    say(format_args!("  {what:<42}  {outcome:>29}"))
}

fn check(what: &str, seen: &str, expected: &str) -> Result<()> {
    if seen != expected {
        return Err(Failure::new(format!("{what}: {seen}, and not {expected}")));
    }
    step(what, seen)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Returns where the program is that was built with this example: beside its directory.
fn built_pg_standby() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    example
        .ancestors()
        .nth(2)
        .map(|profile| profile.join("pg_standby"))
        .filter(|program| program.exists())
        .ok_or_else(|| Failure::new("pg_standby is not built; cargo build --bins builds it"))
}
