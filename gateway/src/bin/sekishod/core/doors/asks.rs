//! Answers to edge and to admins about sessions. Opening needs a person with a code; closing needs none.

use gateway::accounts::Accounts;
use gateway::store::DoorFile;
use gateway::wire::doors::{
    DoorsAnswer, DoorsAsk, EndReason as Said, KeyId, Refusal, SessionId, Text, Transport, Vouched,
};
use gateway::wire::persons::{Claim, Code, Proof, SessionsAnswer, SessionsAsk};
use gateway::wire::{Answer, Fault, FaultKind};
use policy::diagnostic::Language;
use session::{Approval, Digest, EndReason, Factor, Now, Protocol, Request, RequestError, Session, Verifier};
use std::net::SocketAddr;
use std::time::Duration;

use super::resolve::{person_end, resolve};
use super::{DoorsLetter, DoorsReply, Live, SESSIONS_MAX, SESSIONS_OF_ONE_MAX, SESSIONS_OF_VENDOR_MAX};
use crate::core::persons::{Book, PersonError};
use crate::core::{Core, grants};
use crate::server::Peer;

impl Core {
    /// One question of edge's.
    pub(in crate::core) fn door(&mut self, DoorsLetter { ask, reply }: DoorsLetter) {
        // The tunnel's peers stand in the policy; nothing else of a door is known for certain.
        if !matches!(ask, DoorsAsk::Tunnel { .. })
            && let Err(fault) = self.doors.whole()
        {
            // Edge may have gone.
            return drop(reply.send(DoorsReply::from(DoorsAnswer::Failed(fault))));
        }
        let answer = match ask {
            DoorsAsk::Request { engineer, vouched, target, purpose, duration_s } => self
                .ask_for_session((engineer, vouched), &target, &purpose, duration_s)
                .unwrap_or_else(DoorsAnswer::Refused),
            DoorsAsk::Follow { session, seen: _ } => self.follow(&session),
            DoorsAsk::Connect { session } => {
                drop(reply.send(self.connect(&session)));
                return;
            }
            DoorsAsk::Moved { session } => self.moved(&session),
            DoorsAsk::End { session, why } => self.end_session(&session, why),
            DoorsAsk::Enrol { invitation, key } => return self.enrol_engineer(invitation, &key, reply),
            DoorsAsk::Certify { key } => self.certify(&key),
            DoorsAsk::Engineers {} => self.engineers(),
            DoorsAsk::Tunnel { key } => match self.carrier.stand(key.as_ref()) {
                Ok(standing) => DoorsAnswer::Tunnel(standing),
                Err(error) => failed(FaultKind::Failed, error.to_string()),
            },
        };
        // Edge may have gone.
        drop(reply.send(DoorsReply::from(answer)));
    }

    fn ask_for_session(
        &mut self,
        (engineer, vouched): (KeyId, Option<Vouched>),
        target: &Text,
        purpose: &Text,
        duration_s: u32,
    ) -> Result<DoorsAnswer, Refusal> {
        let now = self.session_now();
        let plan = self.enforcer.standing().policy().cloned().ok_or_else(closed)?;
        let (vendor, name, vouched) = match self.who(&engineer, now) {
            Some((vendor, name)) => (vendor, name, None),
            None => {
                let vouched =
                    vouched.filter(|said| self.believes(&engineer, said, now)).ok_or_else(unknown)?;
                (vouched.vendor.to_string(), vouched.name.to_string(), Some(vouched))
            }
        };
        self.room(&engineer, &vendor, now)?;
        let (target, terms) = resolve(&plan.policy, &vendor, target.as_str())?;
        let session = SessionId::from_random(crate::core::random().map_err(|_| closed())?);
        let request = Request {
            session: session.clone(),
            vendor,
            engineer,
            engineer_name: name,
            target,
            purpose: purpose.as_str().to_owned(),
            start: None,
            duration_s,
        };
        let machine = Session::request(request, terms, now).map_err(|error| against_terms(&error))?;
        // Last, as only what stands is written to the log.
        self.doors.pace.take(engineer, &machine.asked().vendor, now.elapsed).map_err(too_often)?;
        let digest = machine.digest().to_string();
        let (requested_at, followed_at) = (now.wall, now.elapsed);
        let approved_by = Vec::new();
        let live = Live { machine, vouched, requested_at, grant: None, followed_at, approved_by, told: 0 };
        self.doors.sessions.insert(session.clone(), live);
        Ok(DoorsAnswer::Requested { session, digest })
    }

