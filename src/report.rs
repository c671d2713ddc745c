//! Every byte that is printed or logged. The rest of the program speaks through the macros of `log`, and through
//! [`Condition`] of what lasts for a while.
//!
//! Nothing here can end the process: `println!` and `eprintln!` panic when their stream is full, so neither is used.
//! Nor can anything hold it up: see [`stderr`].

mod log_file;
mod progress;
mod stderr;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use env_logger::Target;
use log::{Level, LevelFilter, info, warn};

use log_file::LogFile;
use stderr::Stderr;

pub use progress::Progress;

/// Sends messages to standard error, and to `log_file` where there is one, one line each: warnings, errors and the line of
/// a failover, with `debug` every step. `RUST_LOG` may name another level (`error`, `warn`, `info`, `debug`, `trace`, `off`).
pub fn start(debug: bool, log_file: Option<&Path>) {
    let usual = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let wanted = std::env::var_os("RUST_LOG");
    // Parsed here because env_logger answers a word that it does not know with eprintln!.
    let level = wanted.as_ref().and_then(|level| level.to_str()?.trim().parse().ok());
    let log_file = log_file.map(|path| Arc::new(LogFile::new(path.to_owned())));
    let stderr = Stderr::open();
    let is_journal = stderr.is_journal();
    let lines = move |level, log_file: Option<&LogFile>, message: &dyn Display| {
        let line = line(level, message);
        let trouble = log_file.and_then(|log_file| log_file.append(&line));
        let mut lines = marked(is_journal, level, &line);
        if let Some(trouble) = trouble {
            lines += &marked(is_journal, Level::Warn, &self::line(Level::Warn, &trouble));
        }
        lines
    };
    // The standard library's own message would wait for a standard error that takes no more.
    let of_panic = log_file.clone();
    panic::set_hook(Box::new(move |panic| {
        let lines = lines(Level::Error, of_panic.as_deref(), panic);
        let _ = Stderr::open().write(lines.as_bytes());
    }));
    let started = env_logger::Builder::new()
        .target(Target::Pipe(Box::new(stderr)))
        .filter_level(level.unwrap_or(usual))
        .format(move |buffer, record| {
            let lines = lines(record.level(), log_file.as_deref(), record.args());
            buffer.write_all(lines.as_bytes())
        })
        .try_init();
    if let (Ok(()), None, Some(wanted)) = (started, level, wanted) {
        warn!(
            "invalid value {wanted:?} of RUST_LOG: expected error, warn, info, debug, trace or off"
        );
    }
}

fn line(level: Level, message: &dyn Display) -> String {
    let kind = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug: ",
    };
    format!("pg_standby: {kind}{message}")
}

/// A line for standard error. The journal of systemd takes its priority from the number in front (`sd-daemon(3)`).
fn marked(is_journal: bool, level: Level, line: &str) -> String {
    let priority = match level {
        _ if !is_journal => "",
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    };
    format!("{priority}{line}\n")
}

/// Writes to standard output.
///
/// # Errors
/// Standard output is closed or full.
pub fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

/// Returns whether standard output is a terminal that takes escape sequences.
#[must_use]
pub fn has_colours() -> bool {
    io::stdout().is_terminal() && takes_escapes()
}

/// Returns whether the user's terminal, if there is one, may be given escape sequences.
fn takes_escapes() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    !is_refused && !is_dumb
}

/// A condition that may last: reported when it begins, when it changes, at most once a minute between, and when it ends.
#[derive(Default)]
pub struct Condition {
    state: Option<State>,
}

struct State {
    kind: String,
    since: Instant,
    reported: Option<Instant>,
}

impl Condition {
    const INTERVAL: Duration = Duration::from_secs(60);

    /// Takes note that the condition is on, and reports it once it has lasted for `grace`. Another `kind` is another
    /// condition.
    pub fn report(&mut self, kind: &str, grace: Duration, message: &dyn Display) {
        let now = Instant::now();
        let state = match &mut self.state {
            Some(state) if state.kind == kind => state,
            other => other.insert(State { kind: kind.to_owned(), since: now, reported: None }),
        };
        let elapsed = |from| now.saturating_duration_since(from);
        let is_due = match state.reported {
            Some(reported) => elapsed(reported) >= Self::INTERVAL,
            None => elapsed(state.since) >= grace,
        };
        if is_due {
            state.reported = Some(now);
            warn!("{message}");
        }
    }

    /// Takes note that the condition is over; `message` is for those who have read of its beginning.
    pub fn clear(&mut self, message: &dyn Display) {
        if self.state.take().is_some_and(|state| state.reported.is_some()) {
            info!("{message}");
        }
    }
}
