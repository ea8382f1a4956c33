//! The doors as a policy means them: what VPN peers reach, what they never do, where strangers may knock, and what the
//! doors' roles are told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use std::net::IpAddr;

use policy::check::check;
use policy::compile::compile;
use policy::diagnostic::Severity;
use policy::eval::{Arrival, Clock, Context, Packet, Transport, Verdict, evaluate};
use policy::ledger::Ledger;
use policy::model::{Policy, VPN_INTERFACE, ZoneKind};
use policy::raw::Sources;
use policy::resolve::load;
use policy::services::{EdgeSettings, FilesSettings, VpnCarrier, edge_conf, files_conf};

const BASE: &str = include_str!("diagnostics/base.toml");
const PLACES: &str = "[zone.desk]\nkind = \"management\"\ninterface = \"eth9\"\nnetworks = [\"192.168.99.0/24\"]\n\
    [zone.claims]\nkind = \"closed-network\"\ninterface = \"eth8\"\nnetworks = [\"10.100.0.0/16\"]\n\
    [device.admin]\nzone = \"desk\"\naddress = [\"192.168.99.5\"]\n\
    [device.portal]\nzone = \"claims\"\naddress = [\"10.100.0.9\"]\n";
const VPN: &str = "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\", \"fd51:7ec5:0:ff::1/64\"]\n";
const KEYS: [&str; 2] =
    ["xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="];
const VENDOR: &str = "[vendor.acme]\nca = \"acme.pem\"\ncontract_until = 2027-03-31\n\
    [vendor.acme.maintenance]\ntargets = [\"device:server:ssh\"]\nmax_duration = \"2h\"\napprovals = [\"clinic\"]\n\
    [vendor.acme.files]\nto_clinic = { accept = [\"pdf\"], attestation = \"required\", max_size = \"1 MB\", drop = \"inbox\" }\n";

fn now() -> jiff::Timestamp {
    "2026-11-20T10:00:00+09:00".parse().unwrap()
}

fn policy(more: &str) -> Policy {
    let sources = Sources::single("clinic.toml", format!("{BASE}\n{PLACES}{more}"));
    load(&sources, now()).unwrap_or_else(|report| panic!("{report}")).policy
}

fn peer(name: &str, number: usize, person: &str, reach: &str, more: &str) -> String {
    let key = KEYS.get(number).unwrap();
    format!(
        "[[vpn.peer]]\nname = \"{name}\"\nperson = \"{person}\"\npublic_key = \"{key}\"\nreach = [{reach}]\n{more}"
    )
}

fn address(policy: &Policy, name: &str, ip6: bool) -> IpAddr {
    let mut peers = policy.vpn.as_ref().unwrap().peers.iter();
    let peer = peers.find(|peer| peer.name == name).unwrap();
    *peer.address.iter().find(|address| address.is_ipv6() == ip6).unwrap()
}

/// The name of the flow that lets the packet pass, if one does.
fn passes(policy: &Policy, interface: &str, source: IpAddr, to: &str, port: u16) -> Option<String> {
    let transport = Transport::Tcp { source_port: 40_000, destination_port: port, syn: true };
    decide(policy, interface, source, to, transport)
}

fn decide(
    policy: &Policy,
    interface: &str,
    source: IpAddr,
    to: &str,
    transport: Transport,
) -> Option<String> {
    let arrival = Arrival::Interface(interface.to_owned());
    let packet = Packet { arrival, source, destination: to.parse().unwrap(), transport };
    match evaluate(policy, &packet, Context::New, Clock { now: now(), trusted: true }) {
        Verdict::Allow { flow, .. } => Some(policy.flow(flow).name.clone()),
        Verdict::Control { .. } | Verdict::Deny { .. } => None,
    }
}

fn two_peers() -> Policy {
    let first =
        peer("note", 0, "hanako", "\"device:server:https\", \"device:server:ssh\", \"device:pc:https\"", "");
    policy(&format!(
        "{VPN}{first}{}",
        peer("pad", 1, "jiro", "\"device:pc:ssh\"", "address = [\"10.90.0.9\"]\n")
    ))
}

