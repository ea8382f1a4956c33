//! From the words of a question to example packets' ends and protocols.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::WhyError;
use crate::eval::{Arrival, path};
use crate::model::{DeviceId, Endpoint, Policy, Protocol, Zone, ZoneId};
use crate::resolve::suggest::closest;
use crate::resolve::{parse_endpoint, parse_service};

/// Host numbers tried when looking for an address that nobody has.
const HOSTS_TRIED: u32 = 1_024;
/// Names that only a question can use: devices look for one another by these, and no flow makes sense of them.
const DISCOVERY: [(&str, &[Protocol]); 5] = [
    ("mdns", &[Protocol::Udp(5353, 5353)]),
    ("ssdp", &[Protocol::Udp(1900, 1900)]),
    ("netbios", &[Protocol::Udp(137, 138), Protocol::Tcp(139, 139)]),
    ("ws-discovery", &[Protocol::Udp(3702, 3702)]),
    ("llmnr", &[Protocol::Udp(5355, 5355)]),
];

/// The two ends of an example packet, and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) arrival: Arrival,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Zone(ZoneId),
    Device(DeviceId),
    Address(IpAddr),
    Gateway,
}

/// One route for each family that both ends have.
pub(super) fn routes(policy: &Policy, from: &str, to: &str) -> Result<Vec<Route>, WhyError> {
    let (source, destination) = (end(policy, from)?, end(policy, to)?);
    let arrival = match source {
        End::Gateway if destination == End::Gateway => return Err(WhyError::OnlyTheGateway),
        End::Gateway => Arrival::Local { egress: None },
        End::Zone(_) | End::Device(_) | End::Address(_) => {
            let zone = zone_of(policy, source)
                .ok_or_else(|| WhyError::UnknownEnd { text: from.to_owned(), suggestion: None })?;
            let interface = policy.zone(zone).interface.clone();
            Arrival::Interface(interface.ok_or_else(|| WhyError::NoInterface { text: from.to_owned() })?)
        }
    };
    let route = |family: IpAddr| {
        let destination_address = sample(policy, destination, source, family)?;
        let source = sample(policy, source, destination, family)?;
        Some(Route { arrival: arrival.clone(), source, destination: destination_address })
    };
    let families = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let routes: Vec<Route> = families.into_iter().filter_map(route).collect();
    if routes.is_empty() {
        return Err(WhyError::NoCommonFamily { from: from.to_owned(), to: to.to_owned() });
    }
    Ok(routes)
}

/// An address, a bare name, or an end as the policy writes it.
fn end(policy: &Policy, text: &str) -> Result<End, WhyError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(End::Address(address));
    }
    let zone = policy.zones().find(|(_, zone)| zone.name == text).map(|(id, _)| End::Zone(id));
    let device =
        policy.devices.iter().position(|device| device.name == text).map(|at| End::Device(DeviceId(at)));
    match (zone, device) {
        (Some(_), Some(_)) => return Err(WhyError::AmbiguousEnd { text: text.to_owned() }),
        (Some(end), None) | (None, Some(end)) => return Ok(end),
        (None, None) => {}
    }
    let ends = parse_endpoint(policy, text)
        .map_err(|_| WhyError::UnknownEnd { text: text.to_owned(), suggestion: alike(policy, text) })?;
    let [end] = &ends[..] else { return Err(WhyError::SeveralEnds { text: text.to_owned() }) };
    match end {
        Endpoint::Zone(zone) => Ok(End::Zone(*zone)),
        Endpoint::Device(device) => Ok(End::Device(*device)),
        Endpoint::Gateway => Ok(End::Gateway),
        Endpoint::Networks(..) => Err(WhyError::SeveralEnds { text: text.to_owned() }),
        Endpoint::Domain(_) => Err(WhyError::DomainEnd { text: text.to_owned() }),
    }
}

fn alike(policy: &Policy, text: &str) -> Option<String> {
    let zones = policy.zones.iter().map(|zone| format!("zone:{}", zone.name));
    let devices = policy.devices.iter().map(|device| format!("device:{}", device.name));
    let known: BTreeMap<String, String> = zones
        .chain(devices)
        .filter_map(|end| Some((end.split_once(':')?.1.to_owned(), end.clone())))
        .collect();
    let asked = text.split_once(':').map_or(text, |(_, name)| name);
    closest(asked, known.keys().map(String::as_str)).and_then(|name| known.get(name)).cloned()
}

