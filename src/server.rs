//! What the server says of itself in its data directory, which is the working directory of a `restore_command`.
//! Outside a data directory every question has the answer "not known".

use std::fs;
use std::io::Read;
use std::path::Path;

use log::warn;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

const CONTROL_FILE: &str = "global/pg_control";
const PID_FILE: &str = "postmaster.pid";
const PROMOTE_FILE: &str = "promote";
const VERSION_FILE: &str = "PG_VERSION";

/// The cluster's system identifier: the first 8 bytes of `global/pg_control`, in the machine's byte order, in every
/// version (`ControlFileData` in PostgreSQL's `pg_control.h`).
#[must_use]
pub fn system_identifier() -> Option<u64> {
    let mut bytes = [0; 8];
    let read = fs::File::open(CONTROL_FILE).and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => Some(u64::from_ne_bytes(bytes)),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                warn!(
                    "could not read {CONTROL_FILE:?}: {error}; segments of other clusters go unnoticed"
                );
            }
            None
        }
    }
}

/// The file that `pg_ctl promote` and `pg_promote()` leave for the server, where they have.
#[must_use]
pub fn promote_file() -> Option<&'static Path> {
    let file = Path::new(PROMOTE_FILE);
    (file.exists() && Path::new(VERSION_FILE).exists()).then_some(file)
}

/// The postmaster that this program works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postmaster(Pid);

impl Postmaster {
    /// The one that `postmaster.pid` names, if there is such a file.
    #[must_use]
    pub fn here() -> Option<Self> {
        parse_pid(&fs::read(PID_FILE).ok()?).map(Self)
    }

    /// It does not run any more, or another one has taken its place.
    #[must_use]
    pub fn is_gone(self) -> bool {
        kill(self.0, None) == Err(Errno::ESRCH) || Self::here().is_some_and(|now| now != self)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(self) -> i32 {
        self.0.as_raw()
    }
}

/// The first line of `postmaster.pid`; negative where the server runs without a postmaster.
fn parse_pid(file: &[u8]) -> Option<Pid> {
    let line = file.split(|byte| *byte == b'\n').next()?;
    let pid: i32 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    let pid = pid.checked_abs().filter(|pid| *pid > 0)?;
    Some(Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_line_is_the_process_id() {
        assert_eq!(parse_pid(b"4711\n/var/lib/postgresql\n"), Some(Pid::from_raw(4711)));
        assert_eq!(parse_pid(b"-4711\n"), Some(Pid::from_raw(4711)));
        for none in ["", "\n", "0\n", "postmaster\n", "99999999999\n", "-2147483648"] {
            assert_eq!(parse_pid(none.as_bytes()), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_process_id_or_not(file: Vec<u8>) {
            prop_assert!(parse_pid(&file).is_none_or(|pid| pid.as_raw() > 0));
        }
    }
}
