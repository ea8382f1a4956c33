//! Recording rules: how much a counter grew, its birth included, and the state of each thing that people look at as one
//! number, the worst of its parts. A part that nobody measured counts as unknown.

use std::fmt::Write as _;

use events::{Family, Role};
use policy::guideline::{Catalogue, State};

use crate::Thresholds;
use crate::promql::{JOB, UNKNOWN, rule, rule_named};
use crate::thresholds::duration;
use crate::titles;
use crate::yaml::block;

/// State of each control as a code.
pub const CONTROL_CODE: &str = "control:sekisho_control_state:code";
/// Worst state of any control.
pub(crate) const CONTROLS_CODE: &str = "instance:sekisho_controls:code";
/// Whether the policy is in force, and nothing else.
pub(crate) const ENFORCEMENT_CODE: &str = "instance:sekisho_enforcement:code";
/// Whether what happens is recorded.
pub(crate) const RECORD_CODE: &str = "instance:sekisho_record:code";
/// Whether the box itself is well.
pub(crate) const UPKEEP_CODE: &str = "instance:sekisho_upkeep:code";
/// Whether suspicious traffic was seen.
pub(crate) const SUSPICION_CODE: &str = "instance:sekisho_suspicion:code";
/// The worst of all.
pub(crate) const SAFETY_CODE: &str = "instance:sekisho_safety:code";
/// Growth of a counter lately.
pub(crate) const DRIFTS_GREW: &str = "instance:sekisho_drift_repairs:increase";
/// See [`DRIFTS_GREW`].
pub(crate) const FEED_LOST_GREW: &str = "feed:sekisho_feed_lost:increase";
/// See [`DRIFTS_GREW`].
pub(crate) const RECORDER_LOST_GREW: &str = "role:sekisho_recorder_lost:increase";
/// See [`DRIFTS_GREW`].
pub(crate) const LOG_REFUSED_GREW: &str = "instance:sekisho_audit_refused:increase";
/// See [`DRIFTS_GREW`].
pub(crate) const SUSPICIONS_GREW: &str = "kind:sekisho_suspicious:increase";
/// See [`DRIFTS_GREW`].
pub(crate) const HANDSHAKES_GREW: &str = "end:sekisho_maintenance_handshakes:increase";
/// Growth over the time that the first page shows.
pub(crate) const SUSPICIONS_SHOWN: &str = "kind:sekisho_suspicious:increase_shown";

const GOOD: u32 = 1;
const WARNING: u32 = 2;
const FAILED: u32 = 4;

/// The number of a state: the worse the larger, and never two the same.
#[must_use]
pub const fn code(state: State) -> u32 {
    match state {
        State::NotApplicable | State::Organizational | State::NotMeasured => 0,
        State::Ok => GOOD,
        State::Warning => WARNING,
        State::Unknown => UNKNOWN,
        State::Failed => FAILED,
    }
}

/// A rule that records a series.
#[derive(Clone, Debug)]
pub struct Record {
    /// Name of the series.
    pub name: &'static str,
    /// What it is.
    pub expression: String,
}

/// Every recorded series but the titles, in the order in which they are evaluated.
#[must_use]
pub fn records(limits: &Thresholds) -> Vec<Record> {
    let mut records = growths(limits);
    records.push(Record { name: CONTROL_CODE, expression: control_code() });
    let codes = [
        (CONTROLS_CODE, controls()),
        (ENFORCEMENT_CODE, enforcement(limits)),
        (RECORD_CODE, record(limits)),
        (UPKEEP_CODE, upkeep(limits)),
        (SUSPICION_CODE, suspicion()),
        (SAFETY_CODE, safety()),
    ];
    records.extend(codes.map(|(name, parts)| Record { name, expression: worst(&parts) }));
    records
}

/// The file of recording rules.
#[must_use]
pub fn yaml(catalogue: &Catalogue, limits: &Thresholds) -> String {
    let mut out = format!("{}groups:\n", crate::config::HEADER);
    for titles in titles::of_rules(catalogue) {
        // Writing to a text cannot fail.
        let _ = write!(out, "  - name: {}\n    rules:\n{}", titles.record.replace(':', "."), titles.yaml());
    }
    let _ =
        write!(out, "  - name: sekisho.codes\n    interval: {}\n    rules:\n", duration(limits.interval_s));
    for Record { name, expression } in records(limits) {
        let _ = writeln!(out, "      - record: {name}\n        expr: {}", block(&expression, 10));
    }
    out
}

