//! What edge knows of sessions: whose they are, how they stand, what they carried. Kept on disk, so that an engineer finds
//! his session again after this role restarted; core knows nothing of it and believes none of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, SessionId, SessionState, Standing};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;
use transport::KeyId;

use super::doors::{Doors, Line};
use crate::console::shelf::{Shelf, ShelfError};

/// The file in the state directory.
const FILE: &str = "sessions.json";
/// Sessions remembered; the oldest that are over go first.
const SESSIONS_MAX: usize = 128;
/// How long to wait before core is asked again after it did not answer.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How often, and how many times, connections of a session that is over are waited for before its receipt is made.
const SETTLE_EVERY: Duration = Duration::from_millis(50);
const SETTLE_TRIES: u32 = 100;

/// What is kept of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    /// Whose it is.
    pub(super) owner: KeyId,
    pub(super) vendor: String,
    pub(super) target: String,
    pub(super) purpose: String,
    pub(super) digest: String,
    pub(super) requested_at: Timestamp,
    pub(super) opened_at: Option<Timestamp>,
    pub(super) closed_at: Option<Timestamp>,
    pub(super) why: Option<String>,
    pub(super) connections: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) log_index: Option<u64>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SessionId,
    book: Mutex<Book>,
    standing: watch::Sender<Standing>,
    /// Bytes that moved, both ways together.
    pub(super) moved: AtomicU64,
    /// Connections that carry bytes now.
    active: AtomicUsize,
}

/// A connection being carried; dropping it ends the count.
#[derive(Debug)]
pub(super) struct Carrying(Arc<Live>);

/// All sessions.
#[derive(Debug)]
pub(super) struct Books {
    shelf: Shelf,
    doors: Doors,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<SessionId, Arc<Live>>,
    /// Channels of each key.
    present: BTreeMap<KeyId, usize>,
    /// Sessions that somebody follows at core.
    followed: BTreeMap<SessionId, ()>,
}

/// An engineer's channel; dropping it says that it is gone.
#[derive(Debug)]
pub(super) struct Presence {
    books: Arc<Books>,
    key: KeyId,
}

impl Books {
    /// Reads what was kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(shelf: Shelf, doors: Doors) -> Result<Arc<Self>, ShelfError> {
        let kept: BTreeMap<SessionId, Book> = shelf.read(FILE)?.unwrap_or_default();
        let sessions =
            kept.into_iter().map(|(id, book)| (id.clone(), Arc::new(Live::new(id, book)))).collect();
        let inner = Mutex::new(Inner { sessions, ..Inner::default() });
        Ok(Arc::new(Books { shelf, doors, inner }))
    }

    /// Takes up a session that core has just made.
    pub(super) fn begin(self: &Arc<Self>, id: &SessionId, book: Book) {
        let mut inner = self.inner();
        inner.sessions.insert(id.clone(), Arc::new(Live::new(id.clone(), book)));
        forget(&mut inner.sessions);
        self.follow_all(&mut inner);
        drop(inner);
        self.keep();
    }

    /// A session, if it is this key's.
    pub(super) fn of(&self, id: &SessionId, owner: &KeyId) -> Option<Arc<Live>> {
        self.inner().sessions.get(id).filter(|live| live.book().owner == *owner).cloned()
    }

    /// Says that an engineer is there: core hears of it for each of his sessions, for as long as the answer is held.
    pub(super) fn arrive(self: &Arc<Self>, key: &KeyId) -> Presence {
        let mut inner = self.inner();
        *inner.present.entry(key.clone()).or_default() += 1;
        self.follow_all(&mut inner);
        Presence { books: Arc::clone(self), key: key.clone() }
    }

    /// Writes everything down. A failure is told and changes nothing: the record role has what matters.
    pub(super) fn keep(&self) {
        let books: BTreeMap<SessionId, Book> =
            self.inner().sessions.iter().map(|(id, live)| (id.clone(), live.book().clone())).collect();
        if let Err(error) = self.shelf.write(FILE, &books) {
            tracing::warn!(%error, "what sessions carried is not kept");
        }
    }

    fn follow_all(self: &Arc<Self>, inner: &mut Inner) {
        let Inner { sessions, present, followed } = inner;
        for (id, live) in sessions.iter() {
            let wanted = present.contains_key(&live.book().owner) && !live.is_over();
            if wanted && followed.insert(id.clone(), ()).is_none() {
                tokio::spawn(follow(Arc::clone(self), Arc::clone(live)));
            }
        }
    }

    /// Whether to go on following; once told no, the follower is no longer counted as one.
    fn goes_on(&self, live: &Live) -> bool {
        let mut inner = self.inner();
        let goes_on = inner.present.contains_key(&live.book().owner) && !live.is_over();
        if !goes_on {
            inner.followed.remove(&live.id);
        }
        goes_on
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut inner = self.books.inner();
        if let Some(count) = inner.present.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inner.present.remove(&self.key);
            }
        }
    }
}

