//! The commands of README's "Use", typed as they stand there, on two servers that share an archive: from the primary to its
//! return as a standby.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::machine::{Doing, Failure, Installation, Machine, PATIENCE, Result, wait_for};
use crate::pair::{PG_STANDBY, ROWS};

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));

/// The commands of a section in their order, with the server where each is typed.
fn commands(section: &str) -> Vec<(String, String)> {
    let lines = README.lines().skip_while(|line| *line != section).skip(1);
    let mut steps: Vec<(String, Vec<&str>)> = Vec::new();
    let mut within = false;
    for line in lines.take_while(|line| !line.starts_with("## ") && !line.starts_with("### ")) {
        match line {
            "```sh" => within = true,
            "```" => within = false,
            _ if !within => {}
            _ => match line.strip_prefix("# on the ") {
                Some(server) => steps.push((server.to_owned(), Vec::new())),
                None => steps.last_mut().expect("a line that names no server").1.push(line),
            },
        }
    }
    steps.into_iter().map(|(server, lines)| (server, lines.join("\n"))).collect()
}

/// Two servers as README has them, where README says `/srv/pg`.
struct Site {
    machine: Arc<Machine>,
    path: std::ffi::OsString,
}

impl Site {
    fn new(installation: Installation) -> Result<Self> {
        let machine = Machine::on(installation, PG_STANDBY)?;
        machine.make_directory(&machine.path().join("pg"))?;
        machine.make_directory(&machine.path().join("pg/wal"))?;
        let mut path = vec![machine.path().to_path_buf(), machine.installation.home.join("bin")];
        let client = Installation::with("psql")?;
        path.push(machine.within_reach(client)?.home.join("bin"));
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(path)?;
        fs::rename(machine.primary(&[])?.data.clone(), machine.path().join("pg/primary"))?;
        let site = Self { machine, path };
        // A reader's primary, which runs. PGPORT tells the two servers apart.
        let socket = format!("'{}'", site.machine.path().display());
        let settings = format!(
            "sed -i '/^port =/d; /^archive_/d' pg/primary/postgresql.conf\n\
             echo \"listen_addresses = ''\" >>pg/primary/postgresql.conf\n\
             echo \"unix_socket_directories = {socket}\" >>pg/primary/postgresql.conf\n\
             pg_ctl start -s -D pg/primary -l pg/primary.log\n"
        );
        site.types("primary", &settings)?;
        Ok(site)
    }

    /// What an operator types on a server, and what it prints.
    fn types(&self, server: &str, commands: &str) -> Result<String> {
        let mut shell = self.machine.command("sh");
        shell
            .args(["-eu", "-c", commands])
            .env("PATH", &self.path)
            .env(
                "PGPORT",
                if ["standby", "new primary"].contains(&server) { "5433" } else { "5432" },
            )
            .env("PGHOST", self.machine.path())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PSQLRC", "/dev/null");
        ended_well(&mut shell, commands)
    }

    /// The commands for this version, in this site's places.
    fn in_its_places(&self, commands: &str) -> String {
        let is_for_this_version = |line: &&str| {
            let words: Vec<_> = line.rsplit("# ").next().unwrap_or_default().split(' ').collect();
            let [since, "and", "later"] = words[..] else { return true };
            since.parse::<u32>().unwrap() <= self.machine.installation.major
        };
        let lines: Vec<_> = commands.lines().filter(is_for_this_version).collect();
        let place = self.machine.path().display();
        lines
            .join("\n")
            .replace("/srv/pg", &format!("{place}/pg"))
            .replace("host=192.0.2.20", &format!("host={place} port=5433"))
    }

    fn asks(&self, server: &str, query: &str) -> Result<String> {
        Ok(self.types(server, &format!("psql -XAtc \"{query}\""))?.trim().to_owned())
    }

    fn waits_until(&self, server: &str, query: &str, answer: &str) -> Result<()> {
        let mut last = String::new();
        wait_for(query, PATIENCE, || {
            last = self.asks(server, query).unwrap_or_else(|failure| failure.to_string());
            Ok(last == answer)
        })
        .map_err(|failure| Failure::new(format!("{failure}; last answer: {last}")))
        .map(drop)
    }

