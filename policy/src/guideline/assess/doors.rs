//! Doors of the gateway: TLS, tunnels and management.

use super::care::{fail_listed, warn_listed};
use super::kernel::{self, Weight};
use super::{Case, days};
use crate::guideline::measures::{CERTIFICATE_WARNING_DAYS, TLS_GROUPS, TLS_SUITES};
use crate::guideline::observation::{Accounts, Door, Flows, MetricsDoor};
use crate::guideline::suspect::Class;

/// Our own TLS listener, when there is one to judge.
fn door<'a>(case: &mut Case<'a>) -> Option<&'a Door> {
    match case.fresh::<MetricsDoor>()? {
        MetricsDoor::Open(door) => Some(door),
        MetricsDoor::NotDeclared => {
            case.not_applicable(
                "関所が開いているTLSの受け口はありません",
                "the gateway opens no TLS listener",
            );
            None
        }
        MetricsDoor::Silent => {
            case.unknown(
                "統計の受け口が応答せず、測定できません",
                "the metrics listener does not answer and cannot be measured",
            );
            None
        }
    }
}

pub(super) fn tls13_client_cert(case: &mut Case<'_>) {
    let Some(door) = door(case) else { return };
    let Door { tls13_only, stranger_refused, client_certificate, .. } = door;
    if !tls13_only {
        case.fail("TLS1.2以下でも接続できました", "a handshake below TLS 1.3 was accepted");
    }
    if !stranger_refused {
        case.fail(
            "クライアント証明書も合言葉もない相手を断りませんでした",
            "a client without any proof was not refused",
        );
    }
    if *client_certificate {
        case.note(
            "TLS1.3だけを受け付け、クライアント証明書を求めています",
            "TLS 1.3 only, and a client certificate is asked for",
        );
    } else {
        case.warn(
            "クライアント証明書の代わりに合言葉(トークン)を使っています",
            "a token is used in place of a client certificate",
        );
    }
}

pub(super) fn tls_high_security(case: &mut Case<'_>) {
    let Some(door) = door(case) else { return };
    let Door { suite, group, not_after, .. } = door;
    let is_listed = TLS_SUITES.contains(&suite.as_str()) && TLS_GROUPS.contains(&group.as_str());
    if !is_listed {
        case.fail(
            format!("一覧にない暗号が使われました: {suite} / {group}"),
            format!("an unlisted suite was agreed: {suite} / {group}"),
        );
    }
    let day = case.day(*not_after);
    if *not_after <= case.now() {
        case.fail(format!("証明書が {day} で切れています"), format!("a certificate ended on {day}"));
    } else if not_after.duration_since(case.now()) < days(CERTIFICATE_WARNING_DAYS) {
        case.warn(format!("証明書が {day} で切れます"), format!("a certificate ends on {day}"));
    }
    case.note(
        format!("使われた暗号は {suite} / {group}、証明書の期限は {day} です"),
        format!("agreed: {suite} / {group}; the certificates hold until {day}"),
    );
}

pub(super) fn vpn_equivalence(case: &mut Case<'_>) {
    if kernel::holds(case)
        && let Some(Flows { weak_tunnel, closed, .. }) = case.fresh::<Flows>()
    {
        fail_listed(
            case,
            weak_tunnel,
            "安全とみなせないトンネル(PPTP・GRE・L2TP)を外部との間で許しています",
            "a tunnel that is not counted as safe (PPTP, GRE, L2TP) may cross the border",
        );
        case.note(
            format!("閉域網・IPsecへの通信許可は {closed} 件です"),
            format!("{closed} flows lead into a closed network or IPsec"),
        );
    }
    kernel::sightings(case, &[Class::WeakTunnel], |sighting| {
        match (sighting.crosses_border, sighting.passed) {
            (true, true) => Weight::Fails,
            (true, false) => Weight::Warns,
            (false, _) => Weight::Ignored,
        }
    });
}

pub(super) fn ssl_vpn_restriction(case: &mut Case<'_>) {
    if kernel::holds(case)
        && let Some(Flows { ssl_vpn, .. }) = case.fresh::<Flows>()
    {
        warn_listed(
            case,
            ssl_vpn,
            "SSL-VPNを通す通信許可があります(証明書の有無は見えません)",
            "flows allow an SSL-VPN (whether it uses client certificates cannot be seen)",
        );
        case.note(
            format!("SSL-VPNの通信許可は {} 件です", ssl_vpn.count),
            format!("{} flows allow an SSL-VPN", ssl_vpn.count),
        );
    }
    kernel::sightings(case, &[Class::SslVpn], |sighting| {
        if sighting.crosses_border && !sighting.passed { Weight::Fails } else { Weight::Ignored }
    });
}

pub(super) fn mutual_authentication(case: &mut Case<'_>) {
    if !kernel::in_force(case) {
        return;
    }
    let (Some(accounts), Some(metrics)) = (case.fresh::<Accounts>(), case.fresh::<MetricsDoor>()) else {
        return;
    };
    let Accounts { peers, vendors_maintaining: vendors, .. } = accounts;
    if *peers == 0 && *vendors == 0 && *metrics == MetricsDoor::NotDeclared {
        case.not_applicable("関所の入口は開いていません", "the gateway has no door");
        return;
    }
    fail_listed(
        case,
        &accounts.peers_sharing_key,
        "1つの鍵を複数で使うVPN利用者があります",
        "VPN peers share one key",
    );
    fail_listed(
        case,
        &accounts.vendors_sharing_key,
        "別の事業者と同じ鍵を使う保守事業者があります",
        "vendors share a key with another vendor",
    );
    match metrics {
        MetricsDoor::NotDeclared => {}
        MetricsDoor::Silent => case.unknown(
            "統計の受け口が応答せず、測定できません",
            "the metrics listener does not answer and cannot be measured",
        ),
        MetricsDoor::Open(Door { stranger_refused, client_certificate, .. }) => {
            if !stranger_refused {
                case.fail(
                    "統計の受け口が、見知らぬ相手を断りませんでした",
                    "the metrics listener did not refuse a stranger",
                );
            }
            if !client_certificate {
                case.warn(
                    "統計の受け口は、証明書でなく合言葉(トークン)で相手を確かめています",
                    "the metrics listener knows its readers by a token and not by a certificate",
                );
            }
        }
    }
    case.note(
        format!("鍵で互いを確かめる相手は、VPN利用者 {peers} 件、保守事業者 {vendors} 社です"),
        format!("{peers} VPN peers and {vendors} vendors are known by their keys, and know the gateway's"),
    );
}

pub(super) fn mgmt_interface(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    kernel::exceptions(case, &["management-from-elsewhere", "inbound-from-external"]);
    let Some(Flows { managed_from_elsewhere, .. }) = case.fresh::<Flows>() else { return };
    fail_listed(
        case,
        managed_from_elsewhere,
        "管理用でない区画から、関所の管理ポートに届く通信許可があります",
        "flows reach a management port of the gateway from other zones than management",
    );
    case.note(
        format!("管理用でない区画から管理ポートに届く通信許可は {} 件です", managed_from_elsewhere.count),
        format!("{} flows reach a management port from elsewhere", managed_from_elsewhere.count),
    );
}
