//! A control stream: one question of the engineer's at a time, each passed on to core as the small closed value that it
//! is, each answered.

use gateway::wire::doors::{
    DoorsAnswer, DoorsAsk, EndReason, FOLLOW_WAIT_S, KeyId as CoreKeyId, PublicKey, SessionState, Text,
    Vouched as CoreVouched,
};
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use transport::frame::{self, FrameError};
use transport::protocol::{Ask, Refusal, Reply, Standing, State, VERSION};
use transport::receipt::{Receipt, SignedReceipt};
use transport::{Engineer, KeyId, Quality, Stream, Vouched};

use super::books::{Book, Live};
use super::visit::Guest;
use super::{Shared, refusals};

/// How often, and how many times, the list is looked at after an enrolment.
const LIST_EVERY: Duration = Duration::from_millis(50);
const LIST_TRIES: u32 = 100;

/// Answers until the engineer is done with this stream.
pub(super) async fn control(
    shared: &Shared,
    guest: &Guest,
    version: u32,
    mut stream: Stream,
) -> Result<(), FrameError> {
    if version != VERSION {
        return frame::write(&mut stream, &Reply::Refused(refusals::version())).await;
    }
    frame::write(&mut stream, &Reply::Welcome { version: VERSION }).await?;
    loop {
        let ask = match frame::read_patiently(&mut stream).await {
            Ok(ask) => ask,
            Err(FrameError::Ended) => return Ok(()),
            Err(error) => return Err(error),
        };
        let reply = answer(shared, guest, ask).await.unwrap_or_else(Reply::Refused);
        frame::write(&mut stream, &reply).await?;
    }
}

async fn answer(shared: &Shared, guest: &Guest, ask: Ask) -> Result<Reply, Refusal> {
    let (vendor, ask) = match (&guest.quality, ask) {
        (Quality::Invited, Ask::Enrol { key }) => return enrol(shared, guest, key.spki()).await,
        (Quality::Invited, _) => return Err(refusals::invited()),
        (Quality::Engineer(_) | Quality::Vouched(_), Ask::Enrol { .. }) => return Err(refusals::enrolled()),
        (Quality::Engineer(Engineer { vendor, .. }) | Quality::Vouched(Vouched { vendor, .. }), ask) => {
            (vendor, ask)
        }
    };
    let key = &guest.key;
    match ask {
        Ask::Enrol { .. } => Err(refusals::enrolled()),
        Ask::Request { target, purpose, duration_s } => {
            let asked = Asked { target: target.into(), purpose: purpose.into(), duration_s };
            request(shared, guest, vendor, asked).await
        }
        Ask::Follow { session, seen } => {
            let live = shared.session(session.as_str(), key).ok_or_else(refusals::no_session)?;
            Ok(Reply::Standing(follow(&live, seen).await))
        }
        Ask::End { session } => {
            let live = shared.session(session.as_str(), key).ok_or_else(refusals::no_session)?;
            match shared.doors.ask(DoorsAsk::End { session: live.id.clone(), why: EndReason::Finished }).await
            {
                Ok(DoorsAnswer::Ended {}) => Ok(Reply::Ended {}),
                _ => Err(refusals::busy()),
            }
        }
        Ask::Receipt { session } => {
            let live = shared.session(session.as_str(), key).ok_or_else(refusals::no_session)?;
            receipt(shared, &live).await
        }
    }
}

async fn enrol(shared: &Shared, guest: &Guest, spki: Vec<u8>) -> Result<Reply, Refusal> {
    let invitation = core_key(&guest.key).ok_or_else(refusals::enrolment)?;
    let key = PublicKey::try_from(spki.clone()).map_err(|_| refusals::enrolment())?;
    match shared.doors.ask(DoorsAsk::Enrol { invitation, key }).await {
        Ok(DoorsAnswer::Certificate { chain_pem }) => {
            // The engineer comes back at once with his certificate: he must be on the list by then.
            listed(shared, &KeyId::of_spki(&spki)).await;
            let chain_pem = chain_pem.try_into().map_err(|_| refusals::busy())?;
            Ok(Reply::Enrolled { chain_pem })
        }
        Ok(DoorsAnswer::Refused(refusal)) => Err(words(refusal)),
        Ok(_) => Err(refusals::enrolment()),
        Err(error) => {
            tracing::warn!(%error, "an enrolment did not reach core");
            Err(refusals::busy())
        }
    }
}

/// Waits, for a while, until a key is on the list.
async fn listed(shared: &Shared, key: &KeyId) {
    for _ in 0..LIST_TRIES {
        if shared.guests.current().quality(key, Timestamp::now()).is_some() {
            return;
        }
        shared.list_wanted.notify_one();
        sleep(LIST_EVERY).await;
    }
}

struct Asked {
    target: String,
    purpose: String,
    duration_s: u32,
}

