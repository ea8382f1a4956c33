//! Findings over a whole policy, proved over the whole packet space: broken promises, zones that reach what their kind
//! must never reach, and flows that add nothing. Each error carries a packet that shows it.

mod boxes;
mod invariants;
mod overlap;
mod promises;
mod words;

use jiff::Timestamp;

use crate::diagnostic::Diagnostic;
use crate::model::Policy;
pub use invariants::INVARIANTS;

/// Examines a policy as of `now`: flows that have ended by then are taken as absent.
///
/// Errors come first and refuse the policy; warnings follow. The order is stable.
#[must_use]
pub fn check(policy: &Policy, now: Timestamp) -> Vec<Diagnostic> {
    let map = boxes::Map::new(policy, now);
    let mut findings = promises::broken(policy, &map);
    findings.extend(invariants::broken(policy, &map, now));
    findings.extend(overlap::redundant(policy, &map));
    findings.sort_by_key(|finding| finding.severity);
    findings
}
