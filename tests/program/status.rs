//! What `--status` says, in each of its four forms, and that it changes nothing.
//!
//! Three of the forms are for programs of others, and such programs read them here: `promtool`, Python's `jsonschema` and
//! Perl's `Monitoring::Plugin`, as Debian has them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

use crate::site::{SEGMENT, Site, output_of, program, spawn};
use crate::wal::{self, Segment, after};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The segment that a hole begins with in most tests: [`SEGMENT`] and two more are behind it.
const MISSING: &str = "000000010000000000000004";

/// A process that works in a directory while it lives.
struct Process(Child);

impl Process {
    fn in_directory(directory: &Path, program: impl AsRef<OsStr>, args: &[&OsStr]) -> Self {
        let mut command = Command::new(program);
        command.args(args).current_dir(directory).stdin(Stdio::null());
        Self(spawn(command.stdout(Stdio::null()).stderr(Stdio::null())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A standby as its files and processes show it, with an archive that it has read as far as it goes.
struct Standby {
    site: Site,
    waiting: Option<Process>,
    postmaster: Option<Process>,
    /// The archive of another one.
    elsewhere: Option<Site>,
}

impl Standby {
    /// It waits for [`MISSING`], and the archive has the three segments before.
    fn that_waits() -> Self {
        Self::that_waits_with(&[])
    }

    fn that_waits_with(options: &[&str]) -> Self {
        let site = Site::new();
        for number in 1..4 {
            site.put_segment(&after("000000010000000000000000", number));
        }
        site.write("PG_VERSION", "18\n");
        site.write("recovery.signal", "");
        site.write("global/pg_control", wal::SYSTEM_IDENTIFIER.to_ne_bytes());
        let seconds = OsStr::new("1000");
        let postmaster = Process::in_directory(site.path(), "sleep", &[seconds]);
        let lines = format!("{}\n/data\n0\n5432\n/tmp\n*\n 1 2\nstandby \n", postmaster.0.id());
        site.write("postmaster.pid", lines);
        let mut standby =
            Self { site, waiting: None, postmaster: Some(postmaster), elsewhere: None };
        standby.wait_for(options, MISSING);
        standby
    }

    fn wait_for(&mut self, options: &[&str], name: &str) {
        let trigger = self.site.trigger();
        let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        args.extend(["-s", "60", "-t"].map(OsStr::new));
        args.extend([trigger.as_os_str(), self.site.archive().as_os_str(), OsStr::new(name)]);
        args.extend(["pg_wal/RECOVERYXLOG", "000000010000000000000002"].map(OsStr::new));
        let process = Process::in_directory(self.site.path(), program(), &args);
        let command_line = format!("/proc/{}/cmdline", process.0.id());
        crate::site::wait_until("it has begun", || {
            fs::read_to_string(&command_line).is_ok_and(|line| line.contains("RECOVERYXLOG"))
        });
        self.waiting = Some(process);
    }

    fn archive(&self) -> &Path {
        self.site.archive()
    }

    /// Puts three segments behind the one that is waited for.
    fn make_hole(&self) {
        for number in 1..4 {
            self.site.put_segment(&after(MISSING, number));
        }
    }

    fn asks(&self, options: &[&str]) -> Answer {
        let mut command = Command::new(program());
        command.args(options).arg("-D").arg(self.site.path()).arg(self.archive());
        Answer::of(&mut command)
    }
}

/// What was answered.
struct Answer {
    status: i32,
    text: String,
    stderr: String,
}

impl Answer {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = output_of(command.current_dir("/"));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: status.code().unwrap(), text: text(stdout), stderr: text(stderr) }
    }

    /// Asserts that nothing went to standard error.
    #[track_caller]
    fn with_status(self, status: i32) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (status, ""), "{}", self.text);
        self.text
    }
}

/// The same file was written to so many seconds ago.
fn make_older(path: &Path, seconds: u64) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

/// The same file was written to in the future.
fn make_newer(path: &Path, seconds: u64) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs a program of others.
fn of_others(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; this brings it:\n\n    scripts/get-readers\n")
    });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Prometheus's own reader: where `scripts/get-readers` puts it, or else an installed one.
fn promtool() -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let unpacked = Path::new(ROOT).join(target).join("readers/usr/bin/promtool");
    Command::new(if unpacked.exists() { unpacked } else { "promtool".into() })
}

/// Puts the lines of each entry together again, which are as many as fit beside the path of a test's directory.
fn unwrapped(text: &str) -> String {
    text.replace("\n            ", " ")
}

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

