//! One packet of a box, in words that a person can check.

use std::net::IpAddr;

use super::boxes::{Placed, Side};
use crate::diagnostic::Language;
use crate::model::{Policy, ZoneId};
use crate::space::{Span, Transport, address};

/// Names a packet of the box, one that could really exist where the box holds any.
pub(super) fn example(policy: &Policy, placed: &Placed, language: Language) -> String {
    let (from, to) = placed.pair;
    let ip6 = placed.cube.class.ip6;
    let source = end(policy, from, ip6, placed.cube.source, language);
    let destination = end(policy, to, ip6, placed.cube.destination, language);
    let service = service(placed);
    match language {
        Language::En => format!("{service} from {source} to {destination}"),
        Language::Ja => format!("{source} から {destination} への {service}"),
    }
}

fn service(placed: &Placed) -> String {
    let number = placed.cube.port.low;
    match placed.cube.class.transport {
        Transport::Tcp => format!("tcp/{number}"),
        Transport::Udp => format!("udp/{number}"),
        Transport::Echo => "icmp".to_owned(),
        Transport::Other => format!("proto/{number}"),
    }
}

fn end(policy: &Policy, side: Side, ip6: bool, span: Span, language: Language) -> String {
    let address = pick(policy, side, ip6, span);
    let place = match side {
        Side::Gateway(_) => language.pick("the gateway", "関所").to_owned(),
        Side::Zone(zone) => match owner(policy, zone, address) {
            Some(device) => format!("device:{device}"),
            None => format!("zone:{}", policy.zone(zone).name),
        },
    };
    format!("{address} ({place})")
}

fn owner(policy: &Policy, zone: ZoneId, address: IpAddr) -> Option<&str> {
    let mut devices = policy.devices.iter().filter(|device| device.zone == zone);
    devices.find(|device| device.addresses.contains(&address)).map(|device| device.name.as_str())
}

/// A known device, else a plausible host, else whatever comes first.
fn pick(policy: &Policy, side: Side, ip6: bool, span: Span) -> IpAddr {
    let first = address(ip6, span.low);
    let Side::Zone(zone) = side else { return first };
    let devices = policy
        .devices
        .iter()
        .filter(|device| device.zone == zone)
        .flat_map(|device| &device.addresses)
        .copied();
    let outside = ["198.51.100.10", "2001:db8:51::10"].into_iter().filter_map(|text| text.parse().ok());
    let external = policy.zone(zone).is_external();
    let host = [10, 1].map(|offset| address(ip6, span.low.saturating_add(offset)));
    let candidates = devices.chain(outside.filter(|_| external)).chain(host);
    let holds = |candidate: &IpAddr| candidate.is_ipv6() == ip6 && span.covers(&at(*candidate));
    candidates.filter(holds).find(|candidate| !is_gateway(policy, *candidate)).unwrap_or(first)
}

fn at(address: IpAddr) -> Span {
    let number = match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    Span::new(number, number)
}

fn is_gateway(policy: &Policy, address: IpAddr) -> bool {
    policy.zones.iter().flat_map(|zone| &zone.gateway).any(|own| own.addr() == address)
}
