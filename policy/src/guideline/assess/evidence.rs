//! Logs, time, and what is to be done again and again.

use bytesize::ByteSize;
use jiff::{SignedDuration, Timestamp};

use super::{Case, days, kernel};
use crate::guideline::measures::{
    BACKUP_FAILED_DAYS, BACKUP_WARNING_DAYS, BUDGET_WARNING_PERCENT, CHECKPOINT_MAX_H, DIAGRAM_MAX_DAYS,
    DRILL_MAX_DAYS, LOSS_FAILED_H, LOSS_SHOWN_M, OFFSET_FAILED_MS, OFFSET_WARNING_MS, PROJECTION_MIN_H,
    REPORT_FAILED_DAYS, REPORT_WARNING_DAYS, REVIEW_FAILED_DAYS, REVIEW_WARNING_DAYS, TIME_SOURCES_MIN,
    VERIFY_MAX_H,
};
use crate::guideline::observation::{
    Deed, Enforcement, Feed, Feeds, FlowLedger, LastDone, Log, Ntp, Sighting, Sightings, TimeTrust,
};
use crate::guideline::suspect::Class;

pub(super) fn access_log(case: &mut Case<'_>) {
    if let Some(Feeds { connections: Feed { alive, lost, lost_at }, .. }) = case.fresh::<Feeds>() {
        if !alive {
            case.fail("通信の開始と終了を観測できていません", "connections are no longer watched");
        }
        if lost_at.is_some_and(|at| case.age(at) <= SignedDuration::from_mins(LOSS_SHOWN_M)) {
            case.warn(
                format!("通信の記録に取りこぼしがあります(起動から {lost} 件)"),
                format!("some connections were missed ({lost} since the start)"),
            );
        }
    }
    // Whoever switches the kernel's notices off blinds the ledger, however well it writes.
    kernel::settings(case, |settings| &settings.ledger);
    if let Some(FlowLedger { writing, .. }) = case.fresh::<FlowLedger>() {
        if *writing {
            case.note("通信を台帳に記録しています", "connections are being written to the ledger");
        } else {
            case.fail("通信の台帳に書き込めていません", "connections cannot be written to the ledger");
        }
    }
    if let Some(Log { accepting, tree_size, .. }) = case.fresh::<Log>() {
        taking(case, *accepting);
        case.note(
            format!("監査ログは {tree_size} 件です"),
            format!("the audit log holds {tree_size} entries"),
        );
    }
}

fn taking(case: &mut Case<'_>, accepting: bool) {
    if !accepting {
        case.fail("監査ログに書き込めていません", "the audit log takes no entries");
    }
}

pub(super) fn log_integrity(case: &mut Case<'_>) {
    let Some(log) = case.fresh::<Log>() else { return };
    let Log { accepting, intact, verified_at, checkpoint_at, tree_size, .. } = log;
    taking(case, *accepting);
    if !intact {
        case.fail("監査ログが署名と一致しません", "the audit log does not match its signatures");
    }
    match verified_at {
        None => case.unknown("監査ログをまだ検証していません", "the audit log has not been verified yet"),
        Some(at) => {
            let day = case.instant(*at);
            if case.age(*at) > SignedDuration::from_hours(VERIFY_MAX_H) {
                case.warn(
                    format!("監査ログの検証は {day} が最後です"),
                    format!("the audit log was last verified at {day}"),
                );
            }
            case.note(
                format!("監査ログ {tree_size} 件を {day} に検証しました"),
                format!("{tree_size} entries of the audit log were verified at {day}"),
            );
        }
    }
    let is_signed =
        checkpoint_at.is_some_and(|at| case.age(at) <= SignedDuration::from_hours(CHECKPOINT_MAX_H));
    if !is_signed {
        case.warn(
            format!("署名付き要約が {CHECKPOINT_MAX_H} 時間以上作られていません"),
            format!("no checkpoint was signed for {CHECKPOINT_MAX_H} hours"),
        );
    }
}

