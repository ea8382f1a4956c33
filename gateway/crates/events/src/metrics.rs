//! The closed list of metric families, the samples that a role hands over, and the counters that events move.
//!
//! Names and units follow Prometheus' naming guide. Labels are closed sets or zone slugs: never an address, a name of a
//! person, or a device (what identifies somebody belongs in the audit log and the ledger).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::words::{Failure, FileChange, PersonChange, SessionChange};

mod family;

pub use family::{Family, Info, Kind, PREFIX};

/// Most series of one family in one role; what comes after is counted under the label `other`.
pub const SERIES_MAX: usize = 64;
/// Longest value of a label, in characters.
pub const LABEL_MAX: usize = 48;

/// One value of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The family.
    pub family: Family,
    /// Values of the family's labels, in its order.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A sample; labels are made harmless here, and there are as many as the family has.
    #[must_use]
    pub fn new(family: Family, labels: &[&str], value: f64) -> Self {
        let count = family.info().labels.len();
        let padded = labels.iter().copied().chain(std::iter::repeat("")).take(count);
        Sample { family, labels: padded.map(label).collect(), value }
    }
}

/// A value of a label: printable, bounded, and nothing that reads as an address.
fn label(value: &str) -> String {
    let is_address = value.parse::<std::net::IpAddr>().is_ok() || is_mac(value);
    if is_address {
        return "other".to_owned();
    }
    value.chars().map(|c| if c.is_control() { '_' } else { c }).take(LABEL_MAX).collect()
}

fn is_mac(value: &str) -> bool {
    let parts: Vec<&str> = value.split([':', '-']).collect();
    parts.len() == 6
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A step of a counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// The family.
    pub family: Family,
    /// Values of its labels.
    pub labels: Vec<String>,
    /// How much is added.
    pub by: f64,
}

impl Measure {
    fn one(family: Family, labels: &[&str]) -> Vec<Self> {
        Measure::some(family, labels, 1)
    }

    fn some(family: Family, labels: &[&str], by: u64) -> Vec<Self> {
        let Sample { family, labels, .. } = Sample::new(family, labels, 0.0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a counter beyond 2^53 has lost its last digit anyway"
        )]
        let by = by as f64;
        vec![Measure { family, labels, by }]
    }
}

/// What an event moves.
#[must_use]
pub fn measures(event: &Event) -> Vec<Measure> {
    match event {
        Event::PolicyRefused { .. } => Measure::one(Family::Applies, &["refused"]),
        Event::Applied { .. } => Measure::one(Family::Applies, &["applied"]),
        Event::ApplyFailed { failure, .. } => {
            let word = match failure {
                Failure::Unchanged => "unchanged",
                Failure::RolledBack => "rolled_back",
                Failure::Closed => "closed",
            };
            Measure::one(Family::Applies, &[word])
        }
        Event::Drift { .. } | Event::SettingsChanged { .. } => Measure::one(Family::Drifts, &[]),
        Event::ClockJumped { seconds } => {
            Measure::one(Family::ClockJumps, &[if *seconds < 0 { "back" } else { "forward" }])
        }
        Event::Trouble { .. } => Measure::one(Family::Troubles, &[]),
        Event::EventsLost { feed, count, .. } => Measure::some(Family::FeedLost, &[feed.word()], *count),
        Event::FlowsSeen { started, ended, .. } => {
            let mut both = Measure::some(Family::LedgerFlows, &["started"], *started);
            both.extend(Measure::some(Family::LedgerFlows, &["ended"], *ended));
            both
        }
        Event::Denied { zone, packets, .. } => Measure::some(Family::DenialsTold, &[zone], *packets),
        Event::LedgerPruned { rows, .. } => Measure::some(Family::LedgerPruned, &[], *rows),
        Event::Suspicious { suspicion, .. } => Measure::one(Family::Suspicions, &[suspicion.word()]),
        Event::ControlChanged { to, .. } => Measure::one(Family::ControlChanges, &[to]),
        Event::Scraped {} => Measure::one(Family::Scrapes, &["answered"]),
        Event::ScrapeRefused { refusal } => Measure::one(Family::Scrapes, &[refusal.word()]),
        // States, not counts: what they lead to is measured where it stands.
        Event::RoleStarted { .. }
        | Event::RoleStopping { .. }
        | Event::ApplyRequested { .. }
        | Event::Adopted { .. }
        | Event::Restored { .. }
        | Event::Closed { .. }
        | Event::CloseFailed { .. }
        | Event::ForeignTables { .. }
        | Event::WindowsChanged { .. }
        | Event::TimeTrusted { .. }
        | Event::FeedGained { .. }
        | Event::FeedLost { .. }
        | Event::LogOpened { .. }
        | Event::LogVerified { .. }
        | Event::LogFull { .. }
        | Event::LogRoom {}
        | Event::Done { .. }
        | Event::Vpn { .. }
        | Event::Engineer { .. } => Vec::new(),
        Event::Session { change, .. } => of_session(change),
        Event::Person { change, .. } => of_person(*change),
        Event::File { change, .. } => of_file(change),
    }
}

