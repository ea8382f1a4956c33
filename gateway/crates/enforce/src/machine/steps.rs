//! The transitions: which answer leads where. Every path ends at applied, at the last applied, or closed.

use super::{
    ANSWER_WAIT, Activity, Attempt, Command, Enforcer, Event, Failure, Fall, Order, Outcome, RETRY_WAIT,
    Retreat, Standing, Step, Ticket,
};
use crate::clock::Now;
use crate::live::{Desired, Leases};

impl<T: Desired> Enforcer<T> {
    pub(super) fn adopt(&mut self, to: T, now: Now) {
        let leases = self.leases_of(&to, now);
        let command = Command::ReadBack { want: Some(to.clone()), live: leases.remaining(now.elapsed) };
        let why = "the kernel does not hold the last applied policy".to_owned();
        self.go(Activity::Adopting(Retreat { ticket: None, to, leases, why }), command, now);
    }

    /// One answer arrived: where does it lead?
    pub(super) fn done(&mut self, activity: Activity<T>, result: Result<(), Failure>, now: Now) {
        match activity {
            Activity::Idle => {}
            Activity::Adopting(retreat) => self.adopted(retreat, result, now),
            Activity::Persisting(attempt) => self.persisted(attempt, result, now),
            Activity::Applying(attempt) => self.applied(attempt, result, now),
            Activity::Checking(attempt) => self.checked(attempt, result, now),
            Activity::Committing(attempt) => self.committed(attempt, result, now),
            Activity::Restoring(retreat) => self.restored(retreat, result, now),
            Activity::CheckingRestored(retreat) => self.checked_restored(retreat, result, now),
            Activity::Closing(fall) => self.closed(fall, result, now),
            Activity::CheckingClosed(fall) => self.checked_closed(fall, result, now),
            Activity::SettingLive(leases) => self.set_live(leases, result, now),
            Activity::CheckingLive(leases) => self.checked_live(leases, result, now),
            Activity::Surrounding => self.tell_failure(result, Event::SurroundFailed),
            Activity::Saving => self.saved(result, now),
        }
    }

