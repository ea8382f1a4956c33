//! Addresses and networks: how they are read, which are never the clinic's, and which zone owns which.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::context::Context;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Place, Zone, ZoneId};
use crate::raw::Spot;

/// The smallest networks that still have room for a gateway and a device.
const PREFIX4_MAX: u8 = 30;
const PREFIX6_MAX: u8 = 126;

/// Ranges that never belong to a clinic (RFC 6890), with their names.
const SPECIAL4: [(Ipv4Addr, u8, &str, &str); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this-network", "未指定"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback", "ループバック"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local", "リンクローカル"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast", "マルチキャスト"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved", "予約済み"),
];
const SPECIAL6: [(Ipv6Addr, u8, &str, &str); 3] = [
    (Ipv6Addr::UNSPECIFIED, 8, "reserved", "予約済み"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local", "リンクローカル"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast", "マルチキャスト"),
];

/// Reads a network of the clinic.
pub(super) fn network(context: &mut Context<'_>, text: &str, spot: Spot) -> Option<IpNet> {
    let Ok(net) = text.parse::<IpNet>() else {
        refuse(
            context,
            spot,
            ("bad-network", "this is not a network", "ネットワークではありません"),
            (
                "write it such as `192.168.10.0/24` or `fd51:7ec5:0:10::/64`",
                "`192.168.10.0/24` や `fd51:7ec5:0:10::/64` のように書いてください",
            ),
        );
        return None;
    };
    if net.trunc() != net {
        let right = net.trunc();
        let found = Diagnostic::error(
            "host-bits",
            format!("`{net}` is an address inside a network"),
            format!("`{net}` はネットワークの中のアドレスです"),
        );
        let found = found.label(context.place(spot), "has host bits", "ホスト部があります");
        context.error(found.help(format!("write `{right}`"), format!("`{right}` と書いてください")));
        return None;
    }
    if net.prefix_len() > smallest(&net) {
        refuse(
            context,
            spot,
            (
                "network-too-small",
                "the network has no room for a gateway and a device",
                "ゲートウェイと機器を置く余地がありません",
            ),
            (
                "use /30 or larger for IPv4, /126 or larger for IPv6",
                "IPv4は/30以上、IPv6は/126以上の大きさにしてください",
            ),
        );
        return None;
    }
    if let Some((en, ja)) = special(&net) {
        let found = Diagnostic::error(
            "special-network",
            format!("`{net}` reaches into {en} addresses"),
            format!("`{net}` は{ja}のアドレスを含みます"),
        );
        let found =
            found.label(context.place(spot), "not a clinic's network", "医院のネットワークにできません");
        context
            .error(found.help("write the zone's own network", "区画そのもののネットワークを書いてください"));
        return None;
    }
    Some(net)
}

/// Reads an address with or without a prefix length.
pub(super) fn address(context: &mut Context<'_>, text: &str, spot: Spot) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        refuse(
            context,
            spot,
            ("bad-address", "this is not an address", "アドレスではありません"),
            (
                "write it such as `192.168.10.10` or `fd51:7ec5:0:10::10`",
                "`192.168.10.10` や `fd51:7ec5:0:10::10` のように書いてください",
            ),
        );
        return None;
    };
    if let Some((en, ja)) = special(&IpNet::from(address)) {
        let found = Diagnostic::error(
            "special-address",
            format!("`{address}` is a {en} address"),
            format!("`{address}` は{ja}のアドレスです"),
        );
        let found = found.label(context.place(spot), "not usable", "使えません");
        context.error(found.help(
            "write the address that it has on the network",
            "ネットワーク上のアドレスを書いてください",
        ));
        return None;
    }
    Some(address)
}

/// The special range that a network touches, by name.
pub(super) fn special(net: &IpNet) -> Option<(&'static str, &'static str)> {
    let hit = |range: Option<IpNet>| range.is_some_and(|range| range.contains(net) || net.contains(&range));
    let four =
        SPECIAL4.iter().map(|(at, bits, en, ja)| (Ipv4Net::new(*at, *bits).ok().map(IpNet::V4), *en, *ja));
    let six =
        SPECIAL6.iter().map(|(at, bits, en, ja)| (Ipv6Net::new(*at, *bits).ok().map(IpNet::V6), *en, *ja));
    four.chain(six).find(|(range, ..)| hit(*range)).map(|(_, en, ja)| (en, ja))
}

