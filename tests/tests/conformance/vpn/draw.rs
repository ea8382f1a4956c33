//! Packets for the inside of a tunnel: what the peers may send, the same with one thing wrong, the same in others' names,
//! and whatever else a clinic sees.
use std::net::IpAddr;

use policy::eval::{Arrival, Packet};
use policy::model::{Flow, Policy, VPN_INTERFACE, VpnPeer};

use crate::draw::{BOGUS, Draw};
use crate::pool::{own, zone_of};
use crate::probe::Probe;

/// A packet, and the peer in whose tunnel it travels.
pub(crate) struct Tunnelled {
    pub(crate) sender: usize,
    pub(crate) probe: Probe,
}

pub(crate) struct TunnelDraw<'a> {
    draw: Draw<'a>,
    policy: &'a Policy,
    /// The peers that are here.
    senders: Vec<&'a VpnPeer>,
    /// Flows out of the VPN's zone.
    flows: Vec<&'a Flow>,
}

impl<'a> TunnelDraw<'a> {
    pub(crate) fn new(draw: Draw<'a>, senders: Vec<&'a VpnPeer>) -> Self {
        let policy = draw.policy;
        let vpn = policy.vpn.as_ref().expect("a VPN").zone;
        let starts_there = |flow: &&Flow| flow.from.iter().any(|from| zone_of(policy, from) == Some(vpn));
        let flows = policy.flows.iter().filter(starts_there).collect();
        TunnelDraw { draw, policy, senders, flows }
    }

    pub(crate) fn next(&mut self) -> Tunnelled {
        loop {
            let packet = match self.draw.random.below(100) {
                0..=39 => self.meant(),
                40..=64 => self.meant().and_then(|packet| self.draw.spoilt(packet)),
                65..=74 => self.meant().and_then(|packet| self.disguised(packet)),
                75..=84 => self.draw.first_packets(1).pop().map(|probe| probe.packet),
                _ => self.in_a_peers_name(),
            };
            let Some(mut packet) = packet else { continue };
            packet.arrival = Arrival::Interface(VPN_INTERFACE.to_owned());
            let sender = self.sender(&packet);
            // What the comparison leaves out is about packets that pass the tunnel.
            let is_own = self.senders[sender].address.contains(&packet.source);
            if !is_own || self.draw.is_fair(&packet) && self.draw.is_first(&packet) {
                return Tunnelled { sender, probe: self.draw.probe(packet) };
            }
        }
    }

    /// Mostly the one whose address it is.
    fn sender(&mut self, packet: &Packet) -> usize {
        let owner = self.senders.iter().position(|peer| peer.address.contains(&packet.source));
        owner
            .filter(|_| self.draw.random.chance(90))
            .unwrap_or_else(|| self.draw.random.below(self.senders.len()))
    }

    /// What a flow out of the tunnel means; of the peers that are away less often.
    fn meant(&mut self) -> Option<Packet> {
        let flow = *self.draw.random.pick(&self.flows)?;
        let ip6 = self.draw.random.chance(50);
        let from = self.draw.random.pick(&flow.from)?.clone();
        let to = self.draw.random.pick(&flow.to)?.clone();
        let service = *self.draw.random.pick(&flow.services)?;
        let packet = self.draw.between(&from, &to, service, ip6)?;
        let is_here = self.senders.iter().any(|peer| peer.address.contains(&packet.source));
        (is_here || self.draw.random.chance(40)).then_some(packet)
    }

    /// What somebody else in the clinic would send, from a peer's own address.
    fn in_a_peers_name(&mut self) -> Option<Packet> {
        let packet = self.draw.first_packets(1).pop()?.packet;
        let mine = self.senders.iter().flat_map(|peer| peer.address.iter().copied());
        let fitting: Vec<IpAddr> = mine.filter(|own| own.is_ipv6() == packet.source.is_ipv6()).collect();
        Some(Packet { source: *self.draw.random.pick(&fitting)?, ..packet })
    }

    /// The packet in the name of another peer, of a machine or router of any zone, of the gateway, or of nobody.
    fn disguised(&mut self, packet: Packet) -> Option<Packet> {
        let ip6 = packet.source.is_ipv6();
        let peers = self.policy.vpn.iter().flat_map(|vpn| &vpn.peers).flat_map(|peer| peer.address.clone());
        let zones = self.policy.zones().map(|(id, _)| id).collect::<Vec<_>>();
        let zone = *self.draw.random.pick(&zones)?;
        let sources: Vec<IpAddr> = match self.draw.random.below(4) {
            0 => peers.collect(),
            1 => self.draw.pools.of(zone, ip6),
            2 => own(self.policy.zone(zone)),
            _ => BOGUS.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let fitting: Vec<IpAddr> = sources.into_iter().filter(|source| source.is_ipv6() == ip6).collect();
        Some(Packet { source: *self.draw.random.pick(&fitting)?, ..packet })
    }
}
