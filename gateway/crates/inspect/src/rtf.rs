//! Rich Text Format 1.9.1: groups and control words; objects, templates and fields.

use crate::bytes::part as bytes_at;
use crate::case::Case;
use crate::examine::Part;
use crate::{FileType, FindingId, ooxml};

/// Deepest nesting of groups.
const DEPTH: usize = 1000;
/// Longest text of a field or a template that is kept.
const TEXT_BYTES: usize = 4096;

/// Control words of objects.
const OBJECTS: &[&[u8]] = &[
    b"object",
    b"objdata",
    b"objemb",
    b"objlink",
    b"objautlink",
    b"objsub",
    b"objpub",
    b"objicemb",
    b"objhtml",
    b"objocx",
    b"objupdate",
    b"objclass",
    b"objname",
    b"objfile",
];

/// Whose text a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Anything,
    Field,
    Template,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    groups: Vec<Holds>,
    text: String,
}

/// Examines a rich text.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let mut reader = Reader { bytes: part.bytes, at: 0, groups: Vec::new(), text: String::new() };
    let ended = reader.run(case, part.at);
    let rest = part.bytes.get(reader.at..).unwrap_or_default();
    if !ended {
        case.malformed(part.at, "RTF: groups are not closed");
    } else if !crate::bytes::is_blank(rest) {
        case.find(
            FindingId::ForeignBytes,
            part.at,
            format!("{} bytes after the end of the text", rest.len()),
        );
    }
    FileType::Rtf
}

impl Reader<'_> {
    /// Reads to the end of the first group; false when it has none.
    fn run(&mut self, case: &mut Case<'_>, at: &str) -> bool {
        while let Some(byte) = self.bytes.get(self.at).copied() {
            self.at += 1;
            match byte {
                b'{' => {
                    let holds = self.groups.last().copied().unwrap_or(Holds::Anything);
                    self.groups.push(holds);
                    if self.groups.len() > DEPTH {
                        case.find(FindingId::Bomb, at, format!("groups nested deeper than {DEPTH}"));
                        return true;
                    }
                }
                b'}' => {
                    let ended = self.groups.pop();
                    self.group_ends(case, ended, at);
                    if self.groups.is_empty() {
                        return true;
                    }
                }
                b'\\' => {
                    if case.step(1, at).is_err() {
                        return true;
                    }
                    self.control(case, at);
                }
                b'\r' | b'\n' => {}
                byte => self.letter(byte),
            }
        }
        false
    }

    fn letter(&mut self, byte: u8) {
        let holds = self.groups.last().copied().unwrap_or(Holds::Anything);
        if holds != Holds::Anything && self.text.len() < TEXT_BYTES {
            self.text.push(char::from(byte));
        }
    }

    fn group_ends(&mut self, case: &mut Case<'_>, ended: Option<Holds>, at: &str) {
        let outer = self.groups.last().copied().unwrap_or(Holds::Anything);
        if ended == Some(outer) {
            return;
        }
        match ended {
            Some(Holds::Field) => ooxml::check_field(case, &self.text, at),
            Some(Holds::Template) => {
                let lower = self.text.to_ascii_lowercase();
                if ["http", "\\\\", "//", "ftp:", "file:"].iter().any(|start| lower.contains(start)) {
                    case.find(FindingId::ExternalTemplate, at, format!("template `{}`", self.text.trim()));
                }
            }
            Some(Holds::Anything) | None => return,
        }
        self.text.clear();
    }

    fn control(&mut self, case: &mut Case<'_>, at: &str) {
        let Some(first) = self.bytes.get(self.at).copied() else { return };
        if !first.is_ascii_alphabetic() {
            self.symbol(first);
            return;
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = bytes_at(self.bytes, self.at, len).unwrap_or_default();
        self.at += len;
        let number = self.number();
        if self.bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        if word == b"bin" {
            let skipped = usize::try_from(number.unwrap_or(0)).unwrap_or(0);
            self.at = self.at.saturating_add(skipped).min(self.bytes.len());
        } else if word == b"u" {
            self.letter(b'?');
        } else {
            self.word(case, word, at);
        }
    }

    fn word(&mut self, case: &mut Case<'_>, word: &[u8], at: &str) {
        if OBJECTS.contains(&word) {
            let place = format!("byte {}", self.at);
            let place = if at.is_empty() { place } else { format!("{at}/{place}") };
            case.find(FindingId::RtfObject, &place, format!("\\{}", String::from_utf8_lossy(word)));
        }
        let holds = match word {
            b"fldinst" => Holds::Field,
            b"template" => Holds::Template,
            b"datafield" | b"pict" | b"fldrslt" => Holds::Anything,
            _ => return,
        };
        if holds != Holds::Anything {
            self.text.clear();
        }
        if let Some(group) = self.groups.last_mut() {
            *group = holds;
        }
    }

    fn number(&mut self) -> Option<i64> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let sign = usize::from(rest.first() == Some(&b'-'));
        let digits = rest.iter().skip(sign).take(10).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let text = bytes_at(self.bytes, self.at, sign + digits)?;
        self.at += sign + digits;
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// `\'hh` is a letter by its number; other symbols stand for themselves or for nothing that matters.
    fn symbol(&mut self, symbol: u8) {
        self.at += 1;
        match symbol {
            b'\'' => {
                let digits = bytes_at(self.bytes, self.at, 2).and_then(|hex| std::str::from_utf8(hex).ok());
                if let Some(byte) = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    self.letter(byte);
                    self.at += 2;
                }
            }
            b'\\' | b'{' | b'}' => self.letter(symbol),
            b'~' => self.letter(b' '),
            _ => {}
        }
    }
}
