//! The vendor's side: one channel to the gateway, over QUIC, or over TCP where UDP does not pass.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use yamux::Mode;

use crate::channel::{Carrier, Channel};
use crate::credentials::Credentials;
use crate::limits::HANDSHAKE_WAIT;
use crate::pin::{Pin, SERVER_NAME};
use crate::tls::{self, ALPN};
use crate::{mux, quic, sockets};

/// How long QUIC may take before TCP is tried beside it: UDP that is dropped says nothing.
const QUIC_WAIT: Duration = Duration::from_secs(4);

/// Which transport to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// QUIC, and TCP when that does not come through.
    Auto,
    /// This one only.
    Only(Carrier),
}

/// Why there is no channel.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody answered.
    #[error("the gateway does not answer at `{address}` ({}): is the address right, does a firewall block UDP and TCP?", carrier.word())]
    Silent {
        /// Where.
        address: SocketAddr,
        /// Over what.
        carrier: Carrier,
    },
    /// The way is broken.
    #[error("cannot reach the gateway at `{address}` ({}): {source}", carrier.word())]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Over what.
        carrier: Carrier,
        /// Why.
        source: io::Error,
    },
    /// The gateway is not the one that the certificate or invitation names, or it refuses this key.
    #[error("the handshake with `{address}` failed ({}): {reason}", carrier.word())]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Over what.
        carrier: Carrier,
        /// What TLS says.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS with this key and certificate: {0}")]
    Tls(#[from] rustls::Error),
}

impl DialError {
    /// Whether another transport may do better: a refusal is the same over both.
    const fn is_about_the_way(&self) -> bool {
        matches!(self, DialError::Silent { .. } | DialError::Unreachable { .. })
    }
}

/// A channel to the gateway.
#[derive(Debug)]
pub struct Dialled {
    /// The channel.
    pub channel: Channel,
    /// The authority that signed what the gateway showed, to be kept after an enrolment.
    pub authority: CertificateDer<'static>,
}

/// Connects.
///
/// # Errors
/// When no wished transport comes through, or the gateway is another one, or it refuses this key.
pub async fn dial(
    address: SocketAddr,
    credentials: &Credentials,
    pin: &Pin,
    wish: Wish,
) -> Result<Dialled, DialError> {
    let config = tls::client(credentials, pin.clone())?;
    match wish {
        Wish::Only(Carrier::Quic) => by_quic(address, config, pin, HANDSHAKE_WAIT).await,
        Wish::Only(Carrier::Tcp) => by_tcp(address, config, pin).await,
        Wish::Auto => match by_quic(address, config.clone(), pin, QUIC_WAIT).await {
            Err(error) if error.is_about_the_way() => {
                tracing::debug!(%error, "trying TCP");
                by_tcp(address, config, pin).await
            }
            other => other,
        },
    }
}

async fn by_quic(
    address: SocketAddr,
    config: rustls::ClientConfig,
    pin: &Pin,
    wait: Duration,
) -> Result<Dialled, DialError> {
    let carrier = Carrier::Quic;
    let unreachable = |source| DialError::Unreachable { address, carrier, source };
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = sockets::udp(SocketAddr::new(any, 0)).map_err(unreachable)?;
    let endpoint = quic::outgoing(socket, config).map_err(unreachable)?;
    let failed =
        |error: &dyn std::fmt::Display| DialError::Handshake { address, carrier, reason: error.to_string() };
    let connecting = endpoint.connect(address, SERVER_NAME).map_err(|error| failed(&error))?;
    let connection = match timeout(wait, connecting).await {
        Err(_) | Ok(Err(quinn::ConnectionError::TimedOut)) => {
            return Err(DialError::Silent { address, carrier });
        }
        Ok(Err(error)) => return Err(failed(&error)),
        Ok(Ok(connection)) => connection,
    };
    let shown =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let authority = shown.and_then(|shown| pin.authority(&shown)).ok_or_else(|| failed(&"no certificate"))?;
    Ok(Dialled { channel: Channel::quic(connection, Some(endpoint)), authority })
}

async fn by_tcp(address: SocketAddr, config: rustls::ClientConfig, pin: &Pin) -> Result<Dialled, DialError> {
    let carrier = Carrier::Tcp;
    let silent = || DialError::Silent { address, carrier };
    let unreachable = |source| DialError::Unreachable { address, carrier, source };
    let failed =
        |error: &dyn std::fmt::Display| DialError::Handshake { address, carrier, reason: error.to_string() };
    let stream = timeout(HANDSHAKE_WAIT, TcpStream::connect(address)).await.map_err(|_| silent())?;
    let stream = stream.map_err(unreachable)?;
    sockets::tend(&stream).map_err(unreachable)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| failed(&error))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = timeout(HANDSHAKE_WAIT, connecting).await.map_err(|_| silent())?;
    let stream = stream.map_err(|error| failed(&error))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return Err(failed(&"the gateway does not name the protocol"));
    }
    let authority = session.peer_certificates().and_then(|shown| pin.authority(shown));
    let authority = authority.ok_or_else(|| failed(&"no certificate"))?;
    Ok(Dialled { channel: Channel::tcp(mux::Handle::start(stream, Mode::Client), address), authority })
}
