//! What operators do to a standby, on real servers: promote it, crash it, let it stream, let it read ahead. Rewinding the
//! old primary is in rewind.rs.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::machine::{PATIENCE, Result, wait_for};
use crate::pair::{Pair, ROWS};

tests_on_every_version!(
    pg_ctl_promote_ends_the_wait,
    a_crash_of_the_postmaster_is_noticed_and_the_server_starts_again,
    standby_mode_takes_from_the_archive_and_streams,
    standby_mode_without_a_connection_gets_each_segment_from_a_long_poll,
);

/// No look is due within [`PATIENCE`]: what happens, happens because something woke the program.
const BLIND: &str = "-s 60";

fn pg_ctl_promote_ends_the_wait(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(BLIND))?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    pair.standby.promote()?;
    pair.standby.wait_for_promotion()?;
    pair.assert_failed_over_with(pair.rows)?;
    assert!(pair.standby.log().contains("smart failover requested by pg_ctl promote"));
    Ok(())
}

fn pg_promote_ends_the_wait(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(BLIND))?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    assert_eq!(pair.standby.value("select pg_promote(true, 20)")?, "t");
    pair.assert_failed_over_with(pair.rows)
}

#[test]
fn pg_promote_ends_the_wait_on_12() -> Result<()> {
    pg_promote_ends_the_wait(12)
}

#[test]
fn pg_promote_ends_the_wait_on_15() -> Result<()> {
    pg_promote_ends_the_wait(15)
}

#[test]
fn pg_promote_ends_the_wait_on_18() -> Result<()> {
    pg_promote_ends_the_wait(18)
}

fn a_crash_of_the_postmaster_is_noticed_and_the_server_starts_again(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command("-s 1 -d"))?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    wait_for("the wait", PATIENCE, || Ok(pair.standby.running("pg_standby").len() == 1))?;

    let before = pair.machine.archived()?;
    pair.standby.kill_postmaster()?;
    wait_for("its end", PATIENCE, || Ok(pair.standby.running("pg_standby").is_empty()))?;
    assert!(pair.standby.log().contains(") is gone"));
    assert_eq!(pair.machine.archived()?, before);
    assert!(!pair.machine.trigger_file().exists());
    assert!(!pair.standby.data.join("pg_wal/RECOVERYXLOG").exists());

    wait_for("the end of the rest", PATIENCE, || Ok(pair.standby.running("postgres").is_empty()))?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()
}

fn standby_mode_takes_from_the_archive_and_streams(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(""))?;
    let restore_command = pair.machine.restore_command("--no-wait");
    pair.standby.enter_standby_mode(&restore_command, Some(&pair.primary))?;
    for _ in 0..3 {
        pair.ship()?;
    }
    // The primary forgets what it has archived: only the archive has it now.
    pair.primary.sql("checkpoint")?;
    pair.standby.start()?;
    pair.standby_sees_every_row()?;
    assert!(pair.standby.log().contains("restored log file"));

    pair.primary.sql("insert into orders values (0)")?;
    pair.rows = pair.rows.saturating_add(1);
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()?;

    if major >= 12 {
        assert_eq!(pair.standby.value("select pg_promote()")?, "t");
    } else {
        pair.standby.promote()?;
    }
    pair.assert_failed_over_with(pair.rows)
}

fn standby_mode_without_a_connection_gets_each_segment_from_a_long_poll(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(""))?;
    let restore_command = pair.machine.restore_command(&format!("{BLIND} -d -w 5"));
    pair.standby.enter_standby_mode(&restore_command, None)?;
    pair.standby.start()?;
    for _ in 0..3 {
        pair.ship()?;
        pair.standby_sees_every_row()?;
    }
    // Longer than a poll: the server comes again, and is in recovery still.
    let given_up = || pair.standby.log().contains("the server will ask again");
    wait_for("the end of a poll", PATIENCE, || Ok(given_up()))?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()?;
    pair.standby.promote()?;
    pair.standby.wait_for_promotion()?;
    pair.assert_failed_over_with(pair.rows)
}

