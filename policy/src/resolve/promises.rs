//! The clinic's own promises: `FROM -> TO [SERVICE]`.

use super::context::Context;
use super::endpoints::{self, Names};
use super::services;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Endpoint, Expectation, Promise, Protocol};
use crate::raw::{At, File, Item, Spot, Test};

const EVERY_ZONE: &str = "zone:*";

pub(super) fn promises(context: &mut Context<'_>, file: &File, names: &Names<'_>) -> Vec<Promise> {
    let mut promises = Vec::new();
    for item in &file.tests {
        match (&item.value.deny, &item.value.allow) {
            (Some(text), None) => promises.extend(promise(context, item, text, Expectation::Deny, names)),
            (None, Some(text)) => promises.extend(promise(context, item, text, Expectation::Allow, names)),
            (deny, _) => {
                let spot = deny.as_ref().map_or(item.here(), |text| item.spot(text));
                bad_test(
                    context,
                    spot,
                    "a test has one of `deny` and `allow`",
                    "テストには `deny` か `allow` のどちらか1つを書きます",
                );
            }
        }
    }
    promises
}

fn promise(
    context: &mut Context<'_>,
    item: &Item<Test>,
    text: &At<String>,
    expect: Expectation,
    names: &Names<'_>,
) -> Vec<Promise> {
    let spot = item.spot(text);
    let Some((from_text, rest)) = text.value.split_once("->") else {
        bad_test(context, spot, "the test has no `->`", "テストに `->` がありません");
        return Vec::new();
    };
    let from_text = from_text.trim();
    let (to_text, service) = match rest.trim().split_once(char::is_whitespace) {
        Some((to, service)) => (to, Some(service.trim())),
        None => (rest.trim(), None),
    };
    let from = ends(context, from_text, spot, names);
    let to = ends(context, to_text, spot, names);
    let services = service.map(|service| service_of(context, service, spot, names));
    let (Some(from), Some(to), Some(services)) =
        (from, to, services.map_or(Some(None), |found| found.map(Some)))
    else {
        return Vec::new();
    };
    let place = context.place(spot);
    let made =
        |from, to| Promise { expect, from, to, services: services.clone(), text: text.value.clone(), place };
    // Traffic inside one zone does not pass the gateway: "every zone" never means a zone with itself.
    if expect == Expectation::Deny && (from_text == EVERY_ZONE || to_text == EVERY_ZONE) {
        let others = |one: &Endpoint| to.iter().filter(|end| *end != one).cloned().collect::<Vec<_>>();
        let each = from.iter().map(|one| (one, others(one))).filter(|(_, to)| !to.is_empty());
        return if to_text == EVERY_ZONE {
            each.map(|(one, to)| made(vec![one.clone()], to)).collect()
        } else {
            let from: Vec<Endpoint> = each.map(|(one, _)| one.clone()).collect();
            if from.is_empty() { Vec::new() } else { vec![made(from, to)] }
        };
    }
    vec![made(from, to)]
}

fn ends(context: &mut Context<'_>, text: &str, spot: Spot, names: &Names<'_>) -> Option<Vec<Endpoint>> {
    match names.parse(text) {
        Ok(found) if found.iter().any(|end| matches!(end, Endpoint::Domain(_))) => {
            bad_test(context, spot, "a test cannot name a domain", "テストにドメインは書けません");
            None
        }
        Ok(found) => Some(found),
        Err(error) => {
            endpoints::refuse(context, &error, spot, names);
            None
        }
    }
}

fn service_of(context: &mut Context<'_>, text: &str, spot: Spot, names: &Names<'_>) -> Option<Vec<Protocol>> {
    match services::parse_service(text, names.services) {
        Ok(found) => Some(found),
        Err(error) => {
            services::refuse(context, &error, spot, names.services);
            None
        }
    }
}

fn bad_test(context: &mut Context<'_>, spot: Spot, en: &str, ja: &str) {
    let found = Diagnostic::error("bad-test", brief(en), brief(ja)).label(
        context.place(spot),
        "this test",
        "このテスト",
    );
    context.error(found.help(
        "write it such as `deny = \"zone:guest -> zone:ehr\"` or `allow = \"device:ct -> device:pacs tcp/104\"`",
        "`deny = \"zone:guest -> zone:ehr\"` や `allow = \"device:ct -> device:pacs tcp/104\"` のように書いてください",
    ));
}
