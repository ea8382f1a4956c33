//! The enforcer: one policy at a time, applied only when read back equal, else the last applied one, else closed.
//! Six verbs: `handle_*` brings what happened, `poll_*` asks what to do, when to come back, and what to tell.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::clock::{Clock, Jump, Now};
use crate::live::{Desired, Leases, LiveSet};

mod steps;

/// A command without an answer for so long is taken as failed: the state of the kernel is then unknown.
pub const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// How often the wall clock is looked at while anything depends on it.
pub const CLOCK_WAIT: Duration = Duration::from_secs(1);
/// How long to wait before trying again what must succeed: closing, and making the standing policy durable.
pub const RETRY_WAIT: Duration = Duration::from_secs(5);

/// Names one command, so that a late answer to an abandoned one is not taken for an answer to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u64);

/// Names one request, in the events that answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What went wrong outside, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Why a request is not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// One thing at a time.
    #[error("another change is on its way; ask again when it has ended")]
    Busy,
}

/// One thing for the shell to do, answered by its step.
#[derive(Clone, Debug)]
pub struct Order<T> {
    /// Goes back with the answer.
    pub step: Step,
    /// What to do.
    pub command: Command<T>,
}

/// What the shell can be told to do. Each is answered, with success or failure.
#[derive(Clone, Debug)]
pub enum Command<T> {
    /// Make the candidate and the ledger's floor durable. Nothing else changes yet.
    Persist {
        /// The candidate.
        candidate: T,
    },
    /// Bring the kernel from one policy to another; `have` is `None` when what it holds is not known.
    Apply {
        /// What the kernel holds.
        have: Option<T>,
        /// What it shall hold.
        want: T,
        /// The marks that may carry packets.
        live: LiveSet,
    },
    /// Compare the kernel with a policy; answered by [`Enforcer::handle_read_back`].
    ReadBack {
        /// `None` means the closed state.
        want: Option<T>,
        /// The marks that may carry packets.
        live: LiveSet,
    },
    /// Make this the last applied policy on disk, atomically; `None` means that there is none.
    Commit {
        /// The policy.
        policy: Option<T>,
    },
    /// Replace whatever the kernel holds by the closed state: nothing passes.
    Close,
    /// Change only the live set.
    SetLive {
        /// The marks that may carry packets.
        live: LiveSet,
    },
    /// Carry out what surrounds the rules: addresses, forwarding, configuration of the services.
    Surround {
        /// The policy in force.
        policy: T,
    },
}

/// What happened, for logs and for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request has ended.
    Finished(Ticket, Outcome),
    /// The last applied policy is in force after a start.
    Adopted {
        /// The kernel held it already.
        untouched: bool,
    },
    /// The kernel did not hold what it should, and the last applied policy was put back.
    Restored(String),
    /// Nothing passes, and why.
    Closed(String),
    /// Not even closing succeeded; it is tried again.
    CloseFailed(String),
    /// The wall clock was set.
    Jumped(Jump),
    /// The live set was changed because time passed.
    LiveChanged,
    /// What surrounds the rules failed; the rules are in force.
    SurroundFailed(String),
    /// The policy in force could not be made the last applied one on disk; it is tried again.
    NotDurable(String),
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the kernel, read back equal, durable.
    Applied,
    /// The kernel was not touched.
    Refused(String),
    /// The last applied policy is in force again, read back.
    RolledBack(String),
    /// Nothing passes.
    Closed(String),
}

/// What is in force.
#[derive(Clone, Debug)]
pub enum Standing<T> {
    /// Not known yet, or not established: a start, or a close that failed.
    Unknown,
    /// Nothing passes.
    Closed,
    /// This policy, read back equal. Whether somebody must still confirm it will be said here.
    Applied(T),
}

