//! A directory that looks like a standby's, in which the program is asked for segments as a server asks; and every segment
//! of an archive asked for in order, each of which must be taken.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::archive::Archive;
use crate::header::Header;
use crate::judge::WalDump;
use crate::layout::OVERWRITTEN;
use crate::machine::{Doing, Failure, Result};
use crate::random::Random;
use crate::terminal::Interrupted;

/// Longer segments are not tried with rubbish beside them, as that takes its time.
const LONGEST_WITH_RUBBISH: u64 = 64 << 20;

/// What was taken.
#[derive(Default)]
pub struct Taken {
    segments: u64,
    bytes: u64,
    /// Without the zeros that end a segment.
    written: u64,
    records: u64,
    /// Records that a crash had cut, and that were overwritten by the next.
    overwritten: u64,
    /// Segments in which a timeline ends.
    turns: u64,
    judged: u64,
}

impl Taken {
    pub fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.bytes += other.bytes;
        self.written += other.written;
        self.records += other.records;
        self.overwritten += other.overwritten;
        self.turns += other.turns;
        self.judged += other.judged;
    }
}

impl Taken {
    fn look_at_pages(&mut self, segment: &[u8]) {
        let Some(first) = Header::of(segment) else { return };
        let pages = segment.chunks(first.block_size as usize).map_while(Header::of);
        let mut timeline = first.timeline;
        for page in pages.take_while(|page| page.magic == first.magic) {
            self.overwritten += u64::from(page.info & OVERWRITTEN != 0);
            self.turns += u64::from(page.timeline != timeline);
            timeline = page.timeline;
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes >> 20;
        write!(
            f,
            "all {} segments taken, {} MB ({} MB without zeros at the end), {} records, {} overwritten ones, \
             {} turns to a new timeline",
            self.segments,
            mb(self.bytes),
            mb(self.written),
            self.records,
            self.overwritten,
            self.turns
        )?;
        if self.judged > 0 {
            write!(f, ", {} segments as pg_waldump counts them", self.judged)?;
        }
        Ok(())
    }
}

/// What the program answered.
pub struct Answer {
    pub taken: bool,
    pub said: String,
}

impl Answer {
    /// How many records it says it has checked.
    pub fn records(&self) -> Result<u64> {
        let (_, rest) = self.said.rsplit_once("checked ").ok_or_else(|| self.failure("silent"))?;
        Ok(rest.split(' ').next().unwrap_or_default().parse()?)
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{what}: {}", self.said))
    }
}

/// The directory of a server in standby mode, which tells a segment that is good from one that is good in part.
pub struct Standby {
    directory: TempDir,
    program: PathBuf,
    archive: PathBuf,
}

impl Standby {
    pub fn of(archive: &Archive, directory: &Path) -> Result<Self> {
        let place = tempfile::tempdir_in(archive.cluster.machine.path())?;
        let path = place.path();
        fs::create_dir_all(path.join("global"))?;
        fs::create_dir_all(path.join("pg_wal"))?;
        for file in ["PG_VERSION", "global/pg_control"] {
            fs::copy(archive.cluster.primary.data.join(file), path.join(file)).doing(file)?;
        }
        fs::write(path.join("standby.signal"), "")?;
        // What is archived of a timeline behind the branch of another one is to be read as well.
        fs::write(path.join("postgresql.conf"), "recovery_target_timeline = 'current'\n")?;
        let program = archive.cluster.machine.pg_standby();
        Ok(Self { directory: place, program, archive: directory.to_owned() })
    }

    /// Where the server keeps what it has replayed.
    pub fn wal(&self, name: &str) -> PathBuf {
        self.directory.path().join("pg_wal").join(name)
    }

    pub fn restored(&self) -> PathBuf {
        self.wal("RECOVERYXLOG")
    }

    pub fn ask(&self, name: &str) -> Result<Answer> {
        loop {
            let answer = self.ask_once(name)?;
            // What this process has open for writing is open in each of its children until they are another program.
            if !answer.said.contains("still open for writing") {
                return Ok(answer);
            }
        }
    }

    fn ask_once(&self, name: &str) -> Result<Answer> {
        let output = Command::new(&self.program)
            .args(["-d", "--no-wait"])
            .arg(&self.archive)
            .args([name, "pg_wal/RECOVERYXLOG", &format!("{}1", "0".repeat(23))])
            .current_dir(self.directory.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let taken = match output.status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => return Err(Failure::new(format!("{name}: {}: {said}", output.status))),
        };
        if taken != self.restored().exists() {
            return Err(Failure::new(format!(
                "{name}: taken: {taken}, and that is not so: {said}"
            )));
        }
        Ok(Answer { taken, said })
    }

