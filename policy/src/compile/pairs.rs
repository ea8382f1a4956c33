//! One chain per pair of places, both directions of its flows: the mark maps, and the rules that ask them.

use std::collections::BTreeMap;

use super::layers::Layer;
use super::{Party, interface};
use crate::model::{FlowId, Policy};
use crate::ruleset::{
    Chain, Data, DataType, Direction, ENDED_LOG_PREFIX, FLOW_COUNTERS, Family, Field, Key, KeyType, LIVE,
    Mark, Range, Rule, Ruleset, Set, State, Statement, Value, Verdict,
};
use crate::space::{Cube, Span, Transport, address};

/// Verdict map of the forward hook: direction, in, out -> chain.
pub(super) const FORWARD_PAIRS: &str = "forward-pairs";
/// Verdict map of the input hook: direction, in -> chain.
pub(super) const INPUT_PAIRS: &str = "input-pairs";
/// Verdict map of the output hook: direction, out -> chain.
pub(super) const OUTPUT_PAIRS: &str = "output-pairs";

const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];

/// Shapes of mark maps. Exact keys have a hash map of their own: it costs the same at any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    PortsExact,
    PortsRange,
    Echo,
    Other,
}

/// Adds a pair's chain, maps and entries in the verdict maps.
pub(super) fn build(
    policy: &Policy,
    pair: (Party, Party),
    layers: &[Layer],
    marks: &BTreeMap<FlowId, Mark>,
    ruleset: &mut Ruleset,
) {
    let name = format!("{}-to-{}", slug(policy, pair.0), slug(policy, pair.1));
    let mut rules = head();
    if let Party::Zone(id) = pair.1
        && policy.zone(id).is_external()
    {
        rules.extend(unroutable());
    }
    let last = layers.len().saturating_sub(1);
    for (depth, layer) in layers.iter().enumerate() {
        let stem = if depth == last { name.clone() } else { format!("{name}-timed{depth}") };
        for ((family, shape), set) in maps(layer, marks) {
            let map = format!("{stem}-{}", suffix(family, shape));
            rules.extend(ask(family, shape, &map));
            ruleset.sets.insert(map, set);
        }
        rules.push(live("a connection that a flow allows now"));
    }
    ruleset.chains.insert(name.clone(), Chain { base: None, rules });
    enter(policy, pair, &name, ruleset);
}

pub(super) fn slug(policy: &Policy, party: Party) -> &str {
    match party {
        Party::Zone(id) => &policy.zone(id).slug,
        Party::Gateway => "gateway",
    }
}

/// Running connections pass first; an error about an ended one must not give it a mark; the rest are asked afresh, so
/// that a connection whose flow ended goes on at once under another flow that allows it.
fn head() -> Vec<Rule> {
    vec![
        live("a connection whose flow is live"),
        rule(
            "an error message about a connection that has ended",
            vec![Statement::State(State::Related), Statement::Verdict(Verdict::Return)],
        ),
        rule(
            "a connection whose flow has ended: who follows connections learns which it was",
            vec![
                Statement::ConnectionIsMarked,
                Statement::PacketMarkFromConnection,
                Statement::Log { prefix: ENDED_LOG_PREFIX.to_owned() },
                Statement::SetPacketMark(Mark(0)),
            ],
        ),
        rule(
            "a new connection, or one whose flow has ended: ask the maps",
            vec![Statement::SetMark(Mark(0))],
        ),
    ]
}

/// Destinations that no line carries: bogons, and what is ours. Asked of first packets only.
fn unroutable() -> [Rule; 2] {
    [
        (Family::Ip4, Field::Destination4, "never-outside-ip4"),
        (Family::Ip6, Field::Destination6, "never-outside-ip6"),
    ]
    .map(|(family, field, set)| {
        rule(
            "no address of the outside",
            vec![
                Statement::Family(family),
                Statement::In {
                    fields: vec![Field::OutInterface, field],
                    set: set.to_owned(),
                    negated: false,
                },
                Statement::Counter("unroutable".to_owned()),
                Statement::Verdict(Verdict::Drop),
            ],
        )
    })
}

fn live(why: &str) -> Rule {
    rule(
        why,
        vec![
            Statement::In { fields: vec![Field::Mark], set: LIVE.to_owned(), negated: false },
            Statement::CounterFrom { fields: vec![Field::Mark], map: FLOW_COUNTERS.to_owned() },
            Statement::Verdict(Verdict::Accept),
        ],
    )
}

fn rule(why: &str, statements: Vec<Statement>) -> Rule {
    Rule { why: why.to_owned(), statements }
}

fn maps(layer: &Layer, marks: &BTreeMap<FlowId, Mark>) -> BTreeMap<(Family, Shape), Set> {
    let mut maps: BTreeMap<(Family, Shape), Set> = BTreeMap::new();
    for (cube, flow) in &layer.pieces {
        let Some(mark) = marks.get(flow) else { continue };
        let (family, shape) = (cube.class.family(), shape(cube));
        let set = maps.entry((family, shape)).or_insert_with(|| empty(family, shape));
        set.elements.insert(key(cube), Data::Mark(*mark));
    }
    maps
}

fn shape(cube: &Cube) -> Shape {
    let exact = |span: Span| span.low == span.high;
    match cube.class.transport {
        Transport::Tcp | Transport::Udp
            if exact(cube.source) && exact(cube.destination) && exact(cube.port) =>
        {
            Shape::PortsExact
        }
        Transport::Tcp | Transport::Udp => Shape::PortsRange,
        Transport::Echo => Shape::Echo,
        Transport::Other => Shape::Other,
    }
}

