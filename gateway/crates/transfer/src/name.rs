//! What a file may be called. A name is one plain component on every system that may meet it, now or later: Linux, SMB,
//! Windows, and programs that still think in Shift_JIS. A name is taken as it is or refused, never repaired.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name in bytes (NAME_MAX of Linux), less the room that a delivery needs beside it.
pub const NAME_BYTES_MAX: usize = 255;
/// What Windows takes for a device, whatever ending follows.
const DEVICES: [&str; 11] =
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$", "com", "lpt", "keybd$", "screen$"];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// No name at all.
    #[error("the file has no name; give it one")]
    Empty,
    /// Longer than a file system takes.
    #[error("the file's name is longer than {NAME_BYTES_MAX} bytes; give it a shorter one")]
    TooLong,
    /// A character that separates, hides, or cannot be shown.
    #[error("the file's name has the character {}, which is not allowed; rename the file", .0.escape_unicode())]
    Character(char),
    /// Begins with a dot, a hyphen or a space, or ends with a dot or a space.
    #[error("the file's name begins or ends with a dot, a space or a hyphen; rename the file")]
    Edge,
    /// A device of Windows.
    #[error("`{0}` names a device on Windows; rename the file")]
    Device(String),
}

/// A name that is one plain component everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// Takes a name, or says what is wrong with it.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if let Some(bad) = text.chars().find(|c| !is_plain(*c)) {
            return Err(NameError::Character(bad));
        }
        if text.starts_with(['.', '-', ' ', '~', '\u{3000}']) || text.ends_with(['.', ' ', '\u{3000}']) {
            return Err(NameError::Edge);
        }
        if is_device(text) {
            return Err(NameError::Device(text.to_owned()));
        }
        Ok(FileName(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Neither a separator, nor something that becomes one: in Shift_JIS the yen sign and the overline take the bytes of
/// `\` and `~`, and compatibility normalization (NFKC) folds the full-width forms into the plain ones.
fn is_plain(c: char) -> bool {
    let separates = matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let folds = matches!(
        c,
        '\u{a5}'
            | '\u{203e}'
            | '\u{20a9}'
            | '\u{2044}'
            | '\u{2215}'
            | '\u{2216}'
            | '\u{29f5}'
            | '\u{29f8}'
            | '\u{29f9}'
            | '／'
            | '＼'
            | '：'
            | '＊'
            | '？'
            | '＂'
            | '＜'
            | '＞'
            | '｜'
            | '\u{fe68}'
            | '\u{fe55}'
    );
    !c.is_control() && !separates && !folds && !is_hidden(c)
}

/// Turns the direction of a name, hides in it, or is no character: what is shown would not be what is opened.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

/// `CON`, `con.txt`, `NUL .log`, `COM1`, `LPT³`: Windows looks at what stands before the first dot.
fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or(text).trim_end().to_lowercase();
    let numbered = |device: &str| {
        let mut rest = stem.strip_prefix(device).unwrap_or_default().chars();
        matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    };
    numbered("com") || numbered("lpt") || (DEVICES.contains(&stem.as_str()) && stem != "com" && stem != "lpt")
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FileName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        FileName::parse(&text)
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        // The second bytes of 表, ソ and 能 in Shift_JIS are those of a backslash: here they are characters, not bytes.
        let names = [
            "report.pdf",
            "検査結果一覧表.xlsx",
            "ソ能.txt",
            "１．はじめに.docx",
            "a b (2).png",
            "é.txt",
            "com.pdf",
            "console.log",
            "com10.txt",
            "a.con",
            "年次報告、改訂版。最終.pdf",
            "ｶﾅ.csv",
            "x..y",
        ];
        for name in names {
            assert_eq!(FileName::parse(name).map(String::from), Ok(name.to_owned()));
        }
        assert!(FileName::parse(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn names_that_are_more_than_a_name_are_refused() {
        let names = [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "C:x",
            "x:stream",
            ".hidden",
            "-rf",
            "~root",
            " a",
            "a ",
            "a.",
            "a\u{3000}",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}",
            "a\u{202e}fdp.exe",
            "a\u{200b}",
            "a\u{feff}",
            "a\u{2066}b",
            "a\u{ad}b",
            "a\u{a5}b",
            "a\u{203e}",
            "a／b",
            "a＼b",
            "a\u{2215}b",
            "a\u{fffd}",
            "a\u{e000}",
            "a*",
            "a?",
            "a<b",
            "a|b",
            "a\"",
            "CON",
            "con.txt",
            "Nul",
            "nul .log",
            "aux.",
            "COM1",
            "com1.tar.gz",
            "LPT9.x",
            "COM¹",
            "conin$",
            "CLOCK$",
        ];
        for name in names {
            assert!(FileName::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(FileName::parse(&"a".repeat(256)), Err(NameError::TooLong));
        assert_eq!(FileName::parse(&"表".repeat(86)), Err(NameError::TooLong));
    }
}
