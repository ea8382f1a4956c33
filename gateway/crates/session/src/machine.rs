//! One session: at most one grant, never before approval and recorder, always taken back.
//! Six verbs: `handle_*` brings what happened, `poll_*` asks what to do, when to come back, and what to tell.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::approval::{self, Approval, Yes};
use crate::ids::{Digest, SessionId};
use crate::refusal::{ApprovalError, ConnectError, DenyError, RequestError};
use crate::request::{Request, Terms};

mod revised;
mod steps;

pub use revised::{Revised, Stand};

/// A request that nobody answers lapses after so long; so does an approved one that nobody comes for.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// A command without an answer for so long is taken as failed.
pub const STEP_WAIT: Duration = Duration::from_secs(10);
/// A recorder that was not heard for so long does not run.
pub const RECORDER_SILENCE: Duration = Duration::from_secs(3);
/// An engineer whose line is gone may come back within this time.
pub const ABSENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait before taking a grant back again, when that failed.
pub const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How often the wall clock is looked at while anything depends on it.
pub const CLOCK_WAIT: Duration = Duration::from_secs(1);
/// Most approvals one request takes.
pub const APPROVALS_MAX: usize = 16;
/// Longest reason of a denial, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// One reading of the clocks, taken by the shell at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The clinic's time, as core's effective clock has it.
    pub wall: Timestamp,
    /// Time since some fixed start, which nobody can set.
    pub elapsed: Duration,
    /// Whether somebody vouches for `wall`. While nobody does, nothing is approved and nothing opens.
    pub trusted: bool,
}

/// Names one command, so that a late answer to an abandoned one is not taken for an answer to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u64);

/// What went wrong outside, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Why there is no recorder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecorderFault {
    /// It failed, or does not answer.
    #[error("{0}")]
    Failed(String),
    /// It has no more room but its reserve.
    #[error("the log is full")]
    DiskFull,
}

/// When a grant ends, on both clocks; whichever comes first ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// By the clinic's time.
    pub wall: Timestamp,
    /// By the clock that nobody can set.
    pub elapsed: Duration,
}

impl End {
    /// What is left; zero once it is over.
    #[must_use]
    pub fn left(&self, now: Now) -> Duration {
        let by_wall = Duration::try_from(self.wall.duration_since(now.wall)).unwrap_or(Duration::ZERO);
        self.elapsed.saturating_sub(now.elapsed).min(by_wall)
    }

    pub(crate) fn is_over(&self, now: Now) -> bool {
        self.left(now) == Duration::ZERO
    }
}

/// One thing for the shell to do, answered by its step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Goes back with the answer.
    pub step: Step,
    /// What to do.
    pub command: Command,
}

/// What the shell can be told to do. Each is answered, with success or failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make the log ready for this session and the approval durable; answered by [`Session::handle_recorder`].
    OpenRecorder {},
    /// Let the kernel pass the target until the end (the timeout is [`End::left`] at the moment of writing), and read it
    /// back; answered by [`Session::handle_granted`].
    Grant {
        /// When the kernel itself ends it.
        end: End,
    },
    /// Take the grant away, whether or not it was ever written; what is absent already counts as taken away. Answered by
    /// [`Session::handle_revoked`].
    Revoke {},
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EndReason {
    /// Its time was over: of the work, of the window, of the contract, or of the waiting.
    Expired {},
    /// The clinic ended it.
    Killed {
        /// Who.
        by: String,
    },
    /// Nothing moved for too long.
    Idle {},
    /// The engineer's line was gone for too long.
    Disconnected {},
    /// The engineer said that he is done.
    Finished {},
    /// The recorder failed or was silent.
    RecorderFailed {},
    /// The log had no room.
    DiskFull {},
    /// The engineer's key, or an approver, no longer counts.
    Revoked {},
    /// The policy now in force does not allow it.
    PolicyChanged {},
    /// Core started anew: nothing of a former run goes on.
    CoreRestarted {},
    /// The kernel did not take the grant, or did not show it when read back.
    GrantFailed {},
}

