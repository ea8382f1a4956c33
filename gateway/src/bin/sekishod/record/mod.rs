//! The record role: owns the transparency log. The other roles and admins bring events, each its own kinds; an answer
//! means that the entry is durable. It reads its log again all the time, and says when something is wrong with it.

mod answers;
mod facts;
mod gate;
mod measure;
mod sessions;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use events::audit::{Entry, Writer};
use events::event::text;
use events::{Event, Role, SessionChange, Tally};
use gateway::wire::record::{RecordAnswer, RecordAsk};
use gateway::wire::{Answer, Ask, FaultKind};
use jiff::Timestamp;
use policy::services::RecordSettings;
use record::committer::{Handle, Status};
use record::{AppendError, Budget, Class, Committer, Log, Recovery};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::answers::{Desk, failed};
use self::facts::{Deeds, History, Inspector, Verification};
use crate::notify::{self, every, tick};
use crate::sandbox;
use crate::server::{self, Access, Letter, Peer};
use crate::settings::SettingsFile;
use crate::signals::{Signals, Word};

/// Requests that wait for the loop at once.
const LETTERS_MAX: usize = 64;
/// How long after an append a checkpoint is signed, at the latest.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// How often room and settings are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often what is new in the log is verified.
const VERIFY_NEW_EVERY: Duration = Duration::from_secs(60);
/// How often all of it is.
const VERIFY_ALL_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Room and time until core has said what the policy says: the policy's own defaults.
const BUDGET_BYTES: u64 = 4_000_000_000;
const RETENTION_S: u64 = 5 * 365 * 24 * 3600;

/// Where the role's files and its neighbours' are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// Its own directory: the log.
    pub(crate) state: &'a Path,
    /// Where its socket appears.
    pub(crate) runtime: &'a Path,
    /// Where core writes the settings of the other roles.
    pub(crate) services: &'a Path,
}

/// Serves until told to stop.
pub(crate) async fn run(places: Places<'_>) -> Result<()> {
    let mut signals = Signals::listen()?;
    sandbox::enter(sandbox::RECORD_FAMILIES)?;
    let own = rustix::process::geteuid().as_raw();
    let (log, recovery) = Log::open(places.state, Budget::new(BUDGET_BYTES))?;
    let mut recorder = Recorder::start(&places, own, log, &recovery)?;
    let path = places.runtime.join("record.sock");
    // Everybody may connect, for this role is in no other group than its own; the gate asks each time who it is.
    let listener = server::bind(&path, Access::Everybody)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(server::serve(listener, gate::gate(own, Arc::clone(&recorder.refused)), send));
    notify::ready("keeping the log");
    tracing::info!(key = %recorder.desk.key, "ready");
    let ended = recorder.turn(letters, &mut signals).await;
    notify::stopping();
    recorder.say(Event::RoleStopping { role: Role::Record });
    // Seals, with the entry just said in it.
    drop(recorder);
    ended
}

/// What is known besides the log itself.
#[derive(Debug)]
struct Known {
    started_at: Timestamp,
    tally: Tally,
    /// Deeds in the log; complete once `history` is known.
    deeds: Arc<Mutex<Deeds>>,
    /// Unknown until the log was read once.
    history: Option<History>,
    /// The last verification of everything.
    whole: Option<Verification>,
    /// Whether the last one of what came since found nothing wrong.
    new_is_good: bool,
    retention_s: u64,
}

impl Known {
    /// Whether nothing is known to be wrong. What a verification of everything found stays until the next one of everything:
    /// one of what is new does not read it again.
    fn is_intact(&self) -> bool {
        self.new_is_good && self.whole.as_ref().is_some_and(|whole| whole.report.is_good())
    }

    /// Takes a verification up.
    fn verified(&mut self, verification: Verification) {
        if verification.is_whole {
            self.new_is_good = true;
            self.whole = Some(verification);
        } else {
            self.new_is_good = verification.report.is_good();
        }
    }
}

/// An event that a peer brought.
struct Brought {
    at: Timestamp,
    event: Event,
    again: bool,
}

/// A verification on its way: it takes the inspector along and brings it back.
type Inspection = JoinHandle<(Inspector, Verification, Option<History>)>;

