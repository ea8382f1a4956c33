//! ZIP: what the central directory says, what the local headers say, and that both mean the same bytes, each byte once.
//! Source: PKWARE APPNOTE.TXT 6.3.10.

use std::collections::BTreeSet;

use rawzip::{CompressionMethod, ZipArchive, ZipSliceArchive};

use crate::bytes::{has, part as bytes_at, u16_le};
use crate::case::{Case, Halt};
use crate::examine::{self, Part};
use crate::stream::{self, Packing};
use crate::{FileType, FindingId, names, odf, ooxml};

/// Bit 0: encrypted; bit 6: strongly encrypted; bit 13: headers masked.
const ENCRYPTED_FLAGS: u16 = 0x2041;
/// Length of a local header without its name and extra field.
const LOCAL_BYTES: usize = 30;

/// One entry of an archive.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Its path.
    pub(crate) path: String,
    raw_path: &'a [u8],
    method: CompressionMethod,
    packed: &'a [u8],
    size_bytes: u64,
    crc: u32,
    flags: u16,
    /// First and last byte that it owns, its local header included.
    span: (usize, usize),
    special: bool,
}

impl Entry<'_> {
    pub(crate) fn is_directory(&self) -> bool {
        self.path.ends_with('/')
    }

    /// The last component of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The entries of an archive that is whole.
#[derive(Debug)]
pub(crate) struct Zip<'a> {
    pub(crate) part: Part<'a>,
    pub(crate) entries: Vec<Entry<'a>>,
}

impl<'a> Zip<'a> {
    /// The entry of that path, whatever the case of its letters.
    pub(crate) fn entry(&self, path: &str) -> Option<&Entry<'a>> {
        let path = path.trim_start_matches('/');
        self.entries.iter().find(|entry| entry.path.eq_ignore_ascii_case(path))
    }

    /// The bytes of an entry, inflated within the budget and compared with their check sum.
    pub(crate) fn read(&self, case: &mut Case<'_>, entry: &Entry<'_>) -> Result<Vec<u8>, Halt> {
        let at = self.part.within(&entry.path);
        let bytes = match entry.method {
            CompressionMethod::STORE => {
                case.inflated(entry.packed.len() as u64, entry.packed.len() as u64, &at)?;
                entry.packed.to_vec()
            }
            CompressionMethod::DEFLATE => {
                let inflated = stream::inflate(case, entry.packed, Packing::Deflate, &at)?;
                if !inflated.whole || inflated.used != entry.packed.len() {
                    case.find(
                        FindingId::ArchiveGap,
                        &at,
                        "the packed bytes end elsewhere than the header says",
                    );
                }
                inflated.bytes
            }
            method => {
                case.find(FindingId::ArchiveMethod, &at, format!("method {}", method.as_u16()));
                return Err(Halt);
            }
        };
        let crc = rawzip::crc32(&bytes);
        if bytes.len() as u64 != entry.size_bytes || crc != entry.crc {
            case.find(FindingId::ArchiveMismatch, &at, "length or check sum is not what the header says");
        }
        Ok(bytes)
    }
}

/// Examines an archive: as the document that it is, or entry by entry.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let Some(zip) = open(case, part) else { return FileType::Zip };
    let found = document(&zip);
    let done = match found {
        Document::Ooxml => return ooxml::examine(case, &zip),
        Document::Odf => return odf::examine(case, &zip),
        Document::Program(found) => return found,
        Document::Archive => contents(case, &zip),
    };
    if done.is_err() {
        case.malformed(part.at, "the archive was not read to its end");
    }
    FileType::Zip
}

enum Document {
    Ooxml,
    Odf,
    Program(FileType),
    Archive,
}

/// What an archive is, by the entries that give its formats away.
fn document(zip: &Zip<'_>) -> Document {
    let has = |path: &str| zip.entry(path).is_some();
    let ends = |word: &str| zip.entries.iter().any(|entry| entry.path.to_ascii_lowercase().ends_with(word));
    if has("AndroidManifest.xml") || has("AppxManifest.xml") || has("AppxBundleManifest.xml") {
        Document::Program(FileType::Installer)
    } else if has("META-INF/MANIFEST.MF") || ends(".class") || has("classes.dex") || has("__main__.py") {
        Document::Program(FileType::Jar)
    } else if has("[Content_Types].xml") {
        Document::Ooxml
    } else if has("mimetype") && (has("META-INF/manifest.xml") || has("content.xml")) {
        Document::Odf
    } else {
        Document::Archive
    }
}

