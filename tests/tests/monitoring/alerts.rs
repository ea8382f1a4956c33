//! Done-when 1 and 5 of "Evidence": every query is answered, every alert fires and resolves.
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use crate::{
    clinic::Clinic,
    faults::{Alert, FAULTS, Fault},
    inbox::Told,
    shipped,
    stack::{DOOR, Stack},
};

/// How long a query may stay unanswered on a fresh box: the clock has to follow its sources first.
const ANSWERED_LIMIT: Duration = Duration::from_secs(90);
/// How long an alert may take: the longest waits for a threshold of a minute.
const TOLD_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(250);

#[test]
fn every_shipped_alert_has_a_fault() {
    let shipped: BTreeSet<_> = shipped::annotations().into_keys().collect();
    let fired = FAULTS.iter().flat_map(|fault| fault.fires).map(|(alert, _)| (*alert).to_owned());
    let fired: BTreeSet<_> = fired.collect();
    assert_eq!(shipped, fired, "alerts that are shipped, and alerts that are fired");
}

#[test]
fn every_query_is_answered_and_every_alert_fires_and_resolves() {
    let mut clinic = Clinic::fresh();
    let stack = Stack::start(&clinic);
    for fault in FAULTS {
        turn(&mut clinic, &stack, fault);
        if fault.what == FAULTS[0].what {
            // Now there is one of everything that people do.
            every_query_is_answered(&clinic, &stack);
        }
    }
    let told = stack.inbox.told();
    assert!(told.iter().any(|told| told.labels["instance"] == DOOR));
    texts_are_intact(&told);
}

/// Breaks, waits until it is told; mends, waits until that is told.
fn turn(clinic: &mut Clinic, stack: &Stack, fault: &Fault) {
    let Fault { what, breaks, fires } = fault;
    let before = stack.inbox.told().len();
    let mends: Vec<_> = breaks.iter().map(|breaks| breaks(clinic)).collect();
    // What a fresh box says was told while its monitoring started.
    let before = if *what == FAULTS[0].what { 0 } else { before };
    let red = wait(stack, before, fires, "firing", what);
    let before = stack.inbox.told().len();
    mends.into_iter().rev().for_each(|mend| mend(clinic));
    let green = wait(stack, before, fires, "resolved", what);
    println!("{what}: told after {red:.1?}, over after {green:.1?}");
}

fn wait(stack: &Stack, before: usize, alerts: &[Alert], status: &str, what: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let told = stack.inbox.told();
        let is_told = |(alert, (label, value)): &&Alert| {
            let is =
                |told: &Told, label: &str, value: &str| told.labels.get(label).is_some_and(|it| it == value);
            let mut new = told[before..].iter();
            new.any(|told| told.status == status && is(told, "alertname", alert) && is(told, label, value))
        };
        let absent: Vec<_> = alerts.iter().filter(|alert| !is_told(alert)).collect();
        if absent.is_empty() {
            return begun.elapsed();
        }
        let said = || told[before..].iter().map(|told| format!("{} {:?}", told.status, told.labels));
        assert!(
            begun.elapsed() < TOLD_LIMIT,
            "{what}: {absent:?} not {status}; told: {:#?}; {}",
            said().collect::<BTreeSet<_>>(),
            stack.logs()
        );
        thread::sleep(POLL);
    }
}

fn every_query_is_answered(clinic: &Clinic, stack: &Stack) {
    let queries = shipped::queries();
    assert!(queries.len() > 100, "{} queries of two languages", queries.len());
    // Both languages ask much the same.
    let mut open: BTreeSet<_> = queries.iter().map(|(_, query)| query).collect();
    let (all, begun) = (open.len(), Instant::now());
    while !open.is_empty() {
        open.retain(|query| stack.count(clinic, query) == 0);
        let silent = || queries.iter().filter(|(_, query)| open.contains(query));
        assert!(begun.elapsed() < ANSWERED_LIMIT, "no series: {:#?}", silent().collect::<Vec<_>>());
    }
    println!("{} queries, {all} of them different, answered after {:.1?}", queries.len(), begun.elapsed());
}

/// What arrived is what is shipped, byte for byte, but for what is filled in.
fn texts_are_intact(told: &[Told]) {
    let shipped = shipped::annotations();
    for told in told {
        let expected = &shipped[&told.labels["alertname"]];
        assert!(expected.keys().eq(told.annotations.keys()), "{told:?}");
        for (name, template) in expected {
            assert!(fits(&told.annotations[name], template, told), "{name} is not `{template}`: {told:?}");
        }
        let is_japanese = |text: &str| text.chars().any(|c| ('ぁ'..='ヿ').contains(&c));
        assert!(
            ["summary", "description"].iter().all(|name| is_japanese(&told.annotations[*name])),
            "{told:?}"
        );
    }
}

/// Whether a text is a template with labels, or a value that the template formats, filled in.
fn fits(text: &str, template: &str, told: &Told) -> bool {
    let Some((head, rest)) = template.split_once("{{") else { return text == template };
    let Some(text) = text.strip_prefix(head) else { return false };
    let Some((filled, tail)) = rest.split_once("}}") else { return false };
    match filled.trim().strip_prefix("$labels.") {
        Some(label) => {
            let value = told.labels.get(label).map_or("", String::as_str);
            text.strip_prefix(value).is_some_and(|text| fits(text, tail, told))
        }
        None => text.char_indices().skip(1).any(|(at, _)| fits(&text[at..], tail, told)),
    }
}
