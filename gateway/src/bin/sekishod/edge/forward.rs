//! One connection of an engineer to his session's target: recorded first, then opened, then carried until either side,
//! the session or the recorder ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use events::Event;
use events::words::SessionChange;
use gateway::recorder::RecordError;
use gateway::wire::doors::{DoorsAsk, EndReason, SessionState, Standing, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use transport::protocol::{Refusal, Reply};
use transport::{KeyId, Stream, frame};

use super::Shared;
use super::books::Live;
use super::doors::{DoorsError, Target};
use super::refusals;

/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the target may take to answer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Carries a connection.
pub(super) async fn forward(shared: &Shared, key: &KeyId, session: &str, mut stream: Stream) {
    let opened = match shared.session(session, key) {
        Some(live) => open(shared, live).await,
        None => Err(refusals::no_session()),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            // Somebody who left needs no words.
            drop(frame::write(&mut stream, &Reply::Refused(refusal)).await);
            return;
        }
    };
    carry(shared, opened, stream).await;
}

/// A connection that is recorded and open.
struct Opened {
    live: Arc<Live>,
    _carrying: super::books::Carrying,
    number: u64,
    target: TcpStream,
}

async fn open(shared: &Shared, live: Arc<Live>) -> Result<Opened, Refusal> {
    if live.watch().borrow().state != SessionState::Open {
        return Err(refusals::not_open());
    }
    let target = shared.doors.connect(live.id.clone()).await.map_err(|error| refused(&error))?;
    let (carrying, number) = live.carry();
    // Numbers go on where they were, also after this role was killed.
    shared.books.keep();
    // Guard before path: what is not in the record does not begin.
    let change = SessionChange::ConnectionOpened { connection: number };
    let event = Event::Session { session: live.id.to_string(), change };
    match shared.record(event).await {
        Ok(index) => live.book().log_index = index,
        Err(error) => {
            tracing::error!(%error, session = %live.id, "the record role does not take a connection: the session ends");
            shared.end(&live.id, unrecorded(&error)).await;
            return Err(refusals::recorder());
        }
    }
    match connect(target).await {
        Ok(target) => Ok(Opened { live, _carrying: carrying, number, target }),
        Err(error) => {
            tracing::info!(%error, session = %live.id, "the target does not answer");
            close(shared, &live, number, 0, 0).await;
            Err(refusals::target(&error))
        }
    }
}

/// What the record role's refusal ends the session by.
const fn unrecorded(error: &RecordError) -> EndReason {
    match error {
        RecordError::Full(_) => EndReason::DiskFull,
        RecordError::Refused(_)
        | RecordError::Unreachable { .. }
        | RecordError::Answer(_)
        | RecordError::Confused => EndReason::RecorderFailed,
    }
}

async fn connect(target: Target) -> io::Result<TcpStream> {
    match target.transport {
        Transport::Tcp => {}
        Transport::Udp => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "datagrams are not carried yet"));
        }
    }
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(target.socket));
    let stream = timeout(CONNECT_WAIT, socket.connect(target.address)).await;
    let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn carry(shared: &Shared, opened: Opened, mut stream: Stream) {
    let Opened { live, _carrying, number, target } = opened;
    let mut target =
        Counted { target, live: Arc::clone(&live), sent: AtomicU64::new(0), received: AtomicU64::new(0) };
    let is_taken = frame::write(&mut stream, &Reply::Forwarding {}).await.is_ok();
    if is_taken {
        let over = over(live.watch());
        let copied = copy_bidirectional_with_sizes(&mut stream, &mut target, BUFFER_BYTES, BUFFER_BYTES);
        let ended = tokio::select! {
            // The end of the session comes first: not one more byte.
            biased;
            () = over => None,
            copied = copied => Some(copied),
        };
        match ended {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, session = %live.id, "a connection broke");
                stream.reset();
            }
            None => stream.reset(),
        }
    }
    let (sent, received) = (target.sent.into_inner(), target.received.into_inner());
    drop(target.target);
    close(shared, &live, number, sent, received).await;
}

async fn close(shared: &Shared, live: &Live, connection: u64, sent: u64, received: u64) {
    let change = SessionChange::ConnectionClosed { connection, sent, received };
    let recorded = shared.record(Event::Session { session: live.id.to_string(), change }).await;
    {
        let mut book = live.book();
        book.sent_bytes += sent;
        book.received_bytes += received;
        if let Ok(index) = &recorded {
            book.log_index = *index;
        }
    }
    shared.books.keep();
    if let Err(error) = recorded {
        tracing::error!(%error, session = %live.id, "the record role does not take a connection's end");
        shared.end(&live.id, unrecorded(&error)).await;
    }
}

/// Waits until the session can carry nothing.
pub(super) async fn over(mut standing: watch::Receiver<Standing>) {
    // An error means that the session is forgotten, which is the same.
    let _ = standing.wait_for(|standing| standing.state != SessionState::Open).await;
}

fn refused(error: &DoorsError) -> Refusal {
    match error {
        DoorsError::Refused(fault) => {
            tracing::info!(why = fault.message, "core hands out no socket");
            refusals::not_open()
        }
        other => {
            tracing::warn!(error = %other, "core hands out no socket");
            refusals::busy()
        }
    }
}

impl Shared {
    /// Tells core that a session is over.
    pub(super) async fn end(&self, session: &gateway::wire::doors::SessionId, why: EndReason) {
        if let Err(error) = self.doors.ask(DoorsAsk::End { session: session.clone(), why }).await {
            // Core hears from the record role and from the engineer's absence as well.
            tracing::warn!(%error, %session, "core was not told that a session is over");
        }
    }
}

/// The target, with what passes counted.
struct Counted {
    target: TcpStream,
    live: Arc<Live>,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counted {
    fn count(&self, counter: &AtomicU64, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        counter.fetch_add(bytes, Ordering::Relaxed);
        self.live.moved.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.target).poll_read(cx, buf);
        self.count(&self.received, buf.filled().len().saturating_sub(before));
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.target).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.count(&self.sent, *written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.target).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.target).poll_shutdown(cx)
    }
}
