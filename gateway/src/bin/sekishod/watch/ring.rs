//! The last kinds of denied packet, bounded: who, to whom, what, how often. A flood of one kind takes one place; a flood
//! of many kinds pushes out the oldest.

use std::collections::{BTreeMap, VecDeque};

use gateway::wire::{Denial, Denials};
use jiff::Timestamp;

/// Kinds kept.
pub(crate) const KINDS_MAX: usize = 1024;

/// What makes two denied packets one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) prefix: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) protocol: String,
    pub(crate) port: Option<u16>,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    kinds: BTreeMap<Kind, (u64, Timestamp)>,
    /// In the order in which the kinds were first seen.
    order: VecDeque<Kind>,
    seen: u64,
    lost: u64,
    malformed: u64,
}

impl Ring {
    /// One denied packet.
    pub(crate) fn push(&mut self, kind: Kind, at: Timestamp) {
        self.seen += 1;
        if let Some((count, last)) = self.kinds.get_mut(&kind) {
            *count += 1;
            *last = at;
            return;
        }
        if self.order.len() >= KINDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.kinds.remove(&oldest);
        }
        self.order.push_back(kind.clone());
        self.kinds.insert(kind, (1, at));
    }

    /// The kernel had no room for packets.
    pub(crate) fn count_lost(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// Messages were not understood.
    pub(crate) fn count_malformed(&mut self, count: u64) {
        self.malformed = self.malformed.saturating_add(count);
    }

    /// Everything, the most recent last.
    pub(crate) fn denials(&self) -> Denials {
        let row = |(kind, (count, last)): (&Kind, &(u64, Timestamp))| Denial {
            prefix: kind.prefix.clone(),
            source: kind.source.clone(),
            destination: kind.destination.clone(),
            protocol: kind.protocol.clone(),
            port: kind.port,
            count: *count,
            last: *last,
        };
        let mut rows: Vec<_> = self.kinds.iter().map(row).collect();
        rows.sort_by_key(|denial| denial.last);
        Denials { rows, seen: self.seen, lost: self.lost, malformed: self.malformed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(port: u16) -> Kind {
        let text = |text: &str| text.to_owned();
        Kind {
            prefix: text("guest>ehr"),
            source: text("a"),
            destination: text("b"),
            protocol: text("tcp"),
            port: Some(port),
        }
    }

    #[test]
    fn one_kind_takes_one_place_and_the_oldest_leaves() {
        let mut ring = Ring::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        for second in 0..10 {
            ring.push(kind(1), at(second));
        }
        assert_eq!(ring.denials().rows.len(), 1);
        assert_eq!(ring.denials().rows[0].count, 10);
        for port in 2..=1100 {
            ring.push(kind(port), at(100 + i64::from(port)));
        }
        let denials = ring.denials();
        assert_eq!((denials.rows.len(), denials.seen), (KINDS_MAX, 1109));
        assert!(denials.rows.iter().all(|row| row.port != Some(1)));
        assert_eq!(denials.rows.last().unwrap().port, Some(1100));
    }
}
