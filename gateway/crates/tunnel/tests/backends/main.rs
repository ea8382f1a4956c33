//! What every WireGuard behind the trait must do, seen from outside: this crate's data path always, the kernel's where
//! there is one (the QEMU test brings such a kernel). The peer writes its messages itself. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]

#[path = "../namespaces/client.rs"]
mod client;
mod drift;
mod gateway;
#[path = "../namespaces/place.rs"]
#[expect(dead_code, reason = "shared with the tests of this crate's own data path")]
mod place;

use std::time::{Duration, SystemTime};

use tunnel::{Backend, PeerConfig, PresharedKey, PrivateKey};

use gateway::{GATEWAY_IN, Gateway, OWN, each, key, peer};
use place::{GATEWAY, GATEWAY_V6, address, eventually};

#[test]
fn packets_come_and_go_in_both_families_over_both() {
    each(|backend| {
        for outer in [GATEWAY, GATEWAY_V6] {
            let gateway = Gateway::start(backend, vec![peer()]);
            assert_eq!(gateway.tunnel.backend(), backend);
            let before = gateway.doctor();
            assert_eq!((before.last_handshake, before.endpoint, before.received_bytes), (None, None, 0));
            let mut client = gateway.client_over(outer);
            gateway.hears_all(&mut client);
            gateway.answers(&mut client);
            let doctor = gateway.doctor();
            let since = doctor.last_handshake.unwrap().elapsed().unwrap_or_default();
            assert!(since < Duration::from_secs(60), "{doctor:?}");
            let endpoint = doctor.endpoint.unwrap();
            assert_eq!(endpoint.port(), client.socket.local_addr().unwrap().port());
            assert_eq!(endpoint.ip().to_canonical().is_ipv6(), outer == GATEWAY_V6);
            assert!(doctor.received_bytes > 0 && doctor.sent_bytes > 0, "{doctor:?}");
        }
    });
}

#[test]
fn a_source_that_is_not_the_peers_does_not_come_out() {
    each(|backend| {
        let gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
        let before = gateway.came_out();
        for last in 0..=255_u8 {
            for (from, to) in [
                (format!("10.9.0.{last}"), GATEWAY_IN[0]),
                (format!("192.168.10.{last}"), GATEWAY_IN[0]),
                (format!("fd00:9::{last:x}"), GATEWAY_IN[1]),
                (format!("2001:db8:5::{last:x}"), GATEWAY_IN[1]),
            ] {
                if !OWN.contains(&from.as_str()) {
                    gateway.say(&mut client, &from, to);
                }
            }
        }
        gateway.hears_all(&mut client);
        // Only what was honest: one in each family, again until it was heard.
        let out = gateway.came_out() - before;
        assert!(out < 100, "{out} packets came out of the tunnel");
        assert_eq!(gateway.heard_from_others(), 0);
    });
}

#[test]
fn a_network_nested_in_anothers_belongs_to_whom_it_names() {
    each(|backend| {
        let site = PeerConfig { allowed_ips: vec!["10.9.0.0/28".parse().unwrap()], ..peer() };
        let other = PrivateKey::from_bytes([8; 32]).public();
        let nested = PeerConfig { name: "nested".into(), public_key: other, ..peer() };
        let gateway = Gateway::start(backend, vec![site, nested]);
        let mut client = gateway.client();
        eventually("its own", || {
            gateway.say(&mut client, OWN[0], GATEWAY_IN[0]);
            gateway.say(&mut client, "10.9.0.3", GATEWAY_IN[0]);
            gateway.heard_from("10.9.0.3")
        });
        assert!(!gateway.heard_from(OWN[0]), "another's");
    });
}

#[test]
fn a_peer_that_is_taken_away_is_gone_when_that_returns() {
    each(|backend| {
        let mut gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
        // The same again is no change: the session goes on.
        gateway.change(|_| {});
        gateway.hears_all(&mut client);
        gateway.change(Vec::clear);
        gateway.is_silent(&mut client);
        assert!(gateway.tunnel.stats().unwrap().peers.is_empty());
        assert!(!gateway.answers_initiation(&mut client));
        gateway.change(|peers| peers.push(peer()));
        gateway.is_silent(&mut client);
        client.shake_hands();
        gateway.hears_all(&mut client);
    });
}

