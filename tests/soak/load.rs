//! The primary's work: one thread that inserts rows numbered 1, 2, 3 and so on, and ends a segment of WAL often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::Client;

use crate::machine::{Doing, Failure, Result, Server};
use crate::random::Random;

/// What a server has of the rows: how many, and that they are these.
pub const ROWS: &str = "select concat_ws(' ', count(*), sum(number), max(number), \
                        sum(hashtext(note)::bigint)) from orders";
/// The rows are numbered without a gap, so that this is all of them up to the last one.
pub const NONE_MISSING: &str = "select count(*) = coalesce(max(number), 0) \
                                and coalesce(sum(number), 0) = count(*) * (count(*) + 1) / 2 from orders";
pub const LAST_ROW: &str = "select coalesce(max(number), 0) from orders";

const CHECKPOINT: Duration = Duration::from_secs(8);

pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The last row that is in a segment which has ended.
    shipped: AtomicU64,
    switches: AtomicU64,
}

impl Load {
    /// Begins to write.
    ///
    /// # Errors
    /// What the primary says.
    pub fn on(primary: &Server, random: Random) -> Result<Self> {
        primary.sql("create table orders (number bigint primary key, note text)")?;
        let session = primary.connect()?;
        let shared = Arc::<Shared>::default();
        // Segments of 16 MB are copied three times each.
        let pace = if primary.major() >= 11 { (300, 1000) } else { (700, 2000) };
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || write(session, &shared, random, pace))
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The last row that the archive has, or will have as soon as the archiver can reach it.
    pub fn shipped(&self) -> u64 {
        self.shared.shipped.load(Ordering::SeqCst)
    }

    /// Segments that were ended before they were full.
    pub fn switches(&self) -> u64 {
        self.shared.switches.load(Ordering::SeqCst)
    }

    /// # Errors
    /// It has stopped by itself.
    pub fn check(&mut self) -> Result<()> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => {
                self.finish()?;
                Err(Failure::new("the load on the primary has stopped by itself"))
            }
        }
    }

    /// Stops writing.
    ///
    /// # Errors
    /// What the primary said.
    pub fn finish(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome.doing("the load on the primary"),
            Some(Err(_)) => Err(Failure::new("the load on the primary has panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn write(mut session: Client, shared: &Shared, mut random: Random, pace: (u64, u64)) -> Result<()> {
    let mut last: u64 = 0;
    let mut switch = Instant::now();
    let mut pause = Duration::ZERO;
    let mut checkpoint = Instant::now();
    while !shared.stop.load(Ordering::SeqCst) {
        let first = last.saturating_add(1);
        last = last.saturating_add(random.between(1, 50));
        session.batch_execute(&format!(
            "insert into orders select number, md5(number::text) from generate_series({first}, {last}) number"
        ))?;
        if switch.elapsed() >= pause {
            session.batch_execute("select pg_switch_wal()")?;
            shared.shipped.store(last, Ordering::SeqCst);
            shared.switches.fetch_add(1, Ordering::SeqCst);
            switch = Instant::now();
            pause = random.milliseconds(pace.0, pace.1);
        }
        if checkpoint.elapsed() > CHECKPOINT {
            // What a restart point, and with it pruning, needs.
            session.batch_execute("checkpoint")?;
            checkpoint = Instant::now();
        }
        thread::sleep(random.milliseconds(5, 40));
    }
    Ok(())
}