#[test]
fn a_peer_reaches_what_is_written_for_it_and_nothing_else() {
    let policy = two_peers();
    let (note, pad) = (address(&policy, "note", false), address(&policy, "pad", false));
    let (server, pc) = ("192.168.10.10", "192.168.30.31");
    for (source, to, port, flow) in [
        (note, server, 443, Some("@vpn-note")),
        (note, server, 22, Some("@vpn-note")),
        (note, pc, 443, Some("@vpn-note")),
        // Each target has its own services: they do not mix.
        (note, pc, 22, None),
        (note, server, 80, None),
        (note, "192.168.10.11", 443, None),
        (pad, pc, 22, Some("@vpn-pad")),
        (pad, server, 443, None),
        ("10.90.0.200".parse().unwrap(), server, 443, None),
        // Peers do not meet one another, nor the gateway.
        (note, "10.90.0.9", 22, None),
        (note, "10.90.0.1", 22, None),
        (note, "192.168.10.1", 443, None),
        (note, "198.51.100.7", 443, None),
    ] {
        assert_eq!(
            passes(&policy, VPN_INTERFACE, source, to, port).as_deref(),
            flow,
            "{source} to {to}:{port}"
        );
    }
    let note6 = address(&policy, "note", true);
    assert_eq!(
        passes(&policy, VPN_INTERFACE, note6, "fd51:7ec5:0:10::10", 443).as_deref(),
        Some("@vpn-note")
    );
    // Neither does anybody elsewhere speak as a peer, nor a peer as somebody elsewhere.
    assert_eq!(passes(&policy, "eth2", note, server, 443), None);
    assert_eq!(passes(&policy, VPN_INTERFACE, "192.168.30.31".parse().unwrap(), server, 443), None);
    let ruleset = compile(&policy, &Ledger::default()).unwrap().ruleset;
    let marks: Vec<&str> = ruleset.marks.values().map(|info| info.name.as_str()).collect();
    assert_eq!(
        marks.iter().filter(|name| **name == "@vpn-note").count(),
        1,
        "one mark for one peer: {marks:?}"
    );
}

#[test]
fn a_peer_ends_with_its_person() {
    let person = "[person.saburo]\nname = \"佐倉 三郎\"\nuntil = 2026-11-20\n";
    let text = format!("{person}{VPN}{}", peer("note", 0, "saburo", "\"device:server:https\"", ""));
    let policy = policy(&text);
    let until = "2026-11-21T00:00:00+09:00".parse().unwrap();
    assert_eq!(policy.vpn.as_ref().unwrap().peers.first().unwrap().until, Some(until));
    let packet = Packet {
        arrival: Arrival::Interface(VPN_INTERFACE.to_owned()),
        source: address(&policy, "note", false),
        destination: "192.168.10.10".parse().unwrap(),
        transport: Transport::Tcp { source_port: 40_000, destination_port: 443, syn: true },
    };
    let at = |now, trusted| evaluate(&policy, &packet, Context::New, Clock { now, trusted });
    assert!(matches!(at(now(), true), Verdict::Allow { .. }));
    assert!(matches!(at(until, true), Verdict::Deny { .. }));
    assert!(matches!(at(now(), false), Verdict::Deny { .. }), "an end that no clock vouches for");
}

#[test]
fn strangers_may_knock_at_the_doors_only() {
    let policy_of = policy;
    let policy = policy_of(&format!("{VPN}{VENDOR}[maintenance]\nlisten = 8444\n"));
    let errors = check(&policy, now()).into_iter().filter(|found| found.severity == Severity::Error).count();
    assert_eq!(errors, 0, "the doors are no holes");
    let own = |name: &str| policy.flows().find(|(_, flow)| flow.name == name).map(|(_, flow)| flow.clone());
    let (vpn, maintenance) = (own("@vpn-door").unwrap(), own("@maintenance-door").unwrap());
    assert_eq!(format!("{:?}", vpn.services), "[Udp(51820, 51820)]");
    assert_eq!(format!("{:?}", maintenance.services), "[Tcp(8444, 8444), Udp(8444, 8444)]");
    assert!(policy_of("").flows().all(|(_, flow)| !flow.name.ends_with("-door")), "nothing to knock at");
    let no_work = VENDOR.split("[vendor.acme.maintenance]").next().unwrap();
    assert!(policy_of(no_work).maintenance.is_none(), "a vendor without maintenance opens none");
}

#[test]
fn the_vpns_zone_is_made_or_taken() {
    let made = policy(VPN);
    let zone = made.zone(made.vpn.as_ref().unwrap().zone);
    assert_eq!((zone.name.as_str(), zone.slug.as_str(), zone.kind), ("VPN", "vpn", ZoneKind::Vpn));
    assert_eq!(zone.interface.as_deref(), Some(VPN_INTERFACE));
    let written = policy(&format!("[zone.road]\nkind = \"vpn\"\n{VPN}"));
    let zone = written.zone(written.vpn.as_ref().unwrap().zone);
    assert_eq!((zone.name.as_str(), zone.interface.as_deref()), ("road", Some(VPN_INTERFACE)));
    assert_eq!(zone.networks, made.zone(made.vpn.as_ref().unwrap().zone).networks);
    assert!(
        policy("[zone.road]\nkind = \"vpn\"\n")
            .zones
            .iter()
            .all(|zone| zone.interface.as_deref() != Some(VPN_INTERFACE))
    );
}

