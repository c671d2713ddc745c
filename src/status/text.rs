//! The answer for a person at night: what is wrong and what to do about it, the worst first; then how things are.

use std::fmt::Write as _;

use super::Status;
use super::checks::{Checks, Why};
use super::line::Hole;
use super::registered::Registered;
use super::scan::Form;
use super::standby::Standby;
use super::trouble::Severity;
use super::words::{self, count, short};

/// Columns of a terminal that has not been widened.
const WIDTH: usize = 80;

/// Where what is said begins.
const INDENT: usize = 12;

/// The answer.
#[must_use]
pub fn answer(status: &Status, has_colours: bool) -> String {
    let mut page = Page { text: String::new(), has_colours };
    for trouble in &status.troubles {
        page.line(&trouble.kind.code().to_uppercase(), &trouble.what, trouble.severity);
        page.line("", &trouble.remedy, Severity::Fine);
    }
    if status.troubles.is_empty() {
        page.line("OK", all_is_well(status), Severity::Fine);
    }
    if let Some(standby) = &status.standby {
        page.fact("standby", &describe(standby));
    }
    page.facts("waiting for", waiting(status));
    page.facts("behind", behind(status));
    if status.scan.failure.is_none() {
        page.facts("newest", newest(status));
        page.fact("archive", &archive(status));
        page.facts("checked", checked(status));
        page.facts("holes", older_holes(status));
        page.facts("cluster", cluster(status));
        page.facts("timelines", timelines(status));
        page.facts("standbys", standbys(status));
    }
    page.facts("failover", failover(status));
    page.text
}

struct Page {
    text: String,
    has_colours: bool,
}