fn growths(limits: &Thresholds) -> Vec<Record> {
    let (shown, hour, day) = (limits.shown_s, limits.suspicious_s, limits.suspicious_shown_s);
    [
        (DRIFTS_GREW, Family::Drifts, Some(Role::Core), shown),
        (FEED_LOST_GREW, Family::FeedLost, Some(Role::Watch), shown),
        (LOG_REFUSED_GREW, Family::LogRefused, Some(Role::Record), shown),
        (RECORDER_LOST_GREW, Family::RecorderLost, None, shown),
        (HANDSHAKES_GREW, Family::Handshakes, Some(Role::Edge), shown),
        (SUSPICIONS_GREW, Family::Suspicions, Some(Role::Watch), hour),
        (SUSPICIONS_SHOWN, Family::Suspicions, Some(Role::Watch), day),
    ]
    .map(|(name, family, role, window)| Record { name, expression: grew(family, role, window) })
    .into()
}

/// How much a counter grew. `increase` sees nothing of a series that is born at 1: such a one grew by what it is, if its
/// role was there before or started within the window. Of a role that is silent nothing is said, though the window still
/// holds its past. `None`: the family has the role as a label.
fn grew(family: Family, role: Option<Role>, window_s: u64) -> String {
    let (series, window) = (rule(family, ""), duration(window_s));
    let matcher = role.map(|role| format!("role=\"{}\"", role.word())).unwrap_or_default();
    let key = if role.is_some() { "job, instance" } else { "job, instance, role" };
    let (up, started) = (rule(Family::RoleUp, &matcher), rule(Family::RoleStarted, &matcher));
    let mut labels = vec!["job", "instance"];
    labels.extend(family.info().labels);
    format!(
        "sum by ({}) (\n  (\n    ({series} unless {series} offset {window})\n    and on ({key})\n    ({up} offset {window} == 1 or time() - {started} < {window_s})\n  )\n  or increase({series}[{window}])\n)\nand on ({key}) {up} == 1",
        labels.join(", ")
    )
}

fn control_code() -> String {
    let states = [State::Failed, State::Unknown, State::Warning, State::Ok, State::NotApplicable];
    let term = |state: State| {
        let matcher = format!("state=\"{}\"", state.slug().replace('-', "_"));
        format!("{} * ({} == 1)", code(state), rule(Family::ControlState, &matcher))
    };
    let terms: Vec<String> = states.into_iter().map(term).collect();
    format!("max by (job, instance, control) (\n  {}\n)", terms.join("\n  or "))
}

/// One thing that makes up a state.
struct Part {
    name: &'static str,
    /// Codes, by job and instance at least.
    code: String,
    /// What counts when there is none; then unknown.
    absent: Option<String>,
}

impl Part {
    fn new(name: &'static str, code: impl Into<String>) -> Self {
        Part { name, code: code.into(), absent: None }
    }

    /// Good, or this code while the condition is 1.
    fn bad(name: &'static str, code: u32, condition: &str) -> Self {
        Part::new(name, format!("{GOOD} + {} * ({condition})", code - GOOD))
    }
}

/// The worst of the parts of each gateway that answers; windows remember one that does not, and must not speak for it.
fn worst(parts: &[Part]) -> String {
    let part = |Part { name, code, absent }: &Part| {
        let absent =
            absent.as_ref().map(|code| format!("\n      or on (job, instance) {code}")).unwrap_or_default();
        let unknown = format!("or on (job, instance) {UNKNOWN} * (up{{job=\"{JOB}\"}} == 1)");
        format!(
            "label_replace(\n      max by (job, instance) ({code}){absent}\n      {unknown},\n      \"part\", \"{name}\", \"\", \"\"\n    )"
        )
    };
    let parts: Vec<String> = parts.iter().map(part).collect();
    let answers = format!("up{{job=\"{JOB}\"}} == 1");
    format!("max by (job, instance) (\n    {}\n)\nand on (job, instance) {answers}", parts.join("\n    or "))
}

