//! Many streams on one TLS connection, by yamux: one task drives the connection, handles ask it for streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

use crate::channel::ChannelError;
use crate::limits::{MUX_WINDOW_BYTES_MAX, STREAMS_MAX};

/// Streams opened by the peer that nobody has taken yet: as many as there can be.
const INBOUND_MAX: usize = STREAMS_MAX;
/// Orders to the driver that wait.
const ORDERS_MAX: usize = 16;

type Reply = oneshot::Sender<Result<yamux::Stream, yamux::ConnectionError>>;

/// A hand on the driver; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    orders: mpsc::Sender<Reply>,
    inbound: Arc<Mutex<mpsc::Receiver<yamux::Stream>>>,
    close: Arc<watch::Sender<bool>>,
    over: watch::Receiver<bool>,
}

/// A stream; it keeps the connection alive.
pub(crate) struct MuxStream {
    stream: Compat<yamux::Stream>,
    _hold: mpsc::Sender<Reply>,
}

impl Handle {
    /// Begins to drive a connection.
    pub(crate) fn start<T>(socket: T, mode: Mode) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = Config::default();
        // The streams first: the window must have room for each one's first credit.
        config.set_max_num_streams(STREAMS_MAX).set_max_connection_receive_window(Some(MUX_WINDOW_BYTES_MAX));
        let connection = Connection::new(socket.compat(), config, mode);
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let (arrived, inbound) = mpsc::channel(INBOUND_MAX);
        let (close, closing) = watch::channel(false);
        let (done, over) = watch::channel(false);
        let driver = Driver { connection, orders: taken, arrived, waiting: None, is_closing: false };
        tokio::spawn(driver.run(closing, done));
        Handle { orders, inbound: Arc::new(Mutex::new(inbound)), close: Arc::new(close), over }
    }

    pub(crate) async fn open(&self) -> Result<MuxStream, ChannelError> {
        let (reply, stream) = oneshot::channel();
        self.orders.send(reply).await.map_err(|_| ChannelError::Closed)?;
        let stream = stream.await.map_err(|_| ChannelError::Closed)??;
        Ok(self.held(stream))
    }

    pub(crate) async fn accept(&self) -> Result<MuxStream, ChannelError> {
        let next = self.inbound.lock().await.recv().await;
        next.map(|stream| self.held(stream)).ok_or(ChannelError::Closed)
    }

    pub(crate) fn close(&self) {
        self.close.send_replace(true);
    }

    pub(crate) async fn closed(&self) {
        // An error means that the driver is gone, which is the same.
        let _ = self.over.clone().wait_for(|is_over| *is_over).await;
    }

    fn held(&self, stream: yamux::Stream) -> MuxStream {
        MuxStream { stream: stream.compat(), _hold: self.orders.clone() }
    }
}

struct Driver<T> {
    connection: Connection<Compat<T>>,
    orders: mpsc::Receiver<Reply>,
    arrived: mpsc::Sender<yamux::Stream>,
    waiting: Option<Reply>,
    is_closing: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    async fn run(mut self, mut closing: watch::Receiver<bool>, done: watch::Sender<bool>) {
        tokio::select! {
            () = poll_fn(|cx| self.poll(cx)) => {}
            // Closing in anger: what is on its way is not waited for.
            Ok(_) = closing.wait_for(|is_closing| *is_closing) => {}
        }
        drop(self);
        done.send_replace(true);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_order(cx);
            if self.is_closing {
                return self.connection.poll_close(cx).map(drop);
            }
            if self.open_waiting(cx) {
                continue;
            }
            match self.connection.poll_next_inbound(cx) {
                // One too many is dropped, which resets it: the peer opens faster than we take.
                Poll::Ready(Some(Ok(stream))) => drop(self.arrived.try_send(stream)),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "the multiplexed connection broke");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take_order(&mut self, cx: &mut Context<'_>) {
        if self.waiting.is_none() && !self.is_closing {
            match self.orders.poll_recv(cx) {
                Poll::Ready(Some(reply)) => self.waiting = Some(reply),
                Poll::Ready(None) => self.is_closing = true,
                Poll::Pending => {}
            }
        }
    }

    /// Whether a stream was opened, or could not be.
    fn open_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(reply) = self.waiting.take() else { return false };
        match self.connection.poll_new_outbound(cx) {
            // Whoever asked may be gone; then the stream is dropped.
            Poll::Ready(opened) => drop(reply.send(opened)),
            Poll::Pending => {
                self.waiting = Some(reply);
                return false;
            }
        }
        true
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
