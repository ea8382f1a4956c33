//! A peer, and strangers, that do what no honest one would.

use std::net::{IpAddr, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use tunnel::{DropReason, PeerConfig, PrivateKey};

use crate::client::{Client, udp};
use crate::ends::{Ours, peer};
use crate::place::{Place, eventually};

const OWN: [&str; 2] = ["10.9.0.2", "fd00:9::2"];
const INSIDE: [&str; 2] = ["10.9.0.1", "fd00:9::1"];

pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_bytes([9; 32])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A gateway, and a client that has shaken hands with it.
pub(crate) fn scene() -> (Place, Ours, Client) {
    let place = Place::new();
    let ours = Ours::start(&place, vec![peer(key().public())]);
    let mut client = Client::new(&place, &key(), ours.public());
    client.shake_hands();
    eventually("the confirmation", || ours.doctor().last_handshake.is_some());
    (place, ours, client)
}

/// Sends one honest packet and waits until it arrives.
fn is_alive(place: &Place, ours: &Ours, client: &mut Client) {
    let server = place.gateway.inside(|| UdpSocket::bind("10.9.0.1:5000").unwrap());
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    eventually("an honest packet", || {
        client.send_inside(&udp(ip(OWN[0]), ip(INSIDE[0]), b"honest"));
        let mut buffer = [0; 16];
        server.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"honest")
    });
    assert!(ours.counts().received_packets > 0);
}

#[test]
fn of_ten_thousand_spoofed_packets_none_comes_out() {
    let (place, ours, mut client) = scene();
    let before = place.gateway.received_packets(&ours.interface);
    let mut spoofed = 0;
    // A fixed sequence (Knuth's multiplier), so that a failure can be seen again.
    let mut state = 1_u128;
    for number in 0..10_000_u32 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f).wrapping_add(12_345);
        let (from, to) = match number % 4 {
            0 => (IpAddr::V4(((state >> 64) as u32).into()), ip(INSIDE[0])),
            1 => (IpAddr::V6(state.into()), ip(INSIDE[1])),
            // Neighbours of its own address are the likeliest mistake.
            2 => (IpAddr::V4((0x0a09_0000 + number % 256).into()), ip(INSIDE[0])),
            _ => (IpAddr::V6((0xfd00_0009_u128 << 96 | u128::from(number % 256)).into()), ip(INSIDE[1])),
        };
        spoofed += u64::from(!OWN.contains(&from.to_string().as_str()));
        client.send_inside(&udp(from, to, b"spoofed"));
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let own = 10_000 - spoofed;
    assert!(spoofed > 9_900 && own > 0);
    eventually("all of them counted", || {
        ours.dropped(DropReason::InnerSource) == spoofed && ours.counts().received_packets == own
    });
    let out = place.gateway.received_packets(&ours.interface) - before;
    assert!(out <= own, "{out} packets came out of the tunnel, {own} were the peer's own");
    is_alive(&place, &ours, &mut client);
}

#[test]
fn a_network_nested_in_anothers_belongs_to_whom_it_names() {
    let place = Place::new();
    let site = PeerConfig { allowed_ips: vec!["10.9.0.0/28".parse().unwrap()], ..peer(key().public()) };
    let nested = PeerConfig { name: "nested".into(), ..peer(PrivateKey::from_bytes([8; 32]).public()) };
    let ours = Ours::start(&place, vec![site, nested]);
    let mut client = Client::new(&place, &key(), ours.public());
    client.shake_hands();
    client.send_inside(&udp(ip("10.9.0.2"), ip(INSIDE[0]), b"another's"));
    client.send_inside(&udp(ip("10.9.0.3"), ip(INSIDE[0]), b"its own"));
    eventually("one of two", || ours.counts().received_packets == 1);
    assert_eq!(ours.dropped(DropReason::InnerSource), 1);
}

