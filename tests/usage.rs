//! The command line: what is taken, what is refused, and that a refusal touches nothing.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use support::{SEGMENT, Site};

/// What follows the options in most lines here.
fn operands(site: &Site) -> Vec<OsString> {
    vec![site.archive().into(), SEGMENT.into(), site.destination().into()]
}

#[test]
fn a_bad_command_line_is_202_says_what_is_wrong_and_touches_nothing() {
    let cases: [(&[&str], &str); 29] = [
        (&["-s", "0"], "option -s (--sleep-time) cannot be \"0\": expected seconds from 0.1 to 60"),
        (&["-s", "60.1"], "cannot be \"60.1\""),
        (&["-s", "nan"], "cannot be \"nan\""),
        (&["-s", "-5"], "cannot be \"-5\""),
        (&["-s", "5s"], "cannot be \"5s\""),
        (&["-s", ""], "cannot be \"\""),
        (&["--sleep-time=soon"], "cannot be \"soon\""),
        (&["-r", "-1"], "option -r (--max-retries) cannot be \"-1\": expected a whole number"),
        (&["-r", "3.5"], "cannot be \"3.5\""),
        (&["-w", "-1"], "option -w (--max-wait-time) cannot be \"-1\""),
        (&["-w", "0.5"], "cannot be \"0.5\""),
        (&["-k", "many"], "option -k (--keep-files) cannot be \"many\""),
        (&["-k", "4294967296"], "cannot be \"4294967296\""),
        (&["-z"], "there is no option \"-z\""),
        (&["-dz"], "there is no option \"-z\""),
        (&["--sleeptime", "5"], "there is no option \"--sleeptime\""),
        (&["--trigger"], "there is no option \"--trigger\""),
        (&["--debug=yes"], "option --debug takes no value"),
        (
            &["--on-error=retry"],
            "option --on-error cannot be \"retry\": expected \"hold\" or \"promote\"",
        ),
        (&["--on-error", "promote", "-z"], "there is no option \"-z\""),
        (
            &["--require-file", "a/b"],
            "--require-file cannot be \"a/b\": expected the name of a file",
        ),
        (&["--require-file", ".."], "--require-file cannot be \"..\""),
        (&["--require-file="], "--require-file cannot be \"\""),
        (&["--link=1"], "option --link takes no value"),
        (&["-n"], "option -n (--dry-run) needs --prune"),
        (&["--standby-name", ".hidden"], "option --standby-name cannot be \".hidden\": expected"),
        (&["--standby-name", "a/b"], "option --standby-name cannot be \"a/b\": expected"),
        (&["--standby-name="], "option --standby-name cannot be \"\": expected"),
        (&["--standby-name", "a"], "RESTARTWALFILE is missing: expected %r behind %p"),
    ];
    for (options, message) in cases {
        let site = Site::new();
        site.put_segment(SEGMENT);
        fs::write(site.trigger(), "fast").unwrap();
        let ended = site.asks(options, SEGMENT).with_trigger().ends().with_status(202);
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{options:?}: {ended:?}");
        assert!(lines[0].starts_with("pg_standby: error: "), "{ended:?}");
        assert!(lines[0].contains(message), "{options:?}: {message:?} is not in {:?}", lines[0]);
        assert_eq!(lines[1], "pg_standby: try \"pg_standby --help\"");
        assert_eq!(ended.stdout, "");
        assert_eq!(site.restored(), None);
        assert_eq!(site.listing(), [SEGMENT]);
        assert_eq!(fs::read_to_string(site.trigger()).unwrap(), "fast");
    }
}

#[test]
fn a_missing_operand_is_named() {
    let site = Site::new();
    let all = operands(&site);
    for (count, missing) in ["ARCHIVELOCATION", "NEXTWALFILE", "XLOGFILEPATH"].iter().enumerate() {
        let ended = site.runs(all[..count].to_vec()).ends().with_status(202);
        ended.saying(&format!("error: {missing} is missing: expected ARCHIVELOCATION NEXTWALFILE"));
    }
}

#[test]
fn an_option_without_its_value_is_named() {
    let site = Site::new();
    for (option, name) in
        [("-s", "--sleep-time"), ("-t", "--trigger-file"), ("-r", "--max-retries")]
    {
        let ended = site.runs(operands(&site)).arg(option).ends().with_status(202);
        ended.saying(&format!("option {name} needs a value"));
    }
}

