//! The other faces of a file: what else some reader would take it for.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::FileType;
use crate::bytes::{find, has, head, size_le, tail, u16_le};
use crate::identify;

/// How far from the end a ZIP reader looks for the end record: the longest comment, and the record.
const ZIP_TAIL: usize = 65_535 + 22;
/// Where readers of PDF and HTML look for a beginning.
const LEAD: usize = 1024;

/// Every type but `primary` as which the bytes can be read.
pub(crate) fn faces(bytes: &[u8], primary: FileType) -> BTreeSet<FileType> {
    let mut faces = BTreeSet::new();
    let mut face = |is: bool, file_type: FileType| {
        if is && file_type != primary {
            faces.insert(file_type);
        }
    };
    // Text of an archive's or a program's kind has no second beginning that matters: it is refused as it is.
    let archive = matches!(primary, FileType::Zip | FileType::Tar | FileType::Gzip);
    face(!archive && zip_ends(bytes, holds_zips(primary)), FileType::Zip);
    face(!archive && !holds_zips(primary) && pdf_begins(bytes), FileType::Pdf);
    face(primary != FileType::DiskImage && identify::is_volume(bytes), FileType::DiskImage);
    face(identify::is_dicom(bytes), FileType::Dicom);
    face(!archive && identify::is_tar(bytes), FileType::Tar);
    face(identify::is_program(bytes), FileType::Pe);
    let opaque =
        primary == FileType::Dicom || primary == FileType::Pdf || primary.kind() == Some(crate::Kind::Image);
    face(opaque && find(bytes, b"Rar!\x1a\x07").is_some(), FileType::OtherArchive);
    face(opaque && find(bytes, b"7z\xbc\xaf\x27\x1c\x00").is_some(), FileType::OtherArchive);
    face(opaque && find(bytes, b"MSCF\x00\x00\x00\x00").is_some(), FileType::OtherArchive);
    face(
        opaque && find(bytes, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00\x00\x00\x00").is_some(),
        FileType::OtherOle,
    );
    faces
}

/// OLE2 documents hold whole ZIP files (themes) within themselves; only one that ends with the file is a second face.
fn holds_zips(primary: FileType) -> bool {
    matches!(primary, FileType::OtherOle | FileType::Doc | FileType::Xls | FileType::Ppt | FileType::Msg)
}

fn pdf_begins(bytes: &[u8]) -> bool {
    find(head(bytes, LEAD), b"%PDF-").is_some()
}

/// APPNOTE.TXT 4.3.16: an end record that leads to a central directory.
fn zip_ends(bytes: &[u8], only_at_end: bool) -> bool {
    let tail = tail(bytes, ZIP_TAIL);
    let base = bytes.len() - tail.len();
    memmem::find_iter(tail, b"PK\x05\x06").any(|at| {
        let record = base + at;
        let leads = || {
            let size = size_le(bytes, record + 12)?;
            Some(has(bytes, record.checked_sub(size)?, b"PK\x01\x02"))
        };
        let ends = u16_le(bytes, record + 20)
            .is_some_and(|comment| record + 22 + usize::from(comment) == bytes.len());
        leads() == Some(true) && (ends || !only_at_end)
    })
}
