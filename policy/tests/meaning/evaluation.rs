//! The reference meaning, case by case.

use policy::eval::{Clock, Context, Packet, Transport, Verdict, evaluate};
use policy::model::{Endpoint, Flow, Policy, Protocol};

use crate::site::*;

const HTTPS: Protocol = Protocol::Tcp(443, 443);

fn ordinary() -> Vec<Flow> {
    vec![
        flow("ct-to-ehr", Endpoint::Device(CT), Endpoint::Device(EHR_SERVER), &[Protocol::Tcp(104, 104)]),
        flow("web", Endpoint::Zone(EHR), Endpoint::Zone(WAN), &[HTTPS]),
        flow("guest-web", Endpoint::Zone(GUEST), Endpoint::Zone(WAN), &[HTTPS, Protocol::Udp(443, 443)]),
        flow("ping", Endpoint::Zone(MANAGEMENT), Endpoint::Gateway, &[Protocol::Echo, Protocol::Tcp(22, 22)]),
        flow("tunnel", Endpoint::Device(CT), Endpoint::Zone(WAN), &[Protocol::Ip(50)]),
        flow(
            "names",
            Endpoint::Gateway,
            Endpoint::Networks(WAN, vec!["192.0.2.53/32".parse().unwrap()]),
            &[Protocol::Udp(53, 53)],
        ),
        flow(
            "cloud",
            Endpoint::Zone(EHR),
            Endpoint::Domain("*.example.jp".to_owned()),
            &[Protocol::Tcp(8443, 8443)],
        ),
    ]
}

fn judge(policy: &Policy, arrival: &str, source: &str, destination: &str, transport: Transport) -> String {
    verdict(policy, &packet(arrival, source, destination, transport), Context::New, clock())
}

pub(crate) const ECHO: Transport = Transport::Icmp { kind: 8, code: 0 };
pub(crate) const ECHO6: Transport = Transport::Icmp6 { kind: 128, code: 0 };

#[test]
fn first_packets() {
    let policy = clinic(ordinary());
    let table: &[(&str, &str, &str, Transport, &str)] = &[
        ("lan-mod", "192.168.20.21", "192.168.10.10", tcp(104), "allow ct-to-ehr modality>ehr"),
        ("lan-mod", "fd51:7ec5:0:20::21", "fd51:7ec5:0:10::10", tcp(104), "allow ct-to-ehr modality>ehr"),
        ("lan-mod", "192.168.20.21", "192.168.10.10", tcp(105), "deny no-flow"),
        ("lan-mod", "192.168.20.22", "192.168.10.10", tcp(104), "deny no-flow"),
        ("lan-mod", "192.168.20.21", "192.168.10.11", tcp(104), "deny no-flow"),
        ("lan-mod", "192.168.20.21", "192.168.10.10", udp(9, 104), "deny no-flow"),
        ("lan-ehr", "192.168.10.10", "192.168.20.21", tcp(104), "deny no-flow"),
        ("lan-ehr", "192.168.10.77", "198.51.100.10", tcp(443), "allow web ehr>wan"),
        ("lan-ehr", "fd51:7ec5:0:10::77", "2001:db8:80::80", tcp(443), "allow web ehr>wan"),
        ("lan-ehr", "192.168.10.77", "198.51.100.10", tcp(8443), "deny no-flow"),
        ("lan-guest", "192.168.90.50", "198.51.100.10", udp(5, 443), "allow guest-web guest>wan"),
        ("lan-guest", "192.168.90.50", "192.168.10.10", tcp(443), "deny no-flow"),
        ("lan-mod", "192.168.20.21", "198.51.100.10", Transport::Other(50), "allow tunnel modality>wan"),
        ("lan-mod", "192.168.20.21", "198.51.100.10", Transport::Other(51), "deny no-flow"),
        ("lan-mgmt", "192.168.99.5", "192.168.99.1", ECHO, "allow ping in management"),
        ("lan-mgmt", "fd51:7ec5:0:99::5", "fd51:7ec5:0:99::1", ECHO6, "allow ping in management"),
        ("lan-mgmt", "192.168.99.5", "192.168.99.1", tcp(22), "allow ping in management"),
        ("lan-ehr", "192.168.10.10", "192.168.10.1", ECHO, "deny no-flow"),
        ("local", "203.0.113.2", "192.0.2.53", udp(5, 53), "allow names out wan"),
        ("local", "203.0.113.2", "192.0.2.54", udp(5, 53), "deny no-flow"),
        ("eth0", "198.51.100.10", "192.168.10.10", tcp(443), "deny no-flow"),
        ("eth0", "198.51.100.10", "203.0.113.2", tcp(22), "deny no-flow"),
    ];
    for (arrival, source, destination, transport, expected) in table {
        let got = judge(&policy, arrival, source, destination, *transport);
        assert_eq!(&got, expected, "{arrival} {source} -> {destination} {transport:?}");
    }
}

