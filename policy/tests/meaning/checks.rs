//! Promises, invariants of zone kinds, and flows that add nothing.

use jiff::ToSpan as _;
use policy::check::{INVARIANTS, check};
use policy::diagnostic::{Diagnostic, Language, Severity};
use policy::eval::{Context, Packet, Verdict, evaluate};
use policy::model::{
    Endpoint, Exception, Expectation, Flow, FlowId, Place, Policy, Promise, Protocol, ZoneKind,
};
use proptest::prelude::*;

use crate::properties::any_flow;
use crate::site::*;

const DICOM: Protocol = Protocol::Tcp(104, 104);

fn promise(expect: Expectation, from: Endpoint, to: Endpoint, services: Option<&[Protocol]>) -> Promise {
    Promise {
        expect,
        from: vec![from],
        to: vec![to],
        services: services.map(<[Protocol]>::to_vec),
        text: "as written".to_owned(),
        place: Place { line: 99, ..Place::default() },
    }
}

fn with_tests(flows: Vec<Flow>, tests: Vec<Promise>) -> Policy {
    Policy { tests, ..clinic(flows) }
}

fn codes(policy: &Policy) -> Vec<&'static str> {
    check(policy, noon()).into_iter().map(|finding| finding.code).collect()
}

fn to_ehr(name: &str, services: &[Protocol]) -> Flow {
    flow(name, Endpoint::Device(CT), Endpoint::Device(EHR_SERVER), services)
}

#[test]
fn a_denied_promise_names_the_flow_and_a_packet() {
    let tests = vec![promise(Expectation::Deny, Endpoint::Zone(MODALITY), Endpoint::Zone(EHR), None)];
    let policy = with_tests(vec![to_ehr("ct", &[DICOM])], tests);
    let findings = check(&policy, noon());
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.code, finding.severity), ("broken-promise", Severity::Error));
    assert_eq!(
        finding.message(Language::En),
        "promise `deny as written` is broken: flow `ct` allows tcp/104 from 192.168.20.21 (device:ct) to 192.168.10.10 \
         (device:ehr-server)"
    );
    assert_eq!(
        finding.message(Language::Ja),
        "約束「拒否 as written」が破られています。通信許可「ct」が 192.168.20.21 (device:ct) から 192.168.10.10 \
         (device:ehr-server) への tcp/104 を許しています"
    );
    let lines: Vec<usize> = finding.labels.iter().map(|label| label.place.line).collect();
    assert_eq!(lines, [99, 7], "the promise, then the flow");
}

#[test]
fn a_denied_promise_sees_schedules_but_not_the_past() {
    let deny = |flow: Flow| {
        let tests =
            vec![promise(Expectation::Deny, Endpoint::Zone(MODALITY), Endpoint::Zone(EHR), Some(&[DICOM]))];
        codes(&with_tests(vec![flow], tests))
    };
    assert_eq!(deny(timed(to_ehr("ct", &[DICOM]), None, Some("Sun 03:00-04:00"))), ["broken-promise"]);
    assert_eq!(deny(timed(to_ehr("ct", &[DICOM]), Some("2099-01-01T00:00:00Z"), None)), ["broken-promise"]);
    assert!(
        deny(timed(to_ehr("ct", &[DICOM]), Some("2026-11-18T12:00:00+09:00"), None)).is_empty(),
        "it has ended"
    );
    assert!(
        deny(to_ehr("ct", &[Protocol::Tcp(105, 200), Protocol::Udp(104, 104)])).is_empty(),
        "other ports"
    );
}

