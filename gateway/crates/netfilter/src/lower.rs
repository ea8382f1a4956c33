//! The policy's neutral rule set to registers and bytes: how this kernel spells each statement.
//!
//! The spelling is that of `nft`, so that `nft list ruleset` shows what [`policy::render`] writes.

use policy::ruleset as neutral;

use crate::expr::{
    ByteorderOp, CmpOp, CtKey, CtSetKey, Direction, Expr, FibAddress, FibResult, LimitKind, LimitUnit,
    LogPrefix, MasqueradeFlags, MetaKey, MetaSetKey, PayloadBase, RouteKey, TcpOption, Verdict,
};
use crate::object::{
    Base, Chain, ChainKind, Comment, Counter, Element, ElementData, Family, Hook, KeyField, KeyType, Policy,
    Rule, SetData, SetSpec, Table,
};
use crate::value::{Data, IfName, Name, Register};

/// Something of the rule set has no form in the kernel. The compiler's own checks make this unreachable for its output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} has no form in the kernel: {reason}")]
pub struct LowerError {
    /// Which part: a set, a rule, an element.
    pub place: String,
    /// Why not.
    pub reason: String,
}

type Lowered<T> = Result<T, String>;

/// NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h.
const STATE_INVALID: u32 = 1;
const STATE_RELATED: u32 = 4;
/// NFPROTO_IPV4, NFPROTO_IPV6.
const NFPROTO_IP4: u8 = 2;
const NFPROTO_IP6: u8 = 10;
/// RTN_LOCAL of linux/rtnetlink.h.
const ADDRESS_LOCAL: u32 = 2;
/// TCP flags SYN and RST, and their place in the header (RFC 9293, 3.1).
const TCP_FLAGS_OFFSET: u16 = 13;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
/// Offsets in the IPv4 header (RFC 791) and the IPv6 header (RFC 8200).
const IP4_SOURCE: u16 = 12;
const IP4_DESTINATION: u16 = 16;
const IP6_HOP_LIMIT: u16 = 7;
const IP6_SOURCE: u16 = 8;
const IP6_DESTINATION: u16 = 24;
/// The maximum segment size lies after the option's kind and length (RFC 9293, 3.2).
const MSS_OFFSET: u8 = 2;
const MSS_BYTES: u8 = 2;

const R: Register = Register::FIRST;

/// The table that Sekisho owns.
pub fn table() -> Result<Table, LowerError> {
    Ok(Table { family: Family::Inet, name: named(neutral::TABLE).map_err(|reason| at("the table", reason))? })
}

/// The name of a chain.
pub fn chain_name(name: &str) -> Result<Name, LowerError> {
    named(name).map_err(|reason| at(&format!("chain `{name}`"), reason))
}

/// The name of a set.
pub fn set_name(name: &str) -> Result<Name, LowerError> {
    named(name).map_err(|reason| at(&format!("set `{name}`"), reason))
}

/// A chain without its rules.
pub fn chain(name: &str, chain: &neutral::Chain) -> Result<Chain, LowerError> {
    Ok(Chain { name: chain_name(name)?, base: chain.base.as_ref().map(base) })
}

/// One rule.
pub fn rule(rule: &neutral::Rule) -> Result<Rule, LowerError> {
    let mut exprs = Vec::new();
    for statement in &rule.statements {
        let lowered =
            self::statement(statement).map_err(|reason| at(&format!("rule `{}`", rule.why), reason))?;
        exprs.extend(lowered);
    }
    Ok(Rule { exprs, comment: Comment::fit(&rule.why) })
}

/// A set without its elements.
pub fn set(name: &str, set: &neutral::Set) -> Result<SetSpec, LowerError> {
    let fields: Vec<KeyField> = set.key.iter().map(|field| key_field(*field)).collect();
    let key = KeyType::new(fields).map_err(|error| at(&format!("set `{name}`"), error.to_string()))?;
    let data = match set.data {
        None => SetData::None,
        Some(neutral::DataType::Mark) => SetData::Mark,
        Some(neutral::DataType::Verdict) => SetData::Verdict,
        Some(neutral::DataType::Counter) => SetData::Counter,
    };
    Ok(SetSpec { data, interval: set.interval, timeout: set.timeout, ..SetSpec::new(set_name(name)?, key) })
}

