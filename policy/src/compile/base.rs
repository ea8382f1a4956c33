//! The base chains: what every packet meets before and after its pair's chain. Each ends in an explicit drop, which is
//! not decoration: a base chain's drop policy is switched on late in a commit.

use std::net::IpAddr;

use ipnet::IpNet;

use super::pairs::{FORWARD_PAIRS, INPUT_PAIRS, OUTPUT_PAIRS};
use super::{control, grants};
use super::{cubes, interface};
use crate::model::{Policy, Zone};
use crate::ruleset::{
    Base, BaseKind, Chain, Counter, Data, DataType, FLOW_COUNTERS, Family, Field, Hook, Key, KeyType, LIVE,
    Range, Rule, Ruleset, Set, State, Statement, Value, Verdict, Way,
};

/// Denied packets logged per second and source zone; the rest is counted.
const LOG_PER_SECOND: u32 = 10;
/// Burst of the log's rate limit.
const LOG_BURST: u32 = 40;

const PRIORITY_GUARD: i32 = -300;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// Networks that are never a sender's address on the outside (RFC 6890), besides the clinic's own.
const BOGONS: [&str; 8] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/127",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// Everything but the pairs: sets, counters, base chains, the chains of control traffic and of denials.
pub(super) fn build(policy: &Policy, ruleset: &mut Ruleset) {
    common_sets(ruleset);
    for (map, interfaces) in [(FORWARD_PAIRS, 2), (INPUT_PAIRS, 1), (OUTPUT_PAIRS, 1)] {
        let mut key = vec![KeyType::Direction];
        key.resize(1 + interfaces, KeyType::Interface);
        ruleset.sets.insert(map.to_owned(), Set::map(key, DataType::Verdict));
    }
    let zones: Vec<(&Zone, &str)> =
        policy.zones.iter().filter_map(|zone| interface(zone).map(|name| (zone, name))).collect();
    flow_counters(ruleset);
    sources(&zones, ruleset);
    masquerade(&zones, ruleset);
    denials(&zones, ruleset);
    control::build(&zones, ruleset);
    grants::build(ruleset);
    chain(ruleset, "guard-prerouting", Some((BaseKind::Filter, Hook::Prerouting, PRIORITY_GUARD)), guard());
    chain(ruleset, "gate-input", Some((BaseKind::Filter, Hook::Input, PRIORITY_FILTER)), input());
    chain(ruleset, "gate-forward", Some((BaseKind::Filter, Hook::Forward, PRIORITY_FILTER)), forward());
    chain(ruleset, "gate-output", Some((BaseKind::Filter, Hook::Output, PRIORITY_FILTER)), output());
}

/// The state before any policy: loopback, nothing else.
pub(super) fn build_closed(ruleset: &mut Ruleset) {
    common_sets(ruleset);
    let drop_all = |way| {
        vec![
            rule("the box talks to itself", [Statement::Interface(way, "lo".to_owned()), accept()]),
            rule("no policy is in force: nothing passes", [counted("closed"), drop()]),
        ]
    };
    counter(ruleset, "closed", Counter::Dropped { reason: "closed".to_owned(), zone: String::new() });
    chain(
        ruleset,
        "gate-input",
        Some((BaseKind::Filter, Hook::Input, PRIORITY_FILTER)),
        drop_all(Way::Source),
    );
    chain(
        ruleset,
        "gate-forward",
        Some((BaseKind::Filter, Hook::Forward, PRIORITY_FILTER)),
        drop_all(Way::Source),
    );
    chain(
        ruleset,
        "gate-output",
        Some((BaseKind::Filter, Hook::Output, PRIORITY_FILTER)),
        drop_all(Way::Destination),
    );
}

fn common_sets(ruleset: &mut Ruleset) {
    let live = Set { timeout: true, ..Set::new(vec![KeyType::Mark]) };
    ruleset.sets.insert(LIVE.to_owned(), live);
    ruleset.sets.insert(FLOW_COUNTERS.to_owned(), Set::map(vec![KeyType::Mark], DataType::Counter));
}