#[test]
fn an_allowed_promise_needs_every_packet() {
    let allow = |flows: Vec<Flow>, services: Option<&[Protocol]>| -> Vec<String> {
        let tests =
            vec![promise(Expectation::Allow, Endpoint::Device(CT), Endpoint::Device(EHR_SERVER), services)];
        let findings = check(&with_tests(flows, tests), noon());
        findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.message_en.clone())
            .collect()
    };
    let none: Vec<String> = Vec::new();
    let ports = |low, high| [Protocol::Tcp(low, high)];
    assert_eq!(allow(vec![to_ehr("a", &[DICOM])], Some(&[DICOM])), none);
    assert_eq!(
        allow(vec![to_ehr("a", &ports(1, 103)), to_ehr("b", &ports(104, 200))], Some(&ports(50, 150))),
        none
    );
    let gap = allow(vec![to_ehr("a", &ports(1, 103)), to_ehr("b", &ports(105, 200))], Some(&ports(50, 150)));
    assert!(gap[0].contains("no flow allows tcp/104 from 192.168.20.21 (device:ct)"), "{gap:?}");
    let half = flow(
        "v4",
        Endpoint::Device(CT),
        Endpoint::Networks(EHR, vec!["192.168.10.0/24".parse().unwrap()]),
        &[DICOM],
    );
    assert!(allow(vec![half], Some(&[DICOM]))[0].contains("fd51:7ec5:0:20::21"), "IPv6 is promised too");
    let everything: Vec<Protocol> = [Protocol::Tcp(0, 65535), Protocol::Udp(0, 65535), Protocol::Echo]
        .into_iter()
        .chain((0..=255).filter(|number| ![1, 6, 17, 58].contains(number)).map(Protocol::Ip))
        .collect();
    assert_eq!(allow(vec![to_ehr("any", &everything)], None), none);
    for missing in 0..everything.len() {
        let services: Vec<Protocol> = [&everything[..missing], &everything[missing + 1..]].concat();
        assert_eq!(allow(vec![to_ehr("any", &services)], None).len(), 1, "without {:?}", everything[missing]);
    }
    assert_eq!(
        allow(vec![timed(to_ehr("a", &[DICOM]), None, Some("Mon 09:00-10:00"))], Some(&[DICOM])),
        none
    );
}

#[test]
fn a_promise_about_nothing_is_no_promise() {
    let domain = Endpoint::Domain("*.example.jp".to_owned());
    let tests = vec![promise(Expectation::Allow, Endpoint::Zone(EHR), domain, None)];
    assert_eq!(codes(&with_tests(Vec::new(), tests)), ["empty-promise"]);
}

#[test]
fn zone_kinds_keep_their_invariants() {
    let https = [Protocol::Tcp(443, 443)];
    let shell = [Protocol::Tcp(20, 30)];
    let table = [
        (Endpoint::Zone(GUEST), Endpoint::Zone(EHR), &https, vec!["guest-reaches-clinic"]),
        (Endpoint::Zone(GUEST), Endpoint::Device(CT), &https, vec!["guest-reaches-clinic"]),
        (Endpoint::Zone(GUEST), Endpoint::Zone(MANAGEMENT), &https, vec!["guest-reaches-clinic"]),
        (Endpoint::Zone(GUEST), Endpoint::Zone(WAN), &https, vec![]),
        (Endpoint::Zone(WAN), Endpoint::Zone(GUEST), &https, vec!["inbound-from-external"]),
        (Endpoint::Zone(WAN), Endpoint::Gateway, &https, vec!["inbound-from-external"]),
        (
            Endpoint::Zone(WAN),
            Endpoint::Gateway,
            &shell,
            vec!["inbound-from-external", "management-from-elsewhere"],
        ),
        (Endpoint::Zone(EHR), Endpoint::Gateway, &shell, vec!["management-from-elsewhere"]),
        (Endpoint::Zone(MANAGEMENT), Endpoint::Gateway, &shell, vec![]),
        (Endpoint::Zone(EHR), Endpoint::Gateway, &https, vec![]),
        (Endpoint::Gateway, Endpoint::Zone(EHR), &shell, vec![]),
    ];
    for (from, to, services, expected) in table {
        let case = format!("{from:?} -> {to:?} {services:?}");
        assert_eq!(codes(&clinic(vec![flow("x", from, to, services)])), expected, "{case}");
    }
}

