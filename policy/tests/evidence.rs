//! What `[evidence]` and `[metrics]` mean, what holds without them, and what the door lets pass.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use policy::eval::{Arrival, Clock, Context, Packet, Transport, Verdict, evaluate};
use policy::model::{Evidence, MetricsAuth, Policy};
use policy::raw::Sources;
use policy::resolve::load;

const BASE: &str = include_str!("diagnostics/base.toml");
const DESK: &str =
    "[zone.desk]\nkind = \"management\"\ninterface = \"eth9\"\nnetworks = [\"192.168.99.0/24\"]\n";
const DAY_S: u64 = 86_400;

fn now() -> jiff::Timestamp {
    "2026-11-20T10:00:00+09:00".parse().unwrap()
}

fn policy(more: &str) -> Policy {
    let sources = Sources::single("clinic.toml", format!("{BASE}\n{DESK}{more}"));
    load(&sources, now()).unwrap_or_else(|report| panic!("{report}")).policy
}

#[test]
fn evidence_is_kept_even_where_the_policy_is_silent() {
    let unsaid = policy("").evidence;
    assert_eq!(unsaid, Evidence::default());
    assert_eq!(policy("[evidence]\n").evidence, unsaid);
    assert_eq!(unsaid.log_retention_s, 5 * 366 * DAY_S);
    assert_eq!(unsaid.log_budget_bytes, 4_000_000_000);
    assert_eq!(unsaid.flows_retention_s, 90 * DAY_S);
    assert_eq!(unsaid.flows_budget_bytes, 1_000_000_000);
}

#[test]
fn each_key_of_evidence_sets_its_own_value() {
    let said = policy(
        "[evidence]\nlog_retention = \"10y\"\nlog_budget = \"64 MB\"\nflows_retention = \"1d\"\nflows_budget = \"1 TB\"\n",
    );
    let wanted = Evidence {
        log_retention_s: 10 * 366 * DAY_S,
        log_budget_bytes: 64_000_000,
        flows_retention_s: DAY_S,
        flows_budget_bytes: 1_000_000_000_000,
    };
    assert_eq!(said.evidence, wanted);
}

#[test]
fn the_edges_of_every_range_are_inside() {
    for text in [
        "log_retention = \"365d\"",
        "log_retention = \"30y\"",
        "log_budget = \"1 TB\"",
        "flows_retention = \"10y\"",
        "flows_budget = \"16 MB\"",
    ] {
        policy(&format!("[evidence]\n{text}\n"));
    }
}

#[test]
fn without_the_section_there_is_no_door() {
    let policy = policy("");
    assert_eq!(policy.metrics, None);
    assert!(!policy.flows.iter().any(|flow| flow.name == "@metrics"));
    assert!(!allows(&policy, "eth9", "192.168.99.5", "192.168.99.1", 9464));
}

#[test]
fn the_door_opens_to_its_zone_and_port_only() {
    let policy = policy("[metrics]\nzone = \"desk\"\n");
    let door = policy.metrics.unwrap();
    assert_eq!(
        (policy.zone(door.zone).name.as_str(), door.port, door.auth),
        ("desk", 9464, MetricsAuth::MutualTls)
    );
    assert!(allows(&policy, "eth9", "192.168.99.5", "192.168.99.1", 9464));
    assert!(!allows(&policy, "eth9", "192.168.99.5", "192.168.99.1", 9465));
    assert!(!allows(&policy, "eth2", "192.168.30.31", "192.168.30.1", 9464));
    assert!(!allows(&policy, "eth2", "192.168.30.31", "192.168.99.1", 9464));
    let written =
        self::policy("[metrics]\nzone = \"desk\"\nport = 65535\nauth = \"token\"\n").metrics.unwrap();
    assert_eq!((written.port, written.auth), (65_535, MetricsAuth::Token));
}

#[test]
fn a_flow_of_the_same_zone_may_share_the_port() {
    let text = "[metrics]\nzone = \"desk\"\n[[flow]]\nname = \"admin\"\nfrom = \"zone:desk\"\nto = \"gateway\"\nany = true\nreason = \"管理\"\npurpose = \"管理\"\nowner = \"医事課\"\n";
    assert!(policy(text).metrics.is_some());
}

/// Whether the door's own flow lets a new connection pass.
fn allows(policy: &Policy, interface: &str, source: &str, destination: &str, port: u16) -> bool {
    let packet = Packet {
        arrival: Arrival::Interface(interface.to_owned()),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        transport: Transport::Tcp { source_port: 40_000, destination_port: port, syn: true },
    };
    match evaluate(policy, &packet, Context::New, Clock { now: now(), trusted: true }) {
        Verdict::Allow { flow, .. } => policy.flow(flow).name == "@metrics",
        Verdict::Control { .. } | Verdict::Deny { .. } => false,
    }
}
