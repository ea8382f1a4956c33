//! How a control stands, in words for people: state, reasons with figures, and since when.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::diagnostic::Language;

/// Longest id of a control in bytes.
const ID_BYTES_MAX: usize = 48;

/// The id of a control in the catalogue: lower-case words joined by hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ControlId(String);

/// A text that is not the id of a control.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not the id of a control; write lower-case words joined by hyphens, such as `time-sync`")]
pub struct ControlIdError(String);

impl ControlId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ControlId {
    type Error = ControlIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() <= ID_BYTES_MAX && text.split('-').all(word) {
            Ok(ControlId(text))
        } else {
            Err(ControlIdError(text.chars().take(ID_BYTES_MAX).collect()))
        }
    }
}

impl From<ControlId> for String {
    fn from(id: ControlId) -> Self {
        id.0
    }
}

impl fmt::Display for ControlId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One text in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// In Japanese.
    pub ja: String,
    /// In English.
    pub en: String,
}

impl Words {
    /// Both texts.
    #[must_use]
    pub fn new(ja: impl Into<String>, en: impl Into<String>) -> Self {
        Words { ja: ja.into(), en: en.into() }
    }

    /// The text in a language.
    #[must_use]
    pub fn text(&self, language: Language) -> &str {
        match language {
            Language::Ja => &self.ja,
            Language::En => &self.en,
        }
    }
}

/// How a control stands. The order is that of a report: what needs somebody first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Somebody has to act now.
    Failed,
    /// It could not be measured: not known to be good.
    Unknown,
    /// Somebody should look.
    Warning,
    /// Measured and good.
    Ok,
    /// There is nothing it could be about.
    NotApplicable,
    /// The clinic does it; no measurement can stand for it.
    Organizational,
    /// This version does not measure it.
    NotMeasured,
}

impl State {
    /// Every state, in the order of a report.
    pub const ALL: [State; 7] = [
        State::Failed,
        State::Unknown,
        State::Warning,
        State::Ok,
        State::NotApplicable,
        State::Organizational,
        State::NotMeasured,
    ];

    /// The word in metrics and files.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Warning => "warning",
            State::Ok => "ok",
            State::NotApplicable => "not-applicable",
            State::Organizational => "organizational",
            State::NotMeasured => "not-measured",
        }
    }

    /// The symbol that goes with colour and word.
    #[must_use]
    pub fn symbol(self) -> char {
        match self {
            State::Failed => '✖',
            State::Unknown => '？',
            State::Warning => '▲',
            State::Ok => '●',
            State::NotApplicable => '－',
            State::Organizational => '○',
            State::NotMeasured => '…',
        }
    }

    /// The word for people.
    #[must_use]
    pub fn word(self, language: Language) -> &'static str {
        match (self, language) {
            (State::Failed, Language::Ja) => "要対応",
            (State::Failed, Language::En) => "action needed",
            (State::Unknown, Language::Ja) => "不明",
            (State::Unknown, Language::En) => "unknown",
            (State::Warning, Language::Ja) => "注意",
            (State::Warning, Language::En) => "attention",
            (State::Ok, Language::Ja) => "正常",
            (State::Ok, Language::En) => "ok",
            (State::NotApplicable, Language::Ja) => "対象外",
            (State::NotApplicable, Language::En) => "not applicable",
            (State::Organizational, Language::Ja) => "組織で対応",
            (State::Organizational, Language::En) => "done by the clinic",
            (State::NotMeasured, Language::Ja) => "未測定",
            (State::NotMeasured, Language::En) => "not measured",
        }
    }

    /// Whether somebody has something to do.
    #[must_use]
    pub fn needs_somebody(self) -> bool {
        match self {
            State::Failed | State::Unknown | State::Warning => true,
            State::Ok | State::NotApplicable | State::Organizational | State::NotMeasured => false,
        }
    }
}

