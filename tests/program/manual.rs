//! What is written about the program: that `--help`, the man page and README name the same options and the exit statuses
//! that exist, that the man page explains the messages that the program prints, and that all documents and packages are of
//! one version and have one address.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::site::Site;

const MAN_PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/man/pg_standby.1"));
const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
const CHANGELOG: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md"));
const DEBIAN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debian/changelog"));
const SPEC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/pg_standby.spec"));
const CARGO: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
const OLDEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debian-13.lock"));
const CONTROL: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debian/control"));
const COPYRIGHT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debian/copyright"));
const WATCH: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/debian/watch"));
const OUTCOME: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/outcome.rs"));

const SECTIONS: [&str; 15] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "EXIT STATUS",
    "SIGNALS",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
    "MONITORING",
    "DIAGNOSTICS",
    "NOTES",
    "REPORTING BUGS",
    "AUTHORS",
    "SEE ALSO",
];

/// What the program prints with one option.
fn printed(option: &str) -> String {
    Site::new().runs([option]).ends().with_status(0).stdout
}

fn man_sections() -> Vec<String> {
    let titles = MAN_PAGE.lines().filter_map(|line| line.strip_prefix(".SH "));
    titles.map(|title| title.replace('"', "")).collect()
}

/// The lines of a section of the man page, hyphens without their backslash.
fn man_section(title: &str) -> Vec<String> {
    let is_title = |line: &str| line.strip_prefix(".SH ").map(|it| it.trim_matches('"') == title);
    let lines = MAN_PAGE.lines().skip_while(|line| is_title(line) != Some(true)).skip(1);
    lines.take_while(|line| is_title(line).is_none()).map(|line| line.replace("\\-", "-")).collect()
}

/// The tags of the paragraphs in a section of the man page.
fn man_tags(title: &str) -> Vec<String> {
    let lines = man_section(title);
    let after = lines.iter().skip(1);
    let tags = lines.iter().zip(after).filter(|(line, _)| [".TP", ".TQ"].contains(&line.as_str()));
    // The macro that sets the font goes first.
    tags.map(|(_, tag)| tag.split_once(' ').map_or("", |(_, tag)| tag).to_owned()).collect()
}

/// The words of a macro's line, quotes and escapes resolved.
fn words_of_macro(line: &str) -> Vec<String> {
    let (_, mut rest) = line.split_once(' ').unwrap();
    let mut words = Vec::new();
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.replace("\\(dq", "\"").replace("\\(aq", "'"));
        rest = after;
    }
    words
}

/// What the messages of the man page say, without what stands for a name or a number. Parts that the program joins with
/// a semicolon are apart.
fn messages_of_man_page() -> Vec<String> {
    let lines = man_section("DIAGNOSTICS");
    let tags = lines.iter().zip(lines.iter().skip(1));
    let tags = tags.filter(|(line, _)| [".TP", ".TQ"].contains(&line.as_str()));
    let literal = tags.flat_map(|(_, tag)| {
        let first = usize::from(tag.starts_with(".IB "));
        words_of_macro(tag).into_iter().skip(first).step_by(2).collect::<Vec<_>>()
    });
    literal.flat_map(|text| text.split("; ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn source_files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| {
        if path.is_dir() { source_files(&path) } else { vec![fs::read_to_string(&path).unwrap()] }
    });
    files.collect()
}

/// The source of the program, each string on one line and without escapes; `\x01` stands for the quotes around it.
fn source() -> String {
    let source = source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).concat();
    let source = source.replace("\\\"", "\x02").replace('"', "\x01").replace('\x02', "\"");
    let mut pieces = source.split("\\\n");
    let first = pieces.next().unwrap().to_owned();
    pieces.fold(first, |source, piece| source + piece.trim_start())
}

/// What the errors, warnings and news in the source say, without what is filled in.
fn messages_of_source(source: &str) -> Vec<String> {
    let calls =
        ["warn!(", "error!(", "info!("].into_iter().flat_map(|call| source.split(call).skip(1));
    let texts = calls.filter_map(|call| call.split('\x01').nth(1));
    let literal = texts.flat_map(|text| {
        text.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, after)| after))
    });
    let parts = literal.flat_map(|text| text.split("; ")).map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The first cells of the table under a heading of README.
fn readme_table(heading: &str) -> Vec<String> {
    let lines = README.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter_map(|line| {
        let row = line.strip_prefix("| ")?;
        row.split(" | ").next()
    });
    rows.skip(2).map(|cell| cell.replace('`', "")).collect()
}

/// The names of options in a text; values are left out.
fn names(text: &str) -> Vec<&str> {
    let words = text.split([' ', ',', '"', '=', '<', '|', '[']);
    words.filter(|word| word.starts_with('-') && !word.trim_matches('-').is_empty()).collect()
}

/// Each option with all its names: `-k --keep-files`.
fn options<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    let options = entries.into_iter().map(|entry| names(entry.as_ref()).join(" "));
    options.filter(|option| !option.is_empty()).collect()
}

fn options_of_help() -> BTreeSet<String> {
    let help = printed("--help");
    let list = help.lines().skip_while(|line| *line != "Options:").skip(1);
    // Two blanks separate an option from its description.
    options(list.map_while(|line| line.trim_start().split("  ").next().filter(|it| !it.is_empty())))
}

/// The statuses that the program can end with, from the one file that has them.
fn statuses() -> BTreeSet<u8> {
    let arms = OUTCOME.lines().filter_map(|line| line.trim().split_once(" => "));
    arms.filter_map(|(_, value)| value.trim_end_matches(',').parse().ok()).collect()
}

