//! Real servers on both ends: a primary that archives with `cp`, a warm standby whose `restore_command` is
//! `pg_standby`, for each version from 10 to 18.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;

use crate::machine::{Doing, PATIENCE, Result, wait_for};
use crate::pair::Pair;

tests_on_every_version!(
    follows_prunes_resumes_and_loses_nothing_at_smart_failover,
    fast_failover_drops_the_segments_that_are_unread,
    start_and_smart_failover_with_nothing_to_wait_for_are_quick,
);

fn follows_prunes_resumes_and_loses_nothing_at_smart_failover(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command("-s 1"))?;
    pair.standby.start()?;
    let first = pair.ship()?;
    pair.standby_sees_every_row()?;
    assert!(pair.standby.log().contains(&format!("restored log file \"{first}\" from archive")));

    // A restart point moves %r. A call that is already waiting has the old one, so two more segments follow.
    pair.ship()?;
    pair.primary.sql("checkpoint")?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    pair.standby.sql("checkpoint")?;
    pair.ship()?;
    let last = pair.ship()?;
    pair.standby_sees_every_row()?;
    let archived = pair.machine.archived()?;
    assert!(!archived.contains(&first), "{first} is still in the archive: {archived:?}");
    assert!(archived.contains(&last), "{last} is not in the archive: {archived:?}");

    // After a crash the standby starts at its restart point again: everything from there on must still exist.
    pair.standby.stop_immediate()?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()?;

    let took = pair.standby.stop_fast()?;
    assert!(took < Duration::from_secs(2), "a fast shutdown took {took:?}");
    pair.standby.start()?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;

    pair.restart_with_unread_segments("smart")?;
    pair.assert_failed_over_with(pair.rows)
}

fn fast_failover_drops_the_segments_that_are_unread(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command("-s 1"))?;
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;

    // While replay is paused the server reads the segment it has asked for and asks for no other.
    pair.standby.sql("select pg_wal_replay_pause()")?;
    let read = pair.ship()?;
    let rows = pair.rows;
    let unread = [pair.ship()?, pair.ship()?];
    let restored = pair.standby.data.join("pg_wal").join(&read);
    wait_for(format_args!("restore of {read}"), PATIENCE, || Ok(restored.exists()))?;
    pair.machine.ask_for_failover("fast")?;
    pair.standby.sql("select pg_wal_replay_resume()")?;
    pair.assert_failed_over_with(rows)?;
    let archived = pair.machine.archived()?;
    assert!(unread.iter().all(|segment| archived.contains(segment)), "{archived:?}");
    Ok(())
}

/// Both take a fraction of a second here, the failover up to one `-s` more; the rest is for a loaded machine.
/// A program that waits for history files needs 6 and 13 seconds.
const QUICK_START: Duration = Duration::from_secs(3);
const QUICK_FAILOVER: Duration = Duration::from_secs(4);

fn start_and_smart_failover_with_nothing_to_wait_for_are_quick(major: u32) -> Result<()> {
    let mut pair = Pair::new(major, |machine| machine.restore_command("-s 1"))?;
    pair.ship()?;
    pair.standby.start()?;
    pair.standby.wait_until("select 1", "1", QUICK_START)?;
    pair.standby_sees_every_row()?;
    pair.machine.ask_for_failover("smart")?;
    pair.standby.wait_until("select pg_is_in_recovery()", "f", QUICK_FAILOVER)?;
    pair.assert_failed_over_with(pair.rows)
}

/// `-r 2 -s 1` retries after one second and again after two.
const RETRIES: &str = "-s 1 -r 2";
const RETRIES_TAKE: Duration = Duration::from_secs(3);

/// The standby stops when nothing can be written where it wants its WAL, does not promote, and continues once there is
/// room.
fn without_room_the_standby_stops_and_later_goes_on(
    pair: &mut Pair,
    take_room: impl FnOnce() -> Result<()>,
    make_room: impl FnOnce() -> Result<()>,
) -> Result<()> {
    pair.standby.start()?;
    pair.ship()?;
    pair.standby_sees_every_row()?;

    take_room()?;
    let begin = Instant::now();
    pair.ship()?;
    pair.ship()?;
    let status = pair.standby.wait_for_end()?;
    assert!(begin.elapsed() >= RETRIES_TAKE, "no retries: it ended after {:?}", begin.elapsed());
    let log = pair.standby.log();
    assert!(status.is_some_and(|status| !status.success()), "{status:?}\n{log}");
    assert!(log.contains("child process exited with exit code 201"), "{log}");

    make_room()?;
    pair.standby.start()?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()
}

#[test]
fn a_file_size_limit_stops_the_standby_and_does_not_promote_it() -> Result<()> {
    // Each call of the command gets the limit anew, so that it can come and go while the server runs.
    let mut pair = Pair::new(18, |machine| {
        let limited = machine.path().join("limited").display().to_string();
        let restore = machine.restore_command(RETRIES);
        format!("if test -e {limited}; then ulimit -f 100; fi; exec {restore}")
    })?;
    let limited = pair.machine.path().join("limited");
    without_room_the_standby_stops_and_later_goes_on(
        &mut pair,
        || Ok(fs::write(&limited, "")?),
        || Ok(fs::remove_file(&limited)?),
    )
}

/// A file system of 64 MB, as long as it lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path)?;
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=64m,mode=0755"))
            .doing(path.display())?;
        Ok(Self(path))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) -> Result<()> {
        let mut file = fs::File::create(self.ballast())?;
        match std::io::copy(&mut std::io::repeat(1), &mut file) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
            other => Err(crate::machine::Failure::new(format!("filling a small disk: {other:?}"))),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_stops_the_standby_and_does_not_promote_it() -> Result<()> {
    if !geteuid().is_root() {
        eprintln!(
            "only root can mount a small disk: the test with a file size limit stands for this one"
        );
        return Ok(());
    }
    let mut pair = Pair::new(18, |machine| machine.restore_command(RETRIES))?;
    let disk = SmallDisk::at(pair.machine.path().join("disk"))?;
    let pg_wal = pair.standby.data.join("pg_wal");
    pair.machine.copy(&pg_wal, &disk.0.join("pg_wal"))?;
    fs::remove_dir_all(&pg_wal)?;
    symlink(disk.0.join("pg_wal"), &pg_wal)?;
    let outcome = without_room_the_standby_stops_and_later_goes_on(
        &mut pair,
        || disk.fill(),
        || Ok(fs::remove_file(disk.ballast())?),
    );
    pair.standby.stop_fast()?;
    outcome
}
