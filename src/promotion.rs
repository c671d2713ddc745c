//! Asks a server in standby mode to promote, as `pg_ctl promote` does: there the status of a `restore_command` ends
//! nothing. Whether that is wanted is decided in `ending`.

use std::fs::{self, File};

use log::warn;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::data_directory;

/// The first version with `pg_ctl promote`.
const FIRST: (u32, u32) = (9, 1);

/// Leaves the file `promote` in the data directory and sends SIGUSR1 to the postmaster (`do_promote` in PostgreSQL's
/// `pg_ctl.c`). What cannot be done is a warning that says what to do instead.
pub fn ask(postmaster: Option<i32>) {
    if !is_known() {
        warn!(
            "PostgreSQL 9.0 in standby mode cannot be asked to promote: create the trigger_file of its recovery.conf"
        );
        return;
    }
    let Some(file) = data_directory::promote_file_place() else { return };
    let Some(postmaster) = postmaster else {
        warn!(
            "the server could not be asked to promote, there is no postmaster.pid: run pg_ctl promote"
        );
        return;
    };
    let asked = File::create(file).map_err(|error| error.to_string()).and_then(|_| {
        let sent = kill(Pid::from_raw(postmaster), Signal::SIGUSR1);
        sent.map_err(|error: Errno| error.desc().to_owned())
    });
    if let Err(error) = asked {
        let _ = fs::remove_file(file);
        warn!(
            "the server (PID {postmaster}) could not be asked to promote: {error}; run pg_ctl promote"
        );
    }
}

/// Returns whether the server can be asked at all.
#[must_use]
pub fn is_known() -> bool {
    data_directory::version().is_none_or(|version| version >= FIRST)
}
