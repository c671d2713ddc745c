//! Where a run takes place: an archive, a data directory, a trigger file, and what can happen to them meanwhile.
//! Each worker has a place of its own, which is cleared before each run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wal;

/// The segments that stages may need; the others are links to these, as to write them takes longer than a run.
pub const SEGMENTS: [&str; 5] = [
    "000000010000000000000001",
    "000000010000000000000002",
    "000000010000000000000003",
    "000000010000000000000004",
    "000000010000000000000005",
];

/// The segment that most runs ask for.
pub const WANTED: &str = SEGMENTS[2];
/// Compressed forms.
pub const COMPRESSED: &str = "000000010000000000000003.zst";
pub const COMPRESSED_HISTORY: &str = "00000002.history.zst";
pub const HISTORY: &str = "00000002.history";
pub const BACKUP_HISTORY: &str = "000000010000000000000003.00000028.backup";

/// Says that the archive is mounted.
pub const MOUNTED: &str = "mounted";

/// What somebody else does while the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The file is renamed into the archive.
    Arrives(&'static str),
    /// The archive, with all that may be asked for, takes the place of the empty directory that it is mounted on.
    Mounts,
    /// The other standby replaces its registration by one that says the same.
    Renews,
    /// The data directory is one of the cluster that wrote the archive.
    Matches,
    /// The server follows the timeline that it asks for.
    Follows,
    /// Somebody decompresses the history file where it is.
    Decompresses,
    /// A signal comes.
    Signal(Signal),
}

pub struct Place {
    root: PathBuf,
    pool: PathBuf,
}

/// The files of a directory and of those in it: inode and length, as nobody may touch the archive's bytes.
pub type Listing = BTreeMap<String, (u64, u64)>;

impl Place {
    /// An empty one in `root`.
    pub fn new(root: &Path) -> io::Result<Self> {
        let place = Self { root: root.join("place"), pool: root.join("pool") };
        fs::create_dir_all(&place.pool)?;
        for name in SEGMENTS {
            fs::write(place.pool.join(name), wal::segment(name))?;
        }
        fs::write(place.pool.join(COMPRESSED), wal::zstd(&wal::segment(WANTED))?)?;
        fs::write(place.pool.join(HISTORY), wal::HISTORY)?;
        fs::write(place.pool.join(COMPRESSED_HISTORY), wal::zstd(wal::HISTORY.as_bytes())?)?;
        fs::write(place.pool.join(BACKUP_HISTORY), wal::BACKUP_HISTORY)?;
        Ok(place)
    }

    pub fn clear(&self) -> io::Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        for directory in [self.archive(), self.data().join("pg_wal"), self.aside()] {
            fs::create_dir_all(directory)?;
        }
        Ok(())
    }

    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// The working directory of the program.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub fn trigger(&self) -> PathBuf {
        self.root.join("trigger")
    }

    /// What the tracer and the program write.
    pub fn output(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn aside(&self) -> PathBuf {
        self.root.join("aside")
    }

    /// Puts files of WAL into the archive.
    pub fn archived(&self, names: &[&str]) -> io::Result<()> {
        names.iter().try_for_each(|name| self.link(name, &self.archive()))
    }

    /// Puts a segment into the archive that is still being received.
    pub fn received(&self, name: &str) -> io::Result<()> {
        let partial = self.archive().join(format!("{name}.partial"));
        fs::hard_link(self.pool.join(name), partial)
    }

    /// Leaves a segment that has been replayed in the server's own directory.
    pub fn replayed(&self, name: &str) -> io::Result<()> {
        self.link(name, &self.data().join("pg_wal"))
    }

    fn link(&self, name: &str, directory: &Path) -> io::Result<()> {
        fs::hard_link(self.pool.join(name), directory.join(name))
    }

    pub fn triggered(&self, content: &str) -> io::Result<()> {
        fs::write(self.trigger(), content)
    }

    /// Leaves a file in the data directory.
    pub fn in_data(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.data().join(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, content)
    }

    /// Another standby that uses the archive needs `segment`.
    pub fn registered(&self, segment: &str) -> io::Result<()> {
        let directory = self.archive().join(".pg_standby");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("other"), format!("{segment}\n"))
    }

    /// Lets `event` happen; a signal goes to `program`.
    pub fn happens(&self, event: Event, program: Option<Pid>) -> io::Result<()> {
        let aside = self.aside();
        match event {
            Event::Arrives(name) => {
                if !self.archive().join(name).exists() {
                    self.link(name, &aside)?;
                    fs::rename(aside.join(name), self.archive().join(name))?;
                }
            }
            Event::Mounts => {
                if !self.archive().join(MOUNTED).exists() {
                    let volume = aside.join("volume");
                    fs::create_dir(&volume)?;
                    fs::write(volume.join(MOUNTED), "")?;
                    for name in [WANTED, HISTORY] {
                        self.link(name, &volume)?;
                    }
                    fs::rename(volume, self.archive())?;
                }
            }
            Event::Renews => {
                let directory = self.archive().join(".pg_standby");
                fs::copy(directory.join("other"), directory.join(".other"))?;
                fs::rename(directory.join(".other"), directory.join("other"))?;
            }
            Event::Matches => {
                self.in_data("global/pg_control", &wal::SYSTEM_IDENTIFIER.to_ne_bytes())?;
            }
            Event::Follows => {
                let history = self.data().join("pg_wal").join(HISTORY);
                if history.exists() {
                    fs::remove_file(history)?;
                }
            }
            Event::Decompresses => {
                self.happens(Event::Arrives(HISTORY), program)?;
                if let Err(error) = fs::remove_file(self.archive().join(COMPRESSED_HISTORY)) {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
                }
            }
            Event::Signal(signal) => {
                if let Some(program) = program {
                    // It may just have ended.
                    let _ = kill(program, signal);
                }
            }
        }
        Ok(())
    }

    /// What a whole copy of `name` has in it.
    pub fn bytes_of(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.pool.join(name))
    }

    pub fn listing(&self) -> io::Result<Listing> {
        let mut listing = Listing::new();
        list(&self.archive(), "", &mut listing)?;
        Ok(listing)
    }

    /// What the archive lent has been written to by nobody.
    pub fn is_untouched(&self) -> io::Result<bool> {
        for name in SEGMENTS {
            if fs::read(self.pool.join(name))? != wal::segment(name) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn list(directory: &Path, prefix: &str, listing: &mut Listing) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list(&entry.path(), &format!("{name}/"), listing)?;
        } else {
            listing.insert(name, (metadata.ino(), metadata.len()));
        }
    }
    Ok(())
}
