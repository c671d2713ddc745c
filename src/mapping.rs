//! The bytes of a file of which little is looked at: mapped where the kernel can do that, else read.

#![allow(unsafe_code, reason = "a file that shrinks under a mapping is no memory any more")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;

use memmap2::{Mmap, MmapOptions};

/// The bytes of a file.
pub enum Contents {
    /// As the kernel shows them.
    Mapped(Mmap),
    /// As they were when they were read.
    Read(Vec<u8>),
}

/// Returns the bytes of a segment in a WAL directory: servers rename and overwrite those, but never cut them. Should it
/// happen all the same, or a disk fail, the process dies by SIGBUS, which stops a server and promotes nothing.
///
/// # Errors
/// It can be neither mapped nor read.
pub fn map(file: &File, length: usize) -> io::Result<Contents> {
    // SAFETY: the mapping is read-only, and nobody shortens the file.
    let mapped = unsafe { MmapOptions::new().len(length).map(file) };
    mapped.map(Contents::Mapped).or_else(|_| read(file, length))
}

fn read(file: &File, length: usize) -> io::Result<Contents> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Contents::Read(bytes))
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Read(bytes) => bytes,
        }
    }
}