    fn room(&self, engineer: &KeyId, vendor: &str, now: Now) -> Result<(), Refusal> {
        let of_one = self.doors.active(now).filter(|live| live.machine.asked().engineer == *engineer).count();
        let of_vendor = self.doors.active(now).filter(|live| live.machine.asked().vendor == vendor).count();
        let is_full = self.doors.active(now).count() >= SESSIONS_MAX
            || of_one >= SESSIONS_OF_ONE_MAX
            || of_vendor >= SESSIONS_OF_VENDOR_MAX;
        if is_full { Err(too_many()) } else { Ok(()) }
    }

    fn follow(&mut self, session: &SessionId) -> DoorsAnswer {
        let now = self.session_now();
        let Some(live) = self.doors.sessions.get_mut(session) else { return no_session(session) };
        live.followed_at = now.elapsed;
        live.machine.handle_present(now);
        DoorsAnswer::Standing(live.standing(now))
    }

    fn moved(&mut self, session: &SessionId) -> DoorsAnswer {
        let now = self.session_now();
        let Some(live) = self.doors.sessions.get_mut(session) else { return no_session(session) };
        live.machine.handle_activity(now);
        DoorsAnswer::Standing(live.standing(now))
    }

    /// Hands out a socket towards the target of a session that is open, and of no other.
    fn connect(&mut self, session: &SessionId) -> DoorsReply {
        let now = self.session_now();
        let Some(live) = self.doors.sessions.get_mut(session) else { return no_session(session).into() };
        if let Err(error) = live.machine.handle_connect(now) {
            return failed(FaultKind::NotPermitted, error.to_string()).into();
        }
        let Some(grant) = live.grant else {
            return failed(FaultKind::Failed, "the session has no grant".to_owned()).into();
        };
        live.machine.handle_activity(now);
        let target = &live.machine.asked().target;
        let address = SocketAddr::new(target.address, target.port);
        let transport = match target.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        };
        match grants::socket(&grant) {
            Ok(socket) => {
                DoorsReply { answer: DoorsAnswer::Socket { address, transport }, socket: Some(socket) }
            }
            Err(error) => failed(FaultKind::Failed, format!("no socket can be made: {error}")).into(),
        }
    }

    fn end_session(&mut self, session: &SessionId, why: Said) -> DoorsAnswer {
        let now = self.session_now();
        let Some(live) = self.doors.sessions.get_mut(session) else { return no_session(session) };
        let why = match why {
            Said::Finished => EndReason::Finished {},
            Said::Disconnected => EndReason::Disconnected {},
            Said::Idle => EndReason::Idle {},
            Said::RecorderFailed => EndReason::RecorderFailed {},
            Said::DiskFull => EndReason::DiskFull {},
        };
        live.machine.handle_end(why, now);
        DoorsAnswer::Ended {}
    }

    /// One question of an admin's about sessions.
    pub(in crate::core) fn sessions(&mut self, peer: Peer, ask: SessionsAsk) -> Answer {
        let result = match ask {
            SessionsAsk::List {} => {
                let now = self.session_now();
                let mut rows: Vec<_> = self.doors.sessions.values().map(|live| live.row(now)).collect();
                rows.sort_by_key(|row| row.requested_at);
                return Answer::Sessions(SessionsAnswer::Sessions(rows));
            }
            SessionsAsk::Show { session } => Ok(session),
            SessionsAsk::Approve { session, digest, proof } => {
                let proof = self.keyed(proof);
                let whole = self.doors.whole();
                whole.and_then(|()| self.approve(&session, &digest, &proof)).map(|()| session)
            }
            SessionsAsk::Deny { session, why, by } => {
                let by = self.who_says_no(peer, by, &session);
                self.deny(&session, &why, &by).map(|()| session)
            }
            SessionsAsk::Kill { session, by } => {
                let by = self.who_says_no(peer, by, &session);
                self.kill(&session, by).map(|()| session)
            }
        };
        self.settle_doors();
        let now = self.session_now();
        match result {
            Ok(session) => match self.doors.row(&session, now) {
                Some(row) => Answer::Sessions(SessionsAnswer::Session(Box::new(row))),
                None => Answer::Failed(unknown_session(&session)),
            },
            Err(fault) => Answer::Failed(fault),
        }
    }

    /// A person's yes: the person lives, holds a role, saw this very request, and the code is right and new.
    fn approve(&mut self, session: &SessionId, digest: &str, proof: &Proof) -> Result<(), Fault> {
        let Proof { person, code } = proof;
        let now = self.session_now();
        let refused = |why: String| Fault::new(FaultKind::NotPermitted, why);
        let plan = self.enforcer.standing().policy().cloned();
        let plan = plan.ok_or_else(|| refused("no policy is in force".to_owned()))?;
        let live = self.doors.sessions.get_mut(session).ok_or_else(|| unknown_session(session))?;
        let seen = Digest::parse(digest).map_err(|error| refused(error.to_string()))?;
        // Before the code is spent: whatever cannot count anyway.
        if seen != *live.machine.digest() {
            return Err(refused(session::ApprovalError::OtherRequest.to_string()));
        }
        if !now.trusted {
            return Err(refused(session::ApprovalError::TimeUntrusted.to_string()));
        }
        let known = plan.policy.persons.get(person);
        let known =
            known.ok_or_else(|| refused(format!("the policy in force knows no person `{person}`")))?;
        let until = person_end(&plan.policy, known);
        if until.is_some_and(|until| until <= now.wall) {
            return Err(refused(session::ApprovalError::PersonOver { person: person.clone() }.to_string()));
        }
        let mut spender = Spender { book: &mut self.doors.book, store: &self.store };
        let factor = Factor::obtain(&mut spender, person, &seen, code.as_str(), now);
        let locked = matches!(&factor, Err(fault) if fault.is_new_lock);
        let approved = factor.map_err(|no| refused(no.why)).and_then(|factor| {
            let roles = known.roles.iter().cloned().collect();
            let approval = Approval { person: person.clone(), roles, until, digest: seen, factor };
            live.machine.handle_approval(approval, now).map_err(|error| refused(error.to_string()))
        });
        if locked {
            self.note_locked(person);
        }
        approved
    }

    fn deny(&mut self, session: &SessionId, why: &Text, by: &str) -> Result<(), Fault> {
        let now = self.session_now();
        let live = self.doors.sessions.get_mut(session).ok_or_else(|| unknown_session(session))?;
        let denied = live.machine.handle_denial(by, why.as_str(), now);
        denied.map_err(|error| Fault::new(FaultKind::Failed, error.to_string()))
    }

    fn kill(&mut self, session: &SessionId, by: String) -> Result<(), Fault> {
        let now = self.session_now();
        let live = self.doors.sessions.get_mut(session).ok_or_else(|| unknown_session(session))?;
        live.machine.handle_end(EndReason::Killed { by }, now);
        Ok(())
    }

    /// Ends every session that a person said yes to whose second factor was taken away.
    pub(in crate::core) fn end_by_lost_factor(&mut self, person: &str) {
        let now = self.session_now();
        for live in self.doors.sessions.values_mut() {
            live.machine.handle_factor_lost(person, now);
        }
    }

    /// Names whoever says no: the person, when a code proves it; else the account, and whom it claims to be. Closing never
    /// fails on who somebody is.
    fn who_says_no(&mut self, peer: Peer, claim: Option<Claim>, session: &SessionId) -> String {
        let account = account(peer);
        let Some(Claim { person, code }) = claim else { return account };
        let person = self.person_key(person.as_str().to_owned());
        if code.is_some_and(|code| self.proves(&person, &code, session)) {
            return person;
        }
        format!("{account}, as `{person}` without proof")
    }

    /// Whether a code is this living person's, and new; it is spent.
    fn proves(&mut self, person: &str, code: &Code, session: &SessionId) -> bool {
        let now = self.session_now();
        let policy = self.enforcer.standing().policy().map(|plan| &plan.policy);
        let end = policy.and_then(|policy| Some(person_end(policy, policy.persons.get(person)?)));
        let is_living = end.is_some_and(|end| end.is_none_or(|end| now.wall < end));
        let Some(digest) = self.doors.sessions.get(session).map(|live| *live.machine.digest()) else {
            return false;
        };
        if !is_living || !now.trusted {
            return false;
        }
        let mut spender = Spender { book: &mut self.doors.book, store: &self.store };
        let spent = spender.verify(person, &digest, code.as_str(), now);
        if matches!(&spent, Err(no) if no.is_new_lock) {
            self.note_locked(person);
        }
        spent.inspect_err(|no| tracing::warn!(person, why = no.why, "a code proves nothing")).is_ok()
    }
}

