//! What can go wrong with a system call, and which of it is tried at which call.

use std::fmt;

use nix::sys::signal::Signal;

use crate::kinds::Kind;
use crate::place::Event;
use crate::trace::Call;

/// What is done to one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails, once.
    Error(&'static str),
    /// It fails, and so do all later calls of its name.
    Errors(&'static str),
    /// The signal arrives before it. SIGKILL keeps the call from being made; killed after it is killed before the next.
    Signal(Signal),
    /// It is held up, and meanwhile something happens. To hold it up afterwards is to hold the next one up.
    Delay(Event),
}

impl Fault {
    /// The error, and whether it lasts.
    pub fn error(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Error(error) => Some((error, false)),
            Self::Errors(error) => Some((error, true)),
            _ => None,
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Self::Error(_) => "an error, once",
            Self::Errors(_) => "an error, from there on",
            Self::Signal(Signal::SIGKILL) => "killed",
            Self::Signal(_) => "a signal",
            Self::Delay(_) => "a delay, and something happens",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => write!(f, "{error}"),
            Self::Errors(error) => write!(f, "{error}+"),
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::Delay(Event::Arrives(_)) => write!(f, "arrives"),
            Self::Delay(Event::Mounts) => write!(f, "mounts"),
            Self::Delay(Event::Renews) => write!(f, "renews"),
            Self::Delay(Event::Decompresses) => write!(f, "decompresses"),
            Self::Delay(Event::Matches | Event::Follows | Event::Signal(_)) => write!(f, "happens"),
        }
    }
}

/// Of whatever has to do with a file.
const FILE: &[&str] = &["EIO", "ENOMEM", "EINTR", "ESTALE", "ENOTCONN"];
/// Of finding one.
const PATH: &[&str] =
    &["EACCES", "EPERM", "ENOENT", "ENOTDIR", "EAGAIN", "ELOOP", "ENAMETOOLONG", "ETIMEDOUT"];
/// Of having one more open.
const DESCRIPTORS: &[&str] = &["EMFILE", "ENFILE"];
/// Of changing a file or a directory.
const CHANGE: &[&str] = &["ENOSPC", "EDQUOT", "EROFS", "EINVAL", "EOPNOTSUPP"];

const LOOK: &[&[&str]] = &[FILE, PATH];
const OPEN: &[&[&str]] = &[FILE, PATH, DESCRIPTORS];
const CREATE: &[&[&str]] = &[
    FILE,
    DESCRIPTORS,
    CHANGE,
    &["EACCES", "EPERM", "ENOENT", "EAGAIN", "EBUSY", "EEXIST", "ELOOP", "ETXTBSY"],
];
const NAME: &[&[&str]] = &[
    FILE,
    CHANGE,
    &["EACCES", "EPERM", "ENOENT", "ENOTDIR", "EBUSY", "EEXIST", "EXDEV", "EMLINK"],
];
const READ: &[&[&str]] =
    &[FILE, &["EACCES", "ENOENT", "ENOTDIR", "EAGAIN", "EISDIR", "EINVAL", "ETIMEDOUT"]];
const WRITE: &[&[&str]] =
    &[FILE, CHANGE, &["EPERM", "EFBIG", "EAGAIN", "EXDEV", "ENOSYS", "ETXTBSY", "EPIPE"]];
const WATCH: &[&[&str]] =
    &[DESCRIPTORS, &["EACCES", "EINTR", "EINVAL", "ENOENT", "ENOMEM", "ENOSPC", "ENOTDIR"]];
const LEASE: &[&[&str]] =
    &[&["EACCES", "EAGAIN", "EBUSY", "EINTR", "EINVAL", "EMFILE", "ENOLCK", "EPERM"]];
const SOCKET: &[&[&str]] = &[DESCRIPTORS, &["EACCES", "ENOMEM", "EPERM"]];
const POLL: &[&[&str]] = &[&["EAGAIN", "EINTR", "EINVAL", "ENOMEM"]];
const CLOSE: &[&[&str]] = &[&["EDQUOT", "EINTR", "EIO", "ENOSPC"]];
const OTHER: &[&[&str]] = &[&["EACCES", "EINTR", "EINVAL", "ENOMEM", "ENOSYS", "EPERM", "ESRCH"]];

