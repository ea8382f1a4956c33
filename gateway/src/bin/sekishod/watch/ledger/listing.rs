//! The list of open connections, asked of the kernel by way of core: every few seconds, to know who is new and whose end
//! was missed; for a question, to tell what has no end yet; for sums, to add what has been counted so far.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use gateway::wire::watch::LedgerRow;
use netfilter::conntrack::Count;
use tokio::sync::oneshot;

use super::question::Selection;

/// Lists that may wait for their turn.
const WAITING_MAX: usize = 8;
/// How often a list that was disturbed is asked for again.
const TRIES_MAX: u32 = 5;
/// How long a list may take; then whoever was to ask for it did not.
const LIST_MAX: Duration = Duration::from_secs(10);

/// Why a list is asked for.
#[derive(Debug)]
pub(crate) enum Want {
    /// Which connections are open: some may be new, and some ends may be missing.
    Survey,
    /// Connections for an answer.
    Rows {
        /// Which.
        selection: Selection,
        /// Most of them.
        limit: usize,
        /// Where they go.
        reply: oneshot::Sender<OpenRows>,
    },
    /// Sums of what is open, to which those of the ledger are added.
    Sums {
        /// Ends from then on count.
        since_ms: Option<i64>,
        /// Where they go.
        reply: oneshot::Sender<rusqlite::Result<Sums>>,
    },
}

/// Open connections for an answer.
#[derive(Debug)]
pub(crate) struct OpenRows {
    pub(crate) rows: Vec<LedgerRow>,
    /// None is missing: not for the limit, and not because the list had holes.
    pub(crate) is_whole: bool,
}

/// Connections and counts by the marks they began by and have.
pub(crate) type Sums = BTreeMap<(u32, u32), (u64, Count)>;

/// A list that is being told.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) want: Want,
    tries: u32,
    pub(crate) asked_at: Instant,
    /// Open connections that are wanted, by key, so that one that ends meanwhile can leave.
    pub(crate) rows: BTreeMap<u64, LedgerRow>,
    /// There were more than are wanted.
    pub(crate) is_cut: bool,
    /// What each counted, likewise.
    pub(crate) counted: HashMap<u64, ((u32, u32), Count)>,
    /// Those that ended meanwhile. The kernel tells an end before it takes the connection out of its table, so that the
    /// list may still show it.
    pub(crate) ended: HashSet<u64>,
}

/// The list that is being told, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    pub(crate) current: Option<Listing>,
    waiting: VecDeque<Want>,
}

impl Listings {
    /// Takes a wish; says whether the kernel must be asked now. One too many is dropped, and its reply with it.
    pub(crate) fn want(&mut self, want: Want) -> bool {
        if self.current.is_some() {
            // One that is still to come serves for all losses before it.
            let is_survey = |want: &Want| matches!(want, Want::Survey);
            let is_coming = is_survey(&want) && self.waiting.iter().any(is_survey);
            if !is_coming && self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(want);
            }
            return false;
        }
        self.current = Some(Listing::new(want, 0));
        true
    }

    /// The list is over: what it was for, unless it must be asked for again, which is said second.
    pub(crate) fn end(&mut self, complete: bool) -> (Option<Listing>, bool) {
        match self.current.take() {
            None => (None, false),
            Some(listing) if !complete && listing.tries < TRIES_MAX => {
                self.current = Some(Listing::new(listing.want, listing.tries + 1));
                (None, true)
            }
            Some(listing) => {
                self.current = self.waiting.pop_front().map(|want| Listing::new(want, 0));
                (Some(listing), self.current.is_some())
            }
        }
    }

    /// Whether the list that is being told should have ended long ago.
    pub(crate) fn is_overdue(&self) -> bool {
        self.current.as_ref().is_some_and(|listing| listing.asked_at.elapsed() > LIST_MAX)
    }

    /// Nobody can be asked any more: replies are dropped, which is an answer.
    pub(crate) fn give_up(&mut self) {
        *self = Listings::default();
    }

    /// A connection ended while the list was told.
    pub(crate) fn ended(&mut self, key: u64) {
        if let Some(listing) = &mut self.current {
            listing.rows.remove(&key);
            listing.counted.remove(&key);
            listing.ended.insert(key);
        }
    }
}

impl Listing {
    fn new(want: Want, tries: u32) -> Self {
        Listing {
            want,
            tries,
            asked_at: Instant::now(),
            rows: BTreeMap::new(),
            is_cut: false,
            counted: HashMap::new(),
            ended: HashSet::new(),
        }
    }
}

/// Adds a connection to its sum.
pub(crate) fn add(sums: &mut Sums, marks: (u32, u32), count: Count) {
    let (number, sum) = sums.entry(marks).or_default();
    *number += 1;
    sum.packets = sum.packets.saturating_add(count.packets);
    sum.bytes = sum.bytes.saturating_add(count.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_turns_and_a_disturbed_one_comes_again() {
        let mut listings = Listings::default();
        assert!(listings.want(Want::Survey));
        for _ in 0..3 {
            assert!(!listings.want(Want::Survey), "one at a time");
        }
        let (done, again) = listings.end(false);
        assert!(done.is_none() && again, "disturbed: again");
        let (done, again) = listings.end(true);
        assert!(done.is_some() && again, "the next one's turn");
        let (done, again) = listings.end(true);
        assert!(done.is_some() && !again);
        assert!(listings.end(true).0.is_none(), "an end that nobody waits for");
    }

    #[test]
    fn a_list_that_never_holds_still_ends_and_too_many_are_dropped() {
        let mut listings = Listings::default();
        listings.want(Want::Survey);
        let ends = (0..20).take_while(|_| listings.end(false).1).count();
        assert_eq!(ends, 5);
        let mut replies = Vec::new();
        for _ in 0..20 {
            let (reply, answer) = oneshot::channel();
            listings.want(Want::Sums { since_ms: None, reply });
            replies.push(answer);
        }
        let closed = |answer: &mut oneshot::Receiver<_>| {
            answer.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        };
        let dropped = replies.iter_mut().map(closed).filter(|closed| *closed);
        assert_eq!(dropped.count(), 20 - 1 - WAITING_MAX);
    }
}
