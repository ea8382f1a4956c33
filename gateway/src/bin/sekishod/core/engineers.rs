//! Engineers of vendors: invitations, certificates, revocation. What opens is durable in the record before it counts.

mod authority;
mod registry;

use std::time::Duration;

use events::{EngineerChange, Event};
use gateway::store::DoorFile;
use gateway::wire::doors::{DoorsAnswer, Engineer, Engineers, Invitation, KeyId, PublicKey, Text, Vouched};
use gateway::wire::persons::{VendorsAnswer, VendorsAsk};
use gateway::wire::{Answer, Fault, FaultKind};
use jiff::Timestamp;
use policy::model::{Policy, Vendor};
use session::Now;
use tokio::sync::oneshot;
use transport::invitation::SECRET_BYTES;

pub(super) use self::authority::Authority;
use self::authority::{AuthorityError, Certifiable};
pub(super) use self::registry::Registry;
use self::registry::{INVITATION_LIFE, RegistryError, Revoked};
use super::doors::{DoorsReply, contract_end};
use super::{Core, random};

/// The name shown of an engineer whose key the policy pins.
const PINNED: &str = "(key pinned in the policy)";
/// How long until a registry that could not be written is written again.
const KEEP_AGAIN: Duration = Duration::from_secs(10);

impl Core {
    /// One question of an admin's about vendors.
    pub(super) fn vendors(&mut self, ask: VendorsAsk, reply: oneshot::Sender<Answer>) {
        if let Err(fault) = self.doors.whole() {
            return drop(reply.send(Answer::Failed(fault)));
        }
        let result = match ask {
            VendorsAsk::List {} => {
                // The command line lists before it revokes: a second try comes as far as here.
                if let Err(fault) = self.keep_owed_registry() {
                    tracing::error!(why = fault.message, "the list of engineers is not on disk");
                }
                Ok(self.list_engineers())
            }
            VendorsAsk::Authority {} => self.authority().map(|authority| VendorsAnswer::Authority {
                certificate: authority.certificate_pem().to_owned(),
            }),
            VendorsAsk::Invite { vendor, engineer } => return self.invite(vendor, &engineer, reply),
            VendorsAsk::Revoke { key } => self.revoke(&key),
        };
        // Whoever asked may have gone.
        let _ = reply.send(result.map_or_else(Answer::Failed, Answer::Vendors));
    }

    /// Everybody enrolled, and whoever asked for a session with a certificate of a vendor's own authority.
    fn list_engineers(&self) -> VendorsAnswer {
        let now = self.session_now();
        let vouched = self.doors.vouched().into_iter();
        let vouched =
            vouched.filter(|(key, said)| self.believes(key, said, now)).map(|(key, said)| Engineer {
                key,
                vendor: said.vendor.to_string(),
                name: said.name.to_string(),
                not_after: said.not_after,
            });
        let now = now.wall;
        VendorsAnswer::Engineers {
            enrolled: self.enrolled(now).into_iter().chain(vouched).collect(),
            invitations: self.doors.registry.invitations(now).cloned().collect(),
        }
    }

    /// Who may finish a handshake.
    pub(super) fn engineers(&mut self) -> DoorsAnswer {
        let Now { wall: now, elapsed, .. } = self.session_now();
        // Edge asks every second: that is when a write that failed is tried again.
        if self.doors.registry.owed().is_some_and(|at| at <= elapsed)
            && let Err(fault) = self.keep_registry()
        {
            tracing::error!(why = fault.message, "the list of engineers is not on disk");
        }
        let authority_pem = match self.authority() {
            Ok(authority) => authority.certificate_pem().to_owned(),
            Err(fault) => return DoorsAnswer::Failed(fault),
        };
        DoorsAnswer::Engineers(Engineers {
            authority_pem,
            enrolled: self.enrolled(now),
            invitations: self.doors.registry.invitations(now).cloned().collect(),
            barred: self.doors.registry.barred().collect(),
        })
    }

