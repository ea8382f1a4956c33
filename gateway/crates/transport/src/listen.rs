//! The gateway's listener: QUIC and TLS over TCP on one port number; what it hands out has finished a handshake and is on
//! the list. Strangers cost little: bounded handshakes, bounded time, bounded tries per address, and an address counts for
//! what it did only once it is proved.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;
use yamux::Mode;

use crate::channel::Channel;
use crate::credentials::{Credentials, CredentialsError};
use crate::guests::{GuestList, INTERMEDIATES_MAX};
use crate::key::KeyId;
use crate::limits::{Addresses, Counters, HANDSHAKE_WAIT, HANDSHAKES_MAX, Place, Places};
use crate::tls::{self, ALPN, Shown};
use crate::{mux, quic, sockets};

/// Arrivals that wait to be taken.
const ARRIVALS_MAX: usize = 8;
/// How long to wait when no connection can be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on `{address}`: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key that finished the handshake.
    pub key_id: KeyId,
    /// That key (SubjectPublicKeyInfo, DER).
    pub spki: Vec<u8>,
    /// The certificate that it showed.
    pub certificate: CertificateDer<'static>,
    /// What came along with it.
    pub intermediates: Vec<CertificateDer<'static>>,
}

/// Somebody who finished a handshake.
#[derive(Debug)]
pub struct Arrival {
    /// The channel.
    pub channel: Channel,
    /// Who.
    pub identity: Identity,
    /// The place taken among the channels that may be; to be held as long as the channel.
    pub place: Place,
}

/// The listener. Dropping it ends both sockets; channels live on.
#[derive(Debug)]
pub struct Listener {
    arrivals: mpsc::Receiver<Arrival>,
    shown: Arc<Shown>,
    counters: Arc<Counters>,
    address: SocketAddr,
    tasks: [AbortHandle; 2],
}

#[derive(Clone, Debug)]
struct Door {
    arrivals: mpsc::Sender<Arrival>,
    handshakes: Arc<Semaphore>,
    places: Places,
    addresses: Addresses,
    counters: Arc<Counters>,
}

impl Listener {
    /// Listens on UDP and TCP; must be called inside the runtime.
    ///
    /// # Errors
    /// When an address cannot be had or the credentials cannot be used.
    pub fn bind(
        address: SocketAddr,
        credentials: &Credentials,
        guests: &GuestList,
    ) -> Result<Self, ListenError> {
        let broken = |source| ListenError::Bind { address, source };
        let shown = Arc::new(Shown::new(credentials)?);
        let (udp, tcp) = sockets::both(address).map_err(broken)?;
        let local = tcp.local_addr().map_err(broken)?;
        let config = tls::server(Arc::clone(&shown), guests.clone())?;
        let endpoint = quic::listen(udp, config.clone()).map_err(broken)?;
        let tcp = TcpListener::from_std(tcp).map_err(broken)?;
        let (send, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let counters = Arc::new(Counters::default());
        let door = Door {
            arrivals: send,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            places: Places::default(),
            addresses: Addresses::default(),
            counters: Arc::clone(&counters),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let quic = tokio::spawn(serve_quic(endpoint, door.clone())).abort_handle();
        let tcp = tokio::spawn(serve_tcp(tcp, acceptor, door)).abort_handle();
        Ok(Listener { arrivals, shown, counters, address: local, tasks: [quic, tcp] })
    }

    /// The next who finished a handshake; `None` when both sockets are gone.
    pub async fn accept(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    /// When the credentials cannot be used; the former ones stay.
    pub fn renew(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        self.shown.replace(credentials)
    }

    /// What happened at the door.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn serve_quic(endpoint: quinn::Endpoint, door: Door) {
    while let Some(incoming) = endpoint.accept().await {
        // A sender can be invented (RFC 9000, 8.1): before anything is charged to an address it has to answer from there.
        // Nothing is kept of it until then, and the answer is shorter than what it answers.
        if !incoming.remote_address_validated() {
            Counters::count(&door.counters.retried);
            // Fails only for a peer that has proved its address, which was asked above.
            drop(incoming.retry());
            continue;
        }
        let turn = door.addresses.admit(incoming.remote_address().ip(), Instant::now());
        let place = Arc::clone(&door.handshakes).try_acquire_owned();
        let (Some(turn), Ok(place)) = (turn, place) else {
            Counters::count(&door.counters.limited);
            incoming.ignore();
            continue;
        };
        let door = door.clone();
        tokio::spawn(async move {
            let outcome = timeout(HANDSHAKE_WAIT, shake_quic(incoming)).await;
            drop((turn, place));
            door.conclude(outcome).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, acceptor: TlsAcceptor, door: Door) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let turn = door.addresses.admit(remote.ip(), Instant::now());
        let place = Arc::clone(&door.handshakes).try_acquire_owned();
        let (Some(turn), Ok(place)) = (turn, place) else {
            Counters::count(&door.counters.limited);
            continue;
        };
        let (door, acceptor) = (door.clone(), acceptor.clone());
        tokio::spawn(async move {
            let outcome = timeout(HANDSHAKE_WAIT, shake_tcp(stream, remote, acceptor)).await;
            drop((turn, place));
            door.conclude(outcome).await;
        });
    }
}

async fn shake_quic(incoming: quinn::Incoming) -> Result<(Channel, Identity), String> {
    let connection = incoming.accept().map_err(words)?.await.map_err(words)?;
    let shown =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let identity = identity(shown.as_deref().map(Vec::as_slice))?;
    Ok((Channel::quic(connection, None), identity))
}

async fn shake_tcp(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: TlsAcceptor,
) -> Result<(Channel, Identity), String> {
    sockets::tend(&stream).map_err(words)?;
    let stream = acceptor.accept(stream).await.map_err(words)?;
    let (_, session) = stream.get_ref();
    // QUIC insists on the protocol's name by itself; TLS lets a client off that names none.
    if session.alpn_protocol() != Some(ALPN) {
        return Err("the peer did not name the protocol".to_owned());
    }
    let identity = identity(session.peer_certificates())?;
    Ok((Channel::tcp(mux::Handle::start(stream, Mode::Server), remote), identity))
}

fn identity(shown: Option<&[CertificateDer<'static>]>) -> Result<Identity, String> {
    let (certificate, intermediates) =
        shown.and_then(<[_]>::split_first).ok_or("the peer showed no certificate")?;
    let intermediates = intermediates.iter().take(INTERMEDIATES_MAX).cloned().collect();
    let parsed = EndEntityCert::try_from(certificate).map_err(words)?;
    let spki = parsed.subject_public_key_info().to_vec();
    Ok(Identity { key_id: KeyId::of_spki(&spki), spki, certificate: certificate.clone(), intermediates })
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Door {
    async fn conclude(
        &self,
        outcome: Result<Result<(Channel, Identity), String>, tokio::time::error::Elapsed>,
    ) {
        let (channel, identity) = match outcome {
            Ok(Ok(arrived)) => arrived,
            Ok(Err(error)) => {
                Counters::count(&self.counters.refused);
                return tracing::debug!(%error, "a handshake came to nothing");
            }
            Err(_) => return Counters::count(&self.counters.slow),
        };
        let Some(place) = self.places.take(&identity.key_id, channel.carrier()) else {
            Counters::count(&self.counters.limited);
            return channel.close();
        };
        Counters::count(&self.counters.admitted);
        // The role is ending when nobody takes it.
        drop(self.arrivals.send(Arrival { channel, identity, place }).await);
    }
}
