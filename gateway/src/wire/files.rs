//! Edge and the files role at `files.sock`: one connection for one file. A frame announces it, its bytes follow as they
//! are, a frame says what became of it. Back-pressure is the socket's own: the role reads no faster than it can write.
//!
//! ```text
//! edge  -> FilesRequest                      a frame as in `frame`, at most ASK_BYTES_MAX
//! files -> FilesAnswer::Send | Judged        `Judged`: refused before a byte was taken
//! edge  -> exactly `size_bytes` bytes        a connection that ends earlier quarantines the file
//! files -> FilesAnswer::Judged               the one outcome
//! ```
//!
//! The same socket answers the console and admins in the language of [`super::Request`].

use serde::{Deserialize, Serialize};
use session::SessionId;
use thiserror::Error;
use transfer::{FileName, Hash, Outcome, TransferId};

use super::Fault;

/// The version of this language.
pub const VERSION: u32 = 1;
/// Longest announcement in bytes.
pub const ASK_BYTES_MAX: usize = 96 << 10;
/// Longest answer in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest attestation in bytes.
pub const ATTESTATION_BYTES_MAX: usize = transfer::attestation::ENVELOPE_BYTES_MAX;
/// Longest public key (SubjectPublicKeyInfo, DER) in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest name of a vendor in bytes.
pub const VENDOR_BYTES_MAX: usize = 128;

/// Why something may not travel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WordError {
    /// An attestation that is too long.
    #[error("an attestation of at most {ATTESTATION_BYTES_MAX} bytes is needed")]
    Attestation,
    /// A key that is too long.
    #[error("a public key of at most {KEY_BYTES_MAX} bytes is needed")]
    Key,
    /// Not a name of a vendor.
    #[error("a vendor's name of 1 to {VENDOR_BYTES_MAX} bytes without control characters is needed")]
    Vendor,
}

/// A sender's attestation as it was written, unread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Attestation(String);

/// The engineer's public key as SubjectPublicKeyInfo (RFC 5280), DER, as the handshake proved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct EngineerKey(Vec<u8>);

/// A vendor's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VendorName(String);

/// What edge sends first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The order.
    pub files: FilesAsk,
}

/// What edge asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FilesAsk {
    /// A vendor's engineer wants to send a file in an open session. Answered by [`FilesAnswer::Send`] or
    /// [`FilesAnswer::Judged`].
    Begin {
        /// The session, which core says is open.
        session: SessionId,
        /// The vendor whose session it is.
        vendor: VendorName,
        /// The file's name.
        name: FileName,
        /// How many bytes follow.
        size_bytes: u64,
        /// What they hash to.
        sha256: Hash,
        /// The sender's attestation.
        attestation: Option<Attestation>,
        /// The engineer's key: the only one that may sign the attestation.
        engineer_key: EngineerKey,
    },
}

/// What the files role answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FilesAnswer {
    /// The bytes may come.
    Send {
        /// The transfer's name.
        transfer: TransferId,
    },
    /// What became of the file.
    Judged {
        /// The transfer's name.
        transfer: TransferId,
        /// The one outcome.
        outcome: Outcome,
        /// The outcome in Japanese.
        ja: String,
        /// The outcome in English.
        en: String,
    },
    /// There is no transfer, and why.
    Failed(Fault),
}

impl Attestation {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EngineerKey {
    /// The bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl VendorName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Attestation {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        if text.len() <= ATTESTATION_BYTES_MAX { Ok(Attestation(text)) } else { Err(WordError::Attestation) }
    }
}

impl TryFrom<Vec<u8>> for EngineerKey {
    type Error = WordError;

    fn try_from(der: Vec<u8>) -> Result<Self, WordError> {
        if der.len() <= KEY_BYTES_MAX { Ok(EngineerKey(der)) } else { Err(WordError::Key) }
    }
}

impl TryFrom<String> for VendorName {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let fits = (1..=VENDOR_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(VendorName(text)) } else { Err(WordError::Vendor) }
    }
}

impl From<Attestation> for String {
    fn from(attestation: Attestation) -> String {
        attestation.0
    }
}

impl From<EngineerKey> for Vec<u8> {
    fn from(key: EngineerKey) -> Vec<u8> {
        key.0
    }
}

impl From<VendorName> for String {
    fn from(name: VendorName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> String {
        let hash = "0".repeat(64);
        format!(
            r#"{{"version":1,"files":{{"begin":{{"session":"s-abcdefghijkl","vendor":"acme","name":"a.pdf","size_bytes":5,
            "sha256":"{hash}","attestation":null,"engineer_key":[1,2]}}}}}}"#
        )
    }

    fn read(text: &str) -> Result<FilesRequest, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn an_announcement_is_read_strictly() {
        assert!(read(&begin()).is_ok());
        for (old, new) in [
            ("a.pdf", "../a.pdf"),
            ("a.pdf", "a\\u0000.pdf"),
            ("s-abcdefghijkl", "s-1"),
            ("\"acme\"", "\"\""),
            ("\"acme\"", "\"a\\u001bb\""),
            (":5,", ":-5,"),
            ("\"attestation\"", "\"attestations\""),
            ("[1,2]", "[1,256]"),
            ("\"version\":1", "\"version\":1,\"more\":1"),
        ] {
            let changed = begin().replacen(old, new, 1);
            assert_ne!(changed, begin());
            assert!(read(&changed).is_err(), "{changed}");
        }
        assert!(EngineerKey::try_from(vec![0; KEY_BYTES_MAX + 1]).is_err());
        assert!(Attestation::try_from("x".repeat(ATTESTATION_BYTES_MAX + 1)).is_err());
    }
}
