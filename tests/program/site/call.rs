//! One call of the program in a [`Site`]: about to start ([`Asking`]), at work ([`Running`]), over ([`Ended`]).

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown, geteuid};

use super::{DEADLINE, FORK, Site, program, shim_that_is_loaded, spawn, wait_until};

/// The user that owns nothing here: `nobody`.
const NOBODY: u32 = 65534;

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
    pub(super) fn new(site: &'a Site, args: Vec<OsString>) -> Self {
        Self { site, args, shell: None, environment: Vec::new(), unprivileged: false }
    }

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
