//! The faults of single segments. Archiving is held, so that the soak alone decides what the archive has of the
//! segments that come next.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::header::Header;
use crate::machine::{Doing, Failure, Result};
use crate::seconds;
use crate::stage::Stage;

/// In this time what lasts is said: a sleep time, and a look.
const SAID_AFTER: Duration = Duration::from_secs(5);
const PIECE: usize = 8192;

/// What is in the archive in place of a segment.
#[derive(Clone, Copy)]
pub enum Bad {
    Truncated,
    Empty,
    Zeroed,
    Oversized,
    OtherCluster,
    OtherLsn,
    LaterTimeline,
    Directory,
    Fifo,
    Unreadable,
}

/// How a good segment comes.
#[derive(Clone, Copy)]
pub enum Writing {
    /// Renamed into place.
    Renamed,
    /// Over what is there, by the soak.
    Over,
    /// By the primary's archiver, with `cp`.
    Archived,
    /// Piece by piece.
    Growing,
    /// Piece by piece after the length has been set.
    Preallocated,
}

impl Bad {
    pub const ALL: [Self; 10] = [
        Self::Truncated,
        Self::Empty,
        Self::Zeroed,
        Self::Oversized,
        Self::OtherCluster,
        Self::OtherLsn,
        Self::LaterTimeline,
        Self::Directory,
        Self::Fifo,
        Self::Unreadable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "segment truncated",
            Self::Empty => "segment empty",
            Self::Zeroed => "segment zeroed",
            Self::Oversized => "segment oversized",
            Self::OtherCluster => "segment of another cluster",
            Self::OtherLsn => "segment with another LSN",
            Self::LaterTimeline => "segment of a later timeline",
            Self::Directory => "directory in place of the segment",
            Self::Fifo => "FIFO in place of the segment",
            Self::Unreadable => "segment unreadable",
        }
    }
}

impl Stage {
    /// One or several bad ones in place of the next segment, then the good one.
    pub fn segment_is(&mut self, first: Bad) -> Result<String> {
        self.hold()?;
        let (name, good) = self.next_segment()?;
        let begin = Instant::now();
        self.put_bad(&name, &good, first)?;
        let how = if self.random.happens(50) {
            self.wait_until_said(&name)?
        } else {
            let how = self.while_it_lasts()?;
            self.check_not_taken(&name)?;
            how
        };
        let mut count: u32 = 1;
        while self.random.happens(35) {
            let another = self.random.one_of(Bad::Truncated, &Bad::ALL);
            self.put_bad(&name, &good, another)?;
            let time = self.random.milliseconds(0, 1200);
            self.linger(time).and_then(|()| self.check_not_taken(&name)).doing(another.name())?;
            count = count.saturating_add(1);
        }
        let lasted = begin.elapsed();
        let mend = self.random.one_of(
            Writing::Renamed,
            &[Writing::Over, Writing::Archived, Writing::Growing, Writing::Preallocated],
        );
        self.put_good(&name, &good, mend)?;
        self.wait_until_taken(&name)?;
        if !matches!(mend, Writing::Archived) {
            self.release()?;
        }
        let several =
            if count > 1 { format!(", {} more", count.saturating_sub(1)) } else { String::new() };
        let mended = match mend {
            Writing::Renamed => "replaced",
            Writing::Over => "written over",
            Writing::Archived => "archived again",
            Writing::Growing => "written slowly",
            Writing::Preallocated => "allocated, then written",
        };
        Ok(format!("{how}{several}; {mended} after {}", seconds(lasted)))
    }

    /// The next segment comes slowly.
    pub fn segment_is_written(&mut self, writing: Writing) -> Result<String> {
        self.hold()?;
        let (name, good) = self.next_segment()?;
        let begin = Instant::now();
        self.put_good(&name, &good, writing)?;
        let took = begin.elapsed();
        self.wait_until_taken(&name)?;
        self.release()?;
        Ok(format!("waited {} for its end", seconds(took)))
    }

    /// Several segments come while others take their place again and again, good and bad, and the good ones are
    /// written over and grow.
    pub fn segments_are_replaced(&mut self) -> Result<String> {
        self.hold()?;
        let (mut name, mut good) = self.next_segment()?;
        let mut times: u32 = 0;
        let segments = self.random.between(2, 5);
        for turn in 1..=segments {
            for _ in 0..self.random.between(5, 25) {
                self.replace_once(&name, &good)?;
                times = times.saturating_add(1);
            }
            self.put(&name, &good)?;
            self.wait_until_taken(&name)?;
            if turn < segments {
                (name, good) = self.next_segment()?;
            }
        }
        self.release()?;
        Ok(format!("{times} times on {segments} segments"))
    }