/// What happened, for the log and for whoever waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The request stands and waits for approvals.
    Requested,
    /// A person approved.
    Approved {
        /// Who.
        by: String,
        /// Every role is now stood for.
        complete: bool,
    },
    /// A person said no.
    Denied {
        /// Who.
        by: String,
        /// Why; the engineer reads it.
        reason: String,
    },
    /// The path is open.
    Opened {
        /// Up to when.
        until: Timestamp,
    },
    /// The session is over.
    Closed {
        /// Why.
        why: EndReason,
    },
    /// The grant could not be taken back; it is tried again, and the kernel ends it by itself.
    RevokeFailed(String),
}

/// What a session is doing, to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum State {
    /// Waits for the clinic.
    Requested {
        /// Roles that nobody stands for yet.
        missing: Vec<String>,
        /// Persons who approved.
        approved_by: Vec<String>,
    },
    /// Approved; waits for its window, its start or the engineer.
    Approved {
        /// The earliest opening; `None` when no window is in sight.
        opens: Option<Timestamp>,
    },
    /// Approved and due: the recorder, then the kernel, are being made ready.
    Opening {},
    /// The path is open.
    Open {
        /// Up to when.
        until: Timestamp,
    },
    /// The clinic said no.
    Denied {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Over.
    Closed {
        /// Why.
        why: EndReason,
    },
}

#[derive(Clone, Debug)]
enum Phase {
    Requested,
    Approved { claim_by: Duration },
    OpeningRecorder { step: Step, limit: Duration },
    Granting { step: Step, limit: Duration, end: End },
    Open { end: End, moved_at: Duration },
    Denied { by: String, reason: String },
    Closed { why: EndReason },
}

/// The way back of a grant that the shell may have written.
#[derive(Clone, Copy, Debug)]
enum Taking {
    Ordered { step: Step, limit: Duration },
    Failed { again_at: Duration },
}

/// The machine.
#[derive(Debug)]
pub struct Session {
    request: Request,
    digest: Digest,
    terms: Terms,
    phase: Phase,
    approvals: Vec<Yes>,
    asked_at: Duration,
    /// The engineer's line is gone since.
    absent_since: Option<Duration>,
    /// INVARIANT: `Some` once the recorder said that it runs; the moment it was last heard.
    recorder_heard: Option<Duration>,
    /// The shell took the order to grant: whatever its answer, the grant must be taken back.
    grant_taken: bool,
    taking: Option<Taking>,
    next_step: u64,
    revision: u32,
    orders: VecDeque<Order>,
    events: VecDeque<Event>,
}

impl Session {
    /// Takes a request, if the terms let it be asked.
    ///
    /// # Errors
    /// Says which term refuses it.
    pub fn request(request: Request, terms: Terms, now: Now) -> Result<Self, RequestError> {
        request.check(&terms, now)?;
        let digest = request.digest()?;
        let mut session = Session::new(request, digest, terms, Phase::Requested, now);
        session.tell(Event::Requested);
        Ok(session)
    }

    /// A session of a former run of core: nothing of it goes on, and a grant that it may have left is taken back.
    ///
    /// # Errors
    /// When the request cannot be said.
    pub fn orphan(request: Request, terms: Terms, now: Now) -> Result<Self, RequestError> {
        let digest = request.digest()?;
        let mut session = Session::new(request, digest, terms, Phase::Requested, now);
        session.grant_taken = true;
        session.close(EndReason::CoreRestarted {}, now);
        Ok(session)
    }

    /// Takes a person's yes. The last one that is needed lets the session open, when its time has come.
    ///
    /// # Errors
    /// Says why it does not count; the session goes on waiting.
    pub fn handle_approval(&mut self, approval: Approval, now: Now) -> Result<(), ApprovalError> {
        self.handle_timeout(now);
        let yes = self.judged(approval, now)?;
        let by = yes.person.clone();
        self.approvals.push(yes);
        let complete = approval::missing(&self.terms.approvals, &self.approvals).is_empty();
        self.tell(Event::Approved { by, complete });
        if complete {
            self.approved(now);
        }
        Ok(())
    }

