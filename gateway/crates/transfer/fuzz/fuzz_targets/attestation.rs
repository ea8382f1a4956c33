//! Any text as an envelope: without the key none is ever taken.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use transfer::attestation::{Expected, Signer, Spent, verify};
use transfer::{FileName, Hash};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(name) = FileName::parse("a.pdf") else { return };
    let key = Signer::from_seed(&[7; 32]).key();
    let expected =
        Expected { name: &name, size_bytes: 1, sha256: Hash::of(b"x"), site: "s", session: "s-abcdefghijkl" };
    assert!(verify(text, &key, &expected, &mut Spent::default(), Timestamp::UNIX_EPOCH).is_err());
});
