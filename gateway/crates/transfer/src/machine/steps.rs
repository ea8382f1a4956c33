//! What follows from what: the judgements and transitions of the machine.

use super::{
    Announcement, Command, Inspection, Now, Order, Phase, Proof, Released, Rules, STEP_WAIT, Step, Transfer,
    Verdict,
};
use crate::outcome::{Outcome, Refusal, Unsure};

/// What the rules say before a byte is taken.
pub(super) fn refusal(announced: &Announcement, rules: &Rules, proof: &Proof) -> Option<Refusal> {
    if rules.accept.is_empty() {
        return Some(Refusal::NothingAccepted {});
    }
    if announced.size_bytes > rules.max_size_bytes {
        return Some(Refusal::TooLarge { max_bytes: rules.max_size_bytes });
    }
    match proof {
        Proof::Absent if rules.attestation_required => Some(Refusal::AttestationMissing {}),
        Proof::Absent => None,
        Proof::Given(Ok(attested)) if attested.is_about(announced.sha256, announced.size_bytes) => None,
        Proof::Given(Ok(_)) => {
            Some(Refusal::Attestation { why: "the attestation is about another file".to_owned() })
        }
        // A word that does not hold is worse than none, required or not.
        Proof::Given(Err(error)) => Some(Refusal::Attestation { why: error.to_string() }),
    }
}

impl Transfer {
    /// Only a whole yes, about these very bytes, of kinds that are all accepted, leads on.
    pub(super) fn inspected(&mut self, inspection: Inspection, now: Now) {
        let Inspection { sha256, verdict, kinds, findings } = inspection;
        if sha256 != self.announced.sha256 {
            let what = "other bytes were inspected than were held".to_owned();
            return self.quarantine(Unsure::Inspection { what });
        }
        match verdict {
            Verdict::Disarm | Verdict::Refuse => {
                let mut words: Vec<String> = findings.into_iter().map(|finding| finding.id).collect();
                words.dedup();
                self.conclude(Outcome::Refused { why: Refusal::Content { findings: words } });
            }
            Verdict::Allow if kinds.is_empty() || !kinds.is_subset(&self.rules.accept) => {
                let kinds = kinds.into_iter().collect();
                self.conclude(Outcome::Refused { why: Refusal::Kind { kinds } });
            }
            Verdict::Allow => {
                let step = self.order(Command::Record {});
                self.phase = Phase::Recording { step, limit: now.saturating_add(STEP_WAIT) };
            }
        }
    }

    pub(super) fn released(&self) -> Released {
        let Announcement { transfer, session: _, vendor, name, size_bytes, sha256 } = &self.announced;
        Released {
            transfer: transfer.clone(),
            vendor: vendor.clone(),
            name: name.clone(),
            sha256: *sha256,
            size_bytes: *size_bytes,
        }
    }

    pub(super) fn late(&self, now: Now) -> Option<Unsure> {
        let waited = |what: &str| format!("{what} did not answer in time");
        match &self.phase {
            Phase::Announced { limit, .. } if now >= *limit => {
                Some(Unsure::NoRoom { what: waited("the disk") })
            }
            Phase::Receiving { silent_at, limit, .. } if now >= *silent_at || now >= *limit => {
                Some(Unsure::TooSlow {})
            }
            Phase::Sealing { limit, .. } if now >= *limit => {
                Some(Unsure::Keeping { what: waited("the disk") })
            }
            Phase::Inspecting { limit, .. } if now >= *limit => {
                Some(Unsure::Inspection { what: waited("the inspection") })
            }
            Phase::Recording { limit, .. } if now >= *limit => {
                Some(Unsure::Record { what: waited("the record role") })
            }
            Phase::Delivering { limit, .. } if now >= *limit => {
                Some(Unsure::Delivery { what: waited("the drop") })
            }
            Phase::Announced { .. }
            | Phase::Receiving { .. }
            | Phase::Sealing { .. }
            | Phase::Inspecting { .. }
            | Phase::Recording { .. }
            | Phase::Delivering { .. }
            | Phase::Over(_) => None,
        }
    }

    pub(super) fn quarantine(&mut self, why: Unsure) {
        self.conclude(Outcome::Quarantined { why });
    }

    /// Ends the transfer, once.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        if matches!(self.phase, Phase::Over(_)) {
            return;
        }
        // Every outcome passes here: what others wrote in it is cut before anybody keeps or tells it.
        let outcome = outcome.bounded();
        // What nobody took yet is of no use any more: an untaken delivery never happens.
        self.orders.clear();
        self.phase = Phase::Over(outcome.clone());
        self.order(Command::Conclude(outcome));
    }

    pub(super) fn order(&mut self, command: Command) -> Step {
        let step = Step(self.next_step);
        self.next_step += 1;
        self.orders.push_back(Order { step, command });
        step
    }
}
