//! Rule sets to load: the policy's example, one with every statement, and small random ones with the same few names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netfilter::LiveSet;
use policy::ruleset::{
    Base, BaseKind, Chain, Counter, Data, DataType, Direction, Family, Field, GRANTS_IP4, GRANTS_IP6, Hook,
    Key, KeyType, LIVE, Mark, Range, Rule, Ruleset, Set, State, Statement, Value, Verdict, Way,
};

/// The rule set of the policy's own example.
pub(crate) fn example() -> Ruleset {
    let text = include_str!("../../../../../policy/examples/clinic.toml");
    let now = "2026-11-20T10:00:00+09:00".parse().expect("time");
    let sources = policy::raw::Sources::single("clinic.toml", text);
    let policy = policy::resolve::load(&sources, now).unwrap_or_else(|report| panic!("{report}")).policy;
    policy::compile::compile(&policy, &policy::ledger::Ledger::default()).expect("compiled").ruleset
}

/// All marks of a rule set, some of them for an hour only.
pub(crate) fn live_marks(ruleset: &Ruleset) -> LiveSet {
    let hour = Some(Duration::from_secs(3600));
    ruleset
        .marks
        .keys()
        .enumerate()
        .map(|(index, mark)| (*mark, if index % 3 == 0 { hour } else { None }))
        .collect()
}

/// A rule set in which every statement, key type, data type, hook and verdict occurs.
pub(crate) fn everything() -> Ruleset {
    let mut ruleset = Ruleset::default();
    for name in ["hits", "noted"] {
        let counter = Counter::Dropped { reason: name.to_owned(), zone: String::new() };
        ruleset.counters.insert(name.to_owned(), counter);
    }
    ruleset.sets = sets();
    let base = |kind, hook, priority, drop| Some(Base { kind, hook, priority, drop });
    let filter = |hook, priority| base(BaseKind::Filter, hook, priority, true);
    let verdicts = [Verdict::Accept, Verdict::Drop, Verdict::Return, jump("helper")];
    let verdicts: Vec<Rule> =
        verdicts.into_iter().map(|verdict| rule([Statement::Verdict(verdict)])).collect();
    let nat = rule([interface(Way::Destination, "eth0"), Statement::Masquerade]);
    ruleset.chains = BTreeMap::from([
        ("guard".to_owned(), Chain { base: filter(Hook::Prerouting, -300), rules: matches() }),
        ("gate-in".to_owned(), Chain { base: filter(Hook::Input, 0), rules: keyed() }),
        ("gate".to_owned(), Chain { base: filter(Hook::Forward, 0), rules: effects() }),
        ("gate-out".to_owned(), Chain { base: filter(Hook::Output, 0), rules: verdicts }),
        (
            "nat".to_owned(),
            Chain { base: base(BaseKind::Nat, Hook::Postrouting, 100, false), rules: vec![nat] },
        ),
        ("helper".to_owned(), Chain { base: None, rules: Vec::new() }),
    ]);
    ruleset
}

