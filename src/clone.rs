//! A copy that shares the blocks of its source, where the file system can do that.

#![allow(unsafe_code, reason = "nix has no call for clones")]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{FICLONE, ioctl};

/// Makes `to` share all blocks of `from`. Returns whether it does: not where the file system cannot do that, or the two
/// are on different ones.
#[must_use]
pub fn share_blocks(from: &File, to: &File) -> bool {
    // SAFETY: FICLONE takes a descriptor and no pointer, and both are open as long as the files are borrowed.
    Errno::result(unsafe { ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) }).is_ok()
}
