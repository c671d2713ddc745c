//! The configuration of a server, in the files that its version has for it.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::super::{Doing, Result};
use super::Server;

/// What every server here is run with: loopback only, nothing that waits for a disk, and no WAL but what the
/// test itself writes.
pub(super) const SETTINGS: [(&str, &str); 8] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("fsync", "off"),
    ("autovacuum", "off"),
    ("shared_buffers", "16MB"),
    ("wal_level", "replica"),
    ("hot_standby", "on"),
    ("log_line_prefix", "%m [%p] "),
];

impl Server {
    /// Adds a line to postgresql.conf, for the next start. The last of several lines counts.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        self.append("postgresql.conf", setting, value)
    }

    /// The same for a setting of recovery, which has a file of its own up to 11.
    pub fn set_recovery(&self, setting: &str, value: &str) -> Result<()> {
        self.append(
            if self.major() >= 12 { "postgresql.conf" } else { "recovery.conf" },
            setting,
            value,
        )
    }

    fn append(&self, file: &str, setting: &str, value: &str) -> Result<()> {
        let path = self.data.join(file);
        let mut file = OpenOptions::new().append(true).open(&path).doing(path.display())?;
        file.write_all(assignment(setting, value).as_bytes()).doing(path.display())
    }

    pub fn set_restore_command(&self, command: &str) -> Result<()> {
        if self.major() >= 12 {
            return self.set("restore_command", command);
        }
        self.machine.write(&self.data.join("recovery.conf"), assignment("restore_command", command))
    }

    /// Puts a standby that does not run into the server's own standby mode, where it retries by itself, and streams from
    /// `primary` where there is one.
    pub fn enter_standby_mode(&self, restore_command: &str, primary: Option<&Self>) -> Result<()> {
        let conninfo =
            primary.map(|primary| format!("host=127.0.0.1 port={} user=postgres", primary.port));
        if self.major() >= 12 {
            fs::rename(self.data.join("recovery.signal"), self.data.join("standby.signal"))?;
            self.set("restore_command", restore_command)?;
            return conninfo.map_or(Ok(()), |value| self.set("primary_conninfo", &value));
        }
        let mut lines = vec![assignment("standby_mode", "on")];
        lines.push(assignment("restore_command", restore_command));
        lines.extend(conninfo.map(|value| assignment("primary_conninfo", &value)));
        self.machine.write(&self.data.join("recovery.conf"), lines.concat())
    }
}

/// A line of a configuration file.
fn assignment(setting: &str, value: &str) -> String {
    format!("{setting} = '{}'\n", value.replace('\'', "''"))
}