fn sets() -> BTreeMap<String, Set> {
    use KeyType::{Direction as Way, Interface, Ip4, Ip6, Mark as MarkKey, Port, Protocol};
    let ip4 = |d| Value::Ip4(Ipv4Addr::new(192, 0, 2, d));
    let ip6 = |d| Value::Ip6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, d));
    let lan = || Value::Interface("lan0".to_owned());
    let mut zones = Set::map(vec![Way, Interface, Interface], DataType::Verdict);
    for (direction, verdict) in [(Direction::Original, jump("helper")), (Direction::Reply, Verdict::Drop)] {
        zones.elements.insert(
            Key::exact([Value::Direction(direction), lan(), Value::Interface("wan0".to_owned())]),
            Data::Verdict(verdict),
        );
    }
    let mut pairs4 = Set::map(vec![Ip4, Ip4, Protocol, Port], DataType::Mark).with_intervals();
    for (index, protocol) in [6, 17].into_iter().enumerate() {
        let ports = Range { from: Value::Port(80), to: Value::Port(90) };
        let mut key = Key::exact([ip4(0), ip4(1), Value::Protocol(protocol)]);
        if let Some(first) = key.0.first_mut() {
            first.to = ip4(127);
        }
        key.0.push(ports);
        pairs4.elements.insert(key, Data::Mark(Mark(0x1001 + u32::try_from(index).unwrap())));
    }
    let mut pairs6 = Set::map(vec![Ip6, Protocol], DataType::Mark).with_intervals();
    let key = Key(vec![Range { from: ip6(1), to: ip6(9) }, exact(Value::Protocol(50))]);
    pairs6.elements.insert(key, Data::Mark(Mark(0xfedc_ba98)));
    let mut nets = Set::new(vec![Ip4]).with_intervals();
    for (from, to) in [(0, 63), (64, 64), (65, 255)] {
        nets.elements.insert(Key(vec![Range { from: ip4(from), to: ip4(to) }]), Data::None);
    }
    let mut hosts = Set::new(vec![Ip6, Interface]);
    hosts.elements.insert(Key::exact([ip6(3), lan()]), Data::None);
    let mut counters = Set::map(vec![MarkKey], DataType::Counter);
    counters.elements.insert(Key::exact([Value::Mark(Mark(0x1001))]), Data::Counter("hits".to_owned()));
    let live = Set { timeout: true, ..Set::new(vec![MarkKey]) };
    let grants = |address| Set { timeout: true, ..Set::new(vec![MarkKey, address, Protocol, Port]) };
    [
        ("zones", zones),
        ("pairs4", pairs4),
        ("pairs6", pairs6),
        ("nets", nets),
        ("hosts", hosts),
        ("flow-counters", counters),
        (LIVE, live),
        (GRANTS_IP4, grants(Ip4)),
        (GRANTS_IP6, grants(Ip6)),
    ]
    .map(|(name, set)| (name.to_owned(), set))
    .into()
}

fn matches() -> Vec<Rule> {
    use Statement as S;
    let net = |text: &str| -> ipnet::IpNet { text.parse().unwrap() };
    let (ip4, ip6) = (S::Family(Family::Ip4), S::Family(Family::Ip6));
    vec![
        rule([S::State(State::Invalid)]),
        rule([S::State(State::Related)]),
        rule([S::Direction(Direction::Original)]),
        rule([S::Direction(Direction::Reply)]),
        rule([interface(Way::Source, "lan0")]),
        rule([ip4.clone(), S::Address(Way::Source, net("192.0.2.0/24"))]),
        rule([ip4.clone(), S::Address(Way::Destination, net("192.0.2.129/32"))]),
        rule([ip4.clone(), S::Address(Way::Destination, net("192.0.0.0/9"))]),
        rule([ip6.clone(), S::Address(Way::Source, net("2001:db8::/33"))]),
        rule([ip6.clone(), S::Address(Way::Destination, net("2001:db8::1/128"))]),
        rule([ip4, S::Protocol(1), S::IcmpType(Family::Ip4, 3)]),
        rule([ip6.clone(), S::Protocol(58), S::IcmpType(Family::Ip6, 135), S::HopLimit(255)]),
        // In one rule, nft would load both ports at once.
        rule([S::Protocol(17), S::Port(Way::Source, 67)]),
        rule([S::Protocol(17), S::Port(Way::Destination, 68)]),
        rule([S::SourceReturnsHere]),
        rule([S::DestinationIsLocalHere { negated: false }]),
        rule([S::DestinationIsLocalHere { negated: true }]),
    ]
}

