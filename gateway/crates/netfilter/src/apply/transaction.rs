//! The transactions of an apply, request by request, in an order that the kernel takes.

use std::collections::{BTreeMap, BTreeSet};

use policy::ruleset::{Data, Key, LIVE, Mark, Ruleset, Set, Value};

use super::ApplyError;
use crate::batch::{Batch, Mode, Origin};
use crate::delta::{End, Make, STAGE_SUFFIX};
use crate::dump::Snapshot;
use crate::grants::{self, Grant, GrantSet};
use crate::live::{self, LiveChanges, LiveSet, Running};
use crate::lower;
use crate::object::{Element, FoundChain, FoundSet, FoundTable, Table};
use crate::value::Name;

/// The tag of changes to the grants.
pub(super) const GRANTS_ORIGIN: &str = "the grants";
/// The tag of changes to the live set.
pub(super) const LIVE_ORIGIN: &str = "the live marks";

/// A batch, and the marks of the elements that its tags stand for.
pub(super) struct Transaction {
    pub(super) batch: Batch,
    pub(super) marks: BTreeMap<Origin, Vec<Option<Mark>>>,
}

type Step = Result<(), ApplyError>;

impl Transaction {
    fn new(table: &Table) -> Self {
        Self { batch: Batch::new(table.clone()), marks: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Everything of a rule set, whatever the table holds.
    pub(super) fn replace(
        table: &Table,
        present: &Snapshot,
        want: &Ruleset,
        running: Running<'_>,
    ) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        // What others changed between the snapshot and this would be left behind unseen.
        this.batch.require_generation(present.generation);
        this.clear(table, present, want)?;
        for name in want.counters.keys() {
            this.add_counter(name, Mode::Keep)?;
        }
        for name in want.chains.keys() {
            this.add_chain(want, name, Mode::Keep)?;
        }
        for name in want.sets.keys() {
            this.add_set(want, name, running)?;
        }
        for name in want.chains.keys() {
            this.add_rules(want, name)?;
        }
        Ok(this)
    }

    /// Copies of sets beside all that is in force, and what their elements refer to.
    pub(super) fn prepare(
        table: &Table,
        present: &Snapshot,
        staged: &Ruleset,
        copies: &[&str],
    ) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        this.batch.require_generation(present.generation);
        for name in staged.counters.keys() {
            this.add_counter(name, Mode::Keep)?;
        }
        // Base chains are there: `can_stage` saw them.
        for (name, _) in staged.chains.iter().filter(|(_, chain)| chain.base.is_none()) {
            this.add_chain(staged, name, Mode::Keep)?;
        }
        for name in copies {
            this.add_set(staged, name, Running::NONE)?;
        }
        Ok(this)
    }

