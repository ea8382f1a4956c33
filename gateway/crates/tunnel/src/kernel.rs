//! The kernel's own WireGuard (drivers/net/wireguard), on an interface that somebody made. It carries the packets and
//! holds peers to their addresses; this adds what it lacks: ends, and that another shared secret ends a session.
//!
//! Contract: as [`Tunnel`] says. Peers stay in the kernel when the process dies; their ends are then the packet filter's
//! to keep.

mod drift;
mod netlink;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardDeviceFlags, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags, WireguardTimeSpec,
};
use rustix::io::Errno;
use zeroize::Zeroize as _;

use self::netlink::Netlink;
use crate::{Backend, Config, PeerConfig, PeerStats, PublicKey, Stats, Tunnel, TunnelError};

/// Whitepaper, section 6.1, REJECT_AFTER_TIME: nothing passes by a session that is older.
const SESSION_LIFE: Duration = Duration::from_secs(180);
/// How often ends are held against the clock, which may be set; in between the next end is waited for exactly.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// As the kernel has it, no key at all: the interface is then silent.
const NO_KEY: [u8; 32] = [0; 32];

/// WireGuard in the kernel.
#[derive(Debug)]
pub struct Kernel {
    shared: Arc<Shared>,
    port: u16,
    clock: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when ends have changed, and when the tunnel closes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    netlink: Netlink,
    interface: String,
    config: Config,
    /// The UDP port, once there is one.
    listen_port: u16,
    /// What the kernel was given.
    present: BTreeMap<PublicKey, PeerConfig>,
    /// What was counted before a peer was last taken out.
    past: BTreeMap<PublicKey, Seen>,
    is_closing: bool,
}

/// What the kernel says of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    received_bytes: u64,
    sent_bytes: u64,
    endpoint: Option<SocketAddr>,
    last_handshake: Option<SystemTime>,
}

impl Kernel {
    /// Starts on an interface of the kind `wireguard`.
    /// # Errors
    /// Refuses a configuration that cannot be carried out; fails without `CAP_NET_ADMIN`, where the kernel has no
    /// WireGuard, and when the port is taken.
    pub fn start(interface: &str, config: &Config) -> Result<Self, TunnelError> {
        config.check()?;
        let netlink = Netlink::open().map_err(TunnelError::io("ask for the kernel's WireGuard"))?;
        let nobody = Config { private_key: config.private_key.clone(), listen_port: 0, peers: Vec::new() };
        let mut state = State {
            netlink,
            interface: interface.to_owned(),
            config: nobody,
            listen_port: 0,
            present: BTreeMap::new(),
            past: BTreeMap::new(),
            is_closing: false,
        };
        state.begin(config)?;
        if let Err(error) = state.settle(config, SystemTime::now()) {
            // What cannot be carried out whole is not left half.
            if let Err(error) = state.silence().or_else(unless_gone) {
                tracing::error!(%error, "the kernel's WireGuard could not be silenced");
            }
            return Err(error);
        }
        let port = state.port()?;
        state.listen_port = port;
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_clock = Arc::clone(&shared);
        let clock = Builder::new().name("vpn-clock".to_owned()).spawn(move || of_clock.keep_ends());
        let clock = clock.map_err(TunnelError::io("start a thread"))?;
        Ok(Self { shared, port, clock: Some(clock) })
    }

    /// Has an interface that is not switched on yet take this port when it is; without a key it is silent there.
    /// # Errors
    /// Fails as [`Kernel::start`] does.
    pub fn reserve(interface: &str, listen_port: u16) -> Result<(), TunnelError> {
        let doing = || format!("give the WireGuard interface `{interface}` its port");
        let mut netlink = Netlink::open().map_err(TunnelError::io(doing()))?;
        let port = vec![WireguardAttribute::ListenPort(listen_port)];
        netlink.set(interface, port).map_err(TunnelError::io(doing()))
    }

    /// Gives the UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Compares the interface with what was configured, puts back what somebody else changed, and says what that was; when
    /// it returns, the two were read to be equal.
    /// # Errors
    /// Fails when the interface cannot be read or put back, as when it is gone.
    pub fn restore(&self) -> Result<Vec<String>, TunnelError> {
        self.is_whole()?;
        self.shared.state().restore()
    }

    fn is_whole(&self) -> Result<(), TunnelError> {
        let has_stopped = self.clock.as_ref().is_none_or(JoinHandle::is_finished);
        if has_stopped { Err(TunnelError::Stopped { part: "clock" }) } else { Ok(()) }
    }

    fn stop(&mut self) -> Result<(), TunnelError> {
        let Some(clock) = self.clock.take() else { return Ok(()) };
        let silenced = {
            let mut state = self.shared.state();
            state.is_closing = true;
            state.silence()
        };
        self.shared.changed.notify_all();
        clock.join().map_err(|_| TunnelError::Stopped { part: "clock" }).and(silenced.or_else(unless_gone))
    }
}

impl Tunnel for Kernel {
    fn backend(&self) -> Backend {
        Backend::Kernel
    }

