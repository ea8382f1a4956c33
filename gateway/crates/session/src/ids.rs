//! Names: of a session, of a key, of a request as it will be carried out. Parsing is the only way in from outside.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// RFC 4648, section 6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SESSION_PREFIX: &str = "s-";
const SESSION_CHARS: usize = 12;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not `s-` and 12 characters.
    #[error("this is no session: write `s-` and its 12 characters, as `sekisho session list` shows them")]
    Session,
    /// Not 64 hexadecimal digits.
    #[error("this is no SHA-256: write its 64 lower-case hexadecimal digits")]
    Sha256,
}

/// The name of a session: `s-` and 12 lower-case base32 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// Makes a name of 60 of these random bits.
    #[must_use]
    pub fn from_random(random: [u8; 8]) -> Self {
        let bits = u64::from_be_bytes(random);
        let letter = |index: usize| {
            let five = usize::try_from((bits >> (index * 5)) & 31).unwrap_or_default();
            char::from(BASE32.get(five).copied().unwrap_or(b'a'))
        };
        SessionId(SESSION_PREFIX.chars().chain((0..SESSION_CHARS).map(letter)).collect())
    }

    /// Reads a name.
    ///
    /// # Errors
    /// Refuses everything that [`SessionId::from_random`] would not make.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix(SESSION_PREFIX).ok_or(IdError::Session)?;
        let fits = rest.len() == SESSION_CHARS && rest.bytes().all(|byte| BASE32.contains(&byte));
        fits.then(|| SessionId(text.to_owned())).ok_or(IdError::Session)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER: the identity of an engineer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 32]);

/// SHA-256 of a request as it will be carried out: what an approver saw is what he approves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl KeyId {
    /// The id of a key.
    #[must_use]
    pub fn of_spki(der: &[u8]) -> Self {
        KeyId(Sha256::digest(der).into())
    }
}

impl Digest {
    /// The digest of canonical bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
}

/// What both 32-byte names have in common: 64 lower-case hexadecimal digits.
macro_rules! hex_name {
    ($name:ident) => {
        impl $name {
            /// Takes the 32 bytes themselves.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                $name(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Reads 64 lower-case hexadecimal digits.
            ///
            /// # Errors
            /// Refuses every other text.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                from_hex(text).map($name).ok_or(IdError::Sha256)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                $name::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }
    };
}

hex_name!(KeyId);
hex_name!(Digest);

fn from_hex(text: &str) -> Option<[u8; 32]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SessionId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        SessionId::parse(&text)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_sixty_bits() {
        let id = SessionId::from_random([0xff; 8]);
        assert_eq!(id.as_str(), "s-777777777777");
        assert_eq!(SessionId::parse(id.as_str()), Ok(id));
        assert_ne!(SessionId::from_random([0; 8]), SessionId::from_random([0, 0, 0, 0, 0, 0, 0, 1]));
        for wrong in
            ["", "s-", "s-77777777777", "s-7777777777777", "f-777777777777", "s-77777777777A", "s-７７７７"]
        {
            assert_eq!(SessionId::parse(wrong), Err(IdError::Session), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_hash() {
        let id = KeyId::of_spki(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), hex);
        assert_eq!(KeyId::parse(hex), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{hex}\""));
        assert!(KeyId::parse(&hex.to_uppercase()).is_err());
        assert!(KeyId::parse(&hex[1..]).is_err());
        assert!(serde_json::from_str::<KeyId>("\"00\"").is_err());
    }
}
