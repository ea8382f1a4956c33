//! OLE2 compound files ([MS-CFB]): which document they are, and what is stored in them.

mod excel;
mod message;
mod powerpoint;
mod word;

use std::io::{Cursor, Read};

use cfb::CompoundFile;

use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::{FileType, FindingId};

/// Root classes of installers: package, transform, patch ([MS-OLEDS] CLSIDs of msi.dll).
const INSTALLERS: [u128; 3] = [
    0x000c_1084_0000_0000_c000_0000_0000_0046,
    0x000c_1082_0000_0000_c000_0000_0000_0046,
    0x000c_1086_0000_0000_c000_0000_0000_0046,
];

/// An open compound file.
pub(crate) struct Compound<'a> {
    file: CompoundFile<Cursor<&'a [u8]>>,
    /// Path and whether it is a stream, in the order of the directory.
    pub(crate) entries: Vec<(String, bool)>,
}

impl Compound<'_> {
    fn has(&self, path: &str) -> bool {
        self.entries.iter().any(|(known, _)| known.eq_ignore_ascii_case(path))
    }

    /// The bytes of a stream; nothing when there is none or it breaks off.
    pub(crate) fn read(
        &mut self,
        case: &mut Case<'_>,
        path: &str,
        at: &str,
    ) -> Result<Option<Vec<u8>>, Halt> {
        let Ok(stream) = self.file.open_stream(path) else { return Ok(None) };
        let limit = case.inflatable_bytes();
        let mut bytes = Vec::new();
        let read = stream.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        // Sectors may be shared by streams, so streams can be more than the file.
        case.inflated(bytes.len() as u64, bytes.len() as u64, at)?;
        if read.is_err() {
            case.malformed(at, format!("stream `{path}` breaks off"));
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}

/// Examines a compound file.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let mut compound = match open(case, part) {
        Some(compound) => compound,
        None => return FileType::OtherOle,
    };
    let found = identify(case, &compound, part);
    check_entries(case, &compound, part);
    let done = match found {
        FileType::Doc => word::check(case, &mut compound, part),
        FileType::Xls => excel::check(case, &mut compound, part),
        FileType::Ppt => powerpoint::check(case, &mut compound, part),
        FileType::Msg => message::check(case, &mut compound, part),
        _ => Ok(()),
    };
    if done.is_err() {
        case.malformed(part.at, "the document was not read to its end");
    }
    found
}

fn open<'a>(case: &mut Case<'_>, part: Part<'a>) -> Option<Compound<'a>> {
    let file = match CompoundFile::open(Cursor::new(part.bytes)) {
        Ok(file) => file,
        Err(error) => {
            case.malformed(part.at, format!("OLE2: {error}"));
            return None;
        }
    };
    let mut entries = Vec::new();
    for entry in file.walk() {
        case.entry(part.at).ok()?;
        entries.push((entry.path().to_string_lossy().into_owned(), entry.is_stream()));
    }
    Some(Compound { file, entries })
}

fn identify(case: &mut Case<'_>, compound: &Compound<'_>, part: Part<'_>) -> FileType {
    if INSTALLERS.contains(&compound.file.root_entry().clsid().as_u128()) {
        return FileType::Installer;
    }
    if compound.has("/EncryptedPackage") || compound.has("/EncryptionInfo") {
        return FileType::EncryptedOffice;
    }
    let documents = [
        ("/WordDocument", FileType::Doc),
        ("/Workbook", FileType::Xls),
        ("/Book", FileType::Xls),
        ("/PowerPoint Document", FileType::Ppt),
        ("/PP40", FileType::OtherOle),
        ("/__properties_version1.0", FileType::Msg),
    ];
    let mut found: Vec<FileType> =
        documents.iter().filter(|(path, _)| compound.has(path)).map(|(_, file_type)| *file_type).collect();
    found.dedup();
    if found.len() > 1 {
        case.find(FindingId::Polyglot, part.at, "an OLE2 file of more than one document");
    }
    found.first().copied().unwrap_or(FileType::OtherOle)
}

/// Storages and streams that say by their names what they are.
fn check_entries(case: &mut Case<'_>, compound: &Compound<'_>, part: Part<'_>) {
    for (path, is_stream) in &compound.entries {
        let lower = path.to_ascii_lowercase();
        let name = lower.rsplit('/').next().unwrap_or(&lower);
        let nested = lower.matches('/').count() > 1;
        let found = match name {
            "_vba_project" | "_vba_project_cur" | "vba" => FindingId::VbaMacro,
            "macros" if !is_stream => FindingId::VbaMacro,
            "\u{1}ole10native" | "package" => FindingId::EmbeddedFile,
            "\u{1}ole" | "\u{3}objinfo" | "\u{1}ole10itemname" if nested => FindingId::OleObject,
            "\u{3}ocxname" | "\u{3}ocxdata" | "ctls" => FindingId::Activex,
            "encryptedpackage" | "encryptioninfo" | "\u{9}drmcontent" => FindingId::Encrypted,
            _ if !is_stream && (is_object(name, "mbd") || is_object(name, "lnk")) => FindingId::OleObject,
            _ if name.starts_with("ole-") || lower.starts_with("/objectpool/") => FindingId::OleObject,
            _ => continue,
        };
        case.find(found, &part.within(path.trim_start_matches('/')), "stored in the file");
    }
}

fn is_object(name: &str, start: &str) -> bool {
    name.strip_prefix(start)
        .is_some_and(|number| number.len() == 8 && number.chars().all(|digit| digit.is_ascii_hexdigit()))
}
