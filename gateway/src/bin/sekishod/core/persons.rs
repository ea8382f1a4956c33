//! Persons: who may enrol whom, and what is durable before a factor counts. The book itself is in [`book`].

mod book;

use events::{Event, PersonChange};
use gateway::store::DoorFile;
use gateway::wire::persons::{Code, PersonRow, PersonsAnswer, PersonsAsk, Proof};
use gateway::wire::{Answer, Fault, FaultKind};
use jiff::Timestamp;
use policy::model::{Person, Policy};
use tokio::sync::oneshot;

pub(super) use self::book::{Book, OfferKind, PersonError};
use super::doors::person_end;
use super::{Core, random};
use crate::server::Peer;

/// The role whose holders may enrol and remove others.
const ADMIN_ROLE: &str = "admin";

impl Core {
    /// One question about persons.
    pub(super) fn persons(&mut self, peer: Peer, ask: PersonsAsk, reply: oneshot::Sender<Answer>) {
        let result = match ask {
            PersonsAsk::List {} => Ok(PersonsAnswer::Persons(self.list_persons())),
            PersonsAsk::Enrol { person, by } => {
                let by = by.map(|proof| self.keyed(proof));
                self.enrol(peer, &self.person_key(person), by)
            }
            PersonsAsk::Confirm { person, code } => {
                return self.confirm(self.person_key(person), code, reply);
            }
            PersonsAsk::Remove { person, by } => {
                self.remove_person(&self.person_key(person), &self.keyed(by))
            }
            PersonsAsk::Recover { person, code } => self.recover(&self.person_key(person), &code),
        };
        // Whoever asked may have gone.
        let _ = reply.send(result.map_or_else(Answer::Failed, Answer::Persons));
    }

    fn list_persons(&self) -> Vec<PersonRow> {
        let now = self.session_now().wall;
        let plan = self.enforcer.standing().policy();
        let known =
            plan.into_iter().flat_map(|plan| plan.policy.persons.values().map(|one| (one, &plan.policy)));
        let mut rows: Vec<PersonRow> = known
            .map(|(one, policy)| {
                self.doors.book.fill(row(&one.id, &one.name, &one.roles, lives(policy, one, now)), now)
            })
            .collect();
        let is_gone = |person: &&str| !rows.iter().any(|row| row.person == **person);
        let gone: Vec<String> = self.doors.book.enrolled().filter(is_gone).map(str::to_owned).collect();
        rows.extend(gone.iter().map(|person| self.doors.book.fill(row(person, person, &[], false), now)));
        rows
    }

    /// The first factor takes root and an empty book; every other an admin's code.
    fn enrol(&mut self, peer: Peer, person: &str, by: Option<Proof>) -> Result<PersonsAnswer, Fault> {
        let now = self.session_now().wall;
        let site = {
            let policy = self.policy()?;
            let one = living(policy, person, now)?;
            let is_admin = one.roles.iter().any(|role| role == ADMIN_ROLE);
            if by.is_none() && !is_admin {
                return Err(refused(format!(
                    "the first person to enrol must hold the role `{ADMIN_ROLE}` in the policy: only such a person can enrol others"
                )));
            }
            policy.clinic.site.clone()
        };
        let by = match by {
            Some(proof) => Some(self.admin(&proof)?),
            None if !self.doors.book.is_empty() => {
                return Err(refused(
                    "an enrolled admin has to enrol others: give --by and a code".to_owned(),
                ));
            }
            None if peer.user != 0 => {
                return Err(refused("only root may enrol the first person".to_owned()));
            }
            None => None,
        };
        let secret = random().map_err(no_random)?;
        let secret = self.doors.book.offer(person, by, &secret, now).map_err(says)?;
        Ok(PersonsAnswer::Offer { uri: book::otpauth_uri(&site, person, &secret), secret })
    }

    fn recover(&mut self, person: &str, code: &Code) -> Result<PersonsAnswer, Fault> {
        let now = self.session_now().wall;
        let site = {
            let policy = self.policy()?;
            living(policy, person, now)?;
            policy.clinic.site.clone()
        };
        let secret = random().map_err(no_random)?;
        let offered = self.doors.book.recover(person, code, &secret, now);
        self.spent(person, &offered)?;
        let secret = offered.map_err(says)?;
        Ok(PersonsAnswer::Offer { uri: book::otpauth_uri(&site, person, &secret), secret })
    }

    /// The first code of a new factor: tried on a copy, recorded, and only then done.
    fn confirm(&mut self, person: String, code: Code, reply: oneshot::Sender<Answer>) {
        let now = self.session_now().wall;
        let random = match all_random() {
            Ok(random) => random,
            Err(error) => return drop(reply.send(Answer::Failed(no_random(error)))),
        };
        let tried = self.doors.book.clone().confirm(&person, &code, &random, now);
        let (by, kind) = match tried {
            Ok(confirmed) => (confirmed.by, confirmed.kind),
            Err(_) => {
                // The wrong code counts on the real one.
                let error = self.doors.book.confirm(&person, &code, &random, now);
                let fault = error.err().map_or_else(|| says(PersonError::Wrong), says);
                return drop(reply.send(Answer::Failed(fault)));
            }
        };
        let change = match kind {
            OfferKind::Enrol => PersonChange::Enrolled,
            OfferKind::Recover => PersonChange::Recovered,
        };
        let event = Event::Person { person: person.clone(), by, change };
        self.recorded_first(event, reply, Answer::Failed, move |core| {
            let confirmed = core.doors.book.confirm(&person, &code, &random, now).map_err(says);
            match confirmed.and_then(|confirmed| core.keep_book().map(|()| confirmed)) {
                Ok(confirmed) => {
                    tracing::info!(person, "a second factor is enrolled");
                    let recovery_codes = confirmed.recovery_codes;
                    Answer::Persons(PersonsAnswer::Enrolled { recovery_codes })
                }
                Err(fault) => Answer::Failed(fault),
            }
        });
    }

