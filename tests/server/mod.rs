//! Real servers on loopback, for tests and the demo.
//!
//! A [`Site`] is one directory with an archive, a trigger file's place and a `pg_standby`; its servers are a
//! primary that archives there and warm standbys made from a copy of it. Everything a site started is
//! stopped and removed when its owner is dropped, after a failure too. What can go wrong comes back as a
//! [`Failure`] that holds the end of the server's log, so that nothing here panics.

// Each program that includes this module uses a part of it.
#![allow(dead_code)]

mod cluster;
mod installation;
mod processes;
pub mod program;
mod site;

pub use cluster::Server;
pub use installation::Installation;
pub use site::Site;

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long something may take that must happen: long enough for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

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
    /// With the causes: what a server said stands only there.
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

/// Looks at `condition` until it holds, and says how long that took.
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
