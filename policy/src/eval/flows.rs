//! Which flow allows a packet on its way, and which one gives it its name.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{Clock, DenyReason, Packet, Path, Refusal, Transport, path};
use crate::model::{Endpoint, Expectation, Flow, FlowId, Policy, Promise, Protocol, Timing, ZoneId};
use crate::time::Liveness;

/// The most specific open flow that matches; the first in the policy where several are equally specific.
pub(super) fn decide(policy: &Policy, path: Path, packet: &Packet, clock: Clock) -> Result<FlowId, Refusal> {
    let question = Question::of(policy, path, packet)?;
    let matching: Vec<(Specificity, FlowId)> =
        policy.flows().filter_map(|(id, flow)| Some((question.specificity(flow)?, id))).collect();
    let open = matching.iter().filter(|(_, id)| is_open(policy, &policy.flow(*id).timing, clock));
    if let Some((_, flow)) = open.min() {
        return Ok(*flow);
    }
    let Some((_, flow)) = matching.iter().min() else {
        let reason = DenyReason::NoFlow;
        return Err(Refusal { reason, path: Some(path), nearest: question.nearest() });
    };
    let reason = why_closed(policy, *flow, clock);
    Err(Refusal { reason, path: Some(path), nearest: Some(*flow) })
}

/// The clinic's promise, if any, that this packet never passes.
pub(super) fn forbidden_by<'a>(policy: &'a Policy, path: Path, packet: &Packet) -> Option<&'a Promise> {
    let question = Question::of(policy, path, packet).ok()?;
    let mut denying = policy.tests.iter().filter(|promise| promise.expect == Expectation::Deny);
    denying.find(|promise| question.is_meant_by(promise))
}

/// In which respects the flow does not match the packet on its way.
pub(super) fn failing(policy: &Policy, path: Path, packet: &Packet, flow: FlowId) -> Vec<Respect> {
    let Ok(question) = Question::of(policy, path, packet) else { return Vec::new() };
    let (from, to, service) = question.distances(policy.flow(flow));
    let respects = [(from, Respect::Source), (to, Respect::Destination), (service, Respect::Service)];
    respects.into_iter().filter(|(distance, _)| *distance > 0).map(|(_, respect)| respect).collect()
}

fn is_open(policy: &Policy, timing: &Timing, clock: Clock) -> bool {
    timing.is_permanent()
        || (clock.trusted && timing.open_until(&policy.clinic.timezone, clock.now) != Liveness::Closed)
}

fn why_closed(policy: &Policy, flow: FlowId, clock: Clock) -> DenyReason {
    if !clock.trusted {
        return DenyReason::TimeUntrusted { flow };
    }
    let Timing { until, schedule } = &policy.flow(flow).timing;
    let opens = schedule
        .as_ref()
        .and_then(|schedule| schedule.next_open(&policy.clinic.timezone, clock.now))
        .filter(|opens| until.is_none_or(|until| *opens < until));
    DenyReason::Closed { flow, opens }
}

/// What of a flow a packet fails to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Respect {
    /// Its sources.
    Source,
    /// Its destinations.
    Destination,
    /// Its services.
    Service,
}

/// Smaller is more specific: host bits of the destination's network, then of the source's, then the number of ports.
type Specificity = (u8, u8, u32);

/// How far something is from matching: 0 matches.
type Distance = u8;

/// What a first packet asks of the flows.
struct Question<'a> {
    policy: &'a Policy,
    from: End,
    to: End,
    service: Service,
}

struct End {
    place: Place,
    address: IpAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Zone(ZoneId),
    /// The gateway, towards this zone.
    Gateway(ZoneId),
}

#[derive(Clone, Copy)]
enum Service {
    Tcp(u16),
    Udp(u16),
    Echo,
    Ip(u8),
}

impl<'a> Question<'a> {
    fn of(policy: &'a Policy, path: Path, packet: &Packet) -> Result<Self, Refusal> {
        let refuse = |reason| Refusal { reason, path: Some(path), nearest: None };
        let service = match packet.transport {
            Transport::Tcp { syn: false, .. } => return Err(refuse(DenyReason::NotASyn)),
            Transport::Tcp { destination_port, syn: true, .. } => Service::Tcp(destination_port),
            Transport::Udp { destination_port, .. } => Service::Udp(destination_port),
            Transport::Icmp { kind: 8, .. } | Transport::Icmp6 { kind: 128, .. } => Service::Echo,
            Transport::Icmp { .. } | Transport::Icmp6 { .. } => return Err(refuse(DenyReason::IcmpAlone)),
            Transport::Other(number) => Service::Ip(number),
        };
        let (from, to) = match path {
            Path::Forward { from, to } => (Place::Zone(from), Place::Zone(to)),
            Path::Input { from } => (Place::Zone(from), Place::Gateway(from)),
            Path::Output { to } => (Place::Gateway(to), Place::Zone(to)),
        };
        let from = End { place: from, address: packet.source };
        let to = End { place: to, address: packet.destination };
        Ok(Question { policy, from, to, service })
    }

