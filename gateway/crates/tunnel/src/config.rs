//! What a tunnel shall be: its key, its port and its peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::{PresharedKey, PrivateKey, PublicKey, TunnelError};

/// How many peers one tunnel holds at most.
pub const MAX_PEERS: usize = 1024;

/// Describes a tunnel.
#[derive(Clone, Debug)]
pub struct Config {
    /// This end's key.
    pub private_key: PrivateKey,
    /// The UDP port, 0 for any.
    pub listen_port: u16,
    /// Who may come in.
    pub peers: Vec<PeerConfig>,
}

/// Describes one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// What the policy calls it.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
    /// A secret shared besides the keys.
    pub preshared_key: Option<PresharedKey>,
    /// The addresses that are its own inside the tunnel; where two peers' networks nest, the longer prefix wins.
    pub allowed_ips: Vec<IpNet>,
    /// Where it is reached, if that is known before it first speaks.
    pub endpoint: Option<SocketAddr>,
    /// How often something is sent even when there is nothing to say.
    pub keepalive_s: Option<u16>,
    /// When it ends: from this instant on nothing of it passes in either direction.
    pub until: Option<SystemTime>,
}

impl Config {
    /// Looks for what cannot be carried out.
    pub(crate) fn check(&self) -> Result<(), TunnelError> {
        if self.peers.len() > MAX_PEERS {
            return Err(TunnelError::TooManyPeers { count: self.peers.len(), limit: MAX_PEERS });
        }
        let (mut names, mut keys, mut networks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for peer in &self.peers {
            let name = peer.name.as_str();
            only(names.insert(name, name), name, "name")?;
            only(keys.insert(peer.public_key, name), name, "key")?;
            for network in &peer.allowed_ips {
                only(networks.insert(network.trunc(), name).filter(|first| *first != name), name, "network")?;
            }
        }
        Ok(())
    }
}

fn only(before: Option<&str>, second: &str, what: &'static str) -> Result<(), TunnelError> {
    before.map_or(Ok(()), |first| {
        Err(TunnelError::Conflict { first: first.into(), second: second.into(), what })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, key: u8, network: &str) -> PeerConfig {
        PeerConfig {
            name: name.into(),
            public_key: PublicKey::from_bytes([key; 32]),
            preshared_key: None,
            allowed_ips: vec![network.parse().unwrap()],
            endpoint: None,
            keepalive_s: None,
            until: None,
        }
    }

    fn checked(peers: Vec<PeerConfig>) -> Result<(), String> {
        let config = Config { private_key: PrivateKey::from_bytes([1; 32]), listen_port: 0, peers };
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_only_one_peer_can_have_is_refused_for_two() {
        let first = || peer("a", 1, "10.9.0.2/32");
        assert_eq!(checked(vec![first(), peer("b", 2, "10.9.0.0/24")]), Ok(()), "nesting is routing");
        let conflict = |second| checked(vec![first(), second]).unwrap_err();
        assert!(conflict(peer("a", 2, "10.9.0.3/32")).contains("same name"));
        assert!(conflict(peer("b", 1, "10.9.0.3/32")).contains("same key"));
        assert!(conflict(peer("b", 2, "10.9.0.2/32")).contains("same network"));
        let many = (0..=MAX_PEERS).map(|_| first()).collect();
        assert!(checked(many).unwrap_err().contains("1025 peers"));
    }
}