impl<T> Standing<T> {
    /// The policy in force, if any.
    #[must_use]
    pub fn policy(&self) -> Option<&T> {
        match self {
            Standing::Applied(policy) => Some(policy),
            Standing::Unknown | Standing::Closed => None,
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Enforcer<T> {
    clock: Clock,
    standing: Standing<T>,
    /// What the disk should hold as the last applied policy: what was acknowledged.
    acknowledged: Option<T>,
    leases: Leases,
    activity: Activity<T>,
    /// The running command's step, and when it is given up.
    waiting: Option<(Step, Duration)>,
    next_step: u64,
    next_ticket: u64,
    next_change: Option<Timestamp>,
    /// The disk may not hold `acknowledged`.
    disk_unsure: bool,
    retry_at: Option<Duration>,
    orders: VecDeque<Order<T>>,
    events: VecDeque<Event>,
}

/// A candidate on its way.
#[derive(Clone, Debug)]
struct Attempt<T> {
    ticket: Ticket,
    candidate: T,
    leases: Leases,
}

/// The way back to the last applied policy.
#[derive(Clone, Debug)]
struct Retreat<T> {
    ticket: Option<Ticket>,
    to: T,
    leases: Leases,
    why: String,
}

/// The way into the closed state.
#[derive(Clone, Debug)]
struct Fall {
    ticket: Option<Ticket>,
    why: String,
}

#[derive(Clone, Debug)]
enum Activity<T> {
    Idle,
    Adopting(Retreat<T>),
    Persisting(Attempt<T>),
    Applying(Attempt<T>),
    Checking(Attempt<T>),
    Committing(Attempt<T>),
    Restoring(Retreat<T>),
    CheckingRestored(Retreat<T>),
    Closing(Fall),
    CheckingClosed(Fall),
    SettingLive(Leases),
    CheckingLive(Leases),
    Surrounding,
    Saving,
}

impl<T: Desired> Enforcer<T> {
    /// Starts with the last applied policy as the disk has it; without one, with the reason why, in the closed state.
    #[must_use]
    pub fn start(last_applied: Result<T, String>, trusted: bool, now: Now) -> Self {
        let mut enforcer = Enforcer {
            clock: Clock::new(now, trusted),
            standing: Standing::Unknown,
            acknowledged: last_applied.clone().ok(),
            leases: Leases::default(),
            activity: Activity::Idle,
            waiting: None,
            next_step: 0,
            next_ticket: 0,
            next_change: None,
            disk_unsure: false,
            retry_at: None,
            orders: VecDeque::new(),
            events: VecDeque::new(),
        };
        match last_applied {
            Ok(policy) => enforcer.adopt(policy, now),
            Err(why) => enforcer.close(None, why, now),
        }
        enforcer
    }

    /// Takes a checked and compiled candidate.
    ///
    /// # Errors
    /// Refuses while another change is on its way.
    pub fn handle_request(&mut self, candidate: T, now: Now) -> Result<Ticket, RequestError> {
        self.observe(now);
        if !self.is_idle() {
            return Err(RequestError::Busy);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let leases = self.leases_of(&candidate, now);
        let command = Command::Persist { candidate: candidate.clone() };
        self.go(Activity::Persisting(Attempt { ticket, candidate, leases }), command, now);
        Ok(ticket)
    }

    /// Takes the answer to any command but [`Command::ReadBack`]. Answers to abandoned commands are ignored.
    pub fn handle_done(&mut self, step: Step, result: Result<(), Failure>, now: Now) {
        self.observe(now);
        if self.take(step) {
            let activity = std::mem::replace(&mut self.activity, Activity::Idle);
            self.done(activity, result, now);
        }
    }

    /// Takes the answer to a [`Command::ReadBack`]: the number of differences found.
    pub fn handle_read_back(&mut self, step: Step, result: Result<usize, Failure>, now: Now) {
        self.observe(now);
        if self.take(step) {
            let activity = std::mem::replace(&mut self.activity, Activity::Idle);
            self.done(activity, equal(result), now);
        }
    }

    /// Somebody with the right says that the wall clock is good.
    pub fn handle_time_trusted(&mut self, now: Now) {
        self.clock.trust(now);
        self.next_change = Some(now.wall);
        self.handle_timeout(now);
    }

    /// The kernel was seen not to hold what it should: what stands is put back.
    pub fn handle_drift(&mut self, why: String, now: Now) {
        self.observe(now);
        match self.standing.clone() {
            _ if !self.is_idle() => {}
            Standing::Applied(policy) => self.retreat(None, policy, why, now),
            Standing::Closed => self.close(None, why, now),
            Standing::Unknown => {}
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.observe(now);
        if let Some((step, _)) = self.waiting.filter(|(_, limit)| now.elapsed >= *limit) {
            let waited = format!("no answer after {} s", ANSWER_WAIT.as_secs());
            self.handle_done(step, Err(Failure(waited)), now);
        }
        if self.is_idle() {
            self.upkeep(now);
        }
    }

    /// When to call [`Enforcer::handle_timeout`] at the latest, in elapsed time.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        if let Some((_, limit)) = self.waiting {
            return Some(limit);
        }
        let change = self.next_change.map(|at| {
            let rest =
                Duration::try_from(at.duration_since(self.clock.at(now.elapsed))).unwrap_or(Duration::ZERO);
            now.elapsed.saturating_add(rest.min(CLOCK_WAIT))
        });
        [change, self.retry_at].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Order<T>> {
        self.orders.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is in force.
    #[must_use]
    pub fn standing(&self) -> &Standing<T> {
        &self.standing
    }

    /// The marks that may carry packets, with what remains of each.
    #[must_use]
    pub fn live(&self, now: Now) -> LiveSet {
        self.leases.remaining(now.elapsed)
    }

    /// The leases in force, with their ends on the clock.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The effective clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.activity, Activity::Idle)
    }
}

fn equal(result: Result<usize, Failure>) -> Result<(), Failure> {
    match result? {
        0 => Ok(()),
        count => Err(Failure(format!("the kernel's rules differ from the policy in {count} places"))),
    }
}
