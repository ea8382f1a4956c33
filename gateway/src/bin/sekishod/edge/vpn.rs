//! The VPN: WireGuard in user space on the device that core made, with the peers of the policy in force; or the kernel's,
//! which core sets up with the key that is kept here. A peer that leaves the policy, or whose time is over, is gone with the
//! next look; the kernel's rules end its flows without waiting for us.

mod kernel;
mod totals;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use events::words::VpnChange;
use events::{Event, Sample};
use gateway::wire::edge::{VpnPeerRow, VpnStatus};
use jiff::Timestamp;
use policy::services::{EdgePeer, EdgeVpn, VpnCarrier};
use tunnel::{Config, PeerConfig, PeerStats, PrivateKey, Stats, Tunnel, TunnelError, UserSpace, device};

pub(super) use self::kernel::keep;
use self::totals::Totals;
use crate::console::shelf::Shelf;

/// The gateway's key in the state directory, as an array of numbers.
const KEY_FILE: &str = "vpn-key.json";

/// The VPN, as the policy wants it and as it runs.
#[derive(Debug)]
pub(super) struct Vpn {
    key: PrivateKey,
    wanted: Option<EdgeVpn>,
    running: Option<Running>,
    /// What core last said of the kernel's, while that carries.
    heard: Option<Stats>,
    /// Peers that have a session, as far as it was told.
    connected: BTreeSet<String>,
    totals: Totals,
    /// What went wrong last, so that it is told once.
    complaint: Option<String>,
}

#[derive(Debug)]
struct Running {
    tunnel: UserSpace,
    /// What it runs with.
    settings: EdgeVpn,
}

impl Vpn {
    /// Takes the gateway's key, or makes it at the first start. It leaves the state directory for the kernel alone.
    ///
    /// # Errors
    /// When it cannot be read or kept.
    pub(super) fn open(shelf: &Shelf) -> anyhow::Result<Self> {
        let key = match shelf.read::<[u8; 32]>(KEY_FILE)? {
            Some(kept) => PrivateKey::from_bytes(kept),
            None => {
                let made = PrivateKey::generate()?;
                shelf.write(KEY_FILE, made.expose_bytes())?;
                made
            }
        };
        let (connected, totals) = (BTreeSet::new(), Totals::default());
        Ok(Vpn { key, wanted: None, running: None, heard: None, connected, totals, complaint: None })
    }

    /// Takes up what the policy says; gives what is to be told, as [`Vpn::look`] does.
    pub(super) fn want(&mut self, wanted: Option<EdgeVpn>) -> Vec<Event> {
        self.wanted = wanted;
        self.look()
    }

    /// Brings what runs to what is wanted, and says which peers came or fell silent.
    pub(super) fn look(&mut self) -> Vec<Event> {
        let settled = self.settle();
        self.complain(settled.err());
        let stats = self.stats().unwrap_or_else(|error| {
            // A part of it has died: closed until it stands again, with the next look.
            self.complain(Some(error));
            Stats::default()
        });
        self.totals.take(&stats, SystemTime::now());
        self.changes(&stats)
    }

    /// What it carried, for the metrics; nothing where the policy never had one.
    pub(super) fn samples(&self, now: Timestamp) -> Vec<Sample> {
        self.totals.samples(self.wanted.as_ref(), now)
    }

    /// How it runs, for admins; without what the policy wants but could not be had, there is still the key to show.
    pub(super) fn status(&self) -> Option<VpnStatus> {
        let wanted = self.wanted.as_ref()?;
        let stats = self.stats().unwrap_or_default();
        let row = |peer: &EdgePeer| {
            let stats = stats.peers.get(&peer.name);
            VpnPeerRow {
                name: peer.name.clone(),
                handshake_at: stats.and_then(|stats| Timestamp::try_from(stats.last_handshake?).ok()),
                endpoint: stats.and_then(|stats| stats.endpoint).map(canonical),
                received_bytes: stats.map_or(0, |stats| stats.received_bytes),
                sent_bytes: stats.map_or(0, |stats| stats.sent_bytes),
            }
        };
        Some(VpnStatus {
            public_key: self.key.public().to_string(),
            carrier: wanted.carrier,
            listen_port: wanted.listen_port,
            peers: wanted.peers.iter().map(row).collect(),
        })
    }

