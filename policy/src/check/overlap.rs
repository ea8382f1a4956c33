//! Flows that allow nothing which another one flow does not allow already: whoever removes one of the two should know.

use super::boxes::{Map, Placed};
use crate::diagnostic::Diagnostic;
use crate::model::{Flow, FlowId, Policy, Timing};
use crate::space::{Cube, Span};

/// Wider flows examined for one flow.
const CANDIDATES_MAX: usize = 64;
/// Pieces that one box may fall into while another flow is taken from it.
const PIECES_MAX: usize = 256;

pub(super) fn redundant(policy: &Policy, map: &Map) -> Vec<Diagnostic> {
    let of_file = policy.flows().filter(|(_, flow)| flow.place.is_some());
    of_file.filter_map(|(id, flow)| Some(finding(flow, policy.flow(cover(policy, map, id)?)))).collect()
}

/// The first flow that covers this one; of two equal ones only the later is covered.
fn cover(policy: &Policy, map: &Map, id: FlowId) -> Option<FlowId> {
    let flow = policy.flow(id);
    let mut candidates: Vec<FlowId> =
        map.meeting(&corner(map.of_flow(id).next()?)).into_iter().map(|(other, _)| other).collect();
    candidates.dedup();
    let mut wider =
        candidates.into_iter().filter(|other| *other != id).take(CANDIDATES_MAX).filter(|other| {
            let wide = policy.flow(*other);
            // A flow that keeps care going is not replaced by one that does not.
            (wide.critical || !flow.critical)
                && outlasts(&wide.timing, &flow.timing)
                && contains(map, *other, id)
                && (*other < id || !is_mutual(policy, map, id, *other))
        });
    wider.next()
}

/// One packet of the box: whatever covers the box holds it.
fn corner(placed: &Placed) -> Placed {
    let low = |span: Span| Span::new(span.low, span.low);
    let Cube { class, destination, source, port } = placed.cube;
    Placed {
        cube: Cube { class, destination: low(destination), source: low(source), port: low(port) },
        ..*placed
    }
}

fn contains(map: &Map, wide: FlowId, narrow: FlowId) -> bool {
    map.of_flow(narrow).all(|placed| {
        let wide = map.of_flow(wide).filter(|other| other.pair == placed.pair).map(|other| &other.cube);
        placed.cube.without(wide, PIECES_MAX).is_some_and(|rest| rest.is_empty())
    })
}

fn is_mutual(policy: &Policy, map: &Map, one: FlowId, other: FlowId) -> bool {
    let (first, second) = (policy.flow(one), policy.flow(other));
    contains(map, one, other)
        && outlasts(&first.timing, &second.timing)
        && (first.critical || !second.critical)
}

/// Whether `wide` is open whenever `narrow` is.
fn outlasts(wide: &Timing, narrow: &Timing) -> bool {
    let ends_later = wide.until.is_none_or(|wide| narrow.until.is_some_and(|narrow| narrow <= wide));
    let schedule = match (&wide.schedule, &narrow.schedule) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.covers(narrow),
        (Some(_), None) => false,
    };
    ends_later && schedule
}

fn finding(flow: &Flow, wide: &Flow) -> Diagnostic {
    let (name, other) = (&flow.name, &wide.name);
    let finding = Diagnostic::warning(
        "redundant-flow",
        format!("flow `{name}` allows nothing that flow `{other}` does not allow already"),
        format!("通信許可「{name}」が許す通信は、すべて「{other}」がすでに許しています"),
    )
    .help(
        format!("remove `{name}`, or narrow `{other}` if it was meant to be smaller"),
        format!("「{name}」を削除するか、「{other}」が広すぎる場合は狭めてください"),
    );
    let places =
        [(flow.place, "this one", "この通信許可"), (wide.place, "allows it already", "すでに許しています")];
    places.into_iter().fold(finding, |finding, (place, en, ja)| match place {
        Some(place) => finding.label(place, en, ja),
        None => finding,
    })
}