    /// Engineers of vendors that the policy in force lets ask for maintenance: by certificate, or by pinned key.
    pub(super) fn enrolled(&self, now: Timestamp) -> Vec<Engineer> {
        let Ok(policy) = self.policy() else { return Vec::new() };
        let may_ask = |vendor: &str| maintains(policy, vendor, now);
        let own = self.doors.registry.engineers(now).filter(|engineer| may_ask(&engineer.vendor)).cloned();
        own.chain(pinned(policy).filter(|engineer| may_ask(&engineer.vendor))).collect()
    }

    /// Vendor and name of the engineer with this key, if he may ask for anything.
    pub(super) fn who(&self, key: &KeyId, now: Now) -> Option<(String, String)> {
        let found = self.enrolled(now.wall).into_iter().find(|engineer| engineer.key == *key)?;
        Some((found.vendor, found.name))
    }

    /// Whether what edge read in a certificate counts: the policy's vendor has this very authority, may ask, and the clinic
    /// has not revoked the key. The clinic's own authority speaks for those on the list only.
    pub(super) fn believes(&self, key: &KeyId, said: &Vouched, now: Now) -> bool {
        let Ok(policy) = self.policy() else { return false };
        let vendor = said.vendor.as_str();
        let own =
            self.doors.authority.as_ref().and_then(|own| own.spki().ok()).map(|spki| KeyId::of_spki(&spki));
        let holds = policy.vendors.get(vendor).and_then(Vendor::authority).map(|own| own.not_after);
        is_authority(policy, vendor, &said.authority)
            && own != Some(said.authority)
            && holds.is_some_and(|end| now.wall < end)
            && now.wall < said.not_after
            && maintains(policy, vendor, now.wall)
            && !self.doors.registry.is_barred(key)
    }

    fn invite(&mut self, vendor: String, engineer: &Text, reply: oneshot::Sender<Answer>) {
        let now = self.session_now();
        let (invitation, code) = match self.new_invitation(vendor, engineer, now) {
            Ok(made) => made,
            Err(fault) => return drop(reply.send(Answer::Failed(fault))),
        };
        let Invitation { key, until, .. } = invitation;
        let event = engineer_event(&invitation.vendor, &invitation.name, &key, EngineerChange::Invited);
        self.recorded_first(event, reply, Answer::Failed, move |core| {
            let kept = core.doors.registry.invite(invitation, now.wall).map_err(|error| failed(&error));
            match kept.and_then(|()| core.keep_registry()) {
                Ok(()) => {
                    let code = code.code().to_string();
                    Answer::Vendors(VendorsAnswer::Invited { code, key, until })
                }
                Err(fault) => Answer::Failed(fault),
            }
        });
    }

    /// An invitation that there is room for: tried on a copy, as the record shall tell of no other.
    fn new_invitation(
        &mut self,
        vendor: String,
        engineer: &Text,
        now: Now,
    ) -> Result<(Invitation, transport::Invitation), Fault> {
        may_count_days(now)?;
        self.keep_owed_registry()?;
        let now = now.wall;
        let code = self.new_code(&vendor, now)?;
        let (key, until) = (KeyId::of_spki(&code.spki()), now.checked_add(INVITATION_LIFE).unwrap_or(now));
        let invitation = Invitation { key, vendor, name: engineer.as_str().to_owned(), until };
        self.doors.registry.clone().invite(invitation.clone(), now).map_err(|error| failed(&error))?;
        Ok((invitation, code))
    }

    fn new_code(&mut self, vendor: &str, now: Timestamp) -> Result<transport::Invitation, Fault> {
        if !maintains(self.policy()?, vendor, now) {
            let why = format!(
                "the policy in force lets no vendor `{vendor}` ask for maintenance, or its contract is over"
            );
            return Err(Fault::new(FaultKind::Failed, why));
        }
        let spki = self.authority()?.spki().map_err(|error| failed(&error))?;
        let secret: [u8; SECRET_BYTES] = random().map_err(|error| failed(&error))?;
        Ok(transport::Invitation::new(secret, &spki))
    }