    /// Asks for a good segment, and has it as the server has it then.
    fn take(&self, name: &str, good: &[u8]) -> Result<Answer> {
        let answer = self.ask(name)?;
        let is_part = ["is not ready", "recovery ends", "not checked"]
            .iter()
            .any(|words| answer.said.contains(words));
        if !answer.taken || is_part {
            return Err(answer.failure(&format!("{name} is good, and was refused")));
        }
        if fs::read(self.restored())? != good {
            return Err(Failure::new(format!("what was restored is not {name}")));
        }
        fs::remove_file(self.restored())?;
        Ok(answer)
    }
}

/// Asks for all segments of an archive, beside those before them, beside none, and beside rubbish.
pub fn take_all(
    archive: &Archive,
    judge: Option<&WalDump>,
    random: &mut Random,
    interrupted: &Interrupted,
) -> Result<Taken> {
    let mut taken = Taken::default();
    let server = Standby::of(archive, &archive.directory)?;
    let bare = Standby::of(archive, &archive.directory)?;
    for route in &archive.routes {
        let mut before: Option<(&String, Vec<u8>)> = None;
        for name in route {
            interrupted.check()?;
            let good = archive.read(name)?;
            if !server.wal(name).exists() {
                let answer = server.take(name, &good)?;
                taken.segments += 1;
                taken.bytes += archive.segment_size;
                taken.written += without_zeros(&good);
                taken.records += answer.records()?;
                taken.look_at_pages(&good);
                let alone = bare.take(name, &good)?.records()?;
                if let Some(judge) = judge {
                    agree(judge, archive, name, alone)?;
                    taken.judged += 1;
                }
                let before = before.as_ref();
                let before = before.filter(|_| archive.segment_size <= LONGEST_WITH_RUBBISH);
                if let Some((before, bytes)) = before {
                    let wal = bare.wal(before);
                    let what = rubbish(&wal, bytes, &good, random)?;
                    bare.take(name, &good).doing(format_args!("beside {before}, {what}"))?;
                    fs::remove_file(wal)?;
                }
                // The server has renamed it.
                fs::hard_link(archive.path(name), server.wal(name))?;
            }
            before = Some((name, good));
        }
    }
    Ok(taken)
}

fn without_zeros(bytes: &[u8]) -> u64 {
    const PIECE: usize = 4096;
    let zeros = bytes.rchunks(PIECE).take_while(|piece| **piece == [0; PIECE]).count();
    (bytes.len() - zeros * PIECE) as u64
}

fn agree(judge: &WalDump, archive: &Archive, name: &str, records: u64) -> Result<()> {
    match judge.count(&archive.path(name))? {
        Ok(count) if count == records => Ok(()),
        Err(words) if records == 0 && words.contains("could not find a valid record") => Ok(()),
        other => Err(Failure::new(format!("{name}: {records} records, pg_waldump: {other:?}"))),
    }
}

/// Puts into a WAL directory what may lie there in place of the segment before: one that is not whole, and of which the
/// server has not read more than it could.
fn rubbish(path: &Path, before: &[u8], other: &[u8], random: &mut Random) -> Result<&'static str> {
    let mut bytes = before.to_vec();
    let page = random.length_between(0, bytes.len() / 8192 - 1) * 8192;
    let what = match random.between(0, 6) {
        0 => {
            bytes.fill(0);
            "all zeros"
        }
        1 => {
            bytes[page..].fill(0);
            "received in part"
        }
        // Not of the last one: no server stops to write within a record that goes on in the next segment.
        2 => {
            let page = page.min(bytes.len() - 2 * 8192);
            bytes[page + 512..].fill(0);
            "received in part, up to the middle of a page"
        }
        3 => {
            bytes[page..].copy_from_slice(&other[page..]);
            "written in part over another segment"
        }
        4 => {
            bytes.copy_from_slice(other);
            "another segment that waits for being used again"
        }
        5 => {
            bytes.truncate(page);
            "cut off"
        }
        _ => {
            let last = bytes.len() - 8192;
            bytes[last..].fill(0xFF);
            "with nothing that is WAL on its last page"
        }
    };
    fs::write(path, bytes)?;
    Ok(what)
}
