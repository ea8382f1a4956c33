//! The VPN: parsed and resolved; its door comes with the edge role.

use ipnet::IpNet;

use super::ByName;
use super::context::Context;
use super::endpoints::{self, Names};
use super::names::{self, Seen};
use super::networks;
use super::people::second_factor;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Person, Protocol, Vpn, VpnPeer, ZoneKind};
use crate::raw::{self, At, File, Item, LIMITS, Spot, VpnPeer as RawPeer};
use crate::time::parse_duration_s;

/// Longest session.
const SESSION_S_MAX: u64 = 7 * 24 * 3_600;

pub(super) fn vpn(
    context: &mut Context<'_>,
    file: &File,
    names: &Names<'_>,
    persons: &ByName<Person>,
) -> Option<Vpn> {
    let item = file.vpn.as_ref()?;
    let raw::Vpn { listen, address, peer } = &item.value;
    let listen_port = port(context, item, listen);
    let each = address.0.iter();
    let address = each.filter_map(|word| tunnel_address(context, item, word, names)).collect();
    if peer.len() > LIMITS.peers {
        let found = Diagnostic::error("too-many", "there are too many VPN peers", "VPN利用者が多すぎます");
        context.error(found.label(context.place(item.here()), "this section", "この節"));
        return None;
    }
    let mut seen = Seen::default();
    let mut peers = Vec::new();
    for raw_peer in peer {
        peers.extend(self::peer(context, item, raw_peer, names, persons, &mut seen));
    }
    Some(Vpn { listen_port, address, peers })
}

fn port(context: &mut Context<'_>, item: &Item<raw::Vpn>, listen: &At<String>) -> u16 {
    let parsed = super::parse_service(&listen.value, &ByName::new());
    if let Ok([Protocol::Udp(first, last)]) = parsed.as_deref()
        && first == last
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
            "write one UDP port, such as `udp/51820`",
            "`udp/51820` のように、UDPのポートを1つ書いてください",
        ),
    );
    0
}

/// The gateway's address in the tunnel: in no zone but those of kind `vpn`.
fn tunnel_address(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    word: &At<String>,
    names: &Names<'_>,
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
    let others = names.zones.iter().filter(|zone| zone.kind != ZoneKind::Vpn);
    let touches = |other: &IpNet| other.contains(&net.trunc()) || net.contains(other);
    let external = |zone: &crate::model::Zone| {
        zone.is_external() && zone.gateway.iter().any(|own| touches(&own.trunc()))
    };
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

fn peer(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    raw_peer: &RawPeer,
    names: &Names<'_>,
    persons: &ByName<Person>,
    seen: &mut Seen,
) -> Option<VpnPeer> {
    let raw::VpnPeer { name, person, public_key, reach, second_factor: factor, session } = raw_peer;
    let spot = item.spot(name);
    let place = context.place(spot);
    names::check(context, &name.value, spot);
    let new = seen.first(context, &name.value, place);
    if !is_public_key(&public_key.value) {
        let found = Diagnostic::error(
            "bad-key",
            "this is not a WireGuard public key",
            "WireGuardの公開鍵ではありません",
        );
        context.error(
            found.label(context.place(item.spot(public_key)), "not a key", "鍵ではありません").help(
                "paste the 44 characters that `wg pubkey` prints on the peer's device",
                "利用者の端末で `wg pubkey` が表示する44文字を貼り付けてください",
            ),
        );
    }
    let person = self::person(context, &person.value, item.spot(person), persons);
    let session_s = session.as_ref().and_then(|session| duration_s(context, item, session, SESSION_S_MAX));
    let reach = endpoints::targets(context, item, reach, names);
    let second_factor = factor.as_ref().map(|factor| second_factor(factor.value));
    let made = |person| VpnPeer {
        name: name.value.clone(),
        person,
        public_key: public_key.value.clone(),
        reach,
        second_factor,
        session_s,
        place,
    };
    person.filter(|_| new).map(made)
}

/// Finds a person by key, else by the name shown if only one person has it.
fn person(context: &mut Context<'_>, text: &str, spot: Spot, persons: &ByName<Person>) -> Option<String> {
    if persons.contains_key(text) {
        return Some(text.to_owned());
    }
    let mut named = persons.values().filter(|person| person.name == text);
    match (named.next(), named.next()) {
        (Some(one), None) => Some(one.id.clone()),
        (Some(first), Some(second)) => {
            let shown = brief(text);
            let found = Diagnostic::error(
                "ambiguous-person",
                format!("two persons are named `{shown}`"),
                format!("`{shown}` という名前の人が2人います"),
            );
            let found = found.label(context.place(spot), "which one?", "どちらの人か分かりません");
            let found = found.label(first.place, "one", "1人目").label(second.place, "the other", "2人目");
            context.error(found.help(
                format!("write the person's key: `{}` or `{}`", first.id, second.id),
                format!("キー (`{}` または `{}`) で書いてください", first.id, second.id),
            ));
            None
        }
        (None, _) => {
            let known = persons.values().flat_map(|person| [person.id.as_str(), person.name.as_str()]);
            context.unknown("unknown-person", ("person", "人"), text, spot, known);
            None
        }
    }
}

pub(super) fn duration_s<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    text: &At<String>,
    max_s: u64,
) -> Option<u64> {
    let seconds = parse_duration_s(&text.value).ok().filter(|seconds| (60..=max_s).contains(seconds));
    if seconds.is_none() {
        let hours = max_s / 3_600;
        let found = Diagnostic::error(
            "bad-duration",
            "this is not a length of time that can be used here",
            "ここで使える長さの時間ではありません",
        );
        context.error(found.label(context.place(item.spot(text)), "not usable", "使えません").help(
            format!("write 1 minute to {hours} hours, such as `30m`, `2h` or `1h 30m`"),
            format!("1分から{hours}時間までを `30m`、`2h`、`1h 30m` のように書いてください"),
        ));
    }
    seconds
}

/// 32 bytes in base64 (RFC 4648): 43 characters and one `=`, the last of which carries two zero bits.
fn is_public_key(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let Some(body) = text.strip_suffix('=').filter(|body| body.len() == 43) else { return false };
    body.bytes().all(letter) && body.ends_with(|last| "AEIMQUYcgkosw048".contains(last))
}
