//! A primary and a warm standby of it, and what every test of the two wants to know.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses a part of it")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::server::{PATIENCE, Result, Server, Site};

/// How many rows a server has.
pub const ROWS: &str = "select count(*) from orders";
const ROWS_A_SEGMENT: u32 = 1000;

/// A primary that runs, with a table, and a standby that does not yet.
pub struct Pair {
    pub site: Arc<Site>,
    pub primary: Server,
    pub standby: Server,
    /// What the primary has.
    pub rows: u32,
}

impl Pair {
    pub fn new(major: u32, restore_command: impl FnOnce(&Site) -> String) -> Result<Self> {
        let site = Site::new(major, Path::new(env!("CARGO_BIN_EXE_pg_standby")))?;
        let mut primary = site.primary(&[])?;
        let standby = primary.warm_standby("standby", &restore_command(&site))?;
        primary.start_and_wait()?;
        primary.sql("create table orders (number int)")?;
        Ok(Self { site, primary, standby, rows: 0 })
    }

    /// Rows on the primary, in a segment of their own that is in the archive. Gives its name.
    pub fn ship(&mut self) -> Result<String> {
        self.primary
            .sql(&format!("insert into orders select generate_series(1, {ROWS_A_SEGMENT})"))?;
        self.rows = self.rows.saturating_add(ROWS_A_SEGMENT);
        self.primary.switch_wal()
    }

    pub fn standby_sees_every_row(&mut self) -> Result<Duration> {
        self.standby.wait_until(ROWS, &self.rows.to_string(), PATIENCE)
    }

    pub fn assert_still_a_standby(&self) -> Result<()> {
        assert!(self.standby.is_in_recovery()?);
        assert_eq!(self.standby.timeline()?, "1");
        assert!(!self.standby.data.join("pg_wal/00000002.history").exists());
        Ok(())
    }

    /// The standby has become a primary on timeline 2 that has `rows` rows and takes another one.
    pub fn assert_failed_over_with(&mut self, rows: u32) -> Result<()> {
        self.standby.wait_until("select pg_is_in_recovery()", "f", PATIENCE)?;
        assert_eq!(self.standby.value(ROWS)?, rows.to_string());
        // In standby mode a server promotes first and writes its control file after that.
        let timeline = "select timeline_id from pg_control_checkpoint()";
        self.standby.wait_until(timeline, "2", PATIENCE)?;
        self.standby.sql("insert into orders values (0)")?;
        assert_eq!(self.standby.value(ROWS)?, rows.saturating_add(1).to_string());
        Ok(())
    }
}

/// Makes each of the functions named, which take a version and return a `Result`, a test on each of the versions:
/// `tests_on!(postgresql_10 10, postgresql_18 18: [follows_its_primary, promotes])`.
macro_rules! tests_on {
    ($($module:ident $major:literal),*: $tests:tt) => {
        $(crate::pair::tests_on!(@ $module $major $tests);)*
    };
    (@ $module:ident $major:literal [$($test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $test() -> crate::server::Result<()> {
                    super::$test($major)
                }
            )*
        }
    };
}
pub(crate) use tests_on;

/// The same on every version that there are servers of.
macro_rules! tests_on_every_version {
    ($($test:ident),* $(,)?) => {
        crate::pair::tests_on!(
            postgresql_10 10, postgresql_11 11, postgresql_12 12, postgresql_13 13, postgresql_14 14,
            postgresql_15 15, postgresql_16 16, postgresql_17 17, postgresql_18 18: [$($test),*]
        );
    };
}
pub(crate) use tests_on_every_version;
