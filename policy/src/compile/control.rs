//! Built-in stateless exchanges without which a link does not work: each named, counted, rate-limited, and only on the
//! interfaces that need it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::base::{accept, chain, counter, insert, interface_value, limit, log, rule, within};
use crate::model::Zone;
use crate::ruleset::{
    Counter, Data, Direction, Family, Field, Key, KeyType, Rule, Ruleset, Set, Statement, Verdict, Way,
};

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const MULTICAST_6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
const BROADCAST_4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32));
const PER_SECOND: u32 = 200;
const BURST: u32 = 400;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_2: u8 = 143;
/// Query, report, done (RFC 2710) and the report of version 2 (RFC 3810).
const LISTENER: [u8; 4] = [130, 131, 132, LISTENER_REPORT_2];
/// Destination unreachable, time exceeded, parameter problem (RFC 792).
const ERRORS_4: [u8; 3] = [3, 11, 12];
/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
const ERRORS_6: [u8; 4] = [1, 2, 3, 4];

/// A built-in exchange: its name is its identity in metrics and reports, as a flow's is.
#[derive(Clone, Copy)]
struct Control {
    name: &'static str,
    /// Set of the interfaces on which it is spoken.
    set: &'static str,
    spoken_in: fn(&Zone) -> bool,
}

const DHCP_SERVES: Control =
    Control { name: "@dhcp-server", set: "on-dhcp-server", spoken_in: |zone| zone.dhcp.is_some() };
const DHCP_ASKS: Control = Control {
    name: "@dhcp-client",
    set: "on-dhcp-client",
    spoken_in: |zone| zone.wan.as_ref().is_some_and(|wan| wan.dhcp4),
};
const NEIGHBOURS: Control = Control { name: "@neighbour-discovery", set: "on-ip6", spoken_in: speaks_ip6 };
const LISTENERS: Control = Control { name: "@multicast-listener", set: "on-ip6", spoken_in: speaks_ip6 };
const ADVERTISES: Control = Control {
    name: "@router-advertisement",
    set: "on-router-advertisement",
    spoken_in: |zone| zone.router_advertisement,
};
const SOLICITS: Control = Control {
    name: "@router-solicitation",
    set: "on-router-solicitation",
    spoken_in: |zone| zone.wan.as_ref().is_some_and(|wan| wan.accept_ra),
};
const ERRORS_OUT_4: Control = Control { name: "@icmp-errors", set: "on-ip4", spoken_in: speaks_ip4 };
const ERRORS_OUT_6: Control = Control { name: "@icmp-errors", set: "on-ip6", spoken_in: speaks_ip6 };

const ALL: [Control; 8] =
    [DHCP_SERVES, DHCP_ASKS, NEIGHBOURS, LISTENERS, ADVERTISES, SOLICITS, ERRORS_OUT_4, ERRORS_OUT_6];

fn speaks_ip4(zone: &Zone) -> bool {
    zone.is_external() || zone.networks.iter().any(|net| net.addr().is_ipv4())
}

fn speaks_ip6(zone: &Zone) -> bool {
    zone.is_external() || zone.networks.iter().any(|net| net.addr().is_ipv6())
}

/// Adds the interface sets, the counters and the chains.
pub(super) fn build(zones: &[(&Zone, &str)], ruleset: &mut Ruleset) {
    for control in ALL {
        ruleset.sets.entry(control.set.to_owned()).or_insert_with(|| Set::new(vec![KeyType::Interface]));
        for (_, name) in zones.iter().filter(|(zone, _)| (control.spoken_in)(zone)) {
            insert(ruleset, control.set, Key::exact([interface_value(name)]), Data::None);
        }
        counter(ruleset, &counter_name(control.name), Counter::Control { name: control.name.to_owned() });
    }
    chain(ruleset, "control-sources", None, sources());
    chain(ruleset, "control-in-icmp6", None, incoming_icmp6());
    chain(ruleset, "control-in-dhcp", None, incoming_dhcp());
    chain(ruleset, "control-out-icmp6", None, outgoing_icmp6());
    chain(ruleset, "control-out-icmp", None, outgoing_icmp());
    chain(ruleset, "control-out-dhcp", None, outgoing_dhcp());
    chain(ruleset, "related", None, related());
    chain(ruleset, "related-arriving", None, related_arriving());
}

fn counter_name(name: &str) -> String {
    format!("control-{}", name.trim_start_matches('@'))
}

