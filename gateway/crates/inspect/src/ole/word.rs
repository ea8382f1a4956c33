//! Word 97 and later ([MS-DOC]): encryption, fields, and the template it is attached to.

use super::Compound;
use crate::bytes::{find, part as bytes_at, size_le, u16_le, utf16_le};
use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::{FindingId, ooxml};

/// Where the FIB says which flags the document has.
const FLAGS: usize = 0x0a;
const ENCRYPTED: u16 = 0x0100;
const TABLE_1: u16 = 0x0200;
/// Where the FIB says where the associated strings are.
const STRINGS: usize = 0x019a;
/// Longest field instruction looked at, in characters.
const FIELD_CHARS: usize = 512;
const FIELD_BEGIN: u8 = 0x13;

pub(super) fn check(case: &mut Case<'_>, compound: &mut Compound<'_>, part: Part<'_>) -> Result<(), Halt> {
    let at = part.within("WordDocument");
    let Some(document) = compound.read(case, "/WordDocument", &at)? else { return Ok(()) };
    let flags = u16_le(&document, FLAGS).unwrap_or_default();
    if flags & ENCRYPTED != 0 {
        case.find(FindingId::Encrypted, &at, "the document is encrypted");
        return Ok(());
    }
    check_fields(case, &document, &at)?;
    let table = if flags & TABLE_1 != 0 { "/1Table" } else { "/0Table" };
    if let Some(table) = compound.read(case, table, &at)? {
        let strings = size_le(&document, STRINGS).zip(size_le(&document, STRINGS + 4));
        let strings = strings.and_then(|(start, len)| bytes_at(&table, start, len));
        check_template(case, strings.unwrap_or_default(), &at);
    }
    Ok(())
}

/// Fields stand in the text between marks; text is of one byte or of two a letter.
fn check_fields(case: &mut Case<'_>, document: &[u8], at: &str) -> Result<(), Halt> {
    for begin in memchr::memchr_iter(FIELD_BEGIN, document) {
        case.step(1, at)?;
        let after = document.get(begin + 1..).unwrap_or_default();
        let narrow = after.first() != Some(&0);
        let is_end = |letter: char| matches!(letter, '\u{13}'..='\u{15}');
        let instruction: String = if narrow {
            after
                .iter()
                .take(FIELD_CHARS)
                .map(|byte| char::from(*byte))
                .take_while(|letter| !is_end(*letter))
                .collect()
        } else {
            let wide = after.get(1..).unwrap_or_default();
            utf16_le(crate::bytes::head(wide, 2 * FIELD_CHARS))
                .chars()
                .take_while(|letter| !is_end(*letter))
                .collect()
        };
        if instruction
            .chars()
            .next()
            .is_some_and(|letter| letter == ' ' || letter == '"' || letter.is_ascii_alphabetic())
        {
            ooxml::check_field(case, &instruction, at);
        }
    }
    Ok(())
}

/// The second of the associated strings (SttbfAssoc) is the template.
fn check_template(case: &mut Case<'_>, strings: &[u8], at: &str) {
    let fetched = ["http", "\\\\", "ftp:"].iter().any(|start| {
        let wide: Vec<u8> = start.bytes().flat_map(|byte| [byte, 0]).collect();
        find(strings, &wide).is_some()
    });
    let second = || {
        let first = usize::from(u16_le(strings, 6)?);
        let place = 8 + 2 * first;
        let len = usize::from(u16_le(strings, place)?);
        Some(utf16_le(bytes_at(strings, place + 2, 2 * len)?))
    };
    if fetched && let Some(template) = second() {
        let lower = template.to_ascii_lowercase();
        if lower.starts_with("http") || lower.starts_with("\\\\") || lower.starts_with("ftp:") {
            case.find(FindingId::ExternalTemplate, at, format!("template `{template}`"));
        }
    }
}
