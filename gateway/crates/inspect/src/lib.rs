//! What a file is, and what in it could act: bytes in, a [`Report`] out. The crate reads nothing but its arguments,
//! spends no more than its [`Limits`], and refuses whatever it does not understand.
//!
//! Identification goes by content and names every type a file can be read as, so a polyglot never hides behind one of
//! its faces. A crash of a parser that others wrote is contained by the process around it (`sekishod inspect`).

mod bytes;
mod case;
mod dicom;
mod disguise;
mod examine;
mod identify;
mod images;
mod kind;
mod limits;
mod mail;
mod names;
mod odf;
mod ole;
mod ooxml;
mod payload;
mod pdf;
mod report;
mod rtf;
mod stream;
mod tape;
mod text;
mod xml;
mod zip;

pub use kind::{FileType, Kind};
pub use limits::Limits;
pub use report::{Finding, FindingId, Report, Verdict};

/// Says what `bytes` are and whether they may be delivered; `name` is what the sender calls them.
pub fn inspect(bytes: &[u8], name: Option<&str>, limits: &Limits) -> Report {
    let mut case = case::Case::new(limits);
    let types = if bytes.len() as u64 > limits.size_bytes {
        case.find(FindingId::TooLarge, "", format!("{} bytes, at most {}", bytes.len(), limits.size_bytes));
        [FileType::Unknown].into()
    } else {
        examine::file(&mut case, bytes, name)
    };
    case.into_report(types)
}

/// The report about a file whose inspection did not come to an end: it is refused.
pub fn failed(detail: &str) -> Report {
    let limits = Limits::default();
    let mut case = case::Case::new(&limits);
    case.find(FindingId::InspectionFailed, "", detail);
    case.into_report([FileType::Unknown].into())
}
