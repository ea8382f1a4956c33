//! Hands the kernel's log of packets, and the ends of connections, to the watch role: core may open them and never reads
//! them, watch may read them and cannot open them. On watch's word core asks the kernel for
//! the list of open connections; the answer goes past core to watch, for both hold the same socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use gateway::accounts::{Accounts, WATCH_USER};
use gateway::wire::watch::{FEED_HELLO_KEPT, FEED_HELLO_NEW, FEED_LIST};
use netfilter::conntrack;
use netfilter::nflog::{self, GroupConfig};
use policy::ruleset::LOG_GROUP;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

/// How long a predecessor's reader may take to let go of the log: the kernel gives a group to one socket only.
const HANDOVER_TRIES: u32 = 25;
const HANDOVER_WAIT: Duration = Duration::from_millis(200);
/// Lists are costly: watch gets no more of them than this, however often it asks.
const LIST_WAIT: Duration = Duration::from_millis(250);

/// The sockets, kept so that what the kernel queues while watch restarts is not lost.
#[derive(Clone, Debug)]
struct Sockets {
    log: Arc<OwnedFd>,
    connections: Arc<OwnedFd>,
}

/// Serves for ever; only root, this user and the watch role's are handed the sockets.
pub(crate) async fn serve(listener: UnixListener, own: u32) {
    let mut sockets = None;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept the watch role");
                tokio::time::sleep(HANDOVER_WAIT).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if may_read(peer.uid(), own) => {}
            Ok(peer) => {
                tracing::warn!(user = peer.uid(), "refused the log of denied packets");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a client without credentials");
                continue;
            }
        }
        if let Err(error) = hand_over(&mut sockets, stream).await {
            tracing::warn!(%error, "cannot hand over the log of denied packets and the events of connections");
        }
    }
}

/// Asked at each connection: the watch role's user may be made after core started, as when a package adds it.
fn may_read(user: u32, own: u32) -> bool {
    user == 0
        || user == own
        || Accounts::read().is_ok_and(|accounts| accounts.user_id(WATCH_USER) == Some(user))
}

async fn hand_over(held: &mut Option<Sockets>, stream: UnixStream) -> io::Result<()> {
    let (hello, sockets) = match held {
        Some(sockets) => (FEED_HELLO_KEPT, sockets.clone()),
        None => (FEED_HELLO_NEW, open().await?),
    };
    stream.writable().await?;
    send(&stream, hello, &sockets)?;
    *held = Some(sockets.clone());
    tokio::spawn(attend(stream, sockets.connections));
    Ok(())
}

/// Asks for lists on watch's word. The open connection is also how watch learns that core is gone.
async fn attend(mut stream: UnixStream, connections: Arc<OwnedFd>) {
    let mut word = [0; 1];
    while let Ok(1) = stream.read(&mut word).await {
        // Any other byte means nothing.
        if word != [FEED_LIST] {
            continue;
        }
        if let Err(error) = conntrack::request_dump(&*connections) {
            tracing::warn!(%error, "cannot ask for the list of connections");
        }
        tokio::time::sleep(LIST_WAIT).await;
    }
}

fn send(stream: &UnixStream, hello: u8, sockets: &Sockets) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [sockets.log.as_fd(), sockets.connections.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for two descriptors"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(stream, &[IoSlice::new(&[hello])], &mut control, flags)?;
    Ok(())
}

async fn open() -> io::Result<Sockets> {
    let connections = conntrack::bind(conntrack::receive_buffer_bytes()).map_err(io::Error::other)?;
    Ok(Sockets { log: Arc::new(bind().await?), connections: Arc::new(connections) })
}

async fn bind() -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match nflog::bind(LOG_GROUP, GroupConfig::default()) {
            Ok(socket) => return Ok(socket),
            Err(error) if tries >= HANDOVER_TRIES => return Err(io::Error::other(error.to_string())),
            Err(error) => tracing::debug!(%error, "the log is still held"),
        }
        tries += 1;
        tokio::time::sleep(HANDOVER_WAIT).await;
    }
}
