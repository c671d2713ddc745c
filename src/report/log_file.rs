//! The file of `--log-file`: the lines of standard error once more, with their time and the process. What cannot be
//! written changes nothing else.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;

use crate::file_system::{not_regular, open_regular};
use crate::permission::explained;
use crate::timestamp::Timestamp;

/// The server sets a umask that takes away more.
const MODE: u32 = 0o640;

/// A log file. It is opened for each line, so that it may be rotated while a process waits.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    has_failed: AtomicBool,
}

impl LogFile {
    /// Nothing is opened or created before there is something to write.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, has_failed: AtomicBool::new(false) }
    }

    /// Appends a line in one write, so that those of several processes do not mix. Returns what to say where that fails for
    /// the first time.
    #[must_use]
    pub fn append(&self, line: &str) -> Option<String> {
        let error = self.try_to_append(line).err()?;
        let is_known = self.has_failed.swap(true, Ordering::Relaxed);
        (!is_known).then(|| {
            let error = explained(&error, &self.path);
            format!("could not write to log file {:?}: {error}", self.path)
        })
    }

    fn try_to_append(&self, line: &str) -> io::Result<()> {
        let line = format!("{:.3} [{}] {line}\n", Timestamp::now(), process::id());
        let mut options = OpenOptions::new();
        let opened =
            open_regular(&self.path, options.append(true).create(true).mode(MODE), OFlag::empty())?;
        let (mut file, _) = opened.ok_or_else(not_regular)?;
        match file.write(line.as_bytes())? {
            count if count < line.len() => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }
}
