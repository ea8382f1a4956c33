//! Twenty kinds of a single foreign edit between load and read-back, each seen and named.

use std::time::Duration;

use netfilter::{Netfilter, Subject};
use policy::ruleset::{LIVE, Ruleset};

use crate::namespace::{in_namespace, run};
use crate::sample::{everything, live_marks};

/// What a load and a comparison may take where the processor is emulated and shared. Wrong ends are off by hours here.
const SLACK: Duration = Duration::from_secs(30);

#[test]
fn every_foreign_edit_is_seen_and_named() {
    in_namespace(|| {
        let ruleset = ruleset();
        let live = live_marks(&ruleset);
        let mut kernel = Netfilter::open().unwrap();
        for (edit, expected) in edits() {
            kernel.replace(&ruleset, &live).unwrap();
            assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), [], "before `{edit}`");
            run("nft", &["-f", "-"], &format!("{}\n", with_handles(edit)));
            let found = kernel.verify(&ruleset, &live, SLACK).unwrap();
            let named = found.iter().any(|one| subject_matches(&one.what, &expected));
            assert!(named, "`{edit}` is not named: {found:#?}");
            assert_eq!(found.len(), 1, "`{edit}`: {found:#?}");
            run("nft", &["-f", "-"], "add table ip nat; delete table ip nat");
        }
        run("nft", &["-f", "-"], "delete table inet sekisho");
        assert!(kernel.verify(&ruleset, &live, SLACK).unwrap().len() > 10);
    });
}

