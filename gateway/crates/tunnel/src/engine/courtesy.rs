//! Giving way: whoever else is ready on this processor goes first, so that what he makes is taken in the same go and fewer
//! threads have to be woken.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than those take who are part of a packet's way; somebody who computes keeps the processor for his whole slice
/// (2 to 4 ms, `base_slice_ns` of the scheduler).
const LONG: Duration = Duration::from_millis(1);
/// For how long nobody is given way then: at most a few hundredths of the time are lost to him.
const REST: Duration = Duration::from_millis(100);

/// One thread's.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    rests_until: Option<Instant>,
}

impl Courtesy {
    /// Gives way, unless it took long a moment ago.
    pub(super) fn give_way(&mut self) {
        self.give_way_by(thread::yield_now);
    }

    fn give_way_by(&mut self, give_way: impl FnOnce()) {
        let begin = Instant::now();
        if self.rests_until.is_some_and(|until| begin < until) {
            return;
        }
        give_way();
        let end = Instant::now();
        self.rests_until = (end.duration_since(begin) > LONG).then(|| end + REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_long_is_not_given_way_again_for_a_while() {
        let mut courtesy = Courtesy::default();
        let mut given = 0;
        for _ in 0..3 {
            courtesy.give_way_by(|| given += 1);
        }
        assert_eq!(given, 3);
        courtesy.give_way_by(|| thread::sleep(2 * LONG));
        for _ in 0..3 {
            courtesy.give_way_by(|| given += 1);
        }
        assert_eq!(given, 3);
        thread::sleep(REST);
        courtesy.give_way_by(|| given += 1);
        assert_eq!(given, 4);
    }
}
