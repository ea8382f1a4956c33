//! Under a flood of permitted packets, a change of rule sets loses none of them.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netfilter::{LiveSet, Netfilter, delta};
use policy::ruleset::{
    Base, BaseKind, Chain, Counter, Data, DataType, Family, Field, Hook, Key, KeyType, LIVE, Mark, Rule,
    Ruleset, Set, Statement, Value, Verdict,
};

use crate::namespace::{in_namespace, run};

const PERMITTED: u16 = 9;

#[test]
fn a_replaced_set_loses_no_permitted_packet() {
    let update = |kernel: &mut Netfilter, have: &Ruleset, want: &Ruleset| {
        kernel.update(have, want, &LiveSet::new()).unwrap().transactions
    };
    assert_eq!(flood([ruleset(0, true), ruleset(1, true)], update), 5);
    // A set of exact keys appears together with the rules that use it, and must not vanish together with them.
    assert_eq!(flood([ruleset(0, false), ruleset(1, false)], update), 5);
}

#[test]
fn a_whole_load_over_the_same_loses_no_permitted_packet() {
    let replace = |kernel: &mut Netfilter, _: &Ruleset, want: &Ruleset| {
        kernel.replace(want, &LiveSet::new()).unwrap().transactions
    };
    assert_eq!(flood([ruleset(0, true), ruleset(1, true)], replace), 5);
}

/// Changes between two rule sets again and again while permitted packets are sent, and fails if one is dropped. Returns
/// the transactions of the last change.
fn flood(rule_sets: [Ruleset; 2], change: impl Fn(&mut Netfilter, &Ruleset, &Ruleset) -> u32 + Sync) -> u32 {
    in_namespace(|| {
        run("ip", &["link", "set", "lo", "up"], "");
        assert!(delta::plan(&rule_sets[0], &rule_sets[1]).make.replaced_sets.contains("pairs"));
        let mut kernel = Netfilter::open().unwrap();
        kernel.replace(&rule_sets[0], &LiveSet::new()).unwrap();
        let done = AtomicBool::new(false);
        let mut transactions = 0;
        let (sent, refused) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| send_until(&done));
            for step in 0..40 {
                let (have, want) = (&rule_sets[step % 2], &rule_sets[(step + 1) % 2]);
                transactions = change(&mut kernel, have, want);
            }
            done.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        assert!(sent > 10_000, "{sent}");
        assert_eq!((refused, kernel.counters().unwrap()["dropped"].0), (0, 0), "of {sent}");
        assert_eq!(kernel.verify(&rule_sets[0], &LiveSet::new(), Duration::ZERO).unwrap(), []);
        transactions
    })
}

/// Sends permitted packets and returns how many went out and how many the output chain refused.
fn send_until(done: &AtomicBool) -> (u64, u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut sent, mut refused) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        // A packet that the output chain drops is EPERM to its sender; nobody listens: ECONNREFUSED.
        match socket.send_to(b"x", (Ipv4Addr::LOCALHOST, PERMITTED)) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => refused += 1,
            Ok(_) | Err(_) => sent += 1,
        }
    }
    (sent, refused)
}

/// Permits one port from one address; others, to make the map large, have another mark in each version.
fn ruleset(version: u8, interval: bool) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let counter = Counter::Dropped { reason: "dropped".to_owned(), zone: String::new() };
    ruleset.counters.insert("dropped".to_owned(), counter);
    let map = Set::map(vec![KeyType::Ip4, KeyType::Port], DataType::Mark);
    let mut pairs = Set { interval, ..map };
    let key = |address, port| Key::exact([Value::Ip4(address), Value::Port(port)]);
    pairs.elements.insert(key(Ipv4Addr::LOCALHOST, PERMITTED), Data::Mark(Mark(1)));
    for number in 0..2_000_u16 {
        let [high, low] = number.to_be_bytes();
        let mark = Mark(2 + u32::from(version));
        pairs.elements.insert(key(Ipv4Addr::new(10, 0, high, low), number), Data::Mark(mark));
    }
    ruleset.sets.insert("pairs".to_owned(), pairs);
    ruleset.sets.insert(LIVE.to_owned(), Set { timeout: true, ..Set::new(vec![KeyType::Mark]) });
    let fields = vec![Field::Source4, Field::DestinationPort];
    let permitted = Statement::MarkFrom { fields, map: "pairs".to_owned() };
    let rule = |statements: &[Statement]| Rule { why: String::new(), statements: statements.to_vec() };
    let rules = vec![
        rule(&[Statement::Protocol(1), Statement::Verdict(Verdict::Accept)]),
        rule(&[Statement::Family(Family::Ip4), permitted, Statement::Verdict(Verdict::Accept)]),
        rule(&[Statement::Counter("dropped".to_owned()), Statement::Verdict(Verdict::Drop)]),
    ];
    let base = Base { kind: BaseKind::Filter, hook: Hook::Output, priority: 0, drop: true };
    ruleset.chains.insert("out".to_owned(), Chain { base: Some(base), rules });
    ruleset
}
