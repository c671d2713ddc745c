//! Runs of the program under strace: to learn which system calls it makes, and to make one of them fail.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::faults::Fault;
use crate::kinds::{End, Kind};
use crate::place::{Event, Place};

/// The program that is tried.
const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_standby");

/// How long a run that may wait does so: longer than all pauses between the retries that the kinds allow.
const WAITING: Duration = Duration::from_millis(700);

/// Whatever does not wait has ended by then.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a call is held up while something happens; the tracer needs a few milliseconds to be seen at it.
const DELAY: Duration = Duration::from_millis(40);

/// When what happens while the program waits happens at the latest, should it not be seen waiting.
const UNSEEN: Duration = Duration::from_millis(300);

/// One system call of an undisturbed run.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// It is the program's nth call of this name; those of the loader and the runtime do not count.
    pub number: u32,
    /// The call as strace shows it, with the paths of descriptors.
    pub line: String,
    /// From here on it listens for signals, so what comes earlier takes its default action.
    pub is_deaf: bool,
}

/// What came of a run.
pub struct Ran {
    pub end: End,
    /// The fault came to pass.
    pub is_hit: bool,
}

/// Tools and what is known of the program before it begins.
pub struct Tracer {
    strace: PathBuf,
    shim: PathBuf,
    /// Calls that the loader and the runtime make before main begins, with the shim and without.
    before_main: [BTreeMap<String, u32>; 2],
}

impl Tracer {
    /// Looks for strace and makes the shim in `scratch`.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let strace = std::env::split_paths(&path)
            .map(|directory| directory.join("strace"))
            .find(|path| path.is_file())
            .ok_or_else(|| io::Error::other("strace is missing (Debian's package strace)"))?;
        let shim = scratch.join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&shim).args([source, "-ldl"]);
        if !compiler.status()?.success() {
            return Err(io::Error::other("the shim could not be compiled"));
        }
        let mut tracer = Self { strace, shim, before_main: [BTreeMap::new(), BTreeMap::new()] };
        tracer.before_main = [None, Some("tmpfile")]
            .map(|without| tracer.calls_before_main(scratch, without).unwrap_or_default());
        if tracer.before_main.iter().any(BTreeMap::is_empty) {
            return Err(io::Error::other("strace shows no calls: may processes be traced here?"));
        }
        Ok(tracer)
    }

    /// The first thing that main does with `--version` is to print it, so all calls before that are others'.
    fn calls_before_main(
        &self,
        scratch: &Path,
        without: Option<&str>,
    ) -> io::Result<BTreeMap<String, u32>> {
        let output = scratch.join("version");
        let mut strace = self.strace(&output, without);
        strace.args(["--", PROGRAM, "--version"]).stdout(Stdio::null());
        strace.status()?;
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(output)?.lines() {
            let Some(name) = name_of(line) else { continue };
            if name == "write" {
                return Ok(counts);
            }
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        Err(io::Error::other("pg_standby --version wrote nothing"))
    }

    /// The environment is empty, so that runs are alike wherever they are made.
    fn strace(&self, output: &Path, without: Option<&str>) -> Command {
        let mut strace = Command::new(&self.strace);
        strace.env_clear().args(["-qq", "-o"]).arg(output);
        if let Some(fault) = without {
            strace.arg("-E").arg(format!("LD_PRELOAD={}", self.shim.display()));
            strace.arg("-E").arg(format!("FAULT={fault}"));
        }
        strace
    }

    /// Sets the stage and lists what the kind calls.
    pub fn list(&self, kind: &Kind, place: &Place) -> io::Result<(Vec<Call>, End)> {
        place.clear()?;
        (kind.stage)(place)?;
        let output = place.output("calls");
        let mut strace = self.strace(&output, kind.without);
        strace.args(["-y", "-s", "256", "--", PROGRAM]);
        let end = run(strace, kind, place, kind.meanwhile, When::Waiting, &|end| end == kind.ends)?;
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let before_main = &self.before_main[usize::from(kind.without.is_some())];
        let mut calls = Vec::new();
        let listing = fs::read_to_string(output)?;
        for line in listing.lines() {
            let Some(name) = name_of(line) else { continue };
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            let before = before_main.get(name).copied().unwrap_or(0);
            if let Some(number) = count.checked_sub(before).filter(|number| *number > 0) {
                let (name, line) = (name.to_owned(), line.to_owned());
                calls.push(Call { name, number, line, is_deaf: false });
            }
        }
        let listens = calls.iter().rposition(|call| call.name == "rt_sigaction").unwrap_or(0);
        for call in calls.iter_mut().take(listens + 1) {
            call.is_deaf = true;
        }
        Ok((calls, end))
    }

    /// Runs the kind on a stage that is set, with one fault.
    pub fn run_with(
        &self,
        kind: &Kind,
        place: &Place,
        call: &Call,
        fault: Fault,
        may_end: &dyn Fn(End) -> bool,
    ) -> io::Result<Ran> {
        let output = place.output("calls");
        let before_main = &self.before_main[usize::from(kind.without.is_some())];
        let number = before_main.get(&call.name).copied().unwrap_or(0) + call.number;
        let (inject, hit): (String, String) = match fault {
            Fault::Error(error) => (format!("error={error}:when={number}"), "(INJECTED)".into()),
            Fault::Errors(error) => (format!("error={error}:when={number}+"), "(INJECTED)".into()),
            Fault::Signal(signal) => {
                (format!("signal={signal}:when={number}"), format!("--- {signal}"))
            }
            Fault::Delay(_) => {
                (format!("delay_enter={}ms:when={number}", DELAY.as_millis()), "(DELAYED)".into())
            }
        };
        let mut strace = self.strace(&output, kind.without);
        // It makes a run twice as fast, but signals get lost at its stops.
        if !matches!(fault, Fault::Signal(_)) {
            strace.args(["-f", "--seccomp-bpf"]);
        }
        strace.args(["-s", "0", "-e", &format!("trace={}", call.name)]);
        strace.args(["-e", &format!("inject={}:{inject}", call.name), "--", PROGRAM]);
        let (event, when) = match fault {
            Fault::Delay(event) => (Some(event), When::Held),
            _ => (kind.meanwhile, When::Waiting),
        };
        let end = run(strace, kind, place, event, when, may_end)?;
        let is_hit = match fault {
            Fault::Signal(Signal::SIGKILL) => end == End::Death(Signal::SIGKILL),
            _ => fs::read_to_string(output)?.contains(&hit),
        };
        Ok(Ran { end, is_hit })
    }

    /// Runs the kind without any disturbance, and without strace.
    pub fn run_again(&self, kind: &Kind, place: &Place, then: End) -> io::Result<End> {
        let mut program = Command::new(PROGRAM);
        program.env_clear();
        if let Some(fault) = kind.without {
            program.env("LD_PRELOAD", &self.shim).env("FAULT", fault);
        }
        run(program, kind, place, None, When::Waiting, &|end| end == then)
    }
}

