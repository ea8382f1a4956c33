//! Packets from a seed: what flows allow, the same with one thing wrong, and what the world sends besides.
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use policy::eval::{Arrival, Packet, Path, Transport, Verdict};
use policy::model::{Endpoint, Flow, FlowId, Policy, Protocol, Zone, ZoneId};

use crate::pool::{LINK_LOCAL, Pools, is_group, own, zone_of};
use crate::probe::{Probe, Relation, far_arrival, mirror};
use crate::random::Random;
use crate::trial::{Trial, goes_by_interface};
use crate::wire::Shape;

const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 40_000;
/// Protocols besides TCP, UDP and ICMP. 59 is IPv6's "no next header"; 1 and 58 are the other family's ICMP.
const OTHERS: [u8; 9] = [2, 47, 50, 59, 89, 132, 253, 1, 58];
/// Service discovery and what else talks to everybody: port and groups (mDNS, SSDP, WS-Discovery, LLMNR, NetBIOS).
const DISCOVERY: [(u16, &str); 12] = [
    (5353, "224.0.0.251"),
    (5353, "ff02::fb"),
    (1900, "239.255.255.250"),
    (1900, "ff02::c"),
    (1900, "ff05::c"),
    (3702, "239.255.255.250"),
    (3702, "ff02::c"),
    (5355, "224.0.0.252"),
    (5355, "ff02::1:3"),
    (137, "255.255.255.255"),
    (138, "255.255.255.255"),
    (547, "ff02::1:2"),
];
/// Sources that nobody has.
pub(crate) const BOGUS: [&str; 11] = [
    "127.0.0.1",
    "0.0.0.0",
    "169.254.7.7",
    "224.0.0.5",
    "255.255.255.255",
    "240.0.0.9",
    "::",
    "fe80::77",
    "ff02::5",
    "::ffff:10.0.0.1",
    "::1",
];

/// Draws packets.
pub(crate) struct Draw<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) pools: &'a Pools,
    pub(crate) random: Random,
    serial: u16,
    /// Protocol and both ends of what was drawn: the other direction would be an answer.
    drawn: BTreeSet<(u8, IpAddr, u16, IpAddr, u16)>,
}

impl<'a> Draw<'a> {
    pub(crate) fn new(policy: &'a Policy, pools: &'a Pools, seed: u64) -> Self {
        Draw { policy, pools, random: Random::new(seed), serial: 0, drawn: BTreeSet::new() }
    }

    /// So many first packets.
    pub(crate) fn first_packets(&mut self, count: usize) -> Vec<Probe> {
        let mut probes = Vec::with_capacity(count);
        while probes.len() < count {
            let packet = match self.random.below(100) {
                0..=44 => self.wanted(),
                45..=69 => self.wanted().and_then(|packet| self.spoilt(packet)),
                70..=83 => self.control(),
                84..=86 => self.control().and_then(|packet| self.spoilt(packet)),
                87..=89 => self.discovery(),
                90..=94 => self.gateways_own(),
                _ => self.anything(),
            };
            let fair = packet.filter(|packet| self.is_fair(packet) && self.is_first(packet));
            probes.extend(fair.map(|packet| self.probe(packet)));
        }
        probes
    }

