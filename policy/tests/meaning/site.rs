//! A small clinic built by hand, so that the meaning is tested without the language in between.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::eval::{Arrival, Clock, Context, Packet, Path, Transport, Verdict, evaluate};
use policy::model::{
    Clinic, Device, DeviceId, DhcpPool, Endpoint, Evidence, Flow, Place, Policy, Protocol, Source, Timing,
    Wan, Zone, ZoneId, ZoneKind,
};
use policy::time::Schedule;

pub(crate) const WAN: ZoneId = ZoneId(0);
pub(crate) const EHR: ZoneId = ZoneId(1);
pub(crate) const MODALITY: ZoneId = ZoneId(2);
pub(crate) const GUEST: ZoneId = ZoneId(3);
pub(crate) const MANAGEMENT: ZoneId = ZoneId(4);
pub(crate) const EHR_SERVER: DeviceId = DeviceId(0);
pub(crate) const CT: DeviceId = DeviceId(1);

/// Dual-stack ehr and modality, IPv4-only guest with DHCP, management, and a static line.
pub(crate) fn clinic(flows: Vec<Flow>) -> Policy {
    let mut guest = zone("guest", ZoneKind::Guest, "lan-guest", &["192.168.90.0/24"], &["192.168.90.1/24"]);
    guest.dhcp = Some(DhcpPool {
        first: "192.168.90.100".parse().unwrap(),
        last: "192.168.90.199".parse().unwrap(),
        lease_s: 3600,
    });
    let mut ehr = dual("ehr", ZoneKind::Clinical, "lan-ehr", 10);
    ehr.router_advertisement = true;
    let mut wan = zone("wan", ZoneKind::External, "eth0", &[], &["203.0.113.2/24", "2001:db8:ffff::2/64"]);
    wan.wan = Some(Wan {
        dhcp4: false,
        accept_ra: false,
        routers: vec!["203.0.113.1".parse().unwrap()],
        masquerade4: true,
        masquerade6: false,
        resolvers: vec!["192.0.2.53".parse().unwrap()],
        time_servers: vec!["192.0.2.123".parse().unwrap()],
    });
    let modality = dual("modality", ZoneKind::MedicalDevice, "lan-mod", 20);
    let management = dual("management", ZoneKind::Management, "lan-mgmt", 99);
    Policy {
        sources: vec![Source { name: "clinic.toml".to_owned(), sha256: String::new() }],
        clinic: Clinic {
            name: "さくら内科クリニック".to_owned(),
            site: "sakura-01".to_owned(),
            timezone: TimeZone::get("Asia/Tokyo").unwrap(),
            guideline: "6.0".to_owned(),
        },
        responsible: Vec::new(),
        persons: BTreeMap::new(),
        zones: vec![wan, ehr, modality, guest, management],
        devices: vec![
            device("ehr-server", EHR, &["192.168.10.10", "fd51:7ec5:0:10::10"]),
            device("ct", MODALITY, &["192.168.20.21", "fd51:7ec5:0:20::21"]),
        ],
        services: BTreeMap::from([(
            "dicom".to_owned(),
            vec![Protocol::Tcp(104, 104), Protocol::Tcp(11112, 11112)],
        )]),
        flows,
        tests: Vec::new(),
        exceptions: Vec::new(),
        vpn: None,
        vendors: BTreeMap::new(),
        maintenance: None,
        evidence: Evidence::default(),
        metrics: None,
    }
}

/// The same clinic on a line that gives its addresses at run time.
pub(crate) fn clinic_on_dhcp(flows: Vec<Flow>) -> Policy {
    let mut policy = clinic(flows);
    let wan = &mut policy.zones[0];
    wan.gateway.clear();
    let line = wan.wan.as_mut().unwrap();
    (line.dhcp4, line.accept_ra) = (true, true);
    policy
}