/// One element of a set.
pub fn element(
    name: &str,
    set: &neutral::Set,
    key: &neutral::Key,
    data: &neutral::Data,
) -> Result<Element, LowerError> {
    let lower = || -> Lowered<Element> {
        let data = match data {
            neutral::Data::None => ElementData::None,
            neutral::Data::Mark(mark) => ElementData::Mark(mark.0),
            neutral::Data::Verdict(verdict) => ElementData::Verdict(self::verdict(verdict)?),
            neutral::Data::Counter(counter) => ElementData::Counter(named(counter)?),
        };
        if !set.interval && !key.is_exact() {
            return Err("a range in a set of exact keys".to_owned());
        }
        let low = self::key(set, key.0.iter().map(|range| &range.from))?;
        let high = set.interval.then(|| self::key(set, key.0.iter().map(|range| &range.to))).transpose()?;
        Ok(Element { key: low, key_end: high, data, timeout_ms: None })
    };
    lower().map_err(|reason| {
        at(&format!("element `{}` of set `{name}`", policy::render::element_key(key)), reason)
    })
}

/// A named counter that starts at zero.
pub fn counter(name: &str) -> Result<Counter, LowerError> {
    let lowered = named(name).map_err(|reason| at(&format!("counter `{name}`"), reason))?;
    Ok(Counter { name: lowered, packets: 0, bytes: 0 })
}

fn at(place: &str, reason: String) -> LowerError {
    LowerError { place: place.to_owned(), reason }
}

fn named(name: &str) -> Lowered<Name> {
    Name::new(name).map_err(|error| error.to_string())
}

fn base(base: &neutral::Base) -> Base {
    Base {
        kind: match base.kind {
            neutral::BaseKind::Filter => ChainKind::Filter,
            neutral::BaseKind::Nat => ChainKind::Nat,
        },
        hook: match base.hook {
            neutral::Hook::Prerouting => Hook::Prerouting,
            neutral::Hook::Input => Hook::Input,
            neutral::Hook::Forward => Hook::Forward,
            neutral::Hook::Output => Hook::Output,
            neutral::Hook::Postrouting => Hook::Postrouting,
        },
        priority: base.priority,
        policy: if base.drop { Policy::Drop } else { Policy::Accept },
    }
}

fn key_field(field: neutral::KeyType) -> KeyField {
    match field {
        neutral::KeyType::Direction => KeyField::Direction,
        neutral::KeyType::Interface => KeyField::Interface,
        neutral::KeyType::Ip4 => KeyField::Ip4,
        neutral::KeyType::Ip6 => KeyField::Ip6,
        neutral::KeyType::Protocol => KeyField::Protocol,
        neutral::KeyType::Port => KeyField::Port,
        neutral::KeyType::Mark => KeyField::Mark,
    }
}

fn key<'a>(set: &neutral::Set, values: impl Iterator<Item = &'a neutral::Value>) -> Lowered<Data> {
    let values: Vec<&neutral::Value> = values.collect();
    if !values.iter().map(|value| value.key_type()).eq(set.key.iter().copied()) {
        return Err("fields that are not those of the set".to_owned());
    }
    let fields = values.into_iter().map(value).collect::<Lowered<Vec<Data>>>()?;
    match fields.as_slice() {
        [single] => Ok(single.clone()),
        fields => Data::concat(fields).map_err(|error| error.to_string()),
    }
}

fn value(value: &neutral::Value) -> Lowered<Data> {
    Ok(match value {
        neutral::Value::Direction(direction) => Data::byte(self::direction(*direction)),
        neutral::Value::Interface(name) => Data::ifname(&interface(name)?),
        neutral::Value::Ip4(address) => Data::ipv4(*address),
        neutral::Value::Ip6(address) => Data::ipv6(*address),
        neutral::Value::Protocol(protocol) => Data::byte(*protocol),
        neutral::Value::Port(port) => Data::be16(*port),
        neutral::Value::Mark(mark) => Data::host32(mark.0),
    })
}

