//! The table of peers: by index for messages that come, by key for handshakes, by address for packets that go.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use boringtun::x25519;
use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;
use ipnet::IpNet;

use crate::counters::PeerCounters;
use crate::link::Link;
use crate::{Config, PeerConfig, PeerStats, PrivateKey, PublicKey, TunnelError};

/// Indices have 24 bits: the wire has 32, and the protocol core takes 8 for the sessions of a peer.
const INDEX_SHIFT: u32 = 8;

/// One peer that may speak.
#[derive(Debug)]
pub(crate) struct Peer {
    config: PeerConfig,
    index: u32,
    link: Mutex<Link>,
    pub(crate) counters: Arc<PeerCounters>,
}

impl Peer {
    /// Says whether the peer's time is not over.
    pub(crate) fn is_open(&self, now: SystemTime) -> bool {
        self.config.until.is_none_or(|until| now < until)
    }

    pub(crate) fn link(&self) -> MutexGuard<'_, Link> {
        // A link whose holder panicked is dropped with the tunnel: its thread is gone, and that is noticed.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every peer of a tunnel.
pub(crate) struct Table {
    key: PrivateKey,
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    peers: Vec<Peer>,
    by_index: HashMap<u32, usize>,
    by_key: HashMap<PublicKey, usize>,
    by_address: IpNetworkTable<usize>,
}

impl Table {
    /// Makes a table of a configuration that was checked. Peers that are the same as in the table before keep their
    /// sessions, and all that were there keep their counters.
    /// # Errors
    /// Fails when there is no randomness to draw indices from.
    pub(crate) fn new(config: &Config, before: Option<Table>, now: SystemTime) -> Result<Self, TunnelError> {
        let secret = config.private_key.scalar();
        let public = x25519::PublicKey::from(&secret);
        let is_same_key = before.as_ref().is_some_and(|before| before.key == config.private_key);
        let before = before.map(|before| before.peers).unwrap_or_default();
        let mut known: BTreeMap<PublicKey, Peer> =
            before.into_iter().map(|peer| (peer.config.public_key, peer)).collect();
        let mut table = Self {
            key: config.private_key.clone(),
            secret,
            public,
            peers: Vec::with_capacity(config.peers.len()),
            by_index: HashMap::new(),
            by_key: HashMap::new(),
            by_address: IpNetworkTable::new(),
        };
        for wanted in &config.peers {
            let peer = match known.remove(&wanted.public_key) {
                Some(peer) if is_same_key && peer.keeps_sessions(wanted, now) => peer.changed(wanted),
                other => table.fresh(wanted, other.map(|peer| peer.counters).unwrap_or_default())?,
            };
            table.add(peer);
        }
        Ok(table)
    }

    pub(crate) fn secret(&self) -> (&x25519::StaticSecret, &x25519::PublicKey) {
        (&self.secret, &self.public)
    }

    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(crate) fn by_index(&self, index: u32) -> Option<&Peer> {
        self.peers.get(*self.by_index.get(&index)?)
    }

    pub(crate) fn by_key(&self, key: &PublicKey) -> Option<&Peer> {
        self.peers.get(*self.by_key.get(key)?)
    }

    /// Gives the position of the peer that owns an address: the one with the longest prefix.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<usize> {
        self.by_address.longest_match(address).map(|(_, position)| *position)
    }

    pub(crate) fn peer(&self, position: usize) -> Option<&Peer> {
        self.peers.get(position)
    }

    /// Says whether an address is the peer's own, and not that of a peer whose network nests in its.
    pub(crate) fn owns(&self, peer: &Peer, address: IpAddr) -> bool {
        self.owner(address)
            .and_then(|position| self.peers.get(position))
            .is_some_and(|o| o.index == peer.index)
    }

    pub(crate) fn stats(&self, now: SystemTime) -> BTreeMap<String, PeerStats> {
        let one = |peer: &Peer| {
            let link = peer.link();
            let endpoint = link.endpoint().map(|endpoint| endpoint.remote);
            let session_since = link.session_since(now).filter(|_| peer.is_open(now));
            let stats = peer.counters.read(session_since, endpoint);
            (peer.config.name.clone(), stats)
        };
        self.peers.iter().map(one).collect()
    }

    fn fresh(&self, wanted: &PeerConfig, counters: Arc<PeerCounters>) -> Result<Peer, TunnelError> {
        let index = self.unused_index()?;
        let link = Mutex::new(Link::new(self.secret.clone(), wanted, index));
        Ok(Peer { config: wanted.clone(), index, link, counters })
    }

    /// Indices are random, so that a stranger cannot guess a session that exists.
    fn unused_index(&self) -> Result<u32, TunnelError> {
        loop {
            let mut bytes = [0; 4];
            crate::key::fill_random(&mut bytes)?;
            let index = u32::from_le_bytes(bytes) >> INDEX_SHIFT;
            if !self.by_index.contains_key(&index) {
                return Ok(index);
            }
        }
    }

    fn add(&mut self, peer: Peer) {
        let position = self.peers.len();
        self.by_index.insert(peer.index, position);
        self.by_key.insert(peer.config.public_key, position);
        for network in &peer.config.allowed_ips {
            self.route(*network, position);
        }
        self.peers.push(peer);
    }

    fn route(&mut self, network: IpNet, position: usize) {
        let network = network.trunc();
        let (address, length) = (network.addr(), network.prefix_len());
        // INVARIANT: a truncated network has no host bits, which is all that can be wrong with it.
        if let Ok(network) = IpNetwork::new(address, length) {
            self.by_address.insert(network, position);
        }
    }
}

impl Peer {
    /// A peer whose keys are the same, and whose time was not over, goes on with its sessions.
    fn keeps_sessions(&self, wanted: &PeerConfig, now: SystemTime) -> bool {
        let config = &self.config;
        config.preshared_key == wanted.preshared_key
            && config.keepalive_s == wanted.keepalive_s
            && self.is_open(now)
    }

    fn changed(mut self, wanted: &PeerConfig) -> Self {
        if let Some(endpoint) = wanted.endpoint.filter(|endpoint| self.config.endpoint != Some(*endpoint)) {
            self.link().move_to(endpoint);
        }
        self.config = wanted.clone();
        self
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("peers", &self.peers).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
