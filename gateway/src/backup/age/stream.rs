//! The payload (C2SP age, section "Payload"): STREAM of ChaCha20-Poly1305 in chunks of 64 KiB; the last one says that it
//! is the last.

use zeroize::Zeroizing;

use super::{AgeError, Derived, decrypt, encrypt};

const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;

pub(super) fn seal(out: &mut Vec<u8>, plain: &[u8], key: &Derived) -> Result<(), AgeError> {
    let mut rest = plain;
    for counter in 0.. {
        let (chunk, after) = rest.split_at_checked(CHUNK_BYTES).unwrap_or((rest, &[]));
        let last = after.is_empty();
        out.extend(encrypt(key, nonce(counter, last), chunk)?);
        if last {
            break;
        }
        rest = after;
    }
    Ok(())
}

pub(super) fn open(sealed: &[u8], key: &Derived) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    // All at once, so that no part of it stays behind in memory when it grows.
    let mut out = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let mut rest = sealed;
    for counter in 0.. {
        let (chunk, after) = rest.split_at_checked(CHUNK_BYTES + TAG_BYTES).unwrap_or((rest, &[]));
        let last = after.is_empty();
        let plain = decrypt(key, nonce(counter, last), chunk).ok_or(AgeError::Payload)?;
        if last && plain.is_empty() && counter > 0 {
            return Err(AgeError::Payload);
        }
        out.extend_from_slice(&plain);
        if last {
            break;
        }
        rest = after;
    }
    Ok(out)
}

fn nonce(counter: u64, last: bool) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_be_bytes();
    [0, 0, 0, a, b, c, d, e, f, g, h, u8::from(last)]
}
