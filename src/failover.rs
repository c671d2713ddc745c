//! Has somebody asked for failover? Signals, the trigger file and the promote file, as one question.
//! Knows nothing of the archive.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use filetime::FileTime;
use log::warn;
use nix::fcntl::OFlag;
use nix::unistd::{Uid, User};

use crate::lease;
use crate::report::Lasting;
use crate::server;
use crate::signals::Signals;
use crate::wal::name::{Position, SegmentName};

/// A failover that somebody wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// At once, whatever is in the archive.
    Fast(By),
    /// When everything that is ready in the archive is restored.
    Smart(By),
    /// Smart for what precedes the position, fast from there on: a failover that was decided in an earlier call.
    SmartBefore(Position, By),
}

/// Who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A signal, by its name.
    Signal(&'static str),
    /// The trigger file, and the user whose file it is.
    TriggerFile(PathBuf, String),
    /// `pg_ctl promote` or `pg_promote()`.
    PromoteFile(PathBuf),
}

/// Everything that can ask for failover.
pub struct Failover<'a> {
    signals: &'a Signals,
    trigger_file: Option<&'a Path>,
    trouble: Lasting,
    empty_since: Option<Instant>,
}

/// How long an empty trigger file may be one whose writer has yet to write the word.
const SETTLING: Duration = Duration::from_millis(100);

/// More than any word that counts, white space around it included.
const LONGEST: u64 = 1024;

impl<'a> Failover<'a> {
    /// Listens to `signals`, and to `trigger_file` where there is one.
    #[must_use]
    pub fn new(signals: &'a Signals, trigger_file: Option<&'a Path>) -> Self {
        if trigger_file == Some(Path::new("")) {
            warn!(
                "the name of the trigger file is empty: only a signal or a promotion will end the wait"
            );
        }
        Self { signals, trigger_file, trouble: Lasting::default(), empty_since: None }
    }

    /// The request that counts: a signal, the trigger file, the promote file, in that order.
    pub fn asked(&mut self) -> Option<Request> {
        self.signalled().or_else(|| self.triggered()).or_else(|| {
            server::promote_file().map(|path| Request::Smart(By::PromoteFile(path.to_owned())))
        })
    }

    /// The request that a signal has brought.
    #[must_use]
    pub fn signalled(&self) -> Option<Request> {
        let by = if self.signals.usr1() {
            By::Signal("SIGUSR1")
        } else if self.signals.int() {
            By::Signal("SIGINT")
        } else {
            return None;
        };
        Some(Request::Fast(by))
    }

    /// When an empty trigger file will have settled, where there is one that has not.
    #[must_use]
    pub fn settles_at(&self) -> Option<Instant> {
        self.empty_since?.checked_add(SETTLING)
    }

    /// Uses the trigger file up: from now on it asks for `smart before SEGMENT`, so that the calls that follow, in which
    /// the server asks again for what it has or for what was refused, answer as this one does. No other request leaves
    /// a trace.
    pub fn use_up(by: &By, segment: SegmentName) {
        let By::TriggerFile(path, _) = by else { return };
        if let Err(error) = overwrite(path, &format!("smart before {segment}\n")) {
            warn!(
                "could not write to trigger file {path:?}: {error}; failover goes on, \
                 remove the file by hand or it will end recovery again"
            );
        }
    }

    fn triggered(&mut self) -> Option<Request> {
        let path = self.trigger_file?;
        let Trigger { content, metadata, is_closed } = match read(path) {
            Ok(Some(read)) => read,
            Ok(None) => {
                self.empty_since = None;
                return None;
            }
            Err(error) => {
                let trouble = format!("trigger file {path:?} is ignored: {error}");
                self.trouble.goes_on(&trouble, Duration::ZERO, &trouble);
                return None;
            }
        };
        let owner = owner(&metadata);
        let by = By::TriggerFile(path.to_owned(), owner.clone());
        match Word::parse(&content) {
            Some(Word::Empty) if !is_closed && self.is_settling(&metadata) => None,
            Some(Word::Empty | Word::Smart) => Some(Request::Smart(by)),
            Some(Word::SmartBefore(position)) => Some(Request::SmartBefore(position, by)),
            Some(Word::Fast) => Some(Request::Fast(by)),
            None => {
                let word: String = String::from_utf8_lossy(&content).chars().take(32).collect();
                let trouble = format!(
                    "trigger file {path:?} of {owner} is ignored: found {word:?}, \
                     expected nothing, \"smart\" or \"fast\""
                );
                self.trouble.goes_on(&trouble, Duration::ZERO, &trouble);
                None
            }
        }
    }

