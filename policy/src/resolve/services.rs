//! Services: `tcp/104`, `udp/500-510`, `icmp`, `esp`, `ah`, `ike`, `proto/NN`, names, and sums of them with `+`.

use std::collections::BTreeMap;

use thiserror::Error;

use super::ByName;
use super::context::Context;
use super::names::{self, Seen};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::Protocol;
use crate::raw::{At, File, Item, Spot, Words};

/// Names that every policy knows; a `[service]` of the same name takes their place.
pub const BUILT_IN_SERVICES: [(&str, &[Protocol]); 8] = [
    ("ssh", &[Protocol::Tcp(22, 22)]),
    ("http", &[Protocol::Tcp(80, 80)]),
    ("https", &[Protocol::Tcp(443, 443), Protocol::Udp(443, 443)]),
    ("dns", &[Protocol::Tcp(53, 53), Protocol::Udp(53, 53)]),
    ("ntp", &[Protocol::Udp(123, 123)]),
    ("rdp", &[Protocol::Tcp(3389, 3389), Protocol::Udp(3389, 3389)]),
    ("smb", &[Protocol::Tcp(445, 445)]),
    ("dicom", &[Protocol::Tcp(104, 104), Protocol::Tcp(11112, 11112)]),
];
/// Words of the grammar that are no names.
const PRIMITIVES: [(&str, &[Protocol]); 4] = [
    ("icmp", &[Protocol::Echo]),
    ("esp", &[Protocol::Ip(50)]),
    ("ah", &[Protocol::Ip(51)]),
    ("ike", &[Protocol::Udp(500, 500), Protocol::Udp(4500, 4500)]),
];
/// Protocols that have words of their own (IANA protocol numbers).
const SPOKEN_FOR: [(u8, &str); 4] = [(1, "icmp"), (6, "tcp/PORT"), (17, "udp/PORT"), (58, "icmp")];
/// Most parts of one sum.
const PARTS_MAX: usize = 64;

/// Why a service text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// Nothing between two `+`, or nothing at all.
    #[error("a service is empty")]
    Empty,
    /// A sum of too many parts.
    #[error("the service has more than {PARTS_MAX} parts")]
    TooLong,
    /// A name that nothing defines.
    #[error("there is no service named `{0}`")]
    Unknown(String),
    /// Ports that are none.
    #[error("`{0}` has no usable ports: write a port from 1 to 65535, or a range such as `8000-8010`")]
    Ports(String),
    /// A protocol number that is none.
    #[error("`{0}` has no usable protocol number: write `proto/0` to `proto/255`")]
    Number(String),
    /// A protocol that has a word of its own.
    #[error("`proto/{number}` has a word of its own: write `{word}`")]
    OwnWord {
        /// The number.
        number: u8,
        /// The word.
        word: &'static str,
    },
}

impl ServiceError {
    /// The same in Japanese.
    #[must_use]
    pub fn japanese(&self) -> String {
        match self {
            Self::Empty => "サービスが空です".to_owned(),
            Self::TooLong => format!("サービスの要素が{PARTS_MAX}個を超えています"),
            Self::Unknown(name) => format!("`{name}` というサービスはありません"),
            Self::Ports(text) => {
                format!(
                    "`{text}` のポートが使えません。1〜65535のポートか、`8000-8010` のような範囲を書いてください"
                )
            }
            Self::Number(text) => {
                format!("`{text}` のプロトコル番号が使えません。`proto/0`〜`proto/255` を書いてください")
            }
            Self::OwnWord { number, word } => {
                format!("`proto/{number}` には専用の書き方があります。`{word}` と書いてください")
            }
        }
    }
}

/// Reads a service: sorted, without repetition. `named` are the policy's own services.
///
/// # Errors
/// Says which part is not understood.
pub fn parse_service(
    text: &str,
    named: &BTreeMap<String, Vec<Protocol>>,
) -> Result<Vec<Protocol>, ServiceError> {
    let mut protocols = Vec::new();
    for (count, part) in text.split('+').enumerate() {
        if count == PARTS_MAX {
            return Err(ServiceError::TooLong);
        }
        protocols.extend(parse_part(part.trim(), named)?);
    }
    protocols.sort_unstable();
    protocols.dedup();
    Ok(protocols)
}

/// Every packet that has a service: what `any = true` means.
pub(super) fn everything() -> Vec<Protocol> {
    let others = (0..=u8::MAX).filter(|number| SPOKEN_FOR.iter().all(|(spoken, _)| spoken != number));
    let ports = [Protocol::Tcp(0, u16::MAX), Protocol::Udp(0, u16::MAX), Protocol::Echo];
    ports.into_iter().chain(others.map(Protocol::Ip)).collect()
}