    /// All rules go over to the copies at once, and what is live is new with them. A set that is no map may be deleted
    /// with the rules that use it: packets among them still find its elements.
    pub(super) fn switch(
        table: &Table,
        present: &Snapshot,
        prepared_generation: u32,
        staged: &Ruleset,
        running: Running<'_>,
    ) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        this.batch.require_generation(prepared_generation);
        this.batch.flush_rules(&Origin::from("the table"))?;
        for name in staged.sets.iter().filter(|(_, set)| set.timeout).map(|(name, _)| name) {
            if present.sets.iter().any(|set| set.name.as_str() == name) {
                this.delete_set(name)?;
            }
            this.add_set(staged, name, running)?;
        }
        for name in staged.chains.keys() {
            // For the policies of base chains.
            this.add_chain(staged, name, Mode::Keep)?;
        }
        for name in staged.chains.keys() {
            this.add_rules(staged, name)?;
        }
        Ok(this)
    }

    /// What was there and is not used any more goes, and the sets come under their own names.
    pub(super) fn clean(table: &Table, present: &Snapshot, want: &Ruleset) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        let is_kept = |set: &FoundSet| want.sets.get(set.name.as_str()).is_some_and(|set| set.timeout);
        let is_old = |set: &&FoundSet| !set.is_anonymous && !is_kept(set);
        for set in present.sets.iter().filter(is_old) {
            this.batch.delete_set(&set.name, &tag("set", &set.name))?;
        }
        let ours = |chain: &&FoundChain| chain.family == Some(table.family) && chain.table == table.name;
        let unwanted = |chain: &&FoundChain| !want.chains.contains_key(chain.name.as_str());
        for chain in present.chains.iter().filter(ours).filter(unwanted) {
            this.batch.delete_chain(&chain.name, &tag("chain", &chain.name))?;
        }
        this.delete_unwanted_counters(present, want)?;
        for name in want.sets.iter().filter(|(_, set)| !set.timeout).map(|(name, _)| name) {
            this.add_set(want, name, Running::NONE)?;
        }
        Ok(this)
    }

    /// The end of sets that nothing uses.
    pub(super) fn without_sets(table: &Table, names: &[&str]) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        for name in names {
            this.delete_set(name)?;
        }
        Ok(this)
    }

    /// The first transaction of an update: everything new.
    pub(super) fn make(
        table: &Table,
        make: &Make,
        have: &Ruleset,
        want: &Ruleset,
        changes: &LiveChanges,
    ) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        for name in &make.counters {
            this.add_counter(name, Mode::MustBeNew)?;
        }
        for name in &make.rules {
            this.flush_rules(name)?;
        }
        for name in &make.moved_chains {
            this.delete_chain(name)?;
            this.add_chain(want, name, Mode::MustBeNew)?;
        }
        for name in &make.chains {
            this.add_chain(want, name, Mode::MustBeNew)?;
        }
        for name in &make.replaced_sets {
            this.delete_set(name)?;
        }
        for name in make.replaced_sets.iter().chain(&make.sets) {
            // The live set is in every rule set; were it new, its marks would come with the additions. Where the sets of
            // grants are new, none was open.
            this.add_set(want, name, Running::NONE)?;
        }
        for (name, keys) in &make.elements {
            this.add_elements(want, name, keys)?;
        }
        for name in make.rules.iter().chain(&make.chains) {
            let source = if want.chains.contains_key(name) { want } else { have };
            this.add_rules(source, name)?;
        }
        this.change_live(&LiveChanges { added: changes.added.clone(), ..LiveChanges::default() })?;
        Ok(this)
    }

    /// The second transaction of an update: everything that ends, the live marks first.
    pub(super) fn end(
        table: &Table,
        end: &End,
        have: &Ruleset,
        changes: &LiveChanges,
    ) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        this.add_end(end, have, changes)?;
        Ok(this)
    }

    /// Appends everything that ends.
    pub(super) fn add_end(&mut self, end: &End, have: &Ruleset, changes: &LiveChanges) -> Step {
        self.change_live(changes)?;
        for (name, keys) in &end.elements {
            self.delete_elements(have, name, keys)?;
        }
        for name in &end.chains {
            self.flush_rules(name)?;
        }
        for name in &end.sets {
            self.delete_set(name)?;
        }
        for name in &end.chains {
            self.delete_chain(name)?;
        }
        for name in &end.counters {
            let origin = Origin::from(format!("counter `{name}`").as_str());
            self.batch.delete_counter(&lower::counter(name)?.name, &origin)?;
        }
        Ok(())
    }

    /// A change of the live set and of nothing else.
    pub(super) fn live(table: &Table, changes: &LiveChanges) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        this.change_live(changes)?;
        Ok(this)
    }

    /// New grants, and grants that end, and nothing else.
    pub(super) fn grants(table: &Table, begun: &GrantSet, ended: &[Grant]) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        let origin = Origin::from(GRANTS_ORIGIN);
        let gone: GrantSet = ended.iter().map(|grant| (*grant, grants::LIFE_MAX)).collect();
        for name in grants::SETS {
            let spec = lower::set(name, &grants::set(name))?;
            let gone = grants::elements(name, &gone)?.into_iter();
            let gone: Vec<Element> = gone.map(|element| Element { timeout_ms: None, ..element }).collect();
            this.batch.delete_elements(&spec, &gone, &origin)?;
            this.batch.add_elements(&spec, &grants::elements(name, begun)?, Mode::MustBeNew, &origin)?;
        }
        Ok(this)
    }

    /// The end of the table, present or not.
    pub(super) fn remove(table: &Table) -> Result<Self, ApplyError> {
        let mut this = Self::new(table);
        let origin = Origin::from("the table");
        this.batch.add_table(Mode::Keep, &origin)?;
        this.batch.delete_table(&origin)?;
        Ok(this)
    }

    /// Empties the table of everything but the base chains and counters that are wanted and as they should be.
    fn clear(&mut self, table: &Table, present: &Snapshot, want: &Ruleset) -> Step {
        let origin = Origin::from("the table");
        self.batch.add_table(Mode::Keep, &origin)?;
        if must_start_over(table, present) {
            self.batch.delete_table(&origin)?;
            self.batch.add_table(Mode::Keep, &origin)?;
            return Ok(());
        }
        self.batch.flush_rules(&origin)?;
        for set in present.sets.iter().filter(|set| !set.is_anonymous) {
            self.batch.delete_set(&set.name, &tag("set", &set.name))?;
        }
        let ours = |chain: &&FoundChain| chain.family == Some(table.family) && chain.table == table.name;
        for chain in present.chains.iter().filter(ours) {
            let wanted =
                want.chains.get(chain.name.as_str()).map(|wanted| lower::chain(chain.name.as_str(), wanted));
            let stays = match wanted.transpose()? {
                // The policy of a base chain may be changed in place.
                Some(wanted) => {
                    chain.is_base && chain.chain.as_ref().is_some_and(|chain| same_place(chain, &wanted))
                }
                None => false,
            };
            if !stays {
                self.batch.delete_chain(&chain.name, &tag("chain", &chain.name))?;
            }
        }
        self.delete_unwanted_counters(present, want)
    }

    fn delete_unwanted_counters(&mut self, present: &Snapshot, want: &Ruleset) -> Step {
        let unwanted = |name: &Name| !want.counters.contains_key(name.as_str());
        for object in present.objects.iter().filter(|object| unwanted(&object.name)) {
            self.batch.delete_counter(&object.name, &tag("counter", &object.name))?;
        }
        Ok(())
    }

    fn add_counter(&mut self, name: &str, mode: Mode) -> Step {
        let origin = Origin::from(format!("counter `{name}`").as_str());
        Ok(self.batch.add_counter(&lower::counter(name)?, mode, &origin)?)
    }

    fn add_chain(&mut self, ruleset: &Ruleset, name: &str, mode: Mode) -> Step {
        let Some(chain) = ruleset.chains.get(name) else { return Ok(()) };
        let origin = Origin::from(format!("chain `{name}`").as_str());
        Ok(self.batch.add_chain(&lower::chain(name, chain)?, mode, &origin)?)
    }

    fn delete_chain(&mut self, name: &str) -> Step {
        let chain = lower::chain_name(name)?;
        Ok(self.batch.delete_chain(&chain, &tag("chain", &chain))?)
    }

    fn flush_rules(&mut self, name: &str) -> Step {
        let chain = lower::chain_name(name)?;
        Ok(self.batch.flush_chain(&chain, &tag("rules of chain", &chain))?)
    }

    fn add_rules(&mut self, ruleset: &Ruleset, name: &str) -> Step {
        let Some(chain) = ruleset.chains.get(name) else { return Ok(()) };
        let chain_name = lower::chain_name(name)?;
        for rule in &chain.rules {
            let origin = Origin::from(format!("rule `{}` of chain `{name}`", rule.why).as_str());
            self.batch.add_rule(&chain_name, &lower::rule(rule)?, &origin)?;
        }
        Ok(())
    }

    fn delete_set(&mut self, name: &str) -> Step {
        let set = lower::set_name(name)?;
        Ok(self.batch.delete_set(&set, &tag("set", &set))?)
    }

    /// Adds a set whole; one that is managed at run time with what is in it.
    fn add_set(&mut self, ruleset: &Ruleset, name: &str, running: Running<'_>) -> Step {
        let Some(set) = ruleset.sets.get(name) else { return Ok(()) };
        let spec = lower::set(name, set)?;
        self.batch.add_set(&spec, Mode::MustBeNew, &tag("set", &spec.name))?;
        if set.timeout {
            let origin = Origin::from(if name == LIVE { LIVE_ORIGIN } else { GRANTS_ORIGIN });
            return Ok(self.batch.add_elements(&spec, &running.elements(name)?, Mode::MustBeNew, &origin)?);
        }
        self.with_elements(name, set, set.elements.iter(), |batch, elements, origin| {
            batch.add_elements(&spec, elements, Mode::MustBeNew, origin)
        })
    }

    fn add_elements(&mut self, ruleset: &Ruleset, name: &str, keys: &BTreeSet<Key>) -> Step {
        let Some(set) = ruleset.sets.get(name) else { return Ok(()) };
        let spec = lower::set(name, set)?;
        let elements = keys.iter().filter_map(|key| set.elements.get_key_value(key));
        self.with_elements(name, set, elements, |batch, elements, origin| {
            batch.add_elements(&spec, elements, Mode::MustBeNew, origin)
        })
    }

    fn delete_elements(&mut self, ruleset: &Ruleset, name: &str, keys: &BTreeSet<Key>) -> Step {
        let Some(set) = ruleset.sets.get(name) else { return Ok(()) };
        let spec = lower::set(name, set)?;
        let elements = keys.iter().filter_map(|key| set.elements.get_key_value(key));
        self.with_elements(name, set, elements, |batch, elements, origin| {
            batch.delete_elements(&spec, elements, origin)
        })
    }

    /// Lowers elements, puts them into the batch, and remembers whose they are.
    fn with_elements<'r>(
        &mut self,
        name: &str,
        set: &Set,
        elements: impl Iterator<Item = (&'r Key, &'r Data)>,
        put: impl FnOnce(&mut Batch, &[Element], &Origin) -> Result<(), crate::batch::BatchError>,
    ) -> Step {
        let origin = Origin::from(format!("elements of set `{name}`").as_str());
        let mut lowered = Vec::new();
        let mut marks = Vec::new();
        for (key, data) in elements {
            lowered.push(lower::element(name, set, key, data)?);
            marks.push(mark_of(key, data));
        }
        put(&mut self.batch, &lowered, &origin)?;
        self.marks.insert(origin, marks);
        Ok(())
    }

    /// Ends and begins live marks. A mark with another end is deleted and added: added again it would keep the old
    /// end on some kernels, and lose it on others.
    fn change_live(&mut self, changes: &LiveChanges) -> Step {
        let spec = lower::set(LIVE, &live::set())?;
        let origin = Origin::from(LIVE_ORIGIN);
        let gone: LiveSet =
            changes.ended.keys().chain(changes.retimed.keys()).map(|&mark| (mark, None)).collect();
        self.batch.delete_elements(&spec, &live::elements(&gone), &origin)?;
        let mut begun = changes.added.clone();
        begun.extend(&changes.retimed);
        Ok(self.batch.add_elements(&spec, &live::elements(&begun), Mode::MustBeNew, &origin)?)
    }
}

