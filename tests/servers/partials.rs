//! Everything that can be wrong with a segment that is still being received: the standby holds or goes on, and nothing of it
//! is replayed that the primary has not written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::machine::{PATIENCE, Result, wait_for};
use crate::pair::ROWS;
use crate::shipment::received;
use crate::trial::{OFTEN, Trial};

tests_on!(postgresql_10 10, postgresql_15 15, postgresql_18 18: [
    a_partial_segment_that_is_cut_short_or_was_torn_counts_up_to_its_last_whole_record,
    a_partial_segment_of_another_cluster_or_place_is_waited_out,
    a_partial_segment_that_becomes_whole_at_any_moment_comes_through,
    an_archive_that_may_only_be_read_is_followed,
]);

/// Hand-overs are as close as they may be.
const SOON: &str = "--partial=0.05";
/// Where the identifier of the cluster stands in a segment.
const SYSTEM_IDENTIFIER: usize = 24;
/// Where the LSN of its first page does.
const LSN: usize = 8;

/// A standby that follows a segment while it is received.
fn trial(major: u32) -> Result<Trial> {
    Trial::in_standby_mode(major, &format!("{OFTEN} {SOON}"))
}

/// Adds ten rows in one transaction. Gives the segment as a receiver has it then.
fn grow(trial: &mut Trial) -> Result<(String, Vec<u8>)> {
    trial.pair.primary.sql("insert into orders select generate_series(1, 10)")?;
    trial.pair.rows = trial.pair.rows.saturating_add(10);
    received(&trial.pair.primary)
}

