//! Every decision of core leaves one event: counted here, and handed to the record role.

use std::future::Future;
use std::time::Duration;

use events::{Event, Sample, Tally};
use gateway::recorder::{RecordError, Recorder};
use tokio::sync::oneshot;

/// How long the end of the role waits for its record.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Core's witness.
#[derive(Debug)]
pub(super) struct Witness {
    tally: Tally,
    recorder: Recorder,
}

impl Witness {
    /// Begins with nothing seen.
    pub(super) fn new(recorder: Recorder) -> Self {
        Witness { tally: Tally::default(), recorder }
    }

    /// Something happened. It is recorded when the record role can; what it could not take is counted.
    pub(super) fn note(&mut self, event: Event) {
        self.tally.observe(&event);
        self.recorder.note(event);
    }

    /// The same; the receiver hears when it is durable.
    pub(super) fn note_and_tell(&mut self, event: Event) -> oneshot::Receiver<()> {
        self.tally.observe(&event);
        self.recorder.note_and_tell(event)
    }

    /// Something is about to be done or told that must be recorded first; the future ends when it is durable.
    pub(super) fn record(
        &mut self,
        event: Event,
    ) -> impl Future<Output = Result<Option<u64>, RecordError>> + Send + 'static {
        self.tally.observe(&event);
        let recorder = self.recorder.clone();
        async move { recorder.record(event).await }
    }

    /// The last thing before the end, given a moment to become durable.
    pub(super) async fn last(&mut self, event: Event) {
        let recorded = tokio::time::timeout(LAST_WAIT, self.record(event)).await;
        if !matches!(recorded, Ok(Ok(_))) {
            tracing::warn!("the end of this role is not in the record");
        }
    }

    /// A hand that records beside the loop.
    pub(super) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// What was counted since core started.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.tally.samples();
        samples.extend(self.recorder.samples());
        samples
    }
}