    /// What follows on connections that an earlier packet opened: `among` are the numbers to choose from. When the
    /// clock has changed since, errors come after a packet that shows the kernel what the clock means.
    pub(crate) fn followers(
        &mut self,
        trial: &Trial<'_>,
        among: &[usize],
        count: usize,
        later: bool,
    ) -> Vec<Probe> {
        let openers: Vec<usize> = among.iter().copied().filter(|index| trial.is_open(*index)).collect();
        let mut probes = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(opener) = self.random.pick(&openers).copied() else { break };
            let Some(follower) = self.follower(trial, opener) else { continue };
            if later && matches!(follower.relation, Relation::ErrorBack(_) | Relation::ErrorForth(_)) {
                probes.push(continuation(trial, opener));
            }
            probes.push(follower);
        }
        probes
    }

    /// A number for a port or identifier that no other packet of the last forty thousand has.
    pub(crate) fn unique(&mut self) -> u16 {
        self.serial = (self.serial + 1) % PORTS;
        FIRST_PORT + self.serial
    }

    pub(crate) fn probe(&mut self, packet: Packet) -> Probe {
        let ident = self.unique();
        let shape = match self.random.below(100) {
            0..=5 => Shape::Fragments,
            6..=11 => Shape::Options,
            _ => Shape::Plain,
        };
        let plain = matches!(packet.transport, Transport::Icmp6 { kind, .. } if kind != 128)
            || matches!(packet.arrival, Arrival::Local { .. })
            || matches!(packet.transport, Transport::Other(59));
        Probe { shape: if plain { Shape::Plain } else { shape }, ..Probe::new(packet, ident) }
    }

    /// What a flow means, open or not.
    fn wanted(&mut self) -> Option<Packet> {
        let flow = FlowId(self.random.below(self.policy.flows.len()));
        let ip6 = self.random.chance(50);
        self.of_flow(self.policy.flow(flow), ip6)
    }

    fn of_flow(&mut self, flow: &'a Flow, ip6: bool) -> Option<Packet> {
        let (from, to) = (self.random.pick(&flow.from)?.clone(), self.random.pick(&flow.to)?.clone());
        let service = *self.random.pick(&flow.services)?;
        self.between(&from, &to, service, ip6)
    }

    /// A packet from one end to the other.
    pub(crate) fn between(
        &mut self,
        from: &Endpoint,
        to: &Endpoint,
        service: Protocol,
        ip6: bool,
    ) -> Option<Packet> {
        let sources = self.pools.meant(self.policy, from, to, ip6);
        let destinations = self.pools.meant(self.policy, to, from, ip6);
        let source = *self.random.pick(&sources)?;
        let destination = *self.random.pick(&destinations)?;
        let arrival = match zone_of(self.policy, from) {
            Some(zone) => Arrival::Interface(self.policy.zone(zone).interface.clone()?),
            None => Arrival::Local {
                egress: zone_of(self.policy, to).and_then(|zone| self.policy.zone(zone).interface.clone()),
            },
        };
        let transport = self.transport(service, ip6);
        Some(Packet { arrival, source, destination, transport })
    }

    fn transport(&mut self, service: Protocol, ip6: bool) -> Transport {
        let source_port = self.unique();
        match service {
            Protocol::Tcp(low, high) => {
                Transport::Tcp { source_port, destination_port: self.port(low, high), syn: true }
            }
            Protocol::Udp(low, high) => {
                Transport::Udp { source_port, destination_port: self.port(low, high) }
            }
            Protocol::Echo if ip6 => Transport::Icmp6 { kind: 128, code: 0 },
            Protocol::Echo => Transport::Icmp { kind: 8, code: 0 },
            Protocol::Ip(number) => Transport::Other(number),
        }
    }

    /// A port of a range; its ends come often.
    fn port(&mut self, low: u16, high: u16) -> u16 {
        match self.random.below(3) {
            0 => low,
            1 => high,
            _ => low + self.random.below(usize::from(high - low) + 1) as u16,
        }
    }

    /// The packet with one thing wrong, which may still be right by another flow.
    pub(crate) fn spoilt(&mut self, mut packet: Packet) -> Option<Packet> {
        let ip6 = packet.source.is_ipv6();
        let zone = ZoneId(self.random.below(self.policy.zones.len()));
        let there = self.pools.of(zone, ip6);
        let interface = self.policy.zone(zone).interface.clone()?;
        match self.random.below(15) {
            0 | 11..=14 => packet.transport = self.port_beside(packet.transport),
            1 => packet.destination = *self.random.pick(&there)?,
            2 => packet.source = self.beside(packet.source, ip6)?,
            3 => {
                packet.arrival = Arrival::Interface(interface);
                packet.source = *self.random.pick(&there)?;
            }
            4 => packet.arrival = Arrival::Interface(interface),
            5 => packet.transport = self.other_transport(packet.transport, ip6),
            6 => packet.destination = *self.random.pick(&self.owns(zone, ip6))?,
            7 => packet.source = *self.random.pick(&self.owns(zone, ip6))?,
            8 => packet.destination = self.beside(packet.destination, ip6)?,
            9 => {
                let path = Path::Forward { from: zone, to: zone };
                packet = Packet { arrival: packet.arrival.clone(), ..mirror(self.policy, &packet, path) };
                let place = self
                    .policy
                    .zones()
                    .find(|(_, zone)| zone.networks.iter().any(|net| net.contains(&packet.source)));
                let place = place.or_else(|| self.policy.zones().find(|(_, zone)| zone.is_external()));
                packet.arrival = Arrival::Interface(place?.1.interface.clone()?);
            }
            _ => {
                let bogus: Vec<IpAddr> = BOGUS.iter().map(|text| text.parse().unwrap()).collect();
                let fitting: Vec<IpAddr> =
                    bogus.into_iter().filter(|address| address.is_ipv6() == ip6).collect();
                packet.source = *self.random.pick(&fitting)?;
            }
        }
        Some(packet)
    }

    /// Another address of the zone that an address is in.
    fn beside(&mut self, address: IpAddr, ip6: bool) -> Option<IpAddr> {
        let inside = |id: &ZoneId| self.policy.zone(*id).networks.iter().any(|net| net.contains(&address));
        let mut zones = self.policy.zones().map(|(id, _)| id);
        let zone = zones.find(inside).or_else(|| self.external())?;
        self.random.pick(&self.pools.of(zone, ip6)).copied()
    }

    fn external(&self) -> Option<ZoneId> {
        self.policy.zones().find(|(_, zone)| zone.is_external()).map(|(id, _)| id)
    }

    fn owns(&self, zone: ZoneId, ip6: bool) -> Vec<IpAddr> {
        own(self.policy.zone(zone)).into_iter().filter(|address| address.is_ipv6() == ip6).collect()
    }

    /// One below or above an end of the flow's range, when the port is an end; else one beside the port.
    fn port_beside(&mut self, transport: Transport) -> Transport {
        let up = self.random.chance(50);
        let beside = |port: u16| if up { port.wrapping_add(1) } else { port.wrapping_sub(1) };
        match transport {
            Transport::Tcp { source_port, destination_port, syn } => {
                Transport::Tcp { source_port, destination_port: beside(destination_port), syn }
            }
            Transport::Udp { source_port, destination_port } => {
                Transport::Udp { source_port, destination_port: beside(destination_port) }
            }
            Transport::Icmp { .. } => Transport::Icmp { kind: if up { 13 } else { 0 }, code: 0 },
            Transport::Icmp6 { .. } => Transport::Icmp6 { kind: if up { 139 } else { 129 }, code: 0 },
            Transport::Other(number) => Transport::Other(if number == 50 { 47 } else { 50 }),
        }
    }

    fn other_transport(&mut self, transport: Transport, ip6: bool) -> Transport {
        match transport {
            Transport::Tcp { source_port, destination_port, .. } if self.random.chance(50) => {
                Transport::Tcp { source_port, destination_port, syn: false }
            }
            Transport::Tcp { source_port, destination_port, .. } => {
                Transport::Udp { source_port, destination_port }
            }
            Transport::Udp { source_port, destination_port } => {
                Transport::Tcp { source_port, destination_port, syn: true }
            }
            Transport::Icmp { .. } | Transport::Icmp6 { .. } | Transport::Other(_) => self.any_transport(ip6),
        }
    }

    fn any_transport(&mut self, ip6: bool) -> Transport {
        let source_port = self.unique();
        let ports = [22, 53, 80, 104, 123, 443, 445, 3389, 8000, 9100, 11112];
        let destination_port = self.random.pick(&ports).copied().unwrap_or(443);
        match self.random.below(10) {
            0..=3 => Transport::Tcp { source_port, destination_port, syn: true },
            4..=6 => Transport::Udp { source_port, destination_port },
            7 | 8 if ip6 => Transport::Icmp6 {
                kind: *self.random.pick(&[1, 2, 3, 4, 100, 128, 129, 133, 137, 139, 255]).unwrap(),
                code: 0,
            },
            7 | 8 => Transport::Icmp {
                kind: *self.random.pick(&[0, 3, 4, 5, 8, 9, 11, 12, 13, 17, 42]).unwrap(),
                code: 1,
            },
            _ => {
                let fitting: Vec<u8> =
                    OTHERS.iter().copied().filter(|number| *number != if ip6 { 58 } else { 1 }).collect();
                Transport::Other(*self.random.pick(&fitting).unwrap())
            }
        }
    }

    /// Any address to any other, from anywhere.
    fn anything(&mut self) -> Option<Packet> {
        let ip6 = self.random.chance(50);
        let (from, to) =
            (self.random.below(self.policy.zones.len()), self.random.below(self.policy.zones.len()));
        let source = *self.random.pick(&self.pools.of(ZoneId(from), ip6))?;
        let destination = *self.random.pick(&self.pools.of(ZoneId(to), ip6))?;
        let arrival = Arrival::Interface(self.policy.zone(ZoneId(from)).interface.clone()?);
        Some(Packet { arrival, source, destination, transport: self.any_transport(ip6) })
    }

    /// The gateway speaks: right and wrong sources, right and wrong services.
    fn gateways_own(&mut self) -> Option<Packet> {
        let ip6 = self.random.chance(50);
        let to = ZoneId(self.random.below(self.policy.zones.len()));
        let destination = *self.random.pick(&self.pools.of(to, ip6))?;
        let zone =
            if self.random.chance(80) { to } else { ZoneId(self.random.below(self.policy.zones.len())) };
        let source = *self.random.pick(&self.owns(zone, ip6))?;
        let arrival = Arrival::Local { egress: self.policy.zone(to).interface.clone() };
        Some(Packet { arrival, source, destination, transport: self.any_transport(ip6) })
    }

    /// Multicast and broadcast that is no control traffic.
    fn discovery(&mut self) -> Option<Packet> {
        let (port, group) = *self.random.pick(&DISCOVERY)?;
        let zone = ZoneId(self.random.below(self.policy.zones.len()));
        let mut destination: IpAddr = group.parse().ok()?;
        if destination == IpAddr::V4(Ipv4Addr::BROADCAST) && self.random.chance(50) {
            let mut nets = self.policy.zone(zone).networks.iter().filter(|net| net.addr().is_ipv4());
            destination = nets.next()?.broadcast();
        }
        let ip6 = destination.is_ipv6();
        let interface = self.policy.zone(zone).interface.clone();
        let (source, arrival) = if self.random.chance(70) {
            (*self.random.pick(&self.pools.of(zone, ip6))?, Arrival::Interface(interface?))
        } else {
            (*self.random.pick(&self.owns(zone, ip6))?, Arrival::Local { egress: interface })
        };
        let transport = Transport::Udp { source_port: port, destination_port: port };
        Some(Packet { arrival, source, destination, transport })
    }

    /// DHCP, neighbour and router discovery, MLD and the gateway's own errors, right and nearly right.
    fn control(&mut self) -> Option<Packet> {
        let zone = ZoneId(self.random.below(self.policy.zones.len()));
        let inward = self.random.chance(70);
        match self.random.below(10) {
            0..=3 => self.dhcp(inward),
            4..=7 => self.link(zone, inward),
            _ => self.own_error(zone),
        }
    }

    fn dhcp(&mut self, inward: bool) -> Option<Packet> {
        let serving: Vec<ZoneId> =
            self.policy.zones().filter(|(_, zone)| zone.dhcp.is_some()).map(|(id, _)| id).collect();
        let all: Vec<ZoneId> = self.policy.zones().map(|(id, _)| id).collect();
        let zone = *self.random.pick(if self.random.clone().chance(80) { &serving } else { &all })?;
        let there = *self.random.pick(&self.pools.of(zone, false))?;
        let here = *self.random.pick(&self.owns(zone, false))?;
        let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let interface = self.policy.zone(zone).interface.clone();
        let (arrival, client, server) = (Arrival::Interface(interface.clone()?), 68, 67);
        let (arrival, source, destination, source_port, destination_port) =
            match (inward, self.random.below(4)) {
                (true, 0 | 1) => (arrival, nobody, broadcast, client, server),
                (true, 2) => (arrival, there, here, client, server),
                (true, _) => (arrival, there, broadcast, server, client),
                (false, 0 | 1) => (Arrival::Local { egress: interface }, here, broadcast, server, client),
                (false, 2) => (Arrival::Local { egress: interface }, here, there, server, client),
                (false, _) => (Arrival::Local { egress: interface }, here, broadcast, client, server),
            };
        Some(Packet {
            arrival,
            source,
            destination,
            transport: Transport::Udp { source_port, destination_port },
        })
    }

    fn link(&mut self, zone: ZoneId, inward: bool) -> Option<Packet> {
        let kinds = [130, 131, 132, 133, 134, 135, 135, 136, 136, 143];
        let kind = *self.random.pick(&kinds)?;
        let own = *self.random.pick(&self.owns(zone, true))?;
        let other = ZoneId(self.random.below(self.policy.zones.len()));
        let there = if self.random.chance(80) { zone } else { other };
        let (local, near) = (LINK_LOCAL.parse().ok()?, *self.random.pick(&self.pools.of(there, true))?);
        let groups = ["ff02::1", "ff02::2"].map(|text| text.parse().unwrap());
        let group = groups[self.random.below(2)];
        let interface = self.policy.zone(zone).interface.clone();
        let transport = Transport::Icmp6 { kind, code: 0 };
        let which = self.random.below(3);
        if inward {
            let unspecified = "::".parse().ok()?;
            let source = [local, near, unspecified][self.random.below(3)];
            let destination = [group, own, group][which];
            return Some(Packet { arrival: Arrival::Interface(interface?), source, destination, transport });
        }
        let mine = if there == zone { own } else { *self.random.pick(&self.owns(other, true))? };
        let source = [local, mine][self.random.below(2)];
        let destination = [group, near, local][which];
        Some(Packet { arrival: Arrival::Local { egress: interface }, source, destination, transport })
    }

    fn own_error(&mut self, zone: ZoneId) -> Option<Packet> {
        let ip6 = self.random.chance(50);
        let source = *self.random.pick(&self.owns(zone, ip6))?;
        // The kernel makes these itself, and never to a group (RFC 1122 section 3.2.2).
        let machines = self
            .pools
            .of(zone, ip6)
            .into_iter()
            .filter(|address| !is_group(self.policy.zone(zone), *address));
        let destination = *self.random.pick(&machines.collect::<Vec<_>>())?;
        let arrival = Arrival::Local { egress: self.policy.zone(zone).interface.clone() };
        Some(Packet { arrival, source, destination, transport: self.error(ip6) })
    }

    fn error(&mut self, ip6: bool) -> Transport {
        if ip6 {
            return Transport::Icmp6 { kind: 1 + self.random.below(4) as u8, code: 0 };
        }
        Transport::Icmp { kind: *self.random.pick(&[3, 11, 12]).unwrap(), code: 1 }
    }

    fn follower(&mut self, trial: &Trial<'_>, opener: usize) -> Option<Probe> {
        let record = &trial.records[opener];
        let Verdict::Allow { path, .. } = record.expectation.verdict else { return None };
        let (first, ident) = (&record.probe.packet, record.probe.ident);
        let ip6 = first.source.is_ipv6();
        let follow = |packet, relation| Some(Probe { relation, ..Probe::new(packet, ident) });
        match self.random.below(10) {
            0..=4 => follow(mirror(self.policy, first, path), Relation::Answers(opener)),
            5 | 6 => Some(continuation(trial, opener)),
            7 | 8 if self.random.chance(25) => {
                // From where the connection does not lead.
                let zone = ZoneId(self.random.below(self.policy.zones.len()));
                let arrival = Arrival::Interface(self.policy.zone(zone).interface.clone()?);
                let source = *self.random.pick(&self.pools.of(zone, ip6))?;
                follow(
                    Packet { arrival, source, destination: first.source, transport: self.error(ip6) },
                    Relation::ErrorBack(opener),
                )
            }
            7 | 8 => {
                let arrival = far_arrival(self.policy, path);
                let source = self.beside_or_own(first.destination, &arrival, ip6)?;
                let transport = self.error_or_worse(ip6);
                follow(
                    Packet { arrival, source, destination: first.source, transport },
                    Relation::ErrorBack(opener),
                )
            }
            _ => {
                let source = self.beside_or_own(first.source, &first.arrival, ip6)?;
                let packet = Packet { source, transport: self.error(ip6), ..first.clone() };
                follow(packet, Relation::ErrorForth(opener))
            }
        }
    }

    /// Some router or machine at an end speaks about a connection; the gateway speaks with its own address.
    fn beside_or_own(&mut self, address: IpAddr, arrival: &Arrival, ip6: bool) -> Option<IpAddr> {
        match arrival {
            Arrival::Local { .. } => Some(address),
            Arrival::Interface(_) if self.random.chance(50) => Some(address),
            Arrival::Interface(_) => self.beside(address, ip6),
        }
    }

    /// Mostly an error; sometimes what a connection must not carry: source quench, redirect.
    fn error_or_worse(&mut self, ip6: bool) -> Transport {
        if !ip6 && self.random.chance(20) {
            return Transport::Icmp { kind: 4 + self.random.below(2) as u8, code: 0 };
        }
        self.error(ip6)
    }

    /// Leaves out what the comparison does not cover, each for a reason.
    pub(crate) fn is_fair(&self, packet: &Packet) -> bool {
        let ours = |address: IpAddr| self.policy.zones.iter().flat_map(own).any(|own| own == address);
        let local = matches!(packet.arrival, Arrival::Local { .. });
        let anycast = packet.destination.is_ipv6()
            && self.policy.zones.iter().any(|zone| is_group(zone, packet.destination));
        // The gateway to itself: loopback is outside the model.
        let loopback = local && (ours(packet.destination) || anycast);
        // Without ports, a packet to the line's own address may be an answer to a masqueraded connection.
        let portless = matches!(packet.transport, Transport::Other(_));
        let masked = portless && packet.destination.is_ipv4() && self.owns_line(packet.destination);
        // The kernel fills in a missing source itself, and takes packets without one only when they are for everybody
        // (RFC 1122 section 3.2.1.3).
        let everybody = packet.destination == IpAddr::V4(Ipv4Addr::BROADCAST);
        let nameless = packet.source.is_unspecified() && (local || packet.source.is_ipv4() && !everybody);
        // The kernel hands nothing without an upper layer to anybody (RFC 8200 section 4.7).
        let empty = matches!(packet.transport, Transport::Other(59))
            && packet.source.is_ipv6()
            && ours(packet.destination);
        // The gateway's link-local addresses stand in no policy.
        let unknown = !local && matches!(packet.destination, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !(loopback || masked || nameless || empty || unknown || self.is_forged_control(packet))
    }

    /// The source of the gateway's own control traffic is not looked at by the kernel's rules: to forge it takes
    /// CAP_NET_RAW on the gateway itself.
    fn is_forged_control(&self, packet: &Packet) -> bool {
        let Arrival::Local { egress } = &packet.arrival else { return false };
        let (control, link) = match packet.transport {
            Transport::Icmp { kind, .. } => (matches!(kind, 3 | 11 | 12), false),
            Transport::Icmp6 { kind, .. } => (matches!(kind, 1..=4 | 130..=136 | 143), kind >= 130),
            Transport::Udp { source_port, destination_port } => {
                (matches!((source_port, destination_port), (67, 68) | (68, 67)), false)
            }
            Transport::Tcp { .. } | Transport::Other(_) => (false, false),
        };
        let there = |zone: &&Zone| zone.networks.iter().any(|net| net.contains(&packet.destination));
        let mut zones = self.policy.zones.iter();
        let zone = if goes_by_interface(packet.destination) {
            zones.find(|zone| zone.interface == *egress)
        } else {
            zones.clone().find(there).or_else(|| zones.find(|zone| zone.is_external()))
        };
        // The kernel makes errors itself, and never to a group (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
        if control
            && !link
            && goes_by_interface(packet.destination)
            && !matches!(packet.transport, Transport::Udp { .. })
        {
            return true;
        }
        let link_local = link && matches!(packet.source, IpAddr::V6(v6) if v6.is_unicast_link_local());
        control && !link_local && !zone.is_some_and(|zone| own(zone).contains(&packet.source))
    }

    /// Whether a packet cannot be taken for an answer to an earlier one, or for more of its connection.
    pub(crate) fn is_first(&mut self, packet: &Packet) -> bool {
        let (number, from, to) = match packet.transport {
            Transport::Tcp { source_port, destination_port, .. } => (6, source_port, destination_port),
            Transport::Udp { source_port, destination_port } => (17, source_port, destination_port),
            Transport::Other(number) => (number, 0, 0),
            // Their identifiers are never drawn twice within the life of an entry.
            Transport::Icmp { .. } | Transport::Icmp6 { .. } => return true,
        };
        if self.drawn.contains(&(number, packet.destination, to, packet.source, from)) {
            return false;
        }
        let fresh = self.drawn.insert((number, packet.source, from, packet.destination, to));
        // Ports come round again; only for TCP is a second packet judged otherwise than a first one.
        fresh || number != 6
    }

    fn owns_line(&self, address: IpAddr) -> bool {
        self.policy.zones.iter().filter(|zone| zone.is_external()).flat_map(own).any(|own| own == address)
    }
}

/// One more packet from the end that began.
fn continuation(trial: &Trial<'_>, opener: usize) -> Probe {
    let Probe { packet, ident, .. } = &trial.records[opener].probe;
    let mut packet = packet.clone();
    if let Transport::Tcp { syn, .. } = &mut packet.transport {
        *syn = !trial.is_answered(opener);
    }
    Probe { relation: Relation::Continues(opener), ..Probe::new(packet, *ident) }
}
