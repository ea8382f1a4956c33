//! The house's own rules for dashboards and pages: Grafana's dashboard-linter asks for most of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use policy::guideline::Catalogue;
use policy::guideline::catalogue::Coverage;
use serde_json::Value;

use crate::{committed, files_in, panels, root, text};

/// Kinds of panel that may be used: each was drawn with Grafana's own components in a trial.
const KINDS: [&str; 6] = ["stat", "timeseries", "bargauge", "table", "text", "row"];
/// Panels of the first page.
const FIRST_PAGE_MAX: usize = 12;
/// Width of Grafana's grid.
const COLUMNS: u64 = 24;

fn targets(panel: &Value) -> &[Value] {
    panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Everything that is wrong with a dashboard.
fn complaints(dashboard: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut hold = |is_good: bool, what: &str| {
        if !is_good {
            out.push(what.to_owned());
        }
    };
    hold(!text(dashboard, "uid").is_empty(), "no fixed uid");
    hold(dashboard["editable"] == false, "editable");
    hold(!text(dashboard, "description").is_empty(), "no description");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let has = |kind: &str, name: &str| variables.iter().any(|one| one["type"] == kind && one["name"] == name);
    hold(has("datasource", "datasource"), "no variable for the data source");
    hold(has("query", "instance"), "no variable for the gateway");
    let ids: BTreeSet<u64> = panels(dashboard).iter().filter_map(|panel| panel["id"].as_u64()).collect();
    hold(ids.len() == panels(dashboard).len(), "ids of panels are missing or there twice");
    hold(!overlaps(dashboard), "panels overlap or stand outside the grid");
    out.extend(panels(dashboard).iter().flat_map(of_panel));
    out
}

fn overlaps(dashboard: &Value) -> bool {
    let mut taken = BTreeSet::new();
    panels(dashboard).iter().any(|panel| {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        x + w > COLUMNS || cells.map(|cell| taken.insert(cell)).filter(|is_free| !is_free).count() > 0
    })
}

fn of_panel(panel: &Value) -> Vec<String> {
    let (kind, title) = (text(panel, "type"), text(panel, "title"));
    let mut out = Vec::new();
    let mut hold = |is_good: bool, what: &str| {
        if !is_good {
            out.push(format!("{title}: {what}"));
        }
    };
    hold(KINDS.contains(&kind), "a kind of panel that may not be used");
    hold(!title.is_empty(), "no title");
    if kind == "row" {
        return out;
    }
    hold(!text(panel, "description").is_empty(), "no description");
    if kind == "text" {
        hold(!text(&panel["options"], "content").is_empty(), "no text");
        return out;
    }
    hold(panel["datasource"]["uid"] == "${datasource}", "a data source that the reader cannot choose");
    hold(!targets(panel).is_empty(), "no question");
    hold(says_unit(panel), "no unit and no mapping");
    hold(!text(&panel["fieldConfig"]["defaults"], "noValue").is_empty(), "silence is not said");
    for target in targets(panel) {
        let expression = text(target, "expr");
        let known = ["refId", "datasource", "expr", "legendFormat", "instant", "range", "format"];
        let is_known = |key: &String| known.contains(&key.as_str());
        hold(target.as_object().unwrap().keys().all(is_known), "a target with an unknown key");
        hold(!expression.is_empty(), "a target without a question");
        hold(target["instant"] != target["range"], "a target that is neither instant nor over time");
        let is_rate = ["rate(", "increase("].iter().any(|function| expression.contains(function));
        let has_window = ["$__rate_interval]", "$__range]"].iter().any(|window| expression.contains(window));
        hold(!is_rate || has_window, "a rate over a fixed window");
        let is_over_time = target["range"] == true && is_rate;
        hold(
            !is_over_time || expression.contains("$__rate_interval]"),
            "a rate over time without $__rate_interval",
        );
    }
    out
}

/// Whether each number has a unit or a mapping.
fn says_unit(panel: &Value) -> bool {
    let defaults = &panel["fieldConfig"]["defaults"];
    let is_said = |unit: &Value, mappings: &Value| {
        !unit.as_str().unwrap_or_default().is_empty()
            || mappings.as_array().is_some_and(|all| !all.is_empty())
    };
    if panel["type"] != "table" {
        return is_said(&defaults["unit"], &defaults["mappings"]);
    }
    let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
    let renamed =
        panel["transformations"].as_array().unwrap().iter().find(|one| one["id"] == "organize").unwrap();
    let columns = renamed["options"]["renameByName"].as_object().unwrap();
    columns.iter().filter(|(field, _)| field.starts_with("Value")).all(|(_, title)| {
        let column = overrides.iter().find(|one| one["matcher"]["options"] == *title).unwrap();
        let property = |id: &str| {
            let properties = column["properties"].as_array().unwrap();
            properties.iter().find(|one| one["id"] == id).map_or(Value::Null, |one| one["value"].clone())
        };
        is_said(&property("unit"), &property("mappings"))
    })
}

#[test]
fn every_dashboard_keeps_the_rules() {
    for (path, dashboard) in committed() {
        assert_eq!(complaints(&dashboard), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn planted_faults_are_caught() {
    let good = committed().remove("grafana/en/overview.json").unwrap();
    let plant = |path: &str, value: &str| {
        let mut bad = good.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = serde_json::from_str(value).unwrap();
        complaints(&bad)
    };
    for (path, value) in [
        ("/uid", "null"),
        ("/editable", "true"),
        ("/templating/list", "[]"),
        ("/panels/0/id", "2"),
        ("/panels/0/gridPos/w", "5"),
        ("/panels/0/gridPos/x", "23"),
        ("/panels/0/type", "\"gauge\""),
        ("/panels/0/title", "\"\""),
        ("/panels/0/description", "\"\""),
        ("/panels/0/datasource/uid", "\"abc\""),
        ("/panels/0/fieldConfig/defaults/mappings", "[]"),
        ("/panels/0/fieldConfig/defaults/noValue", "\"\""),
        ("/panels/0/targets/0/exp", "\"up\""),
        ("/panels/0/targets/0/expr", "\"\""),
        ("/panels/9/targets/0/expr", "\"rate(x[5m])\""),
        ("/panels/9/fieldConfig/defaults/unit", "\"\""),
        ("/panels/6/fieldConfig/overrides/0/properties", "[]"),
    ] {
        assert!(!plant(path, value).is_empty(), "{value} at {path} is not caught");
    }
}

#[test]
fn the_first_page_is_short_and_asks_one_question() {
    for path in ["grafana/ja/overview.json", "grafana/en/overview.json"] {
        let dashboard = &committed()[path];
        assert!(panels(dashboard).len() <= FIRST_PAGE_MAX, "{path}");
        assert_eq!(panels(dashboard).iter().filter(|panel| panel["type"] == "stat").count(), 6, "{path}");
    }
}

/// The shape of a dashboard without its words.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| {
                !["renameByName", "options", "properties", "indexByName"].contains(&key.as_str())
            })
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        Value::Array(all) => all.iter().map(shape).collect(),
        Value::String(_) => Value::Null,
        other => other.clone(),
    }
}

