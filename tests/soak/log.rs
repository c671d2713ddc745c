//! The standby's log, read as it grows: what must never stand in it, and why the server has ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::machine::{Doing, Failure, Result};

/// What only a standby writes that has been asked for failover, and what none writes.
const NEVER: [&str; 7] = [
    "selected new timeline",
    "archive recovery complete",
    "received promote request",
    "failover",
    "PANIC",
    "panicked at",
    "invalid registration",
];

/// The startup process has ended without a word, as it does when its command dies of SIGTERM.
pub const QUIETLY: &str = "no reason given";

pub struct Log {
    path: PathBuf,
    read: u64,
    /// Since the last start of the server.
    lines: Vec<String>,
    begun: Vec<u8>,
    pub restored: u64,
}

impl Log {
    pub fn at(path: PathBuf) -> Self {
        Self { path, read: 0, lines: Vec::new(), begun: Vec::new(), restored: 0 }
    }

    /// Reads what has come to it.
    ///
    /// # Errors
    /// There is a line in it that must not be.
    pub fn read_on(&mut self) -> Result<()> {
        let mut file = File::open(&self.path).doing(self.path.display())?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        let count = file.read_to_end(&mut bytes)?;
        self.read = self.read.saturating_add(u64::try_from(count)?);
        for byte in bytes {
            if byte != b'\n' {
                self.begun.push(byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.begun).into_owned();
            self.begun.clear();
            if NEVER.iter().any(|words| line.contains(words)) {
                return Err(Failure::new(format!("nobody asked for this: {line}")));
            }
            if line.contains("restored log file") {
                self.restored = self.restored.saturating_add(1);
            }
            self.lines.push(line);
        }
        Ok(())
    }

    /// The server is about to be started: what it wrote before counts no more.
    pub fn forget(&mut self) {
        self.lines.clear();
    }

    /// Why the server has ended, in its own words.
    pub fn reason(&self) -> String {
        let last = |words| self.lines.iter().rev().find(|line| line.contains(words));
        match last("could not restore file") {
            Some(line) => line.rsplit("from archive: ").next().unwrap_or(line).into(),
            None if last("startup process (PID ").is_some() => QUIETLY.into(),
            None => self.lines.last().cloned().unwrap_or_default(),
        }
    }

    /// What `pg_standby` has said last of a file that it does not take.
    pub fn said_of(&self, name: &str) -> Option<&str> {
        self.lines.iter().rev().filter(|line| line.starts_with("pg_standby: ")).find_map(|line| {
            let (_, words) = line
                .split_once(&format!("{name}\" is not ready: "))
                .or_else(|| line.split_once(&format!("{name}\": ")))?;
            words.split(';').next()
        })
    }
}
