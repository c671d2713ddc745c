//! `pg_rewind`, which runs the restore command of the server that it rewinds: the archive has what that server needs and has
//! forgotten, and a segment there that cannot be read to its end is not given to it, but named.

use std::fs;

use crate::machine::{Doing, Installation, Machine, PATIENCE, Result, Server};
use crate::pair::{PG_STANDBY, Pair, ROWS};
use crate::records::{DAMAGES, Long, NOT_READY, lsn_behind};

/// An old primary that has gone on after the failover, on a timeline of its own, and has forgotten the WAL that
/// `pg_rewind` needs to find out where.
struct Diverged {
    pair: Pair,
    /// Archived before the failover.
    older: Long,
    /// What the old primary wrote first after it.
    long: Long,
}

impl Diverged {
    fn begin() -> Result<Self> {
        let machine = Machine::on(Installation::with("pg_rewind")?, PG_STANDBY)?;
        let restore_command = machine.restore_command("-s 60");
        let mut pair = Pair::on(machine, &["--data-checksums"], |_| restore_command.clone())?;
        let older = Long::ship(&mut pair)?;
        let standby = &mut pair.standby;
        standby.start_and_wait()?;
        standby.promote()?;
        standby.wait_for_promotion()?;
        standby.sql("insert into orders values (1)")?;

        let long = Long::ship(&mut pair)?;
        let primary = &mut pair.primary;
        for _ in 0..2 {
            primary.sql("checkpoint")?;
            primary.switch_wal()?;
        }
        primary.sql("checkpoint")?;
        primary.stop_fast()?;
        pair.standby.stop_fast()?;
        forget_archived_wal(primary)?;
        // pg_rewind refuses %r.
        primary.set("restore_command", restore_command.trim_end_matches(" %r"))?;
        Ok(Self { pair, older, long })
    }

    fn rewind(&self, option: Option<&str>) -> Result<()> {
        let Pair { machine, primary, standby, .. } = &self.pair;
        let mut pg_rewind = machine.command(machine.installation.program("pg_rewind"));
        pg_rewind.args(option).arg("--target-pgdata").arg(&primary.data);
        Machine::run(pg_rewind.arg("--source-pgdata").arg(&standby.data))
    }

    fn rewind_with_the_archive(&self) -> Result<()> {
        self.rewind(Some("--restore-target-wal"))
    }

    fn archive(&self, bytes: &[u8]) -> Result<()> {
        let Pair { machine, .. } = &self.pair;
        machine.write(&machine.archive().join(&self.long.name), bytes)
    }
}

/// Removes from `pg_wal` what is in the archive.
fn forget_archived_wal(primary: &Server) -> Result<()> {
    let status = primary.data.join("pg_wal/archive_status");
    for entry in fs::read_dir(&status).doing(status.display())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(segment) = name.strip_suffix(".done") {
            let path = primary.data.join("pg_wal").join(segment);
            if path.exists() {
                fs::remove_file(&path).doing(path.display())?;
            }
        }
    }
    Ok(())
}

#[test]
fn pg_rewind_gets_what_it_needs_from_the_archive() -> Result<()> {
    let mut diverged = Diverged::begin()?;
    let without_archive = diverged.rewind(None);
    assert!(without_archive.is_err(), "it needs no archive: nothing is proved");
    diverged.rewind_with_the_archive()?;

    let Pair { machine, primary, standby, .. } = &mut diverged.pair;
    standby.start_and_wait()?;
    let rows = standby.value(ROWS)?;
    machine.write(&primary.data.join("standby.signal"), "")?;
    primary.set("port", &primary.port.to_string())?;
    let conninfo = format!("host=127.0.0.1 port={} user=postgres", standby.port);
    primary.set("primary_conninfo", &conninfo)?;
    primary.set("restore_command", &machine.restore_command("--no-wait"))?;
    primary.start()?;
    primary.wait_until(ROWS, &rows, PATIENCE).map(drop)
}

/// It ends with an error, having changed nothing, and works when the segment is good.
#[test]
fn pg_rewind_is_told_where_a_damaged_segment_ends() -> Result<()> {
    let diverged = Diverged::begin()?;
    let Diverged { pair, older, long } = &diverged;
    let control_file = pair.primary.data.join("global/pg_control");
    let before = fs::read(&control_file)?;
    let not_ready = format!("{}\" {NOT_READY}", long.name);
    let [begin, end] = long.record;
    for (case, damage) in DAMAGES {
        diverged.archive(&long.damaged(older, damage))?;
        let rewound = diverged.rewind_with_the_archive();
        let said = rewound.expect_err(case).to_string();
        let stop = lsn_behind(&not_ready, &said).doing(case)?;
        assert!((begin..end).contains(&stop), "{case}: {stop:X} is not within {:X?}", long.record);
        for words in [", where ", "could not restore file", "exit status: 1"] {
            assert!(said.contains(words), "{case}: {words:?} is missing in {said}");
        }
        assert!(
            !pair.primary.data.join("pg_wal").join(&long.name).exists(),
            "{case}: it was given"
        );
        assert_eq!(fs::read(&control_file)?, before, "{case}: the server was changed");
    }
    diverged.archive(&long.good)?;
    diverged.rewind_with_the_archive()
}