    fn log(&self, server: &str) -> String {
        fs::read_to_string(self.path_of(&format!("{server}.log"))).unwrap_or_default()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.machine.path().join("pg").join(name)
    }
}

impl Drop for Site {
    #[expect(clippy::print_stderr, reason = "a destructor has no other way to say it")]
    fn drop(&mut self) {
        for server in ["primary", "standby"] {
            let _ = self.types(server, &format!("pg_ctl stop -s -m immediate -D pg/{server}"));
            if std::thread::panicking() {
                eprintln!("--- the log of the {server}\n{}", self.log(server));
            }
        }
    }
}

/// The output goes to a file: a server that is started in the background would keep a pipe open.
fn ended_well(shell: &mut Command, commands: &str) -> Result<String> {
    let output = tempfile::NamedTempFile::new()?;
    let status = shell
        .stdin(std::process::Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?)
        .status()
        .doing(commands)?;
    let said = fs::read_to_string(output.path())?;
    if status.success() {
        return Ok(said);
    }
    Err(Failure::new(format!("{commands}\n{status}\n{said}")))
}

tests_on!(postgresql_12 12: [the_quick_start_works_as_it_is_typed]);

/// Of the versions that `pg_rewind` is here for.
#[test]
fn the_quick_start_works_as_it_is_typed_with_the_way_back() -> Result<()> {
    the_quick_start_works_on(Installation::with("pg_rewind")?)
}

fn the_quick_start_works_as_it_is_typed(major: u32) -> Result<()> {
    the_quick_start_works_on(Installation::of(major)?)
}

fn the_quick_start_works_on(installation: Installation) -> Result<()> {
    let site = Site::new(installation)?;
    // A panic, so that the logs are shown.
    goes_through_the_quick_start(&site).unwrap_or_else(|failure| panic!("{failure}"));
    Ok(())
}

fn goes_through_the_quick_start(site: &Site) -> Result<()> {
    let mut steps = commands("### Quick start").into_iter();
    let mut next = |expected: &str| -> Result<String> {
        let (server, commands) = steps.next().expect("a step");
        assert_eq!(server, expected, "{commands}");
        site.types(&server, &site.in_its_places(&commands))
    };

    next("primary")?;
    site.asks("primary", "create table orders as select generate_series(1, 1000)")?;
    next("primary")?;
    next("standby")?;
    site.waits_until("standby", ROWS, "1000")?;
    assert!(!site.path_of("wal/base").exists());

    site.asks("primary", "insert into orders select generate_series(1, 1000)")?;
    let shown = next("primary")?;
    let lsn = shown.split_whitespace().find(|word| word.contains('/')).expect("an LSN");
    let has_come = format!("select pg_last_wal_replay_lsn() >= '{lsn}'");
    site.waits_until("standby", &has_come, "t")?;
    let shown = next("standby")?;
    assert!(shown.contains(" t "), "{shown}");
    site.waits_until("standby", ROWS, "2000")?;

    for (server, asked) in commands("## How far behind") {
        let shown = site.types(&server, &asked)?;
        assert!(shown.contains("0/"), "{shown}");
    }

    site.asks("primary", "insert into orders select generate_series(1, 1000)")?;
    next("primary, if it still runs")?;
    next("standby")?;
    assert_eq!(site.asks("standby", "select pg_is_in_recovery()")?, "f");
    assert_eq!(site.asks("standby", ROWS)?, "3000");
    site.asks("standby", "insert into orders select generate_series(1, 1000)")?;
    if !site.machine.installation.program("pg_rewind").exists() {
        return Ok(());
    }

    // What only the old primary has, and no WAL from before that.
    site.types("primary", "pg_ctl start -s -D pg/primary -l pg/primary.log")?;
    site.asks("primary", "insert into orders select generate_series(1, 500)")?;
    for _ in 0..2 {
        site.asks("primary", "select pg_switch_wal()")?;
        site.asks("primary", "checkpoint")?;
    }
    // As a crash would leave it.
    site.types("primary", "pg_ctl stop -s -m immediate -D pg/primary")?;
    next("old primary")?;
    // Nobody writes anything more on the new one.
    next("new primary")?;
    next("old primary")?;
    site.waits_until("primary", ROWS, "4000")?;
    assert_eq!(site.asks("primary", "select pg_is_in_recovery()")?, "t");

    // And once more, in the other direction, with the trigger file.
    site.asks("standby", "insert into orders select generate_series(1, 1000)")?;
    site.types("standby", "pg_ctl stop -s -m fast -D pg/standby")?;
    site.types("primary", &site.in_its_places("touch /srv/pg/failover"))?;
    site.waits_until("primary", "select pg_is_in_recovery()", "f")?;
    assert_eq!(site.asks("primary", ROWS)?, "5000");
    wait_for("the end of the trigger file", PATIENCE, || Ok(!site.path_of("failover").exists()))?;
    // It archives what it writes, though it has segments from before that the archive has too.
    site.asks("primary", "checkpoint")?;
    let written = site.asks("primary", "select pg_walfile_name(pg_switch_wal())")?;
    wait_for("the new primary's first segment", PATIENCE, || {
        Ok(site.path_of("wal").join(&written).exists())
    })?;
    for server in ["primary", "standby"] {
        assert!(!site.log(server).contains("pg_standby: error"), "{}", site.log(server));
    }
    assert_eq!(steps.next(), None);
    Ok(())
}