async fn request(shared: &Shared, guest: &Guest, vendor: &str, asked: Asked) -> Result<Reply, Refusal> {
    let key = &guest.key;
    let engineer = core_key(key).ok_or_else(refusals::no_session)?;
    let (target, purpose) = (text(&asked.target)?, text(&asked.purpose)?);
    let vouched = match &guest.quality {
        Quality::Vouched(vouched) => Some(passed_on(vouched)?),
        Quality::Engineer(_) | Quality::Invited => None,
    };
    let ask = DoorsAsk::Request { engineer, vouched, target, purpose, duration_s: asked.duration_s };
    match shared.doors.ask(ask).await {
        Ok(DoorsAnswer::Requested { session, digest }) => {
            let book = Book {
                owner: key.clone(),
                vendor: vendor.to_owned(),
                target: asked.target,
                purpose: asked.purpose,
                digest: digest.clone(),
                requested_at: Timestamp::now(),
                opened_at: None,
                closed_at: None,
                why: None,
                connections: 0,
                sent_bytes: 0,
                received_bytes: 0,
                log_index: None,
            };
            shared.books.begin(&session, book);
            let told = |_| refusals::busy();
            let session = session.to_string().try_into().map_err(told)?;
            Ok(Reply::Requested { session, digest: digest.try_into().map_err(told)? })
        }
        Ok(DoorsAnswer::Refused(refusal)) => Err(words(refusal)),
        Ok(_) => Err(refusals::busy()),
        Err(error) => {
            tracing::warn!(%error, "a request did not reach core");
            Err(refusals::busy())
        }
    }
}

fn text(text: &str) -> Result<Text, Refusal> {
    Text::try_from(text.to_owned()).map_err(|_| refusals::busy())
}

/// What a vendor's own authority says, for core.
fn passed_on(vouched: &Vouched) -> Result<CoreVouched, Refusal> {
    Ok(CoreVouched {
        vendor: text(&vouched.vendor)?,
        authority: core_key(&vouched.authority).ok_or_else(refusals::busy)?,
        name: text(&vouched.name)?,
        not_after: vouched.not_after,
    })
}

/// How a session stands, once that is news, or after a while.
async fn follow(live: &Live, seen: u32) -> Standing {
    let mut watch = live.watch();
    let news = watch.wait_for(|standing| standing.revision > seen || standing.state.is_over());
    let waited = timeout(Duration::from_secs(FOLLOW_WAIT_S), news).await;
    drop(waited);
    let standing = watch.borrow().clone();
    let book = live.book();
    Standing {
        session: protocol_id(live),
        revision: standing.revision,
        state: state(standing.state),
        at: standing.at,
        missing: standing.missing,
        why: standing.why.or_else(|| book.why.clone()),
    }
}

async fn receipt(shared: &Shared, live: &Live) -> Result<Reply, Refusal> {
    if !live.is_over() {
        return Err(refusals::not_over());
    }
    live.settled().await;
    let book = live.book().clone();
    let credentials = shared.credentials().ok_or_else(refusals::busy)?;
    let closed_at = book.closed_at.unwrap_or_else(Timestamp::now);
    let receipt = Receipt {
        v: Receipt::VERSION,
        session: live.id.to_string(),
        engineer: book.owner,
        vendor: book.vendor,
        target: book.target,
        purpose: book.purpose,
        digest: book.digest,
        requested_at: book.requested_at,
        opened_at: book.opened_at,
        closed_at,
        why: book.why.unwrap_or_default(),
        connections: book.connections,
        sent_bytes: book.sent_bytes,
        received_bytes: book.received_bytes,
        log_index: book.log_index,
    };
    match SignedReceipt::sign(&receipt, &credentials) {
        Ok(signed) => Ok(Reply::Receipt(Box::new(signed))),
        Err(error) => {
            tracing::warn!(%error, "a receipt cannot be signed");
            Err(refusals::busy())
        }
    }
}

fn core_key(key: &KeyId) -> Option<CoreKeyId> {
    CoreKeyId::try_from(key.as_str().to_owned()).ok()
}

fn protocol_id(live: &Live) -> transport::protocol::SessionId {
    #[expect(clippy::expect_used, reason = "both types take the same texts, which a test holds")]
    live.id.to_string().try_into().expect("a session's id")
}

fn words(refusal: gateway::wire::doors::Refusal) -> Refusal {
    let gateway::wire::doors::Refusal { word, en, ja } = refusal;
    Refusal { word, en, ja }
}

fn state(state: SessionState) -> State {
    match state {
        SessionState::Requested => State::Requested,
        SessionState::Approved => State::Approved,
        SessionState::Open => State::Open,
        SessionState::Denied => State::Denied,
        SessionState::Closed => State::Closed,
    }
}
