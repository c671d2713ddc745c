//! Where the programs of one version are: below target/, where scripts/get-postgres puts them, or
//! where Debian's packages do.

use std::path::{Path, PathBuf};

use super::{Failure, Result};

#[derive(Clone)]
pub struct Installation {
    pub major: u32,
    /// The directory with `bin` in it.
    pub home: PathBuf,
    /// Everything that belongs to it is below this.
    pub root: PathBuf,
}

impl Installation {
    /// # Errors
    /// When there is none: the message is the line that brings one.
    pub fn of(major: u32) -> Result<Self> {
        Self::find(major, "pg_ctl").ok_or_else(|| {
            Failure::new(format!(
                "there is no PostgreSQL {major} to test with; this brings one:\n\n    scripts/get-postgres {major}\n"
            ))
        })
    }

    /// Any version that has the program: Debian's has more than the server.
    ///
    /// # Errors
    /// When there is none: the message is the line that brings one.
    pub fn with(program: &str) -> Result<Self> {
        (13..=18).rev().find_map(|major| Self::find(major, program)).ok_or_else(|| {
            Failure::new(format!(
                "there is no {program} to test with; on Debian this brings one:\n\n    scripts/get-postgres debian\n"
            ))
        })
    }

    /// One that has psql and `pg_basebackup`, which the servers from npm have not. A psql may also be on the PATH.
    pub fn with_client_programs() -> Option<Self> {
        (10..=18).rev().find_map(|major| {
            let found = Self::find(major, "psql")?;
            found.program("pg_basebackup").exists().then_some(found)
        })
    }

    /// Where scripts/get-postgres puts what it brings.
    pub fn brought() -> PathBuf {
        target_directory().join("postgres")
    }

    fn find(major: u32, program: &str) -> Option<Self> {
        let brought = Self::brought();
        let debian = format!("usr/lib/postgresql/{major}");
        [
            (brought.join(major.to_string()), String::new()),
            (PathBuf::from("/"), debian.clone()),
            (brought.join("debian"), debian),
        ]
        .map(|(root, below)| Self { major, home: root.join(below), root })
        .into_iter()
        .find(|one| ["postgres", "initdb", program].iter().all(|name| one.program(name).exists()))
    }

    /// A name that no other installation has.
    pub fn name(&self) -> String {
        self.home.to_string_lossy().replace('/', "_")
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.home.join("bin").join(name)
    }
}

pub fn target_directory() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
