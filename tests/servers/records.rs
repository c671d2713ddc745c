//! The promise on real servers, for segments that begin well and have a record that no server can read: the standby waits,
//! does not promote, and continues when a good one is there. Whoever fails over meanwhile gets the rows up to that record.
//!
//! A server outside standby mode takes such a record for the end of WAL. Damage that the first page or the length of a
//! segment shows is in segments.rs.

use std::fs;

use crate::machine::{Doing, Failure, Result, Server};
use crate::pair::{Pair, ROWS};
use crate::trial::{OFTEN, Trial};

tests_on!(postgresql_10 10, postgresql_12 12, postgresql_15 15, postgresql_18 18: [
    a_damaged_record_holds_the_standby_until_the_segment_is_replaced,
    a_damaged_record_holds_a_server_in_standby_mode_until_the_segment_is_replaced,
    a_smart_failover_replays_the_good_part_of_a_damaged_segment,
    a_smart_failover_in_standby_mode_replays_the_good_part_of_a_damaged_segment,
    the_last_segment_of_a_dead_primary_waits_and_is_replayed_to_its_last_record,
    the_last_segment_of_a_dead_primary_waits_in_standby_mode_and_is_replayed_to_its_last_record,
]);

const PAGE: usize = 8192;
const SECTOR: usize = 512;
pub const NOT_READY: &str = "is not ready: the server could read it only up to ";
const ENDS: &str = "recovery ends at ";

/// A way to damage a segment, given an older one of the same length and the start of a page whose bytes all belong to one
/// record.
pub type Damage = fn(&mut [u8], &[u8], usize);

pub const DAMAGES: [(&str, Damage); 7] = [
    ("a bit flipped", |bytes, _, page| bytes[page + PAGE / 2] ^= 4),
    ("zeros from the middle on", |bytes, _, page| bytes[page..].fill(0)),
    ("a page of zeros", |bytes, _, page| bytes[page..page + PAGE].fill(0)),
    ("a sector of zeros", |bytes, _, page| bytes[page + SECTOR..page + 2 * SECTOR].fill(0)),
    ("a page of another place", |bytes, _, page| {
        bytes.copy_within(page + PAGE..page + 2 * PAGE, page);
    }),
    ("the end of an older segment", |bytes, older, page| {
        bytes[page..].copy_from_slice(&older[page..]);
    }),
    ("two sectors swapped", |bytes, _, page| {
        let (low, high) = bytes.split_at_mut(page + 2 * SECTOR);
        low[page + SECTOR..].swap_with_slice(&mut high[..SECTOR]);
    }),
];

/// A segment of the primary with rows, a long record, and more rows.
pub struct Long {
    pub name: String,
    pub good: Vec<u8>,
    /// A page whose bytes all belong to the long record.
    page: usize,
    /// Where that record begins and ends, with whatever the server has put beside it.
    pub record: [u64; 2],
    /// How many rows there are up to it.
    rows: u32,
}

impl Long {
    pub fn ship(pair: &mut Pair) -> Result<Self> {
        // No two sectors of it are the same.
        const RECORD: &str = "select pg_logical_emit_message(false, 'long', string_agg(md5(number::text), '')) \
                              from generate_series(1, 2000) number";
        pair.primary.sql("insert into orders select generate_series(1, 500)")?;
        pair.rows += 500;
        let rows = pair.rows;
        let begin = position(&pair.primary)?;
        pair.primary.sql(RECORD)?;
        let record = [begin, position(&pair.primary)?];
        let name = pair.ship()?;
        let good = fs::read(pair.machine.archive().join(&name)).doing(&name)?;
        let page = (usize::try_from(begin)? % good.len()).next_multiple_of(PAGE) + PAGE;
        Ok(Self { name, good, page, record, rows })
    }

    pub fn damaged(&self, older: &Self, damage: Damage) -> Vec<u8> {
        let mut bytes = self.good.clone();
        damage(&mut bytes, &older.good, self.page);
        assert!(bytes != self.good, "it is as good as before");
        bytes
    }
}