    fn remove_person(&mut self, person: &str, by: &Proof) -> Result<PersonsAnswer, Fault> {
        let admin = self.admin(by)?;
        let now = self.session_now().wall;
        let is_last = {
            let policy = self.policy()?;
            let counts = |other: &str| {
                other != person && is_admin(policy, other, now) && self.doors.book.is_enrolled(other)
            };
            !policy.persons.keys().any(|other| counts(other))
        };
        if is_last {
            let why = format!("`{person}` is the last enrolled admin: nobody could enrol others any more");
            return Err(refused(why));
        }
        self.doors.book.remove(person).map_err(says)?;
        self.keep_book()?;
        let change = PersonChange::Removed;
        self.witness.note(Event::Person { person: person.to_owned(), by: Some(admin), change });
        Ok(PersonsAnswer::Removed {})
    }

    /// Takes the code of somebody who may enrol others; gives the name.
    fn admin(&mut self, proof: &Proof) -> Result<String, Fault> {
        let now = self.session_now().wall;
        let Proof { person, code } = proof;
        if !is_admin(self.policy()?, person, now) {
            let why = format!(
                "`{person}` holds no role `{ADMIN_ROLE}` in the policy in force, or may no longer act"
            );
            return Err(refused(why));
        }
        let taken = self.doors.book.take_code(person, code, now);
        self.spent(person, &taken)?;
        taken.map_err(says)?;
        Ok(person.clone())
    }

    /// A code was tried: that is durable before it counts, and a lock is told.
    fn spent<T>(&mut self, person: &str, taken: &Result<T, PersonError>) -> Result<(), Fault> {
        let now = self.session_now().wall;
        let kept = self.keep_book();
        if matches!(taken, Err(PersonError::Wrong)) && self.doors.book.is_locked(person, now) {
            self.note_locked(person);
        }
        kept
    }

    /// Tells that somebody typed too many wrong codes.
    pub(super) fn note_locked(&mut self, person: &str) {
        let change = PersonChange::Locked;
        self.witness.note(Event::Person { person: person.to_owned(), by: None, change });
        self.warn(format!("`{person}` is locked after too many wrong codes"));
    }

    fn keep_book(&self) -> Result<(), Fault> {
        let kept = self.store.keep_door(DoorFile::Persons, &self.doors.book);
        kept.map_err(|error| Fault::new(FaultKind::Failed, error.to_string()))
    }

    /// The key of a person, who may also be called by name where no other has the same.
    pub(super) fn person_key(&self, said: String) -> String {
        let Ok(policy) = self.policy() else { return said };
        let mut named = policy.persons.values().filter(|person| person.name == said);
        match (policy.persons.contains_key(&said), named.next(), named.next()) {
            (false, Some(one), None) => one.id.clone(),
            _ => said,
        }
    }

    /// A proof by the person's key.
    pub(super) fn keyed(&self, Proof { person, code }: Proof) -> Proof {
        Proof { person: self.person_key(person), code }
    }

    /// The policy in force.
    pub(super) fn policy(&self) -> Result<&Policy, Fault> {
        let plan = self.enforcer.standing().policy();
        let none =
            || Fault::new(FaultKind::Failed, "no policy is in force: apply one that names the persons first");
        plan.map(|plan| &plan.policy).ok_or_else(none)
    }
}

fn row(person: &str, name: &str, roles: &[String], is_living: bool) -> PersonRow {
    PersonRow {
        person: person.to_owned(),
        name: name.to_owned(),
        roles: roles.to_vec(),
        is_living,
        enrolled_at: None,
        locked_until: None,
        recovery_codes_left: 0,
    }
}

fn lives(policy: &Policy, person: &Person, now: Timestamp) -> bool {
    person_end(policy, person).is_none_or(|until| now < until)
}

fn living<'p>(policy: &'p Policy, person: &str, now: Timestamp) -> Result<&'p Person, Fault> {
    let known = policy.persons.get(person);
    let known = known.ok_or_else(|| refused(format!("the policy in force knows no person `{person}`")))?;
    if lives(policy, known, now) {
        Ok(known)
    } else {
        Err(refused(format!("`{person}` may no longer act: the policy says `until`")))
    }
}

fn is_admin(policy: &Policy, person: &str, now: Timestamp) -> bool {
    living(policy, person, now).is_ok_and(|person| person.roles.iter().any(|role| role == ADMIN_ROLE))
}

type Recovery = [[u8; book::RECOVERY_BYTES]; book::RECOVERY_CODES];

fn all_random() -> Result<Recovery, rustix::io::Errno> {
    let mut codes = [[0; book::RECOVERY_BYTES]; book::RECOVERY_CODES];
    for code in &mut codes {
        *code = random()?;
    }
    Ok(codes)
}

fn no_random(error: rustix::io::Errno) -> Fault {
    Fault::new(FaultKind::Failed, format!("the kernel gives no random bytes: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn says(error: PersonError) -> Fault {
    refused(error.to_string())
}

fn refused(why: String) -> Fault {
    Fault::new(FaultKind::NotPermitted, why)
}
