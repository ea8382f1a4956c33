//! Reads sources entry by entry, so that one broken entry does not hide what is wrong with the others.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::sources::is_relative_name;
use super::{At, File, INCLUDE_DEPTH_MAX, Index, Item, LIMITS, Named, SCHEMA, Sources, Spot, messages};
use super::{SOURCE_BYTES_MAX, SOURCES_MAX, TOTAL_BYTES_MAX};
use crate::diagnostic::{Diagnostic, Findings, Report};
use crate::model::Place;

/// Longest source in which more than the first syntax error is looked for: each costs memory.
const RECOVER_BYTES_MAX: usize = 256 << 10;
/// Most syntax errors told of one source: later ones are mostly echoes of the first.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Keys at the top of a source.
pub(super) const KEYS: [&str; 16] = [
    "schema",
    "include",
    "clinic",
    "responsible",
    "person",
    "zone",
    "device",
    "service",
    "flow",
    "vpn",
    "maintenance",
    "vendor",
    "evidence",
    "metrics",
    "test",
    "exception",
];

type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn read(sources: &Sources) -> Result<File, Report> {
    if let Some(found) = refuse_sizes(sources) {
        return Err(Report::new(vec![found], sources.names()));
    }
    let mut reader = Reader::new(sources);
    reader.source(&sources.main, None);
    reader.finish()
}

/// Sizes are judged before anything is read or indexed.
fn refuse_sizes(sources: &Sources) -> Option<Diagnostic> {
    if !sources.texts.contains_key(&sources.main) {
        return Some(messages::no_source(&sources.main));
    }
    if sources.texts.len() > SOURCES_MAX {
        return Some(messages::too_many_sources());
    }
    if let Some((name, _)) = sources.texts.iter().find(|(_, text)| text.len() > SOURCE_BYTES_MAX) {
        return Some(messages::source_too_large(name));
    }
    let total: usize = sources.texts.values().map(String::len).sum::<usize>() + sources.beside_bytes();
    (total > TOTAL_BYTES_MAX).then(|| messages::source_too_large(&sources.main))
}

