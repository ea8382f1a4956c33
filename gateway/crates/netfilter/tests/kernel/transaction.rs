//! A transaction happens whole or not at all, of whatever size, and a refusal names the caller's tag.

use netfilter::expr::{CmpOp, CtKey, CtSetKey, MetaKey, PayloadBase, Verdict};
use netfilter::object::{
    Base, Chain, ChainKind, Counter, Element, ElementData, Family, Hook, KeyField, KeyType, Policy, Rule,
    SetData, SetSpec, Table,
};
use netfilter::{Batch, Connection, Data, Expr, Mode, Name, NetlinkError, Origin, Refusal, Register};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::namespace::{in_namespace, nft_list, run};

const R: Register = Register::FIRST;

/// The trap: `mnl` sends each page of 128 KiB as a datagram of its own; the kernel wants a transaction in one, answers
/// the first page with success, and installs nothing.
#[test]
fn more_than_one_page_of_128_kib_is_installed_whole() {
    in_namespace(|| {
        let mut batch = ground();
        let rule = long_rule();
        for index in 0..1_000 {
            batch.add_rule(&name("forward"), &rule, &Origin::from(format!("rule {index}").as_str())).unwrap();
        }
        let rules_bytes = batch.size_bytes();
        assert!(rules_bytes > 3 * 128 * 1024, "{rules_bytes}");
        // Exact keys: a kernel 6.1 takes time that grows with the square of the number of ranges in one batch.
        let set = exact_map();
        let elements: Vec<Element> = (0..12_000).map(exact_element).collect();
        batch.add_set(&set, Mode::MustBeNew, &"map".into()).unwrap();
        batch.add_elements(&set, &elements, Mode::MustBeNew, &"elements".into()).unwrap();
        assert!(batch.size_bytes() - rules_bytes > 3 * 128 * 1024, "{}", batch.size_bytes());
        let mut connection = Connection::open().unwrap();
        connection.commit(batch).unwrap();
        let snapshot = connection.snapshot(&table()).unwrap();
        assert_eq!(snapshot.rules.len(), 1_000);
        assert!(snapshot.rules.iter().all(|found| found.rule == rule));
        let mut found: Vec<Element> =
            snapshot.elements[&set.name].iter().map(|found| found.element.clone()).collect();
        found.sort();
        assert_eq!(found, elements);
        assert_eq!(nft_list().matches("ct mark set").count(), 1_000);
    });
}

#[test]
fn an_error_in_the_middle_changes_nothing_and_names_its_tag() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        let mut batch = ground();
        batch.add_rule(&name("forward"), &long_rule(), &"kept".into()).unwrap();
        let generation = connection.commit(batch).unwrap().generation;
        let before = connection.snapshot(&table()).unwrap();
        let mut bad = Batch::new(table());
        bad.flush_rules(&"flush".into()).unwrap();
        for index in 0..500 {
            let target = if index == 321 { "missing" } else { "pair" };
            let rule = bare(vec![Expr::Verdict(Verdict::Jump(name(target)))]);
            bad.add_rule(&name("forward"), &rule, &Origin::from(format!("policy line {index}").as_str()))
                .unwrap();
        }
        let refusal = refusal(connection.commit(bad));
        assert_eq!((refusal.errno, refusal.origin.as_str()), (Errno::NOENT, "policy line 321"));
        assert_eq!(refusal.instruction.as_deref(), Some("immediate"));
        assert!(refusal.to_string().contains("`policy line 321`"), "{refusal}");
        assert_eq!(connection.snapshot(&table()).unwrap(), before);
        assert_eq!(connection.generation().unwrap(), generation);
    });
}

