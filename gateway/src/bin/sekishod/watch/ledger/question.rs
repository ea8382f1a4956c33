//! Questions to the ledger: the same selection over what ended, by SQL, and over what is open, by looking.

use std::net::IpAddr;

use gateway::wire::watch::{
    Count, Cursor, DeniedRow, End, Gap, LedgerQuery, LedgerRow, ROWS_MAX, WORD_BYTES_MAX,
};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use thiserror::Error;

use super::super::packet::protocol;
use super::row::{FlowRow, address_bytes, address_of, ending_of, timestamp};
use super::store::{gap_of, unsigned};

const COLUMNS: &str = "
SELECT f.id, f.started, f.ended, f.ending, f.mark, f.last_mark, f.protocol, f.source, f.source_port, f.destination,
    f.destination_port, fz.text, fd.text, tz.text, td.text, f.sent_packets, f.sent_bytes, f.returned_packets,
    f.returned_bytes, mn.text, ln.text
FROM flow f
JOIN name fz ON fz.id = f.from_zone LEFT JOIN name fd ON fd.id = f.from_device
JOIN name tz ON tz.id = f.to_zone LEFT JOIN name td ON td.id = f.to_device
LEFT JOIN mark m ON m.mark = f.mark LEFT JOIN name mn ON mn.id = m.flow
LEFT JOIN mark l ON l.mark = f.last_mark LEFT JOIN name ln ON ln.id = l.flow";
const DENIAL_COLUMNS: &str = "
SELECT f.id, f.minute, p.text, r.text, f.source, f.destination, f.port, fz.text, fd.text, tz.text, td.text, f.count
FROM denial f
JOIN name p ON p.id = f.prefix JOIN name r ON r.id = f.protocol
JOIN name fz ON fz.id = f.from_zone LEFT JOIN name fd ON fd.id = f.from_device
JOIN name tz ON tz.id = f.to_zone LEFT JOIN name td ON td.id = f.to_device";
/// Most gaps told at once, the latest.
const GAPS_MAX: u32 = 100;

/// Why a question has no answer.
#[derive(Debug, Error)]
pub(crate) enum QuestionError {
    /// A word is too long to be a name.
    #[error("`device`, `peer` and `flow` have at most {WORD_BYTES_MAX} bytes")]
    TooLong,
    /// The ledger never saw such a device, zone or flow.
    #[error(
        "the ledger knows no {what} `{word}`: give a device's name as in the policy, `zone:NAME`, `gateway` or an address"
    )]
    Unknown {
        /// What was given.
        what: &'static str,
        /// The word.
        word: String,
    },
    /// The ledger cannot be read.
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] rusqlite::Error),
}

/// One end as it is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Device(String),
    Zone(String),
    Address(IpAddr),
}

/// What is sought, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    sides: Option<(Side, Option<Side>)>,
    flow: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    after: Option<Cursor>,
    pub(crate) limit: usize,
}

impl Selection {
    /// Understands a question. A bare word is a device's name unless it is an address.
    pub(crate) fn new(query: &LedgerQuery) -> Result<Self, QuestionError> {
        let LedgerQuery { device, peer, flow, since, until, limit, after } = query;
        if [device, peer, flow].into_iter().flatten().any(|word| word.len() > WORD_BYTES_MAX) {
            return Err(QuestionError::TooLong);
        }
        let mut ends = device.iter().chain(peer).map(|word| side(word));
        Ok(Selection {
            sides: ends.next().map(|first| (first, ends.next())),
            flow: flow.clone(),
            since_ms: since.map(|at| at.as_millisecond()),
            until_ms: until.map(|at| at.as_millisecond()),
            after: *after,
            limit: usize::try_from((*limit).clamp(1, ROWS_MAX)).unwrap_or(1),
        })
    }

    /// Whether an open connection is meant.
    pub(crate) fn takes(&self, row: &FlowRow, flow: &str) -> bool {
        let from = |side: &Side| is_end(side, row.source, &row.from_zone, row.from_device.as_deref());
        let to = |side: &Side| is_end(side, row.destination, &row.to_zone, row.to_device.as_deref());
        let ends = match &self.sides {
            None => true,
            Some((one, None)) => from(one) || to(one),
            Some((one, Some(other))) => (from(one) && to(other)) || (from(other) && to(one)),
        };
        ends && self.flow.as_deref().is_none_or(|wanted| wanted == flow)
            && self.until_ms.is_none_or(|until| row.started_ms < until)
    }

