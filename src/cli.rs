//! The command line to checked [`Options`], [`Pruning`] or [`Inquiry`](crate::options::Inquiry), or to what is wrong with
//! it. The only user of clap; knows nothing of the file system.

mod inquiry;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::error::UsageError;
use crate::options::{Command, Format, OnError, Options, Pruning, Verify};
use crate::wal::name::WalName;

/// Reads a command line, the program's name first.
///
/// # Errors
/// The first thing on it that is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    match command().try_get_matches_from(args) {
        Ok(matches) if matches.contains_id("status") => {
            inquiry::check(&matches).map(Command::Status)
        }
        Ok(matches) if matches.get_flag("prune") => check_pruning(&matches).map(Command::Prune),
        Ok(matches) => check(&matches).map(Command::Restore),
        Err(answer) => match answer.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Command::Print(answer.to_string()))
            }
            _ => Err(in_our_words(&answer)),
        },
    }
}

const USAGE: &str = "\
pg_standby [OPTION]... ARCHIVELOCATION NEXTWALFILE XLOGFILEPATH
                  [RESTARTWALFILE]
       pg_standby --prune [-n] [OPTION]... ARCHIVELOCATION RESTARTWALFILE
       pg_standby --status[=FORMAT] [OPTION]... ARCHIVELOCATION";

const RESTORE_OPERANDS: &str = "ARCHIVELOCATION NEXTWALFILE XLOGFILEPATH [RESTARTWALFILE]";
const PRUNE_OPERANDS: &str = "--prune ARCHIVELOCATION RESTARTWALFILE";

/// What `--prune` has no use for.
const ONLY_FOR_A_RESTORE: [&str; 11] = [
    "copy",
    "keep-files",
    "link",
    "max-retries",
    "sleep-time",
    "trigger-file",
    "max-wait-time",
    "no-wait",
    "on-error",
    "partial",
    "verify",
];

/// `-s` where it is not given.
const SLEEP_TIME: Duration = Duration::from_secs(5);

/// How often to look where change notification is not available, and `-s` is not given.
const POLLING_INTERVAL: Duration = Duration::from_millis(200);

/// How often to look there at least.
const LONGEST_POLLING_INTERVAL: Duration = Duration::from_secs(1);

const ABOUT: &str = "\
pg_standby waits for the next WAL file of a PostgreSQL warm standby and copies
it into place. The server runs it:

  restore_command = 'pg_standby -t /path/trigger /path/archive %f %p %r'";

const AFTER_HELP: &str = "\
Files before RESTARTWALFILE are removed from the archive. Without it, -k says
how many segments are kept. --prune does only that: use it as the
archive_cleanup_command, or by hand.

Exit status: 0 restored; 1 not available, or failover: recovery ends; 201 could
not be written; 202 bad command line, or no archive. 201 and 202 stop the
server. It does not promote, and resumes where it left off when restarted.

To fail over: run pg_ctl promote; or create the trigger file, empty or with the
word \"smart\" to replay first what is in the archive, or with the word \"fast\"
to skip that; or send SIGUSR1 (fast).
On PostgreSQL 15 and later, set recovery_prefetch = off.";

fn command() -> clap::Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let valued = |name: &'static str, value: &'static str| {
        // Whatever follows such an option is its value, as getopt has it: "-r -1" is a bad number.
        let parser = ValueParser::os_string();
        Arg::new(name).long(name).value_name(value).value_parser(parser).allow_hyphen_values(true)
    };
    clap::Command::new("pg_standby")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(USAGE)
        .before_help(ABOUT)
        .after_help(AFTER_HELP)
        .help_template("{before-help}Usage: {usage}\n\nOptions:\n{options}{after-help}\n")
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args([
            switch("copy").short('c').help("Accepted, no effect: files are always copied"),
            switch("debug").short('d').help("Log every step"),
            valued("keep-files", "N").short('k').help("Keep N segments before this one [0: all]"),
            switch("link").short('l').help("Accepted, no effect: files are never linked"),
            valued("max-retries", "N").short('r').help("Retry a failed copy up to N times [3]"),
            valued("sleep-time", "S").short('s').help("Polling interval in seconds, 0.1 to 60 [5]"),
            valued("trigger-file", "FILE").short('t').help("Fail over when FILE exists"),
            valued("max-wait-time", "S")
                .short('w')
                .help("Fail over, fast, after S seconds [0: never]"),
            switch("no-wait").help("Look once: for standby mode"),
            valued("require-file", "NAME").help("Archive is mounted only if it holds NAME"),
            valued("on-error", "hold|promote").help("Effect of an error on recovery [hold]"),
            valued("partial", "S")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("1")
                .help("Take SEGMENT.partial, every S seconds [1]"),
            valued("verify", "records|header").help("Check every record, or the header [records]"),
            valued("standby-name", "NAME").help("Name of this standby, in a shared archive"),
            valued("log-file", "FILE").help("Append messages to FILE as well"),
            switch("prune").help("Prune the archive, restore nothing"),
            switch("dry-run").short('n').help("With --prune: print what would be removed"),
            valued("status", "FORMAT")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("text")
                .help("What is wrong: text, json, plugin, prometheus"),
            valued("pgdata", "DATADIR").short('D').help("With --status: the standby's"),
            valued("behind", "WARN,CRIT").help("With --status: limits in segments"),
            valued("silent", "WARN,CRIT").help("With --status: limits in seconds"),
            Arg::new("version")
                .short('V')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
            Arg::new("help")
                .short('?')
                .long("help")
                .action(ArgAction::Help)
                .help("Print this help"),
            Arg::new("operands")
                .action(ArgAction::Append)
                .num_args(0..)
                .hide(true)
                .value_parser(ValueParser::os_string()),
        ])
}