#[test]
fn a_name_that_no_server_asks_for_is_202_even_where_such_a_file_exists() {
    let site = Site::new();
    let lower = SEGMENT.to_lowercase().replace('5', "a");
    for name in ["nonsense", "../0000000100000000000000AA", &lower, "", "00000001.history.gz", "/"]
    {
        if !name.is_empty() && !name.contains('/') {
            site.put(name, "something");
        }
        let ended = site.asks(&[], name).ends().with_status(202);
        ended.saying("is no name of a WAL file: expected NEXTWALFILE");
        assert_eq!(site.restored(), None, "{name:?}");
    }
}

#[test]
fn a_destination_that_names_no_file_is_202() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    for destination in ["", "/", "pg_wal/.."] {
        let args: [OsString; 3] = [site.archive().into(), SEGMENT.into(), destination.into()];
        site.runs(args).ends().with_status(202).saying("expected XLOGFILEPATH");
    }
}

#[test]
fn every_way_to_write_an_option_works() {
    let lines: [&[&str]; 9] = [
        &["-dlc", "-s5", "-k0", "-r3", "-w7"],
        &["-d", "-c", "-l", "-s", "0.1", "-k", "2", "-r", "0", "-w", "0", "-t", "trigger"],
        &["--debug", "--copy", "--link", "--sleep-time=60", "--keep-files=2", "--max-retries=1"],
        &["--sleep-time", "60", "--max-wait-time", "9", "--trigger-file", "-odd-name"],
        &["-s", "nonsense", "-s", "5"],
        &["--on-error=hold", "--on-error", "promote", "--no-wait", "--no-wait"],
        &["-dd", "-d", "-cc"],
        &["-t", "", "-s", " 5 "],
        &["--"],
    ];
    for options in lines {
        let site = Site::new();
        let bytes = site.put_segment(SEGMENT);
        site.asks(options, SEGMENT).ends().with_status(0);
        assert_eq!(site.restored(), Some(bytes), "{options:?}");
    }
}

#[test]
fn options_may_stand_behind_and_between_operands() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    let [archive, name, destination] = operands(&site).try_into().unwrap();
    let args = [archive, "-s".into(), "1".into(), name, "-d".into(), destination, "-k3".into()];
    site.runs(args)
        .ends()
        .with_status(0)
        .saying("debug: files to keep before the requested one: 3");
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn behind_a_double_dash_everything_is_an_operand() {
    let site = Site::with("-s", "pg_wal/RECOVERYXLOG");
    let bytes = site.put_segment(SEGMENT);
    let args: [OsString; 4] = ["--".into(), "-s".into(), SEGMENT.into(), site.destination().into()];
    site.runs(args).ends().with_status(0);
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn operands_past_the_fourth_are_ignored_with_a_warning() {
    let site = Site::new();
    let bytes = site.put_segment(SEGMENT);
    let ended = site.asks(&[], SEGMENT).arg(SEGMENT).arg("x").arg("y").ends().with_status(0);
    ended.saying("warning: 2 operands too many");
    assert_eq!(site.restored(), Some(bytes));
}

#[test]
fn paths_need_not_be_utf_8() {
    let name = |name: &[u8]| OsString::from_vec(name.to_vec());
    let site = Site::with(name(b"a \xFF'b\n"), name(b"pg_wal/\xFE$x"));
    let bytes = site.put_segment(SEGMENT);
    site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));

    let trigger = name(b"trig\xFFger");
    fs::write(site.path().join(&trigger), "fast").unwrap();
    let ended = site.asks(&[], SEGMENT).arg("-t").arg(trigger).ends().with_status(1);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.saying("\"trig\\xFFger\"");
}

#[test]
fn a_relative_trigger_file_is_relative_to_the_working_directory() {
    let site = Site::new();
    site.write("trigger", "fast");
    site.asks(&["-t", "trigger"], SEGMENT).ends().with_status(1).saying("\"trigger\"");
}

