//! WireGuard's keys: Curve25519 points and scalars, written as base64 (wg(8)).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::TunnelError;

const KEY_BYTES: usize = 32;

/// Names a peer, or this gateway, to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// The secret half of a key; never printed, wiped when dropped.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; KEY_BYTES]>);

/// A secret that two peers share besides their keys; never printed, wiped when dropped.
#[derive(Clone)]
pub struct PresharedKey(Zeroizing<[u8; KEY_BYTES]>);

impl PublicKey {
    /// Takes the bytes of a key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Gives the bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    pub(crate) fn point(self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl PrivateKey {
    /// Makes a key from the kernel's randomness.
    /// # Errors
    /// Fails when the kernel has none to give.
    pub fn generate() -> Result<Self, TunnelError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Takes the bytes of a key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Gives the bytes of the key, to be kept where nobody else reads.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Gives the half that others may know.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(*x25519::PublicKey::from(&self.scalar()).as_bytes())
    }

    pub(crate) fn scalar(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(*self.0)
    }
}

impl PresharedKey {
    /// Takes the bytes of a key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Gives the bytes of the key.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl PartialEq for PresharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl FromStr for PublicKey {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self, TunnelError> {
        decode(text).map(|bytes| Self(*bytes)).ok_or_else(|| TunnelError::Key { text: text.to_owned() })
    }
}

impl FromStr for PrivateKey {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self, TunnelError> {
        // A secret with a slip in it is still most of a secret, so the message does not repeat it.
        decode(text).map(Self).ok_or_else(|| TunnelError::Key { text: "(a private key)".to_owned() })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

fn decode(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = STANDARD.decode(text).ok()?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new);
    bytes.zeroize();
    key
}

/// Fills a buffer from the kernel's randomness.
pub(crate) fn fill_random(mut bytes: &mut [u8]) -> Result<(), TunnelError> {
    while !bytes.is_empty() {
        let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(TunnelError::io("read randomness"))?;
        bytes = bytes.get_mut(filled..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_a_slip_is_refused() {
        // The vector of RFC 7748, section 6.1: Alice's keys.
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = PrivateKey::from_bytes(private).public();
        assert_eq!(public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        for wrong in
            ["", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm==", "x", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066Sp"]
        {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", PrivateKey::from_bytes(private)), "PrivateKey(..)");
    }
}
