//! File systems of a test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;

use crate::site::output_of;

/// A file system over a directory of the test, as long as it lives.
pub struct Mounted(PathBuf);

impl Mounted {
    /// A disk that is soon full. Returns `None`, and says so, where the user may not mount.
    #[expect(clippy::print_stderr, reason = "what is left out is said")]
    pub fn small(directory: &Path, size: &str) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("only root can mount a small disk: a part of this test is left out");
            return None;
        }
        let disk = Self(directory.to_owned());
        disk.mount_tmpfs(MsFlags::empty(), size);
        Some(disk)
    }

    /// Gives a small disk another size.
    pub fn resize(&self, size: &str) {
        self.mount_tmpfs(MsFlags::MS_REMOUNT, size);
    }

    fn mount_tmpfs(&self, flags: MsFlags, size: &str) {
        let options = format!("size={size}");
        mount(Some("tmpfs"), &self.0, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
    }

    /// A btrfs in the file `image`.
    ///
    /// # Errors
    /// Why that cannot be done on this machine.
    pub fn btrfs(image: &Path, directory: &Path) -> Result<Self, String> {
        let run = |command: &mut Command| match output_of(command) {
            output if output.status.success() => Ok(()),
            output => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        };
        if !geteuid().is_root() {
            return Err("only root can mount one".to_owned());
        }
        let made = File::create(image).and_then(|file| file.set_len(128 << 20));
        made.map_err(|error| error.to_string())?;
        run(Command::new("sh")
            .args(["-c", "PATH=$PATH:/usr/sbin:/sbin exec mkfs.btrfs -q \"$0\""])
            .arg(image))?;
        run(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).args([image, directory]))?;
        Ok(Self(directory.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // At once, or it would fail while a process that another thread has just started has a file of it open.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
