//! Signals: which have arrived, a file descriptor that wakes a `poll` when one does, and dying by one.
//! Which of them request failover is decided in `failover`, and which end the call at once in `caller`.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGIO, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::low_level::emulate_default_handler;
use signal_hook::{flag, low_level::pipe};

/// A signal that asks for failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverSignal {
    /// SIGUSR1.
    Usr1,
    /// SIGINT, as in old versions of the C program: deprecated.
    Int,
}

impl fmt::Display for FailoverSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usr1 => write!(f, "SIGUSR1"),
            Self::Int => write!(f, "SIGINT"),
        }
    }
}

/// The signals that have arrived since [`Signals::listen`].
pub struct Signals {
    usr1: Arc<AtomicBool>,
    int: Arc<AtomicBool>,
    quit: Arc<AtomicBool>,
    wakeup: UnixStream,
}

impl Signals {
    /// Starts to listen for SIGUSR1, SIGINT and SIGQUIT, whatever the server left as their actions, and keeps two others
    /// from killing the program: SIGXFSZ, because a file that may not grow is an error of the copy, and SIGIO, which the
    /// kernel sends when it wants a lease back.
    ///
    /// # Errors
    /// No file descriptor is left, or a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let (wakeup, waker) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        let listen_for = |signal| {
            let arrived = Arc::new(AtomicBool::new(false));
            flag::register(signal, Arc::clone(&arrived))?;
            pipe::register(signal, waker.try_clone()?)?;
            io::Result::Ok(arrived)
        };
        flag::register(SIGXFSZ, Arc::default())?;
        flag::register(SIGIO, Arc::default())?;
        Ok(Self {
            usr1: listen_for(SIGUSR1)?,
            int: listen_for(SIGINT)?,
            quit: listen_for(SIGQUIT)?,
            wakeup,
        })
    }

    /// Returns the signal that asks for failover, if one has arrived.
    #[must_use]
    pub fn failover(&self) -> Option<FailoverSignal> {
        if self.usr1.load(Ordering::Relaxed) {
            Some(FailoverSignal::Usr1)
        } else if self.int.load(Ordering::Relaxed) {
            Some(FailoverSignal::Int)
        } else {
            None
        }
    }

    /// Returns whether SIGQUIT has arrived.
    #[must_use]
    pub fn quit(&self) -> bool {
        self.quit.load(Ordering::Relaxed)
    }

    /// Forgets the wake-ups so far and returns whether there were any; which signals have arrived stays known.
    pub fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut woken = false;
        while (&self.wakeup).read(&mut bytes).is_ok_and(|count| count > 0) {
            woken = true;
        }
        woken
    }
}

impl AsFd for Signals {
    /// Readable after a signal, until the next [`Signals::drain`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

/// Dies by SIGTERM.
pub fn die_by_sigterm() -> ! {
    die_by(SIGTERM)
}

/// Dies by SIGINT.
pub fn die_by_sigint() -> ! {
    die_by(SIGINT)
}

fn die_by(signal: i32) -> ! {
    let _ = emulate_default_handler(signal);
    // If that fails: SIGABRT stops the server as well, without promoting.
    std::process::abort()
}