fn keyed() -> Vec<Rule> {
    use Field::{
        Destination4, DestinationPort, InInterface, OutInterface, Protocol, Source4, Source6, SourcePort,
    };
    use Statement as S;
    let (ip4, ip6) = (S::Family(Family::Ip4), S::Family(Family::Ip6));
    let tuple = vec![Source4, Destination4, Protocol, DestinationPort];
    let reply = vec![Destination4, Source4, Protocol, SourcePort];
    vec![
        rule([ip4.clone(), S::MarkFrom { fields: tuple, map: "pairs4".to_owned() }]),
        rule([ip4.clone(), S::MarkFrom { fields: reply, map: "pairs4".to_owned() }]),
        rule([ip6.clone(), S::MarkFrom { fields: vec![Source6, Protocol], map: "pairs6".to_owned() }]),
        rule([ip4, S::In { fields: vec![Source4], set: "nets".to_owned(), negated: true }]),
        rule([ip6, S::In { fields: vec![Source6, InInterface], set: "hosts".to_owned(), negated: false }]),
        rule([S::In { fields: vec![Field::Mark], set: LIVE.to_owned(), negated: false }]),
        rule([S::CounterFrom { fields: vec![Field::Mark], map: "flow-counters".to_owned() }]),
        rule([
            S::Family(Family::Ip4),
            S::In {
                fields: vec![Field::PacketMark, Destination4, Protocol, DestinationPort],
                set: GRANTS_IP4.to_owned(),
                negated: false,
            },
        ]),
        rule([
            S::Family(Family::Ip6),
            S::Protocol(58),
            S::In {
                fields: vec![
                    Field::Mark,
                    Field::OpenerDestination6,
                    Field::ConnectionProtocol,
                    Field::OpenerDestinationPort,
                ],
                set: GRANTS_IP6.to_owned(),
                negated: false,
            },
        ]),
        rule([S::VerdictFrom {
            fields: vec![Field::Direction, InInterface, OutInterface],
            map: "zones".to_owned(),
        }]),
    ]
}

fn effects() -> Vec<Rule> {
    use Statement as S;
    let prefix = "deny lan0 > wan0 ".to_owned();
    vec![
        rule([S::Protocol(6), S::TcpSyn, S::ClampMss, S::SetMark(Mark(0))]),
        rule([S::Limit { per_second: 10, burst: 20 }, S::Counter("noted".to_owned()), S::Log { prefix }]),
        rule([S::Counter("hits".to_owned()), S::Verdict(Verdict::Drop)]),
        rule([S::PacketIsGranted, S::MarkFromPacket]),
        rule([
            S::ConnectionIsGranted,
            S::ConnectionIsMarked,
            S::PacketMarkFromConnection,
            S::SetPacketMark(Mark(0)),
        ]),
    ]
}

/// A small rule set in which counters, sets, chains, elements and rules come and go with the seed.
pub(crate) fn random(seed: u64) -> Ruleset {
    let mut dice = Dice(seed | 1);
    let mut ruleset = Ruleset::default();
    for name in ["c0", "c1", "c2"] {
        if dice.one_in(3) {
            continue;
        }
        let counter = Counter::Dropped { reason: name.to_owned(), zone: String::new() };
        ruleset.counters.insert(name.to_owned(), counter);
    }
    ruleset.sets.insert(LIVE.to_owned(), Set { timeout: true, ..Set::new(vec![KeyType::Mark]) });
    // Chain `aN` may jump to chains of a higher number, so no loop can be.
    for index in 0..4 {
        let wanted = dice.one_in(2);
        if index == 0 || wanted {
            ruleset.chains.insert(format!("a{index}"), Chain { base: None, rules: Vec::new() });
        }
    }
    let chains: Vec<String> = ruleset.chains.keys().cloned().collect();
    random_sets(&mut dice, &mut ruleset);
    for (index, name) in chains.iter().enumerate() {
        let targets = chains.get(index + 1..).unwrap_or_default();
        let rules = (0..dice.below(4)).map(|_| random_rule(&mut dice, &ruleset, targets)).collect();
        ruleset.chains.insert(name.clone(), Chain { base: None, rules });
    }
    let jump = rule([Statement::Verdict(jump("a0"))]);
    let priority = if dice.one_in(8) { 10 } else { 0 };
    let base = Some(Base { kind: BaseKind::Filter, hook: Hook::Forward, priority, drop: true });
    let mut rules = vec![jump, rule([Statement::Verdict(Verdict::Drop)])];
    if ruleset.sets.contains_key("verdicts") {
        let fields = vec![Field::InInterface];
        rules.insert(0, rule([Statement::VerdictFrom { fields, map: "verdicts".to_owned() }]));
    }
    ruleset.chains.insert("gate".to_owned(), Chain { base, rules });
    ruleset
}

