//! The scripts of examples/2warm on a node without a server: what they refuse, print, send and keep. Its `run` is in
//! `examples.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Doing, Result};
use crate::pair::PG_STANDBY;

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

/// A standby node of 2warm whose `pg_standby` says how it was called, and ends with status 7.
fn node_of_2warm() -> Result<tempfile::TempDir> {
    let node = tempfile::tempdir()?;
    for directory in ["bin", "data/archive", "2warm", "partner/data/archive"] {
        fs::create_dir_all(node.path().join(directory))?;
    }
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/2warm"))? {
        let file = file?;
        fs::copy(file.path(), node.path().join("2warm").join(file.file_name()))?;
    }
    fs::write(node.path().join("data/standby.signal"), "")?;
    write_program(node.path(), "pg_standby", "echo \"$@\"\nexit 7")?;
    Ok(node)
}

fn write_program(node: &Path, name: &str, script: &str) -> Result<()> {
    let program = node.join("bin").join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
    Ok(fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?)
}

/// A node whose server runs, as a primary, and where everything that a script could do is possible.
fn primary_of_2warm() -> Result<tempfile::TempDir> {
    let node = node_of_2warm()?;
    let [scripts, partner] = ["2warm", "partner"].map(|name| node.path().join(name));
    for name in ["othernode", "drnode"] {
        fs::write(scripts.join(name), format!("{}\n", partner.display()))?;
    }
    for name in ["archiving_active", "postgresql.conf"] {
        fs::write(scripts.join(name), "")?;
    }
    fs::write(node.path().join("data/archive/000000010000000000000001"), "")?;
    write_program(node.path(), "pg_ctl", "[ \"$1\" = status ] || echo \"$@\" >>acted")?;
    write_program(node.path(), "psql", "echo f")?;
    Ok(node)
}

/// Everything in a directory: paths and contents.
fn everything_in(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(everything_in(&path)?);
            all.insert(path, Vec::new());
        } else {
            let content = fs::read(&path)?;
            all.insert(path, content);
        }
    }
    Ok(all)
}

/// All that an operator or a server can run.
const SCRIPTS_OF_2WARM: [&str; 9] = [
    "archiveWALFile",
    "configSetup",
    "configStandby",
    "copyToStandby",
    "distrib2warm",
    "flushPrimary",
    "restoreWALFile",
    "rsyncDR",
    "triggerStandby",
];

#[test]
fn each_script_of_2warm_prints_its_settings_and_ends_when_it_is_told_to_debug() -> Result<()> {
    let node = primary_of_2warm()?;
    let before = everything_in(node.path())?;
    for script in SCRIPTS_OF_2WARM {
        let (said, status) = run_2warm(node.path(), script, &["debug"])?;
        assert_eq!(status, Some(0), "{script}: {said}");
        for words in ["data directory:", "partner", "archiving:         active", "running"] {
            assert!(said.contains(words), "{script}: {words} is missing in {said}");
        }
        assert!(everything_in(node.path())? == before, "{script} has done something");
    }
    Ok(())
}

#[test]
fn no_script_of_2warm_takes_a_word_that_it_does_not_know() -> Result<()> {
    let node = primary_of_2warm()?;
    fs::copy(PG_STANDBY, node.path().join("bin/pg_standby"))?;
    let before = everything_in(node.path())?;
    for script in SCRIPTS_OF_2WARM {
        for words in [&["stop"][..], &["debug", "fast"]] {
            let (said, status) = run_2warm(node.path(), script, words)?;
            let expected = if script == "restoreWALFile" { 202 } else { 1 };
            assert_eq!(status, Some(expected), "{script} {words:?}: {said}");
            assert!(everything_in(node.path())? == before, "{script} {words:?} did something");
        }
    }
    Ok(())
}

#[test]
fn a_pgdata_elsewhere_is_refused_and_a_symbolic_link_to_the_data_directory_is_not() -> Result<()> {
    let node = primary_of_2warm()?;
    let link = node.path().join("elsewhere");
    std::os::unix::fs::symlink(node.path().join("data"), &link)?;
    for (place, expected) in [(&link, Some(0)), (&node.path().join("partner"), Some(1))] {
        let status = Command::new(node.path().join("2warm/configStandby"))
            .arg("debug")
            .env("PGDATA", place)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()?;
        assert_eq!(status.code(), expected, "{place:?}");
    }
    Ok(())
}

#[test]
fn distrib2warm_leaves_what_belongs_to_the_other_node() -> Result<()> {
    let node = primary_of_2warm()?;
    let there = node.path().join("partner/2warm");
    fs::create_dir(&there)?;
    let own = ["othernode", "drnode", "postgresql.conf", "archiving_active", "relayed"];
    for name in own {
        fs::write(
            node.path().join("2warm").join(name),
            node.path().join("partner").display().to_string(),
        )?;
    }
    for name in ["othernode", "drnode", "postgresql.conf"] {
        fs::write(there.join(name), "its own")?;
    }
    let (said, status) = run_2warm(node.path(), "distrib2warm", &[])?;
    assert_eq!(status, Some(0), "{said}");
    for script in SCRIPTS_OF_2WARM {
        let [here, there] =
            [&node.path().join("2warm"), &there].map(|at| fs::read(at.join(script)));
        assert_eq!(here?, there?, "{script}");
    }
    for name in ["othernode", "drnode", "postgresql.conf"] {
        assert_eq!(fs::read_to_string(there.join(name))?, "its own", "{name}");
    }
    for name in ["archiving_active", "relayed"] {
        assert!(!there.join(name).exists(), "{name}");
    }
    Ok(())
}

#[test]
fn a_primary_relays_nothing() -> Result<()> {
    let node = primary_of_2warm()?;
    fs::remove_file(node.path().join("data/standby.signal"))?;
    let before = everything_in(node.path())?;
    assert_eq!(run_2warm(node.path(), "rsyncDR", &[])?, (String::new(), Some(0)));
    assert!(everything_in(node.path())? == before, "it has done something");
    Ok(())
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
