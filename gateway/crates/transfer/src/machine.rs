//! One file: at most one release, never without an inspection that allows it, and exactly one outcome.
//! Six verbs: `handle_*` brings what happened, `poll_*` asks what to do, when to come back, and what came of it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::attestation::{AttestationError, Attested};
use crate::ids::{Hash, TransferId};
use crate::name::FileName;
use crate::outcome::{Outcome, Refusal, Unsure};

mod steps;

/// A sender who brings nothing for so long has gone.
pub const SENDER_SILENCE: Duration = Duration::from_secs(30);
/// A file must be here within this time.
pub const RECEIVE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// An inspection must come to an end within this time.
pub const INSPECT_WAIT: Duration = Duration::from_secs(60);
/// Any other command must be answered within this time.
pub const STEP_WAIT: Duration = Duration::from_secs(60);

/// Time since some fixed start, which nobody can set. Nothing here depends on the wall clock.
pub type Now = Duration;

/// Names one command, so that a late answer to an abandoned one is not taken for an answer to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u64);

/// What went wrong outside, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// What a sender says that he will send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The transfer's name.
    pub transfer: TransferId,
    /// The maintenance session in which it comes.
    pub session: String,
    /// The vendor's name in the policy.
    pub vendor: String,
    /// The file's name.
    pub name: FileName,
    /// Its size.
    pub size_bytes: u64,
    /// Its hash.
    pub sha256: Hash,
}

/// What the policy in force accepts of this vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Kinds of content; none accepts nothing.
    pub accept: BTreeSet<String>,
    /// Whether the sender's attestation is required.
    pub attestation_required: bool,
    /// Largest file.
    pub max_size_bytes: u64,
}

/// What came of the sender's attestation.
#[derive(Debug)]
pub enum Proof {
    /// There was none.
    Absent,
    /// It was verified, or was not.
    Given(Result<Box<Attested>, AttestationError>),
}

/// What an inspection says of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// They may be delivered as they are.
    Allow,
    /// They must never be delivered unchanged.
    Disarm,
    /// They must never be delivered.
    Refuse,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The word of it.
    pub id: String,
    /// Where inside the file.
    pub at: String,
    /// What was seen there.
    pub detail: String,
}

/// The result of an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The hash of the bytes that were inspected.
    pub sha256: Hash,
    /// The verdict.
    pub verdict: Verdict,
    /// The kinds that must all be accepted; none means that no kind covers it.
    pub kinds: BTreeSet<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// One thing for the shell to do, answered by its step.
#[derive(Debug)]
pub struct Order {
    /// Goes back with the answer.
    pub step: Step,
    /// What to do.
    pub command: Command,
}

/// What the shell can be told to do. Each but the last is answered.
#[derive(Debug)]
pub enum Command {
    /// Make room, and make it durable that this transfer began; answered by [`Transfer::handle_held`].
    Hold {},
    /// Keep the original, sealed; answered by [`Transfer::handle_sealed`].
    Seal {},
    /// Have the bytes inspected; answered by [`Transfer::handle_inspected`].
    Inspect {},
    /// Make it durable in the log that this file is released; answered by [`Transfer::handle_recorded`].
    Record {},
    /// Deliver; answered by [`Transfer::handle_delivered`] with the hash of what now lies there.
    Deliver(Released),
    /// Make the outcome durable, once, and let go of everything that is not the sealed original. What was delivered but
    /// is not `Delivered` is taken back first.
    Conclude(Outcome),
}

/// The right to deliver one file: made by the machine alone, for a file that was inspected, allowed and recorded.
#[derive(Debug)]
pub struct Released {
    transfer: TransferId,
    vendor: String,
    name: FileName,
    sha256: Hash,
    size_bytes: u64,
}

/// What a transfer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Room is made.
    Announced,
    /// Bytes arrive.
    Receiving {
        /// How many did.
        received_bytes: u64,
    },
    /// The original is sealed, the bytes are inspected.
    Inspecting,
    /// It is released and on its way into the drop.
    Released,
    /// It has ended.
    Over(Outcome),
}

