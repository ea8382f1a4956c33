//! What follows from what: the transitions of the machine, in the order of a session's life.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    ABSENCE_LIMIT, ANSWER_LIMIT, APPROVALS_MAX, Command, End, EndReason, Event, Now, Order, Phase,
    RECORDER_SILENCE, STEP_WAIT, Session, Step, Taking, after,
};
use crate::approval::{self, Approval, Yes};
use crate::ids::Digest;
use crate::refusal::ApprovalError;
use crate::request::{Request, Terms};

impl Session {
    pub(super) fn new(request: Request, digest: Digest, terms: Terms, phase: Phase, now: Now) -> Self {
        Session {
            request,
            digest,
            terms,
            phase,
            approvals: Vec::new(),
            asked_at: now.elapsed,
            absent_since: None,
            recorder_heard: None,
            grant_taken: false,
            taking: None,
            next_step: 0,
            revision: 0,
            orders: [].into(),
            events: [].into(),
        }
    }

    /// Whether a yes counts, and what of it is kept.
    pub(super) fn judged(&self, approval: Approval, now: Now) -> Result<Yes, ApprovalError> {
        let Approval { person, roles, until, digest, factor } = approval;
        if !matches!(self.phase, Phase::Requested) {
            return Err(ApprovalError::NotWaiting);
        }
        if !now.trusted {
            return Err(ApprovalError::TimeUntrusted);
        }
        if digest != self.digest {
            return Err(ApprovalError::OtherRequest);
        }
        if !factor.is_for(&person, &self.digest) || !factor.is_fresh(now) {
            return Err(ApprovalError::Factor);
        }
        if until.is_some_and(|until| until <= now.wall) {
            return Err(ApprovalError::PersonOver { person });
        }
        if self.approvals.iter().any(|yes| yes.person == person) {
            return Err(ApprovalError::Twice { person });
        }
        if self.terms.contract_end.is_some_and(|end| end <= now.wall) {
            return Err(ApprovalError::ContractOver { vendor: self.request.vendor.clone() });
        }
        let yes = Yes { person, roles, until };
        self.moves(&yes).then(|| yes.clone()).ok_or_else(|| ApprovalError::NoRole {
            person: yes.person.clone(),
            missing: self.missing().map(str::to_owned).collect(),
        })
    }

