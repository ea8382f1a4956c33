//! Single edits that somebody makes with `nft` behind the daemon's back: reading back must find each, and name it.
use std::time::Duration;

use lab::{LabBuilder, Spec};
use netfilter::Subject;
use policy::render;
use policy::ruleset::{Data, Direction, Key, Mark, Ruleset, Value, Verdict};

use crate::ground::nft;
use crate::kernel::{Kernel, LiveSet, SLACK};
use crate::scene::{Scene, evening};

const HOUR: Duration = Duration::from_secs(3_600);
const CHAIN: &str = "gate-forward";
const MAP: &str = "staff-to-ehr-ip4-ranges";

/// One kind of edit.
struct Edit {
    name: &'static str,
    /// The commands, given what is loaded.
    script: fn(&Loaded) -> String,
    /// Whether the difference found is about what was edited.
    names: fn(&Subject) -> bool,
}

/// What is in the kernel before the edit.
struct Loaded {
    ruleset: Ruleset,
    /// Handles of each rule, from `nft -a`.
    listing: String,
    /// A mark that is live for ever, one that ends, and one that is not live.
    forever: Mark,
    ending: Mark,
    closed: Mark,
}

impl Loaded {
    /// The handle of a chain's rule, counted from 0.
    fn handle(&self, chain: &str, index: usize) -> u32 {
        let body = self.listing.split(&format!("\tchain {chain} {{")).nth(1).expect("the chain");
        let rules = body.lines().take_while(|line| *line != "\t}").filter(|line| line.contains("# handle"));
        let rules: Vec<&str> = rules.filter(|line| !line.contains("type filter hook")).collect();
        // The chain's own handle stands on its first line.
        let rules: Vec<&str> = rules.into_iter().filter(|line| !line.starts_with(" #")).collect();
        let text = rules[index].rsplit(' ').next().expect("a handle");
        text.parse().expect("a number")
    }

    /// The rule as it is loaded, its comment included: an edit must not be found by a comment that it lost.
    fn text(&self, chain: &str, index: usize) -> String {
        let rule = &self.ruleset.chains[chain].rules[index];
        format!("{} comment \"{}\"", render::rule(rule), rule.why)
    }

    fn last(&self, chain: &str) -> usize {
        self.ruleset.chains[chain].rules.len() - 1
    }

    /// The rule of the chain whose text holds a word.
    fn with(&self, chain: &str, word: &str) -> usize {
        let rules = &self.ruleset.chains[chain].rules;
        rules.iter().position(|rule| render::rule(rule).contains(word)).expect("such a rule")
    }

    /// Replaces a rule by its own text with one word changed.
    fn replaced(&self, chain: &str, index: usize, word: &str, by: &str) -> String {
        let text = self.text(chain, index);
        let changed = text.replace(word, by);
        assert_ne!(changed, text, "{word}");
        format!("replace rule inet sekisho {chain} handle {} {changed}", self.handle(chain, index))
    }

    /// The first element of a mark map.
    fn element(&self, map: &str) -> (String, Mark) {
        let (key, data) = self.ruleset.sets[map].elements.first_key_value().expect("an element");
        let Data::Mark(mark) = data else { panic!("{map} gives no marks") };
        (render::element_key(key), *mark)
    }
}

