//! The command line: what is taken, what is refused, and that a refusal touches nothing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::site::{SEGMENT, Site};

/// The operands of most command lines here.
fn operands(site: &Site) -> Vec<OsString> {
    vec![site.archive().into(), SEGMENT.into(), site.destination().into()]
}

#[test]
fn a_bad_command_line_is_202_says_what_is_wrong_and_touches_nothing() {
    let cases: [(&[&str], &str); 31] = [
        (
            &["-s", "0"],
            "invalid value \"0\" for option -s (--sleep-time): expected seconds from 0.1 to 60",
        ),
        (&["-s", "60.1"], "invalid value \"60.1\" for"),
        (&["-s", "nan"], "invalid value \"nan\" for"),
        (&["-s", "-5"], "invalid value \"-5\" for"),
        (&["-s", "5s"], "invalid value \"5s\" for"),
        (&["-s", ""], "invalid value \"\" for"),
        (&["--sleep-time=soon"], "invalid value \"soon\" for"),
        (
            &["-r", "-1"],
            "invalid value \"-1\" for option -r (--max-retries): expected a whole number",
        ),
        (&["-r", "3.5"], "invalid value \"3.5\" for"),
        (&["-w", "-1"], "invalid value \"-1\" for option -w (--max-wait-time)"),
        (&["-w", "-0.5"], "invalid value \"-0.5\" for"),
        (&["-w", "inf"], "invalid value \"inf\" for"),
        (
            &["--verify", "pages"],
            "invalid value \"pages\" for option --verify: expected \"records\" or \"header\"",
        ),
        (&["-k", "many"], "invalid value \"many\" for option -k (--keep-files)"),
        (&["-k", "4294967296"], "invalid value \"4294967296\" for"),
        (&["-z"], "unknown option \"-z\""),
        (&["-dz"], "unknown option \"-z\""),
        (&["--sleeptime", "5"], "unknown option \"--sleeptime\""),
        (&["--trigger"], "unknown option \"--trigger\""),
        (&["--debug=yes"], "option --debug takes no value"),
        (
            &["--on-error=retry"],
            "invalid value \"retry\" for option --on-error: expected \"hold\" or \"promote\"",
        ),
        (&["--on-error", "promote", "-z"], "unknown option \"-z\""),
        (
            &["--require-file", "a/b"],
            "invalid value \"a/b\" for option --require-file: expected the name of a file",
        ),
        (&["--require-file", ".."], "invalid value \"..\" for option --require-file"),
        (&["--require-file="], "invalid value \"\" for option --require-file"),
        (&["--link=1"], "option --link takes no value"),
        (&["-n"], "option -n (--dry-run) can only be used with --prune"),
        (
            &["--standby-name", ".hidden"],
            "invalid value \".hidden\" for option --standby-name: expected",
        ),
        (&["--standby-name", "a/b"], "invalid value \"a/b\" for option --standby-name: expected"),
        (&["--standby-name="], "invalid value \"\" for option --standby-name: expected"),
        (&["--standby-name", "a"], "missing operand RESTARTWALFILE: expected %r after %p"),
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
        ended.saying(&format!(
            "error: missing operand {missing}: expected ARCHIVELOCATION NEXTWALFILE"
        ));
    }
}

#[test]
fn an_option_without_its_value_is_named() {
    let site = Site::new();
    for (option, name) in
        [("-s", "--sleep-time"), ("-t", "--trigger-file"), ("-r", "--max-retries")]
    {
        let ended = site.runs(operands(&site)).arg(option).ends().with_status(202);
        ended.saying(&format!("option {name} requires a value"));
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
        ended
            .saying("not a WAL file name: ")
            .saying("expected NEXTWALFILE, which the server gives");
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
        .saying("debug: files to keep: 3 before the requested one");
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
    ended.saying("warning: ignored operands after the fourth: 2");
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
    asking()
        .env("RUST_LOG", "a=b=c/d/e")
        .ends()
        .with_status(0)
        .saying("of RUST_LOG: expected error");
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
        format!("trigger file: {:?}", site.trigger()),
        "sleep time: 5 s".to_owned(),
        "maximum wait time: 9 s".to_owned(),
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
    let missing = "does not exist";
    for (location, what) in [
        ("nowhere", missing),
        ("file", "is not a directory"),
        ("file/below", missing),
        ("", missing),
    ] {
        for name in [SEGMENT, "00000002.history"] {
            let args: [OsString; 3] = [location.into(), name.into(), site.destination().into()];
            let ended = site.runs(args).ends().with_status(202);
            let location = Path::new(location);
            assert_eq!(ended.stderr.lines().count(), 1, "it is said once: {ended:?}");
            ended.saying(&format!("error: archive location {location:?} {what}; the server stops"));
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
            "missing operand ARCHIVELOCATION: expected --prune ARCHIVELOCATION RESTARTWALFILE",
        ),
        (&["--prune", archive], "missing operand RESTARTWALFILE"),
        (
            &["--prune", archive, next, "pg_wal/RECOVERYXLOG"],
            "unexpected operand \"pg_wal/RECOVERYXLOG\"",
        ),
        (
            &["--prune", archive, "00000001.history"],
            "not the name of a segment: \"00000001.history\"",
        ),
        (&["--prune", archive, "%r"], "not the name of a segment: \"%r\""),
        (&["--prune", "-k", "3", archive, next], "option --keep-files cannot be used with --prune"),
        (&["--prune", "-t", "trigger", archive, next], "option --trigger-file cannot be used"),
    ];
    for (line, message) in cases {
        site.runs(line.iter().copied()).ends().with_status(202).saying(message).saying("--help");
        assert_eq!(site.listing(), [SEGMENT]);
    }
}
