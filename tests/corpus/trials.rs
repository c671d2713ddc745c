//! Segments damaged, one damage after the other, and what becomes of each: refused where it counts, taken where no server
//! would notice. What has not been noticed in a record that goes on in the next segment must be noticed there.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::archive::Archive;
use crate::damage::{Damage, Plan, SECTOR};
use crate::header::Header;
use crate::judge::WalDump;
use crate::layout::{Class, Layout};
use crate::machine::{Doing, Failure, Result};
use crate::random::Random;
use crate::standby::Standby;
use crate::terminal::{Interrupted, say};

/// Segments before the damaged one that its first record may have begun in.
const BEFORE: usize = 64;
/// Of all servers here, in bytes.
const PAGE: usize = 8192;
/// Of a segment, in bytes.
const HEADER: usize = 40;
/// The longest record that a server reads, in bytes (`MaxAllocSize`).
const LONGEST: u32 = 0x3FFF_FFFF;

#[derive(Default)]
pub struct Counts {
    pages: u64,
    sectors: u64,
    /// Bits of the first page's header.
    bits: u64,
    random: u64,
    refused: u64,
    /// Of bytes that no server looks at.
    taken: u64,
    /// Of bytes of a record that goes on in the next segment, which was refused then.
    refused_next: u64,
    /// Flags without a meaning, and what is left of records that were overwritten.
    either: u64,
    judged: u64,
    /// What the program did was not what was to be done.
    disagreements: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.sectors += other.sectors;
        self.bits += other.bits;
        self.random += other.random;
        self.refused += other.refused;
        self.taken += other.taken;
        self.refused_next += other.refused_next;
        self.either += other.either;
        self.judged += other.judged;
        self.disagreements += other.disagreements;
    }

    fn count(&mut self, plan: Plan) {
        let count = match plan {
            Plan::Zeros { length: PAGE, .. } => &mut self.pages,
            Plan::Zeros { .. } => &mut self.sectors,
            Plan::Bit { .. } => &mut self.bits,
            Plan::Random { .. } => &mut self.random,
        };
        *count += 1;
    }

    /// # Errors
    /// There were disagreements, which have been printed.
    pub fn check(&self) -> Result<()> {
        match self.disagreements {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} disagreements, see above"))),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, sectors, bits, random, .. } = self;
        write!(
            f,
            "{} damages ({pages} pages and {sectors} sectors of zeros, {bits} bits of the first header, {random} at random): \
             {} refused, {} with the next segment; {} that no server notices taken, {} one or the other; {} disagreements",
            pages + sectors + bits + random,
            self.refused,
            self.refused_next,
            self.taken,
            self.either,
            self.disagreements
        )?;
        if self.judged > 0 {
            write!(f, "; {} as pg_waldump decides", self.judged)?;
        }
        Ok(())
    }
}

/// A segment to be damaged.
struct Subject {
    name: String,
    before: Vec<String>,
    next: String,
    good: Vec<u8>,
    older: Vec<u8>,
    header: Header,
    layout: Layout,
    /// Where its WAL ends, in bytes from its beginning.
    end: usize,
    /// Where a record begins from which on this segment can be read, in WAL.
    from: u64,
}

pub struct Trials<'a> {
    archive: &'a Archive<'a>,
    judge: Option<&'a WalDump>,
    subjects: Vec<Subject>,
}

