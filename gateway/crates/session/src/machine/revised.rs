//! Another policy while a session waits, is approved or is open: what it no longer allows ends, and what goes on goes on
//! under its terms, not those of the policy that it was asked under.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{EndReason, Now, Phase, Session};
use crate::request::{Target, Terms};

/// What the policy that is now in force says of a session.
#[derive(Clone, Debug)]
pub struct Revised {
    /// The target of that name, as it is now.
    pub target: Target,
    /// On which terms.
    pub terms: Terms,
    /// The persons whom it knows, by key.
    pub persons: BTreeMap<String, Stand>,
}

/// A person, as the policy that is now in force has him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// His roles.
    pub roles: BTreeSet<String>,
    /// The first instant at which he may no longer act; `None` for no end.
    pub until: Option<Timestamp>,
}

impl Session {
    /// Another policy is in force; `None` when it allows nothing of the kind any more. A session ends whose target, duration
    /// or approvals the policy no longer allows, and one whose grant would outlive the policy's windows or contract: the
    /// kernel's timeout is written already. A yes counts for the roles that its person has now.
    pub fn handle_policy(&mut self, revised: Option<Revised>, now: Now) {
        self.handle_timeout(now);
        if matches!(self.phase, Phase::Denied { .. } | Phase::Closed { .. }) {
            return;
        }
        self.revision = self.revision.saturating_add(1);
        if !revised.is_some_and(|revised| self.goes_on(revised, now)) {
            return self.close(EndReason::PolicyChanged {}, now);
        }
        // Fewer may be asked for now than have said yes.
        if matches!(self.phase, Phase::Requested) && self.missing().next().is_none() {
            self.approved(now);
        }
    }

    /// Takes the new terms; whether they let the session go on.
    fn goes_on(&mut self, Revised { target, terms, persons }: Revised, now: Now) -> bool {
        let is_same_work =
            target == self.request.target && u64::from(self.request.duration_s) <= terms.max_duration_s;
        if !is_same_work || terms.approvals.is_empty() {
            return false;
        }
        for yes in &mut self.approvals {
            let Some(stand) = persons.get(&yes.person) else { return false };
            yes.roles.clone_from(&stand.roles);
            yes.until = stand.until;
        }
        self.terms = terms;
        let is_approved = self.missing().next().is_none() && !self.lost_an_approver(now);
        match self.phase {
            Phase::Requested => self.earliest(now).is_some(),
            Phase::Approved { claim_by } => {
                // A window that moved is waited for.
                let claim_by = claim_by.max(self.claim_by(now));
                self.phase = Phase::Approved { claim_by };
                is_approved && self.earliest(now).is_some()
            }
            // The grant looks at the terms again.
            Phase::OpeningRecorder { .. } => is_approved,
            Phase::Granting { end, .. } | Phase::Open { end, .. } => {
                is_approved && self.terms.ends(now.wall).is_some_and(|last| end.wall <= last)
            }
            Phase::Denied { .. } | Phase::Closed { .. } => true,
        }
    }
}
