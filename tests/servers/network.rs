//! An archive that comes through sshfs or bindfs, and is filled on the other side, where the kernel here sees nothing of it:
//! the standby follows, takes nothing for what it is not while the archive is unmounted or its process dead, and goes on
//! when it is mounted again.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::{Doing, Failure, Machine, PATIENCE, Result, wait_for};
use crate::mount::{Kind, Mount, is_possible};
use crate::pair::{PG_STANDBY, Pair};
use crate::shipment::{Copier, Home, crash, current_segment, partials_in, received, shipped_pair};
use crate::trial::Trial;

/// Makes each of the functions a test over each of the file systems, where one can be mounted.
macro_rules! tests_over {
    ($($module:ident $kind:ident $major:literal),*: $tests:tt) => {
        $(tests_over!(@ $module $kind $major $tests);)*
    };
    (@ $module:ident $kind:ident $major:literal [$($test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $test() -> crate::machine::Result<()> {
                    if super::is_possible()? { super::$test(super::Kind::$kind, $major) } else { Ok(()) }
                }
            )*
        }
    };
}

tests_over!(sshfs_postgresql_10 Sshfs 10: [
    segments_are_followed_and_a_failover_has_every_row,
    a_smart_failover_waits_for_the_required_file_however_the_archive_went_away,
    rows_come_in_mid_segment_and_a_failover_has_the_last_one,
]);
tests_over!(sshfs_postgresql_18 Sshfs 18, bindfs_postgresql_18 Bindfs 18: [
    segments_are_followed_and_a_failover_has_every_row,
    half_written_segments_are_waited_out,
    a_wait_outlasts_an_unmounted_archive_and_a_dead_one,
    a_smart_failover_waits_for_the_required_file_however_the_archive_went_away,
    a_smart_failover_that_has_begun_goes_on_when_the_archive_is_mounted_again,
    without_a_required_file_a_smart_failover_ends_where_a_dead_archive_stays_dead,
    rows_come_in_mid_segment_and_a_failover_has_the_last_one,
]);

const REQUIRED: &str = "mounted";
const REQUIRE_FILE: &str = "-d --require-file mounted";
const GONE: &str = "waiting until the archive answers";

/// How an archive goes away.
type Way = fn(&mut Mount) -> Result<()>;

/// A standby whose archive is mounted. The mount goes first, so that nothing is removed through it.
struct Remote {
    mount: Mount,
    trial: Trial,
}

impl Remote {
    /// One that follows, and has got a segment.
    fn new(kind: Kind, major: u32, options: &str) -> Result<Self> {
        let mut trial = Trial::not_started(major, options)?;
        let origin = trial.place("exported");
        trial.pair.machine.make_directory(&origin)?;
        trial.pair.machine.write(&origin.join(REQUIRED), "")?;
        let mount = Mount::new(&trial.pair.machine, kind, &origin, &trial.archive())?;
        trial.delivery = origin;
        let mut remote = Self { mount, trial };
        remote.trial.pair.standby.start()?;
        remote.trial.follow()?;
        Ok(remote)
    }

    /// Stops the standby, and gives it so many segments that it has not asked for. Gives the name of the first.
    fn fall_behind(&mut self, segments: usize) -> Result<String> {
        self.trial.pair.standby.stop_fast()?;
        let mut first = None;
        for _ in 0..segments {
            let name = self.trial.pair.ship()?;
            self.trial.deliver(&name)?;
            first.get_or_insert(name);
        }
        first.ok_or_else(|| Failure::new("no segment"))
    }

    /// The call says so and waits, and what comes meanwhile is there afterwards.
    fn goes_away_and_comes_back(&mut self, way: Way) -> Result<()> {
        let Self { mount, trial } = self;
        let call = trial.call()?;
        trial.listen();
        way(mount)?;
        trial.withstands(call, GONE)?;
        let name = trial.pair.ship()?;
        trial.deliver(&name)?;
        trial.looks_on(call)?;
        self.mount_again()?;
        self.trial.pair.standby_sees_every_row().map(drop)
    }

    fn mount_again(&mut self) -> Result<()> {
        self.mount.unmount()?;
        self.mount.mount()
    }

    fn has_failed_over(&mut self) -> Result<()> {
        let rows = self.trial.pair.rows;
        let failed_over = self.trial.pair.assert_failed_over_with(rows);
        self.trial.with_log(failed_over)
    }
}

