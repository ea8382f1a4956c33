//! Who says yes. An approval names a person, the request he saw by its digest, and carries a [`Factor`]: proof, made only
//! by the shell's verifier, that this person's second factor was checked for this very request.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::ids::Digest;
use crate::machine::Now;

/// A factor counts for so long after it was checked.
pub const FACTOR_FRESH: Duration = Duration::from_secs(30);

/// Whoever can check a person's second factor: in the product the persons that core keeps, and nobody else.
pub trait Verifier {
    /// Why a factor does not count.
    type Error;

    /// Checks, and spends, a one-time code of `person` for the request with this digest.
    ///
    /// # Errors
    /// When the person is unknown or locked, or the code is wrong or was used before.
    fn verify(&mut self, person: &str, digest: &Digest, code: &str, now: Now) -> Result<(), Self::Error>;
}

/// A second factor that was checked for one person, one request and one moment. It can be neither copied nor made otherwise.
#[derive(Debug)]
pub struct Factor {
    person: String,
    digest: Digest,
    checked_at: Duration,
}

impl Factor {
    /// Asks the verifier; only its yes makes a factor.
    ///
    /// # Errors
    /// The verifier's no.
    pub fn obtain<V: Verifier + ?Sized>(
        verifier: &mut V,
        person: &str,
        digest: &Digest,
        code: &str,
        now: Now,
    ) -> Result<Self, V::Error> {
        verifier.verify(person, digest, code, now)?;
        Ok(Factor { person: person.to_owned(), digest: *digest, checked_at: now.elapsed })
    }

    pub(crate) fn is_for(&self, person: &str, digest: &Digest) -> bool {
        self.person == person && self.digest == *digest
    }

    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        now.elapsed >= self.checked_at && now.elapsed - self.checked_at <= FACTOR_FRESH
    }
}

/// A person's yes.
#[derive(Debug)]
pub struct Approval {
    /// Key of the person in the policy in force.
    pub person: String,
    /// The roles that the policy in force gives the person.
    pub roles: BTreeSet<String>,
    /// The first instant at which the person may no longer act; `None` for no end.
    pub until: Option<Timestamp>,
    /// The digest of the request as the person was shown it.
    pub digest: Digest,
    /// The person's second factor.
    pub factor: Factor,
}

/// A yes that counts.
#[derive(Clone, Debug)]
pub(crate) struct Yes {
    pub(crate) person: String,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) until: Option<Timestamp>,
}

/// The roles that nobody stands for yet when each person stands for one role at most (a maximum matching, by Kuhn).
pub(crate) fn missing<'a>(needed: &'a BTreeSet<String>, given: &[Yes]) -> Vec<&'a str> {
    let roles: Vec<&str> = needed.iter().map(String::as_str).collect();
    let mut holder: Vec<Option<usize>> = vec![None; roles.len()];
    for person in 0..given.len() {
        let mut tried = BTreeSet::new();
        seat(person, given, &roles, &mut holder, &mut tried);
    }
    roles.iter().zip(&holder).filter(|(_, holder)| holder.is_none()).map(|(role, _)| *role).collect()
}

/// Finds a role for a person, moving others to another of theirs. Depth and work are bounded by the roles of one policy.
fn seat(
    person: usize,
    given: &[Yes],
    roles: &[&str],
    holder: &mut [Option<usize>],
    tried: &mut BTreeSet<usize>,
) -> bool {
    let Some(yes) = given.get(person) else { return false };
    for (index, role) in roles.iter().enumerate() {
        if !yes.roles.contains(*role) || !tried.insert(index) {
            continue;
        }
        let free = match holder.get(index).copied().flatten() {
            None => true,
            Some(other) => seat(other, given, roles, holder, tried),
        };
        if let (true, Some(place)) = (free, holder.get_mut(index)) {
            *place = Some(person);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn yes(person: &str, roles: &[&str]) -> Yes {
        Yes { person: person.to_owned(), roles: set(roles), until: None }
    }

    #[test]
    fn one_person_stands_for_one_role() {
        let both = set(&["clinic", "it"]);
        assert_eq!(missing(&both, &[yes("a", &["clinic", "it"])]), ["it"]);
        assert!(missing(&both, &[yes("a", &["clinic", "it"]), yes("b", &["clinic"])]).is_empty());
        assert!(missing(&both, &[yes("b", &["clinic"]), yes("a", &["clinic", "it"])]).is_empty());
        assert_eq!(missing(&both, &[yes("a", &["clinic"]), yes("b", &["clinic"])]), ["it"]);
        assert_eq!(missing(&both, &[yes("a", &["admin"])]), ["clinic", "it"]);
    }

    #[test]
    fn persons_move_along_a_chain() {
        let three = set(&["a", "b", "c"]);
        let given = [yes("1", &["a", "b"]), yes("2", &["b", "c"]), yes("3", &["a"])];
        assert!(missing(&three, &given).is_empty());
    }
}