/// Senders that have no zone address yet, or speak link-locally: let on to the input chain, which is as strict.
fn sources() -> Vec<Rule> {
    let link_local = |net: &str| net.parse().map(|net| Statement::Address(Way::Source, net)).into_iter();
    let icmp6 = |set: &str| {
        [Statement::Family(Family::Ip6), within(vec![Field::InInterface], set), Statement::Protocol(ICMP6)]
    };
    let mut rules = Vec::new();
    for kind in [NEIGHBOUR_SOLICITATION, LISTENER_REPORT_2] {
        let unspecified = link_local("::/128").chain([Statement::IcmpType(Family::Ip6, kind), accept()]);
        rules.push(rule(
            "duplicate address detection (RFC 4862)",
            icmp6("on-ip6").into_iter().chain(unspecified),
        ));
    }
    let local = link_local("fe80::/10").chain([accept()]);
    rules.push(rule("link-local ICMPv6", icmp6("on-ip6").into_iter().chain(local)));
    let udp4 = || [Statement::Family(Family::Ip4), Statement::Protocol(UDP)].into_iter();
    let nobody = link_local("0.0.0.0/32");
    let ask = dhcp(DHCP_SERVES, Way::Source, DHCP_CLIENT, DHCP_SERVER);
    rules.push(rule(
        "a client that has no address yet (RFC 2131)",
        udp4().chain(ask).chain(nobody).chain([accept()]),
    ));
    let ours = Statement::In {
        fields: vec![Field::InInterface, Field::Source4],
        set: "never-outside-ip4".to_owned(),
        negated: true,
    };
    let answer = dhcp(DHCP_ASKS, Way::Source, DHCP_SERVER, DHCP_CLIENT);
    rules.push(rule(
        "a DHCP server of the line, before there is a route back",
        udp4().chain(answer).chain([ours, accept()]),
    ));
    rules
}

/// To this link's multicast groups, or to an address that the gateway has on this very interface.
fn to_this_link() -> [Statement; 2] {
    [Statement::Address(Way::Destination, MULTICAST_6), Statement::DestinationIsLocalHere { negated: false }]
}

fn incoming_icmp6() -> Vec<Rule> {
    let kinds = [
        (NEIGHBOURS, NEIGHBOUR_SOLICITATION, 255),
        (NEIGHBOURS, NEIGHBOUR_ADVERTISEMENT, 255),
        (ADVERTISES, ROUTER_SOLICITATION, 255),
        (SOLICITS, ROUTER_ADVERTISEMENT, 255),
    ];
    let kinds = kinds.into_iter().chain(LISTENER.map(|kind| (LISTENERS, kind, 1)));
    let rules = kinds.flat_map(|(control, kind, hop_limit)| {
        to_this_link().map(|to| icmp6(control, Way::Source, kind, [Statement::HopLimit(hop_limit), to]))
    });
    let rogue =
        rogue("a router that nobody put there", [Statement::IcmpType(Family::Ip6, ROUTER_ADVERTISEMENT)]);
    rules.chain([rogue]).collect()
}

fn incoming_dhcp() -> Vec<Rule> {
    let ask = || dhcp(DHCP_SERVES, Way::Source, DHCP_CLIENT, DHCP_SERVER).into_iter();
    let answer = || dhcp(DHCP_ASKS, Way::Source, DHCP_SERVER, DHCP_CLIENT).into_iter();
    let here = || Statement::DestinationIsLocalHere { negated: false };
    let everybody = || Statement::Address(Way::Destination, BROADCAST_4);
    vec![
        passing(DHCP_SERVES, ask().chain([everybody()])),
        passing(DHCP_SERVES, ask().chain([here()])),
        passing(DHCP_ASKS, answer().chain([everybody()])),
        passing(DHCP_ASKS, answer().chain([here()])),
        rogue("a DHCP server that nobody put there", ports(DHCP_SERVER, DHCP_CLIENT)),
    ]
}

/// What speaks to everybody on a link of the clinic as only the gateway should: dropped like any other stray packet, but
/// not unseen.
fn rogue(why: &str, matches: impl IntoIterator<Item = Statement>) -> Rule {
    let inside = Statement::In { fields: vec![Field::InInterface], set: "outside".to_owned(), negated: true };
    rule(why, matches.into_iter().chain([inside, limit(), log("@rogue")]))
}

fn outgoing_icmp6() -> Vec<Rule> {
    let way = Way::Destination;
    let mut rules: Vec<Rule> = [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT]
        .map(|kind| icmp6(NEIGHBOURS, way, kind, []))
        .into_iter()
        .chain(LISTENER.map(|kind| icmp6(LISTENERS, way, kind, [])))
        .collect();
    rules.push(icmp6(ADVERTISES, way, ROUTER_ADVERTISEMENT, []));
    rules.push(icmp6(SOLICITS, way, ROUTER_SOLICITATION, []));
    rules.extend(ERRORS_6.map(|kind| icmp6(ERRORS_OUT_6, way, kind, [])));
    rules
}

