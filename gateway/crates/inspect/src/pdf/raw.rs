//! The bytes of a PDF, without believing any of its tables: names of active things in every revision, and in object
//! streams that no table lists.

use std::collections::BTreeMap;

use memchr::memmem;

use super::objects::{KEYS, NAMES};
use crate::FindingId;
use crate::bytes::{find, has};
use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::stream::{self, Packing};

/// Longest name that matters.
const NAME_BYTES: usize = 128;
/// Names as short as this turn up in packed bytes by chance, so there they do not count.
const SHORT: usize = 4;

/// What the bytes tell.
#[derive(Debug, Default)]
pub(super) struct Raw {
    /// An encryption dictionary is named.
    pub(super) encrypted: bool,
    /// Active things, each with its first place.
    pub(super) found: BTreeMap<FindingId, String>,
}

/// Reads the bytes once.
pub(super) fn scan(case: &mut Case<'_>, part: Part<'_>) -> Raw {
    let mut raw = Raw::default();
    names(case, part.bytes, &streams(part.bytes), part, "byte", &mut raw);
    if hidden_streams(case, part, &mut raw).is_err() {
        case.malformed(part.at, "an object stream was not read to its end");
    }
    raw
}

/// Where streams begin and end, in order.
fn streams(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let ends = memmem::Finder::new(b"endstream");
    let mut from = 0;
    for start in memmem::find_iter(bytes, b"stream") {
        let begins = has(bytes, start + 6, b"\n") || has(bytes, start + 6, b"\r");
        let after_dictionary =
            bytes.get(..start).is_some_and(|before| before.trim_ascii_end().ends_with(b">>"));
        if start < from || !begins || !after_dictionary {
            continue;
        }
        let Some(len) = bytes.get(start..).and_then(|rest| ends.find(rest)) else { break };
        found.push((start, start + len));
        from = start + len;
    }
    found
}

fn names(
    case: &mut Case<'_>,
    bytes: &[u8],
    streams: &[(usize, usize)],
    part: Part<'_>,
    unit: &str,
    raw: &mut Raw,
) {
    let mut streams = streams.iter().peekable();
    for slash in memchr::memchr_iter(b'/', bytes) {
        if case.step(1, part.at).is_err() {
            return;
        }
        while streams.next_if(|(_, end)| *end <= slash).is_some() {}
        let packed = streams.peek().is_some_and(|(start, end)| (*start..*end).contains(&slash));
        let (name, end) = name(bytes, slash + 1);
        if packed && name.len() <= SHORT {
            continue;
        }
        if let Some(id) = active(&name, bytes, end, packed, raw) {
            raw.found.entry(id).or_insert_with(|| part.within(&format!("{unit} {slash}")));
        }
    }
}

/// What a name stands for, where it stands.
fn active(name: &[u8], bytes: &[u8], end: usize, packed: bool, raw: &mut Raw) -> Option<FindingId> {
    let rest = bytes.get(end..).unwrap_or_default().trim_ascii_start();
    let value = rest.first().copied().unwrap_or_default();
    let refers = value.is_ascii_digit() || rest.starts_with(b"<<");
    match name {
        b"Encrypt" if refers && !packed => {
            raw.encrypted = true;
            None
        }
        b"JS" => {
            (value == b'(' || value == b'<' || value.is_ascii_digit()).then_some(FindingId::PdfJavascript)
        }
        b"AA" => refers.then_some(FindingId::PdfAdditionalActions),
        b"EF" | b"Collection" | b"XFA" => {
            let known = KEYS.iter().find(|(word, _)| *word == name).map(|(_, id)| *id);
            known.filter(|_| refers || value == b'[')
        }
        // As values only, and too usual as names of other things.
        b"PS" | b"3D" | b"Thread" | b"Screen" | b"Sound" | b"Movie" => None,
        name => KEYS.iter().chain(NAMES).find(|(word, _)| *word == name).map(|(_, id)| *id),
    }
}

/// A name with its `#xx` decoded (section 7.3.5), and where it ends.
fn name(bytes: &[u8], start: usize) -> (Vec<u8>, usize) {
    let mut name = Vec::new();
    let mut at = start;
    while let Some(byte) = bytes.get(at).copied() {
        if name.len() >= NAME_BYTES || byte <= b' ' || b"()<>[]{}/%".contains(&byte) {
            break;
        }
        let escaped = (byte == b'#').then(|| crate::bytes::part(bytes, at + 1, 2)).flatten();
        let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match decoded {
            Some(decoded) => {
                name.push(decoded);
                at += 3;
            }
            None => {
                name.push(byte);
                at += 1;
            }
        }
    }
    (name, at)
}

/// Object streams hold objects in packed bytes; those of old revisions no table lists any more.
fn hidden_streams(case: &mut Case<'_>, part: Part<'_>, raw: &mut Raw) -> Result<(), Halt> {
    for mark in memmem::find_iter(part.bytes, b"/ObjStm") {
        let rest = part.bytes.get(mark..).unwrap_or_default();
        let Some(start) = find(crate::bytes::head(rest, 4096), b"stream") else { continue };
        let data = rest.get(start + 6..).unwrap_or_default();
        let data = data.strip_prefix(b"\r").unwrap_or(data);
        let data = data.strip_prefix(b"\n").unwrap_or(data);
        let len = find(data, b"endstream").unwrap_or(data.len());
        let packed = data.get(..len).unwrap_or_default();
        let inflated = stream::inflate(case, packed, Packing::Zlib, part.at)?;
        let bytes = if inflated.bytes.is_empty() { packed } else { &inflated.bytes };
        names(case, bytes, &[], part, &format!("object stream at {mark}, byte"), raw);
    }
    Ok(())
}
