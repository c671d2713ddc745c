//! A `restore_command` that waits: PostgreSQL runs it on a warm standby, once for each file of WAL.
//!
//! The life of one invocation: the command line becomes `cli::Options`; `standby::Standby` looks at the archive,
//! waits until the file is ready there or somebody asks for failover, copies it into place and prunes the archive; the
//! `outcome::Outcome` is what the server reads.
//!
//! One promise stands above all others: recovery ends only because somebody asked for it. A server takes the statuses
//! 1 to 125 for "there is no such file" and comes up as a primary, so no error, no panic and no full disk may ever end
//! the program with one of them.

mod archive;
mod attempt;
mod cli;
mod error;
mod failover;
mod lease;
mod outcome;
mod prune;
mod records;
mod report;
mod restore;
mod server;
mod signals;
mod standby;
mod wait;
mod wal;
mod watch;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use log::{debug, error, info, warn};

use cli::{Command, Options, Pruning};
use error::Error;

pub use outcome::Outcome;
use signals::Signals;
use standby::Standby;

/// One invocation, from the command line (the program's name first) to its outcome.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> Outcome {
    let (result, classic_statuses) = match cli::parse(args) {
        Ok(Command::Print(text)) => {
            report::start(false);
            return print(text.as_bytes()).unwrap_or(Outcome::Unusable);
        }
        Ok(Command::Prune(pruning)) => {
            report::start(pruning.debug);
            (prune(&pruning), false)
        }
        Ok(Command::Restore(options)) => {
            report::start(options.debug);
            (restore(&options), options.classic_statuses)
        }
        Err(error) => {
            report::start(false);
            (Err(error), false)
        }
    };
    result.unwrap_or_else(|error| {
        let outcome = end(&error, classic_statuses);
        if error.is_usage() {
            error!("{error}");
            info!("try \"pg_standby --help\"");
        } else if let Some(consequence) = consequence(outcome) {
            error!("{error}; {consequence}");
        } else {
            error!("{error}");
        }
        outcome
    })
}

/// `None` where it could not be printed.
fn print(text: &[u8]) -> Option<Outcome> {
    match report::print(text) {
        Ok(()) => Some(Outcome::Done),
        Err(error) => {
            error!("could not write to standard output: {error}");
            None
        }
    }
}

fn prune(pruning: &Pruning) -> Result<Outcome, Error> {
    let mut text = Vec::new();
    for path in prune::alone(pruning).map_err(Error::NotPruned)? {
        text.extend(path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    Ok(print(&text).unwrap_or(Outcome::NotPruned))
}

fn restore(options: &Options) -> Result<Outcome, Error> {
    let signals = Signals::listen().map_err(Error::Signals)?;
    tell(options);
    Standby::new(options, &signals).run()
}

fn end(error: &Error, classic_statuses: bool) -> Outcome {
    match error {
        Error::NoArchive { .. } if classic_statuses => Outcome::ClassicNoArchive,
        Error::NotRestored { .. } if classic_statuses => Outcome::NotThere,
        Error::NotRestored { .. } | Error::Signals(_) => Outcome::NotRestored,
        Error::NotPruned(_) => Outcome::NotPruned,
        _ => Outcome::Unusable,
    }
}

/// What the server makes of it, outside standby mode, where it asked for a file.
fn consequence(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::NotPruned => None,
        Outcome::NotRestored | Outcome::Unusable => {
            Some("the server stops, and asks again when it is started")
        }
        _ => Some("the server takes that for the end of WAL"),
    }
}

/// What will be done, for who runs with `-d`.
fn tell(options: &Options) {
    if options.surplus_operands > 0 {
        warn!("{} operands too many, the last ones are ignored", options.surplus_operands);
    }
    let Options { archive_location, requested, destination, restart_file, .. } = options;
    debug!("file to restore: {requested}");
    debug!("archive location: {archive_location:?}");
    debug!("destination: {destination:?}");
    debug!("trigger file: {:?}", options.trigger_file);
    debug!("sleep time: {:?}", options.sleep_time);
    debug!("maximum wait time: {:?}", options.max_wait_time);
    debug!("maximum retries of a copy: {}", options.max_retries);
    match restart_file {
        Some(restart_file) => debug!("files to keep: from {restart_file:?} on"),
        None => debug!("files to keep before the requested one: {} (0: all)", options.keep_files),
    }
}
