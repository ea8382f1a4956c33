//! Who answers on the zones' links, from the kernel's neighbour table, against the policy's device ledger.
//! The table holds what ARP (RFC 826) and neighbour discovery (RFC 4861) found; core reads numbers, never a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use events::{Family, Sample};
use jiff::{SignedDuration, Timestamp};
use policy::guideline::measures::UNSEEN_DAYS;
use policy::guideline::observation::{Named, Neighbours, ROWS_MAX, ZoneNeighbours};
use policy::model::{Policy, Zone, ZoneId, ZoneKind};

use super::super::network::Neighbour;

/// What was seen on the links since core started.
#[derive(Debug, Default)]
pub(in super::super) struct Neighbourhood {
    since: Option<Timestamp>,
    /// When each device of the ledger, by name, was last seen.
    seen: BTreeMap<String, Timestamp>,
    /// Devices of the ledger in the zones that are looked at.
    registered: u32,
    last: Option<(Timestamp, Neighbours)>,
}

impl Neighbourhood {
    /// What was seen last, and when.
    pub(in super::super) fn observation(&self) -> Option<(Timestamp, Neighbours)> {
        self.last.clone()
    }

    /// The same in numbers.
    pub(in super::super) fn samples(&self) -> Vec<Sample> {
        let Some((_, Neighbours { zones, .. })) = &self.last else { return Vec::new() };
        let sum = |count: fn(&ZoneNeighbours) -> u32| zones.iter().map(count).map(f64::from).sum();
        let sample = |(state, value)| Sample::new(Family::Devices, &[state], value);
        let states = [
            ("registered", f64::from(self.registered)),
            ("seen", sum(|zone| zone.known)),
            ("unknown", sum(|zone| zone.unknown)),
        ];
        states.into_iter().map(sample).collect()
    }

    /// Takes up who answers now.
    pub(in super::super) fn take(&mut self, policy: &Policy, table: &[Neighbour], now: Timestamp) {
        let since = *self.since.get_or_insert(now);
        self.registered =
            number(policy.devices.iter().filter(|device| is_inside(policy.zone(device.zone))).count());
        let mut zones = Vec::new();
        for (id, zone) in policy.zones().filter(|(_, zone)| is_inside(zone)) {
            let here = table
                .iter()
                .filter(|neighbour| Some(neighbour.interface.as_str()) == zone.interface.as_deref());
            let found = Found::of(policy, id, here);
            self.seen.extend(found.known.iter().map(|name| ((*name).to_owned(), now)));
            if zones.len() < ROWS_MAX {
                zones.push(ZoneNeighbours {
                    zone: zone.slug.clone(),
                    kind: zone.kind,
                    known: number(found.known.len()),
                    unknown: number(found.strangers.len()),
                    impostors: number(found.impostors.len()),
                });
            }
        }
        let unseen = self.unseen(policy, now);
        self.last = Some((now, Neighbours { zones, since, unseen }));
    }

    fn unseen(&self, policy: &Policy, now: Timestamp) -> Named {
        let old = now.checked_sub(SignedDuration::from_hours(24 * UNSEEN_DAYS)).unwrap_or(Timestamp::MIN);
        let devices = policy.devices.iter().filter(|device| is_inside(policy.zone(device.zone)));
        let gone = devices.filter(|device| self.seen.get(&device.name).is_none_or(|at| *at < old));
        gone.map(|device| device.name.as_str()).collect()
    }
}

/// Whether a neighbour is to be asked for a sign of life: one of the clinic's that gave none lately.
pub(in super::super) fn is_asked(policy: &Policy, one: &Neighbour) -> bool {
    let is_there = |zone: &Zone| zone.interface.as_deref() == Some(one.interface.as_str());
    one.is_silent && policy.zones.iter().any(|zone| is_inside(zone) && is_there(zone))
}

/// Whether who is in a zone is the clinic's business.
fn is_inside(zone: &Zone) -> bool {
    match zone.kind {
        ZoneKind::Clinical
        | ZoneKind::MedicalDevice
        | ZoneKind::Billing
        | ZoneKind::Staff
        | ZoneKind::Iot
        | ZoneKind::Management => zone.interface.is_some(),
        ZoneKind::Guest | ZoneKind::External | ZoneKind::ClosedNetwork | ZoneKind::Vpn | ZoneKind::Vendor => {
            false
        }
    }
}

/// Who answers in one zone.
#[derive(Debug, Default)]
struct Found<'p> {
    known: BTreeSet<&'p str>,
    /// Link addresses of which nothing is in the ledger.
    strangers: BTreeSet<String>,
    /// Devices whose address is answered by another link address than the ledger's.
    impostors: BTreeSet<&'p str>,
}

impl<'p> Found<'p> {
    /// One device has many addresses and one link address: by that they are put together.
    fn of<'t>(policy: &'p Policy, zone: ZoneId, table: impl Iterator<Item = &'t Neighbour>) -> Self {
        let mut by_link: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
        for neighbour in table {
            by_link.entry(&neighbour.link).or_default().push(neighbour.address);
        }
        let devices: Vec<_> = policy.devices.iter().filter(|device| device.zone == zone).collect();
        let mut found = Found::default();
        for (link, addresses) in by_link {
            let owns = |device: &&&policy::model::Device| {
                device.mac.as_deref() == Some(link)
                    || device.addresses.iter().any(|address| addresses.contains(address))
            };
            let Some(device) = devices.iter().find(owns) else {
                found.strangers.insert(link.to_owned());
                continue;
            };
            found.known.insert(&device.name);
            if device.mac.as_deref().is_some_and(|mac| mac != link) {
                found.impostors.insert(&device.name);
            }
        }
        found
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