/// How much of it has been received, but for zeros at the end of the last record.
fn length(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn partial(segment: &str) -> String {
    format!("{segment}.partial")
}

fn a_partial_segment_that_is_cut_short_or_was_torn_counts_up_to_its_last_whole_record(
    major: u32,
) -> Result<()> {
    let mut trial = trial(major)?;
    let (segment, first) = grow(&mut trial)?;
    let rows = trial.pair.rows;
    let (_, second) = grow(&mut trial)?;
    let half = length(&first).midpoint(length(&second));
    // A file that ends there; zeros from there on, at once and after it was longer; an empty one.
    trial.put(&partial(&segment), &second[..half])?;
    trial.pair.standby.wait_until(ROWS, &rows.to_string(), PATIENCE)?;
    let mut torn = second.clone();
    torn[half..].fill(0);
    for bytes in [&torn[..], &torn[..100], b"", &first[..]] {
        trial.put(&partial(&segment), bytes)?;
        hears_of(&mut trial, 3)?;
        assert_eq!(trial.pair.standby.value(ROWS)?, rows.to_string());
    }
    // A record whose middle has not come, as after a crash of the receiver's machine.
    let mut holed = second.clone();
    holed[half - 8..half + 8].fill(0);
    trial.put(&partial(&segment), &holed)?;
    hears_of(&mut trial, 3)?;
    assert_eq!(trial.pair.standby.value(ROWS)?, rows.to_string());
    trial.put(&partial(&segment), &second)?;
    trial.pair.standby_sees_every_row()?;
    // From the start again, as a receiver does it that was started anew.
    let path = trial.archive().join(partial(&segment));
    let (_, third) = grow(&mut trial)?;
    for part in 1..8 {
        fs::write(&path, &third[..length(&third) * part / 8])?;
        hears_of(&mut trial, 1)?;
    }
    fs::write(&path, &third)?;
    trial.pair.standby_sees_every_row()?;
    assert_eq!(segment, grow(&mut trial)?.0, "a segment is long enough for this");
    trial.pair.assert_still_a_standby()
}

/// Waits until so many more calls have begun and ended without anything new.
fn hears_of(trial: &mut Trial, calls: usize) -> Result<()> {
    let said = |trial: &Trial| {
        trial.pair.standby.log().matches("and the archive has no more of it").count()
            + trial.pair.standby.log().matches("\" is not ready: ").count()
            + trial.pair.standby.log().matches("restored log file").count()
    };
    let before = said(trial);
    let heard = wait_for("calls with nothing new", PATIENCE, || {
        trial.must_hold()?;
        Ok(said(trial) >= before + calls)
    });
    heard.map_err(|failure| trial.pair.standby.with_log(&failure))?;
    Ok(())
}

fn a_partial_segment_of_another_cluster_or_place_is_waited_out(major: u32) -> Result<()> {
    let mut trial = trial(major)?;
    let (segment, good) = grow(&mut trial)?;
    let with = |offset: usize| {
        let mut bytes = good.clone();
        bytes[offset + 1] ^= 1;
        bytes
    };
    for (bytes, words) in
        [(with(SYSTEM_IDENTIFIER), "from another cluster"), (with(LSN + 2), "LSN")]
    {
        trial.listen();
        trial.put(&partial(&segment), &bytes)?;
        trial.says(words)?;
        trial.pair.assert_still_a_standby()?;
        assert_eq!(trial.pair.standby.value(ROWS)?, (trial.pair.rows - 10).to_string());
    }
    trial.put(&partial(&segment), &good)?;
    trial.pair.standby_sees_every_row().map(drop)
}

fn a_partial_segment_that_becomes_whole_at_any_moment_comes_through(major: u32) -> Result<()> {
    let mut trial = trial(major)?;
    for turn in 0..6 {
        let (segment, bytes) = grow(&mut trial)?;
        trial.put(&partial(&segment), &bytes)?;
        if turn % 3 == 0 {
            trial.pair.standby_sees_every_row()?;
        }
        grow(&mut trial)?;
        let whole = trial.pair.ship()?;
        assert_eq!(whole, segment);
        if turn % 2 == 0 {
            // As pg_receivewal does it: the partial one is completed, and gets the other name.
            let path = trial.archive().join(partial(&segment));
            fs::write(&path, fs::read(trial.pair.machine.archive().join(&whole))?)?;
            fs::rename(&path, trial.archive().join(&whole))?;
        } else {
            trial.deliver(&whole)?;
            // The partial one stays, and is older: nobody goes back to it.
        }
        if turn % 3 != 1 {
            trial.pair.standby_sees_every_row()?;
        }
    }
    trial.pair.standby_sees_every_row()?;
    trial.pair.assert_still_a_standby()
}

fn an_archive_that_may_only_be_read_is_followed(major: u32) -> Result<()> {
    let mut trial = trial(major)?;
    let (segment, bytes) = grow(&mut trial)?;
    trial.put(&partial(&segment), &bytes)?;
    let path = trial.archive().join(partial(&segment));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444))?;
    fs::set_permissions(trial.archive(), fs::Permissions::from_mode(0o555))?;
    let followed = trial.pair.standby_sees_every_row();
    trial.pair.machine.ask_for_failover("smart")?;
    let rows = trial.pair.rows;
    let failed_over = trial.pair.assert_failed_over_with(rows);
    fs::set_permissions(trial.archive(), fs::Permissions::from_mode(0o700))?;
    followed?;
    failed_over
}

#[test]
fn a_standby_without_room_for_a_part_stops_and_later_goes_on() -> Result<()> {
    let mut trial = Trial::in_standby_mode(18, &format!("-s 0.1 -r 1 {SOON}"))?;
    trial.pair.standby.stop_fast()?;
    // Room for less than what was received.
    trial.before_each_call("ulimit -f 8")?;
    let (segment, bytes) = grow(&mut trial)?;
    trial.put(&partial(&segment), &bytes)?;
    trial.listen();
    trial.pair.standby.start()?;
    trial.stops("child process exited with exit code 201")?;
    trial.nothing_before_a_call()?;
    trial.pair.standby.start()?;
    trial.pair.standby_sees_every_row()?;
    trial.pair.assert_still_a_standby()
}
