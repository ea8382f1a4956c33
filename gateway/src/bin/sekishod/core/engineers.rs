//! Engineers of vendors: invitations, certificates, revocation. What opens is durable in the record before it counts.

mod authority;
mod registry;

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
use self::registry::{INVITATION_LIFE, Revoked};
use super::doors::{DoorsReply, contract_end};
use super::{Core, random};

/// The name shown of an engineer whose key the policy pins.
const PINNED: &str = "(key pinned in the policy)";

impl Core {
    /// One question of an admin's about vendors.
    pub(super) fn vendors(&mut self, ask: VendorsAsk, reply: oneshot::Sender<Answer>) {
        let result = match ask {
            VendorsAsk::List {} => Ok(self.list_engineers()),
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
        let now = self.session_now().wall;
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
        let now = self.session_now().wall;
        let code = match self.new_code(&vendor, now) {
            Ok(code) => code,
            Err(fault) => return drop(reply.send(Answer::Failed(fault))),
        };
        let (key, until) = (KeyId::of_spki(&code.spki()), now.checked_add(INVITATION_LIFE).unwrap_or(now));
        let name = engineer.as_str().to_owned();
        let event = engineer_event(&vendor, &name, &key, EngineerChange::Invited);
        let invitation = Invitation { key, vendor, name, until };
        self.recorded_first(event, reply, Answer::Failed, move |core| {
            let kept = core.doors.registry.invite(invitation, now).map_err(|error| failed(&error));
            match kept.and_then(|()| core.keep_registry()) {
                Ok(()) => {
                    let code = code.code().to_string();
                    Answer::Vendors(VendorsAnswer::Invited { code, key, until })
                }
                Err(fault) => Answer::Failed(fault),
            }
        });
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
        let Revoked { vendor, name } = revoked.map_err(|error| failed(&error))?;
        let barred = self.doors.registry.bar(key);
        let kept = self.keep_registry();
        self.witness.note(engineer_event(&vendor, &name, key, EngineerChange::Revoked));
        if vouched.is_some() {
            barred.map_err(|error| failed(&error))?;
        }
        kept.map(|()| VendorsAnswer::Revoked {})
    }

    /// An invited engineer's own key: recorded, kept, certified.
    pub(super) fn enrol_engineer(
        &mut self,
        invitation: KeyId,
        key: &PublicKey,
        reply: oneshot::Sender<DoorsReply>,
    ) {
        let now = self.session_now().wall;
        let made = self.certificate(&invitation, key, now);
        let (engineer, chain_pem) = match made {
            Ok(made) => made,
            Err(fault) => return drop(reply.send(DoorsAnswer::Failed(fault).into())),
        };
        let event = engineer_event(&engineer.vendor, &engineer.name, &engineer.key, EngineerChange::Enrolled);
        let failed_answer = |fault| DoorsReply::from(DoorsAnswer::Failed(fault));
        self.recorded_first(event, reply, failed_answer, move |core| {
            let enrolled =
                core.doors.registry.enrol(&invitation, engineer, now).map_err(|error| failed(&error));
            match enrolled.and_then(|()| core.keep_registry()) {
                Ok(()) => DoorsAnswer::Certificate { chain_pem }.into(),
                Err(fault) => DoorsAnswer::Failed(fault).into(),
            }
        });
    }

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
        Ok((Engineer { key: *key.id(), vendor, name, not_after }, chain_pem))
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

    fn keep_registry(&self) -> Result<(), Fault> {
        self.store.keep_door(DoorFile::Engineers, &self.doors.registry).map_err(|error| failed(&error))
    }
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