/// How one control stands, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// Which control.
    pub control: ControlId,
    /// How it stands.
    pub state: State,
    /// Why, with figures: what decided the state first.
    pub reasons: Vec<Words>,
    /// The oldest measurement the state rests on; `None` when it rests on none.
    pub measured_at: Option<Timestamp>,
    /// What to do next, when there is something to do.
    pub next_step: Option<Words>,
}

/// A control that changed its state: an event of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Which control.
    pub control: ControlId,
    /// What it was; `None` when it is judged for the first time.
    pub before: Option<State>,
    /// What it is.
    pub after: State,
    /// When that was noticed.
    pub at: Timestamp,
    /// The reason that decided it.
    pub reason: Option<Words>,
}

/// Since when each control stands as it does, and which entry of the log says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    controls: BTreeMap<ControlId, Span>,
}

/// The present stretch of one control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// How it stands.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Index in the log of the event that says so, once it is there.
    pub evidence: Option<u64>,
}

impl Timeline {
    /// Takes in how the controls stand now; returns what changed, in the order given. A control that is no longer
    /// judged is forgotten.
    pub fn handle_assessments(&mut self, assessments: &[Assessment], now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut next = BTreeMap::new();
        for Assessment { control, state, reasons, .. } in assessments {
            let held = self.controls.get(control).copied();
            let span = match held {
                Some(span) if span.state == *state => span,
                Some(_) | None => {
                    changes.push(Change {
                        control: control.clone(),
                        before: held.map(|span| span.state),
                        after: *state,
                        at: now,
                        reason: reasons.first().cloned(),
                    });
                    Span { state: *state, since: now, evidence: None }
                }
            };
            next.insert(control.clone(), span);
        }
        self.controls = next;
        changes
    }

    /// Notes which entry of the log holds a change. An entry for a stretch that is over is ignored.
    pub fn handle_recorded(&mut self, change: &Change, index: u64) {
        let span = self.controls.get_mut(&change.control);
        if let Some(span) = span.filter(|span| span.state == change.after && span.since == change.at) {
            span.evidence = Some(index);
        }
    }

    /// The present stretch of a control.
    #[must_use]
    pub fn span(&self, control: &ControlId) -> Option<Span> {
        self.controls.get(control).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ControlId {
        ControlId::try_from(text.to_owned()).unwrap()
    }

    fn standing(control: &str, state: State) -> Assessment {
        let reasons = vec![Words::new("理由", "reason")];
        Assessment { control: id(control), state, reasons, measured_at: None, next_step: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn ids_are_slugs() {
        assert!(ControlId::try_from("tls13-client-cert".to_owned()).is_ok());
        for bad in ["", "Time", "a--b", "-a", "a_b", "時刻"] {
            assert!(ControlId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(ControlId::try_from("a".repeat(ID_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_stretch_begins_with_a_change_and_keeps_its_evidence() {
        let mut timeline = Timeline::default();
        let first = timeline.handle_assessments(&[standing("time-sync", State::Ok)], at(10));
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].before, first[0].after), (None, State::Ok));
        timeline.handle_recorded(&first[0], 7);
        assert!(timeline.handle_assessments(&[standing("time-sync", State::Ok)], at(20)).is_empty());
        let held = timeline.span(&id("time-sync")).unwrap();
        assert_eq!((held.since, held.evidence), (at(10), Some(7)));

        let second = timeline.handle_assessments(&[standing("time-sync", State::Failed)], at(30));
        assert_eq!((second[0].before, second[0].after), (Some(State::Ok), State::Failed));
        // An entry of the stretch before comes late: it does not speak for this one.
        timeline.handle_recorded(&first[0], 8);
        assert_eq!(timeline.span(&id("time-sync")).unwrap().evidence, None);
    }

    #[test]
    fn a_timeline_survives_a_restart() {
        let mut timeline = Timeline::default();
        timeline.handle_assessments(&[standing("time-sync", State::Warning)], at(10));
        let text = serde_json::to_string(&timeline).unwrap();
        let mut back: Timeline = serde_json::from_str(&text).unwrap();
        assert_eq!(back, timeline);
        assert!(back.handle_assessments(&[standing("time-sync", State::Warning)], at(99)).is_empty());
    }
}
