//! Who may finish a handshake at the maintenance door: engineers with a certified key, and invitations, each once. A book
//! without IO; who calls makes it durable before what it says counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway::wire::doors::{Engineer, Invitation, KeyId, Vouched};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long an invitation waits.
pub(crate) const INVITATION_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Most engineers and most invitations.
const ENGINEERS_MAX: usize = 1024;
const INVITATIONS_MAX: usize = 128;
/// Most keys that are kept out.
const BARRED_MAX: usize = 4096;

/// Why the registry says no.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RegistryError {
    /// Too many.
    #[error("there are {0} of them already: revoke those that nobody needs (sekisho vendor list)")]
    Full(usize),
    /// Too many keys are kept out.
    #[error(
        "{0} keys are revoked already: ask the vendor for a new certificate authority, and write that in `ca`"
    )]
    BarredFull(usize),
    /// Neither an engineer nor an invitation.
    #[error("no engineer and no invitation has the key `{0}` (sekisho vendor list shows them)")]
    Unknown(KeyId),
    /// The code was used, revoked or is too old.
    #[error("this invitation was used already or has ended: ask the clinic for a new code")]
    NotInvited,
    /// The key belongs to somebody.
    #[error("this key is enrolled already: make a new one")]
    Taken,
    /// Its invitation, or its key, is being enrolled at this moment.
    #[error("an enrolment by this invitation or of this key is under way: try again")]
    UnderWay,
}

/// What a revocation took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) vendor: String,
    pub(crate) name: String,
}

impl From<&Vouched> for Revoked {
    fn from(vouched: &Vouched) -> Self {
        Revoked { vendor: vouched.vendor.to_string(), name: vouched.name.to_string() }
    }
}

/// Everybody.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    engineers: BTreeMap<KeyId, Engineer>,
    invitations: BTreeMap<KeyId, Invitation>,
    /// Revoked keys: they stay out although a vendor's own authority vouches for them.
    #[serde(default)]
    barred: BTreeSet<KeyId>,
    /// Invitations and keys whose enrolment is being recorded: for as long as who enrols holds the other end.
    #[serde(skip)]
    under_way: BTreeMap<KeyId, Weak<()>>,
    /// The file is older than this registry: when to write it again.
    #[serde(skip)]
    owed: Option<Duration>,
}

impl Registry {
    /// Keeps an invitation.
    pub(crate) fn invite(&mut self, invitation: Invitation, now: Timestamp) -> Result<(), RegistryError> {
        self.forget_ended(now);
        if self.invitations.len() >= INVITATIONS_MAX {
            return Err(RegistryError::Full(self.invitations.len()));
        }
        self.invitations.insert(invitation.key, invitation);
        Ok(())
    }

    /// The invitation of a one-time key, if it still counts.
    pub(crate) fn invited(&self, key: &KeyId, now: Timestamp) -> Result<&Invitation, RegistryError> {
        self.invitations.get(key).filter(|invitation| now < invitation.until).ok_or(RegistryError::NotInvited)
    }

    /// Uses an invitation up for an engineer's own key.
    pub(crate) fn enrol(
        &mut self,
        invitation: &KeyId,
        engineer: Engineer,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.invited(invitation, now)?;
        self.forget_ended(now);
        if self.engineers.contains_key(&engineer.key) || self.invitations.contains_key(&engineer.key) {
            return Err(RegistryError::Taken);
        }
        if self.engineers.len() >= ENGINEERS_MAX {
            return Err(RegistryError::Full(self.engineers.len()));
        }
        self.invitations.remove(invitation);
        self.barred.remove(&engineer.key);
        self.engineers.insert(engineer.key, engineer);
        Ok(())
    }

    /// Lets one enrolment at a time by an invitation, and of a key, be recorded: until what this gives is dropped.
    pub(crate) fn begin(&mut self, invitation: KeyId, key: KeyId) -> Result<Arc<()>, RegistryError> {
        self.under_way.retain(|_, held| held.strong_count() > 0);
        if self.under_way.contains_key(&invitation) || self.under_way.contains_key(&key) {
            return Err(RegistryError::UnderWay);
        }
        let held = Arc::new(());
        self.under_way.insert(invitation, Arc::downgrade(&held));
        self.under_way.insert(key, Arc::downgrade(&held));
        Ok(held)
    }