/// The guard: who may send from where. Before conntrack, so that a spoofed packet leaves no trace in its table.
fn guard() -> Vec<Rule> {
    let mut rules =
        vec![rule("the box talks to itself", [Statement::Interface(Way::Source, "lo".to_owned()), accept()])];
    for (family, field, set) in
        [(Family::Ip4, Field::Source4, "sources-ip4"), (Family::Ip6, Field::Source6, "sources-ip6")]
    {
        rules.push(rule(
            "a sender of the zone behind this interface",
            [
                Statement::Family(family),
                within(vec![Field::InInterface, field], set),
                Statement::SourceReturnsHere,
                accept(),
            ],
        ));
    }
    for (family, field, set) in [
        (Family::Ip4, Field::Source4, "never-outside-ip4"),
        (Family::Ip6, Field::Source6, "never-outside-ip6"),
    ] {
        rules.push(rule(
            "a sender on the outside that is not one of ours",
            [
                Statement::Family(family),
                within(vec![Field::InInterface], "outside"),
                Statement::In { fields: vec![Field::InInterface, field], set: set.to_owned(), negated: true },
                Statement::SourceReturnsHere,
                accept(),
            ],
        ));
    }
    // After the common cases: it costs them nothing.
    rules.push(rule("control traffic speaks before it has an address", [jump("control-sources")]));
    rules.push(rule("spoofed: counted by interface", [count_by(vec![Field::InInterface], "spoofed")]));
    rules.push(rule("spoofed: some are logged", [limit(), log("spoofed"), drop()]));
    rules.push(rule("spoofed: the rest is counted as unlogged", [counted("unlogged-spoofed"), drop()]));
    rules
}

fn input() -> Vec<Rule> {
    vec![
        rule("the box talks to itself", [Statement::Interface(Way::Source, "lo".to_owned()), accept()]),
        rule(
            "control traffic of the link",
            [Statement::Family(Family::Ip6), Statement::Protocol(58), jump("control-in-icmp6")],
        ),
        rule(
            "control traffic of the link",
            [Statement::Family(Family::Ip4), Statement::Protocol(17), jump("control-in-dhcp")],
        ),
        rule("part of no connection", [Statement::State(State::Invalid), counted("invalid-input"), drop()]),
        rule("about a connection: only errors", [Statement::State(State::Related), jump("related-arriving")]),
        rule(
            "not for an address of this interface: broadcast, multicast, another zone's address",
            [Statement::DestinationIsLocalHere { negated: true }, counted("stray"), drop()],
        ),
        grants::at_input(),
        rule(
            "by direction and interface to the pair's chain",
            [by(vec![Field::Direction, Field::InInterface], INPUT_PAIRS)],
        ),
        rule("denied: counted by zone", [count_by(vec![Field::InInterface], "denied-input")]),
        rule("denied: logged by zone", [by(vec![Field::InInterface], "deny-by-zone")]),
        rule("an interface of no zone", [counted("unknown-interface"), drop()]),
    ]
}

fn forward() -> Vec<Rule> {
    vec![
        rule("part of no connection", [Statement::State(State::Invalid), counted("invalid-forward"), drop()]),
        rule("about a connection: only errors", [Statement::State(State::Related), jump("related-arriving")]),
        rule(
            "no segment larger than the way out carries",
            [Statement::Protocol(6), Statement::TcpSyn, Statement::ClampMss],
        ),
        rule(
            "by direction and interfaces to the pair's chain",
            [by(vec![Field::Direction, Field::InInterface, Field::OutInterface], FORWARD_PAIRS)],
        ),
        rule(
            "denied: counted by pair of zones",
            [count_by(vec![Field::InInterface, Field::OutInterface], "denied-forward")],
        ),
        rule("denied: logged by zone", [by(vec![Field::InInterface], "deny-by-zone")]),
        rule("an interface of no zone", [counted("unknown-interface"), drop()]),
    ]
}

