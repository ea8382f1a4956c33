//! The elements of a data set (PS3.5, section 7), in the order in which they stand, each within its bounds.

use super::check_value;
use crate::FindingId;
use crate::bytes::{is_blank, part as bytes_at, size_be, size_le, u16_be, u16_le};
use crate::case::{Case, Halt};
use crate::examine::Part;

/// Deepest nesting of sequences.
const DEPTH: u8 = 32;
/// The length that means: up to the delimiter.
const UNDEFINED: usize = 0xffff_ffff;
const ITEM: (u16, u16) = (0xfffe, 0xe000);
const ITEM_END: (u16, u16) = (0xfffe, 0xe00d);
const SEQUENCE_END: (u16, u16) = (0xfffe, 0xe0dd);
const TRANSFER_SYNTAX: (u16, u16) = (0x0002, 0x0010);
const ENCAPSULATED_DOCUMENT: (u16, u16) = (0x0042, 0x0011);
const PIXEL_DATA: (u16, u16) = (0x7fe0, 0x0010);

/// Value representations with a length of four bytes, after two that are reserved (PS3.5, table 7.1-1).
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// How elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Implicit,
    Explicit,
    ExplicitBig,
    Deflated,
}

/// An element's header.
#[derive(Clone, Copy, Debug)]
struct Header {
    tag: (u16, u16),
    /// Zeros where the syntax is implicit.
    representation: [u8; 2],
    len: usize,
}

/// A data set being read.
#[derive(Debug)]
pub(super) struct DataSet<'a> {
    bytes: &'a [u8],
    at: usize,
    syntax: Syntax,
    part: Part<'a>,
}

/// Reads the file meta information: how the rest is written, and where it begins.
pub(super) fn meta(case: &mut Case<'_>, part: Part<'_>, start: usize) -> Result<(Syntax, usize), Halt> {
    let mut set = DataSet { bytes: part.bytes, at: start, syntax: Syntax::Explicit, part };
    let mut syntax = Syntax::Implicit;
    while u16_le(set.bytes, set.at) == Some(2) {
        let header = set.header(case)?;
        let value = set.value(case, header.len)?;
        if header.tag == TRANSFER_SYNTAX {
            let uid = String::from_utf8_lossy(value);
            syntax = match uid.trim_end_matches(['\0', ' ']) {
                "1.2.840.10008.1.2" => Syntax::Implicit,
                "1.2.840.10008.1.2.2" => Syntax::ExplicitBig,
                "1.2.840.10008.1.2.1.99" => Syntax::Deflated,
                _ => Syntax::Explicit,
            };
        } else {
            check_value(case, value, &set.place(header.tag));
        }
    }
    // Writers that forget to say how they write are read by the look of the first element.
    let representation = bytes_at(set.bytes, set.at + 4, 2).unwrap_or_default();
    let explicit = representation.len() == 2 && representation.iter().all(u8::is_ascii_uppercase);
    match syntax {
        Syntax::Implicit if explicit => Ok((Syntax::Explicit, set.at)),
        Syntax::Explicit if !explicit && !set.rest().is_empty() => Ok((Syntax::Implicit, set.at)),
        syntax => Ok((syntax, set.at)),
    }
}

impl<'a> DataSet<'a> {
    pub(super) fn new(bytes: &'a [u8], syntax: Syntax, part: Part<'a>) -> Self {
        Self { bytes, at: 0, syntax, part }
    }

