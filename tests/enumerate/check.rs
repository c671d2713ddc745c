//! One case: sets the stage, runs the program with the fault, and holds what it finds against what was promised.

use std::fs;
use std::io;

use nix::sys::signal::Signal;

use crate::faults::Fault;
use crate::kinds::{End, Kind};
use crate::place::{HISTORY, Listing, MOUNTED, Place, WANTED};
use crate::rules::{self, Point};
use crate::trace::{Call, Tracer};

/// What one case showed.
pub struct Verdict {
    pub breaches: Vec<Breach>,
    /// Exceptions that were made, as places in their table.
    pub excepted: Vec<usize>,
    /// The fault came to pass.
    pub is_hit: bool,
}

/// A promise that was not kept.
pub struct Breach {
    pub point: Point,
    pub what: String,
    /// What the program said.
    pub said: String,
}

struct Case<'a> {
    kind: &'a Kind,
    place: &'a Place,
    fault: Fault,
    staged: Listing,
    found: Vec<(Point, String)>,
}

/// Runs one case.
pub fn check(
    tracer: &Tracer,
    place: &Place,
    kind: &Kind,
    calls: &[Call],
    index: usize,
    fault: Fault,
) -> io::Result<Verdict> {
    let call = &calls[index];
    place.clear()?;
    (kind.stage)(place)?;
    let mut case = Case { kind, place, fault, staged: place.listing()?, found: Vec::new() };
    let trigger = fs::read(place.trigger()).ok();
    let allowed = rules::allowed(kind, calls, index, fault);
    let ran = tracer.run_with(kind, place, call, fault, &|end| allowed.contains(&end))?;

    // A fault that did not come to pass excuses nothing.
    let excuses = ran.is_hit || matches!(fault, Fault::Delay(_));
    let is_right = if excuses { allowed.contains(&ran.end) } else { ran.end == kind.ends };
    let promotes = matches!(ran.end, End::Status(2..=125));
    if !is_right || promotes {
        let expected: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let why = rules::spare(call, fault).map(|spare| format!(": {}", spare.reason));
        let (end, why) = (ran.end, why.unwrap_or_default());
        case.found.push((Point::Status, format!("{end}, not {}{why}", expected.join(" or "))));
    }
    case.destination(ran.end)?;
    case.beside()?;
    case.archive()?;
    case.trigger(trigger.as_ref());
    if rules::spare(call, fault).is_some_and(|spare| spare.is_for_pruning) {
        case.pruned(Point::Pruned);
    }
    let said = fs::read_to_string(place.output("stderr")).unwrap_or_default();
    case.next(tracer)?;

    let mut verdict = Verdict { breaches: Vec::new(), excepted: Vec::new(), is_hit: ran.is_hit };
    for (point, what) in case.found {
        match rules::exception(kind, call, fault, point, ran.end) {
            Some(exception) if !promotes => verdict.excepted.push(exception),
            _ => verdict.breaches.push(Breach { point, what, said: said.clone() }),
        }
    }
    Ok(verdict)
}

