//! The console role: asks every role what it measured, judges the controls of the guideline by it, and serves the metrics
//! to readers that prove who they are. It holds no capability and gives no orders.

mod authority;
mod door;
mod engine;
mod exposition;
mod gather;
mod givers;
mod keys;
mod ntp;
mod panel;
mod probe;
mod readers;
mod settings;
pub(crate) mod shelf;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;
mod visit;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use events::{Event, Family, Role, Sample, ScrapeRefusal, Tally};
use gateway::recorder::Recorder;
use gateway::wire::console::{ConsoleAnswer, ConsoleAsk};
use gateway::wire::{Answer, Ask, Fault, FaultKind, Measured};
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{LocalSet, spawn_local};

use self::engine::Engine;
use self::exposition::Exposition;
pub(crate) use self::gather::Places;
use self::gather::{Gathered, gather};
use self::keys::Keys;
use self::panel::Panel;
use self::shelf::Shelf;
use crate::memory;
use crate::notify::{self, every, tick};
use crate::sandbox;
use crate::server::{self, Access, Letter, Peer};
use crate::signals::{Signals, Word};

/// Requests that wait for the loop at once.
const LETTERS_MAX: usize = 16;
/// How long a connection of the self-test is known as one.
const OWN_AGE_MAX: Duration = Duration::from_secs(60);
/// How long the end of the role waits for its record.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Where the console finds its files and the other roles.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Its own state.
    pub(crate) state: PathBuf,
    /// Its own socket's directory.
    pub(crate) runtime: PathBuf,
    /// Where core writes the roles' settings.
    pub(crate) services: PathBuf,
    /// The other roles.
    pub(crate) places: Places,
}

/// The role, as its tasks share it; all run on one thread.
#[derive(Debug)]
pub(crate) struct Console {
    places: Places,
    recorder: Recorder,
    started_at: Timestamp,
    keys: RefCell<Keys>,
    tally: RefCell<Tally>,
    panel: RefCell<Panel>,
    /// What the roles answered last; who holds the lock asks.
    answers: Mutex<Option<(Instant, Rc<Gathered>)>>,
    /// Where connections of the self-test come from.
    own: RefCell<BTreeMap<SocketAddr, Instant>>,
    /// When somebody last read the metrics.
    scraped_at: Cell<Option<Timestamp>>,
}

/// Serves until told to stop.
pub(crate) async fn run(paths: Paths) -> Result<()> {
    let mut signals = Signals::listen()?;
    sandbox::enter(sandbox::CONSOLE_FAMILIES)?;
    let shelf = Shelf::new(&paths.state);
    let local = LocalSet::new();
    local
        .run_until(async {
            let console = Console::open(&paths.places, shelf.clone())?;
            let engine = Engine::open(Rc::clone(&console), shelf, &paths.services)?;
            let letters = listen(&paths.runtime)?;
            spawn_local(engine.run());
            console.note(Event::RoleStarted {
                role: Role::Console,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            });
            notify::ready("judging the controls");
            tracing::info!("ready");
            console.turn(letters, &mut signals).await;
            notify::stopping();
            console.last().await;
            Ok(())
        })
        .await
}

fn listen(runtime: &Path) -> Result<mpsc::Receiver<Letter>> {
    let path = runtime.join("console.sock");
    // Everybody may connect, for this role is in no other group than its own; only admins are answered.
    let listener = server::bind(&path, Access::Everybody)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    let own = rustix::process::geteuid().as_raw();
    tokio::spawn(server::serve(listener, server::admins_only(own), send));
    Ok(letters)
}

impl Console {
    fn open(places: &Places, shelf: Shelf) -> Result<Rc<Self>> {
        let now = Timestamp::now();
        Ok(Rc::new(Console {
            places: places.clone(),
            recorder: Recorder::start(places.record.clone(), Role::Console),
            started_at: now,
            keys: RefCell::new(Keys::open(shelf, now).context("the metrics' keys cannot be used")?),
            tally: RefCell::default(),
            panel: RefCell::default(),
            answers: Mutex::default(),
            own: RefCell::default(),
            scraped_at: Cell::default(),
        }))
    }

    async fn turn(self: &Rc<Self>, mut letters: mpsc::Receiver<Letter>, signals: &mut Signals) {
        let mut alive = notify::alive_every().map(every);
        loop {
            tokio::select! {
                Some(letter) = letters.recv() => self.answer(letter),
                () = tick(alive.as_mut()) => notify::alive(),
                word = signals.next() => match word {
                    Word::Reload => {}
                    Word::Stop => return,
                },
            }
        }
    }

    /// Answers beside the loop: what is given away waits for its entry in the log.
    fn answer(self: &Rc<Self>, letter: Letter) {
        let Letter { peer, ask, reply } = letter;
        let answer = match ask {
            Ask::Measure {} => Answer::Measured(Box::new(self.measured())),
            Ask::Console(ask) => {
                let console = Rc::clone(self);
                // A client that left needs no answer.
                spawn_local(async move { drop(reply.send(console.answer_console(ask, peer).await)) });
                return;
            }
            Ask::Status {}
            | Ask::Apply { .. }
            | Ask::Flows { .. }
            | Ask::Verify {}
            | Ask::Sources {}
            | Ask::TimeTrusted {}
            | Ask::RenderServices {}
            | Ask::Denials {}
            | Ask::Watch(_)
            | Ask::Record(_)
            | Ask::Persons(_)
            | Ask::Sessions(_)
            | Ask::Vendors(_)
            | Ask::Edge(_) => failed(FaultKind::BadRequest, "this role only knows the controls: ask core"),
        };
        let _ = reply.send(answer);
    }

