//! Text: in which letters, of which form, and whether a system would run it.

mod markup;
mod script;
mod table;

use std::borrow::Cow;

use encoding_rs::Encoding;

pub(crate) use script::is_script;

use crate::bytes::{head, part as bytes_at};
use crate::case::Case;
use crate::examine::Part;
use crate::{FileType, FindingId, names, payload};

/// How much of a text tells its form.
const LEAD: usize = 4096;

/// Header fields by which mail is told from other text (RFC 5322, section 3.6).
const MAIL: &[&str] = &[
    "from",
    "to",
    "subject",
    "date",
    "received",
    "message-id",
    "mime-version",
    "content-type",
    "return-path",
    "delivered-to",
    "reply-to",
    "cc",
    "x-mailer",
    "dkim-signature",
];

/// The text of bytes in UTF-8, UTF-16 with its mark, ISO-2022-JP, Shift_JIS, EUC-JP or Windows-1252; nothing when they
/// are no text.
pub(crate) fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        let (text, _, broken) = encoding.decode(bytes);
        return (!broken && is_plain(&text)).then_some(text);
    }
    if bytes.contains(&0) {
        return None;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let japanese = bytes_contain_escape(bytes);
        if japanese {
            let text = encoding_rs::ISO_2022_JP.decode_without_bom_handling_and_without_replacement(bytes)?;
            return is_plain(&text).then_some(text);
        }
        return is_plain(text).then_some(Cow::Borrowed(text));
    }
    for encoding in [encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP] {
        let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
        if let Some(text) = text.filter(|text| is_plain(text)) {
            return Some(text);
        }
    }
    let ascii = bytes.iter().filter(|byte| byte.is_ascii()).count();
    let text = encoding_rs::WINDOWS_1252.decode_without_bom_handling_and_without_replacement(bytes)?;
    (ascii * 100 >= bytes.len() * 85 && is_plain(&text)).then_some(text)
}

fn bytes_contain_escape(bytes: &[u8]) -> bool {
    memchr::memchr(0x1b, bytes).is_some_and(|at| matches!(bytes_at(bytes, at + 1, 1), Some(b"$" | b"(")))
}

/// Text has lines and tabs; HL7 over MLLP has two frame bytes more.
fn is_plain(text: &str) -> bool {
    let known = |letter: char| {
        matches!(letter, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}' | '\u{1a}' | '\u{85}')
    };
    text.chars().all(|letter| !letter.is_control() || known(letter))
}

/// The form of a text, by its beginning; or that it is none.
pub(crate) fn identify(bytes: &[u8], name: Option<&str>) -> FileType {
    if bytes.is_empty() {
        return FileType::Empty;
    }
    let Some(text) = decode(bytes) else { return FileType::Unknown };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lead = lead_of(text);
    if let Some(found) = script::of_settings(lead) {
        return found;
    }
    if script::is_program(text, lead) {
        return FileType::Script;
    }
    let lower = lead.to_ascii_lowercase();
    if let Some(found) = markup::identify(&lower) {
        found
    } else if text.starts_with("MSH") || text.starts_with("FHS|") || text.starts_with("BHS|") {
        FileType::Hl7
    } else if text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        FileType::Json
    } else if is_mail(lead) {
        FileType::Eml
    } else if table::is_table(text, name) {
        FileType::Csv
    } else {
        FileType::Text
    }
}

fn lead_of(text: &str) -> &str {
    let mut end = text.len().min(LEAD);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

fn is_mail(lead: &str) -> bool {
    let head: Vec<&str> = lead.lines().take_while(|line| !line.is_empty()).take(40).collect();
    let fields =
        head.iter().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_ascii_lowercase());
    let known = fields.filter(|name| MAIL.contains(&name.as_str())).count();
    let first = head.first().is_some_and(|line| {
        line.starts_with("From ")
            || line.split_once(':').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
            })
    });
    first && known >= 2
}

/// Examines a text of a known form.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>, found: FileType) -> FileType {
    if let Some(word) = markup::server_page(head(part.bytes, part.bytes.len())) {
        case.find(FindingId::Script, part.at, format!("`{word}`: a server runs this"));
    }
    match found {
        FileType::Html | FileType::Svg => markup::examine(case, part, found),
        FileType::Xml => return markup::xml(case, part),
        FileType::Json => payload::json(case, part),
        FileType::Hl7 => payload::hl7(case, part),
        FileType::Csv => table::examine(case, part, true),
        FileType::Text => table::examine(case, part, false),
        _ => {}
    }
    found
}

/// Names a part for those that come out of a text.
pub(crate) fn examine_payload(
    case: &mut Case<'_>,
    part: Part<'_>,
    bytes: &[u8],
    at: &str,
    name: Option<&str>,
) {
    if let Some(name) = name {
        names::check_ending(case, name, at);
    }
    crate::examine::part(case, Part { bytes, name, at, depth: part.depth + 1 });
}
