//! The file of `--log-file`, and what standard error is to the journal of systemd.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::mounted::Mounted;
use crate::site::{Asking, Ended, FIRST, SEGMENT, Site, output_of, spawn, wait_until};
use crate::wal::after;

/// Asks for a segment, and logs every step.
fn logs<'a>(site: &'a Site, file: &str) -> Asking<'a> {
    site.asks(&["-d", "--log-file", file], SEGMENT)
}

/// The lines of the log without their time and process id, which are checked.
fn lines_of(site: &Site, file: &str) -> Vec<(u32, String)> {
    let content = fs::read_to_string(site.path().join(file)).unwrap();
    assert!(content.ends_with('\n'), "{content:?}");
    let lines = content.lines().map(|line| {
        let (time, rest) = line.split_once(" [").unwrap_or_else(|| panic!("{line:?}"));
        let (pid, message) = rest.split_once("] ").unwrap_or_else(|| panic!("{line:?}"));
        let shape: String =
            time.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line:?}");
        (pid.parse().unwrap(), message.to_owned())
    });
    lines.collect()
}

#[track_caller]
fn restored(site: &Site, ended: Ended) -> Ended {
    assert_eq!(site.restored(), Some(fs::read(site.archive().join(SEGMENT)).unwrap()));
    ended.with_status(0)
}

#[test]
fn the_log_file_has_the_lines_of_standard_error_with_time_and_process() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let before = output_of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"])).stdout;
    let running = logs(&site, "log").starts();
    let pid = u32::try_from(running.pid().as_raw()).unwrap();
    let ended = restored(&site, running.ends());
    let after = output_of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"])).stdout;
    let lines = lines_of(&site, "log");
    let messages: Vec<_> = lines.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(messages, ended.stderr.lines().collect::<Vec<_>>());
    assert!(messages.len() > 5 && lines.iter().all(|(it, _)| *it == pid), "{lines:?}");
    let log = fs::read(site.path().join("log")).unwrap();
    let time = &log[..before.len() - 1];
    assert!(&before[..before.len() - 1] <= time && time <= &after[..after.len() - 1]);
    assert_eq!(fs::metadata(site.path().join("log")).unwrap().mode() & 0o137, 0);
}

#[test]
fn the_log_file_is_appended_to_and_not_made_where_there_is_nothing_to_say() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let asks = || site.asks(&["--log-file", "log"], SEGMENT);
    asks().ends().with_status(0).in_silence();
    assert!(!site.path().join("log").exists());
    for count in 1..=2 {
        asks().arg("-w").arg("0").arg(SEGMENT).arg("fifth").ends().with_status(0);
        assert_eq!(lines_of(&site, "log").len(), count);
    }
}

#[test]
fn pruning_logs_as_well() {
    let site = Site::with_five_segments();
    let line = ["--prune", "-d", "--log-file", "log", "archive", SEGMENT];
    let ended = site.runs(line).ends().with_status(0);
    let messages: Vec<_> = lines_of(&site, "log").into_iter().map(|(_, it)| it).collect();
    assert_eq!(messages, ended.stderr.lines().collect::<Vec<_>>());
    assert!(messages.iter().any(|it| it.contains("removed")), "{messages:?}");
}

#[test]
fn a_log_file_that_cannot_be_written_is_said_once_and_changes_nothing_else() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    fs::create_dir(site.path().join("directory")).unwrap();
    output_of(Command::new("mkfifo").arg(site.path().join("fifo")));
    for (file, reason) in [
        ("missing/log", "No such file or directory"),
        ("directory", "Is a directory"),
        ("fifo", "not a regular file"),
        ("/dev/full", "not a regular file"),
        ("", "No such file or directory"),
    ] {
        let ended = restored(&site, logs(&site, file).ends());
        let said = format!("pg_standby: warning: could not write to log file {file:?}: {reason}");
        assert_eq!(ended.stderr.matches(&said).count(), 1, "{file}: {ended:?}");
        fs::remove_file(site.destination()).unwrap();
    }
    // A FIFO that somebody reads is no log file either.
    let reader = File::options().read(true).write(true).open(site.path().join("fifo")).unwrap();
    restored(&site, logs(&site, "fifo").ends()).saying("not a regular file");
    drop(reader);
}

