//! Packet space as cubes: source range, destination range, port range within one class (family and protocol).
//! Exact, ordered, and the ground of disjoint keys, promises, shadowing and the mark ledger's "narrower than before".

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rstar::{AABB, RTree, RTreeObject};
use serde::{Deserialize, Serialize};

use crate::model::Protocol;
use crate::ruleset::Family;

/// An inclusive range of numbers: addresses, ports or protocol numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Lowest.
    pub low: u128,
    /// Highest.
    pub high: u128,
}

/// The part of the space in which cubes can meet: one family and one kind of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Class {
    /// IPv6, else IPv4.
    pub ip6: bool,
    /// Kind of transport.
    pub transport: Transport,
}

/// Kinds of transport, by what the third dimension means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP: destination port.
    Tcp,
    /// UDP: destination port.
    Udp,
    /// ICMP echo: always 0.
    Echo,
    /// Other protocols: the protocol number.
    Other,
}

/// A box of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cube {
    /// Family and transport.
    pub class: Class,
    /// Destination addresses.
    pub destination: Span,
    /// Source addresses.
    pub source: Span,
    /// Destination ports, or protocol numbers.
    pub port: Span,
}

impl Span {
    /// The range `low..=high`; the caller gives them in order.
    #[must_use]
    pub fn new(low: u128, high: u128) -> Self {
        debug_assert!(low <= high, "a span runs upwards");
        Span { low, high }
    }

    /// The addresses of a network.
    #[must_use]
    pub fn network(network: &IpNet) -> Self {
        match network {
            IpNet::V4(net) => {
                Span::new(u128::from(u32::from(net.network())), u128::from(u32::from(net.broadcast())))
            }
            IpNet::V6(net) => Span::new(u128::from(net.network()), u128::from(net.broadcast())),
        }
    }

    /// Number of values less one, which fits where the number itself may not.
    #[must_use]
    pub fn extent(&self) -> u128 {
        self.high - self.low
    }

    /// Whether the two share a value.
    #[must_use]
    pub fn meets(&self, other: &Span) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    /// Whether every value of `other` is in this one.
    #[must_use]
    pub fn covers(&self, other: &Span) -> bool {
        self.low <= other.low && other.high <= self.high
    }

    fn common(&self, other: &Span) -> Span {
        Span::new(self.low.max(other.low), self.high.min(other.high))
    }

    /// What lies below and above `other`, which meets this span.
    fn outside(&self, other: &Span) -> [Option<Span>; 2] {
        let below = (self.low < other.low).then(|| Span::new(self.low, other.low - 1));
        let above = (other.high < self.high).then(|| Span::new(other.high + 1, self.high));
        [below, above]
    }
}

impl Class {
    /// The class and third-dimension range of a protocol in a family.
    #[must_use]
    pub fn of(family: Family, protocol: Protocol) -> (Class, Span) {
        let (transport, low, high) = match protocol {
            Protocol::Tcp(low, high) => (Transport::Tcp, low, high),
            Protocol::Udp(low, high) => (Transport::Udp, low, high),
            Protocol::Echo => (Transport::Echo, 0, 0),
            Protocol::Ip(number) => (Transport::Other, u16::from(number), u16::from(number)),
        };
        (Class { ip6: family == Family::Ip6, transport }, Span::new(u128::from(low), u128::from(high)))
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        if self.ip6 { Family::Ip6 } else { Family::Ip4 }
    }
}

impl Cube {
    /// Whether the two share a packet.
    #[must_use]
    pub fn meets(&self, other: &Cube) -> bool {
        self.class == other.class
            && self.source.meets(&other.source)
            && self.destination.meets(&other.destination)
            && self.port.meets(&other.port)
    }

    /// The packets that both hold.
    #[must_use]
    pub fn common(&self, other: &Cube) -> Option<Cube> {
        self.meets(other).then(|| Cube {
            class: self.class,
            source: self.source.common(&other.source),
            destination: self.destination.common(&other.destination),
            port: self.port.common(&other.port),
        })
    }

