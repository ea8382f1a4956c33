//! What changes between two rule sets, in the order that loses no permitted packet and passes no forbidden one.
//!
//! Pure. First everything new is *made* while all that is old still stands, then what is no longer wanted is *broken*.
//! A range set that loses much is never edited in place (19 s at 10,000 elements): it is replaced under its name. Its
//! elements appear only at the end of a commit, after the rules that use them: for some ten packets per change a new
//! set looks empty (measured). So rules go over to it by [`stages`]: never to a range set of the same transaction. And a
//! deleted map looks empty to a packet that is among its rules at that moment (a packet in some 10^5, measured): so maps
//! are deleted by a transaction of their own, when no rule uses them any more.

use std::collections::{BTreeMap, BTreeSet};

use policy::ruleset::{Chain, DataType, Key, Ruleset, Set, Statement};

/// The most elements that are deleted from a range set in place: one deletion among 10,000 takes some 70 ms.
pub const DELETIONS_IN_PLACE_MAX: usize = 8;

/// The two steps from one rule set to another. Elements of sets with timeouts are not part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// What the first transaction does.
    pub make: Make,
    /// What the second transaction does.
    pub end: End,
}

/// Additions and replacements, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Make {
    /// New counters.
    pub counters: BTreeSet<String>,
    /// New chains.
    pub chains: BTreeSet<String>,
    /// Base chains that hang elsewhere now: deleted and added.
    pub moved_chains: BTreeSet<String>,
    /// Present chains whose rules are written anew; those not wanted any more keep their old rules.
    pub rules: BTreeSet<String>,
    /// Sets that are deleted and added whole under their name.
    pub replaced_sets: BTreeSet<String>,
    /// New sets, added whole.
    pub sets: BTreeSet<String>,
    /// New elements of present sets.
    pub elements: BTreeMap<String, BTreeSet<Key>>,
}

/// Deletions, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// Elements of present sets that are deleted.
    pub elements: BTreeMap<String, BTreeSet<Key>>,
    /// Chains that are deleted, all their rules before.
    pub chains: BTreeSet<String>,
    /// Sets that are deleted, after the rules of those chains and before the chains.
    pub sets: BTreeSet<String>,
    /// Counters that are deleted.
    pub counters: BTreeSet<String>,
}

impl Make {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl End {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Finds the steps from a rule set that is in the kernel to one that is wanted.
pub fn plan(have: &Ruleset, want: &Ruleset) -> Delta {
    let mut delta = Delta::default();
    delta.make.counters = keys_only_in(&want.counters, &have.counters);
    delta.end.counters = keys_only_in(&have.counters, &want.counters);
    delta.make.sets = keys_only_in(&want.sets, &have.sets);
    delta.end.sets = keys_only_in(&have.sets, &want.sets);
    delta.make.chains = keys_only_in(&want.chains, &have.chains);
    delta.end.chains = keys_only_in(&have.chains, &want.chains);
    for (name, old) in &have.sets {
        if let Some(new) = want.sets.get(name) {
            plan_set(name, old, new, &mut delta);
        }
    }
    for (name, old) in &have.chains {
        plan_chain(name, old, want.chains.get(name), &mut delta.make);
    }
    delta
}

/// The added name of a set's copy, while its rules go over.
pub const STAGE_SUFFIX: &str = ".next";

/// Rule sets on the way from one to another, each of which the last one's rules can go over to without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages {
    /// The old rules, and beside them the new range sets: those that are replaced under another name.
    pub prepared: Ruleset,
    /// The new rules, which still use the other names; nothing uses the replaced sets any more.
    pub switched: Ruleset,
    /// The same, with the replaced sets as they shall be.
    pub rebuilt: Ruleset,
}

/// Finds the rule sets on the way, none when the direct way has no gap.
pub fn stages(have: &Ruleset, want: &Ruleset) -> Option<Stages> {
    let delta = plan(have, want);
    let of = |names: &BTreeSet<String>, is: fn(&Set) -> bool| -> BTreeSet<String> {
        names.iter().filter(|name| want.sets.get(*name).is_some_and(is)).cloned().collect()
    };
    let replaced = of(&delta.make.replaced_sets, refers_to_nothing);
    let new = of(&delta.make.sets, |set| set.interval && refers_to_nothing(set));
    let is_joined = want
        .chains
        .iter()
        .filter(|(name, _)| have.chains.contains_key(*name))
        .any(|(_, chain)| sets_used(chain).any(|set| new.contains(set)));
    if replaced.is_empty() && !is_joined {
        return None;
    }
    let mut prepared = have.clone();
    for name in &new {
        prepared.sets.extend(want.sets.get(name).map(|set| (name.clone(), set.clone())));
    }
    let copies = copies(want, &replaced);
    prepared.sets.extend(copies.clone());
    let mut rebuilt = renamed(want, &replaced);
    rebuilt.sets.extend(copies);
    let mut switched = rebuilt.clone();
    let old = |name: &String| have.sets.get(name).map(|set| (name.clone(), set.clone()));
    switched.sets.extend(replaced.iter().filter_map(old));
    Some(Stages { prepared, switched, rebuilt })
}

/// The rule set with copies of all its sets but those managed at run time, and its rules using the copies: what a load over something
/// unknown goes through.
pub(crate) fn staged_whole(want: &Ruleset) -> Ruleset {
    let names: BTreeSet<String> =
        want.sets.iter().filter(|(_, set)| !set.timeout).map(|(name, _)| name.clone()).collect();
    let mut staged = renamed(want, &names);
    staged.sets.extend(copies(want, &names));
    staged
}

/// Whether a set's elements can be there before anything else that is new.
fn refers_to_nothing(set: &Set) -> bool {
    match set.data {
        None | Some(DataType::Mark) => true,
        Some(DataType::Verdict | DataType::Counter) => false,
    }
}

fn copies(want: &Ruleset, names: &BTreeSet<String>) -> BTreeMap<String, Set> {
    let copy = |name: &String| want.sets.get(name).map(|set| (format!("{name}{STAGE_SUFFIX}"), set.clone()));
    names.iter().filter_map(copy).collect()
}

fn renamed(ruleset: &Ruleset, names: &BTreeSet<String>) -> Ruleset {
    let mut ruleset = ruleset.clone();
    for rule in ruleset.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        for name in rule.statements.iter_mut().filter_map(set_used_mut) {
            if names.contains(name) {
                name.push_str(STAGE_SUFFIX);
            }
        }
    }
    ruleset
}