fn check(matches: &ArgMatches) -> Result<Options, UsageError> {
    if matches.get_flag("dry-run") {
        return Err(UsageError::OnlyWith { option: "-n (--dry-run)", mode: "--prune" });
    }
    if let Some(option) = inquiry::first_of_its_own(matches) {
        return Err(UsageError::OnlyWith { option, mode: "--status" });
    }
    let value = |name: &str| matches.get_one::<OsString>(name);
    let mut operands = matches.get_many::<OsString>("operands").into_iter().flatten();
    let expected = RESTORE_OPERANDS;
    let mut operand =
        |operand| operands.next().ok_or(UsageError::MissingOperand { operand, expected });
    let archive_location = PathBuf::from(operand("ARCHIVELOCATION")?);
    let name = operand("NEXTWALFILE")?;
    let destination = PathBuf::from(operand("XLOGFILEPATH")?);
    let Some(requested) = WalName::parse(name) else {
        return Err(UsageError::NotWalFile { name: name.clone() });
    };
    let log_file = value("log-file").map(PathBuf::from);
    if log_file.as_deref().is_some_and(|file| is_same(file, &destination)) {
        let (option, expected) = ("--log-file", "a file other than XLOGFILEPATH");
        return Err(UsageError::InvalidValue { option, value: destination.into(), expected });
    }
    if destination.file_name().is_none() {
        return Err(UsageError::NoDestination { path: destination });
    }
    let partial = seconds("--partial", value("partial"), 0.05..=60.0, "seconds from 0.05 to 60")?;
    let options = Options {
        archive_location,
        requested,
        destination,
        restart_file: operands.next().cloned(),
        surplus_operands: operands.count(),
        keep_files: whole_number("-k (--keep-files)", value("keep-files"), 0)?,
        max_retries: whole_number("-r (--max-retries)", value("max-retries"), 3)?,
        sleep_time: sleep_time(value("sleep-time"))?.unwrap_or(SLEEP_TIME),
        polling_interval: sleep_time(value("sleep-time"))?
            .map_or(POLLING_INTERVAL, |time| time.min(LONGEST_POLLING_INTERVAL))
            .min(partial.unwrap_or(LONGEST_POLLING_INTERVAL)),
        trigger_file: value("trigger-file").map(PathBuf::from),
        max_wait_time: max_wait_time(value("max-wait-time"))?,
        no_wait: matches.get_flag("no-wait"),
        required_file: required_file(value("require-file"))?,
        on_error: on_error(value("on-error"))?,
        standby_name: standby_name(value("standby-name"))?,
        partial,
        verify: verify(value("verify"))?,
        log_file,
        debug: matches.get_flag("debug"),
    };
    if options.standby_name.is_some()
        && options.restart_file.is_none()
        && !options.is_for_pg_rewind()
    {
        let (operand, expected) = ("RESTARTWALFILE", "%r after %p, which --standby-name registers");
        return Err(UsageError::MissingOperand { operand, expected });
    }
    Ok(options)
}

fn check_pruning(matches: &ArgMatches) -> Result<Pruning, UsageError> {
    if let Some(option) = ONLY_FOR_A_RESTORE.into_iter().find(|name| is_given(matches, name)) {
        return Err(UsageError::NotWith { option, mode: "--prune" });
    }
    if let Some(option) = inquiry::first_of_its_own(matches) {
        return Err(UsageError::OnlyWith { option, mode: "--status" });
    }
    let value = |name: &str| matches.get_one::<OsString>(name);
    let mut operands = matches.get_many::<OsString>("operands").into_iter().flatten();
    let expected = PRUNE_OPERANDS;
    let mut operand =
        |operand| operands.next().ok_or(UsageError::MissingOperand { operand, expected });
    let archive_location = PathBuf::from(operand("ARCHIVELOCATION")?);
    let name = operand("RESTARTWALFILE")?;
    // Somebody who gives %f and %p as well would have %f taken for the cut-off.
    if let Some(operand) = operands.next() {
        return Err(UsageError::UnexpectedOperand { operand: operand.clone(), expected });
    }
    Ok(Pruning {
        archive_location,
        restart: match WalName::parse(name) {
            Some(WalName::Segment(it) | WalName::Partial(it) | WalName::BackupHistory(it, _)) => it,
            _ => return Err(UsageError::NotRestartFile { name: name.clone() }),
        },
        dry_run: matches.get_flag("dry-run"),
        required_file: required_file(value("require-file"))?,
        standby_name: standby_name(value("standby-name"))?,
        log_file: value("log-file").map(PathBuf::from),
        debug: matches.get_flag("debug"),
    })
}

