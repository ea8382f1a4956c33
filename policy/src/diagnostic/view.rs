//! One finding as miette sees it: words of one language, the source's text, and labelled spans.

use std::borrow::Cow;
use std::fmt;

use miette::{LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::{Diagnostic, Label, Language, Severity, is_risky, visible};
use crate::raw::Sources;

/// A finding in one language with the text it speaks of; implements [`miette::Diagnostic`].
/// Places in other files than the main one come as related findings.
#[derive(Debug)]
pub struct View<'a> {
    code: &'static str,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    file: Option<File<'a>>,
    labels: Vec<LabeledSpan>,
    related: Vec<View<'a>>,
}

/// A named source text.
#[derive(Debug)]
struct File<'a> {
    name: String,
    text: Cow<'a, str>,
}

impl<'a> View<'a> {
    pub(super) fn new(found: &Diagnostic, sources: &'a Sources, language: Language) -> Self {
        let main = found.place().map(|place| place.source);
        let (here, elsewhere): (Vec<&Label>, Vec<&Label>) =
            found.labels.iter().partition(|label| Some(label.place.source) == main);
        let spans = here.into_iter().enumerate();
        Self {
            code: found.code,
            severity: match found.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            },
            message: visible(found.message(language)),
            help: found.help_text(language).map(visible),
            file: main.and_then(|source| File::new(sources, source)),
            labels: spans.map(|(index, label)| span(label, index == 0, language)).collect(),
            related: elsewhere.into_iter().map(|label| Self::elsewhere(label, sources, language)).collect(),
        }
    }

    fn elsewhere(label: &Label, sources: &'a Sources, language: Language) -> Self {
        Self {
            code: "see-also",
            severity: miette::Severity::Advice,
            message: visible(language.pick(&label.en, &label.ja)),
            help: None,
            file: File::new(sources, label.place.source),
            labels: vec![span(label, true, language)],
            related: Vec::new(),
        }
    }
}

impl<'a> File<'a> {
    fn new(sources: &'a Sources, source: usize) -> Option<Self> {
        let (name, text) = sources.get(source)?;
        Some(Self { name: visible(name), text: harmless(text) })
    }
}

impl fmt::Display for View<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for View<'_> {}

impl miette::Diagnostic for View<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.file.as_ref().map(|file| file as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty()).then(|| Box::new(self.labels.iter().cloned()) as Box<_>)
    }

    fn related<'b>(&'b self) -> Option<Box<dyn Iterator<Item = &'b dyn miette::Diagnostic> + 'b>> {
        let each = self.related.iter().map(|view| view as &dyn miette::Diagnostic);
        (!self.related.is_empty()).then(|| Box::new(each) as Box<_>)
    }
}

impl SourceCode for File<'_> {
    fn read_span<'b>(
        &'b self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'b> + 'b>, MietteError> {
        let inner = self.text.read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

/// The text without characters that could steer a terminal, each replaced by as many bytes so that spans still fit.
fn harmless(text: &str) -> Cow<'_, str> {
    let bad = |c: char| is_risky(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.len_utf8() {
            _ if !bad(c) => out.push(c),
            3 => out.push('\u{FFFD}'),
            bytes => out.extend(std::iter::repeat_n('?', bytes)),
        }
    }
    Cow::Owned(out)
}

fn span(label: &Label, primary: bool, language: Language) -> LabeledSpan {
    let words = Some(visible(language.pick(&label.en, &label.ja))).filter(|words| !words.is_empty());
    let at = SourceSpan::new(label.place.offset.into(), label.place.length);
    if primary {
        LabeledSpan::new_primary_with_span(words, at)
    } else {
        LabeledSpan::new_with_span(words, at)
    }
}
