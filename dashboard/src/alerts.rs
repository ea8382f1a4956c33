//! The alerts: few, each about something that a person can do, each with a page that says what. Most are states of the
//! gateway; none is about a single packet.

use std::fmt::Write as _;

use crate::Thresholds;
use crate::thresholds::duration;
use crate::titles;
use crate::words::Said;
use crate::yaml::{block, quoted};

mod doors;
mod expressions;
mod gateway;
mod record;
mod upkeep;

/// Most alerts: more are not read.
pub const ALERTS_MAX: usize = 17;

/// How soon somebody has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Now.
    Critical,
    /// On this working day.
    Warning,
}

impl Severity {
    /// The word in labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// How long a condition lasts before it alarms.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// Not at all.
    None,
    /// [`Thresholds::hold_s`].
    Short,
    /// [`Thresholds::settle_s`].
    Settle,
    /// [`Thresholds::patient_s`].
    Patient,
}

impl Hold {
    pub(crate) const fn seconds(self, limits: &Thresholds) -> u64 {
        match self {
            Hold::None => 0,
            Hold::Short => limits.hold_s,
            Hold::Settle => limits.settle_s,
            Hold::Patient => limits.patient_s,
        }
    }
}

/// An alert with its page.
#[derive(Debug)]
pub struct Alert {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// Its page: `runbooks/LANGUAGE/SLUG.md`.
    pub slug: &'static str,
    /// How soon somebody has to come.
    pub severity: Severity,
    pub(crate) hold: Hold,
    pub(crate) expression: fn(&Thresholds) -> String,
    pub(crate) title: Said,
    /// What a message says first; may use the alert's labels.
    pub(crate) summary: Said,
    /// What a message says to do first.
    pub(crate) first_step: Said,
    pub(crate) page: Page,
}

/// What the page says, for somebody at the reception desk.
#[derive(Debug)]
pub(crate) struct Page {
    /// What it means.
    pub(crate) meaning: Said,
    /// What to look at, in order.
    pub(crate) look: &'static [Said],
    /// Whom to call, and what to say.
    pub(crate) call: Said,
    /// What not to do.
    pub(crate) never: Said,
    /// Commands for the system operator.
    pub(crate) operator: &'static [Said],
}

/// Every alert.
pub const ALERTS: [&Alert; 17] = [
    &gateway::ABSENT,
    &gateway::ROLE_DOWN,
    &gateway::NOTHING_PASSES,
    &gateway::CHANGED_BY_OTHERS,
    &gateway::READBACK_STALE,
    &gateway::CONTROL_FAILED,
    &gateway::SUSPICIOUS,
    &record::NOT_ACCEPTING,
    &record::DAMAGED,
    &record::CHECKPOINT_STALE,
    &record::LEDGER_LOSING,
    &record::DISK_BUDGET,
    &upkeep::TIME,
    &upkeep::CERTIFICATE,
    &upkeep::BACKUP,
    &doors::WAITING,
    &doors::ATTACKED,
];

/// The file of alerts.
#[must_use]
pub fn yaml(limits: &Thresholds) -> String {
    let titles = titles::of_alerts();
    let mut out = format!("{}groups:\n", crate::config::HEADER);
    // Writing to a text cannot fail.
    let _ = write!(out, "  - name: {}\n    rules:\n{}", titles.record.replace(':', "."), titles.yaml());
    let _ =
        write!(out, "  - name: sekisho.alerts\n    interval: {}\n    rules:\n", duration(limits.interval_s));
    for alert in ALERTS {
        alert.write(&mut out, limits);
    }
    out
}

impl Alert {
    /// The condition.
    #[must_use]
    pub fn condition(&self, limits: &Thresholds) -> String {
        (self.expression)(limits)
    }

    fn write(&self, out: &mut String, limits: &Thresholds) {
        let Alert { name, slug, severity, hold, summary, first_step, title, .. } = self;
        let _ = writeln!(out, "      - alert: {name}\n        expr: {}", block(&self.condition(limits), 10));
        let _ = writeln!(out, "        for: {}", duration(hold.seconds(limits)));
        let _ = writeln!(out, "        labels:\n          severity: {}", severity.word());
        let _ = writeln!(out, "        annotations:");
        let url = |language: &str| format!("{{{{ $externalLabels.runbooks }}}}/{language}/{slug}.md");
        let annotations = [
            ("summary", format!("{}: {}", title.ja, summary.ja)),
            ("description", first_step.ja.to_owned()),
            ("runbook_url", url("ja")),
            ("summary_en", format!("{}: {}", title.en, summary.en)),
            ("description_en", first_step.en.to_owned()),
            ("runbook_url_en", url("en")),
        ];
        for (key, text) in annotations {
            let _ = writeln!(out, "          {key}: {}", quoted(&text));
        }
    }
}
