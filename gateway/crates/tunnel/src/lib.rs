//! WireGuard as a gateway needs it: peers from a policy, each held to its own addresses, gone at once when taken away.
//!
//! Contract: a packet leaves the tunnel only when it came authenticated from a peer that is configured, has not expired
//! and owns the packet's source address; everything else is dropped and counted with its reason. Peers never reach one
//! another here: whatever comes out of the tunnel goes to the kernel, whose rules decide.
//!
//! The protocol (whitepaper "WireGuard: Next Generation Kernel Network Tunnel", revision of June 2020) is boringtun's;
//! this crate adds what a data path needs around it: segmentation offloads on both sides, admission of handshakes,
//! cryptokey routing, expiry and counters.

mod admission;
mod config;
mod counters;
mod datagram;
pub mod device;
mod engine;
mod error;
#[cfg(feature = "hand")]
pub mod hand;
mod kernel;
mod key;
mod link;
pub mod offload;
mod peers;
mod runs;
mod socket;

pub use config::{Config, MAX_PEERS, PeerConfig};
pub use counters::{DropReason, PeerCounts, PeerStats, Stats};
pub use datagram::{Message, classify};
pub use engine::UserSpace;
pub use error::TunnelError;
pub use kernel::Kernel;
pub use key::{PresharedKey, PrivateKey, PublicKey};
pub use runs::{Packer, Run};

/// Says which WireGuard does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The data path of this crate.
    UserSpace,
    /// The kernel's own.
    Kernel,
}

/// A running WireGuard interface.
pub trait Tunnel: Send + Sync {
    /// Says which WireGuard this is.
    fn backend(&self) -> Backend;

    /// Puts this configuration in the place of the one before; when it returns, a peer that is gone from it is gone with
    /// its session, and no packet of it is under way.
    /// # Errors
    /// Refuses a configuration that cannot be carried out, and then changes nothing.
    fn configure(&self, config: &Config) -> Result<(), TunnelError>;

    /// Counts what has happened so far.
    /// # Errors
    /// Fails when the tunnel has stopped.
    fn stats(&self) -> Result<Stats, TunnelError>;

    /// Stops the tunnel and waits until nothing of it runs.
    /// # Errors
    /// Fails when a part of it had already failed.
    fn close(self: Box<Self>) -> Result<(), TunnelError>;
}