fn interface(name: &str) -> Lowered<IfName> {
    IfName::new(name).ok_or_else(|| format!("`{name}` is no interface name"))
}

fn direction(direction: neutral::Direction) -> u8 {
    match direction {
        neutral::Direction::Original => 0,
        neutral::Direction::Reply => 1,
    }
}

fn verdict(verdict: &neutral::Verdict) -> Lowered<Verdict> {
    Ok(match verdict {
        neutral::Verdict::Accept => Verdict::Accept,
        neutral::Verdict::Drop => Verdict::Drop,
        neutral::Verdict::Return => Verdict::Return,
        neutral::Verdict::Jump(chain) => Verdict::Jump(named(chain)?),
    })
}

fn statement(statement: &neutral::Statement) -> Lowered<Vec<Expr>> {
    use neutral::Statement as S;
    Ok(match statement {
        S::Family(neutral::Family::Ip4) => equals(meta(MetaKey::NfProto), Data::byte(NFPROTO_IP4)),
        S::Family(neutral::Family::Ip6) => equals(meta(MetaKey::NfProto), Data::byte(NFPROTO_IP6)),
        S::Protocol(protocol) => equals(meta(MetaKey::L4Proto), Data::byte(*protocol)),
        S::State(neutral::State::Invalid) => state(STATE_INVALID),
        S::State(neutral::State::Related) => state(STATE_RELATED),
        S::Direction(direction) => equals(ct(CtKey::Direction), Data::byte(self::direction(*direction))),
        S::In { fields, set, negated } => {
            with_key(fields, Expr::Lookup { set: named(set)?, sreg: R, inverted: *negated })?
        }
        S::Interface(way, name) => {
            let key = by_way(*way, MetaKey::IifName, MetaKey::OifName);
            equals(meta(key), Data::ifname(&interface(name)?))
        }
        S::Address(way, net) => address(*way, *net)?,
        S::IcmpType(_, number) => equals(payload(PayloadBase::Transport, 0, 1), Data::byte(*number)),
        S::Port(way, port) => {
            equals(payload(PayloadBase::Transport, by_way(*way, 0, 2), 2), Data::be16(*port))
        }
        S::HopLimit(limit) => equals(payload(PayloadBase::Network, IP6_HOP_LIMIT, 1), Data::byte(*limit)),
        S::TcpSyn => tcp_syn(),
        S::SourceReturnsHere => equals(fib(FibAddress::Source, FibResult::Oif, true), Data::host32(1)),
        S::DestinationIsLocalHere { negated } => {
            let op = if *negated { CmpOp::NotEqual } else { CmpOp::Equal };
            let load = fib(FibAddress::Destination, FibResult::AddressType, false);
            vec![load, Expr::Cmp { op, sreg: R, data: Data::host32(ADDRESS_LOCAL) }]
        }
        S::Limit { per_second, burst } => vec![Expr::Limit {
            rate: u64::from(*per_second),
            unit: LimitUnit::Second,
            burst: *burst,
            kind: LimitKind::Packets,
            over: false,
        }],
        S::Counter(name) => vec![Expr::CounterNamed { name: named(name)? }],
        S::CounterFrom { fields, map } => with_key(fields, Expr::CounterMap { map: named(map)?, sreg: R })?,
        S::PacketIsGranted => granted(meta(MetaKey::Mark)),
        S::ConnectionIsGranted => granted(ct(CtKey::Mark)),
        S::MarkFromPacket => vec![meta(MetaKey::Mark), SET_MARK],
        S::ConnectionIsMarked => {
            vec![ct(CtKey::Mark), Expr::Cmp { op: CmpOp::NotEqual, sreg: R, data: Data::host32(0) }]
        }
        S::SetMark(mark) => vec![immediate(*mark), SET_MARK],
        S::PacketMarkFromConnection => vec![ct(CtKey::Mark), SET_PACKET_MARK],
        S::SetPacketMark(mark) => vec![immediate(*mark), SET_PACKET_MARK],
        S::MarkFrom { fields, map } => {
            let mut exprs = with_key(fields, Expr::LookupData { map: named(map)?, sreg: R, dreg: R })?;
            exprs.push(SET_MARK);
            exprs
        }
        S::Log { prefix } => vec![log(prefix)?],
        S::ClampMss => clamp_mss(),
        S::Masquerade => vec![Expr::Masquerade { flags: MasqueradeFlags::None }],
        S::Verdict(verdict) => vec![Expr::Verdict(self::verdict(verdict)?)],
        S::VerdictFrom { fields, map } => {
            with_key(fields, Expr::LookupVerdict { map: named(map)?, sreg: R })?
        }
    })
}

