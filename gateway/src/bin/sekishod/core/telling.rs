//! What the enforcer tells: to whoever asked, to the log, and into the record. An effect is reported once it is durable
//! there.

use std::collections::BTreeSet;
use std::time::Duration;

use enforce::{Outcome, Ticket};
use events::{Event, Names};
use gateway::wire::{Answer, Fault, FaultKind};
use policy::diagnostic::Diagnostic;

use super::{Core, Waiting};

/// Flows that opened and flows that closed.
#[derive(Debug, Default)]
struct Moved {
    opened: Names,
    closed: Names,
}

impl Core {
    /// Passes one thing on.
    pub(super) fn tell(&mut self, event: enforce::Event) {
        let moved = self.note_changes(matches!(event, enforce::Event::Adopted { untouched: true }));
        match event {
            enforce::Event::Finished(ticket, outcome) => self.finished(ticket, outcome),
            enforce::Event::Adopted { untouched } => {
                tracing::info!(untouched, "the last applied policy is in force");
                let policy = self.policy_id();
                self.witness.note(Event::Adopted { policy, untouched });
            }
            enforce::Event::Restored(why) => {
                self.looked.repaired(self.clocks.now().wall);
                self.warn(format!("the last applied policy was put back: {why}"));
                self.witness.note(Event::Restored { why: events::event::text(&why) });
            }
            enforce::Event::Closed(why) => {
                tracing::warn!(%why, "closed: nothing passes");
                self.witness.note(Event::Closed { why: events::event::text(&why) });
                self.closed_because = Some(why);
            }
            enforce::Event::CloseFailed(why) => {
                self.witness.note(Event::CloseFailed { why: events::event::text(&why) });
                self.warn(format!("the closed state could not be established: {why}"));
            }
            enforce::Event::Jumped(jump) => {
                self.witness.note(Event::ClockJumped { seconds: jumped_seconds(jump) });
                self.warn(jumped(jump));
            }
            enforce::Event::LiveChanged => {
                tracing::info!("windows opened or closed");
                let Moved { opened, closed } = moved;
                self.witness.note(Event::WindowsChanged { opened, closed });
            }
            enforce::Event::SurroundFailed(why) => self.trouble(why),
            enforce::Event::NotDurable(why) => {
                self.trouble(format!("the policy in force is not safe on disk yet: {why}"));
            }
        }
    }

    pub(super) fn trouble(&mut self, what: String) {
        self.witness.note(Event::Trouble { what: events::event::text(&what) });
        self.warn(what);
    }

    /// A request has ended. Whoever asked hears of a success once it is in the record; a record that cannot be written
    /// does not undo what is in force, and is told with it.
    fn finished(&mut self, ticket: Ticket, outcome: Outcome) {
        let waiting = self.waiting.remove(&ticket);
        if let Some(failed) = self.outcome(outcome, waiting.as_ref()) {
            if let Some(waiting) = waiting {
                // Whoever asked may have gone; the log has it.
                let _ = waiting.reply.send(failed);
            }
            return;
        }
        let Some(Waiting { reply, mut change, by, same_rules }) = waiting else { return };
        tracing::info!(id = change.id, kept = change.kept, "applied");
        let recorded = self.witness.record(Event::Applied { by, policy: change.id.clone(), same_rules });
        tokio::spawn(async move {
            if let Err(error) = recorded.await {
                tracing::error!(%error, "the apply is in force and not recorded");
                change.warnings.push(not_recorded(&error.to_string()));
            }
            // Whoever asked may have gone; the record has it.
            let _ = reply.send(Answer::Applied(change));
        });
    }

    /// Remembers when flows opened and closed. What was open before this daemon began did not change now.
    fn note_changes(&mut self, is_adopted: bool) -> Moved {
        let now = self.clocks.now();
        let open: BTreeSet<_> = self.enforcer.live(now).into_keys().collect();
        let marks = self.enforcer.standing().policy().map(|plan| &plan.ruleset.marks);
        let name = |mark| marks.and_then(|marks| marks.get(mark)).map(|info| info.name.as_str());
        let moved = Moved {
            opened: open.difference(&self.open).filter_map(name).collect(),
            closed: self.open.difference(&open).filter_map(name).collect(),
        };
        if !is_adopted {
            self.changed.extend(open.symmetric_difference(&self.open).map(|mark| (*mark, now.wall)));
        }
        self.changed.retain(|mark, _| marks.is_some_and(|marks| marks.contains_key(mark)));
        self.open = open;
        moved
    }

    /// The answer to an apply that did not succeed.
    fn outcome(&mut self, outcome: Outcome, waiting: Option<&Waiting>) -> Option<Answer> {
        let (failure, why, fault) = match outcome {
            Outcome::Applied => {
                self.closed_because = None;
                return None;
            }
            Outcome::Refused(why) => {
                let words = format!("nothing was changed: {why}");
                (events::Failure::Unchanged, why, Fault::new(FaultKind::Failed, words))
            }
            Outcome::RolledBack(why) => {
                let words = format!("the last applied policy is in force again: {why}");
                (events::Failure::RolledBack, why, Fault::new(FaultKind::RolledBack, words))
            }
            Outcome::Closed(why) => {
                let words = format!("nothing passes: {why}");
                (events::Failure::Closed, why, Fault::new(FaultKind::Closed, words))
            }
        };
        let policy = waiting.map(|waiting| waiting.change.id.clone()).unwrap_or_default();
        self.witness.note(Event::ApplyFailed { policy, failure, why: events::event::text(&why) });
        self.warn(format!("an apply failed: {}", fault.message));
        Some(Answer::Failed(fault))
    }

    fn policy_id(&self) -> String {
        self.enforcer.standing().policy().map(|plan| plan.id().to_string()).unwrap_or_default()
    }
}

fn jumped(jump: enforce::Jump) -> String {
    let seconds = |size: Duration| size.as_secs_f64().round();
    match jump {
        enforce::Jump::Forward(size) => format!("the clock was set forward by {} s", seconds(size)),
        enforce::Jump::Back(size) => format!(
            "the clock was set back by {} s; windows go on by the old time until `sekisho time trusted`",
            seconds(size)
        ),
    }
}

fn jumped_seconds(jump: enforce::Jump) -> i64 {
    let seconds = |size: Duration| i64::try_from(size.as_secs()).unwrap_or(i64::MAX);
    match jump {
        enforce::Jump::Forward(size) => seconds(size),
        enforce::Jump::Back(size) => -seconds(size),
    }
}

fn not_recorded(why: &str) -> serde_json::Value {
    let en = format!("the policy is in force, but the record of it could not be written: {why}");
    let ja = format!("方針は適用されましたが、記録を書けませんでした: {why}");
    Diagnostic::warning("not-recorded", en, ja).to_json(&[])
}