    /// Whether a yes brings the request nearer to its opening: what does not help now never will.
    fn moves(&self, yes: &Yes) -> bool {
        let mut with = self.approvals.clone();
        with.push(yes.clone());
        let fits = self.approvals.len() < APPROVALS_MAX;
        fits && approval::missing(&self.terms.approvals, &with).len() < self.missing().count()
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = &str> {
        approval::missing(&self.terms.approvals, &self.approvals).into_iter()
    }

    /// Every role is stood for: the waiting for the window is no part of the work.
    pub(super) fn approved(&mut self, now: Now) {
        self.phase = Phase::Approved { claim_by: self.claim_by(now) };
        self.open_if_due(now);
    }

    /// Until when the engineer must have come for what is approved.
    pub(super) fn claim_by(&self, now: Now) -> Duration {
        let opens = self.earliest(now).unwrap_or(now.wall);
        let ahead = Duration::try_from(opens.duration_since(now.wall)).unwrap_or(Duration::ZERO);
        now.elapsed.saturating_add(ahead).saturating_add(ANSWER_LIMIT)
    }

    pub(super) fn earliest(&self, now: Now) -> Option<Timestamp> {
        self.terms.opens(self.request.start.map_or(now.wall, |start| start.max(now.wall)))
    }

    /// When work that begins now would end; `None` while it may not begin.
    fn due(&self, now: Now) -> Option<End> {
        let started = self.request.start.is_none_or(|start| start <= now.wall);
        if !now.trusted || !started || self.absent_since.is_some() {
            return None;
        }
        let wall = self.terms.ends(now.wall)?.min(after(now.wall, self.request.duration_s));
        let lasts = Duration::try_from(wall.duration_since(now.wall)).ok()?;
        Some(End { wall, elapsed: now.elapsed.saturating_add(lasts) })
    }

    fn open_if_due(&mut self, now: Now) {
        if self.due(now).is_none() {
            return;
        }
        if self.lost_an_approver(now) {
            return self.close(EndReason::Revoked {}, now);
        }
        let step = self.order(Command::OpenRecorder {});
        self.phase = Phase::OpeningRecorder { step, limit: now.elapsed.saturating_add(STEP_WAIT) };
        self.revision += 1;
    }

    /// A person whose end came between his yes and the opening no longer stands for his role.
    pub(super) fn lost_an_approver(&self, now: Now) -> bool {
        self.approvals.iter().any(|yes| yes.until.is_some_and(|until| until <= now.wall))
    }

    /// The recorder runs: only now, and only if everything else still holds, the kernel is asked.
    pub(super) fn grant(&mut self, now: Now) {
        if !self.recorder_runs(now) {
            return self.close(EndReason::RecorderFailed {}, now);
        }
        if self.absent_since.is_some() {
            return self.close(EndReason::Disconnected {}, now);
        }
        if self.lost_an_approver(now) {
            return self.close(EndReason::Revoked {}, now);
        }
        let Some(end) = self.due(now) else { return self.close(EndReason::Expired {}, now) };
        let step = self.order(Command::Grant { end });
        self.phase = Phase::Granting { step, limit: now.elapsed.saturating_add(STEP_WAIT), end };
    }

    fn recorder_runs(&self, now: Now) -> bool {
        self.recorder_heard.is_some_and(|heard| now.elapsed < heard.saturating_add(RECORDER_SILENCE))
    }

    /// Ends the session, once: the grant goes first, then the word of it.
    pub(super) fn close(&mut self, why: EndReason, now: Now) {
        if matches!(self.phase, Phase::Denied { .. } | Phase::Closed { .. }) {
            return;
        }
        // What nobody took yet is of no use any more; an untaken grant was never written.
        self.orders.clear();
        if self.grant_taken {
            self.take_back(now);
        }
        self.phase = Phase::Closed { why: why.clone() };
        self.tell(Event::Closed { why });
    }

    fn take_back(&mut self, now: Now) {
        let step = self.order(Command::Revoke {});
        self.taking = Some(Taking::Ordered { step, limit: now.elapsed.saturating_add(STEP_WAIT) });
    }

    pub(super) fn time_passed(&mut self, now: Now) {
        match &self.phase {
            Phase::Requested => {
                let lapsed = now.elapsed >= self.asked_at.saturating_add(ANSWER_LIMIT);
                let contract = self.terms.contract_end.is_some_and(|end| end <= now.wall);
                if lapsed || contract {
                    self.close(EndReason::Expired {}, now);
                }
            }
            Phase::Approved { claim_by } => {
                if now.elapsed >= *claim_by || self.terms.contract_end.is_some_and(|end| end <= now.wall) {
                    self.close(EndReason::Expired {}, now);
                } else {
                    self.open_if_due(now);
                }
            }
            Phase::OpeningRecorder { limit, .. } => {
                if now.elapsed >= *limit {
                    self.close(EndReason::RecorderFailed {}, now);
                }
            }
            Phase::Granting { limit, end, .. } => {
                let ended = if end.is_over(now) { Some(EndReason::Expired {}) } else { None };
                let late = (now.elapsed >= *limit).then_some(EndReason::GrantFailed {});
                self.close_if(ended.or_else(|| self.recorder_end(now)).or(late), now);
            }
            Phase::Open { end, moved_at } => {
                let why = self.open_end(*end, *moved_at, now);
                self.close_if(why, now);
            }
            Phase::Denied { .. } | Phase::Closed { .. } => {}
        }
        self.take_back_again(now);
    }

    fn close_if(&mut self, why: Option<EndReason>, now: Now) {
        if let Some(why) = why {
            self.close(why, now);
        }
    }

    fn open_end(&self, end: End, moved_at: Duration, now: Now) -> Option<EndReason> {
        if end.is_over(now) {
            return Some(EndReason::Expired {});
        }
        if let Some(why) = self.recorder_end(now) {
            return Some(why);
        }
        if self.absent_since.is_some_and(|since| now.elapsed >= since.saturating_add(ABSENCE_LIMIT)) {
            return Some(EndReason::Disconnected {});
        }
        let idle = now.elapsed >= moved_at.saturating_add(self.terms.idle_limit);
        idle.then_some(EndReason::Idle {})
    }

    fn recorder_end(&self, now: Now) -> Option<EndReason> {
        (!self.recorder_runs(now)).then_some(EndReason::RecorderFailed {})
    }

    fn take_back_again(&mut self, now: Now) {
        let due = self.taking.is_some_and(|taking| match taking {
            Taking::Ordered { limit, .. } => now.elapsed >= limit,
            Taking::Failed { again_at } => now.elapsed >= again_at,
        });
        if due {
            self.orders.clear();
            self.take_back(now);
        }
    }

    pub(super) fn is_opening_or_open(&self) -> bool {
        matches!(self.phase, Phase::OpeningRecorder { .. } | Phase::Granting { .. } | Phase::Open { .. })
    }

    fn order(&mut self, command: Command) -> Step {
        let step = Step(self.next_step);
        self.next_step += 1;
        self.orders.push_back(Order { step, command });
        step
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.revision = self.revision.saturating_add(1);
        self.events.push_back(event);
    }
}
