//! Where the programs of one version are: below target/, where scripts/get-postgres puts them, or
//! where Debian's packages do; or the build that PGBIN names, of whatever version.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Doing, Failure, Result};

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
        (13..=18)
            .rev()
            .find_map(|major| Self::find(major, program))
            .ok_or_else(|| Self::lacks(program))
    }

    /// Each version that has the program.
    ///
    /// # Errors
    /// When there is none: the message is the line that brings one.
    #[allow(dead_code, reason = "only the corpus asks all of them")]
    pub fn each_with(program: &str) -> Result<Vec<Self>> {
        let all: Vec<Self> = (10..=18).filter_map(|major| Self::find(major, program)).collect();
        if all.is_empty() { Err(Self::lacks(program)) } else { Ok(all) }
    }

    fn lacks(program: &str) -> Failure {
        Failure::new(format!(
            "there is no {program} to test with; this brings one:\n\n    scripts/get-postgres debian\n"
        ))
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

    /// `major`, or that of the build in PGBIN.
    ///
    /// # Errors
    /// When there is no server in PGBIN.
    pub fn major_to_test(major: u32) -> Result<u32> {
        Ok(Self::named()?.map_or(major, |named| named.major))
    }

    /// The one whose programs are in the directory PGBIN, which is called `bin`.
    fn named() -> Result<Option<Self>> {
        let Some(bin) = std::env::var_os("PGBIN") else { return Ok(None) };
        let wrong = || Failure::new(format!("PGBIN is {bin:?}: no directory bin with postgres"));
        let bin = PathBuf::from(&bin).canonicalize().doing("looking for PGBIN")?;
        let home = bin.parent().filter(|_| bin.ends_with("bin")).ok_or_else(wrong)?.to_owned();
        let version = Command::new(bin.join("postgres")).arg("--version").output();
        let version = version.doing("asking the postgres in PGBIN for its version")?.stdout;
        let digits = |byte: &u8| byte.is_ascii_digit();
        let number = version.into_iter().skip_while(|byte| !digits(byte)).take_while(digits);
        let major = String::from_utf8(number.collect())?.parse()?;
        Ok(Some(Self { major, root: home.clone(), home }))
    }

    fn find(major: u32, program: &str) -> Option<Self> {
        let named = Self::named().ok().flatten().filter(|named| named.major == major);
        let brought = Self::brought();
        let debian = format!("usr/lib/postgresql/{major}");
        let others = [
            (brought.join(major.to_string()), String::new()),
            (PathBuf::from("/"), debian.clone()),
            (brought.join("debian"), debian),
        ]
        .map(|(root, below)| Self { major, home: root.join(below), root });
        named.into_iter().chain(others).find(|one| one.has(program))
    }

    fn has(&self, program: &str) -> bool {
        ["postgres", "initdb", program].iter().all(|name| self.program(name).exists())
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
