//! What bytes are, by the signatures of the formats. Text is told by [`crate::text`].

use crate::FileType;
use crate::bytes::{has, head, size_le, u16_be, u32_le};

/// Where readers of PDF still look for its header.
const PDF_HEADER_WITHIN: usize = 1024;
/// Where an ISO 9660 volume descriptor stands, in images with plain and raw sectors.
const ISO_PLACES: [usize; 4] = [0x8001, 0x8801, 0x9001, 0x9311];

/// Signatures at the beginning, most specific first.
const AT_START: &[(&[u8], FileType)] = &[
    (b"PK\x03\x04", FileType::Zip),
    (b"PK\x05\x06", FileType::Zip),
    (b"PK\x07\x08", FileType::OtherArchive),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType::OtherOle),
    (b"{\\rt", FileType::Rtf),
    (b"\x89PNG\r\n\x1a\n", FileType::Png),
    (b"\xff\xd8\xff", FileType::Jpeg),
    (b"GIF87a", FileType::Gif),
    (b"GIF89a", FileType::Gif),
    (b"II*\x00", FileType::Tiff),
    (b"MM\x00*", FileType::Tiff),
    (b"\x1f\x8b", FileType::Gzip),
    (b"\x7fELF", FileType::Elf),
    (b"\xfe\xed\xfa\xce", FileType::MachO),
    (b"\xfe\xed\xfa\xcf", FileType::MachO),
    (b"\xce\xfa\xed\xfe", FileType::MachO),
    (b"\xcf\xfa\xed\xfe", FileType::MachO),
    (b"\xca\xfe\xba\xbe", FileType::Bytecode),
    (b"\xca\xfe\xba\xbf", FileType::MachO),
    (b"\xca\xfe\xd0\x0d", FileType::Bytecode),
    (b"\x00asm", FileType::Bytecode),
    (b"dex\n", FileType::Bytecode),
    (b"\x1bLua", FileType::Bytecode),
    (b"BC\xc0\xde", FileType::Bytecode),
    (b"FWS", FileType::Bytecode),
    (b"CWS", FileType::Bytecode),
    (b"ZWS", FileType::Bytecode),
    (b"L\x00\x00\x00\x01\x14\x02\x00", FileType::Shortcut),
    (b"7z\xbc\xaf\x27\x1c", FileType::OtherArchive),
    (b"Rar!\x1a\x07", FileType::OtherArchive),
    (b"MSCF", FileType::OtherArchive),
    (b"ISc(", FileType::Installer),
    (b"\xfd7zXZ\x00", FileType::OtherArchive),
    (b"BZh", FileType::OtherArchive),
    (b"\x28\xb5\x2f\xfd", FileType::OtherArchive),
    (b"\x04\x22\x4d\x18", FileType::OtherArchive),
    (b"LZIP", FileType::OtherArchive),
    (b"\x1f\x9d", FileType::OtherArchive),
    (b"\x60\xea", FileType::OtherArchive),
    (b"070701", FileType::OtherArchive),
    (b"070707", FileType::OtherArchive),
    (b"!<arch>\n", FileType::Installer),
    (b"\xed\xab\xee\xdb", FileType::Installer),
    (b"xar!", FileType::Installer),
    (b"ITSF", FileType::Chm),
    (b"?_\x03\x00", FileType::Chm),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", FileType::OneNote),
    (b"\xa1\x2f\xff\x43\xd9\xef\x76\x4c", FileType::OneNote),
    (b"conectix", FileType::DiskImage),
    (b"vhdxfile", FileType::DiskImage),
    (b"KDMV", FileType::DiskImage),
    (b"# Disk DescriptorFile", FileType::DiskImage),
    (b"QFI\xfb", FileType::DiskImage),
    (b"\xd7\xcd\xc6\x9a", FileType::Metafile),
    (b"%!PS", FileType::Script),
    (b"\xc5\xd0\xd3\xc6", FileType::Script),
];

/// The type whose signature is at the beginning, or wherever the format has it.
pub(crate) fn by_signature(bytes: &[u8]) -> Option<FileType> {
    if is_dicom(bytes) {
        return Some(FileType::Dicom);
    }
    if has(bytes, 0, b"%PDF-") {
        return Some(FileType::Pdf);
    }
    let start = AT_START.iter().find(|(word, _)| has(bytes, 0, word)).map(|(_, file_type)| *file_type);
    start.map(|found| refined(bytes, found)).or_else(|| elsewhere(bytes))
}

