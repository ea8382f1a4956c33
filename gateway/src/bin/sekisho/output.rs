//! Answers for people, in their language, or for programs, as one JSON value. Broken pipes end quietly.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::io::{self, IsTerminal, Write};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use miette::{GraphicalReportHandler, GraphicalTheme};
use policy::diagnostic::{Diagnostic, Language, Report};
use policy::raw::Sources;
use serde_json::Value;

use crate::args::Lang;
use crate::exit::{CliError, Exit};

/// Where answers go, and how.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    pub(crate) language: Language,
    /// Why standard output did not take all of the answer.
    unsaid: OnceCell<io::Error>,
}

impl Output {
    /// Speaks as asked, else as the locale says.
    pub(crate) fn new(json: bool, lang: Option<Lang>) -> Self {
        let language = lang.map_or_else(locale, Language::from);
        Output { json, language, unsaid: OnceCell::new() }
    }

    /// Says one text to people, or one value to programs.
    pub(crate) fn answer(&self, text: &str, value: &Value) {
        if self.json { self.json(value) } else { self.line(text) }
    }

    /// Says one value to programs.
    pub(crate) fn json(&self, value: &Value) {
        self.line(&format!("{value:#}"));
    }

    /// Whether programs listen.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One text on standard output.
    pub(crate) fn line(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        let said = if self.json && !io::stdout().is_terminal() {
            writeln!(io::stdout().lock(), "{text}")
        } else {
            writeln!(io::stdout().lock(), "{}", harmless(text))
        };
        self.heard(said);
    }

    /// Whether the whole answer was taken: what is shown only once must not be lost in silence.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn finish(&self) -> Result<(), CliError> {
        self.heard(io::stdout().lock().flush());
        let Some(error) = self.unsaid.get() else { return Ok(()) };
        let source = io::Error::new(error.kind(), error.to_string());
        Err(CliError::Write { path: "/dev/stdout".into(), source })
    }

    fn heard(&self, said: io::Result<()>) {
        match said {
            // A reader that left, as `head` does, has had what it wanted.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => drop(self.unsaid.set(error)),
            Ok(()) | Err(_) => {}
        }
    }

    /// Words in the language spoken.
    pub(crate) fn pick<'a>(&self, en: &'a str, ja: &'a str) -> &'a str {
        self.language.pick(en, ja)
    }

    /// A time with its weekday, in the zone of this terminal.
    pub(crate) fn time(&self, at: Timestamp) -> String {
        let local = Zoned::new(at, TimeZone::system());
        let weekday = match self.language {
            Language::En => local.strftime("%a").to_string(),
            Language::Ja => ["月", "火", "水", "木", "金", "土", "日"]
                .get(usize::from(local.weekday().to_monday_zero_offset().unsigned_abs()))
                .map(ToString::to_string)
                .unwrap_or_default(),
        };
        format!("{} ({weekday}) {}", local.strftime("%Y-%m-%d"), local.strftime("%H:%M:%S"))
    }

    /// Findings with their lines, carets and what to do, on standard error.
    pub(crate) fn findings<'a>(&self, findings: impl Iterator<Item = &'a Diagnostic>, sources: &Sources) {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
        for finding in findings {
            let mut text = String::new();
            if handler.render_report(&mut text, &finding.view(sources, self.language)).is_err() {
                text = finding.text(&sources.names(), self.language);
            }
            let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
        }
    }

    /// Says why there is no answer; gives the exit status.
    pub(crate) fn error(&self, error: &CliError) -> Exit {
        match error {
            CliError::Refused(refused) => {
                let (report, sources) = &**refused;
                self.refusal(report, sources);
            }
            CliError::RefusedThere(report) if self.json => self.json(&refusal_json(report.clone())),
            CliError::RefusedThere(report) => self.refusal_there(report),
            other if self.json => {
                self.json(&serde_json::json!({ "error": other.word(), "message": other.to_string() }));
            }
            other => self.complain(&other.to_string()),
        }
        error.exit()
    }

    fn refusal(&self, report: &Report, sources: &Sources) {
        if self.json {
            return self.json(&refusal_json(report.to_json()));
        }
        self.findings(report.diagnostics.iter(), sources);
        if let Some(more) = report.more(self.language) {
            self.complain(&more);
        }
    }

    fn refusal_there(&self, report: &Value) {
        let findings = report.get("diagnostics").and_then(Value::as_array);
        for finding in findings.into_iter().flatten() {
            let pointer = self.pick("/message/en", "/message/ja");
            self.complain(finding.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
        }
    }

    /// Something that did not go as asked and kept nothing from being done, on standard error.
    pub(crate) fn note(&self, text: &str) {
        let word = self.pick("note", "注意");
        let _ = writeln!(io::stderr().lock(), "sekisho: {word}: {}", harmless(text));
    }

    /// One line on standard error.
    fn complain(&self, text: &str) {
        let word = self.pick("error", "エラー");
        let _ = writeln!(io::stderr().lock(), "sekisho: {word}: {}", harmless(text));
    }
}

/// A text without what a terminal would obey: some of it comes from other roles, and through them from strangers.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_obeyed = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if text.contains(is_obeyed) {
        Cow::Owned(text.replace(is_obeyed, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

fn refusal_json(mut report: Value) -> Value {
    if let Some(fields) = report.as_object_mut() {
        fields.insert("error".to_owned(), Value::from("refused"));
    }
    report
}

/// The language of messages, as setlocale(3) would find it.
fn locale() -> Language {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG"));
    Language::from_locale(&locale.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_others_wrote() {
        let hostile = "a\u{1b}]0;owned\u{7} b\u{9b}2J c\r\nd\te 漢字";
        assert_eq!(harmless(hostile), "a\u{fffd}]0;owned\u{fffd} b\u{fffd}2J c\u{fffd}\nd\te 漢字");
        assert!(matches!(harmless("▲ 漢字\n\t1"), Cow::Borrowed(_)));
    }
}