    /// Whether it was written down; if not, when to try again.
    pub(crate) fn owe(&mut self, again_at: Option<Duration>) {
        self.owed = again_at;
    }

    /// When to write it again, if the last write failed.
    pub(crate) fn owed(&self) -> Option<Duration> {
        self.owed
    }

    /// No longer takes a key or an invitation.
    pub(crate) fn revoke(&mut self, key: &KeyId) -> Result<Revoked, RegistryError> {
        let engineer =
            self.engineers.remove(key).map(|Engineer { vendor, name, .. }| Revoked { vendor, name });
        let invitation =
            self.invitations.remove(key).map(|Invitation { vendor, name, .. }| Revoked { vendor, name });
        engineer.or(invitation).ok_or(RegistryError::Unknown(*key))
    }

    /// Keeps a key out, whoever vouches for it; an invitation of the clinic's brings it back.
    pub(crate) fn bar(&mut self, key: &KeyId) -> Result<(), RegistryError> {
        if self.barred.len() >= BARRED_MAX && !self.barred.contains(key) {
            return Err(RegistryError::BarredFull(self.barred.len()));
        }
        self.barred.insert(*key);
        Ok(())
    }

    /// Whether a key stays out although a vendor's own authority vouches for it.
    pub(crate) fn is_barred(&self, key: &KeyId) -> bool {
        self.barred.contains(key)
    }

    /// Keys that stay out.
    pub(crate) fn barred(&self) -> impl Iterator<Item = KeyId> {
        self.barred.iter().copied()
    }

    /// Engineers that count now.
    pub(crate) fn engineers(&self, now: Timestamp) -> impl Iterator<Item = &Engineer> {
        self.engineers.values().filter(move |engineer| now < engineer.not_after)
    }

    /// Invitations that count now.
    pub(crate) fn invitations(&self, now: Timestamp) -> impl Iterator<Item = &Invitation> {
        self.invitations.values().filter(move |invitation| now < invitation.until)
    }