    fn configure(&self, config: &Config) -> Result<(), TunnelError> {
        self.is_whole()?;
        config.check()?;
        if ![0, self.port].contains(&config.listen_port) {
            return Err(TunnelError::Port { now: self.port, wanted: config.listen_port });
        }
        let settled = self.shared.state().settle(config, SystemTime::now());
        self.shared.changed.notify_all();
        settled
    }

    fn stats(&self) -> Result<Stats, TunnelError> {
        self.is_whole()?;
        self.shared.state().stats(SystemTime::now())
    }

    fn close(mut self: Box<Self>) -> Result<(), TunnelError> {
        self.stop()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the kernel's WireGuard could not be silenced");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // What it holds is read from the kernel again with the next change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes peers out when their time is over, until the tunnel closes or the kernel refuses.
    fn keep_ends(&self) {
        let mut state = self.state();
        while !state.is_closing {
            let now = SystemTime::now();
            if let Err(error) = state.end(now) {
                // That this thread has ended is noticed.
                return tracing::error!(%error, "a peer whose time is over cannot be taken out");
            }
            let next = state.present.values().filter_map(|peer| peer.until).min();
            let left = next.and_then(|next| next.duration_since(now).ok()).unwrap_or(LOOK_EVERY);
            let waited = self.changed.wait_timeout(state, left.min(LOOK_EVERY));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Makes the interface ours: our key, our port, and nobody on it.
    fn begin(&mut self, config: &Config) -> Result<(), TunnelError> {
        self.set(vec![
            WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
            WireguardAttribute::PrivateKey(*config.private_key.expose_bytes()),
            WireguardAttribute::ListenPort(config.listen_port),
        ])
    }

    /// Takes out first, then puts in: an address is never two peers', and never still the one's that lost it.
    fn settle(&mut self, config: &Config, now: SystemTime) -> Result<(), TunnelError> {
        let is_same_key = self.config.private_key == config.private_key;
        let open = |peer: &&PeerConfig| peer.until.is_none_or(|until| now < until);
        let wanted: BTreeMap<PublicKey, &PeerConfig> =
            config.peers.iter().filter(open).map(|peer| (peer.public_key, peer)).collect();
        let known: Vec<(PublicKey, PeerConfig)> =
            self.present.iter().map(|(key, peer)| (*key, peer.clone())).collect();
        for (key, peer) in known {
            match wanted.get(&key) {
                Some(wanted) if is_same_key && peer.preshared_key == wanted.preshared_key => {
                    if peer.allowed_ips != wanted.allowed_ips {
                        self.put(&PeerConfig { allowed_ips: Vec::new(), ..peer }, None)?;
                    }
                }
                _ => self.take_out(key)?,
            }
        }
        if !is_same_key {
            let key = WireguardAttribute::PrivateKey(*config.private_key.expose_bytes());
            self.set(vec![key])?;
        }
        self.config = config.clone();
        for (key, peer) in wanted {
            let before = self.present.get(&key);
            if before != Some(peer) {
                let moved = before.is_none_or(|before| before.endpoint != peer.endpoint);
                self.put(peer, peer.endpoint.filter(|_| moved))?;
            }
        }
        let names: Vec<PublicKey> = self.config.peers.iter().map(|peer| peer.public_key).collect();
        self.past.retain(|key, _| names.contains(key));
        Ok(())
    }

    /// Takes out those whose time is over.
    fn end(&mut self, now: SystemTime) -> Result<(), TunnelError> {
        let is_over = |peer: &&PeerConfig| peer.until.is_some_and(|until| until <= now);
        let over: Vec<PublicKey> =
            self.present.values().filter(is_over).map(|peer| peer.public_key).collect();
        over.into_iter().try_for_each(|key| self.take_out(key))
    }

    fn take_out(&mut self, key: PublicKey) -> Result<(), TunnelError> {
        // What it counts is lost with it.
        let seen = self.seen()?.remove(&key).unwrap_or_default();
        self.remove(key)?;
        self.present.remove(&key);
        let past = self.past.entry(key).or_default();
        past.received_bytes = past.received_bytes.saturating_add(seen.received_bytes);
        past.sent_bytes = past.sent_bytes.saturating_add(seen.sent_bytes);
        past.endpoint = seen.endpoint.or(past.endpoint);
        Ok(())
    }

    fn remove(&mut self, key: PublicKey) -> Result<(), TunnelError> {
        self.set_peer(vec![
            WireguardPeerAttribute::PublicKey(*key.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe | WireguardPeerFlags::UpdateOnly),
        ])
    }

    fn put(&mut self, peer: &PeerConfig, endpoint: Option<SocketAddr>) -> Result<(), TunnelError> {
        let preshared = peer.preshared_key.as_ref().map_or(NO_KEY, |key| *key.expose_bytes());
        let mut attributes = vec![
            WireguardPeerAttribute::PublicKey(*peer.public_key.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
            WireguardPeerAttribute::PresharedKey(preshared),
            WireguardPeerAttribute::PersistentKeepalive(peer.keepalive_s.unwrap_or_default()),
            WireguardPeerAttribute::AllowedIps(peer.allowed_ips.iter().map(allowed_ip).collect()),
        ];
        attributes.extend(endpoint.map(WireguardPeerAttribute::Endpoint));
        self.set_peer(attributes)?;
        self.present.insert(peer.public_key, peer.clone());
        Ok(())
    }

    fn set_peer(&mut self, attributes: Vec<WireguardPeerAttribute>) -> Result<(), TunnelError> {
        self.set(vec![WireguardAttribute::Peers(vec![WireguardPeer(attributes)])])
    }

    fn set(&mut self, attributes: Vec<WireguardAttribute>) -> Result<(), TunnelError> {
        let doing = format!("change the WireGuard interface `{}`", self.interface);
        self.netlink.set(&self.interface, attributes).map_err(TunnelError::io(doing))
    }

    fn read(&mut self) -> Result<Vec<WireguardAttribute>, TunnelError> {
        let doing = format!("read the WireGuard interface `{}`", self.interface);
        let mut found = self.netlink.get(&self.interface).map_err(TunnelError::io(doing))?;
        for attribute in &mut found {
            if let WireguardAttribute::PrivateKey(key) = attribute {
                key.zeroize();
            }
        }
        Ok(found)
    }

    fn port(&mut self) -> Result<u16, TunnelError> {
        let port = self.read()?.into_iter().find_map(|attribute| match attribute {
            WireguardAttribute::ListenPort(port) => Some(port),
            _ => None,
        });
        port.ok_or_else(|| TunnelError::io("read the port")(io::ErrorKind::NotFound))
    }

    fn seen(&mut self) -> Result<BTreeMap<PublicKey, Seen>, TunnelError> {
        let mut all: BTreeMap<PublicKey, Seen> = BTreeMap::new();
        let peers = self.read()?.into_iter().filter_map(|attribute| match attribute {
            WireguardAttribute::Peers(peers) => Some(peers),
            _ => None,
        });
        for peer in peers.flatten() {
            if let Some((key, seen)) = Seen::of(&peer) {
                // A peer with many networks comes in pieces, of which the first tells everything else.
                all.entry(key).or_insert(seen);
            }
        }
        Ok(all)
    }

    fn stats(&mut self, now: SystemTime) -> Result<Stats, TunnelError> {
        let seen = self.seen()?;
        let row = |peer: &PeerConfig| {
            let past = self.past.get(&peer.public_key).copied().unwrap_or_default();
            let here = seen.get(&peer.public_key).copied().unwrap_or_default();
            let is_alive = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < SESSION_LIFE);
            let is_open = peer.until.is_none_or(|until| now < until);
            let stats = PeerStats {
                received_bytes: past.received_bytes.saturating_add(here.received_bytes),
                sent_bytes: past.sent_bytes.saturating_add(here.sent_bytes),
                last_handshake: here.last_handshake.filter(|at| is_open && is_alive(at)),
                endpoint: here.endpoint.or(past.endpoint),
                counted: None,
            };
            (peer.name.clone(), stats)
        };
        let peers = self.config.peers.iter().map(row).collect();
        Ok(Stats { peers, drops: BTreeMap::new() })
    }

    /// Nobody on it, and no key.
    fn silence(&mut self) -> Result<(), TunnelError> {
        self.present.clear();
        self.set(vec![
            WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
            WireguardAttribute::PrivateKey(NO_KEY),
        ])
    }
}

impl Seen {
    fn of(peer: &WireguardPeer) -> Option<(PublicKey, Self)> {
        let (mut key, mut seen) = (None, Self::default());
        for attribute in peer.iter() {
            match attribute {
                WireguardPeerAttribute::PublicKey(bytes) => key = Some(PublicKey::from_bytes(*bytes)),
                WireguardPeerAttribute::RxBytes(count) => seen.received_bytes = *count,
                WireguardPeerAttribute::TxBytes(count) => seen.sent_bytes = *count,
                WireguardPeerAttribute::Endpoint(endpoint) => seen.endpoint = Some(*endpoint),
                WireguardPeerAttribute::LastHandshake(at) => seen.last_handshake = instant(at),
                _ => {}
            }
        }
        key.map(|key| (key, seen))
    }
}

/// An interface that is gone is silent.
fn unless_gone(error: TunnelError) -> Result<(), TunnelError> {
    let is_gone = matches!(&error, TunnelError::Io { source, .. } if source.raw_os_error() == Some(Errno::NODEV.raw_os_error()));
    if is_gone { Ok(()) } else { Err(error) }
}

/// Zero is never.
fn instant(at: &WireguardTimeSpec) -> Option<SystemTime> {
    let seconds = u64::try_from(at.seconds).ok().filter(|seconds| *seconds > 0)?;
    let nanoseconds = u32::try_from(at.nano_seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

fn allowed_ip(network: &IpNet) -> WireguardAllowedIp {
    let network = network.trunc();
    let family = match network {
        IpNet::V4(_) => WireguardAddressFamily::Ipv4,
        IpNet::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(network.addr()),
        WireguardAllowedIpAttr::Cidr(network.prefix_len()),
    ])
}