#[test]
fn what_is_refused_before_any_flow() {
    let policy = clinic(ordinary());
    let middle = Transport::Tcp { source_port: 1, destination_port: 443, syn: false };
    let table: &[(&str, &str, &str, Transport, &str)] = &[
        ("lan-x", "192.168.10.10", "192.0.2.1", tcp(443), "deny unknown-interface"),
        ("lo", "192.168.10.1", "192.168.10.1", tcp(443), "deny loopback"),
        ("local", "192.168.10.1", "192.168.20.1", tcp(443), "deny loopback"),
        // Sources that cannot be there.
        ("lan-ehr", "192.168.20.21", "198.51.100.10", tcp(443), "deny spoofed-source"),
        ("lan-ehr", "198.51.100.10", "198.51.100.11", tcp(443), "deny spoofed-source"),
        ("lan-ehr", "192.168.10.1", "198.51.100.10", tcp(443), "deny spoofed-source"),
        ("lan-ehr", "0.0.0.0", "198.51.100.10", tcp(443), "deny spoofed-source"),
        ("lan-ehr", "fe80::1", "2001:db8:80::80", tcp(443), "deny spoofed-source"),
        ("eth0", "192.168.10.10", "203.0.113.2", tcp(443), "deny spoofed-source"),
        ("eth0", "203.0.113.2", "203.0.113.2", tcp(443), "deny spoofed-source"),
        ("eth0", "127.0.0.1", "203.0.113.2", tcp(443), "deny spoofed-source"),
        ("eth0", "169.254.1.1", "203.0.113.2", tcp(443), "deny spoofed-source"),
        ("eth0", "240.0.0.1", "203.0.113.2", tcp(443), "deny spoofed-source"),
        ("eth0", "::ffff:198.51.100.10", "2001:db8:ffff::2", tcp(443), "deny spoofed-source"),
        ("local", "192.168.20.1", "192.168.10.10", tcp(443), "deny foreign-source"),
        // A zone without IPv6 has none, in either direction.
        ("lan-guest", "fd51:7ec5:0:90::50", "2001:db8:80::80", tcp(443), "deny family-off"),
        // Destinations that are no host's.
        ("lan-ehr", "192.168.10.10", "192.168.20.1", tcp(443), "deny gateway-elsewhere"),
        ("lan-ehr", "192.168.10.10", "203.0.113.2", tcp(443), "deny gateway-elsewhere"),
        ("lan-ehr", "192.168.10.10", "192.168.20.255", tcp(443), "deny not-unicast"),
        ("lan-ehr", "192.168.10.10", "255.255.255.255", udp(5, 443), "deny not-unicast"),
        ("lan-ehr", "192.168.10.10", "224.0.0.251", udp(5353, 5353), "deny not-unicast"),
        ("lan-ehr", "192.168.10.10", "127.0.0.1", tcp(443), "deny not-unicast"),
        ("lan-ehr", "fd51:7ec5:0:10::10", "ff02::fb", udp(5353, 5353), "deny not-unicast"),
        ("lan-ehr", "fd51:7ec5:0:10::10", "fd51:7ec5:0:20::", tcp(104), "deny not-unicast"),
        ("lan-ehr", "fd51:7ec5:0:10::10", "fe80::1", tcp(443), "deny not-unicast"),
        ("lan-ehr", "192.168.10.10", "198.51.100.10", middle, "deny not-a-syn"),
        (
            "lan-ehr",
            "192.168.10.10",
            "198.51.100.10",
            Transport::Icmp { kind: 0, code: 0 },
            "deny icmp-alone",
        ),
        (
            "lan-ehr",
            "192.168.10.10",
            "198.51.100.10",
            Transport::Icmp { kind: 3, code: 4 },
            "deny icmp-alone",
        ),
        (
            "lan-ehr",
            "192.168.10.10",
            "198.51.100.10",
            Transport::Icmp { kind: 5, code: 1 },
            "deny icmp-alone",
        ),
        ("lan-ehr", "192.168.10.10", "2001:db8:80::80", tcp(443), "deny malformed"),
        ("lan-ehr", "192.168.10.10", "198.51.100.10", ECHO6, "deny malformed"),
        ("lan-ehr", "192.168.10.10", "198.51.100.10", Transport::Other(6), "deny malformed"),
    ];
    for (arrival, source, destination, transport, expected) in table {
        let got = judge(&policy, arrival, source, destination, *transport);
        assert_eq!(&got, expected, "{arrival} {source} -> {destination} {transport:?}");
    }
    let mut inland = clinic(ordinary());
    inland.zones.remove(0);
    assert_eq!(judge(&inland, "lan-ehr", "192.168.10.10", "198.51.100.10", tcp(443)), "deny no-route");
}

