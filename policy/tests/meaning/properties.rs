//! What must hold of the meaning whatever the flows and packets are.

use jiff::ToSpan as _;
use policy::eval::{Arrival, Clock, Context, Packet, Path, Transport, Verdict, evaluate};
use policy::model::{DeviceId, Endpoint, Flow, Policy, Protocol, ZoneId};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use crate::evaluation::{ECHO, ECHO6};
use crate::site::*;

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        (0usize..5).prop_map(|zone| Endpoint::Zone(ZoneId(zone))),
        (0usize..2).prop_map(|device| Endpoint::Device(DeviceId(device))),
        Just(Endpoint::Gateway),
    ]
}

pub(crate) fn any_flow() -> impl Strategy<Value = Flow> {
    let ends = || prop::collection::vec(any_endpoint(), 1..5);
    let services = prop::sample::subsequence(
        vec![Protocol::Tcp(1, 3), Protocol::Tcp(2, 2), Protocol::Udp(2, 9), Protocol::Echo],
        1..=3,
    );
    let schedule = prop_oneof![
        4 => Just(None), 1 => Just(Some("Mon-Fri 09:00-18:00")), 1 => Just(Some("Sat-Sun 09:00-18:00")),
    ];
    (ends(), ends(), services, schedule).prop_map(|(from, to, services, schedule)| {
        let flow = Flow { from, to, services, ..flow("f", Endpoint::Gateway, Endpoint::Gateway, &[]) };
        timed(flow, None, schedule)
    })
}

/// An interface (or none, for the gateway's own packets), and hosts behind it.
const PLACES: [(&str, [&str; 2]); 5] = [
    ("lan-ehr", ["192.168.10.10", "fd51:7ec5:0:10::10"]),
    ("lan-mod", ["192.168.20.21", "fd51:7ec5:0:20::21"]),
    ("lan-mgmt", ["192.168.99.5", "fd51:7ec5:0:99::5"]),
    ("eth0", ["198.51.100.10", "2001:db8:80::80"]),
    ("lan-guest", ["192.168.90.50", "fd51:7ec5:0:90::50"]),
];
/// The gateway's addresses in the same places.
const OWN: [[&str; 2]; 5] = [
    ["192.168.10.1", "fd51:7ec5:0:10::1"],
    ["192.168.20.1", "fd51:7ec5:0:20::1"],
    ["192.168.99.1", "fd51:7ec5:0:99::1"],
    ["203.0.113.2", "2001:db8:ffff::2"],
    ["192.168.90.1", "fd51:7ec5:0:90::1"],
];
const ODD: [&str; 5] = ["fe80::1", "ff02::1", "255.255.255.255", "127.0.0.1", "192.168.10.255"];

/// Mostly packets that could be; some that could not.
pub(crate) fn any_packet() -> impl Strategy<Value = Packet> {
    let plausible = (0usize..5, 0usize..5, 0usize..2, 0u8..4).prop_map(|(from, to, family, way)| {
        let (interface, hosts) = PLACES[from];
        match way {
            0 => (interface, hosts[family], OWN[from][family]),
            1 => ("local", OWN[to][family], PLACES[to].1[family]),
            _ => (interface, hosts[family], PLACES[to].1[family]),
        }
    });
    let every: Vec<&str> =
        PLACES.iter().flat_map(|(_, hosts)| *hosts).chain(OWN.into_iter().flatten()).chain(ODD).collect();
    let interface =
        prop::sample::select(vec!["eth0", "lan-ehr", "lan-mod", "lan-guest", "lan-mgmt", "local"]);
    let wild = (interface, prop::sample::select(every.clone()), prop::sample::select(every));
    let transport = prop_oneof![
        (1u16..4).prop_map(tcp),
        (1u16..4).prop_map(|port| udp(9, port)),
        Just(ECHO),
        Just(ECHO6)
    ];
    (prop_oneof![4 => plausible, 1 => wild], transport).prop_map(
        |((arrival, source, destination), transport)| {
            let transport = match transport {
                // An echo of the packet's own family, so that most are well formed.
                Transport::Icmp { .. } if source.contains(':') => ECHO6,
                Transport::Icmp6 { .. } if source.contains('.') && destination.contains('.') => ECHO,
                Transport::Tcp { .. }
                | Transport::Udp { .. }
                | Transport::Icmp { .. }
                | Transport::Icmp6 { .. }
                | Transport::Other(_) => transport,
            };
            packet(arrival, source, destination, transport)
        },
    )
}

