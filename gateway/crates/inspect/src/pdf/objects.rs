//! The objects of a PDF: actions, attachments, forms and media, whoever refers to them.

use lopdf::{Dictionary, Document, Object, Stream};

use crate::FindingId;
use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::stream::{self, Packing};

/// Deepest nesting of direct objects.
const DEPTH: u8 = 64;
/// Most filters of one stream; more is how bombs are built.
const FILTERS: usize = 3;

/// Keys that are active wherever they stand.
pub(super) const KEYS: &[(&[u8], FindingId)] = &[
    (b"JS", FindingId::PdfJavascript),
    (b"JavaScript", FindingId::PdfJavascript),
    (b"EmbeddedFiles", FindingId::PdfEmbeddedFile),
    (b"EF", FindingId::PdfEmbeddedFile),
    (b"Collection", FindingId::PdfEmbeddedFile),
    (b"XFA", FindingId::PdfXfa),
    (b"RichMediaContent", FindingId::PdfRichMedia),
    (b"RichMediaSettings", FindingId::PdfRichMedia),
    (b"3DD", FindingId::PdfRichMedia),
];

/// Names that are active as the value of `Type`, `Subtype` or `S`.
pub(super) const NAMES: &[(&[u8], FindingId)] = &[
    (b"JavaScript", FindingId::PdfJavascript),
    (b"Launch", FindingId::PdfLaunch),
    (b"GoToR", FindingId::PdfGotoRemote),
    (b"GoToE", FindingId::PdfGotoRemote),
    (b"Thread", FindingId::PdfGotoRemote),
    (b"SubmitForm", FindingId::PdfForm),
    (b"ImportData", FindingId::PdfForm),
    (b"EmbeddedFile", FindingId::PdfEmbeddedFile),
    (b"FileAttachment", FindingId::PdfEmbeddedFile),
    (b"RichMedia", FindingId::PdfRichMedia),
    (b"RichMediaExecute", FindingId::PdfRichMedia),
    (b"3D", FindingId::PdfRichMedia),
    (b"Movie", FindingId::PdfRichMedia),
    (b"Sound", FindingId::PdfRichMedia),
    (b"Screen", FindingId::PdfRichMedia),
    (b"Rendition", FindingId::PdfRichMedia),
    (b"GoTo3DView", FindingId::PdfRichMedia),
    (b"PS", FindingId::PdfExternal),
];

/// Looks at every object of the document.
pub(super) fn check(case: &mut Case<'_>, document: &Document, part: Part<'_>) -> Result<(), Halt> {
    if document.trailer.has(b"Encrypt") {
        case.find(FindingId::Encrypted, part.at, "the PDF is encrypted");
    }
    if document.catalog().is_err() {
        case.malformed(part.at, "the PDF has no catalog");
    }
    object(case, document, &Object::Dictionary(document.trailer.clone()), 0, &part.within("trailer"))?;
    for ((number, generation), value) in &document.objects {
        let at = part.within(&format!("object {number} {generation}"));
        object(case, document, value, 0, &at)?;
    }
    Ok(())
}

fn object(case: &mut Case<'_>, document: &Document, value: &Object, depth: u8, at: &str) -> Result<(), Halt> {
    case.step(1, at)?;
    if depth > DEPTH {
        case.find(FindingId::Bomb, at, "objects nested too deeply");
        return Err(Halt);
    }
    match value {
        Object::Array(items) => {
            for item in items {
                object(case, document, item, depth + 1, at)?;
            }
        }
        Object::Dictionary(dictionary) => self::dictionary(case, document, dictionary, depth, at)?,
        Object::Stream(stream) => {
            dictionary(case, document, &stream.dict, depth, at)?;
            check_stream(case, stream, at)?;
        }
        Object::Null
        | Object::Boolean(_)
        | Object::Integer(_)
        | Object::Real(_)
        | Object::Name(_)
        | Object::String(..)
        | Object::Reference(_) => {}
    }
    Ok(())
}

fn dictionary(
    case: &mut Case<'_>,
    document: &Document,
    dictionary: &Dictionary,
    depth: u8,
    at: &str,
) -> Result<(), Halt> {
    for (key, value) in dictionary {
        let resolved = resolve(document, value);
        if let Some((_, id)) = KEYS.iter().find(|(word, _)| *word == key.as_slice()) {
            case.find(*id, at, format!("key `{}`", String::from_utf8_lossy(key)));
        }
        match (key.as_slice(), resolved) {
            (b"Type" | b"Subtype" | b"S", Object::Name(name)) => {
                if let Some((_, id)) = NAMES.iter().find(|(word, _)| *word == name.as_slice()) {
                    case.find(*id, at, format!("`{}`", String::from_utf8_lossy(name)));
                }
            }
            (b"AA", Object::Dictionary(actions)) if !actions.has_type(b"Font") => {
                case.find(FindingId::PdfAdditionalActions, at, "actions on events");
            }
            (b"OpenAction", Object::Dictionary(action)) if !goes_to_page(document, action) => {
                case.find(FindingId::PdfOpenAction, at, "an action on opening");
            }
            (b"URI", Object::String(uri, _)) => check_uri(case, uri, at),
            (b"Ref", Object::Dictionary(reference)) if reference.has(b"F") => {
                case.find(FindingId::PdfExternal, at, "a page of another file");
            }
            (b"FS", Object::Name(system)) if system == b"URL" => {
                case.find(FindingId::PdfExternal, at, "a file by its address");
            }
            _ => {}
        }
        object(case, document, value, depth + 1, at)?;
    }
    Ok(())
}

fn resolve<'a>(document: &'a Document, value: &'a Object) -> &'a Object {
    document.dereference(value).map_or(value, |(_, object)| object)
}

/// An action that only shows a page of this document, and does nothing after.
fn goes_to_page(document: &Document, action: &Dictionary) -> bool {
    let kind = action.get(b"S").map(|kind| resolve(document, kind));
    matches!(kind, Ok(Object::Name(name)) if name == b"GoTo") && !action.has(b"Next")
}

fn check_uri(case: &mut Case<'_>, uri: &[u8], at: &str) {
    let lower = String::from_utf8_lossy(uri).trim_start().to_ascii_lowercase();
    if lower.starts_with("javascript:") {
        case.find(FindingId::PdfJavascript, at, "a link that is a script");
    } else if ["file:", "\\\\", "smb:", "vbscript:", "data:", "ms-"]
        .iter()
        .any(|start| lower.starts_with(start))
    {
        case.find(FindingId::PdfLaunch, at, format!("a link to `{lower}`"));
    }
}

/// Streams stay in their bounds, and their bytes are in this file.
fn check_stream(case: &mut Case<'_>, stream: &Stream, at: &str) -> Result<(), Halt> {
    if stream.dict.has(b"F") && stream.dict.get(b"F").is_ok_and(|file| !matches!(file, Object::Null)) {
        case.find(FindingId::PdfExternal, at, "a stream whose bytes are in another file");
    }
    let filters = stream.filters().unwrap_or_default();
    let packed = filters.iter().filter(|name| ***name != b"DCTDecode"[..]).count();
    if packed > FILTERS || filters.iter().filter(|name| ***name == b"FlateDecode"[..]).count() > 1 {
        case.find(FindingId::Bomb, at, format!("a stream packed {packed} times"));
        return Err(Halt);
    }
    if filters.first().is_some_and(|name| *name == b"FlateDecode") {
        stream::inflate(case, &stream.content, Packing::Zlib, at)?;
    }
    Ok(())
}
