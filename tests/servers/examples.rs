//! The folders of examples/ as a newcomer uses them: each `run` on real servers, with the same files that users copy, and a
//! README.md that shows their lines.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::machine::{Doing, Failure, Installation, Machine, Result, wait_for};
use crate::pair::PG_STANDBY;

tests_on!(postgresql_10 10: [
    warm_standby,
    hot_standby,
    record_shipping,
    two_warm,
    base_backup,
    network_mount,
]);
tests_on!(postgresql_18 18: [warm_standby, hot_standby, two_warm, base_backup, network_mount]);
tests_on!(postgresql_11 11, postgresql_12 12: [warm_standby]);
// The newest version that Debian's pg_receivewal can surely receive from.
tests_on!(postgresql_15 15: [hot_standby, record_shipping]);

const ASKED: &str = "smart failover requested by trigger file";

fn warm_standby(major: u32) -> Result<()> {
    succeeds(
        "warm-standby",
        major,
        &[
            "the standby shows 2000",
            ASKED,
            "promoted: 3000 rows counted, one more inserted, and the trigger file is gone",
        ],
    )
}

fn hot_standby(major: u32) -> Result<()> {
    let by = if major <= 15 { "its trigger file" } else { "pg_ctl promote" };
    succeeds(
        "hot-standby",
        major,
        &[
            "came from the archive",
            "it streams, asynchronously: 3000 rows",
            "archive_cleanup_command has removed 0000000100000000000000",
            "it is synchronous: 1000 rows are committed",
            &format!("promoted by {by}: 4000 rows counted, one more inserted"),
        ],
    )
}

fn record_shipping(major: u32) -> Result<()> {
    succeeds(
        "record-shipping",
        major,
        &[
            "each commit waits for pg_receivewal",
            "50 commits: from committed to visible in ",
            "in mid-segment",
            ASKED,
            "promoted: all 1050 rows counted, one more inserted",
        ],
    )
}

fn two_warm(major: u32) -> Result<()> {
    succeeds(
        "2warm",
        major,
        &[
            "switchover: db2 is the primary with all 3000 rows",
            "switch back: db1 is the primary with all 4000 rows",
            "starts with hot_standby = off only",
            "db2 is a standby again with 5000 rows, and relays to db3",
            "failover: db1 is gone, db2 is the primary with 6000 rows",
            ASKED,
            "db3 is the primary with the 5000 rows that had been relayed",
        ],
    )
}

fn base_backup(major: u32) -> Result<()> {
    succeeds(
        "base-backup",
        major,
        &[
            "backup history file 0000000100000000000000",
            "the standby from by-hand has replayed the archive and shows 2000 rows",
            if major <= CLIENT_MAJOR {
                "the standby from pg_basebackup has replayed the archive and shows 2000 rows"
            } else {
                "shows 2000 rows"
            },
            "pruned by the name of the newest backup history file",
            ASKED,
            "promoted: 2000 rows counted, one more inserted",
        ],
    )
}

/// The versions of which Debian's client programs can surely make a base backup.
const CLIENT_MAJOR: u32 = 15;

fn network_mount(major: u32) -> Result<()> {
    succeeds(
        "network-mount",
        major,
        &[
            "the archive is not mounted: the standby holds, and the primary keeps its WAL",
            "it is mounted again: the standby goes on, and shows 2000 rows",
            "failover is asked for: the standby holds",
            ASKED,
            "it is mounted again: promoted, 4000 rows counted, one more inserted",
        ],
    )
}

/// Many times what an example takes.
const LIMIT: Duration = Duration::from_secs(300);

/// One running example.
struct Run {
    machine: Arc<Machine>,
    child: Child,
}