fn of_session(change: &SessionChange) -> Vec<Measure> {
    let step = |word| Measure::one(Family::Sessions, &[word]);
    match change {
        SessionChange::Requested { .. } => step("requested"),
        SessionChange::Approved { .. } => step("approved"),
        SessionChange::Denied { .. } => step("denied"),
        SessionChange::Opened { .. } => step("opened"),
        SessionChange::Closed { why, .. } => Measure::one(Family::SessionsEnded, &[why]),
        SessionChange::ConnectionOpened { .. } => Measure::one(Family::SessionConnections, &[]),
        SessionChange::ConnectionClosed { sent, received, .. } => {
            let mut both = Measure::some(Family::SessionBytes, &["received"], *sent);
            both.extend(Measure::some(Family::SessionBytes, &["sent"], *received));
            both
        }
        // What it leads to is counted: opened, or closed. Of a lost connection nobody knows what it carried.
        SessionChange::Opening { .. } | SessionChange::ConnectionLost { .. } => Vec::new(),
    }
}

fn of_person(change: PersonChange) -> Vec<Measure> {
    match change {
        PersonChange::Locked => Measure::one(Family::PersonLocks, &[]),
        // How many there are is measured.
        PersonChange::Enrolled | PersonChange::Recovered | PersonChange::Removed => Vec::new(),
    }
}

fn of_file(change: &FileChange) -> Vec<Measure> {
    let mut all = Measure::one(Family::Files, &[change.word()]);
    match change {
        FileChange::Released { .. } => all.extend(Measure::one(Family::FileVerdicts, &["allow"])),
        FileChange::Refused { findings, verdict, .. } => {
            all.extend(verdict.iter().flat_map(|one| Measure::one(Family::FileVerdicts, &[one.word()])));
            // Once a file, however often it is in there.
            let found: BTreeSet<&str> = findings.iter().map(String::as_str).collect();
            all.extend(found.into_iter().flat_map(|one| Measure::one(Family::FileFindings, &[one])));
        }
        FileChange::Held { .. } | FileChange::Quarantined { .. } | FileChange::Delivered { .. } => {}
    }
    all
}

/// The counters of one role since it started.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: BTreeMap<(Family, Vec<String>), f64>,
}

impl Tally {
    /// Takes an event up.
    pub fn observe(&mut self, event: &Event) {
        for Measure { family, labels, by } in measures(event) {
            let key = (family, labels);
            let key = if self.counts.contains_key(&key) || self.series(family) < SERIES_MAX {
                key
            } else {
                (family, family.info().labels.iter().map(|_| "other".to_owned()).collect())
            };
            *self.counts.entry(key).or_default() += by;
        }
    }

