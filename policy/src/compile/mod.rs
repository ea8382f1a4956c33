//! From a policy to its rule set: cubes by pair of places, disjoint keys, one chain per pair, base chains that drop.
//!
//! The shape (docs/ARCHITECTURE.md, "The kernel's rules"): direction and interfaces pick a pair's chain by one verdict
//! map; inside, a few map lookups give the connection a mark; packets pass only while that mark is in the live set.
//! Policy size is free on the packet path, and ending a mark ends new and running connections alike.

mod base;
mod control;
mod cubes;
mod grants;
mod layers;
mod pairs;

use std::collections::BTreeMap;

use jiff::Timestamp;
use thiserror::Error;

use crate::ledger::{Ledger, LedgerError, Meaning};
use crate::model::{Policy, Zone, ZoneId};
use crate::ruleset::{Mark, MarkInfo, Ruleset};
use crate::time::Liveness;

/// Largest number of map elements in one rule set: above it the kernel's memory and load time are no longer a small
/// box's. 10^5 flows between single devices need about 10^5.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// Most timed flows of different timing that may lie on top of one another in one pair of zones.
pub const MAX_LAYERS: usize = 8;

/// A rule set and the ledger that names its marks.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the kernel should hold.
    pub ruleset: Ruleset,
    /// The ledger after this compilation: durable before `ruleset` is applied.
    pub ledger: Ledger,
}

/// Why a valid policy cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The ledger has no mark left.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Overlaps split into too many keys.
    #[error(
        "flow `{flow}` overlaps others so much that its keys exceed {MAX_ELEMENTS}: use fewer, plainer ranges"
    )]
    TooManyKeys {
        /// The flow at which the limit was passed.
        flow: String,
    },
    /// Too many timings on top of one another.
    #[error(
        "more than {MAX_LAYERS} flows with different schedules or ends overlap at flow `{flow}`: give them one schedule"
    )]
    TooManyLayers {
        /// The flow at which the limit was passed.
        flow: String,
    },
}

/// One side of a pair: a zone, or the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// A zone with an interface.
    Zone(ZoneId),
    /// The gateway.
    Gateway,
}

/// Compiles a policy.
///
/// # Errors
/// [`CompileError`] when marks, keys or layers exceed their limits; nothing is half-compiled.
pub fn compile(policy: &Policy, ledger: &Ledger) -> Result<Compiled, CompileError> {
    let entries = cubes::expand(policy);
    let ledger = ledger.assign(meanings(policy, &entries))?;
    let mut ruleset = Ruleset::default();
    let mut marks = BTreeMap::new();
    for (id, flow) in policy.flows() {
        let Some(mark) = ledger.mark(&flow.name) else { continue };
        marks.insert(id, mark);
        ruleset.marks.insert(
            mark,
            MarkInfo {
                flow: id,
                name: flow.name.clone(),
                timing: flow.timing.clone(),
                place: flow.place,
                critical: flow.critical,
            },
        );
    }
    base::build(policy, &mut ruleset);
    let mut keys = 0;
    for (pair, entries) in &entries {
        let layers = layers::split(policy, entries)?;
        keys += layers.iter().map(|layer| layer.pieces.len()).sum::<usize>();
        if keys > MAX_ELEMENTS {
            let flow = entries.first().map(|entry| policy.flow(entry.flow).name.clone()).unwrap_or_default();
            return Err(CompileError::TooManyKeys { flow });
        }
        pairs::build(policy, *pair, &layers, &marks, &mut ruleset);
    }
    Ok(Compiled { ruleset, ledger })
}

/// The rule set of a box that has no policy: everything drops but loopback and the box's own neighbour discovery.
#[must_use]
pub fn closed() -> Ruleset {
    let mut ruleset = Ruleset::default();
    base::build_closed(&mut ruleset);
    ruleset
}

/// Which marks may carry packets at `now`, and until when (`None` is for ever).
///
/// While time is not `trusted`, marks with an end or a schedule are absent: a clock that nobody vouches for opens nothing.
#[must_use]
pub fn live_at(
    policy: &Policy,
    ruleset: &Ruleset,
    now: Timestamp,
    trusted: bool,
) -> BTreeMap<Mark, Option<Timestamp>> {
    let state = |info: &MarkInfo| match info.timing.open_until(&policy.clinic.timezone, now) {
        Liveness::Forever => Some(None),
        Liveness::Until(end) if trusted => Some(Some(end)),
        Liveness::Until(_) | Liveness::Closed => None,
    };
    ruleset.marks.iter().filter_map(|(mark, info)| state(info).map(|end| (*mark, end))).collect()
}

/// The interface of a zone; zones without one take part in no pair.
fn interface(zone: &Zone) -> Option<&str> {
    zone.interface.as_deref()
}

fn meanings(
    policy: &Policy,
    entries: &BTreeMap<(Party, Party), Vec<cubes::Entry>>,
) -> BTreeMap<String, Meaning> {
    let name = |party: Party| match party {
        Party::Zone(id) => policy.zone(id).name.clone(),
        // No zone can have this name.
        Party::Gateway => "gateway".to_owned(),
    };
    let mut meanings: BTreeMap<String, Meaning> = BTreeMap::new();
    for ((from, to), entries) in entries {
        let pair = format!("{} > {}", name(*from), name(*to));
        for entry in entries {
            let flow = meanings.entry(policy.flow(entry.flow).name.clone()).or_default();
            flow.entry(pair.clone()).or_default().push(entry.cube);
        }
    }
    meanings
}
