//! What the standbys that share an archive still need: each leaves a registration there, a file that names a segment and,
//! on a second line, what was asked for last. What is removed because of them is decided elsewhere.
//!
//! A registration is renewed while its standby restores and while it waits, so its age tells whether that one is alive.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str;
use std::time::{Duration, SystemTime};

use log::warn;

use crate::error::PruneError;
use crate::file_system::{names_in, remove_if_there};
use crate::timestamp::Timestamp;
use crate::wal::name::SegmentName;

/// The directory in the archive that holds them. A name that begins with a dot is not a registration.
pub const DIRECTORY: &str = ".pg_standby";

/// A registration that needs no other segment is written again after this long, so that nobody writes for each segment.
pub const RENEWAL: Duration = Duration::from_secs(60);

/// A standby that has not renewed its registration for this long may be gone.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer than any registration, in bytes.
pub const LONGEST: u64 = 256;

/// How often the directory is listed before it counts as one that never holds still.
const LISTINGS: usize = 8;

/// What one standby has registered.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// The oldest segment that it still needs.
    pub needed: SegmentName,
    /// What it has asked for last; `None` where an earlier version wrote it, or somebody by hand.
    pub asked: Option<Asked>,
    /// How long ago it was written.
    pub age: Duration,
}

/// A request of a standby's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The segment.
    pub segment: SegmentName,
    /// Since when it has been asked for.
    pub since: Timestamp,
}

/// What became of the own registration.
#[derive(Debug)]
pub enum Renewal {
    /// It was written.
    Written,
    /// It said the same already, and was not old.
    Fresh,
    /// It could not be written, so that what it said before still counts, if it said anything.
    Failed(PathBuf, io::Error),
}

/// Registers what the standby called `name` needs: `restart`, or where the server names no restart point, as it does
/// before redo and after it, what it has `asked` for if nothing earlier is registered.
///
/// # Errors
/// The registration was damaged; it has been replaced nevertheless.
pub fn renew(
    location: &Path,
    name: &str,
    restart: Option<SegmentName>,
    asked: Option<Asked>,
) -> Result<Renewal, PruneError> {
    let path = location.join(DIRECTORY).join(name);
    let found = read(&path);
    let known = found.as_ref().ok().copied().flatten();
    let needed = match (restart, asked, known) {
        (Some(restart), ..) => restart,
        (None, Some(asked), Some(known)) if known.needed.position <= asked.segment.position => {
            known.needed
        }
        (None, Some(asked), _) => asked.segment,
        (None, None, _) => return Ok(Renewal::Fresh),
    };
    if known.is_some_and(|it| it.needed == needed && it.age < RENEWAL) {
        return Ok(Renewal::Fresh);
    }
    // Whoever asks again for the same segment has been waiting for it since the first time.
    let before = known.and_then(|it| it.asked);
    let asked = match asked {
        Some(now) => before.filter(|it| it.segment == now.segment).or(Some(now)),
        None => before,
    };
    if let Err(error) = write(location, name, needed, asked) {
        return Ok(Renewal::Failed(path, error));
    }
    found.map(|_| Renewal::Written)
}