impl Run {
    fn start(example: &str, major: u32, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let machine = Machine::new(major, PG_STANDBY)?;
        let mut examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        if !machine.command("test").arg("-x").arg(&examples).status()?.success() {
            let copy = machine.path().join("examples");
            machine.copy(&examples, &copy)?;
            examples = copy;
        }
        let mut path = vec![machine.path().to_path_buf()];
        path.extend(
            Installation::with_client_programs()
                .map(|client| machine.within_reach(client).map(|client| client.home.join("bin")))
                .transpose()?,
        );
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        machine.make_directory(&temporary(&machine))?;

        let output = File::create(machine.path().join("output"))?;
        // If the tests run in the background, SIGINT is ignored, which a script cannot undo by itself.
        let mut command = machine.command("env");
        command
            .arg("--default-signal=INT")
            .arg(examples.join(example).join("run"))
            .env("PGBIN", machine.installation.home.join("bin"))
            .env("PATH", std::env::join_paths(path)?)
            .env("TMPDIR", temporary(&machine))
            .env_remove("PG_STANDBY")
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        prepare(&mut command);
        // An example writes nothing where it is started, which may be a directory of root.
        command.current_dir("/");
        let child = command.spawn().doing(example)?;
        Ok(Self { machine, child })
    }

    fn output(&self) -> Result<String> {
        Ok(fs::read_to_string(self.machine.path().join("output"))?)
    }

    /// Waits for its end, and asserts that it leaves nothing: no file, no process.
    fn end(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_for("the end of the example", LIMIT, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .map_err(|failure| {
            Failure::new(format!("{failure}\n{}", self.output().unwrap_or_default()))
        })?;
        let left: Vec<_> =
            fs::read_dir(temporary(&self.machine))?.collect::<std::io::Result<_>>()?;
        assert!(left.is_empty(), "{left:?}\n{}", self.output()?);
        let place = temporary(&self.machine);
        wait_for("the end of its servers", Duration::from_secs(10), || {
            Ok(!anything_runs_in(&place))
        })?;
        status.ok_or_else(|| Failure::new("it has no status"))
    }

    fn interrupt(&self, signal: Signal) -> Result<()> {
        Ok(killpg(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }
}

impl Drop for Run {
    /// It stops its servers when it is told to end.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.interrupt(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn temporary(machine: &Machine) -> PathBuf {
    machine.path().join("tmp")
}

fn anything_runs_in(place: &Path) -> bool {
    let place = place.to_string_lossy().into_owned();
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&place))
    })
}

fn succeeds(example: &str, major: u32, expected: &[&str]) -> Result<()> {
    let mut run = Run::start(example, major, |_| {})?;
    let status = run.end()?;
    let output = run.output()?;
    assert!(
        status.success(),
        "{status}\n{output}\nscripts/get-postgres brings the servers, client programs and rsync that examples need"
    );
    let mut rest = output.as_str();
    for words in expected {
        let at =
            rest.find(words).unwrap_or_else(|| panic!("no {words:?} in its place in\n{output}"));
        rest = &rest[at..];
    }
    Ok(())
}

#[test]
fn an_interrupted_example_stops_its_servers_and_leaves_nothing() -> Result<()> {
    let mut run = Run::start("warm-standby", 18, |_| {})?;
    wait_for("two servers", LIMIT, || Ok(run.output()?.contains("the standby runs")))?;
    assert!(anything_runs_in(&temporary(&run.machine)));
    run.interrupt(Signal::SIGINT)?;
    assert!(!run.end()?.success(), "{}", run.output()?);
    Ok(())
}

#[test]
fn an_example_that_fails_shows_the_end_of_the_servers_logs_and_leaves_nothing() -> Result<()> {
    let mut run = Run::start("warm-standby", 18, |command| {
        let broken = Path::new(command.get_current_dir().unwrap()).join("broken");
        fs::write(&broken, "#!/bin/sh\nexit 202\n").unwrap();
        fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
        command.env("PG_STANDBY", broken).env("PATIENCE", "5");
    })?;
    assert_eq!(run.end()?.code(), Some(1), "{}", run.output()?);
    let output = run.output()?;
    assert!(output.contains("not within 5 s"), "{output}");
    assert!(output.contains("child process exited with exit code 202"), "{output}");
    Ok(())
}

#[test]
fn an_example_refuses_root_in_one_line() -> Result<()> {
    let mut run = Run::start("warm-standby", 18, |command| {
        let programs = Path::new(command.get_current_dir().unwrap()).join("root");
        fs::create_dir(&programs).unwrap();
        fs::write(programs.join("id"), "#!/bin/sh\necho 0\n").unwrap();
        fs::set_permissions(programs.join("id"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", programs.display()));
    })?;
    assert_eq!(run.end()?.code(), Some(1));
    let output = run.output()?;
    assert!(output.starts_with("warm-standby: PostgreSQL does not run as root"), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    Ok(())
}