#[test]
fn a_log_file_without_permission_is_explained() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    fs::create_dir(site.path().join("roots")).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(site.path().join("roots"), closed).unwrap();
    let ended = logs(&site, "roots/log").unprivileged().ends();
    let ended = restored(&site, ended).saying("could not write to log file \"roots/log\": ");
    ended.saying("; the user is ").saying(", \"roots\" is dr-x------ ");
}

#[test]
fn a_full_disk_under_the_log_file_changes_nothing_else() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    let logs_to = site.path().join("small");
    fs::create_dir(&logs_to).unwrap();
    let Some(_disk) = Mounted::small(&logs_to, "4k") else { return };
    let _ = fs::write(logs_to.join("all of it"), vec![0; 1 << 16]);
    let ended = logs(&site, "small/log").ends();
    let ended = restored(&site, ended);
    let said = "could not write to log file \"small/log\": No space left on device";
    assert_eq!(ended.stderr.matches(said).count(), 1, "{ended:?}");
}

#[test]
fn processes_that_log_at_the_same_time_append_whole_lines() {
    let site = Site::with_five_segments();
    let log = site.path().join("log");
    let calls = 40;
    let children: Vec<_> = (0..calls)
        .map(|count| {
            let destination = site.path().join(format!("pg_wal/{count}"));
            let mut command = Command::new(crate::site::program());
            command.args(["-d", "--log-file"]).arg(&log).arg(site.archive());
            command.arg(after(FIRST, count % 5)).arg(destination).current_dir(site.path());
            spawn(command.stderr(std::process::Stdio::null()))
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let lines = lines_of(&site, "log");
    assert!(lines.iter().all(|(_, message)| message.starts_with("pg_standby: ")));
    let restored = lines.iter().filter(|(_, it)| it.contains("debug: restored"));
    assert_eq!(restored.count(), calls as usize);
}

#[test]
fn a_log_file_may_be_rotated_while_a_process_waits() {
    let site = Site::new();
    let running = logs(&site, "log").arg("-s").arg("0.1").starts().until_it_says("is not there");
    fs::rename(site.path().join("log"), site.path().join("log.1")).unwrap();
    site.put_segment(SEGMENT);
    running.ends().with_status(0);
    let lines = lines_of(&site, "log");
    assert!(lines.iter().any(|(_, it)| it.contains("restored")), "{lines:?}");
}

#[test]
fn only_the_journal_gets_priorities() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    // The file that standard error goes to stands for the socket of the journal.
    let stderr = site.path().join("stderr");
    File::create(&stderr).unwrap();
    let metadata = fs::metadata(&stderr).unwrap();
    let journal = format!("{}:{}", metadata.dev(), metadata.ino());
    let ends = |journal: &str| {
        let asking = logs(&site, "log").arg(SEGMENT).arg("surplus");
        asking.env("JOURNAL_STREAM", journal).ends().with_status(0).stderr
    };
    let said = ends(&journal);
    assert!(said.lines().any(|it| it.starts_with("<4>pg_standby: warning: ignored")), "{said}");
    assert!(said.lines().all(|it| it.starts_with("<4>") || it.starts_with("<7>")), "{said}");
    for other in ["", "8:1", &format!("{journal}0")] {
        let said = ends(other);
        assert!(said.lines().all(|it| it.starts_with("pg_standby: ")), "{said}");
    }
    wait_until("the log has no priorities", || {
        lines_of(&site, "log").iter().all(|(_, it)| it.starts_with("pg_standby: "))
    });
    let bad = site.runs(["--nonsense"]).env("JOURNAL_STREAM", journal).ends().with_status(202);
    assert!(bad.stderr.starts_with("<3>pg_standby: error: "), "{bad:?}");
    assert!(bad.stderr.contains("\n<6>pg_standby: try"), "{bad:?}");
}
