//! The maintenance protocol, version 1, as values. Every stream is opened by the vendor's client and begins with an
//! [`Opening`]; what follows depends on it:
//!
//! - [`Opening::Control`]: [`Reply::Welcome`], then one [`Ask`] and one [`Reply`] at a time.
//! - [`Opening::Forward`]: [`Reply::Forwarding`], then the bytes of one connection to the session's target, both ways.
//! - [`Opening::Send`]: [`Reply::Sending`], the file's bytes, then [`Reply::Judged`].
//!
//! What comes in is hostile until it is one of these: texts are bounded and without control characters, unknown fields
//! are errors.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::receipt::SignedReceipt;

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// Longest text of a person, in characters.
pub const TEXT_CHARS_MAX: usize = 200;
/// Longest public key in bytes (SubjectPublicKeyInfo): P-256 takes 91.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest name of a file in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest attestation in characters.
pub const ATTESTATION_CHARS_MAX: usize = 32 << 10;
/// Longest chain of certificates in characters.
const CHAIN_CHARS_MAX: usize = 16 << 10;

/// Why a value is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WordError {
    /// A text is empty, too long, or holds control characters.
    #[error("a text of 1 to {TEXT_CHARS_MAX} characters without control characters is needed")]
    Text,
    /// Not the id of a session.
    #[error("a session's id is `s-` and 12 letters or digits (a to z, 2 to 7)")]
    SessionId,
    /// Not a name for a file.
    #[error(
        "a file's name has 1 to {NAME_BYTES_MAX} bytes, no `/`, `\\` or control characters, and is not `.` or `..`"
    )]
    FileName,
    /// Not a public key.
    #[error("a public key of at most {KEY_BYTES_MAX} bytes in hexadecimal is needed")]
    Key,
    /// Not a SHA-256.
    #[error("a SHA-256 of 64 lower-case hexadecimal digits is needed")]
    Sha256,
    /// Not an attestation.
    #[error("an attestation of at most {ATTESTATION_CHARS_MAX} characters is needed")]
    Attestation,
    /// Not a chain of certificates.
    #[error("a chain of certificates of at most {CHAIN_CHARS_MAX} characters is needed")]
    Chain,
}

/// Makes a text type whose only constructor checks.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $error:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = WordError;

            fn try_from(text: String) -> Result<Self, WordError> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok($name(text)) } else { Err($error) }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                word.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

word!(
    /// What a person wrote: one line, bounded.
    Text, WordError::Text, |text| {
        !text.trim().is_empty() && text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(is_odd)
    }
);
word!(
    /// The id of a session.
    SessionId, WordError::SessionId, |text| {
        let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7');
        text.strip_prefix("s-").is_some_and(|rest| rest.len() == 12 && rest.bytes().all(is_letter))
    }
);
word!(
    /// The name of a file, without any directory.
    FileName, WordError::FileName, |text| {
        let is_bad = |c: char| is_odd(c) || matches!(c, '/' | '\\');
        (1..=NAME_BYTES_MAX).contains(&text.len()) && !matches!(text, "." | "..") && !text.chars().any(is_bad)
    }
);
word!(
    /// A public key (SubjectPublicKeyInfo, DER) in lower-case hexadecimal.
    PublicKey, WordError::Key, |text| {
        text.len() <= 2 * KEY_BYTES_MAX && data_encoding::HEXLOWER.decode(text.as_bytes()).is_ok()
    }
);
word!(
    /// A SHA-256 in lower-case hexadecimal.
    Sha256, WordError::Sha256, |text| {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
);
word!(
    /// A sender's attestation, as it was written; the gateway's file role reads it.
    Attestation, WordError::Attestation, |text| text.len() <= ATTESTATION_CHARS_MAX
);
word!(
    /// A chain of certificates in PEM.
    ChainPem, WordError::Chain, |text| text.len() <= CHAIN_CHARS_MAX
);

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// When there are too many.
    pub fn of(spki: &[u8]) -> Result<Self, WordError> {
        data_encoding::HEXLOWER.encode(spki).try_into()
    }

    /// The bytes.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        // Checked when it was made.
        data_encoding::HEXLOWER.decode(self.0.as_bytes()).unwrap_or_default()
    }
}

