//! The door by which metrics are read: from one management zone, on a port that nothing else of the gateway has.

use super::context::Context;
use super::endpoints::Names;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Endpoint, Flow, MetricsAuth, MetricsDoor, Protocol, Vpn, ZoneId, ZoneKind};
use crate::raw::{self, At, File, Item};

/// The port that OpenTelemetry's exporters for Prometheus have: what reads metrics often knows it.
const PORT: u16 = 9464;
/// Lower ports belong to the gateway's own DNS, DHCP, NTP and SSH.
const PORT_MIN: u16 = 1024;

pub(super) fn metrics(
    context: &mut Context<'_>,
    file: &File,
    names: &Names<'_>,
    flows: &[Flow],
    vpn: Option<&Vpn>,
) -> Option<MetricsDoor> {
    let item = file.metrics.as_ref()?;
    let raw::Metrics { zone, port, auth } = &item.value;
    let auth = match auth.as_ref().map(|auth| auth.value) {
        None | Some(raw::MetricsAuth::MutualTls) => MetricsAuth::MutualTls,
        Some(raw::MetricsAuth::Token) => MetricsAuth::Token,
    };
    let zone = self::zone(context, item, zone, names);
    let port = match port {
        None => Some(PORT),
        Some(port) => self::port(context, item, port),
    };
    let door = MetricsDoor { zone: zone?, port: port?, auth };
    not_the_vpns(context, item, door, vpn);
    not_from_elsewhere(context, item, door, names, flows);
    Some(door)
}

fn zone(
    context: &mut Context<'_>,
    item: &Item<raw::Metrics>,
    zone: &At<String>,
    names: &Names<'_>,
) -> Option<ZoneId> {
    let Some(index) = names.zones.iter().position(|known| known.name == zone.value) else {
        let known = names.zones.iter().map(|zone| zone.name.as_str());
        context.unknown("unknown-zone", ("zone", "区画"), &zone.value, item.spot(zone), known);
        return None;
    };
    let of = names.zones.get(index)?;
    if of.kind == ZoneKind::Management {
        return Some(ZoneId(index));
    }
    let name = brief(&zone.value);
    let found = Diagnostic::error(
        "metrics-zone",
        format!("metrics cannot be read from `{name}`: it is not a management zone"),
        format!("`{name}` は管理区画ではないため、計測値を読み出せません"),
    )
    .label(context.place(item.spot(zone)), "not a management zone", "管理区画ではありません")
    .label(of.place, "the zone", "この区画");
    context.error(found.help(
        "write a zone of the kind `management`: metrics tell what the clinic's network does",
        "計測値から医院の通信の様子が分かるため、種類が `management` の区画を書いてください",
    ));
    None
}

fn port(context: &mut Context<'_>, item: &Item<raw::Metrics>, port: &At<i64>) -> Option<u16> {
    let number = u16::try_from(port.value).ok().filter(|number| *number >= PORT_MIN);
    if number.is_none() {
        let found = Diagnostic::error(
            "bad-port",
            format!("{} is not a port that metrics can be read on", port.value),
            format!("{} は計測値を読み出すポートにできません", port.value),
        );
        context.error(found.label(context.place(item.spot(port)), "not usable", "使えません").help(
            format!("write {PORT_MIN} to 65535, or leave it out for {PORT}"),
            format!("{PORT_MIN}から65535までを書くか、省略してください (省略時は{PORT})"),
        ));
    }
    number
}

/// The VPN's number is kept free in every protocol, so that one number always means one door.
fn not_the_vpns(context: &mut Context<'_>, item: &Item<raw::Metrics>, door: MetricsDoor, vpn: Option<&Vpn>) {
    if vpn.is_none_or(|vpn| vpn.listen_port != door.port) {
        return;
    }
    let port = door.port;
    let other = if port == PORT { PORT + 1 } else { PORT };
    let found = Diagnostic::error(
        "port-taken",
        format!("the VPN already listens on port {port}"),
        format!("ポート{port}はVPNの待ち受けに使われています"),
    );
    context.error(found.label(here(context, item), "taken", "使用済み").help(
        format!("write another one, such as `port = {other}`"),
        format!("`port = {other}` のように、別のポートを書いてください"),
    ));
}

/// A flow that lets another zone reach the port would make the choice of a zone meaningless.
fn not_from_elsewhere(
    context: &mut Context<'_>,
    item: &Item<raw::Metrics>,
    door: MetricsDoor,
    names: &Names<'_>,
    flows: &[Flow],
) {
    let at_port = |protocol: &Protocol| matches!(protocol, Protocol::Tcp(first, last) if (*first..=*last).contains(&door.port));
    let elsewhere = |end: &Endpoint| names.zone_of(end) != Some(door.zone);
    let opens = |flow: &&Flow| {
        flow.to.contains(&Endpoint::Gateway)
            && flow.services.iter().any(at_port)
            && flow.from.iter().any(elsewhere)
    };
    for flow in flows.iter().filter(opens) {
        let (name, port) = (brief(&flow.name), door.port);
        let found = Diagnostic::error(
            "metrics-from-elsewhere",
            format!("the flow `{name}` lets another zone reach the metrics on `tcp/{port}`"),
            format!("通信許可 `{name}` により、別の区画からも計測値 (`tcp/{port}`) に届きます"),
        )
        .label(here(context, item), "this port", "このポート");
        let found = match flow.place {
            Some(place) => found.label(place, "opened here", "ここで許可されています"),
            None => found,
        };
        context.error(found.help(
            format!("take `tcp/{port}` out of the flow, or choose another `port`"),
            format!("通信許可から `tcp/{port}` を外すか、別の `port` にしてください"),
        ));
    }
}

/// Where the port is written, else the section.
fn here(context: &Context<'_>, item: &Item<raw::Metrics>) -> crate::model::Place {
    context.place(item.value.port.as_ref().map_or_else(|| item.here(), |port| item.spot(port)))
}
