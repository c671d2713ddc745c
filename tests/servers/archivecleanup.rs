//! `pg_standby --prune` and PostgreSQL's `pg_archivecleanup` on the same archives: they remove the same files, except for
//! the differences in a table of README.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use crate::machine::{Installation, program_under_test};
use crate::pair::PG_STANDBY;

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
const CUTOFF: &str = "000000010000000100000002";

/// One of the two programs, with its arguments before the archive and the cut-off.
struct Cleaner {
    program: PathBuf,
    options: Vec<String>,
}

fn ours() -> Cleaner {
    Cleaner { program: program_under_test(PG_STANDBY), options: vec!["--prune".to_owned()] }
}

fn theirs(options: &[&str]) -> Cleaner {
    let installation =
        Installation::with("pg_archivecleanup").unwrap_or_else(|failure| panic!("{failure}"));
    Cleaner {
        program: installation.program("pg_archivecleanup"),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    }
}

impl Cleaner {
    /// Returns whether it succeeds, and what it prints. In a dry run it only says what it would remove.
    fn cleans(&self, archive: &Path, cutoff: &str, dry: bool) -> (bool, String) {
        let mut command = Command::new(&self.program);
        command.args(&self.options).args(dry.then_some("-n")).arg(archive).arg(cutoff);
        let output = command.output().expect("it runs");
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// What it leaves of an archive, and what it prints in a dry run before that, names alone.
    fn leaves(&self, names: &BTreeSet<String>, cutoff: &str) -> (Vec<String>, BTreeSet<String>) {
        let archive = TempDir::with_prefix("pg_standby.").unwrap();
        for name in names {
            fs::write(archive.path().join(name), "").unwrap();
        }
        let (can_list, listed) = self.cleans(archive.path(), cutoff, true);
        let place = format!("{}/", archive.path().display());
        let listed =
            listed.lines().map(|path| path.strip_prefix(&place).unwrap().to_owned()).collect();
        assert_eq!(listing(archive.path()).len(), names.len());
        let (can_remove, _) = self.cleans(archive.path(), cutoff, false);
        assert!(can_list && can_remove);
        (listing(archive.path()), listed)
    }
}

fn listing(archive: &Path) -> Vec<String> {
    let entries = fs::read_dir(archive).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The rows of the table in README: a name in the archive, what `pg_archivecleanup` does to it, and what ours does.
fn table() -> Vec<[String; 3]> {
    let lines =
        README.lines().skip_while(|line| *line != "## Differences from pg_archivecleanup").skip(1);
    let rows =
        lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `0"));
    let cells = |row: &str| {
        let mut cells =
            row.trim_matches(['|', ' ']).split(" | ").map(|cell| cell.trim().to_owned());
        [(); 3].map(|()| cells.next().expect("three cells"))
    };
    rows.map(cells).collect()
}

#[test]
fn the_table_in_readme_is_what_both_programs_do() {
    let rows = table();
    assert!(rows.len() >= 10, "{rows:?}");
    for [names, by_theirs, by_ours] in rows {
        for name in names.split('`').filter(|name| name.len() > 2) {
            let archive = BTreeSet::from([name.to_owned(), CUTOFF.to_owned()]);
            let goes = |cell: &str| match cell.split([' ', ';']).next() {
                Some("removed") => true,
                Some("stays") => false,
                _ => panic!("{cell:?}"),
            };
            let option =
                by_theirs.split('`').nth(1).filter(|_| goes(&by_theirs)).unwrap_or_default();
            let options: Vec<_> = option.split(' ').filter(|word| !word.is_empty()).collect();
            let is_gone = |(left, _): (Vec<String>, _)| !left.iter().any(|left| left == name);
            let by_program = is_gone(theirs(&options).leaves(&archive, CUTOFF));
            assert_eq!(by_program, goes(&by_theirs), "pg_archivecleanup {option} and {name}");
            if !option.is_empty() {
                let by_program = is_gone(theirs(&[]).leaves(&archive, CUTOFF));
                assert!(!by_program, "pg_archivecleanup without {option} and {name}");
            }
            let by_program = is_gone(ours().leaves(&archive, CUTOFF));
            assert_eq!(by_program, goes(&by_ours), "pg_standby --prune and {name}");
        }
    }
}

#[test]
fn pg_archivecleanup_ends_at_what_it_cannot_remove_and_this_one_goes_on() {
    let archive = TempDir::with_prefix("pg_standby.").unwrap();
    for number in 0..9 {
        fs::create_dir(archive.path().join(format!("00000001000000010000000{number}"))).unwrap();
    }
    let (can, _) = theirs(&[]).cleans(archive.path(), CUTOFF, false);
    assert!(!can);
    let archive = TempDir::with_prefix("pg_standby.").unwrap();
    let elsewhere = TempDir::with_prefix("pg_standby.").unwrap();
    symlink(elsewhere.path(), archive.path().join("000000010000000100000000")).unwrap();
    fs::write(archive.path().join("000000010000000100000001"), "").unwrap();
    let _ = ours().cleans(archive.path(), CUTOFF, false);
    assert_eq!(listing(archive.path()), ["000000010000000100000000"]);
    let _ = theirs(&[]).cleans(archive.path(), CUTOFF, false);
    assert!(listing(archive.path()).is_empty(), "it removes the link");
}

/// Names around the cut-off, and forms that both programs have the same rules for.
fn names(forms: &'static [&'static str]) -> impl Strategy<Value = BTreeSet<String>> {
    let name = (0..4_u32, 0..3_u32, 0..4_u32, prop::sample::select(forms)).prop_map(
        |(timeline, log, segment, form)| format!("{timeline:08X}{log:08X}{segment:08X}{form}"),
    );
    prop::collection::btree_set(name, 0..40)
}

const PLAIN: &[&str] =
    &["", "", "", ".partial", ".00000028.backup", ".tmp", "0", ".bz2", ".history", "A"];
const ZIPPED: &[&str] =
    &["", ".gz", ".partial", ".partial.gz", ".00000028.backup.gz", ".gz.gz", ".tmp.gz"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_remove_the_same_files(
        plain in names(PLAIN), zipped in names(ZIPPED), log in 0..3_u32, segment in 0..4_u32,
        form in prop::sample::select(&["", ".partial", ".00000028.backup"][..]),
    ) {
        let cutoff = format!("00000002{log:08X}{segment:08X}{form}");
        prop_assert_eq!(ours().leaves(&plain, &cutoff), theirs(&[]).leaves(&plain, &cutoff));
        prop_assert_eq!(ours().leaves(&zipped, &cutoff), theirs(&["-x", ".gz"]).leaves(&zipped, &cutoff));
    }
}