fn errors(call: &Call) -> &'static [&'static [&'static str]] {
    match call.name.as_str() {
        "open" | "openat" | "openat2" if call.line.contains("O_WRONLY") => CREATE,
        "open" | "openat" | "openat2" if call.line.contains("O_RDWR") => CREATE,
        "open" | "openat" | "openat2" => OPEN,
        "fstat" | "read" | "pread64" | "readv" | "getdents64" | "lseek" | "fstatfs" | "mmap" => {
            READ
        }
        // With an empty path it is fstat by another name.
        "statx" | "newfstatat" if call.line.contains(", \"\",") => READ,
        "stat" | "lstat" | "statx" | "newfstatat" | "access" | "faccessat" | "faccessat2"
        | "readlink" | "readlinkat" | "statfs" | "getcwd" | "chdir" => LOOK,
        "link" | "linkat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat"
        | "mkdir" | "mkdirat" | "symlink" | "symlinkat" => NAME,
        "write" | "pwrite64" | "writev" | "ftruncate" | "fallocate" | "copy_file_range"
        | "sendfile" | "splice" | "fsync" | "fdatasync" | "fchmod" | "chmod" | "utimensat" => WRITE,
        "ioctl" if call.line.contains("FICLONE") => WRITE,
        "inotify_init" | "inotify_init1" | "inotify_add_watch" | "inotify_rm_watch" => WATCH,
        "fcntl" => LEASE,
        "socketpair" | "socket" | "pipe" | "pipe2" | "eventfd2" | "signalfd4" => SOCKET,
        "poll" | "ppoll" => POLL,
        "close" => CLOSE,
        // These cannot fail when they are asked properly.
        "rt_sigaction" | "rt_sigprocmask" | "exit_group" | "getpid" | "gettid" | "tgkill" => &[],
        _ => OTHER,
    }
}

/// Memory, time and the end of the thread: no call that has to do with files or with anybody else.
fn is_internal(call: &Call) -> bool {
    match call.name.as_str() {
        "mmap" => call.line.contains("MAP_ANONYMOUS"),
        // Only a program built for debugging asks whether what it closes is open.
        "fcntl" => call.line.contains("F_GETFD"),
        name => matches!(
            name,
            "brk"
                | "clock_gettime"
                | "exit"
                | "futex"
                | "getrandom"
                | "madvise"
                | "mprotect"
                | "mremap"
                | "munmap"
                | "restart_syscall"
                | "rt_sigreturn"
                | "sched_getaffinity"
                | "sigaltstack"
        ),
    }
}

/// How often the same call is disturbed: a loop goes round many times, and after the second time nothing is new.
const ROUNDS: usize = 2;

/// Every fault at every call that a kind makes, as places in `calls`.
pub fn cases(kind: &Kind, calls: &[Call]) -> Vec<(usize, Fault)> {
    let mut seen: Vec<&str> = Vec::new();
    let mut cases = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let what = what(call);
        if is_internal(call) || seen.iter().filter(|seen| **seen == what).count() >= ROUNDS {
            continue;
        }
        seen.push(what);
        let mut add = |fault| cases.push((index, fault));
        for error in errors(call).iter().copied().flatten() {
            add(Fault::Error(error));
            // No kernel interrupts for ever, and the standard library tries for ever.
            if *error != "EINTR" {
                add(Fault::Errors(error));
            }
        }
        for signal in [
            Signal::SIGKILL,
            Signal::SIGUSR1,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGHUP,
        ] {
            add(Fault::Signal(signal));
        }
        for (event, _) in kind.races {
            add(Fault::Delay(*event));
        }
    }
    cases
}

/// The call without its result; without its arguments where these are times.
fn what(call: &Call) -> &str {
    match call.name.as_str() {
        name @ ("poll" | "ppoll" | "clock_nanosleep") => name,
        _ => call.line.rsplit_once(" = ").map_or(call.line.as_str(), |(call, _)| call),
    }
}
