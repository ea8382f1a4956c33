//! The runbooks as a page of Grafana, so that a link works without another server.

use policy::diagnostic::Language;
use serde_json::{Value, json};

use super::panel::{Panel, Show};
use super::{COLUMNS, uid};
use crate::alerts::ALERTS;
use crate::groups::GROUPS;
use crate::runbooks::Guide;
use crate::words::said;

const HEIGHT: u32 = 14;

/// One panel a page.
pub(crate) fn panels(guides: Vec<Guide>) -> Vec<Panel> {
    let panel = |Guide { slug: _, title, body }| Panel {
        title,
        description: said("受付の方にも読める手順です。", "Written for the reception desk as well.").into(),
        size: (COLUMNS / 2, HEIGHT),
        show: Show::Text(body),
        guide: None,
    };
    guides.into_iter().map(panel).collect()
}

/// A link to the page of an alert or a group of controls.
pub(crate) fn link(slug: &str, language: Language) -> Option<Value> {
    let slugs = ALERTS.iter().map(|alert| alert.slug).chain(GROUPS.iter().map(|group| group.slug));
    let (id, _) = (1..).zip(slugs).find(|(_, known)| *known == slug)?;
    Some(json!({
        "type": "link",
        "title": said("手順書: 何を見て、誰に電話するか", "Runbook: what to look at, whom to call").text(language),
        "tooltip": "",
        "icon": "doc",
        "url": format!("/d/{}?viewPanel={id}", uid("runbooks", language)),
        "tags": [],
        "asDropdown": false,
        "includeVars": false,
        "keepTime": false,
        "targetBlank": false,
    }))
}
