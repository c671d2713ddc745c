//! The faults: to the archive, to the destination, to programs and servers. Those of single segments are in `segments`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::machine::{Doing, Result, wait_for};
use crate::seconds;
use crate::segments::{Bad, Writing};
use crate::stage::{Stage, Stop, end};

#[derive(Clone, Copy)]
pub enum Fault {
    ArchiveRenamed,
    ArchiveEmptied,
    ArchiveUnreadable,
    NoRoom,
    ProgramKilled(Signal),
    StandbyStopped(Stop),
    Segment(Bad),
    SegmentGrowing,
    SegmentPreallocated,
    SegmentsReplaced,
}

impl Fault {
    pub fn all() -> Vec<Self> {
        let others = [
            Self::ArchiveRenamed,
            Self::ArchiveEmptied,
            Self::ArchiveUnreadable,
            Self::NoRoom,
            Self::SegmentGrowing,
            Self::SegmentPreallocated,
            Self::SegmentsReplaced,
        ];
        let programs = [Signal::SIGKILL, Signal::SIGTERM].map(Self::ProgramKilled);
        let standbys = [Stop::Fast, Stop::Immediate, Stop::Kill].map(Self::StandbyStopped);
        let segments = Bad::ALL.map(Self::Segment);
        others.into_iter().chain(programs).chain(standbys).chain(segments).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::ArchiveRenamed => "archive renamed away",
            Self::ArchiveEmptied => "archive emptied",
            Self::ArchiveUnreadable => "archive unreadable",
            Self::NoRoom => "destination full",
            Self::ProgramKilled(Signal::SIGKILL) => "kill -9 of pg_standby",
            Self::ProgramKilled(_) => "kill -TERM of pg_standby",
            Self::StandbyStopped(Stop::Fast) => "fast shutdown of the standby",
            Self::StandbyStopped(Stop::Immediate) => "immediate shutdown of the standby",
            Self::StandbyStopped(Stop::Kill) => "kill -9 of the postmaster",
            Self::Segment(bad) => bad.name(),
            Self::SegmentGrowing => "segment written slowly",
            Self::SegmentPreallocated => "segment set to its length, then written",
            Self::SegmentsReplaced => "segments replaced while they are copied",
        }
    }
}

impl Stage {
    /// Causes the fault, mends it, and returns how the standby survived it.
    ///
    /// # Errors
    /// The standby did not survive it.
    pub fn suffer(&mut self, fault: Fault) -> Result<String> {
        self.excuse(&[]);
        if self.random.happens(30) {
            // Moves %r, and with it what is pruned.
            self.standby.sql("checkpoint")?;
        }
        let how = match fault {
            Fault::ArchiveRenamed => self.archive_is_renamed(),
            Fault::ArchiveEmptied => self.archive_is_emptied(),
            Fault::ArchiveUnreadable => self.archive_is_unreadable(),
            Fault::NoRoom => self.destination_is_full(),
            Fault::ProgramKilled(signal) => self.program_is_killed(signal),
            Fault::StandbyStopped(how) => self.standby_is_stopped(how),
            Fault::Segment(bad) => self.segment_is(bad),
            Fault::SegmentGrowing => self.segment_is_written(Writing::Growing),
            Fault::SegmentPreallocated => self.segment_is_written(Writing::Preallocated),
            Fault::SegmentsReplaced => self.segments_are_replaced(),
        }?;
        let caught_up = self.catch_up()?;
        let pause = self.random.milliseconds(0, 800);
        self.linger(pause)?;
        Ok(format!("{how}; caught up in {}", seconds(caught_up)))
    }

    fn archive_is_renamed(&mut self) -> Result<String> {
        self.excuse(&[end::NO_ARCHIVE]);
        self.hit_it_when_busy()?;
        let archive = self.machine.archive();
        let away = self.machine.path().join("archive.away");
        fs::rename(&archive, &away).doing("renaming the archive")?;
        let how = self.while_it_lasts()?;
        fs::rename(&away, &archive).doing("renaming the archive back")?;
        Ok(how)
    }

    fn archive_is_emptied(&mut self) -> Result<String> {
        self.hit_it_when_busy()?;
        let archive = self.machine.archive();
        let aside = self.machine.path().join("aside");
        self.machine.make_directory(&aside)?;
        let moved = move_all(&archive, &aside)?;
        let how = self.while_it_lasts()?;
        move_all(&aside, &archive)?;
        fs::remove_dir(&aside).doing(aside.display())?;
        Ok(format!("{moved} files aside, {how}"))
    }

