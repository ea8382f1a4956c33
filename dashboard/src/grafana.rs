//! Dashboards of Grafana: JSON of version 1 (schemaVersion 42), as `@grafana/schema` describes it and nothing more.

use policy::diagnostic::Language;
use policy::guideline::{Catalogue, Words};
use serde_json::{Value, json};

use crate::promql::{JOB, filled};
use crate::words::{LANGUAGES, Said, said, slug};
use crate::{DashboardError, Thresholds, runbooks};

mod controls;
mod doors;
mod evidence;
mod guides;
mod network;
mod overview;
mod panel;
mod units;

use panel::{Panel, placed};

/// Version of the dashboard's JSON.
const SCHEMA_VERSION: u32 = 42;
/// Width of a dashboard in columns.
pub(crate) const COLUMNS: u32 = 24;

/// One page in one language.
#[derive(Debug)]
pub(crate) struct Dashboard {
    name: &'static str,
    language: Language,
    title: Words,
    description: Words,
    panels: Vec<Panel>,
}

/// A question that some panel asks of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The dashboard's file.
    pub dashboard: String,
    /// The panel's title.
    pub panel: String,
    /// The question, its variables filled in.
    pub expression: String,
}

/// Every question of every panel.
///
/// # Errors
/// When the catalogue cannot be used.
pub fn queries() -> Result<Vec<Query>, DashboardError> {
    let catalogue = Catalogue::shipped()?;
    let mut queries = Vec::new();
    for dashboard in dashboards(&catalogue) {
        for panel in &dashboard.panels {
            queries.extend(panel.expressions().map(|expression| Query {
                dashboard: dashboard.path(),
                panel: panel.title.text(dashboard.language).to_owned(),
                expression: filled(expression),
            }));
        }
    }
    Ok(queries)
}

/// Every dashboard in both languages.
pub(crate) fn dashboards(catalogue: &Catalogue) -> Vec<Dashboard> {
    LANGUAGES.into_iter().flat_map(|language| of_language(catalogue, language)).collect()
}

fn of_language(catalogue: &Catalogue, language: Language) -> [Dashboard; 5] {
    let guides = runbooks::guides(catalogue, &Thresholds::SHIPPED);
    let page = |name, title: Said, description: Said, panels| Dashboard {
        name,
        language,
        title: title.into(),
        description: description.into(),
        panels,
    };
    [
        page(
            "overview",
            said("関所 1 今日の状態", "Sekisho 1 Today"),
            said("いま安全か。最初に見るページです。", "Is the clinic safe now? The first page to look at."),
            overview::panels(language),
        ),
        page(
            "controls",
            said("関所 2 管理策", "Sekisho 2 Controls"),
            said(
                "厚生労働省のガイドラインの項目ごとの、測定にもとづく状態です。",
                "How each item of the ministry's guideline stands, as measured.",
            ),
            controls::panels(catalogue, language),
        ),
        page(
            "network",
            said("関所 3 通信", "Sekisho 3 Network"),
            said(
                "区画の間で何が通り、何を止めたか。",
                "What passed between the zones, and what was stopped.",
            ),
            network::panels(language),
        ),
        page(
            "evidence",
            said("関所 4 記録と手入れ", "Sekisho 4 Records and upkeep"),
            said(
                "監査ログ、通信台帳、時計、バックアップ、各機能の様子。",
                "The audit log, the ledger, the clock, backups and the parts of the gateway.",
            ),
            evidence::panels(language),
        ),
        page(
            "runbooks",
            said("関所 5 手順書", "Sekisho 5 Runbooks"),
            said("表示ごとに、何を見て誰に電話するか。", "What to look at and whom to call, for each sign."),
            guides::panels(guides),
        ),
    ]
}

/// The id that links use.
pub(crate) fn uid(name: &str, language: Language) -> String {
    format!("sekisho-{name}-{}", slug(language))
}

impl Dashboard {
    /// Where it is kept, below `dashboard/`.
    pub(crate) fn path(&self) -> String {
        format!("grafana/{}/{}.json", slug(self.language), self.name)
    }

    /// As Grafana reads it.
    pub(crate) fn json(&self) -> Value {
        let Dashboard { name, language, title, description, panels } = self;
        json!({
            "uid": uid(name, *language),
            "title": title.text(*language),
            "description": description.text(*language),
            "tags": ["sekisho", slug(*language)],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "timezone": "browser",
            "weekStart": "",
            "refresh": "30s",
            "time": { "from": "now-24h", "to": "now" },
            "timepicker": {},
            "annotations": { "list": [] },
            "templating": { "list": [data_source(*language), instance(*language)] },
            "links": [siblings(*language)],
            "panels": placed(panels, *language),
        })
    }
}

fn data_source(language: Language) -> Value {
    json!({
        "name": "datasource",
        "type": "datasource",
        "label": said("データ元", "Data source").text(language),
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "multi": false,
        "includeAll": false,
        "options": [],
    })
}

fn instance(language: Language) -> Value {
    json!({
        "name": "instance",
        "type": "query",
        "label": said("装置", "Gateway").text(language),
        "datasource": panel::source(),
        "query": { "query": format!("label_values(up{{job=\"{JOB}\"}}, instance)"), "refId": "instance" },
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": false,
        "includeAll": true,
        "allValue": ".*",
        "current": { "text": "All", "value": "$__all" },
        "options": [],
    })
}

/// Links to the other pages in the same language.
fn siblings(language: Language) -> Value {
    json!({
        "type": "dashboards",
        "title": said("ほかのページ", "Other pages").text(language),
        "tooltip": "",
        "icon": "external link",
        "tags": ["sekisho", slug(language)],
        "asDropdown": false,
        "includeVars": true,
        "keepTime": true,
        "targetBlank": false,
    })
}
