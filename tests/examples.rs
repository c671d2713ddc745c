//! The folders of examples/ as a newcomer meets them: each `run` on real servers, with the very files that he copies, and
//! a README.md that shows their lines.
//!
//! `PG_STANDBY_UNDER_TEST=/path` runs them with another `pg_standby`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod pair;
mod server;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use server::{Doing, Failure, Installation, Result, Site, wait_for};

pair::tests_on!(postgresql_10 10, postgresql_18 18: [
    warm_standby,
    hot_standby,
    low_latency,
    two_warm,
    base_backup,
    network_mount,
]);
pair::tests_on!(postgresql_11 11, postgresql_12 12: [warm_standby]);
pair::tests_on!(postgresql_15 15: [hot_standby]);

const ASKED: &str = "smart failover, asked for by trigger file";

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

fn low_latency(major: u32) -> Result<()> {
    succeeds(
        "low-latency",
        major,
        &[
            "20 segments: from archived to visible in ",
            " ms: 20000 rows counted, one more inserted",
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
            "has reached both, which show 5000 rows",
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

/// What Debian's client programs can surely make a base backup of.
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

/// One example that runs.
struct Run {
    site: Arc<Site>,
    child: Child,
}

impl Run {
    fn start(example: &str, major: u32, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let site = Site::new(major, Path::new(env!("CARGO_BIN_EXE_pg_standby")))?;
        let mut examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        if !site.command("test").arg("-x").arg(&examples).status()?.success() {
            let copy = site.path().join("examples");
            site.copy(&examples, &copy)?;
            examples = copy;
        }
        let mut path = vec![site.path().to_path_buf()];
        path.extend(
            Installation::with_client_programs()
                .map(|client| site.within_reach(client).map(|client| client.home.join("bin")))
                .transpose()?,
        );
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        site.make_directory(&temporary(&site))?;

        let output = File::create(site.path().join("output"))?;
        // Where the tests run in the background SIGINT is ignored, which a script cannot undo by itself.
        let mut command = site.command("env");
        command
            .arg("--default-signal=INT")
            .arg(examples.join(example).join("run"))
            .env("PGBIN", site.installation.home.join("bin"))
            .env("PATH", std::env::join_paths(path)?)
            .env("TMPDIR", temporary(&site))
            .env_remove("PG_STANDBY")
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        prepare(&mut command);
        let child = command.spawn().doing(example)?;
        Ok(Self { site, child })
    }

    fn output(&self) -> Result<String> {
        Ok(fs::read_to_string(self.site.path().join("output"))?)
    }

    /// Its end, and that nothing stays of it: no file, no process.
    fn end(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_for("the end of the example", LIMIT, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .map_err(|failure| {
            Failure::new(format!("{failure}\n{}", self.output().unwrap_or_default()))
        })?;
        let left: Vec<_> = fs::read_dir(temporary(&self.site))?.collect::<std::io::Result<_>>()?;
        assert!(left.is_empty(), "{left:?}\n{}", self.output()?);
        let place = temporary(&self.site);
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

fn temporary(site: &Site) -> PathBuf {
    site.path().join("tmp")
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
    assert!(anything_runs_in(&temporary(&run.site)));
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

/// Runs a script of 2warm on a node without a server. Gives what it printed and its status.
fn run_2warm(node: &Path, script: &str, arguments: &[&str]) -> Result<(String, Option<i32>)> {
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(node.join("2warm").join(script))
        .args(arguments)
        .current_dir(node.join("data"))
        .env("PATH", format!("{}:{path}", node.join("bin").display()))
        .output()
        .doing(script)?;
    Ok((String::from_utf8(output.stdout).unwrap().trim().to_owned(), output.status.code()))
}

/// A node of 2warm whose `pg_standby` says how it was called, and ends with status 7.
fn node_of_2warm() -> Result<tempfile::TempDir> {
    let node = tempfile::tempdir()?;
    for directory in ["bin", "data/archive", "2warm", "partner/data/archive"] {
        fs::create_dir_all(node.path().join(directory))?;
    }
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/2warm"))? {
        let file = file?;
        fs::copy(file.path(), node.path().join("2warm").join(file.file_name()))?;
    }
    let pg_standby = node.path().join("bin/pg_standby");
    fs::write(&pg_standby, "#!/bin/sh\necho \"$@\"\nexit 7\n")?;
    fs::set_permissions(&pg_standby, fs::Permissions::from_mode(0o755))?;
    Ok(node)
}

#[test]
fn a_standby_that_relays_prunes_only_what_it_has_sent() -> Result<()> {
    let node = node_of_2warm()?;
    let [drnode, relayed] = ["drnode", "relayed"].map(|file| node.path().join("2warm").join(file));
    let next = "000000020000000000000009";
    let restart = "000000020000000000000007";
    let restores_with = |expected: &str| -> Result<()> {
        let call = format!(
            "-c -d -r 1 -s 30 -w 0 -t trigger archive {next} pg_wal/RECOVERYXLOG {expected}"
        );
        let (said, status) =
            run_2warm(node.path(), "restoreWALFile", &[next, "pg_wal/RECOVERYXLOG", restart])?;
        assert_eq!((said.as_str(), status), (call.trim(), Some(7)));
        Ok(())
    };

    restores_with(restart)?;
    fs::write(&drnode, "db3:/srv/pg\n")?;
    restores_with("")?;
    fs::write(&relayed, "000000010000000000000005\n")?;
    restores_with("000000010000000000000005")?;
    fs::write(&relayed, "000000010000000000000008\n")?;
    restores_with(restart)
}

#[test]
fn the_relay_sends_what_has_arrived_and_what_it_has_sent_not_again() -> Result<()> {
    let node = node_of_2warm()?;
    let arrives = |name: &str| fs::write(node.path().join("data/archive").join(name), name);
    let there = node.path().join("partner/data/archive");
    fs::write(
        node.path().join("2warm/drnode"),
        format!("{}\n", node.path().join("partner").display()),
    )?;
    let relays = |expected: &[&str]| -> Result<()> {
        assert_eq!(run_2warm(node.path(), "rsyncDR", &[])?, (String::new(), Some(0)));
        let mut names: Vec<_> = fs::read_dir(&there)?
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, expected);
        Ok(())
    };

    relays(&[])?;
    assert!(!node.path().join("2warm/relayed").exists());
    for name in
        ["000000010000000000000004", "000000010000000000000005", ".000000010000000000000006.x1"]
    {
        arrives(name)?;
    }
    relays(&["000000010000000000000004", "000000010000000000000005"])?;
    // The disaster recovery node has pruned, and a switchover has begun a timeline in mid-segment.
    fs::remove_file(there.join("000000010000000000000004"))?;
    arrives("00000002.history")?;
    arrives("000000020000000000000005")?;
    relays(&["000000010000000000000005", "00000002.history", "000000020000000000000005"])
}

#[test]
fn every_line_that_runs_is_in_the_readme_of_its_example() -> Result<()> {
    let mut files = 0;
    for example in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"))? {
        let example = example?.path();
        let Ok(readme) = fs::read_to_string(example.join("README.md")) else {
            assert!(!example.join("run").exists(), "{example:?} has no README.md");
            continue;
        };
        for file in fs::read_dir(&example)? {
            let file = file?.path();
            let is_configuration = file.extension().is_some_and(|extension| extension == "conf")
                || ["fstab", "passfile"].iter().any(|name| file.ends_with(name));
            if !is_configuration {
                continue;
            }
            files += 1;
            for line in fs::read_to_string(&file)?.lines().filter(|line| !line.starts_with('#')) {
                assert!(readme.lines().any(|shown| shown == line), "{file:?}: {line}");
            }
        }
    }
    assert!(files >= 20, "only {files} configuration files");
    Ok(())
}

/// What stands in a document between `pg_standby` and the end of its command.
fn command_lines(document: &str) -> Vec<String> {
    document
        .lines()
        .flat_map(|line| line.split("pg_standby -").skip(1))
        .map(|rest| rest.split(['\'', '`', '#']).next().unwrap_or_default())
        .map(|arguments| format!("-{}", arguments.split("2>>").next().unwrap_or_default()))
        .filter(|arguments| arguments.contains("/srv/pg/wal") || arguments.contains(" ARCHIVE "))
        .collect()
}

#[test]
fn every_command_line_in_the_documents_is_one() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("docs/migrating.md")];
    for example in fs::read_dir(root.join("examples"))? {
        documents.push(example?.path().join("README.md"));
    }
    let place = tempfile::tempdir()?;
    let segment = "000000010000000000000003";
    let mut lines = 0;
    for document in documents.iter().filter(|document| document.exists()) {
        for line in command_lines(&fs::read_to_string(document)?) {
            lines += 1;
            let arguments = line
                .replace("%f", segment)
                .replace("%p", "pg_wal/RECOVERYXLOG")
                .replace("%r", segment)
                .replace("SEGMENT.OFFSET", &format!("{segment}.00000028"))
                .replace("SEGMENT", segment)
                .replace("/srv/pg", &place.path().display().to_string());
            let output = Command::new(env!("CARGO_BIN_EXE_pg_standby"))
                .args(arguments.split_whitespace())
                .current_dir(place.path())
                .output()?;
            // There is no such archive, and that must be all that it has to say.
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let expected = if line.contains("--prune") { 1 } else { 202 };
            assert_eq!(output.status.code(), Some(expected), "{document:?}: {line}\n{said}");
            assert!(said.contains("No such file"), "{document:?}: {line}\n{said}");
            assert!(!said.contains("pg_standby --help"), "{document:?}: {line}\n{said}");
        }
    }
    assert!(lines >= 20, "only {lines} command lines");
    Ok(())
}
