//! A standby that follows a later timeline, and an archive in which the old primary has gone on: what that wrote is never
//! replayed, however recovery ends.
//!
//! Each stage is set once: a primary, a server that was promoted from it and whose segments are held back, and a standby on
//! a fresh copy for each way in which its wait may end. All ways are gone on 10, 13, 15 and 18, where the server's code for
//! the end of recovery differs; on the other versions those are left out that differ for the program alone. Segments have
//! 1 MB from 11 on, so that the stages are cheap.

/// A primary and the servers that were its standbys: who is promoted when, and who goes on alone.
mod cast;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{Doing, Failure, Machine, PATIENCE, Result, Server, wait_for};
use crate::pair::ROWS;

use cast::{Cast, first_byte, held, line};

tests_on_every_version!(
    what_an_old_primary_wrote_after_a_branch_at_a_segments_first_byte_is_not_replayed,
    what_an_old_primary_wrote_after_a_branch_in_the_middle_of_a_segment_is_not_replayed,
);

tests_on!(postgresql_10_three 10, postgresql_13_three 13, postgresql_18_three 18: [
    of_three_timelines_in_a_row_the_last_is_followed
]);

/// No look comes within [`PATIENCE`]: what happens, happens because something woke the program.
const BLIND: &str = "-s 60";

/// How many rows a server has that an old primary wrote when nobody followed it any more.
const DEAD: &str = "select count(*) from orders where number < 0";

/// The server that the primary's first standby becomes.
const HEIR: &str = "heir";

const ABSENT: &str = "is treated as absent: the server follows timeline";

/// How the wait for a segment of the followed timeline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Smart,
    Fast,
    /// Comes once for each refusal.
    Signal,
    MaxWait,
    Promote,
    /// In standby mode, without a connection: nobody asks for anything, and at last the timeline goes on.
    StandbyMode,
    PromoteInStandbyMode,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::Smart,
        Self::Fast,
        Self::Signal,
        Self::MaxWait,
        Self::Promote,
        Self::PromoteInStandbyMode,
        // The last one: it changes the archive.
        Self::StandbyMode,
    ];
    const SOME: [Self; 3] = [Self::Smart, Self::Fast, Self::StandbyMode];

    fn of(major: u32) -> Vec<Self> {
        match major {
            10 | 13 | 15 | 18 => Self::ALL.to_vec(),
            _ => Self::SOME.to_vec(),
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Smart | Self::Fast | Self::Signal | Self::Promote => BLIND,
            Self::MaxWait => "-s 60 -w 1",
            Self::StandbyMode => "-s 60 -w 1 -d",
            // Should the server ask once more than it does, the poll ends.
            Self::PromoteInStandbyMode => "-s 60 -w 5 -d",
        }
    }

    fn is_in_standby_mode(self) -> bool {
        matches!(self, Self::StandbyMode | Self::PromoteInStandbyMode)
    }
}

/// An archive that several timelines share, and standbys that follow the last of them.
struct Stage {
    machine: Arc<Machine>,
    /// The standbys, each on a copy of its own of what the primary was at the beginning. They have not been started.
    standbys: Vec<(Way, Server)>,
    /// The history file that they follow, without what is for people: timelines, and where they were left.
    line: Vec<(String, String)>,
    /// The segment that they wait for, held back.
    awaited: String,
    /// The segments of that position on other timelines, which nobody must get, the latest timeline first.
    dead: Vec<String>,
    /// The rows of a standby that is not given the segment that it waits for.
    rows: u32,
    /// The rows of one that is.
    all_rows: u32,
}

impl Stage {
    fn branches_at_a_segments_first_byte(major: u32) -> Result<Self> {
        let mut cast = Cast::new(major, &Way::of(major), &[HEIR])?;
        cast.heirs[0].start()?;
        let line = cast.promote(0, Cast::ROWS)?;
        let dead = cast.primary_goes_on()?;
        let awaited = cast.timeline_goes_on()?;
        assert_eq!(line, [("1".to_owned(), first_byte(&cast.machine, &dead, 0)?)]);
        Ok(Self::set(cast, line, awaited, vec![dead], Cast::ROWS + 10))
    }

