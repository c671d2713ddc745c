//! One directory on one machine: archive, trigger file, the `pg_standby` under test and data directories.
//!
//! Servers refuse to run as root. Where the tests do, everything here belongs to `nobody`, who runs them;
//! programs that `nobody` cannot reach are copied to where he can.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use super::installation::target_directory;
use super::{Doing, Failure, Installation, Result, Server, program_under_test};

pub struct Machine {
    directory: TempDir,
    pub installation: Installation,
    /// Who runs the servers, where it is not the user of this process.
    user: Option<User>,
}

impl Machine {
    /// An empty machine for servers of version `major`. The `pg_standby` in it is a copy of `pg_standby`, or of
    /// the program that the environment variable `PG_STANDBY_UNDER_TEST` names.
    ///
    /// # Errors
    /// When that version is not installed, or what the file system says.
    pub fn new(major: u32, pg_standby: impl AsRef<Path>) -> Result<Arc<Self>> {
        Self::on(Installation::of(major)?, pg_standby)
    }

    /// The same on a given installation.
    ///
    /// # Errors
    /// What the file system says.
    pub fn on(installation: Installation, pg_standby: impl AsRef<Path>) -> Result<Arc<Self>> {
        let user = if geteuid().is_root() {
            Some(
                User::from_name("nobody")?
                    .ok_or_else(|| Failure::new("there is no user `nobody`"))?,
            )
        } else {
            None
        };
        // Without symbolic links, as the kernel tells the working directories of processes.
        let directory = tempfile::Builder::new()
            .prefix(&format!("pg_standby-{}-", installation.major))
            .tempdir_in(std::env::temp_dir().canonicalize()?)?;
        let mut machine = Self { directory, installation, user };
        machine.give_to_server(machine.path())?;
        machine.make_directory(&machine.archive())?;
        machine.copy(&program_under_test(pg_standby), &machine.pg_standby())?;
        machine.installation = machine.within_reach(machine.installation.clone())?;
        Ok(Arc::new(machine))
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn archive(&self) -> PathBuf {
        self.path().join("archive")
    }

    pub fn pg_standby(&self) -> PathBuf {
        self.path().join("pg_standby")
    }

    pub fn trigger_file(&self) -> PathBuf {
        self.path().join("trigger")
    }

    /// `pg_standby <options> -t <trigger file> <archive> %f %p %r`
    pub fn restore_command(&self, options: &str) -> String {
        format!(
            "{} {options} -t {} {} %f %p %r",
            self.pg_standby().display(),
            self.trigger_file().display(),
            self.archive().display()
        )
    }

    /// Names in the archive, sorted.
    pub fn archived(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.archive()).doing("the archive")? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Asks for failover as an operator would: `echo <word> > <trigger file>`, as the servers' user.
    pub fn ask_for_failover(&self, word: &str) -> Result<()> {
        let line = format!("echo {word} >'{}'", self.trigger_file().display());
        Self::run(self.command("/bin/sh").arg("-c").arg(line))
    }

    /// A primary that archives into this machine's archive with `cp`. It is not running yet: a cold copy of it
    /// can be taken first. All primaries of one version have the same system identifier unless
    /// `initdb_options` differ.
    pub fn primary(self: &Arc<Self>, initdb_options: &[&str]) -> Result<Server> {
        let data = self.path().join("primary");
        self.copy(&self.fresh_cluster(initdb_options)?, &data)?;
        self.primary_on(data)
    }

    /// The same with a system identifier of its own, made by initdb now, and not kept.
    #[allow(dead_code, reason = "only the corpus has segments too large to be kept")]
    pub fn primary_of_its_own(self: &Arc<Self>, initdb_options: &[&str]) -> Result<Server> {
        let data = self.path().join("primary");
        self.initdb(initdb_options, &data)?;
        self.primary_on(data)
    }

    fn primary_on(self: &Arc<Self>, data: PathBuf) -> Result<Server> {
        let primary = Server::new(self, "primary", data)?;
        primary.set("archive_mode", "on")?;
        primary.set("archive_command", &format!("cp %p {}/%f", self.archive().display()))?;
        Ok(primary)
    }

    /// The name of the servers' user.
    pub fn user(&self) -> Result<String> {
        let this = || User::from_uid(geteuid()).ok().flatten();
        let user = self.user.clone().or_else(this);
        Ok(user.ok_or_else(|| Failure::new("this user has no name"))?.name)
    }

    /// A command that runs as the servers' user, in this machine's directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path());
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(command: &mut Command) -> Result<()> {
        let output = command.output().doing(format!("{command:?}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )))
    }

    /// Writes a file that belongs to the servers' user.
    pub fn write(&self, path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
        fs::write(path, text).doing(path.display())?;
        self.give_to_server(path)
    }

    pub fn make_directory(&self, path: &Path) -> Result<()> {
        fs::create_dir(path).doing(path.display())?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        self.give_to_server(path)
    }

    /// Makes `path` the property of the servers' user.
    pub fn give_to_server(&self, path: &Path) -> Result<()> {
        self.chown(path).doing(path.display())
    }

    /// Copies a file or a whole directory; the copy belongs to the servers' user. What vanishes meanwhile
    /// is left out, as a running server's files may.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.copy_entry(from, to).doing(format_args!(
            "copying {} to {}",
            from.display(),
            to.display()
        ))
    }

