//! Writing into the ledger's file: each call is one transaction, whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gateway::wire::watch::GapReason;
use policy::guideline::suspect::Suspect;
use rusqlite::{Connection, OptionalExtension, Transaction, named_params, params};

use super::super::names::{Names, Place};
use super::super::packet::{self, Head};
use super::row::{FlowRow, address_bytes, ending_number};
use super::schema::{self, PutAside};

/// Names whose numbers are kept at hand; when there are more, it begins anew.
const NAMES_AT_HAND_MAX: usize = 4096;
/// The largest count of one connection: 256 terabytes.
pub(crate) const COUNT_MAX: u64 = 1 << 48;
/// Rows taken away at once, so that no transaction is long.
pub(crate) const PRUNE_ROWS: u32 = 4000;

const INSERT_FLOW: &str = "
INSERT INTO flow (started, ended, ending, mark, last_mark, protocol, source, source_port, destination,
    destination_port, from_zone, from_device, to_zone, to_device, sent_packets, sent_bytes, returned_packets,
    returned_bytes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
const INSERT_DENIAL: &str = "
INSERT INTO denial (minute, prefix, protocol, source, destination, port, from_zone, from_device, to_zone, to_device,
    count)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1)
ON CONFLICT DO UPDATE SET count = count + 1";
const INSERT_SIGHTING: &str = "
INSERT INTO sighting (day, suspect, from_zone, to_zone, border, passed, count, last)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT DO UPDATE SET count = count + excluded.count, last = max(last, excluded.last)";

/// Numbers that outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// When the ledger began: the kernel's events came for the first time.
    Began,
    /// When they last were known to come.
    Alive,
    /// Whether the role ended with everything written.
    Clean,
    /// How many events the kernel had dropped when that was last told.
    Dropped,
    /// When rows last went before their time, for want of room.
    Crowded,
}

impl Fact {
    fn key(self) -> &'static str {
        match self {
            Fact::Began => "began",
            Fact::Alive => "alive",
            Fact::Clean => "clean",
            Fact::Dropped => "dropped",
            Fact::Crowded => "crowded",
        }
    }
}

/// A time of which something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GapRow {
    pub(crate) since_ms: i64,
    pub(crate) until_ms: Option<i64>,
    pub(crate) lost: Option<u64>,
    pub(crate) why: GapReason,
}

/// One kind of sighting on one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SightingKey {
    pub(crate) day: i64,
    pub(crate) suspect: Suspect,
    pub(crate) from_zone: String,
    pub(crate) to_zone: String,
    pub(crate) crosses_border: bool,
    pub(crate) passed: bool,
}

/// How often, and the last time in milliseconds.
pub(crate) type Seen = (u64, i64);

/// The sum over a period's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) since_ms: i64,
    pub(crate) until_ms: i64,
    pub(crate) first_row: i64,
    pub(crate) last_row: i64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) sha256: [u8; 32],
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    connection: Connection,
    names: BTreeMap<String, i64>,
}

impl Store {
    /// Opens the ledger in a directory.
    pub(crate) fn open(directory: &Path) -> rusqlite::Result<(Self, Option<PutAside>)> {
        let (connection, aside) = schema::open(directory)?;
        Ok((Store { directory: directory.to_owned(), connection, names: BTreeMap::new() }, aside))
    }

    /// Opens it again after damage.
    pub(crate) fn reopen(&mut self) -> rusqlite::Result<Option<PutAside>> {
        let directory = self.directory.clone();
        // The old connection must not hold the file that is put aside.
        self.connection = Connection::open_in_memory()?;
        let (store, aside) = Store::open(&directory)?;
        *self = store;
        Ok(aside)
    }

    /// Writes connections; gives their first row's number. The time is what [`Fact::Alive`] becomes.
    pub(crate) fn flows(&mut self, rows: &[FlowRow], alive_ms: Option<i64>) -> rusqlite::Result<i64> {
        self.transaction(|tx, names| {
            let mut insert = tx.prepare(INSERT_FLOW)?;
            let mut first = None;
            for row in rows {
                let from_device =
                    row.from_device.as_deref().map(|name| number(tx, names, name)).transpose()?;
                let to_device = row.to_device.as_deref().map(|name| number(tx, names, name)).transpose()?;
                let id = insert.insert(params![
                    row.started_ms,
                    row.ended_ms,
                    ending_number(row.ending),
                    row.mark,
                    row.last_mark,
                    row.protocol,
                    address_bytes(row.source),
                    row.source_port,
                    address_bytes(row.destination),
                    row.destination_port,
                    number(tx, names, &row.from_zone)?,
                    from_device,
                    number(tx, names, &row.to_zone)?,
                    to_device,
                    counted(row.sent.packets),
                    counted(row.sent.bytes),
                    counted(row.returned.packets),
                    counted(row.returned.bytes),
                ])?;
                first = first.or(Some(id));
            }
            alive_ms.map_or(Ok(()), |alive_ms| set_fact(tx, Fact::Alive, alive_ms))?;
            Ok(first.unwrap_or_default())
        })
    }