fn segments_are_followed_and_a_failover_has_every_row(kind: Kind, major: u32) -> Result<()> {
    let mut remote = Remote::new(kind, major, "")?;
    // The kernel tells nothing of what happens behind a mount, so that each of these is found by a look.
    for _ in 0..3 {
        remote.trial.follow()?;
    }
    remote.trial.pair.assert_still_a_standby()?;
    remote.fall_behind(3)?;
    remote.trial.pair.machine.ask_for_failover("smart")?;
    remote.trial.pair.standby.start()?;
    remote.has_failed_over()
}

fn half_written_segments_are_waited_out(kind: Kind, major: u32) -> Result<()> {
    let mut remote = Remote::new(kind, major, "-s 0.1 -d")?;
    let trial = &mut remote.trial;
    // Its first half, which grows.
    let call = trial.call()?;
    let name = trial.pair.ship()?;
    let good = fs::read(trial.pair.machine.archive().join(&name)).doing(&name)?;
    let half = good.len() / 2;
    trial.listen();
    trial.put(&name, &good[..half])?;
    trial.withstands(call, "is not ready")?;
    append(&trial.delivery.join(&name), half, &good[half..])?;
    trial.pair.standby_sees_every_row()?;
    // Its full length from the start, and what is missing follows so soon that its time of change stays the same where
    // that is told in seconds.
    for _ in 0..2 {
        let call = trial.call()?;
        let name = trial.pair.ship()?;
        let good = fs::read(trial.pair.machine.archive().join(&name)).doing(&name)?;
        let mut hollow = good.clone();
        hollow[8192..].fill(0);
        trial.listen();
        let begin = Instant::now();
        trial.put(&name, &hollow)?;
        let path = trial.delivery.join(&name);
        let modified = fs::metadata(&path)?.modified()?;
        trial.withstands(call, "is not ready")?;
        append(&path, 8192, &good[8192..])?;
        if begin.elapsed() < Duration::from_secs(1) {
            OpenOptions::new().write(true).open(&path)?.set_modified(modified)?;
        }
        trial.pair.standby_sees_every_row()?;
    }
    trial.pair.assert_still_a_standby()
}

/// Writes from there on, into the file as it is.
fn append(path: &Path, offset: usize, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(u64::try_from(offset)?))?;
    Ok(file.write_all(bytes)?)
}

fn a_wait_outlasts_an_unmounted_archive_and_a_dead_one(kind: Kind, major: u32) -> Result<()> {
    // An archive without its required file is as good as none.
    let mut remote = Remote::new(kind, major, &format!("-s 0.1 {REQUIRE_FILE}"))?;
    for way in [Mount::unmount, Mount::kill] {
        remote.goes_away_and_comes_back(way)?;
    }
    let mut remote = Remote::new(kind, major, "-s 0.1 -d")?;
    remote.goes_away_and_comes_back(Mount::kill)?;
    // An empty mount point is an archive in which nothing comes, and nobody has asked for failover.
    let call = remote.trial.call()?;
    remote.mount.unmount()?;
    let name = remote.trial.pair.ship()?;
    remote.trial.deliver(&name)?;
    remote.trial.looks_on(call)?;
    remote.trial.pair.assert_still_a_standby()?;
    remote.mount.mount()?;
    remote.trial.pair.standby_sees_every_row().map(drop)
}

fn a_smart_failover_waits_for_the_required_file_however_the_archive_went_away(
    kind: Kind,
    major: u32,
) -> Result<()> {
    for way in [Mount::unmount, Mount::kill] {
        let mut remote = Remote::new(kind, major, &format!("-s 0.1 {REQUIRE_FILE}"))?;
        let Remote { mount, trial } = &mut remote;
        let call = trial.call()?;
        trial.listen();
        way(mount)?;
        trial.withstands(call, &format!("{GONE}, even at a smart failover"))?;
        let name = trial.pair.ship()?;
        trial.deliver(&name)?;
        trial.looks_again(call, 5, |trial| trial.pair.machine.ask_for_failover("smart"))?;
        remote.mount_again()?;
        remote.has_failed_over()?;
    }
    Ok(())
}

