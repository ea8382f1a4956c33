//! Names: of a transfer, and of bytes by their hash. Parsing is the only way in from outside.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// RFC 4648, section 6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const PREFIX: &str = "f-";
const CHARS: usize = 12;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not `f-` and 12 characters.
    #[error("this is no transfer: write `f-` and its 12 characters")]
    Transfer,
    /// Not 64 hexadecimal digits.
    #[error("this is no SHA-256: write its 64 lower-case hexadecimal digits")]
    Sha256,
}

/// The name of a transfer: `f-` and 12 lower-case base32 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TransferId(String);

/// SHA-256 of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl TransferId {
    /// Makes a name of 60 of these random bits.
    #[must_use]
    pub fn from_random(random: [u8; 8]) -> Self {
        let bits = u64::from_be_bytes(random);
        let letter = |index: usize| {
            let five = usize::try_from((bits >> (index * 5)) & 31).unwrap_or_default();
            char::from(BASE32.get(five).copied().unwrap_or(b'a'))
        };
        TransferId(PREFIX.chars().chain((0..CHARS).map(letter)).collect())
    }

    /// Reads a name.
    ///
    /// # Errors
    /// Refuses everything that [`TransferId::from_random`] would not make.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix(PREFIX).ok_or(IdError::Transfer)?;
        let fits = rest.len() == CHARS && rest.bytes().all(|byte| BASE32.contains(&byte));
        fits.then(|| TransferId(text.to_owned())).ok_or(IdError::Transfer)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Hash {
    /// The hash of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Hash(Sha256::digest(bytes).into())
    }

    /// Takes the 32 bytes themselves.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Hash(bytes)
    }

    /// Reads 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// Refuses every other text.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        from_hex(text).map(Hash).ok_or(IdError::Sha256)
    }
}

/// Reads lower-case hexadecimal digits, exactly as many as there is room for.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl TryFrom<String> for TransferId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        TransferId::parse(&text)
    }
}

impl From<TransferId> for String {
    fn from(id: TransferId) -> String {
        id.0
    }
}

impl TryFrom<String> for Hash {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Hash::parse(&text)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        let id = TransferId::from_random([0x5a; 8]);
        assert_eq!(TransferId::parse(id.as_str()), Ok(id));
        for wrong in [
            "",
            "f-",
            "f-11111111111a",
            "s-aaaaaaaaaaaa",
            "f-aaaaaaaaaaa",
            "f-aaaaaaaaaaaaa",
            "f-aaaaaaaaaaa/",
        ] {
            assert_eq!(TransferId::parse(wrong), Err(IdError::Transfer), "{wrong}");
        }
        let hash = Hash::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), hex);
        assert_eq!(Hash::parse(hex), Ok(hash));
        assert!(Hash::parse(&hex.to_uppercase()).is_err());
    }
}