/// Whether the rules that are in force can go over to others without a gap: what is there can be told apart from copies,
/// and every base chain stays where it is.
pub(super) fn can_stage(table: &Table, present: &Snapshot, want: &Ruleset) -> Result<bool, ApplyError> {
    let is_copy = |name: &Name| name.as_str().ends_with(STAGE_SUFFIX);
    if must_start_over(table, present) || present.sets.iter().any(|set| is_copy(&set.name)) {
        return Ok(false);
    }
    for (name, chain) in &want.chains {
        let wanted = lower::chain(name, chain)?;
        let mut ours = present
            .chains
            .iter()
            .filter(|found| found.family == Some(table.family) && found.table == table.name);
        let stays = match ours.find(|found| found.name == wanted.name).map(|found| found.chain.as_ref()) {
            None => wanted.base.is_none(),
            Some(None) => false,
            Some(Some(found)) if wanted.base.is_none() => found.base.is_none(),
            Some(Some(found)) => same_place(found, &wanted),
        };
        if !stays {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the table holds what a transaction of ours can neither keep nor delete by its name.
fn must_start_over(table: &Table, present: &Snapshot) -> bool {
    let ours = |found: &&FoundTable| found.family == Some(table.family) && found.name == table.name;
    let flagged = present.tables.iter().filter(ours).any(|found| found.flags != 0);
    let strange_name = |name: &Name| Name::new(name.as_str()).is_err();
    let strange = present.sets.iter().any(|set| !set.is_anonymous && strange_name(&set.name))
        || present.chains.iter().any(|chain| chain.table == table.name && strange_name(&chain.name));
    flagged
        || strange
        || present.flowtables > 0
        || present.objects.iter().any(|object| object.counter.is_none())
}

fn same_place(one: &crate::object::Chain, other: &crate::object::Chain) -> bool {
    match (one.base, other.base) {
        (Some(one), Some(other)) => {
            (one.kind, one.hook, one.priority) == (other.kind, other.hook, other.priority)
        }
        (None, _) | (_, None) => false,
    }
}

/// The mark that an element gives, or is about.
pub(crate) fn mark_of(key: &Key, data: &Data) -> Option<Mark> {
    if let Data::Mark(mark) = data {
        return Some(*mark);
    }
    key.0.iter().find_map(|range| match range.from {
        Value::Mark(mark) => Some(mark),
        Value::Direction(_)
        | Value::Interface(_)
        | Value::Ip4(_)
        | Value::Ip6(_)
        | Value::Protocol(_)
        | Value::Port(_) => None,
    })
}

fn tag(kind: &str, name: &Name) -> Origin {
    Origin::from(format!("{kind} `{name}`").as_str())
}
