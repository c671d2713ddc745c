//! Every byte that is printed or logged. The rest of the program speaks through the macros of `log`, and through
//! [`Condition`] of what lasts for a while.
//!
//! Nothing here can end the process: `println!` and `eprintln!` panic when their stream is full, so neither is used.
//! Nor can anything hold it up: see [`stderr`].

mod stderr;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::panic;
use std::time::{Duration, Instant};

use env_logger::Target;
use log::{Level, LevelFilter, info, warn};

use stderr::Stderr;

/// Sends messages to standard error, one line each: warnings, errors and the line of a failover, with `debug` every
/// step. `RUST_LOG` may name another level (`error`, `warn`, `info`, `debug`, `trace`, `off`).
pub fn start(debug: bool) {
    let usual = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let wanted = std::env::var_os("RUST_LOG");
    // Parsed here because env_logger answers a word that it does not know with eprintln!.
    let level = wanted.as_ref().and_then(|level| level.to_str()?.trim().parse().ok());
    // The standard library's own message would wait for a standard error that takes no more.
    panic::set_hook(Box::new(|panic| {
        let _ = Stderr::open().write(format!("pg_standby: error: {panic}\n").as_bytes());
    }));
    let started = env_logger::Builder::new()
        .target(Target::Pipe(Box::new(Stderr::open())))
        .filter_level(level.unwrap_or(usual))
        .format(|line, record| {
            let kind = match record.level() {
                Level::Error => "error: ",
                Level::Warn => "warning: ",
                Level::Info => "",
                Level::Debug | Level::Trace => "debug: ",
            };
            writeln!(line, "pg_standby: {kind}{}", record.args())
        })
        .try_init();
    if let (Ok(()), None, Some(wanted)) = (started, level, wanted) {
        warn!(
            "invalid value {wanted:?} of RUST_LOG: expected error, warn, info, debug, trace or off"
        );
    }
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
