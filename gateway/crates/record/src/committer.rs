//! Many appenders, one disk: a thread takes all entries that wait, writes and syncs them as one group, and answers each.
//! It seals the log within an interval of an append, at once after a critical entry, and when it ends.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::Checkpoint;
use crate::log::{AppendError, Budget, Class, Full, Item, Log};
use crate::tile::ENTRY_BYTES_MAX;

/// Entries that wait at once.
const WAITING_MAX: usize = 2048;
/// Bytes of entries that wait at once, unless they are critical.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Entries in one group.
const GROUP_MAX: usize = 512;
/// How long a thread without work sleeps at most.
const IDLE: Duration = Duration::from_secs(3600);

/// What is called with an entry's number, or why it has none.
type Done = Box<dyn FnOnce(Result<u64, AppendError>) + Send>;
/// What is called with the checkpoint.
type Sealed = Box<dyn FnOnce(Result<Checkpoint, AppendError>) + Send>;

enum Job {
    Append(Appending),
    Seal(Sealed),
    Budget(Budget),
    End,
}

/// An entry on its way.
struct Appending {
    entry: Vec<u8>,
    class: Class,
    /// It may be in the log already.
    is_again: bool,
    done: Done,
}

/// How a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Entries, those that no checkpoint covers yet included.
    pub size: u64,
    /// The last checkpoint.
    pub sealed: Checkpoint,
    /// Bytes on disk.
    pub used_bytes: u64,
    /// The room it has.
    pub budget: Budget,
    /// Why ordinary entries are refused, if they are.
    pub full: Option<Full>,
    /// Why nothing is appended any more, if so.
    pub broken: Option<String>,
    /// Entries refused since it was opened.
    pub refused: u64,
    /// How long the group of entries under way takes already: a disk that hangs fails nothing.
    pub at_work: Option<Duration>,
}

/// The running thread. Dropping it seals the log and ends.
#[derive(Debug)]
pub struct Committer {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// A way to a committer; any number of them, from any thread.
#[derive(Clone)]
pub struct Handle {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting_bytes: AtomicUsize,
    status: Mutex<Status>,
    /// When the group under way began.
    began: Mutex<Option<Instant>>,
}

impl Committer {
    /// Starts the thread; the log is sealed at least `interval` after an append.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(log: Log, interval: Duration) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(WAITING_MAX);
        let shared = Arc::new(Shared {
            waiting_bytes: AtomicUsize::new(0),
            status: Mutex::new(status(&log, 0)),
            began: Mutex::default(),
        });
        let mut worker = Worker { log, interval, shared: Arc::clone(&shared), due: None, refused: 0 };
        let thread =
            std::thread::Builder::new().name("committer".to_owned()).spawn(move || worker.run(&queue))?;
        Ok(Committer { handle: Handle { jobs, shared }, thread: Some(thread) })
    }

    /// Gives a way to it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        let _ = self.handle.jobs.send(Job::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// Hands over an entry; `done` is called from the committer's thread and must not block. Never waits.
    pub fn submit(
        &self,
        entry: Vec<u8>,
        class: Class,
        done: impl FnOnce(Result<u64, AppendError>) + Send + 'static,
    ) {
        self.hand_over(Appending { entry, class, is_again: false, done: Box::new(done) });
    }

    /// Hands over an entry that was handed over before, by somebody who did not hear of an end: is it among the last few
    /// thousand of the log, it keeps its number and is not appended a second time.
    pub fn submit_again(
        &self,
        entry: Vec<u8>,
        class: Class,
        done: impl FnOnce(Result<u64, AppendError>) + Send + 'static,
    ) {
        self.hand_over(Appending { entry, class, is_again: true, done: Box::new(done) });
    }

    fn hand_over(&self, appending: Appending) {
        let (length, class) = (appending.entry.len(), appending.class);
        if length > ENTRY_BYTES_MAX {
            return (appending.done)(Err(AppendError::TooLong(length)));
        }
        let waiting = self.shared.waiting_bytes.fetch_add(length, Ordering::AcqRel);
        if class != Class::Critical && waiting + length > WAITING_BYTES_MAX {
            self.shared.waiting_bytes.fetch_sub(length, Ordering::AcqRel);
            return (appending.done)(Err(AppendError::Busy));
        }
        if let Err(refused) = self.jobs.try_send(Job::Append(appending)) {
            self.shared.waiting_bytes.fetch_sub(length, Ordering::AcqRel);
            answer_refused(refused);
        }
    }

