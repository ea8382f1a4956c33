//! One peer's live part: its sessions, where it is, and what is taken from it.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use crate::datagram::INITIATION_BYTES;
use crate::{DropReason, PeerConfig};

/// Packets that wait for a handshake; the rest is dropped, so that nobody fills memory by sending to peers that are away.
const MAX_WAITING: usize = 32;

/// Where a peer was last heard, and at which of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) remote: SocketAddr,
    /// Answers leave from the address that was spoken to: a gateway has several.
    pub(crate) local: Option<IpAddr>,
}

/// The protocol core of one peer.
pub(crate) struct Link {
    tunn: Box<Tunn>,
    endpoint: Option<Endpoint>,
    waiting: usize,
}

/// What became of a message of a peer.
#[derive(Debug)]
pub(crate) enum Opened<'a> {
    /// Nothing more to do.
    Nothing,
    /// This is to be sent to where the message came from.
    Answer(&'a [u8]),
    /// A packet, of so many bytes at the beginning of the buffer, and its source address.
    Packet(usize, IpAddr),
}

impl Link {
    /// Begins without a session.
    pub(crate) fn new(secret: x25519::StaticSecret, config: &PeerConfig, index: u32) -> Self {
        let preshared = config.preshared_key.as_ref().map(|key| *key.expose_bytes());
        // Handshakes are admitted before they come here, so the core's own limit never strikes.
        let limiter = crate::admission::never_under_load(&x25519::PublicKey::from(&secret));
        let point = config.public_key.point();
        let tunn = Tunn::new(secret, point, preshared, config.keepalive_s, index, Some(limiter));
        let endpoint = config.endpoint.map(|remote| Endpoint { remote, local: None });
        Self { tunn: Box::new(tunn), endpoint, waiting: 0 }
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    /// Goes where the configuration says that the peer is now.
    pub(crate) fn move_to(&mut self, remote: SocketAddr) {
        self.endpoint = Some(Endpoint { remote, local: None });
    }

    /// Follows the peer to where it last sent something authentic from (whitepaper, section 2.1).
    fn follow(&mut self, from: Endpoint) {
        if self.endpoint != Some(from) {
            self.endpoint = Some(from);
        }
    }

    /// When the session in use began.
    pub(crate) fn session_since(&self, now: SystemTime) -> Option<SystemTime> {
        now.checked_sub(self.tunn.time_since_last_handshake()?)
    }

    /// Says whether there is a session; it asks the clock, so not for each packet.
    pub(crate) fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    /// Encrypts a packet into a buffer that is at least [`crate::runs::Packer::room`] for it. Without a session the packet
    /// waits, and what is to be sent is a handshake.
    /// # Errors
    /// Gives the reason to drop the packet.
    pub(crate) fn seal(
        &mut self,
        packet: &[u8],
        buffer: &mut [u8],
        has_session: bool,
    ) -> Result<Option<(usize, Endpoint)>, DropReason> {
        let endpoint = self.endpoint.ok_or(DropReason::NoEndpoint)?;
        if has_session {
            self.waiting = 0;
        } else if self.waiting >= MAX_WAITING {
            return Err(DropReason::QueueFull);
        } else {
            self.waiting += 1;
        }
        match self.tunn.encapsulate(packet, buffer) {
            TunnResult::WriteToNetwork(message) => Ok(Some((message.len(), endpoint))),
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => Ok(None),
            TunnResult::Err(error) => Err(DropReason::of(&error)),
        }
    }

    /// Opens a message into a buffer that is at least as long, and follows the peer when it is authentic.
    /// # Errors
    /// Gives the reason to drop the message.
    pub(crate) fn open<'a>(
        &mut self,
        message: &[u8],
        from: Endpoint,
        buffer: &'a mut [u8],
    ) -> Result<Opened<'a>, DropReason> {
        // An empty message means something else to the core.
        if message.is_empty() || buffer.len() < message.len().max(INITIATION_BYTES) {
            return Err(DropReason::Malformed);
        }
        match self.tunn.decapsulate(Some(from.remote.ip()), message, buffer) {
            TunnResult::Done => {
                self.follow(from);
                Ok(Opened::Nothing)
            }
            TunnResult::WriteToNetwork(answer) => {
                self.follow(from);
                Ok(Opened::Answer(answer))
            }
            TunnResult::WriteToTunnelV4(packet, source) => {
                self.follow(from);
                Ok(Opened::Packet(packet.len(), source.into()))
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                self.follow(from);
                Ok(Opened::Packet(packet.len(), source.into()))
            }
            TunnResult::Err(error) => Err(DropReason::of(&error)),
        }
    }

    /// Takes a cookie. Whoever overheard our handshake can send it again from elsewhere, so the peer is not followed there.
    /// # Errors
    /// Gives the reason to drop the message.
    pub(crate) fn take_cookie(&mut self, message: &[u8], buffer: &mut [u8]) -> Result<(), DropReason> {
        match self.tunn.decapsulate(None, message, buffer) {
            TunnResult::Err(error) => Err(DropReason::of(&error)),
            _ => Ok(()),
        }
    }

    /// Takes the next packet that waited for the session, encrypted.
    pub(crate) fn next_waiting(&mut self, buffer: &mut [u8]) -> Option<(usize, Endpoint)> {
        let endpoint = self.endpoint?;
        if self.waiting == 0 || !self.has_session() {
            return None;
        }
        match self.tunn.decapsulate(None, &[], buffer) {
            TunnResult::WriteToNetwork(message) => Some((message.len(), endpoint)),
            _ => {
                self.waiting = 0;
                None
            }
        }
    }

    /// Does what time demands: a handshake again, a new key, a sign of life, keys forgotten.
    pub(crate) fn tick(&mut self, buffer: &mut [u8]) -> Option<(usize, Endpoint)> {
        match self.tunn.update_timers(buffer) {
            TunnResult::WriteToNetwork(message) => self.endpoint.map(|endpoint| (message.len(), endpoint)),
            TunnResult::Err(_) => {
                // The core has given up and forgotten what waited.
                self.waiting = 0;
                None
            }
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => None,
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tunn: _, endpoint, waiting } = self;
        f.debug_struct("Link").field("endpoint", endpoint).field("waiting", waiting).finish_non_exhaustive()
    }
}
