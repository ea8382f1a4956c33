//! Outlook messages ([MS-OXMSG]): their attachments.

use super::Compound;
use crate::FindingId;
use crate::bytes::utf16_le;
use crate::case::{Case, Halt};
use crate::examine::{self, Part};

const ATTACHMENT: &str = "__attach_version1.0_#";
/// PidTagAttachDataBinary.
const DATA: &str = "__substg1.0_37010102";
/// PidTagAttachDataObject: a message, or an OLE object.
const OBJECT: &str = "__substg1.0_3701000D";
/// PidTagAttachLongFilename and PidTagAttachFilename, in UTF-16 and in bytes.
const NAMES: [(&str, bool); 4] = [
    ("__substg1.0_3707001F", true),
    ("__substg1.0_3707001E", false),
    ("__substg1.0_3704001F", true),
    ("__substg1.0_3704001E", false),
];

pub(super) fn check(case: &mut Case<'_>, compound: &mut Compound<'_>, part: Part<'_>) -> Result<(), Halt> {
    let entries = compound.entries.clone();
    for (path, is_stream) in &entries {
        let Some((attachment, name)) = path.rsplit_once('/') else { continue };
        let of_attachment = attachment.rsplit('/').next().is_some_and(|last| last.starts_with(ATTACHMENT));
        if !of_attachment {
            continue;
        }
        let called = name_of(case, compound, attachment, part)?;
        let at = part.within(called.as_deref().unwrap_or(attachment.trim_start_matches('/')));
        if *is_stream && name == DATA {
            let Some(bytes) = compound.read(case, path, &at)? else { continue };
            if let Some(called) = &called {
                crate::names::check_ending(case, called, &at);
            }
            let inner = Part { bytes: &bytes, name: called.as_deref(), at: &at, depth: part.depth + 1 };
            examine::part(case, inner);
        } else if !is_stream && name == OBJECT && !compound.has(&format!("{path}/__properties_version1.0")) {
            case.find(FindingId::OleObject, &at, "an OLE object is attached");
        }
    }
    Ok(())
}

fn name_of(
    case: &mut Case<'_>,
    compound: &mut Compound<'_>,
    attachment: &str,
    part: Part<'_>,
) -> Result<Option<String>, Halt> {
    for (stream, wide) in NAMES {
        if let Some(bytes) = compound.read(case, &format!("{attachment}/{stream}"), part.at)? {
            let name = if wide { utf16_le(&bytes) } else { String::from_utf8_lossy(&bytes).into_owned() };
            return Ok(Some(name.trim_end_matches('\0').to_owned()));
        }
    }
    Ok(None)
}
