//! Every byte that is printed or logged. The rest of the program speaks through the macros of `log`, and through
//! [`Lasting`] of what goes on for a while.
//!
//! Nothing here can end the process: `println!` and `eprintln!` panic when their stream is full, so neither is used.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, info, warn};

/// Sends messages to standard error, one line each: warnings, errors and the line of a failover, with `debug` every
/// step. `RUST_LOG` may name another level (`error`, `warn`, `info`, `debug`, `trace`, `off`).
pub fn start(debug: bool) {
    let usual = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let wanted = std::env::var_os("RUST_LOG");
    // Parsed here because env_logger answers a word that it does not know with eprintln!.
    let level = wanted.as_ref().and_then(|level| level.to_str()?.trim().parse().ok());
    let started = env_logger::Builder::new()
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
            "RUST_LOG is {wanted:?}, which is no level: expected error, warn, info, debug, trace or off"
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

/// A state that lasts: said when it begins, when it changes, at most once a minute between, and when it ends.
#[derive(Default)]
pub struct Lasting {
    state: Option<State>,
}

struct State {
    kind: String,
    since: Instant,
    said: Option<Instant>,
}

impl Lasting {
    const INTERVAL: Duration = Duration::from_secs(60);

    /// The state is on. It is said once it has lasted for `grace`; another `kind` is another state.
    pub fn goes_on(&mut self, kind: &str, grace: Duration, message: &dyn Display) {
        let now = Instant::now();
        let state = match &mut self.state {
            Some(state) if state.kind == kind => state,
            other => other.insert(State { kind: kind.to_owned(), since: now, said: None }),
        };
        let elapsed = |from| now.saturating_duration_since(from);
        let is_news = match state.said {
            Some(said) => elapsed(said) >= Self::INTERVAL,
            None => elapsed(state.since) >= grace,
        };
        if is_news {
            state.said = Some(now);
            warn!("{message}");
        }
    }

    /// The state is over; `message` is for those who heard of its beginning.
    pub fn is_over(&mut self, message: &dyn Display) {
        if self.state.take().is_some_and(|state| state.said.is_some()) {
            info!("{message}");
        }
    }
}
