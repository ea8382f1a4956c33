//! An interpreter of rule sets for first packets: the second reading of a policy, off the kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy::eval::{Packet, Path, Transport};
use policy::model::{Policy, ZoneId};
use policy::ruleset::{
    Counter, Data, Direction, Family, Field, Hook, Key, Mark, Ruleset, State, Statement, Value, Verdict, Way,
};

struct Walk<'a> {
    ruleset: &'a Ruleset,
    live: &'a BTreeMap<Mark, Option<jiff::Timestamp>>,
    packet: &'a Packet,
    incoming: String,
    outgoing: String,
    mark: Mark,
    /// Counter last counted: names a built-in exchange.
    counted: Option<String>,
}

enum End {
    Accept,
    Drop,
    /// The chain ended, or returned.
    Through,
}

/// The name of the flow or exchange that lets the packet pass, walking the guard and the hook of its way.
pub(crate) fn walk(
    policy: &Policy,
    ruleset: &Ruleset,
    live: &BTreeMap<Mark, Option<jiff::Timestamp>>,
    packet: &Packet,
    path: Path,
) -> Option<String> {
    let name = |zone: ZoneId| policy.zone(zone).interface.clone().unwrap();
    let none = String::new;
    let (hook, incoming, outgoing) = match path {
        Path::Forward { from, to } => (Hook::Forward, name(from), name(to)),
        Path::Input { from } => (Hook::Input, name(from), none()),
        Path::Output { to } => (Hook::Output, none(), name(to)),
    };
    let mut walk = Walk { ruleset, live, packet, incoming, outgoing, mark: Mark(0), counted: None };
    let hooks = if hook == Hook::Output { vec![hook] } else { vec![Hook::Prerouting, hook] };
    for hook in hooks {
        let base = ruleset.chains.iter().find(|(_, chain)| chain.base.is_some_and(|base| base.hook == hook));
        let (chain, _) = base.unwrap();
        if !matches!(walk.chain(chain), End::Accept) {
            return None;
        }
    }
    let named = ruleset.marks.get(&walk.mark).map(|info| info.name.clone());
    named.or_else(|| match ruleset.counters.get(walk.counted.as_ref()?)? {
        Counter::Control { name } => Some(name.clone()),
        other => panic!("accepted by {other:?}"),
    })
}

