//! Follows the feed: gets it from core, reads it until core is gone, and begins again. What was read is handed on before
//! anything else is read.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use events::{Event, Feed as Source};
use jiff::Timestamp;
use netfilter::nflog::{LoggedPacket, Losses};
use policy::ruleset::ENDED_LOG_PREFIX;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::ledger::{Ends, Ledger, Order, Unmarked};
use super::measure::Witness;
use super::packet;
use super::ring::Ring;
use super::source::{Feed, Told};

/// How long to wait before core is asked for the feed again.
const RECONNECT_WAIT: Duration = Duration::from_millis(500);
/// Readings of what is left after core is gone.
const REST_MAX: usize = 256;

/// What the role knows, shared by its tasks, which take turns on one thread.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) ring: Ring,
    pub(crate) witness: Witness,
}

/// The task.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) path: PathBuf,
    pub(crate) ledger: Ledger,
    pub(crate) sight: Rc<RefCell<Sight>>,
    pub(crate) stop: Rc<Notify>,
}

/// Why reading ended.
enum End {
    Stopped,
    Gone(std::io::Error),
}

/// Since when nothing was lost, and what was lost before.
#[derive(Debug)]
struct Course {
    clean_at: Timestamp,
    overruns: u64,
    is_overrun: bool,
    log: Losses,
    log_at: Timestamp,
}

impl Follower {
    /// Follows until told to stop.
    pub(crate) async fn run(self) {
        let stop = Rc::clone(&self.stop);
        loop {
            let connected = tokio::select! {
                connected = Feed::connect(&self.path, self.ledger.list_wanted()) => connected,
                () = stop.notified() => return,
            };
            match connected {
                Ok(mut feed) => match self.read(&mut feed).await {
                    End::Stopped => return,
                    End::Gone(error) => {
                        tracing::warn!(%error, "the kernel's feed ended; asking core again");
                        self.sight.borrow_mut().witness.feeds(Some(&error.to_string()));
                    }
                },
                Err(error) => {
                    tracing::debug!(%error, path = %self.path.display(), "core does not hand over the feed yet");
                }
            }
            tokio::select! {
                () = sleep(RECONNECT_WAIT) => {}
                () = stop.notified() => return,
            }
        }
    }

    async fn read(&self, feed: &mut Feed) -> End {
        let now = Timestamp::now();
        tracing::info!(is_new = feed.is_new, "core handed over the kernel's feed");
        self.sight.borrow_mut().witness.feeds(None);
        self.ledger.order(Order::Gained { is_new: feed.is_new, dropped: feed.dropped(), at: now }).await;
        let mut course =
            Course { clean_at: now, overruns: 0, is_overrun: false, log: Losses::default(), log_at: now };
        let end = loop {
            let told = tokio::select! {
                told = feed.next() => told,
                () = self.stop.notified() => break End::Stopped,
            };
            let taken = match told {
                Ok(told) => self.take(told, feed, &mut course).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                break End::Gone(error);
            }
        };
        self.take_rest(feed, &mut course).await;
        self.ledger.order(Order::Ceased(Timestamp::now())).await;
        end
    }

    async fn take(&self, told: Told, feed: &mut Feed, course: &mut Course) -> std::io::Result<()> {
        match told {
            Told::Logged(packets, losses) => {
                self.logged(&packets, losses, course).await;
                Ok(())
            }
            Told::Connections { events, losses, is_drained } => {
                let now = Timestamp::now();
                if !events.is_empty() {
                    self.sight.borrow_mut().witness.connections.told_at = Some(now);
                    self.ledger.order(Order::Connections(events, now)).await;
                }
                course.is_overrun |= losses.overruns != course.overruns;
                course.overruns = losses.overruns;
                if is_drained {
                    self.drained(feed, course, now).await?;
                }
                Ok(())
            }
        }
    }

    /// The socket is empty: what was dropped until now is known, and what comes from now on has room.
    async fn drained(&self, feed: &mut Feed, course: &mut Course, now: Timestamp) -> std::io::Result<()> {
        if std::mem::take(&mut course.is_overrun) {
            let (dropped, since) = (feed.count_dropped()?, course.clean_at);
            self.ledger.order(Order::Lost { dropped, since, until: now }).await;
        }
        course.clean_at = now;
        Ok(())
    }

    /// What the kernel queued before core went, or this role was told to stop.
    async fn take_rest(&self, feed: &mut Feed, course: &mut Course) {
        for _ in 0..REST_MAX {
            let Ok(Told::Connections { events, is_drained, .. }) = feed.rest() else { return };
            let now = Timestamp::now();
            if !events.is_empty() {
                self.ledger.order(Order::Connections(events, now)).await;
            }
            if is_drained {
                // A socket that cannot tell has nothing to tell any more.
                let _ = self.drained(feed, course, now).await;
                return;
            }
        }
    }

    async fn logged(&self, packets: &[LoggedPacket], losses: Losses, course: &mut Course) {
        let now = Timestamp::now();
        let (mut heads, mut unmarked) = (Vec::new(), Vec::new());
        {
            let Sight { ring, witness } = &mut *self.sight.borrow_mut();
            let lost = lost(losses).saturating_sub(lost(course.log));
            if lost > 0 {
                ring.count_lost(lost);
                let (since, until) = (course.log_at, now);
                witness.tell(Event::EventsLost { feed: Source::Denials, count: lost, since, until });
            }
            ring.count_malformed(losses.malformed.saturating_sub(course.log.malformed));
            for logged in packets {
                let Some(head) = packet::head(&logged.prefix, logged.in_index, &logged.payload) else {
                    ring.count_malformed(1);
                    continue;
                };
                if head.prefix == ENDED_LOG_PREFIX {
                    let mark = logged.mark.unwrap_or_default();
                    unmarked.push(Unmarked { ends: Ends::of_packet(&head), mark });
                    continue;
                }
                tracing::debug!(?head, "denied");
                ring.push(head.kind(), now);
                heads.push(head);
            }
            witness.denials.told_at = Some(now);
        }
        (course.log, course.log_at) = (losses, now);
        if !unmarked.is_empty() {
            self.ledger.order(Order::Unmarked(unmarked, now)).await;
        }
        if !heads.is_empty() {
            self.ledger.order(Order::Denied(heads, now)).await;
        }
    }
}

/// An overrun without a missing number lost what had none.
fn lost(losses: Losses) -> u64 {
    losses.missing.max(losses.overruns)
}