    async fn answer_console(&self, ask: ConsoleAsk, peer: Peer) -> Answer {
        let by = peer.user;
        let changed = match ask {
            ConsoleAsk::Controls {} => match self.panel.borrow().controls(Timestamp::now()) {
                Some(controls) => Ok(ConsoleAnswer::Controls(controls)),
                None => return failed(FaultKind::Busy, "nothing has been judged yet; try again in a moment"),
            },
            ConsoleAsk::Readers {} => Ok(ConsoleAnswer::Readers(self.keys.borrow().readers())),
            ConsoleAsk::AddReader { name } => self.add_reader(by, name).await,
            ConsoleAsk::RemoveReader { name } => self.remove_reader(by, name).await,
            ConsoleAsk::NewToken {} => self.new_token(by).await,
        };
        changed.map_or_else(|error| failed(FaultKind::Failed, &error.to_string()), Answer::Console)
    }

    fn measured(&self) -> Measured {
        Measured {
            role: Role::Console,
            started_at: self.started_at,
            samples: self.samples(),
            observations: self.panel.borrow().observations(),
        }
    }

    /// What this role counted and measured.
    fn samples(&self) -> Vec<Sample> {
        let mut samples = vec![Sample::new(Family::Build, &[env!("CARGO_PKG_VERSION")], 1.0)];
        samples.extend(self.tally.borrow().samples());
        samples.extend(self.recorder.samples());
        samples.extend(memory::sample(Role::Console));
        samples.extend(self.panel.borrow().samples(Timestamp::now()));
        samples
    }

    /// The whole text of the metrics, as of now.
    ///
    /// # Errors
    /// Only when a family contradicts the format.
    async fn exposition(&self) -> prometheus::Result<String> {
        let answers = self.answers().await;
        let mut exposition = Exposition::default();
        for role in self.places.expected() {
            let measured = answers.get(&role);
            let started_at =
                if role == Role::Console { Some(self.started_at) } else { measured.map(|m| m.started_at) };
            let up = if started_at.is_some() { 1.0 } else { 0.0 };
            exposition.take([Sample::new(Family::RoleUp, &[role.word()], up)]);
            exposition
                .take(started_at.map(|at| Sample::new(Family::RoleStarted, &[role.word()], seconds(at))));
            let given = measured.into_iter().flat_map(|measured| &measured.samples);
            exposition.take(given.filter(|sample| givers::may_give(role, sample)).cloned());
        }
        exposition.take(self.samples());
        exposition.text()
    }

    /// What the roles answer now. Those who wait for an answer together share it: however many ask, every role is asked
    /// one thing at a time.
    async fn answers(&self) -> Rc<Gathered> {
        let began = Instant::now();
        let mut held = self.answers.lock().await;
        if let Some((at, answers)) = &*held
            && *at >= began
        {
            return Rc::clone(answers);
        }
        let answers = Rc::new(gather(&self.places).await);
        *held = Some((Instant::now(), Rc::clone(&answers)));
        answers
    }

    /// Counts an event.
    fn witness(&self, event: &Event) {
        self.tally.borrow_mut().observe(event);
    }

    /// Counts an event and has it recorded.
    fn note(&self, event: Event) {
        self.witness(&event);
        self.recorder.note(event);
    }

    /// The last thing before the end, given a moment to become durable.
    async fn last(&self) {
        let event = Event::RoleStopping { role: Role::Console };
        let recorded = tokio::time::timeout(LAST_WAIT, self.recorder.record(event)).await;
        if !matches!(recorded, Ok(Ok(_))) {
            tracing::warn!("the end of this role is not in the record");
        }
    }

    /// Counts a refusal, unless the visitor is this role itself at its self-test.
    fn refuse(&self, from: SocketAddr, refusal: ScrapeRefusal) {
        if !self.is_own(from) {
            tracing::debug!(%from, reason = refusal.word(), "refused a visitor of the metrics");
            self.witness(&Event::ScrapeRefused { refusal });
        }
    }

    /// The self-test will come from here. The address is one of this box: nobody else has it.
    fn expect_own(&self, from: SocketAddr) {
        let mut own = self.own.borrow_mut();
        own.retain(|_, since| since.elapsed() <= OWN_AGE_MAX);
        own.insert(from, Instant::now());
    }

    fn is_own(&self, from: SocketAddr) -> bool {
        self.own.borrow().get(&from).is_some_and(|since| since.elapsed() <= OWN_AGE_MAX)
    }
}

/// A point in time as Prometheus has it.
fn seconds(at: Timestamp) -> f64 {
    Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).map_or(0.0, |since| since.as_secs_f64())
}

fn failed(kind: FaultKind, message: &str) -> Answer {
    Answer::Failed(Fault::new(kind, message))
}
