//! The command line of `--status` to a checked [`Inquiry`], or to what is wrong with it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;

use super::{Format, choice, is_given, required_file, standby_name, trimmed, verify};
use crate::error::UsageError;
use crate::options::{Inquiry, Limits, Verify};

const OPERANDS: &str = "--status ARCHIVELOCATION";

/// What only `--status` has a use for, as the operator writes it.
const ITS_OWN: [(&str, &str); 3] =
    [("pgdata", "-D (--pgdata)"), ("behind", "--behind"), ("silent", "--silent")];

/// What `--status` has no use for.
const NOT_ITS_OWN: [&str; 13] = [
    "copy",
    "keep-files",
    "link",
    "max-retries",
    "sleep-time",
    "max-wait-time",
    "no-wait",
    "on-error",
    "partial",
    "prune",
    "dry-run",
    "log-file",
    "status",
];

/// Returns an option that was given and is for `--status` alone.
pub fn first_of_its_own(matches: &ArgMatches) -> Option<&'static str> {
    ITS_OWN.into_iter().find(|(name, _)| is_given(matches, name)).map(|(_, option)| option)
}

/// Checks what was given with `--status`.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(matches: &ArgMatches) -> Result<Inquiry, UsageError> {
    let is_misplaced = |name: &&str| *name != "status" && is_given(matches, name);
    if let Some(option) = NOT_ITS_OWN.into_iter().find(is_misplaced) {
        return Err(UsageError::NotWith { option, mode: "--status" });
    }
    let value = |name: &str| matches.get_one::<OsString>(name);
    let mut operands = matches.get_many::<OsString>("operands").into_iter().flatten();
    let expected = OPERANDS;
    let location = operands
        .next()
        .filter(|location| !location.is_empty())
        .ok_or(UsageError::MissingOperand { operand: "ARCHIVELOCATION", expected })?;
    // Whoever gives %f and %p as well would have the answer taken for that of a restore_command.
    if let Some(operand) = operands.next() {
        return Err(UsageError::UnexpectedOperand { operand: operand.clone(), expected });
    }
    Ok(Inquiry {
        archive_location: PathBuf::from(location),
        data_directory: value("pgdata").map(PathBuf::from),
        format: format(value("status"))?,
        trigger_file: value("trigger-file").map(PathBuf::from),
        required_file: required_file(value("require-file"))?,
        standby_name: standby_name(value("standby-name"))?,
        reads_records: value("verify").is_some() && verify(value("verify"))? == Verify::Records,
        behind: limits("--behind", value("behind"))?,
        silent: limits("--silent", value("silent"))?,
        debug: matches.get_flag("debug"),
    })
}

fn format(value: Option<&OsString>) -> Result<Format, UsageError> {
    let choices = [
        ("text", Format::Text),
        ("json", Format::Json),
        ("plugin", Format::Plugin),
        ("prometheus", Format::Prometheus),
    ];
    choice("--status", value, choices, "\"text\", \"json\", \"plugin\" or \"prometheus\"")
}

/// Two numbers with a comma between them. Either may be left out.
fn limits(option: &'static str, value: Option<&OsString>) -> Result<Limits, UsageError> {
    let Some(value) = value else {
        return Ok(Limits::default());
    };
    let limit = |text: &str| match text.trim() {
        "" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let parse = |text: &str| {
        let (warning, critical) = text.split_once(',').unwrap_or((text, ""));
        let limits = Limits { warning: limit(warning)?, critical: limit(critical)? };
        (limits != Limits::default()).then_some(limits)
    };
    trimmed(value).and_then(parse).ok_or_else(|| UsageError::InvalidValue {
        option,
        value: value.clone(),
        expected: "one or two whole numbers, WARN,CRIT",
    })
}
