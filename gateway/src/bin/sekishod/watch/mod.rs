//! The watch role: reads what the kernel tells of denied packets and of connections, from sockets that core opened, keeps
//! the ledger of both, tells admins. It holds no capability and can write to nothing but its own socket and its ledger.

mod follow;
mod ledger;
mod losses;
mod measure;
mod names;
mod packet;
mod ring;
mod source;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use events::{Event, Role};
use gateway::recorder::Recorder;
use gateway::wire::watch::{WatchAnswer, WatchAsk};
use gateway::wire::{Answer, Ask, Fault, FaultKind};
use jiff::Timestamp;
use policy::services::WatchSettings;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

use self::follow::{Follower, Sight};
use self::ledger::{Ledger, Order, Running};
use self::measure::Witness;
use self::ring::Ring;
use crate::notify::{self, every, tick};
use crate::sandbox;
use crate::server::{self, Access, Letter};
use crate::settings::SettingsFile;
use crate::signals::{Signals, Word};

/// Requests that wait for the loop at once.
const LETTERS_MAX: usize = 16;
/// How often the settings are looked at, and what has waited long enough is done.
const TICK: Duration = Duration::from_secs(1);
/// How long the end of the feed may take when the role stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Where the role's files and its neighbours are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// Its own directory.
    pub(crate) state: &'a Path,
    /// Where its socket appears.
    pub(crate) runtime: &'a Path,
    /// The socket at which core hands over the feed.
    pub(crate) feed: &'a Path,
    /// Where core writes what the policy says about the ledger.
    pub(crate) services: &'a Path,
    /// The socket of the record role.
    pub(crate) record: &'a Path,
}

/// Serves until told to stop.
pub(crate) async fn run(places: Places<'_>) -> Result<()> {
    let mut signals = Signals::listen()?;
    sandbox::enter(sandbox::WATCH_FAMILIES)?;
    let now = Timestamp::now();
    let own = rustix::process::geteuid().as_raw();
    let path = places.runtime.join("watch.sock");
    // Everybody may connect, for this role is in no other group than its own; only admins are answered.
    let listener = server::bind(&path, Access::Everybody)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let mut running = ledger::start(places.state, now)?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(server::serve(listener, server::admins_only(own), send));
    let mut witness = Witness::new(Recorder::start(places.record.to_owned(), Role::Watch), now);
    witness.tell(Event::RoleStarted { role: Role::Watch, version: env!("CARGO_PKG_VERSION").to_owned() });
    let sight = Rc::new(RefCell::new(Sight { ring: Ring::default(), witness }));
    let stop = Rc::new(Notify::new());
    let local = LocalSet::new();
    let follower = Follower {
        path: places.feed.to_owned(),
        ledger: running.ledger.clone(),
        sight: Rc::clone(&sight),
        stop: Rc::clone(&stop),
    };
    let following = local.spawn_local(follower.run());
    local.spawn_local(keep_time(running.ledger.clone(), SettingsFile::of(places.services, "watch.json")));
    notify::ready("reading what was denied, and who speaks to whom");
    tracing::info!("ready");
    let ended = local.run_until(turn(letters, &sight, &mut running, &mut signals)).await;
    notify::stopping();
    sight.borrow_mut().witness.stopping();
    // What the kernel has told is written before the role ends.
    stop.notify_one();
    if local.run_until(tokio::time::timeout(STOP_WAIT, following)).await.is_err() {
        tracing::warn!("the feed did not end in time");
    }
    running.close().await;
    ended
}

async fn turn(
    mut letters: mpsc::Receiver<Letter>,
    sight: &Rc<RefCell<Sight>>,
    running: &mut Running,
    signals: &mut Signals,
) -> Result<()> {
    let mut alive = notify::alive_every().map(every);
    let mut look = every(TICK);
    loop {
        tokio::select! {
            Some(letter) = letters.recv() => {
                let (sight, ledger) = (Rc::clone(sight), running.ledger.clone());
                spawn_local(async move {
                    let answer = answer(&letter.ask, &sight, &ledger).await;
                    // A client that left needs no answer.
                    let _ = letter.reply.send(answer);
                });
            }
            Some(event) = running.events.recv() => sight.borrow_mut().witness.tell(event),
            () = tick(alive.as_mut()) => notify::alive(),
            _ = look.tick() => {
                anyhow::ensure!(running.ledger.is_alive(), "the ledger's thread is gone");
                sight.borrow_mut().witness.tick();
            }
            word = signals.next() => match word {
                Word::Reload => {}
                Word::Stop => return Ok(()),
            },
        }
    }
}

/// Tells the ledger that time passes, and what the policy says about it. Core writes the settings with each policy.
async fn keep_time(ledger: Ledger, mut settings: SettingsFile<WatchSettings>) {
    let mut look = every(TICK);
    loop {
        look.tick().await;
        match settings.changed() {
            Ok(None) => {}
            Ok(Some(changed)) => ledger.order(Order::Settings(Box::new(changed))).await,
            Err(error) => {
                tracing::warn!(%error, "the settings that core wrote cannot be read; the former ones hold")
            }
        }
        ledger.order(Order::Tick(Timestamp::now(), Instant::now())).await;
    }
}

async fn answer(ask: &Ask, sight: &RefCell<Sight>, ledger: &Ledger) -> Answer {
    let answered = match ask {
        Ask::Denials {} => return Answer::Denials(sight.borrow().ring.denials()),
        Ask::Measure {} => {
            let measured = sight.borrow().witness.measured(&ledger.summary(), Timestamp::now());
            return Answer::Measured(Box::new(measured));
        }
        Ask::Watch(WatchAsk::Ledger(query)) => ledger.connections(query).await.map(WatchAnswer::Ledger),
        Ask::Watch(WatchAsk::Denied(query)) => ledger.denials(query).await.map(WatchAnswer::Denied),
        Ask::Watch(WatchAsk::Sums { since }) => ledger.sums(*since).await.map(WatchAnswer::Sums),
        Ask::Status {}
        | Ask::Apply { .. }
        | Ask::Flows {}
        | Ask::Verify {}
        | Ask::Sources {}
        | Ask::TimeTrusted {}
        | Ask::RenderServices {}
        | Ask::Record(_)
        | Ask::Console(_)
        | Ask::Persons(_)
        | Ask::Sessions(_)
        | Ask::Vendors(_)
        | Ask::Edge(_) => Err(Fault::new(
            FaultKind::BadRequest,
            "this role only knows what was denied and who spoke to whom: ask core",
        )),
    };
    answered.map_or_else(Answer::Failed, Answer::Watch)
}
