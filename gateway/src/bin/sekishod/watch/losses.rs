//! LossAlarms on their way to the log. Each is an alarm there, and a flood, or a disk that takes nothing, loses something
//! every moment: the first of a feed is told at once, what follows within a minute is told together at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use events::{Event, Feed};
use jiff::Timestamp;

/// How often the log is told of one feed at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Something was lost between two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) count: u64,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// What of each feed the log was told, and what waits.
#[derive(Debug, Default)]
pub(crate) struct LossAlarms(BTreeMap<Feed, Losing>);

#[derive(Debug)]
struct Losing {
    told: Instant,
    waiting: Option<Loss>,
}

impl LossAlarms {
    /// Takes a loss up: what the log is told now.
    pub(crate) fn take(&mut self, feed: Feed, loss: Loss, now: Instant) -> Option<Event> {
        match self.0.get_mut(&feed) {
            Some(losing) => {
                losing.waiting = Some(losing.waiting.map_or(loss, |former| former.with(loss)));
                losing.due(feed, now)
            }
            None => {
                self.0.insert(feed, Losing { told: now, waiting: None });
                Some(loss.event(feed))
            }
        }
    }

    /// What waited long enough.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Event> {
        self.0.iter_mut().filter_map(|(feed, losing)| losing.due(*feed, now)).collect()
    }

    /// All that waits.
    pub(crate) fn rest(&mut self) -> Vec<Event> {
        self.0.iter_mut().filter_map(|(feed, losing)| Some(losing.waiting.take()?.event(*feed))).collect()
    }
}

impl Losing {
    fn due(&mut self, feed: Feed, now: Instant) -> Option<Event> {
        if now.saturating_duration_since(self.told) < TOLD_EVERY {
            return None;
        }
        let loss = self.waiting.take()?;
        self.told = now;
        Some(loss.event(feed))
    }
}

impl Loss {
    fn with(self, later: Loss) -> Loss {
        Loss {
            count: self.count.saturating_add(later.count),
            since: self.since.min(later.since),
            until: self.until.max(later.until),
        }
    }

    fn event(self, feed: Feed) -> Event {
        let Loss { count, since, until } = self;
        Event::EventsLost { feed, count, since, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_losses_is_told_to_the_last_and_not_one_by_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let loss = |count, second| Loss { count, since: at(second), until: at(second + 1) };
        let mut losses = LossAlarms::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(losses.take(Feed::Denials, loss(5, 100), begin), Some(loss(5, 100).event(Feed::Denials)));
        for second in 1..60 {
            assert_eq!(losses.take(Feed::Denials, loss(2, 100 + second as i64), after(second)), None);
            assert_eq!(losses.due(after(second)), []);
        }
        // The other feed is heard by itself.
        assert!(losses.take(Feed::Connections, loss(1, 130), after(30)).is_some());
        let together = Loss { count: 118, since: at(101), until: at(160) }.event(Feed::Denials);
        assert_eq!(losses.due(after(60)), [together]);
        assert_eq!(losses.due(after(600)), []);
        assert!(losses.take(Feed::Denials, loss(3, 700), after(600)).is_some(), "the first one after a rest");
        assert_eq!(losses.take(Feed::Denials, loss(4, 701), after(601)), None);
        assert_eq!(losses.rest(), [loss(4, 701).event(Feed::Denials)]);
        assert_eq!(losses.rest(), []);
    }
}
