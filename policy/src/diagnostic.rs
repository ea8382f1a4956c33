//! What is wrong with a policy, said to the person who can act: file, line, what happened, what to do, in Japanese and
//! English. [`View`] hands one finding to any miette handler; [`Diagnostic::text`] and [`Report::to_json`] need none.

use std::fmt;

use serde::Serialize;

use crate::model::Place;
use crate::raw::Sources;

mod view;

pub use view::View;

/// Most findings kept in one report; the rest are counted.
pub const DIAGNOSTICS_MAX: usize = 50;

/// Languages spoken to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// Japanese.
    Ja,
    /// English.
    En,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy works, but somebody should look.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable name, such as `unknown-zone`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in English.
    pub message_en: String,
    /// What happened, in Japanese.
    pub message_ja: String,
    /// What to do next, in English; may be empty.
    pub help_en: String,
    /// What to do next, in Japanese; may be empty.
    pub help_ja: String,
    /// Places, the most important first.
    pub labels: Vec<Label>,
}

/// A place and what it has to do with the finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The place.
    pub place: Place,
    /// English words; may be empty.
    pub en: String,
    /// Japanese words; may be empty.
    pub ja: String,
}

/// Everything found that makes a policy unusable, and the warnings found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Findings in the order of the file, at most [`DIAGNOSTICS_MAX`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many more there were.
    pub omitted: usize,
    /// Names of the sources, as [`Place::source`] counts them.
    pub files: Vec<String>,
}

impl Language {
    /// Reads a locale such as `ja_JP.UTF-8` as `LANG` holds it; anything not Japanese is English.
    #[must_use]
    pub fn from_locale(locale: &str) -> Self {
        if locale.to_ascii_lowercase().starts_with("ja") { Self::Ja } else { Self::En }
    }

    /// Chooses between two texts.
    #[must_use]
    pub fn pick<'a>(self, en: &'a str, ja: &'a str) -> &'a str {
        match self {
            Self::En => en,
            Self::Ja => ja,
        }
    }
}

impl Severity {
    /// The word shown to people.
    #[must_use]
    pub fn word(self, language: Language) -> &'static str {
        match self {
            Self::Error => language.pick("error", "エラー"),
            Self::Warning => language.pick("warning", "注意"),
        }
    }
}

impl Diagnostic {
    /// A finding that makes the policy unusable.
    #[must_use]
    pub fn error(code: &'static str, en: impl Into<String>, ja: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, en.into(), ja.into())
    }

    /// A finding that somebody should look at.
    #[must_use]
    pub fn warning(code: &'static str, en: impl Into<String>, ja: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, en.into(), ja.into())
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, en: impl Into<String>, ja: impl Into<String>) -> Self {
        self.help_en = en.into();
        self.help_ja = ja.into();
        self
    }

    /// Adds a place.
    #[must_use]
    pub fn label(mut self, place: Place, en: impl Into<String>, ja: impl Into<String>) -> Self {
        self.labels.push(Label { place, en: en.into(), ja: ja.into() });
        self
    }

    /// What happened.
    #[must_use]
    pub fn message(&self, language: Language) -> &str {
        language.pick(&self.message_en, &self.message_ja)
    }

    /// What to do next, if anything is known.
    #[must_use]
    pub fn help_text(&self, language: Language) -> Option<&str> {
        Some(language.pick(&self.help_en, &self.help_ja)).filter(|text| !text.is_empty())
    }