/// Checks a code and has it durable that it is spent, before it counts.
struct Spender<'a> {
    book: &'a mut Book,
    store: &'a gateway::store::Store,
}

/// Why a code does not count.
struct CodeRefused {
    why: String,
    is_new_lock: bool,
}

impl Verifier for Spender<'_> {
    type Error = CodeRefused;

    fn verify(&mut self, person: &str, _: &Digest, code: &str, now: Now) -> Result<(), CodeRefused> {
        let taken = self.book.take_code(person, &Code::new(code), now.wall);
        let is_new_lock = matches!(taken, Err(PersonError::Wrong)) && self.book.is_locked(person, now.wall);
        let kept = self.store.keep_door(DoorFile::Persons, &*self.book);
        taken.map_err(|error| CodeRefused { why: error.to_string(), is_new_lock })?;
        let lost =
            |error: gateway::store::StoreError| CodeRefused { why: error.to_string(), is_new_lock: false };
        kept.map_err(lost)
    }
}

/// The account that asks, by its name on this box.
fn account(peer: Peer) -> String {
    let accounts = Accounts::read().unwrap_or_default();
    accounts.user_name(peer.user).map_or_else(
        || format!("account number {} (it has no name on this box)", peer.user),
        |name| format!("account `{name}`"),
    )
}

