//! Places for clients at one socket. They are few, and nobody takes all of them: one user who asks without end, a fallen role
//! or a stranger at a socket that everybody may reach, finds none left for himself and leaves some to the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clients served at once; others are told that the role is busy.
pub(crate) const CLIENTS_MAX: usize = 16;
/// Of these, clients of one user. Root, whom nothing keeps from anything, may have all.
pub(crate) const CLIENTS_OF_A_USER_MAX: usize = CLIENTS_MAX / 2;

/// How many places each user has taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    user: u32,
}

impl Places {
    /// A place for one more client of this user, if there is one.
    pub(crate) fn take(&self, user: u32) -> Option<Place> {
        let mut taken = self.lock();
        let of_user = taken.get(&user).copied().unwrap_or_default();
        let for_user = if user == 0 { CLIENTS_MAX } else { CLIENTS_OF_A_USER_MAX };
        if of_user >= for_user || taken.values().sum::<usize>() >= CLIENTS_MAX {
            return None;
        }
        taken.insert(user, of_user + 1);
        Some(Place { places: self.clone(), user })
    }

    /// Counts are changed in single steps: as good as they were, whoever panicked with the lock held.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.remove(&self.user).filter(|count| *count > 1) {
            taken.insert(self.user, count - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_leaves_places_to_the_others() {
        let places = Places::default();
        let mut greedy: Vec<Place> = std::iter::from_fn(|| places.take(1000)).collect();
        assert_eq!(greedy.len(), CLIENTS_OF_A_USER_MAX);
        let roots: Vec<Place> = std::iter::from_fn(|| places.take(0)).collect();
        assert_eq!(roots.len(), CLIENTS_MAX - CLIENTS_OF_A_USER_MAX);
        assert!(places.take(1001).is_none(), "all are taken");
        greedy.pop();
        let other = places.take(1001);
        assert!(other.is_some() && places.take(1000).is_none(), "the one that got free is taken");
        drop((greedy, roots, other));
        assert!(places.lock().is_empty());
    }

    #[test]
    fn root_may_have_all() {
        let places = Places::default();
        assert_eq!(std::iter::from_fn(|| places.take(0)).collect::<Vec<_>>().len(), CLIENTS_MAX);
    }
}
