//! What a zone of a kind must never reach, whatever the policy says (the guideline's segmentation requirements).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::boxes::{Map, Placed, Side};
use super::words::example;
use crate::diagnostic::Language::{En, Ja};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Exception, FlowId, MAINTENANCE_DOOR, Policy, VPN_DOOR, VPN_FLOW_PREFIX, ZoneKind};
use crate::space::{Span, Transport};

/// The role of those who manage the gateway.
const ADMIN: &str = "admin";
/// The port of SSH, by which the gateway is managed.
const SSH: u16 = 22;

/// A rule over pairs of places. The order is that of the findings for one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Invariant {
    GuestStaysOut,
    NothingComesInFromOutside,
    NoTransitOutOfClosedNetworks,
    NoTransitThroughTheVpn,
    VpnManagesAsAdminOnly,
    ManagedFromManagementOnly,
}

impl Invariant {
    const ALL: [Self; 6] = [
        Self::GuestStaysOut,
        Self::NothingComesInFromOutside,
        Self::NoTransitOutOfClosedNetworks,
        Self::NoTransitThroughTheVpn,
        Self::VpnManagesAsAdminOnly,
        Self::ManagedFromManagementOnly,
    ];

    const fn code(self) -> &'static str {
        match self {
            Self::GuestStaysOut => "guest-reaches-clinic",
            Self::NothingComesInFromOutside => "inbound-from-external",
            Self::NoTransitOutOfClosedNetworks => "closed-network-transit",
            Self::NoTransitThroughTheVpn => "vpn-transit",
            Self::VpnManagesAsAdminOnly => "vpn-reaches-management",
            Self::ManagedFromManagementOnly => "management-from-elsewhere",
        }
    }
}

/// Codes of the invariants' findings: what an exception may name.
pub const INVARIANTS: [&str; 6] = {
    let [guest, inbound, transit, vpn, admin, management] = Invariant::ALL;
    [guest.code(), inbound.code(), transit.code(), vpn.code(), admin.code(), management.code()]
};

pub(super) fn broken(policy: &Policy, map: &Map, now: Timestamp) -> Vec<Diagnostic> {
    let mut seen: BTreeSet<(FlowId, Invariant)> = BTreeSet::new();
    let mut findings = Vec::new();
    for (placed, flow) in map.iter() {
        for (invariant, shown) in violated(policy, placed, flow) {
            if seen.insert((flow, invariant)) {
                let broken = finding(policy, flow, invariant, &shown);
                findings.push(weigh(policy, flow, invariant, now, broken));
            }
        }
    }
    let needed =
        |exception: &Exception| seen.iter().any(|(flow, invariant)| covers(exception, *flow, *invariant));
    findings.extend(policy.exceptions.iter().filter(|exception| !needed(exception)).map(needless));
    findings
}

fn covers(exception: &Exception, flow: FlowId, invariant: Invariant) -> bool {
    exception.flow == flow && exception.invariant == invariant.code()
}

/// A broken invariant that somebody answers for is a warning until the day it was accepted for.
fn weigh(
    policy: &Policy,
    flow: FlowId,
    invariant: Invariant,
    now: Timestamp,
    broken: Diagnostic,
) -> Diagnostic {
    let mut accepted = policy.exceptions.iter().filter(|exception| covers(exception, flow, invariant));
    // Of several the one that holds longest counts.
    let Some(first) = accepted.next() else { return broken };
    let exception = accepted.fold(first, |best, other| if other.until > best.until { other } else { best });
    let Exception { who, why, until, place, .. } = exception;
    let day = until.to_zoned(policy.clinic.timezone.clone()).strftime("%Y-%m-%d %H:%M");
    if *until <= now {
        let label = format!("the exception ended on {day}");
        return broken.label(*place, label, format!("例外は {day} に終わりました"));
    }
    Diagnostic { severity: Severity::Warning, ..broken }
        .label(
            *place,
            format!("accepted by {who} until {day}: {why}"),
            format!("{who} が {day} まで承認: {why}"),
        )
        .help("mend it before the exception ends", "例外が終わるまでに直してください")
}

fn needless(exception: &Exception) -> Diagnostic {
    let Exception { invariant, place, .. } = exception;
    let known = INVARIANTS.join("`, `");
    if INVARIANTS.contains(&invariant.as_str()) {
        return Diagnostic::warning(
            "unused-exception",
            format!("the flow does not break `{invariant}`, so the exception is not needed"),
            format!("通信許可は「{invariant}」に反していないため、この例外は不要です"),
        )
        .label(*place, "written here", "ここに書かれています")
        .help("remove the exception", "例外を削除してください");
    }
    Diagnostic::error(
        "unknown-invariant",
        format!("`{invariant}` is not an invariant that can have an exception"),
        format!("「{invariant}」という名前の原則はありません"),
    )
    .label(*place, "written here", "ここに書かれています")
    .help(format!("use one of `{known}`"), format!("次のいずれかを書いてください: `{known}`"))
}