fn unknown_session(session: &SessionId) -> Fault {
    Fault::new(FaultKind::Failed, format!("there is no session `{session}`; see `sekisho session list`"))
}

fn no_session(session: &SessionId) -> DoorsAnswer {
    DoorsAnswer::Failed(unknown_session(session))
}

fn failed(kind: FaultKind, why: String) -> DoorsAnswer {
    DoorsAnswer::Failed(Fault::new(kind, why))
}

fn against_terms(error: &RequestError) -> Refusal {
    let words = |language| error.text(language);
    Refusal { word: "against-terms".to_owned(), en: words(Language::En), ja: words(Language::Ja) }
}

fn closed() -> Refusal {
    Refusal {
        word: "closed".to_owned(),
        en: "the clinic's gateway is closed; ask the clinic".to_owned(),
        ja: "クリニックのゲートウェイは現在閉じています。クリニックに確認してください".to_owned(),
    }
}

fn unknown() -> Refusal {
    Refusal {
        word: "no-such-engineer".to_owned(),
        en: "your key is not enrolled here, or no longer counts; ask the clinic for an invitation".to_owned(),
        ja: "この鍵は登録されていないか、無効になりました。クリニックに招待コードを依頼してください"
            .to_owned(),
    }
}

fn too_many() -> Refusal {
    Refusal {
        word: "too-many".to_owned(),
        en: "too many requests wait already; end one, or ask again later".to_owned(),
        ja: "申請が多すぎます。不要なものを終了するか、後で申請し直してください".to_owned(),
    }
}

fn too_often(wait: Duration) -> Refusal {
    let minutes = wait.as_secs().div_ceil(60).max(1);
    Refusal {
        word: "too-many".to_owned(),
        en: format!("you or your company asked too often; ask again in {minutes} min"),
        ja: format!("申請の回数が多すぎます。{minutes} 分後に申請し直してください"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_too_often_reads_when_to_come_back() {
        for (wait_s, minutes) in [(0, 1), (20, 1), (60, 1), (61, 2)] {
            let Refusal { word, en, ja } = too_often(Duration::from_secs(wait_s));
            assert_eq!(word, "too-many");
            assert!(en.ends_with(&format!(" {minutes} min")), "{en}");
            assert!(ja.contains(&format!("{minutes} 分後")), "{ja}");
        }
    }
}
