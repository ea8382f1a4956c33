//! A clinic in which everything is as it should be: the example policy, and facts as the roles would tell them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use policy::guideline::observation::*;
use policy::guideline::{Assessment, Catalogue, Context, Observation, Observations, Observed, State, assess};
use policy::model::{Policy, ZoneKind};
use policy::raw::Sources;

/// The example policy, whose text the tests change.
pub(crate) const CLINIC: &str = include_str!("../../examples/clinic.toml");
pub(crate) const POLICY_ID: &str = "3f2a";

pub(crate) fn now() -> Timestamp {
    "2026-11-21T10:00:00+09:00".parse().unwrap()
}

pub(crate) fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn policy(text: &str) -> Policy {
    policy_at(text, now())
}

pub(crate) fn policy_at(text: &str, now: Timestamp) -> Policy {
    let sources = Sources::single("clinic.toml", text);
    policy::load(&sources, now).map(|resolved| resolved.policy).unwrap_or_else(|report| panic!("{report:?}"))
}

/// Every fact of the healthy clinic, all measured five seconds ago.
pub(crate) fn facts(policy: &Policy) -> Vec<Observation> {
    let mut facts = policy::guideline::posture(policy, now());
    facts.extend(of_kernel());
    facts.extend(of_services());
    facts
}

fn of_kernel() -> Vec<Observation> {
    let feed = Feed { alive: true, lost: 0, lost_at: None };
    let neighbours =
        |zone: &str, kind| ZoneNeighbours { zone: zone.into(), kind, known: 2, unknown: 0, impostors: 0 };
    let strict = |zone: &str| PathFilter { zone: zone.into(), mode: PathMode::Strict };
    vec![
        Enforcement {
            standing: Standing::Applied,
            policy: Some(POLICY_ID.into()),
            applied_at: Some(ago(2 * DAY)),
        }
        .into(),
        ReadBack::default().into(),
        ReversePath { interfaces: vec![strict("wan"), strict("ehr"), strict("modality")] }.into(),
        KernelSettings::default().into(),
        TimeTrust { trusted: true }.into(),
        Neighbours {
            zones: vec![
                neighbours("ehr", ZoneKind::Clinical),
                neighbours("modality", ZoneKind::MedicalDevice),
                neighbours("staff", ZoneKind::Staff),
            ],
            since: ago(100 * DAY),
            unseen: Named::default(),
        }
        .into(),
        Feeds { denials: feed.clone(), connections: feed }.into(),
        FlowLedger {
            writing: true,
            oldest_at: Some(ago(80 * DAY)),
            dropped_at: None,
            since: ago(80 * DAY),
            bytes: 100_000_000,
            budget_bytes: 1_000_000_000,
            retention_s: 90 * 86_400,
        }
        .into(),
        Sightings { since: ago(30 * DAY), sightings: Vec::new() }.into(),
        Factors { enrolled: 1, ..Factors::default() }.into(),
    ]
}

fn of_services() -> Vec<Observation> {
    let done = |deed, by: &str| LastDone {
        deed,
        done_at: Some(ago(3 * DAY)),
        by: Some(by.into()),
        policy: Some(POLICY_ID.into()),
    };
    let mut facts: Vec<Observation> = vec![
        Roles {
            answering: ["core", "watch", "record"].into_iter().collect(),
            silent: Named::default(),
            scraped_at: Some(ago(20)),
        }
        .into(),
        Listeners {
            sockets: vec![Listener {
                transport: ListenerTransport::Tcp,
                port: 22,
                faces_outside: true,
                named: true,
                allowed_from_outside: false,
            }],
        }
        .into(),
        MetricsDoor::Open(door()).into(),
        Ntp { synchronised: true, stratum: 3, offset_ms: 4, sources: 2 }.into(),
        log().into(),
        maintenance().into(),
        file_door().into(),
    ];
    facts.extend(Deed::ALL.map(|deed| done(deed, "hanako").into()));
    facts
}

pub(crate) fn door() -> Door {
    Door {
        tls13_only: true,
        stranger_refused: true,
        client_certificate: true,
        suite: "TLS13_AES_256_GCM_SHA384".into(),
        group: "X25519".into(),
        not_after: ago(-200 * DAY),
    }
}

pub(crate) fn maintenance() -> Maintenance {
    Maintenance { opened: 2, ended_at: Some(ago(4 * DAY)), ..Maintenance::default() }
}

pub(crate) fn file_door() -> FileDoor {
    FileDoor {
        vendors: 1,
        unattested: Named::default(),
        tried_at: Some(ago(30)),
        stops_macro: true,
        passes_harmless: true,
    }
}

pub(crate) fn log() -> Log {
    Log {
        accepting: true,
        intact: true,
        verified_at: Some(ago(HOUR)),
        checkpoint_at: Some(ago(60)),
        tree_size: 12_345,
        oldest_at: Some(ago(100 * DAY)),
        dropped_at: None,
        since: ago(100 * DAY),
        bytes: 10_000_000,
        budget_bytes: 4_000_000_000,
        retention_s: 5 * 366 * 86_400,
    }
}

pub(crate) fn observed(facts: impl IntoIterator<Item = Observation>) -> Observations {
    facts.into_iter().map(|fact| Observed { at: ago(5), fact }).collect()
}

pub(crate) fn context() -> Context {
    Context { now: now(), timezone: TimeZone::get("Asia/Tokyo").unwrap() }
}

pub(crate) fn assessed(observations: &Observations) -> Vec<Assessment> {
    assess(&Catalogue::shipped().unwrap(), observations, &context())
}

pub(crate) fn state_of(assessments: &[Assessment], control: &str) -> State {
    find(assessments, control).state
}

pub(crate) fn find<'a>(assessments: &'a [Assessment], control: &str) -> &'a Assessment {
    assessments.iter().find(|one| one.control.as_str() == control).unwrap_or_else(|| panic!("no {control}"))
}

/// The healthy clinic with one thing changed.
pub(crate) fn with(changed: impl Into<Observation>) -> Vec<Assessment> {
    let mut facts = facts(&policy(CLINIC));
    let changed = changed.into();
    facts.retain(|fact| fact.subject() != changed.subject());
    facts.push(changed);
    assessed(&observed(facts))
}

/// The healthy clinic with another policy.
pub(crate) fn with_policy(text: &str) -> Vec<Assessment> {
    assessed(&observed(facts(&policy(text))))
}

/// The example policy with something added at its end.
pub(crate) fn and(more: &str) -> String {
    format!("{CLINIC}\n{more}\n")
}
