//! Disjoint keys. Where flows overlap, the most specific live one names the packet; a key can give only one mark, so
//! timed flows of different timing lie in layers that are asked one after another, the permanent ones last.
//!
//! INVARIANT: within a layer no two pieces share a packet; and of two pieces that share one, the asked-first is the
//! more specific. Hence a packet is denied only when no live flow allows it, whichever of them has ended.

use std::collections::BTreeMap;

use super::cubes::Entry;
use super::{CompileError, MAX_ELEMENTS, MAX_LAYERS};
use crate::model::{FlowId, Policy, Timing};
use crate::space::{Cube, Index};

/// Disjoint pieces, each with its flow.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) pieces: Vec<(Cube, FlowId)>,
}

/// Splits a pair's entries, given in order of precedence, into layers in the order of asking.
pub(super) fn split(policy: &Policy, entries: &[Entry]) -> Result<Vec<Layer>, CompileError> {
    let cubes: Vec<Cube> = entries.iter().map(|entry| entry.cube).collect();
    let index = Index::new(&cubes);
    let mut depth: BTreeMap<usize, usize> = BTreeMap::new();
    let mut timed: Vec<Layer> = Vec::new();
    let mut permanent = Layer::default();
    let mut budget = MAX_ELEMENTS;
    for (position, entry) in entries.iter().enumerate() {
        let timing = &policy.flow(entry.flow).timing;
        let above: Vec<usize> = index.meeting(&entry.cube).into_iter().filter(|&id| id < position).collect();
        let pieces = carve(policy, entries, entry, timing, &above, budget)?;
        budget = budget.saturating_sub(pieces.len());
        let pieces = pieces.into_iter().map(|piece| (piece, entry.flow));
        if timing.is_permanent() {
            permanent.pieces.extend(pieces);
            continue;
        }
        let layer = layer_of(policy, entries, timing, &above, &depth);
        if layer >= MAX_LAYERS {
            return Err(CompileError::TooManyLayers { flow: policy.flow(entry.flow).name.clone() });
        }
        depth.insert(position, layer);
        while timed.len() <= layer {
            timed.push(Layer::default());
        }
        if let Some(layer) = timed.get_mut(layer) {
            layer.pieces.extend(pieces);
        }
    }
    timed.push(permanent);
    timed.retain(|layer| !layer.pieces.is_empty());
    Ok(timed)
}

/// The entry without what more specific flows take from it for good: permanent ones, and those of the same timing.
fn carve(
    policy: &Policy,
    entries: &[Entry],
    entry: &Entry,
    timing: &Timing,
    above: &[usize],
    budget: usize,
) -> Result<Vec<Cube>, CompileError> {
    let takes = |other: &&Entry| {
        let other = &policy.flow(other.flow).timing;
        other.is_permanent() || other == timing
    };
    let takers = above.iter().filter_map(|&id| entries.get(id)).filter(takes).map(|other| &other.cube);
    entry
        .cube
        .without(takers, budget)
        .ok_or_else(|| CompileError::TooManyKeys { flow: policy.flow(entry.flow).name.clone() })
}

/// One below the deepest more specific timed flow of another timing that it shares packets with.
fn layer_of(
    policy: &Policy,
    entries: &[Entry],
    timing: &Timing,
    above: &[usize],
    depth: &BTreeMap<usize, usize>,
) -> usize {
    let other_timing = |id: &&usize| {
        entries.get(**id).is_some_and(|other| {
            let other = &policy.flow(other.flow).timing;
            !other.is_permanent() && other != timing
        })
    };
    above.iter().filter(other_timing).filter_map(|id| depth.get(id)).map(|layer| layer + 1).max().unwrap_or(0)
}
