//! Compressed archives under real servers: with what `gzip`, `lz4` and `zstd` write, and with what `pg_receivewal` receives
//! compressed.

use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Doing, Failure, Installation, Machine, PATIENCE, Result, wait_for};
use crate::pair::{PG_STANDBY, Pair};
use crate::shipment::{Home, Load, Receiver, change, crash, make_synchronous, shipped_pair};
use crate::trial::{OFTEN, Trial};

tests_on!(postgresql_10 10, postgresql_15 15, postgresql_18 18: [
    an_archive_of_every_form_is_followed_pruned_and_replayed_at_a_smart_failover,
    a_fast_failover_drops_compressed_segments_that_are_unread,
    a_compressed_segment_that_is_not_whole_holds_the_standby_until_it_is_mended,
]);

/// Each tool, and the suffix that its files have.
const TOOLS: [(&str, &str); 3] = [("gzip", ".gz"), ("lz4", ".lz4"), ("zstd", ".zst")];

/// Archives under a temporary name and renames. The last digit decides which form a segment has, one in four is plain;
/// history files and backup history files are compressed as well.
fn archive_command(pair: &Pair) -> String {
    let archive = pair.machine.archive().display().to_string();
    format!(
        "case %f in *[048C]) tool=gzip form=.gz;; *[159D]|*y) tool=lz4 form=.lz4;; \
         *[26AE]) tool=zstd form=.zst;; *) tool=cat form=;; esac; \
         $tool <%p >{archive}/.incoming && mv {archive}/.incoming {archive}/%f$form"
    )
}

fn compressing_pair(major: u32) -> Result<Pair> {
    let pair = Pair::new(major, |machine| machine.restore_command("-s 1"))?;
    change(&pair.primary, "archive_command", &archive_command(&pair))?;
    Ok(pair)
}

/// Adds rows on the primary, in a segment of their own, and waits until it is archived. Returns where.
fn ship(pair: &mut Pair) -> Result<PathBuf> {
    pair.primary.sql("insert into orders select generate_series(1, 1000)")?;
    pair.rows += 1000;
    let point = "select pg_walfile_name(pg_create_restore_point('switch')), pg_switch_wal()";
    let segment = pair.primary.value(point)?;
    let mut archived = None;
    let names = ["", ".gz", ".lz4", ".zst"].map(|form| format!("{segment}{form}"));
    wait_for(format_args!("archiving of {segment}"), PATIENCE, || {
        let mut paths = names.iter().map(|name| pair.machine.archive().join(name));
        archived = paths.find(|path| path.exists());
        Ok(archived.is_some())
    })
    .map_err(|failure| pair.primary.with_log(&failure))?;
    archived.ok_or_else(|| Failure::new("no segment"))
}

fn an_archive_of_every_form_is_followed_pruned_and_replayed_at_a_smart_failover(
    major: u32,
) -> Result<()> {
    let mut pair = compressing_pair(major)?;
    pair.standby.start()?;
    let first = ship(&mut pair)?;
    pair.standby_sees_every_row()?;
    // A restart point moves %r. A call that is already waiting has the old one.
    for _ in 0..4 {
        ship(&mut pair)?;
        pair.standby_sees_every_row()?;
    }
    pair.primary.sql("checkpoint")?;
    ship(&mut pair)?;
    pair.standby_sees_every_row()?;
    pair.standby.sql("checkpoint")?;
    for _ in 0..2 {
        ship(&mut pair)?;
        pair.standby_sees_every_row()?;
    }
    assert!(!first.exists(), "{first:?} is still there: {:?}", pair.machine.archived()?);
    pair.assert_still_a_standby()?;
    pair.standby.stop_fast()?;
    for _ in 0..4 {
        ship(&mut pair)?;
    }
    pair.machine.ask_for_failover("smart")?;
    pair.standby.start()?;
    pair.assert_failed_over_with(pair.rows)
}

