//! The independent judge: `pg_waldump`, which reads WAL with the server's own reader.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Doing, Failure, Installation, Result};

pub struct WalDump {
    /// The version whose WAL it reads.
    pub major: u32,
    program: PathBuf,
}

impl WalDump {
    /// Of each version that has one here.
    ///
    /// # Errors
    /// When there is none at all.
    pub fn find() -> Result<Vec<Self>> {
        let program = |installation: Installation| Self {
            major: installation.major,
            program: installation.program("pg_waldump"),
        };
        Ok(Installation::each_with("pg_waldump")?.into_iter().map(program).collect())
    }

    /// How many records begin and end in a segment; or why it cannot be read to its end.
    pub fn count(&self, segment: &Path) -> Result<std::result::Result<u64, String>> {
        let output = Command::new(&self.program).arg("--stats").arg(segment).output()?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let total = table.lines().find_map(|line| line.strip_prefix("Total"));
        let count = total.and_then(|line| line.split_whitespace().next());
        let count = count.ok_or_else(|| Failure::new(format!("no total in {table}")))?;
        Ok(Ok(count.parse().doing(count.to_owned())?))
    }

    /// Whether WAL can be read from the record at `from` up to `to`.
    pub fn reads(&self, directory: &Path, timeline: u32, from: u64, to: u64) -> Result<bool> {
        let lsn = |lsn: u64| format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF);
        let output = Command::new(&self.program)
            .args(["--quiet", "--timeline", &timeline.to_string()])
            .args(["--start", &lsn(from), "--end", &lsn(to), "--path"])
            .arg(directory)
            .output()?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(Failure::new(format!("pg_waldump: {output:?}"))),
        }
    }
}
