//! The policy's rule sets go into the kernel and come back equal, and `nft` reads them as its own.

use std::time::Duration;

use netfilter::object::FoundRule;
use netfilter::{ApplyError, Errno, Expr, LiveSet, Netfilter, Subject};
use policy::ruleset::{Counter, Data, Key, Mark, MarkInfo, Ruleset, Statement, Value};
use serde_json::Value as Json;

use crate::namespace::{in_namespace, nft_list, run};
use crate::sample::{everything, example, live_marks};

/// What a load and a comparison may take where the processor is emulated and shared. Wrong ends are off by hours here.
const SLACK: Duration = Duration::from_secs(30);

#[test]
fn a_loaded_rule_set_verifies() {
    for ruleset in [example(), everything(), policy::compile::closed()] {
        in_namespace(|| {
            let live = live_marks(&ruleset);
            let mut kernel = Netfilter::open().unwrap();
            let applied = kernel.replace(&ruleset, &live).unwrap();
            assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
            assert_eq!(kernel.generation().unwrap(), applied.generation);
            assert_eq!(kernel.live().unwrap().len(), live.len());
            kernel.remove().unwrap();
            kernel.remove().unwrap();
            assert_eq!(nft_list(), "");
        });
    }
}

#[test]
fn nft_reads_our_load_as_it_reads_the_rendered_text() {
    for ruleset in [everything(), comparable(example()), policy::compile::closed()] {
        let ours = in_namespace(|| {
            Netfilter::open().unwrap().replace(&ruleset, &LiveSet::new()).unwrap();
            normalised()
        });
        let theirs = in_namespace(|| {
            run("nft", &["-f", "-"], &policy::render::render(&ruleset));
            normalised()
        });
        assert!(ours.len() > 5, "{ours:#?}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

/// `nft` as an independent compiler: from the rendered text it makes the very instructions that we do.
#[test]
fn nft_makes_the_same_instructions_of_the_rendered_text() {
    for ruleset in [everything(), policy::compile::closed()] {
        in_namespace(|| {
            run("nft", &["-f", "-"], &policy::render::render(&ruleset));
            let table = netfilter::lower::table().unwrap();
            let found = netfilter::Connection::open().unwrap().rules(&table).unwrap();
            for (name, chain) in &ruleset.chains {
                let theirs = found.iter().filter(|rule| rule.chain.as_str() == name).map(without_idle_swaps);
                let ours = chain.rules.iter().map(|rule| (rule, netfilter::lower::rule(rule).unwrap().exprs));
                assert_eq!(theirs.clone().count(), chain.rules.len());
                for ((rule, ours), theirs) in ours.zip(theirs) {
                    assert_eq!(ours, theirs, "{rule:?}");
                }
            }
        });
    }
}

#[test]
fn a_load_keeps_the_values_of_counters_and_clears_all_else() {
    in_namespace(|| {
        let hostile = "table inet sekisho {
            flags dormant
            counter hits { packets 5 bytes 6; }
        }";
        let crowded = "table inet sekisho {
            counter hits { packets 5 bytes 6; }
            counter other { packets 1 bytes 1; }
            set stray { type ipv4_addr; elements = { 192.0.2.1 } }
            map jumps { type mark : verdict; elements = { 1 : jump stray } }
            chain stray { ip saddr { 192.0.2.1, 192.0.2.2 } accept; }
            chain open { type filter hook forward priority -500; policy accept; mark vmap @jumps; jump stray; }
            chain gate { type filter hook forward priority 7; policy accept; }
        }";
        let strange = "table inet sekisho {
            quota q { over 5 bytes; }
            chain open { type filter hook forward priority -500; policy accept; quota name q accept; }
        }";
        let ruleset = everything();
        let mut kernel = Netfilter::open().unwrap();
        for (text, kept) in [(crowded, (5, 6)), (hostile, (0, 0)), (strange, (0, 0))] {
            kernel.remove().unwrap();
            run("nft", &["-f", "-"], text);
            kernel.replace(&ruleset, &LiveSet::new()).unwrap();
            assert_eq!(kernel.verify(&ruleset, &LiveSet::new(), SLACK).unwrap(), []);
            assert_eq!(kernel.counters().unwrap()["hits"], kept);
        }
        kernel.replace(&ruleset, &LiveSet::new()).unwrap();
        assert_eq!(kernel.verify(&ruleset, &LiveSet::new(), SLACK).unwrap(), []);
    });
}

#[test]
fn a_live_mark_ends_by_the_kernels_clock() {
    in_namespace(|| {
        let ruleset = everything();
        let mut kernel = Netfilter::open().unwrap();
        let short = Some(Duration::from_millis(300));
        let live = LiveSet::from([(Mark(1), None), (Mark(2), short)]);
        kernel.replace(&ruleset, &live).unwrap();
        assert_eq!(kernel.live().unwrap().len(), 2);
        std::thread::sleep(Duration::from_millis(700));
        let forever = LiveSet::from([(Mark(1), None)]);
        assert_eq!(kernel.live().unwrap(), forever);
        // The caller still believes in mark 2: the change is made against the kernel's truth.
        let want = LiveSet::from([(Mark(3), None)]);
        kernel.set_live(&live, &want).unwrap();
        assert_eq!(kernel.live().unwrap(), want);
        // A mark that was for ever ends now, and one that ends is for ever.
        let hour = LiveSet::from([(Mark(3), Some(Duration::from_secs(3600)))]);
        kernel.set_live(&want, &hour).unwrap();
        assert_eq!(kernel.verify(&ruleset, &hour, SLACK).unwrap(), []);
        let permanent = kernel.verify(&ruleset, &want, SLACK).unwrap();
        assert!(matches!(permanent[0].what, Subject::Timeout(..)), "{permanent:?}");
        kernel.set_live(&hour, &want).unwrap();
        assert_eq!(kernel.verify(&ruleset, &want, SLACK).unwrap(), []);
    });
}

