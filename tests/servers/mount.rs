//! A directory that is mounted in another place by a process: over ssh, from a server that the test runs itself on loopback,
//! or directly. Whatever happens, nothing of it stays when its owner is dropped.

use std::env::var_os;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::libc::ENOTCONN;
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;

use crate::machine::{Doing, Failure, Installation, Machine, PATIENCE, Result, Server, wait_for};

/// The name under which it runs here: PAM has rules of its own for `sshd`, which only root can follow.
const SSHD: &str = "sshd-of-a-test";

/// What it is mounted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sshfs,
    Bindfs,
}

/// What lies in one directory can be seen in another one, while it is mounted.
pub struct Mount {
    origin: PathBuf,
    place: PathBuf,
    /// Serves the file system.
    process: Option<Child>,
    sshd: Option<Sshd>,
    log: PathBuf,
}

/// Returns whether file systems can be mounted here. If not, it says so where nobody can miss it.
///
/// # Errors
/// When a program is missing, or when the environment has CI and the kernel has FUSE, so that it ought to be possible.
pub fn is_possible() -> Result<bool> {
    static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
    let has_fuse = Path::new("/dev/fuse").exists();
    if has_fuse {
        ["sshfs", "bindfs", "fusermount3"].into_iter().try_for_each(must_be_on_path)?;
        sshd_root()?;
    }
    let Some(obstacle) = OBSTACLE.get_or_init(|| try_one().err().map(|it| it.to_string())) else {
        return Ok(true);
    };
    if has_fuse && var_os("CI").is_some() {
        return Err(Failure::new(format!("no file system can be mounted here: {obstacle}")));
    }
    // Not by a macro, whose words `cargo test` keeps to itself; and at once, as others write as well.
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    let words = format!("\nSKIPPED: {test}: no file system can be mounted here: {obstacle}\n");
    io::stderr().write_all(words.as_bytes())?;
    Ok(false)
}

fn try_one() -> Result<()> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").doing("/dev/fuse")?;
    let directory = tempfile::tempdir()?;
    let [origin, place] = ["origin", "place"].map(|name| directory.path().join(name));
    fs::create_dir(&origin)?;
    fs::create_dir(&place)?;
    let log = directory.path().join("log");
    let mut mount = Mount { origin, place, process: None, sshd: None, log };
    mount.mount()
}

impl Mount {
    /// Shows `origin` in `place`, which must be an empty directory.
    pub fn new(machine: &Machine, kind: Kind, origin: &Path, place: &Path) -> Result<Self> {
        let sshd = match kind {
            Kind::Sshfs => Some(Sshd::start(machine)?),
            Kind::Bindfs => None,
        };
        let log = machine.path().join("mount.log");
        let (origin, place) = (origin.to_owned(), place.to_owned());
        let mut mount = Self { origin, place, process: None, sshd, log };
        mount.mount()?;
        Ok(mount)
    }

    /// Mounts it, where it is not mounted.
    pub fn mount(&mut self) -> Result<()> {
        let mut command = if let Some(sshd) = &self.sshd {
            sshd.sshfs(&self.origin)
        } else {
            let mut command = tied("bindfs");
            command.arg(&self.origin);
            command
        };
        let log = File::create(&self.log)?;
        command.arg("-f").arg(&self.place);
        if geteuid().is_root() {
            command.arg("-o").arg("allow_other");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().doing(format!("{command:?}"))?);
        wait_for("a mounted file system", PATIENCE, || {
            let ended = self.process.as_mut().is_none_or(|it| !matches!(it.try_wait(), Ok(None)));
            if ended {
                return Err(Failure::new(format!("{command:?}: {}", self.said())));
            }
            is_mounted(&self.place)
        })
        .map(drop)
    }

    /// `umount -l`, after which the process has nothing to do any more.
    pub fn unmount(&mut self) -> Result<()> {
        while is_mounted(&self.place)? {
            let mut fusermount = Command::new("fusermount3");
            let unmounted = Machine::run(fusermount.args(["-u", "-z"]).arg(&self.place));
            if unmounted.is_err() {
                umount2(&self.place, MntFlags::MNT_DETACH).doing(self.place.display())?;
            }
        }
        if let Some(mut process) = self.process.take() {
            // One that is still asked for an open file would stay.
            let _ = process.kill();
            process.wait()?;
        }
        Ok(())
    }

