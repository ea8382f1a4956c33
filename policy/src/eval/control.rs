//! The built-in exchanges without state that keep a link alive: DHCP, neighbour and router discovery, MLD, and the
//! gateway's own ICMP errors. Each is named; whatever is not listed here needs a flow.

use std::net::IpAddr;

use super::{Arrival, Packet, Path, Transport, path};
use crate::model::{Policy, Zone, ZoneId};

/// The name and way of the exchange that the packet is part of.
pub(super) fn exchange(policy: &Policy, packet: &Packet) -> Option<(&'static str, Path)> {
    own_error(policy, packet).or_else(|| {
        let link = Link::of(policy, packet)?;
        let name = link.dhcp(packet).or_else(|| link.discovery(packet))?;
        let path = if link.inward { Path::Input { from: link.id } } else { Path::Output { to: link.id } };
        Some((name, path))
    })
}

/// Destination unreachable, time exceeded, parameter problem, packet too big: without them path-MTU discovery breaks.
fn own_error(policy: &Policy, packet: &Packet) -> Option<(&'static str, Path)> {
    let is_error = match packet.transport {
        Transport::Icmp { kind, .. } => matches!(kind, 3 | 11 | 12),
        Transport::Icmp6 { kind, .. } => matches!(kind, 1..=4),
        Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other(_) => false,
    };
    let made_here = matches!(packet.arrival, Arrival::Local { .. });
    let path = path::find(policy, packet).ok()?;
    (is_error && made_here).then_some(("@icmp-errors", path))
}

/// One packet between the gateway and one of its links.
struct Link<'a> {
    policy: &'a Policy,
    id: ZoneId,
    zone: &'a Zone,
    /// Into the gateway, else out of it.
    inward: bool,
}

impl<'a> Link<'a> {
    fn of(policy: &'a Policy, packet: &Packet) -> Option<Self> {
        let (id, inward) = match &packet.arrival {
            Arrival::Interface(name) => (path::zone_of_interface(policy, name).ok()?, true),
            Arrival::Local { egress } => match path::zone_of_destination(policy, packet.destination) {
                Ok(zone) => (zone, false),
                Err(_) => (path::zone_of_interface(policy, egress.as_deref()?).ok()?, false),
            },
        };
        Some(Link { policy, id, zone: policy.zone(id), inward })
    }

    /// DHCPv4 (RFC 2131 section 4.1), as a server towards a zone and as a client towards the line.
    fn dhcp(&self, packet: &Packet) -> Option<&'static str> {
        let Transport::Udp { source_port, destination_port } = packet.transport else { return None };
        if packet.source.is_ipv6() {
            return None;
        }
        let serves = self.zone.dhcp.is_some();
        let asks = self.zone.is_external() && self.zone.wan.as_ref().is_some_and(|wan| wan.dhcp4);
        let source = packet.source.is_unspecified() || self.is_near_source(packet.source);
        let destination =
            path::is_broadcast(packet.destination) || self.is_near_destination(packet.destination);
        let name = match (source_port, destination_port, self.inward) {
            (68, 67, true) | (67, 68, false) if serves => "@dhcp-server",
            (67, 68, true) | (68, 67, false) if asks => "@dhcp-client",
            _ => return None,
        };
        // Only a client can be without an address.
        let source = source && (source_port == 68 || !packet.source.is_unspecified());
        (source && destination).then_some(name)
    }

    /// Neighbour and router discovery (RFC 4861), multicast listener discovery (RFC 2710, RFC 3810).
    fn discovery(&self, packet: &Packet) -> Option<&'static str> {
        let Transport::Icmp6 { kind, .. } = packet.transport else { return None };
        // The line's own link speaks IPv6 whether or not the line gives addresses.
        if !self.zone.is_external() && !path::speaks(self.zone, packet.source) {
            return None;
        }
        let advertises = self.zone.router_advertisement;
        let accepts = self.zone.is_external() && self.zone.wan.as_ref().is_some_and(|wan| wan.accept_ra);
        let name = match (kind, self.inward) {
            (135 | 136, _) => "@neighbour-discovery",
            (133, true) | (134, false) if advertises => "@router-advertisement",
            (133, false) | (134, true) if accepts => "@router-solicitation",
            (130 | 131 | 132 | 143, _) => "@multicast-listener",
            _ => return None,
        };
        // Before it has an address a host asks whether somebody else has it, and reports its groups.
        let nameless = packet.source.is_unspecified() && matches!(kind, 135 | 143);
        let source = nameless || is_link_local(packet.source) || self.is_near_source(packet.source);
        let destination = is_link_multicast(packet.destination)
            || is_link_local(packet.destination)
            || self.is_near_destination(packet.destination);
        (source && destination).then_some(name)
    }

    /// An address that this end of the link may send from.
    fn is_near_source(&self, address: IpAddr) -> bool {
        if self.inward {
            path::is_credible_source(self.policy, self.id, address)
        } else {
            path::is_own_source(self.policy, self.id, address)
        }
    }

    /// An address at the other end of the link.
    fn is_near_destination(&self, address: IpAddr) -> bool {
        if self.inward {
            path::is_own_source(self.policy, self.id, address)
        } else {
            path::is_credible_source(self.policy, self.id, address)
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// ff02::/16 (RFC 4291 section 2.7).
fn is_link_multicast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[0] == 0xff02)
}
