//! Questions to the watch role: the ledger of connections, and what was denied.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The byte with which core hands over the feed's two sockets, just made: the log of denied packets, the events of
/// connections.
pub const FEED_HELLO_NEW: u8 = b'N';
/// The same, when core had kept them, with what the kernel queued meanwhile.
pub const FEED_HELLO_KEPT: u8 = b'K';
/// The byte with which watch asks core to ask the kernel for the list of open connections.
pub const FEED_LIST: u8 = b'L';
/// Most rows of one answer.
pub const ROWS_MAX: u32 = 1000;
/// Longest name or address in a question, in bytes.
pub const WORD_BYTES_MAX: usize = 256;

/// Questions about the flow ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WatchAsk {
    /// Who spoke to whom.
    Ledger(LedgerQuery),
    /// What was denied.
    Denied(LedgerQuery),
    /// What passed by each flow, to compare with the kernel's own counters.
    Sums {
        /// Connections that ended from then on, or are open.
        since: Option<Timestamp>,
    },
}

/// What is sought; what is not given does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerQuery {
    /// One end: a device's name, `zone:SLUG`, `gateway` or an address.
    pub device: Option<String>,
    /// The other end, likewise.
    pub peer: Option<String>,
    /// Name of the flow.
    pub flow: Option<String>,
    /// What ended, or was denied, at this time or later, or is open.
    pub since: Option<Timestamp>,
    /// What began, or was denied, before this time.
    pub until: Option<Timestamp>,
    /// Most rows wanted; at most [`ROWS_MAX`].
    pub limit: u32,
    /// The cursor of an earlier answer.
    pub after: Option<Cursor>,
}

/// Where an answer ended; the next begins behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// End of the last row, in milliseconds.
    pub ended_ms: i64,
    /// Its number.
    pub row: i64,
}

/// Answers about the flow ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchAnswer {
    /// Connections.
    Ledger(LedgerPage),
    /// Denied packets.
    Denied(DeniedPage),
    /// Sums.
    Sums(LedgerSums),
}

/// Connections, by their ends; those that are open come last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerPage {
    /// The connections.
    pub rows: Vec<LedgerRow>,
    /// Where the next answer begins; `None` when this was all.
    pub more: Option<Cursor>,
    /// Whether all open connections are in it; else core could not be asked for them, there are more than were asked for, or
    /// there is more before them.
    pub with_open: bool,
    /// What the ledger is known to miss in the time asked for.
    pub gaps: Vec<Gap>,
    /// The oldest end that is kept.
    pub kept_since: Option<Timestamp>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRow {
    /// Its first packet.
    pub started: Timestamp,
    /// When the kernel took it off its list: some time after the last packet. `None` while it is open.
    pub ended: Option<Timestamp>,
    /// Why it is over.
    pub ending: Ending,
    /// The flow by which it began, as it was called then; empty for exchanges that need none.
    pub flow: String,
    /// The flow by which it went on, when that became another.
    pub later_flow: Option<String>,
    /// Who opened it.
    pub from: End,
    /// Whom it was for.
    pub to: End,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `esp` or a number.
    pub protocol: String,
    /// From the opener: packets that came, bytes from the network header on.
    pub sent: Count,
    /// To the opener.
    pub returned: Count,
}

/// One end of a connection, as it was known at the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Address.
    pub address: IpAddr,
    /// Port, for protocols that have one.
    pub port: Option<u16>,
    /// Name of the device.
    pub device: Option<String>,
    /// ASCII name of the zone, or `gateway`.
    pub zone: String,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is not.
    Open,
    /// Both ends closed it.
    Closed,
    /// One end broke it off.
    Reset,
    /// Nothing came for a while.
    Idle,
    /// The policy no longer allowed it, and something was dropped.
    Cut,
}

/// A time of which the ledger is known to miss something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// It begins after this.
    pub since: Timestamp,
    /// It ends before this; `None` while it lasts.
    pub until: Option<Timestamp>,
    /// Beginnings and ends of connections that are missing; `None` when nobody counted them.
    pub lost: Option<u64>,
    /// Why.
    pub why: GapReason,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The kernel had more to tell than it had room for.
    Overrun,
    /// Nobody listened: this role or core was not there.
    Absent,
    /// The disk did not take it.
    Storage,
    /// The ledger's file was damaged, and a new one was begun.
    Damaged,
}

/// Denied packets, by minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedPage {
    /// The denials.
    pub rows: Vec<DeniedRow>,
    /// Where the next answer begins; `None` when this was all.
    pub more: Option<Cursor>,
}

/// Packets of one kind that were denied in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedRow {
    /// The minute.
    pub minute: Timestamp,
    /// Where the rules logged it.
    pub prefix: String,
    /// Who sent it.
    pub from: End,
    /// Whom it was for.
    pub to: End,
    /// Protocol, such as `tcp` or `icmp/8`.
    pub protocol: String,
    /// How many.
    pub count: u64,
}

/// What passed, by flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSums {
    /// One row for each mark by which connections began, and each by which they went on.
    pub rows: Vec<LedgerSum>,
    /// What is missing.
    pub gaps: Vec<Gap>,
}

/// What passed by one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSum {
    /// The flow by which these connections began.
    pub flow: String,
    /// Its mark in the kernel.
    pub mark: u32,
    /// The mark that they had last; another one than `mark` when their flow ended, zero when no other took them on.
    pub last_mark: u32,
    /// How many connections.
    pub connections: u64,
    /// Both directions together.
    pub count: Count,
}
