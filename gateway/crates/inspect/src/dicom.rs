//! DICOM files (PS3.10): the preamble, the data set to its last byte, documents and programs in elements.
//!
//! Walked here and not by a parser of the whole object: those reserve what a length field says before they look whether
//! it is there, and inflate without a bound.

mod data_set;

use data_set::{DataSet, Syntax};

use crate::bytes::{find_any_case, head, size_le};
use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::stream::{self, Packing};
use crate::{FileType, FindingId, identify};

/// Where the file meta information begins.
const META: usize = 132;
/// Shortest value that could hold a program.
const PAYLOAD_BYTES: usize = 32;

/// Examines a DICOM file.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    check_preamble(case, part);
    if walk(case, part).is_err() {
        case.malformed(part.at, "the data set was not read to its end");
    }
    FileType::Dicom
}

fn walk(case: &mut Case<'_>, part: Part<'_>) -> Result<(), Halt> {
    let (syntax, start) = data_set::meta(case, part, META)?;
    let bytes = part.bytes.get(start..).unwrap_or_default();
    match syntax {
        Syntax::Deflated => {
            let inflated = stream::inflate(case, bytes, Packing::Deflate, part.at)?;
            let rest = bytes.get(inflated.used..).unwrap_or_default();
            if !inflated.whole {
                case.malformed(part.at, "the deflated data set breaks off");
            } else if !crate::bytes::is_blank(rest) && !is_gzip_end(rest, inflated.bytes.len()) {
                case.find(
                    FindingId::ForeignBytes,
                    part.at,
                    format!("{} bytes after the data set", rest.len()),
                );
            }
            DataSet::new(&inflated.bytes, Syntax::Explicit, part).all(case)
        }
        syntax => DataSet::new(bytes, syntax, part).all(case),
    }
}

/// Some writers deflate with a library that ends a stream as gzip does: check sum and length.
fn is_gzip_end(rest: &[u8], len: usize) -> bool {
    rest.len() == 8 && size_le(rest, 4) == Some(len)
}

/// PS3.10, section 7.1: 128 bytes for whatever an application wants, so for a header of another format.
fn check_preamble(case: &mut Case<'_>, part: Part<'_>) {
    let preamble = head(part.bytes, 128);
    if preamble.iter().all(|byte| *byte == 0) {
        return;
    }
    let at = part.within("preamble");
    case.find(FindingId::DicomPreamble, &at, "not zero");
    match identify::by_signature(preamble) {
        // PS3.10 names it: the file is a TIFF as well.
        Some(FileType::Tiff) => {}
        Some(found) => case.find(FindingId::Polyglot, &at, format!("begins as {found}")),
        None if preamble.starts_with(b"MZ") || preamble.starts_with(b"ZM") => {
            case.find(FindingId::Polyglot, &at, "begins as a program");
        }
        None if preamble.starts_with(b"#!") || preamble.starts_with(b"<") || is_lines(preamble) => {
            case.find(FindingId::Polyglot, &at, "begins as a script");
        }
        None => {}
    }
}

/// True when the preamble, up to its zeros, is a program as text.
fn is_lines(preamble: &[u8]) -> bool {
    let text = preamble.split(|byte| *byte == 0).next().unwrap_or_default();
    text.len() > 3 && crate::text::is_script(text)
}

/// Notes a value that is a program, a script or a document.
fn check_value(case: &mut Case<'_>, value: &[u8], at: &str) {
    use FileType as T;
    if value.len() < PAYLOAD_BYTES {
        return;
    }
    let found = identify::by_signature(value);
    let lead = head(value, 4096);
    let script = || find_any_case(lead, &["<script", "<?php", "#!/bin/", "powershell ", "<html"]).is_some();
    // Pixels may begin with any bytes: what has no more than two of its own does not count.
    let payload = match found {
        None | Some(T::Jpeg | T::Tiff | T::Bmp | T::Png | T::Gif | T::Webp | T::Metafile) => script(),
        Some(T::Pe) => size_le(value, 60).is_some_and(|header| crate::bytes::has(value, header, b"PE\0\0")),
        Some(T::OtherArchive) => {
            [&b"Rar!"[..], b"7z\xbc\xaf", b"MSCF", b"\xfd7zXZ"].iter().any(|word| value.starts_with(word))
        }
        Some(T::Gzip) => value.starts_with(b"\x1f\x8b\x08"),
        Some(T::Bytecode) => {
            [&b"\xca\xfe\xba\xbe"[..], b"\x00asm", b"dex\n"].iter().any(|word| value.starts_with(word))
        }
        Some(T::DiskImage | T::Tar) => identify::is_volume(value),
        Some(_) => true,
    };
    if payload {
        let what = found.map_or("a script", FileType::word);
        case.find(FindingId::DicomPayload, at, format!("the element holds {what}"));
    }
}
