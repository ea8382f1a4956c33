//! Compressed streams: inflated within the budget, and never further.

use std::io::Read;

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use crate::case::{Case, Halt};
use crate::examine::{self, Part};
use crate::{FileType, FindingId};

/// How bytes are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    /// RFC 1951.
    Deflate,
    /// RFC 1950.
    Zlib,
}

/// What came out of a compressed stream.
#[derive(Debug)]
pub(crate) struct Inflated {
    pub(crate) bytes: Vec<u8>,
    /// How many bytes of the input were used.
    pub(crate) used: usize,
    /// False when the stream broke off.
    pub(crate) whole: bool,
}

/// Inflates `packed` as far as the budget goes.
pub(crate) fn inflate(
    case: &mut Case<'_>,
    packed: &[u8],
    packing: Packing,
    at: &str,
) -> Result<Inflated, Halt> {
    let limit = worth_reading(case, packed.len());
    let mut out = Vec::new();
    let (read, used) = match packing {
        Packing::Deflate => {
            let mut decoder = DeflateDecoder::new(packed);
            let read = fill(&mut decoder, limit, &mut out);
            (read, decoder.total_in())
        }
        Packing::Zlib => {
            let mut decoder = ZlibDecoder::new(packed);
            let read = fill(&mut decoder, limit, &mut out);
            (read, decoder.total_in())
        }
    };
    case.inflated(out.len() as u64, packed.len() as u64, at)?;
    Ok(Inflated { bytes: out, used: usize::try_from(used).unwrap_or(packed.len()), whole: read.is_ok() })
}

/// How far to inflate: what is past the budget or past the ratio is refused in any case.
fn worth_reading(case: &Case<'_>, packed: usize) -> u64 {
    let by_ratio = (packed as u64).saturating_mul(case.limits.ratio.saturating_add(1)).max(1 << 20);
    case.inflatable_bytes().min(by_ratio)
}

/// Reads one byte more than the limit at most, so that what is too long is seen to be.
fn fill(reader: &mut impl Read, limit: u64, out: &mut Vec<u8>) -> std::io::Result<usize> {
    reader.take(limit.saturating_add(1)).read_to_end(out)
}

/// Examines a gzip file (RFC 1952): one member, and what is in it.
pub(crate) fn gzip(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let Ok(()) = case.entry(part.at) else { return FileType::Gzip };
    let limit = worth_reading(case, part.bytes.len());
    let mut decoder = GzDecoder::new(part.bytes);
    let mut out = Vec::new();
    let read = fill(&mut decoder, limit, &mut out);
    let name = decoder
        .header()
        .and_then(|header| header.filename())
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let rest = decoder.into_inner();
    if case.inflated(out.len() as u64, part.bytes.len() as u64, part.at).is_err() {
        return FileType::Gzip;
    }
    if let Err(error) = read {
        case.malformed(part.at, format!("gzip: {error}"));
        return FileType::Gzip;
    }
    if !rest.is_empty() {
        case.find(FindingId::ForeignBytes, part.at, format!("{} bytes after the end of gzip", rest.len()));
    }
    if let Some(name) = &name {
        crate::names::check_path(case, name, part.at);
        crate::names::check_ending(case, name, part.at);
    }
    let at = part.within("content");
    examine::part(case, Part { bytes: &out, name: name.as_deref(), at: &at, depth: part.depth + 1 });
    FileType::Gzip
}
