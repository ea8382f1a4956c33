//! Judges the controls: facts in, state with reasons out. One small function per control; a fact that is missing or old
//! makes a control unknown whatever else is good, and only what is known to be bad outweighs that.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::catalogue::{Catalogue, Control, Coverage};
use super::observation::{Deed, Fact, LastDone, Observations, Subject, is_fresh};
use super::state::{Assessment, State, Words};

mod access;
mod care;
mod doors;
mod evidence;
mod files;
mod kernel;
mod maintenance;
mod network;

/// When and where it is judged.
#[derive(Clone, Debug)]
pub struct Context {
    /// The instant.
    pub now: Timestamp,
    /// The clinic's time zone: instants in reasons are shown in it.
    pub timezone: TimeZone,
}

/// The judgement of one control.
type Judge = fn(&mut Case<'_>);

/// Every control that is judged from measurements.
const JUDGES: [(&str, Judge); 44] = [
    ("net-separation", network::net_separation),
    ("least-communication", network::least_communication),
    ("inbound-exposure", network::inbound_exposure),
    ("external-connection-inventory", network::external_connection_inventory),
    ("source-restriction", network::source_restriction),
    ("anti-spoofing", network::anti_spoofing),
    ("no-site-transit", network::no_site_transit),
    ("network-monitoring", network::network_monitoring),
    ("zero-trust", network::zero_trust),
    ("rogue-device-block", care::rogue_device_block),
    ("asset-ledger", care::asset_ledger),
    ("patient-facing-separation", care::patient_facing_separation),
    ("iot-communication-control", care::iot_communication_control),
    ("anti-loop-around", care::anti_loop_around),
    ("transit-protection", care::transit_protection),
    ("tls13-client-cert", doors::tls13_client_cert),
    ("tls-high-security", doors::tls_high_security),
    ("vpn-equivalence", doors::vpn_equivalence),
    ("ssl-vpn-restriction", doors::ssl_vpn_restriction),
    ("mgmt-interface", doors::mgmt_interface),
    ("mutual-authentication", doors::mutual_authentication),
    ("file-sanitization", files::file_sanitization),
    ("rm-sanitization", files::rm_sanitization),
    ("rm-preapproval", maintenance::rm_preapproval),
    ("rm-access-log", maintenance::rm_access_log),
    ("rm-review", maintenance::rm_review),
    ("rm-inventory", maintenance::rm_inventory),
    ("rm-login-restriction", maintenance::rm_login_restriction),
    ("rm-dedicated-account", maintenance::rm_dedicated_account),
    ("rm-account-lifecycle", maintenance::rm_account_lifecycle),
    ("two-factor", access::two_factor),
    ("access-rights-review", access::access_rights_review),
    ("identity-proofing", access::identity_proofing),
    ("offsite-access", access::offsite_access),
    ("responsible-list", access::responsible_list),
    ("incident-reporting", access::incident_reporting),
    ("access-log", evidence::access_log),
    ("log-review", evidence::log_review),
    ("log-integrity", evidence::log_integrity),
    ("time-sync", evidence::time_sync),
    ("log-retention", evidence::log_retention),
    ("configuration-diagram", evidence::configuration_diagram),
    ("management-report", evidence::management_report),
    ("disposal-and-recovery", evidence::disposal_and_recovery),
];

/// Judges every control of the catalogue, in its order.
#[must_use]
pub fn assess(catalogue: &Catalogue, observations: &Observations, context: &Context) -> Vec<Assessment> {
    catalogue.controls().iter().map(|control| judged(control, observations, context)).collect()
}

fn judged(control: &Control, observations: &Observations, context: &Context) -> Assessment {
    let unmeasured = |state| Assessment {
        control: control.id.clone(),
        state,
        reasons: vec![control.measured_by.clone()],
        measured_at: None,
        next_step: None,
    };
    let judge = JUDGES.iter().find(|(id, _)| *id == control.id.as_str()).map(|(_, judge)| *judge);
    match (control.coverage, judge) {
        (Coverage::Live, Some(judge)) => {
            let mut case = Case::new(observations, context);
            judge(&mut case);
            case.closed(control)
        }
        (Coverage::Organizational, _) => unmeasured(State::Organizational),
        // A control that the catalogue calls live and nothing judges is not measured: a test holds that there is none.
        (Coverage::NotMeasured, _) | (Coverage::Live, None) => unmeasured(State::NotMeasured),
    }
}

/// One control while it is judged: what speaks against it, what is not known, what speaks for it.
struct Case<'a> {
    observations: &'a Observations,
    context: &'a Context,
    failed: Vec<Words>,
    unknown: Vec<Words>,
    warned: Vec<Words>,
    noted: Vec<Words>,
    is_applicable: bool,
    measured_at: Option<Timestamp>,
}

