//! Which marks may carry packets, and until when: the wish (wall clock) becomes leases (elapsed time).
//! A lease of the same end never grows, so setting a clock back prolongs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use policy::ruleset::Mark;

use crate::clock::Clock;

/// Marks that may carry packets, each with what remains; `None` means for ever.
pub type LiveSet = BTreeMap<Mark, Option<Duration>>;

/// What the machine needs to know of a policy that it carries about.
pub trait Desired: Clone {
    /// The marks open at a time, each with its end. With `trusted` false, nothing that depends on the time.
    fn live_at(&self, now: Timestamp, trusted: bool) -> BTreeMap<Mark, Option<Timestamp>>;
    /// The next time at which [`Desired::live_at`] may answer differently.
    fn next_change(&self, now: Timestamp) -> Option<Timestamp>;
}

/// The leases in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases(BTreeMap<Mark, Lease>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    end: Option<Timestamp>,
    /// In elapsed time.
    deadline: Option<Duration>,
}

impl Leases {
    /// The leases that a wish asks for at a moment, given those in force.
    #[must_use]
    pub fn renew(
        &self,
        wanted: &BTreeMap<Mark, Option<Timestamp>>,
        clock: &Clock,
        elapsed: Duration,
    ) -> Leases {
        let now = clock.at(elapsed);
        let lease = |(mark, end): (&Mark, &Option<Timestamp>)| {
            let fresh = end.map(|end| elapsed.saturating_add(until(now, end)));
            let held = self.0.get(mark).filter(|lease| lease.end == *end).and_then(|lease| lease.deadline);
            // INVARIANT: the deadline of one end only ever moves earlier.
            let deadline = fresh.map(|fresh| held.map_or(fresh, |held| held.min(fresh)));
            (*mark, Lease { end: *end, deadline })
        };
        Leases(wanted.iter().map(lease).collect())
    }

    /// What remains of each lease at a moment. A lease that ended is not in the set.
    #[must_use]
    pub fn remaining(&self, elapsed: Duration) -> LiveSet {
        let rest = |(mark, lease): (&Mark, &Lease)| match lease.deadline {
            None => Some((*mark, None)),
            Some(deadline) => {
                deadline.checked_sub(elapsed).filter(|rest| !rest.is_zero()).map(|rest| (*mark, Some(rest)))
            }
        };
        self.0.iter().filter_map(rest).collect()
    }

    /// When a mark's lease ends, if it has one; the inner `None` means never.
    #[must_use]
    pub fn end(&self, mark: Mark) -> Option<Option<Timestamp>> {
        self.0.get(&mark).map(|lease| lease.end)
    }
}

fn until(now: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wish(end: i64) -> BTreeMap<Mark, Option<Timestamp>> {
        BTreeMap::from([(Mark(1), None), (Mark(2), Some(at(end)))])
    }

    #[test]
    fn a_lease_never_grows_when_the_clock_is_set_back() {
        let mut clock = Clock::new(Now { wall: at(1000), elapsed: Duration::ZERO }, true);
        let leases = Leases::default().renew(&wish(1060), &clock, Duration::ZERO);
        let later = Duration::from_secs(10);
        clock.trust(Now { wall: at(0), elapsed: later });
        let leases = leases.renew(&wish(1060), &clock, later);
        assert_eq!(leases.remaining(later)[&Mark(2)], Some(Duration::from_secs(50)));
        assert_eq!(leases.remaining(later)[&Mark(1)], None);
    }

    #[test]
    fn a_lease_shrinks_when_the_clock_is_set_forward() {
        let mut clock = Clock::new(Now { wall: at(1000), elapsed: Duration::ZERO }, true);
        let leases = Leases::default().renew(&wish(1060), &clock, Duration::ZERO);
        clock.observe(Now { wall: at(1055), elapsed: Duration::from_secs(1) });
        let leases = leases.renew(&wish(1060), &clock, Duration::from_secs(1));
        assert_eq!(leases.remaining(Duration::from_secs(1))[&Mark(2)], Some(Duration::from_secs(5)));
        assert!(!leases.remaining(Duration::from_secs(6)).contains_key(&Mark(2)));
    }

    #[test]
    fn another_end_is_another_lease() {
        let clock = Clock::new(Now { wall: at(1000), elapsed: Duration::ZERO }, true);
        let leases = Leases::default().renew(&wish(1060), &clock, Duration::ZERO);
        let leases = leases.renew(&wish(2000), &clock, Duration::ZERO);
        assert_eq!(leases.remaining(Duration::ZERO)[&Mark(2)], Some(Duration::from_secs(1000)));
    }
}
