//! The promise on real servers: recovery ends only because somebody asked for it. Every exit status, and every fault of
//! an archive: the standby waits or stops, does not promote, and goes on to the last row when the fault is mended.
//!
//! The primary archives into a place of its own; what the standby finds in its archive, and when, is the test's to say.

mod pair;
mod server;
mod shim;
#[path = "promises/trial.rs"]
mod trial;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use server::{Doing, PATIENCE, Result, wait_for};
use trial::Trial;

pair::tests_on!(postgresql_10 10, postgresql_12 12, postgresql_18 18: [
    an_error_and_a_death_stop_the_server_which_later_goes_on,
    a_file_that_is_no_whole_segment_of_ours_is_waited_out,
    an_archive_that_has_gone_away_is_waited_for_even_by_a_smart_failover,
    an_archive_missing_at_the_start_ends_recovery_only_with_on_error_promote,
]);

/// Looks come every tenth of a second, each step is logged, and a smart failover does not soon lose patience.
const OFTEN: &str = "-s 0.1 -d -r 50";

/// Each call comes in the middle of recovery, where a status from 1 to 125 would promote the standby.
fn an_error_and_a_death_stop_the_server_which_later_goes_on(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    if major >= 12 {
        // It is not there, which is no reason not to start.
        assert!(trial.heard("file to restore: 00000002.history"), "{}", trial.pair.standby.log());
    }

    trial.before_each_call("OPTIONS=--no-such-option")?;
    trial.next_call_stops_the_server("child process exited with exit code 202")?;
    trial.pair.standby.start()?;
    trial.stops("child process exited with exit code 202")?;
    trial.nothing_before_a_call()?;
    trial.goes_on()?;

    // A panic.
    trial.load_shim("clock")?;
    trial.next_call_stops_the_server("child process was terminated by signal 6")?;
    trial.nothing_before_a_call()?;
    trial.goes_on()?;

    for (signal, words) in [
        (Signal::SIGKILL, "child process was terminated by signal 9"),
        (Signal::SIGQUIT, "child process was terminated by signal 2"),
        (Signal::SIGTERM, ") exited with exit code 1"),
    ] {
        let call = trial.call()?;
        trial.listen();
        kill(call, signal)?;
        trial.stops(words)?;
        trial.goes_on()?;
    }

    // SIGQUIT to all of them.
    trial.call()?;
    trial.pair.standby.stop_immediate()?;
    trial.must_not_promote()?;
    trial.goes_on()?;

    trial.call()?;
    trial.pair.site.ask_for_failover("smart")?;
    trial.pair.assert_failed_over_with(trial.pair.rows)?;
    assert!(trial.heard("file to restore: 00000002.history"), "{}", trial.pair.standby.log());
    Ok(())
}

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

fn an_archive_that_has_gone_away_is_waited_for_even_by_a_smart_failover(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    let away = trial.place("away");
    let rename_away = |trial: &Trial| fs::rename(trial.archive(), &away).doing("renaming");
    let rename_back = |trial: &Trial| fs::rename(&away, trial.archive()).doing("renaming");
    let chmod = |trial: &Trial, mode| {
        fs::set_permissions(trial.archive(), Permissions::from_mode(mode)).doing("chmod")
    };
    let gone = "/delivered\": No such file or directory";

    trial.outage(gone, rename_away, rename_back)?;
    trial.outage(
        gone,
        |trial| {
            trial.pair.site.copy(&trial.archive(), &away)?;
            fs::remove_dir_all(trial.archive()).doing("removing")
        },
        |trial| {
            trial.pair.site.copy(&away, &trial.archive())?;
            fs::remove_dir_all(&away).doing("removing")
        },
    )?;
    trial.outage(
        "/delivered\": Not a directory",
        |trial| {
            trial.pair.site.write(&away, "")?;
            exchange(&away, &trial.archive())
        },
        |trial| {
            exchange(&away, &trial.archive())?;
            fs::remove_file(&away).doing("removing")
        },
    )?;
    trial.outage("Permission denied", |trial| chmod(trial, 0o000), |trial| chmod(trial, 0o700))?;
    trial.outage(
        "is not there",
        |trial| {
            trial.pair.site.copy(&trial.archive(), &away)?;
            empty(&trial.archive())
        },
        |trial| {
            fs::remove_dir(trial.archive())?;
            rename_back(trial)
        },
    )?;

    // The first request of a start, where the server could not tell an answer from an outage.
    trial.pair.standby.stop_fast()?;
    chmod(&trial, 0o000)?;
    trial.pair.standby.start()?;
    let call = trial.call()?;
    trial.says("Permission denied")?;
    trial.looks_on(call)?;
    chmod(&trial, 0o700)?;
    trial.follow()?;
    trial.pair.assert_still_a_standby()?;

    let call = trial.call()?;
    rename_away(&trial)?;
    let last = trial.pair.ship()?;
    trial.pair.site.ask_for_failover("smart")?;
    trial.withstands(call, gone)?;
    fs::rename(trial.pair.site.archive().join(&last), away.join(&last))?;
    rename_back(&trial)?;
    trial.pair.assert_failed_over_with(trial.pair.rows)
}

fn exchange(one: &Path, other: &Path) -> Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).doing("exchanging")
}

