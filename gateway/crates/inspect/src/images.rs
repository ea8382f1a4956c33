//! Pictures: they decode, they end where their format says, and their comments are no programs.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits as ImageLimits};

use crate::bytes::{find_any_case, has, is_blank, part as bytes_at, size_be, size_le, u16_be};
use crate::case::Case;
use crate::examine::Part;
use crate::{FileType, FindingId};

/// Most memory that a decoder may ask for.
const DECODER_BYTES: u64 = 256 << 20;
/// What begins a program for a server, a browser or mshta.exe, wherever it stands.
const SCRIPTS: &[&str] =
    &["<?php", "<script", "<%eval", "<%@", "<hta:application", "<%execute", "<jsp:", "<svg onload"];

/// Examines a picture.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>, found: FileType) -> FileType {
    check_end(case, part, found);
    if let Some(word) = find_any_case(part.bytes, SCRIPTS) {
        case.find(FindingId::ImageScript, part.at, format!("`{word}` in the picture"));
    }
    if !case.is_refused() {
        decode(case, part, found);
    }
    found
}

/// Notes bytes behind the end; they are read by somebody, only not by who shows the picture.
fn check_end(case: &mut Case<'_>, part: Part<'_>, found: FileType) {
    let end = match found {
        FileType::Png => png_end(part.bytes),
        FileType::Jpeg => jpeg_end(part.bytes),
        FileType::Gif => gif_end(part.bytes),
        FileType::Bmp => bmp_end(part.bytes),
        FileType::Webp => size_le(part.bytes, 4).map(|size| size.saturating_add(8)),
        _ => return,
    };
    match end {
        None => case.malformed(part.at, format!("the {found} does not end")),
        Some(end) if end > part.bytes.len() => case.malformed(part.at, format!("the {found} breaks off")),
        Some(end) => {
            let rest = part.bytes.get(end..).unwrap_or_default();
            if !is_blank(rest) {
                case.find(
                    FindingId::ForeignBytes,
                    part.at,
                    format!("{} bytes after the end of the {found}", rest.len()),
                );
            }
        }
    }
}

/// PNG, section 5.3: chunks of length, name, data and check sum, up to IEND.
fn png_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 8;
    loop {
        let len = size_be(bytes, at)?;
        let name = bytes_at(bytes, at + 4, 4)?;
        at = at.checked_add(len)?.checked_add(12)?;
        if name == b"IEND" {
            return Some(at);
        }
    }
}

/// ITU-T T.81, annex B: segments up to EOI; entropy-coded data runs to the next marker that is no restart.
fn jpeg_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        if bytes.get(at) != Some(&0xff) {
            return None;
        }
        let marker = *bytes.get(at + 1)?;
        match marker {
            0xff => at += 1,
            0xd9 => return Some(at + 2),
            0x01 | 0xd0..=0xd7 => at += 2,
            0xda => at = scan_end(bytes, at + 2 + usize::from(u16_be(bytes, at + 2)?))?,
            _ => at += 2 + usize::from(u16_be(bytes, at + 2)?),
        }
    }
}

fn scan_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memchr_iter(0xff, rest)
        .find(|at| !matches!(rest.get(at + 1), Some(0x00 | 0xff | 0xd0..=0xd7) | None))
        .map(|at| from + at)
}

/// GIF89a, appendix A: blocks up to the trailer.
fn gif_end(bytes: &[u8]) -> Option<usize> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3_usize << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match bytes.get(at)? {
            0x3b => return Some(at + 1),
            0x21 => at = gif_blocks(bytes, at + 2)?,
            0x2c => at = gif_blocks(bytes, at + 11 + table(*bytes.get(at + 9)?))?,
            _ => return None,
        }
    }
}

fn gif_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1 + len;
        if len == 0 {
            return Some(at);
        }
    }
}

/// The file header's size counts; some writers leave it zero, then the pixels count.
fn bmp_end(bytes: &[u8]) -> Option<usize> {
    match size_le(bytes, 2)? {
        0 => Some(bytes.len()),
        size => Some(size),
    }
}

fn decode(case: &mut Case<'_>, part: Part<'_>, found: FileType) {
    let format = match found {
        FileType::Png => ImageFormat::Png,
        FileType::Jpeg => ImageFormat::Jpeg,
        FileType::Gif => ImageFormat::Gif,
        FileType::Bmp => ImageFormat::Bmp,
        FileType::Tiff => ImageFormat::Tiff,
        FileType::Webp => ImageFormat::WebP,
        _ => return,
    };
    if found == FileType::Tiff && !has(part.bytes, 0, b"II") && !has(part.bytes, 0, b"MM") {
        return;
    }
    let mut reader = ImageReader::with_format(Cursor::new(part.bytes), format);
    let mut limits = ImageLimits::default();
    limits.max_alloc = Some(DECODER_BYTES);
    reader.limits(limits.clone());
    match reader.into_dimensions() {
        Ok((width, height)) if u64::from(width) * u64::from(height) > case.limits.pixels => {
            case.find(FindingId::Bomb, part.at, format!("{width} x {height} pixels"));
            return;
        }
        Ok(_) => {}
        Err(error) => {
            case.malformed(part.at, format!("{found}: {error}"));
            return;
        }
    }
    let mut reader = ImageReader::with_format(Cursor::new(part.bytes), format);
    reader.limits(limits);
    if let Err(error) = reader.decode() {
        case.malformed(part.at, format!("{found}: {error}"));
    }
}
