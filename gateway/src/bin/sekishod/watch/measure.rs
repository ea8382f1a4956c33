//! What this role counted and measured, for the metrics and the controls.

use std::time::Instant;

use events::{Event, Family, Feed, Role, Sample, Tally};
use gateway::recorder::Recorder;
use gateway::wire::Measured;
use jiff::Timestamp;
use policy::guideline::Observed;
use policy::guideline::observation::{Feed as FeedFact, Feeds, Observation};

use super::ledger::Summary;
use super::losses::{Loss, LossAlarms};
use crate::memory;

/// One of the kernel's two feeds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedState {
    pub(crate) is_alive: bool,
    /// When it last told anything.
    pub(crate) told_at: Option<Timestamp>,
    lost: u64,
    lost_at: Option<Timestamp>,
}

/// What happened and how it stands, since the role started.
#[derive(Debug)]
pub(crate) struct Witness {
    started_at: Timestamp,
    tally: Tally,
    recorder: Recorder,
    losses: LossAlarms,
    pub(crate) denials: FeedState,
    pub(crate) connections: FeedState,
}

impl Witness {
    /// Begins.
    pub(crate) fn new(recorder: Recorder, started_at: Timestamp) -> Self {
        let (denials, connections) = (FeedState::default(), FeedState::default());
        let (tally, losses) = (Tally::default(), LossAlarms::default());
        Witness { started_at, tally, recorder, losses, denials, connections }
    }

    /// Takes an event up: it is counted, and goes on to the log; losses that follow one another go there together.
    pub(crate) fn tell(&mut self, event: Event) {
        self.tally.observe(&event);
        let Event::EventsLost { feed, count, since, until } = event else { return self.recorder.note(event) };
        let state = match feed {
            Feed::Denials => &mut self.denials,
            Feed::Connections => &mut self.connections,
        };
        state.lost = state.lost.saturating_add(count);
        state.lost_at = Some(until);
        if let Some(event) = self.losses.take(feed, Loss { count, since, until }, Instant::now()) {
            self.recorder.note(event);
        }
    }

    /// A moment has passed: the log is told of losses that waited.
    pub(crate) fn tick(&mut self) {
        self.losses.due(Instant::now()).into_iter().for_each(|event| self.recorder.note(event));
    }

    /// The role ends.
    pub(crate) fn stopping(&mut self) {
        self.losses.rest().into_iter().for_each(|event| self.recorder.note(event));
        self.tell(Event::RoleStopping { role: Role::Watch });
    }

    /// Both feeds come, or do not.
    pub(crate) fn feeds(&mut self, lost_because: Option<&str>) {
        self.denials.is_alive = lost_because.is_none();
        self.connections.is_alive = lost_because.is_none();
        for feed in [Feed::Denials, Feed::Connections] {
            self.tell(match lost_because {
                None => Event::FeedGained { feed },
                Some(why) => Event::FeedLost { feed, why: events::event::text(why) },
            });
        }
    }

    /// The answer to `Measure`.
    pub(crate) fn measured(&self, ledger: &Summary, now: Timestamp) -> Measured {
        let mut samples = self.tally.samples();
        samples.extend(self.recorder.samples());
        samples.extend(memory::sample(Role::Watch));
        samples.extend(self.feed_samples());
        samples.extend(ledger_samples(ledger));
        let observations = self.observations(ledger, now);
        Measured { role: Role::Watch, started_at: self.started_at, samples, observations }
    }

    fn feed_samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (feed, state) in [(Feed::Denials, &self.denials), (Feed::Connections, &self.connections)] {
            let up = if state.is_alive { 1.0 } else { 0.0 };
            samples.push(Sample::new(Family::FeedUp, &[feed.word()], up));
            let told = state.told_at.map(|at| Sample::new(Family::FeedEvent, &[feed.word()], seconds(at)));
            samples.extend(told);
        }
        samples
    }

    fn observations(&self, ledger: &Summary, now: Timestamp) -> Vec<Observed> {
        let feed =
            |state: &FeedState| FeedFact { alive: state.is_alive, lost: state.lost, lost_at: state.lost_at };
        let feeds = Feeds { denials: feed(&self.denials), connections: feed(&self.connections) };
        let mut all = vec![Observed { at: now, fact: feeds.into() }];
        // Of a ledger that could not be read lately nothing is said that could pass for fresh.
        let read = ledger.at.into_iter().flat_map(|at| {
            let facts = [ledger.ledger().map(Observation::from), ledger.sightings().map(Observation::from)];
            facts.into_iter().flatten().map(move |fact| Observed { at, fact })
        });
        all.extend(read);
        all
    }
}

fn ledger_samples(ledger: &Summary) -> Vec<Sample> {
    if ledger.at.is_none() {
        return Vec::new();
    }
    let gauge = |family, value| Sample::new(family, &[], value);
    let open = u32::try_from(ledger.open).unwrap_or(u32::MAX);
    let mut samples = vec![
        gauge(Family::LedgerOpen, f64::from(open)),
        gauge(Family::LedgerBytes, bytes(ledger.bytes)),
        gauge(Family::LedgerBudget, bytes(ledger.budget_bytes)),
    ];
    samples.extend(ledger.oldest.map(|at| gauge(Family::LedgerOldest, seconds(at))));
    samples
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a size beyond 2^53 bytes may lose its last digit")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}