/// Control characters, and those that end a line, are not seen, or turn text round so that it reads as another (Unicode
/// UAX #9 and #14).
fn is_odd(c: char) -> bool {
    let hidden = matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}'
            | '\u{e0000}'..='\u{e007f}'
    );
    c.is_control() || hidden
}

/// What a stream begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Opening {
    /// Questions.
    Control {
        /// [`VERSION`].
        version: u32,
    },
    /// One connection to the session's target.
    Forward {
        /// The session.
        session: SessionId,
    },
    /// One file for the clinic.
    Send(Announcement),
}

/// A file that is to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The session in which it is sent.
    pub session: SessionId,
    /// Its name.
    pub name: FileName,
    /// How many bytes follow.
    pub size: u64,
    /// What they hash to.
    pub sha256: Sha256,
    /// What the sender says that was done with it.
    pub attestation: Option<Attestation>,
}

/// Questions of a control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// A certificate for the engineer's own key; the only thing that an invitation is good for.
    Enrol {
        /// The key.
        key: PublicKey,
    },
    /// A session.
    Request {
        /// The target as the clinic's policy writes it, such as `device:record-server:ssh`.
        target: Text,
        /// What for.
        purpose: Text,
        /// How long, in seconds.
        duration_s: u32,
    },
    /// How a session stands; answered when that changes, or after a few seconds.
    Follow {
        /// Which.
        session: SessionId,
        /// The revision last heard of; 0 for none.
        seen: u32,
    },
    /// The engineer is done.
    End {
        /// With which session.
        session: SessionId,
    },
    /// The receipt of a session that is over.
    Receipt {
        /// Which.
        session: SessionId,
    },
}

/// What the gateway replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// The control stream is open.
    Welcome {
        /// [`VERSION`].
        version: u32,
    },
    /// The certificate, and the authority's.
    Enrolled {
        /// PEM.
        chain_pem: ChainPem,
    },
    /// The request waits for approval.
    Requested {
        /// Its id.
        session: SessionId,
        /// SHA-256 of the request as the clinic sees it.
        digest: Sha256,
    },
    /// How a session stands.
    Standing(Standing),
    /// The session is over.
    Ended {},
    /// A receipt.
    Receipt(Box<SignedReceipt>),
    /// The connection to the target is open; its bytes follow.
    Forwarding {},
    /// The file's bytes may come.
    Sending {},
    /// What became of the file.
    Judged(Judgement),
    /// No.
    Refused(Refusal),
}

/// Why not: a word for programs, a sentence for people in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Stable word, such as `no-such-session`.
    pub word: String,
    /// In English.
    pub en: String,
    /// In Japanese.
    pub ja: String,
}

impl Refusal {
    /// A refusal with its words.
    #[must_use]
    pub fn new(word: &str, en: &str, ja: &str) -> Self {
        Refusal { word: word.to_owned(), en: en.to_owned(), ja: ja.to_owned() }
    }
}

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Which.
    pub session: SessionId,
    /// Grows with every change.
    pub revision: u32,
    /// The state.
    pub state: State,
    /// When it opens, if it waits for its window; when it closes, if it is open.
    pub at: Option<Timestamp>,
    /// Roles of the clinic whose approval is missing.
    pub missing: Vec<String>,
    /// Why it is over.
    pub why: Option<String>,
}

/// States of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for approvals.
    Requested,
    /// Approved, not yet open.
    Approved,
    /// Connections may be made.
    Open,
    /// Refused by the clinic.
    Denied,
    /// Over.
    Closed,
}

