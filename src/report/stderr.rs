//! Standard error that never blocks: a line that it does not take at once is dropped and counted. A pipe that nobody
//! empties would otherwise hold up a failover.
//!
//! The stream itself is left as it is, because the server and its other children write to it as well: a pipe or a
//! terminal is opened anew, and a socket is told with each message not to wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// Standard error, and how many lines it has not taken.
pub struct Stderr {
    stream: Stream,
    is_journal: bool,
    dropped: u64,
}

enum Stream {
    /// A description of its own, on which nobody waits.
    Own(File),
    Socket,
    /// A file, which takes what it is given, or something that can only be asked before.
    Shared,
}

impl Stderr {
    /// Finds out what standard error is.
    #[must_use]
    pub fn open() -> Self {
        let path = "/proc/self/fd/2";
        let metadata = std::fs::metadata(path);
        // The variable is inherited by whoever is started with another standard error as well.
        let journal = std::env::var_os("JOURNAL_STREAM");
        let is_journal = metadata.as_ref().is_ok_and(|it| {
            journal.is_some_and(|name| name == *format!("{}:{}", it.dev(), it.ino()))
        });
        let kind = metadata.map(|metadata| metadata.file_type());
        let stream = match kind {
            Ok(kind) if kind.is_socket() => Stream::Socket,
            Ok(kind) if kind.is_fifo() || kind.is_char_device() => {
                let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
                let own = OpenOptions::new().append(true).custom_flags(flags.bits()).open(path);
                own.map_or(Stream::Shared, Stream::Own)
            }
            _ => Stream::Shared,
        };
        Self { stream, is_journal, dropped: 0 }
    }

    /// Returns whether it goes to the journal of systemd (`systemd.exec(5)`).
    #[must_use]
    pub fn is_journal(&self) -> bool {
        self.is_journal
    }

    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        let stderr = io::stderr();
        let written = match &self.stream {
            Stream::Own(file) => (&mut &*file).write(line)?,
            Stream::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(stderr.as_raw_fd(), line, flags)?
            }
            Stream::Shared => {
                let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut ready, PollTimeout::ZERO)? == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                stderr.lock().write(line)?
            }
        };
        if written < line.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

impl Write for Stderr {
    /// Takes one line, or a few.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 {
            let count = self.dropped;
            let priority = if self.is_journal { "<4>" } else { "" };
            let line = format!(
                "{priority}pg_standby: warning: messages that could not be written: {count}\n"
            );
            if self.write_line(line.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        if self.write_line(lines).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
