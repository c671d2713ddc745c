//! The answer for a program: everything, as `docs/status.schema.json` describes it. Units are in the names. System
//! identifiers are strings, because many programs read no numbers of 64 bits.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Status;
use super::checks::{NotReady, Why};
use super::scan::Form;
use super::standby::{Standby, Trigger};
use super::trouble::Severity;

/// The answer, and a newline.
#[must_use]
pub fn answer(status: &Status) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.text("version", env!("CARGO_PKG_VERSION"));
        json.number("time_unix_seconds", Some(unix(status.now)));
        json.text("state", severity(status.severity()));
        json.array("troubles", &status.troubles, |json, trouble| {
            json.text("code", trouble.kind.code());
            json.text("severity", severity(trouble.severity));
            json.text("what", &trouble.what);
            json.text("remedy", &trouble.remedy);
        });
        json.key("archive");
        json.object(|json| archive(json, status));
        json.key("standby");
        match &status.standby {
            Some(standby) => json.object(|json| describe(json, standby)),
            None => json.null(),
        }
        json.key("asked_for");
        match status.asked {
            Some(asked) => json.object(|json| {
                json.text("segment", asked.segment);
                json.number("waiting_seconds", asked.since.map(|since| since.as_secs()));
                json.boolean("is_replayed", asked.is_replayed);
            }),
            None => json.null(),
        }
        json.number("behind_segments", status.behind());
        json.key("failover");
        match &status.replay {
            Some(replay) => json.object(|json| {
                json.text("ends_before", replay.ends_before);
                json.number("lost_segments", status.lost());
            }),
            None => json.null(),
        }
    });
    json.text.push('\n');
    json.text
}

fn archive(json: &mut Json, status: &Status) {
    let scan = &status.scan;
    json.path("location", &status.location);
    let is_there = scan.failure.is_none();
    json.boolean("answers", is_there);
    json.optional("failure", scan.failure.as_ref());
    let file_system = scan.file_system.as_ref();
    json.optional("file_system", file_system.and_then(|it| it.kind.as_ref()));
    json.number("free_bytes", file_system.map(|it| it.free));
    json.number("bytes", Some(status.bytes()).filter(|_| is_there));
    for (key, form) in [
        ("segments", Form::Plain),
        ("compressed_segments", Form::Compressed),
        ("partial_segments", Form::Partial),
        ("unread_segments", Form::Unread),
    ] {
        let number = scan.files.iter().filter(|found| found.form == form).count();
        json.number(key, Some(number).filter(|_| is_there));
    }
    json.number("other_files", Some(scan.others).filter(|_| is_there));
    json.key("newest");
    match status.newest() {
        Some((found, arrived)) => json.object(|json| {
            json.text("segment", found.name);
            json.number("arrived_unix_seconds", Some(unix(arrived)));
            json.number("age_seconds", Some(status.age(arrived).as_secs()));
        }),
        None => json.null(),
    }
    let numbering = status.checks.numbering;
    json.number("segment_size_bytes", numbering.map(|numbering| numbering.segment_size));
    json.optional("system_identifier", status.checks.system_identifier.as_ref());
    json.number("headers_checked", Some(status.checks.headers));
    json.number("records_checked", Some(status.checks.records));
    json.number("missing_segments", status.missing());
    json.array("holes", status.holes.iter().flatten(), |json, hole| {
        json.text("first", hole.first);
        json.number("segments", Some(hole.count));
        json.number("later_segments", Some(hole.later));
        json.boolean("is_needed", hole.is_needed);
    });
    json.array("not_ready", &status.checks.not_ready, |json, it| not_ready(json, status, it));
    json.number("timeline", status.timeline);
    json.number("newest_timeline", status.newest_timeline());
    json.array("later_timelines", &status.later, |json, later| {
        json.number("timeline", Some(later.timeline));
        json.text("began_at", later.left_at);
        json.boolean("has_begun", later.has_begun);
    });
    json.array("standbys", &scan.registered, |json, it| {
        json.text("name", &it.name);
        json.optional("needs", it.needed.as_ref().ok());
        json.optional("asked_for", it.asked.as_ref());
        json.number("age_seconds", Some(status.age(it.renewed).as_secs()));
    });
}

fn not_ready(json: &mut Json, status: &Status, it: &NotReady) {
    json.text("segment", it.name);
    json.text("reason", it.why.label());
    json.text("what", &it.why);
    let lsn = match &it.why {
        Why::Stop(stop) => Some(stop.at),
        Why::NotRegular
        | Why::Unreadable(_)
        | Why::Compressed(_)
        | Why::HalfHistory
        | Why::Flaw(_) => None,
    };
    json.optional("lsn", lsn.as_ref());
    json.number("age_seconds", it.modified.map(|modified| status.age(modified).as_secs()));
    json.boolean("is_arriving", it.is_arriving(status.now));
}

