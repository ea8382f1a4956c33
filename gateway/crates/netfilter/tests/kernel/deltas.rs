//! From any rule set to any other: the plan is complete on paper, and the kernel takes it and ends up equal.

use std::collections::BTreeMap;
use std::time::Duration;

use netfilter::{ApplyError, LiveSet, Netfilter, delta};
use policy::ruleset::{Chain, Key, Rule, Ruleset, Set, Statement};
use proptest::prelude::*;

use crate::namespace::in_namespace;
use crate::sample::{everything, example, live_marks, random, random_live};

/// What a load and a comparison may take where the processor is emulated and shared. Ends are 1,000 s apart here.
const SLACK: Duration = Duration::from_secs(30);

proptest! {
    /// Made and ended on a model, the plan gives the wanted rule set; between the two steps everything new is there, and
    /// of the old only replaced sets and rewritten chains are not.
    #[test]
    fn a_plan_leads_where_it_should(from in any::<u64>(), to in any::<u64>()) {
        let (have, want) = (random(from), random(to));
        let delta = delta::plan(&have, &want);
        let between = made(&delta.make, &have, &want);
        for (name, set) in &want.sets {
            for (key, data) in &set.elements {
                prop_assert_eq!(between.sets[name].elements.get(key), Some(data));
            }
        }
        for (name, chain) in &want.chains {
            prop_assert_eq!(&between.chains[name], chain);
        }
        for (name, chain) in have.chains.iter().filter(|(name, _)| !want.chains.contains_key(*name)) {
            prop_assert_eq!(&between.chains[name], chain);
        }
        prop_assert!(have.counters.keys().all(|name| between.counters.contains_key(name)));
        let after = ended(&delta.end, between);
        prop_assert_eq!(&after.counters, &want.counters);
        prop_assert_eq!(&after.sets, &want.sets);
        prop_assert_eq!(&after.chains, &want.chains);
        prop_assert!(delta::plan(&want, &want).make.is_empty() && delta::plan(&want, &want).end.is_empty());
    }

    /// A range set that loses much is replaced, and every chain that uses it is written anew in the same step.
    #[test]
    fn a_replaced_set_takes_its_chains_along(from in any::<u64>(), to in any::<u64>()) {
        let (have, want) = (random(from), random(to));
        let delta = delta::plan(&have, &want);
        for (name, keys) in &delta.end.elements {
            let within = keys.len() <= delta::DELETIONS_IN_PLACE_MAX || !want.sets[name].interval;
            prop_assert!(within, "{} of {name}", keys.len());
        }
        for set in &delta.make.replaced_sets {
            let uses = |chain: &Chain| format!("{chain:?}").contains(&format!("\"{set}\""));
            for (name, _) in have.chains.iter().filter(|(_, chain)| uses(chain)) {
                prop_assert!(delta.make.rules.contains(name), "{name} uses {set}");
            }
        }
    }
}