impl State {
    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, State::Denied | State::Closed)
    }
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// Its id at the clinic.
    pub transfer: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, one line each.
    pub reasons: Vec<String>,
    /// SHA-256 of what was delivered.
    pub delivered_sha256: Option<Sha256>,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The clinic has it.
    Delivered,
    /// It was refused.
    Refused,
    /// It could not be judged; it is kept aside.
    Quarantined,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for bad in ["", ".", "..", "a/b", "..\\x", "a\nb", "a\0b", "\u{202E}fdp.exe", &"x".repeat(256)] {
            assert_eq!(FileName::try_from(bad.to_string()), Err(WordError::FileName), "{bad:?}");
        }
        assert!(FileName::try_from("更新手順 第2版.pdf".to_owned()).is_ok());
    }

    #[test]
    fn texts_and_ids_are_bounded() {
        for bad in ["", "  ", "a\tb", "a\u{2028}b", &"あ".repeat(201)] {
            assert_eq!(Text::try_from(bad.to_string()), Err(WordError::Text), "{bad:?}");
        }
        assert!(Text::try_from("あ".repeat(200)).is_ok());
        for bad in
            ["s-", "f-abcdefghijkl", "s-ABCDEFGHIJKL", "s-abcdefghijk1", "s-abcdefghijklm", "../../etc"]
        {
            assert_eq!(SessionId::try_from(bad.to_owned()), Err(WordError::SessionId), "{bad}");
        }
        assert_eq!(PublicKey::of(&[0; 129]), Err(WordError::Key));
        assert_eq!(PublicKey::of(&[1, 2]).unwrap().spki(), [1, 2]);
    }

    #[test]
    fn unknown_fields_and_words_are_errors() {
        let read = |text: &str| frame::decode::<Ask>(text.as_bytes());
        let good = r#"{"follow":{"session":"s-abcdefghijkl","seen":1}}"#;
        assert!(read(good).is_ok());
        for (from, to) in [
            ("seen\":1", "seen\":1,\"more\":2"),
            ("seen\":1", "seen\":-1"),
            ("follow", "unfollow"),
            ("kl\"", "kl\",\"session\":\"s-abcdefghijkl\""),
            ("}}", "}} x"),
        ] {
            assert!(read(&good.replace(from, to)).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = frame::decode::<Opening>(&bytes);
            let _ = frame::decode::<Ask>(&bytes);
            let _ = frame::decode::<Reply>(&bytes);
        }

        #[test]
        fn a_damaged_question_is_one_of_ours_or_an_error(at in 0usize..200, byte in any::<u8>()) {
            let ask = Opening::Send(Announcement {
                session: "s-abcdefghijkl".to_owned().try_into().unwrap(),
                name: "a.pdf".to_owned().try_into().unwrap(),
                size: 5,
                sha256: "0".repeat(64).try_into().unwrap(),
                attestation: None,
            });
            let mut body = serde_json::to_vec(&ask).unwrap();
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
            if let Ok(Opening::Send(read)) = frame::decode(&body) {
                prop_assert!(!read.name.as_str().contains('/') && !read.name.as_str().contains('\0'));
            }
        }

        #[test]
        fn a_frame_comes_through_in_any_pieces(cuts in prop::collection::vec(1usize..9, 1..60), seen in any::<u32>()) {
            let ask = Ask::Follow { session: "s-abcdefghijkl".to_owned().try_into().unwrap(), seen };
            let bytes = frame::encode(&ask).unwrap();
            let mut script = tokio_test_pieces(&bytes, &cuts);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let read: Ask = runtime.block_on(frame::read(&mut script)).unwrap();
            prop_assert_eq!(read, ask);
        }

        #[test]
        fn any_stream_is_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _ = runtime.block_on(frame::read::<Opening>(&mut bytes.as_slice()));
        }
    }

    /// A reader that hands out a few bytes at a time.
    fn tokio_test_pieces(bytes: &[u8], cuts: &[usize]) -> impl tokio::io::AsyncRead + Unpin {
        struct Pieces(std::collections::VecDeque<Vec<u8>>);
        impl tokio::io::AsyncRead for Pieces {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                if let Some(mut piece) = self.0.pop_front() {
                    let rest = piece.split_off(buf.remaining().min(piece.len()));
                    buf.put_slice(&piece);
                    if !rest.is_empty() {
                        self.0.push_front(rest);
                    }
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        let (mut rest, mut pieces) = (bytes, std::collections::VecDeque::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push_back(piece.to_vec());
            rest = after;
        }
        Pieces(pieces)
    }
}
