//! Keys by their hash: who somebody is on the wire, whatever certificate says so today.
//! A [`KeyId`] is the lower-case hex SHA-256 of a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Characters of a key's id.
const KEY_ID_CHARS: usize = 64;
/// What comes before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, 4).
const ED25519_SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What comes before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410, 7).
const ED25519_PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The text is no key's id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a key's id has {KEY_ID_CHARS} lower-case hexadecimal digits")]
pub struct KeyIdError;

/// The id of a public key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id of a SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        KeyId(HEXLOWER.encode(&Sha256::digest(spki)))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyIdError;

    fn try_from(text: String) -> Result<Self, KeyIdError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == KEY_ID_CHARS && text.bytes().all(is_digit) {
            Ok(KeyId(text))
        } else {
            Err(KeyIdError)
        }
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyId({self})")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 public key.
#[must_use]
pub fn ed25519_spki(public: &[u8; 32]) -> Vec<u8> {
    [ED25519_SPKI_HEAD.as_slice(), public].concat()
}

/// The PKCS #8 of an Ed25519 seed.
pub(crate) fn ed25519_pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    [ED25519_PKCS8_HEAD.as_slice(), seed].concat()
}

/// The Ed25519 seed in a PKCS #8, if it is one in the form that we write.
pub(crate) fn ed25519_seed(pkcs8: &[u8]) -> Option<[u8; 32]> {
    pkcs8.strip_prefix(&ED25519_PKCS8_HEAD)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_hexadecimal_digits_are_an_id() {
        let id = KeyId::of_spki(b"key");
        assert_eq!(KeyId::try_from(id.as_str().to_owned()), Ok(id.clone()));
        for odd in
            ["", "00", &id.as_str().to_uppercase(), &format!("{id}0"), &id.as_str().replacen('2', "g", 1)]
        {
            assert_eq!(KeyId::try_from(odd.to_string()), Err(KeyIdError), "{odd}");
        }
    }
}
