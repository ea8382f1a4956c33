//! The mark ledger: which mark stands for which flow. Marks are never reused, and a flow gets a new one whenever it
//! stops allowing any packet that it allowed before, so that running connections it no longer allows end.
//!
//! The ledger is an input and an output of [`crate::compile::compile`]; making it durable before the kernel sees a mark
//! is the caller's duty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ruleset::Mark;
use crate::space::{Cube, Index};

/// Marks from here on belong to grants that are made at run time (maintenance sessions, VPN sign-ins).
pub const FIRST_GRANT_MARK: u32 = 0x8000_0000;
/// Pieces at which a comparison of two meanings is given up, and the answer is "narrower": safe, for it only renames.
const MAX_PIECES: usize = 4_096;

/// What one flow allows, by pair of places.
pub type Meaning = BTreeMap<String, Vec<Cube>>;

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    next: u32,
    flows: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    mark: Mark,
    /// Pair of places -> cubes as `[class, source, destination, port]`, written compactly.
    meaning: BTreeMap<String, Vec<Cube>>,
}

/// Why a mark cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// All marks were used.
    #[error(
        "all {FIRST_GRANT_MARK} flow marks have been used: back up and reset the mark ledger in a maintenance hour"
    )]
    Exhausted,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { next: 1, flows: BTreeMap::new() }
    }
}

impl Ledger {
    /// The next mark that will be given.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Makes sure that no mark below `floor` is given again.
    pub fn raise_floor(&mut self, floor: u32) {
        self.next = self.next.max(floor);
    }

    /// The mark of a flow, if it has one.
    #[must_use]
    pub fn mark(&self, flow: &str) -> Option<Mark> {
        self.flows.get(flow).map(|entry| entry.mark)
    }

    /// The ledger after `flows` are what the policy holds, with the mark of each.
    ///
    /// # Errors
    /// [`LedgerError::Exhausted`] when no mark is left.
    pub fn assign(&self, flows: BTreeMap<String, Meaning>) -> Result<Ledger, LedgerError> {
        let mut after = Ledger { next: self.next, flows: BTreeMap::new() };
        for (name, meaning) in flows {
            let mark = match self.flows.get(&name) {
                Some(entry) if covers(&meaning, &entry.meaning) => entry.mark,
                Some(_) | None => after.take()?,
            };
            after.flows.insert(name, Entry { mark, meaning });
        }
        Ok(after)
    }

    fn take(&mut self) -> Result<Mark, LedgerError> {
        if self.next >= FIRST_GRANT_MARK {
            return Err(LedgerError::Exhausted);
        }
        let mark = Mark(self.next);
        self.next += 1;
        Ok(mark)
    }
}

/// Whether `new` allows every packet that `old` allows.
fn covers(new: &Meaning, old: &Meaning) -> bool {
    old.iter().all(|(pair, cubes)| new.get(pair).is_some_and(|wider| union_covers(wider, cubes)))
}

fn union_covers(wider: &[Cube], cubes: &[Cube]) -> bool {
    if wider == cubes {
        return true;
    }
    let index = Index::new(wider);
    cubes.iter().all(|cube| {
        let meeting = index.meeting(cube);
        cube.without(meeting.iter().filter_map(|&id| wider.get(id)), MAX_PIECES)
            .is_some_and(|rest| rest.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Class, Span, Transport};

    fn meaning(ports: &[(u128, u128)]) -> Meaning {
        let at = |value| Span::new(value, value);
        let class = Class { ip6: false, transport: Transport::Tcp };
        let cubes = ports
            .iter()
            .map(|&(low, high)| Cube { class, source: at(1), destination: at(2), port: Span::new(low, high) })
            .collect();
        BTreeMap::from([("a>b".to_owned(), cubes)])
    }

    fn assign(ledger: &Ledger, flows: &[(&str, Meaning)]) -> Ledger {
        ledger
            .assign(flows.iter().map(|(name, meaning)| ((*name).to_owned(), meaning.clone())).collect())
            .unwrap()
    }

    #[test]
    fn a_mark_survives_widening_and_changes_on_narrowing() {
        let first = assign(&Ledger::default(), &[("x", meaning(&[(80, 90)]))]);
        let mark = first.mark("x");
        let wider = assign(&first, &[("x", meaning(&[(80, 85), (86, 100)]))]);
        assert_eq!(wider.mark("x"), mark, "the same packets and more");
        let narrower = assign(&wider, &[("x", meaning(&[(80, 99)]))]);
        assert_ne!(narrower.mark("x"), mark, "port 100 is gone");
    }

    #[test]
    fn marks_are_never_reused() {
        let first = assign(&Ledger::default(), &[("x", meaning(&[(1, 1)]))]);
        let gone = assign(&first, &[]);
        let back = assign(&gone, &[("x", meaning(&[(1, 1)]))]);
        assert_ne!(back.mark("x"), first.mark("x"));
        let mut full = Ledger::default();
        full.raise_floor(FIRST_GRANT_MARK);
        assert_eq!(
            full.assign(BTreeMap::from([("x".to_owned(), meaning(&[(1, 1)]))])),
            Err(LedgerError::Exhausted)
        );
    }

    #[test]
    fn other_flows_do_not_disturb_a_mark() {
        let one = assign(&Ledger::default(), &[("x", meaning(&[(1, 1)]))]);
        let two = assign(&one, &[("a", meaning(&[(2, 2)])), ("x", meaning(&[(1, 1)]))]);
        assert_eq!(one.mark("x"), two.mark("x"));
    }
}
