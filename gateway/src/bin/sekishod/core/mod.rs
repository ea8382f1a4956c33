//! The core role: decides by [`enforce`], carries out by [`kernel`] and [`network`], answers admins.
//! It parses only what an authorised peer sends; nothing from the network ever reaches it.

mod answers;
mod around;
mod carrier;
mod control_thread;
mod doors;
mod engineers;
mod feed;
mod files;
mod grants;
mod kernel;
mod kill_switch;
mod measure;
mod network;
mod orders;
mod persons;
mod plan;
mod sysctl;
mod telling;
mod time;
mod tun;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use enforce::{Enforcer, Standing, Step, Ticket};
use events::{Event, Role};
use gateway::accounts::{ADMIN_GROUP, Accounts, CONSOLE_USER, EDGE_USER, WATCH_USER};
use gateway::recorder::Recorder;
use gateway::store::Store;
use gateway::wire::{Answer, Change};
use jiff::Timestamp;
use policy::ruleset::Mark;
use session::SessionId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::around::{Around, Found};
use self::carrier::Carrier;
pub(crate) use self::carrier::DataPath;
use self::control_thread::ControlThread;
use self::doors::{Doors, DoorsLetter, Opened, Service};
use self::kernel::Kernel;
use self::kill_switch::KillSwitch;
use self::measure::{Looked, Neighbourhood, Totals};
use self::plan::{Plan, PlanError};
use self::time::Clocks;
use self::witness::Witness;
use crate::notify::{self, every, tick};
use crate::sandbox;
use crate::server::{self, Access, Letter, Peer};
use crate::signals::{Signals, Word};

/// Requests that wait for the loop at once.
const LETTERS_MAX: usize = 16;
/// How often interfaces and the packet filter are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Warnings kept for `sekisho status`.
const WARNINGS_MAX: usize = 32;
/// Repaired differences kept for `sekisho verify`.
const REPAIRED_MAX: usize = 100;

/// Why a fresh gateway is closed.
const NO_POLICY: &str = "there is no applied policy yet";

/// The role.
struct Core {
    clocks: Clocks,
    enforcer: Enforcer<Plan>,
    store: Store,
    kernel: Kernel,
    around: Around,
    carrier: Arc<Carrier>,
    /// The enforcer's step that waits for its surroundings.
    surrounding: Option<Step>,
    /// What was asked meanwhile and has to wait.
    later: Vec<Letter>,
    services: PathBuf,
    started_at: Timestamp,
    /// The plan whose text is `candidate` on disk.
    candidate: Option<Plan>,
    /// Those who wait for the end of their apply.
    waiting: BTreeMap<Ticket, Waiting>,
    /// One policy is being read at a time: each takes its marks from the ledger of the one in force.
    preparing: bool,
    ready: mpsc::Sender<Ready>,
    closed_because: Option<String>,
    /// Marks that were open when last looked at, and when each last opened or closed.
    open: BTreeSet<Mark>,
    changed: BTreeMap<Mark, Timestamp>,
    warnings: VecDeque<String>,
    repaired: VecDeque<String>,
    /// How things are, as last told the service manager.
    told: String,
    /// What could not be done about interfaces, as last told.
    problems: Vec<String>,
    /// Foreign tables as last told.
    foreign: Vec<String>,
    time_recorded: Option<Duration>,
    witness: Witness,
    looked: Looked,
    totals: Totals,
    neighbourhood: Neighbourhood,
    doors: Doors,
    kill_switch: Arc<KillSwitch>,
    /// Keys of the VPN's peers, by name, of the policy that was last in force.
    peers: BTreeMap<String, String>,
}

struct Waiting {
    reply: oneshot::Sender<Answer>,
    change: Change,
    by: u32,
    /// The rule set asked for was in force already.
    same_rules: bool,
}

/// What was made ready beside the loop.
enum Ready {
    /// A policy that was read and, if it shall be put in force, is in the record as asked for.
    Policy { result: Result<Plan, PlanError>, peer: Peer, dry_run: bool, reply: oneshot::Sender<Answer> },
    /// It is in the record who says that the time is good.
    TimeTrusted { reply: oneshot::Sender<Answer> },
    /// Somebody is back from the interfaces.
    Found(Box<Found>),
    /// What had to be recorded first is; this is to be done now.
    Then(Box<dyn FnOnce(&mut Core) + Send>),
}