    fn revoke(&mut self, key: &KeyId) -> Result<VendorsAnswer, Fault> {
        let now = self.session_now();
        let vouched = self.doors.vouched().get(key).copied().cloned();
        self.doors.end_of_key(key, now);
        let listed = self.doors.registry.revoke(key);
        let revoked = listed.or_else(|error| vouched.as_ref().map(Revoked::from).ok_or(error));
        let Revoked { vendor, name } = match revoked {
            Ok(revoked) => revoked,
            Err(error) => return self.revoked_before(key, &error),
        };
        let barred = self.doors.registry.bar(key);
        let kept = self.keep_registry();
        self.witness.note(engineer_event(&vendor, &name, key, EngineerChange::Revoked));
        if vouched.is_some() {
            barred.map_err(|error| failed(&error))?;
        }
        kept.map(|()| VendorsAnswer::Revoked {})
    }

    /// A key that is on no list: perhaps one whose revocation is not on disk yet, where a second try writes it.
    fn revoked_before(&mut self, key: &KeyId, error: &RegistryError) -> Result<VendorsAnswer, Fault> {
        let was_owed = self.doors.registry.owed().is_some();
        self.keep_owed_registry()?;
        if was_owed && self.doors.registry.is_barred(key) {
            return Ok(VendorsAnswer::Revoked {});
        }
        Err(failed(error))
    }

    /// An invited engineer's own key: recorded, kept, certified. One of which it is known that it can be, and one at a time:
    /// whoever is invited shall not fill the log with enrolments that are none.
    pub(super) fn enrol_engineer(
        &mut self,
        invitation: KeyId,
        key: &PublicKey,
        reply: oneshot::Sender<DoorsReply>,
    ) {
        let now = self.session_now();
        let made = may_count_days(now).and_then(|()| {
            self.keep_owed_registry()?;
            self.certificate(&invitation, key, now.wall)
        });
        let made = made.and_then(|(engineer, chain_pem)| {
            let held = self.doors.registry.begin(invitation, engineer.key).map_err(|error| failed(&error))?;
            Ok((engineer, chain_pem, held))
        });
        let (engineer, chain_pem, held) = match made {
            Ok(made) => made,
            Err(fault) => return drop(reply.send(DoorsAnswer::Failed(fault).into())),
        };
        let event = engineer_event(&engineer.vendor, &engineer.name, &engineer.key, EngineerChange::Enrolled);
        let failed_answer = |fault| DoorsReply::from(DoorsAnswer::Failed(fault));
        self.recorded_first(event, reply, failed_answer, move |core| {
            let enrolled =
                core.doors.registry.enrol(&invitation, engineer, now.wall).map_err(|error| failed(&error));
            // Another may begin; so it may when this is dropped because it could not be recorded.
            drop(held);
            match enrolled.and_then(|()| core.keep_registry()) {
                Ok(()) => DoorsAnswer::Certificate { chain_pem }.into(),
                Err(fault) => DoorsAnswer::Failed(fault).into(),
            }
        });
    }

