//! QUIC endpoints (RFC 9000) on quinn: both sides' settings. 0-RTT is off, streams are bidirectional only, no datagrams.

use std::net::UdpSocket;
use std::sync::Arc;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};

use crate::limits::{
    HANDSHAKES_MAX, IDLE_MAX, KEEP_ALIVE, STREAM_WINDOW_BYTES, STREAMS_MAX, WINDOW_BYTES_MAX,
};

/// Bytes kept of a connection attempt that is not yet looked at.
const INCOMING_BYTES: u64 = 16 << 10;

/// The gateway's endpoint on a bound socket.
pub(crate) fn listen(socket: UdpSocket, tls: rustls::ServerConfig) -> std::io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(no_suite)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * HANDSHAKES_MAX as u64)
        .migration(true);
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// An endpoint that only goes out.
pub(crate) fn outgoing(socket: UdpSocket, tls: rustls::ClientConfig) -> std::io::Result<Endpoint> {
    let crypto = QuicClientConfig::try_from(tls).map_err(no_suite)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport();
    transport.keep_alive_interval(Some(KEEP_ALIVE)).max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

fn transport() -> TransportConfig {
    let streams = u32::try_from(STREAMS_MAX).map_or(VarInt::from_u32(1), VarInt::from_u32);
    let window = u32::try_from(WINDOW_BYTES_MAX).map_or(VarInt::MAX, VarInt::from_u32);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(streams)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(window)
        .send_window(u64::from(STREAM_WINDOW_BYTES))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok())
        // Both ends are ours: fewer acknowledgements are the cheapest speed there is.
        .ack_frequency_config(Some(AckFrequencyConfig::default()))
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    transport
}

fn no_suite(error: NoInitialCipherSuite) -> std::io::Error {
    std::io::Error::other(error)
}
