//! Answers for people, in their language, or for programs, as one JSON value a line. Broken pipes end quietly.

use std::io::{self, Write};

use policy::diagnostic::Language;
use serde_json::{Value, json};
use transport::protocol::{Standing, State};

use crate::args::Lang;
use crate::error::{Exit, VendorError};

/// Where answers go, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Say {
    json: bool,
    language: Language,
}

impl Say {
    /// Speaks as asked, else as the locale says.
    pub(crate) fn new(json: bool, lang: Option<Lang>) -> Self {
        Say { json, language: lang.map_or_else(locale, Language::from) }
    }

    /// One text to people, or one value to programs.
    pub(crate) fn answer(&self, en: &str, ja: &str, value: &Value) {
        let text = if self.json { value.to_string() } else { self.language.pick(en, ja).to_owned() };
        // A reader that left has had what it wanted.
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    /// How a session stands.
    pub(crate) fn standing(&self, standing: &Standing) {
        let at = standing.at.map(|at| format!(" ({at})")).unwrap_or_default();
        let missing = standing.missing.join(", ");
        let why = standing.why.as_deref().unwrap_or_default();
        let (en, ja) = match standing.state {
            State::Requested => (format!("waits for approval by: {missing}"), format!("承認待ち: {missing}")),
            State::Approved => (format!("approved; opens{at}"), format!("承認済み。開始待ち{at}")),
            State::Open => (format!("open until{at}"), format!("接続可能。終了時刻{at}")),
            State::Denied => (format!("denied: {why}"), format!("却下されました: {why}")),
            State::Closed => (format!("closed: {why}"), format!("終了: {why}")),
        };
        let head = |text: String| format!("{}: {text}", standing.session);
        self.answer(&head(en), &head(ja), &json!({ "standing": standing }));
    }

    /// Says why there is no answer; gives the exit status.
    pub(crate) fn error(&self, error: &VendorError) -> Exit {
        let exit = error.exit();
        if self.json {
            let value = json!({ "error": error.to_string(), "exit": exit as u8 });
            let _ = writeln!(io::stdout().lock(), "{value}");
        }
        let text = match (self.language, error.ja()) {
            (Language::Ja, Some(ja)) => format!("エラー: {ja}\n  ({error})"),
            _ => format!("error: {error}"),
        };
        let _ = writeln!(io::stderr().lock(), "sekisho-vendor: {text}");
        exit
    }
}

/// The language of messages, as setlocale(3) would find it.
fn locale() -> Language {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    Language::from_locale(
        &set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG")).unwrap_or_default(),
    )
}
