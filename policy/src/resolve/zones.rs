//! Zones: kinds, interfaces, networks, the gateway's own addresses and what it serves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::context::Context;
use super::names::{self, Seen};
use super::networks::{self, Claim};
use super::wan;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{DhcpPool, Place, VPN_INTERFACE, Zone, ZoneKind};
use crate::raw::{self, At, File, Item, Kind, Named, Spot, Words};
use crate::time::parse_duration_s;

/// Longest interface name (IFNAMSIZ of linux/if.h, less its terminator).
const INTERFACE_BYTES_MAX: usize = 15;
/// Shortest and longest lease.
const LEASE_S: std::ops::RangeInclusive<u64> = 120..=604_800;
const LEASE_DEFAULT_S: u32 = 3_600;

pub(super) fn zones(context: &mut Context<'_>, file: &File) -> Vec<Zone> {
    let mut seen = Seen::default();
    let mut zones = Vec::new();
    let mut claims = Vec::new();
    for named in &file.zones {
        let place = context.place(named.here());
        names::check(context, &named.name.value, named.here());
        if seen.first(context, &named.name.value, place) {
            zones.push(zone(context, named, place, &mut claims));
        }
    }
    networks::overlaps(context, &mut claims);
    interfaces(context, file);
    one_external(context, &zones);
    wan::check_upstreams(context, file, &zones);
    let names: Vec<&str> = zones.iter().map(|zone| zone.name.as_str()).collect();
    let slugs = names::slugs(&names);
    zones.iter_mut().zip(slugs).for_each(|(zone, slug)| zone.slug = slug);
    zones
}

fn zone(context: &mut Context<'_>, named: &Named<raw::Zone>, place: Place, claims: &mut Vec<Claim>) -> Zone {
    let item = &named.item;
    let kind = kind(item.value.kind.value);
    let networks = zone_networks(context, named, kind, claims);
    let gateway = match kind {
        ZoneKind::External => wan::addresses(context, item),
        // Without an interface the gateway has no address there; that of a tunnel comes with the tunnel.
        ZoneKind::Vpn | ZoneKind::Vendor => Vec::new(),
        _ => gateway(context, item, &networks),
    };
    let mut served = |flag: &Option<At<bool>>, key| {
        flag.as_ref().is_some_and(|flag| serves(context, item, flag, kind, key))
    };
    let router_advertisement = served(&item.value.router_advertisement, "router_advertisement");
    let dns = served(&item.value.dns, "dns");
    let ntp = served(&item.value.ntp, "ntp");
    advertisement(context, item, router_advertisement, &networks);
    Zone {
        name: named.name.value.clone(),
        slug: String::new(),
        kind,
        interface: interface(context, named, kind),
        dhcp: item.value.dhcp.as_ref().and_then(|dhcp| pool(context, item, dhcp, &networks, &gateway)),
        wan: wan::wan(context, item, kind, &gateway),
        networks,
        gateway,
        isolate: item.value.isolate,
        router_advertisement,
        dns,
        ntp,
        place,
    }
}

fn zone_networks(
    context: &mut Context<'_>,
    named: &Named<raw::Zone>,
    kind: ZoneKind,
    claims: &mut Vec<Claim>,
) -> Vec<IpNet> {
    let item = &named.item;
    let words: &[At<String>] = item.value.networks.as_ref().map_or(&[], |words| &words.0);
    if matches!(kind, ZoneKind::External | ZoneKind::Vendor) {
        if let Some(word) = words.first() {
            not_here(context, item.spot(word), "networks", "外部・保守事業者の区画");
        }
        return Vec::new();
    }
    if words.is_empty() && kind != ZoneKind::Vpn {
        let name = brief(&named.name.value);
        let found = Diagnostic::error(
            "networks-missing",
            format!("the zone `{name}` has no networks"),
            format!("区画 `{name}` にネットワークがありません"),
        );
        context.error(
            found.label(context.place(named.here()), "no `networks`", "`networks` がありません").help(
                "add `networks = [\"192.168.10.0/24\"]`",
                "`networks = [\"192.168.10.0/24\"]` のように書き足してください",
            ),
        );
    }
    let mut networks = Vec::new();
    for word in words {
        let Some(net) = networks::network(context, &word.value, item.spot(word)) else { continue };
        networks.push(net);
        let place = context.place(item.spot(word));
        claims.push(Claim { net, zone: named.name.value.clone(), place });
    }
    networks
}