    /// This cube without `other`, as at most six disjoint cubes appended to `out`.
    pub fn subtract(&self, other: &Cube, out: &mut Vec<Cube>) {
        if !self.meets(other) {
            out.push(*self);
            return;
        }
        let mut rest = *self;
        out.extend(
            rest.destination
                .outside(&other.destination)
                .into_iter()
                .flatten()
                .map(|destination| Cube { destination, ..rest }),
        );
        rest.destination = rest.destination.common(&other.destination);
        out.extend(
            rest.source.outside(&other.source).into_iter().flatten().map(|source| Cube { source, ..rest }),
        );
        rest.source = rest.source.common(&other.source);
        out.extend(rest.port.outside(&other.port).into_iter().flatten().map(|port| Cube { port, ..rest }));
    }

    /// This cube without all of `others`, or `None` when that takes more than `limit` pieces.
    ///
    /// Divide and conquer: the space outside a middle one falls apart into pieces that few of the others meet, so a
    /// wide cube under many small ones costs about n log n instead of n times the number of pieces.
    #[must_use]
    pub fn without<'a>(&self, others: impl IntoIterator<Item = &'a Cube>, limit: usize) -> Option<Vec<Cube>> {
        let mut done = Vec::new();
        let mut open: Vec<(Cube, Vec<&Cube>)> = vec![(*self, others.into_iter().collect())];
        while let Some((piece, mut others)) = open.pop() {
            others.retain(|other| piece.meets(other));
            let Some(pivot) = others.get(others.len() / 2).copied() else {
                done.push(piece);
                if done.len() > limit {
                    return None;
                }
                continue;
            };
            let mut outside = Vec::with_capacity(6);
            piece.subtract(pivot, &mut outside);
            open.extend(outside.into_iter().map(|rest| (rest, others.clone())));
        }
        Some(done)
    }

    /// One packet of the cube: source, destination and port (or protocol number).
    #[must_use]
    pub fn sample(&self) -> (IpAddr, IpAddr, u16) {
        let port = u16::try_from(self.port.low).unwrap_or(u16::MAX);
        (address(self.class.ip6, self.source.low), address(self.class.ip6, self.destination.low), port)
    }
}

/// The address with this number.
#[must_use]
pub fn address(ip6: bool, number: u128) -> IpAddr {
    if ip6 {
        IpAddr::V6(Ipv6Addr::from(number))
    } else {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
    }
}

/// Answers which of many cubes meet a given one. Addresses are replaced by their ranks, so that both families fit.
#[derive(Debug)]
pub struct Index {
    classes: BTreeMap<Class, ClassIndex>,
}

#[derive(Debug)]
struct ClassIndex {
    sources: Vec<u128>,
    destinations: Vec<u128>,
    tree: RTree<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    low: [i64; 3],
    high: [i64; 3],
    id: usize,
}

impl RTreeObject for Leaf {
    type Envelope = AABB<[i64; 3]>;
    fn envelope(&self) -> Self::Envelope {
        AABB::from_corners(self.low, self.high)
    }
}

impl Index {
    /// An index over cubes; answers name them by position.
    #[must_use]
    pub fn new(cubes: &[Cube]) -> Self {
        let mut grouped: BTreeMap<Class, Vec<(usize, &Cube)>> = BTreeMap::new();
        for (id, cube) in cubes.iter().enumerate() {
            grouped.entry(cube.class).or_default().push((id, cube));
        }
        Index {
            classes: grouped.into_iter().map(|(class, members)| (class, ClassIndex::new(&members))).collect(),
        }
    }

    /// Positions of the cubes that meet `cube`, ascending.
    #[must_use]
    pub fn meeting(&self, cube: &Cube) -> Vec<usize> {
        let Some(class) = self.classes.get(&cube.class) else { return Vec::new() };
        let (low, high) = class.corners(cube);
        let mut found: Vec<usize> = class
            .tree
            .locate_in_envelope_intersecting(AABB::from_corners(low, high))
            .map(|leaf| leaf.id)
            .collect();
        found.sort_unstable();
        found
    }
}

