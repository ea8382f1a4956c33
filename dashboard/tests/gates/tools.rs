//! What the programs themselves say to their files: `promtool` and `amtool`, which `make setup` installs.

use std::process::Command;

use crate::{files_in, root};

/// Runs a tool in `dashboard/`; its words are shown when it refuses.
fn accepted(tool: &str, arguments: &[&str]) {
    let run = Command::new(tool).args(arguments).current_dir(root()).output();
    let output = run.unwrap_or_else(|error| panic!("`{tool}` cannot be run ({error}); run `make setup`"));
    let says =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{tool} {}\n{says}", arguments.join(" "));
}

#[test]
fn promtool_accepts_rules_and_alerts() {
    let arguments =
        ["check", "rules", "--lint=all", "--lint-fatal", "prometheus/rules.yml", "prometheus/alerts.yml"];
    accepted("promtool", &arguments);
}

#[test]
fn promtool_accepts_the_configuration() {
    // Keys and certificates are the clinic's own: only the syntax can be judged here.
    accepted("promtool", &["check", "config", "--syntax-only", "prometheus/prometheus.yml"]);
}

#[test]
fn amtool_accepts_the_configuration() {
    accepted("amtool", &["check-config", "alertmanager/alertmanager.yml"]);
}

#[test]
fn every_alert_fires_and_stays_silent_as_its_test_says() {
    let tests = files_in("prometheus/tests");
    for alert in dashboard::alerts::ALERTS {
        let name = format!("{}.yml", alert.slug);
        assert!(tests.iter().any(|path| path.ends_with(&name)), "prometheus/tests/{name} is missing");
        let text = std::fs::read_to_string(root().join("prometheus/tests").join(&name)).unwrap();
        let asks = [format!("alertname: {}\n", alert.name), format!("alertname=\"{}\"", alert.name)];
        assert!(asks.iter().any(|ask| text.contains(ask)), "{name} does not ask for {}", alert.name);
        let fires = ["exp_alerts", "alertstate=\"firing\""].iter().any(|word| text.contains(word));
        let is_silent = ["exp_samples: []", "alertname: "].iter().any(|word| text.contains(word));
        assert!(fires && is_silent, "{name} does not show both that the alert fires and that it does not");
    }
    let paths: Vec<&str> = tests.iter().map(|path| path.to_str().unwrap()).collect();
    accepted("promtool", &[&["test", "rules"][..], &paths].concat());
}
