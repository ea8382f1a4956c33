//! The reference meaning of a policy: `(&Policy, packet, context, clock) -> Verdict`. Slow, short, obvious on purpose:
//! the kernel is compared with it packet by packet, so it shares nothing with the compiler.
//!
//! Addresses are those of the clinic's side: before source NAT, and after its undoing for what comes back.
//! Outside the model: loopback, rate limits, hop limits, conntrack's own view of what is malformed, and grants: what a
//! maintenance session's socket may reach is decided at run time, not by a policy, and no flow ever carries it.

mod control;
mod flows;
mod path;
mod reason;
pub mod why;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{FlowId, Policy, ZoneId};
pub use flows::Respect;
pub use reason::DenyReason;

/// A packet, as far as a policy can see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Packet {
    /// Where it comes from.
    pub arrival: Arrival,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
}

/// Where a packet comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// It came in by this interface.
    Interface(String),
    /// The gateway itself made it.
    Local {
        /// The interface it leaves by. Only asked where the destination names no zone: multicast, broadcast and
        /// link-local addresses.
        egress: Option<String>,
    },
}

/// The upper-layer part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// Whether it asks for a new connection: SYN without ACK or RST. Asked of first packets only.
        syn: bool,
    },
    /// UDP.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// ICMP (RFC 792), in IPv4 only.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// ICMPv6 (RFC 4443), in IPv6 only.
    Icmp6 {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Another IP protocol, by number; IPv6 extension headers are not protocols.
    Other(u8),
}

/// What the packet is to the connections that are already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context<'a> {
    /// The first packet of a connection.
    New,
    /// A packet from the far end of the connection that began with this packet.
    Reply(&'a Packet),
    /// An ICMP error about the connection that began with this packet.
    Related(&'a Packet),
}

/// The time, and whether it can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The instant.
    pub now: Timestamp,
    /// Nothing with an end or a schedule is open while this is false.
    pub trusted: bool,
}

/// The way of a connection through, into or out of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// From one zone to another, or within one.
    Forward {
        /// Zone of the source.
        from: ZoneId,
        /// Zone of the destination.
        to: ZoneId,
    },
    /// To the gateway itself.
    Input {
        /// Zone of the source.
        from: ZoneId,
    },
    /// From the gateway itself.
    Output {
        /// Zone of the destination.
        to: ZoneId,
    },
}

/// What becomes of the packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A flow lets it pass.
    Allow {
        /// The flow that gives the connection its name.
        flow: FlowId,
        /// The connection's way, also for what comes back.
        path: Path,
    },
    /// It is part of a built-in stateless exchange, such as neighbour discovery.
    Control {
        /// Its name, beginning with `@`.
        name: &'static str,
        /// The packet's way.
        path: Path,
    },
    /// It does not pass.
    Deny {
        /// Why.
        reason: DenyReason,
        /// The way it asked for, where there is one.
        path: Option<Path>,
        /// The flow that fails to match in the fewest respects, for explanations only.
        nearest: Option<FlowId>,
    },
}

/// Decides one packet.
#[must_use]
pub fn evaluate(policy: &Policy, packet: &Packet, context: Context<'_>, clock: Clock) -> Verdict {
    match decide(policy, packet, context, clock) {
        Ok(verdict) => verdict,
        Err(Refusal { reason, path, nearest }) => Verdict::Deny { reason, path, nearest },
    }
}

struct Refusal {
    reason: DenyReason,
    path: Option<Path>,
    nearest: Option<FlowId>,
}

impl From<DenyReason> for Refusal {
    fn from(reason: DenyReason) -> Self {
        Refusal { reason, path: None, nearest: None }
    }
}