    /// Appends an entry and waits until it is durable.
    ///
    /// # Errors
    /// When it is not recorded.
    pub fn append(&self, entry: Vec<u8>, class: Class) -> Result<u64, AppendError> {
        let (send, receive) = channel();
        self.submit(entry, class, move |result| drop(send.send(result)));
        receive.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Seals the log; `sealed` is called from the committer's thread and must not block.
    pub fn submit_seal(&self, sealed: impl FnOnce(Result<Checkpoint, AppendError>) + Send + 'static) {
        if let Err(refused) = self.jobs.try_send(Job::Seal(Box::new(sealed))) {
            answer_refused(refused);
        }
    }

    /// Seals the log and waits for the checkpoint.
    ///
    /// # Errors
    /// When the disk has no room or fails.
    pub fn seal(&self) -> Result<Checkpoint, AppendError> {
        let (send, receive) = channel();
        self.submit_seal(move |result| drop(send.send(result)));
        receive.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Changes the room that the log has.
    pub fn set_budget(&self, budget: Budget) {
        // A full queue means that the disk is slow: the next change of the settings says it again.
        let _ = self.jobs.try_send(Job::Budget(budget));
    }

    /// Says how the log is.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let began = *self.shared.began.lock().unwrap_or_else(PoisonError::into_inner);
        status.at_work = began.map(|began| began.elapsed());
        status
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("shared", &self.shared).finish_non_exhaustive()
    }
}

fn answer_refused(refused: TrySendError<Job>) {
    let (job, why) = match refused {
        TrySendError::Full(job) => (job, AppendError::Busy),
        TrySendError::Disconnected(job) => (job, AppendError::Closed),
    };
    match job {
        Job::Append(appending) => (appending.done)(Err(why)),
        Job::Seal(sealed) => sealed(Err(why)),
        Job::Budget(_) | Job::End => {}
    }
}

struct Worker {
    log: Log,
    interval: Duration,
    shared: Arc<Shared>,
    /// When the next seal is.
    due: Option<Instant>,
    refused: u64,
}

impl Worker {
    fn run(&mut self, queue: &Receiver<Job>) {
        self.set_due();
        loop {
            let wait = self.due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            let first = match queue.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.at_work(true);
            if let Some(job) = first
                && self.work(job, queue)
            {
                break;
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                let _ = self.seal();
            }
            self.at_work(false);
        }
        let _ = self.seal();
    }

    /// Does a job and all that wait behind it; true when it is the last.
    fn work(&mut self, first: Job, queue: &Receiver<Job>) -> bool {
        let mut group = Vec::new();
        let mut seals = Vec::new();
        let mut is_last = false;
        let mut job = Some(first);
        while let Some(next) = job {
            match next {
                Job::Append(appending) if appending.is_again => {
                    // What it repeats may be in this very group.
                    self.append(std::mem::take(&mut group));
                    group.extend(self.sift(appending));
                }
                Job::Append(appending) => group.push(appending),
                Job::Seal(sealed) => seals.push(sealed),
                Job::Budget(budget) => self.log.set_budget(budget),
                Job::End => is_last = true,
            }
            job = if is_last || group.len() >= GROUP_MAX { None } else { queue.try_recv().ok() };
        }
        self.append(group);
        if !seals.is_empty() {
            let result = self.seal();
            seals.into_iter().for_each(|sealed| sealed(result.clone()));
        }
        is_last
    }

    /// Gives back what is not in the log yet; tells the number of what is.
    fn sift(&self, appending: Appending) -> Option<Appending> {
        match self.log.find(&appending.entry) {
            Some(index) if self.log.broken().is_none() => {
                self.shared.waiting_bytes.fetch_sub(appending.entry.len(), Ordering::AcqRel);
                (appending.done)(Ok(index));
                None
            }
            _ => Some(appending),
        }
    }

    fn append(&mut self, group: Vec<Appending>) {
        if group.is_empty() {
            return self.tell();
        }
        let items: Vec<Item<'_>> =
            group.iter().map(|one| Item { bytes: &one.entry, class: one.class }).collect();
        let results = self.log.append(&items);
        self.refused += results.iter().filter(|result| result.is_err()).count() as u64;
        let bytes: usize = group.iter().map(|one| one.entry.len()).sum();
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        let is_urgent = group.iter().any(|one| one.class == Class::Critical);
        self.set_due();
        if is_urgent && self.log.full().is_none() {
            self.due = Some(Instant::now());
        }
        self.tell();
        for (one, result) in group.into_iter().zip(results) {
            (one.done)(result);
        }
    }

    fn seal(&mut self) -> Result<Checkpoint, AppendError> {
        let result = self.log.seal().cloned();
        self.due = None;
        self.set_due();
        self.tell();
        result
    }

    fn set_due(&mut self) {
        let is_open = self.log.size() > self.log.sealed().size && self.log.broken().is_none();
        if is_open && self.due.is_none() {
            self.due = Some(Instant::now() + self.interval);
        }
    }

    fn at_work(&self, is_at_work: bool) {
        *self.shared.began.lock().unwrap_or_else(PoisonError::into_inner) = is_at_work.then(Instant::now);
    }

    fn tell(&self) {
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status(&self.log, self.refused);
    }
}

fn status(log: &Log, refused: u64) -> Status {
    Status {
        size: log.size(),
        sealed: log.sealed().clone(),
        used_bytes: log.used_bytes(),
        budget: log.budget(),
        full: log.full(),
        broken: log.broken().map(str::to_owned),
        refused,
        at_work: None,
    }
}
