//! What the sessions of a primary do: everything that makes a kind of record of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use postgres::Client;

use crate::machine::{Failure, Result, Server};
use crate::random::Random;

const SESSIONS: u64 = 3;

/// What a life of a primary is filled with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything.
    Mixed,
    /// Mostly records over many pages, so that a crash cuts one.
    Long,
}

/// Tables for [`Load`], once for each cluster.
pub const TABLES: &str = "
    create table accounts (id int primary key, balance bigint, filler text);
    insert into accounts select n, 0, repeat('x', 80) from generate_series(1, 5000) n;
    create table history (id bigint, account int, delta int, at timestamptz default now());
    create table prepared (id bigint);
    create table bulk (n bigint, item text, also text);
    create index on bulk (n);
    create index on bulk using hash (item);
    create table words (word tsvector);
    create index on words using gin (word);
    create table places (place point);
    create index on places using gist (place);
    create sequence numbers";

/// Sessions at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    pub fn on(server: &Server, kind: Kind, minimal: bool, random: &mut Random) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut threads = Vec::new();
        for number in 0..SESSIONS {
            let mut session = server.connect()?;
            let mut random = Random::new(random.between(0, u64::MAX));
            let stop = stop.clone();
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work(&mut session, kind, minimal, number, &mut random)?;
                }
                Ok(())
            }));
        }
        Ok(Self { stop, threads })
    }

    /// Ends the sessions. What happened to them counts unless the server was `killed`.
    pub fn end(self, killed: bool) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let ended = thread.join().map_err(|_| Failure::new("a session panicked"))?;
            if !killed {
                ended?;
            }
        }
        Ok(())
    }
}

fn work(
    session: &mut Client,
    kind: Kind,
    minimal: bool,
    number: u64,
    random: &mut Random,
) -> Result<()> {
    let id = random.between(1, u64::MAX >> 1);
    let message = |length: u64| {
        format!(
            "select pg_logical_emit_message({}, 'corpus', repeat(md5('{id}'), {}))",
            id % 2 == 0,
            length / 32
        )
    };
    let statements = match random.between(0, if kind == Kind::Long { 44 } else { 19 }) {
        0..=6 => transactions(random),
        7 => format!(
            "insert into bulk select n, md5(n::text), repeat('y', {}) from generate_series(1, {}) n",
            random.between(0, 900),
            random.between(1, 1500)
        ),
        8 => format!(
            "drop table if exists made_{number};
             create table made_{number} as select n, md5(n::text) item from generate_series(1, 800) n;
             create index on made_{number} (item);
             alter table made_{number} add column more int default 7;
             truncate made_{number};
             insert into made_{number} select n from generate_series(1, 100) n;
             alter table made_{number} alter column n type bigint"
        ),
        9 => format!(
            "begin; insert into prepared values ({id}); prepare transaction '{id}'; {} prepared '{id}'",
            if id % 3 == 0 { "rollback" } else { "commit" }
        ),
        10 => format!(
            "begin; insert into prepared values ({id}); savepoint a; insert into prepared values (1);
             rollback to a; savepoint b; insert into prepared values (2); commit"
        ),
        11 => "vacuum bulk".into(),
        12 => format!("delete from bulk where n % 7 = {}", id % 7),
        13 => "insert into words select to_tsvector('simple', md5(n::text) || ' ' || n) \
               from generate_series(1, 200) n; \
               insert into places select point(n, n * random()) from generate_series(1, 200) n; \
               select nextval('numbers') from generate_series(1, 100)"
            .into(),
        14 if !minimal => format!("select pg_create_restore_point('at {}')", id % 1000),
        15 => "select pg_switch_wal()".into(),
        16 if number == 0 => "checkpoint".into(),
        17 => message(random.between(32, 20_000)),
        18 => "begin; update accounts set balance = balance + 1 where id % 10 = 3; rollback".into(),
        14 | 16 | 19 => message(random.between(32, 400)),
        _ => message(random.between(500_000, 6_000_000)),
    };
    // Two sessions may wait for each other, or want the same name.
    let clash = ["deadlock detected", "already exists", "concurrently"];
    // One by one: together they would be one transaction, which some of them cannot be in.
    for statement in statements.split(';') {
        match session.batch_execute(statement).map_err(Failure::from) {
            Err(failure) if clash.iter().any(|words| failure.to_string().contains(words)) => {
                return Ok(session.batch_execute("rollback")?);
            }
            other => other?,
        }
    }
    Ok(())
}

/// As `pgbench` does them.
fn transactions(random: &mut Random) -> String {
    let one = |_| {
        let (id, delta) = (random.between(1, 5000), random.between(1, 100));
        format!(
            "begin; update accounts set balance = balance + {delta} where id = {id};
             insert into history values ({delta}, {id}, {delta}); commit"
        )
    };
    let statements: Vec<String> = (0..20).map(one).collect();
    statements.join(";")
}
