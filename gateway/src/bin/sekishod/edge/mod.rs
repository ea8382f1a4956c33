//! The edge role: speaks with those outside. It holds no capability and decides nothing: who may come in, what may open
//! and every socket towards the clinic come from core; what passes is recorded before it passes.

mod books;
mod control;
mod doors;
mod forward;
mod knocks;
mod maintenance;
mod refusals;
mod send;
mod visit;
mod vpn;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use events::{Event, Role, Tally};
use gateway::recorder::{RecordError, Recorder};
use gateway::wire::doors::SessionId;
use gateway::wire::edge::{EdgeAnswer, EdgeAsk};
use gateway::wire::{Answer, Ask, Fault, FaultKind, Measured};
use jiff::Timestamp;
use policy::services::EdgeSettings;
use tokio::sync::{Notify, mpsc, watch};
use transport::{Channel, Credentials, GuestList, Identity, KeyId, Listener, Quality};

use self::books::{Books, Live};
use self::doors::Doors;
use self::knocks::Knocks;
use self::vpn::Vpn;
use crate::console::shelf::Shelf;
use crate::notify::{self, every, tick};
use crate::server::{self, Access, Letter};
use crate::settings::SettingsFile;
use crate::signals::{Signals, Word};
use crate::{memory, sandbox};

/// Requests that wait for the loop at once.
const LETTERS_MAX: usize = 16;
/// How often the settings are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Where the role's files and its neighbours are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// Its own directory: the doors' keys.
    pub(crate) state: &'a Path,
    /// Where its socket appears.
    pub(crate) runtime: &'a Path,
    /// Core's socket for this role.
    pub(crate) doors: &'a Path,
    /// The socket of the files role.
    pub(crate) files: &'a Path,
    /// Where core writes what the policy says about the doors.
    pub(crate) services: &'a Path,
    /// The socket of the record role.
    pub(crate) record: &'a Path,
}

/// What every visit needs.
#[derive(Debug)]
struct Shared {
    doors: Doors,
    files: PathBuf,
    recorder: Recorder,
    books: Arc<Books>,
    guests: GuestList,
    /// Somebody was put on core's list just now.
    list_wanted: Notify,
    started_at: Timestamp,
    /// What the door shows, and what signs receipts.
    shown: Mutex<Option<Arc<Credentials>>>,
    visits: Mutex<Visits>,
    vpn: Mutex<Vpn>,
    knocks: Mutex<Knocks>,
    tally: Mutex<Tally>,
}

/// Channels that are open, in the order they came.
#[derive(Debug, Default)]
struct Visits {
    next: u64,
    open: BTreeMap<u64, Visit>,
}

/// A channel, and who is at its other end.
#[derive(Debug)]
struct Visit {
    identity: Identity,
    quality: Quality,
    channel: Channel,
}

/// Serves until told to stop.
pub(crate) async fn run(places: Places<'_>) -> Result<()> {
    let mut signals = Signals::listen()?;
    sandbox::enter_with(sandbox::EDGE_FAMILIES, sandbox::EDGE_CALLS)?;
    let own = rustix::process::geteuid().as_raw();
    let shelf = Shelf::new(places.state);
    let key = maintenance::key(&shelf).context("the door has no key")?;
    let path = places.runtime.join("edge.sock");
    let listener = server::bind(&path, Access::Everybody)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(server::serve(listener, server::admins_only(own), send));
    let recorder = Recorder::start(places.record.to_owned(), Role::Edge);
    let doors = Doors::new(places.doors);
    let vpn = Mutex::new(Vpn::open(&shelf).context("the VPN has no key")?);
    let shared = Arc::new(Shared {
        books: Books::open(shelf, doors.clone())?,
        doors,
        files: places.files.to_owned(),
        recorder,
        guests: GuestList::default(),
        list_wanted: Notify::new(),
        started_at: Timestamp::now(),
        shown: Mutex::default(),
        visits: Mutex::default(),
        vpn,
        knocks: Mutex::default(),
        tally: Mutex::default(),
    });
    shared.tell(Event::RoleStarted { role: Role::Edge, version: env!("CARGO_PKG_VERSION").to_owned() });
    let (maintenance, wanted) = watch::channel(None);
    tokio::spawn(maintenance::keep(Arc::clone(&shared), key, wanted));
    tokio::spawn(vpn::keep(Arc::clone(&shared)));
    notify::ready("the doors are as the policy says");
    tracing::info!("ready");
    let ended =
        turn(&shared, letters, SettingsFile::of(places.services, "edge.json"), &maintenance, &mut signals)
            .await;
    notify::stopping();
    shared.tell(Event::RoleStopping { role: Role::Edge });
    shared.close();
    ended
}

