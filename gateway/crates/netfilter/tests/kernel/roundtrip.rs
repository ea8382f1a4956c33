//! What is sent comes back equal through the kernel: every instruction, every kind of chain, set and element.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::namespace::{in_namespace, nft_list};
use netfilter::expr::{
    ByteorderOp, CmpOp, CtKey, CtSetKey, Direction, DynsetOp, FibAddress, FibResult, LimitKind, LimitUnit,
    LogPrefix, MasqueradeFlags, MetaKey, MetaSetKey, PayloadBase, RangeOp, RouteKey, TcpOption, Verdict,
};
use netfilter::object::{
    Base, Chain, ChainKind, Comment, Counter, Element, ElementData, Family, Hook, KeyField, KeyType, Policy,
    Rule, SetData, SetSpec, Table,
};
use netfilter::{Batch, Connection, Data, Expr, IfName, Mode, Name, Origin, Register};

const R: Register = Register::FIRST;

#[test]
fn every_instruction_comes_back_equal() {
    in_namespace(|| {
        let mut batch = ground();
        let rules = filter_rules();
        for rule in &rules {
            batch.add_rule(&name("forward"), rule, &origin("filter rule")).unwrap();
        }
        let masquerade: Vec<Rule> =
            MasqueradeFlags::ALL.iter().map(|&flags| bare(vec![Expr::Masquerade { flags }])).collect();
        for rule in &masquerade {
            batch.add_rule(&name("nat"), rule, &origin("nat rule")).unwrap();
        }
        let mut connection = Connection::open().unwrap();
        connection.commit(batch).unwrap();
        let found = connection.rules(&table()).unwrap();
        let of = |chain: &str| -> Vec<Rule> {
            found.iter().filter(|rule| rule.chain == name(chain)).map(|rule| rule.rule.clone()).collect()
        };
        for (sent, found) in rules.iter().zip(of("forward")) {
            assert_eq!(*sent, found);
        }
        assert_eq!(of("forward").len(), rules.len());
        assert_eq!(of("nat"), masquerade);
        assert!(found.iter().all(|rule| rule.foreign.is_none()));
        covers_every_instruction(rules.iter().chain(&masquerade).flat_map(|rule| &rule.exprs));
    });
}

#[test]
fn every_chain_comes_back_equal() {
    in_namespace(|| {
        let mut batch = Batch::new(table());
        batch.add_table(Mode::MustBeNew, &origin("table")).unwrap();
        let mut sent = vec![Chain { name: name("regular"), base: None }];
        let places = [
            (ChainKind::Filter, Hook::Prerouting, -300, Policy::Drop),
            (ChainKind::Filter, Hook::Input, 0, Policy::Drop),
            (ChainKind::Filter, Hook::Forward, i32::MIN, Policy::Drop),
            (ChainKind::Filter, Hook::Output, i32::MAX, Policy::Accept),
            (ChainKind::Filter, Hook::Postrouting, 1, Policy::Accept),
            (ChainKind::Nat, Hook::Prerouting, -100, Policy::Accept),
            (ChainKind::Nat, Hook::Postrouting, 100, Policy::Accept),
            (ChainKind::Route, Hook::Output, -150, Policy::Accept),
        ];
        for (index, (kind, hook, priority, policy)) in places.into_iter().enumerate() {
            let base = Base { kind, hook, priority, policy };
            sent.push(Chain { name: name(&format!("base{index}")), base: Some(base) });
        }
        for chain in &sent {
            batch.add_chain(chain, Mode::MustBeNew, &origin(chain.name.as_str())).unwrap();
        }
        let mut connection = Connection::open().unwrap();
        connection.commit(batch).unwrap();
        let mut found: Vec<Chain> = connection
            .chains()
            .unwrap()
            .into_iter()
            .map(|found| found.chain.expect("a chain of ours"))
            .collect();
        let by_name = |a: &Chain, b: &Chain| a.name.cmp(&b.name);
        found.sort_by(by_name);
        sent.sort_by(by_name);
        assert_eq!(found, sent);
    });
}

#[test]
fn every_set_and_element_comes_back_equal() {
    in_namespace(|| {
        let mut batch = ground();
        let sets = sets_with_elements();
        for (set, elements) in &sets {
            batch.add_set(set, Mode::MustBeNew, &origin(set.name.as_str())).unwrap();
            batch.add_elements(set, elements, Mode::MustBeNew, &origin("elements")).unwrap();
        }
        let mut connection = Connection::open().unwrap();
        connection.commit(batch).unwrap();
        let snapshot = connection.snapshot(&table()).unwrap();
        for (set, elements) in sets {
            let found = snapshot.sets.iter().find(|found| found.name == set.name).expect("the set");
            assert_eq!((found.set.as_ref(), &found.foreign), (Some(&set), &None));
            let mut found = snapshot.elements[&set.name].clone();
            found.sort_by(|a, b| a.element.cmp(&b.element));
            let mut elements = elements;
            elements.sort();
            let read: Vec<Element> = found.iter().map(|found| found.element.clone()).collect();
            assert_eq!(read, elements, "{}", set.name);
            for found in found {
                assert_eq!(found.foreign, None);
                assert_eq!(found.expires_ms.is_some(), found.element.timeout_ms.is_some(), "{found:?}");
                assert!(found.expires_ms.unwrap_or(0) <= found.element.timeout_ms.unwrap_or(0));
            }
        }
    });
}

