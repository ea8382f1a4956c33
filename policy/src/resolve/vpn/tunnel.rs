//! The tunnel: its door, its networks, and its zone, which is written or made.

use ipnet::IpNet;

use super::super::context::Context;
use super::super::{ByName, names, networks, parse_service};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Protocol, VPN_INTERFACE, Zone, ZoneId, ZoneKind};
use crate::raw::{self, At, File, Item};

/// Names of a zone that nobody wrote.
const ZONE_NAME: &str = "VPN";
const ZONE_SLUG: &str = "vpn";
/// Lower ports would need a capability that the edge role does not have.
const PORT_MIN: u16 = 1024;
/// What is left of 1500 bytes after WireGuard's headers over IPv6.
const MTU_DEFAULT: u16 = 1420;
/// The least that IPv6 asks for, and what WireGuard leaves of 1500 bytes over IPv4.
const MTU: std::ops::RangeInclusive<u16> = 1280..=1440;

/// What peers need to know of the tunnel.
pub(in super::super) struct Tunnel {
    pub(super) zone: ZoneId,
    pub(super) listen_port: u16,
    pub(super) address: Vec<IpNet>,
    pub(super) mtu: u16,
}

/// Reads the tunnel and gives it its zone.
pub(in super::super) fn tunnel(
    context: &mut Context<'_>,
    file: &File,
    zones: &mut Vec<Zone>,
) -> Option<Tunnel> {
    let item = file.vpn.as_ref()?;
    let raw::Vpn { listen, address, mtu, peer: _ } = &item.value;
    let listen_port = port(context, item, listen);
    let mtu = mtu.as_ref().map_or(MTU_DEFAULT, |mtu| self::mtu(context, item, mtu));
    let mut own: Vec<IpNet> = Vec::new();
    for word in &address.0 {
        let Some(net) = tunnel_address(context, item, word, zones) else { continue };
        if own.iter().any(|other| other.addr().is_ipv4() == net.addr().is_ipv4()) {
            second_of_family(context, item, word);
        } else {
            own.push(net);
        }
    }
    if address.0.is_empty() {
        no_address(context, item);
    }
    let zone = zone(context, item, &own, zones);
    Some(Tunnel { zone, listen_port, address: own, mtu })
}

fn port(context: &mut Context<'_>, item: &Item<raw::Vpn>, listen: &At<String>) -> u16 {
    let parsed = parse_service(&listen.value, &ByName::new());
    if let Ok([Protocol::Udp(first, last)]) = parsed.as_deref()
        && first == last
        && *first >= PORT_MIN
    {
        return *first;
    }
    let found = Diagnostic::error(
        "bad-listen",
        "this is not a port to listen on",
        "待ち受けるポートとして読めません",
    );
    context.error(
        found.label(context.place(item.spot(listen)), "not one UDP port", "UDPポート1つではありません").help(
            "write one UDP port from 1024 up, such as `udp/51820`",
            "`udp/51820` のように、1024以上のUDPのポートを1つ書いてください",
        ),
    );
    0
}

fn mtu(context: &mut Context<'_>, item: &Item<raw::Vpn>, mtu: &At<i64>) -> u16 {
    if let Some(bytes) = u16::try_from(mtu.value).ok().filter(|bytes| MTU.contains(bytes)) {
        return bytes;
    }
    let found = Diagnostic::error(
        "bad-mtu",
        format!("{} is no size for packets in a tunnel", mtu.value),
        format!("{} はトンネルのパケットの大きさにできません", mtu.value),
    );
    let (low, high) = (MTU.start(), MTU.end());
    context.error(found.label(context.place(item.spot(mtu)), "not usable", "使えません").help(
        format!("write {low} to {high}, or leave it out for {MTU_DEFAULT}; 80 less than the line carries"),
        format!(
            "回線のMTUより80小さい、{low}から{high}までの値を書くか、省略してください (省略時は{MTU_DEFAULT})"
        ),
    ));
    MTU_DEFAULT
}

/// The gateway's address in the tunnel: in no zone but those of kind `vpn`.
fn tunnel_address(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    word: &At<String>,
    zones: &[Zone],
) -> Option<IpNet> {
    let spot = item.spot(word);
    let usable = |net: &IpNet| {
        networks::special(&net.trunc()).is_none() && !networks::is_reserved_in(&net.trunc(), net.addr())
    };
    let Some(net) = word.value.parse::<IpNet>().ok().filter(usable) else {
        let found = Diagnostic::error(
            "bad-address",
            "this is not an address in a tunnel",
            "トンネルのアドレスとして読めません",
        );
        context.error(found.label(context.place(spot), "this", "ここ").help(
            "write it with its prefix length, such as `10.90.0.1/24`",
            "`10.90.0.1/24` のように、長さを付けて書いてください",
        ));
        return None;
    };
    let others = zones.iter().filter(|zone| zone.kind != ZoneKind::Vpn);
    let touches = |other: &IpNet| other.contains(&net.trunc()) || net.contains(other);
    let external = |zone: &Zone| zone.is_external() && zone.gateway.iter().any(|own| touches(&own.trunc()));
    if let Some(zone) = others.clone().find(|zone| zone.networks.iter().any(touches) || external(zone)) {
        let name = brief(&zone.name);
        let found = Diagnostic::error(
            "overlapping-networks",
            format!("the tunnel's network `{}` overlaps the zone `{name}`", net.trunc()),
            format!("トンネルのネットワーク `{}` が区画 `{name}` と重なっています", net.trunc()),
        );
        let found = found.label(context.place(spot), "overlaps", "重なっています").label(
            zone.place,
            "with this",
            "重なる相手",
        );
        context.error(found.help(
            "give the tunnel a network of its own",
            "トンネルには別のネットワークを割り当ててください",
        ));
    }
    Some(net)
}

