//! Ends a session's path before the loop hears of the order: an apply, a comparison or a slow disk may hold the loop, and
//! an emergency does not wait. It can only close: which grant is a session's is known here, and nothing else is. The order
//! then goes to the loop, whose session ends with its reason and finds the grant gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::wire::Ask;
use gateway::wire::doors::SessionId;
use gateway::wire::persons::SessionsAsk;
use netfilter::GrantEnder;
use netfilter::grants::Grant;
use tokio::sync::mpsc;

use crate::server::{CLIENTS_MAX, Letter};

/// Requests on their way to the loop: one for each client of each of the two sockets, so that none holds up the next.
const LETTERS_MAX: usize = 2 * CLIENTS_MAX;

/// The grants of open sessions, and the hand that ends them.
#[derive(Debug)]
pub(super) struct KillSwitch {
    open: Mutex<BTreeMap<SessionId, Grant>>,
    hand: Mutex<GrantEnder>,
}

impl KillSwitch {
    /// Knows no session yet.
    pub(super) fn new(hand: GrantEnder) -> Self {
        KillSwitch { open: Mutex::default(), hand: Mutex::new(hand) }
    }

    /// A session's path is open.
    pub(super) fn know(&self, session: &SessionId, grant: Grant) {
        lock(&self.open).insert(session.clone(), grant);
    }

    /// A session's path is closed.
    pub(super) fn forget(&self, session: &SessionId) {
        lock(&self.open).remove(session);
    }

    /// Ends a session's path, if it has one. Should it fail, the loop tries again until it is gone.
    fn kill(&self, session: &SessionId) {
        let Some(grant) = lock(&self.open).get(session).copied() else { return };
        match lock(&self.hand).end(&[grant]) {
            Ok(()) => tracing::info!(%session, "its path is closed"),
            Err(error) => tracing::warn!(%error, %session, "its path is not closed yet"),
        }
    }
}

/// Stands before the loop: what comes by here goes on, and an order to kill is carried out first.
pub(super) fn stand_before(
    mut letters: mpsc::Receiver<Letter>,
    switch: Arc<KillSwitch>,
) -> mpsc::Receiver<Letter> {
    let (pass, passed) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(async move {
        while let Some(letter) = letters.recv().await {
            if let Ask::Sessions(SessionsAsk::Kill { session, .. }) = &letter.ask {
                switch.kill(session);
            }
            if pass.send(letter).await.is_err() {
                return;
            }
        }
    });
    passed
}

/// Both are changed in single steps: as good as they were, whoever panicked beside them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
