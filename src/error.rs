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
    /// Fewer operands than a restore needs.
    MissingOperand { operand: &'static str },
    /// NEXTWALFILE is no name that a server asks for.
    NotWal { name: OsString },
    /// XLOGFILEPATH names no file.
    NoDestination { path: PathBuf },
    /// The archive location does not exist.
    NoArchive { location: PathBuf, source: io::Error },
    /// The file could not be put at its destination, after all retries. Sizes in bytes.
    NotRestored { failure: Failure, tries: u32 },
    /// Signals could not be listened for.
    Signals(io::Error),
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
                | Self::MissingOperand { .. }
                | Self::NotWal { .. }
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
            Self::MissingOperand { operand } => write!(
                f,
                "{operand} is missing: expected ARCHIVELOCATION NEXTWALFILE XLOGFILEPATH [RESTARTWALFILE]"
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
            Self::Signals(source) => write!(f, "could not listen for signals: {source}"),
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