async fn turn(
    shared: &Arc<Shared>,
    mut letters: mpsc::Receiver<Letter>,
    mut settings: SettingsFile<EdgeSettings>,
    maintenance: &watch::Sender<Option<policy::services::EdgeMaintenance>>,
    signals: &mut Signals,
) -> Result<()> {
    let mut alive = notify::alive_every().map(every);
    let mut look = every(TICK);
    loop {
        tokio::select! {
            Some(Letter { ask, reply, .. }) = letters.recv() => {
                // A client that left needs no answer.
                let _ = reply.send(shared.answer(&ask));
            }
            () = tick(alive.as_mut()) => notify::alive(),
            _ = look.tick() => match settings.changed() {
                Ok(None) => shared.look_at_vpn(None),
                Ok(Some(changed)) => {
                    shared.look_at_vpn(Some(changed.vpn));
                    drop(maintenance.send_replace(changed.maintenance));
                }
                Err(error) => {
                    tracing::warn!(%error, "the settings that core wrote cannot be read; the former ones hold");
                }
            },
            word = signals.next() => match word {
                Word::Reload => {}
                Word::Stop => return Ok(()),
            },
        }
    }
}

impl Shared {
    fn answer(&self, ask: &Ask) -> Answer {
        match ask {
            Ask::Measure {} => {
                let mut samples = lock(&self.tally).samples();
                samples.extend(self.recorder.samples());
                samples.extend(lock(&self.vpn).samples(Timestamp::now()));
                samples.extend(lock(&self.knocks).samples());
                samples.extend(memory::sample(Role::Edge));
                let (role, started_at, observations) = (Role::Edge, self.started_at, Vec::new());
                Answer::Measured(Box::new(Measured { role, started_at, samples, observations }))
            }
            Ask::Edge(EdgeAsk::Vpn {}) => Answer::Edge(EdgeAnswer::Vpn(lock(&self.vpn).status())),
            _ => Answer::Failed(Fault::new(
                FaultKind::BadRequest,
                "this role only knows who is at the doors: ask core",
            )),
        }
    }

    /// Lets the VPN take up what the policy says, or look after what it has.
    fn look_at_vpn(&self, wanted: Option<Option<policy::services::EdgeVpn>>) {
        let mut vpn = lock(&self.vpn);
        let events = match wanted {
            Some(wanted) => vpn.want(wanted),
            None => vpn.look(),
        };
        drop(vpn);
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// A session, if it is this key's.
    fn session(&self, id: &str, key: &KeyId) -> Option<Arc<Live>> {
        self.books.of(&SessionId::parse(id).ok()?, key)
    }

    /// Makes an event durable, and counts it.
    async fn record(&self, event: Event) -> Result<Option<u64>, RecordError> {
        lock(&self.tally).observe(&event);
        self.recorder.record(event).await
    }

    /// Notes an event, and counts it.
    fn tell(&self, event: Event) {
        lock(&self.tally).observe(&event);
        self.recorder.note(event);
    }

    /// Counts who knocks at this listener.
    fn count_at(&self, listener: &Listener) {
        lock(&self.knocks).follow(listener.counters());
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        lock(&self.shown).clone()
    }

    fn show(&self, credentials: Arc<Credentials>) {
        *lock(&self.shown) = Some(credentials);
    }

    fn enter(&self, visit: Visit) -> u64 {
        let mut visits = lock(&self.visits);
        visits.next += 1;
        let number = visits.next;
        visits.open.insert(number, visit);
        number
    }

    fn leave(&self, number: u64) {
        lock(&self.visits).open.remove(&number);
    }

    /// Ends the channels of those who could not come in now as they did.
    fn expel(&self) {
        let (guests, now) = (self.guests.current(), Timestamp::now());
        for Visit { identity, quality, channel } in lock(&self.visits).open.values() {
            let admitted = guests.admit(&identity.certificate, &identity.intermediates, now);
            if !admitted.is_ok_and(|now| now.is_as(quality)) {
                tracing::info!(key = %identity.key_id, "a guest may no longer be here");
                channel.close();
            }
        }
    }

    /// Ends every channel.
    fn close(&self) {
        lock(&self.visits).open.values().for_each(|visit| visit.channel.close());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is as good as it was, whoever panicked beside it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