fn a_smart_failover_that_has_begun_goes_on_when_the_archive_is_mounted_again(
    kind: Kind,
    major: u32,
) -> Result<()> {
    for way in [Mount::unmount, Mount::kill] {
        let mut remote = Remote::new(kind, major, &format!("-s 0.1 {REQUIRE_FILE}"))?;
        let first = remote.fall_behind(3)?;
        let trial = &mut remote.trial;
        let (held, log) = (trial.place("held"), trial.place("standby.log"));
        trial.pair.machine.write(&held, "")?;
        // The call after the first segment waits for the test.
        trial.before_each_call(&format!(
            "while test -e {} && grep -q 'restored log file \"{first}\"' {}; do sleep 0.05; done",
            held.display(),
            log.display()
        ))?;
        trial.pair.machine.ask_for_failover("smart")?;
        trial.listen();
        trial.pair.standby.start()?;
        trial.says(&format!("restored log file \"{first}\""))?;
        way(&mut remote.mount)?;
        fs::remove_file(held)?;
        remote.trial.says("even at a smart failover")?;
        let call = remote.trial.call()?;
        remote.trial.looks_on(call)?;
        remote.mount_again()?;
        remote.has_failed_over()?;
    }
    Ok(())
}

fn without_a_required_file_a_smart_failover_ends_where_a_dead_archive_stays_dead(
    kind: Kind,
    major: u32,
) -> Result<()> {
    let mut remote = Remote::new(kind, major, "-s 0.1 -d -r 5")?;
    let Remote { mount, trial } = &mut remote;
    let call = trial.call()?;
    trial.listen();
    mount.kill()?;
    trial.withstands(call, GONE)?;
    trial.pair.machine.ask_for_failover("smart")?;
    let rows = trial.pair.rows;
    let failed_over = trial.pair.assert_failed_over_with(rows);
    trial.with_log(failed_over)?;
    assert!(
        trial.heard("failover continues without what may be in the archive"),
        "{}",
        trial.pair.standby.log()
    );
    Ok(())
}

fn rows_come_in_mid_segment_and_a_failover_has_the_last_one(kind: Kind, major: u32) -> Result<()> {
    let machine = Machine::new(major, PG_STANDBY)?;
    let place = machine.path().join("delivered");
    machine.make_directory(&place)?;
    let mut pair = shipped_pair(machine.clone(), &[], Home::Plain, "")?;
    let mut mount = Mount::new(&machine, kind, &machine.archive(), &place)?;
    let command = machine.restore_command("-d --require-file mounted --partial=0.1");
    let [archive, place] = [machine.archive(), place].map(|path| path.display().to_string());
    let command = command.replace(&archive, &place);
    pair.standby.enter_standby_mode(&command, None)?;
    pair.standby.set_recovery("recovery_target_timeline", "latest")?;
    machine.write(&machine.archive().join(REQUIRED), "")?;
    let copier = Copier::start(&pair)?;
    pair.standby.start()?;
    let segment = current_segment(&pair.primary)?;
    for _ in 0..5 {
        insert_ten(&mut pair)?;
        pair.standby_sees_every_row()?;
    }
    assert_eq!(partials_in(&machine.archive())?, [format!("{segment}.partial")]);
    // In mid-segment; and what has come meanwhile is there when it is mounted again.
    for way in [Mount::unmount, Mount::kill] {
        let log = pair.standby.log().len();
        way(&mut mount)?;
        insert_ten(&mut pair)?;
        let before = (pair.rows - 10).to_string();
        wait_for("words about the archive", PATIENCE, || {
            Ok(pair.standby.log().get(log..).is_some_and(|new| new.contains(GONE)))
        })
        .map_err(|failure| pair.standby.with_log(&failure))?;
        assert_eq!(pair.standby.value(crate::pair::ROWS)?, before);
        mount.unmount()?;
        mount.mount()?;
        pair.standby_sees_every_row()?;
    }
    pair.primary.sql("select pg_switch_wal()")?;
    insert_ten(&mut pair)?;
    pair.standby_sees_every_row()?;
    pair.assert_still_a_standby()?;
    insert_ten(&mut pair)?;
    let (name, bytes) = received(&pair.primary)?;
    wait_for("the last rows in the archive", PATIENCE, || {
        let partial = fs::read(machine.archive().join(format!("{name}.partial")));
        Ok(partial.is_ok_and(|partial| partial == bytes))
    })?;
    crash(&mut pair.primary)?;
    copier.stop()?;
    machine.ask_for_failover("smart")?;
    let rows = pair.rows;
    let failed_over = pair.assert_failed_over_with(rows);
    failed_over.map_err(|failure| pair.standby.with_log(&failure))
}

/// Adds ten rows in one transaction.
fn insert_ten(pair: &mut Pair) -> Result<()> {
    pair.primary.sql("insert into orders select generate_series(1, 10)")?;
    pair.rows = pair.rows.saturating_add(10);
    Ok(())
}
