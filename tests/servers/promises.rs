//! The promise on real servers: recovery ends only because somebody asked for it. Covers every exit status, and every fault
//! of an archive: the standby waits or stops, does not promote, and continues to the last row when the fault is mended.
//! What can be wrong with a segment is in segments.rs.
//!
//! The primary archives into a place of its own; the test decides what the standby finds in its archive, and when.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::geteuid;

use crate::machine::{Doing, PATIENCE, Result, wait_for};
use crate::trial::{OFTEN, Trial};

tests_on!(postgresql_10 10, postgresql_12 12, postgresql_18 18: [
    an_error_and_a_death_stop_the_server_which_later_goes_on,
    an_archive_that_has_gone_away_is_waited_for_even_by_a_smart_failover,
    an_archive_missing_at_the_start_ends_recovery_only_with_on_error_promote,
]);

/// Each call comes in the middle of recovery, where a status from 1 to 125 would promote the standby.
fn an_error_and_a_death_stop_the_server_which_later_goes_on(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    if major >= 12 {
        // The file is absent, which does not keep the server from starting.
        assert!(trial.heard("file to restore: 00000002.history"), "{}", trial.pair.standby.log());
    }

    trial.call()?;
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
    trial.pair.machine.ask_for_failover("smart")?;
    trial.pair.assert_failed_over_with(trial.pair.rows)?;
    assert!(trial.heard("file to restore: 00000002.history"), "{}", trial.pair.standby.log());
    Ok(())
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
            trial.pair.machine.copy(&trial.archive(), &away)?;
            fs::remove_dir_all(trial.archive()).doing("removing")
        },
        |trial| {
            trial.pair.machine.copy(&away, &trial.archive())?;
            fs::remove_dir_all(&away).doing("removing")
        },
    )?;
    trial.outage(
        "/delivered\": Not a directory",
        |trial| {
            trial.pair.machine.write(&away, "")?;
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
            trial.pair.machine.copy(&trial.archive(), &away)?;
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
    trial.pair.machine.ask_for_failover("smart")?;
    trial.withstands(call, gone)?;
    fs::rename(trial.pair.machine.archive().join(&last), away.join(&last))?;
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
    trial.call()?;
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
            trial.pair.machine.write(&trial.order(), format!("{call} {error}"))?;
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

    // The same goes for history files: a wrong answer is a wrong timeline.
    trial.pair.standby.stop_fast()?;
    trial.pair.machine.write(&trial.order(), format!("open {EIO}"))?;
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
    trial.pair.machine.make_directory(&point.disk)?;
    trial.pair.machine.write(&point.disk.join("mounted"), "")?;
    let missing = "/delivered/mounted\": No such file or directory";

    // Not there when the server starts, which would take the answer of an empty directory for one about timelines.
    trial.pair.standby.start()?;
    let call = trial.call()?;
    trial.says(missing)?;
    trial.looks_on(call)?;
    point.mount()?;
    trial.follow()?;
    trial.outage(missing, |_| point.unmount(), |_| point.mount())?;

    // What is in the bare directory does not belong to the archive.
    let call = trial.call()?;
    point.unmount()?;
    let name = trial.pair.ship()?;
    let good = fs::read(trial.pair.machine.archive().join(&name))?;
    trial.put(&name, &good)?;
    trial.withstands(call, missing)?;
    fs::remove_file(trial.archive().join(&name))?;
    trial.pair.machine.ask_for_failover("smart")?;
    trial.withstands(call, "")?;
    fs::rename(trial.pair.machine.archive().join(&name), point.disk.join(&name))?;
    point.mount()?;
    let outcome = trial.pair.assert_failed_over_with(trial.pair.rows);
    trial.pair.standby.stop_fast()?;
    point.unmount()?;
    outcome
}