fn random_sets(dice: &mut Dice, ruleset: &mut Ruleset) {
    let counters: Vec<String> = ruleset.counters.keys().cloned().collect();
    let last = ruleset.chains.keys().next_back().cloned();
    let mut marks = Set::map(vec![KeyType::Ip4, KeyType::Port], DataType::Mark).with_intervals();
    for slot in 0..12 {
        if dice.one_in(2) {
            let from = Value::Port(slot * 100);
            let ports = Range { from, to: Value::Port(slot * 100 + 50) };
            let key = Key(vec![exact(Value::Ip4(Ipv4Addr::new(10, 0, 0, 1))), ports]);
            marks.elements.insert(key, Data::Mark(Mark(1 + dice.below(3))));
        }
    }
    let mut numbers = Set::map(vec![KeyType::Mark], DataType::Counter);
    for mark in 1..5 {
        if let Some(counter) = dice.pick(&counters).filter(|_| dice.one_in(2)) {
            numbers.elements.insert(Key::exact([Value::Mark(Mark(mark))]), Data::Counter(counter));
        }
    }
    let mut verdicts = Set::map(vec![KeyType::Interface], DataType::Verdict);
    for interface in ["lan0", "lan1", "lan2"] {
        let verdict = match (dice.below(3), last.clone()) {
            (0, _) | (_, None) => Verdict::Drop,
            (1, _) => continue,
            (_, Some(chain)) => Verdict::Jump(chain),
        };
        verdicts
            .elements
            .insert(Key::exact([Value::Interface(interface.to_owned())]), Data::Verdict(verdict));
    }
    let nets = Set { interval: dice.one_in(2), ..Set::new(vec![KeyType::Ip4]) };
    for (name, set) in [("marks", marks), ("numbers", numbers), ("verdicts", verdicts), ("nets", nets)] {
        if !dice.one_in(4) {
            ruleset.sets.insert(name.to_owned(), set);
        }
    }
}

fn random_rule(dice: &mut Dice, ruleset: &Ruleset, targets: &[String]) -> Rule {
    let counters: Vec<String> = ruleset.counters.keys().cloned().collect();
    let has = |set: &str| ruleset.sets.contains_key(set);
    let ip4 = Statement::Family(Family::Ip4);
    match dice.below(6) {
        0 if has("marks") => {
            let fields = vec![Field::Source4, Field::DestinationPort];
            rule([ip4, Statement::MarkFrom { fields, map: "marks".to_owned() }])
        }
        1 if has("numbers") => {
            rule([Statement::CounterFrom { fields: vec![Field::Mark], map: "numbers".to_owned() }])
        }
        2 if has("nets") => rule([
            ip4,
            Statement::In { fields: vec![Field::Source4], set: "nets".to_owned(), negated: false },
        ]),
        3 => match dice.pick(&counters) {
            Some(counter) => rule([Statement::Counter(counter)]),
            None => rule([Statement::TcpSyn]),
        },
        4 => match dice.pick(targets) {
            Some(chain) => rule([Statement::Verdict(Verdict::Jump(chain))]),
            None => rule([Statement::Verdict(Verdict::Return)]),
        },
        _ => rule([Statement::SetMark(Mark(dice.below(3)))]),
    }
}

/// Some of the marks 1 to 6, for ever or for some time.
pub(crate) fn random_live(seed: u64) -> LiveSet {
    let mut dice = Dice(seed | 1);
    let mut live = LiveSet::new();
    for mark in 1..7 {
        let life = match dice.below(3) {
            0 => continue,
            1 => None,
            _ => Some(Duration::from_secs(1000 * u64::from(1 + dice.below(3)))),
        };
        live.insert(Mark(mark), life);
    }
    live
}

/// A generator of numbers that is the same everywhere (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 16) % u64::from(limit)).unwrap()
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.below(chances) == 0
    }

    fn pick(&mut self, choices: &[String]) -> Option<String> {
        let limit = u32::try_from(choices.len()).unwrap().max(1);
        choices.get(usize::try_from(self.below(limit)).unwrap()).cloned()
    }
}

fn exact(value: Value) -> Range {
    Range { from: value.clone(), to: value }
}

fn interface(way: Way, name: &str) -> Statement {
    Statement::Interface(way, name.to_owned())
}

fn jump(chain: &str) -> Verdict {
    Verdict::Jump(chain.to_owned())
}

fn rule(statements: impl Into<Vec<Statement>>) -> Rule {
    let statements = statements.into();
    Rule { why: format!("{} statements", statements.len()), statements }
}
