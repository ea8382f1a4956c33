//! A peer of the VPN that sends whatever it likes into its tunnel: our own data path, in the doctor's place.
use std::net::{IpAddr, SocketAddr};

use gateway::{
    client,
    wire::{
        Answer, Ask,
        edge::{EdgeAnswer, EdgeAsk, VpnStatus},
    },
};
use lab::{Host, RoleRunner};
use socket2::{Domain, Protocol, Socket, Type};
use tunnel::{Config, PeerConfig, PrivateKey, UserSpace, device};

use crate::daemon::Site;

const DEVICE: &str = "dr0";
const MTU: u16 = 1380;
/// IPPROTO_RAW of netinet/in.h: the caller writes the header.
const HEADER_INCLUDED: i32 = 255;
/// The peer's addresses in the tunnel.
pub(crate) const OWN: [&str; 2] = ["10.90.0.9", "fd51:7ec5:0:ff::9"];

/// The peer's key.
fn key() -> PrivateKey {
    PrivateKey::from_bytes([9; 32])
}

/// The policy's part: the peer may reach one service of one device.
pub(crate) fn policy() -> String {
    let (public, [v4, v6]) = (key().public(), OWN);
    format!(
        "
[vpn]
listen = \"udp/51820\"
address = [\"10.90.0.1/24\", \"fd51:7ec5:0:ff::1/64\"]
mtu = {MTU}

[[vpn.peer]]
name = \"notebook\"
person = \"hana\"
public_key = \"{public}\"
address = [\"{v4}\", \"{v6}\"]
reach = [\"device:receipt:https\"]
second_factor = \"totp\"
session = \"8h\"
"
    )
}

/// The VPN as edge says that it runs.
pub(crate) fn status(site: &Site) -> Option<VpnStatus> {
    let path = RoleRunner::runtime_root(site.lab()).join("sekisho-edge/edge.sock");
    match client::ask(&path, Ask::Edge(EdgeAsk::Vpn {})) {
        Ok(Answer::Edge(EdgeAnswer::Vpn(status))) => status,
        other => panic!("{other:?}"),
    }
}

/// The peer's end of the tunnel, on the doctor's machine.
pub(crate) struct Peer {
    _tunnel: UserSpace,
    sockets: [Socket; 2],
}

impl Peer {
    /// Begins with everything for the clinic and its gateway routed into the tunnel.
    pub(crate) fn start(host: &Host, gateway: SocketAddr, public: &str) -> Self {
        let peer = PeerConfig {
            name: "gateway".to_owned(),
            public_key: public.parse().unwrap(),
            preshared_key: None,
            allowed_ips: ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap()).into(),
            endpoint: Some(gateway),
            keepalive_s: None,
            until: None,
        };
        let config = Config { private_key: key(), listen_port: 0, peers: vec![peer] };
        let made = host.run_in(|| {
            device::create(DEVICE, 0, MTU).unwrap();
            let tunnel = UserSpace::start(device::attach(DEVICE).unwrap(), &config).unwrap();
            let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(HEADER_INCLUDED))).unwrap();
            (tunnel, [raw(Domain::IPV4), raw(Domain::IPV6)])
        });
        let (tunnel, sockets) = made.unwrap();
        for line in [
            format!("address add {}/24 dev {DEVICE}", OWN[0]),
            format!("address add {}/64 dev {DEVICE} nodad", OWN[1]),
            format!("route add 192.168.0.0/16 dev {DEVICE}"),
            format!("route add fd51:7ec5::/32 dev {DEVICE}"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            host.output("ip", &words).unwrap();
        }
        Self { _tunnel: tunnel, sockets }
    }

    /// Sends a packet as it is; whether it left. What the peer's own kernel refuses is no packet.
    pub(crate) fn send(&self, packet: &[u8]) -> bool {
        let (socket, to): (_, IpAddr) = if packet[0] >> 4 == 4 {
            (&self.sockets[0], <[u8; 4]>::try_from(&packet[16..20]).unwrap().into())
        } else {
            (&self.sockets[1], <[u8; 16]>::try_from(&packet[24..40]).unwrap().into())
        };
        socket.send_to(packet, &SocketAddr::new(to, 0).into()).is_ok()
    }
}