    /// Connections that ended, in the order of their ends; one more than asked for when there are more.
    pub(crate) fn ended(&self, ledger: &Connection) -> Result<Vec<(Cursor, LedgerRow)>, QuestionError> {
        self.check(ledger)?;
        self.rows(ledger, COLUMNS, "f.ended", "f.ended >= ? AND f.started < ?", flow_row)
    }

    /// Denied packets, in the order of their minutes.
    pub(crate) fn denied(&self, ledger: &Connection) -> Result<Vec<(Cursor, DeniedRow)>, QuestionError> {
        self.check(ledger)?;
        self.rows(ledger, DENIAL_COLUMNS, "f.minute", "f.minute >= ? AND f.minute < ?", denied_row)
    }

    /// What is missing in the time asked for.
    pub(crate) fn gaps(&self, ledger: &Connection) -> rusqlite::Result<Vec<Gap>> {
        gaps(ledger, self.since_ms, self.until_ms)
    }

    /// A name that was never seen is a mistake of whoever asks, and not an empty answer.
    fn check(&self, ledger: &Connection) -> Result<(), QuestionError> {
        let sides = self.sides.iter().flat_map(|(one, other)| std::iter::once(one).chain(other));
        let named = sides.filter_map(|side| match side {
            Side::Device(name) => Some(("device", name)),
            Side::Zone(name) => Some(("zone", name)),
            Side::Address(_) => None,
        });
        for (what, word) in named.chain(self.flow.iter().map(|flow| ("flow", flow))) {
            let known: bool =
                ledger.query_row("SELECT EXISTS (SELECT 1 FROM name WHERE text = ?1)", [word], |row| {
                    row.get(0)
                })?;
            if !known {
                return Err(QuestionError::Unknown { what, word: word.clone() });
            }
        }
        Ok(())
    }

    /// Each way round is a query of its own, so that each runs along one index; what both find is taken once.
    fn rows<T>(
        &self,
        ledger: &Connection,
        columns: &str,
        time: &str,
        span: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<(Cursor, T)>,
    ) -> Result<Vec<(Cursor, T)>, QuestionError> {
        let mut found = Vec::new();
        for (from, to) in self.ways() {
            let mut sql = format!("{columns} WHERE {span} AND ({time}, f.id) > (?, ?)");
            let after = self.after.unwrap_or(Cursor { ended_ms: i64::MIN, row: 0 });
            let mut values: Vec<Value> = vec![
                self.since_ms.unwrap_or(i64::MIN).into(),
                self.until_ms.unwrap_or(i64::MAX).into(),
                after.ended_ms.into(),
                after.row.into(),
            ];
            for (side, end) in [(from, "from"), (to, "to")] {
                if let Some(side) = side {
                    sql.push_str(&condition(side, end));
                    values.push(value(side));
                }
            }
            if let Some(flow) = self.flow.as_ref().filter(|_| time == "f.ended") {
                sql.push_str(
                    " AND f.mark IN (SELECT mark FROM mark JOIN name n ON n.id = flow WHERE n.text = ?)",
                );
                values.push(flow.clone().into());
            }
            sql.push_str(&format!(" ORDER BY {time}, f.id LIMIT {}", self.limit + 1));
            let mut statement = ledger.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| read(row))?;
            for row in rows {
                found.push(row?);
            }
        }
        found.sort_by_key(|(cursor, _)| *cursor);
        found.dedup_by_key(|(cursor, _)| *cursor);
        found.truncate(self.limit + 1);
        Ok(found)
    }

    fn ways(&self) -> Vec<(Option<&Side>, Option<&Side>)> {
        match &self.sides {
            None => vec![(None, None)],
            Some((one, other)) => vec![(Some(one), other.as_ref()), (other.as_ref(), Some(one))],
        }
    }
}

/// What is missing between two times.
pub(crate) fn gaps(
    ledger: &Connection,
    since: Option<i64>,
    until: Option<i64>,
) -> rusqlite::Result<Vec<Gap>> {
    let mut statement = ledger.prepare(
        "SELECT since, until, lost, why FROM gap WHERE coalesce(until, ?1) >= ?1 AND since < ?2
         ORDER BY id DESC LIMIT ?3",
    )?;
    let span = [since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX), i64::from(GAPS_MAX)];
    let rows = statement.query_map(span, |row| {
        Ok(Gap {
            since: timestamp(row.get(0)?),
            until: row.get::<_, Option<i64>>(1)?.map(timestamp),
            lost: row.get::<_, Option<i64>>(2)?.map(unsigned),
            why: gap_of(row.get(3)?),
        })
    })?;
    let mut gaps = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    gaps.reverse();
    Ok(gaps)
}