impl<'a> Case<'a> {
    fn new(observations: &'a Observations, context: &'a Context) -> Self {
        Case {
            observations,
            context,
            failed: Vec::new(),
            unknown: Vec::new(),
            warned: Vec::new(),
            noted: Vec::new(),
            is_applicable: true,
            measured_at: None,
        }
    }

    /// A fact that counts now; without one the control is unknown.
    fn fresh<F: Fact>(&mut self) -> Option<&'a F> {
        let held = self.observations.held::<F>();
        self.counted(F::SUBJECT, held)
    }

    /// The last time of a deed; without a fresh word of it the control is unknown.
    fn deed(&mut self, deed: Deed) -> Option<&'a LastDone> {
        let held = self.observations.deed(deed);
        self.counted(Subject::LastDone(deed), held)
    }

    fn counted<T>(&mut self, subject: Subject, held: Option<(Timestamp, &'a T)>) -> Option<&'a T> {
        match held {
            Some((at, fact)) if is_fresh(at, self.context.now) => {
                self.measured_at = Some(self.measured_at.map_or(at, |oldest| oldest.min(at)));
                Some(fact)
            }
            Some((at, _)) => {
                let (name, day) = (name(subject), self.instant(at));
                self.unknown(
                    format!("{}の測定が {day} で止まっています", name.ja),
                    format!("the measurement of {} stopped at {day}", name.en),
                );
                None
            }
            None => {
                let name = name(subject);
                self.unknown(
                    format!("{}の測定結果が届いていません", name.ja),
                    format!("no measurement of {} has arrived", name.en),
                );
                None
            }
        }
    }

    fn fail(&mut self, ja: impl Into<String>, en: impl Into<String>) {
        said_once(&mut self.failed, Words::new(ja, en));
    }

    fn unknown(&mut self, ja: impl Into<String>, en: impl Into<String>) {
        said_once(&mut self.unknown, Words::new(ja, en));
    }

    fn warn(&mut self, ja: impl Into<String>, en: impl Into<String>) {
        said_once(&mut self.warned, Words::new(ja, en));
    }

    fn note(&mut self, ja: impl Into<String>, en: impl Into<String>) {
        said_once(&mut self.noted, Words::new(ja, en));
    }

    fn not_applicable(&mut self, ja: impl Into<String>, en: impl Into<String>) {
        self.is_applicable = false;
        self.note(ja, en);
    }

    fn now(&self) -> Timestamp {
        self.context.now
    }

    fn age(&self, at: Timestamp) -> SignedDuration {
        self.context.now.duration_since(at)
    }

    /// Whether a named person looked through log and sightings at or after this instant.
    fn is_reviewed_since(&self, at: Timestamp) -> bool {
        let review = self.observations.deed(Deed::LogReview).and_then(|(_, done)| done.done_at);
        review.is_some_and(|reviewed| at <= reviewed && reviewed <= self.context.now)
    }

    /// An instant in the clinic's time zone, to the minute.
    fn instant(&self, at: Timestamp) -> String {
        at.to_zoned(self.context.timezone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// A day in the clinic's time zone.
    fn day(&self, at: Timestamp) -> String {
        at.to_zoned(self.context.timezone.clone()).strftime("%Y-%m-%d").to_string()
    }

    /// Known to be bad outweighs not known, which outweighs the rest.
    fn closed(self, control: &Control) -> Assessment {
        let Case { failed, unknown, warned, noted, is_applicable, measured_at, .. } = self;
        let state = if !failed.is_empty() {
            State::Failed
        } else if !unknown.is_empty() {
            State::Unknown
        } else if !is_applicable {
            State::NotApplicable
        } else if !warned.is_empty() {
            State::Warning
        } else {
            State::Ok
        };
        Assessment {
            control: control.id.clone(),
            state,
            reasons: failed.into_iter().chain(unknown).chain(warned).chain(noted).collect(),
            measured_at,
            next_step: state.needs_somebody().then(|| control.next_step.clone()),
        }
    }
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn said_once(said: &mut Vec<Words>, words: Words) {
    if !said.contains(&words) {
        said.push(words);
    }
}

/// What a kind of fact is called.
fn name(subject: Subject) -> Words {
    let (ja, en) = match subject {
        Subject::Zones => ("区画の一覧", "the zones"),
        Subject::Flows => ("通信許可の一覧", "the flows"),
        Subject::Exceptions => ("例外の一覧", "the exceptions"),
        Subject::Accounts => ("人・VPN利用者・保守事業者の一覧", "the persons, peers and vendors"),
        Subject::Accountability => ("責任者の一覧", "the responsible persons"),
        Subject::Enforcement => ("通信方針の適用状態", "what is in force"),
        Subject::ReadBack => ("通信方針と実際の動作の照合", "the comparison of the rules with the policy"),
        Subject::ReversePath => ("なりすまし防止の設定", "the reverse-path filters"),
        Subject::KernelSettings => ("カーネルの設定", "the kernel's settings"),
        Subject::TimeTrust => ("時計の信頼", "the trust in the clock"),
        Subject::Neighbours => ("接続されている機器", "the devices on the wire"),
        Subject::Feeds => ("通信の観測", "the feeds from the kernel"),
        Subject::FlowLedger => ("通信の台帳", "the flow ledger"),
        Subject::Sightings => ("不審な通信の観測", "suspicious traffic"),
        Subject::Roles => ("関所の各機能", "the roles of the gateway"),
        Subject::Listeners => ("待ち受けているポート", "the listening sockets"),
        Subject::MetricsDoor => ("統計の受け口", "the metrics listener"),
        Subject::Ntp => ("時刻同期", "time synchronisation"),
        Subject::Log => ("監査ログ", "the audit log"),
        Subject::Factors => ("二要素目の登録", "the second factors"),
        Subject::Maintenance => ("遠隔保守の記録", "the record of remote maintenance"),
        Subject::FileDoor => ("ファイルの検査", "the inspection of files"),
        Subject::LastDone(Deed::Report) => ("報告書の作成", "the last report"),
        Subject::LastDone(Deed::Backup) => ("設定のバックアップ", "the last backup"),
        Subject::LastDone(Deed::RestoreCheck) => ("復元の確認", "the last restore check"),
        Subject::LastDone(Deed::LogReview) => ("ログの確認", "the last log review"),
        Subject::LastDone(Deed::Export) => ("証跡の書き出し", "the last export"),
    };
    Words::new(ja, en)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_control_has_one_judge_and_no_other_has() {
        let catalogue = Catalogue::shipped().unwrap();
        let live: Vec<&str> = catalogue
            .controls()
            .iter()
            .filter(|control| control.coverage == Coverage::Live)
            .map(|control| control.id.as_str())
            .collect();
        let judged = |id: &str| JUDGES.iter().filter(|(judge, _)| *judge == id).count();
        assert!(live.iter().all(|id| judged(id) == 1), "a live control without exactly one judge");
        assert_eq!(live.len(), JUDGES.len(), "a judge without a live control");
    }

    #[test]
    fn nothing_is_judged_from_nothing() {
        let catalogue = Catalogue::shipped().unwrap();
        let context = Context { now: Timestamp::UNIX_EPOCH, timezone: TimeZone::UTC };
        for found in assess(&catalogue, &Observations::default(), &context) {
            let live = catalogue.control(&found.control).unwrap().coverage == Coverage::Live;
            assert_eq!(live, found.state == State::Unknown, "{}", found.control);
            assert!(!found.reasons.is_empty(), "{}", found.control);
        }
    }
}