fn decide(policy: &Policy, packet: &Packet, context: Context<'_>, clock: Clock) -> Result<Verdict, Refusal> {
    if !is_well_formed(packet) {
        return Err(DenyReason::Malformed.into());
    }
    if let Some((name, path)) = control::exchange(policy, packet) {
        return Ok(Verdict::Control { name, path });
    }
    path::check_source(policy, packet)?;
    let (flow, path) = match context {
        Context::New => opening(policy, packet, clock)?,
        Context::Reply(original) => {
            let (flow, path) = opening(policy, original, clock)?;
            if !is_mirror(policy, path, original, packet) {
                return Err(Refusal {
                    reason: DenyReason::NotTheReply,
                    path: Some(path),
                    nearest: Some(flow),
                });
            }
            (flow, path)
        }
        Context::Related(original) => {
            let (flow, path) = opening(policy, original, clock)?;
            if !is_error_about(policy, path, original, packet) {
                return Err(Refusal {
                    reason: DenyReason::NotRelated,
                    path: Some(path),
                    nearest: Some(flow),
                });
            }
            (flow, path)
        }
    };
    Ok(Verdict::Allow { flow, path })
}

/// The flow that allows this first packet, now.
fn opening(policy: &Policy, packet: &Packet, clock: Clock) -> Result<(FlowId, Path), Refusal> {
    path::check_source(policy, packet)?;
    let path = path::find(policy, packet)?;
    let flow = flows::decide(policy, path, packet, clock)?;
    Ok((flow, path))
}

/// One family, and no protocol in the other family's clothes.
fn is_well_formed(packet: &Packet) -> bool {
    let families_agree = packet.source.is_ipv4() == packet.destination.is_ipv4();
    let transport_fits = match packet.transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => true,
        Transport::Icmp { .. } => packet.source.is_ipv4(),
        Transport::Icmp6 { .. } => packet.source.is_ipv6(),
        Transport::Other(number) => !matches!(number, 1 | 6 | 17 | 58),
    };
    families_agree && transport_fits
}

/// Addresses and ports swapped, an echo reply for an echo request, and from the connection's other side.
fn is_mirror(policy: &Policy, path: Path, original: &Packet, packet: &Packet) -> bool {
    let transport = match (original.transport, packet.transport) {
        (
            Transport::Tcp { source_port, destination_port, .. },
            Transport::Tcp { source_port: back_source, destination_port: back_destination, .. },
        )
        | (
            Transport::Udp { source_port, destination_port },
            Transport::Udp { source_port: back_source, destination_port: back_destination },
        ) => source_port == back_destination && destination_port == back_source,
        (Transport::Icmp { kind: 8, code }, Transport::Icmp { kind: 0, code: back })
        | (Transport::Icmp6 { kind: 128, code }, Transport::Icmp6 { kind: 129, code: back }) => code == back,
        (Transport::Other(number), Transport::Other(back)) => number == back,
        (
            Transport::Tcp { .. }
            | Transport::Udp { .. }
            | Transport::Icmp { .. }
            | Transport::Icmp6 { .. }
            | Transport::Other(_),
            _,
        ) => false,
    };
    transport
        && packet.source == original.destination
        && packet.destination == original.source
        && comes_from_far_side(policy, path, packet)
}

/// An error travels to one end of the connection, and comes from the other end's side.
fn is_error_about(policy: &Policy, path: Path, original: &Packet, packet: &Packet) -> bool {
    let is_error = match packet.transport {
        Transport::Icmp { kind, .. } => matches!(kind, 3 | 11 | 12),
        Transport::Icmp6 { kind, .. } => matches!(kind, 1..=4),
        Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other(_) => false,
    };
    let back = packet.destination == original.source && comes_from_far_side(policy, path, packet);
    let forth = packet.destination == original.destination && packet.arrival == original.arrival;
    is_error && (back || forth)
}

fn comes_from_far_side(policy: &Policy, path: Path, packet: &Packet) -> bool {
    match (path, &packet.arrival) {
        (Path::Forward { to, .. } | Path::Output { to }, Arrival::Interface(name)) => {
            policy.zone(to).interface.as_deref() == Some(name)
        }
        (Path::Input { .. }, Arrival::Local { .. }) => true,
        (Path::Forward { .. } | Path::Output { .. }, Arrival::Local { .. })
        | (Path::Input { .. }, Arrival::Interface(_)) => false,
    }
}