    /// Takes a person's no to a request that is not open yet.
    ///
    /// # Errors
    /// When there is nothing to deny any more.
    pub fn handle_denial(&mut self, by: &str, reason: &str, now: Now) -> Result<(), DenyError> {
        self.handle_timeout(now);
        match self.phase {
            Phase::Requested | Phase::Approved { .. } => {}
            Phase::OpeningRecorder { .. } | Phase::Granting { .. } | Phase::Open { .. } => {
                return Err(DenyError::Open);
            }
            Phase::Denied { .. } | Phase::Closed { .. } => return Err(DenyError::Over),
        }
        let reason: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect();
        self.orders.clear();
        self.phase = Phase::Denied { by: by.to_owned(), reason: reason.clone() };
        self.tell(Event::Denied { by: by.to_owned(), reason });
        Ok(())
    }

    /// A person's second factor was taken away: a session that he said yes to ends, whatever it waits for, as nobody can
    /// tell any more whose yes that was.
    pub fn handle_factor_lost(&mut self, person: &str, now: Now) {
        self.handle_timeout(now);
        if self.approvals.iter().any(|yes| yes.person == person) {
            self.close(EndReason::Revoked {}, now);
        }
    }

    /// Takes the answer to [`Command::OpenRecorder`]: from now on the recorder must be heard.
    pub fn handle_recorder(&mut self, step: Step, result: Result<(), RecorderFault>, now: Now) {
        self.handle_timeout(now);
        let Phase::OpeningRecorder { step: waiting, .. } = self.phase else { return };
        if waiting != step {
            return;
        }
        match result {
            Ok(()) => {
                self.recorder_heard = Some(now.elapsed);
                self.grant(now);
            }
            Err(fault) => self.handle_recorder_fault(&fault, now),
        }
    }

    /// The recorder answered: call this at least every second or so while a session is opening or open.
    pub fn handle_recorder_alive(&mut self, now: Now) {
        self.handle_timeout(now);
        if let Some(heard) = &mut self.recorder_heard {
            *heard = now.elapsed.max(*heard);
        }
    }

    /// The recorder failed while the session was opening or open.
    pub fn handle_recorder_fault(&mut self, fault: &RecorderFault, now: Now) {
        let why = match fault {
            RecorderFault::Failed(_) => EndReason::RecorderFailed {},
            RecorderFault::DiskFull => EndReason::DiskFull {},
        };
        if self.is_opening_or_open() {
            self.close(why, now);
        }
    }

    /// Takes the answer to [`Command::Grant`]: success means read back equal.
    pub fn handle_granted(&mut self, step: Step, result: Result<(), Failure>, now: Now) {
        self.handle_timeout(now);
        let Phase::Granting { step: waiting, end, .. } = self.phase else { return };
        if waiting != step {
            return;
        }
        match result {
            Ok(()) => {
                self.phase = Phase::Open { end, moved_at: now.elapsed };
                self.tell(Event::Opened { until: end.wall });
            }
            Err(_) => self.close(EndReason::GrantFailed {}, now),
        }
    }

    /// Takes the answer to [`Command::Revoke`].
    pub fn handle_revoked(&mut self, step: Step, result: Result<(), Failure>, now: Now) {
        let Some(Taking::Ordered { step: waiting, .. }) = self.taking else { return };
        if waiting != step {
            return;
        }
        match result {
            Ok(()) => self.taking = None,
            Err(failure) => {
                self.taking = Some(Taking::Failed { again_at: now.elapsed.saturating_add(RETRY_WAIT) });
                self.events.push_back(Event::RevokeFailed(failure.0));
            }
        }
    }

    /// The engineer's line is there.
    pub fn handle_present(&mut self, now: Now) {
        self.absent_since = None;
        self.handle_timeout(now);
    }

    /// The engineer's line is gone: nothing opens, and what is open ends unless he comes back soon.
    pub fn handle_absent(&mut self, now: Now) {
        self.handle_timeout(now);
        if self.absent_since.is_none() {
            self.absent_since = Some(now.elapsed);
        }
    }

