//! The language of the gateway's sockets: one request, one answer, each a JSON value behind its length.
//! What comes in is hostile until it is a [`Request`]: lengths are bounded, unknown fields and versions are errors.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::raw::{Beside, Sources};
use policy::services::VpnCarrier;
use serde::{Deserialize, Serialize};

pub mod console;
pub mod doors;
pub mod edge;
pub mod files;
pub mod frame;
pub mod persons;
pub mod record;
pub mod watch;

use self::console::{ConsoleAnswer, ConsoleAsk};
use self::edge::{EdgeAnswer, EdgeAsk};
use self::persons::{PersonsAnswer, PersonsAsk, SessionsAnswer, SessionsAsk, VendorsAnswer, VendorsAsk};
use self::record::{RecordAnswer, RecordAsk};
use self::watch::{WatchAnswer, WatchAsk};

/// The version of this language; a peer that speaks another is told so.
pub const VERSION: u32 = 1;
/// Longest frame in bytes: a policy of 10^5 flows takes about 20 MiB.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The question or order.
    pub ask: Ask,
}

/// Questions and orders.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How things are.
    Status {},
    /// Put a policy in force, or with `dry_run` only say what would change.
    Apply {
        /// The policy's text.
        sources: SourceTexts,
        /// Say, do not do.
        dry_run: bool,
    },
    /// The flows of the policy in force, with their counters.
    Flows {},
    /// Compare the kernel with the policy in force.
    Verify {},
    /// The text of the policy in force.
    Sources {},
    /// The wall clock is good (said by a unit that waited for time synchronisation).
    TimeTrusted {},
    /// Write the configuration of the services again.
    RenderServices {},
    /// The last denied packets (answered by the watch role only).
    Denials {},
    /// What a role counted and measured (answered by every role).
    Measure {},
    /// For the watch role.
    Watch(WatchAsk),
    /// For the record role.
    Record(RecordAsk),
    /// For the console role.
    Console(ConsoleAsk),
    /// Persons and their second factors (answered by core).
    Persons(PersonsAsk),
    /// Maintenance sessions (answered by core).
    Sessions(SessionsAsk),
    /// Vendors and their engineers (answered by core).
    Vendors(VendorsAsk),
    /// For the edge role.
    Edge(EdgeAsk),
}

impl Ask {
    /// Whether the order changes anything.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Ask::Apply { dry_run, .. } => !dry_run,
            Ask::TimeTrusted {} | Ask::RenderServices {} => true,
            Ask::Record(ask) => ask.is_write(),
            Ask::Console(ask) => ask.is_write(),
            Ask::Persons(ask) => ask.is_write(),
            Ask::Sessions(ask) => ask.is_write(),
            Ask::Vendors(ask) => ask.is_write(),
            Ask::Status {}
            | Ask::Flows {}
            | Ask::Verify {}
            | Ask::Sources {}
            | Ask::Denials {}
            | Ask::Measure {}
            | Ask::Watch(_)
            | Ask::Edge(_) => false,
        }
    }

    /// The word for logs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Ask::Status {} => "status",
            Ask::Apply { dry_run: false, .. } => "apply",
            Ask::Apply { dry_run: true, .. } => "apply-dry-run",
            Ask::Flows {} => "flows",
            Ask::Verify {} => "verify",
            Ask::Sources {} => "sources",
            Ask::TimeTrusted {} => "time-trusted",
            Ask::RenderServices {} => "render-services",
            Ask::Denials {} => "denials",
            Ask::Measure {} => "measure",
            Ask::Watch(_) => "watch",
            Ask::Record(_) => "record",
            Ask::Console(_) => "console",
            Ask::Persons(_) => "persons",
            Ask::Sessions(_) => "sessions",
            Ask::Vendors(_) => "vendors",
            Ask::Edge(_) => "edge",
        }
    }
}

/// A policy's text as it travels and rests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTexts {
    /// Name of the main source.
    pub main: String,
    /// Text of every source by name.
    pub texts: BTreeMap<String, String>,
    /// Files of vendors' certificate authorities by the names that the policy gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorities: BTreeMap<String, Beside>,
}

impl From<Sources> for SourceTexts {
    fn from(sources: Sources) -> Self {
        let Sources { main, texts, authorities } = sources;
        SourceTexts { main, texts, authorities }
    }
}

impl From<SourceTexts> for Sources {
    fn from(sources: SourceTexts) -> Self {
        let SourceTexts { main, texts, authorities } = sources;
        Sources { main, texts, authorities }
    }
}