/// Returns the lowest of `cutoff` and what the standbys other than `own` have registered.
///
/// # Errors
/// A registration cannot be read, or does not say what its standby needs.
pub fn lowest(
    location: &Path,
    cutoff: SegmentName,
    own: Option<&str>,
    warn_of_stale: bool,
) -> Result<SegmentName, PruneError> {
    let mut lowest = cutoff;
    for (name, Registration { needed, age, .. }) in list(location)? {
        if own.is_some_and(|own| name == own) {
            continue;
        }
        if warn_of_stale && age >= STALE {
            let path = location.join(DIRECTORY).join(name);
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

/// One listing of the registrations, and when their directory was changed last; `None` where there is no directory.
type Listing = (Option<SystemTime>, BTreeMap<OsString, Registration>);

/// Lists the registrations in the archive at `location`, each with the name of its standby.
///
/// It reads until two listings in a row agree. On btrfs a file that is renamed between the opening of its directory and the
/// first read of it is not listed, under either name.
///
/// # Errors
/// A registration cannot be read, or does not say what its standby needs.
pub fn list(location: &Path) -> Result<BTreeMap<OsString, Registration>, PruneError> {
    let directory = &location.join(DIRECTORY);
    let mut before: Option<Listing> = None;
    for _ in 0..LISTINGS {
        let listing = match list_once(directory) {
            Err(PruneError::ListDirectory { source, .. })
                if source.kind() == io::ErrorKind::NotFound && is_missing(directory) =>
            {
                Some((None, BTreeMap::new()))
            }
            listing => listing?,
        };
        if let (Some((then, earlier)), Some((now, found))) = (&before, &listing) {
            if then == now && earlier.keys().eq(found.keys()) {
                return Ok(listing.map(|(_, found)| found).unwrap_or_default());
            }
        }
        before = listing;
    }
    Err(PruneError::Unsteady { path: directory.clone() })
}

/// Returns whether nothing has that name: where a link leads to may not be mounted.
fn is_missing(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Lists the registrations; `None` where one was gone before it was read.
fn list_once(directory: &Path) -> Result<Option<Listing>, PruneError> {
    let failed = |source| PruneError::ListDirectory { path: directory.to_owned(), source };
    let modified = fs::metadata(directory).and_then(|it| it.modified()).map_err(failed)?;
    let mut found = BTreeMap::new();
    for name in names_in(directory).map_err(failed)? {
        let name = name.map_err(failed)?;
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Some(registration) = read(&directory.join(&name))? else {
            return Ok(None);
        };
        found.insert(name, registration);
    }
    Ok(Some((Some(modified), found)))
}

/// Reads one registration; `None` where there is none.
fn read(path: &Path) -> Result<Option<Registration>, PruneError> {
    let read = fs::symlink_metadata(path).and_then(|metadata| {
        let may_be_one = metadata.is_file() && metadata.len() <= LONGEST;
        let content = if may_be_one { Some(fs::read(path)?) } else { None };
        // A file server's clock may be ahead of ours.
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        Ok((content, age))
    });
    let damaged = |found| PruneError::DamagedRegistration { path: path.to_owned(), found };
    let (content, age) = match read {
        Ok((Some(content), age)) => (content, age),
        Ok((None, _)) => return Err(damaged("something other than a short file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PruneError::ReadFile { path: path.to_owned(), source }),
    };
    let Ok((needed, asked)) = parse(&content) else {
        let beginning: String = String::from_utf8_lossy(&content).chars().take(32).collect();
        return Err(damaged(format!("{beginning:?}")));
    };
    Ok(Some(Registration { needed, asked, age }))
}

/// Reads what a registration says: the segment that is needed, and what was asked for last, if it says that.
///
/// # Errors
/// What is wrong with it.
pub fn parse(content: &[u8]) -> Result<(SegmentName, Option<Asked>), &'static str> {
    let mut lines = content.trim_ascii().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let needed = lines.next().and_then(SegmentName::parse).ok_or("names no segment")?;
    let Some(second) = lines.next() else { return Ok((needed, None)) };
    let asked = Asked::parse(second).ok_or("has a second line that says nothing")?;
    Ok((needed, Some(asked)))
}

impl Asked {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?.strip_prefix("asked for ")?;
        let (segment, since) = line.split_once(" since ")?;
        let segment = SegmentName::parse(segment.as_bytes())?;
        Some(Self { segment, since: Timestamp::parse(since)? })
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked for {} since {}", self.segment, self.since)
    }
}

/// Replaces a registration. It is synced before it gets its name, because a damaged one keeps every standby from pruning.
/// Who may write to the archive may write there, and everybody may read, where the file system has such permissions.
fn write(location: &Path, name: &str, needed: SegmentName, asked: Option<Asked>) -> io::Result<()> {
    let directory = location.join(DIRECTORY);
    match fs::create_dir(&directory) {
        Ok(()) => drop(fs::set_permissions(&directory, fs::metadata(location)?.permissions())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let temporary: PathBuf = directory.join(format!(".{name}"));
    remove_if_there(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    drop(file.set_permissions(Permissions::from_mode(0o644)));
    let asked = asked.map(|asked| format!("{asked}\n")).unwrap_or_default();
    file.write_all(format!("{needed}\n{asked}").as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, directory.join(name))
}
