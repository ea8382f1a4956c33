//! Devices: each address belongs to one device, inside its zone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::context::Context;
use super::names::{self, Seen};
use super::networks::{self, Owned};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Device, Place, Zone, ZoneId, ZoneKind};
use crate::raw::{self, At, File, Item, Named};

pub(super) fn devices(
    context: &mut Context<'_>,
    file: &File,
    zones: &[Zone],
    vendors: &BTreeSet<String>,
) -> Vec<Device> {
    let mut ledger = Ledger::new(zones, vendors);
    let mut seen = Seen::default();
    let mut devices = Vec::new();
    for named in &file.devices {
        let place = context.place(named.here());
        names::check(context, &named.name.value, named.here());
        if seen.first(context, &named.name.value, place) {
            devices.extend(ledger.device(context, named, place));
        }
    }
    devices
}

/// What is known while devices are read one after the other.
struct Ledger<'a> {
    zones: &'a [Zone],
    by_name: BTreeMap<&'a str, ZoneId>,
    vendors: &'a BTreeSet<String>,
    owned: Owned,
    gateway: BTreeSet<IpAddr>,
    addresses: BTreeMap<IpAddr, Place>,
    macs: BTreeMap<(ZoneId, String), Place>,
}

impl<'a> Ledger<'a> {
    fn new(zones: &'a [Zone], vendors: &'a BTreeSet<String>) -> Self {
        Self {
            zones,
            by_name: zones
                .iter()
                .enumerate()
                .map(|(index, zone)| (zone.name.as_str(), ZoneId(index)))
                .collect(),
            vendors,
            owned: Owned::new(zones),
            gateway: zones.iter().flat_map(|zone| &zone.gateway).map(ipnet::IpNet::addr).collect(),
            addresses: BTreeMap::new(),
            macs: BTreeMap::new(),
        }
    }

    /// A device in an unknown zone is dropped: the zone's own error says what to do.
    fn device(
        &mut self,
        context: &mut Context<'_>,
        named: &Named<raw::Device>,
        place: Place,
    ) -> Option<Device> {
        let item = &named.item;
        let raw::Device { zone, address, mac, vendor, support_until } = &item.value;
        let Some(zone_id) = self.by_name.get(zone.value.as_str()).copied() else {
            let known = self.by_name.keys().copied();
            context.unknown("unknown-zone", ("zone", "区画"), &zone.value, item.spot(zone), known);
            return None;
        };
        if let Some(vendor) = vendor.as_ref().filter(|vendor| !self.vendors.contains(&vendor.value)) {
            let known = self.vendors.iter().map(String::as_str);
            context.unknown(
                "unknown-vendor",
                ("vendor", "保守事業者"),
                &vendor.value,
                item.spot(vendor),
                known,
            );
        }
        if address.0.is_empty() {
            let found = Diagnostic::error(
                "address-missing",
                "the device has no address",
                "機器にアドレスがありません",
            );
            context.error(
                found
                    .label(place, "no address", "アドレスがありません")
                    .help("write at least one address", "アドレスを1つ以上書いてください"),
            );
        }
        let addresses =
            address.0.iter().filter_map(|word| self.address(context, item, word, zone_id)).collect();
        let mac = mac.as_ref().and_then(|mac| self.mac(context, item, mac, zone_id));
        let support_until = support_until.as_ref().and_then(|day| context.day(item, day));
        if let Some((day, at)) =
            support_until.zip(item.value.support_until.as_ref()).filter(|(day, _)| *day < context.today())
        {
            let name = brief(&named.name.value);
            let found = Diagnostic::warning(
                "device-past-support",
                format!("the maker no longer supports `{name}` since {day}"),
                format!("`{name}` のメーカーサポートは{day}で終わっています"),
            );
            context.warn(found.label(context.place(item.spot(at)), "ended", "終了済み").help(
                "plan its replacement, and keep its flows to what care needs",
                "更新を計画し、それまでは通信許可を診療に必要なものだけにしてください",
            ));
        }
        let vendor = vendor.as_ref().map(|vendor| vendor.value.clone());
        Some(Device {
            name: named.name.value.clone(),
            zone: zone_id,
            addresses,
            mac,
            vendor,
            support_until,
            place,
        })
    }

    fn address(
        &mut self,
        context: &mut Context<'_>,
        item: &Item<raw::Device>,
        word: &At<String>,
        zone_id: ZoneId,
    ) -> Option<IpAddr> {
        let spot = item.spot(word);
        let address = networks::address(context, &word.value, spot)?;
        let place = context.place(spot);
        if let Some(refusal) = self.refusal(address, zone_id, place) {
            context.error(refusal);
            return None;
        }
        self.warn_in_pool(context, item, address, zone_id, place);
        if let Some(first) = self.addresses.insert(address, place) {
            let words = (
                format!("the address `{address}` is given twice"),
                format!("アドレス `{address}` が2回使われています"),
            );
            context.twice("duplicate-address", words, first, place);
            return None;
        }
        Some(address)
    }