/// The properties below would be empty words if next to nothing passed.
#[test]
fn enough_of_the_generated_packets_pass() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (prop::collection::vec(any_flow(), 0..8), any_packet());
    let passing = (0..2000).filter(|_| {
        let (flows, packet) = strategy.new_tree(&mut runner).unwrap().current();
        is_allowed(&evaluate(&clinic(flows), &packet, Context::New, clock()))
    });
    let passing = passing.count();
    assert!((150..1500).contains(&passing), "{passing} of 2000");
}

fn is_denied(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Deny { .. })
}

fn is_allowed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allow { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Order gives names, never permission; more flows never mean less; no flow means nothing passes.
    #[test]
    fn flows_only_add(flows in prop::collection::vec(any_flow(), 0..8), more in any_flow(), packet in any_packet()) {
        let few = evaluate(&clinic(flows.clone()), &packet, Context::New, clock());
        let reversed = evaluate(&clinic(flows.iter().rev().cloned().collect()), &packet, Context::New, clock());
        prop_assert_eq!(is_denied(&few), is_denied(&reversed));
        let many = evaluate(&clinic(flows.into_iter().chain([more]).collect()), &packet, Context::New, clock());
        prop_assert!(is_denied(&few) || !is_denied(&many));
        let none = evaluate(&clinic(Vec::new()), &packet, Context::New, clock());
        prop_assert!(!is_allowed(&none));
    }

    /// What passes with an untrusted clock passes with any trusted one.
    #[test]
    fn an_untrusted_clock_opens_nothing_more(
        flows in prop::collection::vec(any_flow(), 0..8), packet in any_packet(), hours in 0i64..400,
    ) {
        let policy = clinic(flows);
        let at = |now, trusted| is_denied(&evaluate(&policy, &packet, Context::New, Clock { now, trusted }));
        let later = noon().checked_add(hours.hours()).unwrap();
        prop_assert!(at(noon(), false) || !at(later, true));
    }

    /// The mirror of what passes is its reply, and nothing passes as a reply of what does not.
    #[test]
    fn replies_pass_exactly_with_their_connection(flows in prop::collection::vec(any_flow(), 0..8), packet in any_packet()) {
        let policy = clinic(flows);
        let first = evaluate(&policy, &packet, Context::New, clock());
        let reply = mirror(&policy, &packet, &first);
        let back = evaluate(&policy, &reply, Context::Reply(&packet), clock());
        match first {
            Verdict::Allow { .. } => prop_assert_eq!(back, first),
            Verdict::Control { .. } => {}
            Verdict::Deny { .. } => prop_assert!(!is_allowed(&back)),
        }
    }
}

fn mirror(policy: &Policy, packet: &Packet, verdict: &Verdict) -> Packet {
    let far = match verdict {
        Verdict::Allow { path: Path::Forward { to, .. } | Path::Output { to }, .. } => {
            policy.zone(*to).interface.clone()
        }
        _ => None,
    };
    let transport = match packet.transport {
        Transport::Tcp { source_port, destination_port, .. } => {
            Transport::Tcp { source_port: destination_port, destination_port: source_port, syn: false }
        }
        Transport::Udp { source_port, destination_port } => {
            Transport::Udp { source_port: destination_port, destination_port: source_port }
        }
        Transport::Icmp { code, .. } => Transport::Icmp { kind: 0, code },
        Transport::Icmp6 { code, .. } => Transport::Icmp6 { kind: 129, code },
        Transport::Other(number) => Transport::Other(number),
    };
    let arrival = far.map_or(Arrival::Local { egress: None }, Arrival::Interface);
    Packet { arrival, source: packet.destination, destination: packet.source, transport }
}