/// Every kind that is tried. The closing note of the issue lists their names.
const EDITS: [Edit; 31] = [
    Edit {
        name: "rule added at the head of a chain",
        script: |_| format!("insert rule inet sekisho {CHAIN} accept"),
        names: is_rule,
    },
    Edit {
        name: "rule added at the tail of a chain",
        script: |_| format!("add rule inet sekisho {CHAIN} accept"),
        names: is_rule,
    },
    Edit {
        name: "rule deleted",
        script: |on| format!("delete rule inet sekisho {CHAIN} handle {}", on.handle(CHAIN, 0)),
        names: is_rule,
    },
    Edit {
        name: "verdict replaced",
        script: |on| on.replaced(CHAIN, on.last(CHAIN), "drop", "accept"),
        names: is_rule,
    },
    Edit { name: "two rules swapped", script: swap, names: is_rule },
    Edit {
        name: "condition taken from a rule",
        script: |on| on.replaced("staff-to-ehr", 0, "ct mark @live ", ""),
        names: in_chain_staff,
    },
    Edit {
        name: "set of a rule negated",
        script: |on| {
            on.replaced(
                "guard-prerouting",
                on.with("guard-prerouting", "@sources-ip4"),
                "@sources-ip4",
                "!= @sources-ip4",
            )
        },
        names: in_guard,
    },
    Edit {
        name: "rate limit changed",
        script: |on| on.replaced("deny-staff", 0, "10/second", "11/second"),
        names: in_deny,
    },
    Edit {
        name: "log group changed",
        script: |on| on.replaced("deny-staff", 0, "group 77", "group 78"),
        names: in_deny,
    },
    Edit {
        name: "address set of the masquerade exchanged",
        script: |on| on.replaced("nat-postrouting", 0, "@masquerade-ip4", "@sources-ip4"),
        names: |what| matches!(what, Subject::Rule(chain, _) if chain == "nat-postrouting"),
    },
    Edit {
        name: "chain flushed",
        script: |_| "flush chain inet sekisho gate-output".to_owned(),
        names: |what| matches!(what, Subject::Rule(chain, _) if chain == "gate-output"),
    },
    Edit {
        name: "chain's policy set to accept",
        script: |_| format!("chain inet sekisho {CHAIN} {{ policy accept; }}"),
        names: |what| matches!(what, Subject::ChainBase(chain) if chain == CHAIN),
    },
    Edit {
        name: "base chain added to our table",
        script: |_| {
            "add chain inet sekisho early { type filter hook forward priority -10; policy accept; }"
                .to_owned()
        },
        names: |what| matches!(what, Subject::Chain(chain) if chain == "early"),
    },
    Edit {
        name: "chain added and jumped to",
        script: |_| {
            format!(
                "add chain inet sekisho side\nadd rule inet sekisho side accept\ninsert rule inet sekisho {CHAIN} jump side"
            )
        },
        names: |what| matches!(what, Subject::Chain(chain) if chain == "side"),
    },
    Edit {
        name: "foreign table with a base chain",
        script: |_| table("inet", "type filter hook forward priority -10; policy accept;"),
        names: is_foreign,
    },
    Edit {
        name: "foreign table that redirects (dnat)",
        script: |_| {
            table(
                "ip",
                "type nat hook prerouting priority -100; policy accept; tcp dport 443 dnat to 192.168.90.50;",
            )
        },
        names: is_foreign,
    },
    Edit {
        name: "foreign table that sets marks",
        script: |on| {
            table(
                "ip",
                &format!(
                    "type filter hook prerouting priority -150; policy accept; ct mark set {};",
                    on.forever
                ),
            )
        },
        names: is_foreign,
    },
    Edit {
        name: "table made dormant",
        script: |_| "add table inet sekisho { flags dormant; }".to_owned(),
        names: |what| *what == Subject::TableFlags,
    },
    Edit {
        name: "element deleted from a pair's map",
        script: |on| format!("delete element inet sekisho {MAP} {{ {} }}", on.element(MAP).0),
        names: in_map,
    },
    Edit {
        name: "element added to a pair's map",
        script: |on| {
            format!(
                "add element inet sekisho {MAP} {{ 192.168.30.66 . 192.168.10.66 . tcp . 1-2 : {} }}",
                on.forever
            )
        },
        names: in_map,
    },
    Edit { name: "element of a pair's map given another mark", script: remark, names: in_map },
    Edit {
        name: "pair led into another chain",
        script: mislead,
        names: |what| matches!(what, Subject::Element(set, _) if set == "forward-pairs"),
    },
    Edit {
        name: "set flushed",
        script: |_| "flush set inet sekisho outside".to_owned(),
        names: |what| matches!(what, Subject::Element(set, _) if set == "outside"),
    },
    Edit {
        name: "set made anew with other flags",
        script: remake,
        names: |what| matches!(what, Subject::Set(set) if set == "masquerade-ip4"),
    },
    Edit {
        name: "flow counted as another",
        script: |on| {
            format!(
                "delete element inet sekisho flow-counters {{ {0} }}\nadd element inet sekisho flow-counters {{ {0} : \"flow-{1:08x}\" }}",
                on.forever, on.ending.0
            )
        },
        names: |what| matches!(what, Subject::Element(set, _) if set == "flow-counters"),
    },
    Edit {
        name: "network added to the guard",
        script: |_| "add element inet sekisho sources-ip4 { \"lan-guest\" . 192.168.10.0/24 }".to_owned(),
        names: |what| matches!(what, Subject::Element(set, _) if set == "sources-ip4"),
    },
    Edit {
        name: "mark made live",
        script: |on| format!("add element inet sekisho live {{ {} }}", on.closed),
        names: is_live,
    },
    Edit {
        name: "live mark deleted",
        script: |on| format!("delete element inet sekisho live {{ {} }}", on.forever),
        names: is_live,
    },
    Edit {
        name: "ending mark made permanent",
        script: |on| {
            format!(
                "delete element inet sekisho live {{ {0} }}\nadd element inet sekisho live {{ {0} }}",
                on.ending
            )
        },
        names: is_live_or_timeout,
    },
    Edit {
        name: "end of a mark put off",
        script: |on| {
            format!(
                "delete element inet sekisho live {{ {0} }}\nadd element inet sekisho live {{ {0} timeout 9h }}",
                on.ending
            )
        },
        names: is_live_or_timeout,
    },
    Edit {
        name: "flow's counter removed",
        script: |on| {
            format!(
                "delete element inet sekisho flow-counters {{ {0} }}\ndelete counter inet sekisho flow-{1:08x}",
                on.forever, on.forever.0
            )
        },
        names: |what| matches!(what, Subject::Object(_)),
    },
];

fn is_rule(what: &Subject) -> bool {
    matches!(what, Subject::Rule(chain, _) if chain == CHAIN)
}

