//! The promise on real servers, for segments: one that is damaged, foreign, still written or replaced is never handed over;
//! the standby waits, does not promote, and goes on to the last row when a good one is there.
//!
//! The primary archives into a place of its own; what the standby finds in its archive, and when, is the test's to say.

mod pair;
mod server;
mod shim;
mod trial;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use server::{Doing, PATIENCE, Result, wait_for};
use trial::{OFTEN, Trial};

pair::tests_on!(postgresql_10 10, postgresql_12 12, postgresql_18 18: [
    a_file_that_is_no_whole_segment_of_ours_is_waited_out,
]);

fn a_file_that_is_no_whole_segment_of_ours_is_waited_out(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    let alter = |offset: usize, field: &[u8]| {
        let field = field.to_vec();
        move |trial: &Trial, name: &str, mut bytes: Vec<u8>| {
            bytes.splice(offset..offset.saturating_add(field.len()), field);
            trial.put(name, &bytes)
        }
    };

    trial.refusal("it is not whole: found 16777215 bytes", |trial, name, good| {
        trial.put(name, good.split_last().map_or(&[], |(_, rest)| rest))
    })?;
    trial.refusal("it is too long: found 16777217 bytes", |trial, name, mut good| {
        good.push(0);
        trial.put(name, &good)
    })?;
    trial.refusal("it ends within its header: found 0 bytes", |trial, name, _| {
        trial.put(name, &[])
    })?;
    // The first page of a server before 9.3 that is like it in everything else.
    trial.refusal("it is no WAL: found magic D05D", |trial, name, mut good| {
        let part = |from: usize, to: usize| good.get(from..to).unwrap_or_default();
        let page = [&[0x5D, 0xD0, 2, 0], part(4, 8), part(12, 16), part(8, 12), part(24, 40)];
        let page = page.concat();
        good.splice(..page.len(), page);
        trial.put(name, &good)
    })?;
    trial.refusal("it begins with zeros", |trial, name, good| {
        trial.put(name, &vec![0; good.len()])
    })?;
    trial.refusal("it does not begin like a segment", alter(2, &[0, 0]))?;
    trial.refusal("it is of another timeline: found 2", alter(4, &[2]))?;
    trial.refusal("it is of another timeline: found 0", alter(4, &[0]))?;
    trial.refusal("it is another part of WAL", alter(12, &[1]))?;
    trial.refusal("it is of another cluster", alter(24, b"another1"))?;
    trial.refusal("its header is damaged: found segment size 1", alter(32, &[1, 0, 0, 0]))?;
    trial.refusal("its header is damaged: found block size 1", alter(36, &[1, 0, 0, 0]))?;
    trial.refusal("it is no regular file", |trial, name, _| {
        trial.pair.site.make_directory(&trial.archive().join(name))
    })?;
    trial.refusal("it is no regular file", |trial, name, _| {
        let path = trial.archive().join(name);
        mkfifo(&path, Mode::S_IRWXU)?;
        trial.pair.site.give_to_server(&path)
    })?;

    // Mended, and not yet read when failover is asked for.
    trial.pair.standby.stop_fast()?;
    for _ in 0..2 {
        let name = trial.pair.ship()?;
        trial.deliver(&name)?;
    }
    trial.pair.site.ask_for_failover("smart")?;
    trial.pair.standby.start()?;
    trial.pair.assert_failed_over_with(trial.pair.rows)
}

#[test]
fn a_segment_that_is_written_or_replaced_while_it_is_copied_is_never_a_mixture() -> Result<()> {
    let mut trial = Trial::not_started(18, OFTEN)?;
    trial.load_shim("archive")?;
    trial.pair.standby.start()?;
    trial.follow()?;
    let halted = trial.place("order.halted");
    let until_halfway = |trial: &Trial, name: &str| {
        trial.pair.site.write(&trial.order(), "halt 1")?;
        trial.deliver(name)?;
        wait_for("half of a copy", PATIENCE, || Ok(halted.exists()))
    };

    // Overwritten in place with as many bytes: the second half of the copy is zeros.
    let call = trial.call()?;
    fill_half(&trial)?;
    let name = trial.pair.ship()?;
    let path = trial.archive().join(&name);
    let good = fs::read(trial.pair.site.archive().join(&name))?;
    until_halfway(&trial, &name)?;
    OpenOptions::new().write(true).open(&path)?.write_all_at(&vec![0; good.len()], 0)?;
    fs::remove_file(&halted)?;
    trial.withstands(call, "it begins with zeros")?;
    trial.put(&name, &good)?;
    trial.pair.standby_sees_every_row()?;

    // Written anew from the start, as by a second `cp` of the same segment.
    let call = trial.call()?;
    fill_half(&trial)?;
    let name = trial.pair.ship()?;
    let path = trial.archive().join(&name);
    let good = fs::read(trial.pair.site.archive().join(&name))?;
    until_halfway(&trial, &name)?;
    let mut writer = OpenOptions::new().write(true).truncate(true).open(&path)?;
    fs::remove_file(&halted)?;
    trial.withstands(call, "it ends within its header: found 0 bytes")?;
    let (begin, rest) = good.split_at(good.len() / 2);
    writer.write_all(begin)?;
    trial.withstands(call, "it is not whole: found 8388608 bytes")?;
    writer.write_all(rest)?;
    drop(writer);
    trial.pair.standby_sees_every_row()?;

    // Another file under the name: what was opened is whole, and is what the server gets.
    trial.call()?;
    let name = trial.pair.ship()?;
    until_halfway(&trial, &name)?;
    trial.put(&name, b"another")?;
    fs::remove_file(&halted)?;
    trial.pair.standby_sees_every_row()?;
    trial.follow()?;
    trial.pair.assert_still_a_standby()
}

#[test]
fn a_slow_writer_is_waited_for() -> Result<()> {
    // A writer who leaves the file alone for a sleep time is believed, so this is no test for short ones.
    let mut trial = Trial::new(18, "-s 3 -d")?;
    for sets_the_length_first in [false, true] {
        let call = trial.call()?;
        let name = trial.pair.ship()?;
        let good = fs::read(trial.pair.site.archive().join(&name))?;
        let path = trial.archive().join(&name);
        trial.pair.site.write(&path, "")?;
        let mut writer = OpenOptions::new().write(true).open(&path)?;
        if sets_the_length_first {
            writer.set_len(good.len().try_into()?)?;
        }
        let mut pieces = good.chunks(4096);
        let mut heard = false;
        for (number, piece) in pieces.by_ref().enumerate() {
            // Slow enough for the writer to be still at it when it has lasted a sleep time, which is when it is said.
            sleep(Duration::from_millis(20));
            trial.looks_again(call, 1, |_| writer.write_all(piece).doing("writing"))?;
            heard = trial.heard("somebody has it open for writing");
            if heard || !sets_the_length_first && number == 20 {
                break;
            }
        }
        if sets_the_length_first {
            assert!(heard, "nothing is said of the writer in {}", trial.pair.standby.log());
        } else {
            trial.says("it is not whole: found 86016 bytes")?;
        }
        trial.pair.assert_still_a_standby()?;
        for piece in pieces {
            writer.write_all(piece)?;
        }
        drop(writer);
        trial.pair.standby_sees_every_row()?;
    }
    trial.pair.assert_still_a_standby()
}

/// Fills more than half of the primary's segment, so that what is shipped next stands in the second half of one.
fn fill_half(trial: &Trial) -> Result<()> {
    trial.pair.primary.sql("select pg_logical_emit_message(false, 'filler', repeat('x', 9000000))")
}