    /// Every counter.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let sample = |((family, labels), value): (&(Family, Vec<String>), &f64)| Sample {
            family: *family,
            labels: labels.clone(),
            value: *value,
        };
        self.counts.iter().map(sample).collect()
    }

    fn series(&self, family: Family) -> usize {
        self.counts.keys().filter(|(other, _)| *other == family).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Feed, InspectVerdict, ScrapeRefusal};

    #[test]
    fn names_follow_the_naming_guide_and_are_unique() {
        let mut names = std::collections::BTreeSet::new();
        for family in Family::ALL {
            let info = family.info();
            assert!(names.insert(info.name), "{} twice", info.name);
            assert!(info.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", info.name);
            assert_eq!(info.kind == Kind::Counter, info.name.ends_with("_total"), "{}", info.name);
            assert!(!info.help.is_empty() && !info.help_ja.is_ascii(), "{}", info.name);
        }
    }

    #[test]
    fn a_label_never_carries_an_address_or_a_line_break() {
        for (given, kept) in [
            ("192.0.2.1", "other"),
            ("2001:db8::1", "other"),
            ("02:00:00:00:10:10", "other"),
            ("a\nb", "a_b"),
            ("ehr", "ehr"),
        ] {
            assert_eq!(Sample::new(Family::DenialsTold, &[given], 1.0).labels, [kept]);
        }
        assert_eq!(Sample::new(Family::Drifts, &["x"], 1.0).labels, Vec::<String>::new());
        assert_eq!(Sample::new(Family::AllowedBytes, &["x"], 1.0).labels, ["x", ""]);
    }

    #[test]
    fn a_flood_of_label_values_ends_in_other() {
        let mut tally = Tally::default();
        let at = jiff::Timestamp::UNIX_EPOCH;
        for zone in 0..10_000 {
            let (zone, reason) = (format!("zone-{zone}"), String::new());
            tally.observe(&Event::Denied { since: at, until: at, zone, reason, packets: 2 });
        }
        let samples = tally.samples();
        assert_eq!(samples.len(), SERIES_MAX + 1);
        assert_eq!(samples.iter().map(|sample| sample.value).sum::<f64>(), 20_000.0);
    }

    #[test]
    fn a_refused_file_counts_its_verdict_and_each_finding_once() {
        let findings = ["vba-macro", "vba-macro", "dde"].map(str::to_owned).to_vec();
        let why = String::new();
        let change = FileChange::Refused { why, findings, verdict: Some(InspectVerdict::Disarm) };
        let text = String::new;
        let event = Event::File {
            transfer: text(),
            session: text(),
            vendor: text(),
            name: text(),
            sha256: text(),
            change,
        };
        let mut tally = Tally::default();
        tally.observe(&event);
        let expected = [
            Sample::new(Family::Files, &["refused"], 1.0),
            Sample::new(Family::FileVerdicts, &["disarm"], 1.0),
            Sample::new(Family::FileFindings, &["dde"], 1.0),
            Sample::new(Family::FileFindings, &["vba-macro"], 1.0),
        ];
        assert_eq!(tally.samples(), expected);
    }

    #[test]
    fn what_a_connection_of_a_session_carried_is_counted_as_the_gateway_sees_it() {
        let change = SessionChange::ConnectionClosed { connection: 1, sent: 7, received: 9 };
        let mut tally = Tally::default();
        tally.observe(&Event::Session { session: String::new(), change });
        let expected = [
            Sample::new(Family::SessionBytes, &["received"], 7.0),
            Sample::new(Family::SessionBytes, &["sent"], 9.0),
        ];
        assert_eq!(tally.samples(), expected);
    }

    #[test]
    fn counters_add_up() {
        let mut tally = Tally::default();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let lost = Event::EventsLost { feed: Feed::Connections, count: 5, since: at, until: at };
        tally.observe(&lost);
        tally.observe(&lost);
        tally.observe(&Event::ScrapeRefused { refusal: ScrapeRefusal::Token });
        tally.observe(&Event::LogRoom {});
        let expected = [
            Sample::new(Family::FeedLost, &["connections"], 10.0),
            Sample::new(Family::Scrapes, &["token"], 1.0),
        ];
        assert_eq!(tally.samples(), expected);
    }
}
