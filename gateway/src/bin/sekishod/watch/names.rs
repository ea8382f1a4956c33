//! Who is behind an address, and which flow behind a mark, as the policy in force says; core writes it down for us.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;
use policy::model::ZoneKind;
use policy::services::WatchSettings;

/// The word for the gateway itself, as a device and as a zone.
pub(crate) const GATEWAY: &str = "gateway";
/// The word for what lies behind no interface in particular.
const OUTSIDE: &str = "outside";
/// Where the kernel says which number an interface has (Documentation/ABI/testing/sysfs-class-net).
const INTERFACES: &str = "/sys/class/net";
/// Longest such number, with its line's end.
const NUMBER_BYTES_MAX: u64 = 16;

/// Where an address belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// ASCII name of the zone, or `gateway`.
    pub(crate) zone: &'a str,
    /// Name of the device.
    pub(crate) device: Option<&'a str>,
    /// Whether it lies beyond the clinic's own networks.
    pub(crate) is_outside: bool,
}

/// Names by address and mark.
#[derive(Debug, Default)]
pub(crate) struct Names {
    zones: Vec<(IpNet, String, bool)>,
    outside: String,
    own: BTreeMap<IpAddr, ()>,
    devices: BTreeMap<IpAddr, String>,
    /// Zones by their interface: its name, the zone's, and whether it lies beyond the clinic's own networks.
    interfaces: Vec<(String, String, bool)>,
    /// Which of them has which number now.
    numbers: BTreeMap<u32, usize>,
    /// Flows by mark.
    pub(crate) flows: BTreeMap<u32, String>,
}

impl Names {
    /// The names that the settings hold.
    pub(crate) fn new(settings: &WatchSettings) -> Self {
        let (mut zones, mut interfaces) = (Vec::new(), Vec::new());
        for zone in &settings.zones {
            let beyond = is_beyond(zone.kind);
            zones.extend(zone.networks.iter().map(|net| (*net, zone.slug.clone(), beyond)));
            interfaces.extend(zone.interface.iter().map(|name| (name.clone(), zone.slug.clone(), beyond)));
        }
        // The narrowest network of an address names it.
        zones.sort_by_key(|(net, ..)| std::cmp::Reverse(net.prefix_len()));
        let mut external =
            settings.zones.iter().filter(|zone| is_beyond(zone.kind) && zone.networks.is_empty());
        // Which of several lines carries a connection, its addresses do not say.
        let outside = match (external.next(), external.next()) {
            (Some(only), None) => only.slug.clone(),
            (Some(_), Some(_)) | (None, _) => OUTSIDE.to_owned(),
        };
        let own = settings.zones.iter().flat_map(|zone| &zone.gateway).map(|address| (*address, ()));
        let devices = settings
            .devices
            .iter()
            .flat_map(|device| device.addresses.iter().map(|address| (*address, device.name.clone())));
        let flows = settings.marks.iter().map(|mark| (mark.mark.0, mark.flow.clone()));
        let (own, devices, flows) = (own.collect(), devices.collect(), flows.collect());
        let mut names = Names { zones, outside, own, devices, interfaces, numbers: BTreeMap::new(), flows };
        names.renumber();
        names
    }

    /// Asks which number each interface has: they come and go, and the kernel's log only has numbers.
    pub(crate) fn renumber(&mut self) {
        let numbered =
            self.interfaces.iter().enumerate().filter_map(|(at, (name, ..))| Some((number(name)?, at)));
        self.numbers = numbered.collect();
    }