#[test]
fn control_dhcp() {
    let fixed = clinic(Vec::new());
    let dynamic = clinic_on_dhcp(Vec::new());
    expect(&[
        (&fixed, "lan-guest", "0.0.0.0", "255.255.255.255", udp(68, 67), "control @dhcp-server in guest"),
        (&fixed, "lan-guest", "192.168.90.100", "192.168.90.1", udp(68, 67), "control @dhcp-server in guest"),
        (
            &fixed,
            "local>lan-guest",
            "192.168.90.1",
            "255.255.255.255",
            udp(67, 68),
            "control @dhcp-server out guest",
        ),
        (&fixed, "local", "192.168.90.1", "192.168.90.100", udp(67, 68), "control @dhcp-server out guest"),
        (&fixed, "local>lan-guest", "0.0.0.0", "255.255.255.255", udp(67, 68), "deny not-unicast"),
        (&fixed, "lan-ehr", "0.0.0.0", "255.255.255.255", udp(68, 67), "deny spoofed-source"),
        (&fixed, "lan-guest", "192.168.90.100", "192.168.10.1", udp(68, 67), "deny gateway-elsewhere"),
        (&fixed, "lan-guest", "192.168.90.100", "255.255.255.255", udp(67, 68), "deny not-unicast"),
        (&fixed, "eth0", "203.0.113.1", "255.255.255.255", udp(67, 68), "deny not-unicast"),
        (&dynamic, "eth0", "203.0.113.1", "255.255.255.255", udp(67, 68), "control @dhcp-client in wan"),
        (&dynamic, "eth0", "203.0.113.1", "203.0.113.77", udp(67, 68), "control @dhcp-client in wan"),
        (&dynamic, "eth0", "203.0.113.1", "192.168.10.10", udp(67, 68), "deny no-flow"),
        (&dynamic, "local>eth0", "0.0.0.0", "255.255.255.255", udp(68, 67), "control @dhcp-client out wan"),
        (&dynamic, "local", "203.0.113.77", "203.0.113.1", udp(68, 67), "control @dhcp-client out wan"),
        (&dynamic, "local", "192.168.10.1", "203.0.113.1", udp(68, 67), "deny foreign-source"),
    ]);
}

#[test]
fn control_neighbour_discovery() {
    let fixed = clinic(Vec::new());
    let icmp6 = |kind| Transport::Icmp6 { kind, code: 0 };
    expect(&[
        (&fixed, "lan-ehr", "::", "ff02::1:ff00:10", icmp6(135), "control @neighbour-discovery in ehr"),
        (
            &fixed,
            "lan-ehr",
            "fe80::10",
            "fd51:7ec5:0:10::1",
            icmp6(135),
            "control @neighbour-discovery in ehr",
        ),
        (
            &fixed,
            "lan-ehr",
            "fd51:7ec5:0:10::10",
            "fe80::1",
            icmp6(136),
            "control @neighbour-discovery in ehr",
        ),
        (&fixed, "lan-ehr", "::", "ff02::1", icmp6(136), "deny spoofed-source"),
        (&fixed, "lan-ehr", "fd51:7ec5:0:20::21", "fe80::1", icmp6(136), "deny spoofed-source"),
        (&fixed, "lan-ehr", "fe80::10", "fd51:7ec5:0:20::21", icmp6(135), "deny spoofed-source"),
        (
            &fixed,
            "local>lan-ehr",
            "fe80::1",
            "ff02::1:ff00:10",
            icmp6(135),
            "control @neighbour-discovery out ehr",
        ),
        (
            &fixed,
            "local",
            "fd51:7ec5:0:10::1",
            "fd51:7ec5:0:10::10",
            icmp6(136),
            "control @neighbour-discovery out ehr",
        ),
        (&fixed, "lan-guest", "fe80::10", "ff02::1:ff00:1", icmp6(135), "deny family-off"),
    ]);
}

