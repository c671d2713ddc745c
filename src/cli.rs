//! What did the operator ask for? Takes the command line, gives checked [`Options`] or [`Pruning`].
//! The only user of clap; knows nothing of the file system.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::error::Error;
use crate::wal::name::{SegmentName, WalName};

/// What one invocation is for.
#[derive(Debug)]
pub enum Command {
    /// Restore one file.
    Restore(Options),
    /// Prune the archive, and nothing else.
    Prune(Pruning),
    /// Print the usage or the version.
    Print(String),
}

/// A restore, with everything checked that the command line alone can show.
#[derive(Debug)]
pub struct Options {
    /// ARCHIVELOCATION, the directory that segments arrive in.
    pub archive_location: PathBuf,
    /// NEXTWALFILE, the file that the server asks for.
    pub requested: WalName,
    /// XLOGFILEPATH, where the server wants it.
    pub destination: PathBuf,
    /// RESTARTWALFILE, as given.
    pub restart_file: Option<OsString>,
    /// Operands past the fourth.
    pub surplus_operands: usize,
    /// `-k`: segments to keep before the requested one; 0 keeps all.
    pub keep_files: u32,
    /// `-r`: retries of a copy that failed.
    pub max_retries: u32,
    /// `-s`: time between looks at the archive.
    pub sleep_time: Duration,
    /// `-t`: failover when this file exists.
    pub trigger_file: Option<PathBuf>,
    /// `-w`: failover after this long.
    pub max_wait_time: Option<Duration>,
    /// `--no-wait`: look once.
    pub no_wait: bool,
    /// `--on-error=promote`: the C program's exit statuses for errors.
    pub classic_statuses: bool,
    /// `--require-file`: a file without which the archive counts as unavailable.
    pub required_file: Option<OsString>,
    /// `--standby-name`: which of the standbys that share the archive this one is.
    pub standby_name: Option<String>,
    /// `-d`: log every step.
    pub debug: bool,
}

/// `--prune`, with everything checked that the command line alone can show.
#[derive(Debug)]
pub struct Pruning {
    /// ARCHIVELOCATION, the directory to remove from.
    pub archive_location: PathBuf,
    /// RESTARTWALFILE, the first segment that stays.
    pub restart: SegmentName,
    /// `-n`: print what would be removed.
    pub dry_run: bool,
    /// `--require-file`: a file without which the archive counts as unavailable.
    pub required_file: Option<OsString>,
    /// `--standby-name`: which of the standbys that share the archive this is done for.
    pub standby_name: Option<String>,
    /// `-d`: log every step.
    pub debug: bool,
}

impl Options {
    /// The caller is `pg_rewind`: it asks for a segment by its own name in the directory of WAL, where the server always
    /// asks for another name (`RestoreArchivedFile` in PostgreSQL's `fe_utils/archive.c`).
    #[must_use]
    pub fn is_for_pg_rewind(&self) -> bool {
        let name = self.destination.file_name();
        let directory = self.destination.parent().and_then(Path::file_name);
        name == Some(OsStr::new(&self.requested.to_string()))
            && directory.is_some_and(|is| is == "pg_wal" || is == "pg_xlog")
    }
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// The first thing on it that is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    match command().try_get_matches_from(args) {
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
       pg_standby --prune [-n] [OPTION]... ARCHIVELOCATION RESTARTWALFILE";

const RESTORE_OPERANDS: &str = "ARCHIVELOCATION NEXTWALFILE XLOGFILEPATH [RESTARTWALFILE]";
const PRUNE_OPERANDS: &str = "--prune ARCHIVELOCATION RESTARTWALFILE";

/// What `--prune` has no use for.
const ONLY_FOR_A_RESTORE: [&str; 9] = [
    "copy",
    "keep-files",
    "link",
    "max-retries",
    "sleep-time",
    "trigger-file",
    "max-wait-time",
    "no-wait",
    "on-error",
];

const ABOUT: &str = "\
pg_standby waits for the next WAL file of a PostgreSQL warm standby and copies
it into place. The server runs it:

