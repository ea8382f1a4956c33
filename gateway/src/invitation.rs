//! The one-time code by which an engineer enrols: `SKV1-` and base32 (RFC 4648) of 16 secret bytes and 16 bytes of the
//! SHA-256 of the clinic's maintenance authority's key, in groups of four.
//!
//! From the secret both sides derive the Ed25519 seed of a one-time client key (HKDF-SHA256, RFC 5869): the gateway keeps
//! only the id of its public half, the engineer proves by it that he has the code, and knows by the pin that he speaks
//! with this clinic and no other.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::wire::doors::KeyId;

/// Bytes of the secret.
pub const SECRET_BYTES: usize = 16;
/// Bytes of the pin.
pub const PIN_BYTES: usize = 16;
const PREFIX: &str = "SKV1";
const GROUP_CHARS: usize = 4;
/// Letters of base32 that 32 bytes take.
const LETTERS: usize = 52;
const INFO: &[u8] = b"sekisho-invitation-1";
/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410, section 4).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "this is no enrolment code: type it as the clinic gave it, `SKV1-` and 13 groups of 4 letters or digits"
)]
pub struct CodeError;

/// A code.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationCode {
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    pin: [u8; PIN_BYTES],
}

impl fmt::Debug for InvitationCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InvitationCode(..)")
    }
}

impl InvitationCode {
    /// A code out of a random secret, for the authority with this key (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn new(secret: [u8; SECRET_BYTES], authority_spki: &[u8]) -> Self {
        InvitationCode { secret: Zeroizing::new(secret), pin: pin(authority_spki) }
    }

    /// Reads what somebody typed: case, blanks and hyphens do not matter, and 0, 1 and 8 are taken for the letters that
    /// base32 has in their place.
    ///
    /// # Errors
    /// When it is no code.
    pub fn parse(typed: &str) -> Result<Self, CodeError> {
        let plain: String =
            typed.chars().filter(|c| !c.is_whitespace() && *c != '-').take(LETTERS * 2).collect();
        let rest = plain.to_ascii_uppercase();
        let rest = rest.strip_prefix(PREFIX).ok_or(CodeError)?;
        let letters: String = rest
            .chars()
            .map(|c| match c {
                '0' => 'O',
                '1' => 'I',
                '8' => 'B',
                other => other,
            })
            .collect();
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(letters.as_bytes()).map_err(|_| CodeError)?);
        let (secret, pin) = bytes.split_at_checked(SECRET_BYTES).ok_or(CodeError)?;
        let secret = <[u8; SECRET_BYTES]>::try_from(secret).map_err(|_| CodeError)?;
        Ok(InvitationCode { secret: Zeroizing::new(secret), pin: pin.try_into().map_err(|_| CodeError)? })
    }

    /// The code as it is handed over.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([self.secret.as_slice(), self.pin.as_slice()].concat());
        let letters = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
        let mut text = Zeroizing::new(PREFIX.to_owned());
        for (index, letter) in letters.chars().enumerate() {
            if index % GROUP_CHARS == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        text
    }

    /// The one-time key.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        let mut seed = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes, and this asks for 32")]
        Hkdf::<Sha256>::new(None, self.secret.as_slice()).expand(INFO, seed.as_mut()).expect("32 bytes");
        SigningKey::from_bytes(&seed)
    }

    /// The id of the one-time key, which is all that the gateway keeps.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let public = self.key().verifying_key();
        KeyId::of_spki(&[ED25519_PREFIX.as_slice(), public.as_bytes()].concat())
    }

    /// Whether the code was made by the clinic whose maintenance authority has this key (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn is_of(&self, authority_spki: &[u8]) -> bool {
        self.pin == pin(authority_spki)
    }
}

fn pin(authority_spki: &[u8]) -> [u8; PIN_BYTES] {
    let hash: [u8; 32] = Sha256::digest(authority_spki).into();
    let mut pin = [0; PIN_BYTES];
    pin.iter_mut().zip(hash).for_each(|(place, byte)| *place = byte);
    pin
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_typed_back_however_it_was_read() {
        let code = InvitationCode::new([7; SECRET_BYTES], b"authority");
        let text = code.text();
        assert!(text.starts_with("SKV1-") && text.len() == 4 + 13 * 5, "{}", text.as_str());
        assert_eq!(InvitationCode::parse(&text), Ok(code.clone()));
        let sloppy =
            format!(" {} ", text.to_lowercase().replace('-', "  ").replace('o', "0").replace('i', "1"));
        assert_eq!(InvitationCode::parse(&sloppy), Ok(code.clone()));
        assert!(code.is_of(b"authority") && !code.is_of(b"another"));
        for wrong in ["", "SKV1", "SKV2-AAAA", &text[..text.len() - 1], &format!("{}A", text.as_str())] {
            assert_eq!(InvitationCode::parse(wrong), Err(CodeError), "{wrong}");
        }
    }

    #[test]
    fn the_key_depends_on_the_secret_alone() {
        let id = |secret, authority: &[u8]| InvitationCode::new([secret; SECRET_BYTES], authority).key_id();
        assert_eq!(id(1, b"a"), id(1, b"b"));
        assert_ne!(id(1, b"a"), id(2, b"a"));
        assert!(!format!("{:?}", InvitationCode::new([7; SECRET_BYTES], b"a")).contains('7'));
    }

    proptest! {
        #[test]
        fn any_text_is_a_code_or_an_error(text in ".{0,120}") {
            let _ = InvitationCode::parse(&text);
        }
    }
}
