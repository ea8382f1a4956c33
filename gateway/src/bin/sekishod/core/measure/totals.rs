//! What the kernel's named counters add up to by zone. The kernel forgets a counter with its flow; a total does not.

use std::collections::BTreeMap;

use events::{Family, Sample};
use policy::model::{Endpoint, Flow, Policy};
use policy::ruleset::{Counter, Ruleset};

/// A flow between more places than one pair of zones.
const SEVERAL: &str = "several";
/// The box itself.
const GATEWAY: &str = "gateway";
/// Most series of one family; what comes after is counted together.
const SERIES_MAX: usize = 64;

/// A series and what it stands at, in packets and bytes.
type Sums = BTreeMap<(String, String), (u64, u64)>;

/// The totals since core started.
#[derive(Debug, Default)]
pub(in super::super) struct Totals {
    /// What each counter said last.
    last: BTreeMap<String, (u64, u64)>,
    allowed: Sums,
    denied: Sums,
}

impl Totals {
    /// Takes up what the counters say now.
    pub(in super::super) fn take(
        &mut self,
        policy: &Policy,
        ruleset: &Ruleset,
        counters: &BTreeMap<String, (u64, u64)>,
    ) {
        let flows: BTreeMap<&str, &Flow> =
            policy.flows.iter().map(|flow| (flow.name.as_str(), flow)).collect();
        for (name, counter) in &ruleset.counters {
            let Some(&(packets, bytes)) = counters.get(name) else { continue };
            let (last_packets, last_bytes) = self.last.get(name).copied().unwrap_or_default();
            // A counter below what it said was made anew.
            let step = if packets < last_packets || bytes < last_bytes {
                (packets, bytes)
            } else {
                (packets - last_packets, bytes - last_bytes)
            };
            match series(policy, &flows, counter) {
                Some((Way::Allowed, key)) => add(&mut self.allowed, key, step),
                Some((Way::Denied, key)) => add(&mut self.denied, key, step),
                None => {}
            }
        }
        self.last.clone_from(counters);
    }

    /// Every total.
    pub(in super::super) fn samples(&self) -> Vec<Sample> {
        let sample = |family, (one, other): &(String, String), value| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a total beyond 2^53 has lost its last digit anyway"
            )]
            let value = value as f64;
            Sample::new(family, &[one, other], value)
        };
        let allowed = self.allowed.iter().flat_map(|(key, (packets, bytes))| {
            [sample(Family::AllowedPackets, key, *packets), sample(Family::AllowedBytes, key, *bytes)]
        });
        let denied =
            self.denied.iter().map(|(key, (packets, _))| sample(Family::DeniedPackets, key, *packets));
        allowed.chain(denied).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Allowed,
    Denied,
}

/// Where a counter belongs. What the log's rate limit hid was counted as denied already.
fn series(
    policy: &Policy,
    flows: &BTreeMap<&str, &Flow>,
    counter: &Counter,
) -> Option<(Way, (String, String))> {
    match counter {
        Counter::Flow { flow } => Some((Way::Allowed, pair(policy, flows.get(flow.as_str())?))),
        Counter::Denied { from, .. } => Some((Way::Denied, (slug(policy, from), "no_flow".to_owned()))),
        Counter::Dropped { reason, zone } => {
            Some((Way::Denied, (slug(policy, zone), reason.replace('-', "_"))))
        }
        Counter::Control { .. } | Counter::Unlogged { .. } => None,
    }
}

fn pair(policy: &Policy, flow: &Flow) -> (String, String) {
    (side(policy, &flow.from), side(policy, &flow.to))
}

fn side(policy: &Policy, ends: &[Endpoint]) -> String {
    let slug = |end: &Endpoint| match end {
        Endpoint::Zone(zone) | Endpoint::Networks(zone, _) => policy.zone(*zone).slug.clone(),
        Endpoint::Device(device) => policy.zone(policy.device(*device).zone).slug.clone(),
        Endpoint::Gateway => GATEWAY.to_owned(),
        Endpoint::Domain(_) => SEVERAL.to_owned(),
    };
    let mut slugs = ends.iter().map(slug);
    let first = slugs.next().unwrap_or_else(|| SEVERAL.to_owned());
    if slugs.all(|other| other == first) { first } else { SEVERAL.to_owned() }
}

/// A zone's ASCII name; a place without one is said as it is.
fn slug(policy: &Policy, name: &str) -> String {
    policy
        .zones
        .iter()
        .find(|zone| zone.name == name)
        .map_or_else(|| name.to_owned(), |zone| zone.slug.clone())
}

fn add(sums: &mut Sums, key: (String, String), (packets, bytes): (u64, u64)) {
    let key = if sums.contains_key(&key) || sums.len() < SERIES_MAX {
        key
    } else {
        ("other".to_owned(), "other".to_owned())
    };
    let sum = sums.entry(key).or_default();
    *sum = (sum.0.saturating_add(packets), sum.1.saturating_add(bytes));
}
