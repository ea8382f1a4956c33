//! The target-neutral rule set: one table of sets, maps, named counters and chains, ordered, with an identity.
//! [`crate::compile`] makes it, [`crate::render`] writes it as nft text, the netfilter crate carries it to the kernel.
//!
//! A [`Statement`] is the smallest thing a person would name ("the source is in this set"); how a kernel spells it in
//! registers is the netfilter crate's business. The vocabulary is closed on purpose: what cannot be said here cannot
//! reach the kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::{FlowId, Place, Timing};

/// The name of the one table (family `inet`) that Sekisho owns.
pub const TABLE: &str = "sekisho";
/// The set of marks that may carry packets now. Its elements are time-bound and not part of a [`Ruleset`].
pub const LIVE: &str = "live";
/// The set of grants of IPv4: mark, address, protocol, port of what the gateway itself may reach until the element ends.
/// Its elements are time-bound and not part of a [`Ruleset`].
pub const GRANTS_IP4: &str = "grants-ip4";
/// The same of IPv6.
pub const GRANTS_IP6: &str = "grants-ip6";
/// The bit that marks of grants have and marks of flows do not.
pub const GRANT_BIT: u32 = crate::ledger::FIRST_GRANT_MARK;
/// The map from a mark to its flow's named counter.
pub const FLOW_COUNTERS: &str = "flow-counters";
/// The NFLOG group that carries denied packets to the watch role.
pub const LOG_GROUP: u16 = 77;
/// The log's word for the first packet of a running connection whose flow has ended. The packet's mark is the flow's.
/// It says nothing of the packet's fate: another flow may allow it.
pub const ENDED_LOG_PREFIX: &str = "sekisho:@ended";

/// A connection mark: the kernel's name of a flow. Zero means "no flow".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Mark(pub u32);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

/// The identity of a rule set: SHA-256 over its canonical text. Equal rule sets have equal identities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RulesetId(String);

impl fmt::Display for RulesetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RulesetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RulesetId({})", self.0)
    }
}

/// Everything the table holds but the elements of [`LIVE`], [`GRANTS_IP4`] and [`GRANTS_IP6`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Named counters; their values survive every apply.
    pub counters: BTreeMap<String, Counter>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// The marks that the maps give, with what [`crate::compile::live_at`] needs to know about each.
    pub marks: BTreeMap<Mark, MarkInfo>,
}

/// What a named counter counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Counter {
    /// Packets of a flow, both directions.
    Flow {
        /// The flow's name.
        flow: String,
    },
    /// Packets of a built-in stateless exchange, such as neighbour discovery.
    Control {
        /// Its name, beginning with `@`.
        name: String,
    },
    /// Denied packets from one place to another; `gateway` is a place.
    Denied {
        /// Zone name or `gateway`.
        from: String,
        /// Zone name or `gateway`.
        to: String,
    },
    /// Dropped for another reason, named.
    Dropped {
        /// Reason, such as `spoofed`, `invalid`, `stray`, `unknown-interface`.
        reason: String,
        /// Zone name, or empty.
        zone: String,
    },
    /// Denied packets that the log's rate limit hid.
    Unlogged {
        /// Zone name or `gateway`.
        zone: String,
    },
}

/// A mark's flow and timing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkInfo {
    /// The flow.
    pub flow: FlowId,
    /// Its name.
    pub name: String,
    /// When it is open.
    pub timing: Timing,
    /// Where it is written.
    pub place: Option<Place>,
    /// Keeps care going.
    pub critical: bool,
}

/// A set, or a map when it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Types of the key's fields, in order; more than one is a concatenation.
    pub key: Vec<KeyType>,
    /// What the elements carry.
    pub data: Option<DataType>,
    /// Elements are ranges in every field (else exact values).
    pub interval: bool,
    /// Elements may carry a timeout and are managed at run time: their elements are not part of the rule set.
    pub timeout: bool,
    /// Elements, ordered by key. INVARIANT: keys are pairwise disjoint.
    pub elements: BTreeMap<Key, Data>,
}

/// Types of key fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum KeyType {
    /// Direction of a packet in its connection.
    Direction,
    /// Interface name, 16 bytes.
    Interface,
    /// IPv4 address.
    Ip4,
    /// IPv6 address.
    Ip6,
    /// Upper-layer protocol number.
    Protocol,
    /// Port, network byte order.
    Port,
    /// Connection mark, host byte order.
    Mark,
}

/// Types of map data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum DataType {
    /// A mark.
    Mark,
    /// A verdict.
    Verdict,
    /// A named counter (an object map).
    Counter,
}