fn second_of_family(context: &mut Context<'_>, item: &Item<raw::Vpn>, word: &At<String>) {
    let found = Diagnostic::error(
        "second-tunnel-network",
        "the tunnel has two networks of one family",
        "トンネルに、同じ種類 (IPv4またはIPv6) のネットワークが2つあります",
    );
    context.error(
        found
            .label(context.place(item.spot(word)), "second", "2つ目")
            .help("keep one IPv4 and one IPv6 address at most", "IPv4とIPv6をそれぞれ1つまでにしてください"),
    );
}

fn no_address(context: &mut Context<'_>, item: &Item<raw::Vpn>) {
    let found =
        Diagnostic::error("bad-address", "the tunnel has no address", "トンネルのアドレスがありません");
    context.error(found.label(context.place(item.here()), "this section", "この節").help(
        "write `address = [\"10.90.0.1/24\"]`",
        "`address = [\"10.90.0.1/24\"]` のように書いてください",
    ));
}

/// The zone of kind `vpn`: the one that is written, else one that is made.
fn zone(context: &mut Context<'_>, item: &Item<raw::Vpn>, own: &[IpNet], zones: &mut Vec<Zone>) -> ZoneId {
    let networks: Vec<IpNet> = own.iter().map(IpNet::trunc).collect();
    let mut written = zones.iter().enumerate().filter(|(_, zone)| zone.kind == ZoneKind::Vpn);
    let (first, second) = (written.next(), written.next());
    if let (Some((_, first)), Some((_, second))) = (first, second) {
        let found = Diagnostic::error(
            "second-vpn",
            "two zones are of the kind `vpn`",
            "種類が `vpn` の区画が2つあります",
        );
        let found = found.label(second.place, "second", "2つ目").label(first.place, "first", "1つ目");
        context.error(
            found.help("there is one tunnel: keep one of them", "トンネルは1つなので、1つにしてください"),
        );
    }
    let Some(index) = first.map(|(index, _)| index) else { return made(context, item, own, networks, zones) };
    if let Some(zone) = zones.get_mut(index) {
        if !zone.networks.is_empty() && !is_same(&zone.networks, &networks) {
            other_networks(context, zone);
        }
        zone.interface = Some(VPN_INTERFACE.to_owned());
        zone.networks = networks;
        zone.gateway = own.to_vec();
    }
    ZoneId(index)
}

fn made(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    own: &[IpNet],
    networks: Vec<IpNet>,
    zones: &mut Vec<Zone>,
) -> ZoneId {
    let place = context.place(item.here());
    if let Some(other) = zones.iter().find(|zone| zone.name == ZONE_NAME) {
        let found = Diagnostic::error(
            "reserved-name",
            format!("the zone `{ZONE_NAME}` is not of the kind `vpn`"),
            format!("区画 `{ZONE_NAME}` の種類が `vpn` ではありません"),
        );
        let found = found.label(other.place, "this zone", "この区画").label(place, "the VPN", "VPN");
        context.error(found.help(
            "choose another name for the zone, or add a zone of the kind `vpn` under a name of your own",
            "この区画を別の名前にするか、種類が `vpn` の区画を好きな名前で書き足してください",
        ));
    }
    let slug = if zones.iter().all(|zone| zone.slug != ZONE_SLUG) {
        ZONE_SLUG.to_owned()
    } else {
        let known: Vec<&str> = zones.iter().map(|zone| zone.name.as_str()).chain([ZONE_NAME]).collect();
        names::slugs(&known).pop().unwrap_or_default()
    };
    zones.push(Zone {
        name: ZONE_NAME.to_owned(),
        slug,
        kind: ZoneKind::Vpn,
        interface: Some(VPN_INTERFACE.to_owned()),
        networks,
        gateway: own.to_vec(),
        isolate: true,
        dhcp: None,
        router_advertisement: false,
        dns: false,
        ntp: false,
        wan: None,
        place,
    });
    ZoneId(zones.len() - 1)
}

fn is_same(one: &[IpNet], other: &[IpNet]) -> bool {
    one.len() == other.len() && one.iter().all(|net| other.contains(net))
}

fn other_networks(context: &mut Context<'_>, zone: &Zone) {
    let name = brief(&zone.name);
    let found = Diagnostic::error(
        "vpn-networks",
        format!("the networks of the zone `{name}` are not those of the tunnel"),
        format!("区画 `{name}` のネットワークがトンネルのものと違います"),
    );
    context.error(found.label(zone.place, "this zone", "この区画").help(
        "remove its `networks`: they follow from `[vpn] address`",
        "`[vpn]` の `address` から決まるので、この区画の `networks` を消してください",
    ));
}
