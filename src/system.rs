//! System calls that nix lacks, or offers in another way in each of its releases: distributions have older ones than
//! crates.io. What they are for is said where they are used.

#![allow(unsafe_code, reason = "only the calls themselves are the same everywhere")]

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::libc::{self, AT_FDCWD, AT_SYMLINK_FOLLOW, FICLONE};
use nix::{NixPath, Result};

/// Makes `to` share all blocks of `from`. Returns whether it does: not where the file system cannot do that, or the two
/// are on different ones.
#[must_use]
pub fn share_blocks(from: &File, to: &File) -> bool {
    // SAFETY: FICLONE takes a descriptor and no pointer, and both are open as long as the files are borrowed.
    Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) }).is_ok()
}

/// Has the file system find space for the first `length` bytes of `file`, and makes it that long.
///
/// # Errors
/// There is no space, or the file system cannot do that.
pub fn allocate(file: &File, length: i64) -> Result<()> {
    // SAFETY: it takes no pointer, and the descriptor is open as long as `file` is borrowed.
    Errno::result(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) }).map(drop)
}

/// Makes `to` a name of what `from` leads to, through a symbolic link as well.
///
/// # Errors
/// `to` exists or is on another file system, or its directory may not be written to.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    let linked = from.with_nix_path(|from| {
        to.with_nix_path(|to| {
            let (from, to) = (from.as_ptr(), to.as_ptr());
            // SAFETY: both are strings that end in a zero and live until the call has returned.
            unsafe { libc::linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) }
        })
    })??;
    Errno::result(linked).map(drop)
}

/// Removes the file called `name` in `directory`.
///
/// # Errors
/// It is not there, is a directory, or may not be removed.
pub fn remove_in(directory: &Dir, name: &CStr) -> Result<()> {
    // SAFETY: `name` ends in a zero, and both live until the call has returned.
    Errno::result(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Makes an open directory one that can be listed.
///
/// # Errors
/// It is no directory.
#[allow(deprecated, unused_unsafe, reason = "safe and the only way up to nix 0.29")]
pub fn listing(directory: File) -> Result<Dir> {
    // SAFETY: the descriptor is handed over, and nobody else has it.
    unsafe { Dir::from(directory) }
}
