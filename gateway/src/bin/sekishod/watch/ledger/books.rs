//! Periods: what began, ended and was denied in them, and a SHA-256 over their rows, which goes into the transparency
//! log, so that a row that is changed later shows.

use std::collections::BTreeMap;

use events::Event;
use gateway::wire::watch::GapReason;
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::super::packet::Head;
use super::row::{FlowRow, address_of, ending_of, timestamp};
use super::schema::PutAside;
use super::store::{Fact, GapRow, PRUNE_ROWS, Period, Store, unsigned};

/// The length of a period.
const PERIOD: SignedDuration = SignedDuration::from_mins(5);
/// Zones and reasons of denials told by name in one period.
const DENIED_MAX: usize = 64;
/// How full the ledger may be, in percent of its budget, before its oldest rows go.
const FULL_PERCENT: u64 = 90;
/// Rows let go of in one second at most, in pieces of [`PRUNE_ROWS`].
const PRUNE_PIECES: u32 = 8;

/// The running period.
#[derive(Debug)]
pub(crate) struct Books {
    since: Timestamp,
    hash: Sha256,
    rows: Option<(i64, i64)>,
    ended: u64,
    /// Connections that began in it.
    pub(crate) started: u64,
    denied: BTreeMap<(String, String), u64>,
    pruned: (u64, i64),
    /// Rows that the disk did not take: how many, since when, until when.
    lost: Option<(u64, Timestamp, Timestamp)>,
    /// What a file that was put aside held, of which the new one does not know yet.
    owed: Option<GapRow>,
}

impl Books {
    /// Begins a period with the rows that a former process left without one.
    pub(crate) fn open(store: &Store, now: Timestamp) -> rusqlite::Result<Self> {
        let mut books = Books {
            since: now,
            hash: Sha256::new(),
            rows: None,
            ended: 0,
            started: 0,
            denied: BTreeMap::new(),
            pruned: (0, 0),
            lost: None,
            owed: None,
        };
        let sealed = store.connection().query_row(
            "SELECT coalesce(max(last_row), 0), max(until) FROM period",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
        )?;
        each_row(store.connection(), sealed.0 + 1, i64::MAX, |id, row| books.add(id, &row))?;
        if let (Some(until), Some(_)) = (sealed.1, books.rows) {
            books.since = timestamp(until);
        }
        Ok(books)
    }

    /// Takes up rows that were written, the first of which has this number.
    pub(crate) fn take(&mut self, first: i64, rows: &[FlowRow]) {
        for (id, row) in (first..).zip(rows) {
            self.add(id, row);
        }
    }

    fn add(&mut self, id: i64, row: &FlowRow) {
        self.hash.update(row.line(id));
        self.rows = Some((self.rows.map_or(id, |(first, _)| first), id));
        self.ended += 1;
    }

    /// Counts a denied packet by zone and reason.
    pub(crate) fn denied(&mut self, head: &Head) {
        let (zone, reason) = match head.prefix.strip_prefix("sekisho:") {
            Some("spoofed") => ("", "spoofed"),
            Some("@rogue") => ("", "rogue"),
            Some(zone) => (zone, "denied"),
            None => ("", "foreign"),
        };
        let key = (zone.to_owned(), reason.to_owned());
        if self.denied.len() < DENIED_MAX || self.denied.contains_key(&key) {
            *self.denied.entry(key).or_default() += 1;
        }
    }

    /// Remembers rows that the disk did not take.
    pub(crate) fn unwritten(&mut self, count: u64, since: Timestamp, until: Timestamp) {
        let (sum, first, _) = self.lost.unwrap_or((0, since, until));
        self.lost = Some((sum + count, first.min(since), until));
    }

