//! A client that can do anything: the protocol by hand, and whatever it likes inside.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use etherparse::PacketBuilder;
use tunnel::{PrivateKey, PublicKey};

use crate::place::{GATEWAY, PATIENCE, Place, address};

pub(crate) struct Client {
    pub(crate) tunn: Tunn,
    pub(crate) socket: UdpSocket,
    pub(crate) gateway: SocketAddr,
}

impl Client {
    pub(crate) fn new(place: &Place, key: &PrivateKey, gateway: PublicKey) -> Self {
        let socket = place.client.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let secret = x25519::StaticSecret::from(*key.expose_bytes());
        let tunn = Tunn::new(secret, x25519::PublicKey::from(*gateway.as_bytes()), None, None, 5, None);
        Self { tunn, socket, gateway: address(GATEWAY, 51820) }
    }

    /// Makes an initiation, each with a new time.
    pub(crate) fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = [0; 200];
        match self.tunn.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Shakes hands; gives the messages that were sent for it. A cookie that is demanded is used.
    pub(crate) fn shake_hands(&mut self) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut sent = Vec::new();
        while Instant::now() < deadline {
            sent.push(self.initiation());
            self.send(sent.last().unwrap());
            while let Some(answer) = self.receive() {
                let mut buffer = [0; 2048];
                // What else comes is a cookie, or was said in a session before.
                if let TunnResult::WriteToNetwork(confirmation) =
                    self.tunn.decapsulate(None, &answer, &mut buffer)
                {
                    sent.push(confirmation.to_vec());
                    self.send(sent.last().unwrap());
                    return sent;
                }
                if answer[0] == 3 {
                    break;
                }
            }
        }
        panic!("no handshake within {PATIENCE:?}");
    }

    pub(crate) fn send(&self, message: &[u8]) {
        self.socket.send_to(message, self.gateway).unwrap();
    }

    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// Encrypts whatever it is.
    pub(crate) fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; packet.len() + 200];
        match self.tunn.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send_inside(&mut self, packet: &[u8]) {
        let message = self.seal(packet);
        self.send(&message);
    }
}

/// A UDP packet from one address to another, of one family.
pub(crate) fn udp(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let builder = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        mixed => panic!("{mixed:?}"),
    };
    let mut bytes = Vec::new();
    builder.udp(4_000, 5_000).write(&mut bytes, payload).unwrap();
    bytes
}
