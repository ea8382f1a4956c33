//! The role's socket: edge hands over files, the console and admins ask how things are. Who the peer is comes from the
//! kernel (SO_PEERCRED); the first frame is bounded in length and time.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gateway::accounts::{Accounts, EDGE_USER};
use gateway::wire::files::{self, ASK_BYTES_MAX, FilesAnswer, FilesAsk, FilesRequest};
use gateway::wire::frame::{self, FrameError, HEAD_BYTES};
use gateway::wire::{Answer, Ask, Fault, FaultKind};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::house::House;
use super::journey;
use crate::server::{self, Peer, Places, admins_only};

/// How long the first frame may take to arrive, and an answer to be taken.
const FRAME_WAIT: Duration = Duration::from_secs(20);
/// What a client asks.
enum First {
    File(Box<FilesAsk>),
    Other(Box<Ask>),
}

/// Serves for ever.
pub(super) async fn serve(house: Rc<House>, listener: UnixListener, own: u32) {
    let places = Places::default();
    loop {
        // One too many is told so in words that both languages of this socket have.
        let (stream, peer, place) = server::next_client(&listener, &places).await;
        let house = Rc::clone(&house);
        spawn_local(async move {
            client(&house, stream, peer, own).await;
            drop(place);
        });
    }
}

async fn client(house: &Rc<House>, mut stream: UnixStream, peer: Peer, own: u32) {
    match timeout(FRAME_WAIT, first(&mut stream)).await {
        Ok(Ok(First::File(ask))) => file(house, stream, peer, own, *ask).await,
        Ok(Ok(First::Other(ask))) => {
            let answer = other(house, peer, own, &ask);
            say(&mut stream, &answer).await;
        }
        Ok(Err(error)) => {
            tracing::warn!(user = peer.user, %error, "bad request");
            say(&mut stream, &failed(FaultKind::BadRequest, error.to_string())).await;
        }
        Err(_) => tracing::warn!(user = peer.user, "a request that did not arrive in time"),
    }
}

/// Takes a file of edge's, if there is a place for it.
async fn file(house: &Rc<House>, mut stream: UnixStream, peer: Peer, own: u32, ask: FilesAsk) {
    if !may_send(peer.user, own) {
        tracing::warn!(user = peer.user, "refused a file: only the edge role hands files over");
        return say(&mut stream, &failed(FaultKind::NotPermitted, "only the edge role hands files over"))
            .await;
    }
    match Arc::clone(&house.places).try_acquire_owned() {
        Ok(place) => {
            journey::run(Rc::clone(house), stream, ask).await;
            drop(place);
        }
        Err(_) => {
            say(&mut stream, &failed(FaultKind::Busy, "other files are on their way; send it later")).await
        }
    }
}

/// Asked at each connection: the role's user may be made after this role started, as when a package adds it.
fn may_send(user: u32, own: u32) -> bool {
    let is_edge = || Accounts::read().is_ok_and(|accounts| accounts.user_id(EDGE_USER) == Some(user));
    user == 0 || user == own || is_edge()
}

fn other(house: &House, peer: Peer, own: u32, ask: &Ask) -> Answer {
    if let Err(why) = admins_only(own)(peer, ask) {
        tracing::warn!(user = peer.user, request = ask.word(), %why, "refused");
        return Answer::Failed(Fault::new(FaultKind::NotPermitted, why));
    }
    match ask {
        Ask::Measure {} => Answer::Measured(Box::new(house.measured())),
        _ => {
            let why = "this role only holds and delivers files: ask core";
            Answer::Failed(Fault::new(FaultKind::BadRequest, why))
        }
    }
}

async fn first(stream: &mut UnixStream) -> Result<First, FrameError> {
    let broken = |error: io::Error| FrameError::Malformed(serde_json::Error::io(error));
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await.map_err(broken)?;
    let length = frame::body_bytes(head)?;
    if length > ASK_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(broken)?;
    understood(&body)
}

/// The two languages of the socket are told apart by the word that each needs.
fn understood(body: &[u8]) -> Result<First, FrameError> {
    #[derive(serde::Deserialize)]
    struct Either {
        version: u32,
        #[serde(default)]
        files: Option<serde::de::IgnoredAny>,
    }
    let Either { version, files } = frame::decode(body)?;
    match files {
        None => Ok(First::Other(Box::new(frame::decode_request(body)?.ask))),
        Some(_) if version != files::VERSION => Err(FrameError::Version(version)),
        Some(_) => {
            let FilesRequest { version: _, files } = frame::decode(body)?;
            Ok(First::File(Box::new(files)))
        }
    }
}

fn failed(kind: FaultKind, why: impl Into<String>) -> FilesAnswer {
    FilesAnswer::Failed(Fault::new(kind, why))
}

/// Says something to a peer that may be gone.
pub(super) async fn say(stream: &mut UnixStream, answer: &impl Serialize) {
    let written = async {
        let bytes = frame::encode(answer).map_err(io::Error::other)?;
        stream.write_all(&bytes).await
    };
    match timeout(FRAME_WAIT, written).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an answer was not taken"),
        Err(_) => tracing::debug!("an answer was not taken in time"),
    }
}
