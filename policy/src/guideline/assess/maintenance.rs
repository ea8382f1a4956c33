//! Remote maintenance, as far as it can be judged before its doors exist: the written policy, and what came by.

use super::Case;
use super::care::{fail_listed, warn_listed};
use super::kernel::{self, Weight};
use crate::guideline::observation::{Accounts, Flows};
use crate::guideline::suspect::Class;

pub(super) fn rm_inventory(case: &mut Case<'_>) {
    kernel::sightings(case, &[Class::RemoteControl], |sighting| {
        match (sighting.passed, sighting.crosses_border) {
            (true, _) => Weight::Ignored,
            (false, true) => Weight::Fails,
            (false, false) => Weight::Warns,
        }
    });
    if !kernel::in_force(case) {
        return;
    }
    let Some(Accounts { vendors_maintaining: vendors, .. }) = case.fresh::<Accounts>() else { return };
    let Some(Flows { standing_remote, timed_remote, .. }) = case.fresh::<Flows>() else { return };
    let flows = standing_remote.count.saturating_add(timed_remote.count);
    case.note(
        format!("遠隔保守を登録した事業者は {vendors} 社、遠隔操作の通信許可は {flows} 件です"),
        format!(
            "{vendors} vendors are registered for remote maintenance, and {flows} flows for remote control"
        ),
    );
}

pub(super) fn rm_login_restriction(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    kernel::exceptions(case, &["inbound-from-external"]);
    if let Some(Flows { standing_remote, timed_remote, .. }) = case.fresh::<Flows>() {
        fail_listed(
            case,
            standing_remote,
            "外部との遠隔操作を、いつでも通す通信許可があります",
            "flows allow remote control across the border at any time",
        );
        warn_listed(
            case,
            timed_remote,
            "外部との遠隔操作を、時間を区切って通す通信許可があります",
            "flows allow remote control across the border at set times",
        );
        case.note(
            format!("外部との遠隔操作を常に通す許可は {} 件です", standing_remote.count),
            format!("{} flows allow remote control across the border at any time", standing_remote.count),
        );
    }
    let Some(Accounts { vendors_without_window, .. }) = case.fresh::<Accounts>() else { return };
    warn_listed(
        case,
        vendors_without_window,
        "作業時間枠のない保守事業者があります",
        "vendors have no window and may ask at any hour",
    );
}

pub(super) fn rm_dedicated_account(case: &mut Case<'_>) {
    let Some(accounts) = accounts(case) else { return };
    fail_listed(
        case,
        &accounts.vendors_unproved,
        "担当者を見分ける証明書も鍵もない保守事業者があります",
        "vendors have neither a certificate authority nor keys to know their engineers by",
    );
    fail_listed(
        case,
        &accounts.vendors_sharing_key,
        "別の事業者と同じ鍵を使う保守事業者があります",
        "vendors share a key with another vendor",
    );
    fail_listed(
        case,
        &accounts.peers_sharing_key,
        "1つの鍵を複数で使うVPN利用者があります",
        "VPN peers share one key",
    );
}

pub(super) fn rm_account_lifecycle(case: &mut Case<'_>) {
    let Some(accounts) = accounts(case) else { return };
    fail_listed(
        case,
        &accounts.vendors_ended,
        "契約が終わった保守事業者が登録されたままです",
        "vendors whose contract has ended are still registered",
    );
    fail_listed(
        case,
        &accounts.peers_ended,
        "期限の過ぎた人のVPN利用者が登録されたままです",
        "VPN peers of persons whose last day has passed are still registered",
    );
    warn_listed(
        case,
        &accounts.vendors_without_end,
        "契約期限のない保守事業者があります",
        "vendors have no end of contract",
    );
}

/// The accounts of vendors and peers, when there are any.
fn accounts<'a>(case: &mut Case<'a>) -> Option<&'a Accounts> {
    if !kernel::in_force(case) {
        return None;
    }
    let accounts = case.fresh::<Accounts>()?;
    let Accounts { vendors_maintaining: vendors, peers, .. } = accounts;
    if *vendors == 0 && *peers == 0 {
        case.not_applicable(
            "遠隔保守の事業者もVPN利用者も登録されていません",
            "neither a vendor for maintenance nor a VPN peer is registered",
        );
        return None;
    }
    case.note(
        format!("登録は、遠隔保守の事業者 {vendors} 社、VPN利用者 {peers} 件です"),
        format!("registered: {vendors} vendors for maintenance, {peers} VPN peers"),
    );
    Some(accounts)
}