#[test]
fn counters_come_back_with_their_values_and_keep_them() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        connection.commit(ground()).unwrap();
        let mut again = Batch::new(table());
        let counter = Counter { name: name("named"), packets: 0, bytes: 0 };
        again.add_counter(&counter, Mode::Keep, &origin("again")).unwrap();
        connection.commit(again).unwrap();
        let expected = Counter { name: name("named"), packets: 7, bytes: 1 << 40 };
        assert_eq!(connection.counters(&table()).unwrap(), [expected]);
        assert!(nft_list().contains("packets 7 bytes 1099511627776"));
    });
}

#[test]
fn nft_prints_the_same_names_and_values() {
    in_namespace(|| {
        let mut batch = ground();
        for (set, elements) in &sets_with_elements() {
            batch.add_set(set, Mode::MustBeNew, &origin("set")).unwrap();
            batch.add_elements(set, elements, Mode::MustBeNew, &origin("elements")).unwrap();
        }
        Connection::open().unwrap().commit(batch).unwrap();
        let listed = nft_list();
        for expected in [
            "type ipv4_addr . ipv4_addr . inet_proto . inet_service : mark",
            "192.0.2.0/24 . 198.51.100.7 . tcp . 80-90 : 0x12345678",
            "type ct_dir . ifname . ifname : verdict",
            "original . \"lan0\" . \"wan0\" : jump pair",
            "type mark : counter",
            "0x00000001 : \"named\"",
            "192.0.2.10-192.0.2.20",
            "type mark\n",
            "flags timeout",
        ] {
            assert!(listed.contains(expected), "`{expected}` is not in\n{listed}");
        }
    });
}

/// A table with a chain of each kind, a counter, and the sets that rules of these tests refer to.
fn ground() -> Batch {
    let mut batch = Batch::new(table());
    batch.add_table(Mode::MustBeNew, &origin("table")).unwrap();
    let filter = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
    let nat = Base { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100, policy: Policy::Accept };
    for (chain, base) in [("forward", Some(filter)), ("nat", Some(nat)), ("pair", None)] {
        batch.add_chain(&Chain { name: name(chain), base }, Mode::MustBeNew, &origin(chain)).unwrap();
    }
    let counter = Counter { name: name("named"), packets: 7, bytes: 1 << 40 };
    batch.add_counter(&counter, Mode::MustBeNew, &origin("counter")).unwrap();
    for (set, data) in
        [("marks", SetData::None), ("to-mark", SetData::Mark), ("to-counter", SetData::Counter)]
    {
        let spec = SetSpec { data, dynamic: set == "marks", timeout: set == "marks", ..mark_set(set) };
        batch.add_set(&SetSpec { size: Some(64), ..spec }, Mode::MustBeNew, &origin(set)).unwrap();
    }
    let spec = SetSpec { data: SetData::Verdict, ..mark_set("to-verdict") };
    batch.add_set(&spec, Mode::MustBeNew, &origin("to-verdict")).unwrap();
    batch
}

fn mark_set(text: &str) -> SetSpec {
    SetSpec::new(name(text), KeyType::new([KeyField::Mark]).unwrap())
}