#[test]
fn control_routers_and_listeners() {
    let fixed = clinic(Vec::new());
    let dynamic = clinic_on_dhcp(Vec::new());
    let icmp6 = |kind| Transport::Icmp6 { kind, code: 0 };
    expect(&[
        (&fixed, "lan-ehr", "fe80::10", "ff02::2", icmp6(133), "control @router-advertisement in ehr"),
        (&fixed, "local>lan-ehr", "fe80::1", "ff02::1", icmp6(134), "control @router-advertisement out ehr"),
        (&fixed, "lan-ehr", "fe80::10", "ff02::1", icmp6(134), "deny spoofed-source"),
        (&fixed, "lan-mod", "fe80::10", "ff02::2", icmp6(133), "deny spoofed-source"),
        (&fixed, "eth0", "fe80::1", "ff02::1", icmp6(134), "deny spoofed-source"),
        (&dynamic, "eth0", "fe80::1", "ff02::1", icmp6(134), "control @router-solicitation in wan"),
        (&dynamic, "local>eth0", "fe80::2", "ff02::2", icmp6(133), "control @router-solicitation out wan"),
        (&fixed, "lan-ehr", "fe80::10", "ff02::16", icmp6(143), "control @multicast-listener in ehr"),
        (&fixed, "lan-ehr", "::", "ff02::16", icmp6(143), "control @multicast-listener in ehr"),
        (&fixed, "lan-ehr", "::", "ff02::2", icmp6(132), "deny spoofed-source"),
        (&fixed, "local>lan-ehr", "fe80::1", "ff02::16", icmp6(143), "control @multicast-listener out ehr"),
    ]);
}

#[test]
fn control_errors_of_the_gateways_own() {
    let fixed = clinic(Vec::new());
    let icmp6 = |kind| Transport::Icmp6 { kind, code: 0 };
    expect(&[
        (
            &fixed,
            "local",
            "192.168.10.1",
            "192.168.10.10",
            Transport::Icmp { kind: 3, code: 4 },
            "control @icmp-errors out ehr",
        ),
        (
            &fixed,
            "local",
            "203.0.113.2",
            "198.51.100.1",
            Transport::Icmp { kind: 11, code: 0 },
            "control @icmp-errors out wan",
        ),
        (
            &fixed,
            "local",
            "fd51:7ec5:0:10::1",
            "fd51:7ec5:0:10::10",
            icmp6(2),
            "control @icmp-errors out ehr",
        ),
        (
            &fixed,
            "local",
            "192.168.10.1",
            "192.168.10.10",
            Transport::Icmp { kind: 5, code: 0 },
            "deny icmp-alone",
        ),
        (
            &fixed,
            "local",
            "192.168.20.1",
            "192.168.10.10",
            Transport::Icmp { kind: 3, code: 4 },
            "deny foreign-source",
        ),
    ]);
}

fn expect(table: &[(&Policy, &str, &str, &str, Transport, &str)]) {
    for (policy, arrival, source, destination, transport, expected) in table {
        let got = judge(policy, arrival, source, destination, *transport);
        assert_eq!(&got, expected, "{arrival} {source} -> {destination} {transport:?}");
    }
}

