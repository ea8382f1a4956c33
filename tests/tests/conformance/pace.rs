//! Control traffic is rate-limited by the rules, which the evaluator does not model: a trial stays below the limits.
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Below the rules' own 200 a second and burst of 400; several rules carry one name.
const PER_SECOND: f64 = 180.0;
const BURST: f64 = 350.0;

/// A bucket of tokens for each kind of control traffic.
#[derive(Default)]
pub(crate) struct Pace {
    buckets: BTreeMap<&'static str, (f64, Option<Instant>)>,
}

impl Pace {
    /// Waits until one more packet of this name is below the limit.
    pub(crate) fn wait(&mut self, name: &'static str) {
        let (used, since) = self.buckets.entry(name).or_default();
        let now = Instant::now();
        let passed = since.map_or(0.0, |since| (now - since).as_secs_f64());
        *used = (*used - passed * PER_SECOND).max(0.0) + 1.0;
        *since = Some(now);
        if *used > BURST {
            thread::sleep(Duration::from_secs_f64((*used - BURST) / PER_SECOND));
        }
    }
}
