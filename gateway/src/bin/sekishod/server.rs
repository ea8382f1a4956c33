//! A role's listening socket: bounded clients, bounded frames, bounded waits, one request per connection.
//! Who the peer is comes from the kernel (SO_PEERCRED), what it may ask is decided before anything else looks at it.

mod places;

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::accounts::{ADMIN_GROUP, Accounts, CONSOLE_USER};
use gateway::wire::frame::{self, FrameError, HEAD_BYTES};
use gateway::wire::{Answer, Ask, Fault, FaultKind};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use self::places::{CLIENTS_MAX, CLIENTS_OF_A_USER_MAX, Place, Places};

/// How long a whole request may take to arrive, and an answer to be taken.
const TRANSFER_WAIT: Duration = Duration::from_secs(20);
/// Bytes made room for before any have arrived: an announced length is only a claim.
const FIRST_ROOM_BYTES: usize = 64 << 10;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// A request on its way to the role, with the way back.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) peer: Peer,
    pub(crate) ask: Ask,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Decides whether a peer may ask something; the error says why not.
pub(crate) type Gate = Arc<dyn Fn(Peer, &Ask) -> Result<(), String> + Send + Sync>;

/// Why a connection ended without a request.
#[derive(Debug, Error)]
enum ReadError {
    #[error("the request did not arrive within {} s", TRANSFER_WAIT.as_secs())]
    TooSlow,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Who may connect at all; what a peer may ask is the gate's business.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// The daemon's own user, root, and this group, if it exists.
    Group(Option<u32>),
    /// Everybody on this box.
    Everybody,
}

/// Binds a socket in place of a dead one.
///
/// # Errors
/// When the path cannot be bound.
pub(crate) fn bind(path: &Path, access: Access) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let mode = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    // Closed to all others first, so that no moment is open.
    mode(0o600)?;
    match access {
        Access::Everybody => mode(0o666)?,
        Access::Group(None) => {
            tracing::warn!(path = %path.display(), "its group does not exist: only root can use the socket")
        }
        Access::Group(Some(group)) => match chown(path, None, Some(group)) {
            Ok(()) => mode(0o660)?,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), group, "only root can use the socket");
            }
        },
    }
    Ok(listener)
}

/// The gate of a role that serves admins: root, the role's own user, and the admins' group. A socket's mode may say the
/// same; this asks again at each request, so that somebody who left the group is out at once. The console may ask what
/// the role measured, and nothing else.
pub(crate) fn admins_only(own: u32) -> Gate {
    Arc::new(move |peer: Peer, ask: &Ask| {
        if peer.user == 0 || peer.user == own {
            return Ok(());
        }
        let accounts = Accounts::read().map_err(|error| format!("the accounts cannot be read: {error}"))?;
        let is_console = accounts.user_id(CONSOLE_USER) == Some(peer.user);
        if is_console && measures_only(ask) || accounts.is_member(peer.user, peer.group, ADMIN_GROUP) {
            return Ok(());
        }
        Err(format!("only root and members of the group `{ADMIN_GROUP}` may ask"))
    })
}

/// The gate of a socket at which only the console asks what the role measured.
pub(crate) fn console_only(own: u32) -> Gate {
    let admins = admins_only(own);
    Arc::new(move |peer: Peer, ask: &Ask| {
        if !measures_only(ask) {
            return Err("only what was measured is told here: ask at the role's own socket".to_owned());
        }
        admins(peer, ask)
    })
}

/// What the console asks of the other roles.
fn measures_only(ask: &Ask) -> bool {
    matches!(ask, Ask::Measure {} | Ask::Status {})
}

/// Serves for ever.
pub(crate) async fn serve(listener: UnixListener, gate: Gate, role: mpsc::Sender<Letter>) {
    let places = Places::default();
    loop {
        let (stream, peer, place) = next_client(&listener, &places).await;
        let (gate, role) = (Arc::clone(&gate), role.clone());
        tokio::spawn(async move {
            client(stream, peer, &gate, &role).await;
            drop(place);
        });
    }
}

/// The next client for whom there is a place, and who he is; the others are told so.
pub(crate) async fn next_client(listener: &UnixListener, places: &Places) -> (UnixStream, Peer, Place) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(credentials) => {
                    let peer = Peer { user: credentials.uid(), group: credentials.gid() };
                    match places.take(peer.user) {
                        Some(place) => return (stream, peer, place),
                        None => turn_away(&stream),
                    }
                }
                Err(error) => tracing::warn!(%error, "a client without credentials"),
            },
            Err(error) => {
                // Out of file descriptors, most likely: it passes when clients leave.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Tells one client too many so, without waiting for it.
fn turn_away(stream: &UnixStream) {
    let fault =
        Fault::new(FaultKind::Busy, "as many clients as may be are being served; try again in a moment");
    if let Ok(bytes) = frame::encode(&Answer::Failed(fault)) {
        // A fresh socket's buffer takes these few bytes at once; a client that is gone already needs none.
        let _ = stream.try_write(&bytes);
    }
}

async fn client(mut stream: UnixStream, peer: Peer, gate: &Gate, role: &mpsc::Sender<Letter>) {
    let answer = match read_request(&mut stream).await {
        Ok(ask) => answer(peer, ask, gate, role).await,
        Err(ReadError::Io(error)) => return tracing::debug!(%error, user = peer.user, "a client left"),
        Err(error) => {
            tracing::warn!(user = peer.user, %error, "bad request");
            Answer::Failed(Fault::new(FaultKind::BadRequest, error.to_string()))
        }
    };
    if let Err(error) = write_answer(&mut stream, &answer).await {
        tracing::debug!(%error, user = peer.user, "the answer was not taken");
    }
}

async fn answer(peer: Peer, ask: Ask, gate: &Gate, role: &mpsc::Sender<Letter>) -> Answer {
    let word = ask.word();
    if let Err(why) = gate(peer, &ask) {
        tracing::warn!(user = peer.user, request = word, %why, "refused");
        return Answer::Failed(Fault::new(FaultKind::NotPermitted, why));
    }
    if ask.is_write() {
        tracing::info!(user = peer.user, request = word, "request");
    } else {
        tracing::debug!(user = peer.user, request = word, "request");
    }
    let (reply, answer) = oneshot::channel();
    let stopped = || Answer::Failed(Fault::new(FaultKind::Failed, "the daemon is stopping"));
    match role.send(Letter { peer, ask, reply }).await {
        Ok(()) => answer.await.unwrap_or_else(|_| stopped()),
        Err(_) => stopped(),
    }
}

async fn read_request(stream: &mut UnixStream) -> Result<Ask, ReadError> {
    let whole = async {
        let mut head = [0; HEAD_BYTES];
        stream.read_exact(&mut head).await?;
        let length = frame::body_bytes(head)?;
        let mut body = Vec::with_capacity(length.min(FIRST_ROOM_BYTES));
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        if stream.take(limit).read_to_end(&mut body).await? < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(frame::decode_request(&body)?.ask)
    };
    timeout(TRANSFER_WAIT, whole).await.unwrap_or(Err(ReadError::TooSlow))
}

async fn write_answer(stream: &mut UnixStream, answer: &Answer) -> Result<(), ReadError> {
    let bytes = frame::encode(answer)?;
    let whole = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    timeout(TRANSFER_WAIT, whole).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(())
}
