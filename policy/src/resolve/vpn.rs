//! The VPN: the tunnel, its zone, and its peers.

mod addresses;
mod tunnel;

use std::collections::BTreeMap;

use super::ByName;
use super::context::Context;
use super::endpoints::{self, Names};
use super::names::{self, Seen};
use super::people::second_factor;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Person, Place, SecondFactor, Vpn, VpnPeer};
use crate::raw::{self, At, File, Item, LIMITS, Spot, VpnPeer as RawPeer};
use crate::time::parse_duration_s;

use addresses::Taken;
pub(super) use tunnel::{Tunnel, tunnel};

/// Longest session.
const SESSION_S_MAX: u64 = 7 * 24 * 3_600;

pub(super) fn vpn(
    context: &mut Context<'_>,
    file: &File,
    tunnel: Option<Tunnel>,
    names: &Names<'_>,
    persons: &ByName<Person>,
) -> Option<Vpn> {
    let (item, tunnel) = (file.vpn.as_ref()?, tunnel?);
    let peer = &item.value.peer;
    if peer.len() > LIMITS.peers {
        context.error(too_many(peer.len(), context.place(item.here())));
        return None;
    }
    let mut seen = Peers::default();
    let mut peers = Vec::new();
    for raw_peer in peer {
        peers.extend(self::peer(context, item, raw_peer, &tunnel, names, persons, &mut seen));
    }
    let Tunnel { zone, listen_port, address, mtu } = tunnel;
    Some(Vpn { zone, listen_port, address, mtu, peers })
}

/// The tunnel takes no more.
fn too_many(count: usize, place: Place) -> Diagnostic {
    let most = LIMITS.peers;
    let found = Diagnostic::error(
        "too-many",
        format!("there are {count} VPN peers; {most} is the most"),
        format!("VPN利用者が{count}人います ({most}人まで)"),
    );
    found.label(place, "this section", "この節").help(
        "remove peers that nobody uses any more; one gateway carries no more tunnels",
        "使われていないVPN利用者を消してください。1台でこれ以上は運べません",
    )
}

/// What no two peers may share.
#[derive(Default)]
struct Peers<'a> {
    names: Seen,
    keys: BTreeMap<&'a str, Place>,
    addresses: Taken,
}

fn peer<'a>(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    raw_peer: &'a RawPeer,
    tunnel: &Tunnel,
    names: &Names<'_>,
    persons: &ByName<Person>,
    seen: &mut Peers<'a>,
) -> Option<VpnPeer> {
    let RawPeer { name, person, public_key, address: _, reach, second_factor: factor, session } = raw_peer;
    let spot = item.spot(name);
    let place = context.place(spot);
    names::check(context, &name.value, spot);
    let new = seen.names.first(context, &name.value, place);
    key(context, item, public_key, &mut seen.keys);
    let second_factor = factor.as_ref().map(|factor| second_factor(factor.value));
    let person = self::person(context, &person.value, item.spot(person), persons);
    let person = person.and_then(|key| persons.get(&key));
    if let Some(person) = person {
        fitness(context, item, raw_peer, person, second_factor);
    }
    let session_s = session.as_ref().and_then(|session| duration_s(context, item, session, SESSION_S_MAX));
    let reach = endpoints::targets(context, item, reach, names);
    let address = addresses::of_peer(context, item, raw_peer, tunnel, &mut seen.addresses);
    let person = person.filter(|_| new)?;
    Some(VpnPeer {
        name: name.value.clone(),
        person: person.id.clone(),
        public_key: public_key.value.clone(),
        address,
        until: person.until.and_then(|day| context.end_of_day(day)),
        reach,
        second_factor,
        session_s,
        place,
    })
}

/// A key names one peer: the tunnel knows a sender by nothing else.
fn key<'a>(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    public_key: &'a At<String>,
    keys: &mut BTreeMap<&'a str, Place>,
) {
    let place = context.place(item.spot(public_key));
    if !is_public_key(&public_key.value) {
        let found = Diagnostic::error(
            "bad-key",
            "this is not a WireGuard public key",
            "WireGuardの公開鍵ではありません",
        );
        context.error(found.label(place, "not a key", "鍵ではありません").help(
            "paste the 44 characters that `wg pubkey` prints on the peer's device",
            "利用者の端末で `wg pubkey` が表示する44文字を貼り付けてください",
        ));
    } else if let Some(first) = keys.insert(&public_key.value, place) {
        let words =
            ("two VPN peers have one public key".to_owned(), "2人のVPN利用者の公開鍵が同じです".to_owned());
        context.twice("duplicate-key", words, first, place);
    }
}

/// Whether the person can open the path at all.
fn fitness(
    context: &mut Context<'_>,
    item: &Item<raw::Vpn>,
    raw_peer: &RawPeer,
    person: &Person,
    needed: Option<SecondFactor>,
) {
    let (peer, id) = (brief(&raw_peer.name.value), brief(&person.id));
    if needed.is_some() && person.second_factor != needed {
        let place = raw_peer.second_factor.as_ref().map(|factor| context.place(item.spot(factor)));
        let found = Diagnostic::error(
            "peer-without-factor",
            format!("the peer `{peer}` needs a second factor that `{id}` does not have"),
            format!("VPN利用者 `{peer}` に必要な第二要素が `{id}` にありません"),
        );
        let found = found.label(place.unwrap_or(person.place), "needed here", "ここで必要とされています");
        context.error(found.label(person.place, "the person", "この人").help(
            "enrol the person's second factor and write it as `second_factor` there",
            "本人の第二要素を登録し、その人の `second_factor` に書いてください",
        ));
    }
    if let Some(day) = person.until.filter(|day| *day < context.today()) {
        let found = Diagnostic::warning(
            "peer-ended",
            format!("the peer `{peer}` reaches nothing: the last day of `{id}` was {day}"),
            format!("`{id}` の最終日 ({day}) を過ぎているため、VPN利用者 `{peer}` はどこにも届きません"),
        );
        let place = context.place(item.spot(&raw_peer.name));
        context.warn(found.label(place, "this peer", "この利用者").help(
            "remove the peer, or confirm the person anew and move the day",
            "この利用者を消すか、本人を確認し直して日付を延ばしてください",
        ));
    }
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
