//! Each flow as cubes, by pair of places: endpoints meet, families stay apart, protocols become the third dimension.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Party, interface};
use crate::model::{Endpoint, FlowId, Policy, Zone};
use crate::ruleset::Family;
use crate::space::{Class, Cube, Span};

/// One cube of one flow, with what decides its precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cube: Cube,
    pub(super) flow: FlowId,
}

impl Entry {
    /// The most specific first: destination, then source, then ports; then the file's order.
    pub(super) fn precedence(&self) -> (u128, u128, u128, FlowId) {
        (self.cube.destination.extent(), self.cube.source.extent(), self.cube.port.extent(), self.flow)
    }
}

/// A place and the addresses of one family that an endpoint means there.
struct End {
    party: Party,
    family: Family,
    span: Span,
}

/// All flows as cubes by pair, each pair's in order of precedence.
pub(super) fn expand(policy: &Policy) -> BTreeMap<(Party, Party), Vec<Entry>> {
    let mut pairs: BTreeMap<(Party, Party), Vec<Entry>> = BTreeMap::new();
    for (id, flow) in policy.flows() {
        for from in &flow.from {
            for to in &flow.to {
                for (pair, cube) in cubes(policy, from, to, &flow.services) {
                    pairs.entry(pair).or_default().push(Entry { cube, flow: id });
                }
            }
        }
    }
    for entries in pairs.values_mut() {
        entries.sort_by_key(Entry::precedence);
        entries.dedup();
    }
    pairs
}

fn cubes(
    policy: &Policy,
    from: &Endpoint,
    to: &Endpoint,
    services: &[crate::model::Protocol],
) -> Vec<((Party, Party), Cube)> {
    let mut out = Vec::new();
    for source in ends(policy, from, to) {
        for destination in ends(policy, to, from).iter().filter(|end| end.family == source.family) {
            for service in services {
                let (class, port) = Class::of(source.family, *service);
                let cube = Cube { class, source: source.span, destination: destination.span, port };
                out.push(((source.party, destination.party), cube));
            }
        }
    }
    out
}

/// What an endpoint means; the gateway's addresses depend on the zone it is met from.
fn ends(policy: &Policy, end: &Endpoint, other: &Endpoint) -> Vec<End> {
    match end {
        Endpoint::Zone(id) => {
            let zone = policy.zone(*id);
            networks(Party::Zone(*id), zone, &zone_networks(zone))
        }
        Endpoint::Networks(id, nets) => networks(Party::Zone(*id), policy.zone(*id), nets),
        Endpoint::Device(id) => {
            let device = policy.device(*id);
            let nets: Vec<IpNet> = device.addresses.iter().map(|address| IpNet::from(*address)).collect();
            networks(Party::Zone(device.zone), policy.zone(device.zone), &nets)
        }
        Endpoint::Gateway => gateway(policy, other),
        // Allows nothing until the names role resolves it: deny is the meaning of "not known".
        Endpoint::Domain(_) => Vec::new(),
    }
}

fn networks(party: Party, zone: &Zone, nets: &[IpNet]) -> Vec<End> {
    if interface(zone).is_none() {
        return Vec::new();
    }
    nets.iter().map(|net| End { party, family: family(net), span: Span::network(net) }).collect()
}

fn zone_networks(zone: &Zone) -> Vec<IpNet> {
    if !zone.is_external() {
        return zone.networks.clone();
    }
    // A line that has no address of a family does not speak it.
    whole_families().into_iter().filter(|whole| !gateway_networks(zone, family(whole)).is_empty()).collect()
}

/// The gateway as seen from `other`'s zone: its addresses there, or the whole family where the line gives them at run
/// time (the input chain has made sure by `fib` that the packet is for an address of that very interface).
fn gateway(policy: &Policy, other: &Endpoint) -> Vec<End> {
    let zone = match other {
        Endpoint::Zone(id) | Endpoint::Networks(id, _) => policy.zone(*id),
        Endpoint::Device(id) => policy.zone(policy.device(*id).zone),
        Endpoint::Gateway | Endpoint::Domain(_) => return Vec::new(),
    };
    let families = [Family::Ip4, Family::Ip6];
    let nets = families.into_iter().flat_map(|family| gateway_networks(zone, family));
    nets.map(|net| End { party: Party::Gateway, family: family(&net), span: Span::network(&net) }).collect()
}

/// The gateway's addresses of one family in a zone, or the whole family where the line gives them at run time.
fn gateway_networks(zone: &Zone, wanted: Family) -> Vec<IpNet> {
    let own = zone.gateway.iter().map(|own| IpNet::from(own.addr()));
    let fixed: Vec<IpNet> = own.filter(|net| family(net) == wanted).collect();
    let at_run_time = zone.wan.as_ref().is_some_and(|wan| match wanted {
        Family::Ip4 => wan.dhcp4,
        Family::Ip6 => wan.accept_ra,
    });
    if fixed.is_empty() && at_run_time {
        return whole_families().into_iter().filter(|whole| family(whole) == wanted).collect();
    }
    fixed
}

pub(super) fn whole_families() -> [IpNet; 2] {
    [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())]
}

pub(super) fn family(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::Ip4,
        IpNet::V6(_) => Family::Ip6,
    }
}
