//! Flows and promises as boxes of packets, by the pair of places they lie between.

use std::collections::BTreeMap;
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use crate::model::{Endpoint, FlowId, Policy, Protocol, ZoneId};
use crate::ruleset::Family;
use crate::space::{Class, Cube, Index, Span, Transport};

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// A zone with an interface.
    Zone(ZoneId),
    /// The gateway, as met from this zone.
    Gateway(ZoneId),
}

/// Where from and where to.
pub(super) type Pair = (Side, Side);

/// A box of packets between two places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) pair: Pair,
    pub(super) cube: Cube,
}

/// Kinds of packets: what the third dimension means, and its range.
pub(super) type Kinds = Vec<(Transport, Span)>;

/// Every box of every flow that has not ended.
#[derive(Debug)]
pub(super) struct Map {
    boxes: Vec<(Placed, FlowId)>,
    /// Each flow's part of `boxes`.
    by_flow: BTreeMap<FlowId, Range<usize>>,
    pairs: BTreeMap<Pair, Layer>,
}

#[derive(Debug)]
struct Layer {
    /// Positions in [`Map::boxes`].
    positions: Vec<usize>,
    index: Index,
}

impl Map {
    pub(super) fn new(policy: &Policy, now: Timestamp) -> Self {
        let mut boxes: Vec<(Placed, FlowId)> = Vec::new();
        let mut by_flow = BTreeMap::new();
        for (id, flow) in policy.flows() {
            if flow.timing.until.is_some_and(|until| until <= now) {
                continue;
            }
            let start = boxes.len();
            let placed = expand(policy, &flow.from, &flow.to, &kinds_of(&flow.services));
            boxes.extend(placed.into_iter().map(|placed| (placed, id)));
            by_flow.insert(id, start..boxes.len());
        }
        let pairs = layers(&boxes);
        Map { boxes, by_flow, pairs }
    }

    /// Boxes of a flow; none when it has ended or no packet can match it.
    pub(super) fn of_flow(&self, flow: FlowId) -> impl Iterator<Item = &Placed> {
        let range = self.by_flow.get(&flow).cloned().unwrap_or(0..0);
        self.boxes.get(range).unwrap_or_default().iter().map(|(placed, _)| placed)
    }

    /// Flows whose boxes share packets with this one, with the box, in the policy's order.
    pub(super) fn meeting(&self, asked: &Placed) -> Vec<(FlowId, Cube)> {
        let Some(layer) = self.pairs.get(&asked.pair) else { return Vec::new() };
        let positions = layer.index.meeting(&asked.cube);
        let boxes = positions.iter().filter_map(|at| self.boxes.get(*layer.positions.get(*at)?));
        boxes.map(|(placed, flow)| (*flow, placed.cube)).collect()
    }

    /// All boxes with their flows, in the policy's order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Placed, FlowId)> {
        self.boxes.iter().map(|(placed, flow)| (placed, *flow))
    }
}

fn layers(boxes: &[(Placed, FlowId)]) -> BTreeMap<Pair, Layer> {
    let mut grouped: BTreeMap<Pair, (Vec<usize>, Vec<Cube>)> = BTreeMap::new();
    for (position, (placed, _)) in boxes.iter().enumerate() {
        let (positions, cubes) = grouped.entry(placed.pair).or_default();
        positions.push(position);
        cubes.push(placed.cube);
    }
    let layer = |(pair, (positions, cubes)): (Pair, (Vec<usize>, Vec<Cube>))| {
        (pair, Layer { positions, index: Index::new(&cubes) })
    };
    grouped.into_iter().map(layer).collect()
}

/// What protocols mean in the packet space.
pub(super) fn kinds_of(protocols: &[Protocol]) -> Kinds {
    let kind = |protocol: &Protocol| {
        // Both families give the same transport and range.
        let (class, span) = Class::of(Family::Ip4, *protocol);
        (class.transport, span)
    };
    protocols.iter().map(kind).collect()
}

