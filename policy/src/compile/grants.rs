//! Grants: what the gateway's own sockets may reach for a while, made at run time for a maintenance session.
//!
//! A socket carries the grant's mark (SO_MARK, which only core can set). Every packet of it, and every packet that comes
//! back, asks the set; the set's element has a timeout. So a grant ends on time, new and running connections alike, with
//! every process of ours dead. The sets are empty here: their elements are no part of a rule set.

use super::base::{accept, chain, counted, counter, drop, rule};
use crate::ruleset::{
    Counter, Direction, Family, Field, GRANTS_IP4, GRANTS_IP6, KeyType, Rule, Ruleset, Set, State, Statement,
    Verdict,
};

/// What grants carried: its name is its identity in metrics and reports, as a flow's is.
const CARRIED: &str = "@grants";
const CARRIED_COUNTER: &str = "control-grants";
/// What had a grant's mark and no grant.
const ENDED: &str = "grant-ended";
const OUT: &str = "grants-out";
const IN: &str = "grants-in";
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// Adds the sets, the counters and the chains.
pub(super) fn build(ruleset: &mut Ruleset) {
    for (name, address) in [(GRANTS_IP4, KeyType::Ip4), (GRANTS_IP6, KeyType::Ip6)] {
        let key = vec![KeyType::Mark, address, KeyType::Protocol, KeyType::Port];
        ruleset.sets.insert(name.to_owned(), Set { timeout: true, ..Set::new(key) });
    }
    counter(ruleset, CARRIED_COUNTER, Counter::Control { name: CARRIED.to_owned() });
    counter(ruleset, ENDED, Counter::Dropped { reason: ENDED.to_owned(), zone: String::new() });
    chain(ruleset, OUT, None, outgoing());
    chain(ruleset, IN, None, incoming());
}

/// The rules of the output hook, before the pairs: no flow ever carries what has a grant's mark.
pub(super) fn at_output() -> [Rule; 2] {
    [
        rule("from a socket that belongs to a grant", [Statement::PacketIsGranted, jump(OUT)]),
        rule(
            "a grant's connection, but not from its socket",
            [Statement::ConnectionIsGranted, counted(ENDED), drop()],
        ),
    ]
}

/// The rule of the input hook, before the pairs.
pub(super) fn at_input() -> Rule {
    rule("of a connection that a grant opened", [Statement::ConnectionIsGranted, jump(IN)])
}

fn outgoing() -> Vec<Rule> {
    let to = |family, address, set| {
        let key = vec![Field::PacketMark, address, Field::Protocol, Field::DestinationPort];
        let asked = [Statement::Family(family), Statement::Direction(Direction::Original), asks(key, set)];
        let carried = [Statement::MarkFromPacket, counted(CARRIED_COUNTER), accept()];
        rule("to what its grant names, while it lasts", asked.into_iter().chain(carried))
    };
    vec![
        to(Family::Ip4, Field::Destination4, GRANTS_IP4),
        to(Family::Ip6, Field::Destination6, GRANTS_IP6),
        ended(),
    ]
}

fn incoming() -> Vec<Rule> {
    let families = [
        (Family::Ip4, Field::Source4, Field::OpenerDestination4, ICMP, GRANTS_IP4),
        (Family::Ip6, Field::Source6, Field::OpenerDestination6, ICMP6, GRANTS_IP6),
    ];
    let carried = || [counted(CARRIED_COUNTER), accept()];
    let mut rules = Vec::new();
    for (family, source, _, _, set) in families {
        let key = vec![Field::Mark, source, Field::Protocol, Field::SourcePort];
        let asked = [Statement::Family(family), Statement::Direction(Direction::Reply), asks(key, set)];
        rules.push(rule("from what its grant names, while it lasts", asked.into_iter().chain(carried())));
    }
    for (family, _, target, icmp, set) in families {
        let key = vec![Field::Mark, target, Field::ConnectionProtocol, Field::OpenerDestinationPort];
        let asked = [
            Statement::Family(family),
            Statement::Protocol(icmp),
            Statement::State(State::Related),
            Statement::Direction(Direction::Reply),
            asks(key, set),
        ];
        rules.push(rule("an error about its connection, while it lasts", asked.into_iter().chain(carried())));
    }
    rules.push(ended());
    rules
}

fn ended() -> Rule {
    rule("its grant has ended, or never named this", [counted(ENDED), drop()])
}

fn asks(fields: Vec<Field>, set: &str) -> Statement {
    Statement::In { fields, set: set.to_owned(), negated: false }
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}
