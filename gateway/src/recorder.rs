//! A role's hand on the record: every event goes to the record role, which makes it durable and says where it stands.
//!
//! What must not happen unrecorded waits for [`Recorder::record`]; what is told after the fact goes by
//! [`Recorder::note`] through a bounded queue that outlasts a restart of the record role. What the record could not
//! take is counted, never dropped in silence. What is told twice, because nobody heard that it was durable, is one entry.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::{Event, Family, Role, Sample};
use jiff::Timestamp;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::wire::frame::{self, FrameError, HEAD_BYTES};
use crate::wire::record::{RecordAnswer, RecordAsk};
use crate::wire::{Answer, Ask, Fault, FaultKind, Request, VERSION};

/// Events that wait for the record role; the oldest leave when more come.
const QUEUE_MAX: usize = 1024;
/// How long one entry may take to become durable.
const RECORD_WAIT: Duration = Duration::from_secs(10);
/// How long one entry waits at most for those that were noted before it.
const EARLIER_WAIT: Duration = Duration::from_secs(2);
/// How long a sign of life may take.
const SIGN_WAIT: Duration = Duration::from_secs(1);
/// How long to wait before a record role that was not there is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How long to wait before a record role with too many clients is asked again.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// Longest answer in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why an event is not in the record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The record role does not answer.
    #[error("the record role does not answer at `{}`: {source}; start it (systemctl start sekisho-record)", path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record role has no room for it.
    #[error("the record role refused it: {}", .0.message)]
    Full(Fault),
    /// The record role refused it for another reason.
    #[error("the record role refused it: {}", .0.message)]
    Refused(Fault),
    /// The answer makes no sense.
    #[error("the record role's answer makes no sense: {0}")]
    Answer(#[from] FrameError),
    /// Something else answered.
    #[error("the socket of the record role is answered by another role")]
    Confused,
}

/// An event that waits.
#[derive(Debug)]
struct Noted {
    at: Timestamp,
    event: Event,
    /// Who wants to hear that it is durable.
    told: Option<oneshot::Sender<()>>,
}

/// The hand; clones share the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    role: Role,
    queue: Mutex<Queue>,
    more: Notify,
    /// Somebody waits for what is queued: it is brought now.
    hurry: Notify,
    progress: watch::Sender<Progress>,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Noted>,
    /// How many were ever put in.
    entered: u64,
}

/// How the queue goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many were ever brought, or lost.
    left: u64,
    /// How often the record role could not be reached.
    failed: u64,
}

impl Recorder {
    /// Begins to bring what is noted to the record role; must be called inside the runtime.
    #[must_use]
    pub fn start(path: PathBuf, role: Role) -> Self {
        let shared = Shared {
            path,
            role,
            queue: Mutex::default(),
            more: Notify::new(),
            hurry: Notify::new(),
            progress: watch::Sender::default(),
            lost: AtomicU64::new(0),
        };
        let recorder = Recorder { shared: Arc::new(shared) };
        tokio::spawn(bring(recorder.clone()));
        recorder
    }

    /// Makes an event durable and returns its number in the log. An event that is only counted has none. What was noted
    /// before comes before it, unless the record role cannot be reached for that, or is long about it.
    ///
    /// # Errors
    /// When it is not known to be durable: what it was to record must then not happen.
    pub async fn record(&self, event: Event) -> Result<Option<u64>, RecordError> {
        self.bring_now(Timestamp::now(), event, false).await
    }

    /// The same for an event that may be in the log already, because somebody brought it and did not hear the answer. Then
    /// it is not written a second time, provided that it has the same time.
    ///
    /// # Errors
    /// When it is not known to be durable.
    pub async fn record_again(&self, at: Timestamp, event: Event) -> Result<Option<u64>, RecordError> {
        self.bring_now(at, event, true).await
    }

    async fn bring_now(&self, at: Timestamp, event: Event, again: bool) -> Result<Option<u64>, RecordError> {
        if !events::audit::is_logged(&event) {
            return Ok(None);
        }
        // Late or not, the record role says whether it takes this one.
        let _ = timeout(EARLIER_WAIT, self.what_was_noted_before()).await;
        append(&self.shared.path, at, &event, again).await.map(Some)
    }

    /// Ends when everything that waits now is in the record, or cannot be brought there at this moment.
    async fn what_was_noted_before(&self) {
        let mut progress = self.shared.progress.subscribe();
        let (entered, Progress { left, failed }) = (self.queue().entered, *progress.borrow());
        if left < entered {
            self.shared.hurry.notify_one();
            // The sender is in `shared`.
            let _ = progress.wait_for(|now| now.left >= entered || now.failed > failed).await;
        }
    }

