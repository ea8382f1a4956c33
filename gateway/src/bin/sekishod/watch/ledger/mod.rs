//! The ledger of connections: who spoke to whom, when, by which flow, how much; and what was denied.
//!
//! SQLite, bundled: one file that survives the death of its writer, asked by several readers while it is written, with
//! room given back inside of the file. One thread writes ([`clerk`]), each question reads by a connection of its own.

mod books;
mod clerk;
mod listing;
mod open;
mod question;
mod row;
mod schema;
mod sightings;
mod steady;
mod store;
mod summary;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use events::Event;
use gateway::wire::watch::{DeniedPage, LedgerPage, LedgerQuery, LedgerRow, LedgerSum, LedgerSums};
use gateway::wire::{Fault, FaultKind};
use jiff::Timestamp;
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use self::clerk::{Clerk, Voice};
use self::listing::{OpenRows, Want};
use self::question::{QuestionError, Selection, flow_name};
use self::store::Store;

pub(crate) use self::clerk::Order;
pub(crate) use self::open::{Ends, Unmarked};
pub(crate) use self::summary::Summary;

/// Orders that wait for the thread; then the kernel's buffer takes what comes.
const ORDERS_MAX: usize = 4;
/// Events of the ledger that wait to be told.
const EVENTS_MAX: usize = 256;
/// Questions answered at once.
const QUESTIONS_MAX: usize = 2;
/// How long one may take.
const QUESTION_WAIT: Duration = Duration::from_secs(15);
/// How long the list of open connections may take.
const LIST_WAIT: Duration = Duration::from_secs(10);

/// The way to the thread, and to the file.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    directory: PathBuf,
    orders: mpsc::Sender<Order>,
    voice: Voice,
    questions: Arc<Semaphore>,
}

/// The ledger's thread, and what it has to say.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ledger: Ledger,
    pub(crate) events: mpsc::Receiver<Event>,
    thread: JoinHandle<()>,
}

/// Opens the ledger and starts its thread.
pub(crate) fn start(directory: &Path, now: Timestamp) -> Result<Running> {
    let place = || format!("cannot open the ledger of connections in `{}`", directory.display());
    let (store, aside) = Store::open(directory).with_context(place)?;
    let (orders, orders_rx) = mpsc::channel(ORDERS_MAX);
    let (events, events_rx) = mpsc::channel(EVENTS_MAX);
    let summary = Arc::new(Mutex::new(Summary::default()));
    let voice = Voice { list: Arc::new(Notify::new()), events, summary };
    let clerk = Clerk::new(store, voice.clone(), aside.as_ref(), now).with_context(place)?;
    let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || clerk.run(orders_rx))?;
    let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let ledger = Ledger { directory: directory.to_owned(), orders, voice, questions };
    Ok(Running { ledger, events: events_rx, thread })
}

impl Running {
    /// Writes what is left and ends the thread.
    pub(crate) async fn close(self) {
        self.ledger.order(Order::Close).await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the ledger's thread did not end in order");
        }
    }
}

