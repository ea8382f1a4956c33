//! The feed: the log of packets and the ends of connections, two netlink sockets that core bound and passed
//! over a UNIX socket (SCM_RIGHTS).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::wire::watch::{FEED_HELLO_KEPT, FEED_HELLO_NEW, FEED_LIST};
use netfilter::conntrack::{self, ConntrackReader, Event};
use netfilter::nflog::{self, LogReader, LoggedPacket};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Interval;

use crate::notify::every;

/// How often the ends of connections are read. Nobody waits at that socket: gathered ends make one transaction.
const GATHER: Duration = Duration::from_millis(50);
/// Datagrams of connections read at once.
const BATCH_MAX: usize = 2048;

/// What the kernel told at once.
#[derive(Debug)]
pub(crate) enum Told {
    /// Packets that rules logged, and what did not arrive since the feed began.
    Logged(Vec<LoggedPacket>, nflog::Losses),
    /// Connections.
    Connections {
        /// What happened to them.
        events: Vec<Event>,
        /// What did not arrive, since the socket was made.
        losses: conntrack::Losses,
        /// Whether there was nothing more at that moment.
        is_drained: bool,
    },
}

/// The sockets, and the connection whose end says that core is gone.
#[derive(Debug)]
pub(crate) struct Feed {
    log: LogReader,
    connections: ConntrackReader,
    /// The same socket as the log's reader, to wait at.
    log_readiness: AsyncFd<OwnedFd>,
    gathered: Interval,
    /// Whether the last reading of connections left nothing.
    is_drained: bool,
    core: UnixStream,
    list_wanted: Arc<Notify>,
    /// Whether core opened the sockets just now; else it had kept them.
    pub(crate) is_new: bool,
}

impl Feed {
    /// Asks core for the sockets.
    pub(crate) async fn connect(path: &Path, list_wanted: Arc<Notify>) -> io::Result<Feed> {
        let core = UnixStream::connect(path).await?;
        let (log, connections, is_new) = loop {
            core.readable().await?;
            match core.try_io(Interest::READABLE, || receive(&core)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => break other?,
            }
        };
        Ok(Feed {
            log_readiness: wait_at(log.try_clone()?)?,
            gathered: every(GATHER),
            is_drained: true,
            log: LogReader::new(log),
            connections: ConntrackReader::new(connections).map_err(io::Error::other)?,
            core,
            list_wanted,
            is_new,
        })
    }

    /// How many events the kernel had dropped when the feed began or was last told of.
    pub(crate) fn dropped(&self) -> u64 {
        self.connections.losses().dropped
    }

    /// The same, asked of the kernel now.
    pub(crate) fn count_dropped(&mut self) -> io::Result<u64> {
        self.connections.count_dropped().map_err(io::Error::other)?;
        Ok(self.dropped())
    }

    /// What was told next; an error means that core or a socket is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Told> {
        loop {
            tokio::select! {
                () = next_reading(&mut self.gathered, self.is_drained) => {
                    let told = read_connections(&mut self.connections)?;
                    self.is_drained = matches!(told, Told::Connections { is_drained: true, .. });
                    return Ok(told);
                }
                readable = self.log_readiness.readable() => {
                    let mut guard = readable?;
                    let before = self.log.losses();
                    let packets = self.log.receive(Duration::ZERO).map_err(io::Error::other)?;
                    let losses = self.log.losses();
                    if packets.is_empty() && losses == before {
                        guard.clear_ready();
                        continue;
                    }
                    return Ok(Told::Logged(packets, losses));
                }
                () = self.list_wanted.notified() => {
                    // A full pipe to core holds wishes enough; this one is asked again when it is overdue.
                    let _ = self.core.try_write(&[FEED_LIST]);
                }
                gone = ended(&self.core) => return Err(gone),
            }
        }
    }

    /// What is left in the sockets after core is gone.
    pub(crate) fn rest(&mut self) -> io::Result<Told> {
        read_connections(&mut self.connections)
    }
}

/// At once while there is more, else when some have gathered.
async fn next_reading(gathered: &mut Interval, is_drained: bool) {
    if is_drained {
        gathered.tick().await;
    }
}

fn read_connections(reader: &mut ConntrackReader) -> io::Result<Told> {
    let mut events = Vec::new();
    let more = match reader.receive(BATCH_MAX, |event| events.push(event)) {
        Ok(more) => more,
        Err(error) if events.is_empty() => return Err(io::Error::other(error)),
        // What came before it is taken first; an error that stays comes again.
        Err(_) => true,
    };
    Ok(Told::Connections { events, losses: reader.losses(), is_drained: !more })
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

/// Two descriptors, from the first byte core sends, which says whether they are new.
fn receive(core: &UnixStream) -> io::Result<(OwnedFd, OwnedFd, bool)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(core, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.next().into_iter().flatten();
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let is_new = match byte {
        [FEED_HELLO_NEW] => true,
        [FEED_HELLO_KEPT] => false,
        _ => return Err(wrong("core said another word: install the same release for both roles")),
    };
    match (descriptors.next(), descriptors.next()) {
        (Some(log), Some(connections)) => Ok((log, connections, is_new)),
        _ => Err(wrong("core did not send two descriptors")),
    }
}