#[test]
fn a_peer_whose_time_is_over_is_gone_with_that_instant() {
    each(|backend| {
        let mut gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        let until = SystemTime::now() + Duration::from_secs(3);
        gateway.change(|peers| peers[0].until = Some(until));
        gateway.hears_all(&mut client);
        assert!(SystemTime::now() < until, "the machine was too slow for this test");
        let before = gateway.doctor();
        assert!(before.last_handshake.is_some());
        std::thread::sleep(until.duration_since(SystemTime::now()).unwrap_or_default());
        eventually("its end", || gateway.doctor().last_handshake.is_none());
        gateway.is_silent(&mut client);
        assert!(!gateway.answers_initiation(&mut client));
        let after = gateway.doctor();
        assert!(after.received_bytes >= before.received_bytes, "what was counted is kept: {after:?}");
        gateway.change(|peers| peers[0].until = None);
        client.shake_hands();
        gateway.hears_all(&mut client);
    });
}

#[test]
fn another_shared_secret_ends_the_session_when_that_returns() {
    each(|backend| {
        let mut gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
        gateway.change(|peers| peers[0].preshared_key = Some(PresharedKey::from_bytes([4; 32])));
        gateway.is_silent(&mut client);
    });
}

#[test]
fn the_gateway_follows_a_peer_that_moves() {
    each(|backend| {
        let gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
        for _ in 0..3 {
            client.socket = gateway.place.client.inside(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
            client.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            gateway.hears_all(&mut client);
            gateway.answers(&mut client);
            let port = client.socket.local_addr().unwrap().port();
            assert_eq!(gateway.doctor().endpoint.unwrap().port(), port);
        }
    });
}

#[test]
fn networks_and_keys_change_at_once() {
    each(|backend| {
        let mut gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
        gateway.change(|peers| peers[0].allowed_ips = vec!["10.9.0.77/32".parse().unwrap()]);
        gateway.is_silent(&mut client);
        eventually("the new address, by the old session", || {
            gateway.say(&mut client, "10.9.0.77", GATEWAY_IN[0]);
            gateway.heard_from("10.9.0.77")
        });
        gateway.change(|peers| *peers = vec![peer()]);
        gateway.hears_all(&mut client);
        gateway.config.private_key = PrivateKey::from_bytes([77; 32]);
        gateway.change(|_| {});
        gateway.is_silent(&mut client);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
    });
}

#[test]
fn what_cannot_be_carried_out_changes_nothing() {
    each(|backend| {
        let gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        let twice = tunnel::Config { peers: vec![peer(), peer()], ..gateway.config.clone() };
        assert!(gateway.tunnel.configure(&twice).unwrap_err().to_string().contains("same name"));
        let elsewhere = tunnel::Config { listen_port: 51_999, ..gateway.config.clone() };
        assert!(gateway.tunnel.configure(&elsewhere).unwrap_err().to_string().contains("51820"));
        gateway.hears_all(&mut client);
    });
}

#[test]
fn what_was_closed_is_silent() {
    each(|backend| {
        let gateway = Gateway::start(backend, vec![peer()]);
        let mut client = gateway.client();
        gateway.hears_all(&mut client);
        let Gateway { tunnel, place, .. } = gateway;
        tunnel.close().unwrap();
        let initiation = client.initiation();
        // A port that is closed is said to be, which is no answer of a tunnel.
        let _ = client.socket.send_to(&initiation, address(GATEWAY, 51820));
        assert_eq!(client.receive(), None);
        drop(place);
    });
}

/// On the machine of the tests the kernel may have no WireGuard; that must be said, and be the reason.
#[test]
fn a_kernel_without_wireguard_is_a_clear_error() {
    if !gateway::is_in_kernel() {
        let config = tunnel::Config { private_key: key(), listen_port: 0, peers: Vec::new() };
        let error = tunnel::Kernel::start("sekisho-none", &config).unwrap_err().to_string();
        assert!(error.contains("the kernel's WireGuard"), "{error}");
        assert_ne!(Backend::Kernel, Backend::UserSpace);
    }
}
