//! Any bytes: no panic, and no more than the limits allow.
#![no_main]

use inspect::{Limits, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { inflated_bytes: 4 << 20, steps: 200_000, pixels: 1 << 20, findings: 9, ..Limits::default() };
    let report = inspect(bytes, None, &limits);
    assert!(report.findings.len() <= 9);
    assert!(!report.types.is_empty());
});
