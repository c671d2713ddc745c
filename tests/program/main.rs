//! The program as its caller sees it, without a server: command lines, files, signals, time, exit statuses.
//!
//! `cargo test --test program` needs a C compiler, bash, and what `scripts/get-readers` brings; as root it mounts file
//! systems of its own, a btrfs among them where there is `mkfs.btrfs`. `tests/machine/mod.rs` explains how the test types relate.
//! `PG_STANDBY_UNDER_TEST=/path` names another `pg_standby` to test.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

// What the tests are made of.
/// File systems of a test's own.
mod mounted;
/// Faults that no machine has on demand, loaded into the program.
#[path = "../shim/mod.rs"]
mod shim;
/// A working directory with an archive, and one call of the program in it.
mod site;
/// Segments, good and wrong.
#[path = "../wal/mod.rs"]
mod wal;

// What is asked of the program, and how it answers.
/// What a shell offers after `pg_standby`.
mod completions;
/// What the C program was seen to do, and where this one differs on purpose: `vectors.json`.
mod conformance;
/// Command lines and configuration in the documents and examples.
mod documents;
/// What `--help`, the man page, README and the packages say of the program, against each other.
mod manual;
/// The command line: what is taken, what is refused, and that a refusal touches nothing.
mod usage;

// The wait for a segment, and its end.
/// Segments of another cluster.
mod clusters;
/// Files that are there only in a compressed form.
mod compressed;
/// What a wait says of an archive from which the segment cannot come.
mod diagnosis;
/// The trigger file.
mod failover;
/// Segments that are still being received, and failover in standby mode.
mod partial;
/// Segments in which a server would stop.
mod records;
/// Which files are ready, what is reported of others, and what the destination is.
mod restoring;
/// Which signals ask for failover, and which kill.
mod signals;
/// Segments that can never exist, and those of timelines that the server has left behind.
mod timelines;
/// What is waited for, what is not, and until when.
mod waiting;
/// That whatever ends a wait ends it at once.
mod waking;

// What is removed from the archive.
/// What is removed, what stays, and when nothing is touched.
mod pruning;
/// Several standbys on one archive, and what each has registered there.
mod sharing;

// What is told.
/// What `--status` says of a standby and its archive.
mod status;

// What goes wrong.
/// Full disks, limits, closed outputs, file systems that cannot do everything, a panic.
mod faults;
/// Noise in any file and on the command line.
mod garbage;
/// `--log-file`, and the priorities of the journal.
mod log_file;
/// An archive that does not answer.
mod unavailable;
