//! The files role: holds what a vendor sends, seals the original, has it inspected by a process of its own, and delivers
//! what was released. It holds no capability and no IP socket; strangers' bytes pass through it unread. Edge can hand it
//! bytes and no more: what reaches the clinic is decided here, by the machine of the crate `transfer`.

mod deliver;
mod house;
mod inspection;
mod journal;
mod journey;
mod keep;
mod serve;
mod telling;
#[cfg(test)]
mod tests;
mod trial;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use events::{Event, Role};
use gateway::recorder::Recorder;
use tokio::task::LocalSet;

use self::house::House;
use crate::notify::{self, every, tick};
use crate::sandbox;
use crate::server::{self, Access};
use crate::signals::{Signals, Word};

/// How often what is kept is looked over.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Where the role's files and its neighbours are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// Its own directory: what is held, what is sealed, the journal.
    pub(crate) state: &'a Path,
    /// Where its socket appears.
    pub(crate) runtime: &'a Path,
    /// The socket at which the service manager starts one inspection for each connection.
    pub(crate) inspect: &'a Path,
    /// The vendors' drops, a directory each.
    pub(crate) drop: &'a Path,
    /// Keys that originals are sealed to; when there is no such file, the role makes a key of its own.
    pub(crate) seal_to: &'a Path,
    /// Where core writes the settings of the other roles.
    pub(crate) services: &'a Path,
    /// The socket of the record role.
    pub(crate) record: &'a Path,
}

/// Serves until told to stop.
pub(crate) async fn run(places: Places<'_>) -> Result<()> {
    let mut signals = Signals::listen()?;
    sandbox::enter(sandbox::FILES_FAMILIES)?;
    let own = rustix::process::geteuid().as_raw();
    let local = LocalSet::new();
    let recorder = Recorder::start(places.record.to_owned(), Role::Files);
    let (house, left) = House::open(&places, recorder)?;
    let house = Rc::new(house);
    let path = places.runtime.join("files.sock");
    // Everybody may connect, for this role is in no other group than its own; the gate asks each time who it is.
    let listener = server::bind(&path, Access::Everybody)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    house.tell(Event::RoleStarted { role: Role::Files, version: env!("CARGO_PKG_VERSION").to_owned() });
    local.spawn_local(telling::outcomes(Rc::clone(&house), left));
    local.spawn_local(trial::keep(Rc::clone(&house), places.state.to_owned()));
    local.spawn_local(serve::serve(Rc::clone(&house), listener, own));
    notify::ready("holding what vendors send until it is inspected");
    tracing::info!("ready");
    let ended = local.run_until(turn(&house, &mut signals)).await;
    notify::stopping();
    house.tell(Event::RoleStopping { role: Role::Files });
    ended
}

async fn turn(house: &House, signals: &mut Signals) -> Result<()> {
    let mut alive = notify::alive_every().map(every);
    let mut tidy = every(TIDY_EVERY);
    loop {
        tokio::select! {
            () = tick(alive.as_mut()) => notify::alive(),
            _ = tidy.tick() => house.tidy(),
            word = signals.next() => match word {
                Word::Reload => {}
                Word::Stop => return Ok(()),
            },
        }
    }
}
