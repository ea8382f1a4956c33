//! The doors as core holds them: sessions that are not over, and persons' second factors.

use events::{Family, Sample};
use policy::guideline::observation::{Factors, Named};
use policy::model::SecondFactor;
use session::State;

use super::super::Core;
use super::count;

impl Core {
    /// Sessions and persons for the metrics.
    pub(super) fn door_samples(&self) -> Vec<Sample> {
        let now = self.session_now();
        let mut states = [("waiting", 0_usize), ("approved", 0), ("open", 0)];
        let [waiting, approved, open] = &mut states;
        for state in self.doors.states(now) {
            match state {
                State::Requested { .. } => waiting.1 += 1,
                State::Approved { .. } | State::Opening {} => approved.1 += 1,
                State::Open { .. } => open.1 += 1,
                State::Denied { .. } | State::Closed { .. } => {}
            }
        }
        let mut samples: Vec<Sample> = states
            .into_iter()
            .map(|(state, sessions)| Sample::new(Family::SessionStates, &[state], count(sessions)))
            .collect();
        if self.doors.whole().is_err() {
            // Not known is not none.
            return samples;
        }
        let enrolled = self.doors.book.enrolled();
        let locked = enrolled.filter(|person| self.doors.book.is_locked(person, now.wall)).count();
        let persons = [("enrolled", self.doors.book.enrolled().count()), ("locked", locked)];
        samples.extend(persons.map(|(state, number)| Sample::new(Family::Persons, &[state], count(number))));
        samples
    }

    /// Who of those that the policy gives a role could prove himself now. Passkeys are not taken here yet.
    pub(super) fn factors(&self) -> Option<Factors> {
        self.doors.whole().ok()?;
        let plan = self.enforcer.standing().policy()?;
        let (book, now) = (&self.doors.book, self.session_now().wall);
        let meant = |person: &&policy::model::Person| {
            !person.roles.is_empty()
                && person.second_factor == Some(SecondFactor::Totp)
                && super::super::doors::person_end(&plan.policy, person).is_none_or(|until| now < until)
        };
        let absent: Named = plan
            .policy
            .persons
            .values()
            .filter(meant)
            .filter(|person| !book.is_enrolled(&person.id))
            .map(|person| &person.id)
            .collect();
        let locked: Named = book.enrolled().filter(|person| book.is_locked(person, now)).collect();
        let enrolled = u32::try_from(book.enrolled().count()).unwrap_or(u32::MAX);
        Some(Factors { enrolled, absent, locked })
    }
}
