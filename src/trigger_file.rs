//! What does the trigger file say, and whose is it? Also leaves the mark of a failover in it. When it is read, and what
//! follows, is decided in `failover`.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::file_system::{OpenError, is_absence, not_regular, open_regular};
use crate::lease;
use crate::permission::user_name;
use crate::wal::name::{Position, SegmentName};

/// Bytes that are read: more than any word that counts has, with white space around it.
const LONGEST: u64 = 1024;

/// A trigger file as it was found.
pub struct TriggerFile {
    /// The beginning of what is in it.
    pub content: Vec<u8>,
    /// Owner, size and times.
    pub metadata: Metadata,
    /// Whether nobody had it open for writing any more when it was read.
    pub is_closed: bool,
}

/// What a trigger file asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing is in it: smart, unless its writer is about to write something else.
    Empty,
    /// Smart failover.
    Smart,
    /// The mark of an earlier failover, which ended recovery before this position.
    SmartBefore(Position),
    /// Fast failover.
    Fast,
}

impl TriggerFile {
    /// Reads the trigger file; `None` if there is none. An empty one counts even if permission to read it is missing.
    ///
    /// # Errors
    /// It cannot be read, or is not a regular file.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        // A device is not even opened.
        let metadata = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(not_regular()),
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let opened = open_regular(path, OpenOptions::new().read(true), OFlag::empty());
        match opened {
            Ok(Some((file, metadata))) => Self::read_open(file, metadata).map(Some),
            Ok(None) => Err(not_regular()),
            Err(OpenError::NotOpened(error)) if is_absence(&error) => Ok(None),
            Err(OpenError::NotOpened(error))
                if error.kind() == io::ErrorKind::PermissionDenied && metadata.len() == 0 =>
            {
                Ok(Some(Self { content: Vec::new(), metadata, is_closed: false }))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read_open(file: File, metadata: Metadata) -> io::Result<Self> {
        let is_closed = lease::has_writer(&file) == Some(false);
        let mut content = Vec::new();
        file.take(LONGEST).read_to_end(&mut content)?;
        Ok(Self { content, metadata, is_closed })
    }

    /// Returns the owner's name, or the number if it has none.
    #[must_use]
    pub fn owner(&self) -> String {
        user_name(self.metadata.uid())
    }
}

impl Word {
    /// Reads the first word of a trigger file, whatever its letter case; `None` if it has no meaning.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
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

/// Leaves a mark in the trigger file: from now on it asks for `smart before SEGMENT`.
///
/// The line is written first, and then the rest of the file is cut off. In between the first line already counts. The
/// other order could leave an empty file, which means something else.
///
/// # Errors
/// It cannot be written to, is a symbolic link, or is not a regular file.
pub fn leave_mark(path: &Path, segment: SegmentName) -> io::Result<()> {
    let opened = open_regular(path, OpenOptions::new().write(true), OFlag::O_NOFOLLOW)?;
    let (file, _) = opened.ok_or_else(not_regular)?;
    let line = format!("smart before {segment}\n");
    file.write_all_at(line.as_bytes(), 0)?;
    file.set_len(line.len().try_into().unwrap_or(u64::MAX))
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
