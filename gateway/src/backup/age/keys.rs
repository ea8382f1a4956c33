//! Keys as people hold them (C2SP age, "The X25519 recipient type"): `age1..` and `AGE-SECRET-KEY-1..`, in bech32.

use std::fmt;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{AgeError, random};

const RECIPIENT: &str = "age";
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// The public half of a key: what is sealed to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(pub(super) PublicKey);

/// The secret half of a key: what opens; never shown.
#[derive(Clone)]
pub struct Identity(pub(super) StaticSecret);

impl Recipient {
    /// Reads `age1..`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, AgeError> {
        let key = (text.starts_with("age1")).then(|| decode(text, RECIPIENT)).flatten();
        let key = key.ok_or_else(|| AgeError::Recipient(text.chars().take(80).collect()))?;
        Ok(Recipient(PublicKey::from(*key)))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_to_fmt::<Bech32, _>(
            f,
            Hrp::parse(RECIPIENT).map_err(|_| fmt::Error)?,
            self.0.as_bytes(),
        )
        .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Identity {
    /// Makes a key.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub fn generate() -> Result<Self, AgeError> {
        Ok(Identity(StaticSecret::from(random::<32>()?)))
    }

    /// Reads `AGE-SECRET-KEY-1..`, nothing for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = text.starts_with(IDENTITY).then(|| decode(text, IDENTITY)).flatten()?;
        Some(Identity(StaticSecret::from(*key)))
    }

    /// Reads a file of identities as `age-keygen` writes it: one a line, empty lines and comments between.
    ///
    /// # Errors
    /// For a line that is none of these, no identity, or too many.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, AgeError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<_>, _> =
            lines.map(|(number, line)| Identity::parse(line).ok_or(AgeError::Identity(number))).collect();
        keys.and_then(|keys| {
            let fits = (1..=super::KEYS_MAX).contains(&keys.len());
            if fits { Ok(keys) } else { Err(AgeError::KeyCount) }
        })
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity of {}", self.recipient())
    }
}

fn decode(text: &str, kind: &str) -> Option<Zeroizing<[u8; 32]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    if checked.hrp() != Hrp::parse(kind).ok()? {
        return None;
    }
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(checked.byte_iter().collect());
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}
