//! Where a packet comes from and where it asks to go. The one place that knows what an address means to a zone.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Arrival, DenyReason, Packet, Path};
use crate::model::{Policy, Zone, ZoneId};

/// Refuses packets from unknown interfaces, and sources that cannot be where they claim to be.
pub(super) fn check_source(policy: &Policy, packet: &Packet) -> Result<(), DenyReason> {
    let Arrival::Interface(name) = &packet.arrival else { return Ok(()) };
    let zone = zone_of_interface(policy, name)?;
    if !speaks(policy.zone(zone), packet.source) {
        return Err(DenyReason::FamilyOff { zone });
    }
    if !is_credible_source(policy, zone, packet.source) {
        return Err(DenyReason::SpoofedSource { zone });
    }
    Ok(())
}

/// The way the packet asks for. The source of an arriving packet has been checked.
pub(super) fn find(policy: &Policy, packet: &Packet) -> Result<Path, DenyReason> {
    match &packet.arrival {
        Arrival::Interface(name) => {
            let from = zone_of_interface(policy, name)?;
            if is_gateway_in(policy.zone(from), packet.destination) {
                return Ok(Path::Input { from });
            }
            if let Some(zone) = gateway_zone(policy, packet.destination) {
                return Err(DenyReason::GatewayElsewhere { zone });
            }
            Ok(Path::Forward { from, to: zone_of_destination(policy, packet.destination)? })
        }
        Arrival::Local { .. } => {
            if gateway_zone(policy, packet.destination).is_some() {
                return Err(DenyReason::Loopback);
            }
            let to = zone_of_destination(policy, packet.destination)?;
            if !is_own_source(policy, to, packet.source) {
                return Err(DenyReason::ForeignSource { zone: to });
            }
            Ok(Path::Output { to })
        }
    }
}

pub(super) fn zone_of_interface(policy: &Policy, name: &str) -> Result<ZoneId, DenyReason> {
    if name == "lo" {
        return Err(DenyReason::Loopback);
    }
    let mut zones = policy.zones().filter(|(_, zone)| zone.interface.as_deref() == Some(name));
    zones.next().map(|(id, _)| id).ok_or(DenyReason::UnknownInterface)
}

/// The zone that a unicast address other than the gateway's lies in.
pub(super) fn zone_of_destination(policy: &Policy, address: IpAddr) -> Result<ZoneId, DenyReason> {
    if is_special(address) || is_group_in_a_zone(policy, address) {
        return Err(DenyReason::NotUnicast);
    }
    let by_network = policy.zones().find(|(_, zone)| network_of(zone, address).is_some());
    let (id, zone) = by_network
        .or_else(|| policy.zones().find(|(_, zone)| zone.is_external()))
        .ok_or(DenyReason::NoRoute)?;
    if zone.interface.is_none() {
        return Err(DenyReason::NoRoute);
    }
    if !speaks(zone, address) {
        return Err(DenyReason::FamilyOff { zone: id });
    }
    Ok(id)
}

/// Whether the zone has the address's family at all.
pub(super) fn speaks(zone: &Zone, address: IpAddr) -> bool {
    let any_of = |networks: &[IpNet]| networks.iter().any(|net| net.addr().is_ipv4() == address.is_ipv4());
    let by_line =
        zone.wan.as_ref().is_some_and(|wan| if address.is_ipv4() { wan.dhcp4 } else { wan.accept_ra });
    if zone.is_external() { any_of(&zone.gateway) || by_line } else { any_of(&zone.networks) }
}

/// Whether a packet that came in from the zone may carry this source. Control exchanges have rules of their own.
pub(super) fn is_credible_source(policy: &Policy, zone: ZoneId, source: IpAddr) -> bool {
    // Nobody sends from an address that is everybody's (RFC 1812 section 5.3.7, RFC 4291 section 2.6).
    if gateway_zone(policy, source).is_some() || is_group_in_a_zone(policy, source) {
        return false;
    }
    if policy.zone(zone).is_external() {
        !is_special(source) && !is_clinic(policy, source)
    } else {
        network_of(policy.zone(zone), source).is_some()
    }
}

/// Whether the gateway's own packet into the zone may carry this source.
pub(super) fn is_own_source(policy: &Policy, to: ZoneId, source: IpAddr) -> bool {
    is_gateway_in(policy.zone(to), source)
        || (has_unknown_address(policy.zone(to), source) && is_outside(policy, source))
}

/// Whether the address is nobody's in the clinic and can be somebody's outside.
pub(super) fn is_outside(policy: &Policy, address: IpAddr) -> bool {
    !is_special(address) && !is_clinic(policy, address) && gateway_zone(policy, address).is_none()
}

/// Whether the line gives the gateway an address of this family that the policy does not know.
pub(super) fn has_unknown_address(zone: &Zone, family: IpAddr) -> bool {
    zone.is_external()
        && speaks(zone, family)
        && !zone.gateway.iter().any(|net| net.addr().is_ipv4() == family.is_ipv4())
}

pub(super) fn is_gateway_in(zone: &Zone, address: IpAddr) -> bool {
    zone.gateway.iter().any(|own| own.addr() == address)
}

pub(super) fn network_of(zone: &Zone, address: IpAddr) -> Option<IpNet> {
    zone.networks.iter().copied().find(|net| net.contains(&address))
}

fn gateway_zone(policy: &Policy, address: IpAddr) -> Option<ZoneId> {
    policy.zones().find(|(_, zone)| is_gateway_in(zone, address)).map(|(id, _)| id)
}

fn is_clinic(policy: &Policy, address: IpAddr) -> bool {
    policy.zones.iter().any(|zone| network_of(zone, address).is_some())
}

/// Addresses that no single host on a routed network has (RFC 6890).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || first >= 240 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some()
        }
    }
}

/// The directed broadcast of an IPv4 network (RFC 919), and the routers' anycast address of an IPv6 one (RFC 4291
/// section 2.6.1).
fn is_group_in_a_zone(policy: &Policy, address: IpAddr) -> bool {
    let gateways = policy.zones.iter().flat_map(|zone| &zone.gateway);
    let networks = policy.zones.iter().flat_map(|zone| &zone.networks);
    networks.chain(gateways).any(|net| match net {
        IpNet::V4(net) => net.prefix_len() <= 30 && address == IpAddr::V4(net.broadcast()),
        IpNet::V6(net) => net.prefix_len() <= 126 && address == IpAddr::V6(net.network()),
    })
}

/// The limited broadcast (RFC 919).
pub(super) fn is_broadcast(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::BROADCAST)
}
