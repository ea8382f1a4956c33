//! Answers what admins ask.

use enforce::Standing;
use gateway::store::Stored;
use gateway::wire::{
    Answer, AppliedPolicy, Ask, Fault, FaultKind, FlowRow, SourceTexts, State, Status, TimeStatus,
};
use policy::diagnostic::{Diagnostic, Report};
use policy::ledger::Ledger;
use policy::ruleset::{Counter, Mark, MarkInfo};
use tokio::sync::oneshot;

use super::plan::{Plan, PlanError};
use super::{Core, NO_POLICY, Prepared, Waiting, files};
use crate::server::{Letter, Peer};

impl Core {
    /// One request; all but an apply are answered at once.
    pub(super) fn letter(&mut self, letter: Letter) {
        let Letter { peer, ask, reply } = letter;
        let answer = match ask {
            Ask::Apply { sources, dry_run } => return self.apply(peer, sources, dry_run, reply),
            Ask::Status {} => Answer::Status(Box::new(self.status())),
            Ask::Flows {} => self.flows(),
            Ask::Verify {} => self.verify(),
            Ask::Sources {} => {
                Answer::Sources(self.enforcer.standing().policy().map(|plan| plan.stored.sources.clone()))
            }
            Ask::TimeTrusted {} => self.trust_time(),
            Ask::RenderServices {} => self.render_services(),
            Ask::Denials {} => {
                failed(FaultKind::BadRequest, "ask the watch role: core never reads what was denied")
            }
        };
        // A client that left needs no answer.
        let _ = reply.send(answer);
    }

