//! The file key, wrapped for a key (X25519 stanza) or a passphrase (scrypt stanza); other stanzas are passed over, as
//! the format wants it.

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::header::{Stanza, base64, decode};
use super::{AgeError, Derived, FileKey, Identity, Opener, Recipient, decrypt, derive, encrypt, random};

const X25519: &str = "X25519";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SCRYPT: &str = "scrypt";
const SCRYPT_SALT: &[u8] = b"age-encryption.org/v1/scrypt";
const SCRYPT_SALT_BYTES: usize = 16;
/// 128 MiB and about half a second on a small gateway.
const WORK_FACTOR: u8 = 17;
/// What other programs use by default, and 256 MiB: more is refused, so that a file cannot exhaust the gateway.
const WORK_FACTOR_MAX: u8 = 18;
/// A file key and its tag.
const WRAPPED_BYTES: usize = 32;
/// Each wrapping key is used once.
const NONCE: [u8; 12] = [0; 12];

pub(super) fn to_recipient(file_key: &FileKey, recipient: &Recipient) -> Result<Stanza, AgeError> {
    let ephemeral = StaticSecret::from(random::<32>()?);
    let share = PublicKey::from(&ephemeral);
    let key = x25519_key(&ephemeral, &recipient.0, &share, &recipient.0)?;
    Ok(Stanza {
        words: vec![X25519.to_owned(), base64(share.as_bytes())],
        body: encrypt(&key, NONCE, file_key.as_slice())?,
    })
}

pub(super) fn to_passphrase(file_key: &FileKey, words: &str) -> Result<Stanza, AgeError> {
    let salt: [u8; SCRYPT_SALT_BYTES] = random()?;
    let key = scrypt_key(words, &salt, WORK_FACTOR)?;
    Ok(Stanza {
        words: vec![SCRYPT.to_owned(), base64(&salt), WORK_FACTOR.to_string()],
        body: encrypt(&key, NONCE, file_key.as_slice())?,
    })
}

/// Finds the file key.
pub(super) fn file_key(stanzas: &[Stanza], opener: &Opener) -> Result<FileKey, AgeError> {
    // Every stanza is looked at before any is tried: a malformed one spoils the file wherever it stands.
    let ways = stanzas.iter().map(way).collect::<Result<Vec<_>, _>>()?;
    let by_words = ways.iter().flatten().any(|way| matches!(way, Way::Words { .. }));
    if by_words && stanzas.len() > 1 {
        return Err(AgeError::Header("a passphrase does not stand alone"));
    }
    match opener {
        Opener::Identities(_) if by_words => Err(AgeError::NeedsPassphrase),
        Opener::Passphrase(_) if !by_words => Err(AgeError::NeedsIdentity),
        Opener::Identities(keys) => {
            for way in ways.iter().flatten() {
                for key in keys {
                    if let Some(found) = try_identity(way, key)? {
                        return Ok(found);
                    }
                }
            }
            Err(AgeError::NoMatch)
        }
        Opener::Passphrase(words) => {
            let found = ways.iter().flatten().next().map(|way| try_words(way, &words.0)).transpose()?;
            found.flatten().ok_or(AgeError::WrongPassphrase)
        }
    }
}

enum Way<'a> {
    Key { share: PublicKey, body: &'a [u8] },
    Words { salt: [u8; SCRYPT_SALT_BYTES], work_factor: u8, body: &'a [u8] },
}

/// What a stanza offers; nothing for a kind that is not known here.
fn way(stanza: &Stanza) -> Result<Option<Way<'_>>, AgeError> {
    let malformed = AgeError::Header("a stanza is malformed");
    let words: Vec<&str> = stanza.words.iter().map(String::as_str).collect();
    let body = stanza.body.as_slice();
    let found = match words.as_slice() {
        [X25519, share] => sized(share).map(|share: [u8; 32]| Way::Key { share: share.into(), body }),
        [SCRYPT, salt, factor] => sized(salt)
            .zip(work_factor(factor))
            .map(|(salt, work_factor)| Way::Words { salt, work_factor, body }),
        [X25519 | SCRYPT, ..] => None,
        _ => return Ok(None),
    };
    found.filter(|_| body.len() == WRAPPED_BYTES).ok_or(malformed).map(Some)
}

fn sized<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

fn work_factor(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

fn try_identity(way: &Way<'_>, identity: &Identity) -> Result<Option<FileKey>, AgeError> {
    let Way::Key { share, body } = way else { return Ok(None) };
    let key = x25519_key(&identity.0, share, share, &identity.recipient().0)?;
    Ok(unwrap_key(&key, body))
}

fn try_words(way: &Way<'_>, words: &str) -> Result<Option<FileKey>, AgeError> {
    let Way::Words { salt, work_factor, body } = way else { return Ok(None) };
    if *work_factor > WORK_FACTOR_MAX {
        return Err(AgeError::WorkFactor(*work_factor));
    }
    Ok(unwrap_key(&scrypt_key(words, salt, *work_factor)?, body))
}

fn unwrap_key(key: &Derived, body: &[u8]) -> Option<FileKey> {
    let plain = decrypt(key, NONCE, body)?;
    plain.as_slice().try_into().ok().map(Zeroizing::new)
}

fn x25519_key(
    secret: &StaticSecret,
    other: &PublicKey,
    share: &PublicKey,
    recipient: &PublicKey,
) -> Result<Derived, AgeError> {
    let shared = secret.diffie_hellman(other);
    if !shared.was_contributory() {
        return Err(AgeError::Header("a share is of low order"));
    }
    let salt: Vec<u8> = share.as_bytes().iter().chain(recipient.as_bytes()).copied().collect();
    derive(shared.as_bytes(), Some(&salt), X25519_INFO)
}

fn scrypt_key(words: &str, salt: &[u8], work_factor: u8) -> Result<Derived, AgeError> {
    let params = scrypt::Params::new(work_factor, 8, 1).map_err(|_| AgeError::Engine)?;
    let salt: Vec<u8> = SCRYPT_SALT.iter().chain(salt).copied().collect();
    let mut key = Derived::default();
    scrypt::scrypt(words.as_bytes(), &salt, &params, key.as_mut_slice()).map_err(|_| AgeError::Engine)?;
    Ok(key)
}
