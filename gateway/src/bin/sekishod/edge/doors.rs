//! Edge's side of `doors.sock`: asks core, takes the one descriptor that may come with an answer. Core decides; nothing
//! here does.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::wire::Fault;
use gateway::wire::doors::{
    ANSWER_BYTES_MAX, DoorsAnswer, DoorsAsk, DoorsRequest, FOLLOW_WAIT_S, LINES_MAX, QUESTIONS_MAX,
    SessionId, Transport, TunnelKey, TunnelStanding, VERSION,
};
use gateway::wire::frame::{self, FrameError, HEAD_BYTES};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long an answer may take, beyond what [`DoorsAsk::Follow`] waits by itself.
const ANSWER_WAIT: Duration = Duration::from_secs(10 + FOLLOW_WAIT_S);

/// Why core did not answer.
#[derive(Debug, Error)]
pub(super) enum DoorsError {
    /// It is not there, or the connection broke.
    #[error("core does not answer at its doors: {0}")]
    Io(#[from] io::Error),
    /// It takes too long.
    #[error("core takes too long")]
    Late,
    /// The answer is not understood.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// This role is ending.
    #[error("the role is ending")]
    Ending(#[from] AcquireError),
    /// Core refuses.
    #[error("core refuses: {}", .0.message)]
    Refused(Fault),
    /// The answer is one to another question.
    #[error("core answered another question: install the same release for both roles")]
    Confused,
}

/// The way to core; clones share its limits.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    path: PathBuf,
    lines: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

/// A connection that stays.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

/// A socket towards a session's target, made by core, not yet connected.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) socket: OwnedFd,
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
}

impl Doors {
    /// The way to core's socket.
    pub(super) fn new(path: &Path) -> Self {
        let (lines, questions) = (Semaphore::new(LINES_MAX), Semaphore::new(QUESTIONS_MAX));
        Doors { path: path.to_owned(), lines: Arc::new(lines), questions: Arc::new(questions) }
    }

    /// One question.
    pub(super) async fn ask(&self, ask: DoorsAsk) -> Result<DoorsAnswer, DoorsError> {
        self.ask_with_socket(ask).await.map(|(answer, _)| answer)
    }

    /// A socket towards a session's target.
    pub(super) async fn connect(&self, session: SessionId) -> Result<Target, DoorsError> {
        match self.ask_with_socket(DoorsAsk::Connect { session }).await? {
            (DoorsAnswer::Socket { address, transport }, Some(socket)) => {
                Ok(Target { socket, address, transport })
            }
            (DoorsAnswer::Failed(fault), _) => Err(DoorsError::Refused(fault)),
            _ => Err(DoorsError::Confused),
        }
    }

    /// How the kernel's WireGuard stands, with a key for it if it shall have another.
    pub(super) async fn tunnel(&self, key: Option<TunnelKey>) -> Result<TunnelStanding, DoorsError> {
        match self.ask(DoorsAsk::Tunnel { key }).await? {
            DoorsAnswer::Tunnel(standing) => Ok(standing),
            DoorsAnswer::Failed(fault) => Err(DoorsError::Refused(fault)),
            _ => Err(DoorsError::Confused),
        }
    }

    /// A connection for many questions.
    pub(super) async fn line(&self) -> Result<Line, DoorsError> {
        let place = Arc::clone(&self.lines).acquire_owned().await?;
        Ok(Line { stream: UnixStream::connect(&self.path).await?, _place: place })
    }

    async fn ask_with_socket(&self, ask: DoorsAsk) -> Result<(DoorsAnswer, Option<OwnedFd>), DoorsError> {
        let place = Arc::clone(&self.questions).acquire_owned().await?;
        let stream = UnixStream::connect(&self.path).await?;
        Line { stream, _place: place }.ask(ask).await
    }
}

impl Line {
    /// One question, and its answer.
    pub(super) async fn ask(&mut self, ask: DoorsAsk) -> Result<(DoorsAnswer, Option<OwnedFd>), DoorsError> {
        // It may hold the gateway's key.
        let bytes = Zeroizing::new(frame::encode(&DoorsRequest { version: VERSION, ask })?);
        let whole = async {
            self.stream.write_all(&bytes).await?;
            self.answer().await
        };
        timeout(ANSWER_WAIT, whole).await.unwrap_or(Err(DoorsError::Late))
    }

    async fn answer(&mut self) -> Result<(DoorsAnswer, Option<OwnedFd>), DoorsError> {
        // A descriptor comes with the first byte.
        let (first, socket) = self.stream.async_io(Interest::READABLE, || first_byte(&self.stream)).await?;
        let mut rest = [0; HEAD_BYTES - 1];
        self.stream.read_exact(&mut rest).await?;
        let [second, third, fourth] = rest;
        let length = frame::body_bytes([first, second, third, fourth])?;
        if length > ANSWER_BYTES_MAX {
            return Err(FrameError::TooLong(length).into());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((frame::decode(&body)?, socket))
    }
}

fn first_byte(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    if received.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "core closed the connection"));
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let [byte] = byte;
    Ok((byte, descriptors.flatten().next()))
}

#[cfg(test)]
mod tests {
    use gateway::wire::doors::SESSIONS_MAX;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn every_session_that_core_may_have_can_be_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("doors.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let (doors, mut lines) = (Doors::new(&path), Vec::new());
        for number in 0..SESSIONS_MAX {
            let line = timeout(Duration::from_secs(5), doors.line()).await;
            lines.push(line.unwrap_or_else(|_| panic!("no line for session {number}")).unwrap());
        }
    }
}
