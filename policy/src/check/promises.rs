//! The clinic's promises, proved over the whole packet space: a policy that breaks one cannot be applied.

use std::collections::BTreeMap;

use super::boxes::{self, Map, Placed};
use super::words::example;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Language::{En, Ja};
use crate::model::{Expectation, FlowId, Policy, Promise};
use crate::space::Cube;

/// Flows named for one broken promise; the rest come to light when these are mended.
const FLOWS_NAMED_MAX: usize = 5;
/// Pieces that one promised box may fall into while flows are taken from it.
const PIECES_MAX: usize = 4_096;

pub(super) fn broken(policy: &Policy, map: &Map) -> Vec<Diagnostic> {
    policy.tests.iter().flat_map(|promise| judge(policy, map, promise)).collect()
}

fn judge(policy: &Policy, map: &Map, promise: &Promise) -> Vec<Diagnostic> {
    let kinds = promise.services.as_deref().map_or_else(boxes::all_kinds, boxes::kinds_of);
    let promised = boxes::expand(policy, &promise.from, &promise.to, &kinds);
    if promised.is_empty() {
        return vec![empty(promise)];
    }
    match promise.expect {
        Expectation::Deny => breaches(policy, map, promise, &promised),
        Expectation::Allow => {
            promised.iter().find_map(|asked| gap(policy, map, promise, asked)).into_iter().collect()
        }
    }
}

/// No packet is meant: the promise holds nothing, whichever way it is read.
fn empty(promise: &Promise) -> Diagnostic {
    let text = &promise.text;
    Diagnostic::error(
        "empty-promise",
        format!("promise `{text}` names no packet at all, so it protects nothing"),
        format!("約束「{text}」に当てはまるパケットがひとつもなく、何も守っていません"),
    )
    .label(promise.place, "written here", "ここに書かれています")
    .help(
        "name ends that have an address family in common and zones that have an interface",
        "同じ種類のIPアドレスを持ち、インターフェースのある区画どうしを書いてください",
    )
}

/// Flows that allow something of what must never pass, each with its first packet.
fn breaches(policy: &Policy, map: &Map, promise: &Promise, promised: &[Placed]) -> Vec<Diagnostic> {
    let mut found: BTreeMap<FlowId, Placed> = BTreeMap::new();
    for asked in promised {
        for (flow, cube) in map.meeting(asked) {
            if let Some(cube) = cube.common(&asked.cube) {
                found.entry(flow).or_insert(Placed { cube, ..*asked });
            }
        }
    }
    found.iter().take(FLOWS_NAMED_MAX).map(|(flow, shared)| breach(policy, promise, *flow, shared)).collect()
}

fn breach(policy: &Policy, promise: &Promise, flow: FlowId, shared: &Placed) -> Diagnostic {
    let flow = policy.flow(flow);
    let (text, name) = (&promise.text, &flow.name);
    let finding = Diagnostic::error(
        "broken-promise",
        format!("promise `deny {text}` is broken: flow `{name}` allows {}", example(policy, shared, En)),
        format!(
            "約束「拒否 {text}」が破られています。通信許可「{name}」が {} を許しています",
            example(policy, shared, Ja)
        ),
    )
    .label(promise.place, "promised here", "ここで約束しています");
    let finding = match flow.place {
        Some(place) => finding.label(place, "allowed here", "ここで許しています"),
        None => finding,
    };
    finding.help(
        format!("narrow or remove flow `{name}`, or change the promise if it is no longer meant"),
        format!("通信許可「{name}」を狭めるか削除してください。約束が古い場合は約束を直してください"),
    )
}

/// What of a promised box no flow allows, if anything.
fn gap(policy: &Policy, map: &Map, promise: &Promise, asked: &Placed) -> Option<Diagnostic> {
    let flows: Vec<Cube> = map.meeting(asked).into_iter().map(|(_, cube)| cube).collect();
    let Some(rest) = asked.cube.without(&flows, PIECES_MAX) else { return Some(unproved(promise)) };
    let missing = Placed { cube: *rest.first()?, ..*asked };
    let text = &promise.text;
    Some(
        Diagnostic::error(
            "broken-promise",
            format!("promise `allow {text}` is broken: no flow allows {}", example(policy, &missing, En)),
            format!(
                "約束「許可 {text}」が破られています。{} を許す通信許可がありません",
                example(policy, &missing, Ja)
            ),
        )
        .label(promise.place, "promised here", "ここで約束しています")
        .help(
            "add a flow for it, or change the promise if it is no longer meant",
            "そのための通信許可を書いてください。約束が古い場合は約束を直してください",
        ),
    )
}

/// Not proved is not kept.
fn unproved(promise: &Promise) -> Diagnostic {
    let text = &promise.text;
    Diagnostic::error(
        "unproved-promise",
        format!(
            "promise `allow {text}` cannot be proved: the flows cut it into more than {PIECES_MAX} pieces"
        ),
        format!(
            "約束「許可 {text}」を確かめられません。通信許可が細かく分かれすぎています({PIECES_MAX} 個超)"
        ),
    )
    .label(promise.place, "promised here", "ここで約束しています")
    .help("split the promise into smaller ones", "約束をいくつかに分けて書いてください")
}
