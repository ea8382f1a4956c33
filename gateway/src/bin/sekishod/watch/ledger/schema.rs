//! The ledger's file. Times are milliseconds of Unix time, addresses are their bytes, names are numbers of `name`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The ledger's file in the role's directory.
pub(crate) const FILE: &str = "ledger.sqlite";
/// The form of the tables; a file of another form is put aside.
const VERSION: i64 = 1;
/// How long one connection waits for another of this process.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Rows are only ever added at the end and taken away at the beginning, so that the numbers of `flow` follow time.
const TABLES: &str = "
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE mark (mark INTEGER PRIMARY KEY, flow INTEGER NOT NULL REFERENCES name) STRICT;
CREATE TABLE flow (
    id INTEGER PRIMARY KEY,
    started INTEGER NOT NULL, ended INTEGER NOT NULL, ending INTEGER NOT NULL,
    mark INTEGER NOT NULL, last_mark INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    source BLOB NOT NULL, source_port INTEGER,
    destination BLOB NOT NULL, destination_port INTEGER,
    from_zone INTEGER NOT NULL REFERENCES name, from_device INTEGER REFERENCES name,
    to_zone INTEGER NOT NULL REFERENCES name, to_device INTEGER REFERENCES name,
    sent_packets INTEGER NOT NULL, sent_bytes INTEGER NOT NULL,
    returned_packets INTEGER NOT NULL, returned_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX flow_ended ON flow (ended);
CREATE INDEX flow_from ON flow (from_device, ended) WHERE from_device IS NOT NULL;
CREATE INDEX flow_to ON flow (to_device, ended) WHERE to_device IS NOT NULL;
CREATE TABLE denial (
    id INTEGER PRIMARY KEY,
    minute INTEGER NOT NULL, prefix INTEGER NOT NULL REFERENCES name, protocol INTEGER NOT NULL REFERENCES name,
    source BLOB NOT NULL, destination BLOB NOT NULL, port INTEGER NOT NULL,
    from_zone INTEGER NOT NULL REFERENCES name, from_device INTEGER REFERENCES name,
    to_zone INTEGER NOT NULL REFERENCES name, to_device INTEGER REFERENCES name,
    count INTEGER NOT NULL,
    UNIQUE (minute, prefix, protocol, source, destination, port)
) STRICT;
CREATE TABLE gap (
    id INTEGER PRIMARY KEY, since INTEGER NOT NULL, until INTEGER, lost INTEGER, why INTEGER NOT NULL
) STRICT;
CREATE TABLE sighting (
    day INTEGER NOT NULL, suspect TEXT NOT NULL, from_zone TEXT NOT NULL, to_zone TEXT NOT NULL,
    border INTEGER NOT NULL, passed INTEGER NOT NULL, count INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (day, suspect, from_zone, to_zone, border, passed)
) STRICT, WITHOUT ROWID;
CREATE TABLE period (
    id INTEGER PRIMARY KEY, since INTEGER NOT NULL, until INTEGER NOT NULL,
    first_row INTEGER NOT NULL, last_row INTEGER NOT NULL,
    started INTEGER NOT NULL, ended INTEGER NOT NULL, sha256 BLOB NOT NULL
) STRICT;
CREATE TABLE fact (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// A file that was found and could not be used.
#[derive(Debug)]
pub(crate) struct PutAside {
    /// Where it lies now.
    pub(crate) path: PathBuf,
    /// What was wrong.
    pub(crate) why: String,
}

/// Opens the ledger for writing, a new one in place of one that cannot be read.
pub(crate) fn open(directory: &Path) -> rusqlite::Result<(Connection, Option<PutAside>)> {
    let path = directory.join(FILE);
    match try_open(&path) {
        Ok(connection) => Ok((connection, None)),
        Err(error) if is_damage(&error) => {
            let aside =
                put_aside(&path).map_err(|io| rusqlite::Error::ToSqlConversionFailure(Box::new(io)))?;
            Ok((try_open(&path)?, Some(PutAside { path: aside, why: error.to_string() })))
        }
        Err(error) => Err(error),
    }
}

/// Opens the ledger for a question.
pub(crate) fn open_to_read(directory: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(directory.join(FILE), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.execute_batch("PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

/// Whether the file itself is at fault, and not the disk or the rights.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // What `try_open` says of another form.
        rusqlite::Error::IntegralValueOutOfRange(..) => true,
        _ => false,
    }
}

fn try_open(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    // A commit is safe against the death of this process; a power cut may take the last moments, which the gap tells.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024;
         PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 500; PRAGMA journal_size_limit = 4194304;",
    )?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => {}
        0 => connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(0, other)),
    }
    Ok(connection)
}

fn put_aside(path: &Path) -> std::io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().as_second();
    let aside = path.with_extension(format!("damaged-{stamp}"));
    std::fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        let mut companion = path.as_os_str().to_owned();
        companion.push(suffix);
        match std::fs::remove_file(companion) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_ledger_is_put_aside_and_a_new_one_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let (connection, aside) = open(directory.path()).unwrap();
        assert!(aside.is_none());
        drop(connection);
        assert!(open(directory.path()).unwrap().1.is_none(), "a good file stays");
        std::fs::write(&path, "this is no ledger, but long enough to be read as the head of one".repeat(20))
            .unwrap();
        let (connection, aside) = open(directory.path()).unwrap();
        let aside = aside.unwrap();
        assert!(std::fs::read(aside.path).unwrap().starts_with(b"this is no"), "{}", aside.why);
        connection.execute("INSERT INTO fact VALUES ('x', 1)", []).unwrap();
        connection.execute_batch("PRAGMA user_version = 7").unwrap();
        drop(connection);
        assert!(open(directory.path()).unwrap().1.unwrap().why.contains('7'));
    }
}