/// The key of an element: one range per field; `from == to` in a set without intervals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub Vec<Range>);

/// An inclusive range of values of one type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// Lowest value.
    pub from: Value,
    /// Highest value.
    pub to: Value,
}

/// One value of a key field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Direction.
    Direction(Direction),
    /// Interface name.
    Interface(String),
    /// IPv4 address.
    Ip4(Ipv4Addr),
    /// IPv6 address.
    Ip6(Ipv6Addr),
    /// Protocol number.
    Protocol(u8),
    /// Port.
    Port(u16),
    /// Mark.
    Mark(Mark),
}

/// What an element carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// Nothing: the set is no map.
    None,
    /// A mark.
    Mark(Mark),
    /// A verdict.
    Verdict(Verdict),
    /// The name of a counter.
    Counter(String),
}

/// Direction of a packet in its connection (conntrack).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Direction {
    /// From the side that started.
    Original,
    /// Back.
    Reply,
}

/// A chain; with a base it hangs on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Hook, for base chains.
    pub base: Option<Base>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Filter or NAT.
    pub kind: BaseKind,
    /// Hook.
    pub hook: Hook,
    /// Priority: smaller is earlier.
    pub priority: i32,
    /// What happens at the chain's end. Drop everywhere but for NAT, where it would mean "no NAT entry, drop".
    pub drop: bool,
}

/// Chain types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseKind {
    /// `type filter`.
    Filter,
    /// `type nat`.
    Nat,
}

/// Netfilter hooks of the `inet` family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To the gateway itself.
    Input,
    /// Through the gateway.
    Forward,
    /// From the gateway itself.
    Output,
    /// After routing.
    Postrouting,
}

/// One rule: statements evaluated left to right until one does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is for, in a few words: shown when the kernel refuses it, and as its comment in the text form.
    pub why: String,
    /// Statements.
    pub statements: Vec<Statement>,
}

/// Packet fields that keys and matches are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Conntrack direction.
    Direction,
    /// Name of the interface the packet came in by.
    InInterface,
    /// Name of the interface the packet goes out by.
    OutInterface,
    /// IPv4 source; only after a family match.
    Source4,
    /// IPv4 destination; only after a family match.
    Destination4,
    /// IPv6 source; only after a family match.
    Source6,
    /// IPv6 destination; only after a family match.
    Destination6,
    /// IPv4 source of the connection's first packet, before any translation; only after a family match.
    OpenerSource4,
    /// IPv4 destination of the connection's first packet; only after a family match.
    OpenerDestination4,
    /// IPv6 source of the connection's first packet; only after a family match.
    OpenerSource6,
    /// IPv6 destination of the connection's first packet; only after a family match.
    OpenerDestination6,
    /// Upper-layer protocol.
    Protocol,
    /// Source port (first two bytes of the transport header): meaningful for TCP and UDP only.
    SourcePort,
    /// Destination port (bytes three and four of the transport header): meaningful for TCP and UDP only.
    DestinationPort,
    /// Connection mark.
    Mark,
    /// Mark of the packet itself: that of the socket that sent it (SO_MARK).
    PacketMark,
    /// Upper-layer protocol of the packet's connection, also of an ICMP error about it.
    ConnectionProtocol,
    /// Destination port of the connection's first packet; meaningful for TCP and UDP only.
    OpenerDestinationPort,
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Family {
    /// IPv4.
    Ip4,
    /// IPv6.
    Ip6,
}

/// Conntrack states that rules ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No valid part of any connection.
    Invalid,
    /// An error message about a connection, or an expected one.
    Related,
}