/// Every packet: all ports, echo, and every protocol that is not ICMP, TCP, UDP or ICMPv6 by another name.
pub(super) fn all_kinds() -> Kinds {
    let ports = Span::new(0, u128::from(u16::MAX));
    let others = [(0, 0), (2, 5), (7, 16), (18, 57), (59, 255)];
    let named = [(Transport::Tcp, ports), (Transport::Udp, ports), (Transport::Echo, Span::new(0, 0))];
    named.into_iter().chain(others.map(|(low, high)| (Transport::Other, Span::new(low, high)))).collect()
}

/// Every source meets every destination of its family, by every kind.
pub(super) fn expand(policy: &Policy, from: &[Endpoint], to: &[Endpoint], kinds: &Kinds) -> Vec<Placed> {
    let mut out = Vec::new();
    for (source, destination) in from.iter().flat_map(|source| to.iter().map(move |end| (source, end))) {
        let targets = ends(policy, destination, source);
        for (from, from_net) in ends(policy, source, destination) {
            for (to, to_net) in targets.iter().filter(|(_, net)| is_ip6(net) == is_ip6(&from_net)) {
                out.extend(kinds.iter().map(|(transport, port)| Placed {
                    pair: (from, *to),
                    cube: Cube {
                        class: Class { ip6: is_ip6(&from_net), transport: *transport },
                        destination: Span::network(to_net),
                        source: Span::network(&from_net),
                        port: *port,
                    },
                }));
            }
        }
    }
    out
}

/// What an endpoint means when it meets `other`.
fn ends(policy: &Policy, end: &Endpoint, other: &Endpoint) -> Vec<(Side, IpNet)> {
    let (side, networks) = match end {
        Endpoint::Zone(id) if policy.zone(*id).is_external() => (Side::Zone(*id), whole_families().to_vec()),
        Endpoint::Zone(id) => (Side::Zone(*id), policy.zone(*id).networks.clone()),
        Endpoint::Networks(id, networks) => (Side::Zone(*id), networks.clone()),
        Endpoint::Device(id) => {
            let device = policy.device(*id);
            (Side::Zone(device.zone), device.addresses.iter().map(|address| IpNet::from(*address)).collect())
        }
        Endpoint::Gateway => {
            let Some(zone) = zone_of(policy, other) else { return Vec::new() };
            (Side::Gateway(zone), gateway_networks(policy, zone))
        }
        // A name stands for no address until something resolves it and answers for it.
        Endpoint::Domain(_) => return Vec::new(),
    };
    let (Side::Zone(zone) | Side::Gateway(zone)) = side;
    if policy.zone(zone).interface.is_none() {
        return Vec::new();
    }
    networks.into_iter().map(|network| (side, network)).collect()
}

fn zone_of(policy: &Policy, end: &Endpoint) -> Option<ZoneId> {
    match end {
        Endpoint::Zone(id) | Endpoint::Networks(id, _) => Some(*id),
        Endpoint::Device(id) => Some(policy.device(*id).zone),
        Endpoint::Gateway | Endpoint::Domain(_) => None,
    }
}

/// The gateway's addresses in a zone; on a line that gives them at run time, any.
fn gateway_networks(policy: &Policy, zone: ZoneId) -> Vec<IpNet> {
    let zone = policy.zone(zone);
    let mut networks: Vec<IpNet> = zone.gateway.iter().map(|own| IpNet::from(own.addr())).collect();
    let dynamic = zone.wan.as_ref().map_or([false, false], |wan| [wan.dhcp4, wan.accept_ra]);
    for (whole, dynamic) in whole_families().into_iter().zip(dynamic) {
        if dynamic && !networks.iter().any(|net| is_ip6(net) == is_ip6(&whole)) {
            networks.push(whole);
        }
    }
    networks
}

fn whole_families() -> [IpNet; 2] {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

fn is_ip6(network: &IpNet) -> bool {
    network.addr().is_ipv6()
}
