//! What remains in an archive with real servers: three standbys that share it, and `archive_cleanup_command`.

use std::fs;
use std::path::Path;

use crate::machine::{Machine, PATIENCE, Result, Server, wait_for};
use crate::pair::{Pair, ROWS};

tests_on!(postgresql_10 10, postgresql_18 18: [
    three_standbys_share_an_archive_and_the_one_that_was_stopped_catches_up,
    archive_cleanup_command_prunes_for_a_standby_that_streams,
]);

/// The segment that a standby has registered.
fn registration(machine: &Machine, name: &str) -> Option<String> {
    let registration = fs::read_to_string(machine.archive().join(".pg_standby").join(name)).ok()?;
    registration.lines().next().map(str::to_owned)
}

/// The oldest segment in the archive.
fn oldest(machine: &Machine) -> Result<String> {
    let mut segments = machine.archived()?;
    segments.retain(|name| name.len() == 24);
    segments.sort();
    Ok(segments.first().cloned().unwrap_or_default())
}

/// Moves the restart point of the standbys, and ships segments until they have passed it on.
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
    let command = |machine: &Machine, name: &str| {
        machine.restore_command(&format!("-s 1 --standby-name {name}"))
    };
    let mut pair = Pair::new(major, |machine| command(machine, "a"))?;
    let machine = pair.machine.clone();
    let mut b = pair.primary.warm_standby("b", &command(&machine, "b"))?;
    let mut c = pair.primary.warm_standby("c", &command(&machine, "c"))?;
    // The others may begin later in WAL than the first, whose registration must be there before they prune.
    pair.standby.start()?;
    ship_to(&mut pair, &mut [])?;
    for standby in [&mut b, &mut c] {
        standby.start()?;
    }
    ship_to(&mut pair, &mut [&mut b, &mut c])?;
    move_restart_points(&mut pair, &mut [&mut b, &mut c])?;
    let registrations =
        ["a", "b", "c"].map(|name| registration(&machine, name).expect("a registration"));
    assert_eq!(Some(&oldest(&machine)?), registrations.iter().min(), "{registrations:?}");

    c.stop_fast()?;
    let stopped = registration(&machine, "c").unwrap();
    for _ in 0..2 {
        move_restart_points(&mut pair, &mut [&mut b])?;
    }
    assert!(
        registration(&machine, "a").unwrap() > stopped
            && registration(&machine, "b").unwrap() > stopped
    );
    assert_eq!(registration(&machine, "c").unwrap(), stopped);
    assert_eq!(
        oldest(&machine)?,
        stopped,
        "nothing that c needs is gone, and nothing else is left"
    );

    c.start()?;
    move_restart_points(&mut pair, &mut [&mut b, &mut c])?;
    assert!(oldest(&machine)? > stopped);
    for standby in [&pair.standby, &b, &c] {
        assert!(standby.is_in_recovery()?);
        assert!(!standby.log().contains("nothing is pruned"), "{}", standby.log());
    }
    Ok(())
}

fn archive_cleanup_command_prunes_for_a_standby_that_streams(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command(""))?;
    let machine = pair.machine.clone();
    let program = machine.pg_standby();
    let archive = machine.archive();
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
    wait_for("the first segment to go", PATIENCE, || Ok(!machine.archived()?.contains(&first)))?;
    let needed = registration(&machine, "a").expect("a registration");
    assert!(needed > first);
    wait_for("all before it to go", PATIENCE, || Ok(oldest(&machine)? == needed))?;
    assert!(!pair.standby.log().contains("archive_cleanup_command"), "{}", pair.standby.log());
    pair.assert_still_a_standby()
}
