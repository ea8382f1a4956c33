//! Persons: who may enrol whom, and what is durable before a factor counts. The book itself is in [`book`].

mod book;

use events::{Event, PersonChange};
use gateway::store::DoorFile;
use gateway::wire::persons::{Code, PersonRow, PersonsAnswer, PersonsAsk, Proof};
use gateway::wire::{Answer, Fault, FaultKind};
use jiff::Timestamp;
use policy::model::{Person, Policy};
use session::Now;
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
        if let Err(fault) = self.doors.whole() {
            return drop(reply.send(Answer::Failed(fault)));
        }
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
                self.remove_person(peer, &self.person_key(person), &self.keyed(by))
            }
            PersonsAsk::Recover { person, code } => self.recover(peer, &self.person_key(person), &code),
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

    /// While no admin of the policy in force is enrolled, root enrols one; every other factor takes an admin's code.
    fn enrol(&mut self, peer: Peer, person: &str, by: Option<Proof>) -> Result<PersonsAnswer, Fault> {
        let now = self.session_now().wall;
        let (site, is_led) = {
            let policy = self.policy()?;
            let one = living(policy, person, now)?;
            let is_admin = one.roles.iter().any(|role| role == ADMIN_ROLE);
            if by.is_none() && !is_admin {
                return Err(refused(format!(
                    "the first person to enrol must hold the role `{ADMIN_ROLE}` in the policy: only such a person can enrol others"
                )));
            }
            (policy.clinic.site.clone(), is_led(policy, &self.doors.book, None, now))
        };
        let by = match by {
            Some(proof) => Some(self.admin(peer, &proof)?),
            None if is_led => {
                return Err(refused(
                    "an enrolled admin has to enrol others: give --by and a code".to_owned(),
                ));
            }
            None if peer.user != 0 => {
                return Err(refused("only root may enrol the first admin".to_owned()));
            }
            None => None,
        };
        let secret = random().map_err(no_random)?;
        let secret = self.doors.book.offer(person, by, &secret, now).map_err(says)?;
        Ok(PersonsAnswer::Offer { uri: book::otpauth_uri(&site, person, &secret), secret })
    }

    fn recover(&mut self, peer: Peer, person: &str, code: &Code) -> Result<PersonsAnswer, Fault> {
        let now = self.session_now();
        may_say_codes(peer, now)?;
        let Now { wall: now, trusted, .. } = now;
        let site = {
            let policy = self.policy()?;
            living(policy, person, now)?;
            policy.clinic.site.clone()
        };
        let secret = random().map_err(no_random)?;
        if !trusted {
            // No lock by a clock that may be years ahead: a wrong code ends here.
            self.doors.book.clone().recover(person, code, &secret, now).map_err(says)?;
        }
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

    fn remove_person(&mut self, peer: Peer, person: &str, by: &Proof) -> Result<PersonsAnswer, Fault> {
        let admin = self.admin(peer, by)?;
        let now = self.session_now().wall;
        if !is_led(self.policy()?, &self.doors.book, Some(person), now) {
            let why = format!("`{person}` is the last enrolled admin: nobody could enrol others any more");
            return Err(refused(why));
        }
        // A second try, after a write that failed, finds nobody: the admin's code had the book written by then.
        self.doors.book.remove(person).map_err(says)?;
        self.end_by_lost_factor(person);
        let kept = self.keep_book();
        // Told whether or not it is on disk: from now on the factor does not count.
        let change = PersonChange::Removed;
        self.witness.note(Event::Person { person: person.to_owned(), by: Some(admin), change });
        kept.map(|()| PersonsAnswer::Removed {})
    }

    /// Takes the code of somebody who may enrol others; gives the name.
    fn admin(&mut self, peer: Peer, proof: &Proof) -> Result<String, Fault> {
        let now = self.session_now();
        may_say_codes(peer, now)?;
        let Now { wall: now, trusted, .. } = now;
        let Proof { person, code } = proof;
        if !is_admin(self.policy()?, person, now) {
            let why = format!(
                "`{person}` holds no role `{ADMIN_ROLE}` in the policy in force, or may no longer act"
            );
            return Err(refused(why));
        }
        if !trusted {
            // No lock by a clock that may be years ahead: a wrong code ends here.
            self.doors.book.clone().take_code(person, code, now).map_err(says)?;
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

/// Whether an admin other than this person is enrolled: somebody who may enrol others.
fn is_led(policy: &Policy, book: &Book, without: Option<&str>, now: Timestamp) -> bool {
    let leads =
        |person: &str| without != Some(person) && is_admin(policy, person, now) && book.is_enrolled(person);
    policy.persons.keys().any(|person| leads(person))
}

/// Codes go by the time. While nobody vouches for it only root, who may vouch for it himself, is heard: a fresh box has
/// its admins enrolled before its clock is right.
fn may_say_codes(peer: Peer, now: Now) -> Result<(), Fault> {
    if now.trusted || peer.user == 0 {
        return Ok(());
    }
    let why = "codes go by the time, which is not trusted yet: set the clock, then `sekisho time trusted`";
    Err(refused(why.to_owned()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use policy::raw::Sources;

    use super::*;

    const POLICY: &str = include_str!("../../../../../policy/examples/clinic.toml");
    const ADMIN: &str = "hanako";

    fn noon() -> Timestamp {
        "2026-11-20T12:00:00+09:00".parse().unwrap()
    }

    fn clinic() -> Policy {
        let loaded = policy::resolve::load(&Sources::single("clinic.toml", POLICY), noon());
        loaded.unwrap_or_else(|report| panic!("{report}")).policy
    }

    /// A book in which these are enrolled.
    fn book(persons: &[&str]) -> Book {
        let entry = serde_json::json!({
            "secret": "AAAA", "enrolled_at": noon(), "last_step": 0, "recovery": [], "wrong": 0,
            "locked_until": null, "locks": 0,
        });
        let persons: BTreeMap<_, _> = persons.iter().map(|person| (*person, entry.clone())).collect();
        serde_json::from_value(serde_json::json!({ "persons": persons })).unwrap()
    }

    #[test]
    fn root_is_needed_again_when_no_admin_of_the_policy_is_enrolled() {
        let policy = clinic();
        assert!(!is_led(&policy, &book(&[]), None, noon()), "a fresh box");
        assert!(is_led(&policy, &book(&[ADMIN]), None, noon()));
        assert!(!is_led(&policy, &book(&["ichiro"]), None, noon()), "he is no admin");
        assert!(!is_led(&policy, &book(&["hana"]), None, noon()), "her key was another in a former policy");
        assert!(!is_led(&policy, &book(&[ADMIN, "ichiro"]), Some(ADMIN), noon()), "the last one stays");
        let mut ended = policy;
        ended.persons.get_mut(ADMIN).unwrap().until = Some("2026-11-19".parse().unwrap());
        assert!(!is_led(&ended, &book(&[ADMIN]), None, noon()), "she may no longer act");
    }

    #[test]
    fn only_root_says_codes_while_the_time_is_not_trusted() {
        let now = |trusted| Now { wall: noon(), elapsed: Duration::ZERO, trusted };
        let peer = |user| Peer { user, group: 0 };
        assert!(may_say_codes(peer(1000), now(true)).is_ok());
        assert!(may_say_codes(peer(0), now(false)).is_ok());
        let refused = may_say_codes(peer(1000), now(false)).unwrap_err();
        assert_eq!(refused.kind, FaultKind::NotPermitted);
        assert!(refused.message.contains("sekisho time trusted"), "{refused:?}");
    }
}
