//! A rule set as nft text: for review, golden files and `nft -c -f`. The same rule set gives the same bytes.

use std::fmt::{self, Write as _};

use crate::ruleset::{
    Base, BaseKind, Chain, Data, DataType, Direction, Family, Field, GRANT_BIT, Hook, Key, KeyType, Mark,
    Range, Rule, Ruleset, Set, State, Statement, TABLE, Value, Verdict, Way,
};

/// The rule set as a file for `nft -f`, each rule with its reason as a comment.
#[must_use]
pub fn render(ruleset: &Ruleset) -> String {
    text(ruleset, true)
}

/// The rule set without comments: what its identity is made of.
#[must_use]
pub fn canonical(ruleset: &Ruleset) -> String {
    text(ruleset, false)
}

/// One rule as nft text, without its comment.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let parts: Vec<String> = rule.statements.iter().map(statement).collect();
    parts.join(" ")
}

fn text(ruleset: &Ruleset, comments: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, ruleset, comments);
    out
}

fn write(out: &mut String, ruleset: &Ruleset, comments: bool) -> fmt::Result {
    writeln!(out, "table inet {TABLE} {{")?;
    for name in ruleset.counters.keys() {
        writeln!(out, "\tcounter {name} {{\n\t}}")?;
    }
    for (name, set) in &ruleset.sets {
        write_set(out, name, set)?;
    }
    for (name, chain) in &ruleset.chains {
        write_chain(out, name, chain, comments)?;
    }
    writeln!(out, "}}")
}

fn write_set(out: &mut String, name: &str, set: &Set) -> fmt::Result {
    let keys: Vec<&str> = set.key.iter().copied().map(key_type).collect();
    let (word, data) = match set.data {
        None => ("set", ""),
        Some(DataType::Mark) => ("map", " : mark"),
        Some(DataType::Verdict) => ("map", " : verdict"),
        Some(DataType::Counter) => ("map", " : counter"),
    };
    writeln!(out, "\t{word} {name} {{\n\t\ttype {}{data}", keys.join(" . "))?;
    let flags: Vec<&str> = [(set.interval, "interval"), (set.timeout, "timeout")]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, flag)| *flag)
        .collect();
    if !flags.is_empty() {
        writeln!(out, "\t\tflags {}", flags.join(","))?;
    }
    if !set.elements.is_empty() {
        writeln!(out, "\t\telements = {{")?;
        for (key, data) in &set.elements {
            writeln!(out, "\t\t\t{}{},", element_key(key), element_data(data))?;
        }
        writeln!(out, "\t\t}}")?;
    }
    writeln!(out, "\t}}")
}

fn write_chain(out: &mut String, name: &str, chain: &Chain, comments: bool) -> fmt::Result {
    writeln!(out, "\tchain {name} {{")?;
    if let Some(base) = &chain.base {
        writeln!(out, "\t\t{}", base_line(base))?;
    }
    for one in &chain.rules {
        if comments && !one.why.is_empty() {
            writeln!(out, "\t\t# {}", one.why)?;
        }
        writeln!(out, "\t\t{}", rule(one))?;
    }
    writeln!(out, "\t}}")
}

fn base_line(base: &Base) -> String {
    let kind = match base.kind {
        BaseKind::Filter => "filter",
        BaseKind::Nat => "nat",
    };
    let hook = match base.hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    };
    let policy = if base.drop { "drop" } else { "accept" };
    format!("type {kind} hook {hook} priority {}; policy {policy};", base.priority)
}

fn key_type(key: KeyType) -> &'static str {
    match key {
        KeyType::Direction => "ct_dir",
        KeyType::Interface => "ifname",
        KeyType::Ip4 => "ipv4_addr",
        KeyType::Ip6 => "ipv6_addr",
        KeyType::Protocol => "inet_proto",
        KeyType::Port => "inet_service",
        KeyType::Mark => "mark",
    }
}

/// A key as nft writes it.
#[must_use]
pub fn element_key(key: &Key) -> String {
    let parts: Vec<String> = key.0.iter().map(range).collect();
    parts.join(" . ")
}

fn range(range: &Range) -> String {
    if range.from == range.to {
        value(&range.from)
    } else {
        format!("{}-{}", value(&range.from), value(&range.to))
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Direction(direction) => direction_word(*direction).to_owned(),
        Value::Interface(name) => format!("\"{name}\""),
        Value::Ip4(address) => address.to_string(),
        Value::Ip6(address) => address.to_string(),
        Value::Protocol(number) => number.to_string(),
        Value::Port(number) => number.to_string(),
        Value::Mark(mark) => mark.to_string(),
    }
}

fn element_data(data: &Data) -> String {
    match data {
        Data::None => String::new(),
        Data::Mark(mark) => format!(" : {mark}"),
        Data::Verdict(verdict) => format!(" : {}", verdict_text(verdict)),
        Data::Counter(name) => format!(" : \"{name}\""),
    }
}

fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Original => "original",
        Direction::Reply => "reply",
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Return => "return".to_owned(),
    }
}

