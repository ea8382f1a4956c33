//! Texts in both languages.

use policy::diagnostic::Language;
use policy::guideline::Words;

/// Both languages, in the order in which files are made.
pub(crate) const LANGUAGES: [Language; 2] = [Language::Ja, Language::En];

/// A text known when this crate is built, in both languages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) ja: &'static str,
    pub(crate) en: &'static str,
}

impl Said {
    pub(crate) fn text(self, language: Language) -> &'static str {
        match language {
            Language::Ja => self.ja,
            Language::En => self.en,
        }
    }
}

impl From<Said> for Words {
    fn from(said: Said) -> Self {
        Words::new(said.ja, said.en)
    }
}

/// A text in both languages.
pub(crate) const fn said(ja: &'static str, en: &'static str) -> Said {
    Said { ja, en }
}

/// The name of a language in paths and labels.
pub(crate) const fn slug(language: Language) -> &'static str {
    match language {
        Language::Ja => "ja",
        Language::En => "en",
    }
}