fn plan_set(name: &str, old: &Set, new: &Set, delta: &mut Delta) {
    let same_kind =
        (&old.key, old.data, old.interval, old.timeout) == (&new.key, new.data, new.interval, new.timeout);
    let added = keys_only_in(&new.elements, &old.elements);
    let gone = keys_only_in(&old.elements, &new.elements);
    let changed =
        old.elements.iter().any(|(key, data)| new.elements.get(key).is_some_and(|other| other != data));
    // Ranges overlap in ways that exact keys cannot, and their deletions are slow.
    let in_place =
        !new.interval || gone.is_empty() || (added.is_empty() && gone.len() <= DELETIONS_IN_PLACE_MAX);
    if !same_kind || changed || !in_place {
        delta.make.replaced_sets.insert(name.to_owned());
        return;
    }
    if !added.is_empty() {
        delta.make.elements.insert(name.to_owned(), added);
    }
    if !gone.is_empty() {
        delta.end.elements.insert(name.to_owned(), gone);
    }
}

fn plan_chain(name: &str, old: &Chain, new: Option<&Chain>, make: &mut Make) {
    let moved = new.is_some_and(|new| new.base != old.base);
    let changed = new.is_some_and(|new| new.rules != old.rules);
    let uses_replaced = |chain: &Chain| sets_used(chain).any(|set| make.replaced_sets.contains(set));
    let touched = uses_replaced(old) || new.is_some_and(uses_replaced);
    if moved || changed || touched {
        make.rules.insert(name.to_owned());
    }
    if moved {
        make.moved_chains.insert(name.to_owned());
    }
}

/// Defines a function that finds the set or map a statement refers to, for shared and for exclusive references.
macro_rules! set_used {
    ($name:ident($statement:ty) -> $result:ty) => {
        fn $name(statement: $statement) -> Option<$result> {
            match statement {
                Statement::In { set: name, .. }
                | Statement::CounterFrom { map: name, .. }
                | Statement::MarkFrom { map: name, .. }
                | Statement::VerdictFrom { map: name, .. } => Some(name),
                Statement::Family(_)
                | Statement::Protocol(_)
                | Statement::State(_)
                | Statement::Direction(_)
                | Statement::Interface(..)
                | Statement::Address(..)
                | Statement::IcmpType(..)
                | Statement::Port(..)
                | Statement::HopLimit(_)
                | Statement::TcpSyn
                | Statement::SourceReturnsHere
                | Statement::DestinationIsLocalHere { .. }
                | Statement::Limit { .. }
                | Statement::Counter(_)
                | Statement::PacketIsGranted
                | Statement::ConnectionIsGranted
                | Statement::ConnectionIsMarked
                | Statement::SetMark(_)
                | Statement::PacketMarkFromConnection
                | Statement::SetPacketMark(_)
                | Statement::MarkFromPacket
                | Statement::Log { .. }
                | Statement::ClampMss
                | Statement::Masquerade
                | Statement::Verdict(_) => None,
            }
        }
    };
}

/// The sets and maps that a chain's rules refer to.
fn sets_used(chain: &Chain) -> impl Iterator<Item = &str> {
    chain.rules.iter().flat_map(|rule| &rule.statements).filter_map(set_used).map(String::as_str)
}

set_used!(set_used(&Statement) -> &String);
set_used!(set_used_mut(&mut Statement) -> &mut String);

fn keys_only_in<K: Ord + Clone, A, B>(one: &BTreeMap<K, A>, other: &BTreeMap<K, B>) -> BTreeSet<K> {
    one.keys().filter(|key| !other.contains_key(key)).cloned().collect()
}