    /// The pool may hand a fixed address to somebody else, unless the device's MAC address reserves it.
    fn warn_in_pool(
        &self,
        context: &mut Context<'_>,
        item: &Item<raw::Device>,
        address: IpAddr,
        zone_id: ZoneId,
        place: Place,
    ) {
        let pool = self.zones.get(zone_id.0).and_then(|zone| zone.dhcp.as_ref());
        let inside =
            pool.is_some_and(|pool| matches!(address, IpAddr::V4(at) if pool.first <= at && at <= pool.last));
        if inside && item.value.mac.is_none() {
            let found = Diagnostic::warning(
                "address-in-pool",
                format!("`{address}` may also be given to another device by DHCP"),
                format!("`{address}` はDHCPで別の機器に割り当てられることがあります"),
            );
            context.warn(found.label(place, "in the zone's pool", "貸出範囲の中").help(
                "write the device's `mac`, or choose an address outside the pool",
                "機器の `mac` を書くか、貸出範囲の外のアドレスにしてください",
            ));
        }
    }

    fn refusal(&self, address: IpAddr, zone_id: ZoneId, place: Place) -> Option<Diagnostic> {
        let zone = self.zones.get(zone_id.0)?;
        let name = brief(&zone.name);
        if self.gateway.contains(&address) {
            let found = Diagnostic::error(
                "address-of-gateway",
                format!("`{address}` is the gateway's own address"),
                format!("`{address}` はゲートウェイ自身のアドレスです"),
            );
            let found = found.label(place, "taken", "使用中").label(zone.place, "zone", "区画");
            return Some(
                found.help("give the device another address", "機器に別のアドレスを割り当ててください"),
            );
        }
        if zone.kind == ZoneKind::External {
            return self.owned.zone_of(address).map(|_| {
                let found = Diagnostic::error(
                    "address-inside-clinic",
                    format!("`{address}` lies in a zone of the clinic, not in `{name}`"),
                    format!("`{address}` は `{name}` ではなく、院内の区画のアドレスです"),
                );
                found.label(place, "inside", "院内のアドレス").help(
                    "correct the address, or the device's zone",
                    "アドレスか、機器の区画を直してください",
                )
            });
        }
        let Some(net) = zone.networks.iter().find(|net| net.contains(&address)) else {
            let list = zone.networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let found = Diagnostic::error(
                "address-outside-zone",
                format!("`{address}` is not in the networks of the zone `{name}`"),
                format!("`{address}` は区画 `{name}` のネットワークの外にあります"),
            );
            let found = found.label(place, "outside", "区画の外").label(zone.place, "zone", "区画");
            let list = brief(&list);
            return Some(found.help(
                format!("use an address of: {list}"),
                format!("次の中のアドレスにしてください: {list}"),
            ));
        };
        networks::is_reserved_in(net, address).then(|| {
            let found = Diagnostic::error(
                "address-reserved",
                format!("`{address}` is the network's or broadcast address of `{net}`"),
                format!("`{address}` は `{net}` のネットワークまたは全体宛てのアドレスです"),
            );
            found
                .label(place, "not a device's", "機器には使えません")
                .help("give the device another address", "機器に別のアドレスを割り当ててください")
        })
    }

    fn mac(
        &mut self,
        context: &mut Context<'_>,
        item: &Item<raw::Device>,
        mac: &At<String>,
        zone: ZoneId,
    ) -> Option<String> {
        let place = context.place(item.spot(mac));
        let Some(text) = parse_mac(&mac.value) else {
            let found = Diagnostic::error(
                "bad-mac",
                "this is not a device's MAC address",
                "機器のMACアドレスではありません",
            );
            context.error(
                found.label(place, "not usable", "使えません").help(
                    "write it such as `02:00:00:00:10:10`",
                    "`02:00:00:00:10:10` のように書いてください",
                ),
            );
            return None;
        };
        if let Some(first) = self.macs.insert((zone, text.clone()), place) {
            let words = (
                format!("the MAC address `{text}` is used twice in one zone"),
                format!("MACアドレス `{text}` が1つの区画で2回使われています"),
            );
            context.twice("duplicate-mac", words, first, place);
        }
        Some(text)
    }
}

/// Six pairs of hexadecimal digits, not a group address (IEEE 802: the first octet's lowest bit).
fn parse_mac(text: &str) -> Option<String> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let pair = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'-');
    let octets: Vec<u8> = text.split(separator).map(pair).collect::<Option<_>>()?;
    let single = octets.first().is_some_and(|first| first & 1 == 0) && octets.iter().any(|octet| *octet != 0);
    (plain && octets.len() == 6 && single)
        .then(|| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":"))
}
