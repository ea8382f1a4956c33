//! A peer that can do anything inside its tunnel: whole IP packets of its own making, encrypted one by one.
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use lab::Host;
use policy::model::VpnPeer;
use tunnel::hand::Hand;
use tunnel::{PrivateKey, PublicKey};

const PATIENCE: Duration = Duration::from_secs(20);
/// No datagram here is longer.
const DATAGRAM_BYTES: usize = 2_048;
const RETRY: Duration = Duration::from_millis(100);

pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// Bytes of all packets so far whose source was its own.
    pub(crate) own_bytes: u64,
    /// Packets for it that were not yet looked at.
    pub(crate) heard: Vec<Vec<u8>>,
    hand: Hand,
    socket: UdpSocket,
    door: SocketAddr,
}

/// A key for each peer of the policy, by its name.
pub(crate) fn key(name: &str) -> PrivateKey {
    let mut bytes = [7; 32];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    PrivateKey::from_bytes(bytes)
}

impl Peer {
    /// Comes from a machine outside to one of the gateway's addresses, and shakes hands.
    pub(crate) fn connect(host: &Host, peer: &VpnPeer, gateway: PublicKey, door: SocketAddr) -> Self {
        let any = if door.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = host.run_in(|| UdpSocket::bind(any)).unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        let hand = Hand::new(&key(&peer.name), gateway);
        let (name, addresses) = (peer.name.clone(), peer.address.clone());
        let mut peer = Peer { name, addresses, own_bytes: 0, heard: Vec::new(), hand, socket, door };
        peer.shake_hands();
        peer
    }

    fn shake_hands(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.hand.has_session() {
            assert!(Instant::now() < deadline, "{}: no handshake within {PATIENCE:?}", self.name);
            let initiation = self.hand.initiation().expect("an initiation");
            self.socket.send_to(&initiation, self.door).unwrap();
            thread::sleep(RETRY);
            self.listen();
        }
    }

    /// Sends a packet through the tunnel, whatever it is.
    pub(crate) fn send(&mut self, packet: &[u8], is_own: bool) {
        let message = self.hand.seal(packet).unwrap_or_else(|| panic!("{}: no session", self.name));
        self.socket.send_to(&message, self.door).unwrap();
        self.own_bytes += if is_own { packet.len() as u64 } else { 0 };
    }

    /// Takes what came, and does what time demands: a long trial outlives its first keys.
    pub(crate) fn listen(&mut self) {
        let mut datagram = [0; DATAGRAM_BYTES];
        while let Ok((length, _)) = self.socket.recv_from(&mut datagram) {
            let heard = self.hand.open(&datagram[..length]);
            self.heard.extend(heard.packet);
            heard.answers.iter().for_each(|answer| self.tell(answer));
        }
        if let Some(message) = self.hand.tick() {
            self.tell(&message);
        }
    }

    fn tell(&self, message: &[u8]) {
        self.socket.send_to(message, self.door).unwrap();
    }
}