/// The standby whose answers are written down below.
fn example() -> Standby {
    let standby = Standby::that_waits();
    standby.make_hole();
    let site = &standby.site;
    site.put("00000002.history", "1\t0/700100\tno recovery target specified\n");
    site.put("000000010000000000000008.partial", vec![0; wal::MB]);
    site.put("000000010000000000000001.00000028.backup", "");
    site.write(
        "archive/.pg_standby/dr1",
        "000000010000000000000002\nasked for 000000010000000000000004 since 2026-11-25T10:00:00Z\n",
    );
    site.write("archive/.pg_standby/dr2", "000000010000000000000001\n");
    for name in site.listing() {
        make_older(&site.archive().join(name), 3600);
    }
    make_older(&site.archive().join(after(MISSING, 3)), 1800);
    make_older(&site.archive().join(".pg_standby/dr1"), 1200);
    make_older(&site.archive().join(".pg_standby/dr2"), 26 * 3600);
    standby
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
    assert_eq!(text, include_str!("status.json"));
}

/// Every kind of trouble, how it is made, and how the text begins then.
type Fault = (&'static str, i32, fn(&mut Standby));

const FAULTS: [Fault; 45] = [
    ("OK          the standby has asked for everything that is in the archive", 0, |_| ()),
    ("HOLE        000000010000000000000004 is missing, 05 to 07 are there", 2, |it| it.make_hole()),
    ("HOLE        000000010000000000000004 and 2 more are missing, 07 is there", 2, |it| {
        it.site.put_segment(&after(MISSING, 3));
    }),
    ("HOLE        000000010000000000000002 is missing, 03 is there", 2, |it| {
        fs::remove_file(it.archive().join("000000010000000000000002")).unwrap();
    }),
    (
        "HOLE        000000010000000000000004 is missing (there is only its .xz), 05 to 07",
        2,
        |it| {
            it.make_hole();
            it.site.put(&format!("{MISSING}.xz"), "");
        },
    ),
    ("CLUSTER     000000010000000000000004 is from another cluster: found system", 2, |it| {
        it.site.put(MISSING, Segment::named(MISSING).with(|it| it.system_identifier = 42).bytes());
    }),
    ("SEGMENT     000000010000000000000004 is not ready: begins with zeros: found", 2, |it| {
        make_older(&it.site.put(MISSING, vec![0; wal::MB]), 61);
    }),
    ("SEGMENT     000000010000000000000004 is not ready: too short: found 1048575", 2, |it| {
        let mut bytes = Segment::named(MISSING).bytes();
        bytes.pop();
        make_older(&it.site.put(MISSING, bytes), 61);
    }),
    ("SEGMENT     000000010000000000000004 is not ready: wrong part of WAL: found", 2, |it| {
        it.site.put(MISSING, Segment::named(SEGMENT).bytes());
    }),
    ("SEGMENT     000000010000000000000004 is not ready: not a regular file", 2, |it| {
        fs::create_dir(it.archive().join(MISSING)).unwrap();
    }),
    ("SEGMENT     000000010000000000000004 is not ready: not a regular file", 2, |it| {
        symlink("nowhere", it.archive().join(MISSING)).unwrap();
    }),
    ("SEGMENT     000000010000000000000004 is not ready: could not be read: Too many", 2, |it| {
        symlink(MISSING, it.archive().join(MISSING)).unwrap();
    }),
    ("SEGMENT     000000010000000000000001 is not ready: not WAL: found magic", 1, |it| {
        it.site.put("000000010000000000000001", vec![7; wal::MB]);
    }),
    ("FORM        there is only 000000010000000000000004.partial, which is not read", 1, |it| {
        it.site.put(&format!("{MISSING}.partial"), vec![0; wal::MB]);
    }),
    ("FORM        there is only 000000010000000000000004.bz2, which is not read", 2, |it| {
        it.site.put(&format!("{MISSING}.bz2"), "");
    }),
    ("EMPTY       the archive holds no segment", 1, |it| {
        for name in it.site.listing() {
            fs::remove_file(it.archive().join(name)).unwrap();
        }
    }),
    ("TIMELINE    timeline 2 began at 0/400100; the standby still asks for", 2, |it| {
        it.site.put("00000002.history", "1\t0/400100\tno recovery target specified\n");
        it.site.put_segment("000000020000000000000004");
    }),
    ("HISTORY     00000002.history is not ready: incomplete history file: expected a", 2, |it| {
        make_older(&it.site.put("00000002.history", ""), 61);
    }),
    ("HISTORY     00000002.history is not ready: incomplete history file: expected a", 2, |it| {
        make_older(&it.site.put("00000002.history", "1\t0/400100\tno rec"), 61);
    }),
    ("HISTORY     00000002.history is not ready: not a regular file", 2, |it| {
        fs::create_dir(it.archive().join("00000002.history")).unwrap();
    }),
    ("HISTORY     00000002.history is not ready: not a regular file", 2, |it| {
        mkfifo(&it.archive().join("00000002.history"), Mode::from_bits_truncate(0o600)).unwrap();
    }),
    ("HISTORY     00000002.history is not ready: not a regular file", 2, |it| {
        symlink("/dev/zero", it.archive().join("00000002.history")).unwrap();
    }),
    ("HISTORY     00000002.history is not ready: not a regular file", 2, |it| {
        symlink("nowhere", it.archive().join("00000002.history")).unwrap();
    }),
    ("HISTORY     00000002.history.gz is not ready: not compressed: begins with", 2, |it| {
        it.site.put("00000002.history.gz", "1\t0/400100\tno recovery target specified\n");
    }),
    ("HISTORY     00000002.history.gz is not ready: too long: decompresses to more", 2, |it| {
        it.site.put("00000002.history.gz", gzip(&vec![b'\n'; 64 * wal::MB]));
    }),
    ("OK          the standby has asked for everything", 0, |it| {
        it.site.put("00000002.history", "");
        it.site.put("00000003.history", "3\t0/4");
        let later = "1\t0/700100\tno recovery target specified\n";
        it.site.put("00000003.history.gz", gzip(later.as_bytes()));
    }),
    ("HISTORY     00000002.history is missing, segments of timeline 2 are there from", 2, |it| {
        let name = "000000020000000000000004";
        it.site.put_segment(name);
        make_older(&it.archive().join(name), 61);
    }),
    ("SEGMENT     000000010000000000000004 is not ready: compressed data cut short", 2, |it| {
        let mut bytes = gzip(&Segment::named(MISSING).bytes());
        bytes.truncate(100);
        make_older(&it.site.put(&format!("{MISSING}.gz"), bytes), 61);
    }),
    ("SEGMENT     000000010000000000000004 is not ready: too long: found 1048577", 2, |it| {
        let mut bytes = Segment::named(MISSING).bytes();
        bytes.push(0);
        it.site.put(MISSING, bytes);
    }),
    ("ARCHIVE     could not read", 2, |it| fs::remove_dir_all(it.archive()).unwrap()),
    ("PRIMARY     the server is not in recovery: it has been promoted", 2, |it| {
        fs::remove_file(it.site.path().join("recovery.signal")).unwrap();
    }),
    ("STOPPED     the standby does not run", 2, |it| drop(it.postmaster.take())),
    ("STOPPED     the standby does not run", 2, |it| {
        // After a crash of the machine another process has the number.
        it.site.write("postmaster.pid", format!("{}\n", std::process::id()));
    }),
    ("TRIGGER     trigger file", 1, |it| fs::write(it.site.trigger(), "never").unwrap()),
    ("TRIGGER     pg_ctl promote or pg_promote() has asked for failover", 1, |it| {
        it.site.write("promote", "");
    }),
    ("TRIGGER     -t does not work in the standby mode of PostgreSQL 9.0", 1, |it| {
        it.site.write("PG_VERSION", "9.0\n");
        it.site.write("recovery.conf", "standby_mode = on\n");
    }),
    ("UNKNOWN     could not read \"global/pg_control\": file is too short", 1, |it| {
        it.site.write("global/pg_control", "short");
    }),
    ("UNKNOWN     when 000000010000000000000003 came is not known: its time is 9", 1, |it| {
        make_newer(&it.archive().join("000000010000000000000003"), 10 * 24 * 3600);
    }),
    ("STANDBY     the registration of dr1 names no segment; nothing is pruned", 1, |it| {
        it.site.write("archive/.pg_standby/dr1", "nonsense\n");
    }),
    ("STANDBY     the registration of dr1 has a second line that says nothing; nothing", 1, |it| {
        it.site.write("archive/.pg_standby/dr1", format!("{SEGMENT}\nasked for {SEGMENT}\n"));
    }),
    (
        "STANDBY     the registration of dr1 is something other than a short file; nothing",
        1,
        |it| {
            fs::create_dir_all(it.archive().join(".pg_standby/dr1")).unwrap();
        },
    ),
    (
        "STANDBY     the registration of dr1 is something other than a short file; nothing",
        1,
        |it| {
            it.site.write("archive/.pg_standby/.dr1", "");
            let path = it.archive().join(".pg_standby/dr1");
            mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        },
    ),
    (
        "STANDBY     the registration of dr1 is something other than a short file; nothing",
        1,
        |it| {
            it.site.write("archive/.pg_standby/.dr1", "");
            symlink("/dev/zero", it.archive().join(".pg_standby/dr1")).unwrap();
        },
    ),
    ("STANDBY     the registration of \"x\\nHOLE \\u{1b}[31m\" names no segment", 1, |it| {
        it.site.write("archive/.pg_standby/x\nHOLE \x1b[31m", "nonsense\n");
    }),
    ("ELSEWHERE   the standby waits for files in another archive,", 1, |it| {
        it.waiting = None;
        let site = Site::with("elsewhere", "pg_wal/RECOVERYXLOG");
        let args =
            [site.archive().as_os_str(), OsStr::new(MISSING), OsStr::new("pg_wal/RECOVERYXLOG")];
        it.waiting = Some(Process::in_directory(it.site.path(), program(), &args));
        it.elsewhere = Some(site);
    }),
];

#[test]
fn the_first_line_names_each_fault_that_is_planted() {
    for (beginning, status, plant) in FAULTS {
        let mut standby = Standby::that_waits();
        plant(&mut standby);
        let answer = standby.asks(&["--status"]);
        let text = answer.with_status(status);
        let begins = unwrapped(&text).starts_with(beginning);
        assert!(begins, "{beginning:?} does not begin\n{text}");
        let is_shown = |it: char| it == '\n' || !it.is_control();
        assert!(text.chars().all(is_shown), "{text:?}");
        for line in text.lines() {
            let is_one_word = !line.get(12..).unwrap_or_default().contains(' ');
            assert!(line.chars().count() <= 80 || is_one_word, "{line:?}");
        }
        let code = beginning.split(' ').next().unwrap().to_lowercase();
        let read: serde_json::Value =
            serde_json::from_str(&standby.asks(&["--status=json"]).with_status(status)).unwrap();
        let first = read["troubles"].get(0).map_or("ok", |it| it["code"].as_str().unwrap());
        assert_eq!(first, code);
        let line = standby.asks(&["--status=plugin"]).with_status(status);
        assert!(status == 0 || line.contains(&format!(" - {code}: ")), "{line}");
        let page = standby.asks(&["--status=prometheus"]).with_status(status);
        assert!(page.contains(&format!("\npg_standby_state {status}\n")), "{page}");
    }
}

#[test]
fn what_others_wrote_reads_every_form() {
    let schema = Path::new(ROOT).join("docs/status.schema.json");
    let validate = "import json, sys, jsonschema; from jsonschema import Draft7Validator as V; \
        s = json.load(open(sys.argv[1])); V.check_schema(s); V(s).validate(json.load(sys.stdin))";
    // Label, value, unit, warning and critical of each.
    let parse = "use Monitoring::Plugin::Performance; $/ = undef; my ($text, $data) = split /\\|/, <STDIN>; \
        for (Monitoring::Plugin::Performance->parse_perfstring($data)) { \
        print join(' ', $_->label, $_->value =~ /^[0-9]+$/ ? 'number' : 'nothing', $_->uom, \
        defined $_->warning ? $_->warning : '', defined $_->critical ? $_->critical : ''), qq(\\n) }";
    let mut seen = BTreeMap::new();
    for (beginning, _, plant) in FAULTS {
        let mut standby = Standby::that_waits();
        plant(&mut standby);
        let page = standby.asks(&["--status=prometheus"]).text;
        let promtool = &mut promtool();
        let output = of_others(promtool.args(["check", "metrics"]), &page);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}\n{page}");

        let json = standby.asks(&["--status=json"]).text;
        let python = &mut Command::new("/usr/bin/python3");
        let output = of_others(python.args(["-c", validate]).arg(&schema), &json);
        assert!(output.status.success(), "{}\n{json}", String::from_utf8_lossy(&output.stderr));

        let line = standby.asks(&["--status=plugin", "--behind=3,20", "--silent=600"]).text;
        let perl = &mut Command::new("/usr/bin/perl");
        let output = of_others(perl.args(["-e", parse]), &line);
        let parsed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            parsed.lines().count(),
            line.split('|').nth(1).unwrap().split_whitespace().count()
        );
        assert_eq!(line.lines().count(), 1);
        seen.insert(beginning, parsed);
    }
    let well = FAULTS[0].0;
    assert_eq!(
        seen[well],
        "behind number  3 20\nsilent number s 600 \nwaiting number s  \nmissing number   \nnot_ready number   \n\
         segments number   \nsize number B  \nfree number B  \n"
    );
}