    fn archive_is_unreadable(&mut self) -> Result<String> {
        self.hit_it_when_busy()?;
        let archive = self.machine.archive();
        fs::set_permissions(&archive, Permissions::from_mode(0o000)).doing("chmod")?;
        let how = self.while_it_lasts()?;
        fs::set_permissions(&archive, Permissions::from_mode(0o700)).doing("chmod")?;
        Ok(how)
    }

    fn destination_is_full(&mut self) -> Result<String> {
        self.excuse(&[end::NO_ROOM]);
        self.machine.write(&self.limited(), "")?;
        let mut again = self.random.happens(30);
        loop {
            // A call that is already running has no limit; the next one fails with it.
            self.wait("the end of a standby without room", |stage| Ok(!stage.standby.runs()?))?;
            let reason = self.end()?;
            if !again {
                fs::remove_file(self.limited())?;
                self.start()?;
                return Ok(format!("{}, started again", short(&reason)));
            }
            self.start()?;
            again = false;
        }
    }

    fn program_is_killed(&mut self, signal: Signal) -> Result<String> {
        let killed = signal == Signal::SIGKILL;
        self.hit_it_when_busy()?;
        self.excuse(if killed { &[end::KILLED] } else { &[end::TERMINATED] });
        let mut reason = String::new();
        self.wait("a killed pg_standby", |stage| {
            let Some(pid) = stage.standby.running("pg_standby").first().copied() else {
                return Ok(false);
            };
            // It may have finished meanwhile: then there is another one to kill.
            if kill(pid, signal).is_err() {
                return Ok(false);
            }
            let grace = Duration::from_secs(2);
            if wait_for("its end", grace, || Ok(!stage.standby.runs()?)).is_err() {
                return Ok(false);
            }
            reason = stage.end()?;
            Ok(true)
        })?;
        self.start()?;
        let words = if killed { short(&reason) } else { "ended without a word" };
        Ok(format!("{words}, started again"))
    }

    fn standby_is_stopped(&mut self, how: Stop) -> Result<String> {
        self.hit_it_when_busy()?;
        let took = self.stop(how)?;
        let pause = self.random.milliseconds(0, 2500);
        self.linger(pause)?;
        self.start()?;
        Ok(format!("down in {}, started again after {}", seconds(took), seconds(pause)))
    }

    /// Half of the time it has segments to copy when it is hit, and has just been started.
    fn hit_it_when_busy(&mut self) -> Result<()> {
        if self.random.happens(50) {
            self.stop(Stop::Fast)?;
            let backlog = self.random.milliseconds(1000, 3000);
            self.linger(backlog)?;
            self.start()?;
        }
        let pause = self.random.milliseconds(0, 400);
        self.linger(pause)
    }

    /// Lets a fault last, and returns what happened. Sometimes the standby is stopped and started meanwhile.
    pub fn while_it_lasts(&mut self) -> Result<String> {
        let mut again = String::new();
        if self.random.happens(35) {
            let before = self.random.milliseconds(0, 1500);
            self.linger(before)?;
            let (how, name) = self.random.one_of(
                (Stop::Fast, "fast"),
                &[(Stop::Immediate, "immediate"), (Stop::Kill, "kill -9")],
            );
            self.stop(how)?;
            self.start()?;
            again = format!("started again ({name}), ");
        }
        let time = self.random.milliseconds(200, 3500);
        self.linger(time)?;
        if self.standby.runs()? {
            return Ok(format!("{again}waited {}", seconds(time)));
        }
        let reason = self.end()?;
        Ok(format!("{again}{} within {}", short(&reason), seconds(time)))
    }
}

/// What a server logs about its command, without the words that are the same for every command.
fn short(reason: &str) -> &str {
    reason.trim_start_matches("child process ").trim_start_matches("was ")
}

/// Moves the files that are not there yet, and leaves none behind. The directory of registrations stays.
fn move_all(from: &Path, to: &Path) -> Result<usize> {
    let mut moved: usize = 0;
    for entry in fs::read_dir(from).doing(from.display())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        let target = to.join(entry.file_name());
        if target.exists() {
            fs::remove_file(entry.path())?;
            continue;
        }
        match fs::rename(entry.path(), target) {
            // Pruned meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            renamed => {
                renamed.doing(entry.path().display())?;
                moved = moved.saturating_add(1);
            }
        }
    }
    Ok(moved)
}