#[test]
fn a_refused_element_is_told_by_its_flow_and_line() {
    in_namespace(|| {
        let mut ruleset = everything();
        let place = policy::model::Place { line: 42, ..policy::model::Place::default() };
        let info = MarkInfo {
            flow: policy::model::FlowId(0),
            name: "xray-to-pacs".to_owned(),
            timing: policy::model::Timing::default(),
            place: Some(place),
            critical: false,
        };
        ruleset.marks.insert(Mark(0x77), info);
        let counters = ruleset.sets.get_mut("flow-counters").unwrap();
        counters.elements.insert(Key::exact([Value::Mark(Mark(0x77))]), Data::Counter("missing".to_owned()));
        let mut kernel = Netfilter::open().unwrap();
        let error = kernel.replace(&ruleset, &LiveSet::new()).unwrap_err();
        let ApplyError::Refused { flow: Some(flow), refusal } = &error else { panic!("{error}") };
        assert_eq!((flow.name.as_str(), refusal.errno), ("xray-to-pacs", Errno::NOENT));
        assert!(error.to_string().starts_with("flow `xray-to-pacs` (line 42): "), "{error}");
        assert_eq!(nft_list(), "");
    });
}

#[test]
fn what_has_no_form_in_the_kernel_is_refused_before_anything_is_sent() {
    in_namespace(|| {
        let mut ruleset = everything();
        let counter = Counter::Flow { flow: "x".to_owned() };
        ruleset.counters.insert("a name with spaces".to_owned(), counter);
        let mut kernel = Netfilter::open().unwrap();
        let error = kernel.replace(&ruleset, &LiveSet::new()).unwrap_err();
        assert!(matches!(error, ApplyError::Lower(_)), "{error}");
        assert_eq!(nft_list(), "");
        assert!(!kernel.verify(&Ruleset::default(), &LiveSet::new(), SLACK).unwrap().is_empty());
    });
}

#[test]
fn this_kernel_has_what_a_rule_set_needs() {
    in_namespace(|| {
        let features = netfilter::probe::probe().unwrap();
        assert_eq!(features.missing, []);
        assert_eq!(nft_list(), "");
        assert_eq!(features.vlan, can_add_link("vlan"));
        assert_eq!(features.wireguard, can_add_link("wireguard"));
    });
}

/// The instructions without the byte swaps of less than a word that nft 1.0.6 puts behind one-byte fields of a key.
fn without_idle_swaps(found: &FoundRule) -> Vec<Expr> {
    let is_idle = |expr: &Expr| matches!(expr, Expr::Byteorder { length_bytes, word_bytes, .. } if length_bytes < word_bytes);
    found.rule.exprs.iter().filter(|expr| !is_idle(expr)).cloned().collect()
}

/// Leaves out the rules that nft spells in its own way: it loads two ports at once and then prints bytes, and it matches
/// family and protocol again where only the calling chain has done so.
fn comparable(mut ruleset: Ruleset) -> Ruleset {
    let all: usize = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
    for chain in ruleset.chains.values_mut() {
        chain.rules.retain(|rule| {
            let count =
                |wanted: fn(&Statement) -> bool| rule.statements.iter().filter(|one| wanted(one)).count();
            let addresses = count(|one| matches!(one, Statement::Address(..) | Statement::HopLimit(_)));
            let families = count(|one| matches!(one, Statement::Family(_)));
            let transport = count(|one| matches!(one, Statement::IcmpType(..) | Statement::TcpSyn));
            let protocols = count(|one| matches!(one, Statement::Protocol(_)));
            let is_one_port = count(|one| matches!(one, Statement::Port(..))) < 2;
            is_one_port && (addresses == 0 || families > 0) && (transport == 0 || protocols > 0)
        });
    }
    let left: usize = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
    assert!(left * 2 > all, "{left} of {all}");
    ruleset
}

/// What `ip link` says about a kind of interface.
fn can_add_link(kind: &str) -> bool {
    let ip = |arguments: &[&str]| {
        std::process::Command::new("ip").args(arguments).output().expect("ip").status.success()
    };
    if kind != "vlan" {
        return ip(&["link", "add", "name", "sekisho-w", "type", kind]);
    }
    // A VLAN needs an Ethernet link below it: loopback refuses.
    assert!(ip(&["link", "add", "sekisho-a", "type", "veth", "peer", "name", "sekisho-b"]));
    ip(&["link", "add", "link", "sekisho-a", "name", "sekisho-t", "type", "vlan", "id", "5"])
}

/// What `nft` lists of our table, without handles, comments and the order of things that have none.
fn normalised() -> Vec<String> {
    let listed = run("nft", &["-j", "list", "table", "inet", "sekisho"], "");
    let mut json: Json = serde_json::from_str(&listed).unwrap();
    let mut entries = Vec::new();
    let mut place = 0;
    for entry in json["nftables"].as_array_mut().unwrap() {
        for (kind, body) in entry.as_object_mut().unwrap() {
            let body = body.as_object_mut().unwrap_or_else(|| panic!("{kind}"));
            body.remove("handle");
            body.remove("comment");
            if let Some(elements) = body.get_mut("elem").and_then(Json::as_array_mut) {
                elements.sort_by_key(Json::to_string);
            }
            place += 1;
            let order = if kind == "rule" { format!("{} {place:06}", body["chain"]) } else { String::new() };
            if kind != "metainfo" {
                entries.push((kind.clone(), order, format!("{body:#?}")));
            }
        }
    }
    entries.sort();
    entries.into_iter().map(|(kind, _, body)| format!("{kind} {body}")).collect()
}
