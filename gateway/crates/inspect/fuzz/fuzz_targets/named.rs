//! A name, and text under it: what a name and a text say never makes the verdict milder than the text alone.
#![no_main]

use inspect::{Limits, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, Vec<u8>)| {
    let (name, bytes) = input;
    let limits = Limits { inflated_bytes: 4 << 20, steps: 200_000, pixels: 1 << 20, ..Limits::default() };
    let report = inspect(&bytes, Some(&name), &limits);
    let shown = |text: &str| !text.contains(char::is_control);
    assert!(report.findings.iter().all(|finding| shown(&finding.at) && shown(&finding.detail)));
});
