//! Where the programs of one version are: below target/, where scripts/get-postgres puts them, or
//! where Debian's packages do.

use super::{Failure, Result};
use std::path::{Path, PathBuf};

#[derive(Clone)]
pub struct Installation {
    pub major: u32,
    pub home: PathBuf,
}

impl Installation {
    /// # Errors
    /// When there is none: the message is the line that brings one.
    pub fn of(major: u32) -> Result<Self> {
        let brought = target_directory().join(format!("postgres/{major}"));
        let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}"));
        [brought, debian]
            .into_iter()
            .find(|home| ["postgres", "initdb", "pg_ctl"].iter().all(|p| home.join("bin").join(p).exists()))
            .map(|home| Self { major, home })
            .ok_or_else(|| {
                Failure::new(format!(
                    "there is no PostgreSQL {major} to test with; this brings one:\n\n    scripts/get-postgres {major}\n"
                ))
            })
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.home.join("bin").join(name)
    }
}

pub fn target_directory() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