fn filter_rules() -> Vec<Rule> {
    let second = Register::new(1).unwrap();
    let mark = Data::host32(0x1234_5678);
    let load = Expr::Meta { key: MetaKey::Mark, dreg: R };
    let mut rules = vec![
        Rule { exprs: vec![load.clone()], comment: Comment::fit("目的: なぜ") },
        bare(vec![load.clone(), Expr::CtSet { key: CtSetKey::Mark, sreg: R }]),
        bare(vec![load.clone(), Expr::MetaSet { key: MetaSetKey::Mark, sreg: R }]),
        bare(vec![load.clone(), Expr::Lookup { set: name("marks"), sreg: R, inverted: false }]),
        bare(vec![load.clone(), Expr::Lookup { set: name("marks"), sreg: R, inverted: true }]),
        bare(vec![load.clone(), Expr::LookupData { map: name("to-mark"), sreg: R, dreg: second }]),
        bare(vec![load.clone(), Expr::LookupVerdict { map: name("to-verdict"), sreg: R }]),
        bare(vec![load.clone(), Expr::CounterMap { map: name("to-counter"), sreg: R }]),
        bare(vec![Expr::CounterNamed { name: name("named") }, Expr::Counter]),
        bare(vec![
            Expr::Immediate { dreg: second, data: mark.clone() },
            Expr::Immediate { dreg: R, data: mark.clone() },
        ]),
        bare(vec![
            load.clone(),
            Expr::Bitwise { sreg: R, dreg: second, mask: mark.clone(), xor: Data::host32(1) },
            Expr::Range { op: RangeOp::Outside, sreg: R, from: Data::host32(1), to: mark.clone() },
            Expr::Range { op: RangeOp::Inside, sreg: R, from: Data::host32(1), to: mark },
        ]),
        bare(vec![Expr::TcpOption {
            option: TcpOption::MaxSegment,
            offset_bytes: 2,
            length_bytes: 2,
            dreg: R,
        }]),
        bare(vec![
            Expr::Route { key: RouteKey::TcpMss, dreg: R },
            Expr::Byteorder {
                op: ByteorderOp::HostToNetwork,
                sreg: R,
                dreg: R,
                length_bytes: 2,
                word_bytes: 2,
            },
            Expr::TcpOptionSet { option: TcpOption::MaxSegment, offset_bytes: 2, length_bytes: 2, sreg: R },
        ]),
        bare(vec![Expr::Log {
            group: 5,
            prefix: prefix("a b"),
            snaplen_bytes: Some(96),
            queue_threshold: Some(8),
        }]),
        bare(vec![Expr::Log {
            group: 0,
            prefix: prefix(&"x".repeat(127)),
            snaplen_bytes: None,
            queue_threshold: None,
        }]),
    ];
    rules.extend(loads().into_iter().map(|expr| bare(vec![expr])));
    rules.extend(comparisons());
    rules.extend(limits());
    rules.extend(dynsets());
    let chain = name("pair");
    let verdicts =
        [Verdict::Accept, Verdict::Drop, Verdict::Return, Verdict::Jump(chain.clone()), Verdict::Goto(chain)];
    rules.extend(verdicts.into_iter().map(|verdict| bare(vec![Expr::Verdict(verdict)])));
    rules
}

fn loads() -> Vec<Expr> {
    let mut loads: Vec<Expr> = MetaKey::ALL.iter().map(|&key| Expr::Meta { key, dreg: R }).collect();
    loads.extend(CtKey::ALL.iter().map(|&key| {
        use CtKey::{DstIp, DstIp6, ProtoDst, ProtoSrc, SrcIp, SrcIp6};
        let directed = matches!(key, ProtoSrc | ProtoDst | SrcIp | DstIp | SrcIp6 | DstIp6);
        Expr::Ct { key, direction: directed.then_some(Direction::Reply), dreg: Register::MIDDLE }
    }));
    loads.push(Expr::Ct { key: CtKey::SrcIp, direction: Some(Direction::Original), dreg: R });
    for &base in PayloadBase::ALL {
        loads.push(Expr::Payload {
            base,
            offset_bytes: 12,
            length_bytes: 16,
            dreg: Register::new(3).unwrap(),
        });
    }
    for &result in FibResult::ALL {
        for address in [FibAddress::Source, FibAddress::Destination] {
            let present = result == FibResult::Oif;
            loads.push(Expr::Fib { address, with_iif: true, with_oif: false, result, present, dreg: R });
        }
    }
    loads
}

fn comparisons() -> Vec<Rule> {
    let data =
        [Data::byte(6), Data::be16(443), Data::ipv4(Ipv4Addr::LOCALHOST), Data::ipv6(Ipv6Addr::LOCALHOST)];
    let name = Data::ifname(&IfName::new("lan0").unwrap());
    let odd = Data::new([1, 2, 3]).unwrap();
    let pairs = CmpOp::ALL.iter().zip(data.iter().chain([&name, &odd]).cycle());
    pairs
        .map(|(&op, data)| {
            let load =
                Expr::Payload { base: PayloadBase::Network, offset_bytes: 0, length_bytes: 20, dreg: R };
            bare(vec![load, Expr::Cmp { op, sreg: R, data: data.clone() }])
        })
        .collect()
}

fn limits() -> Vec<Rule> {
    let kinds = [(LimitKind::Packets, false), (LimitKind::Packets, true), (LimitKind::Bytes, false)];
    let units = LimitUnit::ALL.iter().flat_map(|&unit| kinds.map(|(kind, over)| (unit, kind, over)));
    units
        .map(|(unit, kind, over)| bare(vec![Expr::Limit { rate: 5000, unit, burst: 9000, kind, over }]))
        .collect()
}