impl Page {
    /// One entry, on as many lines as it takes.
    fn line(&mut self, label: &str, words: &str, severity: Severity) {
        let (on, off) = match severity {
            Severity::Critical if self.has_colours => ("\x1b[1;31m", "\x1b[0m"),
            Severity::Warning if self.has_colours => ("\x1b[1;33m", "\x1b[0m"),
            _ => ("", ""),
        };
        let padding = " ".repeat(INDENT.saturating_sub(label.len()));
        let mut line = String::new();
        let mut start = format!("{on}{label}{off}{padding}");
        for word in words::harmless(words).split(' ') {
            let length = line.chars().count();
            let whole = INDENT.saturating_add(length).saturating_add(word.chars().count());
            if length > 0 && whole >= WIDTH {
                let _ = writeln!(self.text, "{start}{line}");
                start = " ".repeat(INDENT);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(self.text, "{start}{line}");
    }

    fn fact(&mut self, label: &str, words: &str) {
        self.line(label, words, Severity::Fine);
    }

    fn facts(&mut self, label: &str, words: Option<String>) {
        if let Some(words) = words {
            self.fact(label, &words);
        }
    }
}

/// What is to be said where nothing is wrong.
#[must_use]
pub fn all_is_well(status: &Status) -> &'static str {
    match (status.asked, status.behind()) {
        (Some(_), Some(0)) => "the standby has asked for everything that is in the archive",
        (Some(_), _) => "the standby is replaying what is in the archive",
        (None, _) => "nothing is wrong with the archive",
    }
}

fn describe(standby: &Standby) -> String {
    let version = match standby.version {
        Some((major, minor)) if major < 10 => format!(", PostgreSQL {major}.{minor}"),
        Some((major, _)) => format!(", PostgreSQL {major}"),
        None => String::new(),
    };
    let pid = standby.pid.map_or(", does not run".to_owned(), |pid| format!(", PID {pid}"));
    let mode = match (standby.recovery_file, standby.is_in_standby_mode) {
        (Some(file), true) => format!(", in standby mode ({file})"),
        (Some(file), false) => format!(", in recovery ({file})"),
        (None, _) => ", not in recovery".to_owned(),
    };
    format!("{:?}{version}{pid}{mode}", standby.data_directory)
}

fn waiting(status: &Status) -> Option<String> {
    let asked = status.asked?;
    let segment = asked.segment;
    let awaited = status.standby.as_ref().and_then(|standby| standby.calls.awaited);
    Some(match (asked.since, asked.is_replayed) {
        (Some(since), _) => format!("{segment}, for {}", words::time(since)),
        (None, true) => format!("nothing: {segment} is being replayed"),
        (None, false) if awaited == Some(segment) => format!("{segment}, between two calls"),
        (None, false) => format!("{segment}, by its registration"),
    })
}

fn behind(status: &Status) -> Option<String> {
    Some(match status.behind()? {
        0 => "nothing that is in the archive".to_owned(),
        number => {
            let verb = if number == 1 { "is" } else { "are" };
            format!("{} that {verb} in the archive", count(number, "segment"))
        }
    })
}

fn newest(status: &Status) -> Option<String> {
    let (found, arrived) = status.newest()?;
    Some(format!("{}, arrived {} ago", found.file_name(), words::time(status.age(arrived))))
}

fn archive(status: &Status) -> String {
    let file_system = status.scan.file_system.as_ref();
    let kind = file_system.and_then(|it| it.kind.as_ref()).map(|kind| format!("; {kind}"));
    let free = file_system.map(|it| format!("; {} free", words::size(it.free)));
    let number = |form| status.scan.files.iter().filter(|it| it.form == form).count();
    let plain = number(Form::Plain);
    let other =
        [(Form::Compressed, "compressed"), (Form::Partial, "partial"), (Form::Unread, "not read")]
            .map(|(form, word)| match number(form) {
                0 => String::new(),
                number => format!(", {number} {word}"),
            });
    format!(
        "answers{}; {}{}, {}{}",
        kind.unwrap_or_default(),
        count(plain, "segment"),
        other.concat(),
        words::size(status.bytes()),
        free.unwrap_or_default()
    )
}

/// What was looked at, where that was not the header of everything.
fn checked(status: &Status) -> Option<String> {
    let Checks { headers, records, .. } = status.checks;
    let all = status.scan.files.iter().filter(|found| found.form.is_whole()).count();
    let whole = if records > 0 { format!("the records of {records}, ") } else { String::new() };
    (records > 0 || headers < all)
        .then(|| format!("{whole}the headers of {headers} and the lengths of {all} segments"))
}

/// Holes that nobody will ask for.
fn older_holes(status: &Status) -> Option<String> {
    let older: Vec<&Hole> = status.holes.iter().flatten().filter(|it| !it.is_needed).collect();
    let first = older.first()?;
    let number: u64 = older.iter().map(|hole| hole.count).sum();
    let verb = if number == 1 { "is" } else { "are" };
    Some(format!(
        "{} that no standby needs {verb} missing, from {} on",
        count(number, "segment"),
        first.first
    ))
}

fn cluster(status: &Status) -> Option<String> {
    let own = status.standby.as_ref().and_then(|it| it.system_identifier.clone().ok()?);
    Some(match (own, status.checks.system_identifier) {
        (Some(own), Some(found)) if own == found => format!("{own}, the archive's is the same"),
        (Some(own), Some(found)) => format!("{own}, the archive's is {found}"),
        (Some(own), None) => format!("{own}"),
        (None, found) => format!("{}", found?),
    })
}

fn timelines(status: &Status) -> Option<String> {
    let timeline = status.timeline?;
    let later =
        status.later.iter().map(|later| format!("; {} began at {}", later.timeline, later.left_at));
    let later: String = later.collect();
    let none = if later.is_empty() { "; none later in the archive" } else { "" };
    Some(format!("{timeline}{later}{none}"))
}

fn standbys(status: &Status) -> Option<String> {
    let describe = |it: &Registered| {
        let Registered { name, needed, asked, renewed } = it;
        let age = words::time(status.age(*renewed));
        let name = words::name(name);
        let Ok(needed) = needed else { return format!("{name}: damaged") };
        match asked {
            Some(asked) => {
                format!("{name} needs {needed} (asked for {}, {age} ago)", short(*asked, *needed))
            }
            None => format!("{name} needs {needed} (said {age} ago)"),
        }
    };
    let all: Vec<_> = status.scan.registered.iter().map(describe).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn failover(status: &Status) -> Option<String> {
    if status.scan.failure.is_some() {
        return status.asked.map(|_| "not known until the archive answers".to_owned());
    }
    let end = status.replay.as_ref()?.ends_before;
    if let Some(Why::Stop(stop)) = status.bad_end().map(|it| &it.why) {
        let rest = match status.lost()?.saturating_sub(1) {
            0 => String::new(),
            lost => format!(" and {}", count(lost, "later segment")),
        };
        return Some(format!(
            "now would end at {}, within {end}, and lose its rest{rest}",
            stop.at
        ));
    }
    Some(match status.lost()? {
        0 => format!("now would end before {end} and lose nothing that has arrived"),
        lost => format!("now would end before {end} and lose {}", count(lost, "segment")),
    })
}