/// The policy's own services. They are made of words of the grammar and built-in names, never of one another.
pub(super) fn named(context: &mut Context<'_>, file: &File) -> ByName<Vec<Protocol>> {
    let none = ByName::new();
    let mut seen = Seen::default();
    let mut services = ByName::new();
    for named in &file.services {
        let (name, place) = (&named.name.value, context.place(named.here()));
        names::check(context, name, named.here());
        if is_primitive(name) || name.contains('/') {
            let shown = brief(name);
            let found = Diagnostic::error(
                "reserved-name",
                format!("the name `{shown}` is a word of the language"),
                format!("名前 `{shown}` は書式の言葉として使われています"),
            );
            context.error(found.label(place, "choose another name", "別の名前にしてください").help(
                "choose a name that is not `icmp`, `esp`, `ah`, `ike` and has no `/`",
                "`icmp`・`esp`・`ah`・`ike` 以外で、`/` を含まない名前にしてください",
            ));
        }
        if seen.first(context, name, place) {
            services.insert(name.clone(), list(context, &named.item, &named.item.value, &none, named.here()));
        }
    }
    services
}

/// Reads a list of services, reporting every one that is not understood; sorted, without repetition.
pub(super) fn list<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    words: &Words,
    named: &ByName<Vec<Protocol>>,
    empty: Spot,
) -> Vec<Protocol> {
    if words.0.is_empty() {
        refuse(context, &ServiceError::Empty, empty, named);
    }
    let mut protocols = Vec::new();
    for word in &words.0 {
        protocols.extend(one(context, item, word, named));
    }
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

fn one<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    word: &At<String>,
    named: &ByName<Vec<Protocol>>,
) -> Vec<Protocol> {
    parse_service(&word.value, named).unwrap_or_else(|error| {
        refuse(context, &error, item.spot(word), named);
        Vec::new()
    })
}

/// Reports a service that is not understood.
pub(super) fn refuse(
    context: &mut Context<'_>,
    error: &ServiceError,
    spot: Spot,
    named: &ByName<Vec<Protocol>>,
) {
    if let ServiceError::Unknown(name) = error {
        let known = named.keys().map(String::as_str);
        let built_in = BUILT_IN_SERVICES.iter().chain(&PRIMITIVES).map(|(name, _)| *name);
        context.unknown("unknown-service", ("service", "サービス"), name, spot, known.chain(built_in));
        return;
    }
    let found = Diagnostic::error("bad-service", error.to_string(), error.japanese());
    context.error(found.label(context.place(spot), "not a service", "サービスとして読めません").help(
        "write it such as `tcp/443`, `udp/500-510`, `icmp`, `esp`, `proto/47`, a name, or `esp+ike`",
        "`tcp/443`、`udp/500-510`、`icmp`、`esp`、`proto/47`、名前、`esp+ike` のように書いてください",
    ));
}

fn is_primitive(name: &str) -> bool {
    PRIMITIVES.iter().any(|(word, _)| *word == name)
}

fn parse_part(part: &str, named: &BTreeMap<String, Vec<Protocol>>) -> Result<Vec<Protocol>, ServiceError> {
    if part.is_empty() {
        return Err(ServiceError::Empty);
    }
    if let Some((kind, rest)) = part.split_once('/') {
        return match kind {
            "tcp" => parse_ports(part, rest).map(|(first, last)| vec![Protocol::Tcp(first, last)]),
            "udp" => parse_ports(part, rest).map(|(first, last)| vec![Protocol::Udp(first, last)]),
            "proto" => parse_number(part, rest).map(|number| vec![Protocol::Ip(number)]),
            _ => Err(ServiceError::Unknown(brief(part))),
        };
    }
    if let Some(protocols) = named.get(part) {
        return Ok(protocols.clone());
    }
    let found = PRIMITIVES.iter().chain(&BUILT_IN_SERVICES).find(|(name, _)| *name == part);
    found.map(|(_, protocols)| protocols.to_vec()).ok_or_else(|| ServiceError::Unknown(brief(part)))
}

fn parse_ports(part: &str, rest: &str) -> Result<(u16, u16), ServiceError> {
    let refused = || ServiceError::Ports(brief(part));
    let (first, last) = rest.split_once('-').unwrap_or((rest, rest));
    let (first, last) = (number::<u16>(first).ok_or_else(refused)?, number::<u16>(last).ok_or_else(refused)?);
    if first == 0 || first > last { Err(refused()) } else { Ok((first, last)) }
}

fn parse_number(part: &str, rest: &str) -> Result<u8, ServiceError> {
    let number = number::<u8>(rest).ok_or_else(|| ServiceError::Number(brief(part)))?;
    match SPOKEN_FOR.iter().find(|(spoken, _)| *spoken == number) {
        Some((number, word)) => Err(ServiceError::OwnWord { number: *number, word }),
        None => Ok(number),
    }
}

/// Digits only: the standard parser would take a sign.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