fn refined(bytes: &[u8], found: FileType) -> FileType {
    // A fat Mach-O counts its architectures where a class has its version.
    let few_architectures = || u16_be(bytes, 6).is_some_and(|count| count < 40);
    match found {
        FileType::Bytecode if has(bytes, 0, b"\xca\xfe\xba\xbe") && few_architectures() => FileType::MachO,
        found => found,
    }
}

fn elsewhere(bytes: &[u8]) -> Option<FileType> {
    if has(bytes, 0, b"RIFF") && has(bytes, 8, b"WEBP") {
        Some(FileType::Webp)
    } else if is_bmp(bytes) {
        Some(FileType::Bmp)
    } else if is_program(bytes) {
        Some(FileType::Pe)
    } else if is_python_bytecode(bytes) {
        Some(FileType::Bytecode)
    } else if has(bytes, 2, b"-lh") || has(bytes, 2, b"-lz") || has(bytes, 7, b"**ACE**") {
        Some(FileType::OtherArchive)
    } else if has(bytes, 0, b"\x01\x00\x00\x00") && has(bytes, 40, b" EMF") || is_wmf(bytes) {
        Some(FileType::Metafile)
    } else if is_tar(bytes) {
        Some(FileType::Tar)
    } else if is_disk(bytes) {
        Some(FileType::DiskImage)
    } else if memchr::memmem::find(head(bytes, PDF_HEADER_WITHIN), b"%PDF-").is_some() {
        Some(FileType::Pdf)
    } else {
        None
    }
}

/// DICOM PS3.10, section 7.1: a preamble of 128 bytes, then the prefix.
pub(crate) fn is_dicom(bytes: &[u8]) -> bool {
    has(bytes, 128, b"DICM")
}

fn is_bmp(bytes: &[u8]) -> bool {
    has(bytes, 0, b"BM") && matches!(u32_le(bytes, 14), Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

fn is_wmf(bytes: &[u8]) -> bool {
    let start = has(bytes, 0, b"\x01\x00\x09\x00") || has(bytes, 0, b"\x02\x00\x09\x00");
    start && matches!(crate::bytes::u16_le(bytes, 4), Some(0x0100 | 0x0300))
}

/// `MZ` begins many a text as well: a program has bytes that no text has, or leads to another header.
pub(crate) fn is_program(bytes: &[u8]) -> bool {
    if !has(bytes, 0, b"MZ") && !has(bytes, 0, b"ZM") {
        return false;
    }
    let new_header = size_le(bytes, 60)
        .is_some_and(|at| [b"PE", b"NE", b"LE", b"LX"].iter().any(|word| has(bytes, at, *word)));
    new_header || head(bytes, 64).contains(&0)
}

fn is_python_bytecode(bytes: &[u8]) -> bool {
    has(bytes, 2, b"\r\n")
        && bytes.first().is_some_and(|byte| {
            *byte >= 0x80
                || *byte < 9
                || has(bytes, 1, b"\x0d")
                || has(bytes, 1, b"\x0e")
                || has(bytes, 1, b"\xf2")
        })
}

/// POSIX.1-1988 ustar, or the older form by its check sum.
pub(crate) fn is_tar(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..512) else { return false };
    let field = header.get(148..156).unwrap_or_default();
    let text: String = field.iter().map(|byte| char::from(*byte)).collect();
    let Ok(said) = u64::from_str_radix(text.trim_matches(['\0', ' ']), 8) else { return false };
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    said == sum && header.first() != Some(&0)
}

/// Volumes, partition tables, boot sectors.
pub(crate) fn is_disk(bytes: &[u8]) -> bool {
    let boot = has(bytes, 510, b"\x55\xaa")
        && matches!(bytes.first(), Some(0xeb | 0xe9 | 0xfa | 0x33))
        && bytes.len() >= 512;
    boot || is_volume(bytes)
}

/// What mounts whatever its beginning looks like.
pub(crate) fn is_volume(bytes: &[u8]) -> bool {
    let iso = ISO_PLACES
        .iter()
        .any(|at| has(bytes, *at, b"CD001") || has(bytes, *at, b"BEA01") || has(bytes, *at, b"NSR0"));
    let koly = bytes.len().checked_sub(512).is_some_and(|at| has(bytes, at, b"koly"));
    let vhd = bytes.len().checked_sub(512).is_some_and(|at| has(bytes, at, b"conectix"));
    iso || koly || vhd || has(bytes, 512, b"EFI PART")
}
