//! The time by which windows open and close: follows the wall clock forwards, never backwards.
//! While it is not trusted, nothing that depends on it is open.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A difference between wall clock and elapsed time above this is a step, not drift.
pub const STEP_MIN: Duration = Duration::from_secs(2);

/// One reading of both clocks, taken by the shell at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, which anybody may set.
    pub wall: Timestamp,
    /// Time since some fixed start, which nobody can set.
    pub elapsed: Duration,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// The wall clock was set forward: followed at once.
    Forward(Duration),
    /// The wall clock was set back: not followed until somebody with the right says that the time is good.
    Back(Duration),
}

/// The effective clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Now,
    trusted: bool,
    stepped_back: bool,
}

impl Clock {
    /// Starts at a reading.
    #[must_use]
    pub fn new(now: Now, trusted: bool) -> Self {
        Clock { anchor: now, trusted, stepped_back: false }
    }

    /// Whether windows may be opened by this clock.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The effective time at a moment.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Timestamp {
        let passed = elapsed.saturating_sub(self.anchor.elapsed);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        self.anchor.wall.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// Takes a reading, and reports a step of the wall clock once.
    pub fn observe(&mut self, now: Now) -> Option<Jump> {
        let expected = self.at(now.elapsed);
        if !self.trusted {
            // Nothing depends on the time yet: it is simply what the wall says.
            self.anchor = now;
            return None;
        }
        let difference = now.wall.duration_since(expected);
        let size = difference.unsigned_abs();
        if difference.is_negative() {
            let first = size > STEP_MIN && !self.stepped_back;
            self.stepped_back |= first;
            return first.then_some(Jump::Back(size));
        }
        self.anchor = now;
        self.stepped_back = false;
        (size > STEP_MIN).then_some(Jump::Forward(size))
    }

    /// Somebody with the right says that the wall clock is good: it counts from now on, also backwards.
    pub fn trust(&mut self, now: Now) {
        *self = Clock::new(now, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall_s: i64, elapsed_s: u64) -> Now {
        Now { wall: Timestamp::from_second(wall_s).unwrap(), elapsed: Duration::from_secs(elapsed_s) }
    }

    fn seconds(clock: &Clock, elapsed_s: u64) -> i64 {
        clock.at(Duration::from_secs(elapsed_s)).as_second()
    }

    #[test]
    fn a_step_back_is_reported_once_and_not_followed() {
        let mut clock = Clock::new(now(1000, 0), true);
        assert_eq!(clock.observe(now(510, 10)), Some(Jump::Back(Duration::from_secs(500))));
        assert_eq!(clock.observe(now(511, 11)), None);
        assert_eq!(seconds(&clock, 11), 1011);
        clock.trust(now(512, 12));
        assert_eq!(seconds(&clock, 12), 512);
    }

    #[test]
    fn a_step_forward_is_followed_at_once() {
        let mut clock = Clock::new(now(1000, 0), true);
        assert_eq!(clock.observe(now(1013, 10)), Some(Jump::Forward(Duration::from_secs(3))));
        assert_eq!(seconds(&clock, 10), 1013);
    }

    #[test]
    fn drift_is_no_step() {
        let mut clock = Clock::new(now(1000, 0), true);
        assert_eq!(clock.observe(now(1011, 10)), None);
        assert_eq!(clock.observe(now(1019, 20)), None);
        assert_eq!(seconds(&clock, 20), 1021);
    }

    #[test]
    fn an_untrusted_clock_follows_the_wall_silently() {
        let mut clock = Clock::new(now(1000, 0), false);
        assert_eq!(clock.observe(now(10, 1)), None);
        assert_eq!(seconds(&clock, 1), 10);
        assert!(!clock.is_trusted());
    }
}