/// The gateway's addresses: those written, and the first host's of every network that has none.
fn gateway(context: &mut Context<'_>, item: &Item<raw::Zone>, networks: &[IpNet]) -> Vec<IpNet> {
    let written = item.value.gateway.as_ref().unwrap_or(const { &Words(Vec::new()) });
    let mut found: BTreeMap<usize, Vec<IpNet>> = BTreeMap::new();
    for word in &written.0 {
        if let Some((network, address)) = gateway_address(context, item, word, networks) {
            found.entry(network).or_default().push(address);
        }
    }
    let each = networks.iter().enumerate();
    each.flat_map(|(index, net)| {
        found.remove(&index).unwrap_or_else(|| networks::first_host(net).into_iter().collect())
    })
    .collect()
}

fn gateway_address(
    context: &mut Context<'_>,
    item: &Item<raw::Zone>,
    word: &At<String>,
    networks: &[IpNet],
) -> Option<(usize, IpNet)> {
    let spot = item.spot(word);
    let text = &word.value;
    let (address, prefix) = match text.parse::<IpNet>() {
        Ok(net) => (net.addr(), Some(net.prefix_len())),
        Err(_) => (networks::address(context, text, spot)?, None),
    };
    let own = networks.iter().enumerate().find(|(_, net)| net.contains(&address));
    let own = own.filter(|(_, net)| prefix.is_none_or(|prefix| prefix == net.prefix_len()));
    let Some((index, net)) = own.filter(|(_, net)| !networks::is_reserved_in(net, address)) else {
        let shown = brief(text);
        let found = Diagnostic::error(
            "gateway-outside-zone",
            format!("`{shown}` is not an address for the gateway in this zone"),
            format!("`{shown}` はこの区画のゲートウェイのアドレスにできません"),
        );
        context.error(found.label(context.place(spot), "not in `networks`", "`networks` の中にありません").help(
            "write a host's address of one of the zone's networks with its prefix length, such as `192.168.10.1/24`",
            "区画のネットワークの中のアドレスを、`192.168.10.1/24` のように書いてください",
        ));
        return None;
    };
    IpNet::new(address, net.prefix_len()).ok().map(|address| (index, address))
}

fn interface(context: &mut Context<'_>, named: &Named<raw::Zone>, kind: ZoneKind) -> Option<String> {
    let item = &named.item;
    let bare = matches!(kind, ZoneKind::Vpn | ZoneKind::Vendor);
    match &item.value.interface {
        None if bare => None,
        None => {
            let name = brief(&named.name.value);
            let found = Diagnostic::error(
                "interface-missing",
                format!("the zone `{name}` has no interface"),
                format!("区画 `{name}` にインターフェースがありません"),
            );
            context.error(
                found.label(context.place(named.here()), "no `interface`", "`interface` がありません").help(
                    "add `interface = \"eth1.10\"` with the name that `ip link` shows",
                    "`ip link` で表示される名前を `interface = \"eth1.10\"` のように書き足してください",
                ),
            );
            None
        }
        Some(interface) if bare => {
            not_here(context, item.spot(interface), "interface", "VPN・保守事業者の区画");
            None
        }
        Some(interface) => {
            let text = interface.value.as_str();
            let shape = (1..=INTERFACE_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| {
                    byte.is_ascii_graphic() && !matches!(byte, b'/' | b'"' | b'*' | b'\\' | b':' | b',')
                });
            if !shape || matches!(text, "lo" | "." | ".." | VPN_INTERFACE) {
                let shown = brief(text);
                let found = Diagnostic::error(
                    "bad-interface",
                    format!("`{shown}` cannot be a zone's interface"),
                    format!("`{shown}` は区画のインターフェースにできません"),
                );
                context.error(found.label(context.place(item.spot(interface)), "not usable", "使えません").help(
                    "write 1 to 15 ASCII letters, digits, `.`, `-`, `_` or `@`, as `ip link` shows it; not `lo`",
                    "`ip link` で表示される名前 (英数字と `.`・`-`・`_`・`@` で15文字まで、`lo` 以外) を書いてください",
                ));
            }
            Some(text.to_owned())
        }
    }
}

