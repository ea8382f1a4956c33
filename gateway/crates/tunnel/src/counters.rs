//! What is counted: per peer what passed, and per reason what did not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use boringtun::noise::errors::WireGuardError;

/// Says why something was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// A datagram that is no WireGuard message.
    Malformed,
    /// A handshake message whose sender does not know this gateway's public key.
    WrongMac,
    /// A handshake message under load, answered with a cookie.
    UnderLoad,
    /// A handshake message of a source that sends too many.
    SourceLimit,
    /// A handshake of a key that is no peer's.
    UnknownPeer,
    /// A message for a session that does not exist.
    UnknownSession,
    /// A handshake message that is not authentic or comes at the wrong time.
    Handshake,
    /// A handshake or data message that was seen before, or is too old to tell.
    Replay,
    /// A data message that is not authentic.
    NotAuthentic,
    /// What came out of a data message is no IP packet.
    InnerMalformed,
    /// A packet out of the tunnel whose source address is not its sender's.
    InnerSource,
    /// A packet into the tunnel that no peer owns the destination of.
    NoPeer,
    /// A packet for a peer that has not yet said where it is.
    NoEndpoint,
    /// A packet for a peer whose queue of packets waiting for a handshake is full.
    QueueFull,
    /// Something of a peer whose time is over.
    Expired,
    /// A datagram that the system did not send.
    NotSent,
    /// A packet that the tunnel device did not take, or gave in a form that cannot be read.
    Device,
}

impl DropReason {
    /// Every reason, in order.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::WrongMac,
        Self::UnderLoad,
        Self::SourceLimit,
        Self::UnknownPeer,
        Self::UnknownSession,
        Self::Handshake,
        Self::Replay,
        Self::NotAuthentic,
        Self::InnerMalformed,
        Self::InnerSource,
        Self::NoPeer,
        Self::NoEndpoint,
        Self::QueueFull,
        Self::Expired,
        Self::NotSent,
        Self::Device,
    ];

    /// Gives the reason's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongMac => "wrong-mac",
            Self::UnderLoad => "under-load",
            Self::SourceLimit => "source-limit",
            Self::UnknownPeer => "unknown-peer",
            Self::UnknownSession => "unknown-session",
            Self::Handshake => "handshake",
            Self::Replay => "replay",
            Self::NotAuthentic => "not-authentic",
            Self::InnerMalformed => "inner-malformed",
            Self::InnerSource => "inner-source",
            Self::NoPeer => "no-peer",
            Self::NoEndpoint => "no-endpoint",
            Self::QueueFull => "queue-full",
            Self::Expired => "expired",
            Self::NotSent => "not-sent",
            Self::Device => "device",
        }
    }

    /// Says what a refusal of the protocol core means here.
    pub(crate) fn of(error: &WireGuardError) -> Self {
        match error {
            WireGuardError::InvalidCounter
            | WireGuardError::DuplicateCounter
            | WireGuardError::WrongTai64nTimestamp => Self::Replay,
            WireGuardError::InvalidAeadTag => Self::NotAuthentic,
            WireGuardError::WrongIndex | WireGuardError::NoCurrentSession => Self::UnknownSession,
            WireGuardError::InvalidMac => Self::WrongMac,
            WireGuardError::UnderLoad => Self::UnderLoad,
            WireGuardError::InvalidPacket => Self::InnerMalformed,
            WireGuardError::DestinationBufferTooSmall
            | WireGuardError::IncorrectPacketLength
            | WireGuardError::UnexpectedPacket
            | WireGuardError::WrongPacketType
            | WireGuardError::WrongKey
            | WireGuardError::InvalidTai64nTimestamp
            | WireGuardError::LockFailed
            | WireGuardError::ConnectionExpired => Self::Handshake,
        }
    }
}

/// Counts what was dropped, by reason.
#[derive(Debug, Default)]
pub(crate) struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Drops {
    pub(crate) fn count(&self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    pub(crate) fn count_many(&self, reason: DropReason, how_many: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(how_many, Relaxed);
        }
    }

    fn read(&self) -> BTreeMap<DropReason, u64> {
        DropReason::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(reason, count)| (reason, count.load(Relaxed)))
            .collect()
    }
}

/// Counts what passed of one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerCounters {
    pub(crate) received_packets: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_packets: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) drops: Drops,
}

/// What has happened with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Bytes that came: of the packets inside, or, by the kernel's count, of its messages outside.
    pub received_bytes: u64,
    /// Bytes that went, likewise.
    pub sent_bytes: u64,
    /// When the session that is in use began; none is in use when the peer's time is over.
    pub last_handshake: Option<SystemTime>,
    /// Where the peer was last heard.
    pub endpoint: Option<SocketAddr>,
    /// What only the data path of this crate counts.
    pub counted: Option<PeerCounts>,
}

/// What has happened with one peer, packet by packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCounts {
    /// Packets that came out of the tunnel.
    pub received_packets: u64,
    /// Packets that went into the tunnel.
    pub sent_packets: u64,
    /// Handshakes that were accepted.
    pub handshakes: u64,
    /// What was dropped of it, by reason.
    pub drops: BTreeMap<DropReason, u64>,
}

impl PeerCounters {
    pub(crate) fn read(&self, last_handshake: Option<SystemTime>, endpoint: Option<SocketAddr>) -> PeerStats {
        let counted = PeerCounts {
            received_packets: self.received_packets.load(Relaxed),
            sent_packets: self.sent_packets.load(Relaxed),
            handshakes: self.handshakes.load(Relaxed),
            drops: self.drops.read(),
        };
        PeerStats {
            received_bytes: self.received_bytes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            last_handshake,
            endpoint,
            counted: Some(counted),
        }
    }
}

/// What has happened with a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// By peer name.
    pub peers: BTreeMap<String, PeerStats>,
    /// What was dropped that belongs to no peer, by reason.
    pub drops: BTreeMap<DropReason, u64>,
}

impl Stats {
    pub(crate) fn new(drops: &Drops) -> Self {
        Self { peers: BTreeMap::new(), drops: drops.read() }
    }

    /// Adds up what was dropped for a reason, of peers and of nobody.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let counted = self.peers.values().filter_map(|peer| peer.counted.as_ref());
        let of_peers = counted.map(|counted| &counted.drops);
        of_peers.chain([&self.drops]).filter_map(|drops| drops.get(&reason)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let drops = Drops::default();
        for (times, reason) in (1..).zip(DropReason::ALL) {
            drops.count_many(reason, times);
        }
        let counted: Vec<u64> = drops.read().into_values().collect();
        assert_eq!(counted, (1..=DropReason::ALL.len() as u64).collect::<Vec<_>>());
    }
}
