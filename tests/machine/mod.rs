//! Real servers on loopback, for tests, the soak, the demo and a benchmark.
//!
//! A [`Machine`] is one directory with an archive, a trigger file's place and a `pg_standby`; its servers are a
//! primary that archives there and warm standbys made from a copy of it. Everything a machine started is
//! stopped and removed when its owner is dropped, after a failure too. What can go wrong comes back as a
//! [`Failure`] that holds the end of the server's log, so that nothing here panics.
//!
//! The types that the tests use, from the smallest to the largest:
//!
//! - `Site` (`tests/program/site.rs`) is a directory that looks like a standby's, and no server. The test itself calls the
//!   program, as a server would.
//! - `Machine` (here) is what servers share, and nothing else: a test makes the servers that it needs.
//! - `Pair` (`tests/servers/pair.rs`) is a machine with a primary and a warm standby, and counts their rows.
//! - `Trial` (`tests/servers/trial.rs`) is a pair whose standby has another archive than the one that the primary fills. The
//!   test carries the segments over, or something else in their place.
//! - `Stage` (`tests/soak/stage.rs`) is a machine with a primary under load and a standby that is watched all the time, while
//!   faults come at random.

mod installation;
mod place;
mod processes;
mod server;

pub use installation::Installation;
pub use place::Machine;
pub use server::Server;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long something may take that must happen. It is long enough for a loaded machine, and shorter than the longest
/// polling interval, `-s 60`: with that, what is noticed in time was not noticed by polling.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Returns the program that the environment variable `PG_STANDBY_UNDER_TEST` names, or else the one that was `built`.
pub fn program_under_test(built: impl AsRef<Path>) -> PathBuf {
    std::env::var_os("PG_STANDBY_UNDER_TEST")
        .map_or_else(|| built.as_ref().to_owned(), PathBuf::from)
}

/// What went wrong, in words for the person who reads the test's output.
pub struct Failure(String);

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A test that returns its failure is reported with `Debug`, which would put a log on one line.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// With the causes: only they have what a server said.
    fn from(error: E) -> Self {
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            words = format!("{words}: {cause}");
            source = cause.source();
        }
        Self(words)
    }
}

/// Adds to an error what was being done, most often a path.
pub trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

/// Polls `condition` until it holds, and returns how long that took.
///
/// # Errors
/// When it does not hold within `limit`; `what` names it.
pub fn wait_for(
    what: impl fmt::Display,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let begin = Instant::now();
    while !condition()? {
        if begin.elapsed() > limit {
            return Err(Failure(format!("{what}: not within {limit:?}")));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(begin.elapsed())
}
