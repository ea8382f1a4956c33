//! A flood from one source and from many, and an honest peer among them.

use boringtun::noise::Tunn;

use super::*;
use crate::PrivateKey;

struct Scene {
    admission: Admission,
    client: Tunn,
    from: SocketAddr,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let (gateway, client) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let now = Instant::now();
        Self {
            admission: Admission::new(&gateway.public().point(), now),
            client: Tunn::new(client.scalar(), gateway.public().point(), None, None, 7, None),
            from: "192.0.2.1:4000".parse().unwrap(),
            now,
        }
    }

    fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = [0; 200];
        match self.client.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a message and says what became of it; a cookie reaches the client.
    fn send(&mut self, message: &[u8]) -> &'static str {
        let mut cookie = [0; 200];
        match self.admission.admit(message, self.from, self.now, &mut cookie) {
            Ok(Admitted::Message(_)) => "admitted",
            Ok(Admitted::Cookie(length)) => {
                let mut buffer = [0; 200];
                let taken = self.client.decapsulate(None, &cookie[..length], &mut buffer);
                assert!(matches!(taken, TunnResult::Done), "{taken:?}");
                "cookie"
            }
            Err(reason) => reason.as_str(),
        }
    }

    fn load(&mut self) {
        let message = self.initiation();
        for _ in 0..LOAD_LIMIT {
            self.send(&message);
        }
    }
}

#[test]
fn whoever_does_not_know_the_key_is_dropped_and_makes_no_load() {
    let mut scene = Scene::new();
    let mut forged = scene.initiation();
    forged[120] ^= 1;
    for _ in 0..1_000 {
        assert_eq!(scene.send(&forged), "wrong-mac");
    }
    let honest = scene.initiation();
    assert_eq!(scene.send(&honest), "admitted");
}

#[test]
fn under_load_a_cookie_lets_an_honest_peer_in_and_it_is_bound_to_address_and_port() {
    let mut scene = Scene::new();
    scene.load();
    let first = scene.initiation();
    assert_eq!(scene.send(&first), "cookie");
    let second = scene.initiation();
    scene.from.set_port(4001);
    assert_eq!(scene.send(&second), "cookie", "another port");
    // That answer replaced the client's cookie, which is now one for the new port.
    let third = scene.initiation();
    assert_eq!(scene.send(&third), "admitted");
    scene.from.set_ip("192.0.2.2".parse().unwrap());
    let mut unheard = [0; 200];
    let elsewhere = scene.admission.admit(&third, scene.from, scene.now, &mut unheard);
    assert!(matches!(elsewhere, Ok(Admitted::Cookie(_))), "another address");
}

#[test]
fn load_ends() {
    let mut scene = Scene::new();
    scene.load();
    scene.now += WINDOW * 3;
    let message = scene.initiation();
    assert_eq!(scene.send(&message), "admitted");
}

#[test]
fn one_source_with_a_cookie_gets_a_burst_and_then_a_trickle() {
    let mut scene = Scene::new();
    scene.load();
    let first = scene.initiation();
    assert_eq!(scene.send(&first), "cookie");
    let message = scene.initiation();
    let admitted = (0..100).filter(|_| scene.send(&message) == "admitted").count();
    assert_eq!(admitted, 5);
    assert_eq!(scene.send(&message), "source-limit");
    scene.now += SOURCE_REFILL;
    assert_eq!((scene.send(&message), scene.send(&message)), ("admitted", "source-limit"));
}

#[test]
fn the_memory_of_sources_is_bounded() {
    let mut scene = Scene::new();
    for host in 0..20_000_u32 {
        scene.admission.source_may(IpAddr::V4(host.into()), scene.now);
    }
    assert!(scene.admission.sources.len() <= MAX_SOURCES);
    scene.now += SOURCE_REFILL * SOURCE_BURST;
    assert!(scene.admission.source_may(IpAddr::V4(30_000.into()), scene.now), "old sources make room");
    let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap());
    assert_eq!(source(a), source(b), "a /64 is one source");
    assert_eq!(source("::ffff:192.0.2.1".parse().unwrap()), source("192.0.2.1".parse().unwrap()));
}
