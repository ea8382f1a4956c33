//! Files that a vendor sends, and what he says of them.

use std::path::{Component, Path};

use inspect::{Limits, inspect};
use jiff::Timestamp;
use transfer::attestation::{Expected, Signer, Spent, verify};
use transfer::{FileName, Hash};

/// Small limits, so that a fuzzer tries many files.
fn limits() -> Limits {
    Limits { inflated_bytes: 4 << 20, steps: 200_000, pixels: 1 << 20, findings: 9, ..Limits::default() }
}

/// Any bytes have types and a bounded number of findings, all of them fit to be shown.
pub(crate) fn whole(bytes: &[u8]) {
    let report = inspect(bytes, None, &limits());
    assert!(report.findings.len() <= 9);
    assert!(!report.types.is_empty());
    let is_shown = |text: &str| !text.contains(char::is_control);
    assert!(report.findings.iter().all(|finding| is_shown(&finding.at) && is_shown(&finding.detail)));
}

/// A name until the first line's end, then the file: a name never makes the verdict milder.
pub(crate) fn named(input: &[u8]) {
    let mut parts = input.splitn(2, |&byte| byte == b'\n');
    let (Some(name), Some(bytes)) = (parts.next(), parts.next()) else { return };
    let name = String::from_utf8_lossy(name);
    let (alone, together) = (inspect(bytes, None, &limits()), inspect(bytes, Some(&name), &limits()));
    assert!(together.verdict >= alone.verdict, "{:?} became {:?}", alone.verdict, together.verdict);
    assert!(together.findings.iter().all(|finding| !finding.at.contains(char::is_control)));
}

/// Without the key no envelope is ever taken.
pub(crate) fn attestation(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(name) = FileName::parse("a.pdf") else { return };
    let key = Signer::from_seed(&[7; 32]).key();
    let sha256 = Hash::of(b"x");
    let expected = Expected { name: &name, size_bytes: 1, sha256, site: "s", session: "s-abcdefghijkl" };
    assert!(verify(text, &key, &expected, &mut Spent::default(), Timestamp::UNIX_EPOCH).is_err());
}

/// What is taken as a name is one plain component of a path.
pub(crate) fn name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(name) = FileName::parse(text) else { return };
    assert_eq!(name.as_str(), text);
    let mut components = Path::new(name.as_str()).components();
    let only = |component| matches!(component, Some(Component::Normal(only)) if only == text);
    assert!(only(components.next()) && components.next().is_none());
}
