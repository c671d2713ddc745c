//! What is asked of a running server in SQL, once or until the answer is the right one.

use std::path::Path;
use std::time::Duration;

use postgres::{Client, NoTls, SimpleQueryMessage};

use super::super::{Failure, PATIENCE, Result, wait_for};
use super::Server;

const TIMELINE: &str = "select timeline_id from pg_control_checkpoint()";

impl Server {
    pub fn connect(&self) -> Result<Client> {
        Ok(postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .dbname("postgres")
            .connect_timeout(PATIENCE)
            .connect(NoTls)?)
    }

    /// Runs one or more statements.
    pub fn sql(&self, statements: &str) -> Result<()> {
        self.connect()
            .and_then(|mut session| Ok(session.batch_execute(statements)?))
            .map_err(|failure| self.with_log(&failure))
    }

    /// The first column of the first row, as text.
    pub fn value(&self, query: &str) -> Result<String> {
        self.connect()
            .and_then(|mut session| first_value(&mut session, query))
            .map_err(|failure| self.with_log(&failure))
    }

    pub fn is_in_recovery(&self) -> Result<bool> {
        Ok(self.value("select pg_is_in_recovery()")? == "t")
    }

    /// The timeline of the last checkpoint or restart point.
    pub fn timeline(&self) -> Result<String> {
        self.value(TIMELINE)
    }

    /// Waits until the server is a primary; gives the time that took.
    pub fn wait_for_promotion(&mut self) -> Result<Duration> {
        self.wait_until("select pg_is_in_recovery()", "f", PATIENCE)
    }

    /// Waits for a checkpoint on a timeline. In standby mode a server is a primary before it has written that.
    pub fn wait_for_timeline(&mut self, timeline: &str) -> Result<()> {
        self.wait_until(TIMELINE, timeline, PATIENCE).map(drop)
    }

    /// Asks again and again until the answer is `expected`; gives the time that took. A server that does not
    /// answer yet is asked on, one that has ended is not.
    ///
    /// # Errors
    /// When `limit` has passed, with the last answer and the end of the log.
    pub fn wait_until(&mut self, query: &str, expected: &str, limit: Duration) -> Result<Duration> {
        let mut session = None;
        let mut last = String::from("nothing");
        let mut ended = None;
        let waited = wait_for(query, limit, || {
            if let Some(postmaster) = &mut self.postmaster {
                ended = postmaster.try_wait()?;
            }
            if ended.is_some() {
                self.postmaster = None;
            }
            if self.postmaster.is_none() {
                return Err(Failure::new("it does not run"));
            }
            if session.is_none() {
                session = self.connect().map_err(|failure| last = failure.to_string()).ok();
            }
            match session.as_mut().map(|session| first_value(session, query)) {
                Some(Ok(answer)) => last = answer,
                Some(Err(failure)) => (last, session) = (failure.to_string(), None),
                None => {}
            }
            Ok(last == expected)
        });
        waited.map_err(|failure| {
            let status =
                ended.map(|status| format!(", it ended with {status}")).unwrap_or_default();
            self.with_log(&Failure::new(format!("{failure}; last answer: {last}{status}")))
        })
    }

    /// Ends the current segment, with something in it, and waits until the archive has it. Gives its name.
    pub fn switch_wal(&self) -> Result<String> {
        self.switch_wal_into(&self.machine.archive())
    }

    /// The same for a server whose `archive_command` copies to `directory`.
    pub fn switch_wal_into(&self, directory: &Path) -> Result<String> {
        let point = "select pg_walfile_name(pg_create_restore_point('switch')), pg_switch_wal()";
        let segment = self.value(point)?;
        let to_archive = self.data.join(format!("pg_wal/archive_status/{segment}.ready"));
        let archived = directory.join(&segment);
        wait_for(format_args!("archiving of {segment}"), PATIENCE, || {
            Ok(archived.exists() && !to_archive.exists())
        })
        .map_err(|failure| self.with_log(&failure))?;
        Ok(segment)
    }
}

fn first_value(session: &mut Client, query: &str) -> Result<String> {
    let rows = session.simple_query(query)?;
    let value = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(value.unwrap_or_default().into())
}
