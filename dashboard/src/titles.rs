//! Titles for people as constant series: rules join them to what carries an id, so that no page shows an id.

use std::fmt::Write as _;

use policy::guideline::{Catalogue, Words};

use crate::alerts::ALERTS;
use crate::vocabulary::{ROLES, SUSPICIONS, Word};
use crate::yaml::quoted;

/// Titles of one label's values.
#[derive(Debug)]
pub(crate) struct Titles {
    /// Name of the series.
    pub(crate) record: &'static str,
    /// The label.
    pub(crate) label: &'static str,
    /// Values and titles.
    pub(crate) titles: Vec<(String, Words)>,
}

/// Name of the titles of controls.
pub(crate) const CONTROLS: &str = "control:sekisho_control:title";
/// Name of the titles of kinds of suspicious traffic.
pub(crate) const KINDS: &str = "kind:sekisho_suspicion:title";
/// Name of the titles of roles.
pub(crate) const ROLE_TITLES: &str = "role:sekisho_role:title";
/// Name of the titles of alerts; they stand in the alerts' file, and so tell that it is in use.
pub(crate) const ALERT_TITLES: &str = "alertname:sekisho_alert:title";

/// Titles that the recording rules hold.
pub(crate) fn of_rules(catalogue: &Catalogue) -> Vec<Titles> {
    let controls = catalogue.controls().iter();
    let controls = controls.map(|control| (control.id.to_string(), control.title.clone())).collect();
    let words = |words: &[Word]| {
        words.iter().map(|(value, word)| ((*value).to_owned(), Words::from(*word))).collect::<Vec<_>>()
    };
    vec![
        Titles { record: CONTROLS, label: "control", titles: controls },
        Titles { record: KINDS, label: "kind", titles: words(&SUSPICIONS) },
        Titles { record: ROLE_TITLES, label: "role", titles: words(&ROLES) },
    ]
}

/// Titles of the alerts.
pub(crate) fn of_alerts() -> Titles {
    let titles = ALERTS.iter().map(|alert| (alert.name.to_owned(), Words::from(alert.title))).collect();
    Titles { record: ALERT_TITLES, label: "alertname", titles }
}

/// Joins titles to an expression; what has no title goes on without one, and is never lost.
pub(crate) fn joined(expression: &str, record: &str, label: &str) -> String {
    format!(
        "(\n  {expression}\n) * on ({label}) group_left (title_ja, title_en) {record}\nor\n(\n  {expression}\n) unless on ({label}) {record}"
    )
}

impl Titles {
    /// The series as rules, below `rules:`.
    pub(crate) fn yaml(&self) -> String {
        let Titles { record, label, titles } = self;
        let mut out = String::new();
        for (value, Words { ja, en }) in titles {
            // Writing to a text cannot fail.
            let _ = write!(
                out,
                "      - record: {record}\n        expr: vector(1)\n        labels:\n          {label}: {}\n          title_ja: {}\n          title_en: {}\n",
                quoted(value),
                quoted(ja),
                quoted(en)
            );
        }
        out
    }
}