#[test]
fn a_refused_element_is_named_by_its_index() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        let set = SetSpec { data: SetData::Verdict, ..marks("verdicts") };
        let mut batch = ground();
        batch.add_set(&set, Mode::MustBeNew, &"set".into()).unwrap();
        let elements: Vec<Element> = (0..5_000)
            .map(|mark| {
                let target = if mark == 4_321 { "missing" } else { "pair" };
                exact(mark, ElementData::Verdict(Verdict::Jump(name(target))))
            })
            .collect();
        batch.add_elements(&set, &elements, Mode::MustBeNew, &"the map".into()).unwrap();
        let refusal = refusal(connection.commit(batch));
        assert_eq!((refusal.errno, refusal.origin.as_str()), (Errno::NOENT, "the map"));
        assert_eq!(refusal.element, Some(4_321), "{refusal}");
        assert!(connection.tables().unwrap().is_empty());
    });
}

#[test]
fn what_a_set_cannot_hold_is_refused_before_it_is_sent() {
    let mut batch = ground();
    let (messages, set) = (batch.len(), marks("plain"));
    let timed = Element { timeout_ms: Some(1), ..exact(1, ElementData::None) };
    let long = Element { key: Data::be16(1), ..exact(1, ElementData::None) };
    let range = Element { key_end: Some(Data::host32(9)), ..exact(1, ElementData::None) };
    for bad in [timed, long, range, exact(1, ElementData::Mark(1))] {
        let good = exact(0, ElementData::None);
        let error = batch.add_elements(&set, [&good, &bad], Mode::Keep, &"tag".into()).unwrap_err();
        assert_eq!((error.element, error.origin.as_str()), (Some(1), "tag"));
        assert_eq!(batch.len(), messages);
    }
    let foreign = Expr::Foreign { name: "sneaky".to_owned(), detail: String::new() };
    batch.add_rule(&name("forward"), &bare(vec![foreign]), &"tag".into()).unwrap_err();
    batch.add_rule(&name("forward"), &bare(vec![Expr::Counter; 2_000]), &"tag".into()).unwrap_err();
    assert_eq!(batch.len(), messages);
}

#[test]
fn exclusive_creation_refuses_what_exists() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        let set = SetSpec { timeout: true, ..marks("timed") };
        let timed = Element { timeout_ms: Some(3_600_000), ..exact(7, ElementData::None) };
        let mut batch = ground();
        batch.add_set(&set, Mode::MustBeNew, &"set".into()).unwrap();
        batch.add_elements(&set, [&timed], Mode::MustBeNew, &"grant".into()).unwrap();
        connection.commit(batch).unwrap();
        let mut again = Batch::new(table());
        again.add_elements(&set, [&exact(7, ElementData::None)], Mode::MustBeNew, &"again".into()).unwrap();
        assert_eq!(refusal(connection.commit(again)).errno, Errno::EXIST);
        let mut replace = Batch::new(table());
        let shorter = Element { timeout_ms: Some(60_000), ..timed.clone() };
        replace.delete_elements(&set, [&timed], &"end".into()).unwrap();
        replace.add_elements(&set, [&shorter], Mode::MustBeNew, &"begin".into()).unwrap();
        connection.commit(replace).unwrap();
        let found = connection.elements(&table(), &set).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].element, shorter);
        assert!(found[0].expires_ms.unwrap() <= 60_000);
    });
}