    /// The flow's most specific match, or `None` when it does not match.
    fn specificity(&self, flow: &Flow) -> Option<Specificity> {
        let to = flow.to.iter().filter_map(|end| self.to.host_bits(self.policy, end)).min()?;
        let from = flow.from.iter().filter_map(|end| self.from.host_bits(self.policy, end)).min()?;
        let ports = flow.services.iter().filter_map(|protocol| self.service.ports(*protocol)).min()?;
        Some((to, from, ports))
    }

    fn is_meant_by(&self, promise: &Promise) -> bool {
        let meets = |end: &End, ends: &[Endpoint]| {
            ends.iter().any(|other| end.host_bits(self.policy, other).is_some())
        };
        let service =
            |services: &[Protocol]| services.iter().any(|protocol| self.service.ports(*protocol).is_some());
        meets(&self.from, &promise.from)
            && meets(&self.to, &promise.to)
            && promise.services.as_deref().is_none_or(service)
    }

    /// How far source, destination and service are from matching the flow.
    fn distances(&self, flow: &Flow) -> (Distance, Distance, Distance) {
        let from = flow.from.iter().map(|end| self.from.distance(self.policy, end)).min();
        let to = flow.to.iter().map(|end| self.to.distance(self.policy, end)).min();
        let service = flow.services.iter().map(|protocol| self.service.distance(*protocol)).min();
        (from.unwrap_or(FAR), to.unwrap_or(FAR), service.unwrap_or(FAR))
    }

    /// The flow that fails in the fewest respects, if any has something in common with the packet.
    fn nearest(&self) -> Option<FlowId> {
        let closest = |flow: &Flow| -> Option<(Distance, Distance)> {
            let (from, to, service) = self.distances(flow);
            let failing = u8::from(from > 0) + u8::from(to > 0) + u8::from(service > 0);
            // Another pair of zones is another subject altogether, unless everything else is right.
            let related = from < FAR && to < FAR || failing == 1;
            related.then_some((failing, from + to + service))
        };
        self.policy.flows().filter_map(|(id, flow)| Some((closest(flow)?, id))).min().map(|(_, id)| id)
    }
}

/// The distance of things that have nothing in common.
const FAR: Distance = 2;

impl End {
    /// Host bits of the smallest network of the endpoint that holds the address.
    fn host_bits(&self, policy: &Policy, endpoint: &Endpoint) -> Option<u8> {
        match (endpoint, self.place) {
            (Endpoint::Zone(zone), Place::Zone(here)) if *zone == here => {
                if policy.zone(here).is_external() {
                    return Some(family_bits(self.address));
                }
                path::network_of(policy.zone(here), self.address).map(host_bits)
            }
            (Endpoint::Device(device), Place::Zone(here)) => {
                let device = policy.device(*device);
                (device.zone == here && device.addresses.contains(&self.address)).then_some(0)
            }
            (Endpoint::Networks(zone, networks), Place::Zone(here)) if *zone == here => {
                networks.iter().filter(|net| net.contains(&self.address)).map(|net| host_bits(*net)).min()
            }
            (Endpoint::Gateway, Place::Gateway(zone)) => {
                let unknown = path::has_unknown_address(policy.zone(zone), self.address);
                Some(if unknown { family_bits(self.address) } else { 0 })
            }
            (Endpoint::Zone(_) | Endpoint::Networks(..), Place::Zone(_))
            | (Endpoint::Zone(_) | Endpoint::Device(_) | Endpoint::Networks(..), Place::Gateway(_))
            | (Endpoint::Gateway, Place::Zone(_))
            // A name stands for no address until something resolves it and answers for it.
            | (Endpoint::Domain(_), _) => None,
        }
    }

    fn distance(&self, policy: &Policy, endpoint: &Endpoint) -> Distance {
        if self.host_bits(policy, endpoint).is_some() {
            return 0;
        }
        let zone = match endpoint {
            Endpoint::Zone(zone) | Endpoint::Networks(zone, _) => *zone,
            Endpoint::Device(device) => policy.device(*device).zone,
            Endpoint::Gateway | Endpoint::Domain(_) => return FAR,
        };
        if self.place == Place::Zone(zone) { 1 } else { FAR }
    }
}

impl Service {
    /// The number of ports of the range that holds this one's.
    fn ports(self, protocol: Protocol) -> Option<u32> {
        match (protocol, self) {
            (Protocol::Tcp(low, high), Service::Tcp(port))
            | (Protocol::Udp(low, high), Service::Udp(port)) => {
                (low..=high).contains(&port).then(|| u32::from(high) - u32::from(low) + 1)
            }
            (Protocol::Echo, Service::Echo) => Some(1),
            (Protocol::Ip(number), Service::Ip(asked)) => (number == asked).then_some(1),
            (Protocol::Tcp(..) | Protocol::Udp(..) | Protocol::Echo | Protocol::Ip(_), _) => None,
        }
    }

    fn distance(self, protocol: Protocol) -> Distance {
        let same_kind = matches!(
            (protocol, self),
            (Protocol::Tcp(..), Service::Tcp(_))
                | (Protocol::Udp(..), Service::Udp(_))
                | (Protocol::Ip(_), Service::Ip(_))
        );
        match self.ports(protocol) {
            Some(_) => 0,
            None if same_kind => 1,
            None => FAR,
        }
    }
}

fn host_bits(network: IpNet) -> u8 {
    network.max_prefix_len() - network.prefix_len()
}

fn family_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