const SET_MARK: Expr = Expr::CtSet { key: CtSetKey::Mark, sreg: R };
const SET_PACKET_MARK: Expr = Expr::MetaSet { key: MetaSetKey::Mark, sreg: R };

fn immediate(mark: neutral::Mark) -> Expr {
    Expr::Immediate { dreg: R, data: Data::host32(mark.0) }
}

fn by_way<T>(way: neutral::Way, source: T, destination: T) -> T {
    match way {
        neutral::Way::Source => source,
        neutral::Way::Destination => destination,
    }
}

fn meta(key: MetaKey) -> Expr {
    Expr::Meta { key, dreg: R }
}

fn ct(key: CtKey) -> Expr {
    Expr::Ct { key, direction: None, dreg: R }
}

fn payload(base: PayloadBase, offset_bytes: u16, length_bytes: u8) -> Expr {
    Expr::Payload { base, offset_bytes, length_bytes, dreg: R }
}

fn fib(address: FibAddress, result: FibResult, present: bool) -> Expr {
    Expr::Fib { address, with_iif: true, with_oif: false, result, present, dreg: R }
}

fn equals(load: Expr, data: Data) -> Vec<Expr> {
    vec![load, Expr::Cmp { op: CmpOp::Equal, sreg: R, data }]
}

fn state(bits: u32) -> Vec<Expr> {
    any_bit(ct(CtKey::State), bits)
}

fn granted(mark: Expr) -> Vec<Expr> {
    any_bit(mark, neutral::GRANT_BIT)
}

/// Any of the bits is set.
fn any_bit(load: Expr, bits: u32) -> Vec<Expr> {
    let none = Data::host32(0);
    let masked = Expr::Bitwise { sreg: R, dreg: R, mask: Data::host32(bits), xor: none.clone() };
    vec![load, masked, Expr::Cmp { op: CmpOp::NotEqual, sreg: R, data: none }]
}

fn tcp_syn() -> Vec<Expr> {
    let flags = payload(PayloadBase::Transport, TCP_FLAGS_OFFSET, 1);
    let masked = Expr::Bitwise { sreg: R, dreg: R, mask: Data::byte(TCP_SYN | TCP_RST), xor: Data::byte(0) };
    vec![flags, masked, Expr::Cmp { op: CmpOp::Equal, sreg: R, data: Data::byte(TCP_SYN) }]
}

/// An address within a prefix. Whole bytes are compared without a mask, as `nft` does.
fn address(way: neutral::Way, net: ipnet::IpNet) -> Lowered<Vec<Expr>> {
    let (offset, network, mask): (u16, Vec<u8>, Vec<u8>) = match net {
        ipnet::IpNet::V4(net) => (
            by_way(way, IP4_SOURCE, IP4_DESTINATION),
            net.network().octets().to_vec(),
            net.netmask().octets().to_vec(),
        ),
        ipnet::IpNet::V6(net) => (
            by_way(way, IP6_SOURCE, IP6_DESTINATION),
            net.network().octets().to_vec(),
            net.netmask().octets().to_vec(),
        ),
    };
    let data = |bytes: Vec<u8>| Data::new(bytes).map_err(|error| error.to_string());
    let is_whole = net.prefix_len().is_multiple_of(8);
    let bytes = if is_whole { usize::from(net.prefix_len() / 8) } else { network.len() };
    let Some(compared) = network.get(..bytes).filter(|compared| !compared.is_empty()) else {
        // Every address of the family, which has been matched before.
        return Ok(Vec::new());
    };
    let length = u8::try_from(bytes).map_err(|error| error.to_string())?;
    let mut exprs = vec![payload(PayloadBase::Network, offset, length)];
    if !is_whole {
        let xor = data(vec![0; mask.len()])?;
        exprs.push(Expr::Bitwise { sreg: R, dreg: R, mask: data(mask)?, xor });
    }
    exprs.push(Expr::Cmp { op: CmpOp::Equal, sreg: R, data: data(compared.to_vec())? });
    Ok(exprs)
}