fn suffix(family: Family, shape: Shape) -> &'static str {
    match (family, shape) {
        (Family::Ip4, Shape::PortsExact) => "ip4",
        (Family::Ip4, Shape::PortsRange) => "ip4-ranges",
        (Family::Ip4, Shape::Echo) => "ip4-echo",
        (Family::Ip4, Shape::Other) => "ip4-other",
        (Family::Ip6, Shape::PortsExact) => "ip6",
        (Family::Ip6, Shape::PortsRange) => "ip6-ranges",
        (Family::Ip6, Shape::Echo) => "ip6-echo",
        (Family::Ip6, Shape::Other) => "ip6-other",
    }
}

fn empty(family: Family, shape: Shape) -> Set {
    let address = match family {
        Family::Ip4 => KeyType::Ip4,
        Family::Ip6 => KeyType::Ip6,
    };
    let mut key = vec![address, address];
    match shape {
        Shape::PortsExact | Shape::PortsRange => key.extend([KeyType::Protocol, KeyType::Port]),
        Shape::Echo => {}
        Shape::Other => key.push(KeyType::Protocol),
    }
    Set { interval: shape != Shape::PortsExact, ..Set::map(key, DataType::Mark) }
}

fn key(cube: &Cube) -> Key {
    let ip6 = cube.class.ip6;
    let value = |number: u128| match address(ip6, number) {
        std::net::IpAddr::V4(address) => Value::Ip4(address),
        std::net::IpAddr::V6(address) => Value::Ip6(address),
    };
    let addresses = |span: Span| Range { from: value(span.low), to: value(span.high) };
    let small = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
    let mut fields = vec![addresses(cube.source), addresses(cube.destination)];
    let ports = Range { from: Value::Port(small(cube.port.low)), to: Value::Port(small(cube.port.high)) };
    let protocol = |number: u8| Range { from: Value::Protocol(number), to: Value::Protocol(number) };
    let number = |number: u128| Value::Protocol(u8::try_from(number).unwrap_or(u8::MAX));
    match cube.class.transport {
        Transport::Tcp => fields.extend([protocol(6), ports]),
        Transport::Udp => fields.extend([protocol(17), ports]),
        Transport::Echo => {}
        Transport::Other => fields.push(Range { from: number(cube.port.low), to: number(cube.port.high) }),
    }
    Key(fields)
}

/// The two rules that ask a map: with the packet as it is, and mirrored for replies.
fn ask(family: Family, shape: Shape, map: &str) -> [Rule; 2] {
    [Direction::Original, Direction::Reply].map(|direction| {
        let mut statements = vec![Statement::Family(family), Statement::Direction(direction)];
        if shape == Shape::Echo {
            statements.extend(echo(family, direction));
        }
        statements
            .push(Statement::MarkFrom { fields: fields(family, shape, direction), map: map.to_owned() });
        let why = match direction {
            Direction::Original => format!("the flow that allows it, from {map}"),
            Direction::Reply => format!("the flow that allows what this answers, from {map}"),
        };
        Rule { why, statements }
    })
}

/// Only echo: the error messages of ICMP follow their connections, and nothing else of it is ever a flow.
fn echo(family: Family, direction: Direction) -> [Statement; 2] {
    let [four, six] = match direction {
        Direction::Original => ECHO_REQUEST,
        Direction::Reply => ECHO_REPLY,
    };
    match family {
        Family::Ip4 => [Statement::Protocol(ICMP), Statement::IcmpType(family, four)],
        Family::Ip6 => [Statement::Protocol(ICMP6), Statement::IcmpType(family, six)],
    }
}

fn fields(family: Family, shape: Shape, direction: Direction) -> Vec<Field> {
    let (source, destination) = match family {
        Family::Ip4 => (Field::Source4, Field::Destination4),
        Family::Ip6 => (Field::Source6, Field::Destination6),
    };
    let (mut fields, port) = match direction {
        Direction::Original => (vec![source, destination], Field::DestinationPort),
        Direction::Reply => (vec![destination, source], Field::SourcePort),
    };
    match shape {
        Shape::PortsExact | Shape::PortsRange => fields.extend([Field::Protocol, port]),
        Shape::Echo => {}
        Shape::Other => fields.push(Field::Protocol),
    }
    fields
}

/// Leads both directions of the pair into its chain, at the hooks where they pass.
fn enter(policy: &Policy, pair: (Party, Party), chain: &str, ruleset: &mut Ruleset) {
    let name = |party| match party {
        Party::Zone(id) => interface(policy.zone(id)).map(|name| Value::Interface(name.to_owned())),
        Party::Gateway => None,
    };
    let mut add = |map: &str, direction, interfaces: Vec<Value>| {
        if let Some(map) = ruleset.sets.get_mut(map) {
            let key = Key::exact(std::iter::once(Value::Direction(direction)).chain(interfaces));
            map.elements.insert(key, Data::Verdict(Verdict::Jump(chain.to_owned())));
        }
    };
    match (name(pair.0), name(pair.1)) {
        (Some(from), Some(to)) => {
            add(FORWARD_PAIRS, Direction::Original, vec![from.clone(), to.clone()]);
            add(FORWARD_PAIRS, Direction::Reply, vec![to, from]);
        }
        (Some(from), None) => {
            add(INPUT_PAIRS, Direction::Original, vec![from.clone()]);
            add(OUTPUT_PAIRS, Direction::Reply, vec![from]);
        }
        (None, Some(to)) => {
            add(OUTPUT_PAIRS, Direction::Original, vec![to.clone()]);
            add(INPUT_PAIRS, Direction::Reply, vec![to]);
        }
        (None, None) => {}
    }
}