fn controls() -> Vec<Part> {
    vec![Part::new("controls", rule_named(CONTROL_CODE, ""))]
}

fn enforcement(limits: &Thresholds) -> Vec<Part> {
    let applied = rule(Family::Enforcement, "state=\"applied\"");
    let age = older(Family::ReadBack, "", limits.readback_age_s);
    vec![
        Part::bad("applied", FAILED, &format!("{applied} == bool 0")),
        Part::bad("readback", FAILED, &age),
        Part::bad("differences", FAILED, &format!("{} > bool 0", rule(Family::ReadBackDifferences, ""))),
        Part::bad("foreign", WARNING, &format!("{} > bool 0", rule(Family::ForeignTables, ""))),
    ]
}

fn record(limits: &Thresholds) -> Vec<Part> {
    let zero = |family| format!("{} == bool 0", rule(family, ""));
    vec![
        Part::bad("accepting", FAILED, &zero(Family::LogAccepting)),
        Part::bad("intact", FAILED, &zero(Family::LogIntact)),
        Part::bad("checkpoint", WARNING, &older(Family::LogCheckpoint, "", limits.checkpoint_age_s)),
        Part::bad("verified", WARNING, &older(Family::LogVerified, "", limits.verified_age_s)),
        Part::bad("feeds", WARNING, &zero(Family::FeedUp)),
        Part::bad("lost", WARNING, &format!("{} > bool 0", rule_named(RECORDER_LOST_GREW, ""))),
        Part::bad("log_room", WARNING, &fuller(Family::LogBytes, Family::LogBudget, limits)),
        Part::bad("ledger_room", WARNING, &fuller(Family::LedgerBytes, Family::LedgerBudget, limits)),
    ]
}

fn upkeep(limits: &Thresholds) -> Vec<Part> {
    let never = format!("{WARNING} * ({} == 1)", rule(Family::RoleUp, "role=\"record\""));
    let backup = Part::bad("backup", WARNING, &older(Family::Deed, "deed=\"backup\"", limits.backup_age_s));
    vec![
        Part::bad("roles", FAILED, &format!("{} == bool 0", rule(Family::RoleUp, ""))),
        Part::bad("trusted", WARNING, &format!("{} == bool 0", rule(Family::TimeTrusted, ""))),
        Part::bad(
            "stratum",
            WARNING,
            &format!("{} >= bool {}", rule(Family::ClockStratum, ""), limits.stratum),
        ),
        Part::bad(
            "certificate",
            WARNING,
            &format!("{} - time() < bool {}", rule(Family::Certificate, ""), limits.certificate_left_s),
        ),
        Part { absent: Some(never), ..backup },
    ]
}

/// Nobody counts as unsuspicious while nobody looks.
fn suspicion() -> Vec<Part> {
    let looks = format!("{GOOD} * (min by (job, instance) ({}) == 1)", rule(Family::FeedUp, ""));
    let seen = format!("{GOOD} + {} * ({} > bool 0)", WARNING - GOOD, rule_named(SUSPICIONS_SHOWN, ""));
    vec![Part {
        absent: Some(looks.clone()),
        ..Part::new("seen", format!("({seen}) and on (job, instance) ({looks})"))
    }]
}

fn safety() -> Vec<Part> {
    let part = |(name, record)| Part::new(name, rule_named(record, ""));
    [
        ("controls", CONTROLS_CODE),
        ("enforcement", ENFORCEMENT_CODE),
        ("record", RECORD_CODE),
        ("upkeep", UPKEEP_CODE),
        ("suspicion", SUSPICION_CODE),
    ]
    .map(part)
    .into()
}

fn older(family: Family, matchers: &str, age_s: u64) -> String {
    format!("time() - {} > bool {age_s}", rule(family, matchers))
}

fn fuller(bytes: Family, budget: Family, limits: &Thresholds) -> String {
    format!("100 * {} / {} > bool {}", rule(bytes, ""), rule(budget, ""), limits.budget_percent)
}