    /// Whether the record role answers at this moment. One that has too many clients is asked again: it lives.
    pub async fn lives(&self) -> bool {
        let sign = async {
            loop {
                match ask_record(&self.shared.path, Ask::Measure {}).await {
                    Ok(Answer::Measured(_)) => return true,
                    Ok(Answer::Failed(fault)) if fault.kind == FaultKind::Busy => sleep(BUSY_WAIT).await,
                    Ok(_) | Err(_) => return false,
                }
            }
        };
        timeout(SIGN_WAIT, sign).await.unwrap_or(false)
    }

    /// Has an event recorded as soon as the record role takes it.
    pub fn note(&self, event: Event) {
        self.push(event, None);
    }

    /// The same, in the same order; the receiver hears when the event is durable, and of no word more when it is lost.
    #[must_use]
    pub fn note_and_tell(&self, event: Event) -> oneshot::Receiver<()> {
        let (told, durable) = oneshot::channel();
        self.push(event, Some(told));
        durable
    }

    fn push(&self, event: Event, told: Option<oneshot::Sender<()>>) {
        if !events::audit::is_logged(&event) {
            return;
        }
        let mut queue = self.queue();
        if queue.waiting.len() >= QUEUE_MAX {
            queue.waiting.pop_front();
            self.count_lost();
            self.one_left();
        }
        queue.waiting.push_back(Noted { at: Timestamp::now(), event, told });
        queue.entered += 1;
        drop(queue);
        self.shared.more.notify_one();
    }

    /// Events that are not in the record since the role started.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// The same for the metrics.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        #[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 has lost its last digit anyway")]
        let lost = self.lost() as f64;
        vec![Sample::new(Family::RecorderLost, &[self.shared.role.word()], lost)]
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        // A queue is as good as it was, whoever panicked beside it.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_lost(&self) {
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn one_left(&self) {
        self.shared.progress.send_modify(|progress| progress.left += 1);
    }
}

/// Brings what is noted, one by one, for as long as anybody holds the recorder.
async fn bring(recorder: Recorder) {
    loop {
        let next = recorder.queue().waiting.pop_front();
        match next {
            Some(noted) => {
                bring_one(&recorder, noted).await;
                recorder.one_left();
            }
            None => recorder.shared.more.notified().await,
        }
    }
}

async fn bring_one(recorder: &Recorder, Noted { at, event, told }: Noted) {
    // What could not be reached may have written it nevertheless.
    let mut again = false;
    loop {
        match append(&recorder.shared.path, at, &event, again).await {
            Ok(_) => {
                if let Some(told) = told {
                    // Who no longer waits need not hear it.
                    let _ = told.send(());
                }
                return;
            }
            Err(error @ RecordError::Unreachable { .. }) => {
                if !again {
                    tracing::warn!(%error, "events wait for the record role");
                }
                again = true;
                recorder.shared.progress.send_modify(|progress| progress.failed += 1);
                // Until then, or until somebody waits.
                let _ = timeout(RETRY_WAIT, recorder.shared.hurry.notified()).await;
            }
            Err(error) => {
                recorder.count_lost();
                tracing::error!(%error, ?event, "an event is not in the record");
                return;
            }
        }
    }
}

/// Makes one event durable. A record role that has too many clients is asked again until the time is up.
async fn append(path: &Path, at: Timestamp, event: &Event, again: bool) -> Result<u64, RecordError> {
    let whole = async {
        loop {
            let ask = Ask::Record(RecordAsk::Append { at, event: event.clone(), again });
            match ask_record(path, ask).await? {
                Answer::Record(RecordAnswer::Appended { index }) => return Ok(index),
                Answer::Failed(fault) if fault.kind == FaultKind::Busy => sleep(BUSY_WAIT).await,
                Answer::Failed(fault) if fault.kind == FaultKind::Full => {
                    return Err(RecordError::Full(fault));
                }
                Answer::Failed(fault) => return Err(RecordError::Refused(fault)),
                _ => return Err(RecordError::Confused),
            }
        }
    };
    let late = || unreachable(path)(io::ErrorKind::TimedOut.into());
    timeout(RECORD_WAIT, whole).await.unwrap_or_else(|_| Err(late()))
}