    /// Whether the policy has a VPN, and the kernel carries it.
    fn is_in_kernel(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.carrier == VpnCarrier::Kernel)
    }

    /// Takes what core says of the kernel's, unless that was asked before the settings changed.
    fn hear(&mut self, stats: Stats) {
        self.heard = Some(stats).filter(|_| self.is_in_kernel());
    }

    fn stats(&self) -> Result<Stats, TunnelError> {
        match (&self.running, &self.heard) {
            (Some(running), _) => running.tunnel.stats(),
            (None, heard) => Ok(heard.clone().unwrap_or_default()),
        }
    }

    fn settle(&mut self) -> Result<(), TunnelError> {
        let is_in_kernel = self.is_in_kernel();
        self.heard.take_if(|_| !is_in_kernel);
        let Some(wanted) = self.wanted.as_ref().filter(|_| !is_in_kernel) else {
            // The port is the kernel's, or nobody's.
            self.running = None;
            return Ok(());
        };
        match &mut self.running {
            Some(running) if running.settings == *wanted => Ok(()),
            Some(running) if running.is_elsewhere(wanted) => {
                self.running = None;
                self.settle()
            }
            Some(running) => {
                running.tunnel.configure(&config(&self.key, wanted)?)?;
                running.settings = wanted.clone();
                Ok(())
            }
            None => {
                let config = config(&self.key, wanted)?;
                let tunnel = UserSpace::start(device::attach(&wanted.interface)?, &config)?;
                self.running = Some(Running { tunnel, settings: wanted.clone() });
                Ok(())
            }
        }
    }

    /// Tells a failure when it is a new one. Peers that should be gone are not left in: what cannot be changed is closed.
    fn complain(&mut self, failure: Option<TunnelError>) {
        let complaint = failure.map(|error| error.to_string());
        if let Some(error) = complaint.as_ref().filter(|complaint| self.complaint.as_ref() != Some(complaint))
        {
            tracing::warn!(%error, "the VPN is not as the policy wants it");
        }
        if complaint.is_some() {
            self.running = None;
        }
        self.complaint = complaint;
    }

    /// That a peer may come in no longer is core's to tell; here it falls silent with that.
    fn changes(&mut self, stats: &Stats) -> Vec<Event> {
        let has_session = |stats: &PeerStats| stats.last_handshake.is_some();
        let now: BTreeSet<String> = stats
            .peers
            .iter()
            .filter(|(_, stats)| has_session(stats))
            .map(|(peer, _)| peer.clone())
            .collect();
        let before = std::mem::replace(&mut self.connected, now);
        let came = self.connected.difference(&before).map(|peer| change(peer, VpnChange::Connected));
        came.chain(before.difference(&self.connected).map(|peer| change(peer, VpnChange::Silent))).collect()
    }
}

impl Running {
    /// Whether what is wanted needs another device or socket.
    fn is_elsewhere(&self, wanted: &EdgeVpn) -> bool {
        let EdgeVpn { carrier: _, listen_port, interface, addresses: _, mtu, peers: _ } = &self.settings;
        *listen_port != wanted.listen_port || *interface != wanted.interface || *mtu != wanted.mtu
    }
}

/// The tunnel's one socket writes IPv4 addresses as IPv6 has them; people do not.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn change(peer: &str, change: VpnChange) -> Event {
    Event::Vpn { peer: peer.to_owned(), change }
}

fn config(key: &PrivateKey, vpn: &EdgeVpn) -> Result<Config, TunnelError> {
    let peer = |peer: &EdgePeer| {
        let EdgePeer { name, public_key, allowed_ips, until } = peer;
        Ok(PeerConfig {
            name: name.clone(),
            public_key: public_key.parse()?,
            preshared_key: None,
            allowed_ips: allowed_ips.clone(),
            endpoint: None,
            keepalive_s: None,
            until: until.map(SystemTime::from),
        })
    };
    let peers = vpn.peers.iter().map(peer).collect::<Result<_, TunnelError>>()?;
    Ok(Config { private_key: key.clone(), listen_port: vpn.listen_port, peers })
}