    fn forget_ended(&mut self, now: Timestamp) {
        self.engineers.retain(|_, engineer| now < engineer.not_after);
        self.invitations.retain(|_, invitation| now < invitation.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn invitation(key: &[u8]) -> Invitation {
        let until = now() + INVITATION_LIFE;
        Invitation { key: KeyId::of_spki(key), vendor: "acme".to_owned(), name: "鈴木".to_owned(), until }
    }

    fn engineer(key: &[u8]) -> Engineer {
        let not_after = now() + SignedDuration::from_hours(24);
        Engineer { key: KeyId::of_spki(key), vendor: "acme".to_owned(), name: "鈴木".to_owned(), not_after }
    }

    #[test]
    fn an_invitation_counts_once_and_not_for_ever() {
        let mut registry = Registry::default();
        registry.invite(invitation(b"i"), now()).unwrap();
        let late = now() + INVITATION_LIFE;
        assert_eq!(
            registry.clone().enrol(&KeyId::of_spki(b"i"), engineer(b"e"), late),
            Err(RegistryError::NotInvited)
        );
        assert_eq!(
            registry.clone().enrol(&KeyId::of_spki(b"x"), engineer(b"e"), now()),
            Err(RegistryError::NotInvited)
        );
        assert_eq!(
            registry.clone().enrol(&KeyId::of_spki(b"i"), engineer(b"i"), now()),
            Err(RegistryError::Taken)
        );
        registry.enrol(&KeyId::of_spki(b"i"), engineer(b"e"), now()).unwrap();
        assert_eq!(
            registry.enrol(&KeyId::of_spki(b"i"), engineer(b"f"), now()),
            Err(RegistryError::NotInvited)
        );
        assert_eq!(registry.engineers(now()).count(), 1);
        assert_eq!(registry.engineers(now() + SignedDuration::from_hours(24)).count(), 0);
        registry.invite(invitation(b"j"), now()).unwrap();
        assert_eq!(registry.enrol(&KeyId::of_spki(b"j"), engineer(b"e"), now()), Err(RegistryError::Taken));
    }

    #[test]
    fn one_enrolment_at_a_time_is_under_way() {
        let key = |of: &[u8]| KeyId::of_spki(of);
        let mut registry = Registry::default();
        let held = registry.begin(key(b"i"), key(b"e")).unwrap();
        assert_eq!(registry.begin(key(b"i"), key(b"f")), Err(RegistryError::UnderWay), "by this invitation");
        assert_eq!(registry.begin(key(b"j"), key(b"e")), Err(RegistryError::UnderWay), "of this key");
        let other = registry.begin(key(b"j"), key(b"f")).unwrap();
        drop(held);
        assert!(registry.begin(key(b"i"), key(b"e")).is_ok(), "recorded or not, it is free again");
        assert_eq!(registry.under_way.len(), 4);
        drop(other);
        registry.begin(key(b"k"), key(b"g")).unwrap();
        assert_eq!(registry.under_way.len(), 2, "what ended is forgotten");
    }

    #[test]
    fn what_is_owed_to_the_disk_is_not_written_there() {
        let mut registry = Registry::default();
        registry.owe(Some(Duration::from_secs(1)));
        let _held = registry.begin(KeyId::of_spki(b"i"), KeyId::of_spki(b"e")).unwrap();
        let kept: Registry = serde_json::from_str(&serde_json::to_string(&registry).unwrap()).unwrap();
        assert_eq!((kept.owed(), kept.under_way.len()), (None, 0));
    }

    #[test]
    fn what_is_revoked_counts_no_more() {
        let mut registry = Registry::default();
        registry.invite(invitation(b"i"), now()).unwrap();
        registry.enrol(&KeyId::of_spki(b"i"), engineer(b"e"), now()).unwrap();
        registry.invite(invitation(b"j"), now()).unwrap();
        registry.revoke(&KeyId::of_spki(b"e")).unwrap();
        registry.revoke(&KeyId::of_spki(b"j")).unwrap();
        assert_eq!(registry.engineers(now()).count() + registry.invitations(now()).count(), 0);
        assert!(matches!(registry.revoke(&KeyId::of_spki(b"e")), Err(RegistryError::Unknown(_))));
    }

    #[test]
    fn a_barred_key_stays_out_until_it_is_invited_and_their_number_ends() {
        let mut registry: Registry = serde_json::from_str(r#"{"engineers":{},"invitations":{}}"#).unwrap();
        let (key, other) = (KeyId::of_spki(b"e"), KeyId::of_spki(b"f"));
        registry.bar(&key).unwrap();
        let kept: Registry = serde_json::from_str(&serde_json::to_string(&registry).unwrap()).unwrap();
        assert_eq!((kept.is_barred(&key), kept.is_barred(&other)), (true, false));
        registry.invite(invitation(b"i"), now()).unwrap();
        registry.enrol(&KeyId::of_spki(b"i"), engineer(b"e"), now()).unwrap();
        assert!(!registry.is_barred(&key));
        for number in 0..BARRED_MAX {
            registry.bar(&KeyId::of_spki(&number.to_be_bytes())).unwrap();
        }
        assert_eq!(registry.bar(&key), Err(RegistryError::BarredFull(BARRED_MAX)));
        assert_eq!(registry.bar(&KeyId::of_spki(&0_usize.to_be_bytes())), Ok(()), "again");
    }

    #[test]
    fn there_is_an_end_to_invitations() {
        let mut registry = Registry::default();
        for number in 0..INVITATIONS_MAX {
            registry.invite(invitation(&number.to_be_bytes()), now()).unwrap();
        }
        assert_eq!(registry.invite(invitation(b"more"), now()), Err(RegistryError::Full(INVITATIONS_MAX)));
        let later = now() + INVITATION_LIFE;
        let until = later + INVITATION_LIFE;
        assert_eq!(registry.invite(Invitation { until, ..invitation(b"more") }, later), Ok(()), "they end");
    }
}
