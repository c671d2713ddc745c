//! What the standbys that share the archive have registered, as far as it can be read. What may be removed because of it
//! is the matter of `registrations`.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

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
    /// The first segment that it needs; `None` where the registration does not say.
    pub needed: Option<SegmentName>,
    /// The segment that it asked for last, where the registration says.
    pub asked: Option<SegmentName>,
    /// When it was written last.
    pub renewed: SystemTime,
}

/// Lists the registrations, by name.
#[must_use]
pub fn list(location: &Path) -> Vec<Registered> {
    let directory = location.join(DIRECTORY);
    let mut found = Vec::new();
    for entry in open(&directory).iter_mut().flat_map(|open| open.iter()).map_while(Result::ok) {
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") {
            found.extend(read(&directory, OsStr::from_bytes(name)));
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Reads one; `None` where it has gone.
fn read(directory: &Path, name: &OsStr) -> Option<Registered> {
    let (file, metadata) = open_unnoticed(&directory.join(name)).ok()??;
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content).ok()?;
    let mut lines = content.split(|byte| *byte == b'\n');
    let mut segment_in = || {
        let mut words = lines.next()?.split(u8::is_ascii_whitespace);
        words.find_map(SegmentName::parse)
    };
    Some(Registered {
        name: name.to_string_lossy().into_owned(),
        needed: segment_in(),
        asked: segment_in(),
        renewed: metadata.modified().ok()?,
    })
}