  restore_command = 'pg_standby -t /path/trigger /path/archive %f %p %r'";

const AFTER_HELP: &str = "\
What precedes RESTARTWALFILE is pruned from the archive; without it, -k says
how many segments are kept. With --prune nothing else is done, for
archive_cleanup_command and by hand.

Exit status: 0 restored; 1 not there, or failover: recovery ends; 201 could not
be written; 202 bad command line, or no archive. The last two stop the server:
it does not promote, and asks again when it is started.

Failover: pg_ctl promote; or create the trigger file, empty or with the word
\"smart\" to replay first what is in the archive, with the word \"fast\" to drop
that; or send SIGUSR1 (fast). PostgreSQL 15 and later: recovery_prefetch = off.";

fn command() -> clap::Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let valued = |name: &'static str, value: &'static str| {
        // Whatever stands behind such an option is its value, as getopt has it: "-r -1" is a bad number.
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
            switch("copy").short('c').help("Copy; the only way there is, so it does nothing"),
            switch("debug").short('d').help("Log every step"),
            valued("keep-files", "N").short('k').help("Keep N segments before this one [0: all]"),
            switch("link").short('l').help("Accepted, does nothing"),
            valued("max-retries", "N").short('r').help("Try a copy that failed N more times [3]"),
            valued("sleep-time", "S").short('s').help("Seconds between looks, 0.1 to 60 [5]"),
            valued("trigger-file", "FILE").short('t').help("Fail over when FILE is there"),
            valued("max-wait-time", "S")
                .short('w')
                .help("Fail over, fast, after S seconds [0: never]"),
            switch("no-wait").help("Look once: for the server's own standby mode"),
            valued("require-file", "NAME").help("No archive unless it holds NAME (for mounts)"),
            valued("on-error", "hold|promote").help("What an error does to recovery [hold]"),
            valued("standby-name", "NAME").help("Which of the standbys on this archive it is"),
            switch("prune").help("Prune the archive, restore nothing"),
            switch("dry-run").short('n').help("With --prune: print what would be removed"),
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

fn check(matches: &ArgMatches) -> Result<Options, Error> {
    if matches.get_flag("dry-run") {
        return Err(Error::OnlyWithPrune { option: "-n (--dry-run)" });
    }
    let value = |name: &str| matches.get_one::<OsString>(name);
    let mut operands = matches.get_many::<OsString>("operands").into_iter().flatten();
    let expected = RESTORE_OPERANDS;
    let mut operand = |operand| operands.next().ok_or(Error::MissingOperand { operand, expected });
    let archive_location = PathBuf::from(operand("ARCHIVELOCATION")?);
    let name = operand("NEXTWALFILE")?;
    let destination = PathBuf::from(operand("XLOGFILEPATH")?);
    let Some(requested) = WalName::parse(name) else {
        return Err(Error::NotWal { name: name.clone() });
    };
    if destination.file_name().is_none() {
        return Err(Error::NoDestination { path: destination });
    }
    let options = Options {
        archive_location,
        requested,
        destination,
        restart_file: operands.next().cloned(),
        surplus_operands: operands.count(),
        keep_files: whole_number("-k (--keep-files)", value("keep-files"), 0)?,
        max_retries: whole_number("-r (--max-retries)", value("max-retries"), 3)?,
        sleep_time: sleep_time(value("sleep-time"))?,
        trigger_file: value("trigger-file").map(PathBuf::from),
        max_wait_time: match whole_number("-w (--max-wait-time)", value("max-wait-time"), 0)? {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        },
        no_wait: matches.get_flag("no-wait"),
        required_file: required_file(value("require-file"))?,
        classic_statuses: classic_statuses(value("on-error"))?,
        standby_name: standby_name(value("standby-name"))?,
        debug: matches.get_flag("debug"),
    };
    if options.standby_name.is_some()
        && options.restart_file.is_none()
        && !options.is_for_pg_rewind()
    {
        let (operand, expected) = ("RESTARTWALFILE", "%r behind %p, which --standby-name records");
        return Err(Error::MissingOperand { operand, expected });
    }
    Ok(options)
}

fn check_pruning(matches: &ArgMatches) -> Result<Pruning, Error> {
    let is_given = |name: &&&str| matches.value_source(name) == Some(ValueSource::CommandLine);
    if let Some(option) = ONLY_FOR_A_RESTORE.iter().find(is_given) {
        return Err(Error::NotWithPrune { option });
    }
    let value = |name: &str| matches.get_one::<OsString>(name);
    let mut operands = matches.get_many::<OsString>("operands").into_iter().flatten();
    let expected = PRUNE_OPERANDS;
    let mut operand = |operand| operands.next().ok_or(Error::MissingOperand { operand, expected });
    let archive_location = PathBuf::from(operand("ARCHIVELOCATION")?);
    let name = operand("RESTARTWALFILE")?;
    // Somebody who gives %f and %p as well would have %f taken for the cut-off.
    if let Some(operand) = operands.next() {
        return Err(Error::SurplusOperand { operand: operand.clone(), expected });
    }
    Ok(Pruning {
        archive_location,
        restart: match WalName::parse(name) {
            Some(WalName::Segment(it) | WalName::Partial(it) | WalName::BackupHistory(it, _)) => it,
            _ => return Err(Error::NotRestart { name: name.clone() }),
        },
        dry_run: matches.get_flag("dry-run"),
        required_file: required_file(value("require-file"))?,
        standby_name: standby_name(value("standby-name"))?,
        debug: matches.get_flag("debug"),
    })
}

fn whole_number(
    option: &'static str,
    value: Option<&OsString>,
    default: u32,
) -> Result<u32, Error> {
    let Some(value) = value else {
        return Ok(default);
    };
    trimmed(value).and_then(|digits| digits.parse().ok()).ok_or_else(|| Error::BadValue {
        option,
        value: value.clone(),
        expected: "a whole number from 0 to 4294967295",
    })
}

fn sleep_time(value: Option<&OsString>) -> Result<Duration, Error> {
    let Some(value) = value else {
        return Ok(Duration::from_secs(5));
    };
    trimmed(value)
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| (0.1..=60.0).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| Error::BadValue {
            option: "-s (--sleep-time)",
            value: value.clone(),
            expected: "seconds from 0.1 to 60",
        })
}

fn required_file(value: Option<&OsString>) -> Result<Option<OsString>, Error> {
    match value {
        Some(name) if Path::new(name).file_name() != Some(name) => Err(Error::BadValue {
            option: "--require-file",
            value: name.clone(),
            expected: "the name of a file in the archive",
        }),
        name => Ok(name.cloned()),
    }
}

fn standby_name(value: Option<&OsString>) -> Result<Option<String>, Error> {
    let Some(value) = value else {
        return Ok(None);
    };
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_name =
        |name: &&str| !name.is_empty() && !name.starts_with('.') && name.bytes().all(may_be);
    match value.to_str().filter(is_name) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(Error::BadValue {
            option: "--standby-name",
            value: value.clone(),
            expected: "letters, digits, \"_\", \".\" and \"-\", no \".\" in front",
        }),
    }
}

