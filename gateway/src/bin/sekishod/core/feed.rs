//! Hands the kernel's log of denied packets to the watch role: core may open it and never reads it, watch may read it
//! and cannot open it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gateway::accounts::{Accounts, WATCH_USER};
use netfilter::nflog::{self, GroupConfig};
use policy::ruleset::LOG_GROUP;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

/// How long a predecessor's reader may take to let go of the log: the kernel gives a group to one socket only.
const HANDOVER_TRIES: u32 = 25;
const HANDOVER_WAIT: Duration = Duration::from_millis(200);

/// Serves for ever; only root, this user and the watch role's are handed the log.
pub(crate) async fn serve(listener: UnixListener, own: u32) {
    let mut log = None;
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
        if let Err(error) = hand_over(&mut log, stream).await {
            tracing::warn!(%error, "cannot hand over the log of denied packets");
        }
    }
}

/// Asked at each connection: the watch role's user may be made after core started, as when a package adds it.
fn may_read(user: u32, own: u32) -> bool {
    user == 0
        || user == own
        || Accounts::read().is_ok_and(|accounts| accounts.user_id(WATCH_USER) == Some(user))
}

async fn hand_over(log: &mut Option<OwnedFd>, stream: UnixStream) -> io::Result<()> {
    let socket = match log.take() {
        Some(socket) => socket,
        None => bind().await?,
    };
    stream.writable().await?;
    let sent = send(&stream, &socket);
    *log = Some(socket);
    sent?;
    // The open connection is how watch learns that core is gone.
    tokio::spawn(async move {
        let mut stream = stream;
        let mut nothing = [0; 1];
        // Whatever comes, bytes or the end, the connection has served.
        let _ = stream.read(&mut nothing).await;
    });
    Ok(())
}

fn send(stream: &UnixStream, socket: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for one descriptor"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(stream, &[IoSlice::new(b"L")], &mut control, flags)?;
    Ok(())
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
