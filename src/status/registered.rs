//! What the standbys that share the archive have registered, as far as it can be read. What may be removed because of it
//! is the matter of `registrations`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;

use crate::file_system::is_absence;
use crate::registrations::{DIRECTORY, LONGEST, parse};
use crate::wal::name::SegmentName;

use super::scan::{open, open_unnoticed};

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
        Ok(true) => parse(&content).map_err(str::to_owned),
        Ok(false) => Err("is something other than a short file".to_owned()),
        Err(error) if is_absence(&error) => return None,
        Err(error) => Err(format!("could not be read: {error}")),
    };
    let asked = said.as_ref().ok().and_then(|(_, asked)| *asked).map(|asked| asked.segment);
    Some(Registered {
        name: name.to_string_lossy().into_owned(),
        needed: said.map(|(needed, _)| needed),
        asked,
        renewed: metadata.modified().ok()?,
    })
}
