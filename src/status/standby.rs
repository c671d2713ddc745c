//! The standby's side: what its data directory, which is the working directory, and its processes say.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::data_directory::{self, Postmaster};
use crate::trigger_file::{TriggerFile, Word};

use super::call::{self, Calls, Parse};
use super::scan::open_unnoticed;

/// A server that follows another one, or did.
pub struct Standby {
    /// Its data directory, without symbolic links.
    pub data_directory: PathBuf,
    /// Its version, major and minor.
    pub version: Option<(u32, u32)>,
    /// The file that keeps it in recovery; `None` on a primary.
    pub recovery_file: Option<&'static str>,
    /// The server waits and asks again by itself.
    pub is_in_standby_mode: bool,
    /// Its postmaster, if it runs.
    pub pid: Option<i32>,
    /// It does not say that it has reached consistency.
    pub may_be_inconsistent: bool,
    /// Its cluster, or why that is not known.
    pub system_identifier: Result<Option<u64>, String>,
    /// What it asks for.
    pub calls: Calls,
    /// The trigger file that it would act upon, and what is there.
    pub trigger: Option<(PathBuf, Trigger)>,
    /// `pg_ctl promote` or `pg_promote()` has left its file.
    pub is_to_promote: bool,
}

/// What is at the path of a trigger file.
pub enum Trigger {
    /// Nothing.
    None,
    /// A request for failover, by this owner.
    Request {
        /// The word that counts.
        word: &'static str,
        /// Whose file it is.
        owner: String,
    },
    /// Something that is not acted upon.
    Ignored(String),
}

impl Standby {
    /// Looks at the server whose data directory is the working directory. A trigger file that is not given is the one that
    /// the waiting process was given.
    #[must_use]
    pub fn look(trigger_file: Option<&Path>, parse: &Parse) -> Self {
        let data_directory = fs::canonicalize(".").unwrap_or_else(|_| PathBuf::from("."));
        let calls = call::find(&data_directory, parse);
        let of_call = calls.call.as_ref().and_then(|call| call.options.trigger_file.as_deref());
        let trigger = trigger_file.or(of_call).map(|path| (path.to_owned(), Trigger::read(path)));
        Self {
            version: data_directory::version(),
            recovery_file: data_directory::recovery_file(),
            is_in_standby_mode: data_directory::is_in_standby_mode(),
            pid: running(&data_directory),
            may_be_inconsistent: data_directory::may_be_inconsistent(),
            system_identifier: data_directory::system_identifier()
                .map_err(|failure| failure.to_string()),
            trigger,
            is_to_promote: data_directory::promote_file().is_some(),
            calls,
            data_directory,
        }
    }
}

/// The postmaster that `postmaster.pid` names, if it runs. After a crash of the machine another process may have the
/// number.
fn running(data_directory: &Path) -> Option<i32> {
    let postmaster = Postmaster::here().filter(|it| !it.is_gone())?;
    let works_in = fs::read_link(format!("/proc/{}/cwd", postmaster.pid()));
    let is_it = works_in.map_or(true, |path| path == data_directory);
    is_it.then_some(postmaster.pid())
}

impl Trigger {
    /// Returns whether something is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Reads it without the lease that a standby takes, which would hold up whoever writes it.
    fn read(path: &Path) -> Self {
        let Ok(metadata) = fs::metadata(path) else { return Self::None };
        if !metadata.is_file() {
            return Self::Ignored("not a regular file".to_owned());
        }
        let mut content = Vec::new();
        let read = match open_unnoticed(path).map_err(std::io::Error::from) {
            Ok(Some((file, _))) => file.take(1024).read_to_end(&mut content),
            Ok(None) => return Self::None,
            Err(_) if metadata.len() == 0 => Ok(0),
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            return Self::Ignored(format!("could not be read: {error}"));
        }
        let word = Word::parse(&content);
        let owner = TriggerFile { content, metadata, is_closed: true }.owner();
        match word {
            Some(Word::Empty | Word::Smart) => Self::Request { word: "smart", owner },
            Some(Word::SmartBefore(_)) => Self::Request { word: "smart before", owner },
            Some(Word::Fast) => Self::Request { word: "fast", owner },
            None => Self::Ignored("expected nothing, \"smart\" or \"fast\"".to_owned()),
        }
    }
}