fn contents(case: &mut Case<'_>, zip: &Zip<'_>) -> Result<(), Halt> {
    for entry in zip.entries.iter().filter(|entry| !entry.is_directory()) {
        let at = zip.part.within(&entry.path);
        names::check_ending(case, entry.name(), &at);
        let bytes = zip.read(case, entry)?;
        let inner = Part { bytes: &bytes, name: Some(entry.name()), at: &at, depth: zip.part.depth + 1 };
        examine::part(case, inner);
    }
    Ok(())
}

/// Opens an archive and compares all that it says about itself; nothing when it cannot be read.
pub(crate) fn open<'a>(case: &mut Case<'_>, part: Part<'a>) -> Option<Zip<'a>> {
    let archive = match ZipArchive::from_slice(part.bytes) {
        Ok(archive) => archive,
        Err(error) => {
            case.malformed(part.at, format!("ZIP: {error}"));
            return None;
        }
    };
    let entries = match entries(case, part, &archive) {
        Ok(entries) => entries,
        Err(Halt) => return None,
    };
    check_layout(case, part, &entries, &archive);
    let mut seen = BTreeSet::new();
    for entry in &entries {
        let at = part.within(&entry.path);
        if !seen.insert(entry.path.to_lowercase()) {
            case.find(FindingId::ArchiveDuplicate, &at, "two entries of this name");
        }
        names::check_path(case, &entry.path, &at);
        if entry.flags & ENCRYPTED_FLAGS != 0 {
            case.find(FindingId::Encrypted, &at, "the entry is encrypted");
        }
        if entry.special {
            case.find(FindingId::ArchiveSpecial, &at, "a link or a device");
        }
    }
    let encrypted = entries.iter().any(|entry| entry.flags & ENCRYPTED_FLAGS != 0);
    (!encrypted).then_some(Zip { part, entries })
}

fn entries<'a>(
    case: &mut Case<'_>,
    part: Part<'a>,
    archive: &ZipSliceArchive<&'a [u8]>,
) -> Result<Vec<Entry<'a>>, Halt> {
    let mut found = Vec::new();
    let mut records = archive.entries();
    loop {
        let record = match records.next_entry() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => {
                case.malformed(part.at, format!("ZIP directory: {error}"));
                return Err(Halt);
            }
        };
        case.entry(part.at)?;
        let path = path_of(record.file_path().as_bytes(), record.flags().bits());
        let at = part.within(&path);
        let start = usize::try_from(record.local_header_offset()).unwrap_or(usize::MAX);
        let packed_len = usize::try_from(record.compressed_size_hint()).unwrap_or(usize::MAX);
        let Some(local) = Local::read(part.bytes, start) else {
            case.find(FindingId::ArchiveMismatch, &at, "no local header where the directory says");
            return Err(Halt);
        };
        let Some(packed) = bytes_at(part.bytes, local.data_at, packed_len) else {
            case.find(FindingId::ArchiveMismatch, &at, "the entry reaches past the end");
            return Err(Halt);
        };
        let said = Said {
            path: record.file_path().as_bytes(),
            method: record.compression_method().as_u16(),
            flags: record.flags().bits(),
            crc: record.crc32(),
            packed_bytes: record.compressed_size_hint(),
            size_bytes: record.uncompressed_size_hint(),
        };
        check_headers(case, &said, &local, &at);
        let end = local.data_at + packed_len + descriptor_len(part.bytes, local.data_at + packed_len, &said);
        let mode = record.external_attributes() >> 16;
        // Unix modes only count where the maker says Unix (3) or macOS (19), yet a reader may not ask.
        let special = !matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000);
        found.push(Entry {
            path,
            raw_path: local.path,
            method: record.compression_method(),
            packed,
            size_bytes: said.size_bytes,
            crc: said.crc,
            flags: said.flags | local.flags,
            span: (start, end),
            special,
        });
    }
    Ok(found)
}

/// Bit 11 says UTF-8; otherwise Japanese Windows writes Shift_JIS, and the rest is ASCII.
fn path_of(raw: &[u8], flags: u16) -> String {
    if flags & 0x800 != 0 || raw.is_ascii() {
        return String::from_utf8_lossy(raw).into_owned();
    }
    std::str::from_utf8(raw).map_or_else(
        |_| encoding_rs::SHIFT_JIS.decode_without_bom_handling(raw).0.into_owned(),
        str::to_owned,
    )
}

/// What the central directory says of an entry.
struct Said<'a> {
    path: &'a [u8],
    method: u16,
    flags: u16,
    crc: u32,
    packed_bytes: u64,
    size_bytes: u64,
}

/// A local header (APPNOTE 4.3.7).
struct Local<'a> {
    path: &'a [u8],
    method: u16,
    flags: u16,
    crc: u32,
    packed_bytes: u32,
    size_bytes: u32,
    data_at: usize,
}