fn in_chain_staff(what: &Subject) -> bool {
    matches!(what, Subject::Rule(chain, 1) if chain == "staff-to-ehr")
}

fn in_guard(what: &Subject) -> bool {
    matches!(what, Subject::Rule(chain, _) if chain == "guard-prerouting")
}

fn in_deny(what: &Subject) -> bool {
    matches!(what, Subject::Rule(chain, 1) if chain == "deny-staff")
}

fn is_foreign(what: &Subject) -> bool {
    matches!(what, Subject::ForeignTable(name) if name.contains("foreign"))
}

fn in_map(what: &Subject) -> bool {
    matches!(what, Subject::Element(set, _) if set == MAP)
}

fn is_live(what: &Subject) -> bool {
    matches!(what, Subject::Element(set, _) if set == "live")
}

fn is_live_or_timeout(what: &Subject) -> bool {
    is_live(what) || matches!(what, Subject::Timeout(set, _) if set == "live")
}

fn table(family: &str, chain: &str) -> String {
    format!(
        "table {family} foreign {{\n chain c {{\n {}\n }}\n}}",
        chain.replace("; ", "\n ").replace(';', "\n")
    )
}

fn swap(on: &Loaded) -> String {
    let (first, second) = (on.handle(CHAIN, 0), on.handle(CHAIN, 1));
    format!(
        "delete rule inet sekisho {CHAIN} handle {first}\nadd rule inet sekisho {CHAIN} handle {second} {}",
        on.text(CHAIN, 0)
    )
}

fn remake(on: &Loaded) -> String {
    let (chain, set) = ("nat-postrouting", "masquerade-ip4");
    let index = on.with(chain, set);
    format!(
        "delete rule inet sekisho {chain} handle {}\ndelete set inet sekisho {set}\n\
         add set inet sekisho {set} {{ type ifname . ipv4_addr; flags interval,timeout; }}\n\
         add rule inet sekisho {chain} {}",
        on.handle(chain, index),
        on.text(chain, index)
    )
}

fn remark(on: &Loaded) -> String {
    let (key, mark) = on.element(MAP);
    let other = if mark == on.forever { on.ending } else { on.forever };
    format!(
        "delete element inet sekisho {MAP} {{ {key} }}\nadd element inet sekisho {MAP} {{ {key} : {other} }}"
    )
}

fn mislead(on: &Loaded) -> String {
    let name = |name: &str| Value::Interface(name.to_owned());
    let key = Key::exact([Value::Direction(Direction::Original), name("lan-staff"), name("lan-ehr")]);
    assert_eq!(
        on.ruleset.sets["forward-pairs"].elements[&key],
        Data::Verdict(Verdict::Jump("staff-to-ehr".to_owned()))
    );
    let key = render::element_key(&key);
    format!(
        "delete element inet sekisho forward-pairs {{ {key} }}\n\
         add element inet sekisho forward-pairs {{ {key} : jump staff-to-billing }}"
    )
}

#[test]
fn reading_back_finds_and_names_every_foreign_edit() {
    let lab = LabBuilder::new(Spec::clinic()).build().unwrap_or_else(|error| panic!("{error}"));
    let scene = Scene::overlapping();
    let (live, mut loaded) = loaded(&scene);
    let mut kernel = Kernel::open(&lab);
    let mut missed = Vec::new();
    for edit in &EDITS {
        kernel.apply(&scene.ruleset, &live);
        let before = kernel.netfilter.verify(&scene.ruleset, &live, SLACK).expect("the kernel's rules");
        assert!(before.is_empty(), "differences before any edit: {before:?}");
        loaded.listing =
            lab.gateway().output("nft", &["-a", "list", "table", "inet", "sekisho"]).expect("nft");
        nft(lab.gateway(), &(edit.script)(&loaded));
        let found = kernel.netfilter.verify(&scene.ruleset, &live, SLACK).expect("the kernel's rules");
        let named = found.iter().find(|difference| (edit.names)(&difference.what));
        match named {
            Some(difference) => println!("{:44} {difference}", edit.name),
            None => missed.push(format!("{}: found only {found:?}", edit.name)),
        }
        nft(
            lab.gateway(),
            "add table inet foreign\ndelete table inet foreign\nadd table ip foreign\ndelete table ip foreign",
        );
    }
    assert!(missed.is_empty(), "{} edits were not found or not named:\n{}", missed.len(), missed.join("\n"));
}

fn loaded(scene: &Scene) -> (LiveSet, Loaded) {
    let mut live = scene.live(evening());
    let mark = |name: &str| {
        let mut marks = scene.ruleset.marks.iter();
        *marks.find(|(_, info)| info.name == name).expect("the flow").0
    };
    let (forever, ending, closed) = (mark("staff-ehr"), mark("wide-night"), mark("emr-update"));
    live.insert(ending, Some(HOUR));
    live.remove(&closed).expect("open in the evening");
    (live, Loaded { ruleset: scene.ruleset.clone(), listing: String::new(), forever, ending, closed })
}