/// The lines for `archive_command`, each without its quotes. `ssh standby COMMAND` runs the command here, or ends as it does
/// when the host does not answer.
fn archive_commands() -> impl Iterator<Item = &'static str> {
    let pages = [
        README,
        include_str!("../../docs/migrating.md"),
        include_str!("../../examples/base-backup/primary.conf"),
        include_str!("../../examples/hot-standby/primary.conf"),
        include_str!("../../examples/network-mount/primary.conf"),
        include_str!("../../examples/warm-standby/primary.conf"),
        include_str!("../../examples/warm-standby/README.md"),
    ];
    let line = |line: &'static str| line.strip_prefix("archive_command = '")?.strip_suffix('\'');
    pages.into_iter().flat_map(str::lines).filter_map(line)
}

/// After a crash, and when `pg_rewind` has run, a server offers what the archive has already. If that were refused, nothing
/// would be archived any more.
#[test]
fn each_archive_command_takes_a_segment_once_more_and_never_overwrites_another() -> Result<()> {
    let segment = "000000010000000000000003";
    let mut lines = 0;
    for line in archive_commands() {
        lines += 1;
        let place = tempfile::tempdir()?;
        let wal = place.path().join("wal");
        fs::create_dir(&wal)?;
        fs::write(wal.join("mounted"), "")?;
        let program = |name: &str, script: &str| -> Result<()> {
            let path = place.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
            Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
        };
        program("pgbackrest", "exit 0")?;
        let command = line.replace("/srv/pg", &place.path().display().to_string());
        let command = command.replace("%p", segment).replace("%f", segment);
        // Everything in the archive, and the status.
        let archives = |content: &str, ssh: &str| -> Result<(Option<i32>, Vec<Vec<u8>>)> {
            fs::write(place.path().join(segment), content)?;
            program("ssh", ssh)?;
            let path = std::env::var("PATH").unwrap();
            let status = Command::new("sh")
                .args(["-c", &command])
                .env("PATH", format!("{}:{path}", place.path().display()))
                .env_remove("RSYNC_RSH")
                .current_dir(place.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()?;
            let mut files = Vec::new();
            for file in fs::read_dir(&wal)? {
                let file = file?;
                if file.file_name().to_string_lossy().starts_with(segment) {
                    files.push(fs::read(file.path())?);
                }
            }
            Ok((status.code(), files))
        };
        let answers = "shift; exec sh -c \"$*\"";
        if line.contains("ssh") {
            assert_eq!(archives("first", "exit 255")?, (Some(1), Vec::new()), "{line}");
        }
        let first = archives("first", answers)?;
        assert!(first.0 == Some(0) && first.1.len() == 1, "{line}: {first:?}");
        assert_eq!(archives("first", answers)?, first, "{line}");
        assert_eq!(archives("other", answers)?, (Some(1), first.1), "{line}");
        if line.contains("mounted") {
            fs::remove_file(wal.join("mounted"))?;
            fs::remove_file(wal.join(segment))?;
            assert_eq!(archives("first", answers)?, (Some(1), Vec::new()), "{line}");
        }
    }
    assert_eq!(lines, 11);
    Ok(())
}