/// When something happens to a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// While the program sleeps.
    Waiting,
    /// While the tracer holds it up.
    Held,
}

impl When {
    fn state(self) -> char {
        match self {
            Self::Waiting => 'S',
            Self::Held => 't',
        }
    }
}

fn run(
    mut command: Command,
    kind: &Kind,
    place: &Place,
    event: Option<Event>,
    when: When,
    may_end: &dyn Fn(End) -> bool,
) -> io::Result<End> {
    for word in kind.command.split_whitespace() {
        command.arg(match word {
            "{archive}" => place.archive().into_os_string(),
            "{trigger}" => place.trigger().into_os_string(),
            _ => word.into(),
        });
    }
    let heard = File::options().append(true).create(true).open(place.output("stderr"))?;
    command.current_dir(place.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(heard);
    let child = command.spawn()?;
    let is_traced = command.get_program() != PROGRAM;
    let end = follow(child, is_traced, place, event, when, may_end)?;
    let heard = fs::read_to_string(place.output("stderr")).unwrap_or_default();
    match heard.lines().find(|line| line.contains("strace:")) {
        Some(line) => Err(io::Error::other(line.to_owned())),
        None => Ok(end),
    }
}

fn follow(
    mut child: Child,
    is_traced: bool,
    place: &Place,
    mut event: Option<Event>,
    when: When,
    may_end: &dyn Fn(End) -> bool,
) -> io::Result<End> {
    let started = Instant::now();
    let mut since = started;
    let mut seen = 0;
    let mut program = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(end_of(status));
        }
        sleep(Duration::from_millis(1));
        if program.is_none() {
            program = find(&child, is_traced);
        }
        if let Some(due) = event {
            let is_so = program.is_some_and(|program| state(program) == Some(when.state()));
            seen = if is_so { seen + 1 } else { 0 };
            if seen > 4 || started.elapsed() > UNSEEN {
                place.happens(due, program)?;
                event = None;
                since = Instant::now();
            }
        }
        let time = if may_end(End::Waits) { WAITING } else { LONGEST };
        if event.is_none() && since.elapsed() > time {
            break;
        }
    }
    let Some(program) = program else {
        child.kill()?;
        child.wait()?;
        return Ok(End::Never);
    };
    let _ = kill(program, Signal::SIGTERM);
    let told = Instant::now();
    while told.elapsed() < LONGEST {
        if let Some(status) = child.try_wait()? {
            let waited = end_of(status) == End::Death(Signal::SIGTERM) && may_end(End::Waits);
            return Ok(if waited { End::Waits } else { End::Never });
        }
        sleep(Duration::from_millis(1));
    }
    let _ = kill(program, Signal::SIGKILL);
    child.wait()?;
    Ok(End::Never)
}

fn end_of(status: ExitStatus) -> End {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    match (status.code(), signal) {
        (Some(code), _) => End::Status(code),
        (None, Some(signal)) => End::Death(signal),
        (None, None) => End::Never,
    }
}

/// The process that runs the program: the child itself, or the tracer's.
fn find(child: &Child, is_traced: bool) -> Option<Pid> {
    let own = child.id();
    let candidates = if is_traced {
        fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?
    } else {
        own.to_string()
    };
    candidates.split_whitespace().find_map(|candidate| {
        let program = fs::read_link(format!("/proc/{candidate}/exe")).ok()?;
        let is_it = program == Path::new(PROGRAM);
        is_it.then(|| candidate.parse().ok().map(Pid::from_raw)).flatten()
    })
}

/// The letter behind the parenthesis in `/proc/PID/stat`.
fn state(process: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The name of the call that a line of strace shows.
fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then_some(name)
}
