//! What real servers leave in an archive: three standbys that share one, and `archive_cleanup_command`.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod pair;
mod server;

use std::fs;
use std::path::Path;

use pair::{Pair, ROWS};
use server::{PATIENCE, Result, Server, Site, wait_for};

pair::tests_on!(postgresql_10 10, postgresql_18 18: [
    three_standbys_share_an_archive_and_the_one_that_was_stopped_catches_up,
    archive_cleanup_command_prunes_for_a_standby_that_streams,
]);

/// The segment that a standby has on record.
fn record(site: &Site, name: &str) -> Option<String> {
    let record = fs::read_to_string(site.archive().join(".pg_standby").join(name)).ok()?;
    Some(record.trim().to_owned())
}

/// The oldest segment in the archive.
fn oldest(site: &Site) -> Result<String> {
    let mut segments = site.archived()?;
    segments.retain(|name| name.len() == 24);
    segments.sort();
    Ok(segments.first().cloned().unwrap_or_default())
}

/// Moves the restart point of the standbys, and ships what lets them say so.
fn move_restart_points(pair: &mut Pair, others: &mut [&mut Server]) -> Result<()> {
    pair.primary.sql("checkpoint")?;
    ship_to(pair, others)?;
    pair.standby.sql("checkpoint")?;
    for standby in others.iter() {
        standby.sql("checkpoint")?;
    }
    // A call that is already waiting has the restart point of before.
    ship_to(pair, others)?;
    ship_to(pair, others)
}

fn ship_to(pair: &mut Pair, others: &mut [&mut Server]) -> Result<()> {
    pair.ship()?;
    pair.standby_sees_every_row()?;
    for standby in others {
        standby.wait_until(ROWS, &pair.rows.to_string(), PATIENCE)?;
    }
    Ok(())
}

fn three_standbys_share_an_archive_and_the_one_that_was_stopped_catches_up(
    major: u32,
) -> Result<()> {
    let command =
        |site: &Site, name: &str| site.restore_command(&format!("-s 1 --standby-name {name}"));
    let mut pair = Pair::new(major, |site| command(site, "a"))?;
    let site = pair.site.clone();
    let mut b = pair.primary.warm_standby("b", &command(&site, "b"))?;
    let mut c = pair.primary.warm_standby("c", &command(&site, "c"))?;
    for standby in [&mut pair.standby, &mut b, &mut c] {
        standby.start()?;
    }
    ship_to(&mut pair, &mut [&mut b, &mut c])?;
    move_restart_points(&mut pair, &mut [&mut b, &mut c])?;
    let records = ["a", "b", "c"].map(|name| record(&site, name).expect("a record"));
    assert_eq!(Some(&oldest(&site)?), records.iter().min(), "{records:?}");

    c.stop_fast()?;
    let stopped = record(&site, "c").unwrap();
    for _ in 0..2 {
        move_restart_points(&mut pair, &mut [&mut b])?;
    }
    assert!(record(&site, "a").unwrap() > stopped && record(&site, "b").unwrap() > stopped);
    assert_eq!(record(&site, "c").unwrap(), stopped);
    assert_eq!(oldest(&site)?, stopped, "nothing that c needs is gone, and nothing else is left");

    c.start()?;
    move_restart_points(&mut pair, &mut [&mut b, &mut c])?;
    assert!(oldest(&site)? > stopped);
    for standby in [&pair.standby, &b, &c] {
        assert!(standby.is_in_recovery()?);
        assert!(!standby.log().contains("nothing is pruned"), "{}", standby.log());
    }
    Ok(())
}

fn archive_cleanup_command_prunes_for_a_standby_that_streams(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |site| site.restore_command(""))?;
    let site = pair.site.clone();
    let program = site.pg_standby();
    let archive = site.archive();
    let quoted = |path: &Path| path.display().to_string();
    let restore = format!("{} --no-wait {} %f %p", quoted(&program), quoted(&archive));
    pair.standby.enter_standby_mode(&restore, Some(&pair.primary))?;
    let cleanup = format!("{} --prune --standby-name a {} %r", quoted(&program), quoted(&archive));
    pair.standby.set_recovery("archive_cleanup_command", &cleanup)?;
    let first = pair.ship()?;
    pair.standby.start()?;
    pair.standby_sees_every_row()?;
    for _ in 0..3 {
        pair.ship()?;
    }
    pair.primary.sql("checkpoint")?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    pair.standby.sql("checkpoint")?;
    wait_for("the first segment to go", PATIENCE, || Ok(!site.archived()?.contains(&first)))?;
    let needed = record(&site, "a").expect("a record");
    assert!(needed > first);
    wait_for("all before it to go", PATIENCE, || Ok(oldest(&site)? == needed))?;
    assert!(!pair.standby.log().contains("archive_cleanup_command"), "{}", pair.standby.log());
    pair.assert_still_a_standby()
}
