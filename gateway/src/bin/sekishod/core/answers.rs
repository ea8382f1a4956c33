//! Answers what admins ask.

use enforce::Standing;
use events::Event;
use gateway::recorder::RecordError;
use gateway::store::Stored;
use gateway::wire::{
    Answer, AppliedPolicy, Ask, Fault, FaultKind, FlowRow, SourceTexts, State, Status, TimeStatus,
};
use policy::diagnostic::{Diagnostic, Report};
use policy::ledger::Ledger;
use policy::ruleset::{Counter, Mark, MarkInfo};
use tokio::sync::oneshot;

use super::plan::{Plan, PlanError};
use super::{Core, NO_POLICY, Ready, Waiting, files};
use crate::server::{Letter, Peer};

impl Core {
    /// One request; all but an apply are answered at once. What is about the rules waits while their surroundings are made.
    pub(super) fn letter(&mut self, letter: Letter) {
        let waits = matches!(letter.ask, Ask::Apply { .. } | Ask::Verify {});
        if waits && self.is_surrounding() {
            // Each is of another client, of which there are not many.
            return self.later.push(letter);
        }
        let Letter { peer, ask, reply } = letter;
        let answer = match ask {
            Ask::Apply { sources, dry_run } => return self.apply(peer, sources, dry_run, reply),
            Ask::Status {} => Answer::Status(Box::new(self.status())),
            Ask::Flows {} => self.flows(),
            Ask::Verify {} => self.verify(),
            Ask::Sources {} => {
                Answer::Sources(self.enforcer.standing().policy().map(|plan| plan.stored.sources.clone()))
            }
            Ask::TimeTrusted {} => return self.asked_to_trust_time(peer, reply),
            Ask::RenderServices {} => self.render_services(),
            Ask::Measure {} => Answer::Measured(Box::new(self.measured())),
            Ask::Denials {} | Ask::Watch(_) => {
                failed(FaultKind::BadRequest, "ask the watch role: core never reads what was denied")
            }
            Ask::Record(_) => {
                failed(FaultKind::BadRequest, "ask the record role: core does not hold the log")
            }
            Ask::Console(_) => failed(FaultKind::BadRequest, "ask the console role"),
            Ask::Persons(ask) => return self.persons(peer, ask, reply),
            Ask::Vendors(ask) => return self.vendors(ask, reply),
            Ask::Sessions(ask) => self.sessions(peer, ask),
            Ask::Edge(_) => failed(FaultKind::BadRequest, "ask the edge role"),
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
        let (ready, now) = (self.ready.clone(), self.clocks.now().wall);
        let (before, recorder) = (self.enforcer.standing().policy().cloned(), self.witness.recorder());
        tokio::spawn(async move {
            let work = move || Plan::prepare(sources, &ledger, now, peer.user);
            let mut result =
                tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(PlanError::Broken(error)));
            // What opens something is in the record before it happens.
            if let (Ok(plan), false) = (&result, dry_run)
                && let Err(error) = recorder.record(requested(plan, before.as_ref(), peer)).await
            {
                result = Err(PlanError::Unrecorded(error));
            }
            // The loop ends only with the process.
            drop(ready.send(Ready::Policy { result, peer, dry_run, reply }).await);
        });
    }

    /// Something was made ready beside the loop.
    pub(super) fn ready(&mut self, ready: Ready) {
        match ready {
            Ready::Policy { result, peer, dry_run, reply } => {
                self.preparing = false;
                self.prepared(result, peer, dry_run, reply);
            }
            Ready::Found(found) => self.found(*found),
            Ready::TimeTrusted { reply } => drop(reply.send(self.trust_time())),
            Ready::Then(then) => then(self),
        }
    }