#[test]
fn the_vpn_keeps_its_invariants() {
    let codes = |text: &str| -> Vec<&'static str> {
        let found = check(&policy(text), now()).into_iter();
        found.filter(|found| found.severity == Severity::Error).map(|found| found.code).collect()
    };
    let flow = |from: &str, to: &str| {
        format!(
            "{VPN}[[flow]]\nname = \"x\"\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"https\"\npurpose = \"x\"\nowner = \"x\"\n"
        )
    };
    assert_eq!(codes(&flow("zone:VPN", "zone:VPN")), ["vpn-transit"]);
    assert_eq!(codes(&flow("zone:VPN", "device:portal")), ["vpn-transit"]);
    assert_eq!(codes(&flow("device:portal", "zone:VPN")), ["vpn-transit"]);
    assert_eq!(codes(&flow("zone:VPN", "zone:desk")), ["vpn-reaches-management"]);
    assert_eq!(codes(&flow("zone:VPN", "zone:ehr")), Vec::<&str>::new());
    let admin = "[person.ichiro]\nname = \"一郎\"\nroles = [\"admin\"]\nsecond_factor = \"totp\"\n";
    let managing = |person: &str, factor: &str| {
        codes(&format!("{admin}{VPN}{}", peer("note", 0, person, "\"device:admin:ssh\"", factor)))
    };
    let totp = "second_factor = \"totp\"\n";
    assert_eq!(managing("ichiro", totp), Vec::<&str>::new());
    assert_eq!(managing("ichiro", ""), ["vpn-reaches-management"], "an admin who proves nothing");
    assert_eq!(managing("hanako", totp), ["vpn-reaches-management"], "not an admin");
}

#[test]
fn the_doors_roles_are_told_what_they_need() {
    let peers = peer("note", 0, "hanako", "\"device:server:https\"", "address = [\"10.90.0.9\"]\n");
    let policy = policy(&format!("{VPN}mtu = 1380\n{peers}{VENDOR}"));
    let text = edge_conf(&policy, VpnCarrier::Kernel).unwrap();
    let edge: EdgeSettings = serde_json::from_str(&text).unwrap();
    let vpn = edge.vpn.unwrap();
    assert_eq!(vpn.carrier, VpnCarrier::Kernel);
    assert_eq!((vpn.listen_port, vpn.mtu, vpn.interface.as_str()), (51820, 1380, VPN_INTERFACE));
    assert_eq!(format!("{:?}", vpn.peers.first().unwrap().allowed_ips), "[10.90.0.9/32]");
    let maintenance = edge.maintenance.unwrap();
    assert_eq!((maintenance.port, maintenance.vendors.len()), (8443, 1));
    assert_eq!(maintenance.vendors.first().unwrap().ca_pem, None, "the file of its authority is not there");
    assert!(!text.contains("佐倉"), "edge learns no name of a person");
    let files: FilesSettings = serde_json::from_str(&files_conf(&policy).unwrap()).unwrap();
    let acme = files.vendors.first().unwrap();
    assert!(acme.attestation_required && acme.max_size_bytes == Some(1_000_000));
    assert_eq!((acme.accept.as_slice(), acme.drop.as_deref()), (&["pdf".to_owned()][..], Some("inbox")));
    let unknown = text.replacen("{", "{\"more\": 1,", 1);
    assert!(serde_json::from_str::<EdgeSettings>(&unknown).is_err(), "an unknown key is an error");
}

#[test]
fn the_same_policy_again_is_the_same_rule_set() {
    let two = peer("two", 0, "hanako", "\"device:server:https\", \"device:server:ssh\"", "");
    let policy = policy(&format!("{VPN}{two}{VENDOR}"));
    let first = compile(&policy, &Ledger::default()).unwrap();
    let second = compile(&policy, &first.ledger).unwrap();
    assert_eq!(first.ruleset.id(), second.ruleset.id());
    let third = compile(&policy, &second.ledger).unwrap();
    assert_eq!(second.ruleset.id(), third.ruleset.id());
    assert_eq!(second.ledger, third.ledger);
}

#[test]
fn the_example_again_is_the_same_rule_set() {
    let example = include_str!("../examples/clinic.toml");
    let of = |text: String| load(&Sources::single("clinic.toml", text), now()).unwrap().policy;
    let policy = of(example.to_owned());
    let first = compile(&policy, &Ledger::default()).unwrap();
    let room = of(example.replace("log_budget = \"4 GB\"", "log_budget = \"64 MB\""));
    let second = compile(&room, &first.ledger).unwrap();
    assert_eq!(first.ruleset.id(), second.ruleset.id());
}
