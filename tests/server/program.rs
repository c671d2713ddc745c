//! What the programs among the examples share: Ctrl-C that cleans up, printing that survives, and where the `pg_standby` is
//! that was built with them.

use super::{Failure, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ctrl-C stops the servers, which belong to this terminal as well; the program stays to clean up.
#[derive(Clone, Default)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    pub fn watch(&self) -> Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, self.0.clone())?;
        }
        Ok(())
    }

    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::new("interrupted")) } else { Ok(()) }
    }
}

/// `println!` panics when the reader has gone, `demo | head` for one, and a panic would leave the servers.
pub fn say(line: impl Display) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// The program that was built with this example, whose directory is beside it.
pub fn built_pg_standby() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    example
        .ancestors()
        .nth(2)
        .map(|profile| profile.join("pg_standby"))
        .filter(|program| program.exists())
        .ok_or_else(|| Failure::new("pg_standby is not built; cargo build --bins builds it"))
}
