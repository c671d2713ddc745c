//! What a shell offers after `pg_standby`: bash is run, the files for zsh and fish are read. `make lint` runs these two
//! through their shells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::site::{SEGMENT, Site, output_of};

const BASH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/completions/pg_standby.bash");
const ZSH: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/completions/_pg_standby"));
const FISH: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/completions/pg_standby.fish"));

/// An option, `-k --keep-files`, and whether it takes a value.
type Described = (String, bool);

fn of_help() -> BTreeSet<Described> {
    let help = Site::new().runs(["--help"]).ends().with_status(0).stdout;
    let list = help.lines().skip_while(|line| *line != "Options:").skip(1);
    let entries = list.take_while(|line| !line.is_empty()).filter_map(|line| {
        // Two blanks separate an option from its description, which may continue on the next line.
        let entry = line.trim_start().split("  ").next()?;
        entry.starts_with('-').then_some(entry)
    });
    let options = entries.map(|entry| match entry.split_once(" <") {
        // A value that may be left out follows an equals sign, so the word is whole without it.
        None if entry.contains("[=") => {
            (entry.split('[').next().unwrap_or_default().to_owned(), false)
        }
        Some((names, _)) => (names.replace(',', ""), true),
        None => (entry.replace(',', ""), false),
    });
    options.collect()
}

fn of_zsh() -> BTreeSet<Described> {
    let entries = ZSH.lines().filter_map(|line| Some(line.trim_start().split_once('[')?.0));
    let options = entries.filter(|entry| entry.starts_with('\'')).map(|entry| {
        let names = entry.rsplit(['\'', '{']).find(|part| part.starts_with('-')).unwrap();
        let takes_value = names.contains('=') && !names.ends_with("=-");
        let names = names.trim_end_matches("=-").replace(',', " ");
        (names.replace(['}', '+', '=', '\\'], ""), takes_value)
    });
    options.collect()
}

fn of_fish() -> BTreeSet<Described> {
    let entries = FISH.lines().filter_map(|line| line.strip_prefix("complete -c pg_standby "));
    let options = entries.filter(|entry| entry.contains("-l ")).map(|entry| {
        let words: Vec<_> = entry.split(" -d ").next().unwrap().split(' ').collect();
        let called = |by, dashes| {
            let pair = words.windows(2).find(|pair| pair[0] == by)?;
            Some(format!("{dashes}{}", pair[1].trim_matches('\'')))
        };
        let names: Vec<_> = [called("-s", "-"), called("-l", "--")].into_iter().flatten().collect();
        (names.join(" "), words.contains(&"-x") || words.contains(&"-r"))
    });
    options.collect()
}

/// What bash offers for the last word.
fn bash_in(directory: &Path, words: &[&str]) -> BTreeSet<String> {
    let script = r#"source "$0" && COMP_WORDS=(pg_standby "$@") COMP_CWORD=$# && _pg_standby &&
        complete -p pg_standby >/dev/null && printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-uc", script, BASH]).args(words).current_dir(directory);
    let output = output_of(&mut bash);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    assert!(output.status.success(), "{words:?}: {}", output.status);
    let offered = String::from_utf8(output.stdout).unwrap();
    offered.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn set<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.map(str::to_owned).into()
}

#[test]
fn bash_offers_the_options_of_help_and_no_others() {
    let offered = bash_in(Path::new("/"), &["-"]);
    let of_help = of_help();
    let names = of_help.iter().flat_map(|(names, _)| names.split(' '));
    assert_eq!(offered, names.map(str::to_owned).collect());
}

#[test]
fn bash_knows_which_options_take_a_value() {
    for (names, takes_value) in of_help() {
        for name in names.split(' ') {
            let offered = bash_in(Path::new("/"), &[name, "-"]);
            assert_eq!(!offered.contains("--help"), takes_value, "{name}: {offered:?}");
        }
    }
}

#[test]
fn bash_offers_values_directories_files_and_what_is_in_the_archive() {
    let site = Site::new();
    let archive = site.path().join("my archive");
    fs::create_dir(&archive).unwrap();
    fs::write(archive.join(SEGMENT), "").unwrap();
    fs::write(site.path().join("my trigger"), "").unwrap();
    let bash = |words: &[&str]| bash_in(site.path(), words);

    assert_eq!(bash(&["--on-error", ""]), set(["hold", "promote"]));
    assert_eq!(bash(&["--on-error", "="]), set(["hold", "promote"]));
    assert_eq!(bash(&["--on-error", "=", "p"]), set(["promote"]));
    assert_eq!(bash(&["--status", "="]), set(["text", "json", "plugin", "prometheus"]));
    assert_eq!(bash(&["--status", "=", "pr"]), set(["prometheus"]));
    assert_eq!(bash(&["--status", "=", "text", "my"]), set(["my archive"]));
    assert_eq!(bash(&["-D", "my"]), set(["my archive"]));
    assert_eq!(bash(&["-k", ""]), set([]));
    assert_eq!(bash(&["-t", "my"]), set(["my archive", "my trigger"]));
    assert_eq!(bash(&["my"]), set(["my archive"]));
    assert_eq!(
        bash(&["-d", "--on-error", "=", "hold", "-t", "my trigger", "my"]),
        set(["my archive"])
    );
    assert_eq!(bash(&["my archive", "0"]), set([SEGMENT]));
    assert_eq!(bash(&["my archive", SEGMENT, "my"]), set(["my archive", "my trigger"]));
    assert_eq!(bash(&["my archive", SEGMENT, "to", "0"]), set([SEGMENT]));
    assert_eq!(bash(&["my archive", SEGMENT, "to", SEGMENT, ""]), set([]));
}

#[test]
fn the_completion_for_zsh_has_the_options_of_help_and_no_others() {
    assert_eq!(of_zsh(), of_help());
}

#[test]
fn the_completion_for_fish_has_the_options_of_help_and_no_others() {
    assert_eq!(of_fish(), of_help());
}