/// The zone that an end lies in; an address that is nobody's lies outside.
fn zone_of(policy: &Policy, end: End) -> Option<ZoneId> {
    match end {
        End::Zone(zone) => Some(zone),
        End::Device(DeviceId(at)) => policy.devices.get(at).map(|device| device.zone),
        End::Address(address) => {
            let holds = |zone: &Zone| path::network_of(zone, address).is_some();
            let inside = policy.zones().find(|(_, zone)| holds(zone));
            inside.or_else(|| policy.zones().find(|(_, zone)| zone.is_external())).map(|(id, _)| id)
        }
        End::Gateway => None,
    }
}

/// An address of the family that stands for the end; `other` says in which zone the gateway is met.
fn sample(policy: &Policy, end: End, other: End, family: IpAddr) -> Option<IpAddr> {
    let of_family = |address: &IpAddr| address.is_ipv4() == family.is_ipv4();
    match end {
        End::Address(address) => Some(address).filter(of_family),
        End::Device(DeviceId(at)) => policy.devices.get(at)?.addresses.iter().copied().find(of_family),
        End::Zone(zone) => stranger(policy, zone, family),
        End::Gateway => {
            let zone = policy.zone(zone_of(policy, other)?);
            let own = zone.gateway.iter().map(IpNet::addr).find(of_family);
            own.or_else(|| path::has_unknown_address(zone, family).then(|| outside(policy, family)).flatten())
        }
    }
}

/// An address of the zone that is no device's in the ledger; a device's where there is no other.
fn stranger(policy: &Policy, id: ZoneId, family: IpAddr) -> Option<IpAddr> {
    let zone = policy.zone(id);
    if !path::speaks(zone, family) {
        return None;
    }
    if zone.is_external() {
        return outside(policy, family);
    }
    let devices = || {
        policy
            .devices
            .iter()
            .filter(|device| device.zone == id)
            .flat_map(|device| device.addresses.iter().copied())
    };
    let networks = zone.networks.iter().filter(|net| net.addr().is_ipv4() == family.is_ipv4());
    let hosts = networks.flat_map(|net| (1..HOSTS_TRIED).filter_map(|number| host(net, number)));
    let free =
        |address: &IpAddr| !path::is_gateway_in(zone, *address) && !devices().any(|taken| taken == *address);
    hosts.into_iter().find(free).or_else(|| devices().find(|address| address.is_ipv4() == family.is_ipv4()))
}

/// The network's host with this number, unless that is beyond it or its broadcast.
fn host(network: &IpNet, number: u32) -> Option<IpAddr> {
    let address = match network {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).checked_add(number)?)),
        IpNet::V6(net) => {
            IpAddr::V6(Ipv6Addr::from(u128::from(net.network()).checked_add(u128::from(number))?))
        }
    };
    let is_broadcast =
        matches!(network, IpNet::V4(net) if net.prefix_len() <= 30 && address == IpAddr::V4(net.broadcast()));
    (network.contains(&address) && !is_broadcast).then_some(address)
}

/// An address from the blocks for documentation (RFC 5737, RFC 3849) that is not the clinic's.
fn outside(policy: &Policy, family: IpAddr) -> Option<IpAddr> {
    let examples = [
        IpAddr::from([198, 51, 100, 10]),
        IpAddr::from([192, 0, 2, 10]),
        IpAddr::from([203, 0, 113, 10]),
        IpAddr::from([0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10]),
        IpAddr::from([0x2001, 0xdb8, 0x52, 0, 0, 0, 0, 0x10]),
    ];
    examples
        .into_iter()
        .find(|address| address.is_ipv4() == family.is_ipv4() && path::is_outside(policy, *address))
}

/// What a service text stands for: what a flow may say, and the names of discovery protocols.
pub(super) fn protocols(policy: &Policy, text: &str) -> Result<Vec<Protocol>, WhyError> {
    let mut named = policy.services.clone();
    for (name, protocols) in DISCOVERY {
        named.entry(name.to_owned()).or_insert_with(|| protocols.to_vec());
    }
    Ok(parse_service(text, &named)?)
}
