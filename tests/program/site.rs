//! A directory that looks like a standby's ([`Site`]), and the program under test in it: about to start ([`Asking`]), at work
//! ([`Running`]), over ([`Ended`]).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown, geteuid};
use tempfile::TempDir;

use crate::shim::shim;
use crate::wal;

/// How long something may take that must happen. It is long enough for a loaded machine, and much shorter than the longest
/// polling interval, `-s 60`: with that, a wait that ends in time did not wait for the next look.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The segment that most tests ask for.
pub const SEGMENT: &str = "000000010000000000000005";

/// The first segment of an archive of five, of which [`SEGMENT`] is the last.
pub const FIRST: &str = "000000010000000000000001";

/// What a server asks for besides segments: a history file, and a backup history file.
pub const HISTORY: &str = "00000002.history";
pub const BACKUP: &str = "000000010000000000000005.00000028.backup";

/// The user that owns nothing here: `nobody`.
const NOBODY: u32 = 65534;

/// The program under test.
pub fn program() -> PathBuf {
    match std::env::var_os("PG_STANDBY_UNDER_TEST") {
        Some(path) => fs::canonicalize(path).expect("PG_STANDBY_UNDER_TEST names a program"),
        None => PathBuf::from(env!("CARGO_BIN_EXE_pg_standby")),
    }
}

/// The library that injects faults. Without it a test of a fault would pass whatever the program does.
pub fn shim_that_is_loaded() -> &'static Path {
    static IS_STATIC: OnceLock<bool> = OnceLock::new();
    let is_static = *IS_STATIC.get_or_init(|| {
        let program = fs::read(program()).unwrap();
        let start = &program[..program.len().min(4096)];
        start.starts_with(b"\x7fELF") && !start.windows(3).any(|path| path == b"/ld")
    });
    assert!(
        !is_static,
        "a static program loads no fault: packaging/check-static leaves this test out"
    );
    shim()
}

/// Returns whether the program under test is PostgreSQL's own.
pub fn is_the_original() -> bool {
    let version = output_of(Command::new(program()).arg("--version"));
    String::from_utf8_lossy(&version.stdout).contains("(PostgreSQL)")
}

/// Held while a process is started, and while a file is written. A new process has for a moment everything open that other
/// threads have open, and a file that is open for writing is not ready.
static FORK: Mutex<()> = Mutex::new(());

/// Starts a process that a test needs besides the program.
pub fn spawn(command: &mut Command) -> Child {
    let _lock = FORK.lock();
    command.spawn().expect("it starts")
}

/// Runs such a process to its end.
pub fn output_of(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command);
    child.wait_with_output().expect("its output")
}

/// Writes a whole file and makes sure that nobody has it open afterwards.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    let _lock = FORK.lock();
    fs::write(path, content).unwrap();
}

/// Polls until `condition` holds.
///
/// # Panics
/// If it does not hold within [`DEADLINE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A working directory with an archive, a place for the destination and one for the trigger file.
pub struct Site {
    directory: TempDir,
    archive: PathBuf,
    destination: PathBuf,
}

impl Site {
    pub fn new() -> Self {
        Self::with("archive", "pg_wal/RECOVERYXLOG")
    }

    /// An archive with the segments from [`FIRST`] to [`SEGMENT`].
    pub fn with_five_segments() -> Self {
        let site = Self::new();
        for count in 0..5 {
            site.put_segment(&wal::after(FIRST, count));
        }
        site
    }

    /// The archive and the destination under other names, below the working directory.
    pub fn with(archive: impl AsRef<OsStr>, destination: impl AsRef<OsStr>) -> Self {
        let directory = TempDir::with_prefix("pg_standby.").expect("a directory for the test");
        let below = |name: &OsStr| directory.path().join(name);
        let (archive, destination) = (below(archive.as_ref()), below(destination.as_ref()));
        fs::create_dir(&archive).unwrap();
        fs::create_dir(directory.path().join("pg_wal")).unwrap();
        Self { directory, archive, destination }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn archive(&self) -> &Path {
        &self.archive
    }

    pub fn destination(&self) -> &Path {
        &self.destination
    }

    pub fn trigger(&self) -> PathBuf {
        self.path().join("trigger")
    }

    /// Writes a file into the archive, in one step.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (path, temporary) = (self.archive.join(name), self.archive.join(".in transit"));
        write(&temporary, content);
        fs::rename(temporary, &path).unwrap();
        path
    }

    /// Puts a good segment of 1 MB into the archive and returns its bytes.
    pub fn put_segment(&self, name: &str) -> Vec<u8> {
        let bytes = wal::Segment::named(name).bytes();
        self.put(name, &bytes);
        bytes
    }

    /// Writes a file below the working directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, content);
    }

    /// The names in the archive, in order.
    pub fn listing(&self) -> Vec<String> {
        names_in(&self.archive)
    }

    /// Whatever is beside the destination.
    pub fn litter(&self) -> Vec<String> {
        let name = self.destination.file_name().unwrap().to_string_lossy();
        let beside = names_in(&self.path().join("pg_wal"));
        beside.into_iter().filter(|other| *other != name).collect()
    }

    /// What is at the destination, where there is a file.
    pub fn restored(&self) -> Option<Vec<u8>> {
        fs::read(&self.destination).ok()
    }

    /// The command line that a server would run: options, archive, name, destination.
    pub fn asks(&self, options: &[&str], name: &str) -> Asking<'_> {
        let mut args: Vec<OsString> = options.iter().map(Into::into).collect();
        args.extend([self.archive.clone().into(), name.into(), self.destination.clone().into()]);
        self.runs(args)
    }

    /// Any command line.
    pub fn runs(&self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Asking<'_> {
        let args = args.into_iter().map(Into::into).collect();
        Asking { site: self, args, shell: None, environment: Vec::new(), unprivileged: false }
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return vec!["no directory".to_owned()] };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One invocation that is about to begin.
#[must_use]
pub struct Asking<'a> {
    site: &'a Site,
    args: Vec<OsString>,
    shell: Option<String>,
    environment: Vec<(OsString, OsString)>,
    unprivileged: bool,
}

