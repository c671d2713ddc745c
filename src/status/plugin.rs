//! The answer for Nagios and its kind: one line, with performance data behind a bar.

use std::fmt::Display;

use crate::options::{Inquiry, Limits};

use super::Status;
use super::text;
use super::trouble::{Severity, Trouble};
use super::words;

/// So many troubles are in the line.
const MOST: usize = 3;

/// The answer, and a newline.
#[must_use]
pub fn answer(status: &Status, inquiry: &Inquiry) -> String {
    let state = match status.severity() {
        Severity::Fine => "OK",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    };
    let name = |it: &Trouble| format!("{}: {}", it.kind.code(), it.what);
    let mut said: Vec<_> = status.troubles.iter().take(MOST).map(name).collect();
    if let Some(more) = status.troubles.len().checked_sub(MOST).filter(|more| *more > 0) {
        said.push(format!("{more} more"));
    }
    if said.is_empty() {
        said.push(text::all_is_well(status).to_owned());
    }
    format!(
        "PG_STANDBY {state} - {} |{}\n",
        harmless(&said.join("; ")),
        performance(status, inquiry)
    )
}

/// The answer where nothing could be found out, and a newline.
#[must_use]
pub fn unknown(reason: &dyn Display) -> String {
    format!("PG_STANDBY UNKNOWN - {}\n", harmless(&reason.to_string()))
}

/// A bar would begin the performance data.
fn harmless(text: &str) -> String {
    words::harmless(text).replace('|', "/")
}

fn performance(status: &Status, inquiry: &Inquiry) -> String {
    let is_there = status.scan.failure.is_none();
    let number = |number: usize| u64::try_from(number).ok().filter(|_| is_there);
    let silent = status.newest().map(|(_, arrived)| status.age(arrived).as_secs());
    let waiting = status.asked.and_then(|asked| asked.since).map(|since| since.as_secs());
    let free = status.scan.file_system.as_ref().map(|it| it.free);
    let none = Limits::default();
    let data = [
        ("behind", status.behind().and_then(number), "", inquiry.behind),
        ("silent", silent, "s", inquiry.silent),
        ("waiting", waiting, "s", none),
        ("missing", status.missing(), "", none),
        ("not_ready", number(status.checks.not_ready.len()), "", none),
        ("segments", number(status.scan.whole().count()), "", none),
        ("size", Some(status.bytes()).filter(|_| is_there), "B", none),
        ("free", free, "B", none),
    ];
    let limit = |limit: Option<u64>| limit.map_or_else(String::new, |limit| limit.to_string());
    let known = data.into_iter().filter_map(|(label, value, unit, limits)| {
        let (warning, critical) = (limit(limits.warning), limit(limits.critical));
        value.map(|value| format!(" {label}={value}{unit};{warning};{critical};0"))
    });
    known.collect()
}