pub(super) fn log_retention(case: &mut Case<'_>) {
    if let Some(Log { accepting, oldest_at, dropped_at, since, bytes, budget_bytes, retention_s, .. }) =
        case.fresh::<Log>()
    {
        taking(case, *accepting);
        let kept = Kept {
            ja: "監査ログ",
            en: "audit log",
            oldest: *oldest_at,
            dropped: *dropped_at,
            since: *since,
            bytes: *bytes,
            budget: *budget_bytes,
            retention_s: *retention_s,
        };
        reach(case, &kept);
    }
    if let Some(FlowLedger { oldest_at, dropped_at, since, bytes, budget_bytes, retention_s, .. }) =
        case.fresh::<FlowLedger>()
    {
        let kept = Kept {
            ja: "通信の台帳",
            en: "flow ledger",
            oldest: *oldest_at,
            dropped: *dropped_at,
            since: *since,
            bytes: *bytes,
            budget: *budget_bytes,
            retention_s: *retention_s,
        };
        reach(case, &kept);
    }
}

/// Something kept on disk, for a time and within a budget.
struct Kept {
    ja: &'static str,
    en: &'static str,
    oldest: Option<Timestamp>,
    dropped: Option<Timestamp>,
    since: Timestamp,
    bytes: u64,
    budget: u64,
    retention_s: u64,
}

fn reach(case: &mut Case<'_>, kept: &Kept) {
    let Kept { ja, en, oldest, dropped, since, bytes, budget, retention_s } = kept;
    let retention = SignedDuration::from_secs(i64::try_from(*retention_s).unwrap_or(i64::MAX));
    let day = case.day(oldest.unwrap_or(*since));
    let (used, most) = (ByteSize(*bytes).display().si(), ByteSize(*budget).display().si());
    if let Some(at) = dropped.filter(|at| !case.is_reviewed_since(*at)) {
        let gone = case.instant(at);
        let (ja, en) = (
            format!("{ja}の記録が、保存期間の前に消えました({gone})"),
            format!("entries of the {en} were dropped before their time ({gone})"),
        );
        if case.age(at) <= SignedDuration::from_hours(LOSS_FAILED_H) {
            case.fail(ja, en)
        } else {
            case.warn(ja, en)
        }
    }
    if bytes >= budget {
        case.fail(
            format!("{ja}が容量の上限に達しています({used}/{most})"),
            format!("the {en} has reached its budget ({used} of {most})"),
        );
    } else if is_filling(case.age(*since), retention, *bytes, *budget) {
        case.warn(
            format!("{ja}は、今の増え方では保存期間の前に容量が尽きます({used}/{most})"),
            format!("at the present pace the {en} fills its budget before its time ({used} of {most})"),
        );
    }
    let days = retention_s / 86_400;
    case.note(
        format!("{ja}は {day} から {used}(保存期間 {days} 日)"),
        format!("the {en} reaches back to {day} in {used} ({days} days are to be kept)"),
    );
}

/// Whether the budget will not last, as it is nearly used up or by its pace since the beginning.
fn is_filling(age: SignedDuration, retention: SignedDuration, bytes: u64, budget: u64) -> bool {
    if u128::from(bytes) * 100 >= u128::from(budget) * u128::from(BUDGET_WARNING_PERCENT) {
        return true;
    }
    if age < SignedDuration::from_hours(PROJECTION_MIN_H) || age >= retention {
        return false;
    }
    let (age_s, retention_s) =
        (u128::from(age.as_secs().unsigned_abs()), u128::from(retention.as_secs().unsigned_abs()));
    u128::from(bytes) * retention_s > u128::from(budget) * age_s
}

pub(super) fn log_review(case: &mut Case<'_>) {
    let Some(LastDone { done_at, by, .. }) = case.deed(Deed::LogReview) else { return };
    let Some(log) = case.fresh::<Log>() else { return };
    let age = case.age(done_at.unwrap_or(log.since));
    let (ja, en) = match done_at {
        Some(at) => {
            let (day, who) = (case.day(*at), by.as_deref().unwrap_or("?"));
            (
                format!("ログの確認は {day} が最後です({who})"),
                format!("the log was last reviewed on {day} by {who}"),
            )
        }
        None => ("ログの確認を一度もしていません".to_owned(), "the log has never been reviewed".to_owned()),
    };
    if age > days(REVIEW_FAILED_DAYS) {
        case.fail(ja, en);
    } else if age > days(REVIEW_WARNING_DAYS) {
        case.warn(ja, en);
    } else {
        case.note(ja, en);
    }
    let Some(Sightings { sightings, .. }) = case.fresh::<Sightings>() else { return };
    // What a flow let pass somebody named; a web page in clear is no reason to call anybody.
    let asks = |one: &&Sighting| {
        !one.passed && one.suspect.class() != Class::ClearOther && kernel::is_open(case, one)
    };
    let count = sightings.iter().filter(asks).count();
    if count > 0 {
        case.warn(
            format!("まだ誰も確認していない不審な通信が {count} 種類あります"),
            format!("{count} kinds of suspicious traffic wait for somebody to look at them"),
        );
    }
}