#[test]
fn the_most_specific_flow_gives_the_name() {
    let ports = |low, high| [Protocol::Tcp(low, high)];
    let names =
        |flows: Vec<Flow>| judge(&clinic(flows), "lan-ehr", "192.168.10.10", "192.168.20.21", tcp(104));
    let wide = || flow("wide", Endpoint::Zone(EHR), Endpoint::Zone(MODALITY), &ports(104, 104));
    let from_device =
        || flow("from-device", Endpoint::Device(EHR_SERVER), Endpoint::Zone(MODALITY), &ports(1, 999));
    let to_device = || flow("to-device", Endpoint::Zone(EHR), Endpoint::Device(CT), &ports(1, 9999));
    let range = || flow("range", Endpoint::Zone(EHR), Endpoint::Zone(MODALITY), &ports(100, 110));
    assert_eq!(names(vec![wide(), from_device()]), "allow from-device ehr>modality", "source before ports");
    assert_eq!(
        names(vec![from_device(), to_device()]),
        "allow to-device ehr>modality",
        "destination before source"
    );
    assert_eq!(names(vec![range(), wide()]), "allow wide ehr>modality", "fewer ports");
    let second = Flow { name: "second".to_owned(), ..wide() };
    assert_eq!(names(vec![wide(), second.clone()]), "allow wide ehr>modality", "then the file's order");
    assert_eq!(names(vec![second, wide()]), "allow second ehr>modality", "then the file's order");
    let closed = timed(to_device(), Some("2026-11-18T11:00:00+09:00"), None);
    assert_eq!(names(vec![closed, wide()]), "allow wide ehr>modality", "only open flows give names");
}

#[test]
fn time_opens_and_closes() {
    let ct = || flow("work", Endpoint::Device(CT), Endpoint::Device(EHR_SERVER), &[Protocol::Tcp(104, 104)]);
    let at = |flow: Flow, now: &str, trusted: bool| {
        let first = packet("lan-mod", "192.168.20.21", "192.168.10.10", tcp(104));
        evaluate(&clinic(vec![flow]), &first, Context::New, Clock { now: now.parse().unwrap(), trusted })
    };
    let nights = || timed(ct(), Some("2026-11-20T00:00:00+09:00"), Some("Mon-Fri 19:00-22:00"));
    let reason = |verdict| match verdict {
        Verdict::Deny { reason, .. } => serde_json::to_value(reason).unwrap(),
        Verdict::Allow { .. } | Verdict::Control { .. } => "open".into(),
    };
    assert_eq!(reason(at(ct(), "2026-11-18T12:00:00+09:00", false)), "open");
    assert_eq!(reason(at(nights(), "2026-11-18T19:00:00+09:00", true)), "open");
    assert_eq!(reason(at(nights(), "2026-11-18T19:00:00+09:00", false))["code"], "time-untrusted");
    let closed = reason(at(nights(), "2026-11-18T22:00:00+09:00", true));
    assert_eq!(
        (closed["code"].as_str(), closed["opens"].as_str()),
        (Some("closed"), Some("2026-11-19T10:00:00Z"))
    );
    let last = reason(at(nights(), "2026-11-19T22:00:00+09:00", true));
    assert_eq!(
        (last["code"].as_str(), last["opens"].as_str()),
        (Some("closed"), None),
        "the end comes before Friday"
    );
    let until = timed(ct(), Some("2026-11-18T12:00:00+09:00"), None);
    assert_eq!(reason(at(until.clone(), "2026-11-18T11:59:59+09:00", true)), "open");
    assert_eq!(reason(at(until, "2026-11-18T12:00:00+09:00", true))["code"], "closed");
}

#[test]
fn replies_follow_their_connection_and_end_with_its_flow() {
    let policy = clinic(ordinary());
    let original = packet("lan-ehr", "192.168.10.10", "198.51.100.10", tcp(443));
    let back = |arrival: &str, source: &str, destination: &str, from_port, to_port| {
        let transport = Transport::Tcp { source_port: from_port, destination_port: to_port, syn: false };
        packet(arrival, source, destination, transport)
    };
    let judge =
        |policy: &Policy, packet: &Packet| verdict(policy, packet, Context::Reply(&original), clock());
    let exact = back("eth0", "198.51.100.10", "192.168.10.10", 443, 40000);
    assert_eq!(judge(&policy, &exact), "allow web ehr>wan");
    for wrong in [
        back("eth0", "198.51.100.11", "192.168.10.10", 443, 40000),
        back("eth0", "198.51.100.10", "192.168.10.11", 443, 40000),
        back("eth0", "198.51.100.10", "192.168.10.10", 444, 40000),
        back("eth0", "198.51.100.10", "192.168.10.10", 443, 40001),
    ] {
        assert_eq!(judge(&policy, &wrong), "deny not-the-reply", "{wrong:?}");
    }
    assert_eq!(
        judge(&policy, &back("lan-mod", "198.51.100.10", "192.168.10.10", 443, 40000)),
        "deny spoofed-source"
    );
    let ended = clinic(Vec::new());
    assert_eq!(judge(&ended, &exact), "deny no-flow", "deny means now");
}

