//! Random small policies in which flows overlap, and packets drawn from the same few addresses and ports.

use std::net::IpAddr;

use policy::eval::{Arrival, Packet, Transport};
use proptest::prelude::*;
use proptest::sample::select;

/// The site in which the flows lie.
pub(crate) const HEAD: &str = r#"
schema = 1
[clinic]
name = "t"
site = "t"
timezone = "Asia/Tokyo"
guideline = "6.0"
[zone.wan]
kind = "external"
interface = "eth0"
gateway = ["203.0.113.2/24", "2001:db8::2/64"]
[zone.wan.wan]
ipv4 = "static"
ipv6 = "static"
routers = ["203.0.113.1"]
[zone.a]
kind = "staff"
interface = "a"
networks = ["10.0.0.0/29", "fd00:a::/125"]
dns = true
[zone.b]
kind = "clinical"
interface = "b"
networks = ["10.1.0.0/29", "10.1.1.0/30", "fd00:b::/125"]
[device.a1]
zone = "a"
address = ["10.0.0.2", "fd00:a::2"]
[device.a2]
zone = "a"
address = ["10.0.0.3"]
[device.b1]
zone = "b"
address = ["10.1.0.2", "fd00:b::2"]
[device.w1]
zone = "wan"
address = ["198.51.100.9"]
"#;

const ENDS: [&str; 7] = ["zone:a", "zone:b", "zone:wan", "device:a1", "device:a2", "device:b1", "device:w1"];
const SERVICES: [&str; 9] =
    ["tcp/1-6", "tcp/2", "tcp/3-4", "udp/2-5", "udp/3", "icmp", "esp", "proto/47", "tcp/5+udp/5+icmp"];
const TIMINGS: [&str; 6] = [
    "",
    "",
    "",
    "schedule = \"Mon-Fri 19:00-22:00\"",
    "schedule = \"Mon-Sun 20:00-06:00\"",
    "until = 2026-11-18T12:00:00+09:00",
];

/// A policy as text.
pub(crate) fn policy() -> impl Strategy<Value = String> {
    let end = || prop::collection::btree_set(select(&ENDS[..]), 1..5);
    let flow = (end(), end(), select(&SERVICES[..]), select(&TIMINGS[..]), 0..12u8);
    prop::collection::vec(flow, 3..14).prop_map(|flows| {
        let mut text = HEAD.to_owned();
        for (index, (from, to, service, timing, gateway)) in flows.into_iter().enumerate() {
            let (from, to) = match gateway {
                0 => (vec!["gateway"], to.into_iter().collect()),
                1 => (from.into_iter().collect(), vec!["gateway"]),
                _ => (from.into_iter().collect::<Vec<_>>(), to.into_iter().collect::<Vec<_>>()),
            };
            if from == to || !share_a_family(&from, &to) {
                continue;
            }
            text.push_str(&format!(
                "[[flow]]\nname = \"f{index}\"\nfrom = {from:?}\nto = {to:?}\nservice = \"{service}\"\n\
                 purpose = \"p\"\nowner = \"o\"\n{timing}\n"
            ));
        }
        text
    })
}

/// Every address here speaks IPv4, so any two ends can meet; one device with itself cannot.
fn share_a_family(from: &[&str], to: &[&str]) -> bool {
    from.iter().any(|one| to.iter().any(|other| one != other || one.starts_with("zone:")))
}

/// A packet among those addresses.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let v4 = [
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "10.1.0.2",
        "10.1.0.5",
        "10.1.1.2",
        "198.51.100.9",
        "192.0.2.1",
        "10.1.0.1",
    ];
    let v6 = ["fd00:a::2", "fd00:a::3", "fd00:b::2", "fd00:b::4", "2001:db8:9::9", "fd00:a::1"];
    let parse = |list: &[&str]| list.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
    let pair = prop_oneof![
        3 => (select(parse(&v4)), select(parse(&v4))),
        2 => (select(parse(&v6)), select(parse(&v6))),
    ];
    (pair, 0..8u8, 1..7u16).prop_map(|((source, destination), kind, port)| {
        let ip4 = source.is_ipv4();
        let transport = match kind {
            0..=2 => Transport::Tcp { source_port: 40_000, destination_port: port, syn: true },
            3..=4 => Transport::Udp { source_port: 40_000, destination_port: port },
            5 if ip4 => Transport::Icmp { kind: 8, code: 0 },
            5 => Transport::Icmp6 { kind: 128, code: 0 },
            6 => Transport::Other(50),
            _ => Transport::Other(47),
        };
        Packet { arrival: arrival(source), source, destination, transport }
    })
}

/// By the interface behind which the source lives.
fn arrival(source: IpAddr) -> Arrival {
    let own = ["10.0.0.1", "10.1.0.1", "203.0.113.2", "fd00:a::1"];
    if own.iter().any(|own| own.parse() == Ok(source)) {
        return Arrival::Local { egress: None };
    }
    let text = source.to_string();
    let name = match () {
        () if text.starts_with("10.0.") || text.starts_with("fd00:a:") => "a",
        () if text.starts_with("10.1.") || text.starts_with("fd00:b:") => "b",
        () => "eth0",
    };
    Arrival::Interface(name.to_owned())
}
