//! Routing by key, and what survives a change of the configuration.

use std::time::Duration;

use super::*;

fn peer(name: &str, key: u8, networks: &[&str]) -> PeerConfig {
    PeerConfig {
        name: name.into(),
        public_key: PrivateKey::from_bytes([key; 32]).public(),
        preshared_key: None,
        allowed_ips: networks.iter().map(|network| network.parse().unwrap()).collect(),
        endpoint: Some("192.0.2.1:1".parse().unwrap()),
        keepalive_s: None,
        until: None,
    }
}

fn config(peers: &[PeerConfig]) -> Config {
    Config { private_key: PrivateKey::from_bytes([99; 32]), listen_port: 0, peers: peers.to_vec() }
}

fn name(table: &Table, address: &str) -> Option<String> {
    let position = table.owner(address.parse().unwrap())?;
    table.peer(position).map(|peer| peer.config.name.clone())
}

#[test]
fn the_longest_prefix_owns_an_address() {
    let peers = [peer("site", 1, &["10.9.0.0/24", "fd00:9::/64"]), peer("doctor", 2, &["10.9.0.5/32"])];
    let table = Table::new(&config(&peers), None, SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(name(&table, "10.9.0.4").as_deref(), Some("site"));
    assert_eq!(name(&table, "10.9.0.5").as_deref(), Some("doctor"));
    assert_eq!(name(&table, "fd00:9::5").as_deref(), Some("site"));
    assert_eq!(name(&table, "10.8.0.5"), None);
    let site = table.by_key(&peers[0].public_key).unwrap();
    assert!(!table.owns(site, "10.9.0.5".parse().unwrap()), "nested in the site's network, but the doctor's");
    assert!(table.owns(site, "10.9.0.6".parse().unwrap()));
}

#[test]
fn sessions_survive_unless_keys_or_time_say_otherwise() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let after = |change: &dyn Fn(&mut PeerConfig), now| {
        let mut one = peer("a", 1, &["10.9.0.1/32"]);
        one.until = Some(start + Duration::from_secs(10));
        let table = Table::new(&config(std::slice::from_ref(&one)), None, start).unwrap();
        let index = table.peers[0].index;
        table.peers[0].counters.drops.count(crate::DropReason::Replay);
        change(&mut one);
        let table = Table::new(&config(&[one]), Some(table), now).unwrap();
        let stats = table.stats(now);
        let counted = stats["a"].counted.as_ref().unwrap().drops[&crate::DropReason::Replay];
        assert_eq!(counted, 1, "counters go on");
        table.peers[0].index == index
    };
    assert!(after(&|_| (), start));
    assert!(after(&|peer| peer.allowed_ips.clear(), start));
    assert!(after(&|peer| peer.until = None, start));
    assert!(!after(&|peer| peer.preshared_key = Some(crate::PresharedKey::from_bytes([1; 32])), start));
    assert!(!after(&|peer| peer.until = None, start + Duration::from_secs(11)), "it had ended");
}

#[test]
fn a_peer_that_is_gone_is_not_found_and_another_private_key_ends_all() {
    let (a, b) = (peer("a", 1, &["10.9.0.1/32"]), peer("b", 2, &["10.9.0.2/32"]));
    let now = SystemTime::UNIX_EPOCH;
    let table = Table::new(&config(&[a.clone(), b.clone()]), None, now).unwrap();
    let (index_a, index_b) = (table.peers[0].index, table.peers[1].index);
    let table = Table::new(&config(std::slice::from_ref(&b)), Some(table), now).unwrap();
    assert!(table.by_index(index_a).is_none() && table.by_key(&a.public_key).is_none());
    assert_eq!(name(&table, "10.9.0.1"), None);
    assert!(table.by_index(index_b).is_some());
    let other = Config { private_key: PrivateKey::from_bytes([98; 32]), ..config(&[b]) };
    assert!(Table::new(&other, Some(table), now).unwrap().by_index(index_b).is_none());
}

#[test]
fn a_peer_is_open_until_its_last_instant_and_not_in_it() {
    let mut one = peer("a", 1, &[]);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
    one.until = Some(end);
    let table = Table::new(&config(&[one]), None, SystemTime::UNIX_EPOCH).unwrap();
    assert!(table.peers[0].is_open(end - Duration::from_nanos(1)));
    assert!(!table.peers[0].is_open(end));
}
