//! Remote maintenance: the written policy, what came by, and what the log holds of sessions.

use jiff::SignedDuration;

use super::care::{fail_listed, warn_listed};
use super::kernel::{self, Weight};
use super::{Case, days};
use crate::guideline::measures::{CUT_OFF_FAILED_H, MAINTENANCE_REVIEW_FAILED_DAYS};
use crate::guideline::observation::{Accounts, Deed, Flows, Log, Maintenance};
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
        &accounts.vendors_unnamed,
        "名前のない鍵だけで担当者が入れる保守事業者があります",
        "vendors have keys in the policy that name no person",
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

pub(super) fn rm_preapproval(case: &mut Case<'_>) {
    // A path that somebody opened by hand is a difference of the kernel's rules from what core holds.
    if !kernel::holds(case) || !is_maintained(case) {
        return;
    }
    let Some(Maintenance { opened, unapproved, .. }) = case.fresh::<Maintenance>() else { return };
    fail_listed(
        case,
        unapproved,
        "承認の記録がないまま開いた保守があります",
        "sessions were opened without an approval in the log",
    );
    case.note(
        format!("開いた保守は {opened} 件、うち承認の記録がないものは {} 件です", unapproved.count),
        format!("{opened} sessions were opened, {} of them without an approval", unapproved.count),
    );
}

pub(super) fn rm_access_log(case: &mut Case<'_>) {
    if !is_maintained(case) {
        return;
    }
    if let Some(Log { accepting, .. }) = case.fresh::<Log>()
        && !accepting
    {
        case.fail(
            "監査ログに書き込めず、保守を始められません",
            "the audit log takes no entries: no session can be opened",
        );
    }
    let Some(Maintenance { opened, unended, cut_off_at, .. }) = case.fresh::<Maintenance>() else { return };
    warn_listed(
        case,
        unended,
        "終わりの記録がない保守があります",
        "the log does not hold the end of these sessions",
    );
    if let Some(at) = cut_off_at.filter(|at| !case.is_reviewed_since(*at)) {
        let day = case.instant(at);
        let ja = format!("{day} に、記録できなくなった保守を打ち切りました");
        let en = format!("a session that could not be recorded any more was ended at {day}");
        if case.age(at) <= SignedDuration::from_hours(CUT_OFF_FAILED_H) {
            case.fail(ja, en);
        } else {
            case.warn(ja, en);
        }
    }
    case.note(
        format!("開いた保守 {opened} 件の記録があります"),
        format!("the log holds {opened} sessions that were opened"),
    );
}

pub(super) fn rm_review(case: &mut Case<'_>) {
    if !is_maintained(case) {
        return;
    }
    let Some(Maintenance { ended_at, .. }) = case.fresh::<Maintenance>() else { return };
    let Some(review) = case.deed(Deed::LogReview) else { return };
    match ended_at {
        None => case.note("終わった保守はありません", "no session has ended"),
        Some(at) if case.is_reviewed_since(*at) => {
            let (day, by) = (case.instant(*at), review.by.clone().unwrap_or_default());
            case.note(
                format!("{day} に終わった保守まで {by} が確認しました"),
                format!("{by} has looked at all sessions, the last of which ended at {day}"),
            );
        }
        Some(at) => {
            let day = case.instant(*at);
            let ja = format!("{day} に終わった保守を、まだ誰も確認していません");
            let en = format!("nobody has looked yet at the session that ended at {day}");
            if case.age(*at) > days(MAINTENANCE_REVIEW_FAILED_DAYS) {
                case.fail(ja, en);
            } else {
                case.warn(ja, en);
            }
        }
    }
}

/// Whether some vendor may maintain anything; else there is nothing that it could be about.
fn is_maintained(case: &mut Case<'_>) -> bool {
    if !kernel::in_force(case) {
        return false;
    }
    let Some(Accounts { vendors_maintaining, .. }) = case.fresh::<Accounts>() else { return false };
    if *vendors_maintaining == 0 {
        case.not_applicable(
            "遠隔保守の事業者は登録されていません",
            "no vendor is registered for maintenance",
        );
    }
    *vendors_maintaining > 0
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