fn dual(name: &str, kind: ZoneKind, interface: &str, number: u8) -> Zone {
    let networks = [format!("192.168.{number}.0/24"), format!("fd51:7ec5:0:{number}::/64")];
    let gateway = [format!("192.168.{number}.1/24"), format!("fd51:7ec5:0:{number}::1/64")];
    zone(
        name,
        kind,
        interface,
        &networks.each_ref().map(String::as_str),
        &gateway.each_ref().map(String::as_str),
    )
}

pub(crate) fn zone(name: &str, kind: ZoneKind, interface: &str, networks: &[&str], gateway: &[&str]) -> Zone {
    Zone {
        name: name.to_owned(),
        slug: name.to_owned(),
        kind,
        interface: Some(interface.to_owned()),
        networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        gateway: gateway.iter().map(|net| net.parse().unwrap()).collect(),
        isolate: false,
        dhcp: None,
        router_advertisement: false,
        dns: false,
        ntp: false,
        wan: None,
        place: Place::default(),
    }
}

pub(crate) fn device(name: &str, zone: ZoneId, addresses: &[&str]) -> Device {
    Device {
        name: name.to_owned(),
        zone,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        mac: None,
        vendor: None,
        support_until: None,
        place: Place::default(),
    }
}

pub(crate) fn flow(name: &str, from: Endpoint, to: Endpoint, services: &[Protocol]) -> Flow {
    Flow {
        name: name.to_owned(),
        from: vec![from],
        to: vec![to],
        services: services.to_vec(),
        purpose: "試験".to_owned(),
        owner: "情報係".to_owned(),
        timing: Timing::default(),
        critical: false,
        any_reason: None,
        place: Some(Place { line: 7, ..Place::default() }),
    }
}

pub(crate) fn timed(flow: Flow, until: Option<&str>, schedule: Option<&str>) -> Flow {
    let timing = Timing {
        until: until.map(|text| text.parse().unwrap()),
        schedule: schedule.map(|text| Schedule::parse(text).unwrap()),
    };
    Flow { timing, ..flow }
}

/// Wednesday 2026-11-18, 12:00 in Tokyo.
pub(crate) fn noon() -> Timestamp {
    "2026-11-18T12:00:00+09:00".parse().unwrap()
}

pub(crate) fn clock() -> Clock {
    Clock { now: noon(), trusted: true }
}

/// `arrival` is an interface, `local`, or `local>INTERFACE`.
pub(crate) fn packet(arrival: &str, source: &str, destination: &str, transport: Transport) -> Packet {
    let arrival = match arrival.split_once('>') {
        _ if arrival == "local" => Arrival::Local { egress: None },
        Some(("local", egress)) => Arrival::Local { egress: Some(egress.to_owned()) },
        _ => Arrival::Interface(arrival.to_owned()),
    };
    Packet { arrival, source: source.parse().unwrap(), destination: destination.parse().unwrap(), transport }
}

pub(crate) fn tcp(destination_port: u16) -> Transport {
    Transport::Tcp { source_port: 40000, destination_port, syn: true }
}

pub(crate) fn udp(source_port: u16, destination_port: u16) -> Transport {
    Transport::Udp { source_port, destination_port }
}

/// The verdict in a few words: `allow NAME a>b`, `control @NAME in a`, `deny REASON`.
pub(crate) fn verdict(policy: &Policy, packet: &Packet, context: Context<'_>, clock: Clock) -> String {
    let zone = |id: ZoneId| policy.zone(id).name.clone();
    let way = |path: Path| match path {
        Path::Forward { from, to } => format!("{}>{}", zone(from), zone(to)),
        Path::Input { from } => format!("in {}", zone(from)),
        Path::Output { to } => format!("out {}", zone(to)),
    };
    match evaluate(policy, packet, context, clock) {
        Verdict::Allow { flow, path } => format!("allow {} {}", policy.flow(flow).name, way(path)),
        Verdict::Control { name, path } => format!("control {name} {}", way(path)),
        Verdict::Deny { reason, .. } => {
            let json = serde_json::to_value(&reason).unwrap();
            format!("deny {}", json["code"].as_str().unwrap())
        }
    }
}
