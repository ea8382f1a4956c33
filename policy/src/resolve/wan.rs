//! The internet line: how it is addressed and whom the gateway asks upstream.

use std::net::IpAddr;

use ipnet::IpNet;

use super::context::Context;
use super::networks::{self, Owned};
use super::zones::not_here;
use crate::diagnostic::Diagnostic;
use crate::model::{Wan, Zone, ZoneKind};
use crate::raw::{self, Family, File, Item, Spot, Wan4, Wan6, Words};

/// The static addresses written for an external zone.
pub(super) fn addresses(context: &mut Context<'_>, item: &Item<raw::Zone>) -> Vec<IpNet> {
    let words = item.value.gateway.as_ref().map_or(&[][..], |words| &words.0);
    let mut addresses = Vec::new();
    for word in words {
        let spot = item.spot(word);
        let usable = |net: &IpNet| networks::special(&net.trunc()).is_none() && !edge(net);
        match word.value.parse::<IpNet>().ok().filter(usable) {
            Some(net) => addresses.push(net),
            None => refuse(
                context,
                spot,
                ("bad-wan-address", "this is not an address of the line", "回線のアドレスとして使えません"),
                (
                    "write the address with its prefix length, such as `203.0.113.2/24`",
                    "`203.0.113.2/24` のように、長さを付けて書いてください",
                ),
            ),
        }
    }
    addresses
}

/// A line's own address may be a single one (/32, /128, or the pair of a /31), else it is not the network's edge.
fn edge(net: &IpNet) -> bool {
    net.max_prefix_len() - net.prefix_len() > 1 && networks::is_reserved_in(&net.trunc(), net.addr())
}

pub(super) fn wan(
    context: &mut Context<'_>,
    item: &Item<raw::Zone>,
    kind: ZoneKind,
    gateway: &[IpNet],
) -> Option<Wan> {
    if kind != ZoneKind::External {
        if let Some(wan) = &item.value.wan {
            not_here(context, item.spot(wan), "wan", "外部以外の区画");
        }
        return None;
    }
    let standard = raw::Wan::default();
    let written = item.value.wan.as_ref();
    let raw::Wan { ipv4, ipv6, routers, masquerade, resolvers, time_servers } =
        written.map_or(&standard, |wan| &wan.value);
    let four = gateway.iter().any(|net| net.addr().is_ipv4());
    let six = gateway.iter().any(|net| net.addr().is_ipv6());
    if let Some(mode) = ipv4 {
        matches_address(context, item.spot(mode), mode.value == Wan4::Static, four, "IPv4");
    }
    if let Some(mode) = ipv6 {
        matches_address(context, item.spot(mode), mode.value == Wan6::Static, six, "IPv6");
    }
    without_router(context, item, routers.0.is_empty() && (four || six));
    // Nothing written at all means the usual line: DHCP and router advertisements.
    let bare = !four && !six;
    let masquerade = masquerade.as_deref().unwrap_or(&[Family::Ipv4]);
    Some(Wan {
        dhcp4: ipv4.as_ref().map_or(bare, |mode| mode.value == Wan4::Dhcp),
        accept_ra: ipv6.as_ref().map_or(bare, |mode| mode.value == Wan6::Ra),
        routers: self::routers(context, item, routers, gateway),
        masquerade4: masquerade.contains(&Family::Ipv4),
        masquerade6: masquerade.contains(&Family::Ipv6),
        resolvers: plain(context, item, resolvers),
        time_servers: plain(context, item, time_servers),
    })
}

fn matches_address(context: &mut Context<'_>, spot: Spot, fixed: bool, written: bool, family: &str) {
    if fixed && !written {
        let (en, ja) = (
            format!("the line's static {family} address is missing"),
            format!("回線の固定{family}アドレスがありません"),
        );
        let help = (
            "add it to `gateway` of the zone, such as `203.0.113.2/24`",
            "区画の `gateway` に `203.0.113.2/24` のように書き足してください",
        );
        refuse(context, spot, ("wan-address-missing", &en, &ja), help);
    } else if !fixed && written {
        let (en, ja) = (
            format!("the line has a static {family} address but is not `static`"),
            format!("回線に固定{family}アドレスがありますが、`static` になっていません"),
        );
        let help = (
            "write `static`, or remove the address from `gateway`",
            "`static` と書くか、`gateway` からアドレスを消してください",
        );
        refuse(context, spot, ("wan-address-unused", &en, &ja), help);
    }
}