#[test]
fn the_man_page_explains_everything_that_can_be_wrong() {
    let schema = fs::read_to_string(Path::new(ROOT).join("docs/status.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let codes = &schema["properties"]["troubles"]["items"]["properties"]["code"]["enum"];
    let page = fs::read_to_string(Path::new(ROOT).join("man/pg_standby.1")).unwrap();
    let explained =
        page.split(".SS What can be wrong").nth(1).unwrap().split(".SS").next().unwrap();
    let tags = explained.lines().filter_map(|line| line.strip_prefix(".B"));
    let tags: Vec<_> = tags.flat_map(|tag| tag.split(|it: char| !it.is_alphabetic())).collect();
    for code in codes.as_array().unwrap() {
        assert!(tags.contains(&code.as_str().unwrap()), "{code}");
    }
    let planted = FAULTS.map(|(line, ..)| line.split(' ').next().unwrap().to_lowercase());
    let missing = codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap());
    let missing: Vec<_> = missing.filter(|code| !planted.contains(&(*code).to_owned())).collect();
    assert_eq!(missing, ["full", "behind", "silent"], "these have tests of their own");
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

/// Everything that can be seen of the files below a directory without reading them.
fn traces(directory: &Path) -> Vec<(PathBuf, u64, i64, i64, i64, i64)> {
    let mut all = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let it = fs::symlink_metadata(&path).unwrap();
        all.push((
            path.clone(),
            it.len(),
            it.mtime_nsec(),
            it.ctime(),
            it.ctime_nsec(),
            it.atime_nsec(),
        ));
        if it.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

#[test]
fn looking_leaves_no_trace() {
    let standby = example();
    // A directory that has changed since it was read keeps the time when it is read again.
    standby.site.put("another", "");
    let read = |path: &Path| fs::metadata(path).map(|it| (it.atime(), it.atime_nsec())).unwrap();
    let before = read(standby.archive());
    standby.asks(&["--status"]).with_status(2);
    assert_eq!(read(standby.archive()), before);
    // Whoever looks at these directories leaves traces: not this test, from now on.
    traces(standby.site.path());
    let before = traces(standby.archive());
    for form in ["--status", "--status=json", "--status=plugin", "--status=prometheus"] {
        standby.asks(&[form, "--verify=records"]).with_status(2);
    }
    assert_eq!(traces(standby.archive()), before);
    assert_eq!(fs::read_dir(standby.site.path()).unwrap().count(), 6);
}

#[test]
fn records_are_read_where_that_is_asked_for() {
    let standby = Standby::that_waits();
    let name = "000000010000000000000003";
    let mut bytes = Segment::named(name).with_records(20).bytes();
    bytes[Segment::record(7) + 30] ^= 1;
    standby.site.put(name, bytes);
    let text = standby.asks(&["--status"]).with_status(0);
    assert!(!text.contains("checked"), "{text}");
    let text = standby.asks(&["--status", "--verify=records"]).with_status(1);
    let lsn = format!("0/{:X}", (3 << 20) + Segment::record(7));
    let said = format!("SEGMENT     {name} is not ready: the server could read");
    assert!(text.starts_with(&said), "{text}");
    assert!(unwrapped(&text).contains(&format!("up to {lsn}, where record")), "{text}");
    assert!(
        text.contains("\nchecked     the records of 3, the headers of 3 and the lengths of 3"),
        "{text}"
    );
    let json = standby.asks(&["--status=json", "--verify=records"]).with_status(1);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["archive"]["not_ready"][0]["lsn"], lsn);
    assert_eq!(read["archive"]["records_checked"], 3);
}

#[test]
fn a_large_archive_is_looked_at_in_few_system_calls() {
    const FILES: u32 = 100_000;
    const OPENED: usize = 1000;
    let site = Site::new();
    let whole = site.path().join("whole");
    let number = |number: u32| format!("00000001{:08X}{:08X}", number / 4096, number % 4096);
    for count in 0..FILES {
        // A file cannot have as many names.
        if count % 50_000 == 0 {
            let _ = fs::remove_file(&whole);
            crate::site::write(&whole, Segment::named(&number(1)).bytes());
        }
        fs::hard_link(&whole, site.archive().join(number(count))).unwrap();
    }
    let trace = site.path().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-o"])
        .arg(&trace)
        .arg(program())
        .args(["--status=json"])
        .arg(site.archive());
    let output = of_others(&mut strace, "");
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["archive"]["segments"], FILES);
    let opened = usize::try_from(read["archive"]["headers_checked"].as_u64().unwrap()).unwrap();
    assert!((OPENED / 2..=OPENED + 1).contains(&opened), "{opened}");
    assert_eq!(read["archive"]["missing_segments"], 0);
    // All of them are the one of number 1. The newest is among those that were looked at.
    let bad = read["archive"]["not_ready"].as_array().unwrap();
    assert_eq!(bad.len(), opened - 1);
    assert_eq!(bad.last().unwrap()["segment"], number(FILES - 1));
    let trace = fs::read_to_string(trace).unwrap();
    let calls = trace.lines().count();
    let opens = trace.lines().filter(|line| line.contains("openat(")).count();
    assert!(opens <= opened + 100, "{opens} files were opened");
    assert!(calls <= FILES as usize + 5 * opened + 1000, "{calls} system calls");
}

/// The answer where the kernel answers otherwise for one file, as strace's `inject` has it.
fn with_injected(site: &Site, name: &str, faults: &[&str]) -> String {
    with_injected_and(site, name, faults, &[])
}

fn with_injected_and(site: &Site, name: &str, faults: &[&str], options: &[&str]) -> String {
    let path = fs::canonicalize(site.archive()).unwrap().join(name);
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-P"]).arg(&path);
    for fault in faults {
        strace.arg("-e").arg(format!("inject={fault}"));
    }
    strace.arg(program()).arg("--status").args(options).arg(path.parent().unwrap());
    let output = of_others(&mut strace, "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_file_that_goes_away_meanwhile_is_no_error_but_an_archive_that_does_is() {
    let site = Site::with_five_segments();
    let first = "000000010000000000000001";
    let well = "OK          nothing is wrong with the archive\n";
    // Before its length was asked for, and before it was opened.
    let text = with_injected(&site, first, &["statx:error=ENOENT"]);
    assert!(text.starts_with(well) && text.contains("; 4 segments, 4 MB; "), "{text}");
    let gone = ["openat:error=ENOENT", "statx:error=ENOENT:when=2+"];
    let text = with_injected(&site, first, &gone);
    assert!(text.starts_with(well) && text.contains("; 5 segments, 5 MB; "), "{text}");
    assert!(text.contains("\nchecked     the headers of 4 and the lengths of 5"), "{text}");

    // One that came while the directory was read, and was not listed.
    let listed = ["statx:error=ENOENT:when=1..2"];
    let text = with_injected(&site, "000000010000000000000003", &listed);
    assert!(text.starts_with(well) && text.contains("; 4 segments, 4 MB; "), "{text}");

    // What is wrong with one file is not said of the archive, and hides nothing.
    let text = unwrapped(&with_injected(&site, first, &["statx:error=ESTALE"]));
    let said = format!("SEGMENT     {first} is not ready: could not be read: Stale file handle");
    assert!(text.starts_with(&said) && text.contains("; 5 segments, 4 MB; "), "{text}");
    // Unmounted while it was looked at, so that it looked empty.
    let required = ["--require-file", "mounted"];
    let text =
        Answer::of(Command::new(program()).arg("--status").args(required).arg(site.archive()));
    assert!(text.with_status(2).starts_with("ARCHIVE     could not read"));
    site.put("mounted", "");
    let text = with_injected_and(&site, "mounted", &["statx:error=ENOENT:when=3"], &required);
    assert!(text.starts_with(well), "{text}");
    let text = with_injected_and(&site, "mounted", &["statx:error=ENOENT:when=2"], &required);
    assert!(text.starts_with("ARCHIVE     could not read"), "{text}");

    let text = unwrapped(&with_injected(&site, first, &["pread64:error=EIO"]));
    let said = format!("SEGMENT     {first} is not ready: could not be read: Input/output error");
    assert!(text.starts_with(&said), "{text}");
    assert!(with_injected(&site, first, &["pread64:error=EINTR:when=1"]).starts_with(well));
}

#[test]
fn between_two_calls_the_startup_process_says_what_is_replayed() {
    let mut standby = Standby::that_waits();
    standby.waiting = None;
    let asks = |standby: &Standby| standby.asks(&["--status"]).with_status(0);
    let text = asks(&standby);
    assert!(!text.contains("waiting for") && !text.contains("behind"), "{text}");
    // It is pruned as soon as it has been handed over.
    fs::remove_file(standby.archive().join("000000010000000000000001")).unwrap();
    let title = "exec -a 'postgres: startup recovering 000000010000000000000001' sleep 1000";
    let args = ["-c", title].map(OsStr::new);
    let startup = Process::in_directory(standby.site.path(), "bash", &args);
    crate::site::wait_until("it is named", || asks(&standby).contains("waiting for"));
    let text = asks(&standby);
    assert!(
        text.starts_with("OK          the standby is replaying what is in the archive\n"),
        "{text}"
    );
    assert!(
        text.contains("\nwaiting for nothing: 000000010000000000000001 is being replayed\n"),
        "{text}"
    );
    assert!(text.contains("\nbehind      2 segments that are in the archive\n"), "{text}");
    let end = "000000010000000000000004 and lose nothing\n";
    assert!(text.contains(&format!("\nfailover    now would end before {end}")), "{text}");

    // It has the history of a later timeline, and will go over to that.
    let history = "1\t0/300100\tno recovery target specified\n";
    standby.site.put("00000002.history", history);
    standby.site.write("pg_wal/00000002.history", history);
    standby.site.put_segment("000000020000000000000003");
    standby.site.put_segment("000000020000000000000004");
    let text = asks(&standby);
    assert!(text.contains("\nbehind      3 segments that are in the archive\n"), "{text}");
    assert!(text.contains("\ntimelines   2; none later in the archive\n"), "{text}");
    drop(startup);
}

#[test]
fn an_archive_without_room_for_a_segment_is_full() {
    if !geteuid().is_root() {
        eprintln!("only root can mount a small disk: this needs a run as root");
        return;
    }
    let site = Site::new();
    let small = Some("size=3m");
    mount(Some("tmpfs"), site.archive(), Some("tmpfs"), MsFlags::empty(), small).unwrap();
    let asks = || Answer::of(Command::new(program()).arg("--status").arg(site.archive()));
    site.put_segment("000000010000000000000001");
    let well = asks();
    site.put_segment("000000010000000000000002");
    site.put("000000010000000000000003.partial", [1]);
    let full = asks();
    umount2(site.archive(), MntFlags::MNT_DETACH).unwrap();
    let text = well.with_status(0);
    assert!(text.contains("answers; tmpfs; 1 segment, 1 MB; 2 MB free"), "{text}");
    assert!(full.with_status(2).starts_with("FULL        1020 kB are free, less than a segment"));
}

#[test]
fn a_trigger_file_that_was_left_behind_is_told_with_its_owner() {
    let mut standby = Standby::that_waits();
    standby.waiting = None;
    let trigger = standby.site.trigger();
    let asks = |standby: &Standby| {
        let text = standby.asks(&["--status", "-t", trigger.to_str().unwrap()]);
        (text.status, unwrapped(&text.text))
    };
    let (status, text) = asks(&standby);
    assert!(status == 0 && text.starts_with("OK  "), "{text}");
    for (content, word) in [
        ("", "smart"),
        ("fast\n", "fast"),
        ("smart before 000000010000000000000003\n", "smart before"),
    ] {
        fs::write(&trigger, content).unwrap();
        let (status, text) = asks(&standby);
        let start = format!("TRIGGER     trigger file {trigger:?} of ");
        assert!(status == 1 && text.starts_with(&start), "{text}");
        assert!(text.contains(&format!(" asks for failover ({word}) recovery will end")), "{text}");
    }
    standby.postmaster = None;
    let (status, text) = asks(&standby);
    assert!(status == 2 && text.starts_with("STOPPED "), "{text}");
    assert!(text.contains("(smart before) remove it, or the standby promotes once"), "{text}");
    fs::remove_file(standby.site.path().join("recovery.signal")).unwrap();
    let (_, text) = asks(&standby);
    assert!(text.contains("(smart before) remove it, or the next standby that"), "{text}");
}

#[test]
fn a_file_of_the_server_that_would_never_end_is_not_read() {
    let standby = Standby::that_waits();
    let fifo = |path: &Path| mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
    fs::create_dir_all(standby.site.path().join("pg_wal")).unwrap();
    fifo(&standby.site.path().join("pg_wal/00000002.history"));
    standby.asks(&["--status"]).with_status(0);
    let version = standby.site.path().join("PG_VERSION");
    for plant in [&fifo, &|path: &Path| symlink("/dev/zero", path).unwrap()] as [&dyn Fn(&Path); 2]
    {
        fs::remove_file(&version).unwrap();
        plant(&version);
        let answer = standby.asks(&["--status"]);
        let said = format!("not a data directory: could not read {version:?}: not a regular file");
        assert!(answer.status == 202 && answer.stderr.contains(&said), "{}", answer.stderr);
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
fn without_a_data_directory_the_archive_alone_is_looked_at() {
    let site = Site::with_five_segments();
    let text =
        Answer::of(Command::new(program()).arg("--status").arg(site.archive())).with_status(0);
    assert!(text.starts_with("OK          nothing is wrong with the archive\nnewest "), "{text}");
    assert!(!text.contains("standby ") && !text.contains("failover"), "{text}");

    // What a standby elsewhere has registered tells how far it is.
    site.write(
        "archive/.pg_standby/far",
        "000000010000000000000002\nasked for 000000010000000000000003 since 2026-11-25T10:00:00Z\n",
    );
    let args = ["--status", "--standby-name=far"];
    let text = Answer::of(Command::new(program()).args(args).arg(site.archive())).with_status(0);
    assert!(text.contains("\nbehind      2 segments that are in the archive\n"), "{text}");

    // The working directory counts where it is a data directory.
    site.write("PG_VERSION", "18\n");
    let ended = site.runs(["--status", "archive"]).ends().with_status(2);
    assert!(ended.stdout.starts_with("PRIMARY "), "{ended:?}");
}

#[test]
fn an_idle_primary_makes_no_lag_and_a_limit_is_exceeded_above_it() {
    let standby = Standby::that_waits();
    for name in standby.site.listing() {
        make_older(&standby.archive().join(name), 7200);
    }
    let limits = ["--status", "--behind=0,0"];
    let text = standby.asks(&limits).with_status(0);
    assert!(text.contains("\nbehind      nothing that is in the archive\n"), "{text}");
    standby.asks(&["--status", "--silent=7300"]).with_status(0);
    let text = standby.asks(&["--status", "--silent=7000"]).with_status(1);
    assert!(
        text.starts_with("SILENT      nothing has come for 2 h, the limit is 1 h 56 min"),
        "{text}"
    );
    standby.asks(&["--status", "--silent=60,7000"]).with_status(2);
    // A time that cannot be true hides nothing.
    make_newer(&standby.archive().join("000000010000000000000003"), 3600);
    let text = standby.asks(&["--status", "--silent=60,7000"]).with_status(2);
    assert!(text.contains("\nnewest      000000010000000000000002, arrived 2 h ago"), "{text}");
    standby.make_hole();
    standby.asks(&["--status=plugin", "--behind=3"]).with_status(2);
}

#[test]
fn holes_are_looked_for_along_the_line_of_timelines() {
    let site = Site::new();
    let asks = || Answer::of(Command::new(program()).arg("--status").arg(site.archive()));
    // The second began within the segment 3, and the old primary has gone on to 6.
    site.put("00000002.history", "1\t0/300100\tno recovery target specified\n");
    for name in ["000000010000000000000002", "000000010000000000000003", "000000010000000000000006"]
    {
        site.put_segment(name);
    }
    for name in ["000000020000000000000003", "000000020000000000000004"] {
        site.put_segment(name);
    }
    let text = asks().with_status(0);
    assert!(text.contains("\ntimelines   2; none later in the archive\n"), "{text}");
    fs::remove_file(site.archive().join("000000020000000000000003")).unwrap();
    let text = asks().with_status(2);
    assert!(
        text.starts_with("HOLE        000000020000000000000003 is missing, 04 is there"),
        "{text}"
    );
}

#[test]
fn other_standbys_may_need_what_this_one_has_replayed() {
    let standby = Standby::that_waits();
    fs::remove_file(standby.archive().join("000000010000000000000001")).unwrap();
    standby.site.put_segment("000000010000000000000000");
    let text = unwrapped(&standby.asks(&["--status"]).with_status(0));
    let said = "\nholes       1 segment that no standby needs is missing, from 000000010000000000000001 on";
    assert!(text.contains(said), "{text}");
    standby.site.write("archive/.pg_standby/dr1", "000000010000000000000000\n");
    let text = standby.asks(&["--status"]).with_status(2);
    assert!(
        text.starts_with("HOLE        000000010000000000000001 is missing, 02 to 03"),
        "{text}"
    );
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