/// Where the role's files and its neighbours are, and what the admin wants of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// Its own directory: the policy in force.
    pub(crate) state: &'a Path,
    /// Where its sockets and the settings of the other roles appear.
    pub(crate) runtime: &'a Path,
    /// The socket of the record role.
    pub(crate) record: &'a Path,
    /// Which WireGuard shall carry the VPN's packets.
    pub(crate) data_path: DataPath,
}

/// Serves until told to stop. The firewall stays as it is.
pub(crate) async fn run(Places { state, runtime, record, data_path }: Places<'_>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let store = Store::open(state)?;
    let accounts = Accounts::read().context("cannot read the accounts of this box")?;
    sandbox::enter(sandbox::CORE_FAMILIES)?;
    let control = ControlThread::start().context("cannot start a thread")?;
    let recorder = Recorder::start(record.to_owned(), Role::Core);
    let (ready, mut ready_rx) = mpsc::channel(1);
    let carrier = Arc::new(Carrier::new(data_path));
    let around = {
        let _control = control.enter();
        Around::start(ready.clone(), Arc::clone(&carrier))?
    };
    let mut core = Core::start(store, runtime, Tools { recorder, ready, around, carrier })?;
    core.establish(&mut ready_rx).await?;
    let letters = listen(runtime, &accounts, &core.kill_switch, &control)?;
    let doors = listen_doors(runtime, &accounts, &core)?;
    notify::ready(&core.line());
    tracing::info!(state = core.line(), "ready");
    core.turn(Inbox { letters, doors, ready: ready_rx }, &mut signals).await;
    notify::stopping();
    core.witness.last(Event::RoleStopping { role: Role::Core }).await;
    tracing::info!("stopping; the firewall stays as it is");
    Ok(())
}

/// Opens the sockets of admins, of the console and of the watch role, served beside the loop.
fn listen(
    runtime: &Path,
    accounts: &Accounts,
    kill_switch: &Arc<KillSwitch>,
    control: &ControlThread,
) -> Result<mpsc::Receiver<Letter>> {
    let _control = control.enter();
    let own = rustix::process::geteuid().as_raw();
    let path = runtime.join("core.sock");
    let listener = server::bind(&path, Access::Group(accounts.group_id(ADMIN_GROUP)))
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(server::serve(listener, server::admins_only(own), send.clone()));
    // A socket of its own, so that the console needs no share in the admins' group to be let near core.
    let path = runtime.join("measure.sock");
    let listener = server::bind(&path, Access::Group(accounts.group_id(CONSOLE_USER)))
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    tokio::spawn(server::serve(listener, server::console_only(own), send));
    let path = runtime.join("feed.sock");
    let listener = server::bind(&path, Access::Group(accounts.group_id(WATCH_USER)))
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    tokio::spawn(feed::serve(listener, own));
    Ok(kill_switch::stand_before(letters, Arc::clone(kill_switch)))
}

/// Opens the socket of the edge role.
fn listen_doors(runtime: &Path, accounts: &Accounts, core: &Core) -> Result<mpsc::Receiver<DoorsLetter>> {
    let own = rustix::process::geteuid().as_raw();
    let path = runtime.join("doors.sock");
    let listener = server::bind(&path, Access::Group(accounts.group_id(EDGE_USER)))
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(doors::serve(listener, Service { core: send, changed: core.doors.watch(), own }));
    Ok(letters)
}

/// Random bytes of the kernel's.
fn random<const N: usize>() -> Result<[u8; N], rustix::io::Errno> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// What reaches the loop.
struct Inbox {
    letters: mpsc::Receiver<Letter>,
    doors: mpsc::Receiver<DoorsLetter>,
    ready: mpsc::Receiver<Ready>,
}

/// What works beside the loop.
struct Tools {
    recorder: Recorder,
    ready: mpsc::Sender<Ready>,
    around: Around,
    carrier: Arc<Carrier>,
}