/// An open connection as it is told.
pub(crate) fn open_row(row: FlowRow, flow: &str, later_flow: Option<&str>) -> LedgerRow {
    LedgerRow {
        started: timestamp(row.started_ms),
        ended: None,
        ending: gateway::wire::watch::Ending::Open,
        flow: flow.to_owned(),
        later_flow: later_flow.map(str::to_owned),
        from: End {
            address: row.source,
            port: row.source_port,
            device: row.from_device,
            zone: row.from_zone,
        },
        to: End {
            address: row.destination,
            port: row.destination_port,
            device: row.to_device,
            zone: row.to_zone,
        },
        protocol: protocol(row.protocol, None),
        sent: count(row.sent),
        returned: count(row.returned),
    }
}

fn count(count: netfilter::conntrack::Count) -> Count {
    Count { packets: count.packets, bytes: count.bytes }
}

fn side(word: &str) -> Side {
    match (word.strip_prefix("zone:"), word.parse()) {
        (Some(zone), _) => Side::Zone(zone.to_owned()),
        (None, Ok(address)) => Side::Address(address),
        (None, Err(_)) => Side::Device(word.strip_prefix("device:").unwrap_or(word).to_owned()),
    }
}

fn is_end(side: &Side, address: IpAddr, zone: &str, device: Option<&str>) -> bool {
    match side {
        Side::Device(name) => device == Some(name),
        Side::Zone(name) => zone == name,
        Side::Address(wanted) => address == *wanted,
    }
}

/// The condition of one end, with one parameter.
fn condition(side: &Side, end: &str) -> String {
    let address = if end == "from" { "source" } else { "destination" };
    match side {
        Side::Device(_) => format!(" AND f.{end}_device = (SELECT id FROM name WHERE text = ?)"),
        Side::Zone(_) => format!(" AND f.{end}_zone = (SELECT id FROM name WHERE text = ?)"),
        Side::Address(_) => format!(" AND f.{address} = ?"),
    }
}

fn value(side: &Side) -> Value {
    match side {
        Side::Device(name) | Side::Zone(name) => name.clone().into(),
        Side::Address(address) => address_bytes(*address).into(),
    }
}

fn flow_row(row: &Row<'_>) -> rusqlite::Result<(Cursor, LedgerRow)> {
    let (mark, last_mark): (u32, u32) = (row.get(4)?, row.get(5)?);
    let ended_ms = row.get(2)?;
    let number = |column| row.get::<_, i64>(column).map(unsigned);
    let told = LedgerRow {
        started: timestamp(row.get(1)?),
        ended: Some(timestamp(ended_ms)),
        ending: ending_of(row.get(3)?),
        flow: flow_name(mark, row.get(19)?),
        later_flow: (last_mark != mark && last_mark != 0)
            .then(|| row.get(20).map(|name| flow_name(last_mark, name)))
            .transpose()?,
        from: End { address: address(row, 7)?, port: row.get(8)?, device: row.get(12)?, zone: row.get(11)? },
        to: End { address: address(row, 9)?, port: row.get(10)?, device: row.get(14)?, zone: row.get(13)? },
        protocol: protocol(row.get(6)?, None),
        sent: Count { packets: number(15)?, bytes: number(16)? },
        returned: Count { packets: number(17)?, bytes: number(18)? },
    };
    Ok((Cursor { ended_ms, row: row.get(0)? }, told))
}

/// A mark whose name never came is told by its number.
pub(crate) fn flow_name(mark: u32, name: Option<String>) -> String {
    name.unwrap_or_else(|| if mark == 0 { String::new() } else { format!("{mark:#010x}") })
}

fn denied_row(row: &Row<'_>) -> rusqlite::Result<(Cursor, DeniedRow)> {
    let minute = row.get(1)?;
    let port: i64 = row.get(6)?;
    let told = DeniedRow {
        minute: timestamp(minute),
        prefix: row.get(2)?,
        protocol: row.get(3)?,
        from: End { address: address(row, 4)?, port: None, device: row.get(8)?, zone: row.get(7)? },
        to: End {
            address: address(row, 5)?,
            port: u16::try_from(port).ok(),
            device: row.get(10)?,
            zone: row.get(9)?,
        },
        count: row.get(11).map(unsigned)?,
    };
    Ok((Cursor { ended_ms: minute, row: row.get(0)? }, told))
}

fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<IpAddr> {
    let bytes: Vec<u8> = row.get(column)?;
    address_of(&bytes).ok_or(rusqlite::Error::InvalidColumnType(
        column,
        String::new(),
        rusqlite::types::Type::Blob,
    ))
}
