//! Facts that console and record measure: roles, listeners, doors, time, the log, and what people did.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Named;

/// Roles of the gateway, as they answered the console.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// Roles that answered.
    pub answering: Named,
    /// Roles that did not.
    pub silent: Named,
    /// When the metrics were last fetched by somebody who may.
    pub scraped_at: Option<Timestamp>,
}

/// Sockets of the gateway that take connections and are bound to every address or to one outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// Each socket, at most [`super::ROWS_MAX`]; loopback-only sockets are left out.
    pub sockets: Vec<Listener>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its transport.
    pub transport: ListenerTransport,
    /// Its port.
    pub port: u16,
    /// Whether it is bound to every address, or to one in an external zone or a closed network.
    pub faces_outside: bool,
    /// Whether some flow of the policy in force, built-in ones included, names the port at the gateway.
    pub named: bool,
    /// Whether a flow lets the outside reach it that is none of the gateway's own doors (VPN, maintenance).
    pub allowed_from_outside: bool,
}

/// Transports of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerTransport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The metrics listener, as handshakes with it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MetricsDoor {
    /// The policy opens none.
    NotDeclared,
    /// The policy opens one, and it does not answer.
    Silent,
    /// It answers.
    Open(Door),
}

/// A TLS listener of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    /// Whether a handshake with TLS 1.3 succeeded and one limited to TLS 1.2 was refused.
    pub tls13_only: bool,
    /// Whether a handshake without a client certificate was refused.
    pub stranger_refused: bool,
    /// Whether clients prove themselves by certificate; else by a token.
    pub client_certificate: bool,
    /// The suite agreed, by its IANA name, such as `TLS13_AES_256_GCM_SHA384`.
    pub suite: String,
    /// The key exchange agreed, such as `X25519`.
    pub group: String,
    /// When the first of the certificates in use (server, client authority) ends.
    pub not_after: Timestamp,
}

/// The time daemon's own view (chrony `tracking`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ntp {
    /// Whether it follows a source.
    pub synchronised: bool,
    /// Distance from a reference clock; 0 and 16 mean none (RFC 5905).
    pub stratum: u8,
    /// How far the clock is off, in absolute value, rounded up.
    pub offset_ms: u64,
    /// Sources that answered lately.
    pub sources: u32,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Whether entries are being taken.
    pub accepting: bool,
    /// Whether the last verification of the files found all as signed.
    pub intact: bool,
    /// When that verification ended; `None` when there was none yet.
    pub verified_at: Option<Timestamp>,
    /// When the last checkpoint was signed.
    pub checkpoint_at: Option<Timestamp>,
    /// Entries in the log.
    pub tree_size: u64,
    /// Instant of the oldest entry kept.
    pub oldest_at: Option<Timestamp>,
    /// When entries were last dropped before their time; `None` when never.
    pub dropped_at: Option<Timestamp>,
    /// When the log began: it cannot reach back further.
    pub since: Timestamp,
    /// Size on disk.
    pub bytes: u64,
    /// Size it may grow to, as the policy says.
    pub budget_bytes: u64,
    /// How far back it should reach, as the policy says.
    pub retention_s: u64,
}

/// Something that is to be done again and again, and when it was last done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastDone {
    /// What.
    pub deed: Deed,
    /// When it was last done; `None` when never.
    pub done_at: Option<Timestamp>,
    /// By whom, as the log names them.
    pub by: Option<String>,
    /// Identity of the policy that was then in force.
    pub policy: Option<String>,
}

/// Deeds that controls ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// A report with the zone matrix was made.
    Report,
    /// A backup of the configuration was made.
    Backup,
    /// A backup was read back and found good.
    RestoreCheck,
    /// A named person looked through the log and the sightings and signed.
    LogReview,
    /// Evidence was exported, as for an incident.
    Export,
}

impl Deed {
    /// Every deed.
    pub const ALL: [Deed; 5] =
        [Deed::Report, Deed::Backup, Deed::RestoreCheck, Deed::LogReview, Deed::Export];
}
