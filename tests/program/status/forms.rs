//! What each form of the answer looks like, and which command lines have none.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::site::{SEGMENT, Site, program};

use super::{Answer, Process, ROOT, Standby, example, of_others, promtool, unwrapped};

/// Takes out what differs from one run to the next.
fn without_chance(text: &str, standby: &Standby) -> String {
    let path = fs::canonicalize(standby.site.path()).unwrap().display().to_string();
    let pid = |process: &Option<Process>| process.as_ref().unwrap().0.id().to_string();
    let mut text = text.replace(&path, "/data");
    text = text.replace(&standby.site.path().display().to_string(), "/data");
    text = text.replace(&pid(&standby.postmaster), "4711").replace(&pid(&standby.waiting), "4712");
    text.replace(env!("CARGO_PKG_VERSION"), "0.9.0")
}

/// Replaces what follows each of the words, up to one of the ends.
fn masked(text: &str, words: &[&str], ends: &[char]) -> String {
    let mut masked = text.to_owned();
    for word in words {
        let mut pieces = masked.split(word);
        let mut whole = pieces.next().unwrap().to_owned();
        for piece in pieces {
            let end = piece.find(ends).unwrap_or(piece.len());
            whole.extend([*word, "...", &piece[end..]]);
        }
        masked = whole;
    }
    masked
}

#[test]
fn the_text_is_for_a_person_the_worst_first() {
    let standby = example();
    let text = unwrapped(&standby.asks(&["--status"]).with_status(2));
    let text = without_chance(&text, &standby);
    let text = masked(&text, &["4, for "], &['\n']);
    let text = masked(&text, &["answers; ", "MB; "], &[';', '\n']);
    assert_eq!(
        text,
        "\
HOLE        000000010000000000000004 is missing, 05 to 07 are there \
on the primary: ls pg_wal/000000010000000000000004; send it again
STANDBY     dr2 has been silent for 26 h; nothing is pruned from 000000010000000000000001 on \
start it, or remove .pg_standby/dr2 if it is gone
standby     \"/data\", PostgreSQL 18, PID 4711, in recovery (recovery.signal)
waiting for 000000010000000000000004, for ...
behind      3 segments that are in the archive
newest      000000010000000000000007, arrived 30 min ago
archive     answers; ...; 6 segments, 1 partial, 7 MB; ...
cluster     7000000000000000001, the archive's is the same
timelines   1; 2 began at 0/700100
standbys    dr1 needs 000000010000000000000002 (asked for 04, 20 min ago); \
dr2 needs 000000010000000000000001 (said 26 h ago)
failover    now would end before 000000010000000000000004 and lose 3 segments
"
    );
}

#[test]
fn the_plugin_says_it_in_one_line() {
    let standby = example();
    let options = ["--status=plugin", "--behind=2,20", "--silent=,7200"];
    let line = standby.asks(&options).with_status(2);
    let line = masked(&line, &[" waiting=", " free="], &['s', 'B']);
    assert_eq!(
        masked(&line, &["silent="], &['s']),
        "PG_STANDBY CRITICAL - hole: 000000010000000000000004 is missing, 05 to 07 are there; \
         behind: 3 segments behind, the limit is 2; \
         standby: dr2 has been silent for 26 h; nothing is pruned from 000000010000000000000001 on \
         | behind=3;2;20;0 silent=...s;;7200;0 waiting=...s;;;0 missing=1;;;0 not_ready=0;;;0 \
         segments=6;;;0 size=7340032B;;;0 free=...B;;;0\n"
    );
}

#[test]
fn the_metrics_have_their_names_and_units() {
    let standby = example();
    let page = without_chance(&standby.asks(&["--status=prometheus"]).with_status(2), &standby);
    let times = [
        "waiting_seconds ",
        "timestamp_seconds ",
        "free_bytes ",
        "standby=\"dr1\"} ",
        "standby=\"dr2\"} ",
    ];
    let page = masked(&page, &times, &['\n']);
    let values: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        values,
        [
            "pg_standby_state 2",
            "pg_standby_archive_answers 1",
            "pg_standby_archive_segments 6",
            "pg_standby_archive_bytes 7340032",
            "pg_standby_archive_free_bytes ...",
            "pg_standby_segments_behind 3",
            "pg_standby_segments_missing 1",
            "pg_standby_waiting_seconds ...",
            "pg_standby_newest_arrival_timestamp_seconds ...",
            "pg_standby_server_running 1",
            "pg_standby_in_recovery 1",
            "pg_standby_trigger_file_present 0",
            "pg_standby_timeline 1",
            "pg_standby_archive_newest_timeline 2",
            "pg_standby_segments_not_ready{reason=\"not_regular\"} 0",
            "pg_standby_segments_not_ready{reason=\"unreadable\"} 0",
            "pg_standby_segments_not_ready{reason=\"compressed\"} 0",
            "pg_standby_segments_not_ready{reason=\"header\"} 0",
            "pg_standby_segments_not_ready{reason=\"lsn\"} 0",
            "pg_standby_segments_not_ready{reason=\"timeline\"} 0",
            "pg_standby_segments_not_ready{reason=\"system_identifier\"} 0",
            "pg_standby_segments_not_ready{reason=\"length\"} 0",
            "pg_standby_segments_not_ready{reason=\"records\"} 0",
            "pg_standby_registration_age_seconds{standby=\"dr1\"} ...",
            "pg_standby_registration_age_seconds{standby=\"dr2\"} ...",
            "pg_standby_info{version=\"0.9.0\"} 1",
        ]
    );
    let page = standby.asks(&["--status=prometheus"]).with_status(2);
    let described = page.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert_eq!(page.lines().filter(|line| line.ends_with(" gauge")).count(), described);
    assert_eq!(described, 17);
}