    fn replace_once(&mut self, name: &str, good: &[u8]) -> Result<()> {
        let path = self.archived(name);
        match self.random.between(0, 3) {
            0 => self.put(name, good)?,
            1 => {
                let regular = [Bad::Empty, Bad::Zeroed, Bad::Oversized, Bad::OtherCluster];
                let bad = self.random.one_of(Bad::Truncated, &regular);
                self.put_bad(name, good, bad)?;
                sleep(self.random.milliseconds(0, 20));
                self.put(name, good)?;
            }
            2 => {
                self.put(name, good)?;
                sleep(self.random.milliseconds(0, 4));
                write_over(&path, good)?;
            }
            _ => {
                self.put(name, good)?;
                sleep(self.random.milliseconds(0, 4));
                let mut file = OpenOptions::new().append(true).open(&path).doing(name)?;
                file.write_all(&[0; PIECE])?;
                drop(file);
                sleep(self.random.milliseconds(0, 10));
                let file = OpenOptions::new().write(true).open(&path).doing(name)?;
                file.set_len(u64::try_from(good.len())?)?;
            }
        }
        sleep(self.random.milliseconds(0, 10));
        Ok(())
    }

    /// A bad one stays until `pg_standby` has said so; gives what it said.
    fn wait_until_said(&mut self, name: &str) -> Result<String> {
        let begin = Instant::now();
        while self.log.said_of(name).is_none() {
            if begin.elapsed() > SAID_AFTER {
                let message = format!(
                    "pg_standby has not said within {SAID_AFTER:?} why it does not take {name}"
                );
                return Err(Failure::new(message));
            }
            self.linger(Duration::from_millis(100))?;
        }
        self.check_not_taken(name)?;
        Ok(format!("`{}`", self.log.said_of(name).unwrap_or_default()))
    }

    /// It is what the standby waits for, once it has come back to it if it was started again.
    fn check_not_taken(&mut self, name: &str) -> Result<()> {
        let what = format!("a pg_standby that waits for {name}, which is bad");
        self.wait(&what, |stage| {
            stage.revive()?;
            match stage.wanted() {
                Some(wanted) if is_later(&wanted, name) => Err(Failure::new(format!(
                    "{name} was taken before it was good: the standby waits for {wanted}"
                ))),
                wanted => Ok(wanted.as_deref() == Some(name)),
            }
        })
        .map(drop)
    }

    fn wait_until_taken(&mut self, name: &str) -> Result<()> {
        self.wait(&format!("a pg_standby that has taken {name}"), |stage| {
            stage.revive()?;
            Ok(stage.wanted().is_some_and(|wanted| is_later(&wanted, name)))
        })
        .map(drop)
    }

    fn put_bad(&mut self, name: &str, good: &[u8], bad: Bad) -> Result<()> {
        let mut bytes = good.to_vec();
        let incoming = self.machine.path().join("incoming");
        match bad {
            Bad::Truncated => {
                bytes.truncate(self.random.length_between(1, good.len().saturating_sub(1)));
            }
            Bad::Empty => bytes.clear(),
            Bad::Zeroed => bytes.fill(0),
            Bad::Oversized => {
                bytes.resize(good.len().saturating_add(self.random.length_between(1, 100_000)), 0);
            }
            Bad::OtherCluster => change(&mut bytes, |header| {
                header.system_identifier = header.system_identifier.wrapping_add(1);
            })?,
            Bad::OtherLsn => {
                // A segment that is recycled holds an earlier part of WAL.
                let back = self.segment_size().saturating_mul(self.random.between(1, 3));
                change(&mut bytes, |header| header.lsn = header.lsn.wrapping_sub(back))?;
            }
            Bad::LaterTimeline => {
                let timeline = self.random.between(2, 9).try_into()?;
                change(&mut bytes, |header| header.timeline = timeline)?;
            }
            Bad::Directory | Bad::Fifo => {
                self.clear(name)?;
                let path = self.archived(name);
                if matches!(bad, Bad::Directory) {
                    return self.machine.make_directory(&path);
                }
                mkfifo(&path, Mode::from_bits_truncate(0o600)).doing(name)?;
                return self.machine.give_to_server(&path);
            }
            Bad::Unreadable => {
                self.clear(name)?;
                self.machine.write(&incoming, &bytes)?;
                fs::set_permissions(&incoming, Permissions::from_mode(0o000))?;
                return fs::rename(&incoming, self.archived(name)).doing(name);
            }
        }
        // A regular file takes the place of another one by a rename, or as `cp` would bring it.
        let over = fs::symlink_metadata(self.archived(name)).is_ok_and(|metadata| {
            metadata.is_file() && metadata.permissions().mode() & 0o600 == 0o600
        });
        if over && self.random.happens(25) {
            return write_over(&self.archived(name), &bytes);
        }
        self.put(name, &bytes)
    }

