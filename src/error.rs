//! What ends a run early, in words. Which exit status follows is not known here.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// An end that nobody asked for. What a run survives is a warning instead.
#[derive(Debug)]
pub enum Error {
    /// No option of that name.
    UnknownOption { option: String },
    /// An option that needs a value came without one.
    MissingValue { option: String },
    /// An option that takes no value came with one.
    UnexpectedValue { option: String },
    /// A value outside what the option takes.
    BadValue { option: &'static str, value: OsString, expected: &'static str },
    /// An option that only `--prune` has.
    OnlyWithPrune { option: &'static str },
    /// An option that `--prune` does not have, by its long name.
    NotWithPrune { option: &'static str },
    /// Fewer operands than needed.
    MissingOperand { operand: &'static str, expected: &'static str },
    /// More operands than can be meant.
    SurplusOperand { operand: OsString, expected: &'static str },
    /// NEXTWALFILE is no name that a server asks for.
    NotWal { name: OsString },
    /// RESTARTWALFILE is no name of a segment, nor of something that belongs to one.
    NotRestart { name: OsString },
    /// XLOGFILEPATH names no file.
    NoDestination { path: PathBuf },
    /// The archive location does not exist.
    NoArchive { location: PathBuf, source: io::Error },
    /// The file could not be put at its destination, after all retries. Sizes in bytes.
    NotRestored { failure: Failure, tries: u32 },
    /// `--prune` could not do it.
    NotPruned(NotPruned),
    /// Signals could not be listened for.
    Signals(io::Error),
}

/// Why nothing was pruned, or not all.
#[derive(Debug)]
pub enum NotPruned {
    /// The archive location, or the directory of the records in it, cannot be read.
    Unlisted { path: PathBuf, source: io::Error },
    /// The archive location is a server's own directory of WAL.
    ServersOwn { location: PathBuf },
    /// A record of a standby that does not say what the standby needs.
    DamagedRecord { path: PathBuf, found: String },
    /// A record of a standby, or the file without which the archive counts as not mounted.
    Unread { path: PathBuf, source: io::Error },
    /// The own record cannot be written.
    UnwrittenRecord { path: PathBuf, source: io::Error },
    /// The file system of the archive cannot be written to.
    ReadOnly { path: PathBuf, source: io::Error },
    /// So many files could not be removed; each has been named.
    Unremoved { count: usize },
}

/// Why one attempt to write the destination failed.
#[derive(Debug)]
pub struct Failure {
    /// XLOGFILEPATH.
    pub destination: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// On a full disk: bytes needed and bytes free.
    pub space: Option<(u64, u64)>,
}

impl Error {
    /// The command line was wrong, so the manual helps.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::UnknownOption { .. }
                | Self::MissingValue { .. }
                | Self::UnexpectedValue { .. }
                | Self::BadValue { .. }
                | Self::OnlyWithPrune { .. }
                | Self::NotWithPrune { .. }
                | Self::MissingOperand { .. }
                | Self::SurplusOperand { .. }
                | Self::NotWal { .. }
                | Self::NotRestart { .. }
                | Self::NoDestination { .. }
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption { option } => {
                write!(
                    f,
                    "there is no option {option:?}; a path that begins with a dash goes behind \"--\""
                )
            }
            Self::MissingValue { option } => write!(f, "option {option} needs a value"),
            Self::UnexpectedValue { option } => write!(f, "option {option} takes no value"),
            Self::BadValue { option, value, expected } => {
                write!(f, "option {option} cannot be {value:?}: expected {expected}")
            }
            Self::OnlyWithPrune { option } => write!(f, "option {option} needs --prune"),
            Self::NotWithPrune { option } => {
                write!(f, "option --{option} has no meaning with --prune")
            }
            Self::MissingOperand { operand, expected } => {
                write!(f, "{operand} is missing: expected {expected}")
            }
            Self::SurplusOperand { operand, expected } => {
                write!(f, "operand {operand:?} is too many: expected {expected}")
            }
            Self::NotRestart { name } => write!(
                f,
                "{name:?} is no name of a segment: expected RESTARTWALFILE, which the server gives as %r"
            ),
            Self::NotWal { name } => write!(
                f,
                "{name:?} is no name of a WAL file: expected NEXTWALFILE, which the server gives as %f"
            ),
            Self::NoDestination { path } => write!(
                f,
                "{path:?} is no path of a file: expected XLOGFILEPATH, which the server gives as %p"
            ),
            Self::NoArchive { location, source } => {
                write!(f, "archive location {location:?} does not exist: {source}")
            }
            Self::NotRestored { failure, tries: 1 } => {
                write!(f, "{failure}; gave up after one try")
            }
            Self::NotRestored { failure, tries } => {
                write!(f, "{failure}; gave up after {tries} tries")
            }
            Self::NotPruned(why) => why.fmt(f),
            Self::Signals(source) => write!(f, "could not listen for signals: {source}"),
        }
    }
}

impl fmt::Display for NotPruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted { path, source } => write!(f, "could not list {path:?}: {source}"),
            Self::ServersOwn { location } => {
                write!(f, "archive location {location:?} is a server's own directory of WAL")
            }
            Self::Unread { path, source } => write!(f, "could not read {path:?}: {source}"),
            Self::DamagedRecord { path, found } => write!(
                f,
                "{path:?} does not say what its standby needs: found {found}, \
                 expected the name of a segment"
            ),
            Self::UnwrittenRecord { path, source } => {
                write!(f, "could not write {path:?}: {source}")
            }
            Self::ReadOnly { path, source } => write!(f, "could not remove {path:?}: {source}"),
            Self::Unremoved { count } => write!(f, "{count} files could not be removed"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not write {:?}: {}", self.destination, self.source)?;
        match self.space {
            Some((needed, free)) => write!(f, ": it needs {needed} bytes, {free} are free"),
            None => Ok(()),
        }
    }
}