fn describe(json: &mut Json, standby: &Standby) {
    json.path("data_directory", &standby.data_directory);
    let version = standby.version.map(|(major, minor)| match major {
        0..10 => format!("{major}.{minor}"),
        _ => major.to_string(),
    });
    json.optional("version", version.as_ref());
    let mode = match (standby.recovery_file, standby.is_in_standby_mode) {
        (None, _) => "primary",
        (Some(_), true) => "standby",
        (Some(_), false) => "recovery",
    };
    json.text("mode", mode);
    json.optional("recovery_file", standby.recovery_file.as_ref());
    json.boolean("is_running", standby.pid.is_some());
    json.number("pid", standby.pid);
    json.boolean("is_consistent", standby.pid.is_some() && !standby.may_be_inconsistent);
    let identifier = standby.system_identifier.as_ref().ok().copied().flatten();
    json.optional("system_identifier", identifier.as_ref());
    json.boolean("promotion_requested", standby.is_to_promote);
    json.key("waiting_process");
    match &standby.calls.call {
        Some(call) => json.object(|json| {
            json.number("pid", Some(call.pid));
            json.text("file", call.options.requested);
            json.number("seconds", Some(call.lasts.as_secs()));
        }),
        None => json.null(),
    }
    json.key("trigger_file");
    let Some((path, trigger)) = &standby.trigger else { return json.null() };
    json.object(|json| {
        json.path("path", path);
        let (state, detail) = match trigger {
            Trigger::None => ("absent", None),
            Trigger::Request { word, .. } => (*word, None),
            Trigger::Ignored(why) => ("ignored", Some(why)),
        };
        json.text("state", state.replace(' ', "_"));
        json.optional("failure", detail);
    });
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Fine => "ok",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// Whole seconds since 1970.
#[must_use]
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it: Duration| it.as_secs())
}

/// A text in JSON that grows.
#[derive(Default)]
struct Json {
    text: String,
    depth: usize,
}

impl Json {
    fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.text.push('{');
        self.depth = self.depth.saturating_add(1);
        fields(self);
        self.close('}');
    }

    fn array<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut fields: impl FnMut(&mut Self, T),
    ) {
        self.key(key);
        self.text.push('[');
        self.depth = self.depth.saturating_add(1);
        for item in items {
            self.next();
            self.object(|json| fields(json, item));
        }
        self.close(']');
    }

    fn close(&mut self, bracket: char) {
        self.depth = self.depth.saturating_sub(1);
        if !self.text.ends_with(['{', '[']) {
            self.new_line();
        }
        self.text.push(bracket);
    }

    /// Makes room for another member.
    fn next(&mut self) {
        if !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
        self.new_line();
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn key(&mut self, key: &str) {
        self.next();
        self.string(key);
        self.text.push_str(": ");
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.string(&value.to_string());
    }

    fn optional(&mut self, key: &str, value: Option<&impl Display>) {
        if let Some(value) = value {
            return self.text(key, value);
        }
        self.key(key);
        self.null();
    }

    fn number(&mut self, key: &str, value: Option<impl Display>) {
        self.key(key);
        match value {
            Some(value) => drop(write!(self.text, "{value}")),
            None => self.null(),
        }
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        let _ = write!(self.text, "{value}");
    }

    /// A path. Of one that is not Unicode the bytes stand beside it.
    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, path.display());
        if path.to_str().is_none() {
            self.key(&format!("{key}_hex"));
            self.text.push('"');
            for byte in path.as_os_str().as_encoded_bytes() {
                let _ = write!(self.text, "{byte:02x}");
            }
            self.text.push('"');
        }
    }

    fn null(&mut self) {
        self.text.push_str("null");
    }

    fn string(&mut self, value: &str) {
        self.text.push('"');
        for character in value.chars() {
            match character {
                '"' | '\\' => self.text.extend(['\\', character]),
                control if control.is_control() => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(control));
                }
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(key: String, value: String, number: u64) {
            let mut json = Json::default();
            json.object(|json| {
                json.text(&key, &value);
                json.array("items", [number], |json, it| json.number("it", Some(it)));
            });
            let read: serde_json::Value = serde_json::from_str(&json.text).unwrap();
            prop_assume!(key != "items");
            prop_assert_eq!(read[&key].as_str(), Some(value.as_str()));
            prop_assert_eq!(read["items"][0]["it"].as_u64(), Some(number));
        }

        #[test]
        fn any_path_is_json(path: Vec<u8>) {
            let mut json = Json::default();
            json.object(|json| json.path("path", Path::new(OsStr::from_bytes(&path))));
            let read: serde_json::Value = serde_json::from_str(&json.text).unwrap();
            prop_assert!(read["path"].is_string());
            prop_assert_eq!(read["path_hex"].is_string(), std::str::from_utf8(&path).is_err());
        }
    }
}