/// Whether no device may have the address: the network's own (in IPv6 the routers' anycast, RFC 4291 2.6.1) or, in
/// IPv4, its broadcast address.
pub(super) fn is_reserved_in(net: &IpNet, address: IpAddr) -> bool {
    address == net.network() || (address.is_ipv4() && address == net.broadcast())
}

/// The first address of a network for hosts, with the network's prefix length.
pub(super) fn first_host(net: &IpNet) -> Option<IpNet> {
    let first = match net.network() {
        IpAddr::V4(at) => IpAddr::V4(u32::from(at).checked_add(1)?.into()),
        IpAddr::V6(at) => IpAddr::V6(u128::from(at).checked_add(1)?.into()),
    };
    IpNet::new(first, net.prefix_len()).ok()
}

/// Which zone an address belongs to; INVARIANT: ordered, and disjoint once `overlaps` found nothing.
pub(super) struct Owned(Vec<Range>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    six: bool,
    first: u128,
    last: u128,
    zone: usize,
}

impl Owned {
    pub(super) fn new(zones: &[Zone]) -> Self {
        let each = zones
            .iter()
            .enumerate()
            .flat_map(|(zone, of)| of.networks.iter().map(move |net| Range::new(net, zone)));
        let mut ranges: Vec<Range> = each.collect();
        ranges.sort_unstable();
        Self(ranges)
    }

    pub(super) fn zone_of(&self, address: IpAddr) -> Option<ZoneId> {
        let (six, at) = (address.is_ipv6(), number(address));
        let before = self.0.partition_point(|range| (range.six, range.first) <= (six, at));
        let range = self.0.get(before.checked_sub(1)?)?;
        (range.six == six && at <= range.last).then_some(ZoneId(range.zone))
    }
}

impl Range {
    fn new(net: &IpNet, zone: usize) -> Self {
        Self { six: net.addr().is_ipv6(), first: number(net.network()), last: number(net.broadcast()), zone }
    }
}

/// A network, whose it is, and where it is written.
pub(super) struct Claim {
    pub(super) net: IpNet,
    pub(super) zone: String,
    pub(super) place: Place,
}

/// Reports networks that overlap, in one sweep over the sorted list.
pub(super) fn overlaps(context: &mut Context<'_>, claims: &mut [Claim]) {
    claims.sort_by_key(|claim| Range::new(&claim.net, 0));
    let mut widest: Option<&Claim> = None;
    for claim in &*claims {
        match widest {
            Some(wide)
                if wide.net.addr().is_ipv6() == claim.net.addr().is_ipv6()
                    && wide.net.contains(&claim.net.network()) =>
            {
                context.error(overlap(wide, claim));
            }
            _ => widest = Some(claim),
        }
    }
}

fn overlap(one: &Claim, other: &Claim) -> Diagnostic {
    let (first, second) = if one.place <= other.place { (one, other) } else { (other, one) };
    let (a, b) = (brief(&first.zone), brief(&second.zone));
    Diagnostic::error(
        "overlapping-networks",
        format!("`{}` of `{b}` overlaps `{}` of `{a}`", second.net, first.net),
        format!("`{b}` の `{}` が `{a}` の `{}` と重なっています", second.net, first.net),
    )
    .label(second.place, "overlaps", "重なっています")
    .label(first.place, "with this", "重なる相手")
    .help("give every zone networks of its own", "区画ごとに別のネットワークを割り当ててください")
}

fn refuse(context: &mut Context<'_>, spot: Spot, what: (&'static str, &str, &str), help: (&str, &str)) {
    let (code, en, ja) = what;
    let found = Diagnostic::error(code, en, ja).label(context.place(spot), "this", "ここ");
    context.error(found.help(help.0, help.1));
}

fn smallest(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(_) => PREFIX4_MAX,
        IpNet::V6(_) => PREFIX6_MAX,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(at) => u128::from(u32::from(at)),
        IpAddr::V6(at) => u128::from(at),
    }
}
