//! Does somebody still have a file open for writing? Only the kernel knows: it refuses a lease on such a file.

#![allow(unsafe_code, reason = "nix has no call for leases")]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{F_RDLCK, F_SETLEASE, F_UNLCK, c_int, fcntl};

/// Returns whether somebody has `file` open for writing, or `None` if the kernel cannot tell: on file systems without
/// leases, and for files of another owner.
///
/// The lease is returned at once. If a writer comes in between, the kernel sends SIGIO, which must not kill the program
/// (see `Signals::listen`).
#[must_use]
pub fn has_writer(file: &File) -> Option<bool> {
    match set_lease(file, F_RDLCK) {
        Ok(()) => {
            let _ = set_lease(file, F_UNLCK);
            Some(false)
        }
        Err(Errno::EAGAIN) => Some(true),
        Err(_) => None,
    }
}

fn set_lease(file: &File, kind: c_int) -> Result<(), Errno> {
    // SAFETY: F_SETLEASE takes an int and no pointer, and the descriptor is open as long as `file` is borrowed.
    Errno::result(unsafe { fcntl(file.as_raw_fd(), F_SETLEASE, kind) }).map(drop)
}