/// The end of the WAL that the server has written, in bytes.
fn position(server: &Server) -> Result<u64> {
    Ok(server.value("select pg_current_wal_insert_lsn() - '0/0'")?.parse()?)
}

/// The LSN that stands behind the last occurrence of `words` in the log, in bytes.
pub fn lsn_behind(words: &str, log: &str) -> Result<u64> {
    let missing = || Failure::new(format!("no LSN behind {words:?} in {log}"));
    let (_, rest) = log.rsplit_once(words).ok_or_else(missing)?;
    let lsn = rest.split([',', ' ', '\n']).next().unwrap_or_default();
    let (high, low) = lsn.split_once('/').ok_or_else(missing)?;
    Ok((u64::from_str_radix(high, 16)? << 32) + u64::from_str_radix(low, 16)?)
}

fn a_damaged_record_holds_the_standby_until_the_segment_is_replaced(major: u32) -> Result<()> {
    each_damage_is_waited_out(Trial::new(major, OFTEN)?)
}

fn a_damaged_record_holds_a_server_in_standby_mode_until_the_segment_is_replaced(
    major: u32,
) -> Result<()> {
    each_damage_is_waited_out(Trial::in_standby_mode(major, OFTEN)?)
}

/// One trial for all of them, as a new pair of servers takes longer than a case. A failure begins with the case's name.
fn each_damage_is_waited_out(mut trial: Trial) -> Result<()> {
    let mut older = Long::ship(&mut trial.pair)?;
    trial.deliver(&older.name)?;
    trial.pair.standby_sees_every_row()?;
    for (case, damage) in DAMAGES {
        older = is_waited_out(&mut trial, &older, damage).doing(case)?;
    }
    trial.pair.assert_still_a_standby()
}

/// With a later good segment in the archive, which a server that promotes never reads.
fn is_waited_out(trial: &mut Trial, older: &Long, damage: Damage) -> Result<Long> {
    let call = trial.call()?;
    let long = Long::ship(&mut trial.pair)?;
    let later = trial.pair.ship()?;
    trial.listen();
    trial.deliver(&later)?;
    trial.put(&long.name, &long.damaged(older, damage))?;
    let words = format!("{}\" {NOT_READY}", long.name);
    trial.withstands(call, &words)?;
    let [begin, end] = long.record;
    let stop = lsn_behind(&words, &trial.pair.standby.log())?;
    assert!((begin..end).contains(&stop), "{stop:X} is not within {:X?}", long.record);
    trial.deliver(&long.name)?;
    trial.pair.standby_sees_every_row()?;
    Ok(long)
}

fn a_smart_failover_replays_the_good_part_of_a_damaged_segment(major: u32) -> Result<()> {
    the_good_part_is_replayed(Trial::new(major, OFTEN)?)
}

fn a_smart_failover_in_standby_mode_replays_the_good_part_of_a_damaged_segment(
    major: u32,
) -> Result<()> {
    the_good_part_is_replayed(Trial::in_standby_mode(major, OFTEN)?)
}

fn the_good_part_is_replayed(mut trial: Trial) -> Result<()> {
    let (_, zeros) = DAMAGES[1];
    let call = trial.call()?;
    let long = Long::ship(&mut trial.pair)?;
    let later = trial.pair.ship()?;
    trial.deliver(&later)?;
    trial.put(&long.name, &long.damaged(&long, zeros))?;
    trial.withstands(call, &format!("{}\" {NOT_READY}", long.name))?;
    trial.pair.machine.ask_for_failover("smart")?;
    fails_over_with(&mut trial, long.rows)?;
    ends_within(&trial, long.record)
}

fn fails_over_with(trial: &mut Trial, rows: u32) -> Result<()> {
    let failed_over = trial.pair.assert_failed_over_with(rows);
    trial.with_log(failed_over)
}

/// The log says where recovery ends.
fn ends_within(trial: &Trial, [begin, end]: [u64; 2]) -> Result<()> {
    let stop = lsn_behind(ENDS, &trial.pair.standby.log())?;
    assert!((begin..=end).contains(&stop), "{stop:X} is not from {begin:X} to {end:X}");
    Ok(())
}

