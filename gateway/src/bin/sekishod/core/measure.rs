//! What core knows at this moment, as samples for the metrics and as observations for the controls.
//! Nothing is counted here that an event does not count: these are readings of the kernel and of the state machine.

mod doors;
mod neighbours;
mod settings;
mod totals;

use std::fs;
use std::time::Duration;

use enforce::Standing;
use events::{Family, Role, Sample};
use gateway::wire::Measured;
use jiff::Timestamp;
use policy::guideline::observation::{
    self as fact, Enforcement, Named, Observation, Observed, PathFilter, PathMode, ROWS_MAX, ReadBack,
    ReversePath, TimeTrust,
};
use policy::guideline::posture;
use policy::model::{Policy, ZoneKind};

pub(super) use self::neighbours::{Neighbourhood, is_asked};
use self::settings::SettingsLooked;
pub(super) use self::totals::Totals;
use super::around::Stock;
use super::plan::Plan;
use super::{Core, sysctl};
use crate::memory;

/// What the regular look found, until the next one.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// When the rules were last known to be equal to what stands: compared, or unchanged since.
    pub(super) equal_at: Option<Timestamp>,
    /// When they were last compared or known unchanged, whatever was found.
    pub(super) compared_at: Option<Timestamp>,
    /// Differences found and not yet put right.
    pub(super) differences: u32,
    /// When a difference was last put right.
    pub(super) repaired_at: Option<Timestamp>,
    /// Reverse-path filters of the zones' interfaces, and when they were read.
    paths: Option<(Timestamp, ReversePath)>,
    /// Settings of the kernel.
    pub(super) settings: SettingsLooked,
}

impl Looked {
    /// The rules were compared, or are known not to have changed since they were.
    pub(super) fn compared(&mut self, differences: usize, now: Timestamp) {
        self.compared_at = Some(now);
        self.differences = u32::try_from(differences).unwrap_or(u32::MAX);
        if differences == 0 {
            self.equal_at = Some(now);
        }
    }

    /// The packet filter did not change since the last comparison, which therefore still holds.
    pub(super) fn unchanged(&mut self, now: Timestamp) {
        if self.compared_at.is_some() {
            self.compared(self.differences as usize, now);
        }
    }

    /// What somebody else changed was put back, and read back equal.
    pub(super) fn repaired(&mut self, now: Timestamp) {
        self.compared(0, now);
        self.repaired_at = Some(now);
    }
}

impl Core {
    /// Takes up what only a look can tell.
    pub(super) fn take_stock(&mut self, policy: &Policy, stock: Stock) {
        let Stock { at, paths, neighbours } = stock;
        self.looked.paths = Some((at, paths));
        if let Some(table) = neighbours {
            self.neighbourhood.take(policy, &table, at);
        }
    }

    /// Takes up what the kernel counted; must be called before counters go away with their flows.
    pub(super) fn count(&mut self) {
        let Some(plan) = self.enforcer.standing().policy().cloned() else { return };
        match self.kernel.counters() {
            Ok(counters) => self.totals.take(&plan.policy, &plan.ruleset, &counters),
            Err(error) => tracing::warn!(%error, "the counters cannot be read"),
        }
    }

    /// The answer to `Measure`.
    pub(super) fn measured(&mut self) -> Measured {
        self.count();
        let mut samples = self.witness.samples();
        samples.extend(self.totals.samples());
        samples.extend(self.gauges());
        samples.extend(memory::sample(Role::Core));
        samples.extend(conntrack());
        Measured { role: Role::Core, started_at: self.started_at, samples, observations: self.observations() }
    }

