//! What the standbys that share the archive have registered, as far as it can be read. What may be removed because of it
//! is the matter of `registrations`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str;
use std::time::SystemTime;

use nix::errno::Errno;

use crate::file_system::is_absence;
use crate::timestamp::Timestamp;
use crate::wal::name::SegmentName;

use super::scan::{open, open_unnoticed};

/// The directory in the archive that holds them.
const DIRECTORY: &str = ".pg_standby";

/// Longer than any registration, in bytes.
const LONGEST: u64 = 256;

/// One standby's registration.
pub struct Registered {
    /// The standby's name.
    pub name: String,
    /// The first segment that it needs, or what is wrong with the registration.
    pub needed: Result<SegmentName, String>,
    /// The segment that it asked for last, where the registration says.
    pub asked: Option<SegmentName>,
    /// When it was written last.
    pub renewed: SystemTime,
}

/// Lists the registrations, by name.
///
/// # Errors
/// Why nobody knows them all.
pub fn list(location: &Path) -> Result<Vec<Registered>, String> {
    let directory = location.join(DIRECTORY);
    let failed = |error: Errno| {
        let error = io::Error::from(error);
        format!("could not read {directory:?}: {error}")
    };
    let mut opened = match open(&directory) {
        // A symbolic link that leads nowhere is not absent.
        Err(Errno::ENOENT) if fs::symlink_metadata(&directory).is_err() => return Ok(Vec::new()),
        opened => opened.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in opened.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") {
            found.extend(read(&directory, OsStr::from_bytes(name)));
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Reads one as pruning does; `None` where it has gone.
fn read(directory: &Path, name: &OsStr) -> Option<Registered> {
    let path = directory.join(name);
    let metadata = fs::symlink_metadata(&path).ok()?;
    let may_be_one = metadata.is_file() && metadata.len() <= LONGEST;
    let opened = if may_be_one { open_unnoticed(&path).map_err(io::Error::from) } else { Ok(None) };
    let mut content = Vec::new();
    let read = opened.and_then(|opened| match opened {
        Some((file, _)) => file.take(LONGEST).read_to_end(&mut content).map(|_| true),
        None => Ok(false),
    });
    let said = match read {
        Ok(true) => parse(&content),
        Ok(false) => Err("is something other than a short file".to_owned()),
        Err(error) if is_absence(&error) => return None,
        Err(error) => Err(format!("could not be read: {error}")),
    };
    let asked = said.as_ref().ok().and_then(|(_, asked)| *asked);
    Some(Registered {
        name: name.to_string_lossy().into_owned(),
        needed: said.map(|(needed, _)| needed),
        asked,
        renewed: metadata.modified().ok()?,
    })
}

/// What is needed, and what was asked for last.
///
/// # Errors
/// What pruning would not take.
fn parse(content: &[u8]) -> Result<(SegmentName, Option<SegmentName>), String> {
    let mut lines = content.trim_ascii().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let needed = lines.next().and_then(SegmentName::parse).ok_or("names no segment")?;
    let Some(second) = lines.next() else { return Ok((needed, None)) };
    let asked = asked_in(second).ok_or("has a second line that says nothing")?;
    Ok((needed, Some(asked)))
}

fn asked_in(line: &[u8]) -> Option<SegmentName> {
    let line = str::from_utf8(line).ok()?.strip_prefix("asked for ")?;
    let (segment, since) = line.split_once(" since ")?;
    Timestamp::parse(since)?;
    SegmentName::parse(segment.as_bytes())
}