fn empty(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn an_archive_missing_at_the_start_ends_recovery_only_with_on_error_promote(
    major: u32,
) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    let away = trial.place("away");
    let move_away = format!("mv {} {} || :", trial.archive().display(), away.display());
    trial.before_each_call(&move_away)?;
    trial.next_call_stops_the_server("child process exited with exit code 202")?;
    trial.nothing_before_a_call()?;
    trial.pair.standby.start()?;
    trial.stops("child process exited with exit code 202")?;
    fs::rename(&away, trial.archive())?;
    trial.goes_on()?;

    trial.before_each_call(&format!("OPTIONS=--on-error=promote; {move_away}"))?;
    trial.call()?;
    let name = trial.pair.ship()?;
    trial.deliver(&name)?;
    trial.pair.assert_failed_over_with(trial.pair.rows)
}

#[test]
fn an_error_of_the_archives_file_system_is_no_answer() -> Result<()> {
    const EIO: i32 = 5;
    const ESTALE: i32 = 116;

    let mut trial = Trial::not_started(18, OFTEN)?;
    trial.load_shim("archive")?;
    trial.pair.standby.start()?;
    trial.follow()?;
    for (error, words) in [(EIO, "Input/output error"), (ESTALE, "Stale file handle")] {
        for call in ["stat", "open", "read", "copy"] {
            let waiting = trial.call()?;
            trial.listen();
            trial.pair.site.write(&trial.order(), format!("{call} {error}"))?;
            let name = trial.pair.ship()?;
            // A segment that is not there is looked for with open, and the archive is asked with stat.
            let mut path = trial.archive();
            if call != "stat" {
                trial.deliver(&name)?;
                path.push(&name);
            }
            trial.withstands(waiting, &format!("could not read {path:?}: {words}"))?;
            assert!(!trial.pair.standby.data.join("pg_wal/RECOVERYXLOG").exists());
            fs::remove_file(trial.order())?;
            if call == "stat" {
                trial.deliver(&name)?;
            }
            trial.pair.standby_sees_every_row()?;
        }
    }

    // So it is with history files: a false answer is a wrong timeline.
    trial.pair.standby.stop_fast()?;
    trial.pair.site.write(&trial.order(), format!("open {EIO}"))?;
    trial.pair.standby.start()?;
    let call = trial.call()?;
    trial.says("00000002.history\": Input/output error")?;
    trial.looks_on(call)?;
    fs::remove_file(trial.order())?;
    trial.follow()?;
    trial.pair.assert_still_a_standby()
}

#[test]
fn a_history_file_in_an_archive_that_does_not_answer_is_waited_for() -> Result<()> {
    let mut trial = Trial::new(18, OFTEN)?;
    trial.pair.standby.stop_fast()?;
    // A timeline that begins far behind everything that will be shipped here.
    trial.put("00000002.history", b"1\tF0/0\tnobody asked\n")?;
    fs::set_permissions(trial.archive(), Permissions::from_mode(0o000))?;
    trial.pair.standby.start()?;
    let call = trial.call()?;
    trial.says("00000002.history\": Permission denied")?;
    trial.looks_on(call)?;
    fs::set_permissions(trial.archive(), Permissions::from_mode(0o700))?;
    let words = "restored log file \"00000002.history\" from archive";
    // The server has timeline 2 now, so this is no word of `says`.
    let restored = wait_for("the history file", PATIENCE, || Ok(trial.heard(words)));
    trial.with_log(restored)?;
    trial.follow()?;
    assert!(trial.pair.standby.is_in_recovery()?);
    Ok(())
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

/// A directory on which another one can be put and taken away: by mounting where that is allowed, by renaming elsewhere.
struct MountPoint {
    path: PathBuf,
    disk: PathBuf,
    bare: PathBuf,
}

impl MountPoint {
    fn mount(&self) -> Result<()> {
        if geteuid().is_root() {
            let kind = MsFlags::MS_BIND;
            return mount(Some(&self.disk), &self.path, None::<&str>, kind, None::<&str>)
                .doing("mounting");
        }
        fs::rename(&self.path, &self.bare)?;
        fs::rename(&self.disk, &self.path).doing("renaming")
    }

    fn unmount(&self) -> Result<()> {
        if geteuid().is_root() {
            return umount2(&self.path, MntFlags::MNT_DETACH).doing("unmounting");
        }
        fs::rename(&self.path, &self.disk)?;
        fs::rename(&self.bare, &self.path).doing("renaming")
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

#[test]
fn an_archive_that_is_not_mounted_is_waited_for_even_by_a_smart_failover() -> Result<()> {
    let mut trial = Trial::not_started(18, &format!("{OFTEN} -r 0 --require-file mounted"))?;
    let point =
        MountPoint { path: trial.archive(), disk: trial.place("disk"), bare: trial.place("bare") };
    trial.pair.site.make_directory(&point.disk)?;
    trial.pair.site.write(&point.disk.join("mounted"), "")?;
    let missing = "/delivered/mounted\": No such file or directory";

    // Not there when the server starts, which would take the answer of an empty directory for one about timelines.
    trial.pair.standby.start()?;
    let call = trial.call()?;
    trial.says(missing)?;
    trial.looks_on(call)?;
    point.mount()?;
    trial.follow()?;
    trial.outage(missing, |_| point.unmount(), |_| point.mount())?;

    // What lies in the bare directory is not the archive's.
    let call = trial.call()?;
    point.unmount()?;
    let name = trial.pair.ship()?;
    let good = fs::read(trial.pair.site.archive().join(&name))?;
    trial.put(&name, &good)?;
    trial.withstands(call, missing)?;
    fs::remove_file(trial.archive().join(&name))?;
    trial.pair.site.ask_for_failover("smart")?;
    trial.withstands(call, "")?;
    fs::rename(trial.pair.site.archive().join(&name), point.disk.join(&name))?;
    point.mount()?;
    let outcome = trial.pair.assert_failed_over_with(trial.pair.rows);
    trial.pair.standby.stop_fast()?;
    point.unmount()?;
    outcome
}