#[derive(Clone, Debug)]
enum Phase {
    Announced { step: Step, limit: Now },
    Receiving { received_bytes: u64, silent_at: Now, limit: Now },
    Sealing { step: Step, limit: Now },
    Inspecting { step: Step, limit: Now },
    Recording { step: Step, limit: Now },
    Delivering { step: Step, limit: Now },
    Over(Outcome),
}

/// The machine.
#[derive(Debug)]
pub struct Transfer {
    announced: Announcement,
    rules: Rules,
    phase: Phase,
    next_step: u64,
    orders: VecDeque<Order>,
}

impl Released {
    /// The transfer.
    #[must_use]
    pub fn transfer(&self) -> &TransferId {
        &self.transfer
    }

    /// The vendor, whose drop it is for.
    #[must_use]
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// What the delivered bytes must hash to.
    #[must_use]
    pub fn sha256(&self) -> Hash {
        self.sha256
    }

    /// How many bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl Transfer {
    /// Takes an announcement. What the rules refuse has its outcome at once, before a byte is taken.
    #[must_use]
    pub fn announce(announced: Announcement, rules: Rules, proof: &Proof, now: Now) -> Self {
        let refusal = steps::refusal(&announced, &rules, proof);
        let phase = Phase::Announced { step: Step(0), limit: now.saturating_add(STEP_WAIT) };
        let mut transfer = Transfer { announced, rules, phase, next_step: 0, orders: VecDeque::new() };
        match refusal {
            Some(why) => transfer.conclude(Outcome::Refused { why }),
            None => {
                transfer.order(Command::Hold {});
            }
        }
        transfer
    }

    /// Takes the answer to [`Command::Hold`].
    pub fn handle_held(&mut self, step: Step, result: Result<(), Failure>, now: Now) {
        self.handle_timeout(now);
        let Phase::Announced { step: waiting, .. } = self.phase else { return };
        match result {
            _ if waiting != step => {}
            Ok(()) => {
                let silent_at = now.saturating_add(SENDER_SILENCE);
                let limit = now.saturating_add(RECEIVE_LIMIT);
                self.phase = Phase::Receiving { received_bytes: 0, silent_at, limit };
            }
            Err(Failure(what)) => self.quarantine(Unsure::NoRoom { what }),
        }
    }

    /// Bytes arrived, and may be written if this says so: never more than were announced.
    pub fn handle_bytes(&mut self, count: u64, now: Now) -> bool {
        self.handle_timeout(now);
        let Phase::Receiving { received_bytes, silent_at, .. } = &mut self.phase else { return false };
        *received_bytes = received_bytes.saturating_add(count);
        *silent_at = now.saturating_add(SENDER_SILENCE);
        let fits = *received_bytes <= self.announced.size_bytes;
        if !fits {
            self.conclude(Outcome::Refused { why: Refusal::NotAsAnnounced {} });
        }
        fits
    }

    /// All bytes are here and durable; `sha256` is of what the disk holds.
    pub fn handle_received(&mut self, sha256: Hash, now: Now) {
        self.handle_timeout(now);
        let Phase::Receiving { received_bytes, .. } = self.phase else { return };
        if received_bytes != self.announced.size_bytes || sha256 != self.announced.sha256 {
            return self.conclude(Outcome::Refused { why: Refusal::NotAsAnnounced {} });
        }
        let step = self.order(Command::Seal {});
        self.phase = Phase::Sealing { step, limit: now.saturating_add(STEP_WAIT) };
    }

    /// The sender's line is gone. What is whole already goes on without him.
    pub fn handle_sender_gone(&mut self, now: Now) {
        self.handle_timeout(now);
        match self.phase {
            Phase::Announced { .. } | Phase::Receiving { .. } => self.quarantine(Unsure::SenderGone {}),
            Phase::Sealing { .. }
            | Phase::Inspecting { .. }
            | Phase::Recording { .. }
            | Phase::Delivering { .. }
            | Phase::Over(_) => {}
        }
    }

    /// The held bytes could not be written or read.
    pub fn handle_hold_failed(&mut self, failure: Failure, now: Now) {
        self.handle_timeout(now);
        if matches!(self.phase, Phase::Receiving { .. }) {
            self.quarantine(Unsure::Keeping { what: failure.0 });
        }
    }

