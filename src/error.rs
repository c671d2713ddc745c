//! What keeps an invocation from being carried out, in words. Which exit status follows is not known here.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::file_system::directory_of;
use crate::permission::explained;

/// An end that nobody asked for. What a run survives is a warning instead.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong.
    Usage(UsageError),
    /// `--prune` has removed nothing, or not everything.
    NotPruned(PruneError),
    /// Signals could not be listened for.
    Signals(io::Error),
    /// What `--status` is to look at is not the data directory of a server, or cannot be read.
    NoDataDirectory { path: PathBuf, source: io::Error },
}

/// What is wrong with a command line.
#[derive(Debug)]
pub enum UsageError {
    /// No option of that name.
    UnknownOption { option: String },
    /// An option that needs a value came without one.
    MissingValue { option: String },
    /// An option that takes no value came with one.
    UnexpectedValue { option: String },
    /// A value outside what the option takes.
    InvalidValue { option: &'static str, value: OsString, expected: &'static str },
    /// An option that belongs to `--prune` or `--status`, named as `mode`.
    OnlyWith { option: &'static str, mode: &'static str },
    /// An option that `--prune` or `--status` does not have, by its long name.
    NotWith { option: &'static str, mode: &'static str },
    /// Fewer operands than needed.
    MissingOperand { operand: &'static str, expected: &'static str },
    /// More operands than can be meant.
    UnexpectedOperand { operand: OsString, expected: &'static str },
    /// NEXTWALFILE is not a name that a server asks for.
    NotWalFile { name: OsString },
    /// RESTARTWALFILE is not the name of a segment, nor of something that belongs to one.
    NotRestartFile { name: OsString },
    /// XLOGFILEPATH names no file.
    NoDestination { path: PathBuf },
    /// `--partial` for a server whose records have no checksum that is known here.
    PartialTooOld { version: (u32, u32) },
}

/// Why nothing, or not everything, was pruned.
#[derive(Debug)]
pub enum PruneError {
    /// The archive location, or the directory of the registrations in it, cannot be read.
    ListDirectory { path: PathBuf, source: io::Error },
    /// The registrations were renewed each time that they were listed.
    Unsteady { path: PathBuf },
    /// The archive location is the WAL directory of a server.
    WalDirectory { location: PathBuf },
    /// A registration that does not say what its standby needs.
    DamagedRegistration { path: PathBuf, found: String },
    /// A registration, or the required file of the archive, cannot be read.
    ReadFile { path: PathBuf, source: io::Error },
    /// The file system of the archive cannot be written to.
    ReadOnly { path: PathBuf, source: io::Error },
    /// `count` files could not be removed; the reasons have been reported.
    NotRemoved { count: usize },
}

/// What failed on the standby while a file was restored. A retry may succeed.
#[derive(Debug)]
pub enum Failure {
    /// The destination could not be written.
    Write {
        /// XLOGFILEPATH.
        destination: PathBuf,
        /// What the system said.
        source: io::Error,
        /// On a full disk: how many bytes the file has.
        needed: Option<u64>,
    },
    /// A file of the data directory could not be read.
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::NotPruned(error) => error.fmt(f),
            Self::Signals(source) => write!(f, "could not listen for signals: {source}"),
            Self::NoDataDirectory { path, source } => {
                write!(f, "not a data directory: could not read {path:?}: {source}")
            }
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption { option } => write!(
                f,
                "unknown option {option:?}; put \"--\" before an operand that begins with a dash"
            ),
            Self::MissingValue { option } => write!(f, "option {option} requires a value"),
            Self::UnexpectedValue { option } => write!(f, "option {option} takes no value"),
            Self::InvalidValue { option, value, expected } => {
                write!(f, "invalid value {value:?} for option {option}: expected {expected}")
            }
            Self::OnlyWith { option, mode } => {
                write!(f, "option {option} can only be used with {mode}")
            }
            Self::NotWith { option, mode } => {
                write!(f, "option --{option} cannot be used with {mode}")
            }
            Self::MissingOperand { operand, expected } => {
                write!(f, "missing operand {operand}: expected {expected}")
            }
            Self::UnexpectedOperand { operand, expected } => {
                write!(f, "unexpected operand {operand:?}: expected {expected}")
            }
            Self::NotRestartFile { name } => write!(
                f,
                "not the name of a segment: {name:?}, expected RESTARTWALFILE, which the server gives as %r"
            ),
            Self::NotWalFile { name } => write!(
                f,
                "not a WAL file name: {name:?}, expected NEXTWALFILE, which the server gives as %f"
            ),
            Self::PartialTooOld { version: (major, minor) } => write!(
                f,
                "option --partial requires PostgreSQL 9.5 or later: found {major}.{minor}"
            ),
            Self::NoDestination { path } => write!(
                f,
                "not a file path: {path:?}, expected XLOGFILEPATH, which the server gives as %p"
            ),
        }
    }
}

impl fmt::Display for PruneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListDirectory { path, source } => {
                write!(f, "could not list {path:?}: {}", explained(source, path))
            }
            Self::Unsteady { path } => {
                write!(f, "{path:?} changed each time it was listed")
            }
            Self::WalDirectory { location } => {
                write!(f, "archive location {location:?} is the WAL directory of a server")
            }
            Self::ReadFile { path, source } => {
                write!(f, "could not read {path:?}: {}", explained(source, path))
            }
            Self::DamagedRegistration { path, found } => write!(
                f,
                "invalid registration {path:?}: found {found}, expected the name of a segment"
            ),
            Self::ReadOnly { path, source } => write!(f, "could not remove {path:?}: {source}"),
            Self::NotRemoved { count } => write!(f, "files that could not be removed: {count}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                write!(f, "could not read {path:?}: {}", explained(source, path))
            }
            Self::Write { destination, source, needed } => {
                let directory = directory_of(destination);
                write!(f, "could not write {destination:?}: {}", explained(source, directory))?;
                // The unfinished copy is gone by now, so what it took is free again.
                let free = needed.and_then(|_| fs2::available_space(directory).ok());
                match (needed, free) {
                    (Some(needed), Some(free)) => {
                        write!(f, ": it needs {needed} bytes, {free} are free")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}
