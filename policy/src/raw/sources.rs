//! The texts of a policy by name. Reading files is the caller's business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::SOURCE_BYTES_MAX;

/// The texts of a policy, by the names under which `include` finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Name of the main source.
    pub main: String,
    /// Every source's text by name, the main one among them.
    pub texts: BTreeMap<String, String>,
    /// Files of vendors' certificate authorities by the names that the policy gives them; one that is not there is left
    /// out.
    pub authorities: BTreeMap<String, Beside>,
}

/// A file that a policy names, as the caller found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beside {
    /// Its text; of a file that is too long, enough to see that.
    Text(String),
    /// It leads out of the policy's directory.
    Outside,
    /// It cannot be read, and why.
    Unreadable(String),
}

impl Sources {
    /// One source without includes.
    #[must_use]
    pub fn single(name: impl Into<String>, text: impl Into<String>) -> Self {
        let main = name.into();
        Self { texts: BTreeMap::from([(main.clone(), text.into())]), main, ..Self::default() }
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

    /// Bytes of all files beside the policy.
    pub(super) fn beside_bytes(&self) -> usize {
        let bytes = |beside: &Beside| match beside {
            Beside::Text(text) | Beside::Unreadable(text) => text.len(),
            Beside::Outside => 0,
        };
        self.authorities.values().map(bytes).sum()
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

/// What a source names, for a caller that gathers [`Sources`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Further sources.
    pub includes: Vec<String>,
    /// Files of vendors' certificate authorities.
    pub authorities: Vec<String>,
}

/// What a source names. A text that cannot be read names nothing (and [`super::parse`] says why). Names that
/// [`super::parse`] or [`crate::resolve`] would refuse are left out, so that a caller that joins them to a directory stays
/// inside it.
#[must_use]
pub fn wanted(text: &str) -> Wanted {
    if text.len() > SOURCE_BYTES_MAX {
        return Wanted::default();
    }
    let Ok(table) = DeTable::parse(text) else { return Wanted::default() };
    let table = table.get_ref();
    let list = table.get("include").and_then(|value| value.get_ref().as_array());
    let includes = list.into_iter().flat_map(|list| list.iter()).filter_map(|value| name(value.get_ref()));
    let vendors = table.get("vendor").and_then(|value| value.get_ref().as_table());
    let vendors = vendors.into_iter().flat_map(|vendors| vendors.values());
    let of = |vendor: &DeValue<'_>| name(vendor.as_table()?.get("ca")?.get_ref());
    Wanted {
        includes: includes.collect(),
        authorities: vendors.filter_map(|vendor| of(vendor.get_ref())).collect(),
    }
}

/// The names that a source includes; see [`wanted`].
#[must_use]
pub fn includes(text: &str) -> Vec<String> {
    wanted(text).includes
}

fn name(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|name| is_relative_name(name)).map(ToOwned::to_owned)
}

/// Whether a name is a plain relative path that stays below the main file's directory.
pub(crate) fn is_relative_name(name: &str) -> bool {
    let part_ok = |part: &str| !part.is_empty() && part != "." && part != "..";
    let bad = |c: char| c.is_control() || c == '\\' || c == ':';
    name.len() <= 255 && !name.contains(bad) && name.split('/').all(part_ok)
}
