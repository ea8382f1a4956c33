//! How the ledger is, for the metrics and the controls.

use jiff::Timestamp;
use policy::guideline::measures::SIGHTING_DAYS;
use policy::guideline::observation::{FlowLedger, ROWS_MAX, Sighting, Sightings};
use policy::guideline::suspect::Suspect;

use super::super::names::GATEWAY;
use super::row::timestamp;
use super::store::{Fact, Store, unsigned};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// The ledger at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// When it was read; `None` while it cannot be.
    pub(crate) at: Option<Timestamp>,
    /// Why the last write failed.
    pub(crate) trouble: Option<String>,
    /// Whether all that was told is written.
    pub(crate) writing: bool,
    /// Connections open now.
    pub(crate) open: usize,
    /// Bytes that rows take, and may take.
    pub(crate) bytes: u64,
    pub(crate) budget_bytes: u64,
    /// How long rows are kept.
    pub(crate) retention_s: u64,
    /// When the ledger began, and its oldest row.
    pub(crate) began: Option<Timestamp>,
    pub(crate) oldest: Option<Timestamp>,
    /// When rows last went before their time.
    pub(crate) crowded: Option<Timestamp>,
    /// What looked suspicious, the most recent first.
    pub(crate) sightings: Vec<Sighting>,
}

impl Summary {
    /// A write failed.
    pub(crate) fn failed(&mut self, why: String) {
        self.trouble = Some(why);
        self.writing = false;
    }
}

impl Summary {
    /// What the controls ask about the ledger; nothing before it could be read, or before a policy said how much it holds.
    pub(crate) fn ledger(&self) -> Option<FlowLedger> {
        Some(FlowLedger {
            writing: self.writing && self.trouble.is_none(),
            oldest_at: self.oldest,
            dropped_at: self.crowded,
            since: self.began?,
            bytes: self.bytes,
            budget_bytes: Some(self.budget_bytes).filter(|budget| *budget > 0)?,
            retention_s: self.retention_s,
        })
    }

    /// What the controls ask about suspicious traffic.
    pub(crate) fn sightings(&self) -> Option<Sightings> {
        Some(Sightings { since: self.began?, sightings: self.sightings.clone() })
    }
}

/// Reads the ledger's state.
pub(crate) fn read(
    store: &Store,
    budget_bytes: u64,
    retention_ms: i64,
    now: Timestamp,
) -> rusqlite::Result<Summary> {
    let oldest = store
        .connection()
        .query_row("SELECT min(ended) FROM flow", [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(Summary {
        at: Some(now),
        trouble: None,
        writing: true,
        open: 0,
        bytes: store.used_bytes()?,
        budget_bytes,
        retention_s: unsigned(retention_ms / 1000),
        began: store.fact(Fact::Began)?.map(timestamp),
        oldest: oldest.map(timestamp),
        crowded: store.fact(Fact::Crowded)?.map(timestamp),
        sightings: sightings(store, now)?,
    })
}

fn sightings(store: &Store, now: Timestamp) -> rusqlite::Result<Vec<Sighting>> {
    let mut statement = store.connection().prepare(
        "SELECT suspect, from_zone, to_zone, border, passed, sum(count), max(last) AS latest FROM sighting
         WHERE day >= ?1 GROUP BY suspect, from_zone, to_zone, border, passed ORDER BY latest DESC LIMIT ?2",
    )?;
    let first_day = now.as_millisecond().div_euclid(DAY_MS) - SIGHTING_DAYS;
    let limit = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX);
    let rows = statement.query_map([first_day, limit], |row| {
        let to: String = row.get(2)?;
        let sighting = |suspect| {
            Ok(Sighting {
                suspect,
                from: row.get(1)?,
                to: Some(to).filter(|to| to != GATEWAY),
                crosses_border: row.get(3)?,
                passed: row.get(4)?,
                count: row.get(5).map(unsigned)?,
                last_at: timestamp(row.get(6)?),
            })
        };
        // A word of another release is passed over.
        suspect(&row.get::<_, String>(0)?).map(sighting).transpose()
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn suspect(word: &str) -> Option<Suspect> {
    serde_json::from_value(serde_json::Value::from(word)).ok()
}