/// Edits for `nft`, each with the part that it must be named by.
fn edits() -> [(&'static str, Subject); 26] {
    let chain = |name: &str| Subject::Chain(name.to_owned());
    let base = |name: &str| Subject::ChainBase(name.to_owned());
    let rule = |chain: &str, place| Subject::Rule(chain.to_owned(), place);
    let set = |name: &str| Subject::Set(name.to_owned());
    let element = |set: &str, key: &str| Subject::Element(set.to_owned(), key.to_owned());
    [
        ("insert rule inet sekisho gate accept", rule("gate", 1)),
        ("add rule inet sekisho gate accept", rule("gate", 6)),
        ("delete rule inet sekisho gate handle @gate:2", rule("gate", 2)),
        ("replace rule inet sekisho gate handle @gate:3 counter name \"hits\" accept", rule("gate", 3)),
        (
            "replace rule inet sekisho guard handle @guard:9 meta nfproto ipv6 ip6 saddr 2001:db8::/34",
            rule("guard", 9),
        ),
        ("replace rule inet sekisho gate handle @gate:3 counter name \"noted\" drop", rule("gate", 3)),
        ("replace rule inet sekisho gate handle @gate:3 counter name \"hits\" reject", rule("gate", 3)),
        ("flush chain inet sekisho nat", rule("nat", 1)),
        ("chain inet sekisho gate { policy accept; }", base("gate")),
        (
            "add chain inet sekisho early { type filter hook forward priority -400; policy accept; }",
            chain("early"),
        ),
        ("add chain inet sekisho unused", chain("unused")),
        ("add set inet sekisho stray { type ipv4_addr; }", set("stray")),
        ("add element inet sekisho nets { 198.51.100.0/24 }", element("nets", "0xc6336400-0xc63364ff")),
        ("delete element inet sekisho nets { 192.0.2.64 }", element("nets", "192.0.2.64")),
        (
            "add element inet sekisho pairs4 { 203.0.113.0/24 . 192.0.2.1 . tcp . 1-9 : 0x1001 }",
            element("pairs4", "0xcb007100c00002010600000000010000"),
        ),
        (
            "delete element inet sekisho flow-counters { 0x1001 }; \
             add element inet sekisho flow-counters { 0x1001 : \"noted\" }",
            element("flow-counters", "0x00001001"),
        ),
        (
            "delete element inet sekisho zones { reply . \"lan0\" . \"wan0\" }; \
             add element inet sekisho zones { reply . \"lan0\" . \"wan0\" : accept }",
            element("zones", "reply . \"lan0\" . \"wan0\""),
        ),
        ("add element inet sekisho live { 0x99 }", element(LIVE, "0x00000099")),
        ("add element inet sekisho live { 0x99 timeout 1h }", element(LIVE, "0x00000099")),
        ("delete element inet sekisho live { 0x1002 }", element(LIVE, "0x00001002")),
        (
            "delete element inet sekisho live { 0x1001 }; add element inet sekisho live { 0x1001 }",
            Subject::Timeout(LIVE.to_owned(), "0x00001001".to_owned()),
        ),
        (
            "delete element inet sekisho live { 0x1001 }; add element inet sekisho live { 0x1001 timeout 9h }",
            Subject::Timeout(LIVE.to_owned(), "0x00001001".to_owned()),
        ),
        ("add counter inet sekisho stray", Subject::Object("stray".to_owned())),
        ("add quota inet sekisho stray { over 1 mbytes }", Subject::Object("stray".to_owned())),
        ("table inet sekisho { flags dormant; }", Subject::TableFlags),
        (
            "table ip nat { chain post { type nat hook postrouting priority 90; }\n}",
            Subject::ForeignTable("ip4 nat".to_owned()),
        ),
    ]
}

#[test]
fn reordered_rules_and_swapped_elements_are_seen() {
    in_namespace(|| {
        let ruleset = ruleset();
        let live = live_marks(&ruleset);
        let mut kernel = Netfilter::open().unwrap();
        kernel.replace(&ruleset, &live).unwrap();
        let mut other = ruleset.clone();
        other.chains.get_mut("gate").unwrap().rules.swap(0, 1);
        assert_eq!(kernel.verify(&other, &live, SLACK).unwrap().len(), 2);
        let mut other = ruleset.clone();
        let elements = &mut other.sets.get_mut("pairs4").unwrap().elements;
        let mut values: Vec<_> = elements.values().cloned().collect();
        values.reverse();
        elements.values_mut().zip(values).for_each(|(slot, value)| *slot = value);
        assert_eq!(kernel.verify(&other, &live, SLACK).unwrap().len(), 2);
        let mut other = ruleset.clone();
        other.sets.get_mut("hosts").unwrap().interval = true;
        assert_eq!(kernel.verify(&other, &live, SLACK).unwrap().len(), 1);
    });
}

fn ruleset() -> Ruleset {
    let mut ruleset = everything();
    for mark in [0x1001, 0x1002] {
        let info = policy::ruleset::MarkInfo {
            flow: policy::model::FlowId(0),
            name: "flow".to_owned(),
            timing: policy::model::Timing::default(),
            place: None,
            critical: false,
        };
        ruleset.marks.insert(policy::ruleset::Mark(mark), info);
    }
    ruleset
}

/// Compares but for the end of a raw key.
fn subject_matches(found: &Subject, expected: &Subject) -> bool {
    match (found, expected) {
        (Subject::Element(set, key), Subject::Element(other, start)) => {
            set == other && key.starts_with(start.as_str())
        }
        _ => found == expected,
    }
}

/// Puts the kernel's numbers for `@chain:place`.
fn with_handles(edit: &str) -> String {
    let Some((before, rest)) = edit.split_once('@') else { return edit.to_owned() };
    let word = rest.split(' ').next().unwrap();
    let (chain, place) = word.split_once(':').unwrap();
    let listed = run("nft", &["-a", "list", "chain", "inet", "sekisho", chain], "");
    // The first line with a handle is the chain's own.
    let mut handles = listed.lines().filter_map(|line| line.rsplit_once("# handle ")).skip(1);
    let (_, handle) = handles.nth(place.parse::<usize>().unwrap() - 1).unwrap();
    format!("{before}{handle}{}", &rest[word.len()..])
}