fn a_fast_failover_drops_compressed_segments_that_are_unread(major: u32) -> Result<()> {
    let mut pair = compressing_pair(major)?;
    pair.standby.start()?;
    ship(&mut pair)?;
    pair.standby_sees_every_row()?;
    // While replay is paused the server reads the segment it has asked for and asks for no other.
    pair.standby.sql("select pg_wal_replay_pause()")?;
    let read = ship(&mut pair)?;
    let rows = pair.rows;
    let unread = [ship(&mut pair)?, ship(&mut pair)?, ship(&mut pair)?];
    let restored = pair.standby.data.join("pg_wal").join(read.file_stem().unwrap());
    wait_for(format_args!("restore of {read:?}"), PATIENCE, || Ok(restored.exists()))?;
    pair.machine.ask_for_failover("fast")?;
    pair.standby.sql("select pg_wal_replay_resume()")?;
    pair.assert_failed_over_with(rows)?;
    assert!(unread.iter().all(|segment| segment.exists()), "{:?}", pair.machine.archived()?);
    Ok(())
}

/// What a tool makes of a file.
fn packed(tool: &str, path: &PathBuf) -> Result<Vec<u8>> {
    let output = Command::new(tool).arg("-c").arg(path).output().doing(tool)?;
    assert!(output.status.success(), "{tool}: {output:?}");
    Ok(output.stdout)
}

fn a_compressed_segment_that_is_not_whole_holds_the_standby_until_it_is_mended(
    major: u32,
) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    for (tool, suffix) in TOOLS {
        let call = trial.call()?;
        let segment = trial.pair.ship()?;
        let good = packed(tool, &trial.pair.machine.archive().join(&segment))?;
        let name = format!("{segment}{suffix}");
        let mut damaged = good.clone();
        damaged[good.len() / 2] ^= 0x10;
        let trailing = [&good[..], b"garbage"].concat();
        for (bytes, words) in [
            (&good[..good.len() / 2], "compressed data cut short"),
            (b"", "empty: expected compressed data"),
            (&trailing[..], "trailing garbage after"),
            // Where a bit is flipped decides what is noticed.
            (&damaged[..], ""),
        ] {
            trial.listen();
            trial.put(&name, bytes)?;
            trial.withstands(call, &format!("{name}\" is not ready: {words}"))?;
        }
        trial.put(&name, &good)?;
        trial.pair.standby_sees_every_row()?;
    }
    trial.pair.assert_still_a_standby()?;
    trial.pair.machine.ask_for_failover("smart")?;
    trial.pair.assert_failed_over_with(trial.pair.rows)
}

/// The primary is killed under load while `pg_receivewal`, its synchronous standby, compresses.
fn what_is_received_compressed_is_followed_and_none_of_it_is_lost(
    method: &str,
    suffix: &str,
) -> Result<()> {
    for home in [Home::StandbyMode, Home::Plain] {
        let installation = Installation::with("pg_receivewal")?;
        let machine = Machine::on(installation, PG_STANDBY)?;
        let mut pair = shipped_pair(machine, &[], home, "-s 1 --partial=0.05")?;
        let options = ["-Z", method];
        let receiver = Receiver::start_with(&options, &pair.machine, &pair.primary)?;
        pair.standby.start()?;
        make_synchronous(&pair.primary)?;
        for _ in 0..3 {
            pair.primary.sql("insert into orders select 1 from generate_series(1, 3)")?;
            if home == Home::StandbyMode {
                let visible = "select count(*) % 3 = 0 and count(*) > 0 from orders";
                pair.standby.wait_until(visible, "t", PATIENCE)?;
            }
            pair.primary.sql("delete from orders")?;
            pair.primary.sql("select pg_switch_wal()")?;
        }
        let load = Load::on(&pair.primary, 0)?;
        load.wait_for(300)?;
        crash(&mut pair.primary)?;
        let acknowledged = load.finish();
        assert!(acknowledged.numbers.len() >= 300);
        let names = pair.machine.archived()?;
        let partial = format!("{suffix}.partial");
        assert!(names.iter().any(|name| name.ends_with(&partial)), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with(suffix)), "{names:?}");
        acknowledged.survives_a_smart_failover(&mut pair)?;
        drop(receiver);
    }
    Ok(())
}

#[test]
fn nothing_is_lost_of_what_pg_receivewal_writes_with_gzip() -> Result<()> {
    what_is_received_compressed_is_followed_and_none_of_it_is_lost("gzip", ".gz")
}

#[test]
fn nothing_is_lost_of_what_pg_receivewal_writes_with_lz4() -> Result<()> {
    what_is_received_compressed_is_followed_and_none_of_it_is_lost("lz4", ".lz4")
}
