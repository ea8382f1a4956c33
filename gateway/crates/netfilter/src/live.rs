//! The set of marks that may carry packets now, and the steps from one such set to another. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::ruleset::{self as neutral, Mark};

use crate::grants::{self, GrantSet};
use crate::lower::LowerError;
use crate::object::{Element, ElementData};
use crate::value::Data;

/// The marks that may carry packets: for ever, or for so long from now.
pub type LiveSet = BTreeMap<Mark, Option<Duration>>;

/// The least difference between two ends of a mark that is worth a change; clocks and ticks make smaller ones.
pub const RETIME_MIN: Duration = Duration::from_millis(500);
/// The longest time that is handed to the kernel; a longer one is cut, so that no number overflows there.
pub const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// The shortest time that is handed to the kernel: it takes zero for "for ever".
const LIFE_MIN: Duration = Duration::from_millis(1);

/// What is in the sets that are managed at run time.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// The marks that may carry packets.
    pub live: &'a LiveSet,
    /// The grants that are open.
    pub grants: &'a GrantSet,
}

impl Running<'_> {
    /// Nothing.
    pub(crate) const NONE: Running<'static> = Running { live: &LiveSet::new(), grants: &GrantSet::new() };

    /// The elements of a run-time set.
    pub(crate) fn elements(&self, name: &str) -> Result<Vec<Element>, LowerError> {
        match name {
            neutral::LIVE => Ok(elements(self.live)),
            name => grants::elements(name, self.grants),
        }
    }
}

/// What changes between two live sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveChanges {
    /// Marks that were not live.
    pub(crate) added: LiveSet,
    /// Marks that end otherwise than before.
    pub(crate) retimed: LiveSet,
    /// Marks that are not live any more, with the life they had.
    pub(crate) ended: LiveSet,
}

impl LiveChanges {
    pub(crate) fn between(have: &LiveSet, want: &LiveSet) -> Self {
        let mut changes = Self::default();
        for (&mark, &life) in want.iter().filter(|(_, life)| is_alive(**life)) {
            match have.get(&mark) {
                None => _ = changes.added.insert(mark, life),
                Some(&old) if !is_same_end(old, life) => _ = changes.retimed.insert(mark, life),
                Some(_) => {}
            }
        }
        let is_wanted = |mark: &Mark| want.get(mark).is_some_and(|life| is_alive(*life));
        changes.ended =
            have.iter().filter(|(mark, _)| !is_wanted(mark)).map(|(mark, life)| (*mark, *life)).collect();
        changes
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a mark with this life is live at all.
pub(crate) fn is_alive(life: Option<Duration>) -> bool {
    life.is_none_or(|life| life >= LIFE_MIN)
}

fn is_same_end(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.abs_diff(other) < RETIME_MIN,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The set's elements. Marks without life are left out.
pub(crate) fn elements(live: &LiveSet) -> Vec<Element> {
    live.iter().filter(|(_, life)| is_alive(**life)).map(|(mark, life)| element(*mark, *life)).collect()
}

fn element(mark: Mark, life: Option<Duration>) -> Element {
    let timeout_ms = life.map(|life| u64::try_from(life.min(LIFE_MAX).as_millis()).unwrap_or(1));
    Element { key: Data::host32(mark.0), key_end: None, data: ElementData::None, timeout_ms }
}

/// The set as every rule set holds it.
pub(crate) fn set() -> neutral::Set {
    neutral::Set { timeout: true, ..neutral::Set::new(vec![neutral::KeyType::Mark]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    #[test]
    fn changes_are_additions_new_ends_and_removals() {
        let have = LiveSet::from([(Mark(1), None), (Mark(2), HOUR), (Mark(3), HOUR), (Mark(4), None)]);
        let near = HOUR.map(|hour| hour - Duration::from_millis(499));
        let want = LiveSet::from([(Mark(1), HOUR), (Mark(2), near), (Mark(3), None), (Mark(5), None)]);
        let changes = LiveChanges::between(&have, &want);
        assert_eq!(changes.added, LiveSet::from([(Mark(5), None)]));
        assert_eq!(changes.retimed, LiveSet::from([(Mark(1), HOUR), (Mark(3), None)]));
        assert_eq!(changes.ended, LiveSet::from([(Mark(4), None)]));
        assert!(LiveChanges::between(&want, &want).is_empty());
    }

    /// Zero is "for ever" to the kernel, so a mark whose time is over must not reach it.
    #[test]
    fn a_mark_without_time_left_is_not_live() {
        let over =
            LiveSet::from([(Mark(1), Some(Duration::ZERO)), (Mark(2), Some(Duration::from_micros(999)))]);
        assert!(elements(&over).is_empty());
        let have = LiveSet::from([(Mark(1), None)]);
        let changes = LiveChanges::between(&have, &over);
        assert_eq!((changes.added.len(), changes.retimed.len(), changes.ended.len()), (0, 0, 1));
    }

    #[test]
    fn an_endless_duration_is_cut() {
        let long = LiveSet::from([(Mark(1), Some(Duration::MAX))]);
        assert_eq!(elements(&long)[0].timeout_ms, Some(u64::try_from(LIFE_MAX.as_millis()).unwrap()));
    }
}