impl Live {
    fn new(id: SessionId, book: Book) -> Self {
        let state = if book.closed_at.is_some() { SessionState::Closed } else { SessionState::Requested };
        let why = book.why.clone();
        let standing =
            Standing { session: id.clone(), revision: 0, state, at: None, missing: Vec::new(), why };
        let standing = watch::Sender::new(standing);
        Live { id, book: Mutex::new(book), standing, moved: AtomicU64::new(0), active: AtomicUsize::new(0) }
    }

    /// What is kept of it.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands, now and later.
    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whether nothing can follow.
    pub(super) fn is_over(&self) -> bool {
        self.standing.borrow().state.is_over()
    }

    /// Begins to carry a connection; gives its number.
    pub(super) fn carry(self: &Arc<Self>) -> (Carrying, u64) {
        self.active.fetch_add(1, Ordering::SeqCst);
        let mut book = self.book();
        book.connections += 1;
        (Carrying(Arc::clone(self)), book.connections)
    }

    /// Waits, within reason, until the session carries nothing any more.
    pub(super) async fn settled(&self) {
        for _ in 0..SETTLE_TRIES {
            if self.active.load(Ordering::SeqCst) == 0 {
                return;
            }
            sleep(SETTLE_EVERY).await;
        }
    }

    /// Takes up what core says.
    fn take(&self, standing: Standing) {
        let mut book = self.book();
        let now = Timestamp::now();
        if standing.state == SessionState::Open && book.opened_at.is_none() {
            book.opened_at = Some(now);
        }
        if standing.state.is_over() && book.closed_at.is_none() {
            book.closed_at = Some(now);
            book.why = standing.why.clone().or_else(|| Some("closed".to_owned()));
        }
        drop(book);
        self.standing.send_replace(standing);
    }

    /// Core no longer knows it.
    fn lose(&self) {
        let mut standing = self.standing.borrow().clone();
        standing.revision += 1;
        standing.state = SessionState::Closed;
        standing.why = Some("unknown".to_owned());
        self.take(standing);
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Asks core again and again how a session stands, which is also how core knows that the engineer is there.
async fn follow(books: Arc<Books>, live: Arc<Live>) {
    let (mut line, mut told) = (None, 0);
    while books.goes_on(&live) {
        let moved = live.moved.load(Ordering::Relaxed);
        match follow_once(&books.doors, &mut line, &live, moved > told).await {
            Ok(()) => told = moved,
            Err(error) => {
                tracing::debug!(%error, "core was not heard about a session");
                line = None;
                sleep(RETRY_WAIT).await;
            }
        }
        if live.is_over() {
            books.keep();
        }
    }
}

async fn follow_once(
    doors: &Doors,
    line: &mut Option<Line>,
    live: &Live,
    has_moved: bool,
) -> Result<(), super::doors::DoorsError> {
    if line.is_none() {
        *line = Some(doors.line().await?);
    }
    let Some(line) = line.as_mut() else { return Ok(()) };
    if has_moved {
        line.ask(DoorsAsk::Moved { session: live.id.clone() }).await?;
    }
    let seen = live.standing.borrow().revision;
    match line.ask(DoorsAsk::Follow { session: live.id.clone(), seen }).await?.0 {
        DoorsAnswer::Standing(standing) => {
            if standing.revision > seen || standing.state != live.standing.borrow().state {
                live.take(standing);
            }
            Ok(())
        }
        DoorsAnswer::Failed(_) => {
            live.lose();
            Ok(())
        }
        _ => Err(super::doors::DoorsError::Confused),
    }
}

/// Lets go of the oldest that are over when there are too many.
fn forget(sessions: &mut BTreeMap<SessionId, Arc<Live>>) {
    let mut over: Vec<(Timestamp, SessionId)> = Vec::new();
    for (id, live) in sessions.iter().filter(|(_, live)| live.is_over()) {
        over.push((live.book().requested_at, id.clone()));
    }
    over.sort();
    let count = sessions.len().saturating_sub(SESSIONS_MAX);
    for (_, id) in over.into_iter().take(count) {
        sessions.remove(&id);
    }
}