fn output() -> Vec<Rule> {
    let [granted, not_granted] = grants::at_output();
    vec![
        rule("the box talks to itself", [Statement::Interface(Way::Destination, "lo".to_owned()), accept()]),
        rule(
            "not to everybody on a link: DHCP has the limited broadcast",
            [
                Statement::Family(Family::Ip4),
                within(vec![Field::OutInterface, Field::Destination4], "broadcasts-ip4"),
                counted("stray"),
                drop(),
            ],
        ),
        rule(
            "control traffic of the link",
            [Statement::Family(Family::Ip6), Statement::Protocol(58), jump("control-out-icmp6")],
        ),
        rule(
            "errors of the gateway's own",
            [Statement::Family(Family::Ip4), Statement::Protocol(1), jump("control-out-icmp")],
        ),
        rule(
            "control traffic of the link",
            [Statement::Family(Family::Ip4), Statement::Protocol(17), jump("control-out-dhcp")],
        ),
        rule("part of no connection", [Statement::State(State::Invalid), counted("invalid-output"), drop()]),
        rule("about a connection: only errors", [Statement::State(State::Related), jump("related")]),
        granted,
        not_granted,
        rule(
            "by direction and interface to the pair's chain",
            [by(vec![Field::Direction, Field::OutInterface], OUTPUT_PAIRS)],
        ),
        rule("denied: counted by zone", [count_by(vec![Field::OutInterface], "denied-output")]),
        rule("denied: some are logged", [limit(), log("gateway"), drop()]),
        rule("denied: the rest is counted as unlogged", [counted("unlogged-gateway"), drop()]),
    ]
}

fn flow_counters(ruleset: &mut Ruleset) {
    let names: Vec<_> = ruleset.marks.iter().map(|(mark, info)| (*mark, info.name.clone())).collect();
    for (mark, flow) in names {
        let name = format!("flow-{:08x}", mark.0);
        counter(ruleset, &name, Counter::Flow { flow });
        insert(ruleset, FLOW_COUNTERS, Key::exact([Value::Mark(mark)]), Data::Counter(name));
    }
}

/// The sets of the guard: which networks may send through which interface.
fn sources(zones: &[(&Zone, &str)], ruleset: &mut Ruleset) {
    for (family, word) in [(KeyType::Ip4, "ip4"), (KeyType::Ip6, "ip6")] {
        for stem in ["sources", "never-outside"] {
            ruleset.sets.insert(
                format!("{stem}-{word}"),
                Set::new(vec![KeyType::Interface, family]).with_intervals(),
            );
        }
    }
    ruleset.sets.insert("outside".to_owned(), Set::new(vec![KeyType::Interface]));
    ruleset.sets.insert("broadcasts-ip4".to_owned(), Set::new(vec![KeyType::Interface, KeyType::Ip4]));
    for (zone, name) in zones {
        for everybody in zone.networks.iter().chain(&zone.gateway).filter_map(group) {
            if let IpAddr::V4(address) = everybody.addr() {
                let key = Key::exact([interface_value(name), Value::Ip4(address)]);
                insert(ruleset, "broadcasts-ip4", key, Data::None);
            }
        }
    }
    let inside = zones.iter().filter(|(zone, _)| !zone.is_external());
    for (zone, name) in inside.clone() {
        for net in &zone.networks {
            insert(ruleset, &family_set("sources", net), senders_key(name, net), Data::None);
        }
    }
    for (zone, name) in zones.iter().filter(|(zone, _)| zone.is_external()) {
        insert(ruleset, "outside", Key::exact([Value::Interface((*name).to_owned())]), Data::None);
        let own = zone.gateway.iter().flat_map(|own| [Some(IpNet::from(own.addr())), group(own)]).flatten();
        let bogons = BOGONS.iter().filter_map(|net| net.parse().ok());
        let ours = inside.clone().flat_map(|(zone, _)| zone.networks.iter().copied());
        for net in disjoint(own.chain(bogons).chain(ours).collect()) {
            insert(ruleset, &family_set("never-outside", &net), net_key(name, &net), Data::None);
        }
    }
}

/// Networks without those that lie inside another: an interval set refuses overlaps.
fn disjoint(nets: Vec<IpNet>) -> Vec<IpNet> {
    IpNet::aggregate(&nets)
}

