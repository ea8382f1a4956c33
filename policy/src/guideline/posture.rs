//! What a policy says, as facts: which flows, zones, persons, peers and vendors somebody should know of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::observation::{
    Accountability, Accounts, ExceptionFact, Exceptions, Flows, Named, Observation, ROWS_MAX, ZoneFact, Zones,
};
use super::suspect::{self, Class};
use crate::model::{
    Endpoint, Exception, Flow, FlowId, Person, Policy, Protocol, Vendor, VpnPeer, Zone, ZoneId, ZoneKind,
};

/// Ports by which the gateway is managed.
const MANAGING_PORTS: [u16; 2] = [22, 443];
/// Ports of IKE (RFC 7296).
const IKE_PORTS: [u16; 2] = [500, 4500];
/// IPsec ESP (RFC 4303).
const ESP: u8 = 50;

/// The facts about a policy at `now`: flows that have ended by then are taken as absent.
#[must_use]
pub fn posture(policy: &Policy, now: Timestamp) -> Vec<Observation> {
    let live: Vec<Open<'_>> = policy
        .flows()
        .filter(|(_, flow)| flow.timing.until.is_none_or(|until| until > now))
        .map(|(id, flow)| Open { policy, id, flow })
        .collect();
    let today = now.to_zoned(policy.clinic.timezone.clone()).date();
    vec![
        zones(policy, &live).into(),
        flows(policy, &live).into(),
        exceptions(policy).into(),
        accounts(policy, today).into(),
        accountability(policy, today).into(),
    ]
}

/// A flow that has not ended.
#[derive(Clone, Copy)]
struct Open<'a> {
    policy: &'a Policy,
    id: FlowId,
    flow: &'a Flow,
}

