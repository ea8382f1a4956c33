//! The age file format, version 1 (C2SP age, age-encryption.org/v1): sealing to X25519 keys or a passphrase, in memory.
//! What is sealed here opens with any age implementation, so a backup does not depend on this program.
//!
//! The crate `age` is not used: it brings 139 crates, and second versions of what signs the log. The primitives are
//! RustCrypto's and dalek's; here is only how the format puts them together.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

mod header;
mod keys;
mod stream;
#[cfg(test)]
mod tests;
mod wrap;

pub use keys::{Identity, Recipient};

/// Longest file that is opened or made.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Fewest characters of a passphrase that is sealed with.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
/// Most keys that a file is sealed to, and most that are tried.
pub const KEYS_MAX: usize = 16;
const FILE_KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;

type FileKey = Zeroizing<[u8; FILE_KEY_BYTES]>;
type Derived = Zeroizing<[u8; 32]>;

/// What a file is sealed to.
#[derive(Debug)]
pub enum Lock {
    /// Anybody who has one of the keys.
    Recipients(Vec<Recipient>),
    /// Anybody who knows the words.
    Passphrase(Passphrase),
}

/// What a file is opened with.
#[derive(Debug)]
pub enum Opener {
    /// Keys, tried one after another.
    Identities(Vec<Identity>),
    /// The words.
    Passphrase(Passphrase),
}

/// Words that only people know; never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes the words.
    #[must_use]
    pub fn new(words: String) -> Self {
        Passphrase(Zeroizing::new(words))
    }

    fn is_long_enough(&self) -> bool {
        self.0.chars().count() >= PASSPHRASE_CHARS_MIN
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Why a file cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AgeError {
    /// Not the format, or another version of it.
    #[error("it is not an age file of version 1")]
    NotAge,
    /// The header is not as the format wants it.
    #[error("its header is damaged: {0}")]
    Header(&'static str),
    /// The header is not the one that was written.
    #[error("its header was changed")]
    Changed,
    /// None of the keys fits.
    #[error("it is sealed to another key")]
    NoMatch,
    /// A key was given and a passphrase is needed.
    #[error("it is sealed with a passphrase: give it with --passphrase-file")]
    NeedsPassphrase,
    /// A passphrase was given and a key is needed.
    #[error("it is sealed to a key: give the key with --identity")]
    NeedsIdentity,
    /// The passphrase is not the one.
    #[error("the passphrase is not the one that it was sealed with")]
    WrongPassphrase,
    /// Trying would take too much memory.
    #[error("its passphrase was stretched 2^{0} times, which would take too much memory here")]
    WorkFactor(u8),
    /// What is sealed is not what was written, or a part is missing.
    #[error("what is sealed in it is damaged, or its end is missing")]
    Payload,
    /// Nothing to seal to, or too much.
    #[error("give 1 to {KEYS_MAX} keys")]
    KeyCount,
    /// The passphrase is too easy to guess.
    #[error("the passphrase is shorter than {PASSPHRASE_CHARS_MIN} characters")]
    ShortPassphrase,
    /// A key is none.
    #[error("`{0}` is not an age key (age1..)")]
    Recipient(String),
    /// An identity is none; what it was is a secret.
    #[error("line {0} is not an age identity (AGE-SECRET-KEY-1..)")]
    Identity(usize),
    /// The kernel or a cipher gave an error that they never give.
    #[error("the random numbers or the cipher failed")]
    Engine,
}

/// Seals bytes.
///
/// # Errors
/// When there is nothing to seal to, or the passphrase is too short.
pub fn seal(plain: &[u8], lock: &Lock) -> Result<Vec<u8>, AgeError> {
    let file_key: FileKey = Zeroizing::new(random()?);
    let stanzas = match lock {
        Lock::Recipients(keys) if keys.is_empty() || keys.len() > KEYS_MAX => return Err(AgeError::KeyCount),
        Lock::Recipients(keys) => {
            keys.iter().map(|key| wrap::to_recipient(&file_key, key)).collect::<Result<Vec<_>, _>>()?
        }
        Lock::Passphrase(words) if !words.is_long_enough() => return Err(AgeError::ShortPassphrase),
        Lock::Passphrase(words) => vec![wrap::to_passphrase(&file_key, &words.0)?],
    };
    let mut out = header::encode(&stanzas);
    let mac = header_mac(&file_key, &out)?.finalize().into_bytes();
    header::push_mac(&mut out, &mac);
    let nonce: [u8; NONCE_BYTES] = random()?;
    out.extend(nonce);
    stream::seal(&mut out, plain, &payload_key(&file_key, &nonce)?)?;
    Ok(out)
}

/// Opens a sealed file. Nothing of it is given away before all of it was found whole.
///
/// # Errors
/// When it is not whole, or is sealed to somebody else.
pub fn open(bytes: &[u8], opener: &Opener) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let header = header::parse(bytes)?;
    let file_key = wrap::file_key(&header.stanzas, opener)?;
    header_mac(&file_key, header.signed)?.verify_slice(&header.mac).map_err(|_| AgeError::Changed)?;
    let (nonce, sealed) = header.payload.split_first_chunk().ok_or(AgeError::Header("it ends with it"))?;
    stream::open(sealed, &payload_key(&file_key, nonce)?)
}

fn header_mac(file_key: &FileKey, signed: &[u8]) -> Result<Hmac<Sha256>, AgeError> {
    let key = derive(file_key.as_slice(), None, b"header")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).map_err(|_| AgeError::Engine)?;
    mac.update(signed);
    Ok(mac)
}

fn payload_key(file_key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> Result<Derived, AgeError> {
    derive(file_key.as_slice(), Some(nonce), b"payload")
}

/// HKDF-SHA-256 (RFC 5869), 32 bytes.
fn derive(secret: &[u8], salt: Option<&[u8]>, info: &[u8]) -> Result<Derived, AgeError> {
    let mut key = Derived::default();
    Hkdf::<Sha256>::new(salt, secret).expand(info, key.as_mut_slice()).map_err(|_| AgeError::Engine)?;
    Ok(key)
}

fn cipher(key: &Derived) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&Key::from(**key))
}

fn encrypt(key: &Derived, nonce: [u8; 12], plain: &[u8]) -> Result<Vec<u8>, AgeError> {
    cipher(key).encrypt(&Nonce::from(nonce), plain).map_err(|_| AgeError::Engine)
}

/// Nothing when the bytes are not what the key sealed.
fn decrypt(key: &Derived, nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    cipher(key).decrypt(&Nonce::from(nonce), sealed).ok().map(Zeroizing::new)
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> Result<[u8; N], AgeError> {
    let mut bytes = [0; N];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let got = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty());
        at += got.map_err(|_| AgeError::Engine)?;
    }
    Ok(bytes)
}
