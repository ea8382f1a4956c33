//! Entries made durable by many appenders at once: the transparency log against SQLite, which is what most audit logs
//! on one disk are kept in. Both have one writer that takes all entries that wait, makes them durable with one sync, and
//! answers each appender; SQLite with a write-ahead log and `synchronous=FULL`, in the same directory of the same disk.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use record::{Budget, Class, Committer, Log, View};
use rusqlite::Connection;

use crate::Options;
use crate::pairs::{Figure, Statistic, measure};

/// Appenders at once, each with one entry on its way.
const APPENDERS: u32 = 16;
const ENTRIES_EACH: u32 = 125;
/// For one appender alone.
const ENTRIES_ALONE: u32 = 200;
/// As long as an entry about an applied policy.
const ENTRY_BYTES: usize = 300;
/// The bounds that the issue sets.
const BOUND_PER_S: f64 = 1500.0;
const PROOF_BOUND_US: f64 = 1000.0;
/// As in the record role.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// Entries that wait at once, and that one transaction takes.
const WAITING_MAX: usize = 512;

/// Microseconds per durable entry with 16 appenders.
pub(crate) fn append_against_sqlite(options: &Options) -> Result<Figure> {
    let figure = measure(
        "audit.append.per_s",
        "us/entry",
        options.pairs,
        Statistic::Median,
        || ours(APPENDERS, ENTRIES_EACH),
        || sqlite(APPENDERS, ENTRIES_EACH),
    )?;
    let per_s = 1e6 / figure.ours;
    ensure!(per_s >= BOUND_PER_S, "only {per_s:.0} durable entries per second");
    Ok(figure)
}

/// Microseconds per durable entry with one appender: what one sync costs.
pub(crate) fn append_alone_against_sqlite(options: &Options) -> Result<Figure> {
    measure(
        "audit.append.alone",
        "us/entry",
        options.pairs,
        Statistic::Median,
        || ours(1, ENTRIES_ALONE),
        || sqlite(1, ENTRIES_ALONE),
    )
}

/// Microseconds for a proof of inclusion in a log of 100,000 entries, against reading one entry of as many in SQLite.
pub(crate) fn proof_against_sqlite_read(options: &Options) -> Result<Figure> {
    const SIZE: u32 = 100_000;
    const PROOFS: u32 = 200;
    let directory = scratch()?;
    let (mut log, _) = Log::open(directory.path(), Budget::new(1 << 30))?;
    let entry = [b'x'; ENTRY_BYTES];
    for _ in 0..SIZE / 500 {
        let items = [record::log::Item { bytes: &entry, class: Class::Ordinary }; 500];
        log.append(&items).into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    log.seal()?;
    let key = log.key();
    let mut connection = database(&directory.path().join("peer"))?;
    let transaction = connection.transaction()?;
    for _ in 0..SIZE {
        transaction.execute("INSERT INTO log (entry) VALUES (?1)", [&entry[..]])?;
    }
    transaction.commit()?;
    let index = |number: u32| number.wrapping_mul(7919) % SIZE;
    let ours = || {
        let start = Instant::now();
        for number in 0..PROOFS {
            View::open(directory.path(), &key)?.prove_inclusion(index(number).into())?;
        }
        Ok(microseconds(start, PROOFS))
    };
    let peer = || {
        let start = Instant::now();
        for number in 0..PROOFS {
            let read = "SELECT entry FROM log WHERE number = ?1";
            connection.query_row(read, [index(number) + 1], |row| row.get::<_, Vec<u8>>(0))?;
        }
        Ok(microseconds(start, PROOFS))
    };
    let figure = measure("audit.proof.vs_read", "us", options.pairs, Statistic::Median, ours, peer)?;
    ensure!(figure.ours <= PROOF_BOUND_US, "a proof takes {:.0} us", figure.ours);
    Ok(figure)
}

fn ours(appenders: u32, each: u32) -> Result<f64> {
    let directory = scratch()?;
    let (log, _) = Log::open(directory.path(), Budget::new(1 << 30))?;
    let committer = Committer::start(log, SEAL_EVERY)?;
    run(appenders, each, || {
        let handle = committer.handle();
        move || handle.append(vec![b'x'; ENTRY_BYTES], Class::Ordinary).map(drop).map_err(Into::into)
    })
}

fn sqlite(appenders: u32, each: u32) -> Result<f64> {
    let directory = scratch()?;
    let connection = database(&directory.path().join("peer"))?;
    let (send, queue) = sync_channel(WAITING_MAX);
    let writer = std::thread::spawn(move || write_groups(connection, &queue));
    let cost = run(appenders, each, || {
        let send = send.clone();
        move || {
            let (done, answer) = sync_channel(1);
            send.send((vec![b'x'; ENTRY_BYTES], done)).map_err(|_| anyhow!("the writer is gone"))?;
            answer.recv().context("the writer is gone")
        }
    });
    drop(send);
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    cost
}

/// Appends from so many threads; gives microseconds per entry.
fn run<A>(appenders: u32, each: u32, appender: impl Fn() -> A) -> Result<f64>
where
    A: FnMut() -> Result<()> + Send,
{
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..appenders)
            .map(|_| {
                let mut append = appender();
                scope.spawn(move || (0..each).try_for_each(|_| append()))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("an appender panicked"))?)
    })?;
    Ok(microseconds(start, appenders * each))
}

/// One transaction for all that wait.
fn write_groups(mut connection: Connection, queue: &Receiver<(Vec<u8>, SyncSender<()>)>) -> Result<()> {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(WAITING_MAX));
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO log (entry) VALUES (?1)")?;
            group.iter().try_for_each(|(entry, _)| insert.execute([entry]).map(drop))?;
        }
        transaction.commit()?;
        for (_, done) in group {
            done.send(())?;
        }
    }
    Ok(())
}

fn database(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, entry BLOB NOT NULL)", [])?;
    Ok(connection)
}

/// A directory on the disk that the build is on: a file system in memory syncs for nothing.
fn scratch() -> Result<tempfile::TempDir> {
    let program = std::env::current_exe().context("find this program")?;
    let directory = program.parent().context("find this program's directory")?;
    tempfile::tempdir_in(directory).context("make a directory to write in")
}

fn microseconds(start: Instant, count: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}
