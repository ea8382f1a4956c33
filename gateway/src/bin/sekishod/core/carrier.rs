//! Who carries the VPN's packets, and the kernel's WireGuard where that does. Its peers come from the policy alone; its key
//! comes from edge, which keeps it, and is nowhere else but here and in the kernel.
//!
//! The loop and the task beside it share this. Only the task says which policy is carried, in the order in which policies
//! came into force. It outlives neither: what core set up stays in the kernel when core ends, as the rules do.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use gateway::wire::doors::{TunnelKey, TunnelStanding};
use gateway::wire::edge::VpnPeerRow;
use ipnet::IpNet;
use jiff::Timestamp;
use policy::model::{VPN_INTERFACE, Vpn, VpnPeer};
use policy::services::VpnCarrier;
use socket2::{Domain, Socket, Type};
use tunnel::{Config, Kernel, PeerConfig, PeerStats, PrivateKey, Tunnel as _, TunnelError};

/// All routers of a link (RFC 4291, section 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// How long edge may take to offer its key before somebody should look why.
const KEY_WAIT: Duration = Duration::from_secs(10);

/// Which WireGuard shall carry the VPN's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataPath {
    /// The kernel's where it has one, else edge's.
    Auto,
    /// The kernel's and no other: without it there is no VPN.
    Kernel,
    /// Edge's, in user space.
    User,
}

/// Who carries the VPN's packets.
#[derive(Debug)]
pub(super) struct Carrier {
    path: DataPath,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Found out with the first VPN, and so for as long as core runs.
    decided: Option<VpnCarrier>,
    key: Option<PrivateKey>,
    device: Option<Device>,
    /// Whether there ever was one: who carries is not changed any more then.
    was_made: bool,
    /// What the device was last settled for.
    vpn: Option<Vpn>,
    running: Option<Kernel>,
    /// What somebody else changed and was put back, until it is told.
    drifts: Vec<String>,
}

/// The kernel's interface, as it was made here.
#[derive(Debug)]
struct Device {
    index: u32,
    made_at: Instant,
    /// Keeps the group of all routers joined: the kernel does that by itself where it routes, but not on its WireGuard's
    /// interfaces, which lack the flag for groups.
    _routers: Option<Socket>,
}

impl Carrier {
    /// As the admin wants it.
    pub(super) fn new(path: DataPath) -> Self {
        Carrier { path, state: Mutex::default() }
    }

    /// Who carries, as far as it is known: without a VPN it is nobody's concern.
    pub(super) fn who(&self) -> VpnCarrier {
        self.state().decided.unwrap_or_default()
    }

    /// Finds out who carries.
    pub(super) fn decide(&self) -> VpnCarrier {
        let mut state = self.state();
        *state.decided.get_or_insert_with(|| {
            let carrier = match self.path {
                DataPath::Kernel => VpnCarrier::Kernel,
                DataPath::User => VpnCarrier::Edge,
                DataPath::Auto => probed(),
            };
            tracing::info!(?carrier, wanted = ?self.path, "who carries the VPN's packets");
            carrier
        })
    }

    /// The kernel's interface cannot be made. Where that is let open, edge carries from now on; whether it is.
    pub(super) fn may_fall_back(&self, error: &anyhow::Error) -> bool {
        let mut state = self.state();
        let may = self.path == DataPath::Auto && !state.was_made;
        if may {
            tracing::warn!(error = format!("{error:#}"), "the edge role carries the VPN's packets");
            state.decided = Some(VpnCarrier::Edge);
        }
        may
    }

    /// Whether an interface is the one that was made here.
    pub(super) fn has_made(&self, index: u32) -> bool {
        self.state().device.as_ref().is_some_and(|device| device.index == index)
    }

    /// The interface that was made here is not there, or another one is.
    pub(super) fn lost_device(&self) {
        let mut state = self.state();
        if state.device.take().is_some() {
            state.drifts.push(format!("the VPN's interface `{VPN_INTERFACE}` was taken away or replaced"));
        }
        state.running = None;
    }

    /// An interface was made.
    pub(super) fn made(&self, index: u32) {
        let routers = join_routers(index).inspect_err(|error| {
            tracing::warn!(%error, interface = VPN_INTERFACE, "the group of all routers cannot be joined");
        });
        let device = Device { index, made_at: Instant::now(), _routers: routers.ok() };
        let mut state = self.state();
        (state.device, state.was_made) = (Some(device), true);
    }

    /// Has the kernel carry what a policy says, as soon as there is a key. What cannot be changed is closed.
    pub(super) fn carry(&self, vpn: &Vpn) -> Result<(), TunnelError> {
        let mut state = self.state();
        state.vpn = Some(vpn.clone());
        state.run()
    }

