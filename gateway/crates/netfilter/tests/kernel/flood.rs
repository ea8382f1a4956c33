//! Under a flood of permitted packets, a change of rule sets loses none of them.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netfilter::{LiveSet, Netfilter, delta};
use policy::ruleset::{
    Base, BaseKind, Chain, Counter, Data, DataType, Family, Field, Hook, Key, KeyType, LIVE, Mark, Rule,
    Ruleset, Set, Statement, Value, Verdict,
};

use crate::namespace::{in_namespace, run};

const PERMITTED: u16 = 9;
/// A chain that keeps packets among the rules: this many rules of so many look-ups, none of which decides anything.
const HOLD: &str = "hold";
const HOLD_RULES: usize = 100;
const HOLD_LOOKUPS: usize = 30;

/// How many changes a flood goes through, and how many packets must at least have passed to prove anything.
struct Flood {
    changes_max: usize,
    arrived_min: u64,
}

/// Every flood makes this many changes; then it ends where the rest would take too long, as under emulation.
const CHANGES_MIN: usize = 20;
const LONG_ENOUGH: Duration = Duration::from_secs(20);
/// How long a packet may be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

const DENSE: Flood = Flood { changes_max: 40, arrived_min: 10_000 };
const HELD: Flood = Flood { changes_max: 60, arrived_min: 60 };

#[test]
fn a_replaced_set_loses_no_permitted_packet() {
    assert_eq!(DENSE.run([ruleset(0, true), ruleset(1, true)], update), 5);
    // A set of exact keys appears together with the rules that use it, and must not vanish together with them.
    assert_eq!(DENSE.run([ruleset(0, false), ruleset(1, false)], update), 5);
}

#[test]
fn a_whole_load_over_the_same_loses_no_permitted_packet() {
    let replace = |kernel: &mut Netfilter, _: &Ruleset, want: &Ruleset| {
        kernel.replace(want, &LiveSet::new()).unwrap().transactions
    };
    assert_eq!(DENSE.run([ruleset(0, true), ruleset(1, true)], replace), 5);
}

/// A packet that is held between its rules and its set, as by an interrupt, is among rules that went out of force long
/// before. Were their map deleted at once, one in some twenty of these changes would lose one (6.18, exact keys), or one
/// in two (6.1 under emulation, ranges too).
#[test]
fn a_packet_held_among_old_rules_still_finds_their_set() {
    for interval in [true, false] {
        assert_eq!(HELD.run([0, 1].map(|version| holding(small(ruleset(version, interval)))), update), 5);
    }
}

#[test]
fn a_replaced_map_of_verdicts_loses_no_held_packet() {
    let rule_sets = [0, 1].map(|version| jumping(holding(small(ruleset(version, false))), version));
    assert_eq!(HELD.run(rule_sets, update), 5);
}

fn update(kernel: &mut Netfilter, have: &Ruleset, want: &Ruleset) -> u32 {
    kernel.update(have, want, &LiveSet::new()).unwrap().transactions
}

impl Flood {
    /// Changes between two rule sets again and again while permitted packets are sent, and fails if one does not arrive.
    /// Returns the transactions of the last change.
    fn run(
        &self,
        rule_sets: [Ruleset; 2],
        change: impl Fn(&mut Netfilter, &Ruleset, &Ruleset) -> u32 + Sync,
    ) -> u32 {
        in_namespace(|| {
            run("ip", &["link", "set", "lo", "up"], "");
            assert!(delta::plan(&rule_sets[0], &rule_sets[1]).make.replaced_sets.contains("pairs"));
            let mut kernel = Netfilter::open().unwrap();
            kernel.replace(&rule_sets[0], &LiveSet::new()).unwrap();
            let done = AtomicBool::new(false);
            let (mut changes, mut transactions) = (0, 0);
            let tally = std::thread::scope(|scope| {
                let sender = scope.spawn(|| send_until(&done));
                let began = Instant::now();
                while changes < CHANGES_MIN || (changes < self.changes_max && began.elapsed() < LONG_ENOUGH) {
                    let (have, want) = (&rule_sets[changes % 2], &rule_sets[(changes + 1) % 2]);
                    transactions = change(&mut kernel, have, want);
                    changes += 1;
                }
                done.store(true, Ordering::Relaxed);
                sender.join().unwrap()
            });
            assert!(tally.arrived >= self.arrived_min, "{tally:?}");
            let dropped = kernel.counters().unwrap()["dropped"].0;
            assert_eq!(
                (tally.refused, tally.missing, dropped),
                (0, 0, 0),
                "{tally:?}, dropped by the last rule: {dropped}"
            );
            assert_eq!(kernel.verify(&rule_sets[changes % 2], &LiveSet::new(), Duration::ZERO).unwrap(), []);
            transactions
        })
    }
}

/// What became of the packets.
#[derive(Debug, Default)]
struct Tally {
    arrived: u64,
    refused: u64,
    missing: u64,
}

