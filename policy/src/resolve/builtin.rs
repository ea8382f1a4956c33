//! Flows that no file writes: the gateway's own DNS, NTP, ping and metrics. Their names begin with `@`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::context::Context;
use super::endpoints::Names;
use crate::diagnostic::Diagnostic;
use crate::model::{Endpoint, Flow, MetricsDoor, Protocol, Timing, Zone, ZoneId, ZoneKind};

const DNS: [Protocol; 2] = [Protocol::Tcp(53, 53), Protocol::Udp(53, 53)];
const NTP: [Protocol; 1] = [Protocol::Udp(123, 123)];

/// The built-in flows that this policy needs; one without ends is left out.
pub(super) fn flows(zones: &[Zone], metrics: Option<MetricsDoor>) -> Vec<Flow> {
    let gateway = || vec![Endpoint::Gateway];
    let all = [
        flow(
            "@dns",
            zones_with(zones, |zone| zone.dns),
            gateway(),
            &DNS,
            "DNS for the zones (区画への名前解決)",
        ),
        flow(
            "@ntp",
            zones_with(zones, |zone| zone.ntp),
            gateway(),
            &NTP,
            "time for the zones (区画への時刻配信)",
        ),
        flow(
            "@dns-upstream",
            gateway(),
            upstream(zones, |wan| &wan.resolvers),
            &DNS,
            "the gateway's own DNS (上位への名前解決)",
        ),
        flow(
            "@ntp-upstream",
            gateway(),
            upstream(zones, |wan| &wan.time_servers),
            &NTP,
            "the gateway's own time (上位からの時刻取得)",
        ),
        flow(
            "@ping",
            zones_with(zones, is_management),
            gateway(),
            &[Protocol::Echo],
            "ping from management (管理区画からの疎通確認)",
        ),
    ];
    let needed = all.into_iter().filter(|flow| !flow.from.is_empty() && !flow.to.is_empty());
    needed.chain(metrics.map(read_metrics)).collect()
}

fn read_metrics(MetricsDoor { zone, port, auth: _ }: MetricsDoor) -> Flow {
    flow(
        "@metrics",
        vec![Endpoint::Zone(zone)],
        vec![Endpoint::Gateway],
        &[Protocol::Tcp(port, port)],
        "metrics for management (管理区画への計測値の提供)",
    )
}

/// A box that nobody may manage is most likely a mistake.
pub(super) fn warn_without_management(context: &mut Context<'_>, names: &Names<'_>, flows: &[Flow]) {
    let Some(zone) = names.zones.iter().find(|zone| is_management(zone)) else { return };
    let ssh = |protocol: &Protocol| matches!(protocol, Protocol::Tcp(first, last) if (*first..=*last).contains(&22));
    let managing =
        |end: &Endpoint| names.zone_of(end).and_then(|id| names.zones.get(id.0)).is_some_and(is_management);
    let reaches = |flow: &Flow| {
        flow.to.contains(&Endpoint::Gateway)
            && flow.services.iter().any(ssh)
            && flow.from.iter().any(managing)
    };
    if flows.iter().any(reaches) {
        return;
    }
    let found = Diagnostic::warning(
        "no-management-flow",
        "no flow lets the management zone reach the gateway on `tcp/22`",
        "管理区画からゲートウェイの `tcp/22` に届く通信許可がありません",
    );
    context.warn(found.label(zone.place, "management zone", "管理区画").help(
        "add a flow from this zone to `gateway` with the service `ssh`, or manage the box at its console",
        "この区画から `gateway` への `ssh` の通信許可を足すか、本体の画面で管理してください",
    ));
}

fn is_management(zone: &Zone) -> bool {
    zone.kind == ZoneKind::Management
}

fn zones_with(zones: &[Zone], wanted: impl Fn(&Zone) -> bool) -> Vec<Endpoint> {
    let each = zones.iter().enumerate().filter(|(_, zone)| zone.interface.is_some() && wanted(zone));
    each.map(|(index, _)| Endpoint::Zone(ZoneId(index))).collect()
}

fn upstream(zones: &[Zone], asked: impl Fn(&crate::model::Wan) -> &Vec<IpAddr>) -> Vec<Endpoint> {
    let each = zones.iter().enumerate().filter_map(|(index, zone)| {
        let nets: Vec<IpNet> = asked(zone.wan.as_ref()?).iter().copied().map(IpNet::from).collect();
        (!nets.is_empty()).then_some(Endpoint::Networks(ZoneId(index), nets))
    });
    each.collect()
}

pub(super) fn flow(
    name: &str,
    from: Vec<Endpoint>,
    to: Vec<Endpoint>,
    services: &[Protocol],
    purpose: &str,
) -> Flow {
    Flow {
        name: name.to_owned(),
        from,
        to,
        services: services.to_vec(),
        purpose: purpose.to_owned(),
        owner: "Sekisho".to_owned(),
        timing: Timing::default(),
        critical: false,
        any_reason: None,
        place: None,
    }
}