fn the_last_segment_of_a_dead_primary_waits_and_is_replayed_to_its_last_record(
    major: u32,
) -> Result<()> {
    the_last_segment_is_replayed(Trial::new(major, OFTEN)?)
}

fn the_last_segment_of_a_dead_primary_waits_in_standby_mode_and_is_replayed_to_its_last_record(
    major: u32,
) -> Result<()> {
    the_last_segment_is_replayed(Trial::in_standby_mode(major, OFTEN)?)
}

/// Copied by hand from its WAL directory, with whatever the server has not yet written over behind the last record.
fn the_last_segment_is_replayed(mut trial: Trial) -> Result<()> {
    let older = Long::ship(&mut trial.pair)?;
    trial.deliver(&older.name)?;
    trial.pair.standby_sees_every_row()?;
    let call = trial.call()?;

    let primary = &mut trial.pair.primary;
    for _ in 0..10 {
        primary.sql("insert into orders select generate_series(1, 10)")?;
    }
    trial.pair.rows += 100;
    let end = position(primary)?;
    let name = primary.value("select pg_walfile_name(pg_current_wal_insert_lsn())")?;
    primary.stop_immediate()?;
    let path = primary.data.join("pg_wal").join(&name);
    let bytes = fs::read(&path).doing(path.display())?;
    let written = (usize::try_from(end)? % bytes.len()).next_multiple_of(PAGE);
    let mut with_zeros = bytes;
    with_zeros[written..].fill(0);
    let mut with_older = with_zeros.clone();
    with_older[written..].copy_from_slice(&older.good[written..]);
    assert!(with_older != with_zeros, "the older segment is shorter");

    for bytes in [with_zeros, with_older] {
        trial.listen();
        trial.put(&name, &bytes)?;
        trial.withstands(call, &format!("records of {name} in "))?;
    }
    assert!(trial.pair.standby.log().contains(&format!("{name}\" {NOT_READY}")));
    trial.pair.machine.ask_for_failover("smart")?;
    let rows = trial.pair.rows;
    fails_over_with(&mut trial, rows)?;
    // A server that stops may have written a record of its own.
    ends_within(&trial, [end, end + 1024])
}

#[test]
fn a_single_look_outside_standby_mode_takes_the_good_part_of_the_last_segment_only() -> Result<()> {
    let mut trial = Trial::not_started(18, "--no-wait -d")?;
    let (_, page_of_zeros) = DAMAGES[2];
    let long = Long::ship(&mut trial.pair)?;
    let later = trial.pair.ship()?;
    trial.put(&long.name, &long.damaged(&long, page_of_zeros))?;
    trial.deliver(&later)?;
    trial.pair.standby.start()?;
    trial.stops("child process exited with exit code 201")?;

    fs::remove_file(trial.archive().join(&later)).doing(&later)?;
    trial.pair.standby.start()?;
    trial.pair.assert_failed_over_with(long.rows)?;
    ends_within(&trial, long.record)
}

#[test]
fn the_maximum_wait_time_ends_recovery_before_a_damaged_segment() -> Result<()> {
    let mut trial = Trial::new(18, "-s 0.1 -d -w 5")?;
    let (_, flipped) = DAMAGES[0];
    let before = trial.pair.rows;
    let long = Long::ship(&mut trial.pair)?;
    trial.put(&long.name, &long.damaged(&long, flipped))?;
    trial.pair.assert_failed_over_with(before)
}

/// What the other tests here are about: this is how a server takes it.
#[test]
fn a_segment_of_which_only_the_header_is_checked_is_handed_over_and_ends_recovery() -> Result<()> {
    let mut trial = Trial::new(18, &format!("{OFTEN} --verify=header"))?;
    let (_, flipped) = DAMAGES[0];
    trial.call()?;
    let long = Long::ship(&mut trial.pair)?;
    let later = trial.pair.ship()?;
    trial.deliver(&later)?;
    trial.put(&long.name, &long.damaged(&long, flipped))?;
    trial.pair.standby.wait_for_promotion()?;
    assert_eq!(trial.pair.standby.value(ROWS)?, long.rows.to_string());
    Ok(())
}