    /// The row that the segment begins with is on both timelines.
    fn branches_in_the_middle_of_a_segment(major: u32) -> Result<Self> {
        let mut cast = Cast::new(major, &Way::of(major), &[HEIR])?;
        cast.streams(0)?;
        cast.primary.sql("insert into orders values (0)")?;
        let line = cast.promote(0, Cast::ROWS + 1)?;
        let dead = cast.primary_goes_on()?;
        let awaited = cast.timeline_goes_on()?;
        assert_ne!(line, [("1".to_owned(), first_byte(&cast.machine, &dead, 0)?)]);
        assert_eq!(awaited[8..], dead[8..], "the branch is in another segment");
        Ok(Self::set(cast, line, awaited, vec![dead], Cast::ROWS + 11))
    }

    /// The second timeline begins at a segment's first byte, the third one in the middle of the same segment.
    fn branches_twice(major: u32) -> Result<Self> {
        let mut cast = Cast::new(major, &[Way::Smart, Way::Signal], &[HEIR, "heir-of-the-heir"])?;
        cast.heirs[0].start()?;
        cast.promote(0, Cast::ROWS)?;
        cast.streams(1)?;
        cast.heirs[0].sql("insert into orders values (0)")?;
        let line = cast.promote(1, Cast::ROWS + 1)?;
        let first = cast.primary_goes_on()?;
        cast.heirs[0].sql("insert into orders values (-3)")?;
        let second = cast.heirs[0].switch_wal_into(&held(&cast.machine, HEIR))?;
        hand_over(&cast.machine, HEIR, &second)?;
        let awaited = cast.timeline_goes_on()?;
        let timelines: Vec<_> = line.iter().map(|(timeline, _)| timeline.as_str()).collect();
        assert_eq!(timelines, ["1", "2"]);
        assert_eq!((&awaited[8..], &second[8..]), (&first[8..], &first[8..]));
        Ok(Self::set(cast, line, awaited, vec![second, first], Cast::ROWS + 11))
    }

    /// All that the standbys will need is in the archive, or held back: the others may go.
    fn set(
        cast: Cast,
        line: Vec<(String, String)>,
        awaited: String,
        dead: Vec<String>,
        all_rows: u32,
    ) -> Self {
        let Cast { machine, standbys, .. } = cast;
        Self { machine, standbys, line, awaited, dead, rows: Cast::ROWS, all_rows }
    }

