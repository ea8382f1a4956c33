//! The engineer's key, as far as attestations need it: Ed25519 (RFC 8032), named by its SubjectPublicKeyInfo (RFC 8410).

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::AttestationError;
use crate::ids::Hash;

/// SubjectPublicKeyInfo of Ed25519 in DER, but for the 32 bytes of the key: RFC 8410, section 4.
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerKey {
    key: VerifyingKey,
    id: Hash,
}

/// A key that signs; never shown.
pub struct Signer(SigningKey);

impl SignerKey {
    /// Takes the key of a certificate.
    ///
    /// # Errors
    /// When it is no Ed25519 key, or a weak one.
    pub fn from_spki(der: &[u8]) -> Result<Self, AttestationError> {
        let bytes = der.strip_prefix(&SPKI_HEAD).ok_or(AttestationError::Key)?;
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| AttestationError::Key)?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| AttestationError::Key)?;
        if key.is_weak() {
            return Err(AttestationError::Key);
        }
        Ok(SignerKey { key, id: Hash::of(der) })
    }

    /// SHA-256 of its SubjectPublicKeyInfo: the engineer's KeyId.
    #[must_use]
    pub fn id(&self) -> Hash {
        self.id
    }

    pub(super) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestationError> {
        let signature = Signature::from_slice(signature).map_err(|_| AttestationError::Signature)?;
        self.key.verify_strict(message, &signature).map_err(|_| AttestationError::Signature)
    }
}

impl Signer {
    /// Takes the secret seed of a key.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Signer(SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn key(&self) -> SignerKey {
        let key = self.0.verifying_key();
        SignerKey { key, id: Hash::of(&self.spki()) }
    }

    /// The public half as SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [SPKI_HEAD.as_slice(), self.0.verifying_key().as_bytes()].concat()
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.key().id)
    }
}
