//! With wireguard-go at the other end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use tunnel::{DropReason, PresharedKey, PrivateKey};

use crate::ends::{Go, Ours, peer};
use crate::place::{GATEWAY, GATEWAY_V6, Place, address, eventually};

const KEY: [u8; 32] = [9; 32];

fn key() -> PrivateKey {
    PrivateKey::from_bytes(KEY)
}

#[test]
fn wireguard_go_begins_in_both_families_and_over_both() {
    for outer in [GATEWAY, GATEWAY_V6] {
        let place = Place::new();
        let ours = Ours::start(&place, vec![peer(key().public())]);
        let _go = Go::start(&place, &key(), ours.public(), Some(address(outer, 51820)), None);
        eventually("a ping over IPv4", || place.client.pings("10.9.0.1"));
        eventually("a ping over IPv6", || place.client.pings("fd00:9::1"));
        assert!(place.gateway.pings("10.9.0.2") && place.gateway.pings("fd00:9::2"), "and back");
        let doctor = ours.doctor();
        assert!(doctor.last_handshake.is_some() && ours.counts().handshakes == 1, "{doctor:?}");
        assert_eq!(ours.dropped(DropReason::Handshake), 0);
    }
}

#[test]
fn we_begin() {
    let place = Place::new();
    let reachable =
        tunnel::PeerConfig { endpoint: Some(address("192.0.2.2", 51821)), ..peer(key().public()) };
    let ours = Ours::start(&place, vec![reachable]);
    let _go = Go::start(&place, &key(), ours.public(), None, None);
    eventually("a ping from the gateway", || place.gateway.pings("10.9.0.2"));
    assert!(place.client.pings("10.9.0.1"));
}

#[test]
fn a_shared_secret_must_be_the_same() {
    let place = Place::new();
    let secret = PresharedKey::from_bytes([3; 32]);
    let wanted = tunnel::PeerConfig { preshared_key: Some(secret.clone()), ..peer(key().public()) };
    let mut ours = Ours::start(&place, vec![wanted]);
    let _go = Go::start(&place, &key(), ours.public(), Some(address(GATEWAY, 51820)), Some(&secret));
    eventually("a ping with the secret", || place.client.pings("10.9.0.1"));
    ours.change(|peers| peers[0].preshared_key = Some(PresharedKey::from_bytes([4; 32])));
    assert!(!place.client.pings("10.9.0.1"), "with another secret");
    ours.change(|peers| peers[0].preshared_key = Some(secret));
    let go = _go;
    go.set(&["peer", &ours.public().to_string(), "endpoint", "192.0.2.1:51820"], &[]);
    eventually("a ping with the secret again", || place.client.pings("10.9.0.1"));
}

/// Sends a stream through the tunnel, lets something happen in the middle of it, and compares what arrives.
fn stream_across(place: &Place, mut happen: impl FnMut()) {
    const CHUNKS: usize = 64;
    let chunk: Vec<u8> = (0..32_768_u32).map(|number| (number * 31 % 251) as u8).collect();
    let listener = place.gateway.inside(|| TcpListener::bind("10.9.0.1:6000").unwrap());
    let mut out = place.client.inside(|| TcpStream::connect("10.9.0.1:6000").unwrap());
    let (mut into, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        into.read_to_end(&mut all).map(|_| all)
    });
    for number in 0..CHUNKS {
        if number % 16 == 8 {
            happen();
        }
        out.write_all(&chunk).unwrap();
    }
    drop(out);
    assert!(reader.join().unwrap().unwrap() == chunk.repeat(CHUNKS), "the stream arrives as it was sent");
}

#[test]
fn a_stream_survives_that_the_peer_moves() {
    let place = Place::new();
    let ours = Ours::start(&place, vec![peer(key().public())]);
    let go = Go::start(&place, &key(), ours.public(), Some(address(GATEWAY, 51820)), None);
    eventually("a ping", || place.client.pings("10.9.0.1"));
    let mut move_number = 0;
    stream_across(&place, || {
        move_number += 1;
        let (address, port) = (format!("192.0.2.{}/24", 50 + move_number), 52_000 + move_number);
        place.client.run("ip -4 address flush dev wire");
        place.client.run(&format!("ip address add {address} dev wire"));
        go.set(&["listen-port", &port.to_string()], &[]);
    });
    let last: SocketAddr = format!("192.0.2.{}:{}", 50 + move_number, 52_000 + move_number).parse().unwrap();
    let heard = ours.doctor().endpoint.unwrap();
    assert_eq!((heard.ip().to_canonical(), heard.port()), (last.ip(), last.port()));
    assert_eq!(move_number, 4);
}

#[test]
fn a_stream_survives_new_keys() {
    let place = Place::new();
    let ours = Ours::start(&place, vec![peer(key().public())]);
    let go = Go::start(&place, &key(), ours.public(), Some(address(GATEWAY, 51820)), None);
    eventually("a ping", || place.client.pings("10.9.0.1"));
    stream_across(&place, || {
        let before = ours.counts().handshakes;
        go.forget_session(address(GATEWAY, 51820));
        eventually("a handshake", || place.client.pings("10.9.0.1") && ours.counts().handshakes > before);
    });
    assert_eq!(ours.dropped(DropReason::NotAuthentic), 0);
}
