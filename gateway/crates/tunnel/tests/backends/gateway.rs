//! A gateway's end with one kind of WireGuard or the other, and what can be seen of it from outside.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use boringtun::noise::TunnResult;
use tunnel::{Backend, Config, Kernel, PeerConfig, PeerStats, PrivateKey, Tunnel, UserSpace, device};

use crate::client::{Client, udp};
use crate::place::{GATEWAY, Place, address, eventually};

const MTU: u16 = 1420;
/// The peer's addresses inside, and the gateway's.
pub(crate) const OWN: [&str; 2] = ["10.9.0.2", "fd00:9::2"];
pub(crate) const GATEWAY_IN: [&str; 2] = ["10.9.0.1", "fd00:9::1"];
const SERVER_PORT: u16 = 5_000;
/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(500);

pub(crate) struct Gateway {
    pub(crate) tunnel: Box<dyn Tunnel>,
    pub(crate) config: Config,
    interface: String,
    servers: [UdpSocket; 2],
    heard: RefCell<Vec<IpAddr>>,
    pub(crate) place: Place,
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_bytes([9; 32])
}

pub(crate) fn peer() -> PeerConfig {
    PeerConfig {
        name: "doctor".into(),
        public_key: key().public(),
        preshared_key: None,
        allowed_ips: vec!["10.9.0.2/32".parse().unwrap(), "fd00:9::2/128".parse().unwrap()],
        endpoint: None,
        keepalive_s: None,
        until: None,
    }
}

/// Says whether this kernel makes interfaces of the kind. It is tried once: two tests at a time would be in each other's way.
pub(crate) fn is_in_kernel() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let name = format!("skp{}", std::process::id());
        let ip = |arguments: &[&str]| Command::new("ip").args(arguments).output().unwrap().status.success();
        ip(&["link", "add", &name, "type", "wireguard"]) && ip(&["link", "delete", &name])
    })
}

/// Runs with each kind that there is.
pub(crate) fn each(work: impl Fn(Backend)) {
    work(Backend::UserSpace);
    if is_in_kernel() {
        work(Backend::Kernel);
        println!("the kernel's WireGuard does the same");
    } else {
        println!("SKIPPED: this kernel has no WireGuard; the QEMU test runs this with one that has");
    }
}

impl Gateway {
    pub(crate) fn start(backend: Backend, peers: Vec<PeerConfig>) -> Self {
        let place = Place::new();
        let config = Config { private_key: PrivateKey::from_bytes([7; 32]), listen_port: 51820, peers };
        let interface = place.interface("b");
        if backend == Backend::Kernel {
            place.gateway.run(&format!("ip link add {interface} mtu {MTU} type wireguard"));
            place.gateway.run(&format!("ip link set {interface} up"));
        }
        let tunnel: Box<dyn Tunnel> = place.gateway.inside(|| match backend {
            Backend::Kernel => Box::new(Kernel::start(&interface, &config).unwrap()) as Box<dyn Tunnel>,
            Backend::UserSpace => {
                device::create(&interface, 0, MTU).unwrap();
                Box::new(UserSpace::start(device::attach(&interface).unwrap(), &config).unwrap())
            }
        });
        place.gateway.run(&format!("ip address add 10.9.0.1/24 dev {interface}"));
        place.gateway.run(&format!("ip address add fd00:9::1/64 dev {interface} nodad"));
        let servers = GATEWAY_IN.map(|at| {
            let server = place.gateway.inside(|| UdpSocket::bind((at, SERVER_PORT)).unwrap());
            server.set_nonblocking(true).unwrap();
            server
        });
        Self { tunnel, config, interface, servers, heard: RefCell::default(), place }
    }

    /// A peer that has shaken hands.
    pub(crate) fn client(&self) -> Client {
        self.client_over(GATEWAY)
    }

    pub(crate) fn client_over(&self, outer: &str) -> Client {
        let mut client = Client::new(&self.place, &key(), self.config.private_key.public());
        if outer != GATEWAY {
            client.socket = self.place.client.inside(|| UdpSocket::bind("[::]:0").unwrap());
            client.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            client.gateway = address(outer, 51820);
        }
        client.shake_hands();
        client
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<PeerConfig>)) {
        change(&mut self.config.peers);
        self.tunnel.configure(&self.config).unwrap();
    }

    pub(crate) fn doctor(&self) -> PeerStats {
        self.tunnel.stats().unwrap().peers.remove("doctor").unwrap()
    }

    /// Packets that came out of the tunnel.
    pub(crate) fn came_out(&self) -> u64 {
        self.place.gateway.received_packets(&self.interface)
    }

    pub(crate) fn say(&self, client: &mut Client, from: &str, to: &str) {
        client.send_inside(&udp(from.parse().unwrap(), to.parse().unwrap(), b"hello"));
    }

    fn listen(&self) {
        for server in &self.servers {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = server.recv_from(&mut buffer) {
                self.heard.borrow_mut().push(from.ip());
            }
        }
    }

    pub(crate) fn heard_from(&self, address: &str) -> bool {
        self.listen();
        self.heard.borrow().contains(&address.parse().unwrap())
    }

    /// How many spoke that are not the peer.
    pub(crate) fn heard_from_others(&self) -> usize {
        self.listen();
        let own: BTreeSet<IpAddr> = OWN.iter().map(|address| address.parse().unwrap()).collect();
        self.heard.borrow().iter().filter(|address| !own.contains(address)).count()
    }

    /// The peer is heard in both families.
    pub(crate) fn hears_all(&self, client: &mut Client) {
        self.listen();
        self.heard.borrow_mut().clear();
        for (own, to) in OWN.into_iter().zip(GATEWAY_IN) {
            eventually("an honest packet", || {
                self.say(client, own, to);
                self.heard_from(own)
            });
        }
    }

    /// The peer hears the gateway.
    pub(crate) fn answers(&self, client: &mut Client) {
        while client.receive().is_some() {}
        eventually("a packet for the peer", || {
            self.servers[0].send_to(b"hello back", (OWN[0], 4_000)).unwrap();
            client.receive().is_some_and(|message| opens(client, &message, b"hello back"))
        });
    }

    /// Whatever the peer says by its old session, nothing comes out of the tunnel.
    pub(crate) fn is_silent(&self, client: &mut Client) {
        let before = self.came_out();
        for (own, to) in OWN.into_iter().zip(GATEWAY_IN).cycle().take(100) {
            self.say(client, own, to);
        }
        std::thread::sleep(SILENCE);
        assert_eq!(self.came_out(), before, "something came out of the tunnel");
    }

    /// Says whether a handshake is answered.
    pub(crate) fn answers_initiation(&self, client: &mut Client) -> bool {
        while client.receive().is_some() {}
        let initiation = client.initiation();
        client.send(&initiation);
        client.receive().is_some()
    }
}

/// Says whether a message is one of the session with this at its end.
fn opens(client: &mut Client, message: &[u8], wanted: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    match client.tunn.decapsulate(None, message, &mut buffer) {
        TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
            packet.ends_with(wanted)
        }
        _ => false,
    }
}