    /// The certificate of an engineer who can be enrolled: tried on a copy.
    fn certificate(
        &mut self,
        invitation: &KeyId,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<(Engineer, String), Fault> {
        let Invitation { vendor, name, .. } =
            self.doors.registry.invited(invitation, now).map_err(|error| failed(&error))?.clone();
        let policy = self.policy()?;
        if !maintains(policy, &vendor, now) {
            return Err(failed(&AuthorityError::Over(vendor)));
        }
        let contract = contract_end(policy, &vendor);
        let key = Certifiable::parse(key.der()).map_err(|error| failed(&error))?;
        let made = self.authority()?.engineer(&key, (&vendor, &name), contract, now);
        let (chain_pem, not_after) = made.map_err(|error| failed(&error))?;
        let engineer = Engineer { key: *key.id(), vendor, name, not_after };
        let tried = self.doors.registry.clone().enrol(invitation, engineer.clone(), now);
        tried.map_err(|error| failed(&error))?;
        Ok((engineer, chain_pem))
    }

    /// A certificate for edge's own key.
    pub(super) fn certify(&mut self, key: &PublicKey) -> DoorsAnswer {
        let now = self.session_now().wall;
        let made = Certifiable::parse(key.der()).map_err(|error| failed(&error));
        let signed = made.and_then(|key| {
            let authority = self.authority()?;
            authority.server(&key, now).map_err(|error| failed(&error))
        });
        signed.map_or_else(DoorsAnswer::Failed, |chain_pem| DoorsAnswer::Certificate { chain_pem })
    }

    /// The authority, made at the first need and kept before it is used.
    fn authority(&mut self) -> Result<&Authority, Fault> {
        if self.doors.authority.is_none() {
            let site = self.policy()?.clinic.site.clone();
            let authority =
                Authority::make(&site, self.session_now().wall).map_err(|error| failed(&error))?;
            self.store.keep_door(DoorFile::Authority, &authority).map_err(|error| failed(&error))?;
            tracing::info!(site, "made the maintenance authority");
            self.doors.authority = Some(authority);
        }
        self.doors.authority.as_ref().ok_or_else(|| failed(&"there is no maintenance authority"))
    }

    /// Writes the registry; what could not be written is owed.
    fn keep_registry(&mut self) -> Result<(), Fault> {
        let kept = self.store.keep_door(DoorFile::Engineers, &self.doors.registry);
        let was_owed = self.doors.registry.owed().is_some();
        let again_at = self.session_now().elapsed.saturating_add(KEEP_AGAIN);
        self.doors.registry.owe(kept.is_err().then_some(again_at));
        if let Err(error) = &kept
            && !was_owed
        {
            self.warn(format!(
                "the list of engineers is not on disk, a restart would bring back the former: {error}"
            ));
        }
        kept.map_err(|error| failed(&error))
    }

    /// Writes the registry where the last write failed: nothing new before that, as a restart would undo a revocation.
    fn keep_owed_registry(&mut self) -> Result<(), Fault> {
        if self.doors.registry.owed().is_none() {
            return Ok(());
        }
        self.keep_registry()
    }
}

/// Invitations and certificates end on a day. By a clock that stands in the past ended invitations would count again, and
/// by one that is ahead everybody enrolled would be forgotten: nobody is invited or enrolled by either.
fn may_count_days(now: Now) -> Result<(), Fault> {
    if now.trusted {
        return Ok(());
    }
    let why =
        "invitations go by the time, which is not trusted yet: set the clock, then `sekisho time trusted`";
    Err(Fault::new(FaultKind::NotPermitted, why))
}

/// Whether a vendor may ask for maintenance.
pub(super) fn maintains(policy: &Policy, vendor: &str, now: Timestamp) -> bool {
    let may = policy.vendors.get(vendor).is_some_and(|vendor| vendor.maintenance.is_some());
    may && contract_end(policy, vendor).is_none_or(|end| now < end)
}

/// Whether a vendor's own authority, as the policy has it, is the one with this key.
pub(super) fn is_authority(policy: &Policy, vendor: &str, key: &KeyId) -> bool {
    policy.vendors.get(vendor).and_then(Vendor::authority).is_some_and(|own| own.key == key.to_string())
}

/// Engineers whose keys the policy itself names; they are good as long as the contract.
fn pinned(policy: &Policy) -> impl Iterator<Item = Engineer> {
    policy.vendors.values().flat_map(|vendor| {
        let not_after = contract_end(policy, &vendor.name).unwrap_or(Timestamp::MAX);
        vendor.keys.iter().filter_map(move |key| {
            let key = KeyId::parse(key).ok()?;
            Some(Engineer { key, vendor: vendor.name.clone(), name: PINNED.to_owned(), not_after })
        })
    })
}

fn engineer_event(vendor: &str, name: &str, key: &KeyId, change: EngineerChange) -> Event {
    let (vendor, engineer) = (vendor.to_owned(), name.to_owned());
    Event::Engineer { vendor, engineer, key: key.to_string(), change }
}

fn failed(error: &impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Failed, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_invited_or_enrolled_while_the_time_is_not_trusted() {
        let wall = "2026-11-20T12:00:00+09:00".parse().unwrap();
        let now = |trusted| Now { wall, elapsed: Duration::ZERO, trusted };
        assert!(may_count_days(now(true)).is_ok());
        let refused = may_count_days(now(false)).unwrap_err();
        assert_eq!(refused.kind, FaultKind::NotPermitted);
        assert!(refused.message.contains("sekisho time trusted"), "{refused:?}");
    }
}