impl<'a> Asking<'a> {
    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With `-t` and the site's trigger file.
    pub fn with_trigger(mut self) -> Self {
        self.args.splice(0..0, ["-t".into(), self.site.trigger().into()]);
        self
    }

    /// In a shell, which runs `preparation` first: limits, ignored signals.
    pub fn after(mut self, preparation: &str) -> Self {
        self.shell = Some(format!("{preparation}; exec \"$0\" \"$@\""));
        self
    }

    /// In a shell, with a redirection.
    pub fn redirected(mut self, redirection: &str) -> Self {
        self.shell = Some(format!("exec \"$0\" \"$@\" {redirection}"));
        self
    }

    /// With a variable in the environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With an injected fault: one of those listed at the top of `tests/shim/shim.c`.
    pub fn with_fault(self, fault: &str) -> Self {
        let shim = {
            // The compiler is a process as well.
            let _lock = FORK.lock();
            shim_that_is_loaded()
        };
        self.env("LD_PRELOAD", shim).env("FAULT", fault)
    }

    /// With the fault of the archive that the site's file `order` asks for.
    pub fn with_ordered_fault(self) -> Self {
        let order = self.site.path().join("order");
        self.with_fault("archive").env("FAULT_IN", "/archive/").env("FAULT_FILE", order)
    }

    /// As a user whom file permissions bind: `nobody` where the tests run as root.
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    pub fn starts(self) -> Running<'a> {
        let site = self.site;
        let mut program = program();
        if self.unprivileged {
            // To a place where the user `nobody` can reach it, wherever the build directory is.
            let copy = site.path().join("pg_standby");
            let _lock = FORK.lock();
            fs::copy(program, &copy).unwrap();
            program = copy;
        }
        let mut command = match &self.shell {
            Some(script) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(script).arg(program);
                command
            }
            None => Command::new(program),
        };
        if self.unprivileged && geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
            let owner = (Some(NOBODY.into()), Some(NOBODY.into()));
            for directory in [site.path(), &site.path().join("pg_wal")] {
                chown(directory, owner.0, owner.1).unwrap();
            }
        }
        let output = |name| File::create(site.path().join(name)).unwrap();
        command
            .args(self.args)
            .envs(self.environment)
            .current_dir(site.path())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"));
        let child = spawn(&mut command);
        Running { child, site, started: Instant::now() }
    }

    pub fn ends(self) -> Ended {
        self.starts().ends()
    }
}

/// One invocation that is running. It is killed when this is dropped.
pub struct Running<'a> {
    child: Child,
    site: &'a Site,
    started: Instant,
}

impl Running<'_> {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it still runs");
    }

    /// Sends a signal, if it still runs, and waits for its end.
    pub fn signal_and_end(self, signal: Signal) -> Ended {
        let _ = kill(self.pid(), signal);
        self.ends()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.site.path().join("stderr")).unwrap()
    }

    /// Waits until it listens for signals and sleeps in its `poll`.
    pub fn until_it_waits(self) -> Self {
        let wchan = format!("/proc/{}/wchan", self.child.id());
        let syscall = format!("/proc/{}/syscall", self.child.id());
        let in_poll = || {
            // 7 and 271 are poll and ppoll on x86-64, 73 is ppoll on arm64. The C program sleeps: 35 and 230.
            let number = fs::read_to_string(&syscall).unwrap_or_default();
            let number = number.split(' ').next().unwrap_or_default().to_owned();
            ["7", "271", "73", "35", "230"].contains(&number.as_str())
                || fs::read_to_string(&wchan).is_ok_and(|at| at.contains("poll"))
        };
        wait_until("it waits", in_poll);
        self
    }

    /// Waits until it has said `words`.
    pub fn until_it_says(self, words: &str) -> Self {
        wait_until(&format!("it says {words:?}"), || self.stderr().contains(words));
        self
    }

    /// Returns whether it has not ended yet.
    pub fn goes_on(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asserts that it still runs after `time`, and kills it. Returns what it printed.
    pub fn still_waits_after(mut self, time: Duration) -> String {
        let end = self.started + time;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}, saying {:?}", self.stderr());
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.stderr()
    }

    /// Waits for its end.
    pub fn ends(mut self) -> Ended {
        self.ends_within(DEADLINE).unwrap_or_else(|| {
            panic!("it has not ended within {DEADLINE:?}, saying {:?}", self.stderr())
        })
    }

    pub fn ends_within(&mut self, time: Duration) -> Option<Ended> {
        let end = Instant::now() + time;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() >= end => return None,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let stdout = fs::read(self.site.path().join("stdout")).unwrap();
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        Some(Ended { status, stdout, stderr: self.stderr(), wall: self.started.elapsed() })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One invocation that is over.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub wall: Duration,
}

impl Ended {
    /// Asserts an exit status.
    #[track_caller]
    pub fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status.code(), Some(status), "{self:?}");
        self
    }

    /// Asserts death by a signal, without a core file.
    #[track_caller]
    pub fn by_signal(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal as i32), "{self:?}");
        self
    }

    /// Asserts words on standard error.
    #[track_caller]
    pub fn saying(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{words:?} is not said in {self:?}");
        self
    }

    /// Asserts that nothing was printed.
    #[track_caller]
    pub fn in_silence(self) -> Self {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), ("", ""), "{self:?}");
        self
    }
}