async fn ask_record(path: &Path, ask: Ask) -> Result<Answer, RecordError> {
    let mut stream = UnixStream::connect(path).await.map_err(unreachable(path))?;
    let bytes = frame::encode(&Request { version: VERSION, ask })?;
    // A peer that refuses us answers and closes before it has read everything: its answer is worth more than the error.
    let sent = stream.write_all(&bytes).await;
    let mut head = [0; HEAD_BYTES];
    let read = stream.read_exact(&mut head).await;
    read.map_err(|source| unreachable(path)(sent.err().unwrap_or(source)))?;
    let length = frame::body_bytes(head)?;
    if length > ANSWER_BYTES_MAX {
        return Err(FrameError::TooLong(length).into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(unreachable(path))?;
    Ok(frame::decode(&body)?)
}

fn unreachable(path: &Path) -> impl Fn(io::Error) -> RecordError {
    move |source| RecordError::Unreachable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Measured;
    use tokio::net::UnixListener;

    /// What a record role that answers so leads to.
    async fn recorded(answer: Answer) -> Result<u64, RecordError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let role = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&frame::encode(&answer).unwrap()).await.unwrap();
            // Held until the question has been sent.
            let _ = stream.read(&mut [0; 4096]).await;
        });
        let recorded = append(&path, Timestamp::UNIX_EPOCH, &Event::LogRoom {}, false).await;
        role.await.unwrap();
        recorded
    }

    #[tokio::test]
    async fn a_record_role_that_is_busy_lives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let recorder = Recorder::start(path, Role::Core);
        let busy = Answer::Failed(Fault::new(FaultKind::Busy, "why"));
        let (started_at, samples, observations) = (Timestamp::UNIX_EPOCH, Vec::new(), Vec::new());
        let measured = Measured { role: Role::Record, started_at, samples, observations };
        let role = tokio::spawn(async move {
            for answer in [busy, Answer::Measured(Box::new(measured))] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(&frame::encode(&answer).unwrap()).await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
            }
        });
        assert!(recorder.lives().await);
        role.await.unwrap();
        assert!(!recorder.lives().await, "nobody is there any more");
    }

    /// A record role that writes down what it is asked, and answers only where it shall.
    async fn served(listener: UnixListener, answers: Vec<bool>) -> Vec<(Event, Timestamp, bool)> {
        let mut asked = Vec::new();
        for answers in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; HEAD_BYTES];
            stream.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; frame::body_bytes(head).unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            match frame::decode_request(&body).unwrap().ask {
                Ask::Record(RecordAsk::Append { at, event, again }) => asked.push((event, at, again)),
                other => panic!("{other:?}"),
            }
            if answers {
                let answer = Answer::Record(RecordAnswer::Appended { index: asked.len() as u64 });
                stream.write_all(&frame::encode(&answer).unwrap()).await.unwrap();
            }
        }
        asked
    }

    #[tokio::test]
    async fn what_may_have_been_written_is_brought_again_as_the_same_and_before_what_comes_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let recorder = Recorder::start(path, Role::Core);
        let stopping = Event::RoleStopping { role: Role::Core };
        // Killed before it answers the first time; another comes up at once.
        let role = tokio::spawn(served(listener, vec![false, true, true]));
        recorder.note(Event::LogRoom {});
        assert_eq!(recorder.record(stopping.clone()).await.unwrap(), Some(3));
        let asked = role.await.unwrap();
        let words: Vec<_> = asked.iter().map(|(event, _, again)| (event.clone(), *again)).collect();
        assert_eq!(words, [(Event::LogRoom {}, false), (Event::LogRoom {}, true), (stopping, false)]);
        assert_eq!(asked[0].1, asked[1].1, "by its time it is known as the same");
    }

    #[tokio::test]
    async fn nobody_waits_for_what_cannot_be_brought() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(directory.path().join("record.sock"), Role::Core);
        recorder.note(Event::LogRoom {});
        let refused = timeout(SIGN_WAIT, recorder.record(Event::LogRoom {})).await.unwrap();
        assert!(matches!(refused, Err(RecordError::Unreachable { .. })), "{refused:?}");
        assert_eq!(recorder.lost(), 0, "it still waits");
    }

    #[tokio::test]
    async fn each_refusal_keeps_its_reason() {
        let failed = |kind| Answer::Failed(Fault::new(kind, "why"));
        assert!(matches!(recorded(failed(FaultKind::Full)).await, Err(RecordError::Full(_))));
        for kind in [FaultKind::NotPermitted, FaultKind::BadRequest, FaultKind::Failed, FaultKind::Closed] {
            assert!(matches!(recorded(failed(kind)).await, Err(RecordError::Refused(_))), "{kind:?}");
        }
        assert!(matches!(recorded(Answer::Done {}).await, Err(RecordError::Confused)));
        let taken = recorded(Answer::Record(RecordAnswer::Appended { index: 7 })).await;
        assert!(matches!(taken, Ok(7)), "{taken:?}");
    }
}