    /// `kill -9` of the process: the file system stays mounted, and answers nothing.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().ok_or_else(|| Failure::new("it is not mounted"))?;
        process.kill()?;
        process.wait()?;
        wait_for("the end of all answers", PATIENCE, || {
            let answer = fs::metadata(&self.place);
            Ok(answer.is_err_and(|error| error.raw_os_error() == Some(ENOTCONN)))
        })?;
        Ok(())
    }

    fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("{log}{}", self.sshd.as_ref().map(Sshd::said).unwrap_or_default())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(failure) = self.unmount() {
            let _ = writeln!(io::stderr(), "{failure}");
        }
    }
}

/// Returns whether something is mounted there, whether it answers or not.
fn is_mounted(place: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == place)))
}

/// A ssh server that knows one key and serves files, run by the servers' user.
struct Sshd {
    process: Child,
    user: String,
    port: u16,
    directory: PathBuf,
}

impl Sshd {
    fn start(machine: &Machine) -> Result<Self> {
        let directory = machine.path().join("ssh");
        machine.make_directory(&directory)?;
        let path = |name: &str| directory.join(name);
        for key in ["host_key", "key"] {
            let mut keygen = machine.command("ssh-keygen");
            Machine::run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)))?;
        }
        let root = sshd_root()?;
        machine.copy(&root.join("usr/sbin/sshd"), &path(SSHD))?;
        let port = Server::another_port()?;
        // Without PAM, users without a password count as locked.
        let mut config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             PidFile none\nUsePAM yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n",
            path("host_key").display(),
            path("key.pub").display()
        );
        // From 9.8 and 10.0 on it consists of several programs.
        for (program, setting) in [
            ("sshd-session", "PAMServiceName other\nSshdSessionPath"),
            ("sshd-auth", "SshdAuthPath"),
        ] {
            let from = root.join("usr/lib/openssh").join(program);
            if from.exists() {
                machine.copy(&from, &path(program))?;
                let path = path(program);
                config.extend([setting, " ", &path.display().to_string(), "\n"]);
            }
        }
        machine.write(&path("config"), config)?;
        let log = File::create(path("log"))?;
        let mut sshd = machine.command("setpriv");
        sshd.args(["--pdeathsig", "TERM"]).arg(path(SSHD)).args(["-D", "-e", "-f"]);
        sshd.arg(path("config")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = sshd.spawn().doing("sshd")?;
        let mut sshd = Self { process, user: machine.user()?, port, directory };
        wait_for("an ssh server that answers", PATIENCE, || {
            if sshd.process.try_wait()?.is_some() {
                return Err(Failure::new(sshd.said()));
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(sshd)
    }

    /// Mounts `origin`, in a place that is to be named.
    fn sshfs(&self, origin: &Path) -> Command {
        let mut command = tied("sshfs");
        command.arg(format!("{}@127.0.0.1:{}", self.user, origin.display()));
        let identity = format!("IdentityFile={}", self.directory.join("key").display());
        for option in [
            &format!("Port={}", self.port),
            &identity,
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
        ] {
            command.arg("-o").arg(option);
        }
        command.args(["-F", "/dev/null"]);
        command
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that the kernel ends with the thread that started it, should that be killed.
fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", program]);
    command
}

/// Below which directory `usr/sbin/sshd` is: the one that `scripts/get-postgres` has unpacked, or an installed one.
fn sshd_root() -> Result<PathBuf> {
    let roots = [Installation::brought().join("openssh"), PathBuf::from("/")];
    let found = roots.into_iter().find(|root| root.join("usr/sbin/sshd").exists());
    found.ok_or_else(|| missing("sshd"))
}

fn must_be_on_path(name: &str) -> Result<()> {
    let path = var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).exists());
    found.then_some(()).ok_or_else(|| missing(name))
}

fn missing(program: &str) -> Failure {
    Failure::new(format!(
        "there is no {program} to test with; on Debian this brings one:\n\n    scripts/get-postgres fuse\n"
    ))
}