    fn copy_entry(&self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(from)?;
        if metadata.is_dir() {
            fs::create_dir(to)?;
            fs::set_permissions(to, metadata.permissions())?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                match self.copy_entry(&entry.path(), &to.join(entry.file_name())) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    copied => copied?,
                }
            }
        } else if metadata.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else {
            fs::copy(from, to)?;
        }
        self.chown(to)
    }

    fn chown(&self, path: &Path) -> io::Result<()> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
    }

    /// A data directory as initdb leaves it, made once and kept below target/: initdb costs a second or two.
    fn fresh_cluster(&self, initdb_options: &[&str]) -> Result<PathBuf> {
        static COPIES: AtomicU32 = AtomicU32::new(0);

        let kept = target_directory().join("postgres/initdb");
        let name = format!("{}{}", self.installation.name(), initdb_options.concat());
        let cluster = kept.join(name.replace('/', "_"));
        if cluster.exists() {
            return Ok(cluster);
        }
        let made = self.path().join("initdb");
        self.initdb(initdb_options, &made)?;
        // Other threads and other processes may be at the same point: the name appears with a whole
        // directory behind it, and whoever comes second throws his away.
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let incoming = kept.join(format!(".{}.{copy}", std::process::id()));
        fs::create_dir_all(&kept).doing(kept.display())?;
        self.copy(&made, &incoming)?;
        fs::remove_dir_all(&made)?;
        if let Err(error) = fs::rename(&incoming, &cluster) {
            fs::remove_dir_all(&incoming)?;
            if !cluster.exists() {
                return Err(error).doing(cluster.display());
            }
        }
        Ok(cluster)
    }

    fn initdb(&self, options: &[&str], data: &Path) -> Result<()> {
        Self::run(
            self.command(self.installation.program("initdb"))
                .args(["--no-sync", "--auth=trust", "--username=postgres"])
                .args(["--encoding=UTF8", "--locale=C"])
                .args(options)
                .arg("-D")
                .arg(data),
        )
    }

    /// The same installation, or a copy of it where its programs are out of reach: target/ often lies below a directory
    /// that only its owner may enter.
    pub fn within_reach(&self, installation: Installation) -> Result<Installation> {
        match self.command(installation.program("postgres")).arg("--version").output() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let copy = self.path().join(installation.name());
                let Installation { major, home, root } = installation;
                if !copy.exists() {
                    self.copy(&root, &copy)?;
                }
                let home = copy.join(home.strip_prefix(&root)?);
                Ok(Installation { major, home, root: copy })
            }
            other => other.map(|_| installation).doing("postgres"),
        }
    }
}