fn numbers(entries: &[String]) -> BTreeSet<u8> {
    entries.iter().filter_map(|entry| entry.parse().ok()).collect()
}

#[test]
fn help_has_every_classic_option_with_a_long_name() {
    let options = options_of_help();
    for letter in "cdklrstwV?".chars() {
        let name = format!("-{letter} --");
        assert!(options.iter().any(|option| option.starts_with(&name)), "{name} in {options:?}");
    }
}

#[test]
fn the_man_page_has_the_options_of_help_and_no_others() {
    let of_help = options_of_help();
    assert_eq!(options(man_tags("OPTIONS")), of_help);
    let all: BTreeSet<_> = of_help.iter().flat_map(|option| option.split(' ')).collect();
    for line in man_section("OPTIONS") {
        assert!(names(&line).iter().all(|name| all.contains(name)), "{line:?}");
    }
}

#[test]
fn readme_has_the_options_of_help_and_no_others() {
    assert_eq!(options(readme_table("## Options")), options_of_help());
}

#[test]
fn the_man_page_has_its_sections_in_their_order_and_something_in_each() {
    assert_eq!(man_sections(), SECTIONS);
    for title in SECTIONS {
        assert!(!man_section(title).is_empty(), "{title}");
    }
}

#[test]
fn the_exit_statuses_in_readme_and_man_page_are_the_ones_there_are() {
    let statuses = statuses();
    assert_eq!(statuses, BTreeSet::from([0, 1, 2, 3, 201, 202]), "src/outcome.rs");
    assert_eq!(numbers(&man_tags("EXIT STATUS")), statuses, "man page");
    assert_eq!(numbers(&readme_table("## Exit status")), statuses, "README.md");
}

#[test]
fn the_signals_that_the_program_dies_by_are_in_readme_and_man_page() {
    for entries in [man_tags("EXIT STATUS"), readme_table("## Exit status")] {
        let signals: Vec<_> = entries.iter().filter(|entry| entry.starts_with("SIG")).collect();
        assert_eq!(signals, ["SIGTERM", "SIGINT", "SIGABRT"]);
    }
}

#[test]
fn every_message_in_the_man_page_is_one_of_the_program() {
    let source = source();
    let messages = messages_of_man_page();
    assert!(messages.len() > 100, "only {} parts of messages", messages.len());
    let unknown: Vec<_> = messages.iter().filter(|it| !source.contains(it.trim())).collect();
    assert!(unknown.is_empty(), "in the man page only: {unknown:#?}");
}

#[test]
fn the_man_page_explains_every_error_warning_and_piece_of_news() {
    let text = man_section("DIAGNOSTICS").join(" ").replace('"', "").replace("\\(dq", "\"");
    let messages = messages_of_source(&source());
    assert!(messages.len() > 40, "only {} parts of messages", messages.len());
    let missing: Vec<_> = messages.iter().filter(|it| !text.contains(*it)).collect();
    assert!(missing.is_empty(), "not in the man page: {missing:#?}");
}

#[test]
fn documents_and_packages_have_the_address_of_cargo_toml() {
    let address = env!("CARGO_PKG_REPOSITORY");
    assert_eq!(env!("CARGO_PKG_HOMEPAGE"), address, "homepage in Cargo.toml");
    assert!(CARGO.contains(&format!("\ndocumentation = \"{address}\"\n")), "Cargo.toml");
    for (file, text, before, after) in [
        ("debian/control", CONTROL, "Homepage: ", ""),
        ("debian/control", CONTROL, "Vcs-Browser: ", ""),
        ("debian/control", CONTROL, "Vcs-Git: ", ".git"),
        ("debian/copyright", COPYRIGHT, "Source: ", ""),
        ("debian/watch", WATCH, "", "/releases .*/pg_standby-(\\d[\\d.]*)\\.tar\\.gz"),
        ("pg_standby.spec", SPEC, "URL:            ", ""),
    ] {
        let line = format!("{before}{address}{after}");
        assert!(text.lines().any(|it| it == line), "{line:?} is not in packaging/{file}");
    }
    for (file, text) in [("README.md", README), ("man/pg_standby.1", MAN_PAGE)] {
        assert!(
            text.contains(&format!("the project, at {address}.")),
            "{address} is not in {file}"
        );
    }
}

#[test]
fn program_man_page_changelog_and_packages_are_of_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(printed("--version"), format!("pg_standby {version}\n"));
    let title = MAN_PAGE.lines().find(|line| line.starts_with(".TH ")).unwrap();
    assert!(title.contains(&format!("\"pg_standby {version}\"")), "{title}");
    let latest = CHANGELOG.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert_eq!(latest.split(' ').next(), Some(version), "{latest:?} in CHANGELOG.md");

    let latest = DEBIAN.lines().next().unwrap();
    assert!(
        latest.starts_with(&format!("pg-standby ({version}-")),
        "{latest:?} in packaging/debian/changelog"
    );
    let of_spec = SPEC.lines().find_map(|line| line.strip_prefix("Version:")).unwrap().trim();
    assert_eq!(of_spec, version, "packaging/pg_standby.spec");
    let latest = SPEC.lines().find(|line| line.starts_with("* ")).unwrap();
    assert!(latest.contains(&format!(" - {version}-")), "{latest:?} in packaging/pg_standby.spec");
    let package = format!("name = \"pg_standby\"\nversion = \"{version}\"\n");
    assert!(OLDEST.contains(&package), "{package:?} is not in packaging/debian-13.lock");
}