#[test]
fn the_kernel_follows_two_hundred_random_changes() {
    in_namespace(|| {
        let mut kernel = Netfilter::open().unwrap();
        let mut have = random(0);
        kernel.replace(&have, &random_live(0)).unwrap();
        let mut transactions = BTreeMap::new();
        for seed in 1..=200_u64 {
            let (want, live) = (random(seed * 7919), random_live(seed * 104_729));
            let applied = kernel
                .update(&have, &want, &live)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{:#?}", delta::plan(&have, &want)));
            assert_eq!(kernel.verify(&want, &live, SLACK).unwrap(), [], "seed {seed}");
            *transactions.entry(applied.transactions).or_insert(0_u32) += 1;
            have = want;
        }
        // Changes of one step only would have tested little; replaced range sets take three or four.
        assert!(transactions.range(2..).map(|(_, count)| count).sum::<u32>() > 100, "{transactions:?}");
        assert!(transactions.range(3..).map(|(_, count)| count).sum::<u32>() > 20, "{transactions:?}");
        let applied = kernel.update(&have, &have, &random_live(200 * 104_729)).unwrap();
        assert_eq!(applied.transactions, 0);
    });
}

#[test]
fn real_rule_sets_change_into_each_other_and_counters_keep_their_values() {
    in_namespace(|| {
        let mut kernel = Netfilter::open().unwrap();
        let all = [policy::compile::closed(), example(), everything(), example(), policy::compile::closed()];
        kernel.replace(&all[0], &LiveSet::new()).unwrap();
        for pair in all.windows(2) {
            let [have, want] = pair else { panic!() };
            let live = live_marks(want);
            kernel.update(have, want, &live).unwrap();
            assert_eq!(kernel.verify(want, &live, SLACK).unwrap(), []);
        }
    });
}

#[test]
fn a_refused_step_leaves_the_kernel_as_it_was_and_a_late_one_says_so() {
    in_namespace(|| {
        let (have, want) = (everything(), example());
        let live = live_marks(&have);
        let mut kernel = Netfilter::open().unwrap();
        kernel.replace(&have, &live).unwrap();
        // A rule of `want` counts in a counter that is nowhere: refused after range sets were prepared.
        let mut broken = want.clone();
        broken
            .sets
            .insert("pairs4".to_owned(), Set { elements: BTreeMap::new(), ..have.sets["pairs4"].clone() });
        let rule =
            Rule { why: "broken".to_owned(), statements: vec![Statement::Counter("nowhere".to_owned())] };
        broken.chains.get_mut("gate-forward").unwrap().rules.push(rule);
        let error = kernel.update(&have, &broken, &live).unwrap_err();
        assert!(error.to_string().contains("rule `broken` of chain `gate-forward`"), "{error}");
        assert_eq!(kernel.verify(&have, &live, SLACK).unwrap(), []);
        kernel.replace(&broken, &live).unwrap_err();
        assert_eq!(kernel.verify(&have, &live, SLACK).unwrap(), []);
        // What the caller believes to be there is not: the deletion of it fails after the new is in force.
        let mut mistaken = have.clone();
        mistaken.counters.insert("nowhere".to_owned(), have.counters["hits"].clone());
        let error = kernel.update(&mistaken, &want, &live).unwrap_err();
        assert!(matches!(error, ApplyError::Half(_)), "{error}");
        let live = live_marks(&want);
        kernel.replace(&want, &live).unwrap();
        assert_eq!(kernel.verify(&want, &live, SLACK).unwrap(), []);
    });
}

fn made(make: &delta::Make, have: &Ruleset, want: &Ruleset) -> Ruleset {
    let mut model = have.clone();
    for name in &make.counters {
        model.counters.insert(name.clone(), want.counters[name].clone());
    }
    for name in make.replaced_sets.iter().chain(&make.sets) {
        model.sets.insert(name.clone(), want.sets[name].clone());
    }
    for (name, keys) in &make.elements {
        let set = model.sets.get_mut(name).unwrap();
        let add = |key: &Key| (key.clone(), want.sets[name].elements[key].clone());
        set.elements.extend(keys.iter().map(add));
    }
    for name in make.chains.iter().chain(&make.moved_chains) {
        let base = want.chains[name].base;
        model.chains.insert(name.clone(), Chain { base, rules: Vec::new() });
    }
    for name in make.chains.iter().chain(&make.rules) {
        let source = want.chains.get(name).unwrap_or_else(|| &have.chains[name]);
        model.chains.get_mut(name).unwrap().rules = source.rules.clone();
    }
    model
}

fn ended(end: &delta::End, mut model: Ruleset) -> Ruleset {
    for (name, keys) in &end.elements {
        model.sets.get_mut(name).unwrap().elements.retain(|key, _| !keys.contains(key));
    }
    model.chains.retain(|name, _| !end.chains.contains(name));
    model.sets.retain(|name, _| !end.sets.contains(name));
    model.counters.retain(|name, _| !end.counters.contains(name));
    model
}