#[test]
fn both_languages_have_the_same_pages() {
    let all = committed();
    let is_japanese = |text: &str| text.chars().any(|letter| ('\u{3040}'..='\u{9fff}').contains(&letter));
    // English texts cite documents by their names, in Han characters and katakana; a sentence has hiragana.
    let is_sentence = |text: &str| text.chars().any(|letter| ('\u{3040}'..='\u{309f}').contains(&letter));
    for (path, ja) in all.iter().filter(|(path, _)| path.starts_with("grafana/ja/")) {
        let en = &all[&path.replace("/ja/", "/en/")];
        assert_eq!(shape(ja), shape(en), "{path}");
        for (ja, en) in panels(ja).iter().zip(panels(en)) {
            for key in ["title", "description"] {
                assert!(!is_sentence(text(en, key)), "{path}: {}", text(en, key));
                // A title may be one word of the trade, such as BYOD.
                let is_shared = key == "title" && text(ja, key) == text(en, key);
                assert!(
                    is_shared || text(en, key).is_empty() || is_japanese(text(ja, key)),
                    "{path}: {}",
                    text(ja, key)
                );
            }
            let content = |panel: &Value| text(&panel["options"], "content").to_owned();
            assert!(!is_sentence(&content(en)), "{path}: {}", content(en));
        }
    }
}