    /// A policy was read: refuse it, tell what it changes, or put it in force.
    fn prepared(
        &mut self,
        result: Result<Plan, PlanError>,
        peer: Peer,
        dry_run: bool,
        reply: oneshot::Sender<Answer>,
    ) {
        let plan = match result {
            Ok(plan) => plan,
            Err(error) => {
                tracing::info!(user = peer.user, "refused a policy");
                if let (PlanError::Refused(report), false) = (&error, dry_run) {
                    self.witness.note(Event::PolicyRefused {
                        by: peer.user,
                        file: report.files.first().map(|file| events::event::text(file)).unwrap_or_default(),
                        errors: report.diagnostics.len() + report.omitted,
                    });
                }
                let _ = reply.send(refused(error));
                return;
            }
        };
        let change = plan.change_from(self.enforcer.standing().policy());
        if dry_run {
            let _ = reply.send(Answer::Planned(change));
            return;
        }
        let same_rules = has_rules_of(&plan, self.enforcer.standing().policy());
        match self.enforcer.handle_request(plan, self.clocks.now()) {
            Ok(ticket) => {
                drop(self.waiting.insert(ticket, Waiting { reply, change, by: peer.user, same_rules }));
            }
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
            vpn: standing.policy().and_then(|plan| plan.policy.vpn.as_ref()).map(|_| self.carrier.who()),
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
        let unlike = self.carrier.verify().err().map(|error| error.to_string());
        self.device_put_back(&self.carrier.drifts());
        match self.kernel.compare(want.as_ref(), &self.enforcer.live(now)) {
            Ok(found) => {
                self.tell_foreign(found.foreign.clone());
                self.repair(&found.own);
                Answer::Verified {
                    differences: found.own.into_iter().chain(found.foreign).chain(unlike).collect(),
                    repaired: self.repaired.drain(..).collect(),
                }
            }
            Err(error) => failed(FaultKind::Failed, &error.to_string()),
        }
    }

    /// A clock that is trusted opens windows: who says so is in the record first.
    fn asked_to_trust_time(&mut self, peer: Peer, reply: oneshot::Sender<Answer>) {
        let recorded = self.witness.record(Event::TimeTrusted { by: peer.user });
        let ready = self.ready.clone();
        tokio::spawn(async move {
            match recorded.await {
                Ok(_) => drop(ready.send(Ready::TimeTrusted { reply }).await),
                Err(error) => drop(reply.send(failed(FaultKind::Failed, &unrecorded(&error)))),
            }
        });
    }

    /// Does something, and answers, once an event is durable; without the record it is not done.
    pub(super) fn recorded_first<A: Send + 'static>(
        &mut self,
        event: Event,
        reply: oneshot::Sender<A>,
        refuse: impl FnOnce(Fault) -> A + Send + 'static,
        then: impl FnOnce(&mut Core) -> A + Send + 'static,
    ) {
        let recorded = self.witness.record(event);
        let ready = self.ready.clone();
        tokio::spawn(async move {
            match recorded.await {
                Ok(_) => {
                    // Whoever asked may have gone; it is done nevertheless.
                    let then = move |core: &mut Core| drop(reply.send(then(core)));
                    drop(ready.send(Ready::Then(Box::new(then))).await);
                }
                Err(error) => drop(reply.send(refuse(Fault::new(FaultKind::Failed, unrecorded(&error))))),
            }
        });
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
        match files::write(&self.services, plan, self.carrier.who()) {
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
        PlanError::Unrecorded(error) => failed(FaultKind::Failed, &unrecorded(&error)),
        PlanError::Broken(error) => failed(FaultKind::Failed, &format!("nothing was changed: {error}")),
    }
}

/// The record's event of a policy that is about to be put in force.
fn requested(plan: &Plan, before: Option<&Plan>, peer: Peer) -> Event {
    let change = plan.change_from(before);
    Event::ApplyRequested {
        by: peer.user,
        file: events::event::text(&plan.stored.sources.main),
        policy: change.id,
        added: change.added.iter().collect(),
        removed: change.removed.iter().collect(),
        narrowed: change.narrowed.iter().collect(),
        same_rules: has_rules_of(plan, before),
    }
}

/// Whether a plan's rule set is the one in force, so that putting it there opens and closes nothing.
fn has_rules_of(plan: &Plan, before: Option<&Plan>) -> bool {
    before.is_some_and(|before| before.id() == plan.id())
}

fn unrecorded(error: &RecordError) -> String {
    format!("nothing was changed, for it could not be recorded: {error}")
}

fn failed(kind: FaultKind, message: &str) -> Answer {
    Answer::Failed(Fault::new(kind, message))
}