    /// The main place.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.labels.first().map(|label| label.place)
    }

    /// Plain lines: `FILE:LINE:COLUMN: error[code]: what happened`, further places, and what to do.
    /// `files` are the sources' names as [`Place::source`] counts them.
    #[must_use]
    pub fn text(&self, files: &[String], language: Language) -> String {
        let word = self.severity.word(language);
        let mut out = String::new();
        if let Some(place) = self.place() {
            out.push_str(&format!("{}: ", locate(files, place)));
        }
        out.push_str(&format!("{word}[{}]: {}\n", self.code, visible(self.message(language))));
        for label in self.labels.iter().skip(1) {
            let words = visible(language.pick(&label.en, &label.ja));
            out.push_str(&format!("  {}: {words}\n", locate(files, label.place)));
        }
        if let Some(help) = self.help_text(language) {
            out.push_str(&format!("  {}: {}\n", language.pick("help", "対処"), visible(help)));
        }
        out
    }

    /// The finding as JSON, with file names in place of numbers.
    #[must_use]
    pub fn to_json(&self, files: &[String]) -> serde_json::Value {
        let label = |label: &Label| {
            serde_json::json!({
                "file": file(files, label.place), "line": label.place.line, "column": label.place.column,
                "offset": label.place.offset, "length": label.place.length, "en": label.en, "ja": label.ja,
            })
        };
        serde_json::json!({
            "code": self.code, "severity": self.severity,
            "message": { "en": self.message_en, "ja": self.message_ja },
            "help": { "en": self.help_en, "ja": self.help_ja },
            "labels": self.labels.iter().map(label).collect::<Vec<_>>(),
        })
    }

    /// The finding for a miette handler, which draws the lines of the source and carets.
    #[must_use]
    pub fn view<'a>(&'a self, sources: &'a Sources, language: Language) -> View<'a> {
        View::new(self, sources, language)
    }

    fn new(code: &'static str, severity: Severity, message_en: String, message_ja: String) -> Self {
        let (help_en, help_ja) = (String::new(), String::new());
        Self { code, severity, message_en, message_ja, help_en, help_ja, labels: Vec::new() }
    }
}

impl Report {
    /// Keeps the first [`DIAGNOSTICS_MAX`] findings, errors before warnings, in the order of the files.
    #[must_use]
    pub fn new(mut diagnostics: Vec<Diagnostic>, files: Vec<String>) -> Self {
        diagnostics.sort_by_key(|found| (found.severity, found.place()));
        let omitted = diagnostics.len().saturating_sub(DIAGNOSTICS_MAX);
        diagnostics.truncate(DIAGNOSTICS_MAX);
        Self { diagnostics, omitted, files }
    }

    /// Plain text of every finding.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let mut out: String =
            self.diagnostics.iter().map(|found| found.text(&self.files, language)).collect();
        if let Some(more) = self.more(language) {
            out.push_str(&more);
            out.push('\n');
        }
        out
    }

    /// The line that says how many findings are not shown.
    #[must_use]
    pub fn more(&self, language: Language) -> Option<String> {
        let count = self.omitted;
        (count > 0).then(|| match language {
            Language::En => format!("and {count} more"),
            Language::Ja => format!("ほか{count}件あります"),
        })
    }

    /// The findings for a miette handler.
    pub fn views<'a>(&'a self, sources: &'a Sources, language: Language) -> impl Iterator<Item = View<'a>> {
        self.diagnostics.iter().map(move |found| found.view(sources, language))
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let diagnostics: Vec<_> = self.diagnostics.iter().map(|found| found.to_json(&self.files)).collect();
        serde_json::json!({ "diagnostics": diagnostics, "omitted": self.omitted })
    }

    /// Whether a finding with this code is among those kept.
    #[must_use]
    pub fn has(&self, code: &str) -> bool {
        self.diagnostics.iter().any(|found| found.code == code)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text(Language::En).trim_end())
    }
}

impl std::error::Error for Report {}

/// Findings as they are gathered: bounded, so that a hostile file cannot make the list grow without end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Findings {
    const KEPT_MAX: usize = 1_024;

    pub(crate) fn push(&mut self, found: Diagnostic) {
        if self.list.len() < Self::KEPT_MAX { self.list.push(found) } else { self.omitted += 1 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len() + self.omitted
    }

    pub(crate) fn into_report(self, files: Vec<String>) -> Report {
        let mut report = Report::new(self.list, files);
        report.omitted += self.omitted;
        report
    }

    /// The findings in the order of the files.
    pub(crate) fn into_list(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(Diagnostic::place);
        self.list
    }
}

/// The text with control characters and direction marks made harmless: policy text may come from anybody, and goes to
/// a terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if is_risky(c) { '\u{FFFD}' } else { c }).collect()
}

/// Control characters, and characters without a shape that change how others are read.
fn is_risky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

fn file(files: &[String], place: Place) -> &str {
    files.get(place.source).map_or("policy", String::as_str)
}

fn locate(files: &[String], place: Place) -> String {
    format!("{}:{}:{}", visible(file(files, place)), place.line, place.column)
}

/// The beginning of a text from outside, short enough for a message.
pub(crate) fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    visible(&short)
}
