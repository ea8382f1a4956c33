//! What somebody else changed on the kernel's interface, found by reading it and put back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardPeer, WireguardPeerAttribute,
};
use zeroize::Zeroize as _;

use super::{NO_KEY, State};
use crate::{PeerConfig, PresharedKey, PublicKey, TunnelError};

/// A difference between what was configured and what the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Drift {
    Key,
    Port(u16),
    Mark(u32),
    Foreign(PublicKey),
    Missing(PublicKey),
    Changed(PublicKey),
    Secret(PublicKey),
}

/// What the kernel has, as far as it is not the packets' to say: a peer's endpoint is wherever it was last heard.
#[derive(Default)]
struct Held {
    public_key: Option<PublicKey>,
    port: u16,
    mark: u32,
    peers: BTreeMap<PublicKey, HeldPeer>,
}

#[derive(Default)]
struct HeldPeer {
    allowed_ips: BTreeSet<IpNet>,
    preshared_key: Option<PresharedKey>,
    keepalive_s: u16,
}

impl State {
    /// Puts back what somebody else changed since the last change of ours, reads back, and says what it was.
    pub(super) fn restore(&mut self) -> Result<Vec<String>, TunnelError> {
        let found = self.drifts()?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let words = found.iter().map(|drift| self.words(drift)).collect();
        self.put_back(&found)?;
        match self.drifts()?.first() {
            Some(left) => Err(TunnelError::Drift { what: self.words(left) }),
            None => Ok(words),
        }
    }

    fn drifts(&mut self) -> Result<Vec<Drift>, TunnelError> {
        let port = self.listen_port;
        let held = Held::of(self.read()?);
        let mut found = Vec::new();
        found.extend((held.public_key != Some(self.config.private_key.public())).then_some(Drift::Key));
        found.extend((held.port != port).then_some(Drift::Port(held.port)));
        found.extend((held.mark != 0).then_some(Drift::Mark(held.mark)));
        // Who is foreign goes first: he may have another's addresses.
        let foreign = held.peers.keys().filter(|key| !self.present.contains_key(key));
        found.extend(foreign.map(|key| Drift::Foreign(*key)));
        for (key, peer) in &self.present {
            match held.peers.get(key) {
                None => found.push(Drift::Missing(*key)),
                Some(held) if held.preshared_key != peer.preshared_key => found.push(Drift::Secret(*key)),
                Some(held) if !held.is(peer) => found.push(Drift::Changed(*key)),
                Some(_) => {}
            }
        }
        Ok(found)
    }

    fn put_back(&mut self, found: &[Drift]) -> Result<(), TunnelError> {
        for drift in found {
            match drift {
                Drift::Key => {
                    let key = *self.config.private_key.expose_bytes();
                    self.set(vec![WireguardAttribute::PrivateKey(key)])?;
                }
                Drift::Port(_) => self.set(vec![WireguardAttribute::ListenPort(self.listen_port)])?,
                Drift::Mark(_) => self.set(vec![WireguardAttribute::Fwmark(0)])?,
                Drift::Foreign(key) => self.remove(*key)?,
                Drift::Missing(key) | Drift::Changed(key) => self.put_again(*key)?,
                Drift::Secret(key) => {
                    // What was agreed on with another secret ends.
                    self.remove(*key)?;
                    self.put_again(*key)?;
                }
            }
        }
        Ok(())
    }

    fn put_again(&mut self, key: PublicKey) -> Result<(), TunnelError> {
        let peer = self.present.get(&key).cloned();
        peer.map_or(Ok(()), |peer| self.put(&peer, peer.endpoint))
    }

    fn words(&self, drift: &Drift) -> String {
        let name = |key: &PublicKey| match self.present.get(key) {
            Some(PeerConfig { name, .. }) => format!("peer `{name}`"),
            None => format!("peer {key}"),
        };
        let what = match drift {
            Drift::Key => "another private key".to_owned(),
            Drift::Port(port) => format!("the port {port} instead of {}", self.listen_port),
            Drift::Mark(mark) => format!("the mark {mark:#x} on its packets"),
            Drift::Foreign(key) => format!("{}, which nobody configured", name(key)),
            Drift::Missing(key) => format!("no {}", name(key)),
            Drift::Changed(key) => format!("other networks or another keepalive of {}", name(key)),
            Drift::Secret(key) => format!("another shared secret of {}", name(key)),
        };
        format!("the WireGuard interface `{}` had {what}", self.interface)
    }
}

impl Held {
    fn of(attributes: Vec<WireguardAttribute>) -> Self {
        let mut held = Held::default();
        for attribute in attributes {
            match attribute {
                WireguardAttribute::PublicKey(bytes) => held.public_key = Some(PublicKey::from_bytes(bytes)),
                WireguardAttribute::ListenPort(port) => held.port = port,
                WireguardAttribute::Fwmark(mark) => held.mark = mark,
                WireguardAttribute::Peers(peers) => peers.into_iter().for_each(|peer| held.take(peer)),
                _ => {}
            }
        }
        held
    }

    /// A peer with many networks comes in pieces, of which only the first tells of its secret.
    fn take(&mut self, WireguardPeer(attributes): WireguardPeer) {
        let key = attributes.iter().find_map(|attribute| match attribute {
            WireguardPeerAttribute::PublicKey(bytes) => Some(PublicKey::from_bytes(*bytes)),
            _ => None,
        });
        let Some(key) = key else { return };
        let peer = self.peers.entry(key).or_default();
        for attribute in attributes {
            match attribute {
                WireguardPeerAttribute::PresharedKey(mut bytes) => {
                    peer.preshared_key = (bytes != NO_KEY).then(|| PresharedKey::from_bytes(bytes));
                    bytes.zeroize();
                }
                WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive_s = seconds,
                WireguardPeerAttribute::AllowedIps(networks) => {
                    peer.allowed_ips.extend(networks.iter().filter_map(network));
                }
                _ => {}
            }
        }
    }
}

impl HeldPeer {
    fn is(&self, peer: &PeerConfig) -> bool {
        let wanted: BTreeSet<IpNet> = peer.allowed_ips.iter().map(IpNet::trunc).collect();
        self.allowed_ips == wanted && self.keepalive_s == peer.keepalive_s.unwrap_or_default()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

fn network(WireguardAllowedIp(attributes): &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length) = (None, None);
    for attribute in attributes {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(found) => address = Some(*found),
            WireguardAllowedIpAttr::Cidr(found) => length = Some(*found),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}
