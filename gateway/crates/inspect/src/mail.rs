//! Mail (RFC 5322, RFC 2045): its bodies and its attachments, each examined as the file that it is.

use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};

use crate::case::{Case, Halt};
use crate::examine::{self, Part};
use crate::{FileType, FindingId, names};

/// Examines a mail.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let Some(message) = MessageParser::default().parse(part.bytes) else {
        case.malformed(part.at, "the mail cannot be read");
        return FileType::Eml;
    };
    if parts(case, part, &message, part.depth).is_err() {
        case.malformed(part.at, "the mail was not read to its end");
    }
    FileType::Eml
}

fn parts(case: &mut Case<'_>, part: Part<'_>, message: &Message<'_>, depth: u8) -> Result<(), Halt> {
    if depth > case.limits.depth {
        case.find(FindingId::Bomb, part.at, format!("mails nested deeper than {}", case.limits.depth));
        return Err(Halt);
    }
    for (number, piece) in message.parts.iter().enumerate() {
        case.entry(part.at)?;
        let name = piece.attachment_name().map(|name| name.trim().to_owned());
        let at = part.within(&name.clone().unwrap_or_else(|| format!("part {number}")));
        if let Some(name) = &name {
            names::check_file(case, name);
        }
        if piece.is_encoding_problem {
            case.malformed(&at, "the part is not encoded as it says");
        }
        let kind = piece.content_type().map(|kind| kind.ctype().to_ascii_lowercase());
        if kind.as_deref() == Some("application")
            && is_sealed(piece.content_type().and_then(|kind| kind.subtype()))
        {
            case.find(FindingId::Encrypted, &at, "an encrypted part");
            continue;
        }
        match &piece.body {
            PartType::Text(text) => body(case, part, text.as_bytes(), name.as_deref(), &at),
            PartType::Html(text) => body(case, part, text.as_bytes(), name.as_deref(), &at),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                body(case, part, bytes, name.as_deref(), &at);
            }
            PartType::Message(inner) => parts(case, Part { at: &at, ..part }, inner, depth + 1)?,
            PartType::Multipart(_) => {}
        }
    }
    Ok(())
}

fn is_sealed(subtype: Option<&str>) -> bool {
    subtype.is_some_and(|subtype| {
        matches!(subtype.to_ascii_lowercase().as_str(), "pkcs7-mime" | "x-pkcs7-mime" | "pgp-encrypted")
    })
}

fn body(case: &mut Case<'_>, part: Part<'_>, bytes: &[u8], name: Option<&str>, at: &str) {
    examine::part(case, Part { bytes, name, at, depth: part.depth + 1 });
}
