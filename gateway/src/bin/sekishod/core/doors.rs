//! The doors: maintenance sessions from request to end. Each is a machine of the crate `session`; here its orders are carried
//! out (record, kernel), its events told, and edge's and the admins' questions answered.

mod asks;
mod pace;
mod resolve;
mod socket;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gateway::store::{DoorFile, Store, StoreError};
use gateway::wire::doors::{KeyId, SESSIONS_MAX, SessionId, SessionState, Standing, Vouched};
use gateway::wire::persons::SessionRow;
use gateway::wire::{Fault, FaultKind};
use jiff::Timestamp;
use netfilter::grants::Grant;
use serde::de::DeserializeOwned;
use session::{Now, Session, State};
use tokio::sync::watch;

use self::pace::Pace;
pub(super) use self::resolve::{contract_end, person_end};
pub(super) use self::socket::{DoorsLetter, DoorsReply, Service, serve};
use super::engineers::{Authority, Registry};
use super::persons::Book;
use super::plan::Plan;

/// Sessions of one engineer that are not over, at once.
const SESSIONS_OF_ONE_MAX: usize = 8;
/// Sessions of one vendor that are not over, at once: the last places are others'.
const SESSIONS_OF_VENDOR_MAX: usize = SESSIONS_MAX - SESSIONS_OF_ONE_MAX;
/// Sessions that are over and still listed.
const OVER_MAX: usize = 64;
/// An engineer whose session nobody follows for so long is gone.
const FOLLOW_SILENCE: Duration = Duration::from_secs(10);
/// How often the record role is heard while a session is open.
pub(super) const BEAT: Duration = Duration::from_millis(750);

/// Everything that core holds of the doors.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) book: Book,
    pub(super) registry: Registry,
    pub(super) authority: Option<Authority>,
    sessions: BTreeMap<SessionId, Live>,
    pace: Pace,
    /// Moves when any session did.
    changed: watch::Sender<u64>,
    /// Ids on disk: of sessions that are not over, and of those whose ending the log does not have yet.
    kept: Vec<SessionId>,
    /// The latter.
    untold: BTreeSet<SessionId>,
    /// The policy that sessions were last held against.
    plan: Option<Plan>,
    /// The record role is being asked whether it lives.
    is_beating: bool,
    /// Why something that was kept cannot be read. Nobody comes in by what is left: a factor, a revocation or a mark that
    /// was used may be missing from it.
    unreadable: Vec<StoreError>,
}

/// The doors as they were kept.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) doors: Doors,
    /// Sessions of a former run: they are over.
    pub(super) left: Vec<SessionId>,
    /// What somebody should hear of.
    pub(super) troubles: Vec<String>,
}

/// A session.
#[derive(Debug)]
struct Live {
    machine: Session,
    /// What a vendor's own authority says of its engineer, where the registry does not know him.
    vouched: Option<Vouched>,
    requested_at: Timestamp,
    grant: Option<Grant>,
    /// When edge last followed it.
    followed_at: Duration,
    approved_by: Vec<String>,
    /// The revision last told to those who follow.
    told: u32,
}

impl Doors {
    /// Reads what was kept. What cannot be read keeps the doors shut, and never the policy from being in force.
    pub(super) fn open(store: &Store) -> Opened {
        let mut unreadable = Vec::new();
        // The mark is read again when it is needed; that it can be is better known now.
        kept::<u32>(store, DoorFile::GrantMarks, &mut unreadable);
        let book = kept(store, DoorFile::Persons, &mut unreadable).unwrap_or_default();
        let registry = kept(store, DoorFile::Engineers, &mut unreadable).unwrap_or_default();
        let authority = kept(store, DoorFile::Authority, &mut unreadable);
        // Nothing counts by these: without them the log misses how sessions of a former run ended.
        let mut forgotten = Vec::new();
        let left: Vec<SessionId> = kept(store, DoorFile::Sessions, &mut forgotten).unwrap_or_default();
        let troubles = unreadable.iter().chain(&forgotten).map(StoreError::to_string).collect();
        let doors = Doors {
            book,
            registry,
            authority,
            sessions: BTreeMap::new(),
            pace: Pace::default(),
            changed: watch::Sender::new(0),
            kept: left.clone(),
            untold: BTreeSet::new(),
            plan: None,
            is_beating: false,
            unreadable,
        };
        Opened { doors, left, troubles }
    }