/// Two zones on one interface could not be told apart.
fn interfaces(context: &mut Context<'_>, file: &File) {
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    for named in &file.zones {
        let Some(interface) = &named.item.value.interface else { continue };
        let place = context.place(named.item.spot(interface));
        if let Some(first) = seen.insert(&interface.value, place) {
            let shown = brief(&interface.value);
            let words = (
                format!("the interface `{shown}` belongs to two zones"),
                format!("インターフェース `{shown}` が2つの区画で使われています"),
            );
            context.twice("duplicate-interface", words, first, place);
        }
    }
}

fn one_external(context: &mut Context<'_>, zones: &[Zone]) {
    let mut external = zones.iter().filter(|zone| zone.is_external());
    if let (Some(first), Some(second)) = (external.next(), external.next()) {
        let found = Diagnostic::error(
            "second-external",
            "two zones are of the kind `external`",
            "種類が `external` の区画が2つあります",
        );
        let found = found.label(second.place, "second", "2つ目").label(first.place, "first", "1つ目");
        context.error(found.help(
            "this version knows one internet line; use the kind `closed-network` for lines to a closed network",
            "この版で使えるインターネット回線は1本です。閉域網の回線には `closed-network` を使ってください",
        ));
    }
}

fn serves(
    context: &mut Context<'_>,
    item: &Item<raw::Zone>,
    flag: &At<bool>,
    kind: ZoneKind,
    key: &str,
) -> bool {
    let inside = !matches!(kind, ZoneKind::External | ZoneKind::Vpn | ZoneKind::Vendor);
    if flag.value && !inside {
        not_here(context, item.spot(flag), key, "外部・VPN・保守事業者の区画");
    }
    flag.value && inside
}

fn advertisement(context: &mut Context<'_>, item: &Item<raw::Zone>, on: bool, networks: &[IpNet]) {
    let six = networks.iter().any(|net| matches!(net, IpNet::V6(_)));
    if let Some(flag) = item.value.router_advertisement.as_ref().filter(|_| on && !six) {
        let found = Diagnostic::error(
            "advertisement-without-ipv6",
            "router advertisements need an IPv6 network in the zone",
            "ルーター広告には、区画のIPv6ネットワークが必要です",
        );
        context.error(found.label(context.place(item.spot(flag)), "no IPv6 here", "IPv6がありません").help(
            "add an IPv6 network such as `fd51:7ec5:0:10::/64`, or remove this line",
            "`fd51:7ec5:0:10::/64` のようなIPv6ネットワークを足すか、この行を消してください",
        ));
    }
}

