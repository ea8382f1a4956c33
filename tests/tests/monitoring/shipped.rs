//! What `dashboard/` ships: read as it is, or with shorter durations and nothing else changed.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// How often Prometheus looks and judges here, for every 15 s on an installed box.
const OFTEN: &str = "1s";
/// How long a condition holds here before it is told, for every minute and more.
const HOLD: &str = "for: 2s";
/// How long here what was counted counts as new.
const RECENT: [(&str, &str); 6] = [
    ("[15m]", "[20s]"),
    ("offset 15m", "offset 20s"),
    ("< 900)", "< 20)"),
    ("[1h]", "[20s]"),
    ("offset 1h", "offset 20s"),
    ("< 3600)", "< 20)"),
];
/// Where the shipped example expects the gateway and the receiver of alerts.
const TARGETS: &str = "[\"192.0.2.1:9464\"]";
const RECEIVER: &str = "http://notify.example.jp:8080/sekisho";
/// The address in the gateway's certificate.
const NAME: &str = "192.168.99.1";

/// A text that an alert carries.
pub(crate) type Annotations = BTreeMap<String, String>;

fn dashboard() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard")
}

fn read(name: &str) -> String {
    let path = dashboard().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails when the shipped text no longer says what is to be replaced, lest the tests run for hours.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the shipped text no longer says `{from}`");
    text.replace(from, to)
}

/// `prometheus.yml` for these targets.
pub(crate) fn prometheus(targets: &[&str]) -> String {
    let often = ["scrape_interval: 15s", "evaluation_interval: 15s"];
    let text = often.iter().fold(read("prometheus/prometheus.yml"), |text, from| {
        replaced(&text, from, &from.replace("15s", OFTEN))
    });
    let text = replaced(&text, "scrape_timeout: 10s", "scrape_timeout: 1s");
    let text = replaced(&text, TARGETS, &serde_json::to_string(targets).unwrap());
    replaced(&text, "min_version: TLS13", &format!("min_version: TLS13\n      server_name: {NAME}"))
}

/// `rules.yml`.
pub(crate) fn rules() -> String {
    let text = replaced(&read("prometheus/rules.yml"), "interval: 15s", "interval: 1s");
    RECENT.iter().fold(text, |text, (from, to)| replaced(&text, from, to))
}

/// `alerts.yml`.
pub(crate) fn alerts() -> String {
    let text = replaced(&read("prometheus/alerts.yml"), "interval: 15s", "interval: 1s");
    ["for: 1m", "for: 5m", "for: 1h"].iter().fold(text, |text, from| replaced(&text, from, HOLD))
}

/// `alertmanager.yml` that tells this receiver.
pub(crate) fn alertmanager(receiver: &str) -> String {
    let text = replaced(&read("alertmanager/alertmanager.yml"), RECEIVER, receiver);
    let text = replaced(&text, "group_wait: 10s", "group_wait: 1s");
    replaced(&text, "group_interval: 5m", "group_interval: 1s")
}

/// Every shipped alert with its annotations, as `make dashboards` writes them.
pub(crate) fn annotations() -> BTreeMap<String, Annotations> {
    let mut alerts: BTreeMap<String, Annotations> = BTreeMap::new();
    let (mut alert, mut within) = (String::new(), false);
    for line in read("prometheus/alerts.yml").lines() {
        if let Some(name) = line.strip_prefix("      - alert: ") {
            (alert, within) = (name.to_owned(), false);
            alerts.insert(alert.clone(), Annotations::new());
        } else if line == "        annotations:" {
            within = true;
        } else if let (true, Some((name, text))) = (within, line.trim().split_once(": ")) {
            // A double-quoted scalar of YAML as it is generated is a string of JSON.
            alerts.get_mut(&alert).unwrap().insert(name.to_owned(), serde_json::from_str(text).unwrap());
        }
    }
    alerts
}

/// Every query of every panel of every dashboard, with where it stands and what Grafana fills in.
pub(crate) fn queries() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for language in ["en", "ja"] {
        let directory = dashboard().join("grafana").join(language);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            collect(&path.display().to_string(), &board["panels"], &mut all);
        }
    }
    all
}

/// Panels may hold panels (a row does), and each has its targets.
fn collect(place: &str, panels: &Value, all: &mut Vec<(String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        let place = format!("{place}: {}", panel["title"].as_str().unwrap_or_default());
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((place.clone(), filled(target["expr"].as_str().unwrap())));
        }
        collect(&place, &panel["panels"], all);
    }
}

fn filled(expression: &str) -> String {
    let variables = [("$__rate_interval", "10s"), ("$__range", "1h"), ("$instance", ".*")];
    variables.iter().fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value))
}
