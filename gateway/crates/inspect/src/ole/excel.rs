//! Workbooks in BIFF5 and BIFF8 ([MS-XLS]): macro sheets, links, objects, encryption.

use super::Compound;
use crate::FindingId;
use crate::bytes::{part as bytes_at, u16_le};
use crate::case::{Case, Halt};
use crate::examine::Part;

const BOF: u16 = 0x0809;
const FILEPASS: u16 = 0x002f;
const BOUNDSHEET: u16 = 0x0085;
const SUPBOOK: u16 = 0x01ae;
const EXTERNSHEET: u16 = 0x0017;
const EXTERNNAME: u16 = 0x0023;
const OBJ: u16 = 0x005d;
const LBL: u16 = 0x0018;
const QSI: u16 = 0x01ad;
const DCONN: u16 = 0x0876;
const WEB_QUERY: u16 = 0x0803;
const RTD: u16 = 0x0813;
const OBPROJ: u16 = 0x00d3;

/// Form controls among the object types of [MS-XLS] 2.5.143; the drop-down is one only when it is not a filter's.
const CONTROLS: [u16; 9] = [0x07, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12];
const PICTURE: u16 = 0x08;
const MACRO_SUBRECORD: u16 = 0x04;
const LINK_SUBRECORD: u16 = 0x09;

/// Walks the records of the workbook's stream.
pub(super) fn check(case: &mut Case<'_>, compound: &mut Compound<'_>, part: Part<'_>) -> Result<(), Halt> {
    for stream in ["/Workbook", "/Book"] {
        let at = part.within(stream.trim_start_matches('/'));
        if let Some(bytes) = compound.read(case, stream, &at)? {
            walk(case, &bytes, &at)?;
        }
    }
    Ok(())
}

fn walk(case: &mut Case<'_>, bytes: &[u8], at: &str) -> Result<(), Halt> {
    let mut place = 0;
    while let (Some(kind), Some(len)) = (u16_le(bytes, place), u16_le(bytes, place + 2)) {
        case.step(1, at)?;
        let Some(data) = bytes_at(bytes, place + 4, usize::from(len)) else { break };
        if kind == FILEPASS {
            case.find(FindingId::Encrypted, at, "the workbook is encrypted");
            return Ok(());
        }
        if let Some((id, why)) = record(kind, data) {
            case.find(id, at, why);
        }
        place += 4 + usize::from(len);
    }
    Ok(())
}

fn record(kind: u16, data: &[u8]) -> Option<(FindingId, &'static str)> {
    match kind {
        BOF if u16_le(data, 2) == Some(0x0040) => Some((FindingId::XlmMacro, "a macro sheet")),
        BOF if u16_le(data, 2) == Some(0x0006) => Some((FindingId::VbaMacro, "a Visual Basic module")),
        BOUNDSHEET => match data.get(5) {
            Some(1) => Some((FindingId::XlmMacro, "a macro sheet")),
            Some(6) => Some((FindingId::VbaMacro, "a Visual Basic module")),
            _ => None,
        },
        OBPROJ => Some((FindingId::VbaMacro, "a Visual Basic project")),
        // Names that run by themselves are built-in ones of a macro: fProc and fBuiltin.
        LBL if u16_le(data, 0).is_some_and(|flags| flags & 0x0008 != 0) => {
            Some((FindingId::XlmMacro, "a name that is a macro"))
        }
        SUPBOOK => supbook(data),
        EXTERNSHEET => external_sheet(data),
        EXTERNNAME if u16_le(data, 0).is_some_and(|flags| flags & 0x0010 != 0) => {
            Some((FindingId::OleObject, "a link to an OLE object"))
        }
        OBJ => object(data),
        QSI | DCONN | WEB_QUERY => Some((FindingId::DataConnection, "a query")),
        RTD => Some((FindingId::DataConnection, "real-time data")),
        _ => None,
    }
}

/// [MS-XLS] 2.4.271: this book, add-ins, or somebody else's.
fn supbook(data: &[u8]) -> Option<(FindingId, &'static str)> {
    match u16_le(data, 2)? {
        0x0401 | 0x3a01 => None,
        length => {
            let text = data.get(4..)?;
            // A lone space or zero stands for a sheet that is no longer there.
            if length <= 1 && text.len() <= 4 && !text.contains(&1) {
                return None;
            }
            if text.contains(&3) {
                return Some((FindingId::Dde, "a DDE or OLE link"));
            }
            Some((FindingId::ExternalWorkbook, "a link to another workbook"))
        }
    }
}

/// BIFF5 names the other book in text here; BIFF8 has only numbers.
fn external_sheet(data: &[u8]) -> Option<(FindingId, &'static str)> {
    let len = usize::from(*data.first()?);
    let text = data.get(2..)?;
    let is_text = data.len() == len + 2 && len > 0;
    if !is_text {
        return None;
    }
    match data.get(1)? {
        1 if text.contains(&3) => Some((FindingId::Dde, "a DDE link")),
        1 => Some((FindingId::ExternalWorkbook, "a link to another workbook")),
        _ => None,
    }
}

/// [MS-XLS] 2.4.181: the object's type, then subrecords.
fn object(data: &[u8]) -> Option<(FindingId, &'static str)> {
    if u16_le(data, 0)? != 0x15 {
        return None;
    }
    let kind = u16_le(data, 4)?;
    if CONTROLS.contains(&kind) {
        return Some((FindingId::FormControl, "a form control"));
    }
    let mut place = 4 + usize::from(u16_le(data, 2)?);
    while let (Some(subrecord), Some(len)) = (u16_le(data, place), u16_le(data, place + 2)) {
        match subrecord {
            LINK_SUBRECORD if kind == PICTURE && len > 0 => {
                return Some((FindingId::OleObject, "an OLE object or a control"));
            }
            MACRO_SUBRECORD if len > 0 => {
                return Some((FindingId::ActionSetting, "an object that starts a macro"));
            }
            0 => break,
            _ => {}
        }
        place += 4 + usize::from(len);
    }
    None
}