    fn adopted(&mut self, retreat: Retreat<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                self.stand(retreat.to, retreat.leases, now);
                self.events.push_back(Event::Adopted { untouched: true });
                self.surround(now);
            }
            Err(_) => self.replace(retreat, now),
        }
    }

    fn persisted(&mut self, attempt: Attempt<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                let command = Command::Apply {
                    have: self.standing.policy().cloned(),
                    want: attempt.candidate.clone(),
                    live: attempt.leases.remaining(now.elapsed),
                };
                self.go(Activity::Applying(attempt), command, now);
            }
            Err(failure) => self.finish(Some(attempt.ticket), Outcome::Refused(failure.0)),
        }
    }

    fn applied(&mut self, attempt: Attempt<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                let live = attempt.leases.remaining(now.elapsed);
                let command = Command::ReadBack { want: Some(attempt.candidate.clone()), live };
                self.go(Activity::Checking(attempt), command, now);
            }
            Err(failure) => self.back(attempt.ticket, failure.0, now),
        }
    }

    fn checked(&mut self, attempt: Attempt<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                let command = Command::Commit { policy: Some(attempt.candidate.clone()) };
                self.go(Activity::Committing(attempt), command, now);
            }
            Err(failure) => self.back(attempt.ticket, failure.0, now),
        }
    }

    fn committed(&mut self, attempt: Attempt<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                self.acknowledged = Some(attempt.candidate.clone());
                self.disk_unsure = false;
                self.stand(attempt.candidate, attempt.leases, now);
                self.finish(Some(attempt.ticket), Outcome::Applied);
                self.surround(now);
            }
            Err(failure) => {
                // The rename may or may not have reached the disk: the acknowledged policy is written again.
                self.disk_unsure = true;
                self.back(attempt.ticket, failure.0, now);
            }
        }
    }

    /// A candidate failed in or after the kernel: back to what was in force, or closed.
    fn back(&mut self, ticket: Ticket, why: String, now: Now) {
        match self.standing.policy().cloned() {
            Some(policy) => self.retreat(Some(ticket), policy, why, now),
            None => self.close(Some(ticket), why, now),
        }
    }

    pub(super) fn retreat(&mut self, ticket: Option<Ticket>, to: T, why: String, now: Now) {
        let leases = self.leases_of(&to, now);
        self.replace(Retreat { ticket, to, leases, why }, now);
    }

    fn replace(&mut self, retreat: Retreat<T>, now: Now) {
        self.standing = Standing::Unknown;
        let live = retreat.leases.remaining(now.elapsed);
        let command = Command::Apply { have: None, want: retreat.to.clone(), live };
        self.go(Activity::Restoring(retreat), command, now);
    }

    fn restored(&mut self, retreat: Retreat<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                let live = retreat.leases.remaining(now.elapsed);
                let command = Command::ReadBack { want: Some(retreat.to.clone()), live };
                self.go(Activity::CheckingRestored(retreat), command, now);
            }
            Err(failure) => self.close(retreat.ticket, both(&retreat.why, &failure), now),
        }
    }

    fn checked_restored(&mut self, retreat: Retreat<T>, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                self.stand(retreat.to, retreat.leases, now);
                match retreat.ticket {
                    Some(ticket) => self.finish(Some(ticket), Outcome::RolledBack(retreat.why)),
                    None => self.events.push_back(Event::Restored(retreat.why)),
                }
                self.surround(now);
            }
            Err(failure) => self.close(retreat.ticket, both(&retreat.why, &failure), now),
        }
    }

    pub(super) fn close(&mut self, ticket: Option<Ticket>, why: String, now: Now) {
        self.standing = Standing::Unknown;
        self.leases = Leases::default();
        self.next_change = None;
        self.go(Activity::Closing(Fall { ticket, why }), Command::Close, now);
    }

    fn closed(&mut self, fall: Fall, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                let command =
                    Command::ReadBack { want: None, live: Leases::default().remaining(now.elapsed) };
                self.go(Activity::CheckingClosed(fall), command, now);
            }
            Err(failure) => self.close_failed(fall, &failure, now),
        }
    }

    fn checked_closed(&mut self, fall: Fall, result: Result<(), Failure>, now: Now) {
        match result {
            Ok(()) => {
                self.standing = Standing::Closed;
                self.retry_at = self.disk_unsure.then_some(now.elapsed);
                self.events.push_back(Event::Closed(fall.why.clone()));
                self.finish(fall.ticket, Outcome::Closed(fall.why));
            }
            Err(failure) => self.close_failed(fall, &failure, now),
        }
    }

    /// Nothing is known of the kernel, and nothing better can be done than to try again.
    fn close_failed(&mut self, fall: Fall, failure: &Failure, now: Now) {
        let why = both(&fall.why, failure);
        self.retry_at = Some(now.elapsed.saturating_add(RETRY_WAIT));
        self.events.push_back(Event::CloseFailed(why.clone()));
        self.finish(fall.ticket, Outcome::Closed(why));
    }

    fn set_live(&mut self, leases: Leases, result: Result<(), Failure>, now: Now) {
        match (result, self.standing.policy().cloned()) {
            (Ok(()), Some(policy)) => {
                let command = Command::ReadBack { want: Some(policy), live: leases.remaining(now.elapsed) };
                self.go(Activity::CheckingLive(leases), command, now);
            }
            (Err(failure), Some(policy)) => self.retreat(None, policy, failure.0, now),
            (_, None) => {}
        }
    }

    fn checked_live(&mut self, leases: Leases, result: Result<(), Failure>, now: Now) {
        match (result, self.standing.policy().cloned()) {
            (Ok(()), _) => {
                self.leases = leases;
                self.events.push_back(Event::LiveChanged);
            }
            (Err(failure), Some(policy)) => self.retreat(None, policy, failure.0, now),
            (Err(_), None) => {}
        }
    }

    fn saved(&mut self, result: Result<(), Failure>, now: Now) {
        self.disk_unsure = result.is_err();
        if self.disk_unsure {
            self.retry_at = Some(now.elapsed.saturating_add(RETRY_WAIT));
        }
        self.tell_failure(result, Event::NotDurable);
    }

    /// What is due while nothing is on its way: most urgent first, one at a time.
    pub(super) fn upkeep(&mut self, now: Now) {
        let retry_due = self.retry_at.is_some_and(|at| now.elapsed >= at);
        if retry_due {
            self.retry_at = None;
        }
        match self.standing.clone() {
            Standing::Unknown if retry_due => self.close(None, "closing is tried again".to_owned(), now),
            Standing::Unknown => {}
            _ if retry_due && self.disk_unsure => {
                let command = Command::Commit { policy: self.acknowledged.clone() };
                self.go(Activity::Saving, command, now);
            }
            Standing::Closed => {}
            Standing::Applied(policy) => self.refresh_live(&policy, now),
        }
    }

    fn refresh_live(&mut self, policy: &T, now: Now) {
        let effective = self.clock.at(now.elapsed);
        if self.next_change.is_none_or(|at| at > effective) {
            return;
        }
        let leases = self.leases_of(policy, now);
        self.next_change = policy.next_change(effective);
        if leases == self.leases {
            return;
        }
        let live = leases.remaining(now.elapsed);
        self.go(Activity::SettingLive(leases), Command::SetLive { live }, now);
    }

    fn stand(&mut self, policy: T, leases: Leases, now: Now) {
        self.next_change = policy.next_change(self.clock.at(now.elapsed));
        self.retry_at = self.disk_unsure.then_some(now.elapsed);
        self.leases = leases;
        self.standing = Standing::Applied(policy);
    }

    fn surround(&mut self, now: Now) {
        if let Standing::Applied(policy) = self.standing.clone() {
            self.go(Activity::Surrounding, Command::Surround { policy }, now);
        }
    }

    pub(super) fn leases_of(&self, policy: &T, now: Now) -> Leases {
        let wanted = policy.live_at(self.clock.at(now.elapsed), self.clock.is_trusted());
        self.leases.renew(&wanted, &self.clock, now.elapsed)
    }

    /// Looks at the clock; after a step whatever depends on the time is due.
    pub(super) fn observe(&mut self, now: Now) {
        if let Some(jump) = self.clock.observe(now) {
            self.events.push_back(Event::Jumped(jump));
            self.next_change = self.next_change.map(|at| at.min(self.clock.at(now.elapsed)));
        }
    }

    pub(super) fn go(&mut self, activity: Activity<T>, command: Command<T>, now: Now) {
        let step = Step(self.next_step);
        self.next_step += 1;
        self.activity = activity;
        self.waiting = Some((step, now.elapsed.saturating_add(ANSWER_WAIT)));
        self.orders.push_back(Order { step, command });
    }

    pub(super) fn take(&mut self, step: Step) -> bool {
        let expected = self.waiting.is_some_and(|(waiting, _)| waiting == step);
        if expected {
            self.waiting = None;
            // A command nobody took yet is of no use any more.
            self.orders.clear();
        }
        expected
    }

    fn finish(&mut self, ticket: Option<Ticket>, outcome: Outcome) {
        if let Some(ticket) = ticket {
            self.events.push_back(Event::Finished(ticket, outcome));
        }
    }

    fn tell_failure(&mut self, result: Result<(), Failure>, event: fn(String) -> Event) {
        if let Err(failure) = result {
            self.events.push_back(event(failure.0));
        }
    }
}

fn both(why: &str, failure: &Failure) -> String {
    format!("{why}; then: {failure}")
}
