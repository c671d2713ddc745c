//! The answer in Prometheus's text format, for the textfile collector of `node_exporter`. What is not known has no line.

use std::fmt::{Display, Write as _};

use super::Status;
use super::checks::Why;
use super::json::unix;

/// The answer.
#[must_use]
pub fn answer(status: &Status) -> String {
    let mut page = String::new();
    let is_there = status.scan.failure.is_none();
    let known = |value| Some(value).filter(|_| is_there);
    let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let standby = status.standby.as_ref();
    let trigger = standby.and_then(|it| it.trigger.as_ref());
    let file_system = status.scan.file_system.as_ref();
    let waiting = status.asked.and_then(|asked| asked.since);
    let numbers = [
        (
            "state",
            "The worst of what is wrong: 0 nothing, 1 a warning, 2 critical.",
            Some(status.severity() as u64),
        ),
        ("archive_answers", "Whether the archive can be read.", Some(is_there.into())),
        (
            "archive_segments",
            "Whole segments in the archive.",
            known(whole(status.scan.whole().count())),
        ),
        ("archive_bytes", "Bytes in segments of every form.", known(status.bytes())),
        ("archive_free_bytes", "Bytes free in the archive.", file_system.map(|it| it.free)),
        (
            "segments_behind",
            "Segments that are ready and that the standby has not asked for.",
            status.behind().map(whole),
        ),
        (
            "segments_missing",
            "Segments that are missing between others and that a standby will ask for.",
            status.missing(),
        ),
        (
            "waiting_seconds",
            "For how long the standby has been waiting for its next segment.",
            waiting.map(|since| since.as_secs()),
        ),
        (
            "newest_arrival_timestamp_seconds",
            "When a segment came last.",
            status.newest().map(|(_, arrived)| unix(arrived)),
        ),
        ("server_running", "Whether the standby runs.", standby.map(|it| it.pid.is_some().into())),
        (
            "in_recovery",
            "Whether it is a standby still.",
            standby.map(|it| it.recovery_file.is_some().into()),
        ),
        (
            "trigger_file_present",
            "Whether there is a trigger file.",
            trigger.map(|(_, trigger)| trigger.is_there().into()),
        ),
        ("timeline", "The timeline that the standby follows.", status.timeline.map(u64::from)),
        (
            "archive_newest_timeline",
            "The newest timeline in the archive.",
            status.newest_timeline().map(u64::from),
        ),
    ];
    for (name, help, value) in numbers {
        family(&mut page, name, help, value.map(|value| (String::new(), value)));
    }
    if is_there {
        let reasons = Why::LABELS.map(|label| {
            let all = status.checks.not_ready.iter();
            (labelled("reason", label), all.filter(|it| it.why.label() == label).count())
        });
        let help = "Segments that a server would not be given.";
        family(&mut page, "segments_not_ready", help, reasons);
    }
    let ages = status
        .scan
        .registered
        .iter()
        .map(|it| (labelled("standby", &it.name), status.age(it.renewed).as_secs()));
    let help = "How long ago a standby that shares the archive renewed its registration.";
    family(&mut page, "registration_age_seconds", help, ages);
    let version = labelled("version", env!("CARGO_PKG_VERSION"));
    family(&mut page, "info", "The program that found this out.", [(version, 1)]);
    page
}

/// A metric with what it means, and its values by their labels.
fn family<V: Display>(
    page: &mut String,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, V)>,
) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return;
    }
    let name = format!("pg_standby_{name}");
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in values {
        let _ = writeln!(page, "{name}{labels} {value}");
    }
}

fn labelled(label: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{label}=\"{value}\"}}")
}