fn classic_statuses(value: Option<&OsString>) -> Result<bool, Error> {
    match value.map(|value| (value.to_str(), value)) {
        None | Some((Some("hold"), _)) => Ok(false),
        Some((Some("promote"), _)) => Ok(true),
        Some((_, value)) => Err(Error::BadValue {
            option: "--on-error",
            value: value.clone(),
            expected: "\"hold\" or \"promote\"",
        }),
    }
}

fn trimmed(value: &OsStr) -> Option<&str> {
    value.to_str().map(str::trim)
}

fn in_our_words(answer: &clap::Error) -> Error {
    let option = match answer.get(ContextKind::InvalidArg) {
        // clap names an option as "--sleep-time <S>"; the placeholder would be taken for what was typed.
        Some(option) => option.to_string().split(" <").next().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    match answer.kind() {
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            Error::MissingValue { option }
        }
        ErrorKind::TooManyValues => Error::UnexpectedValue { option },
        _ => Error::UnknownOption { option },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    /// Words that mean something here, digits and noise, so that many lines come close to a good one.
    fn word() -> impl Strategy<Value = OsString> {
        let options = "--?(copy|debug|keep-files|link|max-retries|sleep-time|trigger-file|max-wait-time|no-wait|\
                       require-file|on-error|standby-name|prune|dry-run|version|help)?(=.{0,4})?|-[cdklnrstwV?]{1,3}.{0,2}";
        let operands =
            "[0-9A-F]{24}(.partial)?|[0-9A-F]{8}.history|/?[a-z]{0,4}/?|-?[0-9]{0,11}[.]?[0-9]?";
        prop_oneof![
            options.prop_map(OsString::from),
            operands.prop_map(OsString::from),
            any::<Vec<u8>>().prop_map(OsString::from_vec),
        ]
    }

    proptest! {
        #[test]
        fn any_command_line_is_taken_or_refused_for_a_reason(
            words in proptest::collection::vec(word(), 0..9)
        ) {
            match parse([OsString::from("pg_standby")].into_iter().chain(words)) {
                Ok(Command::Restore(options)) => {
                    prop_assert!(options.sleep_time >= Duration::from_millis(100));
                    prop_assert!(options.sleep_time <= Duration::from_secs(60));
                    prop_assert!(options.destination.file_name().is_some());
                }
                Ok(Command::Prune(pruning)) => prop_assert!(!pruning.archive_location.as_os_str().is_empty()),
                Ok(Command::Print(text)) => prop_assert!(!text.is_empty()),
                Err(error) => {
                    prop_assert!(error.is_usage());
                    prop_assert_eq!(error.to_string().lines().count(), 1);
                }
            }
        }
    }
}