impl Case<'_> {
    fn breaks(&mut self, point: Point, what: impl Into<String>) {
        self.found.push((point, what.into()));
    }

    fn destination(&mut self, end: End) -> io::Result<()> {
        let found = fs::read(self.place.data().join(self.kind.destination)).ok();
        let Some(name) = self.kind.restores else {
            if found.is_some() {
                self.breaks(Point::Destination, "there is something at the destination");
            }
            return Ok(());
        };
        let whole = self.place.bytes_of(name)?;
        let is_old = found.as_deref() == Some(b"what was there before\n");
        let is_whole = found.as_ref() == Some(&whole);
        if found.is_some() && !is_whole && !is_old {
            self.breaks(Point::Destination, "the destination is neither whole nor absent");
        }
        if end == End::Status(0) && !is_whole {
            self.breaks(Point::Destination, "status 0, and the destination is not whole");
        }
        if end == End::Status(1) && is_whole {
            self.breaks(Point::Destination, "status 1, and the file is at the destination");
        }
        Ok(())
    }

    fn beside(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(self.place.data().join("pg_wal"))? {
            let name = format!("pg_wal/{}", entry?.file_name().to_string_lossy());
            let is_named_copy = name == format!("{}.pg_standby", self.kind.destination);
            let is_killed = self.fault == Fault::Signal(Signal::SIGKILL);
            let is_staged = self.kind.keeps.contains(&name.as_str());
            if name != self.kind.destination && !is_staged && !(is_named_copy && is_killed) {
                self.breaks(Point::Beside, format!("{name} is left behind"));
            }
        }
        Ok(())
    }

    fn archive(&mut self) -> io::Result<()> {
        let now = self.place.listing()?;
        for (name, file) in self.staged.clone() {
            match now.get(&name) {
                None if self.kind.prunes.contains(&name.as_str()) => {}
                None => self.breaks(Point::Archive, format!("{name} is gone from the archive")),
                Some(_) if name == ".pg_standby/own" => {}
                Some((_, length)) if name.starts_with(".pg_standby/") && *length == file.1 => {}
                Some(now) if *now == file => {}
                Some(_) => self.breaks(Point::Archive, format!("{name} in the archive is another")),
            }
        }
        let mut damaged = Vec::new();
        let is_expected = |name: &String| {
            let own = matches!(name.as_str(), ".pg_standby/own" | ".pg_standby/.own");
            own || self.staged.contains_key(name)
                || matches!(name.as_str(), MOUNTED | WANTED | HISTORY)
        };
        for name in now.keys().filter_map(|name| name.strip_prefix(".pg_standby/")) {
            let path = self.place.archive().join(".pg_standby").join(name);
            let said = fs::read(path).unwrap_or_default();
            let is_whole = said.ends_with(b"\n");
            let line = said.split(|byte| *byte == b'\n').next();
            let is_segment = is_whole && line.is_some_and(|line| line.len() == 24);
            if !name.starts_with('.') && !is_segment {
                let said = String::from_utf8_lossy(&said).into_owned();
                damaged.push(format!("the registration of {name} says {said:?}"));
            }
        }
        let new: Vec<&String> = now.keys().filter(|name| !is_expected(name)).collect();
        damaged.extend(new.into_iter().map(|name| format!("{name} is new in the archive")));
        for what in damaged {
            self.breaks(Point::Archive, what);
        }
        Ok(())
    }

    fn trigger(&mut self, before: Option<&Vec<u8>>) {
        let now = fs::read(self.place.trigger()).ok();
        if now.as_ref() != before && !self.is_marked() {
            let now = now.map(|now| String::from_utf8_lossy(&now).into_owned());
            self.breaks(Point::Trigger, format!("the trigger file says {now:?}"));
        }
    }

    fn is_marked(&self) -> bool {
        let mark = format!("smart before {WANTED}\n");
        let now = fs::read(self.place.trigger()).unwrap_or_default();
        self.kind.marks && now.starts_with(mark.as_bytes())
    }

    fn pruned(&mut self, point: Point) {
        for name in self.kind.prunes {
            if self.place.archive().join(name).exists() {
                self.breaks(point, format!("{name} is not needed and still in the archive"));
            }
        }
    }

    /// The next call asks for the same, with nothing in its way.
    fn next(&mut self, tracer: &Tracer) -> io::Result<()> {
        for event in [self.kind.meanwhile, self.kind.settles].into_iter().flatten() {
            self.place.happens(event, None)?;
        }
        let earlier = self.found.len();
        // A failover that has been decided stays decided.
        let then = if self.is_marked() { End::Status(1) } else { self.kind.then };
        let end = tracer.run_again(self.kind, self.place, then)?;
        if end != then {
            self.breaks(Point::Next, format!("the next call: {end}, not {then}"));
        }
        // The server clears the destination before each call, and after a refusal it does not look at it.
        if end == End::Status(0) {
            self.fault = Fault::Delay(crate::place::Event::Mounts);
            self.destination(end)?;
            self.beside()?;
            self.pruned(Point::Next);
        }
        self.archive()?;
        let later = self.found.split_off(earlier);
        let is_news = |what: &str| !self.found.iter().any(|(_, before)| before == what);
        let later: Vec<_> = later.into_iter().filter(|(_, what)| is_news(what)).collect();
        self.found.extend(later.into_iter().map(|(_, what)| match what {
            what if what.starts_with("the next call") => (Point::Next, what),
            what => (Point::Next, format!("after the next call {what}")),
        }));
        Ok(())
    }
}
