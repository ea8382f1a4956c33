//! `doors.sock`: edge's questions, one at a time on each connection, answered with at most one descriptor. Who the peer is
//! comes from the kernel; lengths, waits and numbers of connections are bounded.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use gateway::accounts::{Accounts, EDGE_USER};
use gateway::wire::doors::{
    ANSWER_BYTES_MAX, ASK_BYTES_MAX, CONNECTIONS_MAX, DoorsAnswer, DoorsAsk, DoorsRequest, FOLLOW_WAIT_S,
    VERSION,
};
use gateway::wire::frame::{self, FrameError, HEAD_BYTES};
use gateway::wire::{Fault, FaultKind};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

/// How long the rest of a question may take to arrive, and an answer to be taken.
const TRANSFER_WAIT: Duration = Duration::from_secs(10);
/// How long to wait before accepting again after a failure.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// A question on its way to the loop.
#[derive(Debug)]
pub(in crate::core) struct DoorsLetter {
    pub(in crate::core) ask: DoorsAsk,
    pub(in crate::core) reply: oneshot::Sender<DoorsReply>,
}

/// An answer, with a descriptor for [`DoorsAnswer::Socket`].
#[derive(Debug)]
pub(in crate::core) struct DoorsReply {
    pub(in crate::core) answer: DoorsAnswer,
    pub(in crate::core) socket: Option<OwnedFd>,
}

impl From<DoorsAnswer> for DoorsReply {
    fn from(answer: DoorsAnswer) -> Self {
        DoorsReply { answer, socket: None }
    }
}

/// What a connection needs.
#[derive(Clone, Debug)]
pub(in crate::core) struct Service {
    /// The loop.
    pub(in crate::core) core: mpsc::Sender<DoorsLetter>,
    /// Moves when any session did.
    pub(in crate::core) changed: watch::Receiver<u64>,
    /// This daemon's own user.
    pub(in crate::core) own: u32,
}

/// Serves for ever.
pub(in crate::core) async fn serve(listener: UnixListener, service: Service) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept the edge role");
                tokio::time::sleep(RETRY_WAIT).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if may_ask(peer.uid(), service.own) => {}
            Ok(peer) => {
                tracing::warn!(user = peer.uid(), "refused at the doors' socket");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a client without credentials");
                continue;
            }
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("the edge role has too many connections");
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            if let Err(error) = attend(stream, service).await {
                tracing::debug!(%error, "a connection of the edge role ended");
            }
            drop(place);
        });
    }
}

/// Asked at each connection: edge's user may be made after core started, as when a package adds it.
fn may_ask(user: u32, own: u32) -> bool {
    user == 0
        || user == own
        || Accounts::read().is_ok_and(|accounts| accounts.user_id(EDGE_USER) == Some(user))
}

async fn attend(mut stream: UnixStream, mut service: Service) -> io::Result<()> {
    loop {
        let mut head = [0; HEAD_BYTES];
        // Between questions a connection may rest for as long as it likes.
        stream.read_exact(&mut head).await?;
        let reply = match read_ask(&mut stream, head).await {
            Ok(DoorsAsk::Follow { session, seen }) => service.follow(session, seen).await,
            Ok(ask) => service.ask(ask).await,
            Err(error) => {
                tracing::warn!(%error, "a bad question of the edge role");
                let fault = Fault::new(FaultKind::BadRequest, error.to_string());
                // What follows cannot be told apart from the rest of the bad one.
                return send(&mut stream, DoorsAnswer::Failed(fault).into()).await;
            }
        };
        send(&mut stream, reply).await?;
    }
}

async fn read_ask(stream: &mut UnixStream, head: [u8; HEAD_BYTES]) -> Result<DoorsAsk, FrameError> {
    let length = frame::body_bytes(head)?;
    if length > ASK_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    // It may hold the gateway's key.
    let mut body = Zeroizing::new(vec![0; length]);
    let read = timeout(TRANSFER_WAIT, stream.read_exact(&mut body)).await;
    let broken = |error: io::Error| FrameError::Malformed(serde::de::Error::custom(error));
    read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(broken)?;
    let DoorsRequest { version, ask } = frame::decode(&body)?;
    if version == VERSION { Ok(ask) } else { Err(FrameError::Version(version)) }
}

impl Service {
    async fn ask(&self, ask: DoorsAsk) -> DoorsReply {
        let stopped = || DoorsAnswer::Failed(Fault::new(FaultKind::Failed, "the daemon is stopping")).into();
        let (reply, answer) = oneshot::channel();
        match self.core.send(DoorsLetter { ask, reply }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| stopped()),
            Err(_) => stopped(),
        }
    }

    /// Waits for news of a session, for a while.
    async fn follow(&mut self, session: session::SessionId, seen: u32) -> DoorsReply {
        let until = Instant::now() + Duration::from_secs(FOLLOW_WAIT_S);
        loop {
            self.changed.mark_unchanged();
            let reply = self.ask(DoorsAsk::Follow { session: session.clone(), seen }).await;
            let is_news =
                !matches!(&reply.answer, DoorsAnswer::Standing(standing) if standing.revision <= seen);
            if is_news || !matches!(timeout_at(until, self.changed.changed()).await, Ok(Ok(()))) {
                return reply;
            }
        }
    }
}

/// Sends an answer; its descriptor goes with the first byte.
async fn send(stream: &mut UnixStream, DoorsReply { answer, socket }: DoorsReply) -> io::Result<()> {
    let bytes = frame::encode(&answer).map_err(io::Error::other)?;
    if bytes.len() > ANSWER_BYTES_MAX + HEAD_BYTES {
        return Err(io::Error::other("an answer is too long"));
    }
    let whole = async {
        let sent = match &socket {
            Some(socket) => {
                let first = bytes.get(..1).unwrap_or_default();
                stream.async_io(Interest::WRITABLE, || send_with(stream, first, socket)).await?
            }
            None => 0,
        };
        stream.write_all(bytes.get(sent..).unwrap_or_default()).await
    };
    timeout(TRANSFER_WAIT, whole).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn send_with(stream: &UnixStream, bytes: &[u8], socket: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)?)
}
