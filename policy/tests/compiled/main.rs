//! The compiled rule set means what the policy means: an interpreter of rule sets against the reference evaluator over
//! random policies and packets, disjoint keys, stable marks, and the example's golden text.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking; clippy exempts only functions marked as tests"
)]

mod random;
mod walker;

use policy::compile::{CompileError, Compiled, compile, live_at};
use policy::eval::{Clock, Context, Path, Verdict, evaluate};
use policy::ledger::Ledger;
use policy::model::Policy;
use policy::raw::Sources;
use policy::resolve::load;
use policy::ruleset::{Key, Ruleset};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

const EXAMPLE: &str = include_str!("../../examples/clinic.toml");

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn read(text: &str) -> Policy {
    load(&Sources::single("policy.toml", text), at("2026-11-20T10:00:00+09:00"))
        .unwrap_or_else(|report| panic!("{report}\n{text}"))
        .policy
}

fn build(policy: &Policy) -> Compiled {
    compile(policy, &Ledger::default()).unwrap()
}

#[test]
fn too_many_timings_over_the_same_packets_are_refused_by_name() {
    let flows = |count: u8| -> String {
        let flow = |day| {
            format!(
                "[[flow]]\nname = \"f{day}\"\nfrom = \"zone:a\"\nto = \"zone:b\"\nservice = \"tcp/{day}-100\"\n\
                 purpose = \"p\"\nowner = \"o\"\nuntil = 2027-01-{day:02}T12:00:00+09:00\n"
            )
        };
        (1..=count).map(flow).collect()
    };
    let compiled = |count| compile(&read(&format!("{}{}", random::HEAD, flows(count))), &Ledger::default());
    assert!(compiled(4).is_ok());
    let refused = compiled(20).unwrap_err();
    assert!(matches!(&refused, CompileError::TooManyLayers { flow } if flow.starts_with('f')), "{refused}");
}

#[test]
fn the_example_compiles_to_its_golden_text() {
    let compiled = build(&read(EXAMPLE));
    insta::assert_snapshot!("clinic", policy::render::render(&compiled.ruleset));
}

#[test]
fn the_closed_box_has_its_golden_text() {
    insta::assert_snapshot!("closed", policy::render::render(&policy::compile::closed()));
}

#[test]
fn the_same_policy_gives_the_same_bytes_and_the_same_marks() {
    let first = build(&read(EXAMPLE));
    let again = compile(&read(EXAMPLE), &first.ledger).unwrap();
    assert_eq!(first.ruleset.id(), again.ruleset.id());
    assert_eq!(first.ledger, again.ledger);
}

#[test]
fn adding_or_removing_a_flow_leaves_the_others_marks_alone() {
    let first = build(&read(EXAMPLE));
    let without = EXAMPLE.replace("name = \"guest-web\"", "name = \"guest-net\"");
    let second = compile(&read(&without), &first.ledger).unwrap();
    assert_eq!(first.ledger.mark("staff-web"), second.ledger.mark("staff-web"));
    assert_eq!(second.ledger.mark("guest-web"), None);
    assert!(second.ledger.mark("guest-net").unwrap() >= first.ledger.mark("guest-web").unwrap());
}

#[test]
fn narrowing_one_flow_changes_only_its_mark() {
    let first = build(&read(EXAMPLE));
    let narrowed = EXAMPLE.replace("service = \"https+http\"", "service = \"https\"");
    let second = compile(&read(&narrowed), &first.ledger).unwrap();
    assert_ne!(first.ledger.mark("staff-web"), second.ledger.mark("staff-web"));
    let others = |compiled: &Compiled| {
        let mut marks: Vec<_> =
            compiled.ruleset.marks.iter().map(|(mark, info)| (info.name.clone(), *mark)).collect();
        marks.retain(|(name, _)| name != "staff-web");
        marks
    };
    let (mut before, mut after) = (others(&first), others(&second));
    before.sort();
    after.sort();
    assert_eq!(before, after);
}

#[test]
fn untrusted_time_opens_nothing_that_ends() {
    let policy = read(EXAMPLE);
    let compiled = build(&policy);
    let evening = at("2026-11-20T20:00:00+09:00");
    let trusted = live_at(&policy, &compiled.ruleset, evening, true);
    let untrusted = live_at(&policy, &compiled.ruleset, evening, false);
    let update = compiled.ledger.mark("emr-update").unwrap();
    assert_eq!(trusted.get(&update), Some(&Some(at("2026-11-20T22:00:00+09:00"))));
    assert!(untrusted.values().all(Option::is_none));
    assert_eq!(
        trusted.len() - untrusted.len(),
        3,
        "the scheduled flow, the one with an end, and the VPN peer's"
    );
}

fn assert_disjoint(ruleset: &Ruleset) {
    for (name, set) in &ruleset.sets {
        let keys: Vec<&Key> = set.elements.keys().collect();
        for (index, one) in keys.iter().enumerate() {
            for other in &keys[index + 1..] {
                let overlap = one.0.iter().zip(&other.0).all(|(a, b)| a.from <= b.to && b.from <= a.to);
                assert!(!overlap, "{name}: {one:?} and {other:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_rule_set_means_what_the_policy_means(
        text in random::policy(),
        packets in prop::collection::vec(random::packet(), 64),
        hour in 0..168i64,
        trusted in any::<bool>(),
    ) {
        let policy = read(&text);
        let compiled = match compile(&policy, &Ledger::default()) {
            // A draw may overlap in more timings than the compiler takes; its refusal has a test of its own.
            Err(CompileError::TooManyLayers { .. }) => return Err(TestCaseError::reject("too many layers")),
            other => other.unwrap(),
        };
        assert_disjoint(&compiled.ruleset);
        let now = at("2026-11-16T00:00:00+09:00") + jiff::SignedDuration::from_hours(hour);
        let live = live_at(&policy, &compiled.ruleset, now, trusted);
        for packet in &packets {
            let verdict = evaluate(&policy, packet, Context::New, Clock { now, trusted });
            let path = match &verdict {
                Verdict::Allow { path, .. } | Verdict::Control { path, .. } => Some(*path),
                Verdict::Deny { path, .. } => *path,
            };
            // Without a way there is no hook to walk: spoofed, stray and unroutable packets are the kernel tests' part.
            let Some(path) = path else { continue };
            let got = walker::walk(&policy, &compiled.ruleset, &live, packet, path);
            let want = match verdict {
                Verdict::Allow { flow, .. } => Some(policy.flow(flow).name.clone()),
                Verdict::Control { name, .. } => Some(name.to_owned()),
                Verdict::Deny { .. } => None,
            };
            prop_assert_eq!(got, want, "{:?} by {:?} at {} in\n{}", packet, path, now, text);
        }
    }
}

#[test]
fn random_packets_do_pass_sometimes() {
    // The property above is empty if nothing is ever allowed.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut allowed, mut all) = (0, 0);
    for _ in 0..40 {
        let policy = read(&random::policy().new_tree(&mut runner).unwrap().current());
        for _ in 0..50 {
            let packet = random::packet().new_tree(&mut runner).unwrap().current();
            let clock = Clock { now: at("2026-11-16T12:00:00+09:00"), trusted: true };
            let verdict = evaluate(&policy, &packet, Context::New, clock);
            allowed += usize::from(matches!(verdict, Verdict::Allow { path: Path::Forward { .. }, .. }));
            all += 1;
        }
    }
    assert!(allowed * 20 > all, "{allowed} of {all} packets are allowed");
}