#[test]
fn echoes_answer_requests_and_the_gateway_answers_too() {
    let policy = clinic(ordinary());
    let request = packet("lan-mgmt", "192.168.99.5", "192.168.99.1", ECHO);
    let judge = |kind| {
        let reply = packet("local", "192.168.99.1", "192.168.99.5", Transport::Icmp { kind, code: 0 });
        verdict(&policy, &reply, Context::Reply(&request), clock())
    };
    assert_eq!(judge(0), "allow ping in management");
    assert_eq!(judge(8), "deny not-the-reply");
}

#[test]
fn errors_follow_their_connection() {
    let policy = clinic(ordinary());
    let original = packet("lan-ehr", "192.168.10.10", "198.51.100.10", tcp(443));
    let judge = |policy: &Policy, arrival: &str, source: &str, destination: &str, kind| {
        let error = packet(arrival, source, destination, Transport::Icmp { kind, code: 0 });
        verdict(policy, &error, Context::Related(&original), clock())
    };
    // Any router on the way may speak, to either end, from the other end's side.
    assert_eq!(judge(&policy, "eth0", "203.0.113.1", "192.168.10.10", 3), "allow web ehr>wan");
    assert_eq!(judge(&policy, "lan-ehr", "192.168.10.10", "198.51.100.10", 3), "allow web ehr>wan");
    assert_eq!(judge(&policy, "eth0", "203.0.113.1", "192.168.10.11", 3), "deny not-related");
    assert_eq!(judge(&policy, "eth0", "203.0.113.1", "192.168.10.10", 5), "deny not-related");
    assert_eq!(judge(&policy, "lan-mod", "192.168.20.21", "192.168.10.10", 3), "deny not-related");
    assert_eq!(judge(&clinic(Vec::new()), "eth0", "203.0.113.1", "192.168.10.10", 3), "deny no-flow");
}

#[test]
fn a_denial_names_the_nearest_flow() {
    let policy = clinic(ordinary());
    let nearest = |arrival, source, destination, transport| {
        let packet = packet(arrival, source, destination, transport);
        match evaluate(&policy, &packet, Context::New, clock()) {
            Verdict::Deny { nearest, .. } => nearest.map(|flow| policy.flow(flow).name.clone()),
            verdict => panic!("{verdict:?}"),
        }
    };
    assert_eq!(nearest("lan-mod", "192.168.20.21", "192.168.10.10", tcp(105)).as_deref(), Some("ct-to-ehr"));
    assert_eq!(nearest("lan-mod", "192.168.20.9", "192.168.10.10", tcp(104)).as_deref(), Some("ct-to-ehr"));
    assert_eq!(nearest("eth0", "198.51.100.1", "192.168.10.10", udp(1, 2)), None);
}

#[test]
fn a_line_without_a_known_address_lets_the_gateway_speak_from_it() {
    let policy = clinic_on_dhcp(ordinary());
    assert_eq!(judge(&policy, "local", "203.0.113.77", "192.0.2.53", udp(5, 53)), "allow names out wan");
    assert_eq!(judge(&policy, "local", "192.168.10.1", "192.0.2.53", udp(5, 53)), "deny foreign-source");
}

#[test]
fn the_meaning_shares_nothing_with_the_compiler() {
    let texts = [
        include_str!("../../src/eval.rs"),
        include_str!("../../src/eval/control.rs"),
        include_str!("../../src/eval/flows.rs"),
        include_str!("../../src/eval/path.rs"),
        include_str!("../../src/eval/reason.rs"),
        include_str!("../../src/eval/why.rs"),
        include_str!("../../src/eval/why/asked.rs"),
        include_str!("../../src/eval/why/words.rs"),
    ];
    for word in ["compile::", "ruleset::", "space::", "ledger::", "render::"] {
        assert!(texts.iter().all(|text| !text.contains(word)), "eval names {word}");
    }
}
