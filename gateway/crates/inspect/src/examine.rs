//! One file, or one part of a container: told apart, handed to whoever understands it, compared with its name.

use std::collections::BTreeSet;

use crate::bytes::find;
use crate::case::Case;
use crate::{
    FileType, FindingId, dicom, disguise, identify, images, mail, names, ole, pdf, rtf, stream, tape, text,
    zip,
};

/// The line by which anti-virus engines are tested; harmless, and never wanted in a clinic.
const EICAR: &[u8] = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}";

/// Bytes with a place: a file, or what was inside one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// The bytes.
    pub(crate) bytes: &'a [u8],
    /// What they are called, if they are.
    pub(crate) name: Option<&'a str>,
    /// Where in the file; empty for the file itself.
    pub(crate) at: &'a str,
    /// How many containers are around them.
    pub(crate) depth: u8,
}

impl Part<'_> {
    /// The place of something within this part.
    pub(crate) fn within(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}/{name}", self.at) }
    }
}

/// Examines the file itself.
pub(crate) fn file(case: &mut Case<'_>, bytes: &[u8], name: Option<&str>) -> BTreeSet<FileType> {
    if let Some(name) = name {
        names::check_file(case, name);
    }
    part(case, Part { bytes, name, at: "", depth: 0 })
}

/// Examines a part and all that is in it; says every type it can be read as.
pub(crate) fn part(case: &mut Case<'_>, part: Part<'_>) -> BTreeSet<FileType> {
    if part.depth > case.limits.depth {
        case.find(FindingId::Bomb, part.at, format!("nested deeper than {}", case.limits.depth));
        return [FileType::Unknown].into();
    }
    if find(part.bytes, EICAR).is_some() {
        case.find(FindingId::Executable, part.at, "the EICAR test program");
    }
    let first = match identify::by_signature(part.bytes) {
        Some(found) => found,
        None => text::identify(part.bytes, part.name),
    };
    let found = look_inside(case, part, first);
    case.is_a(found, part.name);
    refuse(case, found, part.at);
    let mut types = disguise::faces(part.bytes, found);
    // The zips of zips are told by what they hold, and a TIFF preamble is what the standard names.
    types.retain(|other| !(first == FileType::Zip && *other == FileType::Zip));
    if !types.is_empty() {
        let others: Vec<_> = types.iter().map(|file_type| file_type.word()).collect();
        case.find(FindingId::Polyglot, part.at, format!("`{found}` is also {}", others.join(", ")));
    }
    if let Some(name) = part.name {
        names::compare(case, name, found, part.at);
    }
    types.insert(found);
    types
}

fn look_inside(case: &mut Case<'_>, part: Part<'_>, first: FileType) -> FileType {
    use FileType as T;
    match first {
        T::Zip => zip::examine(case, part),
        T::OtherOle => ole::examine(case, part),
        T::Gzip => stream::gzip(case, part),
        T::Tar => tape::examine(case, part),
        T::Pdf => pdf::examine(case, part),
        T::Rtf => rtf::examine(case, part),
        T::Dicom => dicom::examine(case, part),
        T::Eml => mail::examine(case, part),
        T::Png | T::Jpeg | T::Gif | T::Bmp | T::Tiff | T::Webp => images::examine(case, part, first),
        first if first.is_textual() => text::examine(case, part, first),
        first => first,
    }
}

/// What nobody may accept is refused, each for its own reason.
fn refuse(case: &mut Case<'_>, found: FileType, at: &str) {
    use FileType as T;
    let id = match found {
        T::Pe | T::Elf | T::MachO | T::Bytecode | T::Jar => FindingId::Executable,
        T::Script | T::Chm => FindingId::Script,
        T::Shortcut => FindingId::Shortcut,
        T::Installer => FindingId::Installer,
        T::DiskImage => FindingId::DiskImage,
        T::EncryptedOffice => FindingId::Encrypted,
        T::OtherArchive | T::OtherOle | T::OneNote | T::Metafile => FindingId::UnsupportedType,
        T::Unknown => FindingId::UnknownType,
        _ => return,
    };
    case.find(id, at, found.word());
}
