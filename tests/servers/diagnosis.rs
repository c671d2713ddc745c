//! What a standby's log says of an archive from which the next segment cannot come, and that the advice helps.

use std::fs;
use std::path::Path;

use crate::machine::{Doing, Machine, PATIENCE, Result, wait_for};
use crate::pair::{Pair, ROWS};
use crate::trial::Trial;

tests_on!(postgresql_10 10, postgresql_18 18: [
    a_hole_is_said_and_filled,
    an_archive_without_segments_is_said_before_the_server_is_consistent_and_never_after,
    a_form_that_is_not_read_is_said,
    a_later_timeline_is_said_and_followed_after_a_restart,
    messages_are_in_the_log_file_and_not_where_csvlog_goes,
]);

const OFTEN: &str = "-s 0.2";

fn a_hole_is_said_and_filled(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    let missing = trial.pair.ship()?;
    let later = [trial.pair.ship()?, trial.pair.ship()?, trial.pair.ship()?];
    later.iter().try_for_each(|name| trial.deliver(name))?;
    trial.says(&format!("warning: {missing} is missing in "))?;
    trial.says(&format!("later segments that are there: 3, from {} on; copy it", later[0]))?;
    trial.deliver(&missing)?;
    trial.says(&format!("{missing}\" is ready now"))?;
    trial.pair.standby_sees_every_row()?;
    trial.pair.assert_still_a_standby()
}

fn an_archive_without_segments_is_said_before_the_server_is_consistent_and_never_after(
    major: u32,
) -> Result<()> {
    let mut trial = Trial::not_started(major, OFTEN)?;
    trial.pair.standby.start()?;
    trial.says("there are no segments in ")?;
    trial.says("and the server is not consistent yet")?;
    trial.follow()?;
    let call = trial.call()?;
    for entry in fs::read_dir(trial.archive()).doing("the archive")? {
        fs::remove_file(entry?.path())?;
    }
    trial.listen();
    trial.looks_again(call, 10, |_| Ok(()))?;
    assert!(!trial.heard("warning"), "{}", trial.pair.standby.log());
    trial.follow()
}

fn a_form_that_is_not_read_is_said(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    for (form, advice) in [("bz2", "put it there uncompressed"), ("partial", "give --partial")] {
        let name = trial.pair.ship()?;
        trial.put(&format!("{name}.{form}"), b"not a segment")?;
        trial.says(&format!("warning: {name} is there only as "))?;
        trial.says(advice)?;
        trial.deliver(&name)?;
        trial.pair.standby_sees_every_row()?;
    }
    trial.pair.assert_still_a_standby()
}

fn a_later_timeline_is_said_and_followed_after_a_restart(major: u32) -> Result<()> {
    // Nothing is pruned, as two follow.
    let command = |machine: &Machine| {
        let command = machine.restore_command(OFTEN);
        command.trim_end_matches(" %r").to_owned()
    };
    let mut pair = Pair::new(major, command)?;
    let archive = pair.machine.archive();
    let mut heir = pair.primary.warm_standby("heir", &command(&pair.machine))?;
    heir.set("archive_mode", "on")?;
    heir.set("archive_command", &format!("cp %p {}/%f", archive.display()))?;
    heir.start()?;
    pair.standby.start()?;
    pair.ship()?;
    let rows = pair.rows.to_string();
    heir.wait_until(ROWS, &rows, PATIENCE)?;
    pair.standby_sees_every_row()?;
    heir.promote()?;
    heir.wait_for_promotion()?;
    heir.sql("insert into orders values (1), (2)")?;
    heir.switch_wal()?;
    pair.rows += 2;
    let said = wait_for("the later timeline in the log", PATIENCE, || {
        let log = pair.standby.log();
        let is_said = log.contains("warning: timeline 2 branched off at 0/");
        Ok(is_said && log.contains("restart the standby to follow it, or use standby mode"))
    });
    said.map_err(|failure| pair.standby.with_log(&failure))?;
    assert_eq!(pair.standby.value(ROWS)?, rows);
    pair.standby.stop_fast()?;
    if major < 12 {
        assert!(pair.standby.log().contains(", with recovery_target_timeline = 'latest'"));
        pair.standby.set_recovery("recovery_target_timeline", "latest")?;
    }
    pair.standby.start()?;
    pair.standby_sees_every_row()?;
    assert!(pair.standby.is_in_recovery()?);
    Ok(())
}

fn messages_are_in_the_log_file_and_not_where_csvlog_goes(major: u32) -> Result<()> {
    // In the data directory.
    let mut trial = Trial::not_started(major, "-s 0.2 --log-file standby.log")?;
    let standby = &trial.pair.standby;
    standby.set("logging_collector", "on")?;
    standby.set("log_destination", "csvlog")?;
    standby.set("log_directory", "logs")?;
    trial.pair.standby.start()?;
    trial.follow()?;
    let missing = trial.pair.ship()?;
    let later = trial.pair.ship()?;
    trial.deliver(&later)?;
    let words = format!("warning: {missing} is missing in ");
    let data = &trial.pair.standby.data;
    let in_files = |ending: &str| has_line(&data.join("logs"), ending, &words);
    wait_for("the line in the log file", PATIENCE, || has_line(data, "standby.log", &words))?;
    wait_for("the line in the collector's plain file", PATIENCE, || in_files(".log"))?;
    assert!(!in_files(".csv")?);
    Ok(())
}

/// Returns whether a file with that ending has the words.
fn has_line(directory: &Path, ending: &str, words: &str) -> Result<bool> {
    for entry in fs::read_dir(directory).doing(directory.display())? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ending) && fs::read_to_string(&path)?.contains(words) {
            return Ok(true);
        }
    }
    Ok(false)
}
