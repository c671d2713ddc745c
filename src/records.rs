//! The records of standbys that share an archive: one file for each, with the segment that it still needs.
//! What is removed because of them is decided elsewhere.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::warn;

use crate::error::NotPruned;
use crate::wal::name::SegmentName;

/// The directory in the archive that holds them. A name that begins with a dot is no record.
const DIRECTORY: &str = ".pg_standby";

/// A record that says nothing new is written again after this long, so that nobody writes for each segment.
const RENEWAL: Duration = Duration::from_secs(60);

/// A standby that has not renewed its record for this long may be gone.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer than any record.
const LONGEST: u64 = 256;

struct Record {
    needed: SegmentName,
    age: Duration,
}

/// Records what the standby called `name` needs: `restart`, or where the server names no restart point, as it does
/// before redo and after it, `requested` if nothing earlier is on record. Returns whether the record had to be written.
///
/// # Errors
/// The record could not be written, or was damaged; a damaged one is replaced nevertheless.
pub fn renew(
    location: &Path,
    name: &str,
    restart: Option<SegmentName>,
    requested: SegmentName,
) -> Result<bool, NotPruned> {
    let path = location.join(DIRECTORY).join(name);
    let found = read(&path);
    let needed = match (restart, &found) {
        (Some(restart), _) => restart,
        (None, Ok(Some(record))) if record.needed.position <= requested.position => record.needed,
        (None, _) => requested,
    };
    let is_fresh = |record: &Record| record.needed == needed && record.age < RENEWAL;
    let must_write = !matches!(&found, Ok(Some(record)) if is_fresh(record));
    if must_write {
        write(location, name, needed)
            .map_err(|source| NotPruned::UnwrittenRecord { path, source })?;
    }
    found.map(|_| must_write)
}

/// The lowest of `cutoff` and what the standbys other than `own` have on record.
///
/// # Errors
/// A record that cannot be read or does not say what its standby needs.
pub fn lowest(
    location: &Path,
    cutoff: SegmentName,
    own: Option<&str>,
    warn_of_stale: bool,
) -> Result<SegmentName, NotPruned> {
    let directory = location.join(DIRECTORY);
    let unlisted = |source| NotPruned::Unlisted { path: directory.clone(), source };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(cutoff),
        Err(error) => return Err(unlisted(error)),
    };
    let mut lowest = cutoff;
    for entry in entries {
        let name = entry.map_err(unlisted)?.file_name();
        if name.as_encoded_bytes().starts_with(b".") || own.is_some_and(|own| name == own) {
            continue;
        }
        let path = directory.join(name);
        let Some(Record { needed, age }) = read(&path)? else {
            continue;
        };
        if warn_of_stale && age >= STALE {
            let hours = age.as_secs() / 3600;
            warn!(
                "{path:?} has not been renewed for {hours} hours: nothing is pruned from {needed} on; \
                 remove it if its standby is gone"
            );
        }
        if needed.position < lowest.position {
            lowest = needed;
        }
    }
    Ok(lowest)
}

/// One record; `None` where there is none.
fn read(path: &Path) -> Result<Option<Record>, NotPruned> {
    let read = fs::symlink_metadata(path).and_then(|metadata| {
        let is_record = metadata.is_file() && metadata.len() <= LONGEST;
        let content = if is_record { Some(fs::read(path)?) } else { None };
        // A file server's clock may be ahead of ours.
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        Ok((content, age))
    });
    let damaged = |found| NotPruned::DamagedRecord { path: path.to_owned(), found };
    let (content, age) = match read {
        Ok((Some(content), age)) => (content, age),
        Ok((None, _)) => return Err(damaged("no file of one line".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NotPruned::Unread { path: path.to_owned(), source }),
    };
    let Some(needed) = SegmentName::parse(content.trim_ascii()) else {
        let beginning: String = String::from_utf8_lossy(&content).chars().take(32).collect();
        return Err(damaged(format!("{beginning:?}")));
    };
    Ok(Some(Record { needed, age }))
}

/// Puts a record in the place of the one that was there. Synced before it gets its name, because a damaged record keeps
/// every standby from pruning. Who may write to the archive may write there, and everybody may read, where the file
/// system has such permissions.
fn write(location: &Path, name: &str, needed: SegmentName) -> io::Result<()> {
    let directory = location.join(DIRECTORY);
    match fs::create_dir(&directory) {
        Ok(()) => drop(fs::set_permissions(&directory, fs::metadata(location)?.permissions())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let temporary: PathBuf = directory.join(format!(".{name}"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    drop(file.set_permissions(Permissions::from_mode(0o644)));
    writeln!(file, "{needed}")?;
    file.sync_all()?;
    fs::rename(temporary, directory.join(name))
}
