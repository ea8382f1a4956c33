//! Units, and states in colour, symbol and word.

use policy::diagnostic::Language;
use policy::guideline::State;
use serde_json::{Map, Value, json};

use crate::rules::code;
use crate::runbooks::worded;
use crate::words::{Said, said};

/// What a number is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Things, with their counter.
    Of(Said),
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerS,
    /// Seconds.
    Seconds,
    /// Percent.
    Percent,
    /// A point in time in milliseconds, shown as its distance from now.
    When,
    /// The same, where 0 says that it never was.
    WhenIfEver,
    /// The code of a state.
    State,
    /// 1 is good and 0 is not.
    Good,
}

/// Colours that keep a contrast of 4.5:1 to white.
const GREEN: &str = "#1a7f37";
const ORANGE: &str = "#9a6700";
const RED: &str = "#c62828";
const GREY: &str = "#5f6368";
const BLUE: &str = "#3b5ba9";

/// What never was.
const NEVER: Said = said("まだありません", "never");

/// States that a code stands for, worst first.
pub(crate) const CODED: [State; 5] =
    [State::Failed, State::Unknown, State::Warning, State::Ok, State::NotApplicable];

impl Unit {
    /// Grafana's name of the unit; `None` where mappings say it.
    pub(crate) fn id(self, language: Language) -> Option<String> {
        match self {
            Unit::Of(counter) => Some(format!("suffix: {}", counter.text(language))),
            Unit::Bytes => Some("bytes".to_owned()),
            Unit::BytesPerS => Some("Bps".to_owned()),
            Unit::Seconds => Some("s".to_owned()),
            Unit::Percent => Some("percent".to_owned()),
            Unit::When | Unit::WhenIfEver => Some("dateTimeFromNow".to_owned()),
            Unit::State | Unit::Good => None,
        }
    }

    /// What stands in place of a number.
    pub(crate) fn mappings(self, language: Language) -> Vec<Value> {
        match self {
            Unit::State => mapped(CODED.map(|state| (code(state), state)), language),
            Unit::Good => mapped([(1, State::Ok), (0, State::Failed)], language),
            Unit::WhenIfEver => {
                let never = json!({ "text": NEVER.text(language), "color": colour(State::NotApplicable), "index": 0 });
                vec![json!({ "type": "value", "options": { "0": never } })]
            }
            Unit::Of(_) | Unit::Bytes | Unit::BytesPerS | Unit::Seconds | Unit::Percent | Unit::When => {
                Vec::new()
            }
        }
    }

    /// Whether the background shows the state.
    pub(crate) fn is_state(self) -> bool {
        matches!(self, Unit::State | Unit::Good)
    }
}

/// The colour of a state.
pub(crate) const fn colour(state: State) -> &'static str {
    match state {
        State::Ok => GREEN,
        State::Warning => ORANGE,
        State::Failed => RED,
        State::Unknown => BLUE,
        State::NotApplicable | State::Organizational | State::NotMeasured => GREY,
    }
}

fn mapped<const N: usize>(codes: [(u32, State); N], language: Language) -> Vec<Value> {
    let result = |index: usize, state: State| json!({ "text": worded(state, language), "color": colour(state), "index": index });
    let options: Map<String, Value> = codes
        .iter()
        .enumerate()
        .map(|(index, (code, state))| (code.to_string(), result(index, *state)))
        .collect();
    vec![
        json!({ "type": "value", "options": options }),
        json!({ "type": "special", "options": { "match": "null+nan", "result": result(N, State::Unknown) } }),
    ]
}