impl Walk<'_> {
    fn chain(&mut self, name: &str) -> End {
        for rule in &self.ruleset.chains[name].rules {
            for statement in &rule.statements {
                match self.statement(statement) {
                    None => break,
                    Some(None) => {}
                    Some(Some(Verdict::Accept)) => return End::Accept,
                    Some(Some(Verdict::Drop)) => return End::Drop,
                    Some(Some(Verdict::Return)) => return End::Through,
                    Some(Some(Verdict::Jump(chain))) => match self.chain(&chain) {
                        End::Through => {}
                        end => return end,
                    },
                }
            }
        }
        End::Through
    }

    /// `None`: does not match. `Some(None)`: goes on. `Some(Some(v))`: verdict.
    fn statement(&mut self, statement: &Statement) -> Option<Option<Verdict>> {
        let yes = |matches: bool| matches.then_some(None);
        match statement {
            Statement::Family(family) => yes(self.family() == *family),
            Statement::Protocol(number) => yes(self.protocol() == *number),
            Statement::State(State::Invalid | State::Related) => yes(false),
            Statement::Direction(direction) => yes(*direction == Direction::Original),
            Statement::In { fields, set, negated } => {
                let found = if set == "live" {
                    self.live.contains_key(&self.mark)
                } else {
                    self.look(fields, set).is_some()
                };
                yes(found != *negated)
            }
            Statement::Interface(Way::Source, name) => yes(self.incoming == *name),
            Statement::Interface(Way::Destination, name) => yes(self.outgoing == *name),
            Statement::Address(Way::Source, net) => yes(net.contains(&self.packet.source)),
            Statement::Address(Way::Destination, net) => yes(net.contains(&self.packet.destination)),
            Statement::IcmpType(_, number) => yes(match self.packet.transport {
                Transport::Icmp { kind, .. } | Transport::Icmp6 { kind, .. } => kind == *number,
                _ => false,
            }),
            Statement::Port(way, port) => yes(self.port(*way) == Some(*port)),
            Statement::HopLimit(_) | Statement::SourceReturnsHere => yes(true),
            Statement::TcpSyn => yes(true),
            Statement::DestinationIsLocalHere { negated } => yes(!negated),
            Statement::Limit { .. } | Statement::Log { .. } | Statement::ClampMss | Statement::Masquerade => {
                yes(true)
            }
            Statement::Counter(name) => {
                self.counted = Some(name.clone());
                yes(true)
            }
            Statement::CounterFrom { fields, map } => yes(self.look(fields, map).is_some()),
            // This walks packets of flows only: none belongs to a grant.
            Statement::PacketIsGranted | Statement::ConnectionIsGranted | Statement::MarkFromPacket => None,
            Statement::ConnectionIsMarked => yes(self.mark != Mark(0)),
            // What is logged does not decide.
            Statement::PacketMarkFromConnection | Statement::SetPacketMark(_) => yes(true),
            Statement::SetMark(mark) => {
                self.mark = *mark;
                yes(true)
            }
            Statement::MarkFrom { fields, map } => {
                let Some(Data::Mark(mark)) = self.look(fields, map) else { return None };
                self.mark = *mark;
                yes(true)
            }
            Statement::Verdict(verdict) => Some(Some(verdict.clone())),
            Statement::VerdictFrom { fields, map } => {
                let Some(Data::Verdict(verdict)) = self.look(fields, map) else { return None };
                Some(Some(verdict.clone()))
            }
        }
    }

    fn look(&self, fields: &[Field], set: &str) -> Option<&Data> {
        let values: Option<Vec<Value>> = fields.iter().map(|field| self.field(*field)).collect();
        let values = values?;
        let holds = |key: &Key| {
            key.0.iter().zip(&values).all(|(range, value)| {
                assert_eq!(range.from.key_type(), value.key_type(), "{set}");
                range.from <= *value && *value <= range.to
            })
        };
        let mut found = self.ruleset.sets[set].elements.iter().filter(|(key, _)| holds(key));
        let first = found.next().map(|(_, data)| data);
        assert!(found.next().is_none(), "two keys of {set} hold the packet");
        first
    }

    fn field(&self, field: Field) -> Option<Value> {
        let address = |address: IpAddr, family: Family| match (address, family) {
            (IpAddr::V4(address), Family::Ip4) => Some(Value::Ip4(address)),
            (IpAddr::V6(address), Family::Ip6) => Some(Value::Ip6(address)),
            _ => None,
        };
        match field {
            Field::Direction => Some(Value::Direction(Direction::Original)),
            Field::InInterface => Some(Value::Interface(self.incoming.clone())),
            Field::OutInterface => Some(Value::Interface(self.outgoing.clone())),
            Field::Source4 => address(self.packet.source, Family::Ip4),
            Field::Destination4 => address(self.packet.destination, Family::Ip4),
            Field::Source6 => address(self.packet.source, Family::Ip6),
            Field::Destination6 => address(self.packet.destination, Family::Ip6),
            Field::Protocol => Some(Value::Protocol(self.protocol())),
            Field::SourcePort => self.port(Way::Source).map(Value::Port),
            Field::DestinationPort => self.port(Way::Destination).map(Value::Port),
            // Asked only about errors, of which this walks none.
            Field::OpenerSource4
            | Field::OpenerDestination4
            | Field::OpenerSource6
            | Field::OpenerDestination6
            | Field::OpenerDestinationPort
            | Field::ConnectionProtocol
            | Field::PacketMark => None,
            Field::Mark => Some(Value::Mark(self.mark)),
        }
    }

    fn family(&self) -> Family {
        if self.packet.source.is_ipv4() { Family::Ip4 } else { Family::Ip6 }
    }

    fn protocol(&self) -> u8 {
        match self.packet.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Icmp { .. } => 1,
            Transport::Icmp6 { .. } => 58,
            Transport::Other(number) => number,
        }
    }

    /// What the kernel reads there: for protocols without ports, bytes that mean something else.
    fn port(&self, way: Way) -> Option<u16> {
        match (self.packet.transport, way) {
            (Transport::Tcp { source_port, .. } | Transport::Udp { source_port, .. }, Way::Source) => {
                Some(source_port)
            }
            (
                Transport::Tcp { destination_port, .. } | Transport::Udp { destination_port, .. },
                Way::Destination,
            ) => Some(destination_port),
            (Transport::Icmp { .. } | Transport::Icmp6 { .. } | Transport::Other(_), _) => Some(3),
        }
    }
}
