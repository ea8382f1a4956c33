//! A channel: one authenticated connection that carries many streams both ways, over QUIC (RFC 9000) or, where UDP is
//! blocked, over TLS on TCP with yamux as multiplexer. Callers do not see which.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::mux;

/// How long telling the peer of the end may take.
const FINISH_WAIT: Duration = Duration::from_secs(1);

/// What carries a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

impl Carrier {
    /// The word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Carrier::Quic => "quic",
            Carrier::Tcp => "tcp",
        }
    }
}

/// The channel is over, or cannot take another stream.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// QUIC says so.
    #[error("the connection is over: {0}")]
    Quic(#[from] quinn::ConnectionError),
    /// The multiplexer says so.
    #[error("the connection is over: {0}")]
    Mux(#[from] yamux::ConnectionError),
    /// It was closed on this side, or by the peer.
    #[error("the connection is closed")]
    Closed,
}

/// A channel; clones share the connection. When the last clone and the last stream are gone, it closes.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: Inner,
    remote: SocketAddr,
}

#[derive(Clone, Debug)]
enum Inner {
    /// With the endpoint, where it serves this connection alone.
    Quic(quinn::Connection, Option<quinn::Endpoint>),
    Tcp(mux::Handle),
}

impl Channel {
    pub(crate) fn quic(connection: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Self {
        Channel { remote: connection.remote_address(), inner: Inner::Quic(connection, endpoint) }
    }

    pub(crate) fn tcp(handle: mux::Handle, remote: SocketAddr) -> Self {
        Channel { inner: Inner::Tcp(handle), remote }
    }

    /// Opens a stream. The peer learns of it with the first bytes.
    ///
    /// # Errors
    /// When the channel is over.
    pub async fn open(&self) -> Result<Stream, ChannelError> {
        match &self.inner {
            Inner::Quic(connection, _) => {
                let (send, receive) = connection.open_bi().await?;
                Ok(Stream(StreamInner::Quic { send, receive }))
            }
            Inner::Tcp(handle) => Ok(Stream(StreamInner::Tcp(handle.open().await?))),
        }
    }

    /// The next stream that the peer opens.
    ///
    /// # Errors
    /// When the channel is over.
    pub async fn accept(&self) -> Result<Stream, ChannelError> {
        match &self.inner {
            Inner::Quic(connection, _) => {
                let (send, receive) = connection.accept_bi().await?;
                Ok(Stream(StreamInner::Quic { send, receive }))
            }
            Inner::Tcp(handle) => Ok(Stream(StreamInner::Tcp(handle.accept().await?))),
        }
    }

    /// Ends the channel and everything on it, now.
    pub fn close(&self) {
        match &self.inner {
            Inner::Quic(connection, _) => connection.close(0u32.into(), b""),
            Inner::Tcp(handle) => handle.close(),
        }
    }

    /// Ends the channel, and waits a moment until the peer has been told: for a program that ends next.
    pub async fn finish(&self) {
        self.close();
        let told = async {
            match &self.inner {
                Inner::Quic(_, Some(endpoint)) => endpoint.wait_idle().await,
                Inner::Quic(..) | Inner::Tcp(_) => self.closed().await,
            }
        };
        // Not told in time, the peer hears it from the silence.
        drop(timeout(FINISH_WAIT, told).await);
    }

    /// Waits until the channel is over.
    pub async fn closed(&self) {
        match &self.inner {
            Inner::Quic(connection, _) => drop(connection.closed().await),
            Inner::Tcp(handle) => handle.closed().await,
        }
    }

    /// What carries it.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        match &self.inner {
            Inner::Quic(..) => Carrier::Quic,
            Inner::Tcp(_) => Carrier::Tcp,
        }
    }

    /// Where the peer is; over QUIC that may change while the channel lives.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        match &self.inner {
            Inner::Quic(connection, _) => connection.remote_address(),
            Inner::Tcp(_) => self.remote,
        }
    }
}

/// A stream of bytes both ways. Shutting down the writing side is told to the peer; dropping the stream ends it.
pub struct Stream(StreamInner);

enum StreamInner {
    Quic { send: quinn::SendStream, receive: quinn::RecvStream },
    Tcp(mux::MuxStream),
}

impl Stream {
    /// Ends the stream as broken. Over QUIC the peer reads an error; yamux knows no error for readers, so over TCP the peer
    /// reads the end: what must be whole says its length first.
    pub fn reset(self) {
        match self.0 {
            StreamInner::Quic { mut send, mut receive } => {
                // A stream that is closed already needs neither.
                let _ = send.reset(1u32.into());
                let _ = receive.stop(1u32.into());
            }
            // The multiplexer resets what is dropped before it was closed.
            StreamInner::Tcp(stream) => drop(stream),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carrier = match &self.0 {
            StreamInner::Quic { .. } => Carrier::Quic,
            StreamInner::Tcp(_) => Carrier::Tcp,
        };
        write!(formatter, "Stream({})", carrier.word())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamInner::Quic { receive, .. } => AsyncRead::poll_read(Pin::new(receive), cx, buf),
            StreamInner::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            StreamInner::Quic { send, .. } => AsyncWrite::poll_write(Pin::new(send), cx, bytes),
            StreamInner::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamInner::Quic { send, .. } => AsyncWrite::poll_flush(Pin::new(send), cx),
            StreamInner::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamInner::Quic { send, .. } => AsyncWrite::poll_shutdown(Pin::new(send), cx),
            StreamInner::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
