//! The feed of denied packets: a netlink socket that core bound and passed over a UNIX socket (SCM_RIGHTS).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use netfilter::nflog::{LogReader, LoggedPacket, Losses};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

/// What the kernel told at once.
#[derive(Debug)]
pub(crate) struct Told {
    /// Denied packets.
    pub(crate) packets: Vec<LoggedPacket>,
    /// What did not arrive, since the feed began.
    pub(crate) losses: Losses,
}

/// The log, and the connection whose end says that core is gone.
#[derive(Debug)]
pub(crate) struct Feed {
    reader: LogReader,
    /// The same socket as the reader's, to wait at.
    readiness: AsyncFd<OwnedFd>,
    core: UnixStream,
}

impl Feed {
    /// Asks core for the log.
    pub(crate) async fn connect(path: &Path) -> io::Result<Feed> {
        let core = UnixStream::connect(path).await?;
        let log = loop {
            core.readable().await?;
            match core.try_io(Interest::READABLE, || receive(&core)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => break other?,
            }
        };
        Ok(Feed { readiness: wait_at(log.try_clone()?)?, reader: LogReader::new(log), core })
    }

    /// What was told next; an error means that core or the socket is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Told> {
        loop {
            let mut guard = tokio::select! {
                readable = self.readiness.readable() => readable?,
                gone = ended(&self.core) => return Err(gone),
            };
            let before = self.reader.losses();
            let packets = self.reader.receive(Duration::ZERO).map_err(io::Error::other)?;
            let losses = self.reader.losses();
            if packets.is_empty() && losses == before {
                guard.clear_ready();
                continue;
            }
            return Ok(Told { packets, losses });
        }
    }
}

/// Waits for the end of a connection over which nothing more is said.
async fn ended(core: &UnixStream) -> io::Error {
    loop {
        if let Err(error) = core.readable().await {
            return error;
        }
        match core.try_read(&mut [0]) {
            Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "core closed the connection"),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return error,
            // Readiness left over from before, or a byte that means nothing.
            Ok(_) | Err(_) => {}
        }
    }
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe; an `OwnedFd` keeps its descriptor open and unchanged"
)]
fn wait_at(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// One descriptor, from the first byte core sends.
fn receive(core: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(core, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "core sent no descriptor"))
}
