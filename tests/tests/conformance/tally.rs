//! How often each family, hook, way of translation and verdict was tried.
use std::collections::BTreeMap;
use std::fmt;

use policy::eval::{Arrival, DenyReason, Verdict};
use policy::model::Policy;

use crate::trial::Record;

/// A run that tries any of these less often proves too little.
pub(crate) const CELL_MIN: usize = 100;
/// The least share of packets that must pass.
pub(crate) const PASSING_PERCENT_MIN: usize = 40;

/// Where a packet is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Guard,
    Input,
    Forward,
    ForwardMasqueraded,
    Output,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Allow,
    Control,
    Deny,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    cells: BTreeMap<(bool, Hook, Kind), usize>,
}

impl Tally {
    pub(crate) fn count(&mut self, policy: &Policy, record: &Record) {
        let kind = match &record.expectation.verdict {
            Verdict::Allow { .. } => Kind::Allow,
            Verdict::Control { .. } => Kind::Control,
            Verdict::Deny { .. } => Kind::Deny,
        };
        let ip6 = record.probe.packet.source.is_ipv6();
        *self.cells.entry((ip6, hook(policy, record), kind)).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.cells.values().sum()
    }

    /// What was tried too seldom; `masked` is the family whose packets are masqueraded.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for cell in wanted() {
            let count = self.cells.get(&cell).copied().unwrap_or(0);
            if count < CELL_MIN {
                missing.push(format!("{} only {count} of {CELL_MIN}", words(&cell)));
            }
        }
        let passing: usize =
            self.cells.iter().filter(|((.., kind), _)| *kind != Kind::Deny).map(|(_, count)| count).sum();
        if passing * 100 < self.total() * PASSING_PERCENT_MIN {
            missing.push(format!("only {passing} of {} packets are let through", self.total()));
        }
        missing
    }
}

/// Every combination that exists: nothing is allowed by the guard alone, IPv6 is not masqueraded, no control traffic is
/// forwarded.
fn wanted() -> Vec<(bool, Hook, Kind)> {
    let mut cells = Vec::new();
    for ip6 in [false, true] {
        cells.push((ip6, Hook::Guard, Kind::Deny));
        for kind in [Kind::Allow, Kind::Control, Kind::Deny] {
            cells.extend([(ip6, Hook::Input, kind), (ip6, Hook::Output, kind)]);
        }
        cells.extend([(ip6, Hook::Forward, Kind::Allow), (ip6, Hook::Forward, Kind::Deny)]);
    }
    cells.extend([
        (false, Hook::ForwardMasqueraded, Kind::Allow),
        (false, Hook::ForwardMasqueraded, Kind::Deny),
    ]);
    cells
}

/// The hook that decides, by the packet alone: a denied one may have no path.
fn hook(policy: &Policy, record: &Record) -> Hook {
    let packet = &record.probe.packet;
    if let Verdict::Deny { reason: DenyReason::SpoofedSource { .. } | DenyReason::FamilyOff { .. }, .. } =
        &record.expectation.verdict
    {
        return Hook::Guard;
    }
    let Arrival::Interface(name) = &packet.arrival else { return Hook::Output };
    let is_ours =
        policy.zones.iter().flat_map(|zone| &zone.gateway).any(|own| own.addr() == packet.destination);
    let is_group = match packet.destination {
        std::net::IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
    };
    if is_ours || is_group {
        return Hook::Input;
    }
    let zone_of =
        |inside: &dyn Fn(&policy::model::Zone) -> bool| policy.zones.iter().find(|zone| inside(zone));
    let holds = |address: std::net::IpAddr| {
        zone_of(&move |zone| zone.networks.iter().any(|net| net.contains(&address))).is_some()
    };
    let from_outside =
        zone_of(&|zone| zone.interface.as_deref() == Some(name)).is_some_and(|zone| zone.is_external());
    // Both directions of a connection between the clinic and the line.
    let crosses = from_outside == holds(packet.destination);
    let masked = policy
        .zones
        .iter()
        .filter_map(|zone| zone.wan.as_ref())
        .any(|wan| if packet.source.is_ipv4() { wan.masquerade4 } else { wan.masquerade6 });
    if crosses && masked { Hook::ForwardMasqueraded } else { Hook::Forward }
}

fn words((ip6, hook, kind): &(bool, Hook, Kind)) -> String {
    let family = if *ip6 { "IPv6" } else { "IPv4" };
    format!("{family} {hook:?} {kind:?}")
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (cell, count) in &self.cells {
            writeln!(out, "  {:34} {count:7}", words(cell))?;
        }
        write!(out, "  {:34} {:7}", "all", self.total())
    }
}