pub(super) fn time_sync(case: &mut Case<'_>) {
    if let Some(TimeTrust { trusted }) = case.fresh::<TimeTrust>()
        && !trusted
    {
        case.fail(
            "時計がまだ信頼されていません。時間枠のある通信は開きません",
            "the clock is not trusted yet: nothing with a window opens",
        );
    }
    let Some(Ntp { synchronised, stratum, offset_ms, sources }) = case.fresh::<Ntp>() else { return };
    if !synchronised || !(1..16).contains(stratum) {
        case.fail("標準時刻と同期していません", "the clock does not follow standard time");
        return;
    }
    let (ja, en) = (
        format!("時刻のずれは {offset_ms} ミリ秒、参照先は {sources} か所です"),
        format!("the clock is off by {offset_ms} ms and follows {sources} sources"),
    );
    if *offset_ms >= OFFSET_FAILED_MS {
        case.fail(ja, en);
    } else if *offset_ms >= OFFSET_WARNING_MS || *sources < TIME_SOURCES_MIN {
        case.warn(ja, en);
    } else {
        case.note(ja, en);
    }
}

pub(super) fn configuration_diagram(case: &mut Case<'_>) {
    let in_force = case.fresh::<Enforcement>();
    let Some(LastDone { done_at, policy, .. }) = case.deed(Deed::Report) else { return };
    let Some(at) = done_at else {
        case.fail("構成図(報告書)を一度も作っていません", "no diagram (report) has ever been made");
        return;
    };
    let day = case.day(*at);
    if case.age(*at) > days(DIAGRAM_MAX_DAYS) {
        case.warn(format!("構成図(報告書)は {day} のものです"), format!("the diagram (report) is of {day}"));
    }
    if in_force.is_some_and(|now| now.policy != *policy) {
        case.warn(
            format!("構成図(報告書)を作った {day} の後に、通信方針が変わりました"),
            format!("the policy has changed since the diagram (report) of {day}"),
        );
    }
    case.note(
        format!("構成図(報告書)は {day} に今の状態から作りました"),
        format!("the diagram (report) was drawn on {day} from what was in force"),
    );
}

pub(super) fn management_report(case: &mut Case<'_>) {
    let limits = Limits { warning: REPORT_WARNING_DAYS, failed: REPORT_FAILED_DAYS };
    repeated(case, Deed::Report, "報告書の作成", "a report", limits);
}

pub(super) fn disposal_and_recovery(case: &mut Case<'_>) {
    let limits = Limits { warning: BACKUP_WARNING_DAYS, failed: BACKUP_FAILED_DAYS };
    repeated(case, Deed::Backup, "設定のバックアップ", "a backup", limits);
    let backup = case.deed(Deed::Backup);
    if kernel::in_force(case)
        && let Some(Enforcement { policy, .. }) = case.fresh::<Enforcement>()
        && backup.is_some_and(|done| done.done_at.is_some() && done.policy != *policy)
    {
        case.warn(
            "最後のバックアップの後に、通信方針が変わりました",
            "the policy has changed since the last backup",
        );
    }
    let Some(check) = case.deed(Deed::RestoreCheck) else { return };
    let is_tried = check.done_at.is_some_and(|at| case.age(at) <= days(DRILL_MAX_DAYS));
    if !is_tried {
        case.warn("復元の確認を1年以内にしていません", "no restore was tried within a year");
    }
}

/// Days after which a deed that was not done again is a warning, and a failure.
#[derive(Clone, Copy)]
struct Limits {
    warning: i64,
    failed: i64,
}

fn repeated(case: &mut Case<'_>, deed: Deed, ja: &str, en: &str, limits: Limits) {
    let Some(LastDone { done_at, .. }) = case.deed(deed) else { return };
    let Some(at) = done_at else {
        case.fail(format!("{ja}を一度もしていません"), format!("{en} has never been made"));
        return;
    };
    let (age, day) = (case.age(*at), case.day(*at));
    let (ja, en) = (format!("{ja}は {day} が最後です"), format!("{en} was last made on {day}"));
    if age > days(limits.failed) {
        case.fail(ja, en);
    } else if age > days(limits.warning) {
        case.warn(ja, en);
    } else {
        case.note(ja, en);
    }
}