impl<'a> Trials<'a> {
    /// Chooses a segment that is full of records, one that ends with a switch, one with a record that was overwritten, and
    /// one in which a timeline ends, as far as there are such.
    pub fn on(archive: &'a Archive<'a>, judge: Option<&'a WalDump>) -> Result<Self> {
        let route = archive.routes.first().ok_or_else(|| Failure::new("there is no WAL"))?;
        let mut layouts = Vec::new();
        for name in route {
            let bytes = archive.read(name)?;
            let timeline = u32::from_str_radix(&name[..8], 16)?;
            let mut layout = Layout::of(&bytes, timeline).doing(name)?;
            layout.classes = Vec::new();
            layouts.push(layout);
        }
        let inner = 2..route.len().saturating_sub(1);
        let find = |is: &dyn Fn(&Layout) -> bool| {
            inner.clone().filter(|n| is(&layouts[*n])).max_by_key(|n| layouts[*n].records)
        };
        let is_full = |layout: &Layout| !layout.has_switch && layout.has_tail && layout.has_open;
        let chosen = [
            find(&is_full)
                .or_else(|| find(&|layout| !layout.has_switch))
                .or_else(|| find(&|_| true)),
            find(&|layout| layout.has_switch),
            find(&|layout| layout.has_overwritten),
            find(&|layout| layout.timelines.len() > 1),
        ];
        if chosen[0].is_none() {
            return Err(Failure::new("there is too little WAL"));
        }
        let mut subjects: Vec<Subject> = Vec::new();
        for number in chosen.into_iter().flatten() {
            let name = route[number].clone();
            if subjects.iter().any(|subject| subject.name == name) {
                continue;
            }
            let from = (0..number).rev().find_map(|n| Some((n, layouts[n].last?)));
            let (first, last) = from.ok_or_else(|| Failure::new("no record begins before it"))?;
            let good = archive.read(&name)?;
            let header = Header::of(&good).ok_or_else(|| Failure::new("no header"))?;
            let back = (number - first) as u64 * archive.segment_size;
            // Unless that is overwritten there, or goes on.
            let mut layout = Layout::of(&good, u32::from_str_radix(&name[..8], 16)?)?;
            if !layouts[number + 1].has_tail {
                layout.forget_what_is_open();
            }
            let used = layout.classes.iter().rposition(|class| *class != Class::Free);
            subjects.push(Subject {
                end: used.map_or(good.len(), |last| last + 1),
                before: route[first.min(number.saturating_sub(BEFORE))..number].to_vec(),
                next: route[number + 1].clone(),
                older: archive.read(&route[number - 2])?,
                from: header.lsn - back + last as u64,
                layout,
                good,
                header,
                name,
            });
        }
        Ok(Self { archive, judge, subjects })
    }

    /// Tries so many random damages, and as many pages and sectors of zeros unless that are enough for all of them.
    pub fn run(
        &self,
        damages: usize,
        random: &mut Random,
        interrupted: &Interrupted,
    ) -> Result<Counts> {
        let mut all: Vec<(usize, Plan)> = Vec::new();
        let length = usize::try_from(self.archive.segment_size)?;
        for piece in [PAGE, SECTOR] {
            let one_of = if damages < 1000 { length / piece / damages } else { 1 };
            all.extend(Plan::zeros(length, piece, one_of).map(|plan| (0, plan)));
        }
        all.extend(Plan::bits(HEADER).map(|plan| (0, plan)));
        for number in 0..damages {
            let seed = random.between(0, u64::MAX);
            all.push((number % self.subjects.len(), Plan::Random { seed }));
        }
        let next = AtomicUsize::new(0);
        let counts = Mutex::new(Counts::default());
        let work = || -> Result<()> {
            let desks: Vec<Desk> = self
                .subjects
                .iter()
                .map(|subject| Desk::new(self.archive, subject, self.judge))
                .collect::<Result<_>>()?;
            let mut own = Counts::default();
            while let Some((number, plan)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                interrupted.check()?;
                let subject = &self.subjects[*number];
                let damage = plan.on(&subject.good, &subject.older, subject.end, PAGE);
                own.count(*plan);
                let here = format!("{}, {damage}", subject.name);
                for words in desks[*number].try_one(&damage, &mut own).doing(&here)? {
                    own.disagreements += 1;
                    say(format_args!("    {here}: {words}"))?;
                }
            }
            if let Ok(mut counts) = counts.lock() {
                counts.add(&own);
            }
            Ok(())
        };
        let workers = thread::available_parallelism().map_or(2, usize::from);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().map_err(|_| Failure::new("a worker panicked"))?
            })
        })?;
        counts.into_inner().map_err(|_| Failure::new("a worker panicked"))
    }
}

/// A standby whose archive has one segment, which is damaged, and the next one.
struct Desk<'a> {
    subject: &'a Subject,
    standby: Standby,
    archive: TempDir,
    judge: Option<(&'a WalDump, PathBuf)>,
}

