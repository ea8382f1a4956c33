//! The texts of a policy by name. Reading files is the caller's business.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::SOURCE_BYTES_MAX;

/// The texts of a policy, by the names under which `include` finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Name of the main source.
    pub main: String,
    /// Every source's text by name, the main one among them.
    pub texts: BTreeMap<String, String>,
}

impl Sources {
    /// One source without includes.
    #[must_use]
    pub fn single(name: impl Into<String>, text: impl Into<String>) -> Self {
        let main = name.into();
        Self { texts: BTreeMap::from([(main.clone(), text.into())]), main }
    }

    /// Names as [`crate::model::Place::source`] counts them: the main source, then the others by name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let others = self.texts.keys().filter(|name| **name != self.main);
        std::iter::once(&self.main).chain(others).cloned().collect()
    }

    /// Name and text of the source with this number.
    #[must_use]
    pub fn get(&self, source: usize) -> Option<(&str, &str)> {
        let name = match source.checked_sub(1) {
            None => &self.main,
            Some(other) => self.texts.keys().filter(|name| **name != self.main).nth(other)?,
        };
        self.texts.get_key_value(name).map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The number of the source with this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        if name == self.main {
            return self.texts.contains_key(name).then_some(0);
        }
        let mut others = self.texts.keys().filter(|other| **other != self.main);
        others.position(|other| other == name).map(|position| position + 1)
    }
}

/// The names that a source includes, for a caller that gathers [`Sources`]; a text that cannot be read includes nothing
/// (and [`super::parse`] says why). Names that [`super::parse`] would refuse are left out, so that a caller that joins
/// them to a directory stays inside it.
#[must_use]
pub fn includes(text: &str) -> Vec<String> {
    if text.len() > SOURCE_BYTES_MAX {
        return Vec::new();
    }
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let list = table.get_ref().get("include").and_then(|value| value.get_ref().as_array());
    let names = list.into_iter().flat_map(|list| list.iter()).filter_map(|value| match value.get_ref() {
        DeValue::String(name) => Some(name.to_string()),
        _ => None,
    });
    names.filter(|name| is_relative_name(name)).collect()
}

/// Whether a name is a plain relative path that stays below the main file's directory.
pub(crate) fn is_relative_name(name: &str) -> bool {
    let part_ok = |part: &str| !part.is_empty() && part != "." && part != "..";
    let bad = |c: char| c.is_control() || c == '\\' || c == ':';
    name.len() <= 255 && !name.contains(bad) && name.split('/').all(part_ok)
}
