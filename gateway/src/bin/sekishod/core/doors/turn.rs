//! What sessions order and tell, carried out and passed on: the record first, then the kernel; on the way back the kernel
//! first.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use events::{Event, SessionChange};
use gateway::recorder::RecordError;
use gateway::store::DoorFile;
use gateway::wire::doors::{KeyId, SessionId};
use jiff::Timestamp;
use policy::model::Person;
use session::{Command, EndReason, Failure, Now, Order, RecorderFault, Revised, Stand, Step, Target};

use super::resolve::{person_end, resolve};
use super::{FOLLOW_SILENCE, Live};
use crate::core::engineers::{is_authority, maintains};
use crate::core::plan::Plan;
use crate::core::{Core, Ready, grants};

/// Endings that wait for the log, at most; further ones are told and not owed.
const UNTOLD_MAX: usize = 256;

impl Core {
    /// Both clocks as the machines want them.
    pub(in crate::core) fn session_now(&self) -> Now {
        let now = self.clocks.now();
        let clock = self.enforcer.clock();
        let trusted = clock.is_trusted();
        let wall = if trusted { clock.at(now.elapsed) } else { now.wall };
        Now { wall, elapsed: now.elapsed, trusted }
    }

    /// Carries out what sessions order until none orders anything, and tells what happened.
    pub(in crate::core) fn settle_doors(&mut self) {
        self.hold_against_policy();
        let now = self.session_now();
        let ids: Vec<SessionId> = self.doors.sessions.keys().cloned().collect();
        for id in &ids {
            self.settle_session(id, now);
        }
        self.keep_sessions(now);
        self.doors.forget(now);
        let mut moved = false;
        for live in self.doors.sessions.values_mut() {
            moved |= std::mem::replace(&mut live.told, live.machine.revision()) != live.machine.revision();
        }
        if moved {
            self.doors.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn settle_session(&mut self, id: &SessionId, now: Now) {
        let Some(live) = self.doors.sessions.get_mut(id) else { return };
        live.machine.handle_timeout(now);
        // What happened before what follows from it: an opening names everybody who approved.
        loop {
            while let Some(event) = self.doors.sessions.get_mut(id).and_then(|live| live.machine.poll_event())
            {
                self.tell_of_session(id, event);
            }
            let Some(order) = self.doors.sessions.get_mut(id).and_then(|live| live.machine.poll_command())
            else {
                return;
            };
            self.carry_out_order(id, order);
        }
    }

    fn carry_out_order(&mut self, id: &SessionId, Order { step, command }: Order) {
        match command {
            Command::OpenRecorder {} => self.open_recorder(id, step),
            Command::Grant { end } => {
                let left = end.left(self.session_now());
                let result = self.open_grant(id, left);
                if let Err(failure) = &result {
                    self.warn(format!("session `{id}` was not opened: {failure}"));
                }
                let now = self.session_now();
                self.with_session(id, |live| live.machine.handle_granted(step, result, now));
            }
            Command::Revoke {} => {
                let grant = self.doors.sessions.get(id).and_then(|live| live.grant);
                let result = grant.map_or(Ok(()), |grant| self.kernel.end_grant(&grant));
                if result.is_ok() {
                    self.kill_switch.forget(id);
                }
                let now = self.session_now();
                self.with_session(id, |live| live.machine.handle_revoked(step, result.map_err(failure), now));
            }
        }
    }

    /// Makes it durable that the path is about to be opened, by whose word, before it is.
    fn open_recorder(&mut self, id: &SessionId, step: Step) {
        let Some(live) = self.doors.sessions.get(id) else { return };
        let asked = live.machine.asked();
        let change = SessionChange::Opening {
            vendor: asked.vendor.clone(),
            target: asked.target.name.clone(),
            opens: opens(&asked.target),
            approved_by: live.approved_by.clone(),
            digest: live.machine.digest().to_string(),
        };
        let recorded = self.witness.record(Event::Session { session: id.to_string(), change });
        let (ready, id) = (self.ready.clone(), id.clone());
        tokio::spawn(async move {
            let result = recorded.await.map(drop).map_err(|error| fault(&error));
            let then = move |core: &mut Core| {
                let now = core.session_now();
                core.with_session(&id, |live| live.machine.handle_recorder(step, result, now));
            };
            // The loop ends only with the process.
            drop(ready.send(Ready::Then(Box::new(then))).await);
        });
    }

    fn open_grant(&mut self, id: &SessionId, left: std::time::Duration) -> Result<(), Failure> {
        let Some(live) = self.doors.sessions.get_mut(id) else { return Err(failure("the session is gone")) };
        let mark = grants::next_mark(&self.store).map_err(failure)?;
        let grant = grants::grant(mark, &live.machine.asked().target);
        // Known before the kernel has it, so that whatever follows takes it back.
        live.grant = Some(grant);
        self.kernel.open_grant(grant, grants::life(left)).map_err(failure)?;
        self.kill_switch.know(id, grant);
        Ok(())
    }

    fn with_session(&mut self, id: &SessionId, then: impl FnOnce(&mut Live)) {
        if let Some(live) = self.doors.sessions.get_mut(id) {
            then(live);
        }
    }

    fn tell_of_session(&mut self, id: &SessionId, event: session::Event) {
        let Some(live) = self.doors.sessions.get_mut(id) else { return };
        let asked = live.machine.asked();
        let change = match event {
            session::Event::Requested => SessionChange::Requested {
                vendor: asked.vendor.clone(),
                engineer: asked.engineer_name.clone(),
                key: asked.engineer.to_string(),
                target: asked.target.name.clone(),
                purpose: asked.purpose.clone(),
                duration_s: asked.duration_s,
                digest: live.machine.digest().to_string(),
            },
            session::Event::Approved { by, complete: _ } => {
                live.approved_by.push(by.clone());
                SessionChange::Approved { person: by, digest: live.machine.digest().to_string() }
            }
            session::Event::Denied { by, reason } => {
                SessionChange::Denied { person: by, why: events::event::text(&reason) }
            }
            session::Event::Opened { until } => SessionChange::Opened {
                vendor: asked.vendor.clone(),
                target: asked.target.name.clone(),
                until,
            },
            session::Event::Closed { why } => closed(&why),
            session::Event::RevokeFailed(why) => {
                return self.warn(format!("the grant of session `{id}` could not be taken back yet: {why}"));
            }
        };
        tracing::info!(session = %id, ?change, "session");
        if matches!(change, SessionChange::Denied { .. } | SessionChange::Closed { .. }) {
            return self.tell_of_ending(id, change);
        }
        self.witness.note(Event::Session { session: id.to_string(), change });
    }

    /// The ending of a session that a former run of core left.
    pub(in crate::core) fn tell_of_one_left_behind(&mut self, id: &SessionId) {
        self.tell_of_ending(id, closed(&EndReason::CoreRestarted {}));
    }

    /// An ending is owed to the log until it is durable there: should core die before, the next run tells it.
    fn tell_of_ending(&mut self, id: &SessionId, change: SessionChange) {
        if self.doors.untold.len() < UNTOLD_MAX {
            self.doors.untold.insert(id.clone());
        }
        let durable = self.witness.note_and_tell(Event::Session { session: id.to_string(), change });
        let (ready, id) = (self.ready.clone(), id.clone());
        tokio::spawn(async move {
            // One that was lost stays owed.
            if durable.await.is_ok() {
                let then = move |core: &mut Core| {
                    core.doors.untold.remove(&id);
                };
                // The loop ends only with the process.
                drop(ready.send(Ready::Then(Box::new(then))).await);
            }
        });
    }

    /// Writes down which sessions are not over, or not told to be, so that their end is told even after a crash.
    fn keep_sessions(&mut self, now: Now) {
        let active = self.doors.active(now).map(|live| live.machine.id().clone());
        let owed: BTreeSet<SessionId> = active.chain(self.doors.untold.iter().cloned()).collect();
        let owed: Vec<SessionId> = owed.into_iter().collect();
        if owed == self.doors.kept {
            return;
        }
        match self.store.keep_door(DoorFile::Sessions, &owed) {
            Ok(()) => self.doors.kept = owed,
            Err(error) => tracing::error!(%error, "the list of sessions is not on disk"),
        }
    }

    /// Holds every session to the policy in force, if that is another one.
    fn hold_against_policy(&mut self) {
        let plan = self.enforcer.standing().policy().cloned();
        let is_same = match (&plan, &self.doors.plan) {
            (Some(plan), Some(held)) => plan.is(held),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        let now = self.session_now();
        let listed: BTreeSet<KeyId> =
            self.enrolled(now.wall).into_iter().map(|engineer| engineer.key).collect();
        for live in self.doors.sessions.values_mut().filter(|live| !live.is_over(now)) {
            let revised = plan.as_ref().and_then(|plan| revised(plan, live, &listed, now.wall));
            live.machine.handle_policy(revised, now);
        }
        if let Some(plan) = &plan {
            self.tell_of_peers(&plan.policy);
        }
        self.doors.plan = plan;
    }

    /// What is due every second or so: engineers that are gone, and a sign of life of the record role.
    pub(in crate::core) fn beat(&mut self) {
        let now = self.session_now();
        for live in self.doors.sessions.values_mut() {
            if now.elapsed.saturating_sub(live.followed_at) > FOLLOW_SILENCE {
                live.machine.handle_absent(now);
            }
        }
        if !self.doors.is_any_open(now) || self.doors.is_beating {
            return;
        }
        self.doors.is_beating = true;
        let (recorder, ready) = (self.witness.recorder(), self.ready.clone());
        tokio::spawn(async move {
            let lives = recorder.lives().await;
            let then = move |core: &mut Core| core.heard_recorder(lives);
            drop(ready.send(Ready::Then(Box::new(then))).await);
        });
    }

    fn heard_recorder(&mut self, lives: bool) {
        self.doors.is_beating = false;
        if !lives {
            return tracing::warn!("the record role does not answer while a session is open");
        }
        let now = self.session_now();
        for live in self.doors.sessions.values_mut() {
            live.machine.handle_recorder_alive(now);
        }
    }
}

/// What the policy says of a session; nothing where its engineer may not come any more.
fn revised(plan: &Plan, live: &Live, listed: &BTreeSet<KeyId>, now: Timestamp) -> Option<Revised> {
    let (policy, asked) = (&plan.policy, live.machine.asked());
    let is_known = match &live.vouched {
        None => listed.contains(&asked.engineer),
        Some(vouched) => {
            is_authority(policy, &asked.vendor, &vouched.authority) && maintains(policy, &asked.vendor, now)
        }
    };
    let (target, terms) = resolve(policy, &asked.vendor, &asked.target.name).ok().filter(|_| is_known)?;
    let stand = |person| Stand { roles: roles(person), until: person_end(policy, person) };
    let persons = policy.persons.iter().map(|(key, person)| (key.clone(), stand(person))).collect();
    Some(Revised { target, terms, persons })
}

fn roles(person: &Person) -> BTreeSet<String> {
    person.roles.iter().cloned().collect()
}

fn closed(why: &EndReason) -> SessionChange {
    let by = match why {
        EndReason::Killed { by } => Some(by.clone()),
        _ => None,
    };
    SessionChange::Closed { why: end_word(why).to_owned(), by }
}

/// The word for an end.
pub(super) const fn end_word(why: &EndReason) -> &'static str {
    match why {
        EndReason::Expired {} => "expired",
        EndReason::Killed { .. } => "killed",
        EndReason::Idle {} => "idle",
        EndReason::Disconnected {} => "disconnected",
        EndReason::Finished {} => "finished",
        EndReason::RecorderFailed {} => "recorder-failed",
        EndReason::DiskFull {} => "disk-full",
        EndReason::Revoked {} => "revoked",
        EndReason::PolicyChanged {} => "policy-changed",
        EndReason::CoreRestarted {} => "core-restarted",
        EndReason::GrantFailed {} => "grant-failed",
    }
}

/// What opens, in words.
pub(super) fn opens(target: &Target) -> String {
    format!("{} {}", SocketAddr::new(target.address, target.port), target.protocol)
}

fn fault(error: &RecordError) -> RecorderFault {
    match error {
        RecordError::Full(_) => RecorderFault::DiskFull,
        RecordError::Refused(_)
        | RecordError::Unreachable { .. }
        | RecordError::Answer(_)
        | RecordError::Confused => RecorderFault::Failed(error.to_string()),
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::wire::{Fault, FaultKind};

    #[test]
    fn only_a_log_without_room_is_a_full_disk() {
        let fault = |kind| Fault::new(kind, "why");
        let unreachable = || RecordError::Unreachable {
            path: "record.sock".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        assert_eq!(super::fault(&RecordError::Full(fault(FaultKind::Full))), RecorderFault::DiskFull);
        for other in [
            RecordError::Refused(fault(FaultKind::NotPermitted)),
            RecordError::Refused(fault(FaultKind::Failed)),
            RecordError::Confused,
            unreachable(),
        ] {
            assert!(matches!(super::fault(&other), RecorderFault::Failed(_)), "{other}");
        }
    }
}