fn zones(policy: &Policy, live: &[Open<'_>]) -> Zones {
    let reaches = |id: ZoneId| {
        live.iter().any(|open| {
            open.flow.from.contains(&Endpoint::Zone(id))
                && open.flow.to.iter().filter_map(|end| open.zone(end)).any(|zone| is_care(zone.kind))
        })
    };
    let fact = |(id, zone): (ZoneId, &Zone)| ZoneFact {
        slug: zone.slug.clone(),
        kind: zone.kind,
        anybody_reaches_care: reaches(id),
    };
    Zones { zones: policy.zones().map(fact).take(ROWS_MAX).collect() }
}

fn flows(policy: &Policy, live: &[Open<'_>]) -> Flows {
    // What the gateway itself needs is named by the product, not by the clinic.
    let written: Vec<Open<'_>> = live.iter().copied().filter(|open| open.flow.place.is_some()).collect();
    let named = |wanted: &dyn Fn(&Open<'_>) -> bool| -> Named {
        written.iter().filter(|open| wanted(open)).map(|open| &open.flow.name).collect()
    };
    let count = |wanted: &dyn Fn(&Open<'_>) -> bool| -> u32 {
        u32::try_from(written.iter().filter(|open| wanted(open)).count()).unwrap_or(u32::MAX)
    };
    let closed: Vec<Open<'_>> = written.iter().copied().filter(|open| open.is_closed_session()).collect();
    let beside = |open: &Open<'_>| closed.iter().any(|session| open.is_beside(session));
    let excepted = |open: &Open<'_>| policy.exceptions.iter().any(|exception| exception.flow == open.id);
    Flows {
        count: count(&|_| true),
        any: named(&|open| open.is_any()),
        between_devices: count(&|open| open.is_between_devices()),
        inbound: named(&|open| open.is_inbound()),
        inbound_from_anywhere: named(&|open| open.is_inbound() && open.begins_at_whole(ZoneKind::External)),
        guest_inward: named(&|open| open.is_guest_inward() && !excepted(open)),
        things_to_anywhere: named(&|open| open.reaches_all_outside() && open.begins_at_all_things()),
        thing_to_anywhere: named(&|open| {
            open.reaches_all_outside() && open.begins_at_things() && !open.begins_at_all_things()
        }),
        closed: u32::try_from(closed.len()).unwrap_or(u32::MAX),
        around_closed: named(&|open| open.reaches_all_outside() && beside(open)),
        beside_closed: named(&|open| !open.reaches_all_outside() && open.reaches_outside() && beside(open)),
        clear_care: named(&|open| open.crosses(Class::ClearCare, |kind| kind != ZoneKind::Guest)),
        clear_other: named(&|open| open.crosses(Class::ClearOther, is_care)),
        weak_tunnel: named(&|open| open.crosses(Class::WeakTunnel, |_| true)),
        ssl_vpn: named(&|open| open.crosses(Class::SslVpn, |_| true)),
        standing_remote: named(&|open| {
            open.crosses(Class::RemoteControl, |_| true) && open.flow.timing.is_permanent()
        }),
        timed_remote: named(&|open| {
            open.crosses(Class::RemoteControl, |_| true) && !open.flow.timing.is_permanent()
        }),
        managed_from_elsewhere: named(&|open| open.is_managed_from_elsewhere() && !excepted(open)),
    }
}

impl<'a> Open<'a> {
    fn zone(&self, end: &Endpoint) -> Option<&'a Zone> {
        match end {
            Endpoint::Zone(id) | Endpoint::Networks(id, _) => Some(self.policy.zone(*id)),
            Endpoint::Device(id) => Some(self.policy.zone(self.policy.device(*id).zone)),
            Endpoint::Gateway | Endpoint::Domain(_) => None,
        }
    }

    fn kind(&self, end: &Endpoint) -> Option<ZoneKind> {
        self.zone(end).map(|zone| zone.kind)
    }

    fn any_of(&self, ends: &[Endpoint], wanted: impl Fn(ZoneKind) -> bool) -> bool {
        ends.iter().filter_map(|end| self.kind(end)).any(wanted)
    }

    /// A name on the internet is outside as well.
    fn reaches_outside(&self) -> bool {
        self.flow.to.iter().any(|end| matches!(end, Endpoint::Domain(_)))
            || self.any_of(&self.flow.to, |kind| kind == ZoneKind::External)
    }

    fn reaches_all_outside(&self) -> bool {
        self.flow.to.iter().any(|end| is_whole(end) && self.kind(end) == Some(ZoneKind::External))
    }

    fn begins_at_whole(&self, wanted: ZoneKind) -> bool {
        self.flow.from.iter().any(|end| is_whole(end) && self.kind(end) == Some(wanted))
    }

    fn begins_at_things(&self) -> bool {
        self.any_of(&self.flow.from, is_thing)
    }

    fn begins_at_all_things(&self) -> bool {
        self.begins_at_whole(ZoneKind::MedicalDevice) || self.begins_at_whole(ZoneKind::Iot)
    }

    fn is_any(&self) -> bool {
        self.flow.any_reason.is_some() || self.flow.services.iter().any(is_wide)
    }

    fn is_between_devices(&self) -> bool {
        let one = |end: &Endpoint| matches!(end, Endpoint::Device(_) | Endpoint::Gateway);
        self.flow.from.iter().chain(&self.flow.to).all(one)
    }

    fn is_inbound(&self) -> bool {
        let inside = |end: &Endpoint| {
            *end == Endpoint::Gateway || self.kind(end).is_some_and(|kind| kind != ZoneKind::External)
        };
        self.any_of(&self.flow.from, |kind| kind == ZoneKind::External) && self.flow.to.iter().any(inside)
    }

    fn is_guest_inward(&self) -> bool {
        self.any_of(&self.flow.from, |kind| kind == ZoneKind::Guest)
            && self.any_of(&self.flow.to, |kind| !matches!(kind, ZoneKind::External | ZoneKind::Guest))
    }

    /// Into a closed network, or IPsec across the border.
    fn is_closed_session(&self) -> bool {
        let ipsec = |protocol: &Protocol| match *protocol {
            Protocol::Ip(number) => number == ESP,
            Protocol::Udp(low, high) => low == high && IKE_PORTS.contains(&low),
            Protocol::Tcp(..) | Protocol::Echo => false,
        };
        let inside = |kind| !is_outside(kind);
        self.any_of(&self.flow.from, inside)
            && (self.any_of(&self.flow.to, |kind| kind == ZoneKind::ClosedNetwork)
                || (self.reaches_outside() && self.flow.services.iter().any(ipsec)))
    }

    /// Whether a host of the closed session has this other way out.
    fn is_beside(&self, session: &Open<'_>) -> bool {
        let other = self.id != session.id && self.flow.to != session.flow.to;
        let meets = |own: &Endpoint, its: &Endpoint| match (own, its) {
            (Endpoint::Device(own), Endpoint::Device(its)) => own == its,
            (Endpoint::Zone(zone), other) | (other, Endpoint::Zone(zone)) => {
                self.zone(other).is_some_and(|held| held.name == self.policy.zone(*zone).name)
            }
            (
                Endpoint::Device(_) | Endpoint::Networks(..) | Endpoint::Gateway | Endpoint::Domain(_),
                Endpoint::Device(_) | Endpoint::Networks(..) | Endpoint::Gateway | Endpoint::Domain(_),
            ) => false,
        };
        let pairs = self.flow.from.iter().flat_map(|own| session.flow.from.iter().map(move |its| (own, its)));
        other && !self.is_closed_session() && pairs.into_iter().any(|(own, its)| meets(own, its))
    }

    /// Whether it allows traffic of a class across the border, at the side of a zone that is meant.
    fn crosses(&self, class: Class, meant: impl Fn(ZoneKind) -> bool) -> bool {
        let inside = |ends: &[Endpoint]| {
            ends.contains(&Endpoint::Gateway) || self.any_of(ends, |kind| !is_outside(kind) && meant(kind))
        };
        let outside = |ends: &[Endpoint]| {
            self.any_of(ends, is_outside) || ends.iter().any(|end| matches!(end, Endpoint::Domain(_)))
        };
        let border = (inside(&self.flow.from) && outside(&self.flow.to))
            || (outside(&self.flow.from) && inside(&self.flow.to));
        let mut kinds = self.flow.services.iter().flat_map(|protocol| suspect::within(*protocol));
        border && kinds.any(|suspect| suspect.class() == class)
    }

    fn is_managed_from_elsewhere(&self) -> bool {
        let managing = |protocol: &Protocol| match *protocol {
            Protocol::Tcp(low, high) => MANAGING_PORTS.iter().any(|port| (low..=high).contains(port)),
            Protocol::Udp(..) | Protocol::Echo | Protocol::Ip(_) => false,
        };
        self.flow.to.contains(&Endpoint::Gateway)
            && self.any_of(&self.flow.from, |kind| kind != ZoneKind::Management)
            && self.flow.services.iter().any(managing)
    }
}

fn exceptions(policy: &Policy) -> Exceptions {
    let fact = |exception: &Exception| ExceptionFact {
        invariant: exception.invariant.clone(),
        flow: policy.flow(exception.flow).name.clone(),
        who: exception.who.clone(),
        until: exception.until,
    };
    Exceptions { exceptions: policy.exceptions.iter().map(fact).take(ROWS_MAX).collect() }
}

fn accounts(policy: &Policy, today: Date) -> Accounts {
    let persons = |wanted: &dyn Fn(&Person) -> bool| -> Named {
        policy.persons.values().filter(|person| wanted(person)).map(|person| &person.id).collect()
    };
    let ended = |person: &Person| person.until.is_some_and(|day| day < today);
    let peers: &[VpnPeer] = policy.vpn.as_ref().map_or(&[], |vpn| &vpn.peers);
    let peers_of = |wanted: &dyn Fn(&VpnPeer) -> bool| -> Named {
        peers.iter().filter(|peer| wanted(peer)).map(|peer| &peer.name).collect()
    };
    let peer_ended = |peer: &VpnPeer| policy.persons.get(&peer.person).is_none_or(ended);
    let key_uses = uses(peers.iter().map(|peer| peer.public_key.as_str()));
    let maintaining: Vec<&Vendor> =
        policy.vendors.values().filter(|vendor| vendor.maintenance.is_some()).collect();
    let vendors = |wanted: &dyn Fn(&Vendor) -> bool| -> Named {
        maintaining.iter().filter(|vendor| wanted(vendor)).map(|vendor| &vendor.name).collect()
    };
    let vendor_keys = uses(policy.vendors.values().flat_map(|vendor| &vendor.keys).map(String::as_str));
    Accounts {
        persons: u32::try_from(policy.persons.len()).unwrap_or(u32::MAX),
        persons_ended: persons(&ended),
        persons_without_end: persons(&|person| person.until.is_none()),
        persons_unproved: persons(&|person| !ended(person) && person.identity.is_none()),
        persons_single_factor: persons(&|person| {
            !ended(person) && !person.roles.is_empty() && person.second_factor.is_none()
        }),
        peers: u32::try_from(peers.len()).unwrap_or(u32::MAX),
        peers_ended: peers_of(&peer_ended),
        peers_single_factor: peers_of(&|peer| peer.second_factor.is_none()),
        peers_without_session: peers_of(&|peer| peer.session_s.is_none()),
        peers_sharing_key: peers_of(&|peer| shared(&key_uses, &peer.public_key)),
        vendors: u32::try_from(policy.vendors.len()).unwrap_or(u32::MAX),
        vendors_maintaining: u32::try_from(maintaining.len()).unwrap_or(u32::MAX),
        vendors_ended: vendors(&|vendor| vendor.contract_until.is_some_and(|day| day < today)),
        vendors_without_end: vendors(&|vendor| vendor.contract_until.is_none()),
        vendors_unnamed: vendors(&|vendor| !vendor.keys.is_empty()),
        vendors_sharing_key: vendors(&|vendor| vendor.keys.iter().any(|key| shared(&vendor_keys, key))),
        vendors_without_window: vendors(&|vendor| {
            vendor.maintenance.as_ref().is_some_and(|work| work.windows.is_none())
        }),
    }
}

fn accountability(policy: &Policy, today: Date) -> Accountability {
    let vendors = policy.vendors.values().filter(|vendor| vendor.responsibility.is_none());
    let persons = policy.persons.values();
    let silent = persons.filter(|person| !person.roles.is_empty() && person.contact.is_none());
    let aged = |device: &&crate::model::Device| device.support_until.is_some_and(|day| day < today);
    Accountability {
        responsible: u32::try_from(policy.responsible.len()).unwrap_or(u32::MAX),
        vendors_without_demarcation: vendors.map(|vendor| &vendor.name).collect(),
        persons_without_contact: silent.map(|person| &person.id).collect(),
        devices_past_support: policy.devices.iter().filter(aged).map(|device| &device.name).collect(),
    }
}

fn uses<'a>(keys: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut uses = BTreeMap::new();
    keys.for_each(|key| *uses.entry(key).or_default() += 1);
    uses
}

fn shared(uses: &BTreeMap<&str, usize>, key: &str) -> bool {
    uses.get(key).is_some_and(|count| *count > 1)
}

fn is_whole(end: &Endpoint) -> bool {
    matches!(end, Endpoint::Zone(_))
}

/// Zones whose devices hold or make medical data.
pub(super) fn is_care(kind: ZoneKind) -> bool {
    matches!(kind, ZoneKind::Clinical | ZoneKind::MedicalDevice | ZoneKind::Billing)
}

/// Zones of devices that nobody sits at.
pub(super) fn is_thing(kind: ZoneKind) -> bool {
    matches!(kind, ZoneKind::MedicalDevice | ZoneKind::Iot)
}

/// Closed networks are treated like open ones.
fn is_outside(kind: ZoneKind) -> bool {
    matches!(kind, ZoneKind::External | ZoneKind::ClosedNetwork)
}

/// More than half of all ports.
fn is_wide(protocol: &Protocol) -> bool {
    match *protocol {
        Protocol::Tcp(low, high) | Protocol::Udp(low, high) => high - low > u16::MAX / 2,
        Protocol::Echo | Protocol::Ip(_) => false,
    }
}