#[test]
fn closed_networks_are_not_crossed() {
    let https = [Protocol::Tcp(443, 443)];
    let between = |to: Endpoint| {
        let mut policy = clinic(vec![flow("x", Endpoint::Zone(MODALITY), to, &https)]);
        policy.zones[MODALITY.0].kind = ZoneKind::ClosedNetwork;
        policy.zones[MANAGEMENT.0].kind = ZoneKind::ClosedNetwork;
        codes(&policy)
    };
    assert_eq!(between(Endpoint::Zone(MANAGEMENT)), ["closed-network-transit"]);
    assert_eq!(between(Endpoint::Zone(WAN)), ["closed-network-transit"]);
    assert!(between(Endpoint::Zone(EHR)).is_empty());
    assert!(between(Endpoint::Device(CT)).is_empty(), "within one closed network nothing is crossed");
}

#[test]
fn an_invariant_shows_a_packet_that_breaks_it() {
    let findings = check(
        &clinic(vec![flow("x", Endpoint::Zone(EHR), Endpoint::Gateway, &[Protocol::Tcp(1, 99)])]),
        noon(),
    );
    assert_eq!(
        findings[0].message_en,
        "flow `x` allows tcp/22 from 192.168.10.10 (device:ehr-server) to 192.168.10.1 (the gateway), but the gateway is \
         managed from management zones only"
    );
}

#[test]
fn an_exception_is_a_person_and_a_day() {
    let with = |invariant: &str, flow, until: &str| {
        let guest = [Protocol::Tcp(443, 443)];
        let flows = vec![
            super::site::flow("bad", Endpoint::Zone(GUEST), Endpoint::Zone(EHR), &guest),
            super::site::flow("good", Endpoint::Zone(EHR), Endpoint::Zone(WAN), &guest),
        ];
        let exception = Exception {
            invariant: invariant.to_owned(),
            flow: FlowId(flow),
            who: "佐倉 花子".to_owned(),
            why: "移行中".to_owned(),
            until: until.parse().unwrap(),
            place: Place { line: 50, ..Place::default() },
        };
        let policy = Policy { exceptions: vec![exception], ..clinic(flows) };
        check(&policy, noon()).into_iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
    };
    let guest = "guest-reaches-clinic";
    let (later, now) = ("2026-12-01T00:00:00+09:00", "2026-11-18T12:00:00+09:00");
    assert_eq!(with(guest, 0, later), [(guest, Severity::Warning)]);
    assert_eq!(with(guest, 0, now), [(guest, Severity::Error)], "it has ended");
    assert_eq!(with(guest, 1, later), [(guest, Severity::Error), ("unused-exception", Severity::Warning)]);
    assert_eq!(
        with("inbound-from-external", 0, later),
        [(guest, Severity::Error), ("unused-exception", Severity::Warning)]
    );
    assert_eq!(
        with("everything", 0, later),
        [(guest, Severity::Error), ("unknown-invariant", Severity::Error)]
    );
    assert_eq!(INVARIANTS[0], guest);
}

