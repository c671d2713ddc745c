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

    /// Debian's, which has more than the server: any version that can rewind from an archive.
    ///
    /// # Errors
    /// When there is none: the message is the line that brings one.
    pub fn with_pg_rewind() -> Result<Self> {
        let unpacked = target_directory().join("postgres/debian");
        let roots = [PathBuf::from("/"), unpacked];
        let homes = roots.iter().flat_map(|root| {
            (13..=18)
                .map(|major| Self { major, home: root.join(format!("usr/lib/postgresql/{major}")) })
        });
        homes.into_iter().find(|one| one.program("pg_rewind").exists()).ok_or_else(|| {
            Failure::new(
                "there is no pg_rewind to test with; on Debian this brings one:\n\n    scripts/get-postgres debian\n",
            )
        })
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