/// A fixed address alone leads nowhere.
fn without_router(context: &mut Context<'_>, item: &Item<raw::Zone>, missing: bool) {
    let first = item.value.gateway.as_ref().and_then(|words| words.0.first());
    if let Some(address) = first.filter(|_| missing) {
        let found = Diagnostic::warning(
            "wan-without-router",
            "the line has a static address but no router: nothing reaches the internet",
            "回線に固定アドレスがありますが、ルーターがないためインターネットに届きません",
        );
        context.warn(found.label(context.place(item.spot(address)), "static", "固定アドレス").help(
            "add the provider's address to `wan.routers`",
            "回線事業者側のアドレスを `wan.routers` に書き足してください",
        ));
    }
}

/// Default gateways: on the line's network, or an IPv6 link-local address.
fn routers(
    context: &mut Context<'_>,
    item: &Item<raw::Zone>,
    words: &Words,
    gateway: &[IpNet],
) -> Vec<IpAddr> {
    let mut routers = Vec::new();
    for word in &words.0 {
        let parsed = word.value.parse::<IpAddr>().ok();
        let near = |at: &IpAddr| match at {
            IpAddr::V6(six) if six.is_unicast_link_local() => true,
            _ => gateway.iter().any(|net| net.contains(at) && net.addr() != *at),
        };
        match parsed.filter(near) {
            Some(router) => routers.push(router),
            None => refuse(
                context,
                item.spot(word),
                (
                    "bad-router",
                    "the router is not on the line's network",
                    "ルーターが回線のネットワークの中にありません",
                ),
                (
                    "write the provider's address inside the network of `gateway`",
                    "`gateway` のネットワークの中にある、回線事業者側のアドレスを書いてください",
                ),
            ),
        }
    }
    routers
}

fn plain(context: &mut Context<'_>, item: &Item<raw::Zone>, words: &Words) -> Vec<IpAddr> {
    let each = words.0.iter();
    each.filter_map(|word| networks::address(context, &word.value, item.spot(word))).collect()
}

/// What lies outside cannot have an address inside.
pub(super) fn check_upstreams(context: &mut Context<'_>, file: &File, zones: &[Zone]) {
    let owned = Owned::new(zones);
    for named in &file.zones {
        let item = &named.item;
        let wan = item.value.wan.as_ref().map(|wan| &wan.value);
        let asked = wan.into_iter().flat_map(|wan| wan.resolvers.0.iter().chain(&wan.time_servers.0));
        let external =
            item.value.gateway.as_ref().filter(|_| matches!(item.value.kind.value, raw::Kind::External));
        let own = external.into_iter().flat_map(|words| &words.0);
        for word in asked.chain(own) {
            let address = word.value.split('/').next().unwrap_or_default().parse::<IpAddr>();
            if address.is_ok_and(|address| owned.zone_of(address).is_some()) {
                refuse(
                    context,
                    item.spot(word),
                    (
                        "upstream-inside",
                        "this address of the internet side lies in a zone of the clinic",
                        "外部側のアドレスが、院内の区画の中にあります",
                    ),
                    (
                        "write an address outside the clinic's networks",
                        "院内のネットワークの外のアドレスを書いてください",
                    ),
                );
            }
        }
    }
}

fn refuse(
    context: &mut Context<'_>,
    spot: Spot,
    (code, en, ja): (&'static str, &str, &str),
    help: (&str, &str),
) {
    let found = Diagnostic::error(code, en, ja).label(context.place(spot), "this", "ここ");
    context.error(found.help(help.0, help.1));
}