    /// Reads every element to the end of the bytes.
    pub(super) fn all(&mut self, case: &mut Case<'_>) -> Result<(), Halt> {
        self.elements(case, Some(self.bytes.len()), 0)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn place(&self, tag: (u16, u16)) -> String {
        self.part.within(&format!("({:04x},{:04x})", tag.0, tag.1))
    }

    fn broken<T>(&self, case: &mut Case<'_>, why: &str) -> Result<T, Halt> {
        case.malformed(self.part.at, format!("DICOM: {why} at byte {}", self.at));
        Err(Halt)
    }

    fn elements(&mut self, case: &mut Case<'_>, end: Option<usize>, depth: u8) -> Result<(), Halt> {
        if depth > DEPTH {
            case.find(FindingId::Bomb, self.part.at, format!("sequences nested deeper than {DEPTH}"));
            return Err(Halt);
        }
        let mut last = (0, 0);
        while end.is_none_or(|end| self.at < end) {
            case.step(1, self.part.at)?;
            if depth == 0 && is_blank(self.rest()) {
                break;
            }
            let header = self.header(case)?;
            if header.tag == ITEM_END && end.is_none() {
                return Ok(());
            }
            if depth == 0 && last >= PIXEL_DATA && header.tag <= last {
                let at = self.place(header.tag);
                case.find(FindingId::ForeignBytes, &at, "elements after the end of the data set");
            }
            last = header.tag;
            self.element(case, header, depth)?;
        }
        if end.is_some_and(|end| self.at > end) {
            self.broken(case, "an item reaches too far")
        } else {
            Ok(())
        }
    }

    fn element(&mut self, case: &mut Case<'_>, header: Header, depth: u8) -> Result<(), Halt> {
        let at = self.place(header.tag);
        if header.tag == ENCAPSULATED_DOCUMENT {
            case.find(FindingId::DicomDocument, &at, "an encapsulated document");
        }
        let pixels = header.tag == PIXEL_DATA || matches!(&header.representation, b"OB" | b"OW");
        if header.len == UNDEFINED {
            if pixels {
                return self.fragments(case, &at);
            }
            // PS3.5, 6.2.2: of unknown representation and undefined length is a sequence written implicitly.
            let outer = self.syntax;
            if &header.representation == b"UN" {
                self.syntax = Syntax::Implicit;
            }
            let read = self.sequence(case, None, depth);
            self.syntax = outer;
            return read;
        }
        let implicit_sequence = self.syntax == Syntax::Implicit
            && header.len >= 8
            && self.tag_at(self.at) == Some(ITEM)
            && size_le(self.bytes, self.at + 4).is_some_and(|len| len == UNDEFINED || len <= header.len - 8);
        if &header.representation == b"SQ" || implicit_sequence {
            let end = self.at.saturating_add(header.len);
            if end > self.bytes.len() {
                return self.broken(case, "a sequence reaches past the end");
            }
            return self.sequence(case, Some(end), depth);
        }
        let value = self.value(case, header.len)?;
        if header.tag != PIXEL_DATA || value.starts_with(b"MZ") {
            check_value(case, value, &at);
        }
        Ok(())
    }

    fn sequence(&mut self, case: &mut Case<'_>, end: Option<usize>, depth: u8) -> Result<(), Halt> {
        while end.is_none_or(|end| self.at < end) {
            let header = self.header(case)?;
            match header.tag {
                ITEM if header.len == UNDEFINED => self.elements(case, None, depth + 1)?,
                ITEM => {
                    let item = self.at.saturating_add(header.len);
                    if item > self.bytes.len() {
                        return self.broken(case, "an item reaches past the end");
                    }
                    self.elements(case, Some(item), depth + 1)?;
                }
                SEQUENCE_END if end.is_none() => return Ok(()),
                _ => return self.broken(case, "no item in a sequence"),
            }
        }
        Ok(())
    }

    /// Encapsulated pixel data (PS3.5, annex A.4): items of bytes up to the delimiter.
    fn fragments(&mut self, case: &mut Case<'_>, at: &str) -> Result<(), Halt> {
        loop {
            case.step(1, at)?;
            let header = self.header(case)?;
            match header.tag {
                ITEM => {
                    let value = self.value(case, header.len)?;
                    check_value(case, value, at);
                }
                SEQUENCE_END => return Ok(()),
                _ => return self.broken(case, "no fragment in the pixel data"),
            }
        }
    }

    fn tag_at(&self, at: usize) -> Option<(u16, u16)> {
        let read = if self.syntax == Syntax::ExplicitBig { u16_be } else { u16_le };
        Some((read(self.bytes, at)?, read(self.bytes, at + 2)?))
    }

    fn header(&mut self, case: &mut Case<'_>) -> Result<Header, Halt> {
        match self.try_header() {
            Some((header, len)) => {
                self.at += len;
                Ok(header)
            }
            None => self.broken(case, "no element"),
        }
    }

    fn try_header(&self) -> Option<(Header, usize)> {
        let tag = self.tag_at(self.at)?;
        let big = self.syntax == Syntax::ExplicitBig;
        let long = if big { size_be } else { size_le };
        if self.syntax == Syntax::Implicit || tag.0 == 0xfffe {
            let len = long(self.bytes, self.at + 4)?;
            return Some((Header { tag, representation: [0; 2], len }, 8));
        }
        let representation: [u8; 2] = bytes_at(self.bytes, self.at + 4, 2)?.try_into().ok()?;
        if LONG.contains(&&representation) {
            return Some((Header { tag, representation, len: long(self.bytes, self.at + 8)? }, 12));
        }
        if !representation.iter().all(u8::is_ascii_uppercase) {
            return None;
        }
        let short = if big { u16_be } else { u16_le };
        let len = usize::from(short(self.bytes, self.at + 6)?);
        Some((Header { tag, representation, len }, 8))
    }

    fn value(&mut self, case: &mut Case<'_>, len: usize) -> Result<&'a [u8], Halt> {
        match bytes_at(self.bytes, self.at, len) {
            Some(value) => {
                self.at += len;
                Ok(value)
            }
            None => self.broken(case, "a value reaches past the end"),
        }
    }
}
