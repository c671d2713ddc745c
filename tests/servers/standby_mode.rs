//! Standby mode with nothing but an archive, and no limit to the wait: the server follows, and each way to ask for failover
//! promotes it, once. There a status alone ends nothing.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::machine::{PATIENCE, Result, wait_for};
use crate::pair::{Pair, ROWS};
use crate::trial::waits;

tests_on_every_version!(
    an_unlimited_wait_follows_and_sigusr1_promotes_without_what_comes_after,
    a_smart_trigger_file_promotes_after_everything_that_is_ready,
    a_fast_trigger_file_promotes_before_what_is_not_replayed,
    a_fast_trigger_file_promotes_though_the_archive_is_not_mounted,
    the_mark_of_an_earlier_failover_refuses_and_promotes_nobody,
    an_unlimited_wait_gives_way_to_a_later_timeline,
);

/// No look is due within [`PATIENCE`]: what happens, happens because something woke the program.
const BLIND: &str = "-s 60";

/// A standby that has got a segment.
fn following(major: u32) -> Result<Pair> {
    following_with(major, BLIND)
}

fn following_with(major: u32, options: &str) -> Result<Pair> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(options))?;
    let restore_command = pair.machine.restore_command(options);
    pair.machine.write(&pair.machine.archive().join("mounted"), "")?;
    pair.standby.enter_standby_mode(&restore_command, None)?;
    pair.standby.set_recovery("recovery_target_timeline", "latest")?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    Ok(pair)
}

/// How often the server was asked to promote.
fn promotions(pair: &Pair) -> usize {
    pair.standby.log().matches("received promote request").count()
}

fn promoted_once_with(mut pair: Pair, rows: u32, words: &str) -> Result<()> {
    let failed_over = pair.assert_failed_over_with(rows);
    failed_over.map_err(|failure| pair.standby.with_log(&failure))?;
    let log = pair.standby.log();
    assert_eq!(promotions(&pair), 1, "{log}");
    assert!(log.contains(words), "expected {words:?} in {log}");
    assert!(!pair.standby.data.join("promote").exists());
    Ok(())
}

fn an_unlimited_wait_follows_and_sigusr1_promotes_without_what_comes_after(
    major: u32,
) -> Result<()> {
    let mut pair = following(major)?;
    for _ in 0..2 {
        pair.ship()?;
        pair.standby_sees_every_row()?;
    }
    let mut call = None;
    wait_for("a call that waits", PATIENCE, || {
        call = pair.standby.running("pg_standby").first().copied();
        Ok(call.is_some_and(waits))
    })?;
    // Without -w the same call waits for as long as nothing comes.
    assert!(!pair.standby.log().contains("the server will ask again"));
    kill(call.expect("the call"), Signal::SIGUSR1)?;
    let rows = pair.rows;
    promoted_once_with(pair, rows, "fast failover requested by")
}

fn a_smart_trigger_file_promotes_after_everything_that_is_ready(major: u32) -> Result<()> {
    let mut pair = following(major)?;
    pair.machine.ask_for_failover("smart")?;
    let rows = pair.rows;
    pair.standby.wait_for_promotion()?;
    promoted_once_with(pair, rows, "smart failover requested by trigger file")?;

    let mut pair = following(major)?;
    pair.restart_with_unread_segments("smart")?;
    let rows = pair.rows;
    promoted_once_with(pair, rows, "smart failover requested by trigger file")
}

fn a_fast_trigger_file_promotes_before_what_is_not_replayed(major: u32) -> Result<()> {
    let mut pair = following(major)?;
    let rows = pair.rows;
    pair.restart_with_unread_segments("fast")?;
    promoted_once_with(pair, rows, "fast failover requested by trigger file")
}

fn a_fast_trigger_file_promotes_though_the_archive_is_not_mounted(major: u32) -> Result<()> {
    let pair = following_with(major, &format!("{BLIND} --require-file=mounted"))?;
    fs::remove_file(pair.machine.archive().join("mounted"))?;
    // The server asks for the segment that it has replayed last once more.
    pair.machine.ask_for_failover("fast")?;
    let rows = pair.rows;
    promoted_once_with(pair, rows, "fast failover requested by trigger file")
}

fn the_mark_of_an_earlier_failover_refuses_and_promotes_nobody(major: u32) -> Result<()> {
    let mut pair = following(major)?;
    pair.standby.stop_fast()?;
    let first = pair.ship()?;
    pair.machine.ask_for_failover(&format!("smart before {first}"))?;
    pair.standby.set("wal_retrieve_retry_interval", "50ms")?;
    pair.standby.start()?;
    // As often as the server asks.
    wait_for("refusals", PATIENCE, || {
        Ok(pair.standby.log().matches(&format!("{first} is refused")).count() >= 5)
    })
    .map_err(|failure| pair.standby.with_log(&failure))?;
    pair.assert_still_a_standby()?;
    assert_eq!(promotions(&pair), 0);
    std::fs::remove_file(pair.machine.trigger_file())?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()?;
    assert!(pair.standby.log().contains("remove that file if no failover is wanted"));
    let taken = pair.standby.stop_fast()?;
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    Ok(())
}

/// `recovery_prefetch` is on unless it is turned off.
#[test]
fn a_standby_that_reads_ahead_is_told_once() -> Result<()> {
    for (major, option) in [(15, ""), (15, "--partial=0.1"), (18, ""), (18, "--partial=0.1")] {
        let mut pair = Pair::new(major, |machine| machine.restore_command(option))?;
        let restore_command = pair.machine.restore_command(option);
        pair.standby.enter_standby_mode(&restore_command, None)?;
        let settings = pair.standby.data.join("postgresql.conf");
        let text =
            fs::read_to_string(&settings)?.replace("recovery_prefetch", "#recovery_prefetch");
        pair.machine.write(&settings, text)?;
        pair.standby.start()?;
        for _ in 0..3 {
            pair.ship()?;
        }
        pair.standby.wait_until("select count(*) > 0 from orders", "t", PATIENCE)?;
        assert_eq!(
            pair.standby.log().matches("set recovery_prefetch = off").count(),
            1,
            "{}",
            pair.standby.log()
        );
    }
    Ok(())
}

fn an_unlimited_wait_gives_way_to_a_later_timeline(major: u32) -> Result<()> {
    let mut pair = following(major)?;
    let command = pair.machine.restore_command("").replace(" %r", "");
    let mut heir = pair.primary.warm_standby("heir", &command)?;
    heir.set("archive_mode", "on")?;
    heir.set("archive_command", &format!("cp %p {}/%f", pair.machine.archive().display()))?;
    heir.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    heir.wait_until(ROWS, &pair.rows.to_string(), PATIENCE)?;
    heir.promote()?;
    heir.wait_for_promotion()?;
    // The standby waits for a segment that the old primary never completes.
    heir.sql("insert into orders select generate_series(1, 10)")?;
    heir.switch_wal()?;
    pair.rows += 10;
    let followed = pair.standby_sees_every_row();
    followed.map_err(|failure| pair.standby.with_log(&failure))?;
    assert!(pair.standby.is_in_recovery()?);
    Ok(())
}
