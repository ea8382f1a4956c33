//! The settings of our own roles: what is in them, that they read back, and that nothing unknown does.

use policy::compile::compile;
use policy::ledger::Ledger;
use policy::model::{Endpoint, MetricsAuth, MetricsDoor, Policy, Protocol};
use policy::ruleset::Mark;
use policy::services::{
    ConsoleSettings, RecordSettings, ServicesError, WatchSettings, console_conf, record_conf, watch_conf,
};

use crate::site::*;

fn watched() -> Policy {
    let (ct, ehr) = (Endpoint::Device(CT), Endpoint::Device(EHR_SERVER));
    let mut policy = clinic(vec![flow("ct-to-ehr", ct, ehr, &[Protocol::Tcp(104, 104)])]);
    policy.devices[CT.0].mac = Some("02:00:00:00:20:21".to_owned());
    policy.zones[GUEST.0].name = "患者さん用".to_owned();
    policy.metrics = Some(MetricsDoor { zone: MANAGEMENT, port: 9464, auth: MetricsAuth::Token });
    policy
}

fn watch(policy: &Policy) -> String {
    watch_conf(policy, &compile(policy, &Ledger::default()).unwrap().ruleset).unwrap()
}

#[test]
fn golden_settings() {
    insta::assert_snapshot!("watch", watch(&watched()));
    insta::assert_snapshot!("record", record_conf(&watched()).unwrap());
    insta::assert_snapshot!("console", console_conf(&watched()).unwrap());
}

#[test]
fn settings_read_back_as_the_policy_means_them() {
    let policy = watched();
    let watch: WatchSettings = serde_json::from_str(&watch(&policy)).unwrap();
    assert_eq!(watch.flows_retention_s, policy.evidence.flows_retention_s);
    assert_eq!(watch.flows_budget_bytes, policy.evidence.flows_budget_bytes);
    assert_eq!(watch.zones.len(), policy.zones.len());
    assert_eq!(watch.zones[GUEST.0].name, "患者さん用");
    assert_eq!(watch.devices[CT.0].zone, policy.zone(policy.devices[CT.0].zone).slug);
    assert_eq!(watch.marks.len(), 1);
    assert_eq!((watch.marks[0].mark, watch.marks[0].flow.as_str()), (Mark(1), "ct-to-ehr"));
    let record: RecordSettings = serde_json::from_str(&record_conf(&policy).unwrap()).unwrap();
    assert_eq!(record.log_retention_s, policy.evidence.log_retention_s);
    assert_eq!(record.log_budget_bytes, policy.evidence.log_budget_bytes);
    let console: ConsoleSettings = serde_json::from_str(&console_conf(&policy).unwrap()).unwrap();
    let door = console.metrics.unwrap();
    assert_eq!(console.timezone, "Asia/Tokyo");
    assert_eq!(door.auth, MetricsAuth::Token);
    let listen: Vec<String> = door.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["192.168.99.1:9464", "[fd51:7ec5:0:99::1]:9464"], "the zone's addresses only");
}

#[test]
fn without_a_door_nothing_listens() {
    let console: ConsoleSettings = serde_json::from_str(&console_conf(&clinic(Vec::new())).unwrap()).unwrap();
    assert_eq!(console.metrics, None);
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    let policy = watched();
    let spoil = |text: &str| text.replacen('{', "{ \"later\": 1,", 1);
    assert!(serde_json::from_str::<WatchSettings>(&spoil(&watch(&policy))).is_err());
    assert!(serde_json::from_str::<RecordSettings>(&spoil(&record_conf(&policy).unwrap())).is_err());
    assert!(serde_json::from_str::<ConsoleSettings>(&spoil(&console_conf(&policy).unwrap())).is_err());
}

#[test]
fn a_time_zone_without_a_name_is_refused() {
    let mut policy = watched();
    policy.clinic.timezone = jiff::tz::Offset::constant(9).to_time_zone();
    assert!(matches!(console_conf(&policy), Err(ServicesError::Settings { role: "console", .. })));
}
