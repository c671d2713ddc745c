//! Are the history files in the archive whole, in one of their forms? A server goes nowhere without one that it asks for.
//! What they say of timelines is the matter of `line`.

use std::collections::BTreeSet;
use std::fs;
use std::iter::once;
use std::path::Path;
use std::time::SystemTime;

use crate::source;
use crate::wal::history;
use crate::wal::name::WalName;

use super::checks::{Why, open};

/// A history file, in whatever form.
pub struct History {
    /// The timeline that it is of.
    pub timeline: u32,
    /// What is in it, or why a server would not get it.
    pub content: Result<Vec<u8>, NotReady>,
}

/// The first form of a history file, where none is good.
pub struct NotReady {
    /// Its name in the archive.
    pub file_name: String,
    /// Why.
    pub why: Why,
    /// When the file was written to last; `None` where the file system does not say.
    pub modified: Option<SystemTime>,
}

/// Reads those of some timelines, without those that have gone meanwhile.
#[must_use]
pub fn read_all(location: &Path, timelines: &BTreeSet<u32>) -> Vec<History> {
    timelines.iter().filter_map(|timeline| find(location, *timeline)).collect()
}

/// Looks for the first form that is good, as a restore does.
fn find(location: &Path, timeline: u32) -> Option<History> {
    let name = WalName::History(timeline);
    let plain = once((name.to_string(), false));
    let mut bad = None;
    for (file_name, is_compressed) in plain.chain(name.compressed().map(|name| (name, true))) {
        let path = location.join(&file_name);
        match read(&path, is_compressed) {
            None => {}
            Some(Ok(content)) => return Some(History { timeline, content: Ok(content) }),
            Some(Err(why)) => {
                bad = bad.or_else(|| {
                    let modified = fs::symlink_metadata(&path).and_then(|it| it.modified()).ok();
                    Some(NotReady { file_name, why, modified })
                });
            }
        }
    }
    bad.map(|bad| History { timeline, content: Err(bad) })
}

/// Reads one that must be whole; `None` where there is none.
#[must_use]
pub fn read(path: &Path, is_compressed: bool) -> Option<Result<Vec<u8>, Why>> {
    Some(open(path)?.and_then(|(file, _)| {
        let content = source::content(&file, is_compressed)?;
        if history::is_whole(&content) { Ok(content) } else { Err(Why::HalfHistory) }
    }))
}