#[test]
fn each_control_has_one_panel_and_only_measured_ones_a_value() {
    let catalogue = Catalogue::shipped().unwrap();
    let dashboard = &committed()["grafana/ja/controls.json"];
    for control in catalogue.controls() {
        let of: Vec<&Value> =
            panels(dashboard).iter().filter(|panel| panel["title"] == control.title.ja.as_str()).collect();
        assert_eq!(of.len(), 1, "{}", control.id);
        let is_live = control.coverage == Coverage::Live;
        assert_eq!(of[0]["type"], if is_live { "stat" } else { "text" }, "{}", control.id);
        let asks =
            targets(of[0]).iter().any(|one| text(one, "expr").contains(&format!("\"{}\"", control.id)));
        assert_eq!(asks, is_live, "{}", control.id);
    }
}

#[test]
fn every_link_to_a_runbook_leads_to_one() {
    for (path, dashboard) in committed() {
        let language = path.split('/').nth(1).unwrap();
        let runbooks = &committed()[&format!("grafana/{language}/runbooks.json")];
        let links = panels(&dashboard).iter().filter_map(|panel| panel["links"][0]["url"].as_str());
        for link in links {
            let (place, id) = link.rsplit_once("?viewPanel=").unwrap();
            assert_eq!(place, format!("/d/{}", text(runbooks, "uid")), "{path}");
            let id: u64 = id.parse().unwrap();
            assert!(panels(runbooks).iter().any(|panel| panel["id"] == id), "{path}: {link}");
        }
    }
}

#[test]
fn every_alert_has_its_page_in_both_languages() {
    let headings: BTreeMap<&str, [&str; 5]> = BTreeMap::from([
        (
            "ja",
            [
                "何が起きていますか",
                "まず見るもの",
                "電話する相手",
                "してはいけないこと",
                "システム運用担当者へ",
            ],
        ),
        (
            "en",
            [
                "What it means",
                "What to look at first",
                "Whom to call",
                "What not to do",
                "For the system operator",
            ],
        ),
    ]);
    let alerts = fs::read_to_string(root().join("prometheus/alerts.yml")).unwrap();
    assert!(dashboard::alerts::ALERTS.len() <= dashboard::alerts::ALERTS_MAX);
    for alert in dashboard::alerts::ALERTS {
        assert!(alerts.contains(&format!("alert: {}\n", alert.name)), "{}", alert.name);
        for (language, headings) in &headings {
            let path = format!("{language}/{}.md", alert.slug);
            assert!(alerts.contains(&path), "{path} is not linked");
            let page = fs::read_to_string(root().join("runbooks").join(&path)).unwrap();
            for heading in headings {
                assert!(page.contains(&format!("\n## {heading}\n")), "{path}: {heading}");
            }
        }
    }
}

/// A page of measurements must not read as a certificate. The words are written in pieces, not to find themselves.
#[test]
fn nothing_claims_conformity() {
    let banned = [["準", "拠"].concat(), ["compli", "ant"].concat(), ["compli", "ance"].concat()];
    let generated = dashboard::files().unwrap();
    let by_hand = files_in(".").into_iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    let by_hand = by_hand.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()));
    for (path, text) in generated.into_iter().chain(by_hand) {
        let text = text.to_lowercase();
        assert!(!banned.iter().any(|word| text.contains(word)), "{path}");
    }
}