    /// Whether all that was kept is known.
    ///
    /// # Errors
    /// When something is not: what to do about it.
    pub(super) fn whole(&self) -> Result<(), Fault> {
        if self.unreadable.is_empty() {
            return Ok(());
        }
        let found: Vec<_> =
            self.unreadable.iter().map(|error| format!("{error}: {}", error.advice())).collect();
        let why = format!("the doors stay shut: {}; then restart sekisho-core", found.join("; "));
        Err(Fault::new(FaultKind::Failed, why))
    }

    /// Hears of every change.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// When the next session needs a look.
    pub(super) fn poll_timeout(&self, now: Now) -> Option<Duration> {
        self.sessions.values().filter_map(|live| live.machine.poll_timeout(now)).min()
    }

    /// Whether a session is being opened or is open: the record role must then be heard.
    pub(super) fn is_any_open(&self, now: Now) -> bool {
        self.sessions
            .values()
            .any(|live| matches!(live.machine.state(now), State::Opening {} | State::Open { .. }))
    }

    /// How every session stands.
    pub(super) fn states(&self, now: Now) -> impl Iterator<Item = State> {
        self.sessions.values().map(move |live| live.machine.state(now))
    }

    fn active(&self, now: Now) -> impl Iterator<Item = &Live> {
        self.sessions.values().filter(move |live| !live.is_over(now))
    }

    /// Engineers known by a vendor's own authority who asked for a session, each once.
    pub(super) fn vouched(&self) -> BTreeMap<KeyId, &Vouched> {
        let of = |live: &'_ Live| live.machine.asked().engineer;
        let known = self.sessions.values().filter_map(|live| Some((of(live), live.vouched.as_ref()?)));
        known.collect()
    }

    fn row(&self, id: &SessionId, now: Now) -> Option<SessionRow> {
        self.sessions.get(id).map(|live| live.row(now))
    }

    /// Ends every session of a key.
    pub(super) fn end_of_key(&mut self, key: &KeyId, now: Now) {
        for live in self.sessions.values_mut().filter(|live| live.machine.asked().engineer == *key) {
            live.machine.handle_end(session::EndReason::Revoked {}, now);
        }
    }

    /// Forgets the oldest of those that are over.
    fn forget(&mut self, now: Now) {
        let mut over: Vec<(Timestamp, SessionId)> = Vec::new();
        for (id, live) in &self.sessions {
            if live.is_over(now) && live.machine.is_finished() {
                over.push((live.requested_at, id.clone()));
            }
        }
        over.sort();
        let count = over.len().saturating_sub(OVER_MAX);
        for (_, id) in over.into_iter().take(count) {
            self.sessions.remove(&id);
        }
    }
}

/// What was kept in a file; why it cannot be read is put with the others.
fn kept<T: DeserializeOwned>(store: &Store, file: DoorFile, unreadable: &mut Vec<StoreError>) -> Option<T> {
    store.door(file).unwrap_or_else(|error| {
        unreadable.push(error);
        None
    })
}

impl Live {
    fn is_over(&self, now: Now) -> bool {
        matches!(self.machine.state(now), State::Denied { .. } | State::Closed { .. })
    }

    fn standing(&self, now: Now) -> Standing {
        let (state, at, missing, why) = match self.machine.state(now) {
            State::Requested { missing, .. } => (SessionState::Requested, None, missing, None),
            State::Approved { opens } => (SessionState::Approved, opens, Vec::new(), None),
            State::Opening {} => (SessionState::Approved, None, Vec::new(), None),
            State::Open { until } => (SessionState::Open, Some(until), Vec::new(), None),
            State::Denied { by: _, reason } => (SessionState::Denied, None, Vec::new(), Some(reason)),
            State::Closed { why } => {
                (SessionState::Closed, None, Vec::new(), Some(turn::end_word(&why).to_owned()))
            }
        };
        let revision = self.machine.revision();
        Standing { session: self.machine.id().clone(), revision, state, at, missing, why }
    }

    fn row(&self, now: Now) -> SessionRow {
        let asked = self.machine.asked();
        SessionRow {
            standing: self.standing(now),
            vendor: asked.vendor.clone(),
            engineer: asked.engineer_name.clone(),
            key: asked.engineer,
            target: asked.target.name.clone(),
            opens: vec![turn::opens(&asked.target)],
            purpose: asked.purpose.clone(),
            duration_s: asked.duration_s,
            requested_at: self.requested_at,
            digest: self.machine.digest().to_string(),
            approved_by: self.approved_by.clone(),
        }
    }
}
