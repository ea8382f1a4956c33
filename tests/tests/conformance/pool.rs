//! The addresses that packets are drawn from: finite, so that each can have a neighbour entry; the edges of every
//! network are among them.
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use policy::model::{Endpoint, Policy, Zone, ZoneId};

/// Nobody's in particular.
const STRANGERS: [u16; 2] = [0x77, 0xc8];
const OUTSIDE: [&str; 14] = [
    "203.0.113.1",
    "203.0.113.77",
    "198.51.100.10",
    "198.51.100.77",
    "192.0.2.80",
    "192.168.12.9",
    "10.1.2.3",
    "2001:db8:ffff::1",
    "2001:db8:ffff::77",
    "2001:db8:51::10",
    "2001:db8:77::77",
    "2001:db8:80::80",
    "fd51:7ec5:0:12::9",
    "fd99::1",
];
/// On the line itself, so that they need neighbour entries.
const ON_LINE: [&str; 2] = ["203.0.113.0/24", "2001:db8:ffff::/64"];
/// A link-local address in every zone, as a destination of the gateway's own control traffic.
pub(crate) const LINK_LOCAL: &str = "fe80::5e:1";

pub(crate) struct Pools {
    zones: BTreeMap<ZoneId, Vec<IpAddr>>,
}

impl Pools {
    pub(crate) fn new(policy: &Policy) -> Self {
        let zones = policy.zones().filter(|(_, zone)| zone.interface.is_some());
        Pools { zones: zones.map(|(id, zone)| (id, addresses(policy, id, zone))).collect() }
    }

    /// The addresses of a zone and family that a machine could have, edges included, the gateway's own left out.
    pub(crate) fn of(&self, zone: ZoneId, ip6: bool) -> Vec<IpAddr> {
        let all = self.zones.get(&zone).map(Vec::as_slice).unwrap_or_default();
        all.iter().copied().filter(|address| address.is_ipv6() == ip6).collect()
    }

    /// The addresses of a family that an end of a flow means, met from `other`.
    pub(crate) fn meant(&self, policy: &Policy, end: &Endpoint, other: &Endpoint, ip6: bool) -> Vec<IpAddr> {
        let all = match end {
            Endpoint::Zone(zone) => self.of(*zone, ip6),
            Endpoint::Device(device) => policy.device(*device).addresses.clone(),
            Endpoint::Networks(zone, nets) => {
                let within = |address: &IpAddr| nets.iter().any(|net| net.contains(address));
                self.of(*zone, ip6).into_iter().filter(within).collect()
            }
            Endpoint::Gateway => {
                zone_of(policy, other).map(|zone| own(policy.zone(zone))).unwrap_or_default()
            }
            Endpoint::Domain(_) => Vec::new(),
        };
        all.into_iter().filter(|address| address.is_ipv6() == ip6).collect()
    }

    /// Every address that needs a neighbour entry in the gateway, by zone name.
    pub(crate) fn neighbours<'a>(&self, policy: &'a Policy) -> Vec<(&'a str, IpAddr)> {
        let lines: Vec<IpNet> = ON_LINE.iter().map(|net| net.parse().unwrap()).collect();
        let mut all = Vec::new();
        for (id, addresses) in &self.zones {
            let zone = policy.zone(*id);
            let near =
                |address: &&IpAddr| !zone.is_external() || lines.iter().any(|net| net.contains(*address));
            let link_local = LINK_LOCAL.parse().unwrap();
            let addresses =
                addresses.iter().filter(near).copied().filter(|address| !is_group(zone, *address));
            all.extend(addresses.chain([link_local]).map(|address| (zone.name.as_str(), address)));
        }
        all
    }
}

/// The zone of an end; the gateway has none.
pub(crate) fn zone_of(policy: &Policy, end: &Endpoint) -> Option<ZoneId> {
    match end {
        Endpoint::Zone(zone) | Endpoint::Networks(zone, _) => Some(*zone),
        Endpoint::Device(device) => Some(policy.device(*device).zone),
        Endpoint::Gateway | Endpoint::Domain(_) => None,
    }
}

/// The gateway's addresses in a zone.
pub(crate) fn own(zone: &Zone) -> Vec<IpAddr> {
    zone.gateway.iter().map(IpNet::addr).collect()
}

fn addresses(policy: &Policy, id: ZoneId, zone: &Zone) -> Vec<IpAddr> {
    let devices =
        policy.devices.iter().filter(|device| device.zone == id).flat_map(|device| device.addresses.clone());
    let mut all: Vec<IpAddr> = devices.collect();
    let peers = policy.vpn.iter().filter(|vpn| vpn.zone == id).flat_map(|vpn| &vpn.peers);
    all.extend(peers.flat_map(|peer| &peer.address));
    all.extend(zone.networks.iter().flat_map(of_network));
    if zone.is_external() {
        all.extend(OUTSIDE.iter().map(|text| text.parse::<IpAddr>().unwrap()));
    }
    all.retain(|address| !own(zone).contains(address));
    all.sort();
    all.dedup();
    all
}

/// The first, second, some, the last but one and the last address.
fn of_network(net: &IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            let strangers = STRANGERS.map(|number| first + u32::from(number));
            [first, first + 2, last - 1, last]
                .into_iter()
                .chain(strangers)
                .map(|number| IpAddr::V4(number.into()))
                .collect()
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            let strangers = STRANGERS.map(|number| first + u128::from(number));
            [first, first + 2, last - 1, last]
                .into_iter()
                .chain(strangers)
                .map(|number| IpAddr::V6(number.into()))
                .collect()
        }
    }
}

/// Addresses of a zone that are no single machine's: the directed broadcast, the routers' anycast address.
pub(crate) fn is_group(zone: &Zone, address: IpAddr) -> bool {
    zone.networks.iter().any(|net| match net {
        IpNet::V4(net) => address == IpAddr::V4(net.broadcast()),
        IpNet::V6(net) => address == IpAddr::V6(net.network()),
    })
}
