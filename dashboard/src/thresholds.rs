//! The one table of numbers by which rules, alerts and runbooks judge. Where a control is judged by the same thing, the
//! number is that of `policy::guideline::measures`.

use policy::guideline::measures;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// Numbers of rules and alerts. A lab takes shorter ones to prove an alert by a real fault.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// How often rules are evaluated.
    pub interval_s: u64,
    /// How long what must not be lasts before it alarms.
    pub hold_s: u64,
    /// The same for what may settle by itself.
    pub settle_s: u64,
    /// The same for what is about days.
    pub patient_s: u64,
    /// How long ago the kernel's rules were last found equal to the policy, at most.
    pub readback_age_s: u64,
    /// How long ago the log's last checkpoint was signed, at most.
    pub checkpoint_age_s: u64,
    /// How long ago the log was last verified, at most.
    pub verified_age_s: u64,
    /// How long ago the last backup was made, at most.
    pub backup_age_s: u64,
    /// How long a certificate is still good, at least.
    pub certificate_left_s: u64,
    /// How full a disk budget is, at most, in percent.
    pub budget_percent: u64,
    /// Offset of the clock, at most, in milliseconds.
    pub offset_ms: u64,
    /// Stratum of a time service that is not synchronised (RFC 5905, figure 11).
    pub stratum: u64,
    /// Handshakes at the maintenance door that came to nothing, within [`Thresholds::shown_s`], from which it alarms: the
    /// scans that every line sees stay far below.
    pub knocks: u64,
    /// How long losses and repairs are shown.
    pub shown_s: u64,
    /// How long suspicious traffic alarms.
    pub suspicious_s: u64,
    /// How long suspicious traffic is shown on the first page.
    pub suspicious_shown_s: u64,
}

impl Thresholds {
    /// The numbers of the committed files.
    pub const SHIPPED: Thresholds = Thresholds {
        interval_s: 15,
        hold_s: MINUTE_S,
        settle_s: 5 * MINUTE_S,
        patient_s: HOUR_S,
        readback_age_s: MINUTE_S,
        checkpoint_age_s: measures::CHECKPOINT_MAX_H.unsigned_abs() * HOUR_S,
        verified_age_s: measures::VERIFY_MAX_H.unsigned_abs() * HOUR_S,
        backup_age_s: measures::BACKUP_WARNING_DAYS.unsigned_abs() * DAY_S,
        certificate_left_s: measures::CERTIFICATE_WARNING_DAYS.unsigned_abs() * DAY_S,
        budget_percent: measures::BUDGET_WARNING_PERCENT,
        offset_ms: measures::OFFSET_FAILED_MS,
        stratum: 16,
        knocks: 300,
        shown_s: 15 * MINUTE_S,
        suspicious_s: HOUR_S,
        suspicious_shown_s: measures::SIGHTING_FAILED_H.unsigned_abs() * HOUR_S,
    };
}

/// A duration as Prometheus writes it.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [(DAY_S, 'd'), (HOUR_S, 'h'), (MINUTE_S, 'm')];
    let whole = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    match whole {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_the_largest_whole_unit() {
        let cases = [(0, "0s"), (15, "15s"), (60, "1m"), (90, "90s"), (93_600, "26h"), (2_678_400, "31d")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