fn is_given(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
}

fn whole_number(
    option: &'static str,
    value: Option<&OsString>,
    default: u32,
) -> Result<u32, UsageError> {
    let Some(value) = value else {
        return Ok(default);
    };
    trimmed(value).and_then(|digits| digits.parse().ok()).ok_or_else(|| UsageError::InvalidValue {
        option,
        value: value.clone(),
        expected: "a whole number from 0 to 4294967295",
    })
}

fn sleep_time(value: Option<&OsString>) -> Result<Option<Duration>, UsageError> {
    seconds("-s (--sleep-time)", value, 0.1..=60.0, "seconds from 0.1 to 60")
}

/// 0 is for ever.
fn max_wait_time(value: Option<&OsString>) -> Result<Option<Duration>, UsageError> {
    let range = 0.0..=f64::from(u32::MAX);
    let time = seconds("-w (--max-wait-time)", value, range, "seconds from 0 (wait for ever) on")?;
    Ok(time.filter(|time| !time.is_zero()))
}

fn seconds(
    option: &'static str,
    value: Option<&OsString>,
    range: RangeInclusive<f64>,
    expected: &'static str,
) -> Result<Option<Duration>, UsageError> {
    let Some(value) = value else {
        return Ok(None);
    };
    trimmed(value)
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| range.contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(Some)
        .ok_or_else(|| UsageError::InvalidValue { option, value: value.clone(), expected })
}

/// Returns whether the two are one path, as far as they tell by themselves.
fn is_same(one: &Path, other: &Path) -> bool {
    absolute(one).is_ok_and(|one| absolute(other).is_ok_and(|other| one == other))
}

fn required_file(value: Option<&OsString>) -> Result<Option<OsString>, UsageError> {
    match value {
        Some(name) if Path::new(name).file_name() != Some(name) => Err(UsageError::InvalidValue {
            option: "--require-file",
            value: name.clone(),
            expected: "the name of a file in the archive",
        }),
        name => Ok(name.cloned()),
    }
}

fn standby_name(value: Option<&OsString>) -> Result<Option<String>, UsageError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_name =
        |name: &&str| !name.is_empty() && !name.starts_with('.') && name.bytes().all(may_be);
    match value.to_str().filter(is_name) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(UsageError::InvalidValue {
            option: "--standby-name",
            value: value.clone(),
            expected: "letters, digits, \"_\", \".\" and \"-\", not beginning with \".\"",
        }),
    }
}

fn on_error(value: Option<&OsString>) -> Result<OnError, UsageError> {
    let choices = [("hold", OnError::Hold), ("promote", OnError::Promote)];
    choice("--on-error", value, choices, "\"hold\" or \"promote\"")
}

fn verify(value: Option<&OsString>) -> Result<Verify, UsageError> {
    let choices = [("records", Verify::Records), ("header", Verify::Header)];
    choice("--verify", value, choices, "\"records\" or \"header\"")
}

/// The first choice is the default.
fn choice<T: Copy, const N: usize>(
    option: &'static str,
    value: Option<&OsString>,
    choices: [(&str, T); N],
    expected: &'static str,
) -> Result<T, UsageError> {
    let chosen = match value {
        Some(value) => choices.into_iter().find(|(word, _)| value == word),
        None => choices.into_iter().next(),
    };
    let value = value.cloned().unwrap_or_default();
    chosen.map(|(_, it)| it).ok_or(UsageError::InvalidValue { option, value, expected })
}

fn trimmed(value: &OsStr) -> Option<&str> {
    value.to_str().map(str::trim)
}

fn in_our_words(answer: &clap::Error) -> UsageError {
    let option = match answer.get(ContextKind::InvalidArg) {
        // clap names an option as "--sleep-time <S>"; the placeholder would be taken for what was typed.
        Some(option) => option.to_string().split(" <").next().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    match answer.kind() {
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            UsageError::MissingValue { option }
        }
        ErrorKind::TooManyValues => UsageError::UnexpectedValue { option },
        _ => UsageError::UnknownOption { option },
    }
}