struct Recorder {
    own: u32,
    desk: Desk,
    known: Known,
    settings: SettingsFile<RecordSettings>,
    refused: Arc<AtomicU64>,
    /// Here while no verification runs.
    inspector: Option<Inspector>,
    inspection: Option<Inspection>,
    /// Whoever waits for a whole verification.
    waiting: Vec<oneshot::Sender<Answer>>,
    verify_new_at: Instant,
    verify_all_at: Instant,
    was_accepting: bool,
    /// Last, for the others hold ways to it.
    _committer: Committer,
}

impl Recorder {
    fn start(places: &Places<'_>, own: u32, log: Log, recovery: &Recovery) -> Result<Self> {
        let (key, entries) = (log.key(), log.size());
        let committer = Committer::start(log, SEAL_EVERY).context("cannot start the log's thread")?;
        let now = Instant::now();
        let desk = Desk { directory: places.state.to_owned(), key: key.clone(), handle: committer.handle() };
        let known = Known {
            started_at: Timestamp::now(),
            tally: Tally::default(),
            deeds: Arc::default(),
            history: None,
            whole: None,
            new_is_good: true,
            retention_s: RETENTION_S,
        };
        let mut recorder = Recorder {
            own,
            desk,
            known,
            settings: SettingsFile::of(places.services, "record.json"),
            refused: Arc::default(),
            inspector: Some(Inspector::new(places.state, key)),
            inspection: None,
            waiting: Vec::new(),
            verify_new_at: now,
            verify_all_at: now,
            was_accepting: true,
            _committer: committer,
        };
        recorder.say(Event::LogOpened { entries, repaired_bytes: recovery.torn_bytes });
        if recovery.journal_missing {
            tracing::error!("the log had no journal: what was not under a checkpoint is lost");
            let fault = Some("the journal was missing when the log was opened".to_owned());
            recorder.say(Event::LogVerified { entries, fault });
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        recorder.say(Event::RoleStarted { role: Role::Record, version });
        Ok(recorder)
    }

    async fn turn(&mut self, mut letters: mpsc::Receiver<Letter>, signals: &mut Signals) -> Result<()> {
        let mut alive = notify::alive_every().map(every);
        let mut look = every(TICK);
        loop {
            tokio::select! {
                Some(letter) = letters.recv() => self.answer(letter),
                ended = inspected(self.inspection.as_mut()) => self.inspected(ended)?,
                () = tick(alive.as_mut()) => notify::alive(),
                _ = look.tick() => self.look()?,
                word = signals.next() => match word {
                    Word::Reload => {}
                    Word::Stop => return Ok(()),
                },
            }
        }
    }

    fn answer(&mut self, letter: Letter) {
        let Letter { peer, ask, reply } = letter;
        let desk = self.desk.clone();
        let block = |reply: oneshot::Sender<Answer>, work: Box<dyn FnOnce(&Desk) -> Answer + Send>| {
            // A client that left needs no answer.
            drop(tokio::task::spawn_blocking(move || drop(reply.send(work(&desk)))));
        };
        match ask {
            Ask::Record(RecordAsk::Append { at, event, again }) => {
                self.append(peer, Brought { at, event, again }, reply);
            }
            Ask::Record(RecordAsk::Entries { before, limit }) => {
                block(reply, Box::new(move |desk| desk.entries(before, limit)));
            }
            Ask::Record(RecordAsk::Prove { index }) => block(reply, Box::new(move |desk| desk.prove(index))),
            Ask::Record(RecordAsk::Checkpoint {}) => block(reply, Box::new(Desk::checkpoint)),
            Ask::Record(RecordAsk::File { name }) => block(reply, Box::new(move |desk| desk.file(&name))),
            Ask::Record(RecordAsk::Verify {}) => {
                self.waiting.push(reply);
                self.verify_all_at = Instant::now();
                self.inspect();
            }
            Ask::Measure {} => {
                let status = self.desk.handle.status();
                let measured = measure::measured(&self.known, &status, &self.desk.directory, &self.refused);
                drop(reply.send(Answer::Measured(Box::new(measured))));
            }
            Ask::Status {}
            | Ask::Apply { .. }
            | Ask::Flows {}
            | Ask::Verify {}
            | Ask::Sources {}
            | Ask::TimeTrusted {}
            | Ask::RenderServices {}
            | Ask::Denials {}
            | Ask::Watch(_)
            | Ask::Console(_)
            | Ask::Persons(_)
            | Ask::Sessions(_)
            | Ask::Vendors(_)
            | Ask::Edge(_) => {
                let answer = failed(FaultKind::BadRequest, "this role only keeps the log: ask core");
                drop(reply.send(answer));
            }
        }
    }

    /// Appends an event of a peer; the answer goes out once the entry is durable.
    fn append(&mut self, peer: Peer, brought: Brought, reply: oneshot::Sender<Answer>) {
        let Brought { at, event, again } = brought;
        let writer = match gate::writer(self.own, peer, &event) {
            Ok(writer) => writer,
            Err(why) => return drop(reply.send(failed(FaultKind::NotPermitted, why))),
        };
        if !events::audit::is_logged(&event) {
            let why = "this is counted, not logged";
            return drop(reply.send(failed(FaultKind::BadRequest, why)));
        }
        let entry = Arc::new(Entry::new(at, writer, event));
        let (deeds, recorded) = (Arc::clone(&self.known.deeds), Arc::clone(&entry));
        submit(&self.desk.handle, &entry, again, move |result| {
            let answer = match result {
                Ok(index) => {
                    lock(&deeds).take(&recorded);
                    Answer::Record(RecordAnswer::Appended { index })
                }
                Err(AppendError::Busy) => failed(FaultKind::Busy, AppendError::Busy.to_string()),
                Err(error @ AppendError::Full(_)) => failed(FaultKind::Full, error.to_string()),
                Err(error) => failed(FaultKind::Failed, error.to_string()),
            };
            drop(reply.send(answer));
        });
    }

    /// Says something about this role itself.
    fn say(&mut self, event: Event) {
        self.known.tally.observe(&event);
        let entry = Entry::new(Timestamp::now(), Writer::Role(Role::Record), event);
        submit(&self.desk.handle, &entry, false, |result| {
            if let Err(error) = result {
                tracing::error!(%error, "an event of the log is not in it");
            }
        });
    }

    fn look(&mut self) -> Result<()> {
        let status = self.desk.handle.status();
        if let Some(why) = &status.broken {
            // Opening it again finds out what is on disk.
            bail!("the log's disk failed: {why}");
        }
        self.tell_room(&status);
        self.tell_lost();
        match self.settings.changed() {
            Ok(None) => {}
            Ok(Some(settings)) => {
                self.known.retention_s = settings.log_retention_s;
                self.desk.handle.set_budget(Budget::new(settings.log_budget_bytes));
            }
            Err(error) => tracing::warn!(%error, "core's settings cannot be read; the former ones hold"),
        }
        if Instant::now() >= self.verify_new_at.min(self.verify_all_at) {
            self.inspect();
        }
        Ok(())
    }

    /// Tells the end of connections that ended with the edge role. What was told before this role began is known only once
    /// the log was read.
    fn tell_lost(&mut self) {
        if self.known.history.is_none() {
            return;
        }
        let lost = lock(&self.known.deeds).lost(Timestamp::now());
        for (session, connection) in lost {
            tracing::warn!(session, connection, "a connection ended with the edge role that carried it");
            self.say(Event::Session { session, change: SessionChange::ConnectionLost { connection } });
        }
    }

    fn tell_room(&mut self, status: &Status) {
        let is_accepting = measure::is_accepting(status);
        if is_accepting == self.was_accepting {
            return;
        }
        self.was_accepting = is_accepting;
        match measure::refusal(status) {
            Some(why) => {
                tracing::error!(why, "the log takes at most what is critical");
                notify::status("the log is full, or its disk hangs: changes are refused");
                self.say(Event::LogFull { why });
            }
            None => {
                notify::status("keeping the log");
                self.say(Event::LogRoom {});
            }
        }
    }

    /// Begins a verification, unless one runs.
    fn inspect(&mut self) {
        let Some(mut inspector) = self.inspector.take() else { return };
        let now = Instant::now();
        let is_whole = now >= self.verify_all_at;
        if is_whole {
            self.verify_all_at = now + VERIFY_ALL_EVERY;
        }
        self.verify_new_at = now + VERIFY_NEW_EVERY;
        let needs_history = self.known.history.is_none();
        let handle = self.desk.handle.clone();
        self.inspection = Some(tokio::task::spawn_blocking(move || {
            // What is durable and under no checkpoint yet is looked at, too.
            let _ = handle.seal();
            let verification = inspector.verify(is_whole);
            let history = needs_history.then(|| inspector.history());
            (inspector, verification, history)
        }));
    }

    fn inspected(&mut self, ended: Option<(Inspector, Verification, Option<History>)>) -> Result<()> {
        self.inspection = None;
        let Some((inspector, verification, history)) = ended else {
            bail!("the verification's thread is gone")
        };
        self.inspector = Some(inspector);
        if let Some(found) = history {
            // Deeds that came in while it was read are there already.
            lock(&self.known.deeds).merge(found.deeds.clone());
            self.known.history = Some(found);
        }
        self.tell_verified(&verification);
        if verification.is_whole {
            let waiting = std::mem::take(&mut self.waiting);
            waiting.into_iter().for_each(|reply| drop(reply.send(answers::verified(&verification))));
        }
        self.known.verified(verification);
        if !self.waiting.is_empty() {
            self.verify_all_at = Instant::now();
            self.inspect();
        }
        Ok(())
    }

    /// A whole verification is an entry; one of what is new only when it finds what was not known.
    fn tell_verified(&mut self, verification: &Verification) {
        let entries = self.desk.handle.status().sealed.size;
        let fault = verification.report.faults.first().map(|fault| text(&fault.to_string()));
        let was_intact = self.known.whole.is_none() || self.known.is_intact();
        if let Some(fault) = &fault {
            tracing::error!(%fault, "the log is not as it was signed");
        }
        if verification.is_whole || (fault.is_some() && was_intact) {
            self.say(Event::LogVerified { entries, fault });
        }
    }
}

/// Deeds are as good as they were, whoever panicked beside them.
fn lock(deeds: &Mutex<Deeds>) -> MutexGuard<'_, Deeds> {
    deeds.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of a verification, if one runs.
async fn inspected(
    inspection: Option<&mut Inspection>,
) -> Option<(Inspector, Verification, Option<History>)> {
    match inspection {
        Some(running) => running.await.ok(),
        None => std::future::pending().await,
    }
}

fn submit(
    handle: &Handle,
    entry: &Entry,
    again: bool,
    done: impl FnOnce(Result<u64, AppendError>) + Send + 'static,
) {
    let class = match entry.event.class() {
        events::Class::Gate => Class::Gate,
        events::Class::Ordinary => Class::Ordinary,
        events::Class::Critical => Class::Critical,
    };
    match entry.encode() {
        Ok(bytes) if again => handle.submit_again(bytes, class, done),
        Ok(bytes) => handle.submit(bytes, class, done),
        Err(error) => {
            tracing::error!(%error, "an event does not fit into an entry");
            done(Err(AppendError::TooLong(usize::MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::verify::{Fault, Report};

    #[test]
    fn what_was_found_in_all_of_the_log_is_not_mended_by_reading_what_is_new() {
        let mut known = Known {
            started_at: Timestamp::UNIX_EPOCH,
            tally: Tally::default(),
            deeds: Arc::default(),
            history: None,
            whole: None,
            new_is_good: true,
            retention_s: 0,
        };
        let verification = |second, is_whole, is_good| {
            let faults = if is_good { Vec::new() } else { vec![Fault::Torn(1)] };
            let (checkpoint, entries, files, unsealed, more_faults) = (None, 0, 0, 0, 0);
            let report = Report { checkpoint, entries, files, unsealed, faults, more_faults };
            Verification { at: Timestamp::from_second(second).unwrap(), report, is_whole }
        };
        assert!(!known.is_intact(), "nothing was verified yet");
        let (whole, new) = (true, false);
        // What is verified, whether it is good, whether the log counts as intact then, and as of when.
        for (second, is_whole, is_good, is_intact, at) in [
            (1, whole, true, true, 1),
            (2, new, true, true, 1),
            (3, new, false, false, 1),
            (4, new, true, true, 1),
            (5, whole, false, false, 5),
            (6, new, true, false, 5),
            (7, whole, true, true, 7),
        ] {
            known.verified(verification(second, is_whole, is_good));
            assert_eq!(known.is_intact(), is_intact, "after {second}");
            assert_eq!(known.whole.as_ref().unwrap().at.as_second(), at);
        }
    }
}