#[test]
fn everything_can_be_deleted_again() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        let set = interval_map();
        let elements: Vec<Element> = (0..3).map(interval_element).collect();
        let mut batch = ground();
        batch.add_set(&set, Mode::MustBeNew, &"map".into()).unwrap();
        batch.add_elements(&set, &elements, Mode::MustBeNew, &"elements".into()).unwrap();
        let jump = bare(vec![Expr::Verdict(Verdict::Jump(name("pair")))]);
        batch.add_rule(&name("forward"), &jump, &"jump".into()).unwrap();
        batch.add_rule(&name("forward"), &long_rule(), &"rule".into()).unwrap();
        connection.commit(batch).unwrap();
        let jump_handle = connection.rules(&table()).unwrap()[0].handle;

        let mut half = Batch::new(table());
        half.delete_rule(&name("forward"), jump_handle, &"jump".into()).unwrap();
        half.delete_elements(&set, &elements[..2], &"two".into()).unwrap();
        half.delete_chain(&name("pair"), &"chain".into()).unwrap();
        half.delete_counter(&name("c"), &"counter".into()).unwrap();
        connection.commit(half).unwrap();
        let snapshot = connection.snapshot(&table()).unwrap();
        assert_eq!((snapshot.rules.len(), snapshot.chains.len(), snapshot.objects.len()), (1, 1, 0));
        assert_eq!(snapshot.elements[&set.name][0].element, elements[2]);

        let mut rest = Batch::new(table());
        rest.flush_chain(&name("forward"), &"flush".into()).unwrap();
        rest.flush_set(&set.name, &"flush set".into()).unwrap();
        connection.commit(rest).unwrap();
        assert!(connection.rules(&table()).unwrap().is_empty());
        assert!(connection.elements(&table(), &set).unwrap().is_empty());
        let mut end = Batch::new(table());
        end.delete_set(&set.name, &"set".into()).unwrap();
        end.delete_table(&"table".into()).unwrap();
        connection.commit(end).unwrap();
        assert_eq!(nft_list(), "");
    });
}

#[test]
fn a_transaction_for_another_generation_is_refused() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        let generation = connection.commit(ground()).unwrap().generation;
        run("nft", &["-f", "-"], "table ip foreign {}");
        assert_ne!(connection.generation().unwrap(), generation);
        let mut late = Batch::new(table());
        late.require_generation(generation);
        late.delete_table(&"late".into()).unwrap();
        assert_eq!(refusal(connection.commit(late)).errno, Errno::RESTART);
        assert_eq!(connection.tables().unwrap().len(), 2);
    });
}

#[test]
fn without_cap_net_admin_the_error_says_so() {
    in_namespace(|| {
        let mut capabilities = rustix::thread::capabilities(None).unwrap();
        capabilities.effective.remove(CapabilitySet::NET_ADMIN);
        capabilities.permitted.remove(CapabilitySet::NET_ADMIN);
        rustix::thread::set_capabilities(None, capabilities).unwrap();
        let mut connection = Connection::open().unwrap();
        assert!(matches!(connection.commit(ground()), Err(NetlinkError::Permission)));
        assert!(matches!(connection.tables(), Err(NetlinkError::Permission)));
    });
}

#[test]
fn a_snapshot_under_constant_writing_is_of_one_generation() {
    in_namespace(|| {
        let mut connection = Connection::open().unwrap();
        connection.commit(ground()).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A thread inherits the namespace. The two rules come and go together, so a reader sees both or none.
            let writer = scope.spawn(|| {
                let mut connection = Connection::open().unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut batch = Batch::new(table());
                    batch.flush_rules(&"flush".into()).unwrap();
                    connection.commit(batch).unwrap();
                    let mut batch = Batch::new(table());
                    for chain in ["forward", "pair"] {
                        batch.add_rule(&name(chain), &long_rule(), &"rule".into()).unwrap();
                    }
                    connection.commit(batch).unwrap();
                }
            });
            let mut steady = 0;
            for _ in 0..200 {
                match connection.snapshot(&table()) {
                    Ok(snapshot) => {
                        steady += 1;
                        assert!([0, 2].contains(&snapshot.rules.len()), "{}", snapshot.rules.len());
                    }
                    Err(NetlinkError::Unsteady { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap();
            assert!(steady > 0);
        });
    });
}

#[test]
fn what_others_wrote_is_read_without_loss_or_is_foreign() {
    in_namespace(|| {
        let text = "table inet transaction {
            counter c { packets 3 bytes 4; }
            quota q { over 10 bytes; }
            set anonymous { type ipv4_addr; flags constant, interval; elements = { 10.0.0.0/8 }; }
            chain forward { type filter hook forward priority 0; policy drop;
                meta mark 1 counter packets 9 bytes 9 accept
                tcp dport { 1, 2 } reject with tcp reset
                ip saddr 192.0.2.1 tcp flags syn / syn,rst limit rate 1/second burst 5 packets log level info accept
            }
        }
        table netdev ingress { chain base { type filter hook ingress device lo priority 0; }
        }";
        run("nft", &["-f", "-"], text);
        let snapshot = Connection::open().unwrap().snapshot(&table()).unwrap();
        let is_foreign = |expr: &&Expr| matches!(expr, Expr::Foreign { .. });
        let foreign: Vec<usize> =
            snapshot.rules.iter().map(|found| found.rule.exprs.iter().filter(is_foreign).count()).collect();
        assert_eq!(foreign, [0, 1, 1], "{:#?}", snapshot.rules);
        let chains: Vec<_> =
            snapshot.chains.iter().map(|found| (found.is_base, found.foreign.is_some())).collect();
        assert_eq!(chains, [(true, true), (true, false)].into_iter().rev().collect::<Vec<_>>(), "{chains:?}");
        assert!(snapshot.sets.iter().all(|found| found.foreign.is_some()), "{:#?}", snapshot.sets);
        assert_eq!(snapshot.objects.iter().filter(|found| found.counter.is_none()).count(), 1);
    });
}

