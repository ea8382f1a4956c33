//! The kernel's rules against the wanted ones: rule by rule, element by element, and nothing beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use policy::ruleset::{self as neutral, LIVE, Mark, Ruleset};

use crate::dump::Snapshot;
use crate::grants::{self, Grant, GrantSet};
use crate::live::{self, LiveSet, Running};
use crate::lower::{self, LowerError};
use crate::object::{
    Chain, Element, ElementData, FoundChain, FoundElement, FoundRule, FoundTable, Rule, SetSpec, Table,
};
use crate::value::Data;

/// One way in which the kernel's rules are not the wanted ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub what: Subject,
    /// What is wanted, none when nothing is.
    pub expected: Option<String>,
    /// What the kernel has, none when it has nothing.
    pub found: Option<String>,
    /// Where the wanted part comes from: a rule's reason, a flow's name and line.
    pub origin: Option<String>,
}

/// The part of the kernel's rules that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Our table.
    Table,
    /// The flags of our table: dormant, owned.
    TableFlags,
    /// A table that is not ours and sees packets.
    ForeignTable(String),
    /// A chain of our table.
    Chain(String),
    /// Kind, hook, priority or policy of a base chain, or what else is special about a chain.
    ChainBase(String),
    /// A rule, by its chain and its place there, counted from 1.
    Rule(String, usize),
    /// A set or map.
    Set(String),
    /// An element of a set, by its key in hexadecimal.
    Element(String, String),
    /// The remaining life of an element that ends, or that should.
    Timeout(String, String),
    /// A named counter or another object.
    Object(String),
    /// Flow tables, through which packets would pass our chains by.
    Flowtables,
    /// A part of the wanted rule set that cannot be in any kernel.
    Unsayable,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Subject::Table => write!(out, "our table")?,
            Subject::TableFlags => write!(out, "the flags of our table")?,
            Subject::ForeignTable(name) => write!(out, "the foreign table `{name}`")?,
            Subject::Chain(name) => write!(out, "chain `{name}`")?,
            Subject::ChainBase(name) => write!(out, "the base of chain `{name}`")?,
            Subject::Rule(chain, place) => write!(out, "rule {place} of chain `{chain}`")?,
            Subject::Set(name) => write!(out, "set `{name}`")?,
            Subject::Element(set, key) => write!(out, "element {key} of set `{set}`")?,
            Subject::Timeout(set, key) => write!(out, "the life of element {key} of set `{set}`")?,
            Subject::Object(name) => write!(out, "object `{name}`")?,
            Subject::Flowtables => write!(out, "flow tables")?,
            Subject::Unsayable => write!(out, "the wanted rule set")?,
        }
        let none = "nothing";
        let expected = self.expected.as_deref().unwrap_or(none);
        write!(out, ": wanted {expected}, found {}", self.found.as_deref().unwrap_or(none))?;
        match &self.origin {
            Some(origin) => write!(out, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Compares a snapshot with the wanted rules. Equal only if nothing is returned.
pub fn compare(
    table: &Table,
    want: &Ruleset,
    running: Running<'_>,
    slack: Duration,
    found: &Snapshot,
) -> Vec<Difference> {
    let mut report = Report(Vec::new());
    tables(table, found, &mut report);
    let chains = found.chains.iter().filter(|chain| is_in(table, chain));
    chains_of(chains, want, &mut report);
    rules(found, want, &mut report);
    sets(found, want, running, slack, &mut report);
    objects(found, want, &mut report);
    report.0
}

/// A live mark with its remaining life, as the kernel reports it; none for what is no mark.
pub(crate) fn live_entry(found: &FoundElement) -> Option<(Mark, Option<Duration>)> {
    let mark = Mark(found.element.key.to_host32()?);
    let left = found.expires_ms.or(found.element.timeout_ms);
    Some((mark, left.map(Duration::from_millis)))
}

/// The differences so far.
struct Report(Vec<Difference>);

impl Report {
    fn add(
        &mut self,
        what: Subject,
        expected: Option<String>,
        found: Option<String>,
        origin: Option<String>,
    ) {
        self.0.push(Difference { what, expected, found, origin });
    }

    /// Takes the lowered part, or notes that it has no form.
    fn lowered<T>(&mut self, part: Result<T, LowerError>) -> Option<T> {
        part.map_err(|error| self.add(Subject::Unsayable, Some(error.to_string()), None, None)).ok()
    }
}

fn is_in(table: &Table, chain: &FoundChain) -> bool {
    chain.family == Some(table.family) && chain.table == table.name
}

fn tables(table: &Table, found: &Snapshot, report: &mut Report) {
    let is_ours = |other: &&FoundTable| other.family == Some(table.family) && other.name == table.name;
    match found.tables.iter().find(is_ours) {
        None => report.add(Subject::Table, Some("present".to_owned()), None, None),
        Some(ours) if ours.flags != 0 => {
            report.add(
                Subject::TableFlags,
                Some("0x0".to_owned()),
                Some(format!("0x{:x}", ours.flags)),
                None,
            );
        }
        Some(_) => {}
    }
    // A foreign table without base chains sees no packet.
    let mut foreign: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for chain in found.chains.iter().filter(|chain| chain.is_base && !is_in(table, chain)) {
        let family = chain.family.map_or("unknown".to_owned(), |family| format!("{family:?}").to_lowercase());
        foreign.entry(format!("{family} {}", chain.table)).or_default().push(chain.name.to_string());
    }
    for (name, chains) in foreign {
        report.add(
            Subject::ForeignTable(name),
            None,
            Some(format!("base chains {}", chains.join(", "))),
            None,
        );
    }
    if found.flowtables > 0 {
        report.add(Subject::Flowtables, None, Some(found.flowtables.to_string()), None);
    }
}

fn chains_of<'f>(found: impl Iterator<Item = &'f FoundChain>, want: &Ruleset, report: &mut Report) {
    let mut found: BTreeMap<&str, &FoundChain> = found.map(|chain| (chain.name.as_str(), chain)).collect();
    for (name, chain) in &want.chains {
        let Some(expected) = report.lowered(lower::chain(name, chain)) else { continue };
        match found.remove(name.as_str()) {
            None => report.add(Subject::Chain(name.clone()), Some("present".to_owned()), None, None),
            Some(present) if present.chain.as_ref() == Some(&expected) => {}
            Some(present) => report.add(
                Subject::ChainBase(name.clone()),
                Some(base_text(&expected)),
                Some(found_base_text(present)),
                None,
            ),
        }
    }
    for (name, extra) in found {
        report.add(Subject::Chain(name.to_owned()), None, Some(found_base_text(extra)), None);
    }
}

fn base_text(chain: &Chain) -> String {
    match chain.base {
        None => "no base chain".to_owned(),
        Some(base) => format!(
            "{:?} hook {:?} priority {} policy {:?}",
            base.kind, base.hook, base.priority, base.policy
        )
        .to_lowercase(),
    }
}

fn found_base_text(found: &FoundChain) -> String {
    match (&found.chain, &found.foreign) {
        (Some(chain), _) => base_text(chain),
        (None, Some(foreign)) => foreign.clone(),
        (None, None) => "a chain of an unknown kind".to_owned(),
    }
}

fn rules(found: &Snapshot, want: &Ruleset, report: &mut Report) {
    let mut by_chain: BTreeMap<&str, Vec<&FoundRule>> = BTreeMap::new();
    for rule in &found.rules {
        by_chain.entry(rule.chain.as_str()).or_default().push(rule);
    }
    for (name, chain) in &want.chains {
        let present = by_chain.remove(name.as_str()).unwrap_or_default();
        rules_of_chain(name, chain, &present, report);
    }
    for (name, extra) in by_chain {
        for (index, rule) in extra.into_iter().enumerate() {
            report.add(Subject::Rule(name.to_owned(), index + 1), None, Some(found_rule_text(rule)), None);
        }
    }
}

fn rules_of_chain(name: &str, chain: &neutral::Chain, present: &[&FoundRule], report: &mut Report) {
    let mut expected: Vec<(Rule, &neutral::Rule)> = Vec::with_capacity(chain.rules.len());
    for rule in &chain.rules {
        let Some(lowered) = report.lowered(lower::rule(rule)) else { return };
        expected.push((lowered, rule));
    }
    // What is the same at both ends is not part of the change: an inserted rule is one difference.
    let is_same = |((rule, _), found): &(&(Rule, &neutral::Rule), &&FoundRule)| {
        *rule == found.rule && found.foreign.is_none()
    };
    let head = expected.iter().zip(present).take_while(is_same).count();
    let (expected, present) =
        (expected.get(head..).unwrap_or_default(), present.get(head..).unwrap_or_default());
    let tail = expected.iter().rev().zip(present.iter().rev()).take_while(is_same).count();
    let expected = expected.get(..expected.len() - tail).unwrap_or_default();
    let present = present.get(..present.len() - tail).unwrap_or_default();
    for index in 0..expected.len().max(present.len()) {
        let wanted = expected.get(index);
        let found = present.get(index);
        if wanted.zip(found).as_ref().is_some_and(is_same) {
            continue;
        }
        report.add(
            Subject::Rule(name.to_owned(), head + index + 1),
            wanted.map(|(_, rule)| policy::render::rule(rule)),
            found.map(|found| found_rule_text(found)),
            wanted.map(|(_, rule)| rule.why.clone()),
        );
    }
}

fn found_rule_text(found: &FoundRule) -> String {
    let exprs: Vec<String> = found.rule.exprs.iter().map(|expr| format!("{expr:?}")).collect();
    let mut text = exprs.join("; ");
    if let Some(comment) = &found.rule.comment {
        text.push_str(&format!(" comment {:?}", comment.as_str()));
    }
    if let Some(foreign) = &found.foreign {
        text.push_str(&format!(" and {foreign}"));
    }
    text
}

fn sets(found: &Snapshot, want: &Ruleset, running: Running<'_>, slack: Duration, report: &mut Report) {
    let mut present: BTreeMap<&str, _> = found.sets.iter().map(|set| (set.name.as_str(), set)).collect();
    for (name, set) in &want.sets {
        let Some(expected) = report.lowered(lower::set(name, set)) else { continue };
        let subject = Subject::Set(name.clone());
        match present.remove(name.as_str()) {
            None => report.add(subject, Some(set_text(&expected)), None, None),
            Some(other) if other.set.as_ref() != Some(&expected) => {
                let text = other.set.as_ref().map(set_text).or_else(|| other.foreign.clone());
                report.add(subject, Some(set_text(&expected)), text, None);
            }
            Some(_) => {
                let elements = found.elements.get(&expected.name).map(Vec::as_slice).unwrap_or_default();
                if name == LIVE {
                    live_elements(elements, running.live, want, slack, report);
                } else if set.timeout {
                    grants_of_set(name, elements, running.grants, slack, report);
                } else {
                    elements_of_set(name, set, elements, want, report);
                }
            }
        }
    }
    for (name, extra) in present {
        let text = extra.set.as_ref().map(set_text).or_else(|| extra.foreign.clone());
        report.add(Subject::Set(name.to_owned()), None, text, None);
    }
}

fn set_text(set: &SetSpec) -> String {
    let SetSpec { name: _, key, data, interval, timeout, dynamic, default_timeout_ms, size } = set;
    let mut text = format!("key {:?} data {data:?}", key.fields());
    for (flag, is_set) in [("interval", *interval), ("timeout", *timeout), ("dynamic", *dynamic)] {
        if is_set {
            text.push(' ');
            text.push_str(flag);
        }
    }
    if let Some(default_timeout_ms) = default_timeout_ms {
        text.push_str(&format!(" default timeout {default_timeout_ms} ms"));
    }
    if let Some(size) = size {
        text.push_str(&format!(" size {size}"));
    }
    text.to_lowercase()
}

fn elements_of_set(
    name: &str,
    set: &neutral::Set,
    found: &[FoundElement],
    want: &Ruleset,
    report: &mut Report,
) {
    let mut present: BTreeMap<ElementKey, Vec<&FoundElement>> = BTreeMap::new();
    for element in found {
        present.entry(element_key(&element.element)).or_default().push(element);
    }
    for (key, data) in &set.elements {
        let Some(expected) = report.lowered(lower::element(name, set, key, data)) else { continue };
        let matching = present.remove(&element_key(&expected)).unwrap_or_default();
        let origin = || element_origin(key, data, want);
        let subject = || Subject::Element(name.to_owned(), policy::render::element_key(key));
        match matching.as_slice() {
            [one] if one.element == expected && one.foreign.is_none() => {}
            [] => report.add(subject(), Some(data_text(&expected.data)), None, origin()),
            others => {
                let texts: Vec<String> = others.iter().map(|other| found_element_text(other)).collect();
                report.add(subject(), Some(data_text(&expected.data)), Some(texts.join(" and ")), origin());
            }
        }
    }
    for extra in present.into_values().flatten() {
        let subject = Subject::Element(name.to_owned(), key_text(&extra.element));
        report.add(subject, None, Some(found_element_text(extra)), None);
    }
}

type ElementKey = (Data, Option<Data>);

fn element_key(element: &Element) -> ElementKey {
    (element.key.clone(), element.key_end.clone())
}

fn key_text(element: &Element) -> String {
    match &element.key_end {
        Some(end) => format!("{}-{end}", element.key),
        None => element.key.to_string(),
    }
}

fn data_text(data: &ElementData) -> String {
    match data {
        ElementData::None => "present".to_owned(),
        ElementData::Mark(mark) => Mark(*mark).to_string(),
        ElementData::Verdict(verdict) => format!("{verdict:?}").to_lowercase(),
        ElementData::Counter(name) => format!("counter `{name}`"),
    }
}

fn found_element_text(found: &FoundElement) -> String {
    let mut text = data_text(&found.element.data);
    if let Some(timeout_ms) = found.element.timeout_ms {
        text.push_str(&format!(" with a timeout of {timeout_ms} ms"));
    }
    if let Some(foreign) = &found.foreign {
        text.push_str(&format!(" and {foreign}"));
    }
    text
}

fn element_origin(key: &neutral::Key, data: &neutral::Data, want: &Ruleset) -> Option<String> {
    let mark = crate::apply::mark_of(key, data)?;
    let info = want.marks.get(&mark)?;
    Some(match info.place {
        Some(place) => format!("flow `{}`, line {}", info.name, place.line),
        None => format!("flow `{}`", info.name),
    })
}

fn live_elements(
    found: &[FoundElement],
    live: &LiveSet,
    want: &Ruleset,
    slack: Duration,
    report: &mut Report,
) {
    let mut present: BTreeMap<Mark, Option<Duration>> = BTreeMap::new();
    for element in found {
        match live_entry(element).filter(|_| element.foreign.is_none() && element.element.key_end.is_none()) {
            Some((mark, life)) => _ = present.insert(mark, life),
            None => {
                let subject = Subject::Element(LIVE.to_owned(), key_text(&element.element));
                report.add(subject, None, Some(found_element_text(element)), None);
            }
        }
    }
    for (&mark, &life) in live.iter().filter(|(_, life)| live::is_alive(**life)) {
        let origin = || want.marks.get(&mark).map(|info| format!("flow `{}`", info.name));
        match (life, present.remove(&mark)) {
            // Its end may have come between the caller's clock and this.
            (Some(left), None) if left <= slack => {}
            (_, None) => {
                let subject = Subject::Element(LIVE.to_owned(), mark.to_string());
                report.add(subject, Some(life_text(life)), None, origin());
            }
            (None, Some(None)) => {}
            (Some(left), Some(Some(found))) if left.abs_diff(found) <= slack || is_cut(left, found) => {}
            (_, Some(found)) => {
                let subject = Subject::Timeout(LIVE.to_owned(), mark.to_string());
                report.add(subject, Some(life_text(life)), Some(life_text(found)), origin());
            }
        }
    }
    // A mark that is about to end by itself may be past its end by the caller's clock.
    for (mark, life) in present.into_iter().filter(|(_, life)| life.is_none_or(|life| life > slack)) {
        report.add(Subject::Element(LIVE.to_owned(), mark.to_string()), None, Some(life_text(life)), None);
    }
}

/// Whether an end is so far off that the kernel was given a nearer one: that one draws near while the other stays far. It is
/// put right long before it comes.
fn is_cut(left: Duration, found: Duration) -> bool {
    left > live::LIFE_MAX && (live::LIFE_MAX / 2..=live::LIFE_MAX).contains(&found)
}

/// Grants that are open, of one set, and nothing beside them.
fn grants_of_set(name: &str, found: &[FoundElement], open: &GrantSet, slack: Duration, report: &mut Report) {
    let mut present: BTreeMap<Grant, Option<Duration>> = BTreeMap::new();
    for element in found {
        match grants::found(element).filter(|_| element.foreign.is_none()) {
            Some((grant, left)) => _ = present.insert(grant, left),
            None => {
                let subject = Subject::Element(name.to_owned(), key_text(&element.element));
                report.add(subject, None, Some(found_element_text(element)), None);
            }
        }
    }
    for (grant, left) in open.iter().filter(|(grant, _)| grants::set_of(grant) == name) {
        let wanted = || Some(life_text(Some(*left)));
        match present.remove(grant) {
            Some(Some(found)) if left.abs_diff(found) <= slack => {}
            // Its end may have come between the caller's clock and this.
            None if *left <= slack => {}
            None => {
                report.add(Subject::Element(name.to_owned(), grant.to_string()), wanted(), None, None);
            }
            Some(found) => {
                let subject = Subject::Timeout(name.to_owned(), grant.to_string());
                report.add(subject, wanted(), Some(life_text(found)), None);
            }
        }
    }
    // One that nobody made is a hole, however soon it closes.
    for (grant, left) in present {
        let subject = Subject::Element(name.to_owned(), grant.to_string());
        report.add(subject, None, Some(life_text(left)), None);
    }
}

fn life_text(life: Option<Duration>) -> String {
    life.map_or("for ever".to_owned(), |life| format!("for {} ms", life.as_millis()))
}

fn objects(found: &Snapshot, want: &Ruleset, report: &mut Report) {
    let counters: BTreeSet<&str> = found
        .objects
        .iter()
        .filter(|object| object.counter.is_some())
        .map(|object| object.name.as_str())
        .collect();
    for name in want.counters.keys().filter(|name| !counters.contains(name.as_str())) {
        report.add(Subject::Object(name.clone()), Some("a counter".to_owned()), None, None);
    }
    for object in &found.objects {
        match &object.counter {
            Some(_) if want.counters.contains_key(object.name.as_str()) => {}
            Some(_) => {
                report.add(
                    Subject::Object(object.name.to_string()),
                    None,
                    Some("a counter".to_owned()),
                    None,
                );
            }
            None => {
                let kind = "an object of another kind".to_owned();
                report.add(Subject::Object(object.name.to_string()), None, Some(kind), None);
            }
        }
    }
}
