//! What `--status` says, in each of its four forms, and that it changes nothing.
//!
//! Three of the forms are for programs of others, and such programs read them here: `promtool`, Python's `jsonschema` and
//! Perl's `Monitoring::Plugin`, as Debian has them.

/// Every kind of trouble, planted, and the readers of others.
mod conclusions;
mod faults;
/// Text, JSON, a line for Nagios and metrics: what each says of the same standby, and to whom.
mod forms;
/// What is looked at, how, and what is concluded from it.
mod looks;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::site::{Site, output_of, program, spawn};
use crate::wal::{self, after};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The segment that a hole begins with in most tests: [`SEGMENT`](crate::site::SEGMENT) and two more are behind it.
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

    /// The process that waits sees nothing of what is done from now on.
    fn freeze(&self) {
        let waiting = self.waiting.as_ref().unwrap();
        kill(Pid::from_raw(waiting.0.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();
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