fn pool(
    context: &mut Context<'_>,
    item: &Item<raw::Zone>,
    dhcp: &At<raw::Dhcp>,
    networks: &[IpNet],
    gateway: &[IpNet],
) -> Option<DhcpPool> {
    let raw::Dhcp { first, last, lease } = &dhcp.value;
    let spot = item.spot(dhcp);
    let lease_s = lease.as_ref().map_or(Some(LEASE_DEFAULT_S), |lease| lease_s(context, item, lease))?;
    let (Ok(first), Ok(last)) = (first.value.parse::<Ipv4Addr>(), last.value.parse::<Ipv4Addr>()) else {
        bad_pool(
            context,
            spot,
            "`first` and `last` are not IPv4 addresses",
            "`first` と `last` がIPv4アドレスではありません",
        );
        return None;
    };
    let Some(net) = networks.iter().find(|net| net.contains(&IpAddr::V4(first))) else {
        bad_pool(
            context,
            spot,
            "`first` is outside the zone's networks",
            "`first` が区画のネットワークの外にあります",
        );
        return None;
    };
    let reserved = networks::is_reserved_in(net, first.into()) || networks::is_reserved_in(net, last.into());
    if first > last || !net.contains(&IpAddr::V4(last)) || reserved {
        bad_pool(
            context,
            spot,
            "`first` to `last` is not a range of host addresses in one network",
            "`first` から `last` までが、1つのネットワークの中の機器用アドレスの範囲になっていません",
        );
        return None;
    }
    let inside = |own: &&IpNet| matches!(own.addr(), IpAddr::V4(own) if first <= own && own <= last);
    if let Some(own) = gateway.iter().find(inside) {
        let own = own.addr();
        let (en, ja) = (
            format!("the gateway's own address `{own}` is in the pool"),
            format!("ゲートウェイのアドレス `{own}` が範囲に入っています"),
        );
        bad_pool(context, spot, &en, &ja);
        return None;
    }
    Some(DhcpPool { first, last, lease_s })
}

fn lease_s(context: &mut Context<'_>, item: &Item<raw::Zone>, lease: &At<String>) -> Option<u32> {
    let seconds = parse_duration_s(&lease.value).ok().filter(|seconds| LEASE_S.contains(seconds));
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    if seconds.is_none() {
        let found = Diagnostic::error("bad-duration", "this is not a lease time", "貸出期間として読めません");
        context.error(found.label(context.place(item.spot(lease)), "not usable", "使えません").help(
            "write 2 minutes to 7 days, such as `1h`",
            "2分から7日までの長さを `1h` のように書いてください",
        ));
    }
    seconds
}

fn bad_pool(context: &mut Context<'_>, spot: Spot, en: &str, ja: &str) {
    let found = Diagnostic::error("bad-dhcp", en, ja).label(context.place(spot), "this pool", "この範囲");
    context.error(found.help(
        "write `dhcp = { first = \"192.168.90.100\", last = \"192.168.90.199\", lease = \"1h\" }` inside a network of the zone",
        "`dhcp = { first = \"192.168.90.100\", last = \"192.168.90.199\", lease = \"1h\" }` のように、区画のネットワークの中で書いてください",
    ));
}

/// A key that means nothing in a zone of this kind.
pub(super) fn not_here(context: &mut Context<'_>, spot: Spot, key: &str, ja: &str) {
    let found = Diagnostic::error(
        "not-for-kind",
        format!("a zone of this kind has no `{key}`"),
        format!("この種類の区画 ({ja}など) に `{key}` は書けません"),
    );
    context.error(
        found
            .label(context.place(spot), "not here", "ここでは使えません")
            .help("remove it, or choose another `kind`", "この項目を消すか、`kind` を見直してください"),
    );
}

fn kind(kind: Kind) -> ZoneKind {
    match kind {
        Kind::Clinical => ZoneKind::Clinical,
        Kind::MedicalDevice => ZoneKind::MedicalDevice,
        Kind::Billing => ZoneKind::Billing,
        Kind::Staff => ZoneKind::Staff,
        Kind::Guest => ZoneKind::Guest,
        Kind::Iot => ZoneKind::Iot,
        Kind::Management => ZoneKind::Management,
        Kind::External => ZoneKind::External,
        Kind::ClosedNetwork => ZoneKind::ClosedNetwork,
        Kind::Vpn => ZoneKind::Vpn,
        Kind::Vendor => ZoneKind::Vendor,
    }
}