impl Ledger {
    /// Tells the thread something; waits while it is behind.
    pub(crate) async fn order(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::error!("the ledger's thread is gone");
        }
    }

    /// Whether the thread lives: without it nothing is written, and the role had better begin anew.
    pub(crate) fn is_alive(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Said when core is to be asked for a list.
    pub(crate) fn list_wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.voice.list)
    }

    /// How the ledger was a moment ago.
    pub(crate) fn summary(&self) -> Summary {
        self.voice.lock().clone()
    }

    /// Who spoke to whom.
    pub(crate) async fn connections(&self, query: &LedgerQuery) -> Result<LedgerPage, Fault> {
        let selection = Selection::new(query).map_err(fault)?;
        let asked = selection.clone();
        let (mut found, gaps) =
            self.ask(move |ledger| Ok((asked.ended(ledger)?, asked.gaps(ledger)?))).await?;
        let more = (found.len() > selection.limit)
            .then(|| {
                found.truncate(selection.limit);
                found.last().map(|(cursor, _)| *cursor)
            })
            .flatten();
        let mut rows: Vec<LedgerRow> = found.into_iter().map(|(_, row)| row).collect();
        let limit = selection.limit - rows.len().min(selection.limit);
        let open = if more.is_none() { self.open(selection, limit).await } else { None };
        let with_open = open.as_ref().is_some_and(|open| open.is_whole);
        rows.extend(open.into_iter().flat_map(|open| open.rows));
        Ok(LedgerPage { rows, more, with_open, gaps, kept_since: self.summary().oldest })
    }

    /// What was denied.
    pub(crate) async fn denials(&self, query: &LedgerQuery) -> Result<DeniedPage, Fault> {
        let selection = Selection::new(query).map_err(fault)?;
        let limit = selection.limit;
        let mut found = self.ask(move |ledger| selection.denied(ledger)).await?;
        let is_more = found.len() > limit;
        found.truncate(limit);
        let more = found.last().filter(|_| is_more).map(|(cursor, _)| *cursor);
        Ok(DeniedPage { rows: found.into_iter().map(|(_, row)| row).collect(), more })
    }

    /// What passed, by flow, open connections included.
    pub(crate) async fn sums(&self, since: Option<Timestamp>) -> Result<LedgerSums, Fault> {
        let (reply, answer) = oneshot::channel();
        let since_ms = since.map(|at| at.as_millisecond());
        self.order(Order::List(Want::Sums { since_ms, reply })).await;
        let missing = || {
            Fault::new(
                FaultKind::Failed,
                "the kernel's list of open connections did not come: is core running?",
            )
        };
        let sums =
            tokio::time::timeout(LIST_WAIT, answer).await.map_err(|_| missing())?.map_err(|_| missing())?;
        let sums = sums.map_err(|error| fault(error.into()))?;
        self.ask(move |ledger| {
            let mut name =
                ledger.prepare("SELECT text FROM mark JOIN name ON name.id = flow WHERE mark = ?1")?;
            let mut rows = Vec::new();
            for ((mark, last_mark), (connections, count)) in sums {
                let flow = name.query_row([mark], |row| row.get(0)).ok();
                let count = gateway::wire::watch::Count { packets: count.packets, bytes: count.bytes };
                rows.push(LedgerSum { flow: flow_name(mark, flow), mark, last_mark, connections, count });
            }
            Ok(LedgerSums { rows, gaps: question::gaps(ledger, since_ms, None)? })
        })
        .await
    }

    /// Open connections of a selection; `None` when the kernel's list did not come.
    async fn open(&self, selection: Selection, limit: usize) -> Option<OpenRows> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::List(Want::Rows { selection, limit, reply })).await;
        tokio::time::timeout(LIST_WAIT, answer).await.ok()?.ok()
    }

    /// Asks the file on a thread beside the loop, and no longer than is bearable.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, QuestionError> + Send + 'static,
    ) -> Result<T, Fault> {
        let busy = || Fault::new(FaultKind::Busy, "the ledger is answering others; try again in a moment");
        let place = Arc::clone(&self.questions).try_acquire_owned().map_err(|_| busy())?;
        let directory = self.directory.clone();
        let (send, stop) = oneshot::channel::<InterruptHandle>();
        let asking = tokio::task::spawn_blocking(move || {
            let _place = place;
            let ledger = schema::open_to_read(&directory)?;
            // Nobody waits for it when the time is over already.
            let _ = send.send(ledger.get_interrupt_handle());
            question(&ledger)
        });
        tokio::pin!(asking);
        let answer = match tokio::time::timeout(QUESTION_WAIT, &mut asking).await {
            Ok(answer) => answer,
            Err(_) => {
                if let Ok(handle) = stop.await {
                    handle.interrupt();
                }
                asking.await
            }
        };
        match answer {
            Ok(answer) => answer.map_err(fault),
            Err(error) => Err(Fault::new(FaultKind::Failed, error.to_string())),
        }
    }
}

fn fault(error: QuestionError) -> Fault {
    let kind = match &error {
        QuestionError::TooLong | QuestionError::Unknown { .. } => FaultKind::BadRequest,
        QuestionError::Ledger(_) => FaultKind::Failed,
    };
    let interrupted = matches!(
        &error,
        QuestionError::Ledger(rusqlite::Error::SqliteFailure(failure, _))
            if failure.code == rusqlite::ErrorCode::OperationInterrupted
    );
    if interrupted {
        return Fault::new(
            FaultKind::Failed,
            "the answer took too long: ask for a shorter time or for a device",
        );
    }
    Fault::new(kind, error.to_string())
}
