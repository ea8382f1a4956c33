//! Who knocked at the maintenance door, counted over every listener that there was since the role started.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use events::{Family, Sample};
use transport::Counters;

/// Words of the label `end`.
const ENDS: [&str; 4] = ["admitted", "refused", "slow", "limited"];

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    /// Of listeners that are no more.
    former: [u64; ENDS.len()],
    current: Option<Arc<Counters>>,
}

impl Knocks {
    /// Counts at another listener from now on.
    pub(super) fn follow(&mut self, counters: Arc<Counters>) {
        self.former = self.counts();
        self.current = Some(counters);
    }

    /// The counts for the metrics.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let sample = |(end, count)| Sample::new(Family::Handshakes, &[end], number(count));
        ENDS.into_iter().zip(self.counts()).map(sample).collect()
    }

    fn counts(&self) -> [u64; ENDS.len()] {
        let Some(Counters { admitted, refused, slow, limited, retried: _ }) = self.current.as_deref() else {
            return self.former;
        };
        let mut now = [admitted, refused, slow, limited].map(|counter| counter.load(Ordering::Relaxed));
        now.iter_mut().zip(self.former).for_each(|(now, former)| *now = now.saturating_add(former));
        now
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 has lost its last digit anyway")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_listener_takes_nothing_from_what_was_counted() {
        let (mut knocks, first, second) =
            (Knocks::default(), Arc::<Counters>::default(), Arc::<Counters>::default());
        knocks.follow(Arc::clone(&first));
        first.refused.store(7, Ordering::Relaxed);
        knocks.follow(Arc::clone(&second));
        second.refused.store(2, Ordering::Relaxed);
        second.limited.store(1, Ordering::Relaxed);
        let values: Vec<f64> = knocks.samples().iter().map(|sample| sample.value).collect();
        assert_eq!(values, [0.0, 9.0, 0.0, 1.0]);
    }
}
