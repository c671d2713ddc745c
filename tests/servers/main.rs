//! The program under real PostgreSQL servers, which run on this machine while a test lasts.
//!
//! `cargo test --test servers` needs what `scripts/get-postgres` brings. `tests/machine/mod.rs` explains how the test types
//! relate. `PG_STANDBY_UNDER_TEST=/path` names another `pg_standby` to test.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

// What the tests are made of.
/// Makes one function that takes a version a test on each of several.
#[macro_use]
mod versions;
/// The header that a segment begins with.
#[path = "../wal/header.rs"]
mod header;
/// A directory with servers in it.
#[path = "../machine/mod.rs"]
mod machine;
/// File systems that a process mounts.
mod mount;
/// A primary and a warm standby.
mod pair;
/// Faults that no machine has on demand, loaded into the program.
#[path = "../shim/mod.rs"]
mod shim;
/// What fills an archive with the segment that is still being written, and the load that it is filled with.
mod shipment;
/// A pair whose archive the test controls.
mod trial;

// What a standby does day by day.
/// `--prune` and PostgreSQL's `pg_archivecleanup` on the same archives.
mod archivecleanup;
/// What remains in an archive that several standbys share, and `archive_cleanup_command`.
mod archives;
/// Compressed archives, and segments that are received compressed.
mod compressed;
/// What the log says of an archive from which the next segment cannot come.
mod diagnosis;
/// The folders of `examples/` as a newcomer runs them.
mod examples;
/// An archive that comes through sshfs or bindfs: followed, unmounted, dead, mounted again.
mod network;
/// What operators do: promote, crash, stream, read ahead.
mod operations;
/// Following, pruning, restarts and both ways to fail over, on each version.
mod postgres;
/// README's quick start, with its very commands.
mod quick_start;
/// Segments that are followed while they are received.
mod shipping;
/// Standby mode with nothing but an archive: following, and every way to promote.
mod standby_mode;
/// What `--status` says of a standby while something is wrong.
mod status;
/// The scripts of examples/2warm, without a server.
mod two_warm;

// Recovery ends only because somebody asked for it.
/// Everything that can be wrong with a segment that is still being received.
mod partials;
/// Every exit status, and every fault of an archive.
mod promises;
/// Segments that begin well, with a record that a server cannot read.
mod records;
/// What `pg_rewind` gets from the archive, and what it is told of damage there.
mod rewind;
/// Every way in which the beginning or the length of a segment can be wrong.
mod segments;
/// What old primaries went on to write after the timeline had branched off.
mod timelines;
