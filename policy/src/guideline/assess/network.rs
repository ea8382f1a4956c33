//! Zones, exposure and watching.

use jiff::SignedDuration;

use super::Case;
use super::kernel::{self, Weight};
use crate::guideline::measures::{LOSS_SHOWN_M, SCRAPE_MAX_M};
use crate::guideline::observation::{
    Door, Feed, Feeds, Flows, Listener, Listeners, MetricsDoor, PathFilter, PathMode, ReversePath, Roles,
    Zones,
};
use crate::guideline::suspect::Class;
use crate::model::ZoneKind;

pub(super) fn net_separation(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    kernel::exceptions(case, &["guest-reaches-clinic", "inbound-from-external"]);
    let Some(zones) = case.fresh::<Zones>() else { return };
    let inner = |kind: ZoneKind| !matches!(kind, ZoneKind::External | ZoneKind::ClosedNetwork);
    let count = zones.zones.iter().filter(|zone| inner(zone.kind)).count();
    if count < 2 {
        case.warn(
            format!("院内の区画が {count} つしかなく、分離できていません"),
            format!("there is only {count} zone inside: nothing is separated"),
        );
    }
    any_flows(case);
    case.note(format!("院内は {count} 区画です"), format!("there are {count} zones inside"));
}

pub(super) fn least_communication(case: &mut Case<'_>) {
    if kernel::holds(case) {
        any_flows(case);
    }
}

fn any_flows(case: &mut Case<'_>) {
    let Some(Flows { count, any, .. }) = case.fresh::<Flows>() else { return };
    if !any.is_empty() {
        let list = any.list();
        case.warn(
            format!("サービスを絞っていない通信許可が {} 件あります: {list}", any.count),
            format!("{} flows do not name their services: {list}", any.count),
        );
    }
    case.note(
        format!("通信許可は {count} 件で、それ以外は通しません"),
        format!("{count} flows are written, and nothing else passes"),
    );
}

pub(super) fn inbound_exposure(case: &mut Case<'_>) {
    let judged = kernel::holds(case);
    if judged {
        kernel::exceptions(case, &["inbound-from-external"]);
    }
    let Some(Listeners { sockets }) = case.fresh::<Listeners>() else { return };
    let shown = |socket: &&Listener| {
        let Listener { transport, port, .. } = socket;
        match transport {
            crate::guideline::observation::ListenerTransport::Tcp => format!("tcp/{port}"),
            crate::guideline::observation::ListenerTransport::Udp => format!("udp/{port}"),
        }
    };
    let facing: Vec<&Listener> = sockets.iter().filter(|socket| socket.faces_outside).collect();
    let stray: Vec<String> = facing.iter().filter(|socket| !socket.named).map(shown).collect();
    let open: Vec<String> =
        sockets.iter().filter(|socket| socket.allowed_from_outside).map(|one| shown(&one)).collect();
    if !stray.is_empty() {
        let list = stray.join(", ");
        case.warn(
            format!("方針にないポートで待ち受けるプログラムがあります(規則が遮断中): {list}"),
            format!("programs listen on ports that no flow names (the rules deny them): {list}"),
        );
    }
    if !open.is_empty() {
        let list = open.join(", ");
        case.warn(
            format!("外部から届くポートがあります: {list}"),
            format!("ports can be reached from outside: {list}"),
        );
    }
    case.note(
        format!("外部に面した待ち受けは {} 個、外部から届くものは {} 個です", facing.len(), open.len()),
        format!("{} sockets face the outside, {} can be reached from it", facing.len(), open.len()),
    );
}

pub(super) fn external_connection_inventory(case: &mut Case<'_>) {
    if kernel::in_force(case)
        && let Some(zones) = case.fresh::<Zones>()
    {
        let lines = |kind| zones.zones.iter().filter(|zone| zone.kind == kind).count();
        let (open, closed) = (lines(ZoneKind::External), lines(ZoneKind::ClosedNetwork));
        case.note(
            format!("登録された接続点は、外部回線 {open}、閉域網 {closed} です"),
            format!("registered connections: {open} lines outside, {closed} closed networks"),
        );
    }
    kernel::sightings(case, &[Class::Rogue, Class::Tunnel, Class::WeakTunnel, Class::SslVpn], |sighting| {
        let is_rogue = sighting.suspect.class() == Class::Rogue;
        if is_rogue || (sighting.crosses_border && !sighting.passed) {
            Weight::Fails
        } else {
            Weight::Ignored
        }
    });
}

pub(super) fn source_restriction(case: &mut Case<'_>) {
    if kernel::holds(case)
        && let Some(flows) = case.fresh::<Flows>()
    {
        let Flows { inbound, inbound_from_anywhere: anywhere, .. } = flows;
        if !anywhere.is_empty() {
            let list = anywhere.list();
            case.fail(
                format!("接続元を限らずに外部から受け入れる通信許可が {} 件あります: {list}", anywhere.count),
                format!("{} flows let anybody outside connect: {list}", anywhere.count),
            );
        }
        case.note(
            format!("外部から始まる通信許可は {} 件です", inbound.count),
            format!("{} flows begin outside", inbound.count),
        );
    }
    match case.fresh::<MetricsDoor>() {
        Some(MetricsDoor::Open(Door { stranger_refused: false, .. })) => case.fail(
            "統計の受け口が、証明のない相手を断りませんでした",
            "the metrics listener did not refuse a stranger",
        ),
        Some(MetricsDoor::Open(Door { client_certificate: false, .. })) => case.warn(
            "統計の受け口は合言葉(トークン)だけで相手を確かめています",
            "the metrics listener knows its readers by a token only",
        ),
        Some(MetricsDoor::Open(_)) => {
            case.note("統計の受け口は、証明のない相手を断りました", "the metrics listener refused a stranger")
        }
        Some(MetricsDoor::Silent) => case.unknown(
            "統計の受け口が応えず、相手を断るか確かめられません",
            "the metrics listener does not answer: whether it refuses a stranger is not known",
        ),
        Some(MetricsDoor::NotDeclared) | None => {}
    }
}

