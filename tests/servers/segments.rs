//! The promise on real servers, for segments: one that is damaged, foreign, still written or replaced is never handed over;
//! the standby waits, does not promote, and continues to the last row when a good one is there.
//!
//! The primary archives into a place of its own; the test decides what the standby finds in its archive, and when.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::header::Header;
use crate::machine::{Doing, PATIENCE, Result, wait_for};
use crate::trial::{OFTEN, Trial};

tests_on!(postgresql_10 10, postgresql_12 12, postgresql_18 18: [
    a_file_that_is_no_whole_segment_of_ours_is_waited_out,
]);

/// What is in the place of a segment.
enum Instead {
    /// Its bytes, made into others.
    Bytes(fn(Vec<u8>) -> Vec<u8>),
    /// The same with another header.
    Header(fn(&mut Header)),
    /// Something at this path that is not a regular file.
    Irregular(fn(&Path) -> Result<()>),
}

/// By name, with what is reported of each.
const CASES: [(&str, &str, Instead); 14] = [
    (
        "one byte too few",
        "too short: found 16777215 bytes",
        Instead::Bytes(|mut bytes| {
            bytes.pop();
            bytes
        }),
    ),
    (
        "one byte too many",
        "too long: found 16777217 bytes",
        Instead::Bytes(|mut bytes| {
            bytes.push(0);
            bytes
        }),
    ),
    ("no bytes", "too short for a header: found 0 bytes", Instead::Bytes(|_| Vec::new())),
    // The layout of that time, and everything else is right.
    (
        "a server before 8.2",
        "not WAL: found magic D05D",
        Instead::Header(|header| header.magic = 0xD05D),
    ),
    ("zeros", "begins with zeros", Instead::Bytes(|bytes| vec![0; bytes.len()])),
    (
        "a page from the middle of a segment",
        "does not begin like a segment",
        Instead::Header(|header| header.info = 0),
    ),
    ("a later timeline", "wrong timeline: found 2", Instead::Header(|header| header.timeline = 2)),
    ("no timeline", "wrong timeline: found 0", Instead::Header(|header| header.timeline = 0)),
    ("another LSN", "wrong part of WAL", Instead::Header(|header| header.lsn += 1 << 32)),
    (
        "another cluster",
        "from another cluster",
        Instead::Header(|header| header.system_identifier = 42),
    ),
    (
        "a segment size of 1",
        "damaged header: found segment size 1",
        Instead::Header(|header| header.segment_size = 1),
    ),
    (
        "a block size of 1",
        "damaged header: found block size 1",
        Instead::Header(|header| header.block_size = 1),
    ),
    ("a directory", "not a regular file", Instead::Irregular(|path| Ok(fs::create_dir(path)?))),
    ("a FIFO", "not a regular file", Instead::Irregular(|path| Ok(mkfifo(path, Mode::S_IRWXU)?))),
];

impl Instead {
    fn put(&self, trial: &Trial, name: &str, mut good: Vec<u8>) -> Result<()> {
        match self {
            Self::Bytes(make) => trial.put(name, &make(good)),
            Self::Header(change) => {
                let mut header = Header::of(&good).expect("a whole segment");
                change(&mut header);
                header.put_on(&mut good);
                trial.put(name, &good)
            }
            Self::Irregular(make) => {
                let path = trial.archive().join(name);
                make(&path)?;
                trial.pair.machine.give_to_server(&path)
            }
        }
    }
}

/// One trial for all of them, as a new pair of servers takes longer than a case. A failure begins with the case's name.
fn a_file_that_is_no_whole_segment_of_ours_is_waited_out(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    for (case, words, instead) in &CASES {
        let place = |trial: &Trial, name: &str, good| instead.put(trial, name, good);
        trial.refusal(words, place).doing(case)?;
    }

    // Mended, and not yet read when failover is asked for.
    trial.pair.standby.stop_fast()?;
    for _ in 0..2 {
        let name = trial.pair.ship()?;
        trial.deliver(&name)?;
    }
    trial.pair.machine.ask_for_failover("smart")?;
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
    // A call that has copied half of a segment, which is known by its name and by what it has in it.
    let halfway = |trial: &mut Trial| {
        let call = trial.call()?;
        let name = trial.pair.ship()?;
        let good = fs::read(trial.pair.machine.archive().join(&name)).doing(&name)?;
        trial.pair.machine.write(&trial.order(), "halt 1")?;
        trial.deliver(&name)?;
        wait_for("half of a copy", PATIENCE, || Ok(halted.exists()))?;
        Result::Ok((call, name, good))
    };

    // Overwritten in place with as many bytes: the second half of the copy is zeros.
    fill_half(&trial)?;
    let (call, name, good) = halfway(&mut trial)?;
    let file = OpenOptions::new().write(true).open(trial.archive().join(&name))?;
    file.write_all_at(&vec![0; good.len()], 0)?;
    drop(file);
    fs::remove_file(&halted)?;
    trial.withstands(call, "begins with zeros")?;
    trial.put(&name, &good)?;
    trial.pair.standby_sees_every_row()?;

    // Written anew from the start, as by a second `cp` of the same segment.
    fill_half(&trial)?;
    let (call, name, good) = halfway(&mut trial)?;
    let path = trial.archive().join(&name);
    let mut writer = OpenOptions::new().write(true).truncate(true).open(path)?;
    fs::remove_file(&halted)?;
    trial.withstands(call, "too short for a header: found 0 bytes")?;
    let (begin, rest) = good.split_at(good.len() / 2);
    writer.write_all(begin)?;
    trial.withstands(call, "too short: found 8388608 bytes")?;
    writer.write_all(rest)?;
    drop(writer);
    trial.pair.standby_sees_every_row()?;

    // Another file under the name: what was opened is whole, and is what the server gets.
    let (_, name, _) = halfway(&mut trial)?;
    trial.put(&name, b"another")?;
    fs::remove_file(&halted)?;
    trial.pair.standby_sees_every_row()?;
    trial.follow()?;
    trial.pair.assert_still_a_standby()
}

#[test]
fn a_slow_writer_is_waited_for() -> Result<()> {
    // A writer that leaves the file alone for a sleep time is trusted, so this cannot be tested with a short one.
    let mut trial = Trial::new(18, "-s 3 -d")?;
    for sets_the_length_first in [false, true] {
        let call = trial.call()?;
        let name = trial.pair.ship()?;
        let good = fs::read(trial.pair.machine.archive().join(&name))?;
        let path = trial.archive().join(&name);
        trial.pair.machine.write(&path, "")?;
        let mut writer = OpenOptions::new().write(true).open(&path)?;
        if sets_the_length_first {
            writer.set_len(good.len().try_into()?)?;
        }
        let mut pieces = good.chunks(4096);
        let mut heard = false;
        for (number, piece) in pieces.by_ref().enumerate() {
            // Slow enough that the writer is still at work after a sleep time, which is when it is reported.
            sleep(Duration::from_millis(20));
            trial.looks_again(call, 1, |_| writer.write_all(piece).doing("writing"))?;
            heard = trial.heard("still open for writing");
            if heard || !sets_the_length_first && number == 20 {
                break;
            }
        }
        if sets_the_length_first {
            assert!(heard, "nothing is said of the writer in {}", trial.pair.standby.log());
        } else {
            trial.says("too short: found 86016 bytes")?;
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