impl<'a> Desk<'a> {
    fn new(archive: &Archive, subject: &'a Subject, judge: Option<&'a WalDump>) -> Result<Self> {
        let here = tempfile::tempdir_in(archive.cluster.machine.path())?;
        let standby = Standby::of(archive, here.path())?;
        let path = here.path().join(&subject.name);
        fs::write(&path, &subject.good)?;
        fs::hard_link(archive.path(&subject.next), here.path().join(&subject.next))?;
        let judges = here.path().join("judge");
        fs::create_dir(&judges)?;
        // pg_waldump wants all of them under one timeline.
        let renamed = |name: &str| judges.join(format!("{}{}", &subject.name[..8], &name[8..]));
        fs::hard_link(&path, renamed(&subject.name))?;
        for name in &subject.before {
            fs::hard_link(archive.path(name), standby.wal(name))?;
            fs::hard_link(archive.path(name), renamed(name))?;
        }
        let judge = judge.map(|judge| (judge, judges));
        Ok(Self { subject, standby, archive: here, judge })
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let path = self.archive.path().join(&self.subject.name);
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(file.write_all_at(bytes, at as u64)?)
    }

    /// Returns what the program and its judges do not agree upon.
    fn try_one(&self, damage: &Damage, counts: &mut Counts) -> Result<Vec<String>> {
        let Subject { name, next, good, layout, .. } = self.subject;
        let Damage { at, bytes, .. } = damage;
        let before = &good[*at..*at + bytes.len()];
        self.write(*at, bytes)?;
        let answer = self.standby.ask(name)?;
        let consequence = layout.consequence(before, bytes, *at);
        let mut is_noticed_next = false;
        if answer.taken {
            if consequence == Class::Open {
                fs::rename(self.standby.restored(), self.standby.wal(name))?;
                is_noticed_next = !self.standby.ask(next)?.taken;
                fs::remove_file(self.standby.wal(name))?;
            }
            let _ = fs::remove_file(self.standby.restored());
        }
        let mut disagreements = Vec::new();
        if let Some(reads) = self.hear_the_judge(damage, before, answer.taken)? {
            let words = |yes| if yes { "reads" } else { "does not read" };
            if reads == answer.taken {
                counts.judged += 1;
            } else {
                let (judge, program) = (words(reads), words(answer.taken));
                disagreements.push(format!("pg_waldump {judge}, pg_standby {program}"));
            }
        }
        self.write(*at, before)?;
        let count = match (consequence, answer.taken) {
            (Class::Counts | Class::Tail | Class::Open, false) => &mut counts.refused,
            (Class::Free, true) => &mut counts.taken,
            (Class::Either, _) => &mut counts.either,
            (Class::Open, true) if is_noticed_next => &mut counts.refused_next,
            (class, taken) => {
                let words = if taken { "was taken" } else { "was refused" };
                disagreements.push(format!("{class:?}, and {words}: {}", answer.said));
                return Ok(disagreements);
            }
        };
        *count += 1;
        Ok(disagreements)
    }

    /// Returns whether `pg_waldump` reads the segment, or what the program did where that cannot be compared.
    fn hear_the_judge(&self, damage: &Damage, before: &[u8], taken: bool) -> Result<Option<bool>> {
        let Some((judge, directory)) = &self.judge else { return Ok(None) };
        let Subject { name, good, header, layout, from, .. } = self.subject;
        let timeline = u32::from_str_radix(&name[..8], 16)?;
        let end = header.lsn + good.len() as u64;
        let reads = judge.reads(directory, timeline, *from, end)?;
        // It knows no cluster, and hears of a timeline that is too late on the page after; there is none behind a switch.
        let changed = |at: &usize| {
            let index = at - damage.at;
            damage.bytes.get(index).zip(before.get(index)).is_some_and(|(new, old)| new != old)
        };
        let last = good.len() - PAGE;
        let last_read = (self.subject.end - 1) / PAGE * PAGE;
        let is_excused = [24..32, last_read + 4..last_read + 8]
            .into_iter()
            .flatten()
            .any(|at| at >= damage.at && changed(&at));
        // Nor is there a limit to what it allocates: a record that is too long for a server goes on, to the end for it.
        let is_too_long = layout.last.filter(|at| *at >= last).is_some_and(|at| {
            let byte = |at: usize| {
                let damaged = at.checked_sub(damage.at).and_then(|index| damage.bytes.get(index));
                damaged.copied().unwrap_or(good[at])
            };
            u32::from_ne_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]) > LONGEST
        });
        Ok(Some(if reads && (is_excused || is_too_long) { taken } else { reads }))
    }
}
