//! Persons: factors, ends, identity, responsibility.

use super::care::{fail_listed, warn_listed};
use super::{Case, days, kernel};
use crate::guideline::measures::DRILL_MAX_DAYS;
use crate::guideline::observation::{Accountability, Accounts, Deed, Factors};

pub(super) fn two_factor(case: &mut Case<'_>) {
    let Some(accounts) = persons(case) else { return };
    fail_listed(
        case,
        &accounts.persons_single_factor,
        "役割があるのに二要素目を登録していない人がいます",
        "persons with a role have no second factor",
    );
    fail_listed(
        case,
        &accounts.peers_single_factor,
        "二要素目のないVPN利用者があります",
        "VPN peers have no second factor",
    );
    if accounts.peers > 0 {
        case.note(
            "VPNの接続そのものは、まだ鍵だけで認証します(二要素目は承認と管理で求めます)",
            "the VPN itself still asks for the key alone: second factors are asked for approvals and administration",
        );
    }
    let Some(Factors { enrolled, absent, locked }) = case.fresh::<Factors>() else { return };
    warn_listed(
        case,
        absent,
        "認証アプリ(TOTP)をまだ登録していない人がいます(承認も管理もできません)",
        "persons have not enrolled their authenticator yet, and can approve nothing",
    );
    warn_listed(
        case,
        locked,
        "コードの誤りが続き、締め出されている人がいます(本人か、誰かが推測しているか確かめてください)",
        "persons are locked out after wrong codes: find out whether somebody guesses",
    );
    case.note(
        format!("認証アプリを登録した人は {enrolled} 名です"),
        format!("{enrolled} persons have enrolled an authenticator"),
    );
}

pub(super) fn access_rights_review(case: &mut Case<'_>) {
    let Some(accounts) = persons(case) else { return };
    fail_listed(
        case,
        &accounts.persons_ended,
        "権限の最終日を過ぎた人が登録されたままです",
        "persons whose last day has passed are still registered",
    );
    fail_listed(
        case,
        &accounts.peers_ended,
        "期限の過ぎた人のVPN利用者が登録されたままです",
        "VPN peers of persons whose last day has passed are still registered",
    );
    warn_listed(
        case,
        &accounts.persons_without_end,
        "権限の最終日がない人がいます",
        "persons have no last day",
    );
}

pub(super) fn identity_proofing(case: &mut Case<'_>) {
    let Some(accounts) = persons(case) else { return };
    fail_listed(
        case,
        &accounts.persons_unproved,
        "身元確認の記録がない人がいます",
        "there is no record of how these persons' identity was confirmed",
    );
}

/// The persons, when there are any.
fn persons<'a>(case: &mut Case<'a>) -> Option<&'a Accounts> {
    if !kernel::in_force(case) {
        return None;
    }
    let accounts = case.fresh::<Accounts>()?;
    let Accounts { persons, peers, .. } = accounts;
    if *persons == 0 {
        case.warn("人がひとりも登録されていません", "no person is registered");
    }
    case.note(
        format!("登録は、人 {persons} 名、VPN利用者 {peers} 件です"),
        format!("registered: {persons} persons, {peers} VPN peers"),
    );
    Some(accounts)
}

pub(super) fn offsite_access(case: &mut Case<'_>) {
    if !kernel::in_force(case) {
        return;
    }
    let Some(accounts) = case.fresh::<Accounts>() else { return };
    if accounts.peers == 0 {
        case.not_applicable("VPN利用者が登録されていません", "no VPN peer is registered");
        return;
    }
    fail_listed(
        case,
        &accounts.peers_single_factor,
        "二要素目のないVPN利用者があります",
        "VPN peers have no second factor",
    );
    fail_listed(
        case,
        &accounts.peers_sharing_key,
        "1つの鍵を複数で使うVPN利用者があります",
        "VPN peers share one key",
    );
    fail_listed(
        case,
        &accounts.peers_ended,
        "期限の過ぎた人のVPN利用者が登録されたままです",
        "VPN peers of persons whose last day has passed are still registered",
    );
    warn_listed(
        case,
        &accounts.peers_without_session,
        "接続時間の上限がないVPN利用者があります",
        "VPN peers have no session length",
    );
    case.note(
        format!("VPN利用者は {} 件です", accounts.peers),
        format!("{} VPN peers are registered", accounts.peers),
    );
}

pub(super) fn responsible_list(case: &mut Case<'_>) {
    let Some(list) = accountability(case) else { return };
    warn_listed(
        case,
        &list.vendors_without_demarcation,
        "責任分界の記載がない保守事業者があります",
        "vendors have no demarcation of responsibility",
    );
    warn_listed(
        case,
        &list.persons_without_contact,
        "役割があるのに連絡先がない人がいます",
        "persons with a role have no contact",
    );
}

pub(super) fn incident_reporting(case: &mut Case<'_>) {
    accountability(case);
    let Some(export) = case.deed(Deed::Export) else { return };
    match export.done_at {
        Some(at) if case.age(at) <= days(DRILL_MAX_DAYS) => {
            let day = case.day(at);
            case.note(format!("証跡を {day} に書き出しました"), format!("evidence was exported on {day}"));
        }
        Some(at) => {
            let day = case.day(at);
            case.warn(
                format!("証跡の書き出しは {day} が最後で、1年を超えています"),
                format!("evidence was last exported on {day}, over a year ago"),
            );
        }
        None => {
            case.warn("証跡の書き出しを一度も試していません", "an export of evidence has never been tried")
        }
    }
}

/// Who answers for what; nobody is a failure.
fn accountability<'a>(case: &mut Case<'a>) -> Option<&'a Accountability> {
    if !kernel::in_force(case) {
        return None;
    }
    let list = case.fresh::<Accountability>()?;
    if list.responsible == 0 {
        case.fail("責任者がひとりも書かれていません", "no responsible person is written");
    }
    case.note(
        format!("責任者は {} 名です", list.responsible),
        format!("{} responsible persons are written", list.responsible),
    );
    Some(list)
}
