//! One packet of a trial, and what the reference evaluator expects of it.
use policy::eval::{Arrival, Clock, Context, Packet, Path, Transport, Verdict, evaluate};
use policy::model::Policy;

use crate::ground::Seat;
use crate::wire::{Shape, Stage};

/// What a packet is to the packets before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The first of its connection.
    New,
    /// From the same end as the connection's first packet, with this number.
    Continues(usize),
    /// From the other end.
    Answers(usize),
    /// An ICMP error from the other end's side, to the one that began.
    ErrorBack(usize),
    /// An ICMP error from the side of the end that began, to the other one.
    ErrorForth(usize),
}

impl Relation {
    pub(crate) fn opener(self) -> Option<usize> {
        match self {
            Relation::New => None,
            Relation::Continues(opener)
            | Relation::Answers(opener)
            | Relation::ErrorBack(opener)
            | Relation::ErrorForth(opener) => Some(opener),
        }
    }
}

/// A packet to send. Addresses are those of the clinic's side, as the evaluator wants them.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) packet: Packet,
    pub(crate) shape: Shape,
    pub(crate) hop_limit: u8,
    pub(crate) ident: u16,
    pub(crate) relation: Relation,
}

impl Probe {
    pub(crate) fn new(packet: Packet, ident: u16) -> Self {
        let hop_limit = match packet.transport {
            // The sender is on this link (RFC 4861 section 7.1.1, RFC 3810 section 5).
            Transport::Icmp6 { kind: 133..=137, .. } => 255,
            Transport::Icmp6 { kind: 130..=132 | 143, .. } => 1,
            _ => 64,
        };
        Probe { packet, shape: Shape::Plain, hop_limit, ident, relation: Relation::New }
    }

    pub(crate) fn stage(&self) -> Stage {
        match (self.relation, self.packet.transport) {
            (Relation::Answers(_), _) => Stage::SynAck,
            (_, Transport::Tcp { syn: false, .. }) => Stage::Ack,
            _ => Stage::Syn,
        }
    }
}

/// The evaluator's verdict, and where the packet must therefore arrive.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    pub(crate) verdict: Verdict,
    pub(crate) seat: Option<Seat>,
}

/// What becomes of a probe; `opener` is the connection's first packet, if the kernel knows the connection.
pub(crate) fn expect(policy: &Policy, probe: &Probe, opener: Option<&Packet>, clock: Clock) -> Expectation {
    let (packet, context) = match (probe.relation, opener) {
        (Relation::New, _) | (_, None) => (&probe.packet, Context::New),
        // Whoever began may go on as long as he may begin.
        (Relation::Continues(_), Some(opener)) => (opener, Context::New),
        (Relation::Answers(_), Some(opener)) => (&probe.packet, Context::Reply(opener)),
        (Relation::ErrorBack(_) | Relation::ErrorForth(_), Some(opener)) => {
            (&probe.packet, Context::Related(opener))
        }
    };
    let verdict = evaluate(policy, packet, context, clock);
    let seat = match &verdict {
        Verdict::Deny { .. } => None,
        Verdict::Control { path, .. } => Some(far_end(*path)),
        Verdict::Allow { path, .. } => match (context, probe.relation) {
            (Context::New, _) | (_, Relation::New | Relation::Continues(_) | Relation::ErrorForth(_)) => {
                Some(far_end(*path))
            }
            (_, Relation::Answers(_) | Relation::ErrorBack(_)) => Some(near_end(*path)),
        },
    };
    Expectation { verdict, seat }
}

fn far_end(path: Path) -> Seat {
    match path {
        Path::Forward { to, .. } | Path::Output { to } => Seat::Zone(to),
        Path::Input { .. } => Seat::Gateway,
    }
}

fn near_end(path: Path) -> Seat {
    match path {
        Path::Forward { from, .. } | Path::Input { from } => Seat::Zone(from),
        Path::Output { .. } => Seat::Gateway,
    }
}

/// The other end's packet: addresses, ports and ICMP types swapped, from the far side.
pub(crate) fn mirror(policy: &Policy, packet: &Packet, path: Path) -> Packet {
    let transport = match packet.transport {
        Transport::Tcp { source_port, destination_port, .. } => {
            Transport::Tcp { source_port: destination_port, destination_port: source_port, syn: false }
        }
        Transport::Udp { source_port, destination_port } => {
            Transport::Udp { source_port: destination_port, destination_port: source_port }
        }
        Transport::Icmp { kind: 8, code } => Transport::Icmp { kind: 0, code },
        Transport::Icmp6 { kind: 128, code } => Transport::Icmp6 { kind: 129, code },
        Transport::Icmp { kind, code } => Transport::Icmp { kind, code },
        Transport::Icmp6 { kind, code } => Transport::Icmp6 { kind, code },
        Transport::Other(number) => Transport::Other(number),
    };
    let arrival = far_arrival(policy, path);
    Packet { arrival, source: packet.destination, destination: packet.source, transport }
}

/// Where packets of the far end come in.
pub(crate) fn far_arrival(policy: &Policy, path: Path) -> Arrival {
    match path {
        Path::Forward { to, .. } | Path::Output { to } => {
            Arrival::Interface(policy.zone(to).interface.clone().unwrap_or_default())
        }
        Path::Input { from } => Arrival::Local { egress: policy.zone(from).interface.clone() },
    }
}
