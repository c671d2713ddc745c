//! A `restore_command` that waits: PostgreSQL runs it on a warm standby, once for each file of WAL.
//!
//! The life of one invocation: `cli` turns the command line into `options`; `standby` looks at the archive, asks
//! `decision` what is to be done, waits until the file is ready there or somebody asks for failover, copies it into
//! place and prunes the archive; the `outcome` is what the server reads.
//!
//! One promise stands above all others: recovery ends only because somebody asked for it. A server takes the statuses
//! 1 to 125 for "there is no such file" and comes up as a primary, so no error, no panic and no full disk may ever end
//! the program with one of them.

mod archive;
mod caller;
mod cli;
mod data_directory;
mod decision;
mod decompress;
mod diagnosis;
mod ending;
mod error;
mod failover;
mod file_system;
mod handover;
mod lease;
mod mapping;
mod obstacle;
mod options;
mod outcome;
mod partial;
mod permission;
mod presence;
mod promotion;
mod prune;
mod registrations;
mod report;
mod restore;
mod retry;
mod search;
mod signals;
mod source;
mod standby;
mod status;
mod system;
mod timeline;
mod timestamp;
mod trigger_file;
mod verification;
mod wait;
mod wal;
mod watch;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use log::{debug, error, info, warn};

use archive::Archive;
use error::{Error, UsageError};
use options::{Command, Format, Inquiry, Options, Pruning};
use signals::Signals;
use standby::Standby;

pub use outcome::Outcome;

/// One invocation, from the command line (the program's name first) to its outcome.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> Outcome {
    let args: Vec<_> = args.into_iter().collect();
    let is_plugin = args.iter().any(|arg| arg == "--status=plugin");
    let command = cli::parse(args);
    let (debug, log_file) = match &command {
        Ok(Command::Restore(options)) => (options.debug, options.log_file.as_deref()),
        Ok(Command::Prune(pruning)) => (pruning.debug, pruning.log_file.as_deref()),
        Ok(Command::Status(inquiry)) => (inquiry.debug, None),
        Ok(Command::Print(_)) | Err(_) => (false, None),
    };
    report::start(debug, log_file);
    let result = match command {
        Ok(Command::Restore(options)) => restore(&options),
        Ok(Command::Prune(pruning)) => prune(&pruning),
        Ok(Command::Status(inquiry)) => tell(&inquiry),
        Ok(Command::Print(text)) => Ok(print(text.as_bytes()).unwrap_or(Outcome::Unusable)),
        Err(error) => Err(Error::Usage(error)),
    };
    result.unwrap_or_else(|error| {
        error!("{error}");
        if matches!(error, Error::Usage(_)) {
            info!("try \"pg_standby --help\"");
        }
        if is_plugin {
            let _ = print(status::unknown(&error).as_bytes());
            return Outcome::Unknown;
        }
        Outcome::of_error(&error)
    })
}

fn restore(options: &Options) -> Result<Outcome, Error> {
    match data_directory::version() {
        Some(version) if options.partial.is_some() && version < (9, 5) => {
            return Err(Error::Usage(UsageError::PartialTooOld { version }));
        }
        _ => {}
    }
    let signals = Signals::listen().map_err(Error::Signals)?;
    describe(options);
    let archive = Archive::new(&options.archive_location, options.required_file.as_deref());
    Ok(Standby::new(options, &archive, &signals).run())
}

fn prune(pruning: &Pruning) -> Result<Outcome, Error> {
    let mut text = Vec::new();
    for path in prune::standalone(pruning).map_err(Error::NotPruned)? {
        text.extend(path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    Ok(print(&text).unwrap_or(Outcome::NotPruned))
}

fn tell(inquiry: &Inquiry) -> Result<Outcome, Error> {
    let is_restore = |args| match cli::parse(args) {
        Ok(Command::Restore(options)) => Some(options),
        Ok(Command::Prune(_) | Command::Status(_) | Command::Print(_)) | Err(_) => None,
    };
    let (answer, severity) = status::find_out(inquiry, &is_restore)?;
    let unprinted = match inquiry.format {
        Format::Plugin => Outcome::Unknown,
        Format::Text | Format::Json | Format::Prometheus => Outcome::Unusable,
    };
    Ok(print(&answer).map_or(unprinted, |_| Outcome::of_severity(severity)))
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

/// Says what will be done, for those who run it with `-d`.
fn describe(options: &Options) {
    let Options { archive_location, requested, destination, restart_file, .. } = options;
    if options.surplus_operands > 0 {
        warn!("ignored operands after the fourth: {}", options.surplus_operands);
    }
    debug!("file to restore: {requested}");
    debug!("archive location: {archive_location:?}");
    debug!("destination: {destination:?}");
    match &options.trigger_file {
        Some(path) => debug!("trigger file: {path:?}"),
        None => debug!("trigger file: none"),
    }
    debug!("sleep time: {} s", options.sleep_time.as_secs_f64());
    match options.max_wait_time {
        Some(time) => debug!("maximum wait time: {} s", time.as_secs_f64()),
        None => debug!("maximum wait time: none"),
    }
    match options.partial {
        Some(time) => debug!("partial segments: at most every {} s", time.as_secs_f64()),
        None => debug!("partial segments: not taken"),
    }
    debug!("maximum retries of a copy: {}", options.max_retries);
    match (restart_file, options.keep_files) {
        (Some(restart_file), _) => debug!("files to keep: {restart_file:?} and later"),
        (None, 0) => debug!("files to keep: all"),
        (None, count) => debug!("files to keep: {count} before the requested one"),
    }
}