/// What a role answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How things are.
    Status(Box<Status>),
    /// The policy is in force, read back.
    Applied(Change),
    /// What an apply would change.
    Planned(Change),
    /// The policy is not acceptable; nothing changed.
    Refused {
        /// Findings, as the policy crate writes them.
        report: serde_json::Value,
    },
    /// The flows.
    Flows(Vec<FlowRow>),
    /// What the comparison with the kernel found.
    Verified {
        /// One line per difference; empty means equal.
        differences: Vec<String>,
        /// Differences found and repaired since the last comparison that somebody asked for.
        repaired: Vec<String>,
    },
    /// The text of the policy in force.
    Sources(Option<SourceTexts>),
    /// Done.
    Done {},
    /// Denied packets.
    Denials(Denials),
    /// What the role counted and measured.
    Measured(Box<Measured>),
    /// From the watch role.
    Watch(WatchAnswer),
    /// From the record role.
    Record(RecordAnswer),
    /// From the console role.
    Console(ConsoleAnswer),
    /// Persons.
    Persons(PersonsAnswer),
    /// Maintenance sessions.
    Sessions(SessionsAnswer),
    /// Vendors.
    Vendors(VendorsAnswer),
    /// From the edge role.
    Edge(EdgeAnswer),
    /// It did not work.
    Failed(Fault),
}

/// What a role counted since it started and measured just now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Which role.
    pub role: events::Role,
    /// When it started.
    pub started_at: Timestamp,
    /// Counters of its events and gauges of its measurements.
    pub samples: Vec<events::Sample>,
    /// What the controls are judged by.
    pub observations: Vec<policy::guideline::Observed>,
}

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The kind, for programs.
    pub kind: FaultKind,
    /// What happened and what to do, for people.
    pub message: String,
}

impl Fault {
    /// A fault with its words.
    #[must_use]
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into() }
    }
}

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The request is not of this language.
    BadRequest,
    /// The peer may not ask this.
    NotPermitted,
    /// Too many clients, or another change is on its way.
    Busy,
    /// It was tried and failed; the last applied policy is in force.
    RolledBack,
    /// It was tried and failed; nothing passes.
    Closed,
    /// It failed before anything changed.
    Failed,
    /// There is no room for it.
    Full,
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A policy, read back equal.
    Applied,
    /// Nothing passes.
    Closed,
    /// A change is on its way, or the closed state could not be established.
    Unsettled,
}

/// How things are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// What is in force.
    pub state: State,
    /// Why nothing passes, when it does not.
    pub closed_because: Option<String>,
    /// The policy in force.
    pub policy: Option<AppliedPolicy>,
    /// Whose WireGuard carries the VPN's packets, if the policy has a VPN.
    pub vpn: Option<VpnCarrier>,
    /// The clock by which windows open and close.
    pub time: TimeStatus,
    /// Things somebody should look at, newest last.
    pub warnings: Vec<String>,
    /// Version of the daemon.
    pub version: String,
    /// When the daemon started.
    pub started_at: Timestamp,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPolicy {
    /// Identity of its rule set.
    pub id: String,
    /// The clinic's name.
    pub clinic: String,
    /// Name of the main source.
    pub file: String,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// User id of whoever applied it.
    pub applied_by: u32,
    /// Number of flows, the built-in ones included.
    pub flow_count: usize,
    /// Number of flows that may carry packets now.
    pub live_count: usize,
}

/// The clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeStatus {
    /// Whether windows may be opened by it.
    pub trusted: bool,
    /// What time it is for windows.
    pub effective: Timestamp,
}

/// What an apply changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Identity of the new rule set.
    pub id: String,
    /// Flows that are new.
    pub added: Vec<String>,
    /// Flows that are gone: their connections end.
    pub removed: Vec<String>,
    /// Flows that no longer allow all they allowed: their connections are asked again.
    pub narrowed: Vec<String>,
    /// Number of flows as before or wider.
    pub kept: usize,
    /// Warnings about the policy, as the policy crate writes them.
    pub warnings: Vec<serde_json::Value>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Name.
    pub name: String,
    /// Its mark in the kernel.
    pub mark: String,
    /// Purpose.
    pub purpose: String,
    /// Owner.
    pub owner: String,
    /// `FILE:LINE`, unless built in.
    pub place: Option<String>,
    /// Whether it may carry packets now.
    pub live: bool,
    /// When that ends, if it does.
    pub until: Option<Timestamp>,
    /// When it last opened or closed, if that was since the daemon started.
    pub last_change: Option<Timestamp>,
    /// Packets, both directions, since the flow's counter exists.
    pub packets: u64,
    /// Bytes likewise.
    pub bytes: u64,
}

/// The last denied packets as the watch role saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denials {
    /// Kinds of denied packet, the most recent last.
    pub rows: Vec<Denial>,
    /// Packets seen since start.
    pub seen: u64,
    /// Packets the kernel could not hand over.
    pub lost: u64,
    /// Messages that were not understood.
    pub malformed: u64,
}

/// One kind of denied packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Where the rules logged it: zones and reason.
    pub prefix: String,
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// Protocol, such as `tcp`.
    pub protocol: String,
    /// Destination port, for protocols that have one.
    pub port: Option<u16>,
    /// How many.
    pub count: u64,
    /// The last one.
    pub last: Timestamp,
}
