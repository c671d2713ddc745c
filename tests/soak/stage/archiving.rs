//! Archiving is held up, and the segment that the standby waits for is the test's.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Stage;
use crate::machine::{Doing, Result};

impl Stage {
    /// The file that a running `pg_standby` has been asked for.
    pub fn wanted(&self) -> Option<String> {
        let archive = self.machine.archive();
        self.standby.running("pg_standby").into_iter().find_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0);
            words.find(|word| *word == archive.as_os_str().as_bytes())?;
            String::from_utf8(words.next()?.into()).ok()
        })
    }

    /// Keeps the primary from archiving, and waits until no copy is on its way any more.
    ///
    /// # Errors
    /// There still is one after the deadline.
    pub fn hold(&mut self) -> Result<()> {
        self.machine.write(&self.held(), "")?;
        self.wait("the end of archiving", |stage| {
            let is_at_work = |program| !stage.primary.running(program).is_empty();
            Ok(!["sh", "cp"].into_iter().any(is_at_work))
        })
        .map(drop)
    }

    /// Lets the primary archive again, what is in the archive already included.
    ///
    /// # Errors
    /// What the file system says.
    pub fn release(&self) -> Result<()> {
        fs::remove_file(self.held()).doing("the flag file")
    }

    /// With archiving held: the segment that the standby waits for, once it has all that are in the archive, and its
    /// bytes as the primary has them.
    ///
    /// # Errors
    /// It does not get so far.
    pub fn next_segment(&mut self) -> Result<(String, Vec<u8>)> {
        let mut next = None;
        self.wait("a standby that has read everything", |stage| {
            stage.revive()?;
            let is_next = |name: &String| name.len() == 24 && !stage.archived(name).exists();
            next = stage.wanted().filter(is_next);
            Ok(next.is_some())
        })?;
        let next = next.unwrap_or_default();
        let bytes = self.primarys(&next)?;
        Ok((next, bytes))
    }

    /// A segment as the primary has it, once it has ended there.
    ///
    /// # Errors
    /// It does not end.
    pub fn primarys(&mut self, name: &str) -> Result<Vec<u8>> {
        let pg_wal = self.primary.data.join("pg_wal");
        let ready = pg_wal.join(format!("archive_status/{name}.ready"));
        self.wait(&format!("{name} on the primary"), |_| Ok(ready.exists()))?;
        fs::read(pg_wal.join(name)).doing(name)
    }

    /// Where the archive has a file of that name.
    pub fn archived(&self, name: &str) -> PathBuf {
        self.machine.archive().join(name)
    }

    fn held(&self) -> PathBuf {
        self.machine.path().join("held")
    }
}
