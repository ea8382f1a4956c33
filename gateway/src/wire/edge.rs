//! What admins ask the edge role at `edge.sock`; what it measured is asked as of every role.

use std::net::SocketAddr;

use jiff::Timestamp;
use policy::services::VpnCarrier;
use serde::{Deserialize, Serialize};

/// What the edge role is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EdgeAsk {
    /// The VPN as it runs.
    Vpn {},
}

/// What the edge role answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeAnswer {
    /// The VPN as it runs; `None` when the policy has none.
    Vpn(Option<VpnStatus>),
}

/// The VPN as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnStatus {
    /// The gateway's WireGuard public key, base64.
    pub public_key: String,
    /// Whose WireGuard carries the packets.
    pub carrier: VpnCarrier,
    /// UDP port it listens on.
    pub listen_port: u16,
    /// Peers in the policy's order.
    pub peers: Vec<VpnPeerRow>,
}

/// A peer as it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpnPeerRow {
    /// Name in the policy.
    pub name: String,
    /// When it last finished a handshake, since the role started.
    pub handshake_at: Option<Timestamp>,
    /// Where its last authenticated packet came from.
    pub endpoint: Option<SocketAddr>,
    /// Bytes from the peer: of packets inside the tunnel, or, where the kernel carries, of the messages around them.
    pub received_bytes: u64,
    /// Bytes to the peer, likewise.
    pub sent_bytes: u64,
}