fn masquerade(zones: &[(&Zone, &str)], ruleset: &mut Ruleset) {
    let mut rules = Vec::new();
    for (family, field, key) in
        [(Family::Ip4, Field::Source4, KeyType::Ip4), (Family::Ip6, Field::Source6, KeyType::Ip6)]
    {
        let set = match family {
            Family::Ip4 => "masquerade-ip4",
            Family::Ip6 => "masquerade-ip6",
        };
        let mut own = Set::new(vec![KeyType::Interface, key]).with_intervals();
        for (outside, name) in zones {
            let asked = outside.wan.as_ref().is_some_and(|wan| match family {
                Family::Ip4 => wan.masquerade4,
                Family::Ip6 => wan.masquerade6,
            });
            let ours = zones
                .iter()
                .filter(|(zone, _)| asked && !zone.is_external())
                .flat_map(|(zone, _)| &zone.networks);
            for net in ours.filter(|net| cubes::family(net) == family) {
                own.elements.insert(net_key(name, net), Data::None);
            }
        }
        if own.elements.is_empty() {
            continue;
        }
        ruleset.sets.insert(set.to_owned(), own);
        rules.push(rule(
            "the clinic's addresses do not leave the box",
            [Statement::Family(family), within(vec![Field::OutInterface, field], set), Statement::Masquerade],
        ));
    }
    // A NAT hook costs every new connection, so it is there only where something is masqueraded.
    if rules.is_empty() {
        return;
    }
    let base =
        Base { kind: BaseKind::Nat, hook: Hook::Postrouting, priority: PRIORITY_SOURCE_NAT, drop: false };
    ruleset.chains.insert("nat-postrouting".to_owned(), Chain { base: Some(base), rules });
}

/// Counters of denied packets by pair of zones, and each zone's rate-limited log, so that no zone's flood hides
/// another's denials.
fn denials(zones: &[(&Zone, &str)], ruleset: &mut Ruleset) {
    let one = vec![KeyType::Interface];
    for (map, key) in [
        ("denied-forward", vec![KeyType::Interface, KeyType::Interface]),
        ("denied-input", one.clone()),
        ("denied-output", one.clone()),
        ("spoofed", one.clone()),
    ] {
        ruleset.sets.insert(map.to_owned(), Set::map(key, DataType::Counter));
    }
    ruleset.sets.insert("deny-by-zone".to_owned(), Set::map(one, DataType::Verdict));
    for name in [
        "invalid-input",
        "invalid-forward",
        "invalid-output",
        "stray",
        "unrelated",
        "unroutable",
        "unknown-interface",
    ] {
        counter(ruleset, name, Counter::Dropped { reason: name.to_owned(), zone: String::new() });
    }
    for zone in ["gateway", "spoofed"] {
        counter(ruleset, &format!("unlogged-{zone}"), Counter::Unlogged { zone: zone.to_owned() });
    }
    for (zone, name) in zones {
        deny_zone(zone, name, ruleset);
        for (other, out) in zones {
            let key = Key::exact([interface_value(name), interface_value(out)]);
            denied(ruleset, "denied-forward", key, (&zone.slug, &zone.name), (&other.slug, &other.name));
        }
        let (here, gateway) = ((zone.slug.as_str(), zone.name.as_str()), ("gateway", "gateway"));
        denied(ruleset, "denied-input", Key::exact([interface_value(name)]), here, gateway);
        denied(ruleset, "denied-output", Key::exact([interface_value(name)]), gateway, here);
    }
}

fn deny_zone(zone: &Zone, name: &str, ruleset: &mut Ruleset) {
    let chain_name = format!("deny-{}", zone.slug);
    let unlogged = format!("unlogged-{}", zone.slug);
    let spoofed = format!("spoofed-{}", zone.slug);
    chain(
        ruleset,
        &chain_name,
        None,
        vec![
            rule("denied: some are logged", [limit(), log(&zone.slug), drop()]),
            rule("denied: the rest is counted as unlogged", [counted(&unlogged), drop()]),
        ],
    );
    let key = Key::exact([interface_value(name)]);
    insert(ruleset, "deny-by-zone", key.clone(), Data::Verdict(Verdict::Jump(chain_name)));
    counter(ruleset, &unlogged, Counter::Unlogged { zone: zone.name.clone() });
    counter(ruleset, &spoofed, Counter::Dropped { reason: "spoofed".to_owned(), zone: zone.name.clone() });
    insert(ruleset, "spoofed", key, Data::Counter(spoofed));
}