    fn gauges(&self) -> Vec<Sample> {
        let word = match self.enforcer.standing() {
            Standing::Unknown => "unsettled",
            Standing::Closed => "closed",
            Standing::Applied(_) => "applied",
        };
        let is = |state: &str| if state == word { 1.0 } else { 0.0 };
        let mut samples: Vec<Sample> = ["applied", "closed", "unsettled"]
            .into_iter()
            .map(|state| Sample::new(Family::Enforcement, &[state], is(state)))
            .collect();
        let mut gauge = |family, value| samples.push(Sample::new(family, &[], value));
        if let Some(plan) = self.enforcer.standing().policy() {
            gauge(Family::PolicyApplied, seconds(plan.stored.applied_at));
        }
        if let Some(at) = self.looked.equal_at {
            gauge(Family::ReadBack, seconds(at));
        }
        gauge(Family::ReadBackDifferences, f64::from(self.looked.differences));
        gauge(Family::ForeignTables, count(self.foreign.len()));
        gauge(Family::TimeTrusted, if self.enforcer.clock().is_trusted() { 1.0 } else { 0.0 });
        samples.extend(self.neighbourhood.samples());
        samples.extend(self.door_samples());
        samples
    }

    fn observations(&self) -> Vec<Observed> {
        let now = self.clocks.now().wall;
        let mut all = Vec::new();
        let mut say = |at: Timestamp, fact: Observation| all.push(Observed { at, fact });
        let standing = self.enforcer.standing();
        let plan = standing.policy();
        say(now, self.enforcement(plan).into());
        say(now, TimeTrust { trusted: self.enforcer.clock().is_trusted() }.into());
        if let Some(at) = self.looked.compared_at {
            let foreign: Named = self.foreign.iter().collect();
            let Looked { differences, repaired_at, .. } = self.looked;
            say(at, ReadBack { differences, repaired_at, foreign }.into());
        }
        if let Some((at, paths)) = &self.looked.paths {
            say(*at, paths.clone().into());
        }
        if let Some((at, settings)) = self.looked.settings.observation() {
            say(at, settings.into());
        }
        if let Some((at, neighbours)) = self.neighbourhood.observation() {
            say(at, neighbours.into());
        }
        if let Some(factors) = self.factors() {
            say(now, factors.into());
        }
        if let Some(plan) = plan {
            for fact in posture(&plan.policy, now) {
                say(now, fact);
            }
        }
        all
    }

    fn enforcement(&self, plan: Option<&Plan>) -> Enforcement {
        Enforcement {
            standing: match self.enforcer.standing() {
                Standing::Unknown => fact::Standing::Unsettled,
                Standing::Closed => fact::Standing::Closed,
                Standing::Applied(_) => fact::Standing::Applied,
            },
            policy: plan.map(|plan| plan.id().to_string()),
            applied_at: plan.map(|plan| plan.stored.applied_at),
        }
    }
}

/// How the zones' interfaces filter sources by their way back; external zones too, for what comes in there.
pub(super) fn reverse_paths(policy: &Policy) -> ReversePath {
    let box_wide = sysctl::reverse_path("all");
    let zones = policy.zones.iter().filter(|zone| !matches!(zone.kind, ZoneKind::Vpn | ZoneKind::Vendor));
    let filter = |(zone, interface): (&policy::model::Zone, &str)| PathFilter {
        zone: zone.slug.clone(),
        // ip-sysctl.rst: the larger of both counts, and loose (2) is larger than strict (1).
        mode: match sysctl::reverse_path(interface).map(|own| own.max(box_wide.unwrap_or(0))) {
            None => PathMode::Absent,
            Some(0) => PathMode::Off,
            Some(1) => PathMode::Strict,
            Some(_) => PathMode::Loose,
        },
    };
    let interfaces = zones.filter_map(|zone| Some((zone, zone.interface.as_deref()?))).map(filter);
    ReversePath { interfaces: interfaces.take(ROWS_MAX).collect() }
}

/// How full the kernel's table of connections is.
fn conntrack() -> impl Iterator<Item = Sample> {
    let read = |(family, name): (Family, &str)| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?;
        Some(Sample::new(family, &[], text.trim().parse::<u32>().ok()?.into()))
    };
    let both =
        [(Family::ConntrackEntries, "nf_conntrack_count"), (Family::ConntrackLimit, "nf_conntrack_max")];
    both.into_iter().filter_map(read)
}

/// A point in time as Prometheus has it.
fn seconds(at: Timestamp) -> f64 {
    Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).map_or(0.0, |since| since.as_secs_f64())
}

fn count(number: usize) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}