struct Reader<'a> {
    sources: &'a Sources,
    file: File,
    found: Findings,
    /// Sources being read, outermost first.
    stack: Vec<&'a str>,
    read: BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    fn new(sources: &'a Sources) -> Self {
        let file = File { index: Index::new(sources), ..File::default() };
        Self { sources, file, found: Findings::default(), stack: Vec::new(), read: BTreeSet::new() }
    }

    fn finish(mut self) -> Result<File, Report> {
        for (number, name) in self.sources.names().iter().enumerate() {
            if !self.read.contains(name.as_str()) && self.found.is_empty() {
                let place = self.file.index.place(Spot { source: number, start: 0, end: 0 });
                self.file.warnings.push(messages::unused_source(name, place));
            }
        }
        if self.file.clinic.is_none() && self.found.is_empty() {
            let place = self.file.index.place(Spot { source: 0, start: 0, end: 0 });
            self.found.push(messages::missing_clinic(place));
        }
        if self.found.is_empty() { Ok(self.file) } else { Err(self.found.into_report(self.sources.names())) }
    }

    /// Reads one source; `from` is where it is included.
    fn source(&mut self, name: &str, from: Option<Spot>) {
        let Some((number, name, text)) = self.open(name, from) else { return };
        if !self.read.insert(name) {
            return;
        }
        let Some(table) = self.syntax(number, text) else { return };
        self.stack.push(name);
        let mut entries: Vec<_> = table.into_inner().into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let schema_seen = entries.iter().any(|(key, _)| key.get_ref() == "schema");
        if from.is_none() && !schema_seen {
            let place = self.file.index.place(Spot { source: number, start: 0, end: 0 });
            self.found.push(messages::schema_missing(place));
        }
        for (key, value) in entries {
            self.section(number, key.get_ref(), key.span(), value);
        }
        self.stack.pop();
    }

    /// Finds a source and refuses circles and towers of includes.
    fn open(&mut self, name: &str, from: Option<Spot>) -> Option<(usize, &'a str, &'a str)> {
        let place = from.map(|spot| self.file.index.place(spot));
        let refusal = if !is_relative_name(name) && from.is_some() {
            Some(messages::bad_include(name))
        } else if self.stack.contains(&name) {
            Some(messages::include_cycle(name, &self.stack))
        } else if self.stack.len() > INCLUDE_DEPTH_MAX {
            Some(messages::include_too_deep(name))
        } else {
            None
        };
        let number = self.sources.number(name);
        let refusal = refusal.or_else(|| number.is_none().then(|| messages::include_missing(name)));
        if let Some(refusal) = refusal {
            self.found.push(match place {
                Some(place) => refusal.label(place, "included here", "ここで読み込んでいます"),
                None => refusal,
            });
            return None;
        }
        let number = number?;
        self.sources.get(number).map(|(name, text)| (number, name, text))
    }

    fn syntax(&mut self, number: usize, text: &'a str) -> Option<Spanned<DeTable<'a>>> {
        let errors = if text.len() > RECOVER_BYTES_MAX {
            match DeTable::parse(text) {
                Ok(table) => return Some(table),
                Err(error) => vec![error],
            }
        } else {
            let (table, errors) = DeTable::parse_recoverable(text);
            if errors.is_empty() {
                return Some(table);
            }
            errors
        };
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            let place = self.span_place(number, error.span().unwrap_or(0..0));
            self.found.push(messages::of_syntax(error.message(), place));
        }
        None
    }

    fn refuse(&mut self, source: usize, error: &toml::de::Error, otherwise: std::ops::Range<usize>) {
        let place = self.span_place(source, error.span().unwrap_or(otherwise));
        self.found.push(messages::of_entry(error.message(), place));
    }

    fn span_place(&self, source: usize, span: std::ops::Range<usize>) -> Place {
        self.file.index.place(Spot { source, start: span.start, end: span.end })
    }

    fn section(&mut self, source: usize, key: &str, span: std::ops::Range<usize>, value: Value<'a>) {
        let at = Spot { source, start: span.start, end: span.end };
        match key {
            "schema" => self.schema(source, value),
            "include" => self.include(source, value),
            "clinic" => {
                let item = self.one(source, at, value, self.file.clinic.is_some());
                self.file.clinic = item.or(self.file.clinic.take());
            }
            "vpn" => {
                let item = self.one(source, at, value, self.file.vpn.is_some());
                self.file.vpn = item.or(self.file.vpn.take());
            }
            "maintenance" => {
                let item = self.one(source, at, value, self.file.maintenance.is_some());
                self.file.maintenance = item.or(self.file.maintenance.take());
            }
            "evidence" => {
                let item = self.one(source, at, value, self.file.evidence.is_some());
                self.file.evidence = item.or(self.file.evidence.take());
            }
            "metrics" => {
                let item = self.one(source, at, value, self.file.metrics.is_some());
                self.file.metrics = item.or(self.file.metrics.take());
            }
            "responsible" => {
                let items = self.list(at, value, self.file.responsible.len(), LIMITS.responsible);
                self.file.responsible.extend(items);
            }
            "flow" => {
                let items = self.list(at, value, self.file.flows.len(), LIMITS.flows);
                self.file.flows.extend(items);
            }
            "test" => {
                let items = self.list(at, value, self.file.tests.len(), LIMITS.tests);
                self.file.tests.extend(items);
            }
            "exception" => {
                let items = self.list(at, value, self.file.exceptions.len(), LIMITS.exceptions);
                self.file.exceptions.extend(items);
            }
            _ => self.named_section(at, key, value),
        }
    }

    fn named_section(&mut self, at: Spot, key: &str, value: Value<'a>) {
        match key {
            "person" => {
                let items = self.table(at, value, self.file.persons.len(), LIMITS.persons);
                self.file.persons.extend(items);
            }
            "zone" => {
                let items = self.table(at, value, self.file.zones.len(), LIMITS.zones);
                self.file.zones.extend(items);
            }
            "device" => {
                let items = self.table(at, value, self.file.devices.len(), LIMITS.devices);
                self.file.devices.extend(items);
            }
            "service" => {
                let items = self.table(at, value, self.file.services.len(), LIMITS.services);
                self.file.services.extend(items);
            }
            "vendor" => {
                let items = self.table(at, value, self.file.vendors.len(), LIMITS.vendors);
                self.file.vendors.extend(items);
            }
            other => self.found.push(messages::unknown_key(other, &KEYS, self.file.index.place(at))),
        }
    }

    fn schema(&mut self, source: usize, value: Value<'a>) {
        let span = value.span();
        match i64::deserialize(ValueDeserializer::from(value)) {
            Ok(SCHEMA) => {}
            Ok(other) => {
                let place = self.file.index.place(Spot { source, start: span.start, end: span.end });
                self.found.push(messages::schema_version(other, place));
            }
            Err(error) => self.refuse(source, &error, span),
        }
    }

    fn include(&mut self, source: usize, value: Value<'a>) {
        let span = value.span();
        match Vec::<At<String>>::deserialize(ValueDeserializer::from(value)) {
            Ok(names) => {
                for name in names.iter().take(SOURCES_MAX) {
                    let from = Spot { source, start: name.span.start, end: name.span.end };
                    self.source(&name.value, Some(from));
                }
            }
            Err(error) => self.refuse(source, &error, span),
        }
    }

    /// Reads a table that the whole policy may have once.
    fn one<T: Deserialize<'a>>(
        &mut self,
        source: usize,
        at: Spot,
        value: Value<'a>,
        seen: bool,
    ) -> Option<Item<T>> {
        if seen {
            let place = self.file.index.place(at);
            self.found.push(messages::duplicate_section(place));
            return None;
        }
        self.item(source, value)
    }

    /// Reads `[[key]]` entries.
    fn list<T: Deserialize<'a>>(
        &mut self,
        at: Spot,
        value: Value<'a>,
        have: usize,
        limit: usize,
    ) -> Vec<Item<T>> {
        let DeValue::Array(array) = value.into_inner() else {
            self.found.push(messages::not_a_list(self.file.index.place(at)));
            return Vec::new();
        };
        if !self.room(at, have, array.len(), limit) {
            return Vec::new();
        }
        array.into_iter().filter_map(|value| self.item(at.source, value)).collect()
    }

    /// Reads `[key.NAME]` entries, in the order of the file.
    fn table<T: Deserialize<'a>>(
        &mut self,
        at: Spot,
        value: Value<'a>,
        have: usize,
        limit: usize,
    ) -> Vec<Named<T>> {
        let DeValue::Table(table) = value.into_inner() else {
            self.found.push(messages::not_a_table(self.file.index.place(at)));
            return Vec::new();
        };
        if !self.room(at, have, table.len(), limit) {
            return Vec::new();
        }
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = |(key, value): (Spanned<_>, _)| {
            let span = key.span();
            let name = At { value: std::borrow::Cow::into_owned(key.into_inner()), span };
            self.item(at.source, value).map(|item| Named { name, item })
        };
        entries.into_iter().filter_map(named).collect()
    }

    fn room(&mut self, at: Spot, have: usize, more: usize, limit: usize) -> bool {
        let fits = have.saturating_add(more) <= limit;
        if !fits {
            self.found.push(messages::too_many(have.saturating_add(more), limit, self.file.index.place(at)));
        }
        fits
    }

    fn item<T: Deserialize<'a>>(&mut self, source: usize, value: Value<'a>) -> Option<Item<T>> {
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(Item { source, value, span }),
            Err(error) => {
                self.refuse(source, &error, span);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KEYS;

    #[test]
    fn the_schema_for_editors_has_the_same_keys() {
        let schema = crate::raw::schema();
        let in_schema: Vec<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(in_schema, KEYS);
    }
}
