//! What does the server ask for? Its `restore_command` is a process whose working directory is the data directory, and
//! between two of them the title of its startup process says what is replayed. Linux alone tells, and only the server's
//! own user and root.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::file_system::directory_of;
use crate::options::Options;
use crate::wal::name::{Position, SegmentName, WalName};

/// Units of a process's start time in a second: `USER_HZ`, which is the same on all processors that Rust and PostgreSQL
/// have in common.
const TICKS: u64 = 100;

/// Reads a command line, the program's name first; `None` where it is not that of a restore.
pub type Parse = dyn Fn(Vec<OsString>) -> Option<Options>;

/// What the server does.
#[derive(Default)]
pub struct Calls {
    /// The call that waits, or copies.
    pub call: Option<Call>,
    /// The segment that the server replays, as the title of its startup process has it.
    pub replayed: Option<SegmentName>,
    /// The segment that it waits for, in a call or between two.
    pub awaited: Option<SegmentName>,
}

/// A restore that is going on.
pub struct Call {
    /// Its process id.
    pub pid: i32,
    /// What it was called with.
    pub options: Options,
    /// For how long it has been going on.
    pub lasts: Duration,
}

impl Call {
    /// The segment that it waits for.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentName> {
        match self.options.requested {
            WalName::Segment(segment) => Some(segment),
            WalName::History(_) | WalName::BackupHistory(..) | WalName::Partial(_) => None,
        }
    }

    /// Where the server keeps what it has read before this segment; `None` where it begins with that.
    #[must_use]
    pub fn has_read(&self) -> Option<&Path> {
        let wal_directory = directory_of(&self.options.destination);
        Some(wal_directory).filter(|_| !self.options.is_before_redo())
    }

    /// The first segment that the server would ask for if it were restarted.
    #[must_use]
    pub fn restart(&self) -> Option<SegmentName> {
        let restart = SegmentName::parse(self.options.restart_file.as_ref()?.as_encoded_bytes())?;
        Some(restart).filter(|it| it.position != Position::ZERO)
    }
}

/// Looks at all processes whose working directory is `data_directory`, a path without symbolic links.
#[must_use]
pub fn find(data_directory: &Path, parse: &Parse) -> Calls {
    let mut calls = Calls::default();
    for process in fs::read_dir("/proc").into_iter().flatten().map_while(Result::ok) {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|pid| pid.parse::<i32>().ok()) else { continue };
        let path = process.path();
        if !fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == data_directory) {
            continue;
        }
        let command_line = fs::read(path.join("cmdline")).unwrap_or_default();
        if let Some((segment, waits)) = of_startup(&command_line) {
            *if waits { &mut calls.awaited } else { &mut calls.replayed } = Some(segment);
        } else if let Some(options) = parse(arguments(&command_line)) {
            let lasts = age(&path).unwrap_or_default();
            calls.call = Some(Call { pid, options, lasts });
        }
    }
    calls
}

fn arguments(command_line: &[u8]) -> Vec<OsString> {
    let whole = command_line.strip_suffix(b"\0").unwrap_or(command_line);
    whole.split(|byte| *byte == 0).map(|it| OsString::from_vec(it.to_vec())).collect()
}

/// The segment in a title such as `postgres: startup recovering SEGMENT`, and whether it is `waiting for` that
/// (`XLogFileRead` in PostgreSQL's `xlogrecovery.c`).
fn of_startup(title: &[u8]) -> Option<(SegmentName, bool)> {
    let words: Vec<_> = title.split(|byte| b" \0".contains(byte)).collect();
    let has = |word: &[u8]| words.contains(&word);
    let is_startup = words.first() == Some(&b"postgres:".as_slice()) && has(b"startup");
    let segment = words.iter().rev().find_map(|word| SegmentName::parse(word));
    Some((segment.filter(|_| is_startup)?, has(b"waiting")))
}

/// How long a process has been there.
fn age(process: &Path) -> Option<Duration> {
    let stat = fs::read(process.join("stat")).ok()?;
    let uptime = fs::read_to_string(PathBuf::from("/proc/uptime")).ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let started = Duration::from_millis(start(&stat)?.checked_mul(1000)?.checked_div(TICKS)?);
    Duration::try_from_secs_f64(uptime).ok()?.checked_sub(started)
}

/// The 22nd field of a process's `stat`; the second is a name in parentheses, which may hold anything.
fn start(stat: &[u8]) -> Option<u64> {
    let behind_name = stat.rsplit(|byte| *byte == b')').next()?;
    std::str::from_utf8(behind_name).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_of_a_startup_process_has_what_is_replayed_or_waited_for() {
        let segment = SegmentName::parse(b"00000001000000000000000A");
        for (title, expected) in [
            ("postgres: startup recovering 00000001000000000000000A", segment.zip(Some(false))),
            (
                "postgres: startup process   waiting for 00000001000000000000000A\0\0",
                segment.zip(Some(true)),
            ),
            (
                "postgres: main: startup recovering 00000001000000000000000A",
                segment.zip(Some(false)),
            ),
            ("postgres: archiver last was 00000001000000000000000A", None),
            ("postgres: startup", None),
            ("pg_standby\0/srv\x0000000001000000000000000A\0to\0", None),
        ] {
            assert_eq!(of_startup(title.as_bytes()), expected, "{title:?}");
        }
    }

    #[test]
    fn a_process_may_have_any_name() {
        let stat = b"4711 (a) 1 b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20\n";
        assert_eq!(start(stat), Some(4242));
        assert_eq!(start(b""), None);
    }
}
