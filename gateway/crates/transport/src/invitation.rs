//! The code that a clinic gives to one engineer, once: a secret for the client, and what the gateway is known by.
//!
//! `SKV1-` and base32 (RFC 4648) of 16 secret bytes and the first 16 bytes of the SHA-256 of the SubjectPublicKeyInfo of
//! the clinic's maintenance CA, in groups of four. Both sides derive an Ed25519 key from the secret by HKDF-SHA256 (RFC
//! 5869) with the info `sekisho-invitation-1`; the gateway keeps that key's id only.

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::key::{KeyId, ed25519_pkcs8, ed25519_spki};

/// What every code begins with.
const HEAD: &str = "SKV1";
const INFO: &[u8] = b"sekisho-invitation-1";
/// Bytes of the secret, and of the authority's hash.
pub const SECRET_BYTES: usize = 16;
/// Characters of a group.
const GROUP_CHARS: usize = 4;
/// Longest text looked at.
const TEXT_BYTES_MAX: usize = 128;

/// Why a text is no invitation.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvitationError {
    /// It is another thing.
    #[error("an invitation code begins with `{HEAD}-`: copy all of it")]
    Head,
    /// It is damaged.
    #[error(
        "the invitation code is not complete or mistyped: it has 52 letters and digits (A to Z, 2 to 7) after `{HEAD}-`"
    )]
    Damaged,
}

/// By what the gateway's authority is known: the first bytes of the SHA-256 of its SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityHash(pub [u8; SECRET_BYTES]);

impl AuthorityHash {
    /// The hash of a SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut hash = [0; SECRET_BYTES];
        hash.iter_mut().zip(Sha256::digest(spki)).for_each(|(to, from)| *to = from);
        AuthorityHash(hash)
    }
}

/// An invitation. Whoever holds it may have one key certified.
pub struct Invitation {
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    authority: AuthorityHash,
}

impl Invitation {
    /// An invitation with these secret random bytes, to the gateway with this authority (its SubjectPublicKeyInfo).
    #[must_use]
    pub fn new(secret: [u8; SECRET_BYTES], authority_spki: &[u8]) -> Self {
        Invitation { secret: Zeroizing::new(secret), authority: AuthorityHash::of_spki(authority_spki) }
    }

    /// Reads a code; case, blanks and dashes do not matter, and 0, 1 and 8 are taken for the letters that base32 has in
    /// their place.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvitationError::Damaged);
        }
        let plain: Zeroizing<String> = Zeroizing::new(
            text.chars()
                .filter(|c| *c != '-' && !c.is_whitespace())
                .map(|c| c.to_ascii_uppercase())
                .collect(),
        );
        let body = plain.strip_prefix(HEAD).ok_or(InvitationError::Head)?;
        let body = Zeroizing::new(body.replace('0', "O").replace('1', "I").replace('8', "B"));
        let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| InvitationError::Damaged)?;
        let bytes = Zeroizing::new(bytes);
        let (secret, authority) = bytes.split_at_checked(SECRET_BYTES).ok_or(InvitationError::Damaged)?;
        let secret = <[u8; SECRET_BYTES]>::try_from(secret).map_err(|_| InvitationError::Damaged)?;
        let authority = <[u8; SECRET_BYTES]>::try_from(authority).map_err(|_| InvitationError::Damaged)?;
        Ok(Invitation { secret: Zeroizing::new(secret), authority: AuthorityHash(authority) })
    }

    /// The code, to be told to the engineer.
    #[must_use]
    pub fn code(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([self.secret.as_slice(), &self.authority.0].concat());
        let plain = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
        let mut code = Zeroizing::new(String::from(HEAD));
        for (at, letter) in plain.chars().enumerate() {
            if at % GROUP_CHARS == 0 {
                code.push('-');
            }
            code.push(letter);
        }
        code
    }

    /// By what the gateway is known.
    #[must_use]
    pub fn authority(&self) -> AuthorityHash {
        self.authority
    }

    /// The one-time key's public half, as SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        ed25519_spki(SigningKey::from_bytes(&self.seed()).verifying_key().as_bytes())
    }

    /// The id of the one-time key: all that the gateway needs to keep.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::of_spki(&self.spki())
    }

    /// The one-time key.
    pub(crate) fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        ed25519_pkcs8(&self.seed()).into()
    }

    fn seed(&self) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        // HKDF refuses only outputs of more than 255 hashes.
        if Hkdf::<Sha256>::new(None, self.secret.as_slice()).expand(INFO, seed.as_mut_slice()).is_err() {
            seed.zeroize();
        }
        seed
    }
}

/// The secret is not for logs.
impl std::fmt::Debug for Invitation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Invitation").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_read_back_however_it_is_typed() {
        let invitation = Invitation::new([7; SECRET_BYTES], b"authority");
        let code = invitation.code();
        assert!(code.starts_with("SKV1-A4DQ-"), "{}", *code);
        assert_eq!(code.len(), 4 + 13 * 5);
        for typed in [code.to_string(), code.to_lowercase(), code.replace('-', " "), code.replace('-', "")] {
            let read = Invitation::parse(&typed).unwrap();
            assert_eq!((read.key_id(), read.authority()), (invitation.key_id(), invitation.authority()));
        }
        assert!(!format!("{invitation:?}").contains('7'.to_string().repeat(2).as_str()));
    }

    #[test]
    fn other_texts_are_refused() {
        let code = Invitation::new([7; SECRET_BYTES], b"authority").code();
        for (text, error) in [
            ("", InvitationError::Head),
            ("SKV2-AAAA", InvitationError::Head),
            ("SKV1-", InvitationError::Damaged),
            (&code[..code.len() - 1], InvitationError::Damaged),
            (&format!("{}A", *code), InvitationError::Damaged),
            (&code.replace('A', "9"), InvitationError::Damaged),
            (&"SKV1-".repeat(100), InvitationError::Damaged),
        ] {
            assert_eq!(Invitation::parse(text).unwrap_err(), error, "{text}");
        }
    }

    /// Computed with OpenSSL: `openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0707.. -kdfopt
    /// info:sekisho-invitation-1 HKDF`, then the public key of that seed.
    #[test]
    fn the_key_is_the_one_that_others_derive() {
        let seed = Invitation::new([7; SECRET_BYTES], b"").seed();
        assert_eq!(data_encoding::HEXLOWER.encode(seed.as_slice()), EXPECTED_SEED);
    }
    const EXPECTED_SEED: &str = "eebabcb902aa3a66b62bc8f447fab904d6c64e12c1946b01d3ecf8e3f67c940d";

    proptest! {
        #[test]
        fn any_text_is_an_invitation_or_an_error(text in "\\PC{0,150}") {
            let _ = Invitation::parse(&text);
        }
    }
}
