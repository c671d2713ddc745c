//! `pg_standby --prune` and PostgreSQL's `pg_archivecleanup` on the same archives: they remove the same files, but for the
//! differences that stand in a table of README.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod server;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;
use server::Installation;
use support::{Ended, Site};

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
const CUTOFF: &str = "000000010000000100000002";

fn pg_archivecleanup() -> PathBuf {
    Installation::with("pg_archivecleanup")
        .unwrap_or_else(|failure| panic!("{failure}"))
        .program("pg_archivecleanup")
}

/// What one program leaves of an archive, and what it prints in a dry run before that, names alone.
fn left_by(
    names: &BTreeSet<String>,
    program: impl Fn(&Site, bool) -> (bool, String),
) -> (Vec<String>, BTreeSet<String>) {
    let site = Site::new();
    for name in names {
        site.put(name, "");
    }
    let (can_list, listed) = program(&site, true);
    let archive = format!("{}/", site.archive().display());
    let listed =
        listed.lines().map(|path| path.strip_prefix(&archive).unwrap().to_owned()).collect();
    assert_eq!(site.listing().len(), names.len());
    let (can_remove, _) = program(&site, false);
    assert!(can_list && can_remove);
    (site.listing(), listed)
}

fn ours(cutoff: &str) -> impl Fn(&Site, bool) -> (bool, String) {
    move |site, dry| {
        let mut line = vec!["--prune".into()];
        line.extend(dry.then(|| "-n".into()));
        line.extend([site.archive().as_os_str().to_owned(), cutoff.into()]);
        let Ended { status, stdout, .. } = site.runs(line).ends();
        (status.success(), stdout)
    }
}

fn theirs(cutoff: &str, options: &[&str]) -> impl Fn(&Site, bool) -> (bool, String) {
    let program = pg_archivecleanup();
    move |site, dry| {
        let mut command = Command::new(&program);
        command.args(options).args(dry.then_some("-n")).arg(site.archive()).arg(cutoff);
        let output = command.output().expect("it runs");
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }
}

/// The rows of the table in README: a name in the archive, what becomes of it by `pg_archivecleanup`, and by ours.
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
            let by_program = is_gone(left_by(&archive, theirs(CUTOFF, &options)));
            assert_eq!(by_program, goes(&by_theirs), "pg_archivecleanup {option} and {name}");
            if !option.is_empty() {
                let by_program = is_gone(left_by(&archive, theirs(CUTOFF, &[])));
                assert!(!by_program, "pg_archivecleanup without {option} and {name}");
            }
            let by_program = is_gone(left_by(&archive, ours(CUTOFF)));
            assert_eq!(by_program, goes(&by_ours), "pg_standby --prune and {name}");
        }
    }
}

#[test]
fn pg_archivecleanup_ends_at_what_it_cannot_remove_and_this_one_goes_on() {
    let site = Site::new();
    for number in 0..9 {
        fs::create_dir(site.archive().join(format!("00000001000000010000000{number}"))).unwrap();
    }
    let (can, _) = theirs(CUTOFF, &[])(&site, false);
    assert!(!can);
    let site = Site::new();
    symlink(site.path().join("pg_wal"), site.archive().join("000000010000000100000000")).unwrap();
    site.put("000000010000000100000001", "");
    let _ = ours(CUTOFF)(&site, false);
    assert_eq!(site.listing(), ["000000010000000100000000"]);
    let _ = theirs(CUTOFF, &[])(&site, false);
    assert!(site.listing().is_empty(), "it removes the link");
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
        prop_assert_eq!(left_by(&plain, ours(&cutoff)), left_by(&plain, theirs(&cutoff, &[])));
        prop_assert_eq!(left_by(&zipped, ours(&cutoff)), left_by(&zipped, theirs(&cutoff, &["-x", ".gz"])));
    }
}
