//! OpenDocument (OASIS ODF 1.3): macros, events, objects and links of its XML.

use crate::bytes::find_any_case;
use crate::case::{Case, Halt};
use crate::xml::{self, Element, Form, Node};
use crate::zip::Zip;
use crate::{FileType, FindingId, identify, ooxml};

/// Media types of documents; what else has this shape (books, extensions) is not accepted.
const MEDIA: &str = "application/vnd.oasis.opendocument.";

/// Examines an OpenDocument file.
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
    let Some(mimetype) = zip.entry("mimetype") else { return Ok(FileType::Unknown) };
    let mimetype = zip.read(case, mimetype)?;
    let document = mimetype.trim_ascii().starts_with(MEDIA.as_bytes())
        && find_any_case(&mimetype, &["database", "-master", "text-web"]).is_none();
    let mut passive = Vec::new();
    if let Some(manifest) = zip.entry("META-INF/manifest.xml") {
        let bytes = zip.read(case, manifest)?;
        check_manifest(case, &bytes, &zip.part.within("META-INF/manifest.xml"), &mut passive)?;
    }
    for entry in
        zip.entries.iter().filter(|entry| !entry.is_directory() && entry.path != "META-INF/manifest.xml")
    {
        let at = zip.part.within(&entry.path);
        let bytes = zip.read(case, entry)?;
        let lower = entry.path.to_ascii_lowercase();
        if lower.starts_with("basic/") || lower.starts_with("scripts/") || lower.starts_with("dialogs/") {
            case.find(FindingId::OdfMacro, &at, "a macro library");
        }
        let is_xml = lower.ends_with(".xml") || bytes.trim_ascii_start().starts_with(b"<?xml");
        if is_xml {
            xml::walk(case, &bytes, Form::Strict, &at, &mut |case, node| {
                check_node(case, node, &passive, &at);
                Ok(())
            })?;
        } else {
            check_binary(case, &bytes, &lower, &at);
        }
    }
    Ok(if document { FileType::Odf } else { FileType::Unknown })
}

/// Says what is encrypted, and which sub-documents only draw (charts and formulas).
fn check_manifest(
    case: &mut Case<'_>,
    bytes: &[u8],
    at: &str,
    passive: &mut Vec<String>,
) -> Result<(), Halt> {
    xml::walk(case, bytes, Form::Public, at, &mut |case, node| {
        let Node::Open(element) = node else { return Ok(()) };
        if element.local() == "encryption-data" || element.local() == "encrypted-key" {
            case.find(FindingId::Encrypted, at, "the document is encrypted");
        }
        let media = element.attribute("media-type").unwrap_or_default();
        let path = element.attribute("full-path").unwrap_or_default();
        if media == format!("{MEDIA}chart") || media == format!("{MEDIA}formula") {
            passive.push(path.trim_end_matches('/').to_owned());
        }
        Ok(())
    })
}

fn check_node(case: &mut Case<'_>, node: &Node<'_>, passive: &[String], at: &str) {
    let element = match node {
        Node::Open(element) => element,
        Node::Instruction(target, _) if target.eq_ignore_ascii_case("xml-stylesheet") => {
            case.find(FindingId::MarkupStylesheet, at, "a style sheet that transforms the part");
            return;
        }
        _ => return,
    };
    let prefix = element.prefix();
    let found = match (prefix.as_str(), element.local()) {
        ("draw", "object") if draws_only(element, passive) => None,
        ("draw", "object" | "object-ole" | "plugin" | "applet" | "floating-frame") => {
            Some(FindingId::OleObject)
        }
        ("office", "script") | ("ooo", "libraries") | ("script", "module" | "library") => {
            Some(FindingId::OdfMacro)
        }
        ("script", "event-listener") => Some(FindingId::OdfEvent),
        ("text", "script") => Some(FindingId::OdfMacro),
        ("text", "dde-connection" | "dde-connection-decl")
        | ("table", "dde-link")
        | ("office", "dde-source") => Some(FindingId::Dde),
        ("text", "section-source")
        | ("table", "table-source" | "cell-range-source")
        | ("meta", "auto-reload") => Some(FindingId::ExternalPart),
        ("form", "connection-resource")
        | ("table", "database-source-table" | "database-source-query" | "database-source-sql") => {
            Some(FindingId::DataConnection)
        }
        _ => None,
    };
    if let Some(id) = found {
        case.find(id, at, format!("element `{prefix}:{}`", element.local()));
    }
    check_attributes(case, element, at);
}

fn draws_only(element: &Element<'_>, passive: &[String]) -> bool {
    element.attribute("href").is_some_and(|href| {
        let path = href.trim_start_matches("./").trim_end_matches('/');
        passive.iter().any(|known| known == path)
    })
}

fn check_attributes(case: &mut Case<'_>, element: &Element<'_>, at: &str) {
    for (name, value) in element.attributes() {
        let lower = value.to_ascii_lowercase();
        if ["vnd.sun.star.script:", "macro:", "javascript:", "vnd.sun.star.expand:"]
            .iter()
            .any(|scheme| lower.starts_with(scheme))
        {
            case.find(FindingId::OdfEvent, at, format!("`{value}`"));
        }
        let fetched = element.local() != "a" && element.local() != "template" && element.local() != "button";
        if name == "href"
            && fetched
            && (lower.contains("://") || lower.starts_with("\\\\") || lower.starts_with("//"))
        {
            case.find(FindingId::ExternalPart, at, format!("`{}` from `{value}`", element.local()));
        }
        if name == "formula" {
            ooxml::check_formula(case, value.trim_start_matches("of:").trim_start_matches("oooc:"), at);
        }
        if name == "action"
            && (lower == "execute-macro" || lower == "execute" || lower == "verb" || lower == "sound-remote")
        {
            case.find(FindingId::OdfEvent, at, format!("action `{value}`"));
        }
    }
}

fn check_binary(case: &mut Case<'_>, bytes: &[u8], path: &str, at: &str) {
    use FileType as T;
    match identify::by_signature(bytes) {
        Some(found @ (T::Pe | T::Elf | T::MachO | T::Bytecode)) => {
            case.find(FindingId::Executable, at, found.word())
        }
        Some(T::Shortcut) => case.find(FindingId::Shortcut, at, "a shortcut"),
        Some(T::OtherOle) if !path.starts_with("objectreplacements/") => {
            case.find(FindingId::OleObject, at, "an OLE2 file");
        }
        Some(
            found @ (T::Zip | T::OtherArchive | T::Gzip | T::Tar | T::Pdf | T::Installer | T::DiskImage),
        ) => {
            case.find(FindingId::EmbeddedFile, at, found.word());
        }
        _ => {}
    }
}
