//! What is looked at and what is not, without a trace.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::site::{Site, program};
use crate::wal::Segment;

use super::{Answer, MISSING, Standby, example, gzip, of_others, unwrapped};

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

    // A compressed one is read as well.
    let whole = fs::read(standby.archive().join(name)).unwrap();
    fs::remove_file(standby.archive().join(name)).unwrap();
    standby.site.put(&format!("{name}.gz"), gzip(&whole));
    let text = standby.asks(&["--status", "--verify=records"]).with_status(1);
    assert!(text.starts_with(&said), "{text}");
}

#[test]
fn records_are_not_read_of_what_is_waited_for_where_the_standby_does_not_read_them() {
    for (option, status) in [("--verify=header", 0), ("--verify=records", 2)] {
        let standby = Standby::that_waits_with(&[option]);
        // It would take the segment.
        standby.freeze();
        let mut bytes = Segment::named(MISSING).with_records(20).bytes();
        bytes[Segment::record(7) + 30] ^= 1;
        standby.site.put(MISSING, bytes);
        let text = standby.asks(&["--status"]).with_status(status);
        assert!(text.contains(&format!("waiting for {MISSING}, for ")), "{text}");
        assert_eq!(text.contains("checked     the records of 1, "), status == 2, "{text}");
    }
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

/// The answer where the kernel answers otherwise for one file, or for some with blanks between their names, as strace's
/// `inject` has it.
fn with_injected(site: &Site, name: &str, faults: &[&str]) -> String {
    with_injected_and(site, name, faults, &[])
}

fn with_injected_and(site: &Site, name: &str, faults: &[&str], options: &[&str]) -> String {
    let archive = fs::canonicalize(site.archive()).unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null"]);
    for name in name.split(' ') {
        strace.arg("-P").arg(archive.join(name));
    }
    for fault in faults {
        strace.arg("-e").arg(format!("inject={fault}"));
    }
    strace.arg(program()).arg("--status").args(options).arg(archive);
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
    let text = with_injected(&site, &format!("{first} ../archive"), &["statx:error=ESTALE"]);
    assert!(text.starts_with("ARCHIVE     could not read \""), "{text}");
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
fn a_file_of_the_server_that_would_never_end_is_not_read() {
    let standby = Standby::that_waits();
    let fifo = |path: &Path| mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
    fs::create_dir_all(standby.site.path().join("pg_wal")).unwrap();
    fifo(&standby.site.path().join("pg_wal/00000002.history"));
    let asks = || {
        let mut command = Command::new("timeout");
        command.arg("20").arg(program()).args(["--status", "-D"]);
        Answer::of(command.arg(standby.site.path()).arg(standby.archive()))
    };
    asks().with_status(0);
    let version = standby.site.path().join("PG_VERSION");
    for plant in [&fifo, &|path: &Path| symlink("/dev/zero", path).unwrap()] as [&dyn Fn(&Path); 2]
    {
        fs::remove_file(&version).unwrap();
        plant(&version);
        let answer = asks();
        let said = format!("not a data directory: could not read {version:?}: not a regular file");
        assert!(answer.status == 202 && answer.stderr.contains(&said), "{}", answer.stderr);
    }
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
