//! Values with the place where they were written.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

use super::LIST_MAX;

/// A value and the bytes of its source where it was written.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its bytes.
    pub span: Range<usize>,
}

/// Bytes of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Number of the source.
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// First byte after.
    pub end: usize,
}

/// An entry of the policy.
#[derive(Clone, Debug)]
pub struct Item<T> {
    /// Number of its source.
    pub source: usize,
    /// What was written.
    pub value: T,
    /// The entry's bytes.
    pub span: Range<usize>,
}

/// An entry whose name is its key.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// The key.
    pub name: At<String>,
    /// The entry.
    pub item: Item<T>,
}

/// One string or a list of strings, each with its place.
#[derive(Clone, Debug, Default)]
pub struct Words(pub Vec<At<String>>);

/// A TOML date, or a date with time and offset.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub toml::value::Datetime);

impl<T> Item<T> {
    /// Where a value inside the entry is written.
    pub fn spot<U>(&self, at: &At<U>) -> Spot {
        Spot { source: self.source, start: at.span.start, end: at.span.end }
    }

    /// Where the entry is written.
    pub fn here(&self) -> Spot {
        Spot { source: self.source, start: self.span.start, end: self.span.end }
    }
}

impl<T> Named<T> {
    /// Where the name is written.
    pub fn here(&self) -> Spot {
        self.item.spot(&self.name)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Self { value: spanned.into_inner(), span })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let either = At::<Either>::deserialize(deserializer)?;
        Ok(match either.value {
            Either::One(word) => Self(vec![At { value: word, span: either.span }]),
            Either::Many(words) => Self(words),
        })
    }
}

impl JsonSchema for Words {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        toml::value::Datetime::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "format": "date" }, { "type": "string", "format": "date-time" }] })
    }
}

/// What [`Words`] may look like.
enum Either {
    One(String),
    Many(Vec<At<String>>),
}

impl<'de> Deserialize<'de> for Either {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherVisitor)
    }
}

struct EitherVisitor;

impl<'de> Visitor<'de> for EitherVisitor {
    type Value = Either;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or a list of strings")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Either, E> {
        Ok(Either::One(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Either, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            if words.len() == LIST_MAX {
                return Err(A::Error::custom(format!("more than {LIST_MAX} items in one list")));
            }
            words.push(word);
        }
        Ok(Either::Many(words))
    }
}