/// Sends permitted packets, each when the last one has arrived: many under way would overflow the backlog of a busy
/// machine, and that loss is none of the rules'.
fn send_until(done: &AtomicBool) -> Tally {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, PERMITTED)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut tally = Tally::default();
    while !done.load(Ordering::Relaxed) {
        match sender.send_to(b"x", (Ipv4Addr::LOCALHOST, PERMITTED)) {
            // Whatever drops a packet on its way out says so to its sender.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => tally.refused += 1,
            result => {
                assert_eq!(result.unwrap(), 1);
                match receiver.recv(&mut [0; 2]) {
                    Ok(_) => tally.arrived += 1,
                    Err(_) => tally.missing += 1,
                }
            }
        }
    }
    tally
}

/// Permits one port from one address; others, to make the map large, have another mark in each version.
fn ruleset(version: u8, interval: bool) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let counter = Counter::Dropped { reason: "dropped".to_owned(), zone: String::new() };
    ruleset.counters.insert("dropped".to_owned(), counter);
    let map = Set::map(vec![KeyType::Ip4, KeyType::Port], DataType::Mark);
    let mut pairs = Set { interval, ..map };
    pairs.elements.insert(permitted(), Data::Mark(Mark(1)));
    for number in 0..2_000_u16 {
        let [high, low] = number.to_be_bytes();
        let mark = Mark(2 + u32::from(version));
        let address = Value::Ip4(Ipv4Addr::new(10, 0, high, low));
        pairs.elements.insert(Key::exact([address, Value::Port(number)]), Data::Mark(mark));
    }
    ruleset.sets.insert("pairs".to_owned(), pairs);
    ruleset.sets.insert(LIVE.to_owned(), Set { timeout: true, ..Set::new(vec![KeyType::Mark]) });
    let mark = Statement::MarkFrom { fields: fields(), map: "pairs".to_owned() };
    let rules = vec![
        rule(&[Statement::Family(Family::Ip4), mark, Statement::Verdict(Verdict::Accept)]),
        rule(&[Statement::Counter("dropped".to_owned()), Statement::Verdict(Verdict::Drop)]),
    ];
    let base = Base { kind: BaseKind::Filter, hook: Hook::Output, priority: 0, drop: true };
    ruleset.chains.insert("out".to_owned(), Chain { base: Some(base), rules });
    ruleset
}

/// The same with a map so small that a change takes less time than a held packet.
fn small(mut ruleset: Ruleset) -> Ruleset {
    let pairs = ruleset.sets.get_mut("pairs").unwrap();
    let mut others = 0;
    pairs.elements.retain(|key, _| {
        others += usize::from(*key != permitted());
        *key == permitted() || others <= 4
    });
    ruleset
}

/// The same with a long way between a packet's first rule and the one that decides. The rules on it stay as they are,
/// so that a change is not slower for them.
fn holding(mut ruleset: Ruleset) -> Ruleset {
    let mut known = Set { interval: true, ..Set::new(vec![KeyType::Ip4, KeyType::Port]) };
    known.elements.insert(permitted(), Data::None);
    ruleset.sets.insert("known".to_owned(), known);
    let ask = Statement::In { fields: fields(), set: "known".to_owned(), negated: false };
    let mut statements = vec![Statement::Family(Family::Ip4)];
    statements.extend(vec![ask; HOLD_LOOKUPS]);
    // True of no packet.
    statements.extend([Statement::Protocol(255), Statement::Verdict(Verdict::Accept)]);
    ruleset.chains.insert(HOLD.to_owned(), Chain { base: None, rules: vec![rule(&statements); HOLD_RULES] });
    let jump = rule(&[Statement::Verdict(Verdict::Jump(HOLD.to_owned()))]);
    ruleset.chains.get_mut("out").unwrap().rules.insert(0, jump);
    ruleset
}

/// The same, decided by a map of verdicts, in which another packet's verdict is another in each version.
fn jumping(mut ruleset: Ruleset, version: u8) -> Ruleset {
    let mut jumps = Set::map(vec![KeyType::Ip4, KeyType::Port], DataType::Verdict);
    let other = Key::exact([Value::Ip4(Ipv4Addr::new(10, 0, 0, 1)), Value::Port(1)]);
    for (key, chain) in [(permitted(), "even"), (other, if version == 0 { "even" } else { "odd" })] {
        jumps.elements.insert(key, Data::Verdict(Verdict::Jump(chain.to_owned())));
        let accept = vec![rule(&[Statement::Verdict(Verdict::Accept)])];
        ruleset.chains.insert(chain.to_owned(), Chain { base: None, rules: accept });
    }
    ruleset.sets.insert("jumps".to_owned(), jumps);
    let rules = &mut ruleset.chains.get_mut("out").unwrap().rules;
    let decide = Statement::VerdictFrom { fields: fields(), map: "jumps".to_owned() };
    let place = rules.len() - 2;
    rules[place] = rule(&[decide]);
    ruleset
}

fn permitted() -> Key {
    Key::exact([Value::Ip4(Ipv4Addr::LOCALHOST), Value::Port(PERMITTED)])
}

fn fields() -> Vec<Field> {
    vec![Field::Source4, Field::DestinationPort]
}

fn rule(statements: &[Statement]) -> Rule {
    Rule { why: String::new(), statements: statements.to_vec() }
}