/// The invariants that a box breaks, each with the part of it that does.
fn violated(policy: &Policy, placed: &Placed, flow: FlowId) -> Vec<(Invariant, Placed)> {
    let mut out = Vec::new();
    let (Side::Zone(from), to) = placed.pair else { return out };
    let source = policy.zone(from).kind;
    match to {
        Side::Zone(zone) => {
            let target = policy.zone(zone).kind;
            let sensitive = matches!(
                target,
                ZoneKind::Clinical | ZoneKind::MedicalDevice | ZoneKind::Billing | ZoneKind::Management
            );
            let leaves_closed =
                target == ZoneKind::External || (target == ZoneKind::ClosedNetwork && zone != from);
            if source == ZoneKind::Guest && sensitive {
                out.push((Invariant::GuestStaysOut, *placed));
            }
            if source == ZoneKind::External {
                out.push((Invariant::NothingComesInFromOutside, *placed));
            }
            if source == ZoneKind::ClosedNetwork && leaves_closed {
                out.push((Invariant::NoTransitOutOfClosedNetworks, *placed));
            }
            let sites = |kind| matches!(kind, ZoneKind::Vpn | ZoneKind::ClosedNetwork);
            if (source == ZoneKind::Vpn && sites(target)) || (sites(source) && target == ZoneKind::Vpn) {
                out.push((Invariant::NoTransitThroughTheVpn, *placed));
            }
            if source == ZoneKind::Vpn && target == ZoneKind::Management && !is_admins(policy, flow) {
                out.push((Invariant::VpnManagesAsAdminOnly, *placed));
            }
        }
        Side::Gateway(_) => {
            if source == ZoneKind::External && !is_door(policy, flow) {
                out.push((Invariant::NothingComesInFromOutside, *placed));
            }
            if let Some(ssh) = ssh_of(placed).filter(|_| source != ZoneKind::Management) {
                out.push((Invariant::ManagedFromManagementOnly, ssh));
            }
        }
    }
    out
}

/// Where strangers may knock: the doors' own flows, which no file writes.
fn is_door(policy: &Policy, flow: FlowId) -> bool {
    let flow = policy.flow(flow);
    flow.place.is_none() && matches!(flow.name.as_str(), VPN_DOOR | MAINTENANCE_DOOR)
}

/// Whether the flow is that of a VPN peer whose person is an admin, and who proves it by a second factor.
fn is_admins(policy: &Policy, flow: FlowId) -> bool {
    let Some(name) = policy.flow(flow).name.strip_prefix(VPN_FLOW_PREFIX) else { return false };
    let peers = policy.vpn.iter().flat_map(|vpn| &vpn.peers);
    let mut own = peers.filter(|peer| peer.name == name && peer.second_factor.is_some());
    own.any(|peer| {
        let person = policy.persons.get(&peer.person);
        person.is_some_and(|person| person.roles.iter().any(|role| role == ADMIN))
    })
}

/// The part of a box that is SSH.
fn ssh_of(placed: &Placed) -> Option<Placed> {
    let port = Span::new(u128::from(SSH), u128::from(SSH));
    let is_ssh = placed.cube.class.transport == Transport::Tcp && placed.cube.port.covers(&port);
    let mut shown = *placed;
    shown.cube.port = port;
    is_ssh.then_some(shown)
}

fn finding(policy: &Policy, flow: FlowId, invariant: Invariant, shown: &Placed) -> Diagnostic {
    let flow = policy.flow(flow);
    let name = &flow.name;
    let (rule_en, rule_ja, help_en, help_ja) = words(invariant);
    let finding = Diagnostic::error(
        invariant.code(),
        format!("flow `{name}` allows {}, but {rule_en}", example(policy, shown, En)),
        format!("通信許可「{name}」が {} を許しています。しかし、{rule_ja}", example(policy, shown, Ja)),
    )
    .help(help_en, help_ja);
    match flow.place {
        Some(place) => finding.label(place, "allowed here", "ここで許しています"),
        None => finding,
    }
}

/// The rule and what to do, each in English and Japanese.
type Words = (&'static str, &'static str, &'static str, &'static str);

fn words(invariant: Invariant) -> Words {
    match invariant {
        Invariant::GuestStaysOut => (
            "a guest zone never reaches clinical, medical-device, billing or management zones",
            "来客用の区画から、診療・医療機器・会計・管理の区画へは決して通しません",
            "move the device out of the guest zone, or remove the flow",
            "機器を来客用でない区画に移すか、通信許可を削除してください",
        ),
        Invariant::NothingComesInFromOutside => (
            "nothing outside starts a connection inward",
            "外部から内側への接続は決して始められません",
            "let the inside start the connection; doors for VPN and maintenance are not flows",
            "内側から接続を始める形にしてください。VPNと遠隔保守の入口は通信許可ではありません",
        ),
        Invariant::NoTransitOutOfClosedNetworks => (
            "a closed network never reaches another one or the outside through the clinic",
            "閉域網から、別の閉域網や外部への通り抜けは決して許しません",
            "remove the flow; each closed network may only meet the clinic's own zones",
            "通信許可を削除してください。閉域網は医療機関内の区画とだけ通信できます",
        ),
        Invariant::NoTransitThroughTheVpn => (
            "nobody passes through the clinic from one VPN peer or closed network to another",
            "VPN利用者どうし、またはVPNと閉域網の間の通り抜けは決して許しません",
            "remove the flow; each peer may only meet the clinic's own devices",
            "通信許可を削除してください。VPN利用者は医療機関内の機器とだけ通信できます",
        ),
        Invariant::VpnManagesAsAdminOnly => (
            "only an admin with a second factor reaches management zones through the VPN",
            "VPNから管理用の区画に届くのは、第二要素を使う管理者だけです",
            "give the peer a `second_factor` and its person the role `admin`, or let it reach something else",
            "利用者に `second_factor` を、その人に役割 `admin` を付けるか、届く先を変えてください",
        ),
        Invariant::ManagedFromManagementOnly => (
            "the gateway is managed from management zones only",
            "関所の管理(SSH)は、管理用の区画からだけ行えます",
            "take tcp/22 out of the flow, or start from a zone of kind `management`",
            "通信許可から tcp/22 を外すか、種類が management の区画から接続してください",
        ),
    }
}