#[test]
fn what_is_no_message_is_counted_and_harms_nobody() {
    let (place, ours, mut client) = scene();
    let initiation = client.initiation();
    let data = client.seal(&udp(ip(OWN[0]), ip(INSIDE[0]), b"x"));
    for message in [&initiation, &data] {
        for length in 0..message.len().min(32) {
            client.send(&message[..length]);
        }
        let long = [message.as_slice(), &vec![0; 60_000]].concat();
        client.send(&long);
    }
    // An empty datagram is nothing at all; the long initiation and the others are malformed, the long data not authentic.
    eventually("they are counted", || {
        ours.dropped(DropReason::Malformed) >= 63 && ours.dropped(DropReason::NotAuthentic) == 1
    });
    let mut lying = udp(ip(OWN[0]), ip(INSIDE[0]), b"shorter than its own header");
    lying[2..4].fill(0);
    for inner in [&[0x45_u8; 5][..], &[0x45; 19], &[0x60; 39], &[0x00; 40], &[0xff; 100], &[0x45; 40], &lying]
    {
        client.send_inside(inner);
    }
    eventually("what is no packet is counted", || ours.dropped(DropReason::InnerMalformed) == 7);
    assert_eq!(ours.dropped(DropReason::Device), 0);
    is_alive(&place, &ours, &mut client);
}

#[test]
fn what_was_said_before_is_not_heard_again() {
    let (place, ours, mut client) = scene();
    let sent = client.shake_hands();
    let data = client.seal(&udp(ip(OWN[0]), ip(INSIDE[0]), b"once"));
    client.send(&data);
    eventually("the first", || ours.counts().received_packets == 1);
    for _ in 0..10 {
        client.send(&data);
        client.send(&sent[0]);
    }
    eventually("20 replays", || ours.dropped(DropReason::Replay) == 20);
    assert_eq!(ours.counts().received_packets, 1);
    // A number at the end of its range must not wrap, whoever sends it.
    let mut last = client.seal(b"");
    last[8..16].fill(0xff);
    client.send(&last);
    eventually("the last number", || ours.dropped(DropReason::Replay) == 21);
    // What the gateway said, said back to it.
    let (initiation, mut reflections) = (client.initiation(), 0);
    client.send(&initiation);
    while let Some(answer) = client.receive() {
        client.send(&answer);
        reflections += 1;
    }
    assert!(reflections > 0);
    eventually("reflections", || {
        ours.dropped(DropReason::UnknownSession) + ours.dropped(DropReason::WrongMac) >= reflections
    });
    client.shake_hands();
    is_alive(&place, &ours, &mut client);
}

#[test]
fn a_flood_of_handshakes_is_held_off_and_an_honest_peer_gets_in() {
    let place = Place::new();
    let ours = Ours::start(&place, vec![peer(key().public())]);
    let mut flood = Client::new(&place, &PrivateKey::from_bytes([66; 32]), ours.public());
    let messages: Vec<_> = (0..64).map(|_| flood.initiation()).collect();
    let sockets: Vec<UdpSocket> =
        place.client.inside(|| (0..16).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect());
    let mut honest = Client::new(&place, &key(), ours.public());
    let gateway = honest.gateway;
    std::thread::scope(|scope| {
        let (done, is_done) = channel::<()>();
        scope.spawn(move || {
            for (number, message) in messages.iter().cycle().enumerate() {
                let _ = sockets[number % sockets.len()].send_to(message, gateway);
                // Thousands a second: more than the gateway would ever compute for, and not more than the wire takes.
                if number % 16 == 0
                    && is_done.recv_timeout(Duration::from_millis(1)) != Err(RecvTimeoutError::Timeout)
                {
                    break;
                }
            }
        });
        eventually("load", || ours.dropped(DropReason::UnderLoad) > 1_000);
        honest.shake_hands();
        drop(done);
    });
    let stats = ours.stats();
    // Each key exchange ended in this count; a stranger's cookie is never used, so only those before the load did.
    let exchanges = stats.dropped(DropReason::UnknownPeer);
    assert!(exchanges <= 64 * 40, "{exchanges} key exchanges were spent on strangers");
    assert!(stats.dropped(DropReason::UnderLoad) > exchanges);
    is_alive(&place, &ours, &mut honest);
}

