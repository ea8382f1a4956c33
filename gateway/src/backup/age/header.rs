//! The header's grammar (C2SP age, section "Header"): exactly one way to write each header, everything else refused.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use super::AgeError;

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "-> ";
const END: &str = "---";
/// Letters of a full line of a stanza's body.
const COLUMNS: usize = 64;
/// Longest header.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most stanzas.
const STANZAS_MAX: usize = 64;
const MAC_BYTES: usize = 32;

/// One way to the file key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stanza {
    /// Its kind and what belongs to it.
    pub(super) words: Vec<String>,
    /// The file key, wrapped.
    pub(super) body: Vec<u8>,
}

/// A header that was read, and what follows it.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) stanzas: Vec<Stanza>,
    /// What the code below is over.
    pub(super) signed: &'a [u8],
    pub(super) mac: [u8; MAC_BYTES],
    pub(super) payload: &'a [u8],
}

/// Writes a header up to its last line's first word, which is what the code is over.
pub(super) fn encode(stanzas: &[Stanza]) -> Vec<u8> {
    let mut text = format!("{VERSION}\n");
    for Stanza { words, body } in stanzas {
        text += &format!("{STANZA}{}\n", words.join(" "));
        let letters = base64(body);
        let mut rest = letters.as_str();
        while let Some((line, after)) = rest.split_at_checked(COLUMNS) {
            text += &format!("{line}\n");
            rest = after;
        }
        text += &format!("{rest}\n");
    }
    text += END;
    text.into_bytes()
}

/// Ends a header.
pub(super) fn push_mac(header: &mut Vec<u8>, mac: &[u8]) {
    header.extend(format!(" {}\n", base64(mac)).into_bytes());
}

/// Reads a header.
pub(super) fn parse(bytes: &[u8]) -> Result<Header<'_>, AgeError> {
    let mut lines = Lines { bytes, at: 0 };
    if lines.next().map_err(|_| AgeError::NotAge)? != VERSION {
        return Err(AgeError::NotAge);
    }
    let mut stanzas = Vec::new();
    loop {
        let begin = lines.at;
        let line = lines.next()?;
        if let Some(words) = line.strip_prefix(STANZA) {
            if stanzas.len() >= STANZAS_MAX {
                return Err(AgeError::Header("too many stanzas"));
            }
            stanzas.push(Stanza { words: parse_words(words)?, body: body(&mut lines)? });
            continue;
        }
        let mac = line.strip_prefix(END).and_then(|rest| rest.strip_prefix(' ')).and_then(decode);
        let mac =
            mac.and_then(|mac| mac.try_into().ok()).ok_or(AgeError::Header("a line is none of its kinds"))?;
        if stanzas.is_empty() {
            return Err(AgeError::Header("it is sealed to nobody"));
        }
        let (signed, _) = bytes.split_at_checked(begin + END.len()).unwrap_or_default();
        let (_, payload) = bytes.split_at_checked(lines.at).unwrap_or_default();
        return Ok(Header { stanzas, signed, mac, payload });
    }
}

/// Bytes as the format writes them.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD_NO_PAD.encode(bytes)
}

/// Reads what [`base64()`] writes, and nothing that only resembles it.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD_NO_PAD.decode(text).ok()
}

fn parse_words(line: &str) -> Result<Vec<String>, AgeError> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    let words = line.split(' ').map(|word| is_word(word).then(|| word.to_owned()));
    words.collect::<Option<_>>().ok_or(AgeError::Header("a stanza begins with what is no word"))
}

fn body(lines: &mut Lines<'_>) -> Result<Vec<u8>, AgeError> {
    let mut body = Vec::new();
    loop {
        let line = lines.next()?;
        if line.len() > COLUMNS {
            return Err(AgeError::Header("a line is too long"));
        }
        body.extend(decode(line).ok_or(AgeError::Header("a stanza holds what is not base64"))?);
        if line.len() < COLUMNS {
            return Ok(body);
        }
    }
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, AgeError> {
        let rest = self.bytes.get(self.at..HEADER_BYTES_MAX.min(self.bytes.len())).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(AgeError::Header("it does not end"))?;
        self.at += end + 1;
        let line = rest.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        line.ok_or(AgeError::Header("it is not text"))
    }
}