/// Without these, path-MTU discovery breaks on the first packet of a connection: it has no mark yet.
fn outgoing_icmp() -> Vec<Rule> {
    let error = |kind| {
        passing(ERRORS_OUT_4, [on(ERRORS_OUT_4, Way::Destination), Statement::IcmpType(Family::Ip4, kind)])
    };
    ERRORS_4.map(error).to_vec()
}

fn outgoing_dhcp() -> Vec<Rule> {
    let way = Way::Destination;
    vec![
        passing(DHCP_SERVES, dhcp(DHCP_SERVES, way, DHCP_SERVER, DHCP_CLIENT)),
        passing(DHCP_ASKS, dhcp(DHCP_ASKS, way, DHCP_CLIENT, DHCP_SERVER)),
    ]
}

/// What conntrack calls related: errors about a connection go on to its pair's chain; redirects and whatever else it
/// may learn to call so do not.
fn related() -> Vec<Rule> {
    let back = |family, protocol, kind| {
        rule(
            "an error about a connection",
            [
                Statement::Family(family),
                Statement::Protocol(protocol),
                Statement::IcmpType(family, kind),
                Statement::Verdict(Verdict::Return),
            ],
        )
    };
    let mut rules: Vec<Rule> = ERRORS_4
        .map(|kind| back(Family::Ip4, ICMP, kind))
        .into_iter()
        .chain(ERRORS_6.map(|kind| back(Family::Ip6, ICMP6, kind)))
        .collect();
    rules.push(rule(
        "anything else",
        [Statement::Counter("unrelated".to_owned()), Statement::Verdict(Verdict::Drop)],
    ));
    rules
}

/// An error comes in where the connection leads: from the side of the end that the answered packet went to. Nobody
/// else may speak about a connection, however much he knows of it (RFC 5927).
fn related_arriving() -> Vec<Rule> {
    let sides = [
        (Family::Ip4, Direction::Original, Field::OpenerSource4, "sources-ip4", "never-outside-ip4"),
        (Family::Ip4, Direction::Reply, Field::OpenerDestination4, "sources-ip4", "never-outside-ip4"),
        (Family::Ip6, Direction::Original, Field::OpenerSource6, "sources-ip6", "never-outside-ip6"),
        (Family::Ip6, Direction::Reply, Field::OpenerDestination6, "sources-ip6", "never-outside-ip6"),
    ];
    let mut rules = vec![rule("only errors", [Statement::Verdict(Verdict::Jump("related".to_owned()))])];
    for (family, direction, field, inside, never_outside) in sides {
        let matches = || [Statement::Family(family), Statement::Direction(direction)].into_iter();
        let key = || vec![Field::InInterface, field];
        let back = || Statement::Verdict(Verdict::Return);
        rules.push(rule("from the zone of that end", matches().chain([within(key(), inside), back()])));
        let outside = within(vec![Field::InInterface], "outside");
        let foreign = Statement::In { fields: key(), set: never_outside.to_owned(), negated: true };
        rules.push(rule("from the outside, where that end is", matches().chain([outside, foreign, back()])));
    }
    rules.push(rule(
        "from somewhere else",
        [Statement::Counter("unrelated".to_owned()), Statement::Verdict(Verdict::Drop)],
    ));
    rules
}

/// The chains it is called from have matched family and protocol.
fn icmp6(control: Control, way: Way, kind: u8, more: impl IntoIterator<Item = Statement>) -> Rule {
    let matches = [on(control, way), Statement::IcmpType(Family::Ip6, kind)];
    passing(control, matches.into_iter().chain(more))
}

/// The chains it is called from have matched family and protocol.
fn dhcp(control: Control, way: Way, source: u16, destination: u16) -> [Statement; 3] {
    let [from, to] = ports(source, destination);
    [on(control, way), from, to]
}

fn ports(source: u16, destination: u16) -> [Statement; 2] {
    [Statement::Port(Way::Source, source), Statement::Port(Way::Destination, destination)]
}

fn on(control: Control, way: Way) -> Statement {
    let field = match way {
        Way::Source => Field::InInterface,
        Way::Destination => Field::OutInterface,
    };
    within(vec![field], control.set)
}

fn passing(control: Control, matches: impl IntoIterator<Item = Statement>) -> Rule {
    let effect = [
        Statement::Limit { per_second: PER_SECOND, burst: BURST },
        Statement::Counter(counter_name(control.name)),
        Statement::Verdict(Verdict::Accept),
    ];
    rule(control.name, matches.into_iter().chain(effect))
}