    /// Bytes moved between the engineer and the target.
    pub fn handle_activity(&mut self, now: Now) {
        self.handle_timeout(now);
        if let Phase::Open { moved_at, .. } = &mut self.phase {
            *moved_at = now.elapsed.max(*moved_at);
        }
    }

    /// Somebody with the right, or something that went wrong, ends the session. A session that is over stays as it ended.
    pub fn handle_end(&mut self, why: EndReason, now: Now) {
        self.handle_timeout(now);
        self.close(why, now);
    }

    /// Whether a connection to the target may be made at this moment.
    ///
    /// # Errors
    /// Says what the session is doing instead.
    pub fn handle_connect(&mut self, now: Now) -> Result<End, ConnectError> {
        self.handle_timeout(now);
        match &self.phase {
            Phase::Open { end, moved_at: _ } => Ok(*end),
            Phase::Requested => Err(ConnectError::NotApproved),
            Phase::Approved { .. } => Err(ConnectError::NotYet),
            Phase::OpeningRecorder { .. } | Phase::Granting { .. } => Err(ConnectError::Opening),
            Phase::Denied { .. } | Phase::Closed { .. } => Err(ConnectError::Over),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.time_passed(now);
    }

    /// When to call [`Session::handle_timeout`] at the latest, in elapsed time; `None` once nothing is left to do.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        let looked = now.elapsed.saturating_add(CLOCK_WAIT);
        let recorder = self.recorder_heard.map(|heard| heard.saturating_add(RECORDER_SILENCE));
        let absent = self.absent_since.map(|since| since.saturating_add(ABSENCE_LIMIT));
        let phase = match &self.phase {
            Phase::Requested => Some(self.asked_at.saturating_add(ANSWER_LIMIT)),
            Phase::Approved { claim_by } => Some(looked.min(*claim_by)),
            Phase::OpeningRecorder { limit, .. } => Some(looked.min(*limit)),
            Phase::Granting { limit, .. } => [Some(*limit), recorder].into_iter().flatten().min(),
            Phase::Open { end, moved_at } => {
                let left = now.elapsed.saturating_add(end.left(now));
                let idle = moved_at.saturating_add(self.terms.idle_limit);
                [Some(left), Some(idle), Some(looked), recorder, absent].into_iter().flatten().min()
            }
            Phase::Denied { .. } | Phase::Closed { .. } => None,
        };
        let taking = self.taking.map(|taking| match taking {
            Taking::Ordered { limit, .. } => limit,
            Taking::Failed { again_at } => again_at,
        });
        [phase, taking].into_iter().flatten().min()
    }

    /// The next thing to do. Carry it out at once.
    pub fn poll_command(&mut self) -> Option<Order> {
        let order = self.orders.pop_front()?;
        self.grant_taken |= matches!(order.command, Command::Grant { .. });
        Some(order)
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was asked.
    #[must_use]
    pub fn asked(&self) -> &Request {
        &self.request
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.request.session
    }

    /// What an approver must have seen.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Moves whenever [`Session::state`] does.
    #[must_use]
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// Whether the session is over and its grant is known to be gone: it can be forgotten.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let over = matches!(self.phase, Phase::Denied { .. } | Phase::Closed { .. });
        over && self.taking.is_none() && self.orders.is_empty() && self.events.is_empty()
    }

    /// What the session is doing.
    #[must_use]
    pub fn state(&self, now: Now) -> State {
        match &self.phase {
            Phase::Requested => State::Requested {
                missing: self.missing().map(str::to_owned).collect(),
                approved_by: self.approvals.iter().map(|yes| yes.person.clone()).collect(),
            },
            Phase::Approved { .. } => State::Approved { opens: self.earliest(now) },
            Phase::OpeningRecorder { .. } | Phase::Granting { .. } => State::Opening {},
            Phase::Open { end, moved_at: _ } => State::Open { until: end.wall },
            Phase::Denied { by, reason } => State::Denied { by: by.clone(), reason: reason.clone() },
            Phase::Closed { why } => State::Closed { why: why.clone() },
        }
    }
}

fn after(wall: Timestamp, seconds: u32) -> Timestamp {
    wall.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}