    /// Renames a file with these bytes into place.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let incoming = self.machine.path().join("incoming");
        self.machine.write(&incoming, bytes)?;
        if self.archived(name).is_dir() {
            self.clear(name)?;
        }
        fs::rename(&incoming, self.archived(name)).doing(name)
    }

    fn put_good(&mut self, name: &str, good: &[u8], writing: Writing) -> Result<()> {
        let path = self.archived(name);
        match writing {
            Writing::Renamed => self.put(name, good),
            Writing::Over => {
                self.clear_unless_regular(name)?;
                if !path.exists() {
                    self.put(name, &[])?;
                }
                write_over(&path, good)
            }
            Writing::Archived => {
                self.clear_unless_regular(name)?;
                self.release()
            }
            Writing::Growing => {
                self.put(name, &[])?;
                let file = OpenOptions::new().write(true).open(&path).doing(name)?;
                self.write_slowly(&file, name, good, false)
            }
            Writing::Preallocated => {
                self.put(name, &[])?;
                let file = OpenOptions::new().write(true).open(&path).doing(name)?;
                file.set_len(u64::try_from(good.len())?)?;
                let backwards = self.random.happens(30);
                self.write_slowly(&file, name, good, backwards)
            }
        }
    }

    /// Writes in pieces; none of the pauses is as long as the sleep time, after which a writer at rest is believed.
    fn write_slowly(
        &mut self,
        file: &File,
        name: &str,
        good: &[u8],
        backwards: bool,
    ) -> Result<()> {
        let count = self.random.length_between(4, 12);
        let size = good.len().checked_div(count).unwrap_or(good.len()).max(1);
        let mut pieces: Vec<(usize, &[u8])> = good
            .chunks(size)
            .enumerate()
            .map(|(index, piece)| (index.saturating_mul(size), piece))
            .collect();
        if backwards {
            pieces.reverse();
        }
        let last = pieces.len().saturating_sub(1);
        for (index, (offset, piece)) in pieces.into_iter().enumerate() {
            if index == last {
                self.check_not_taken(name)?;
            }
            file.write_all_at(piece, u64::try_from(offset)?)?;
            if index < last {
                sleep(self.random.milliseconds(10, 300));
            }
        }
        Ok(())
    }

    fn clear_unless_regular(&self, name: &str) -> Result<()> {
        match fs::symlink_metadata(self.archived(name)) {
            Ok(metadata)
                if metadata.is_file() && metadata.permissions().mode() & 0o600 == 0o600 =>
            {
                Ok(())
            }
            _ => self.clear(name),
        }
    }

    /// Removes what has this name, if anything.
    fn clear(&self, name: &str) -> Result<()> {
        let path = self.archived(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir(&path).doing(name),
            Ok(_) => fs::remove_file(&path).doing(name),
            Err(_) => Ok(()),
        }
    }
}

fn is_later(wanted: &str, name: &str) -> bool {
    wanted.len() == name.len() && wanted > name
}

/// As `cp` writes over a file that is there: it is empty first, and grows.
fn write_over(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).truncate(true).open(path).doing(path.display())?;
    for piece in bytes.chunks(1 << 17) {
        file.write_all(piece)?;
    }
    Ok(())
}

/// Changes what the header of a segment says.
fn change(segment: &mut [u8], how: impl FnOnce(&mut Header)) -> Result<()> {
    let mut header = Header::of(segment).ok_or_else(|| Failure::new("no header"))?;
    how(&mut header);
    header.put_on(segment);
    Ok(())
}