impl<'a> Local<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        if !has(bytes, at, b"PK\x03\x04") {
            return None;
        }
        let path_len = usize::from(u16_le(bytes, at + 26)?);
        let extra_len = usize::from(u16_le(bytes, at + 28)?);
        let path_at = at + LOCAL_BYTES;
        Some(Self {
            path: bytes_at(bytes, path_at, path_len)?,
            flags: u16_le(bytes, at + 6)?,
            method: u16_le(bytes, at + 8)?,
            crc: crate::bytes::u32_le(bytes, at + 14)?,
            packed_bytes: crate::bytes::u32_le(bytes, at + 18)?,
            size_bytes: crate::bytes::u32_le(bytes, at + 22)?,
            data_at: path_at + path_len + extra_len,
        })
    }
}

/// Two readers that believe one header each must see the same file.
fn check_headers(case: &mut Case<'_>, said: &Said<'_>, local: &Local<'_>, at: &str) {
    let mut mismatch = |what: &str| {
        case.find(FindingId::ArchiveMismatch, at, format!("local and central header disagree: {what}"));
    };
    if said.path != local.path {
        mismatch("name");
    }
    if said.method != local.method {
        mismatch("method");
    }
    if (said.flags ^ local.flags) & ENCRYPTED_FLAGS != 0 {
        mismatch("encryption");
    }
    // With bit 3 the sizes follow the data, with ZIP64 they are in the extra field.
    let later = local.flags & 8 != 0;
    let same = |said: u64, local: u32| local == u32::MAX || u64::from(local) == said || (later && local == 0);
    if !same(said.packed_bytes, local.packed_bytes) || !same(said.size_bytes, local.size_bytes) {
        mismatch("size");
    }
    if said.crc != local.crc && !(later && local.crc == 0) {
        mismatch("check sum");
    }
}

/// The data descriptor after an entry (APPNOTE 4.3.9), in each of the forms that writers use.
fn descriptor_len(bytes: &[u8], at: usize, said: &Said<'_>) -> usize {
    if said.flags & 8 == 0 {
        return 0;
    }
    let fits = |(signed, len): &(bool, usize)| {
        let crc_at = if *signed { at + 4 } else { at };
        has(bytes, at, b"PK\x07\x08") == *signed
            && crate::bytes::u32_le(bytes, crc_at) == Some(said.crc)
            && has(bytes, at + len, b"PK")
    };
    let forms = [(true, 16), (true, 24), (false, 12), (false, 20)];
    forms.iter().find(|form| fits(form)).map_or(0, |(_, len)| *len)
}

/// Entries follow one another and fill the file up to the directory; nothing is shared, nothing left over.
fn check_layout(
    case: &mut Case<'_>,
    part: Part<'_>,
    entries: &[Entry<'_>],
    archive: &ZipSliceArchive<&[u8]>,
) {
    let mut order: Vec<&Entry<'_>> = entries.iter().collect();
    order.sort_by_key(|entry| entry.span);
    let mut end = 0;
    for entry in order {
        let at = part.within(&entry.path);
        if entry.span.0 < end {
            case.find(FindingId::ArchiveOverlap, &at, "shares bytes with the entry before it");
        } else if entry.span.0 > end {
            let gap = part.bytes.get(end..entry.span.0).unwrap_or_default();
            note_gap(case, gap, &at);
        }
        debug_assert!(!entry.raw_path.is_empty() || entry.path.is_empty());
        end = end.max(entry.span.1);
    }
    let directory = usize::try_from(archive.directory_offset()).unwrap_or(usize::MAX);
    if end > directory {
        case.find(FindingId::ArchiveOverlap, part.at, "an entry reaches into the directory");
    } else {
        note_gap(case, part.bytes.get(end..directory).unwrap_or_default(), part.at);
    }
    let over = part.bytes.len().saturating_sub(usize::try_from(archive.end_offset()).unwrap_or(usize::MAX));
    if over > 0 {
        case.find(FindingId::ForeignBytes, part.at, format!("{over} bytes after the end of the archive"));
    }
    if !archive.comment().as_bytes().is_empty()
        && !archive.comment().as_bytes().iter().all(u8::is_ascii_graphic)
    {
        let comment = archive.comment().as_bytes();
        if crate::text::decode(comment).is_none() {
            case.find(FindingId::ForeignBytes, part.at, "the archive's comment is no text");
        }
    }
}

/// Padding of zeros is harmless; everything else in a gap belongs to nobody.
fn note_gap(case: &mut Case<'_>, gap: &[u8], at: &str) {
    if gap.iter().any(|byte| *byte != 0) {
        case.find(FindingId::ArchiveGap, at, format!("{} bytes belong to no entry", gap.len()));
    }
}
