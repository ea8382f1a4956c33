//! The conditions of the alerts.

use events::Family;

use crate::Thresholds;
use crate::promql::{JOB, rule, rule_named};
use crate::rules::{
    DRIFTS_GREW, FEED_LOST_GREW, HANDSHAKES_GREW, LOG_REFUSED_GREW, RECORDER_LOST_GREW, SUSPICIONS_GREW,
};
use crate::titles::{self, joined};

pub(super) fn absent(_: &Thresholds) -> String {
    format!("up{{job=\"{JOB}\"}} == 0\nor\nabsent(up{{job=\"{JOB}\"}})")
}

pub(super) fn role_down(_: &Thresholds) -> String {
    joined(&format!("{} == 0", rule(Family::RoleUp, "")), titles::ROLE_TITLES, "role")
}

pub(super) fn nothing_passes(_: &Thresholds) -> String {
    format!("{} == 1", rule(Family::Enforcement, "state=~\"closed|unsettled\""))
}

pub(super) fn changed_by_others(_: &Thresholds) -> String {
    any_of(
        "what",
        &[
            ("repaired", format!("{} > 0", rule_named(DRIFTS_GREW, ""))),
            ("differs", format!("{} > 0", rule(Family::ReadBackDifferences, ""))),
            ("foreign", format!("{} > 0", rule(Family::ForeignTables, ""))),
        ],
    )
}

pub(super) fn readback_stale(limits: &Thresholds) -> String {
    let age_s = limits.readback_age_s;
    let never = format!(
        "({} == 1) unless on (job, instance) {}",
        rule(Family::RoleUp, "role=\"core\""),
        rule(Family::ReadBack, "")
    );
    format!("time() - {} > {age_s}\nor\n{never}", rule(Family::ReadBack, ""))
}

pub(super) fn control_failed(_: &Thresholds) -> String {
    let failed = rule(Family::ControlState, "state=\"failed\"");
    joined(&format!("{failed} == 1"), titles::CONTROLS, "control")
}

pub(super) fn suspicious(_: &Thresholds) -> String {
    joined(&format!("{} > 0", rule_named(SUSPICIONS_GREW, "")), titles::KINDS, "kind")
}

pub(super) fn not_accepting(_: &Thresholds) -> String {
    any_of(
        "what",
        &[
            ("closed", format!("{} == 0", rule(Family::LogAccepting, ""))),
            ("refused", format!("{} > 0", rule_named(LOG_REFUSED_GREW, ""))),
            ("lost", format!("sum by (job, instance) ({}) > 0", rule_named(RECORDER_LOST_GREW, ""))),
        ],
    )
}

pub(super) fn damaged(_: &Thresholds) -> String {
    format!("{} == 0", rule(Family::LogIntact, ""))
}

pub(super) fn checkpoint_stale(limits: &Thresholds) -> String {
    let older = |family, age_s: u64| format!("time() - {} > {age_s}", rule(family, ""));
    any_of(
        "what",
        &[
            ("signed", older(Family::LogCheckpoint, limits.checkpoint_age_s)),
            ("verified", older(Family::LogVerified, limits.verified_age_s)),
        ],
    )
}

pub(super) fn ledger_losing(_: &Thresholds) -> String {
    any_of(
        "what",
        &[
            ("silent", format!("{} == 0", rule(Family::FeedUp, ""))),
            ("lost", format!("{} > 0", rule_named(FEED_LOST_GREW, ""))),
        ],
    )
}

pub(super) fn disk_budget(limits: &Thresholds) -> String {
    let full = |bytes, budget| {
        format!("100 * {} / {} > {}", rule(bytes, ""), rule(budget, ""), limits.budget_percent)
    };
    any_of(
        "store",
        &[
            ("audit", full(Family::LogBytes, Family::LogBudget)),
            ("ledger", full(Family::LedgerBytes, Family::LedgerBudget)),
        ],
    )
}

pub(super) fn time(limits: &Thresholds) -> String {
    #[expect(clippy::cast_precision_loss, reason = "thresholds are small")]
    let offset_s = limits.offset_ms as f64 / 1000.0;
    any_of(
        "what",
        &[
            ("untrusted", format!("{} == 0", rule(Family::TimeTrusted, ""))),
            ("unsynchronised", format!("{} >= {}", rule(Family::ClockStratum, ""), limits.stratum)),
            ("off", format!("abs({}) > {offset_s}", rule(Family::ClockOffset, ""))),
        ],
    )
}

pub(super) fn certificate(limits: &Thresholds) -> String {
    format!("{} - time() < {}", rule(Family::Certificate, ""), limits.certificate_left_s)
}

pub(super) fn backup(limits: &Thresholds) -> String {
    let deed = rule(Family::Deed, "deed=\"backup\"");
    let recorded = rule(Family::RoleUp, "role=\"record\"");
    any_of(
        "what",
        &[
            ("old", format!("time() - {deed} > {}", limits.backup_age_s)),
            ("never", format!("({recorded} == 1) unless on (job, instance) {deed}")),
        ],
    )
}

pub(super) fn session_waiting(_: &Thresholds) -> String {
    format!("{} > 0", rule(Family::SessionStates, "state=\"waiting\""))
}

pub(super) fn door_attacked(limits: &Thresholds) -> String {
    let knocks = rule_named(HANDSHAKES_GREW, "end!=\"admitted\"");
    any_of(
        "what",
        &[
            ("guessed", format!("{} > 0", rule(Family::Persons, "state=\"locked\""))),
            ("knocked", format!("sum by (job, instance) ({knocks}) > {}", limits.knocks)),
        ],
    )
}

/// Conditions side by side; a label tells which one holds, so that none hides another.
fn any_of(label: &str, conditions: &[(&str, String)]) -> String {
    let one = |(value, condition): &(&str, String)| {
        format!("label_replace(\n  {condition},\n  \"{label}\", \"{value}\", \"\", \"\"\n)")
    };
    conditions.iter().map(one).collect::<Vec<_>>().join("\nor\n")
}