pub(super) fn anti_spoofing(case: &mut Case<'_>) {
    kernel::holds(case);
    kernel::settings(case, |settings| &settings.paths);
    let Some(ReversePath { interfaces }) = case.fresh::<ReversePath>() else { return };
    if interfaces.is_empty() {
        case.unknown("インターフェースがひとつも測定できていません", "no interface was measured");
        return;
    }
    for PathFilter { zone, mode } in interfaces {
        match mode {
            PathMode::Strict | PathMode::Absent => {}
            PathMode::Loose => case.warn(
                format!("区画 {zone} のなりすまし防止が緩い設定です"),
                format!("the reverse-path filter of zone `{zone}` is loose"),
            ),
            PathMode::Off => case.fail(
                format!("区画 {zone} のなりすまし防止が切れています"),
                format!("the reverse-path filter of zone `{zone}` is off"),
            ),
        }
    }
    let count = interfaces.len();
    case.note(
        format!("{count} 個のインターフェースを確かめました"),
        format!("{count} interfaces were looked at"),
    );
}

pub(super) fn no_site_transit(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    let Some(zones) = case.fresh::<Zones>() else { return };
    let sites = |kind: ZoneKind| matches!(kind, ZoneKind::ClosedNetwork | ZoneKind::Vpn);
    let count = zones.zones.iter().filter(|zone| sites(zone.kind)).count();
    if count == 0 {
        case.not_applicable("閉域網・VPNの区画がありません", "there is no closed network and no VPN zone");
        return;
    }
    kernel::exceptions(case, &["closed-network-transit", "vpn-transit"]);
    case.note(
        format!("閉域網・VPNの区画は {count} つで、通り抜けを許す規則はありません"),
        format!("there are {count} closed networks and VPN zones, and no rule lets one pass into another"),
    );
}

pub(super) fn network_monitoring(case: &mut Case<'_>) {
    if let Some(Feeds { denials, connections }) = case.fresh::<Feeds>() {
        feed(case, denials, "遮断した通信", "denied packets");
        feed(case, connections, "通信の開始と終了", "connections");
    }
    let Some(Roles { answering, silent, scraped_at }) = case.fresh::<Roles>() else { return };
    if !silent.is_empty() {
        let list = silent.list();
        case.fail(
            format!("関所の機能が応答していません: {list}"),
            format!("roles of the gateway do not answer: {list}"),
        );
    }
    case.note(
        format!("関所の機能が {} 個、応答しています", answering.count),
        format!("{} roles of the gateway answer", answering.count),
    );
    // A clinic that opened no listener has nobody outside who watches, and that is its choice.
    if matches!(case.fresh::<MetricsDoor>(), None | Some(MetricsDoor::NotDeclared)) {
        return;
    }
    let is_read = scraped_at.is_some_and(|at| case.age(at) <= SignedDuration::from_mins(SCRAPE_MAX_M));
    if !is_read {
        case.warn(
            format!("統計が {SCRAPE_MAX_M} 分以上、監視サーバから読まれていません"),
            format!("nobody has read the metrics for {SCRAPE_MAX_M} minutes"),
        );
    }
}

fn feed(case: &mut Case<'_>, feed: &Feed, ja: &str, en: &str) {
    let Feed { alive, lost, lost_at } = feed;
    if !alive {
        case.fail(format!("{ja}の観測が止まっています"), format!("{en} are no longer watched"));
    }
    if lost_at.is_some_and(|at| case.age(at) <= SignedDuration::from_mins(LOSS_SHOWN_M)) {
        case.warn(
            format!("{ja}の観測に取りこぼしがあります(起動から {lost} 件)"),
            format!("some {en} were missed ({lost} since the start)"),
        );
    }
    case.note(
        format!("{ja}の取りこぼしは起動から {lost} 件です"),
        format!("{lost} events of {en} were missed since the start"),
    );
}

pub(super) fn zero_trust(case: &mut Case<'_>) {
    if let Some(Feeds { connections, .. }) = case.fresh::<Feeds>()
        && !connections.alive
    {
        case.fail(
            "院内システムへの通信を観測できていません",
            "communication to inner systems is not watched",
        );
    }
    if !kernel::in_force(case) {
        return;
    }
    let Some(Flows { count, between_devices, .. }) = case.fresh::<Flows>() else { return };
    let wide = count.saturating_sub(*between_devices);
    case.note(
        format!("両端の機器まで指定した通信許可は {count} 件中 {between_devices} 件です(参考)"),
        format!("{between_devices} of {count} flows name the devices at both ends (informative)"),
    );
    if wide > 0 {
        case.note(
            format!("区画単位の通信許可が {wide} 件あります"),
            format!("{wide} flows trust a whole zone"),
        );
    }
}