impl ClassIndex {
    fn new(members: &[(usize, &Cube)]) -> Self {
        let sources = ranks(members.iter().map(|(_, cube)| cube.source));
        let destinations = ranks(members.iter().map(|(_, cube)| cube.destination));
        let mut index = ClassIndex { sources, destinations, tree: RTree::new() };
        let leaves = members.iter().map(|(id, cube)| {
            let (low, high) = index.corners(cube);
            Leaf { low, high, id: *id }
        });
        index.tree = RTree::bulk_load(leaves.collect());
        index
    }

    /// Corners in rank space. Ranks are doubled so that a value between two known ones has a place of its own, and
    /// the answer stays exact for cubes that are not in the index.
    fn corners(&self, cube: &Cube) -> ([i64; 3], [i64; 3]) {
        let port = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
        (
            [
                rank(&self.sources, cube.source.low),
                rank(&self.destinations, cube.destination.low),
                port(cube.port.low),
            ],
            [
                rank(&self.sources, cube.source.high),
                rank(&self.destinations, cube.destination.high),
                port(cube.port.high),
            ],
        )
    }
}

fn ranks(spans: impl Iterator<Item = Span>) -> Vec<u128> {
    let mut values: Vec<u128> = spans.flat_map(|span| [span.low, span.high]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn rank(values: &[u128], value: u128) -> i64 {
    let doubled = match values.binary_search(&value) {
        Ok(position) => position * 2 + 1,
        Err(position) => position * 2,
    };
    i64::try_from(doubled).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cube() -> impl Strategy<Value = Cube> {
        let span = || (0u128..12, 0u128..6).prop_map(|(low, more)| Span::new(low, low + more));
        (span(), span(), span(), any::<bool>()).prop_map(|(source, destination, port, ip6)| Cube {
            class: Class { ip6, transport: Transport::Tcp },
            source,
            destination,
            port,
        })
    }

    fn holds(cube: &Cube, ip6: bool, point: (u128, u128, u128)) -> bool {
        let at = |value| Span::new(value, value);
        cube.class.ip6 == ip6
            && cube.source.covers(&at(point.0))
            && cube.destination.covers(&at(point.1))
            && cube.port.covers(&at(point.2))
    }

    proptest! {
        #[test]
        fn subtraction_is_pointwise_and_disjoint(a in cube(), others in prop::collection::vec(cube(), 0..6)) {
            let pieces = a.without(&others, usize::MAX).unwrap();
            for x in 0..18 { for y in 0..18 { for z in 0..18 {
                let count = pieces.iter().filter(|piece| holds(piece, a.class.ip6, (x, y, z))).count();
                let want = holds(&a, a.class.ip6, (x, y, z))
                    && !others.iter().any(|other| holds(other, a.class.ip6, (x, y, z)));
                prop_assert_eq!(count, usize::from(want));
            }}}
        }

        #[test]
        fn index_agrees_with_a_scan(cubes in prop::collection::vec(cube(), 0..30), asked in cube()) {
            let scan: Vec<usize> = (0..cubes.len()).filter(|&id| cubes[id].meets(&asked)).collect();
            prop_assert_eq!(Index::new(&cubes).meeting(&asked), scan);
        }
    }

    #[test]
    fn whole_families_do_not_overflow() {
        let all = Span::new(0, u128::MAX);
        let class = Class { ip6: true, transport: Transport::Other };
        let everything = Cube { class, source: all, destination: all, port: Span::new(0, 255) };
        let one = Cube { source: Span::new(7, 7), ..everything };
        assert_eq!(everything.without([&one], 10).map(|pieces| pieces.len()), Some(2));
        assert_eq!(Index::new(&[one]).meeting(&everything), vec![0]);
    }
}
