//! The doors as ordinary flows: what each VPN peer reaches, and where strangers may knock. All names begin with `@`.

use super::builtin::flow;
use super::context::Context;
use super::{ByName, PAIRS_MAX};
use crate::diagnostic::Diagnostic;
use crate::model::{
    DeviceId, Endpoint, Flow, MAINTENANCE_DOOR, MaintenanceDoor, MetricsDoor, Person, Protocol, Timing,
    VPN_DOOR, VPN_FLOW_PREFIX, Vendor, Vpn, VpnPeer, Zone, ZoneId,
};
use crate::raw::{self, At, File, Item};

/// The port of the maintenance door, and the least that the edge role can listen on: it has no capability.
const PORT: u16 = 8443;
const PORT_MIN: u16 = 1024;

/// Where vendors knock: there only if one of them may ask for maintenance.
pub(super) fn maintenance(
    context: &mut Context<'_>,
    file: &File,
    vendors: &ByName<Vendor>,
    vpn: Option<&Vpn>,
    metrics: Option<MetricsDoor>,
) -> Option<MaintenanceDoor> {
    let written = file.maintenance.as_ref().and_then(|item| Some((item, item.value.listen.as_ref()?)));
    let port = match written {
        None => PORT,
        Some((item, listen)) => self::port(context, item, listen)?,
    };
    if vendors.values().all(|vendor| vendor.maintenance.is_none()) {
        if let Some(item) = &file.maintenance {
            unused(context, item);
        }
        return None;
    }
    // One number always means one door, in every protocol.
    let others = [
        (vpn.map(|vpn| vpn.listen_port), "the VPN", "VPN"),
        (metrics.map(|door| door.port), "metrics", "計測値"),
    ];
    for (_, en, ja) in others.into_iter().filter(|(taken, ..)| *taken == Some(port)) {
        let found = Diagnostic::error(
            "port-taken",
            format!("{en} already has port {port}, which vendors would connect to"),
            format!("ポート{port}は{ja}に使われているため、保守事業者の接続口にできません"),
        );
        let found = match written {
            Some((item, listen)) => found.label(context.place(item.spot(listen)), "taken", "使用済み"),
            None => found,
        };
        context.error(found.help(
            "write another one in the section `[maintenance]`, such as `listen = 8444`",
            "`[maintenance]` の節に `listen = 8444` のように別のポートを書いてください",
        ));
    }
    Some(MaintenanceDoor { port })
}

fn port(context: &mut Context<'_>, item: &Item<raw::MaintenanceDoor>, listen: &At<i64>) -> Option<u16> {
    let number = u16::try_from(listen.value).ok().filter(|number| *number >= PORT_MIN);
    if number.is_none() {
        let found = Diagnostic::error(
            "bad-port",
            format!("{} is not a port that vendors can connect to", listen.value),
            format!("{} は保守事業者の接続口にできません", listen.value),
        );
        context.error(found.label(context.place(item.spot(listen)), "not usable", "使えません").help(
            format!("write {PORT_MIN} to 65535, or leave it out for {PORT}"),
            format!("{PORT_MIN}から65535までを書くか、省略してください (省略時は{PORT})"),
        ));
    }
    number
}

fn unused(context: &mut Context<'_>, item: &Item<raw::MaintenanceDoor>) {
    let found = Diagnostic::warning(
        "maintenance-unused",
        "no vendor has `maintenance`: the door stays closed",
        "`maintenance` を持つ保守事業者がないため、接続口は開きません",
    );
    context.warn(found.label(context.place(item.here()), "this section", "この節").help(
        "remove the section, or write what a vendor may maintain",
        "この節を消すか、保守事業者が保守できる対象を書いてください",
    ));
}

/// The flows of both doors.
pub(super) fn flows(
    context: &mut Context<'_>,
    zones: &[Zone],
    persons: &ByName<Person>,
    vpn: Option<&Vpn>,
    maintenance: Option<MaintenanceDoor>,
) -> Vec<Flow> {
    let mut flows: Vec<Flow> = vpn.map(|vpn| reaches(vpn, persons)).unwrap_or_default();
    let pairs = flows.iter().map(|flow| flow.from.len().saturating_mul(flow.to.len())).sum::<usize>();
    if pairs > PAIRS_MAX {
        let found = Diagnostic::error(
            "too-many-pairs",
            format!("the VPN's peers reach {pairs} devices in all; {PAIRS_MAX} are allowed"),
            format!("VPN利用者が届く機器が、のべ{pairs}台あります (上限は{PAIRS_MAX}台です)"),
        );
        context.error(found.help("let each peer reach less", "利用者ごとの届く先を減らしてください"));
    }
    let outside: Vec<Endpoint> = zones
        .iter()
        .enumerate()
        .filter(|(_, zone)| zone.is_external() && zone.interface.is_some())
        .map(|(index, _)| Endpoint::Zone(ZoneId(index)))
        .collect();
    if outside.is_empty() {
        return flows;
    }
    let door = |name, services: &[Protocol], purpose| {
        flow(name, outside.clone(), vec![Endpoint::Gateway], services, purpose)
    };
    if let Some(Vpn { listen_port, .. }) = vpn {
        let port = [Protocol::Udp(*listen_port, *listen_port)];
        flows.push(door(VPN_DOOR, &port, "the door of the VPN (VPNの接続口)"));
    }
    if let Some(MaintenanceDoor { port }) = maintenance {
        let ports = [Protocol::Tcp(port, port), Protocol::Udp(port, port)];
        flows.push(door(MAINTENANCE_DOOR, &ports, "the door of remote maintenance (遠隔保守の接続口)"));
    }
    flows
}

fn reaches(vpn: &Vpn, persons: &ByName<Person>) -> Vec<Flow> {
    vpn.peers.iter().flat_map(|peer| reach(vpn, peer, persons)).collect()
}

/// A peer's flows: one for each kind of service that it reaches, all with the one name.
fn reach(vpn: &Vpn, peer: &VpnPeer, persons: &ByName<Person>) -> Vec<Flow> {
    let mut by_services: Vec<(&[Protocol], Vec<DeviceId>)> = Vec::new();
    for target in &peer.reach {
        match by_services.iter_mut().find(|(services, _)| *services == target.services.as_slice()) {
            Some((_, devices)) if devices.contains(&target.device) => {}
            Some((_, devices)) => devices.push(target.device),
            None => by_services.push((&target.services, vec![target.device])),
        }
    }
    let from = || vec![Endpoint::Networks(vpn.zone, peer.address.iter().copied().map(Into::into).collect())];
    let owner = persons.get(&peer.person).map_or_else(|| peer.person.clone(), |person| person.name.clone());
    let one = |(services, devices): (&[Protocol], Vec<DeviceId>)| Flow {
        owner: owner.clone(),
        timing: Timing { until: peer.until, schedule: None },
        place: Some(peer.place),
        ..flow(
            &format!("{VPN_FLOW_PREFIX}{}", peer.name),
            from(),
            devices.into_iter().map(Endpoint::Device).collect(),
            services,
            "the VPN (VPNからの利用)",
        )
    };
    by_services.into_iter().map(one).collect()
}
