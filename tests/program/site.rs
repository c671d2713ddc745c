//! A directory that looks like a standby's ([`Site`]), the program under test, and what starts it and waits.

/// One call of the program: about to start, at work, over. The path is for the benchmark that takes this file from here.
#[path = "site/call.rs"]
mod call;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::shim::shim;
use crate::wal;

pub use call::{Asking, Ended, Running};

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
        Asking::new(self, args.into_iter().map(Into::into).collect())
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return vec!["no directory".to_owned()] };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