    /// Where a packet came from: the zone of the interface it came in by, whatever its source address says.
    pub(crate) fn origin(&self, source: IpAddr, in_index: Option<u32>) -> Place<'_> {
        let claimed = self.place(source);
        let interface = in_index.and_then(|index| self.interfaces.get(*self.numbers.get(&index)?));
        match interface {
            Some((_, slug, beyond)) if slug != claimed.zone => {
                Place { zone: slug, device: None, is_outside: *beyond }
            }
            Some(_) | None => claimed,
        }
    }

    /// Where a packet was to go; what is for everybody on a link stays there, and counts as for the gateway.
    pub(crate) fn aim(&self, destination: IpAddr) -> Place<'_> {
        let is_broadcast = destination == IpAddr::V4(Ipv4Addr::BROADCAST);
        if is_broadcast || destination.is_multicast() {
            return Place { zone: GATEWAY, device: None, is_outside: false };
        }
        self.place(destination)
    }

    /// Where an address belongs.
    pub(crate) fn place(&self, address: IpAddr) -> Place<'_> {
        if self.own.contains_key(&address) {
            return Place { zone: GATEWAY, device: Some(GATEWAY), is_outside: false };
        }
        let device = self.devices.get(&address).map(String::as_str);
        match self.zones.iter().find(|(net, ..)| net.contains(&address)) {
            Some((_, slug, beyond)) => Place { zone: slug, device, is_outside: *beyond },
            None => Place { zone: &self.outside, device, is_outside: true },
        }
    }
}

/// The number of an interface, when it is there.
fn number(interface: &str) -> Option<u32> {
    let file = std::fs::File::open(Path::new(INTERFACES).join(interface).join("ifindex")).ok()?;
    let mut text = String::new();
    file.take(NUMBER_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether a zone lies beyond the clinic's own networks.
fn is_beyond(kind: ZoneKind) -> bool {
    kind == ZoneKind::External || kind == ZoneKind::ClosedNetwork
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::services::{WatchDevice, WatchZone};

    /// A number that no interface of this test has.
    const OTHER: u32 = u32::MAX;

    fn zone(slug: &str, kind: ZoneKind, interface: &str, network: Option<&str>) -> WatchZone {
        WatchZone {
            slug: slug.to_owned(),
            name: slug.to_owned(),
            interface: Some(interface.to_owned()),
            kind,
            networks: network.iter().map(|net| net.parse().unwrap()).collect(),
            gateway: Vec::new(),
        }
    }

    /// The loopback is the one interface that is always there; it stands for the staff's.
    fn names() -> Names {
        let devices = vec![WatchDevice {
            name: "reception".to_owned(),
            zone: "staff".to_owned(),
            addresses: vec![[192, 168, 30, 31].into()],
            mac: None,
        }];
        Names::new(&WatchSettings {
            flows_retention_s: 0,
            flows_budget_bytes: 0,
            zones: vec![
                zone("wan", ZoneKind::External, "no-such-line", None),
                zone("staff", ZoneKind::Staff, "lo", Some("192.168.30.0/24")),
                zone("ehr", ZoneKind::Clinical, "no-such-lan", Some("192.168.10.0/24")),
            ],
            devices,
            marks: Vec::new(),
        })
    }

    #[test]
    fn a_packet_came_from_where_it_came_in_whatever_it_says() {
        let names = names();
        let staff = number("lo");
        assert!(staff.is_some());
        let place = |zone, device, is_outside| Place { zone, device, is_outside };
        let own = names.origin([192, 168, 30, 31].into(), staff);
        assert_eq!(own, place("staff", Some("reception"), false));
        for claimed in ["192.168.1.1", "192.168.10.10", "fe80::1", "203.0.113.9"] {
            assert_eq!(
                names.origin(claimed.parse().unwrap(), staff),
                place("staff", None, false),
                "{claimed}"
            );
        }
        // What the gateway sends comes in nowhere, and an interface may be gone: then the address is all there is.
        for unknown in [None, Some(OTHER)] {
            assert_eq!(names.origin([192, 168, 10, 10].into(), unknown), place("ehr", None, false));
        }
    }

    #[test]
    fn what_is_for_everybody_on_a_link_leaves_it_not() {
        let names = names();
        for group in ["255.255.255.255", "224.0.0.251", "ff02::1"] {
            let aim = names.aim(group.parse().unwrap());
            assert_eq!((aim.zone, aim.is_outside), (GATEWAY, false), "{group}");
        }
        assert!(names.aim([192, 0, 2, 80].into()).is_outside);
    }
}