fn fields(fields: &[Field]) -> String {
    let parts: Vec<&str> = fields.iter().copied().map(field).collect();
    parts.join(" . ")
}

fn field(field: Field) -> &'static str {
    match field {
        Field::Direction => "ct direction",
        Field::InInterface => "iifname",
        Field::OutInterface => "oifname",
        Field::Source4 => "ip saddr",
        Field::Destination4 => "ip daddr",
        Field::Source6 => "ip6 saddr",
        Field::Destination6 => "ip6 daddr",
        Field::OpenerSource4 => "ct original ip saddr",
        Field::OpenerDestination4 => "ct original ip daddr",
        Field::OpenerSource6 => "ct original ip6 saddr",
        Field::OpenerDestination6 => "ct original ip6 daddr",
        Field::Protocol => "meta l4proto",
        Field::SourcePort => "th sport",
        Field::DestinationPort => "th dport",
        Field::Mark => "ct mark",
        Field::PacketMark => "meta mark",
        Field::ConnectionProtocol => "ct protocol",
        Field::OpenerDestinationPort => "ct original proto-dst",
    }
}

fn statement(statement: &Statement) -> String {
    match statement {
        Statement::Family(Family::Ip4) => "meta nfproto ipv4".to_owned(),
        Statement::Family(Family::Ip6) => "meta nfproto ipv6".to_owned(),
        Statement::Protocol(number) => format!("meta l4proto {number}"),
        Statement::State(State::Invalid) => "ct state invalid".to_owned(),
        Statement::State(State::Related) => "ct state related".to_owned(),
        Statement::Direction(direction) => format!("ct direction {}", direction_word(*direction)),
        Statement::In { fields: keys, set, negated } => {
            format!("{}{} @{set}", fields(keys), if *negated { " !=" } else { "" })
        }
        Statement::Interface(Way::Source, name) => format!("iifname \"{name}\""),
        Statement::Interface(Way::Destination, name) => format!("oifname \"{name}\""),
        Statement::Address(way, net) => address(*way, net),
        Statement::IcmpType(Family::Ip4, number) => format!("icmp type {number}"),
        Statement::IcmpType(Family::Ip6, number) => format!("icmpv6 type {number}"),
        Statement::Port(Way::Source, port) => format!("th sport {port}"),
        Statement::Port(Way::Destination, port) => format!("th dport {port}"),
        Statement::HopLimit(limit) => format!("ip6 hoplimit {limit}"),
        Statement::TcpSyn => "tcp flags & (syn | rst) == syn".to_owned(),
        Statement::SourceReturnsHere => "fib saddr . iif oif exists".to_owned(),
        Statement::DestinationIsLocalHere { negated: false } => "fib daddr . iif type local".to_owned(),
        Statement::DestinationIsLocalHere { negated: true } => "fib daddr . iif type != local".to_owned(),
        Statement::Limit { per_second, burst } => {
            format!("limit rate {per_second}/second burst {burst} packets")
        }
        Statement::Counter(name) => format!("counter name \"{name}\""),
        Statement::CounterFrom { fields: keys, map } => format!("counter name {} map @{map}", fields(keys)),
        Statement::PacketIsGranted => format!("meta mark & {} != 0x00000000", Mark(GRANT_BIT)),
        Statement::ConnectionIsGranted => format!("ct mark & {} != 0x00000000", Mark(GRANT_BIT)),
        Statement::MarkFromPacket => "ct mark set meta mark".to_owned(),
        Statement::ConnectionIsMarked => format!("ct mark != {}", Mark(0)),
        Statement::SetMark(mark) => format!("ct mark set {mark}"),
        Statement::PacketMarkFromConnection => "meta mark set ct mark".to_owned(),
        Statement::SetPacketMark(mark) => format!("meta mark set {mark}"),
        Statement::MarkFrom { fields: keys, map } => format!("ct mark set {} map @{map}", fields(keys)),
        Statement::Log { prefix } => format!("log prefix \"{prefix}\" group {}", crate::ruleset::LOG_GROUP),
        Statement::ClampMss => "tcp option maxseg size set rt mtu".to_owned(),
        Statement::Masquerade => "masquerade".to_owned(),
        Statement::Verdict(verdict) => verdict_text(verdict),
        Statement::VerdictFrom { fields: keys, map } => format!("{} vmap @{map}", fields(keys)),
    }
}

fn address(way: Way, net: &ipnet::IpNet) -> String {
    let word = match way {
        Way::Source => "saddr",
        Way::Destination => "daddr",
    };
    match net {
        ipnet::IpNet::V4(net) if net.prefix_len() == 32 => format!("ip {word} {}", net.addr()),
        ipnet::IpNet::V4(net) => format!("ip {word} {net}"),
        ipnet::IpNet::V6(net) if net.prefix_len() == 128 => format!("ip6 {word} {}", net.addr()),
        ipnet::IpNet::V6(net) => format!("ip6 {word} {net}"),
    }
}
