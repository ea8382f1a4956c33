//! Small pieces of PromQL. A selector always names the job; a panel's also the gateway that is looked at.

use events::Family;

/// The job by which the gateway is scraped.
pub const JOB: &str = "sekisho";
/// Labels that Prometheus adds to every series.
pub const SCRAPE_LABELS: [&str; 2] = ["job", "instance"];
/// The state that stands for "not known to be good" in a code.
pub(crate) const UNKNOWN: u32 = 3;

/// Replaces what Grafana would replace before it asks Prometheus.
#[must_use]
pub fn filled(expression: &str) -> String {
    expression.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$instance", ".*")
}

/// A family as rules select it; `matchers` such as `state="ok"`, or nothing.
pub(crate) fn rule(family: Family, matchers: &str) -> String {
    rule_named(&family.info().full_name(), matchers)
}

/// A series of any name as rules select it.
pub(crate) fn rule_named(name: &str, matchers: &str) -> String {
    selector(name, "", matchers)
}

/// A family as panels select it.
pub(crate) fn panel(family: Family, matchers: &str) -> String {
    panel_named(&family.info().full_name(), matchers)
}

/// A series of any name as panels select it.
pub(crate) fn panel_named(name: &str, matchers: &str) -> String {
    selector(name, r#",instance=~"$instance""#, matchers)
}

fn selector(name: &str, scope: &str, matchers: &str) -> String {
    let comma = if matchers.is_empty() { "" } else { "," };
    format!("{name}{{job=\"{JOB}\"{scope}{comma}{matchers}}}")
}

/// A panel's code of a state: unknown when there is none, so that silence is never good.
pub(crate) fn or_unknown(expression: &str) -> String {
    format!("{expression} or on() vector({UNKNOWN})")
}

/// What a panel counts: 0 when nothing was counted yet, and nothing when the role that counts is silent.
pub(crate) fn or_zero(expression: &str, role: &str) -> String {
    let counting = panel(Family::RoleUp, &format!("role=\"{role}\""));
    format!("{expression} or on() 0 * max({counting} == 1)")
}