    /// Takes the answer to [`Command::Seal`].
    pub fn handle_sealed(&mut self, step: Step, result: Result<(), Failure>, now: Now) {
        self.handle_timeout(now);
        let Phase::Sealing { step: waiting, .. } = self.phase else { return };
        match result {
            _ if waiting != step => {}
            Ok(()) => {
                let step = self.order(Command::Inspect {});
                self.phase = Phase::Inspecting { step, limit: now.saturating_add(INSPECT_WAIT) };
            }
            Err(Failure(what)) => self.quarantine(Unsure::Keeping { what }),
        }
    }

    /// Takes the answer to [`Command::Inspect`].
    pub fn handle_inspected(&mut self, step: Step, result: Result<Inspection, Failure>, now: Now) {
        self.handle_timeout(now);
        let Phase::Inspecting { step: waiting, .. } = self.phase else { return };
        match result {
            _ if waiting != step => {}
            Ok(inspection) => self.inspected(inspection, now),
            Err(Failure(what)) => self.quarantine(Unsure::Inspection { what }),
        }
    }

    /// Takes the answer to [`Command::Record`].
    pub fn handle_recorded(&mut self, step: Step, result: Result<(), Failure>, now: Now) {
        self.handle_timeout(now);
        let Phase::Recording { step: waiting, .. } = self.phase else { return };
        match result {
            _ if waiting != step => {}
            Ok(()) => {
                let released = self.released();
                let step = self.order(Command::Deliver(released));
                self.phase = Phase::Delivering { step, limit: now.saturating_add(STEP_WAIT) };
            }
            Err(Failure(what)) => self.quarantine(Unsure::Record { what }),
        }
    }

    /// Takes the answer to [`Command::Deliver`]: the hash of what lies in the drop.
    pub fn handle_delivered(&mut self, step: Step, result: Result<Hash, Failure>, now: Now) {
        self.handle_timeout(now);
        let Phase::Delivering { step: waiting, .. } = self.phase else { return };
        match result {
            _ if waiting != step => {}
            Ok(sha256) if sha256 == self.announced.sha256 => self.conclude(Outcome::Delivered { sha256 }),
            Ok(_) => {
                let what = "what was delivered is not what was released".to_owned();
                self.quarantine(Unsure::Delivery { what });
            }
            Err(Failure(what)) => self.quarantine(Unsure::Delivery { what }),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Some(why) = self.late(now) {
            self.quarantine(why);
        }
    }

    /// When to call [`Transfer::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        match self.phase {
            Phase::Announced { limit, .. }
            | Phase::Sealing { limit, .. }
            | Phase::Inspecting { limit, .. }
            | Phase::Recording { limit, .. }
            | Phase::Delivering { limit, .. } => Some(limit),
            Phase::Receiving { silent_at, limit, .. } => Some(silent_at.min(limit)),
            Phase::Over(_) => None,
        }
    }

    /// The next thing to do. Carry it out at once.
    pub fn poll_command(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// How it ended, once it has; exactly once by [`Command::Conclude`].
    #[must_use]
    pub fn poll_event(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Over(outcome) => Some(outcome),
            Phase::Announced { .. }
            | Phase::Receiving { .. }
            | Phase::Sealing { .. }
            | Phase::Inspecting { .. }
            | Phase::Recording { .. }
            | Phase::Delivering { .. } => None,
        }
    }

    /// What was announced.
    #[must_use]
    pub fn announced(&self) -> &Announcement {
        &self.announced
    }

    /// What the transfer is doing.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Announced { .. } => State::Announced,
            Phase::Receiving { received_bytes, .. } => State::Receiving { received_bytes: *received_bytes },
            Phase::Sealing { .. } | Phase::Inspecting { .. } => State::Inspecting,
            Phase::Recording { .. } | Phase::Delivering { .. } => State::Released,
            Phase::Over(outcome) => State::Over(outcome.clone()),
        }
    }
}

/// The outcome of a transfer that a former run left unfinished. A delivery writes beside its place, says so durably, and
/// then renames: when what was written beside is gone, the rename happened and the clinic has the file.
#[must_use]
pub fn after_restart(written_beside: Option<Hash>, is_still_beside: bool) -> Outcome {
    match written_beside {
        Some(sha256) if !is_still_beside => Outcome::Delivered { sha256 },
        Some(_) | None => Outcome::Quarantined { why: Unsure::Restarted {} },
    }
}