    /// Goes all ways, each with a standby of its own.
    ///
    /// # Errors
    /// Where some of them lead to what an old primary wrote: all of these.
    fn goes_all_ways(mut self) -> Result<()> {
        let mut failures = Vec::new();
        for (way, mut standby) in std::mem::take(&mut self.standbys) {
            if let Err(failure) = self.goes(way, &mut standby) {
                let failure = standby.with_log(&failure);
                failures.push(format!("{way:?}: {failure}"));
            }
            let trigger = self.machine.trigger_file();
            if trigger.exists() {
                fs::remove_file(trigger)?;
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n\n"))) }
    }

    fn goes(&self, way: Way, standby: &mut Server) -> Result<()> {
        standby.start()?;
        if !matches!(way, Way::MaxWait | Way::StandbyMode) {
            self.waits_for(standby, &self.awaited)?;
        }
        match way {
            Way::Smart => self.machine.ask_for_failover("smart")?,
            Way::Fast => self.machine.ask_for_failover("fast")?,
            Way::Promote | Way::PromoteInStandbyMode => standby.promote()?,
            Way::Signal => self.is_refused_by_signals(standby)?,
            Way::StandbyMode => return self.goes_on_with_the_timeline(standby),
            Way::MaxWait => {}
        }
        standby.wait_for_promotion()?;
        self.has_rows(standby, self.rows)?;
        self.is_on_the_line(standby, 0)?;
        // At a fast failover nobody looks at what is there.
        self.has_replayed_nothing_dead(standby)?;
        if way != Way::Fast && !standby.log().contains(ABSENT) {
            return Err(Failure::new("nothing is said of the segment that is treated as absent"));
        }
        Ok(())
    }

    /// The server asks for each timeline's segment in turn, and waits for it again.
    fn is_refused_by_signals(&self, standby: &mut Server) -> Result<()> {
        for segment in std::iter::once(&self.awaited).chain(&self.dead) {
            let call = self.waits_for(standby, segment)?;
            self.has_rows(standby, self.rows)?;
            kill(call, Signal::SIGUSR1)?;
        }
        Ok(())
    }

    fn goes_on_with_the_timeline(&self, standby: &mut Server) -> Result<()> {
        // Each call says so, if it is to log every step.
        wait_for("a second poll", PATIENCE, || {
            self.is_up_without_the_dead(standby)?;
            Ok(standby.log().matches(ABSENT).count() >= 2)
        })?;
        self.has_rows(standby, self.rows)?;
        hand_over(&self.machine, HEIR, &self.awaited)?;
        standby.wait_until(ROWS, &self.all_rows.to_string(), PATIENCE)?;
        self.has_rows(standby, self.all_rows)?;
        if !standby.is_in_recovery()? {
            return Err(Failure::new("nobody asked for it, and recovery has ended"));
        }
        standby.promote()?;
        standby.wait_for_promotion()?;
        self.has_rows(standby, self.all_rows)?;
        self.is_on_the_line(standby, 1)
    }

    /// Waits until a call waits for `segment`, with its signal handlers in place.
    fn waits_for(&self, standby: &mut Server, segment: &str) -> Result<Pid> {
        let mut call = None;
        wait_for(format_args!("a call that waits for {segment}"), PATIENCE, || {
            self.is_up_without_the_dead(standby)?;
            call = standby.running("pg_standby").into_iter().find(|pid| listens(*pid, segment));
            Ok(call.is_some())
        })?;
        call.ok_or_else(|| Failure::new("no call"))
    }

    fn has_rows(&self, standby: &mut Server, rows: u32) -> Result<()> {
        self.has_replayed_nothing_dead(standby)?;
        standby.wait_until(ROWS, &rows.to_string(), PATIENCE)?;
        match standby.value(DEAD)?.as_str() {
            "0" => Ok(()),
            dead => Err(Failure::new(format!("{dead} rows of an old primary are visible"))),
        }
    }

    fn is_up_without_the_dead(&self, standby: &mut Server) -> Result<()> {
        if !standby.runs()? {
            return Err(Failure::new("the server has ended"));
        }
        self.has_replayed_nothing_dead(standby)
    }

    fn has_replayed_nothing_dead(&self, standby: &Server) -> Result<()> {
        let log = standby.log();
        match self.dead.iter().find(|dead| log.contains(&format!("restored log file \"{dead}\""))) {
            Some(dead) => Err(Failure::new(format!("{dead} was handed over"))),
            None => Ok(()),
        }
    }

    /// The new timeline's history file says where each one before it was left; the last one at the end of a segment.
    fn is_on_the_line(&self, standby: &Server, segments: u64) -> Result<()> {
        let followed = self.line.len() + 1;
        let told = line(standby, &format!("{:08X}.history", followed + 1))?;
        let end = first_byte(&self.machine, &self.dead[0], segments)?;
        let expected = [self.line.as_slice(), &[(followed.to_string(), end)]].concat();
        if told == expected {
            return Ok(());
        }
        Err(Failure::new(format!("its history is {told:?}, expected {expected:?}")))
    }
}

fn hand_over(machine: &Machine, heir: &str, segment: &str) -> Result<()> {
    fs::rename(held(machine, heir).join(segment), machine.archive().join(segment)).doing(segment)
}

/// A call for that segment runs, and SIGUSR1 does not kill it.
fn listens(pid: Pid, segment: &str) -> bool {
    let read = |name: &str| fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(name));
    let has_handler = |status: &str| {
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught
            .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .is_some_and(|set| set & 1 << (Signal::SIGUSR1 as u32 - 1) != 0)
    };
    read("cmdline").is_ok_and(|line| line.split('\0').any(|word| word == segment))
        && read("status").is_ok_and(|status| has_handler(&status))
}

fn what_an_old_primary_wrote_after_a_branch_at_a_segments_first_byte_is_not_replayed(
    major: u32,
) -> Result<()> {
    Stage::branches_at_a_segments_first_byte(major)?.goes_all_ways()
}

fn what_an_old_primary_wrote_after_a_branch_in_the_middle_of_a_segment_is_not_replayed(
    major: u32,
) -> Result<()> {
    Stage::branches_in_the_middle_of_a_segment(major)?.goes_all_ways()
}

fn of_three_timelines_in_a_row_the_last_is_followed(major: u32) -> Result<()> {
    Stage::branches_twice(major)?.goes_all_ways()
}