#[test]
fn a_stranger_hears_nothing() {
    let (place, ours, _) = scene();
    let mut unknown = Client::new(&place, &PrivateKey::from_bytes([66; 32]), ours.public());
    let wrong = PrivateKey::from_bytes([65; 32]).public();
    let mut elsewhere = Client::new(&place, &key(), wrong);
    for stranger in [&mut unknown, &mut elsewhere] {
        let initiation = stranger.initiation();
        stranger.send(&initiation);
        assert_eq!(stranger.receive(), None);
    }
    assert_eq!((ours.dropped(DropReason::UnknownPeer), ours.dropped(DropReason::WrongMac)), (1, 1));
}

/// Sends a packet each millisecond until told to stop, while something happens.
pub(crate) fn while_sending(client: &mut Client, happen: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(happen);
        while !thread.is_finished() {
            client.send_inside(&udp(ip(OWN[0]), ip(INSIDE[0]), b"still here"));
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_peer_that_is_taken_away_is_gone_when_that_returns() {
    let (place, mut ours, mut client) = scene();
    let (gateway, interface) = (place.gateway.clone(), ours.interface.clone());
    while_sending(&mut client, || {
        eventually("packets", || ours.counts().received_packets > 100);
        ours.change(Vec::clear);
        let at_the_end = gateway.received_packets(&interface);
        eventually("later ones", || ours.dropped(DropReason::UnknownSession) > 100);
        assert_eq!(gateway.received_packets(&interface), at_the_end);
    });
    let initiation = client.initiation();
    client.send(&initiation);
    eventually("its handshake refused", || ours.dropped(DropReason::UnknownPeer) == 1);
    assert!(ours.stats().peers.is_empty());
    // Back again it needs a new session.
    ours.change(|peers| peers.push(peer(key().public())));
    client.send_inside(&udp(ip(OWN[0]), ip(INSIDE[0]), b"old session"));
    client.shake_hands();
    is_alive(&place, &ours, &mut client);
}

#[test]
fn a_peer_whose_time_is_over_is_gone_with_that_instant() {
    let (place, mut ours, mut client) = scene();
    let until = SystemTime::now() + Duration::from_millis(500);
    ours.change(|peers| peers[0].until = Some(until));
    let (gateway, interface) = (place.gateway.clone(), ours.interface.clone());
    while_sending(&mut client, || {
        eventually("packets", || ours.counts().received_packets > 50);
        eventually("its end", || ours.dropped(DropReason::Expired) > 0);
        assert!(SystemTime::now() >= until, "not before its time");
        let at_the_end = gateway.received_packets(&interface);
        eventually("later ones", || ours.dropped(DropReason::Expired) > 200);
        assert_eq!(gateway.received_packets(&interface), at_the_end);
    });
    let (initiation, before) = (client.initiation(), ours.dropped(DropReason::Expired));
    while client.receive().is_some() {}
    client.send(&initiation);
    eventually("its handshake refused", || ours.dropped(DropReason::Expired) > before);
    assert_eq!(client.receive(), None);
    // Nor does anything go to it.
    let before = ours.counts().sent_packets;
    assert!(!place.gateway.pings(OWN[0]));
    assert_eq!(ours.counts().sent_packets, before);
}

#[test]
fn packets_for_peers_that_are_away_are_dropped_and_not_kept() {
    let place = Place::new();
    let away = PeerConfig { endpoint: Some("192.0.2.77:1".parse().unwrap()), ..peer(key().public()) };
    let ours = Ours::start(&place, vec![away]);
    let sender = place.gateway.inside(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    eventually("most of them dropped", || {
        sender.send_to(b"hello", (OWN[0], 9)).unwrap();
        ours.dropped(DropReason::QueueFull) >= 200
    });
    assert_eq!(ours.counts().sent_packets, 32, "no more than these wait for a handshake");
    sender.send_to(b"nobody's", ("10.9.0.200", 9)).unwrap();
    eventually("nobody's", || ours.dropped(DropReason::NoPeer) >= 1);
    let start = Instant::now();
    tunnel::Tunnel::close(Box::new(ours.tunnel)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "it closes although it waits for an answer");
}
