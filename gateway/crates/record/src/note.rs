//! Signed notes (C2SP signed-note) with one Ed25519 key, and the key strings of Go's `sumdb/note`.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest note that is read.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Most signatures of a note that are looked at.
const SIGNATURES_MAX: usize = 32;
/// Signature type: Ed25519 over the text.
const ED25519: u8 = 1;
/// Begins a signature line.
const DASH: &str = "\u{2014} ";
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const SECRET_HEAD: &str = "PRIVATE+KEY+";

/// Why a key or a note is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// The key string is not `NAME+HASH+BASE64` of an Ed25519 key.
    #[error("the key is not of the form NAME+HASH+BASE64, or its hash does not belong to it")]
    Key,
    /// The name holds what separates, or nothing.
    #[error("the key name `{0}` is empty or holds a space or a plus sign")]
    Name(String),
    /// The bytes are no note.
    #[error("it is not a signed note")]
    Malformed,
    /// The key did not sign it.
    #[error("it is not signed by the key `{0}`")]
    Unsigned(String),
    /// A signature says that it is by the key, and is not.
    #[error("its signature by the key `{0}` is wrong")]
    Forged(String),
}

/// The public half of a key, with its name.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

/// A key that signs notes.
#[derive(Clone)]
pub struct NoteSigner {
    name: String,
    key: SigningKey,
}

impl VerifierKey {
    /// Reads `NAME+HASH+BASE64`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let key = VerifyingKey::from_bytes(&typed_key(key)?).map_err(|_| NoteError::Key)?;
        let parsed = VerifierKey { name: checked_name(name)?.to_owned(), key };
        if hash != format!("{:08x}", parsed.id()) {
            return Err(NoteError::Key);
        }
        Ok(parsed)
    }

    /// Gives the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the first bytes of the key's hash, by which a signature line names it.
    #[must_use]
    pub fn id(&self) -> u32 {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize()
            .into();
        let [a, b, c, d, ..] = hash;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Gives the text of a note that this key has signed. Signatures of others are ignored.
    ///
    /// # Errors
    /// When it is no note, or this key did not sign it.
    pub fn open<'a>(&self, note: &'a [u8]) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut is_signed = false;
        for line in signatures {
            let (name, id, signature) = signature_line(line)?;
            if name != self.name || id != self.id() {
                continue;
            }
            let forged = || NoteError::Forged(self.name.clone());
            let bytes: [u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| forged())?;
            let signature = Signature::from_bytes(&bytes);
            self.key.verify_strict(text.as_bytes(), &signature).map_err(|_| forged())?;
            is_signed = true;
        }
        if is_signed { Ok(text) } else { Err(NoteError::Unsigned(self.name.clone())) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id(), typed_text(self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl NoteSigner {
    /// Makes a key from 32 random bytes.
    ///
    /// # Errors
    /// When the name cannot be a key's.
    pub fn from_seed(name: &str, seed: [u8; KEY_BYTES]) -> Result<Self, NoteError> {
        Ok(NoteSigner { name: checked_name(name)?.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// Reads `PRIVATE+KEY+NAME+HASH+BASE64`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.strip_prefix(SECRET_HEAD).ok_or(NoteError::Key)?.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let signer = NoteSigner::from_seed(name, typed_key(key)?)?;
        if hash != format!("{:08x}", signer.verifier().id()) {
            return Err(NoteError::Key);
        }
        Ok(signer)
    }

    /// Gives the key as it is kept: a secret.
    #[must_use]
    pub fn secret_text(&self) -> String {
        let id = self.verifier().id();
        format!("{SECRET_HEAD}{}+{id:08x}+{}", self.name, typed_text(self.key.as_bytes()))
    }

    /// Gives the public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs a text, which ends in a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.verifier().id().to_be_bytes().to_vec();
        signature.extend(self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n{DASH}{} {}\n", self.name, BASE64_STANDARD.encode(signature))
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({:?})", self.verifier())
    }
}

/// The text of a note, and its signature lines.
fn split(note: &[u8]) -> Result<(&str, Vec<&str>), NoteError> {
    let is_short = note.len() <= NOTE_BYTES_MAX;
    let whole = std::str::from_utf8(note).ok().filter(|_| is_short).ok_or(NoteError::Malformed)?;
    if whole.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed);
    }
    let gap = whole.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, rest) = whole.split_at_checked(gap + 1).ok_or(NoteError::Malformed)?;
    let lines =
        rest.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n')).ok_or(NoteError::Malformed)?;
    let lines: Vec<&str> = lines.split('\n').collect();
    if lines.len() > SIGNATURES_MAX {
        return Err(NoteError::Malformed);
    }
    Ok((text, lines))
}

/// Name, key id and signature of a signature line.
fn signature_line(line: &str) -> Result<(&str, u32, Vec<u8>), NoteError> {
    let (name, encoded) =
        line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or(NoteError::Malformed)?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| NoteError::Malformed)?;
    let (id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteError::Malformed)?;
    if signature.is_empty() || checked_name(name).is_err() {
        return Err(NoteError::Malformed);
    }
    Ok((name, u32::from_be_bytes(*id), signature.to_vec()))
}

fn checked_name(name: &str) -> Result<&str, NoteError> {
    let is_bad = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    if is_bad { Err(NoteError::Name(name.to_owned())) } else { Ok(name) }
}

fn typed_key(text: &str) -> Result<[u8; KEY_BYTES], NoteError> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| NoteError::Key)?;
    match bytes.split_first() {
        Some((&ED25519, key)) => key.try_into().map_err(|_| NoteError::Key),
        _ => Err(NoteError::Key),
    }
}

fn typed_text(key: &[u8; KEY_BYTES]) -> String {
    let mut bytes = vec![ED25519];
    bytes.extend(key);
    BASE64_STANDARD.encode(bytes)
}
