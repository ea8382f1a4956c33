//! Tricks made from the specifications, each beside a twin that is clean: the trick is seen for what it is, and the twin
//! passes. What the corpus beside the repository lacks stands here.

#[cfg(test)]
mod containers;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod make;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod random;

use inspect::{FindingId, Limits, Report, Verdict, inspect};

/// Judges bytes of that name.
pub(crate) fn judge(name: &str, bytes: &[u8]) -> Report {
    inspect(bytes, Some(name), &Limits::default())
}

/// Fails unless the trick is found as `id`, and the twin is allowed.
#[track_caller]
pub(crate) fn trick(name: &str, twin: &[u8], bytes: &[u8], id: FindingId) {
    let clean = judge(name, twin);
    assert_eq!(clean.verdict, Verdict::Allow, "the clean twin of {name}: {:?}", clean.findings);
    let found = judge(name, bytes);
    assert!(found.findings.iter().any(|finding| finding.id == id), "{name}: no {id} in {:?}", found.findings);
    assert!(found.verdict >= id.verdict(), "{name}: {:?}", found.verdict);
}

#[test]
fn words_are_unique_and_survive_their_way_through_json() {
    let mut words: Vec<_> = FindingId::ALL.iter().map(|id| id.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), FindingId::ALL.len());
    for id in FindingId::ALL {
        assert!(!id.meaning().is_empty());
        assert_ne!(id.verdict(), Verdict::Allow);
        let json = serde_json::to_string(id).unwrap();
        assert_eq!(json, format!("\"{}\"", id.word()));
    }
}
