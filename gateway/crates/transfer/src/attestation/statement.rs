//! The in-toto Statement v1 with one subject, and the predicate: what the sender says he did.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{AttestationError, TOOL_CHARS_MAX};
use crate::ids::{Hash, from_hex};
use crate::name::FileName;

/// The type of the statement (spec/v1/statement.md).
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of the predicate, ours.
pub const PREDICATE_TYPE: &str = "https://sekisho.example/attestation/sanitized/v1";

/// What the sender says of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sanitized {
    /// The program that looked at the file.
    pub sanitizer: Tool,
    /// What it found.
    pub verdict: Found,
    /// When it did.
    #[serde(deserialize_with = "one_text")]
    pub sanitized_at: Timestamp,
    /// Up to when the sender's word holds.
    #[serde(deserialize_with = "one_text")]
    pub expires_at: Timestamp,
    /// The clinic's site for which the file is meant.
    pub recipient: String,
    /// The session in which it is sent.
    pub session: String,
    /// 16 random bytes, in lower-case hex: each attestation counts once.
    pub nonce: String,
    /// The file's size.
    pub size_bytes: u64,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What the sender's program found: nothing else may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Nothing that could act.
    Clean,
    /// Something that could act, and took it out.
    Disarmed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<RawSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Sanitized,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubject {
    name: String,
    digest: Digests,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    sha256: Hash,
}

/// The file that a statement is about.
pub(super) struct Subject {
    pub(super) name: FileName,
    pub(super) sha256: Hash,
}

impl Sanitized {
    pub(super) fn nonce_bytes(&self) -> Result<[u8; 16], AttestationError> {
        from_hex(&self.nonce)
            .ok_or_else(|| AttestationError::Statement("the nonce is no 16 bytes in hex".to_owned()))
    }

    fn check(&self) -> Result<(), AttestationError> {
        let Tool { name, version } = &self.sanitizer;
        let plain = |text: &String| {
            !text.is_empty() && text.chars().count() <= TOOL_CHARS_MAX && !text.chars().any(char::is_control)
        };
        self.nonce_bytes()?;
        match plain(name) && plain(version) {
            true => Ok(()),
            false => {
                Err(AttestationError::Statement("the sanitizer has no proper name and version".to_owned()))
            }
        }
    }
}

/// Reads a time that is written as we write it (RFC 3339, UTC, no more digits than needed): each has one text.
fn one_text<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    let time: Timestamp = text.parse().map_err(D::Error::custom)?;
    if time.to_string() == text {
        Ok(time)
    } else {
        Err(D::Error::custom("a time is written as 2026-04-01T09:00:00Z"))
    }
}

/// Reads a payload: one subject, nothing unknown, nothing after the end.
pub(super) fn read(payload: &[u8]) -> Result<(Subject, Sanitized), AttestationError> {
    let wrong = |error: serde_json::Error| AttestationError::Statement(error.to_string());
    let Statement { kind, subject, predicate_type, predicate } =
        serde_json::from_slice(payload).map_err(wrong)?;
    if kind != STATEMENT_TYPE || predicate_type != PREDICATE_TYPE {
        return Err(AttestationError::Kind);
    }
    let mut subjects = subject.into_iter();
    let (Some(only), None) = (subjects.next(), subjects.next()) else {
        return Err(AttestationError::Statement("it needs exactly one subject".to_owned()));
    };
    predicate.check()?;
    let name = FileName::parse(&only.name).map_err(|error| AttestationError::Statement(error.to_string()))?;
    Ok((Subject { name, sha256: only.digest.sha256 }, predicate))
}

/// Writes a payload.
pub(super) fn write(name: &FileName, sha256: Hash, said: &Sanitized) -> Result<Vec<u8>, AttestationError> {
    said.check()?;
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![RawSubject { name: name.to_string(), digest: Digests { sha256 } }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: said.clone(),
    };
    serde_json::to_vec(&statement).map_err(|error| AttestationError::Statement(error.to_string()))
}