#[test]
fn version_is_one_line_that_begins_with_the_name() {
    let site = Site::new();
    for option in ["-V", "--version"] {
        let ended = site.runs([option]).ends().with_status(0);
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
        assert!(ended.stdout.starts_with("pg_standby "), "{ended:?}");
        assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")), "{ended:?}");
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn help_goes_to_standard_output() {
    let site = Site::new();
    for option in ["-?", "--help"] {
        let ended = site.runs([option]).ends().with_status(0);
        assert!(
            ended.stdout.contains("Usage: pg_standby [OPTION]... ARCHIVELOCATION"),
            "{ended:?}"
        );
        assert_eq!(ended.stderr, "");
        let widest = ended.stdout.lines().map(str::len).max();
        assert!(widest <= Some(80), "{widest:?} columns");
    }
}

#[test]
fn help_that_cannot_be_printed_is_no_panic() {
    let site = Site::new();
    for option in ["--help", "--version"] {
        let ended = site.runs([option]).redirected(">/dev/full").ends().with_status(202);
        ended.saying("could not write to standard output");
    }
    // The runtime opens /dev/null in place of a closed stream.
    site.runs(["--help"]).redirected(">&-").ends().with_status(0);
}

#[test]
fn rust_log_sets_the_level_and_nonsense_in_it_is_survived() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let asking = || site.asks(&[], SEGMENT);
    asking().env("RUST_LOG", "debug").ends().with_status(0).saying("debug: copying");
    asking().env("RUST_LOG", "a=b=c/d/e").ends().with_status(0).saying("which is no level");
    let quiet = site.asks(&[], SEGMENT).arg("%r").env("RUST_LOG", "error").ends().with_status(0);
    quiet.in_silence();
    let full = asking().env("RUST_LOG", "a=b=c/d/e").redirected("2>/dev/full");
    full.ends().with_status(0);
}

#[test]
fn debug_names_what_will_be_done_and_each_step() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let ended = site.asks(&["-d", "-w", "9"], SEGMENT).with_trigger().ends().with_status(0);
    for words in [
        format!("file to restore: {SEGMENT}"),
        format!("archive location: {:?}", site.archive()),
        format!("destination: {:?}", site.destination()),
        format!("trigger file: Some({:?})", site.trigger()),
        "sleep time: 5s".to_owned(),
        "maximum wait time: Some(9s)".to_owned(),
        "maximum retries of a copy: 3".to_owned(),
        format!("copying {:?}, 1048576 bytes", site.archive().join(SEGMENT)),
        "restored".to_owned(),
    ] {
        assert!(ended.stderr.contains(&words), "{words:?} is not in {}", ended.stderr);
    }
    assert!(ended.stderr.lines().all(|line| line.starts_with("pg_standby: debug: ")), "{ended:?}");
}

#[test]
fn no_archive_is_202_and_names_it() {
    let site = Site::new();
    site.write("file", "");
    for location in ["nowhere", "file", "file/below", ""] {
        for name in [SEGMENT, "00000002.history"] {
            let args: [OsString; 3] = [location.into(), name.into(), site.destination().into()];
            let ended = site.runs(args).ends().with_status(202);
            ended.saying(&format!(
                "error: archive location {:?} does not exist",
                Path::new(location)
            ));
        }
    }
}

#[test]
fn a_bad_command_line_of_prune_is_202_and_removes_nothing() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let next = "000000010000000000000006";
    let archive = site.archive().to_str().unwrap();
    let cases: [(&[&str], &str); 7] = [
        (
            &["--prune"],
            "ARCHIVELOCATION is missing: expected --prune ARCHIVELOCATION RESTARTWALFILE",
        ),
        (&["--prune", archive], "RESTARTWALFILE is missing"),
        (
            &["--prune", archive, next, "pg_wal/RECOVERYXLOG"],
            "operand \"pg_wal/RECOVERYXLOG\" is too many",
        ),
        (&["--prune", archive, "00000001.history"], "\"00000001.history\" is no name of a segment"),
        (&["--prune", archive, "%r"], "\"%r\" is no name of a segment"),
        (&["--prune", "-k", "3", archive, next], "option --keep-files has no meaning with --prune"),
        (&["--prune", "-t", "trigger", archive, next], "option --trigger-file has no meaning"),
    ];
    for (line, message) in cases {
        site.runs(line.iter().copied()).ends().with_status(202).saying(message).saying("--help");
        assert_eq!(site.listing(), [SEGMENT]);
    }
}