#[test]
fn a_flow_that_adds_nothing_is_named() {
    let redundant = |flows: Vec<Flow>| -> Vec<String> {
        check(&clinic(flows), noon())
            .into_iter()
            .filter(|finding| finding.code == "redundant-flow")
            .map(|finding| finding.message_en)
            .collect()
    };
    let wide = || flow("wide", Endpoint::Zone(MODALITY), Endpoint::Zone(EHR), &[Protocol::Tcp(1, 200)]);
    let narrow = || to_ehr("narrow", &[DICOM]);
    let said = "flow `narrow` allows nothing that flow `wide` does not allow already";
    assert_eq!(redundant(vec![wide(), narrow()]), [said]);
    assert_eq!(redundant(vec![narrow(), wide()]), [said]);
    assert_eq!(redundant(vec![to_ehr("first", &[DICOM]), narrow()]).len(), 1, "of two equal ones the later");
    assert!(redundant(vec![to_ehr("first", &[DICOM]), narrow()])[0].starts_with("flow `narrow`"));
    let sometimes = timed(wide(), None, Some("Mon-Fri 09:00-18:00"));
    assert!(redundant(vec![sometimes.clone(), narrow()]).is_empty(), "the wide one is not always open");
    assert_eq!(redundant(vec![sometimes, timed(narrow(), None, Some("Tue 10:00-11:00"))]), [said]);
    assert!(
        redundant(vec![wide(), Flow { critical: true, ..narrow() }]).is_empty(),
        "only the narrow one survives"
    );
    assert!(
        redundant(vec![wide(), to_ehr("narrow", &[Protocol::Tcp(104, 201)])]).is_empty(),
        "one port more"
    );
    let ended = timed(wide(), Some("2026-11-18T12:00:00+09:00"), None);
    assert!(redundant(vec![ended, narrow()]).is_empty(), "what has ended covers nothing");
}

#[test]
fn errors_come_before_warnings() {
    let flows = vec![
        flow("narrow", Endpoint::Device(CT), Endpoint::Device(EHR_SERVER), &[DICOM]),
        flow("wide", Endpoint::Zone(MODALITY), Endpoint::Zone(EHR), &[DICOM]),
        flow("bad", Endpoint::Zone(GUEST), Endpoint::Zone(EHR), &[DICOM]),
    ];
    assert_eq!(codes(&clinic(flows)), ["guest-reaches-clinic", "redundant-flow"]);
}

fn is_error(finding: &Diagnostic) -> bool {
    finding.severity == Severity::Error && finding.code.ends_with("promise")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The proof over boxes and the meaning packet by packet agree, in both directions.
    #[test]
    fn promises_agree_with_the_meaning(
        flows in prop::collection::vec(any_flow(), 0..6), packet in crate::properties::any_packet(),
    ) {
        let policy = clinic(flows);
        let Some(promise) = exactly(&packet) else { return Ok(()) };
        let open_some_time = (0..7 * 24).any(|hour| {
            let clock = policy::eval::Clock { now: noon().checked_add(hour.hours()).unwrap(), trusted: true };
            matches!(evaluate(&policy, &packet, Context::New, clock), Verdict::Allow { .. })
        });
        let kept = |expect| {
            let tests = vec![Promise { expect, ..promise.clone() }];
            !check(&Policy { tests, ..policy.clone() }, noon()).iter().any(is_error)
        };
        prop_assert_eq!(kept(Expectation::Allow), open_some_time);
        prop_assert_eq!(kept(Expectation::Deny), !open_some_time);
    }

    /// Whatever is called redundant can go without a difference to any packet at any hour.
    #[test]
    fn redundant_flows_can_go(
        flows in prop::collection::vec(any_flow(), 1..6), packets in prop::collection::vec(crate::properties::any_packet(), 50),
    ) {
        let flows: Vec<Flow> = flows.into_iter().enumerate().map(|(id, flow)| Flow { name: format!("f{id}"), ..flow }).collect();
        let policy = clinic(flows.clone());
        let findings = check(&policy, noon());
        let Some(finding) = findings.iter().find(|finding| finding.code == "redundant-flow") else { return Ok(()) };
        let name = finding.message_en.split('`').nth(1).unwrap().to_owned();
        let fewer = clinic(flows.into_iter().filter(|flow| flow.name != name).collect());
        for (packet, hour) in packets.iter().zip((0..168).step_by(3)) {
            let clock = policy::eval::Clock { now: noon().checked_add(hour.hours()).unwrap(), trusted: true };
            let passes = |policy: &Policy| matches!(evaluate(policy, packet, Context::New, clock), Verdict::Allow { .. });
            prop_assert_eq!(passes(&policy), passes(&fewer), "without {}", name);
        }
    }
}

