//! Every dashboard against the schema made from Grafana's own types.

use std::fs;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::{committed, panels, root, text};

/// The schemas of one kind of thing.
struct Schemas {
    dashboard: Validator,
}

fn validator(name: &str) -> Option<Validator> {
    let text = fs::read_to_string(root().join(format!("schema/{name}.schema.json"))).ok()?;
    Some(jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap())
}

impl Schemas {
    fn read() -> Self {
        Schemas { dashboard: validator("dashboard").unwrap() }
    }

    /// Everything that is wrong with a dashboard.
    fn faults(&self, dashboard: &Value) -> Vec<String> {
        let mut faults = faults(&self.dashboard, dashboard);
        for panel in panels(dashboard).iter().filter(|panel| panel["type"] != "row") {
            let kind = text(panel, "type");
            let options = validator(&format!("{kind}-options"));
            match options {
                Some(schema) => faults.extend(self::faults(&schema, &panel["options"])),
                None => faults.push(format!("no schema for the options of `{kind}`")),
            }
            if let Some(schema) = validator(&format!("{kind}-field")) {
                faults.extend(self::faults(&schema, &panel["fieldConfig"]["defaults"]["custom"]));
            }
        }
        faults
    }
}

fn faults(schema: &Validator, value: &Value) -> Vec<String> {
    schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_dashboard_is_valid() {
    let schemas = Schemas::read();
    for (path, dashboard) in committed() {
        assert_eq!(schemas.faults(&dashboard), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn planted_faults_are_caught() {
    let schemas = Schemas::read();
    let good = committed().remove("grafana/ja/overview.json").unwrap();
    let plant = |path: &str, value: Value| {
        let mut bad = good.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = value;
        schemas.faults(&bad)
    };
    for (path, value) in [
        ("/colour", json!("dark")),
        ("/schemaVersion", json!("42")),
        ("/panels/0/gridPos/x", json!("0")),
        ("/panels/0/fieldConfig/defaults/thresholds/mode", json!("absolut")),
        ("/panels/0/fieldConfig/defaults/mapings", json!([])),
        ("/panels/0/options/colorMode", json!("backgroud")),
        ("/panels/0/options/graph", json!("none")),
        ("/panels/6/fieldConfig/defaults/custom/inspect", json!("no")),
        ("/panels/9/fieldConfig/defaults/custom/drawStyle", json!("lines")),
    ] {
        assert!(!plant(path, value).is_empty(), "a fault at {path} is not caught");
    }
}
