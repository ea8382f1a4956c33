//! PDF (ISO 32000-2): every object that a reader would find, and the raw bytes beside them for what it would not.

mod objects;
mod raw;

use lopdf::{Document, LoadOptions};

use crate::bytes::{find, find_any_case, head, is_blank};
use crate::case::Case;
use crate::examine::Part;
use crate::{FileType, FindingId};

/// How much may stand after the last end mark: what mail and web servers add.
const AFTER_END_BYTES: usize = 32;
/// Where another format would have its beginning.
const LEAD: usize = 1024;

/// Examines a PDF.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    check_edges(case, part);
    let raw = raw::scan(case, part);
    if raw.encrypted {
        case.find(FindingId::Encrypted, part.at, "the PDF is encrypted");
        return FileType::Pdf;
    }
    if case.is_refused() {
        return FileType::Pdf;
    }
    let limit = usize::try_from(case.inflatable_bytes()).unwrap_or(usize::MAX);
    let options = LoadOptions::with_max_decompressed_size(limit);
    match Document::load_mem_with_options(part.bytes, options) {
        Ok(document) => {
            if objects::check(case, &document, part).is_err() {
                case.malformed(part.at, "the PDF was not read to its end");
            }
        }
        Err(error) => case.malformed(part.at, format!("PDF: {error}")),
    }
    // What the document no longer shows is still in the file, and old readers or a repair bring it back.
    for (id, at) in raw.found {
        case.find(id, &at, "in the bytes of the file");
    }
    FileType::Pdf
}

/// Bytes before the header and after the last end mark belong to another format.
fn check_edges(case: &mut Case<'_>, part: Part<'_>) {
    let start = find(part.bytes, b"%PDF-").unwrap_or(0);
    if !is_blank(part.bytes.get(..start).unwrap_or_default().trim_ascii_start())
        && part.bytes.get(..start) != Some(b"\xef\xbb\xbf")
    {
        case.find(FindingId::ForeignBytes, part.at, format!("{start} bytes before the header"));
    }
    if let Some(word) =
        find_any_case(head(part.bytes, LEAD), &["<html", "<script", "<!doctype html", "<?php", "<hta:"])
    {
        case.find(FindingId::Polyglot, part.at, format!("`{word}` where a browser looks for it"));
    }
    if let Some(end) = memchr::memmem::rfind(part.bytes, b"%%EOF") {
        let rest = part.bytes.get(end + 5..).unwrap_or_default();
        let foreign = rest.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != 0).count();
        if foreign > AFTER_END_BYTES {
            case.find(FindingId::ForeignBytes, part.at, format!("{} bytes after the end mark", rest.len()));
        }
    }
}