/// Returns a standby that has two segments, and the name of the second. From 15 on `recovery_prefetch` decides when the
/// last rows of a segment are visible.
fn reads_ahead(major: u32, recovery_prefetch: Option<&str>) -> Result<(Pair, String)> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(BLIND))?;
    // The settings of a standby in this harness turn it off; the default is what a missing line means.
    let settings = pair.standby.data.join("postgresql.conf");
    let without: Vec<_> = fs::read_to_string(&settings)?
        .lines()
        .filter(|line| !line.starts_with("recovery_prefetch"))
        .map(str::to_owned)
        .collect();
    pair.machine.write(&settings, without.join("\n") + "\n")?;
    if let Some(value) = recovery_prefetch {
        pair.standby.set("recovery_prefetch", value)?;
    }
    pair.standby.start()?;
    pair.ship()?;
    let last = pair.ship()?;
    pair.standby.wait_until("select count(*) > 0 from orders", "t", PATIENCE)?;
    Ok((pair, last))
}

const WARNING: &str = "set recovery_prefetch = off";

fn the_last_rows_of_a_segment_are_held_back_unless_recovery_prefetch_is_off(
    major: u32,
) -> Result<()> {
    let (mut pair, _) = reads_ahead(major, None)?;
    sleep(Duration::from_secs(2));
    let seen: u32 = pair.standby.value(ROWS)?.parse()?;
    assert!(seen < pair.rows, "{seen} of {} rows: nothing is held back", pair.rows);
    let held_back = pair.rows.to_string();
    pair.ship()?;
    pair.standby.wait_until(
        &format!("select count(*) >= {held_back} from orders"),
        "t",
        PATIENCE,
    )?;
    assert_eq!(pair.standby.log().matches(WARNING).count(), 1, "{}", pair.standby.log());
    // The same file for a server that was told to promote: whatever is held back is replayed first.
    pair.standby.promote()?;
    pair.assert_failed_over_with(pair.rows)?;
    assert_eq!(pair.standby.log().matches(WARNING).count(), 1, "{}", pair.standby.log());

    let (mut pair, _) = reads_ahead(major, Some("off"))?;
    pair.standby_sees_every_row()?;
    assert!(!pair.standby.log().contains(WARNING));
    Ok(())
}

#[test]
fn the_last_rows_of_a_segment_are_held_back_by_15_unless_recovery_prefetch_is_off() -> Result<()> {
    the_last_rows_of_a_segment_are_held_back_unless_recovery_prefetch_is_off(15)
}

#[test]
fn the_last_rows_of_a_segment_are_held_back_by_18_unless_recovery_prefetch_is_off() -> Result<()> {
    the_last_rows_of_a_segment_are_held_back_unless_recovery_prefetch_is_off(18)
}

/// Ships three segments that the standby has not read.
fn a_fast_failover_drops_exactly_the_segments_that_are_unread(
    major: u32,
    recovery_prefetch: Option<&str>,
) -> Result<()> {
    let (mut pair, last) = reads_ahead(major, recovery_prefetch)?;
    let read = pair.standby.data.join("pg_wal").join(last);
    wait_for("the last segment", PATIENCE, || Ok(read.exists()))?;
    pair.standby.stop_fast()?;
    let rows = pair.rows;
    for _ in 0..3 {
        pair.ship()?;
    }
    pair.machine.ask_for_failover("fast")?;
    pair.standby.start()?;
    pair.assert_failed_over_with(rows)?;
    let mark = fs::read_to_string(pair.machine.trigger_file())?;
    assert!(mark.starts_with("smart before 0"), "{mark:?}");
    Ok(())
}

#[test]
fn a_fast_failover_drops_exactly_the_segments_that_15_has_not_read() -> Result<()> {
    a_fast_failover_drops_exactly_the_segments_that_are_unread(15, None)?;
    a_fast_failover_drops_exactly_the_segments_that_are_unread(15, Some("off"))
}

#[test]
fn a_fast_failover_drops_exactly_the_segments_that_18_has_not_read() -> Result<()> {
    a_fast_failover_drops_exactly_the_segments_that_are_unread(18, None)?;
    a_fast_failover_drops_exactly_the_segments_that_are_unread(18, Some("off"))
}