#[test]
fn the_json_has_everything() {
    let standby = example();
    let text = without_chance(&standby.asks(&["--status=json"]).with_status(2), &standby);
    let ages = [
        "unix_seconds\": ",
        "age_seconds\": ",
        "waiting_seconds\": ",
        "free_bytes\": ",
        "\"seconds\": ",
        "system\": ",
    ];
    let text = masked(&text, &ages, &[',', '\n']);
    assert_eq!(text, include_str!("example.json"));
}

#[test]
fn the_alert_rules_are_rules_of_metrics_that_there_are() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/monitoring.md")).unwrap();
    let rules = document.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    let promtool = &mut promtool();
    let output = of_others(promtool.args(["check", "rules"]).arg(file.path()), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = example().asks(&["--status=prometheus"]).text;
    let named = rules.split(|it: char| !it.is_alphanumeric() && it != '_');
    for metric in named.filter(|word| word.starts_with("pg_standby_")) {
        assert!(page.contains(&format!("# TYPE {metric} gauge\n")), "{metric}");
    }
}

#[test]
fn a_path_that_is_not_unicode_is_told_in_every_form() {
    let site = Site::with(OsStr::from_bytes(b"w\xFFl|\n\""), "pg_wal/RECOVERYXLOG");
    let asks = |form: &str| Answer::of(Command::new(program()).arg(form).arg(site.archive()));
    let read: serde_json::Value =
        serde_json::from_str(&asks("--status=json").with_status(2)).unwrap();
    let location = site.archive().to_string_lossy();
    assert_eq!(read["archive"]["location"], *location);
    let hex = read["archive"]["location_hex"].as_str().unwrap();
    assert!(hex.ends_with("2f77ff6c7c0a22"), "{hex}");
    fs::remove_dir(site.archive()).unwrap();
    let line = asks("--status=plugin").with_status(2);
    assert_eq!((line.lines().count(), line.matches('|').count()), (1, 1), "{line}");
    let text = asks("--status").with_status(2);
    assert!(text.contains("w\\xFFl|\\n\\\"\""), "{text}");
}

#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    let site = Site::new();
    let line = format!("'{}' --status '{}'", program().display(), site.archive().display());
    let on_terminal = |variable: Option<(&str, &str)>| {
        let mut script = Command::new("script");
        script.args(["-qefc", &line, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
        script.envs(variable);
        let output = of_others(&mut script, "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = on_terminal(None);
    assert!(text.contains("\x1b[1;31mEMPTY\x1b[0m"), "{text:?}");
    assert!(text.contains("looking at "), "{text:?}");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_terminal(Some(variable));
        assert!(text.starts_with("EMPTY       the archive") && !text.contains('\x1b'), "{text:?}");
    }
    assert!(on_terminal(Some(("NO_COLOR", ""))).contains("[1;31m"));
    let text = Answer::of(Command::new(program()).arg("--status").arg(site.archive()));
    assert!(!text.with_status(2).contains('\x1b'));
}

#[test]
fn what_is_not_for_status_is_refused_and_a_plugin_says_unknown() {
    let site = Site::with_five_segments();
    let archive = site.archive().to_str().unwrap();
    for (options, message) in [
        (
            &["--status=yaml", archive][..],
            "expected \"text\", \"json\", \"plugin\" or \"prometheus\"",
        ),
        (&["--status"], "missing operand ARCHIVELOCATION: expected --status ARCHIVELOCATION"),
        (&["--status", archive, SEGMENT, "to"], "unexpected operand \"000000010000000000000005\""),
        (&["--status", "--prune", archive], "option --prune cannot be used with --status"),
        (&["--status", "-n", archive], "option --dry-run cannot be used with --status"),
        (&["--status", "-w", "5", archive], "option --max-wait-time cannot be used with --status"),
        (
            &["--status", "--behind=x", archive],
            "invalid value \"x\" for option --behind: expected one or",
        ),
        (
            &["--status", "--behind=,", archive],
            "invalid value \",\" for option --behind: expected one or",
        ),
        (&["--status", "--silent=1,2,3", archive], "invalid value \"1,2,3\" for option --silent"),
        (
            &["-D", "/", archive, SEGMENT, "to"],
            "option -D (--pgdata) can only be used with --status",
        ),
        (
            &["--prune", "--behind=1", archive, SEGMENT],
            "option --behind can only be used with --status",
        ),
        (&["--status", "-D", archive, archive], "not a data directory: could not read"),
    ] {
        site.runs(options.iter().copied()).ends().with_status(202).saying(message);
        if options.first() == Some(&"--status") {
            let mut options = options.to_vec();
            options[0] = "--status=plugin";
            let ended = site.runs(options).ends().with_status(3);
            assert!(ended.stdout.starts_with("PG_STANDBY UNKNOWN - "), "{ended:?}");
            assert!(
                ended.stdout.contains(&message.replace('|', "/")) || message.contains("--status"),
                "{ended:?}"
            );
        }
    }
    assert_eq!(site.listing().len(), 5);
}