    /// `echo fast > trigger` makes an empty file first.
    fn is_settling(&mut self, metadata: &Metadata) -> bool {
        let modified = FileTime::from_last_modification_time(metadata);
        let settled = SystemTime::now().checked_sub(SETTLING).map(FileTime::from_system_time);
        // The clock of a file server may be ahead of ours: then our own patience counts.
        let seen = self.empty_since.get_or_insert_with(Instant::now);
        settled.is_some_and(|settled| modified > settled) && seen.elapsed() < SETTLING
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "{name}"),
            Self::TriggerFile(path, owner) => write!(f, "trigger file {path:?} of {owner}"),
            Self::PromoteFile(path) => write!(f, "pg_ctl promote or pg_promote() ({path:?})"),
        }
    }
}

/// What a trigger file says.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Empty,
    Smart,
    SmartBefore(Position),
    Fast,
}

impl Word {
    fn parse(content: &[u8]) -> Option<Self> {
        let content = content.trim_ascii().to_ascii_lowercase();
        if content.is_empty() {
            return Some(Self::Empty);
        }
        if content.starts_with(b"fast") {
            return Some(Self::Fast);
        }
        if !content.starts_with(b"smart") {
            return None;
        }
        let first_line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let segment = first_line
            .strip_prefix(b"smart before ")
            .and_then(|segment| SegmentName::parse(&segment.trim_ascii().to_ascii_uppercase()));
        Some(segment.map_or(Self::Smart, |segment| Self::SmartBefore(segment.position)))
    }
}

/// A trigger file as it was found.
struct Trigger {
    content: Vec<u8>,
    metadata: Metadata,
    /// Nobody had it open for writing any more before it was read.
    is_closed: bool,
}

/// The trigger file; `None` where there is none.
fn read(path: &Path) -> io::Result<Option<Trigger>> {
    match fs::metadata(path) {
        Ok(metadata) => must_be_regular(&metadata)?,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    must_be_regular(&metadata)?;
    let is_closed = lease::has_writer(&file) == Some(false);
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(Some(Trigger { content, metadata, is_closed }))
}

/// Writes the line before it cuts off what is behind it: between the two the first line already counts, and a process
/// killed there leaves no empty file, which would mean something else.
fn overwrite(path: &Path, line: &str) -> io::Result<()> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
    let file: File = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)?;
    must_be_regular(&file.metadata()?)?;
    file.write_all_at(line.as_bytes(), 0)?;
    file.set_len(line.len().try_into().unwrap_or(u64::MAX))
}

fn must_be_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The user's name, or the number where the system has no name for it.
fn owner(metadata: &Metadata) -> String {
    match User::from_uid(Uid::from_raw(metadata.uid())) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {}", metadata.uid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_count_whatever_their_case_and_the_space_around_them() {
        let before = Word::SmartBefore(Position { log: 2, segment: 0xAB });
        for (content, word) in [
            ("", Some(Word::Empty)),
            (" \t\r\n", Some(Word::Empty)),
            ("smart", Some(Word::Smart)),
            ("Smart failover please\n", Some(Word::Smart)),
            ("\n fast\n", Some(Word::Fast)),
            ("FAST", Some(Word::Fast)),
            ("faster", Some(Word::Fast)),
            ("later", None),
            ("not fast", None),
            ("\0", None),
        ] {
            assert_eq!(Word::parse(content.as_bytes()), word, "{content:?}");
        }
        for content in [
            "smart before 0000000100000002000000AB\n",
            "SMART BEFORE 0000000100000002000000ab",
            "smart before 0000000100000002000000AB\nrest of what was there",
        ] {
            assert_eq!(Word::parse(content.as_bytes()).as_ref(), Some(&before), "{content:?}");
        }
        assert_eq!(Word::parse(b"smart before noon"), Some(Word::Smart));
    }

    proptest! {
        #[test]
        fn any_content_is_read_without_a_panic(
            prefix in "(smart before |Smart |fast|)", content: Vec<u8>
        ) {
            let content = [prefix.as_bytes(), &content].concat();
            let fast = content.trim_ascii().to_ascii_lowercase().starts_with(b"fast");
            prop_assert_eq!(Word::parse(&content) == Some(Word::Fast), fast);
        }
    }
}