/// The promise about one packet, where the packet has a way that promises can speak of.
fn exactly(packet: &Packet) -> Option<Promise> {
    use policy::eval::{Path, Transport};
    let open = flow("probe", Endpoint::Gateway, Endpoint::Gateway, &[]);
    let every = [Protocol::Tcp(0, 65535), Protocol::Udp(0, 65535), Protocol::Echo];
    let zones = [WAN, EHR, MODALITY, GUEST, MANAGEMENT].map(Endpoint::Zone);
    let ends: Vec<Endpoint> = zones.into_iter().chain([Endpoint::Gateway]).collect();
    let all = Flow { from: ends.clone(), to: ends, services: every.to_vec(), ..open };
    let Verdict::Allow { path, .. } = evaluate(&clinic(vec![all]), packet, Context::New, clock()) else {
        return None;
    };
    let at = |zone, address| Endpoint::Networks(zone, vec![ipnet::IpNet::from(address)]);
    let (from, to) = match path {
        Path::Forward { from, to } => (at(from, packet.source), at(to, packet.destination)),
        Path::Input { from } => (at(from, packet.source), Endpoint::Gateway),
        Path::Output { to } => (Endpoint::Gateway, at(to, packet.destination)),
    };
    let service = match packet.transport {
        Transport::Tcp { destination_port, .. } => Protocol::Tcp(destination_port, destination_port),
        Transport::Udp { destination_port, .. } => Protocol::Udp(destination_port, destination_port),
        Transport::Icmp { .. } | Transport::Icmp6 { .. } => Protocol::Echo,
        Transport::Other(number) => Protocol::Ip(number),
    };
    Some(promise(Expectation::Deny, from, to, Some(&[service])))
}

/// Many flows that overlap in every way: the proofs stay finite and find the one breach.
#[test]
fn many_flows_are_examined() {
    let host = |zone, number: u32, third: u8| {
        let address = std::net::Ipv4Addr::new(192, 168, third, u8::try_from(number % 250 + 2).unwrap());
        Endpoint::Networks(zone, vec![ipnet::IpNet::from(std::net::IpAddr::V4(address))])
    };
    let port = |number: u32| u16::try_from(number % 60_000 + 1).unwrap();
    let narrow = (0..20_000u32).map(|number| {
        let ports = [Protocol::Tcp(port(number), port(number))];
        flow(&format!("f{number}"), host(MODALITY, number, 20), host(EHR, number / 7, 10), &ports)
    });
    let wide = (0..200).map(|number| {
        flow(
            &format!("w{number}"),
            Endpoint::Zone(MODALITY),
            Endpoint::Zone(EHR),
            &[Protocol::Udp(number, number + 500)],
        )
    });
    let tests = vec![promise(
        Expectation::Deny,
        Endpoint::Zone(MODALITY),
        Endpoint::Zone(EHR),
        Some(&[Protocol::Udp(699, 800)]),
    )];
    let findings = check(&with_tests(narrow.chain(wide).collect(), tests), noon());
    let [finding] = &findings[..] else { panic!("{} findings", findings.len()) };
    assert!(finding.message_en.contains("flow `w199` allows udp/699 "), "{}", finding.message_en);
}

/// The example that people copy from keeps its promises and the invariants, and nothing in it is idle.
#[test]
fn the_example_clinic_is_clean() {
    let sources = policy::raw::Sources::single("clinic.toml", include_str!("../../examples/clinic.toml"));
    let policy = policy::resolve::load(&sources, noon()).unwrap().policy;
    assert!(policy.tests.len() >= 6, "{} promises", policy.tests.len());
    let findings: Vec<String> =
        check(&policy, noon()).into_iter().map(|finding| finding.message_en).collect();
    assert_eq!(findings, Vec::<String>::new());
}