    /// The policy has no VPN.
    pub(super) fn rest(&self) {
        let mut state = self.state();
        (state.vpn, state.running, state.device) = (None, None, None);
    }

    /// Whether edge should have offered its key by now.
    pub(super) fn lacks_key(&self) -> bool {
        let state = self.state();
        state.key.is_none() && state.device.as_ref().is_some_and(|device| device.made_at.elapsed() > KEY_WAIT)
    }

    /// What somebody else changed and was put back since this was last asked. The loop asks, and not the task, which may
    /// be long under way: who asks for what was found misses nothing that the kernel already shows as put back.
    pub(super) fn drifts(&self) -> Vec<String> {
        std::mem::take(&mut self.state().drifts)
    }

    /// Compares the kernel's WireGuard with what it was given, and puts back what is different, for [`Self::drifts`].
    pub(super) fn verify(&self) -> Result<(), TunnelError> {
        self.state().restore()
    }

    /// Tells edge how the kernel's WireGuard stands, and takes the key that it offers.
    pub(super) fn stand(&self, offered: Option<&TunnelKey>) -> Result<TunnelStanding, TunnelError> {
        let mut state = self.state();
        let is_new = state.take_key(offered);
        if (is_new || state.running.is_none())
            && let Err(error) = state.run()
        {
            // The regular look tries again, and tells.
            tracing::debug!(%error, "the kernel's WireGuard does not run yet");
        }
        state.standing()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it holds is compared with the kernel at each look.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_key(&mut self, offered: Option<&TunnelKey>) -> bool {
        let key = offered.map(|key| PrivateKey::from_bytes(*key.expose_bytes()));
        let is_new = key.is_some() && key != self.key;
        if is_new {
            self.key = key;
        }
        is_new
    }

    fn restore(&mut self) -> Result<(), TunnelError> {
        if let Some(running) = &self.running {
            self.drifts.extend(running.restore()?);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), TunnelError> {
        let (Some(key), Some(vpn), Some(_)) = (&self.key, &self.vpn, &self.device) else { return Ok(()) };
        let config = config(key, vpn)?;
        // Taken out, so that whatever fails leaves it closed.
        match self.running.take().filter(|running| running.port() == vpn.listen_port) {
            Some(running) => {
                self.drifts.extend(running.restore()?);
                running.configure(&config)?;
                self.running = Some(running);
            }
            None => self.running = Some(Kernel::start(VPN_INTERFACE, &config)?),
        }
        Ok(())
    }

    fn standing(&self) -> Result<TunnelStanding, TunnelError> {
        let public_key = self.key.as_ref().map(|key| key.public().to_string());
        let stats = self.running.as_ref().map(Kernel::stats).transpose()?;
        let peers = self.vpn.as_ref().map_or(&[][..], |vpn| &vpn.peers);
        let row = |peer: &VpnPeer| Some(row(&peer.name, stats.as_ref()?.peers.get(&peer.name)?));
        Ok(TunnelStanding { public_key, peers: peers.iter().filter_map(row).collect() })
    }
}

fn probed() -> VpnCarrier {
    match netfilter::probe::has_wireguard() {
        Ok(true) => VpnCarrier::Kernel,
        Ok(false) => VpnCarrier::Edge,
        Err(error) => {
            tracing::warn!(%error, "the kernel cannot be asked for WireGuard");
            VpnCarrier::Edge
        }
    }
}

fn join_routers(index: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    Ok(socket)
}

fn config(key: &PrivateKey, vpn: &Vpn) -> Result<Config, TunnelError> {
    let peer = |peer: &VpnPeer| {
        Ok(PeerConfig {
            name: peer.name.clone(),
            public_key: peer.public_key.parse()?,
            preshared_key: None,
            allowed_ips: peer.address.iter().copied().map(IpAddr::into).collect::<Vec<IpNet>>(),
            endpoint: None,
            keepalive_s: None,
            until: peer.until.map(Into::into),
        })
    };
    let peers = vpn.peers.iter().map(peer).collect::<Result<_, TunnelError>>()?;
    Ok(Config { private_key: key.clone(), listen_port: vpn.listen_port, peers })
}

fn row(name: &str, stats: &PeerStats) -> VpnPeerRow {
    VpnPeerRow {
        name: name.to_owned(),
        handshake_at: stats.last_handshake.and_then(|at| Timestamp::try_from(at).ok()),
        endpoint: stats.endpoint,
        received_bytes: stats.received_bytes,
        sent_bytes: stats.sent_bytes,
    }
}
