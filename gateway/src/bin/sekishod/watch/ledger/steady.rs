//! Whether the wall clock has run evenly for long enough to say how old a row is. A clock that is set years ahead for a
//! minute, by hand or by a server that lies, would otherwise take everything that is kept.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How long it must have run evenly, since the start too: nobody knows how the clock stood before.
const EVEN_FOR: Duration = Duration::from_secs(60 * 60);
/// A step. What keeps a clock right moves it by less from one second to the next.
const STEP: SignedDuration = SignedDuration::from_secs(60);

/// The wall clock, watched by the monotonic one.
#[derive(Debug)]
pub(crate) struct Steadiness {
    last: (Timestamp, Instant),
    even_since: Instant,
}

impl Steadiness {
    pub(crate) fn new(wall: Timestamp, now: Instant) -> Self {
        Steadiness { last: (wall, now), even_since: now }
    }

    /// Takes the next reading of both; says whether the wall clock may be believed.
    pub(crate) fn is_steady(&mut self, wall: Timestamp, now: Instant) -> bool {
        let (last_wall, last) = std::mem::replace(&mut self.last, (wall, now));
        let passed = SignedDuration::try_from(now.saturating_duration_since(last));
        let step = wall.duration_since(last_wall).saturating_sub(passed.unwrap_or(SignedDuration::MAX));
        if step.unsigned_abs() > STEP.unsigned_abs() {
            tracing::warn!(
                seconds = step.as_secs(),
                "the clock was set: for an hour nothing is let go for its age"
            );
            self.even_since = now;
        }
        now.saturating_duration_since(self.even_since) >= EVEN_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of a wall clock, so many seconds after the beginning by each clock, and whether each is believed.
    fn believed(readings: &[(i64, u64)]) -> Vec<bool> {
        let (wall, now) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut clock = Steadiness::new(wall, now);
        let readings = readings.iter();
        readings
            .map(|(by_wall, by_now)| {
                clock
                    .is_steady(wall + SignedDuration::from_secs(*by_wall), now + Duration::from_secs(*by_now))
            })
            .collect()
    }

    #[test]
    fn a_clock_is_believed_after_an_even_hour() {
        assert_eq!(believed(&[(1, 1), (3599, 3599), (3600, 3600), (3630, 3601)]), [false, false, true, true]);
    }

    #[test]
    fn a_step_forward_or_back_takes_the_belief_for_an_hour() {
        let year = 365 * 86_400;
        for step in [year, -year, 61, -61] {
            let after = 4000 + step;
            let readings = [(4000, 4000), (after + 1, 4001), (after + 3600, 7600), (after + 3601, 7601)];
            assert_eq!(believed(&readings), [true, false, false, true], "{step}");
        }
        // Set back before the hour is over, as by who made the mistake: another step.
        let readings = [(4000, 4000), (year, 4001), (4600, 4600), (7601, 7601), (8200, 8200)];
        assert_eq!(believed(&readings), [true, false, false, false, true]);
    }
}
