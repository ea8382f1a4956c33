//! Keys that change: the secret that is shared besides them, and those of a session, which live two minutes.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tunnel::{DropReason, PeerConfig, PresharedKey};

use crate::ends::{Go, Ours, peer};
use crate::hostile::{key, scene, while_sending};
use crate::place::{GATEWAY, PATIENCE, Place, address, eventually};

#[test]
fn another_shared_secret_ends_the_session_when_that_returns() {
    let (place, mut ours, mut client) = scene();
    let (gateway, interface) = (place.gateway.clone(), ours.interface.clone());
    while_sending(&mut client, || {
        eventually("packets", || ours.counts().received_packets > 100);
        // The same configuration again is no change.
        ours.change(|_| {});
        let before = ours.counts().received_packets;
        eventually("more of them", || ours.counts().received_packets > before + 50);
        assert_eq!(ours.dropped(DropReason::UnknownSession), 0);
        ours.change(|peers| peers[0].preshared_key = Some(PresharedKey::from_bytes([4; 32])));
        let at_the_end = gateway.received_packets(&interface);
        eventually("later ones", || ours.dropped(DropReason::UnknownSession) > 100);
        assert_eq!(gateway.received_packets(&interface), at_the_end);
        assert_eq!(ours.doctor().last_handshake, None);
    });
}

/// Whitepaper, section 6.1: REKEY_AFTER_TIME, and how long until the test gives up.
const KEY_LIFE: Duration = Duration::from_secs(120);
const KEY_LIMIT: Duration = Duration::from_secs(150);
/// Goes on with the new keys.
const AFTERWARDS: Duration = Duration::from_secs(5);
const PACE: Duration = Duration::from_millis(5);

/// Numbered packets one way; those that did not arrive.
struct Stream {
    from: UdpSocket,
    to: UdpSocket,
    sent: AtomicU64,
}

impl Stream {
    fn new(from: UdpSocket, to: UdpSocket) -> Self {
        to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { from, to, sent: AtomicU64::new(0) }
    }

    fn send(&self, is_over: &AtomicBool) {
        let mut next = Instant::now();
        while !is_over.load(Ordering::SeqCst) {
            let number = self.sent.fetch_add(1, Ordering::SeqCst);
            self.from.send(&number.to_be_bytes()).unwrap();
            next += PACE;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Ends when all have come, or a while after nothing more comes.
    fn receive(&self, is_over: &AtomicBool) -> BTreeSet<u64> {
        let (mut seen, mut buffer, mut last) = (BTreeSet::new(), [0; 8], Instant::now());
        loop {
            if let Ok(8) = self.to.recv(&mut buffer) {
                seen.insert(u64::from_be_bytes(buffer));
                last = Instant::now();
            }
            let has_ended = is_over.load(Ordering::SeqCst);
            let has_all = seen.len() as u64 == self.sent.load(Ordering::SeqCst);
            if has_ended && (has_all || last.elapsed() > PATIENCE) {
                return seen;
            }
        }
    }

    fn lost(&self, seen: &BTreeSet<u64>) -> Vec<u64> {
        (0..self.sent.load(Ordering::SeqCst)).filter(|number| !seen.contains(number)).collect()
    }
}

/// Carries a stream each way past the end of the first keys.
fn past_the_first_keys(place: &Place, ours: &Ours, who: &str) {
    let bind = |at: &str| UdpSocket::bind((at, 7_000)).unwrap();
    let near = place.gateway.inside(|| bind("10.9.0.1"));
    let far = place.client.inside(|| bind("10.9.0.2"));
    near.connect("10.9.0.2:7000").unwrap();
    far.connect("10.9.0.1:7000").unwrap();
    let streams = [Stream::new(near.try_clone().unwrap(), far.try_clone().unwrap()), Stream::new(far, near)];
    let first = ours.doctor().last_handshake.unwrap();
    let (start, is_over) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let receivers = streams.each_ref().map(|stream| {
            scope.spawn(|| stream.send(&is_over));
            scope.spawn(|| stream.receive(&is_over))
        });
        while ours.counts().handshakes < 2 && start.elapsed() < KEY_LIMIT {
            std::thread::sleep(Duration::from_millis(100));
        }
        let took = start.elapsed();
        std::thread::sleep(AFTERWARDS);
        is_over.store(true, Ordering::SeqCst);
        let seen = receivers.map(|receiver| receiver.join().unwrap());
        let doctor = ours.doctor();
        for (stream, seen) in streams.iter().zip(&seen) {
            let sent = stream.sent.load(Ordering::SeqCst);
            println!("{who}: new keys after {:.1} s, {} of {sent} arrived", took.as_secs_f64(), seen.len());
            assert_eq!(stream.lost(seen), [], "{who}: lost");
        }
        assert!(ours.counts().handshakes >= 2 && doctor.last_handshake.unwrap() > first, "{who}: {doctor:?}");
        // Not by loss of the first keys, and not before their time; the clock tells whole seconds.
        assert!(took + Duration::from_secs(2) >= KEY_LIFE, "{who}: new keys after {took:?}");
        for reason in [DropReason::NotAuthentic, DropReason::UnknownSession, DropReason::Replay] {
            assert_eq!(ours.dropped(reason), 0, "{who}: {reason:?}");
        }
    });
}

/// With wireguard-go: where it began, it asks for new keys; where we began, we do. Both at once, for each takes two minutes.
#[test]
fn new_keys_by_the_clock_lose_nothing() {
    let place = Place::new();
    let ours = Ours::start(&place, vec![peer(key().public())]);
    let _go = Go::start(&place, &key(), ours.public(), Some(address(GATEWAY, 51820)), None);
    eventually("a ping", || place.client.pings("10.9.0.1"));

    let other = Place::new();
    let reachable = PeerConfig { endpoint: Some(address("192.0.2.2", 51821)), ..peer(key().public()) };
    let begun = Ours::start(&other, vec![reachable]);
    let _other_go = Go::start(&other, &key(), begun.public(), None, None);
    eventually("a ping from the gateway", || other.gateway.pings("10.9.0.2"));

    std::thread::scope(|scope| {
        scope.spawn(|| past_the_first_keys(&place, &ours, "wireguard-go began"));
        past_the_first_keys(&other, &begun, "we began");
    });
}