fn denied(ruleset: &mut Ruleset, map: &str, key: Key, from: (&str, &str), to: (&str, &str)) {
    let name = format!("denied-{}-to-{}", from.0, to.0);
    counter(ruleset, &name, Counter::Denied { from: from.1.to_owned(), to: to.1.to_owned() });
    insert(ruleset, map, key, Data::Counter(name));
}

pub(super) fn rule(why: &str, statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule { why: why.to_owned(), statements: statements.into_iter().collect() }
}

pub(super) fn chain(
    ruleset: &mut Ruleset,
    name: &str,
    base: Option<(BaseKind, Hook, i32)>,
    rules: Vec<Rule>,
) {
    let base = base.map(|(kind, hook, priority)| Base { kind, hook, priority, drop: true });
    ruleset.chains.insert(name.to_owned(), Chain { base, rules });
}

pub(super) fn counter(ruleset: &mut Ruleset, name: &str, what: Counter) {
    ruleset.counters.insert(name.to_owned(), what);
}

pub(super) fn insert(ruleset: &mut Ruleset, set: &str, key: Key, data: Data) {
    if let Some(set) = ruleset.sets.get_mut(set) {
        set.elements.insert(key, data);
    }
}

pub(super) fn interface_value(name: &str) -> Value {
    Value::Interface(name.to_owned())
}

pub(super) fn within(fields: Vec<Field>, set: &str) -> Statement {
    Statement::In { fields, set: set.to_owned(), negated: false }
}

pub(super) fn accept() -> Statement {
    Statement::Verdict(Verdict::Accept)
}

pub(super) fn drop() -> Statement {
    Statement::Verdict(Verdict::Drop)
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn by(fields: Vec<Field>, map: &str) -> Statement {
    Statement::VerdictFrom { fields, map: map.to_owned() }
}

fn count_by(fields: Vec<Field>, map: &str) -> Statement {
    Statement::CounterFrom { fields, map: map.to_owned() }
}

pub(super) fn counted(counter: &str) -> Statement {
    Statement::Counter(counter.to_owned())
}

pub(super) fn limit() -> Statement {
    Statement::Limit { per_second: LOG_PER_SECOND, burst: LOG_BURST }
}

pub(super) fn log(word: &str) -> Statement {
    Statement::Log { prefix: format!("sekisho:{word}") }
}

fn family_set(stem: &str, net: &IpNet) -> String {
    match net {
        IpNet::V4(_) => format!("{stem}-ip4"),
        IpNet::V6(_) => format!("{stem}-ip6"),
    }
}

/// The address of a network that is everybody's and hence no sender's: the directed broadcast (RFC 919), the routers'
/// anycast address (RFC 4291 section 2.6.1).
fn group(net: &IpNet) -> Option<IpNet> {
    match net {
        IpNet::V4(net) => (net.prefix_len() <= 30).then(|| IpNet::from(IpAddr::V4(net.broadcast()))),
        IpNet::V6(net) => (net.prefix_len() <= 126).then(|| IpNet::from(IpAddr::V6(net.network()))),
    }
}

/// A network without its group address.
fn senders_key(interface: &str, net: &IpNet) -> Key {
    let Some(group) = group(net) else { return net_key(interface, net) };
    let (from, to) = match (net, group.addr()) {
        (IpNet::V4(net), IpAddr::V4(group)) => {
            (Value::Ip4(net.network()), Value::Ip4(u32::from(group).saturating_sub(1).into()))
        }
        (IpNet::V6(net), IpAddr::V6(group)) => {
            (Value::Ip6(u128::from(group).saturating_add(1).into()), Value::Ip6(net.broadcast()))
        }
        (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => return net_key(interface, net),
    };
    Key(vec![Range { from: interface_value(interface), to: interface_value(interface) }, Range { from, to }])
}

fn net_key(interface: &str, net: &IpNet) -> Key {
    let (from, to) = match net {
        IpNet::V4(net) => (Value::Ip4(net.network()), Value::Ip4(net.broadcast())),
        IpNet::V6(net) => (Value::Ip6(net.network()), Value::Ip6(net.broadcast())),
    };
    Key(vec![Range { from: interface_value(interface), to: interface_value(interface) }, Range { from, to }])
}