fn refusal<T: std::fmt::Debug>(result: Result<T, NetlinkError>) -> Refusal {
    match result {
        Err(NetlinkError::Refused(refusal)) => *refusal,
        other => panic!("{other:?}"),
    }
}

fn ground() -> Batch {
    let mut batch = Batch::new(table());
    batch.add_table(Mode::MustBeNew, &"table".into()).unwrap();
    let base = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
    for (chain, base) in [("forward", Some(base)), ("pair", None)] {
        batch.add_chain(&Chain { name: name(chain), base }, Mode::MustBeNew, &chain.into()).unwrap();
    }
    let counter = Counter { name: name("c"), packets: 0, bytes: 0 };
    batch.add_counter(&counter, Mode::MustBeNew, &"counter".into()).unwrap();
    batch
}

/// A rule of the usual length: nine instructions.
fn long_rule() -> Rule {
    let port = Expr::Payload { base: PayloadBase::Transport, offset_bytes: 2, length_bytes: 2, dreg: R };
    bare(vec![
        Expr::Meta { key: MetaKey::NfProto, dreg: R },
        Expr::Cmp { op: CmpOp::Equal, sreg: R, data: Data::byte(2) },
        Expr::Meta { key: MetaKey::L4Proto, dreg: R },
        Expr::Cmp { op: CmpOp::Equal, sreg: R, data: Data::byte(6) },
        port,
        Expr::Cmp { op: CmpOp::Equal, sreg: R, data: Data::be16(443) },
        Expr::Ct { key: CtKey::Mark, direction: None, dreg: R },
        Expr::CtSet { key: CtSetKey::Mark, sreg: R },
        Expr::Verdict(Verdict::Accept),
    ])
}

fn interval_map() -> SetSpec {
    let key = KeyType::new([KeyField::Ip4, KeyField::Protocol, KeyField::Port]).unwrap();
    SetSpec { interval: true, data: SetData::Mark, ..SetSpec::new(name("pairs"), key) }
}

fn interval_element(index: u32) -> Element {
    let address = Data::be32(0x0a00_0000 + index);
    let end = |port| Data::concat([&address, &Data::byte(6), &Data::be16(port)]).unwrap();
    Element { key: end(80), key_end: Some(end(443)), data: ElementData::Mark(index + 1), timeout_ms: None }
}

fn exact_map() -> SetSpec {
    SetSpec { interval: false, ..interval_map() }
}

fn exact_element(index: u32) -> Element {
    Element { key_end: None, ..interval_element(index) }
}

fn marks(text: &str) -> SetSpec {
    SetSpec::new(name(text), KeyType::new([KeyField::Mark]).unwrap())
}

fn exact(mark: u32, data: ElementData) -> Element {
    Element { key: Data::host32(mark), key_end: None, data, timeout_ms: None }
}

fn bare(exprs: Vec<Expr>) -> Rule {
    Rule { exprs, comment: None }
}

fn table() -> Table {
    Table { family: Family::Inet, name: name("transaction") }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