/// One condition or effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `meta nfproto`.
    Family(Family),
    /// `meta l4proto N`.
    Protocol(u8),
    /// `ct state S`.
    State(State),
    /// `ct direction D`.
    Direction(Direction),
    /// `FIELDS @set` or `FIELDS != @set`.
    In {
        /// Key fields.
        fields: Vec<Field>,
        /// Set name.
        set: String,
        /// Matches when the key is *not* in the set.
        negated: bool,
    },
    /// `iifname` or `oifname` equals.
    Interface(Way, String),
    /// Address within a prefix; the family is implied by the address and must have been matched before.
    Address(Way, ipnet::IpNet),
    /// `icmp type` / `icmpv6 type` equals; after a protocol match.
    IcmpType(Family, u8),
    /// `udp sport` / `udp dport` equals; after a protocol match.
    Port(Way, u16),
    /// `ip6 hoplimit 255` or 1: the sender is on this link (RFC 4861 section 7.1, RFC 3810 section 5).
    HopLimit(u8),
    /// `tcp flags & (syn|rst) == syn`.
    TcpSyn,
    /// `fib saddr . iif oif exists`: the way back to the source goes out where the packet came in.
    SourceReturnsHere,
    /// `fib daddr . iif type local`: an address of the gateway on the incoming interface (strong host model).
    /// Negated: anything else (another interface's address, broadcast, multicast).
    DestinationIsLocalHere {
        /// Matches everything else instead.
        negated: bool,
    },
    /// `limit rate N/second burst B packets`.
    Limit {
        /// Packets per second.
        per_second: u32,
        /// Burst in packets.
        burst: u32,
    },
    /// `counter name "N"`.
    Counter(String),
    /// `counter name FIELDS map @map`.
    CounterFrom {
        /// Key fields.
        fields: Vec<Field>,
        /// Object map.
        map: String,
    },
    /// `meta mark & 0x80000000 != 0`: sent by a socket that belongs to a grant.
    PacketIsGranted,
    /// `ct mark & 0x80000000 != 0`: part of a connection that a grant opened.
    ConnectionIsGranted,
    /// `ct mark != 0`: part of a connection that a flow allowed before.
    ConnectionIsMarked,
    /// `ct mark set N`.
    SetMark(Mark),
    /// `meta mark set ct mark`: what is logged of the packet then holds its connection's mark.
    PacketMarkFromConnection,
    /// `meta mark set N`.
    SetPacketMark(Mark),
    /// `ct mark set meta mark`.
    MarkFromPacket,
    /// `ct mark set FIELDS map @map`.
    MarkFrom {
        /// Key fields.
        fields: Vec<Field>,
        /// Map to marks.
        map: String,
    },
    /// `log group G prefix "P"` (NFLOG).
    Log {
        /// Prefix, at most 64 bytes.
        prefix: String,
    },
    /// `tcp option maxseg size set rt mtu`: the MSS is lowered to what the path out of here carries.
    ClampMss,
    /// `masquerade`.
    Masquerade,
    /// A verdict.
    Verdict(Verdict),
    /// `FIELDS vmap @map`.
    VerdictFrom {
        /// Key fields.
        fields: Vec<Field>,
        /// Map to verdicts.
        map: String,
    },
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Source, or the incoming interface.
    Source,
    /// Destination, or the outgoing interface.
    Destination,
}

/// What happens to the packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The hook is passed.
    Accept,
    /// The packet ends here.
    Drop,
    /// Go on in another chain and come back.
    Jump(String),
    /// Back to the calling chain.
    Return,
}

impl Ruleset {
    /// The identity: SHA-256 over the canonical text form.
    #[must_use]
    pub fn id(&self) -> RulesetId {
        let mut hasher = Sha256::new();
        hasher.update(crate::render::canonical(self).as_bytes());
        RulesetId(hex(&hasher.finalize()))
    }

    /// Number of elements over all sets: the size that matters for loading.
    #[must_use]
    pub fn element_count(&self) -> usize {
        self.sets.values().map(|set| set.elements.len()).sum()
    }
}

impl Key {
    /// A key of exact values.
    #[must_use]
    pub fn exact(values: impl IntoIterator<Item = Value>) -> Self {
        Key(values.into_iter().map(|value| Range { from: value.clone(), to: value }).collect())
    }

    /// Whether every field is a single value.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.0.iter().all(|range| range.from == range.to)
    }
}

impl Value {
    /// The type of this value.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match self {
            Value::Direction(_) => KeyType::Direction,
            Value::Interface(_) => KeyType::Interface,
            Value::Ip4(_) => KeyType::Ip4,
            Value::Ip6(_) => KeyType::Ip6,
            Value::Protocol(_) => KeyType::Protocol,
            Value::Port(_) => KeyType::Port,
            Value::Mark(_) => KeyType::Mark,
        }
    }
}

impl Set {
    /// An empty set of exact keys without data.
    #[must_use]
    pub fn new(key: Vec<KeyType>) -> Self {
        Set { key, data: None, interval: false, timeout: false, elements: BTreeMap::new() }
    }

    /// An empty map of exact keys.
    #[must_use]
    pub fn map(key: Vec<KeyType>, data: DataType) -> Self {
        Set { data: Some(data), ..Set::new(key) }
    }

    /// The same set with ranges for keys.
    #[must_use]
    pub fn with_intervals(self) -> Self {
        Set { interval: true, ..self }
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
