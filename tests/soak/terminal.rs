//! What the soak and `examples/demo.rs`, which people start by hand, share: Ctrl-C that cleans up, and printing that survives
//! a reader that has gone.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::machine::{Failure, Result};

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