    /// Reads a policy beside the loop, which goes on serving.
    fn apply(&mut self, peer: Peer, sources: SourceTexts, dry_run: bool, reply: oneshot::Sender<Answer>) {
        if self.preparing || !self.enforcer.is_idle() {
            let _ = reply
                .send(failed(FaultKind::Busy, "another policy is on its way; try again when it has ended"));
            return;
        }
        let ledger = match self.ledger() {
            Ok(ledger) => ledger,
            Err(error) => {
                let _ = reply.send(failed(FaultKind::Failed, &format!("nothing was changed: {error}")));
                return;
            }
        };
        self.preparing = true;
        let (sender, now) = (self.prepared.clone(), self.clocks.now().wall);
        tokio::spawn(async move {
            let work = move || Plan::prepare(sources, &ledger, now, peer.user);
            let result =
                tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(PlanError::Broken(error)));
            // The loop ends only with the process.
            drop(sender.send(Prepared { result, peer, dry_run, reply }).await);
        });
    }

    /// A policy was read: refuse it, tell what it changes, or put it in force.
    pub(super) fn prepared(&mut self, prepared: Prepared) {
        let Prepared { result, peer, dry_run, reply } = prepared;
        self.preparing = false;
        let plan = match result {
            Ok(plan) => plan,
            Err(error) => {
                tracing::info!(user = peer.user, "refused a policy");
                let _ = reply.send(refused(error));
                return;
            }
        };
        let change = plan.change_from(self.enforcer.standing().policy());
        if dry_run {
            let _ = reply.send(Answer::Planned(change));
            return;
        }
        match self.enforcer.handle_request(plan, self.clocks.now()) {
            Ok(ticket) => drop(self.waiting.insert(ticket, Waiting { reply, change })),
            Err(error) => drop(reply.send(failed(FaultKind::Busy, &error.to_string()))),
        }
    }

    /// The ledger that the next policy takes its marks from.
    fn ledger(&self) -> Result<Ledger, gateway::store::StoreError> {
        let in_force = self.enforcer.standing().policy();
        let mut ledger = in_force.map_or_else(Ledger::default, |plan| plan.stored.ledger.clone());
        ledger.raise_floor(self.store.floor()?);
        Ok(ledger)
    }

    fn status(&mut self) -> Status {
        let now = self.clocks.now();
        let standing = self.enforcer.standing();
        let clock = self.enforcer.clock();
        Status {
            state: match standing {
                Standing::Unknown => State::Unsettled,
                Standing::Closed => State::Closed,
                Standing::Applied(_) => State::Applied,
            },
            closed_because: self.closed_because.clone(),
            policy: standing.policy().map(|plan| applied(plan, self.enforcer.live(now).len())),
            time: TimeStatus { trusted: clock.is_trusted(), effective: clock.at(now.elapsed) },
            warnings: self.warnings.iter().chain(&self.problems).cloned().collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
        }
    }

    /// How things are, in one line.
    pub(super) fn line(&self) -> String {
        match self.enforcer.standing() {
            Standing::Unknown => "not settled".to_owned(),
            Standing::Closed => {
                format!("closed: {}", self.closed_because.as_deref().unwrap_or(NO_POLICY))
            }
            Standing::Applied(plan) => format!("policy {} in force", plan.id()),
        }
    }

    fn flows(&mut self) -> Answer {
        let Some(plan) = self.enforcer.standing().policy().cloned() else { return Answer::Flows(Vec::new()) };
        let counters = match self.kernel.counters() {
            Ok(counters) => counters,
            Err(error) => return failed(FaultKind::Failed, &error.to_string()),
        };
        // The compiler names the counters; which flow each counts is written beside them.
        let named = plan.ruleset.counters.iter().filter_map(|(name, counter)| match counter {
            Counter::Flow { flow } => Some((flow.as_str(), counters.get(name).copied().unwrap_or_default())),
            Counter::Control { .. }
            | Counter::Denied { .. }
            | Counter::Dropped { .. }
            | Counter::Unlogged { .. } => None,
        });
        let counted = named.collect::<std::collections::BTreeMap<_, _>>();
        let row = |(mark, info): (&Mark, &MarkInfo)| {
            let counts = counted.get(info.name.as_str()).copied().unwrap_or_default();
            self.row(&plan, *mark, info, counts)
        };
        Answer::Flows(plan.ruleset.marks.iter().map(row).collect())
    }

    fn row(&self, plan: &Plan, mark: Mark, info: &MarkInfo, (packets, bytes): (u64, u64)) -> FlowRow {
        let flow = plan.policy.flow(info.flow);
        let end = self.enforcer.leases().end(mark);
        FlowRow {
            name: info.name.clone(),
            mark: mark.to_string(),
            purpose: flow.purpose.clone(),
            owner: flow.owner.clone(),
            place: info.place.map(|place| plan.policy.locate(place)),
            live: end.is_some(),
            until: end.flatten(),
            last_change: self.changed.get(&mark).copied(),
            packets,
            bytes,
        }
    }

    fn verify(&mut self) -> Answer {
        let now = self.clocks.now();
        let want = match self.enforcer.standing() {
            Standing::Unknown => {
                return failed(FaultKind::Failed, "nothing is established that could be compared");
            }
            Standing::Closed => None,
            Standing::Applied(plan) => Some(plan.clone()),
        };
        match self.kernel.compare(want.as_ref(), &self.enforcer.live(now)) {
            Ok(found) => {
                self.repair(&found.own);
                Answer::Verified {
                    differences: found.own.into_iter().chain(found.foreign).collect(),
                    repaired: self.repaired.drain(..).collect(),
                }
            }
            Err(error) => failed(FaultKind::Failed, &error.to_string()),
        }
    }

    fn trust_time(&mut self) -> Answer {
        self.enforcer.handle_time_trusted(self.clocks.now());
        self.time_changed();
        tracing::info!("the time is trusted");
        Answer::Done {}
    }

    fn render_services(&mut self) -> Answer {
        let Some(plan) = self.enforcer.standing().policy() else {
            return failed(FaultKind::Failed, "there is no policy in force");
        };
        match files::write(&self.services, &plan.policy) {
            Ok(()) => Answer::Done {},
            Err(error) => failed(FaultKind::Failed, &error.to_string()),
        }
    }
}

fn applied(plan: &Plan, live_count: usize) -> AppliedPolicy {
    let Stored { sources, applied_at, applied_by, .. } = &plan.stored;
    AppliedPolicy {
        id: plan.id().to_string(),
        clinic: plan.policy.clinic.name.clone(),
        file: sources.main.clone(),
        applied_at: *applied_at,
        applied_by: *applied_by,
        flow_count: plan.policy.flows.len(),
        live_count,
    }
}

fn refused(error: PlanError) -> Answer {
    match error {
        PlanError::Refused(report) => Answer::Refused { report: report.to_json() },
        PlanError::Compile(error) => {
            let words = error.to_string();
            let finding = Diagnostic::error("cannot-compile", words.clone(), words);
            Answer::Refused { report: Report::new(vec![finding], Vec::new()).to_json() }
        }
        PlanError::Broken(error) => failed(FaultKind::Failed, &format!("nothing was changed: {error}")),
    }
}

fn failed(kind: FaultKind, message: &str) -> Answer {
    Answer::Failed(Fault::new(kind, message))
}
