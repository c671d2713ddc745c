//! Every kind of trouble is planted, and named in each form of the answer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::site::{SEGMENT, Site, program};
use crate::wal::{self, Segment, after};

use super::{
    MISSING, Process, ROOT, Standby, gzip, make_newer, make_older, of_others, promtool, unwrapped,
};

/// Every kind of trouble, how it is made, and how the text begins then.
type Fault = (&'static str, i32, fn(&mut Standby));

const FAULTS: [Fault; 49] = [
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
    (
        "SEGMENT     000000010000000000000004 is not ready: the server could read it only up",
        2,
        |it| {
            let mut bytes = Segment::named(MISSING).with_records(20).bytes();
            bytes[Segment::record(7) + 30] ^= 1;
            it.site.put(MISSING, bytes);
        },
    ),
    (
        "SEGMENT     000000010000000000000004 is not ready: the server could read it only up",
        2,
        |it| {
            // Its first record does not follow the last one that the server has replayed.
            let before = "000000010000000000000003";
            let bytes = Segment::named(before).with_records(3).bytes();
            it.site.write(&format!("pg_wal/{before}"), bytes);
            it.site.put(MISSING, Segment::named(MISSING).with_records(20).bytes());
        },
    ),
    ("SEGMENT     000000010000000000000004 is not ready: not a regular file", 2, |it| {
        fs::create_dir(it.archive().join(MISSING)).unwrap();
    }),
    ("SEGMENT     000000010000000000000004 is not ready: not a regular file", 2, |it| {
        symlink("nowhere", it.archive().join(MISSING)).unwrap();
    }),
    ("SEGMENT     000000010000000000000004 is not ready: could not be read: ", 2, |it| {
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
    ("CONSISTENCY the standby is not consistent yet, and would stop at a failover", 1, |it| {
        let postmaster = it.postmaster.as_ref().unwrap().0.id();
        let lines = format!("{postmaster}\n/data\n0\n5432\n/tmp\n*\n 1 2\nstarting\n");
        it.site.write("postmaster.pid", lines);
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
    ("STANDBY     could not read", 1, |it| it.site.write("archive/.pg_standby", "")),
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
