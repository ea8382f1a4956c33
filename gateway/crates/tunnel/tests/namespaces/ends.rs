//! The two kinds of end: ours, and wireguard-go.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use tunnel::{
    Config, DropReason, PeerConfig, PeerCounts, PeerStats, PresharedKey, PrivateKey, PublicKey, Stats,
    Tunnel as _, UserSpace, device,
};

use crate::place::{Place, Side, eventually};

const MTU: u16 = 1420;

/// Our end, in the gateway's namespace, at 10.9.0.1 and fd00:9::1.
pub(crate) struct Ours {
    pub(crate) tunnel: UserSpace,
    pub(crate) config: Config,
    pub(crate) interface: String,
}

/// A peer at 10.9.0.2 and fd00:9::2.
pub(crate) fn peer(key: PublicKey) -> PeerConfig {
    PeerConfig {
        name: "doctor".into(),
        public_key: key,
        preshared_key: None,
        allowed_ips: ["10.9.0.2/32", "fd00:9::2/128"].map(|network| network.parse().unwrap()).into(),
        endpoint: None,
        keepalive_s: None,
        until: None,
    }
}

impl Ours {
    pub(crate) fn start(place: &Place, peers: Vec<PeerConfig>) -> Self {
        let config = Config { private_key: PrivateKey::from_bytes([7; 32]), listen_port: 51820, peers };
        let interface = place.interface("g");
        let tunnel = place.gateway.inside(|| {
            device::create(&interface, 0, MTU).unwrap();
            UserSpace::start(device::attach(&interface).unwrap(), &config).unwrap()
        });
        place.gateway.run(&format!("ip address add 10.9.0.1/24 dev {interface}"));
        place.gateway.run(&format!("ip address add fd00:9::1/64 dev {interface} nodad"));
        Self { tunnel, config, interface }
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.config.private_key.public()
    }

    /// Changes the peers.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<PeerConfig>)) {
        change(&mut self.config.peers);
        self.tunnel.configure(&self.config).unwrap();
    }

    pub(crate) fn stats(&self) -> Stats {
        self.tunnel.stats().unwrap()
    }

    pub(crate) fn doctor(&self) -> PeerStats {
        self.stats().peers.remove("doctor").unwrap()
    }

    pub(crate) fn counts(&self) -> PeerCounts {
        self.doctor().counted.unwrap()
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.stats().dropped(reason)
    }
}

/// wireguard-go, in the client's namespace, at 10.9.0.2 and fd00:9::2.
pub(crate) struct Go {
    side: Side,
    pub(crate) interface: String,
    process: Child,
    gateway: PublicKey,
}

impl Go {
    pub(crate) fn start(
        place: &Place,
        key: &PrivateKey,
        gateway: PublicKey,
        endpoint: Option<SocketAddr>,
        preshared: Option<&PresharedKey>,
    ) -> Self {
        let (side, interface) = (place.client.clone(), place.interface("c"));
        let mut command = side.command("wireguard-go");
        command.args(["-f", &interface]).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let go = Self { side, interface, process, gateway };
        eventually("wireguard-go", || go.wg(&["show"], &[]).is_some());
        let secret = base64(key.expose_bytes());
        let preshared = preshared.map_or([0; 32], |key| *key.expose_bytes());
        let (gateway, endpoint) = (gateway.to_string(), endpoint.map(|endpoint| endpoint.to_string()));
        let mut peer = vec!["peer", &gateway, "allowed-ips", "10.9.0.0/24,fd00:9::/64"];
        peer.extend(["preshared-key", "/dev/stdin"]);
        peer.extend(endpoint.iter().flat_map(|endpoint| ["endpoint", endpoint]));
        go.set(&["listen-port", "51821", "private-key", "/dev/stdin"], secret.as_bytes());
        go.set(&peer, base64(&preshared).as_bytes());
        go.side.run(&format!("ip address add 10.9.0.2/24 dev {}", go.interface));
        go.side.run(&format!("ip address add fd00:9::2/64 dev {} nodad", go.interface));
        go.side.run(&format!("ip link set {} mtu {MTU} up", go.interface));
        go
    }

    /// Changes something of the interface.
    pub(crate) fn set(&self, arguments: &[&str], input: &[u8]) {
        self.wg(&[&["set", self.interface.as_str()], arguments].concat(), input).unwrap();
    }

    /// Forgets the peer and its session, and takes it in again: the next packet begins a handshake.
    pub(crate) fn forget_session(&self, endpoint: SocketAddr) {
        let (gateway, endpoint) = (self.gateway.to_string(), endpoint.to_string());
        self.set(&["peer", &gateway, "remove"], &[]);
        self.set(&["peer", &gateway, "allowed-ips", "10.9.0.0/24,fd00:9::/64", "endpoint", &endpoint], &[]);
    }

    fn wg(&self, arguments: &[&str], input: &[u8]) -> Option<()> {
        let shown = if arguments == ["show"] { vec!["show", &self.interface] } else { arguments.to_vec() };
        let mut command = self.side.command("wg");
        command.args(&shown).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait().unwrap().success().then_some(())
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.interface));
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
