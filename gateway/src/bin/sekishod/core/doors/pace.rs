//! How often sessions may be asked for. Each request that stands is written to a log that forgets nothing, before anybody
//! of the clinic has said a word: a loop of requests and ends would fill it.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::wire::doors::KeyId;

/// So often at once, then once in each span.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Far above an honest day's work, far below what fills a log.
const OF_KEY: Rate = Rate { burst: 60, every: Duration::from_secs(60) };
const OF_VENDOR: Rate = Rate { burst: 120, every: Duration::from_secs(20) };

impl Rate {
    /// When the bucket that is full at `full_at` is full again after one more is taken; else how long to wait for that one.
    fn take(self, full_at: Option<Duration>, now: Duration) -> Result<Duration, Duration> {
        let full_at = full_at.unwrap_or(now).max(now).saturating_add(self.every);
        let wait = full_at.saturating_sub(now).saturating_sub(self.every.saturating_mul(self.burst));
        if wait.is_zero() { Ok(full_at) } else { Err(wait) }
    }
}

/// A bucket for each key and each vendor, as the moment at which it is full again. Full ones are forgotten, so there are
/// never more of a vendor's keys than its own bucket let pass while theirs fill.
#[derive(Debug, Default)]
pub(super) struct Pace {
    keys: BTreeMap<KeyId, Duration>,
    vendors: BTreeMap<String, Duration>,
}

impl Pace {
    /// Counts a request of an engineer's, or says how long he has to wait; then nothing is counted.
    ///
    /// # Errors
    /// When the engineer or the vendor asked too often.
    pub(super) fn take(&mut self, key: KeyId, vendor: &str, now: Duration) -> Result<(), Duration> {
        self.keys.retain(|_, full_at| *full_at > now);
        self.vendors.retain(|_, full_at| *full_at > now);
        let of_key = OF_KEY.take(self.keys.get(&key).copied(), now);
        let of_vendor = OF_VENDOR.take(self.vendors.get(vendor).copied(), now);
        match (of_key, of_vendor) {
            (Ok(key_full_at), Ok(vendor_full_at)) => {
                self.keys.insert(key, key_full_at);
                self.vendors.insert(vendor.to_owned(), vendor_full_at);
                Ok(())
            }
            (of_key, of_vendor) => Err(of_key.err().max(of_vendor.err()).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> KeyId {
        KeyId::of_spki(&number.to_be_bytes())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many of these requests are taken, all at one moment.
    fn taken(pace: &mut Pace, keys: impl Iterator<Item = u32>, vendor: &str, now: Duration) -> usize {
        keys.filter(|number| pace.take(key(*number), vendor, now).is_ok()).count()
    }

    #[test]
    fn an_engineer_who_loops_has_his_burst_and_then_one_in_each_span() {
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, [1; 1000].into_iter(), "acme", at(0)), 60);
        assert_eq!(pace.take(key(1), "acme", at(1)), Err(at(59)), "and is told how long to wait");
        assert_eq!(pace.take(key(2), "acme", at(1)), Ok(()), "a colleague is not kept waiting");
        let in_an_hour: usize =
            (2..=3600).map(|second| taken(&mut pace, [1].into_iter(), "acme", at(second))).sum();
        assert_eq!(in_an_hour, 60);
        assert_eq!(taken(&mut pace, [1; 1000].into_iter(), "acme", at(2 * 86_400)), 60, "after a rest");
    }

    #[test]
    fn a_vendor_with_many_keys_gains_nothing_and_others_lose_nothing() {
        let mut pace = Pace::default();
        assert_eq!(taken(&mut pace, 0..1000, "acme", at(0)), 120);
        assert_eq!(pace.take(key(2000), "acme", at(0)), Err(at(20)));
        assert_eq!(pace.take(key(2000), "other", at(0)), Ok(()));
        let in_an_hour: usize = (1..=3600)
            .map(|second| taken(&mut pace, [3000 + second].into_iter(), "acme", at(second.into())))
            .sum();
        assert_eq!(in_an_hour, 180);
    }

    #[test]
    fn what_is_kept_is_bounded_and_full_buckets_are_forgotten() {
        let mut pace = Pace::default();
        for second in 0..20_000 {
            let _ = pace.take(key(second), "acme", at(second.into()));
            assert!(pace.keys.len() <= 120 + 3 && pace.vendors.len() <= 1);
        }
        pace.take(key(1), "other", at(1_000_000)).unwrap();
        assert_eq!((pace.keys.len(), pace.vendors.len()), (1, 1));
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let mut pace = Pace::default();
        taken(&mut pace, [1; 60].into_iter(), "acme", at(0));
        taken(&mut pace, [1; 1000].into_iter(), "acme", at(30));
        assert_eq!(pace.take(key(1), "acme", at(60)), Ok(()), "neither of his own");
        assert_eq!(taken(&mut pace, 100..1000, "acme", at(60)), 62, "nor of the vendor's");
    }
}