fn dynsets() -> Vec<Rule> {
    let load = Expr::Meta { key: MetaKey::Mark, dreg: R };
    let changes = DynsetOp::ALL.iter().map(|&op| {
        let timeout_ms = (op == DynsetOp::Update).then_some(60_000);
        Expr::Dynset { op, set: name("marks"), sreg_key: R, sreg_data: None, timeout_ms }
    });
    changes.map(|change| bare(vec![load.clone(), change])).collect()
}

/// Fails when an instruction of [`Expr`] is in none of the rules, so that a new one cannot be forgotten.
fn covers_every_instruction<'a>(exprs: impl Iterator<Item = &'a Expr>) {
    let mut seen = std::collections::BTreeSet::new();
    for expr in exprs {
        let text = format!("{expr:?}");
        seen.insert(text.split([' ', '(']).next().unwrap().to_owned());
    }
    let all = [
        "Bitwise",
        "Byteorder",
        "Cmp",
        "Counter",
        "CounterMap",
        "CounterNamed",
        "Ct",
        "CtSet",
        "Dynset",
        "Fib",
        "Immediate",
        "Limit",
        "Log",
        "Lookup",
        "LookupData",
        "LookupVerdict",
        "Masquerade",
        "Meta",
        "MetaSet",
        "Payload",
        "Range",
        "Route",
        "TcpOption",
        "TcpOptionSet",
        "Verdict",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

fn sets_with_elements() -> Vec<(SetSpec, Vec<Element>)> {
    let key = |fields: &[KeyField]| KeyType::new(fields).unwrap();
    let ip = |d| Data::ipv4(Ipv4Addr::new(192, 0, 2, d));
    let interface = |text| Data::ifname(&IfName::new(text).unwrap());
    let tuple = [KeyField::Ip4, KeyField::Ip4, KeyField::Protocol, KeyField::Port];
    let server = Data::ipv4(Ipv4Addr::new(198, 51, 100, 7));
    let low = Data::concat([&ip(0), &server, &Data::byte(6), &Data::be16(80)]).unwrap();
    let high = Data::concat([&ip(255), &server, &Data::byte(6), &Data::be16(90)]).unwrap();
    let zones =
        |direction| Data::concat([&Data::byte(direction), &interface("lan0"), &interface("wan0")]).unwrap();
    let last = Data::ipv4(Ipv4Addr::BROADCAST);
    let zones_set =
        SetSpec::new(name("zones"), key(&[KeyField::Direction, KeyField::Interface, KeyField::Interface]));
    vec![
        (
            SetSpec { interval: true, data: SetData::Mark, ..SetSpec::new(name("pair4"), key(&tuple)) },
            vec![ranged(low, high, ElementData::Mark(0x1234_5678))],
        ),
        (
            SetSpec { data: SetData::Verdict, ..zones_set },
            vec![
                exact(zones(0), ElementData::Verdict(Verdict::Jump(name("pair")))),
                exact(zones(1), ElementData::Verdict(Verdict::Drop)),
            ],
        ),
        (
            SetSpec { data: SetData::Counter, ..mark_set("flow-counters") },
            vec![exact(Data::host32(1), ElementData::Counter(name("named")))],
        ),
        (
            SetSpec { interval: true, ..SetSpec::new(name("nets"), key(&[KeyField::Ip4])) },
            // Adjacent, single, and up to the very last address.
            vec![
                ranged(ip(10), ip(20), ElementData::None),
                ranged(ip(21), ip(21), ElementData::None),
                ranged(Data::ipv4(Ipv4Addr::UNSPECIFIED), ip(9), ElementData::None),
                ranged(Data::ipv4(Ipv4Addr::new(255, 0, 0, 0)), last, ElementData::None),
            ],
        ),
        (
            SetSpec { timeout: true, ..mark_set("live") },
            vec![
                exact(Data::host32(1), ElementData::None),
                Element { timeout_ms: Some(3_600_000), ..exact(Data::host32(2), ElementData::None) },
            ],
        ),
        (
            SetSpec { size: Some(9), ..SetSpec::new(name("hosts6"), key(&[KeyField::Ip6])) },
            vec![exact(Data::ipv6(Ipv6Addr::LOCALHOST), ElementData::None)],
        ),
    ]
}

fn exact(key: Data, data: ElementData) -> Element {
    Element { key, key_end: None, data, timeout_ms: None }
}

fn ranged(key: Data, key_end: Data, data: ElementData) -> Element {
    Element { key, key_end: Some(key_end), data, timeout_ms: None }
}

fn bare(exprs: Vec<Expr>) -> Rule {
    Rule { exprs, comment: None }
}

fn prefix(text: &str) -> LogPrefix {
    LogPrefix::new(text).unwrap()
}

fn table() -> Table {
    Table { family: Family::Inet, name: name("roundtrip") }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn origin(text: &str) -> Origin {
    Origin::from(text)
}