    /// Whether there are some of which the ledger does not know yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.lost.is_some() || self.owed.is_some()
    }

    /// Begins a new file's books; what the old one held is a gap of this one.
    pub(crate) fn begin_anew(&mut self, store: &mut Store, aside: Option<&PutAside>) {
        let now = Timestamp::now();
        let since = self.since;
        if let Some(PutAside { path, why }) = aside {
            tracing::error!(path = %path.display(), why, "the ledger was damaged and put aside; a new one is begun");
        }
        let gap = GapRow {
            since_ms: since.as_millisecond(),
            until_ms: Some(now.as_millisecond()),
            lost: None,
            why: GapReason::Damaged,
        };
        if let Err(error) = store.gap(gap) {
            tracing::error!(%error, "the new ledger cannot be written");
            let since_ms = self.owed.map_or(gap.since_ms, |owed| owed.since_ms.min(gap.since_ms));
            self.owed = Some(GapRow { since_ms, ..gap });
        }
        (self.hash, self.rows, self.ended) = (Sha256::new(), None, 0);
    }

    /// Whether the period is over, or there are losses to be written down. A clock that was set back ends it as well.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now.duration_since(self.since).abs() >= PERIOD || self.has_unwritten()
    }

    /// Ends the period: the events of what was in it.
    pub(crate) fn seal(&mut self, store: &mut Store, now: Timestamp) -> rusqlite::Result<Vec<Event>> {
        if let Some((count, since, until)) = self.lost {
            let (since_ms, until_ms) = (since.as_millisecond(), Some(until.as_millisecond()));
            store.gap(GapRow { since_ms, until_ms, lost: Some(count), why: GapReason::Storage })?;
            self.lost = None;
        }
        if let Some(gap) = self.owed {
            store.gap(gap)?;
            self.owed = None;
        }
        let (since, until) = (self.since.min(now), now);
        let mut told = Vec::new();
        if self.started > 0 || self.ended > 0 {
            let sha256: [u8; 32] = self.hash.clone().finalize().into();
            let (first_row, last_row) = self.rows.unwrap_or((0, 0));
            let (since_ms, until_ms) = (since.as_millisecond(), until.as_millisecond());
            let (started, ended) = (self.started, self.ended);
            if self.rows.is_some() {
                store.period(&Period { since_ms, until_ms, first_row, last_row, started, ended, sha256 })?;
            }
            let sha256 = policy::ruleset::hex(&sha256);
            told.push(Event::FlowsSeen { since, until, started, ended, sha256 });
        }
        for ((zone, reason), packets) in std::mem::take(&mut self.denied) {
            told.push(Event::Denied { since, until, zone, reason, packets });
        }
        let (rows, before) = std::mem::take(&mut self.pruned);
        if rows > 0 {
            told.push(Event::LedgerPruned { rows, before: timestamp(before) });
        }
        (self.since, self.hash, self.rows) = (now, Sha256::new(), None);
        (self.started, self.ended) = (0, 0);
        Ok(told)
    }

    /// Lets go of rows that are older than a time, and of the oldest while there is too little room.
    pub(crate) fn prune(
        &mut self,
        store: &mut Store,
        (now_ms, retention_ms): (i64, i64),
        budget: u64,
    ) -> rusqlite::Result<()> {
        let before_ms = now_ms.saturating_sub(retention_ms);
        let full = budget / 100 * FULL_PERCENT;
        for _ in 0..PRUNE_PIECES {
            let is_full = store.used_bytes()? > full;
            let (rows, until) = store.prune(before_ms, is_full)?;
            if is_full && rows > 0 {
                store.set_fact(Fact::Crowded, now_ms)?;
            }
            if rows > 0 {
                self.pruned = (self.pruned.0 + rows, self.pruned.1.max(until));
            }
            if rows < u64::from(PRUNE_ROWS) {
                break;
            }
        }
        Ok(())
    }
}

/// The SHA-256 over rows of the ledger, as a period has it.
#[cfg(test)]
pub(crate) fn hash_rows(ledger: &Connection, first: i64, last: i64) -> rusqlite::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    each_row(ledger, first, last, |id, row| hash.update(row.line(id)))?;
    Ok(hash.finalize().into())
}

fn each_row(
    ledger: &Connection,
    first: i64,
    last: i64,
    mut take: impl FnMut(i64, FlowRow),
) -> rusqlite::Result<()> {
    let mut statement = ledger.prepare(
        "SELECT f.id, f.started, f.ended, f.ending, f.mark, f.last_mark, f.protocol, f.source, f.source_port,
             f.destination, f.destination_port, fz.text, fd.text, tz.text, td.text, f.sent_packets, f.sent_bytes,
             f.returned_packets, f.returned_bytes
         FROM flow f JOIN name fz ON fz.id = f.from_zone LEFT JOIN name fd ON fd.id = f.from_device
             JOIN name tz ON tz.id = f.to_zone LEFT JOIN name td ON td.id = f.to_device
         WHERE f.id BETWEEN ?1 AND ?2 ORDER BY f.id",
    )?;
    let mut rows = statement.query([first, last])?;
    while let Some(row) = rows.next()? {
        let number = |column| row.get::<_, i64>(column).map(unsigned);
        let address = |column| {
            let bytes: Vec<u8> = row.get(column)?;
            let kind = rusqlite::types::Type::Blob;
            address_of(&bytes).ok_or(rusqlite::Error::InvalidColumnType(column, String::new(), kind))
        };
        let count = |packets, bytes| -> rusqlite::Result<_> {
            Ok(netfilter::conntrack::Count { packets: number(packets)?, bytes: number(bytes)? })
        };
        let flow = FlowRow {
            started_ms: row.get(1)?,
            ended_ms: row.get(2)?,
            ending: ending_of(row.get(3)?),
            mark: row.get(4)?,
            last_mark: row.get(5)?,
            protocol: row.get(6)?,
            source: address(7)?,
            source_port: row.get(8)?,
            destination: address(9)?,
            destination_port: row.get(10)?,
            from_zone: row.get(11)?,
            from_device: row.get(12)?,
            to_zone: row.get(13)?,
            to_device: row.get(14)?,
            sent: count(15, 16)?,
            returned: count(17, 18)?,
        };
        take(row.get(0)?, flow);
    }
    Ok(())
}