    /// Counts denied packets in their minute.
    pub(crate) fn denials(&mut self, heads: &[Head], places: &Names, now_ms: i64) -> rusqlite::Result<()> {
        self.transaction(|tx, names| {
            let mut insert = tx.prepare(INSERT_DENIAL)?;
            for head in heads {
                let (from, to) = (places.origin(head.source, head.in_index), places.place(head.destination));
                let mut place = |place: Place<'_>| -> rusqlite::Result<(i64, Option<i64>)> {
                    let zone = number(tx, names, place.zone)?;
                    Ok((zone, place.device.map(|name| number(tx, names, name)).transpose()?))
                };
                let ((from_zone, from_device), (to_zone, to_device)) = (place(from)?, place(to)?);
                let protocol = packet::protocol(head.number, head.icmp_type);
                insert.execute(params![
                    now_ms - now_ms.rem_euclid(60_000),
                    number(tx, names, &head.prefix)?,
                    number(tx, names, &protocol)?,
                    address_bytes(head.source),
                    address_bytes(head.destination),
                    head.destination_port.map_or(-1, i64::from),
                    from_zone,
                    from_device,
                    to_zone,
                    to_device,
                ])?;
            }
            Ok(())
        })
    }

    /// Adds to the sightings of their days.
    pub(crate) fn sightings(&mut self, seen: &BTreeMap<SightingKey, Seen>) -> rusqlite::Result<()> {
        self.transaction(|tx, _| {
            let mut insert = tx.prepare(INSERT_SIGHTING)?;
            for (key, (count, last)) in seen {
                let SightingKey { day, suspect, from_zone, to_zone, crosses_border, passed } = key;
                let suspect = word(*suspect);
                insert.execute(params![
                    day,
                    suspect,
                    from_zone,
                    to_zone,
                    crosses_border,
                    passed,
                    signed(*count),
                    last
                ])?;
            }
            Ok(())
        })
    }

    /// Keeps the names of marks, and the names that may be asked for; former ones stay.
    pub(crate) fn names<'a>(
        &mut self,
        flows: &BTreeMap<u32, String>,
        known: impl Iterator<Item = &'a str>,
    ) -> rusqlite::Result<()> {
        self.transaction(|tx, names| {
            for name in known {
                number(tx, names, name)?;
            }
            let mut insert = tx.prepare("INSERT OR REPLACE INTO mark (mark, flow) VALUES (?1, ?2)")?;
            for (mark, flow) in flows {
                insert.execute(params![mark, number(tx, names, flow)?])?;
            }
            Ok(())
        })
    }

    /// Tells what is missing.
    pub(crate) fn gap(&mut self, gap: GapRow) -> rusqlite::Result<()> {
        self.transaction(|tx, _| insert_gap(tx, gap))
    }

    /// Begins to write what the kernel tells: what is known of the time before, and what is missing of it.
    pub(crate) fn begin(&mut self, facts: &[(Fact, i64)], gap: Option<GapRow>) -> rusqlite::Result<()> {
        self.transaction(|tx, _| {
            facts.iter().try_for_each(|(fact, value)| set_fact(tx, *fact, *value))?;
            gap.map_or(Ok(()), |gap| insert_gap(tx, gap))
        })
    }

    /// Closes a period.
    pub(crate) fn period(&mut self, period: &Period) -> rusqlite::Result<()> {
        let Period { since_ms, until_ms, first_row, last_row, started, ended, sha256 } = period;
        self.transaction(|tx, _| {
            tx.execute(
                "INSERT INTO period (since, until, first_row, last_row, started, ended, sha256)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![since_ms, until_ms, first_row, last_row, signed(*started), signed(*ended), sha256],
            )
            .map(drop)
        })
    }

    /// Takes some of the oldest rows away, of those that ended before a time or, when the file is full, of all; gives
    /// how many, and up to when.
    pub(crate) fn prune(&mut self, before_ms: i64, is_full: bool) -> rusqlite::Result<(u64, i64)> {
        self.transaction(|tx, _| {
            let cut = "SELECT max(id), max(ended) FROM (SELECT id, ended FROM flow ORDER BY id LIMIT ?1)";
            let (last, ended): (Option<i64>, Option<i64>) =
                tx.query_row(cut, [PRUNE_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let limit = if is_full { i64::MAX } else { before_ms };
            let gone = tx.execute("DELETE FROM flow WHERE id <= ?1 AND ended < ?2", params![last, limit])?;
            let until = ended.map_or(before_ms, |ended| ended.min(limit));
            if gone > 0 || until == before_ms {
                let denials = "DELETE FROM denial WHERE id IN
                    (SELECT id FROM denial WHERE minute < ?1 ORDER BY minute LIMIT ?2)";
                tx.execute(denials, params![until, PRUNE_ROWS])?;
                tx.execute("DELETE FROM gap WHERE until < ?1", [until])?;
                tx.execute("DELETE FROM period WHERE until < ?1", [until])?;
                tx.execute("DELETE FROM sighting WHERE last < ?1", [before_ms])?;
            }
            Ok((u64::try_from(gone).unwrap_or_default(), until))
        })
    }

    /// A number that was set before.
    pub(crate) fn fact(&self, fact: Fact) -> rusqlite::Result<Option<i64>> {
        let question = "SELECT value FROM fact WHERE key = ?1";
        self.connection.query_row(question, [fact.key()], |row| row.get(0)).optional()
    }

    /// Sets a number.
    pub(crate) fn set_fact(&mut self, fact: Fact, value: i64) -> rusqlite::Result<()> {
        self.transaction(|tx, _| set_fact(tx, fact, value))
    }

    /// The connection, to ask within the writer's own thread.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Bytes that rows take; what was freed inside of the file is room for new ones.
    pub(crate) fn used_bytes(&self) -> rusqlite::Result<u64> {
        let number = |name| self.connection.query_row(name, [], |row| row.get::<_, i64>(0));
        let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        Ok(u64::try_from(pages * number("PRAGMA page_size")?).unwrap_or_default())
    }

    /// Lets the file grow so far and no further.
    pub(crate) fn limit_bytes(&self, budget: u64) -> rusqlite::Result<()> {
        let page: i64 = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(budget).unwrap_or(i64::MAX) / page.max(1);
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut BTreeMap<String, i64>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.names.len() > NAMES_AT_HAND_MAX {
            self.names.clear();
        }
        let tx = self.connection.transaction()?;
        let done = work(&tx, &mut self.names).and_then(|value| tx.commit().map(|()| value));
        if done.is_err() {
            // Numbers given within it are gone with it.
            self.names.clear();
        }
        done
    }
}

fn insert_gap(tx: &Transaction<'_>, gap: GapRow) -> rusqlite::Result<()> {
    let GapRow { since_ms, until_ms, lost, why } = gap;
    tx.execute(
        "INSERT INTO gap (since, until, lost, why) VALUES (:since, :until, :lost, :why)",
        named_params! {
            ":since": since_ms,
            ":until": until_ms,
            ":lost": lost.map(signed),
            ":why": gap_number(why),
        },
    )
    .map(drop)
}

/// The number of a name, a new one if need be.
fn number(tx: &Transaction<'_>, names: &mut BTreeMap<String, i64>, name: &str) -> rusqlite::Result<i64> {
    if let Some(number) = names.get(name) {
        return Ok(*number);
    }
    let found = tx.query_row("SELECT id FROM name WHERE text = ?1", [name], |row| row.get(0)).optional()?;
    let number = match found {
        Some(number) => number,
        None => {
            tx.execute("INSERT INTO name (text) VALUES (?1)", [name])?;
            tx.last_insert_rowid()
        }
    };
    names.insert(name.to_owned(), number);
    Ok(number)
}

fn set_fact(tx: &Transaction<'_>, fact: Fact, value: i64) -> rusqlite::Result<()> {
    tx.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", params![fact.key(), value]).map(drop)
}

/// A suspect's word in the file, the same as on the wire.
pub(crate) fn word(suspect: Suspect) -> String {
    let value = serde_json::to_value(suspect).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(crate) fn gap_number(why: GapReason) -> u8 {
    match why {
        GapReason::Overrun => 1,
        GapReason::Absent => 2,
        GapReason::Storage => 3,
        GapReason::Damaged => 4,
    }
}

pub(crate) fn gap_of(number: u8) -> GapReason {
    match number {
        1 => GapReason::Overrun,
        3 => GapReason::Storage,
        4 => GapReason::Damaged,
        _ => GapReason::Absent,
    }
}

/// A count of one connection; none comes near the limit, below which sums over very many are still numbers.
fn counted(number: u64) -> i64 {
    signed(number.min(COUNT_MAX))
}

/// SQLite's numbers are signed.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Back again.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
