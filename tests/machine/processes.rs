//! Which processes run in a data directory, and ending them.
//!
//! A postmaster, its children and the commands they run all have the data directory as working directory,
//! and nobody else has: that finds what a server leaves behind when its postmaster was killed.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Processes at work in this data directory, zombies not counted: they have no working directory.
pub fn processes_in(data: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory == data)
        })
        .map(Pid::from_raw)
        .collect()
}

pub fn kill_all_in(data: &Path) {
    for pid in processes_in(data) {
        // It may have ended since it was seen; the caller looks again.
        let _ = kill(pid, Signal::SIGKILL);
    }
}
