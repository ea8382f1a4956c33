//! The sender's signed word that a file was sanitized before it was sent (guideline 6.0, システム運用編 10 ⑤): an in-toto
//! Statement v1 with a predicate of ours, in a DSSE v1 envelope, signed with Ed25519 by the engineer's own key.
//!
//! Formats: DSSE (github.com/secure-systems-lab/dsse, protocol.md and envelope.md, 1.0.2), in-toto attestation
//! (github.com/in-toto/attestation, spec/v1/statement.md). Read strictly: what is unknown, repeated, or said twice in
//! different ways is refused, because two readers must never see two statements.

mod envelope;
mod key;
mod spent;
mod statement;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::ids::Hash;
use crate::name::FileName;

pub use envelope::PAYLOAD_TYPE;
pub use key::{Signer, SignerKey};
pub use spent::{SPENT_MAX, Spent};
pub use statement::{Found, PREDICATE_TYPE, STATEMENT_TYPE, Sanitized, Tool};

/// Longest envelope in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 16 << 10;
/// How far a sender's clock may be ahead.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Longest time for which an attestation may hold.
pub const VALIDITY_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Longest name or version of a sanitizer, in characters.
pub const TOOL_CHARS_MAX: usize = 64;

/// Why an attestation does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttestationError {
    /// Longer than any attestation.
    #[error("the attestation is longer than {ENVELOPE_BYTES_MAX} bytes")]
    TooLong,
    /// Not an envelope as we read it.
    #[error("the attestation is no DSSE envelope: {0}")]
    Envelope(String),
    /// Of another kind of payload.
    #[error("the attestation's payload is no in-toto statement")]
    PayloadType,
    /// Not exactly one signature.
    #[error("the attestation needs exactly one signature")]
    Signatures,
    /// A key that signs no attestations.
    #[error("an attestation is signed with an Ed25519 key; enrol with one")]
    Key,
    /// Signed by another key than the engineer's.
    #[error("the attestation is signed by another key than the engineer's own")]
    OtherKey,
    /// The signature does not hold.
    #[error("the attestation's signature does not hold; it was changed, or signed with another key")]
    Signature,
    /// Not a statement as we read it.
    #[error("the attestation's statement cannot be read: {0}")]
    Statement(String),
    /// Of another kind of statement or predicate.
    #[error("the attestation is of another kind; make it with `sekisho-vendor attest`")]
    Kind,
    /// About something else than this file.
    #[error("the attestation is about another {0} than the file's")]
    Other(&'static str),
    /// A time that does not hold.
    #[error("the attestation does not hold now: {0}")]
    Time(&'static str),
    /// Used before.
    #[error("the attestation was used before; make a new one")]
    Replayed,
    /// No more can be remembered.
    #[error("too many attestations are remembered; send the file later")]
    Full,
}

/// What an attestation must be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The file's name.
    pub name: &'a FileName,
    /// Its size.
    pub size_bytes: u64,
    /// Its hash.
    pub sha256: Hash,
    /// The clinic's site, as its policy names it.
    pub site: &'a str,
    /// The session in which it is sent.
    pub session: &'a str,
}

/// An attestation that was verified. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Attested {
    sha256: Hash,
    size_bytes: u64,
    said: Sanitized,
}

impl Attested {
    /// What the sender said.
    #[must_use]
    pub fn said(&self) -> &Sanitized {
        &self.said
    }

    pub(crate) fn is_about(&self, sha256: Hash, size_bytes: u64) -> bool {
        self.sha256 == sha256 && self.size_bytes == size_bytes
    }
}

/// Verifies an envelope against what it must be about, and spends its nonce.
///
/// # Errors
/// The first thing that does not hold; the nonce is then not spent.
pub fn verify(
    envelope: &str,
    signer: &SignerKey,
    expected: &Expected<'_>,
    spent: &mut Spent,
    now: Timestamp,
) -> Result<Attested, AttestationError> {
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return Err(AttestationError::TooLong);
    }
    let payload = envelope::open(envelope, signer)?;
    let (subject, said) = statement::read(&payload)?;
    let about = [
        ("name", subject.name == *expected.name),
        ("hash", subject.sha256 == expected.sha256),
        ("size", said.size_bytes == expected.size_bytes),
        ("clinic", said.recipient == expected.site),
        ("session", said.session == expected.session),
    ];
    if let Some((what, _)) = about.iter().find(|(_, same)| !same) {
        return Err(AttestationError::Other(what));
    }
    in_time(&said, now)?;
    spent.spend(signer.id(), said.nonce_bytes()?, said.expires_at, now)?;
    Ok(Attested { sha256: expected.sha256, size_bytes: expected.size_bytes, said })
}

/// Makes an envelope.
///
/// # Errors
/// When what is said could not be verified afterwards.
pub fn sign(
    name: &FileName,
    sha256: Hash,
    said: &Sanitized,
    signer: &Signer,
) -> Result<String, AttestationError> {
    let payload = statement::write(name, sha256, said)?;
    envelope::seal(&payload, signer)
}

fn in_time(said: &Sanitized, now: Timestamp) -> Result<(), AttestationError> {
    let lasts = said.expires_at.duration_since(said.sanitized_at);
    if said.sanitized_at.duration_since(now) > SKEW {
        return Err(AttestationError::Time("it is from the future; set the sender's clock"));
    }
    if said.expires_at <= now {
        return Err(AttestationError::Time("it has expired; make a new one"));
    }
    if !lasts.is_positive() || lasts > VALIDITY_MAX {
        return Err(AttestationError::Time("it may hold for at most 24 hours"));
    }
    Ok(())
}
