//! Files inside messages: HL7 version 2 (type ED), and JSON such as FHIR, both in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::identify;
use crate::{FindingId, text};

/// Shortest text that is tried as base64: a program header does not fit into less.
const PAYLOAD_CHARS: usize = 32;

/// Examines the values of a JSON document that are files.
pub(crate) fn json(case: &mut Case<'_>, part: Part<'_>) {
    let Some(decoded) = text::decode(part.bytes) else { return };
    match serde_json::from_str::<Value>(decoded.trim_start_matches('\u{feff}')) {
        Ok(value) => {
            if walk(case, part, &value, "").is_err() {
                case.malformed(part.at, "the document was not read to its end");
            }
        }
        Err(error) => case.malformed(part.at, format!("JSON: {error}")),
    }
}

fn walk(case: &mut Case<'_>, part: Part<'_>, value: &Value, path: &str) -> Result<(), Halt> {
    case.step(1, part.at)?;
    match value {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                walk(case, part, item, &format!("{path}[{number}]"))?;
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                // FHIR: Attachment.data and Binary.data are always files; elsewhere a payload has to look like one.
                let declared = name == "data"
                    && (fields.contains_key("contentType") || fields.contains_key("resourceType"));
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match field {
                    Value::String(text) => encoded(case, part, text, &inner, declared)?,
                    field => walk(case, part, field, &inner)?,
                }
            }
        }
        Value::String(text) => encoded(case, part, text, path, false)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// Examines an HL7 message: every component that is base64 of a file.
pub(crate) fn hl7(case: &mut Case<'_>, part: Part<'_>) {
    let Some(decoded) = text::decode(part.bytes) else { return };
    let message = decoded.trim_matches(['\u{b}', '\u{1c}', '\u{feff}', '\r', '\n', ' ']);
    let unix = message.replace("\r\n", "\r").replace('\n', "\r");
    if let Err(error) = hl7_parser::Message::parse(&unix) {
        case.malformed(part.at, format!("HL7: {error}"));
        return;
    }
    // The separators are those of the header (HL7 v2, section 2.5.4).
    let mut header = unix.chars().skip(3);
    let (field, component) = (header.next().unwrap_or('|'), header.next().unwrap_or('^'));
    for (number, segment) in unix.split('\r').enumerate() {
        for (place, value) in segment.split([field, component, '~', '&']).enumerate() {
            let name = segment.get(..3).unwrap_or("segment");
            let at = format!("{name} {} value {}", number + 1, place + 1);
            let declared = segment.contains("Base64");
            if encoded(case, part, value, &at, declared && value.len() > 64).is_err() {
                return;
            }
        }
    }
}

/// Examines `value` if it is a file in base64; a value that is said to be one is examined whatever it is.
fn encoded(case: &mut Case<'_>, part: Part<'_>, value: &str, path: &str, declared: bool) -> Result<(), Halt> {
    case.step(1, part.at)?;
    let data = value.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")).map(|(_, data)| data);
    let (data, declared) = (data.unwrap_or(value), declared || data.is_some());
    if data.len() < PAYLOAD_CHARS {
        return Ok(());
    }
    let tight: String = data.chars().filter(|letter| !letter.is_whitespace()).collect();
    let at = part.within(path);
    let Ok(bytes) = STANDARD.decode(&tight) else {
        if declared {
            case.find(FindingId::Malformed, &at, "said to be base64, and is not");
        }
        return Ok(());
    };
    case.inflated(bytes.len() as u64, tight.len() as u64, &at)?;
    if declared || identify::by_signature(&bytes).is_some() || text::is_script(&bytes) {
        text::examine_payload(case, part, &bytes, &at, None);
    }
    Ok(())
}