fn log(prefix: &str) -> Lowered<Expr> {
    let prefix = LogPrefix::new(prefix).map_err(|error| error.to_string())?;
    Ok(Expr::Log { group: neutral::LOG_GROUP, prefix, snaplen_bytes: None, queue_threshold: None })
}

fn clamp_mss() -> Vec<Expr> {
    vec![
        Expr::Route { key: RouteKey::TcpMss, dreg: R },
        Expr::Byteorder { op: ByteorderOp::HostToNetwork, sreg: R, dreg: R, length_bytes: 2, word_bytes: 2 },
        Expr::TcpOptionSet {
            option: TcpOption::MaxSegment,
            offset_bytes: MSS_OFFSET,
            length_bytes: MSS_BYTES,
            sreg: R,
        },
    ]
}

/// Loads the fields of a key one behind the other, each from a register of its own, and uses the key.
fn with_key(fields: &[neutral::Field], use_key: Expr) -> Lowered<Vec<Expr>> {
    let mut exprs = Vec::with_capacity(fields.len() + 1);
    let mut next = Some(R);
    for field in fields {
        let register = next.ok_or("a key longer than the registers")?;
        let (load, length_bytes) = field_load(*field, register);
        if !register.holds(length_bytes) {
            return Err("a key longer than the registers".to_owned());
        }
        exprs.push(load);
        next = register.after(length_bytes);
    }
    if exprs.is_empty() {
        return Err("a key without fields".to_owned());
    }
    exprs.push(use_key);
    Ok(exprs)
}

fn field_load(field: neutral::Field, dreg: Register) -> (Expr, usize) {
    use neutral::Field as F;
    let network = |offset_bytes, length_bytes| {
        let base = PayloadBase::Network;
        (Expr::Payload { base, offset_bytes, length_bytes, dreg }, usize::from(length_bytes))
    };
    let port = |offset_bytes| {
        (Expr::Payload { base: PayloadBase::Transport, offset_bytes, length_bytes: 2, dreg }, 2)
    };
    let opener =
        |key, length_bytes| (Expr::Ct { key, direction: Some(Direction::Original), dreg }, length_bytes);
    match field {
        F::Direction => (Expr::Ct { key: CtKey::Direction, direction: None, dreg }, 1),
        F::InInterface => (Expr::Meta { key: MetaKey::IifName, dreg }, crate::value::IFNAME_BYTES),
        F::OutInterface => (Expr::Meta { key: MetaKey::OifName, dreg }, crate::value::IFNAME_BYTES),
        F::Source4 => network(IP4_SOURCE, 4),
        F::Destination4 => network(IP4_DESTINATION, 4),
        F::Source6 => network(IP6_SOURCE, 16),
        F::Destination6 => network(IP6_DESTINATION, 16),
        F::OpenerSource4 => opener(CtKey::SrcIp, 4),
        F::OpenerDestination4 => opener(CtKey::DstIp, 4),
        F::OpenerSource6 => opener(CtKey::SrcIp6, 16),
        F::OpenerDestination6 => opener(CtKey::DstIp6, 16),
        F::Protocol => (Expr::Meta { key: MetaKey::L4Proto, dreg }, 1),
        F::SourcePort => port(0),
        F::DestinationPort => port(2),
        F::Mark => (Expr::Ct { key: CtKey::Mark, direction: None, dreg }, 4),
        F::PacketMark => (Expr::Meta { key: MetaKey::Mark, dreg }, 4),
        F::ConnectionProtocol => (Expr::Ct { key: CtKey::Protocol, direction: None, dreg }, 1),
        F::OpenerDestinationPort => opener(CtKey::ProtoDst, 2),
    }
}
