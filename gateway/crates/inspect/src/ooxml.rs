//! Office Open XML (ECMA-376): what its relationships bring in, what its parts are, what its XML does.

mod fields;
mod parts;
mod relationships;

pub(crate) use fields::check as check_field;
pub(crate) use parts::{Watch, check_formula, is_dde};
pub(crate) use relationships::one as relationship;

use crate::bytes::has;
use crate::case::{Case, Halt};
use crate::xml::{self, Form, Node};
use crate::zip::{Entry, Zip};
use crate::{FileType, FindingId, identify};

/// Examines an Office document.
pub(crate) fn examine(case: &mut Case<'_>, zip: &Zip<'_>) -> FileType {
    match look(case, zip) {
        Ok(found) => found,
        Err(Halt) => {
            case.malformed(zip.part.at, "the document was not read to its end");
            FileType::Unknown
        }
    }
}

fn look(case: &mut Case<'_>, zip: &Zip<'_>) -> Result<FileType, Halt> {
    let mut found = FileType::Unknown;
    for entry in zip.entries.iter().filter(|entry| !entry.is_directory()) {
        let at = zip.part.within(&entry.path);
        let bytes = zip.read(case, entry)?;
        let path = entry.path.to_ascii_lowercase();
        if path == "[content_types].xml" {
            found = main_type(case, &bytes, &at)?;
        } else if path.ends_with(".rels") {
            relationships::check(case, &bytes, &at)?;
        } else {
            part(case, entry, &bytes, &path, &at)?;
        }
    }
    Ok(found)
}

/// The type of the main part, by the content types (ECMA-376 part 2, section 10.1.2).
fn main_type(case: &mut Case<'_>, bytes: &[u8], at: &str) -> Result<FileType, Halt> {
    let mut found = FileType::Unknown;
    let mut mains = 0_u32;
    xml::walk(case, bytes, Form::Strict, at, &mut |case, node| {
        let Node::Open(element) = node else { return Ok(()) };
        let content_type = element.attribute("ContentType").unwrap_or_default().to_ascii_lowercase();
        if content_type.contains("vbaproject") {
            case.find(FindingId::VbaMacro, at, &content_type);
        }
        let of = of_content_type(&content_type);
        if element.local() == "Override" && of != FileType::Unknown {
            mains += 1;
        }
        if of != FileType::Unknown && (found == FileType::Unknown || element.local() == "Override") {
            found = of;
        }
        Ok(())
    })?;
    if mains > 1 {
        case.malformed(at, "more than one main part");
    }
    Ok(found)
}

fn of_content_type(content_type: &str) -> FileType {
    let main = content_type.contains("main+xml") || content_type.ends_with(".main");
    if !main {
        return FileType::Unknown;
    }
    if content_type.contains("glossary") {
        FileType::Unknown
    } else if content_type.contains("wordprocessingml") || content_type.contains("ms-word") {
        FileType::Docx
    } else if content_type.contains("sheet.binary") {
        FileType::Xlsb
    } else if content_type.contains("spreadsheetml") || content_type.contains("ms-excel") {
        FileType::Xlsx
    } else if content_type.contains("presentationml") || content_type.contains("ms-powerpoint") {
        FileType::Pptx
    } else {
        FileType::Unknown
    }
}

/// Paths that say by themselves what is there, whether a relationship leads to it or not.
const TELLING: &[(&str, FindingId)] = &[
    ("vbaproject", FindingId::VbaMacro),
    ("vbadata", FindingId::VbaMacro),
    ("/macrosheets/", FindingId::XlmMacro),
    ("/dialogsheets/", FindingId::XlmMacro),
    ("/embeddings/", FindingId::OleObject),
    ("/activex/", FindingId::Activex),
    ("/ctrlprops/", FindingId::FormControl),
    ("/externallinks/", FindingId::ExternalWorkbook),
    ("/connections.", FindingId::DataConnection),
    ("/querytables/", FindingId::DataConnection),
    ("customui/", FindingId::CustomUi),
    ("/webextensions/", FindingId::WebExtension),
    ("/afchunk", FindingId::AltChunk),
];

fn part(case: &mut Case<'_>, entry: &Entry<'_>, bytes: &[u8], path: &str, at: &str) -> Result<(), Halt> {
    telling(case, path, at);
    if is_xml(path, bytes) {
        let form = if path.ends_with(".vml") { Form::Loose } else { Form::Strict };
        let mut watch = Watch::new();
        return xml::walk(case, bytes, form, at, &mut |case, node| {
            watch.node(case, node, at);
            Ok(())
        });
    }
    binary(case, entry.name(), bytes, at);
    Ok(())
}

/// Notes what the path of a part gives away.
pub(crate) fn telling(case: &mut Case<'_>, path: &str, at: &str) {
    for (word, id) in TELLING {
        if path.contains(word) {
            case.find(*id, at, "a part of this kind");
        }
    }
}

fn is_xml(path: &str, bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    path.ends_with(".xml")
        || path.ends_with(".vml")
        || has(start, 0, b"<?xml")
        || has(start, 0, b"\xef\xbb\xbf<")
        || has(start, 0, b"\xff\xfe<")
        || has(start, 0, b"\xfe\xff\x00<")
}

/// What is in a part that is no XML: pictures and settings pass, programs and containers do not.
pub(crate) fn binary(case: &mut Case<'_>, name: &str, bytes: &[u8], at: &str) {
    use FileType as T;
    crate::names::check_ending_of_part(case, name, at);
    let Some(found) = identify::by_signature(bytes) else {
        if crate::text::is_script(bytes) {
            case.find(FindingId::Script, at, "a part that is a program");
        }
        return;
    };
    match found {
        T::Pe | T::Elf | T::MachO | T::Bytecode | T::Jar => {
            case.find(FindingId::Executable, at, found.word())
        }
        T::Shortcut => case.find(FindingId::Shortcut, at, found.word()),
        T::Installer => case.find(FindingId::Installer, at, found.word()),
        T::DiskImage => case.find(FindingId::DiskImage, at, found.word()),
        T::Script | T::Chm => case.find(FindingId::Script, at, found.word()),
        T::OtherOle => case.find(FindingId::OleObject, at, "an OLE2 file"),
        T::Zip | T::OtherArchive | T::Gzip | T::Tar | T::OneNote | T::Pdf | T::Rtf | T::Dicom => {
            case.find(FindingId::EmbeddedFile, at, found.word());
        }
        _ => {}
    }
}
