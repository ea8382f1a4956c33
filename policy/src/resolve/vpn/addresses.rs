//! Addresses of peers in the tunnel: written, or made of the peer's name, so that they stay when others come and go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::super::context::Context;
use super::super::networks;
use super::tunnel::Tunnel;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::Place;
use crate::raw::{self, At, Item, Words};

/// Whose an address is, and where that is written.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<IpAddr, Place>);

/// The addresses of a peer: those written and no others, else one of each of the tunnel's networks.
pub(super) fn of_peer(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    peer: &raw::VpnPeer,
    tunnel: &Tunnel,
    taken: &mut Taken,
) -> Vec<IpAddr> {
    let name = peer.name.value.as_str();
    let own = match &peer.address {
        Some(words) => written(context, item, words, tunnel),
        None => tunnel.address.iter().filter_map(|net| derived(name, net)).collect(),
    };
    let spot = item.spot(peer.address.as_ref().and_then(|words| words.0.first()).unwrap_or(&peer.name));
    let place = context.place(spot);
    for address in &own {
        match taken.0.get(address) {
            None => _ = taken.0.insert(*address, place),
            Some(first) => collision(context, *address, *first, place),
        }
    }
    own
}

fn written(context: &mut Context<'_>, item: &Item<raw::Vpn>, words: &Words, tunnel: &Tunnel) -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = Vec::new();
    for word in &words.0 {
        let Some(address) = networks::address(context, &word.value, item.spot(word)) else { continue };
        let is_second = own.iter().any(|other| other.is_ipv4() == address.is_ipv4());
        if is_second || !is_free_in(tunnel, address) {
            outside(context, item, word, is_second);
        } else {
            own.push(address);
        }
    }
    if words.0.is_empty() {
        let found =
            Diagnostic::error("bad-address", "the peer has no address", "利用者のアドレスがありません");
        context.error(found.label(context.place(item.here()), "in this section", "この節の中").help(
            "write one, or leave `address` out to have one made of the peer's name",
            "アドレスを書くか、`address` を省略してください (省略すると名前から決まります)",
        ));
    }
    own
}

/// A host's address of the tunnel that is not the gateway's.
fn is_free_in(tunnel: &Tunnel, address: IpAddr) -> bool {
    let free = |net: &IpNet| {
        net.contains(&address) && net.addr() != address && !networks::is_reserved_in(&net.trunc(), address)
    };
    tunnel.address.iter().any(free)
}

fn outside(context: &mut Context<'_>, item: &Item<raw::Vpn>, word: &At<String>, is_second: bool) {
    let shown = brief(&word.value);
    let found = if is_second {
        Diagnostic::error(
            "bad-peer-address",
            "the peer has two addresses of one family",
            "利用者に、同じ種類 (IPv4またはIPv6) のアドレスが2つあります",
        )
    } else {
        Diagnostic::error(
            "bad-peer-address",
            format!("`{shown}` is not an address for a peer of this tunnel"),
            format!("`{shown}` はこのトンネルの利用者のアドレスにできません"),
        )
    };
    context.error(found.label(context.place(item.spot(word)), "not usable", "使えません").help(
        "write a host's address of each of the networks in `[vpn] address` at most, and not the gateway's own",
        "`[vpn]` の `address` のネットワークごとに、ゲートウェイ以外の端末のアドレスを1つまで書いてください",
    ));
}

/// An address that follows from the name alone; none where the network has no room.
fn derived(name: &str, own: &IpNet) -> Option<IpAddr> {
    let digest = Sha256::digest(name.as_bytes());
    let number = digest.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let bits = own.max_prefix_len() - own.prefix_len();
    // Without the network's own address and, in IPv4, its broadcast.
    let reserved = if own.addr().is_ipv4() { 2 } else { 1 };
    let hosts = 1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX).saturating_sub(reserved);
    let at = |index: u128| match own.network() {
        IpAddr::V4(first) => u32::try_from(index + 1)
            .ok()
            .and_then(|index| u32::from(first).checked_add(index))
            .map(|address| IpAddr::V4(address.into())),
        IpAddr::V6(first) => {
            u128::from(first).checked_add(index.saturating_add(1)).map(|address| IpAddr::V6(address.into()))
        }
    };
    let index = number.checked_rem(hosts)?;
    let address = at(index)?;
    if address != own.addr() {
        return Some(address);
    }
    at((index + 1) % hosts).filter(|address| *address != own.addr())
}

fn collision(context: &mut Context<'_>, address: IpAddr, first: Place, second: Place) {
    let found = Diagnostic::error(
        "duplicate-address",
        format!("two VPN peers have the address `{address}`"),
        format!("2人のVPN利用者のアドレスが同じ `{address}` です"),
    );
    let found = found.label(second, "again here", "ここで再び使われています").label(
        first,
        "first here",
        "最初はここです",
    );
    context.error(found.help(
        "write `address = [..]` for one of them: an address that is not written follows from the peer's name",
        "どちらかに `address = [..]` を書いてください (省略すると名前から決まります)",
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_follows_from_the_name_and_is_a_hosts() {
        for (own, hosts) in
            [("10.90.0.1/24", 253), ("10.90.0.1/30", 1), ("fd00::1/126", 2), ("fd00::2/64", 500)]
        {
            let own: IpNet = own.parse().unwrap();
            let made: std::collections::BTreeSet<IpAddr> =
                (0..10_000).filter_map(|number| derived(&format!("peer-{number}"), &own)).collect();
            for address in &made {
                assert!(own.contains(address) && *address != own.addr(), "{address} in {own}");
                assert!(!networks::is_reserved_in(&own.trunc(), *address), "{address} in {own}");
            }
            assert!(made.len() >= hosts, "{own}: {}", made.len());
        }
        let own = "10.90.0.1/24".parse().unwrap();
        assert_eq!(derived("dr-sakura-notebook", &own), derived("dr-sakura-notebook", &own));
        assert_eq!(derived("alone", &"10.90.0.1/32".parse().unwrap()), None);
    }
}