impl Core {
    fn start(store: Store, runtime: &Path, tools: Tools) -> Result<Core> {
        let Tools { recorder, ready, around, carrier } = tools;
        let clocks = Clocks::start();
        let now = clocks.now();
        let Opened { doors, left, troubles } = Doors::open(&store);
        let last = last_applied(&store);
        let damage = last.as_ref().err().filter(|why| *why != NO_POLICY).cloned();
        let trusted = time::still_trusted(&store, now.wall);
        let kernel = Kernel::open()?;
        let mut core = Core {
            clocks,
            enforcer: Enforcer::start(last, trusted, now),
            store,
            around,
            carrier,
            surrounding: None,
            later: Vec::new(),
            kill_switch: Arc::new(KillSwitch::new(kernel.ender()?)),
            kernel,
            services: runtime.join("services"),
            started_at: now.wall,
            candidate: None,
            waiting: BTreeMap::new(),
            preparing: false,
            ready,
            closed_because: None,
            open: BTreeSet::new(),
            changed: BTreeMap::new(),
            warnings: VecDeque::new(),
            repaired: VecDeque::new(),
            told: String::new(),
            problems: Vec::new(),
            foreign: Vec::new(),
            time_recorded: None,
            witness: Witness::new(recorder),
            looked: Looked::default(),
            totals: Totals::default(),
            neighbourhood: Neighbourhood::default(),
            doors,
            peers: BTreeMap::new(),
        };
        core.witness
            .note(Event::RoleStarted { role: Role::Core, version: env!("CARGO_PKG_VERSION").to_owned() });
        if let Some(why) = damage {
            core.warn(why);
        }
        troubles.into_iter().for_each(|what| core.trouble(what));
        core.shut_doors(&left);
        Ok(core)
    }

    /// Nothing that a former run opened goes on: first in the kernel, then in words.
    fn shut_doors(&mut self, left: &[SessionId]) {
        match self.kernel.end_all_grants() {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "ended grants of a former run"),
            Err(error) => self.warn(format!("grants of a former run could not be ended yet: {error}")),
        }
        for session in left {
            self.tell_of_one_left_behind(session);
        }
    }

    /// Brings the box to its last applied policy, surroundings included, or closes it. Ready is said of a state that was read
    /// back, and of no other: else the service manager shall try again.
    async fn establish(&mut self, ready: &mut mpsc::Receiver<Ready>) -> Result<()> {
        self.settle();
        while self.is_surrounding() {
            let limit = self.enforcer.poll_timeout(self.clocks.now());
            tokio::select! {
                Some(ready) = ready.recv() => self.ready(ready),
                () = wait(limit.map(|at| self.clocks.instant(at))) => self.enforcer.handle_timeout(self.clocks.now()),
            }
            self.settle();
        }
        let why = || self.warnings.back().cloned().unwrap_or_default();
        let known = !matches!(self.enforcer.standing(), Standing::Unknown);
        anyhow::ensure!(known, "neither a policy nor the closed state could be established: {}", why());
        Ok(())
    }

    /// The loop: one thing at a time, each carried to its end before the next.
    async fn turn(&mut self, Inbox { mut letters, mut doors, mut ready }: Inbox, signals: &mut Signals) {
        let mut look = every(LOOK_EVERY);
        let mut alive = notify::alive_every().map(every);
        let mut beat = every(doors::BEAT);
        loop {
            self.settle();
            if self.resume() {
                continue;
            }
            self.settle_doors();
            let due = self.enforcer.poll_timeout(self.clocks.now());
            let session = self.doors.poll_timeout(self.session_now());
            let due = [due, session].into_iter().flatten().min();
            tokio::select! {
                Some(letter) = letters.recv() => self.letter(letter),
                Some(letter) = doors.recv() => self.door(letter),
                _ = beat.tick() => self.beat(),
                Some(ready) = ready.recv() => self.ready(ready),
                () = wait(due.map(|at| self.clocks.instant(at))) => self.enforcer.handle_timeout(self.clocks.now()),
                _ = look.tick() => self.look(),
                () = tick(alive.as_mut()) => notify::alive(),
                word = signals.next() => match word {
                    Word::Reload => tracing::info!("nothing to reload: policies come by `sekisho apply`"),
                    Word::Stop => return,
                },
            }
        }
    }

    /// Keeps something that somebody should look at.
    fn warn(&mut self, warning: String) {
        tracing::warn!("{warning}");
        if self.warnings.len() >= WARNINGS_MAX {
            self.warnings.pop_front();
        }
        self.warnings.push_back(format!("{:.0}: {warning}", self.clocks.now().wall));
    }
}

/// The last applied policy, or why there is none.
fn last_applied(store: &Store) -> Result<Plan, String> {
    let stored = store.applied().map_err(|error| error.to_string())?.ok_or(NO_POLICY)?;
    Plan::revive(stored).map_err(|error| store.reject_applied(error.to_string()).to_string())
}

async fn wait(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}
