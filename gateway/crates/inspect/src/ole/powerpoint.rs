//! PowerPoint 97 and later ([MS-PPT]): records of objects, controls, macros, actions and encryption.

use super::Compound;
use crate::FindingId;
use crate::bytes::{part as bytes_at, size_le, u16_le, u32_le};
use crate::case::{Case, Halt};
use crate::examine::Part;

/// Deepest nesting of containers.
const DEPTH: u8 = 32;

pub(super) fn check(case: &mut Case<'_>, compound: &mut Compound<'_>, part: Part<'_>) -> Result<(), Halt> {
    let user = part.within("Current User");
    if let Some(bytes) = compound.read(case, "/Current User", &user)?
        && u32_le(&bytes, 12) == Some(0xf3d1_c4df)
    {
        case.find(FindingId::Encrypted, &user, "the presentation is encrypted");
        return Ok(());
    }
    let at = part.within("PowerPoint Document");
    if let Some(bytes) = compound.read(case, "/PowerPoint Document", &at)? {
        walk(case, &bytes, 0, &at)?;
    }
    Ok(())
}

fn walk(case: &mut Case<'_>, bytes: &[u8], depth: u8, at: &str) -> Result<(), Halt> {
    let mut place = 0;
    while let (Some(version), Some(kind), Some(len)) =
        (u16_le(bytes, place), u16_le(bytes, place + 2), size_le(bytes, place + 4))
    {
        case.step(1, at)?;
        let data =
            bytes_at(bytes, place + 8, len).unwrap_or_else(|| bytes.get(place + 8..).unwrap_or_default());
        if let Some((id, why)) = record(kind, data) {
            case.find(id, at, why);
        }
        if version & 0x0f == 0x0f {
            if depth >= DEPTH {
                case.find(FindingId::Bomb, at, "records nested too deeply");
                return Err(Halt);
            }
            walk(case, data, depth + 1, at)?;
        }
        place = place.saturating_add(8).saturating_add(len);
    }
    Ok(())
}

fn record(kind: u16, data: &[u8]) -> Option<(FindingId, &'static str)> {
    Some(match kind {
        0x1011 => (FindingId::OleObject, "the storage of an object or of macros"),
        0x0fcc => (FindingId::OleObject, "an embedded object"),
        0x0fce => (FindingId::OleObject, "a linked object"),
        0x0fee => (FindingId::Activex, "a control"),
        0x03ff if u32_le(data, 4) == Some(1) || data.is_empty() => (FindingId::VbaMacro, "macros"),
        0x0400 if u32_le(data, 4) == Some(1) => (FindingId::VbaMacro, "macros"),
        // InteractiveInfoAtom: what a click does.
        0x0ff3 => match data.get(8) {
            Some(1) => (FindingId::ActionSetting, "a click starts a macro"),
            Some(2) => (FindingId::ActionSetting, "a click starts a program"),
            Some(5) => (FindingId::ActionSetting, "a click activates an object"),
            _ => return None,
        },
        0x2f14 => (FindingId::Encrypted, "an encryption session"),
        _ => return None,
    })
}
