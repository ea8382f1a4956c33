//! One thing broken at a time: the control that measures it turns red (or amber), and the healthy clinic is green.

use policy::guideline::observation::*;
use policy::guideline::suspect::Suspect;
use policy::guideline::{Assessment, State};
use policy::model::ZoneKind;

use crate::healthy::*;

pub(crate) fn expect(found: &[Assessment], control: &str, state: State) {
    let one = find(found, control);
    assert_eq!(one.state, state, "{control}: {:?}", one.reasons);
    assert!(one.next_step.is_some() || !state.needs_somebody(), "{control} says no next step");
}

fn flow(name: &str, from: &str, to: &str, service: &str) -> String {
    format!(
        "[[flow]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"{service}\"\npurpose = \"x\"\nowner = \"x\"\n"
    )
}

fn with_flow(from: &str, to: &str, service: &str) -> Vec<Assessment> {
    with_policy(&and(&flow("added", from, to, service)))
}

fn with_sighting(
    suspect: Suspect,
    passed: bool,
    crosses_border: bool,
    last_at: jiff::Timestamp,
) -> Vec<Assessment> {
    let to = crosses_border.then(|| "wan".to_owned());
    let sighting = Sighting { suspect, from: "staff".into(), to, crosses_border, passed, count: 3, last_at };
    with(Sightings { since: ago(30 * DAY), sightings: vec![sighting] })
}

/// Every control that is about the rules in the kernel fails when the kernel holds others.
#[test]
fn the_kernel_differs() {
    let found = with(ReadBack { differences: 2, ..ReadBack::default() });
    for control in [
        "net-separation",
        "least-communication",
        "inbound-exposure",
        "source-restriction",
        "anti-spoofing",
        "patient-facing-separation",
        "iot-communication-control",
        "rogue-device-block",
        "anti-loop-around",
        "transit-protection",
        "vpn-equivalence",
        "ssl-vpn-restriction",
        "mgmt-interface",
        "rm-login-restriction",
    ] {
        expect(&found, control, State::Failed);
    }
    let foreign = ReadBack { foreign: ["inet evil"].into_iter().collect(), ..ReadBack::default() };
    expect(&with(foreign), "net-separation", State::Warning);
}

#[test]
fn a_repaired_difference_fades_until_somebody_looks() {
    let repaired = |seconds| ReadBack { repaired_at: Some(ago(seconds)), ..ReadBack::default() };
    expect(&with(repaired(60)), "net-separation", State::Failed);
    expect(&with(repaired(10 * 60)), "net-separation", State::Warning);
    // The last review of the healthy clinic was three days ago.
    expect(&with(repaired(4 * DAY)), "net-separation", State::Ok);
}

#[test]
fn kernel_settings_are_changed_by_somebody_else() {
    let wrong = || SettingsFact { wrong: ["x"].into_iter().collect(), ..SettingsFact::default() };
    let found = with(KernelSettings { ledger: wrong(), ..KernelSettings::default() });
    expect(&found, "access-log", State::Failed);
    expect(&found, "anti-spoofing", State::Ok);
    let found = with(KernelSettings { paths: wrong(), ..KernelSettings::default() });
    expect(&found, "access-log", State::Ok);
    expect(&found, "anti-spoofing", State::Failed);
    let repaired = |seconds| SettingsFact { repaired_at: Some(ago(seconds)), ..SettingsFact::default() };
    for (seconds, state) in [(60, State::Failed), (10 * 60, State::Warning), (4 * DAY, State::Ok)] {
        let both = KernelSettings { ledger: repaired(seconds), paths: repaired(seconds) };
        expect(&with(both.clone()), "access-log", state);
        expect(&with(both), "anti-spoofing", state);
    }
}

#[test]
fn enforcement_is_not_settled() {
    let unsettled = Enforcement { standing: Standing::Unsettled, policy: None, applied_at: None };
    expect(&with(unsettled), "least-communication", State::Failed);
}

#[test]
fn a_guest_reaches_inside() {
    let found = with_flow("zone:guest", "device:reception", "tcp/9100");
    expect(&found, "patient-facing-separation", State::Failed);
}

#[test]
fn an_exception_is_accepted_until_it_ends() {
    let broken = flow("door", "device:emr-maker", "device:ehr-server", "tcp/3389");
    let exception = "[[exception]]\ninvariant = \"inbound-from-external\"\nflow = \"door\"\nwho = \"佐倉\"\nwhy = \"移行\"\n";
    let promise = "[[test]]\ndeny = \"zone:wan -> zone:*\"";
    let text = and(&format!("{broken}{exception}until = 2026-11-21T09:00:00+09:00\n")).replace(promise, "");
    let found = with_policy(&text);
    for control in ["net-separation", "inbound-exposure", "mgmt-interface", "rm-login-restriction"] {
        expect(&found, control, State::Failed);
    }
    let found = with_policy(&text.replace("2026-11-21T09", "2026-11-22T09"));
    expect(&found, "net-separation", State::Warning);
    expect(&found, "inbound-exposure", State::Warning);
}

#[test]
fn anybody_outside_may_connect() {
    let found = with_flow("zone:wan", "gateway", "udp/500");
    expect(&found, "source-restriction", State::Failed);
}

#[test]
fn a_flow_without_services() {
    let any = "[[flow]]\nname = \"all\"\nfrom = \"device:admin\"\nto = \"device:pacs\"\nany = true\nreason = \"x\"\npurpose = \"x\"\nowner = \"x\"\n";
    expect(&with_policy(&and(any)), "least-communication", State::Warning);
}

#[test]
fn a_program_listens() {
    let socket = |named, outside| Listeners {
        sockets: vec![Listener {
            transport: ListenerTransport::Tcp,
            port: 8080,
            faces_outside: true,
            named,
            allowed_from_outside: outside,
        }],
    };
    expect(&with(socket(false, false)), "inbound-exposure", State::Warning);
    expect(&with(socket(true, true)), "inbound-exposure", State::Warning);
    expect(&with(socket(true, false)), "inbound-exposure", State::Ok);
}

#[test]
fn a_rogue_server_or_tunnel_is_seen() {
    for suspect in [Suspect::RogueDhcp, Suspect::RogueRouter] {
        expect(
            &with_sighting(suspect, false, false, ago(HOUR)),
            "external-connection-inventory",
            State::Failed,
        );
    }
    let tunnel = |passed, seconds| with_sighting(Suspect::WireGuard, passed, true, ago(seconds));
    expect(&tunnel(false, HOUR), "external-connection-inventory", State::Failed);
    expect(&tunnel(false, 2 * DAY), "external-connection-inventory", State::Warning);
    expect(&tunnel(false, 5 * DAY), "external-connection-inventory", State::Ok);
    expect(&tunnel(true, HOUR), "external-connection-inventory", State::Ok);
}

/// Strangers scan every line; only what begins inside, or was let pass, is about the clinic.
#[test]
fn knocking_from_outside_is_no_finding() {
    let knock = |from: &str, passed| {
        let seen = |suspect| Sighting {
            suspect,
            from: from.into(),
            to: Some("ehr".into()),
            crosses_border: true,
            passed,
            count: 9_999,
            last_at: ago(60),
        };
        let all = [Suspect::Rdp, Suspect::Smb, Suspect::Pptp, Suspect::SslVpn, Suspect::RogueRouter];
        with(Sightings { since: ago(30 * DAY), sightings: all.map(seen).into() })
    };
    let controls = [
        "rm-inventory",
        "transit-protection",
        "vpn-equivalence",
        "ssl-vpn-restriction",
        "external-connection-inventory",
        "log-review",
    ];
    for control in controls {
        expect(&knock("wan", false), control, State::Ok);
        expect(&knock(OUTSIDE, false), control, State::Ok);
        let inside = state_of(&knock("staff", false), control);
        assert!(matches!(inside, State::Failed | State::Warning), "{control}: {inside:?}");
    }
    expect(&knock("wan", true), "transit-protection", State::Failed);
}

#[test]
fn spoofing_is_let_in() {
    let mode = |mode| ReversePath { interfaces: vec![PathFilter { zone: "ehr".into(), mode }] };
    expect(&with(mode(PathMode::Off)), "anti-spoofing", State::Failed);
    expect(&with(mode(PathMode::Loose)), "anti-spoofing", State::Warning);
    expect(&with(mode(PathMode::Absent)), "anti-spoofing", State::Ok);
    expect(&with(ReversePath::default()), "anti-spoofing", State::Unknown);
}

const CLOSED: &str =
    "[zone.shikaku]\nkind = \"closed-network\"\ninterface = \"eth9\"\nnetworks = [\"10.100.0.0/16\"]\n";

#[test]
fn a_closed_network_is_passed_through() {
    let plain = CLINIC.replace("# ---- 機器台帳", &format!("{CLOSED}\n# ---- 機器台帳"));
    let (before, vpn) = CLINIC.split_once("# ---- VPN").unwrap();
    let (_, after) = vpn.split_once("# ---- 保守事業者").unwrap();
    expect(&with_policy(&format!("{before}# {after}")), "no-site-transit", State::NotApplicable);
    expect(&with_policy(CLINIC), "no-site-transit", State::Ok);
    expect(&with_policy(&plain), "no-site-transit", State::Ok);
    let broken = flow("through", "zone:shikaku", "device:emr-maker", "https");
    let exception = "[[exception]]\ninvariant = \"closed-network-transit\"\nflow = \"through\"\nwho = \"x\"\nwhy = \"x\"\nuntil = 2026-11-20T09:00:00+09:00\n";
    expect(&with_policy(&format!("{plain}\n{broken}{exception}")), "no-site-transit", State::Failed);
}

#[test]
fn a_host_of_a_closed_session_goes_around_it() {
    expect(&with_policy(CLINIC), "anti-loop-around", State::Ok);
    expect(&with_flow("device:pacs", "zone:wan", "https"), "anti-loop-around", State::Failed);
    expect(&with_flow("device:pacs", "device:emr-maker", "https"), "anti-loop-around", State::Warning);
    let without = CLINIC.replace("service = \"esp+ike\"", "service = \"tcp/8443\"");
    expect(&with_policy(&without), "anti-loop-around", State::NotApplicable);
}

#[test]
fn unknown_devices_are_seen() {
    let zone = |zone: &str, kind, unknown, impostors| ZoneNeighbours {
        zone: zone.into(),
        kind,
        known: 1,
        unknown,
        impostors,
    };
    let seen = |zone| Neighbours { zones: vec![zone], since: ago(DAY), unseen: Named::default() };
    let clinical = with(seen(zone("ehr", ZoneKind::Clinical, 1, 0)));
    expect(&clinical, "rogue-device-block", State::Failed);
    expect(&clinical, "asset-ledger", State::Failed);
    // Every device of the staff zone may reach the record server.
    let staff = with(seen(zone("staff", ZoneKind::Staff, 1, 0)));
    expect(&staff, "rogue-device-block", State::Failed);
    expect(&staff, "asset-ledger", State::Warning);
    let things = with(seen(zone("cameras", ZoneKind::Iot, 1, 0)));
    expect(&things, "rogue-device-block", State::Warning);
    expect(&things, "iot-communication-control", State::Warning);
    let impostor = with(seen(zone("staff", ZoneKind::Staff, 0, 1)));
    expect(&impostor, "rogue-device-block", State::Failed);
    expect(&impostor, "asset-ledger", State::Failed);
}

#[test]
fn devices_are_missing_or_old() {
    let unseen = |since| Neighbours { zones: Vec::new(), since, unseen: ["ct"].into_iter().collect() };
    expect(&with(unseen(ago(91 * DAY))), "asset-ledger", State::Warning);
    expect(&with(unseen(ago(10 * DAY))), "asset-ledger", State::Ok);
    let aged = CLINIC.replacen("support_until = 2031-03-31", "support_until = 2025-03-31", 1);
    expect(&with_policy(&aged), "asset-ledger", State::Warning);
}

#[test]
fn a_thing_reaches_everything() {
    expect(&with_flow("zone:modality", "zone:wan", "https"), "iot-communication-control", State::Failed);
    expect(&with_flow("device:ct", "zone:wan", "https"), "iot-communication-control", State::Warning);
    expect(&with_flow("device:ct", "device:emr-maker", "https"), "iot-communication-control", State::Ok);
}

#[test]
fn care_crosses_in_clear() {
    for service in ["tcp/104", "tcp/2575", "tcp/21", "tcp/23", "tcp/445", "tcp/100-110"] {
        expect(&with_flow("device:pacs", "device:emr-maker", service), "transit-protection", State::Failed);
    }
    expect(&with_flow("device:pacs", "device:emr-maker", "http"), "transit-protection", State::Warning);
    expect(&with_flow("device:ct", "device:receipt", "tcp/445"), "transit-protection", State::Ok);
    expect(&with_sighting(Suspect::Ftp, true, true, ago(HOUR)), "transit-protection", State::Failed);
    expect(&with_sighting(Suspect::Ftp, false, true, ago(HOUR)), "transit-protection", State::Warning);
}

#[test]
fn a_weak_tunnel_or_ssl_vpn_crosses() {
    for service in ["tcp/1723", "proto/47", "udp/1701"] {
        expect(&with_flow("device:receipt", "device:emr-maker", service), "vpn-equivalence", State::Failed);
    }
    expect(&with_sighting(Suspect::Pptp, true, true, ago(HOUR)), "vpn-equivalence", State::Failed);
    expect(&with_sighting(Suspect::Pptp, false, true, ago(HOUR)), "vpn-equivalence", State::Warning);
    expect(
        &with_flow("device:receipt", "device:emr-maker", "udp/1194"),
        "ssl-vpn-restriction",
        State::Warning,
    );
    expect(&with_sighting(Suspect::SslVpn, false, true, ago(HOUR)), "ssl-vpn-restriction", State::Failed);
}

#[test]
fn the_metrics_door_is_weak() {
    let weak = |change: fn(&mut Door)| {
        let mut door = door();
        change(&mut door);
        with(MetricsDoor::Open(door))
    };
    expect(&weak(|door| door.tls13_only = false), "tls13-client-cert", State::Failed);
    expect(&weak(|door| door.stranger_refused = false), "tls13-client-cert", State::Failed);
    expect(&weak(|door| door.stranger_refused = false), "source-restriction", State::Failed);
    expect(&weak(|door| door.client_certificate = false), "tls13-client-cert", State::Warning);
    expect(&weak(|door| door.suite = "TLS_RSA_WITH_RC4_128_SHA".into()), "tls-high-security", State::Failed);
    expect(&weak(|door| door.not_after = ago(1)), "tls-high-security", State::Failed);
    expect(&weak(|door| door.not_after = ago(-29 * DAY)), "tls-high-security", State::Warning);
    expect(&with(MetricsDoor::NotDeclared), "tls-high-security", State::NotApplicable);
    expect(&with(MetricsDoor::Silent), "tls13-client-cert", State::Unknown);
    expect(&with(MetricsDoor::Silent), "source-restriction", State::Unknown);
}

#[test]
fn watching_stops() {
    let feed = |alive, lost_at| Feed { alive, lost: 9, lost_at };
    let good = || feed(true, None);
    for dead in [
        Feeds { denials: feed(false, None), connections: good() },
        Feeds { denials: good(), connections: feed(false, None) },
    ] {
        let no_connections = !dead.connections.alive;
        let found = with(dead);
        expect(&found, "network-monitoring", State::Failed);
        if no_connections {
            expect(&found, "zero-trust", State::Failed);
            expect(&found, "access-log", State::Failed);
        }
    }
    let lossy = with(Feeds { denials: good(), connections: feed(true, Some(ago(60))) });
    expect(&lossy, "network-monitoring", State::Warning);
    expect(&lossy, "access-log", State::Warning);
    let roles = |silent: &[&str], scraped_at| Roles {
        answering: ["core"].into_iter().collect(),
        silent: silent.iter().collect(),
        scraped_at,
    };
    expect(&with(roles(&["watch"], Some(ago(10)))), "network-monitoring", State::Failed);
    expect(&with(roles(&[], None)), "network-monitoring", State::Warning);
    expect(&with(roles(&[], Some(ago(600)))), "network-monitoring", State::Warning);
}

#[test]
fn remote_control_is_seen_or_stands_open() {
    let seen = |passed, border| with_sighting(Suspect::TeamViewer, passed, border, ago(HOUR));
    expect(&seen(false, true), "rm-inventory", State::Failed);
    expect(&seen(false, false), "rm-inventory", State::Warning);
    expect(&seen(true, true), "rm-inventory", State::Ok);
    expect(
        &with_flow("device:ehr-server", "device:emr-maker", "tcp/5938"),
        "rm-login-restriction",
        State::Failed,
    );
    let timed = flow("added", "device:ehr-server", "device:emr-maker", "tcp/5938")
        + "schedule = \"Mon 10:00-11:00\"\n";
    expect(&with_policy(&and(&timed)), "rm-login-restriction", State::Warning);
    let always = CLINIC.replace("windows = \"Mon-Sun 20:00-06:00\"\n", "");
    expect(&with_policy(&always), "rm-login-restriction", State::Warning);
}

#[test]
fn the_gateway_is_managed_from_elsewhere() {
    expect(&with_flow("zone:staff", "gateway", "tcp/443"), "mgmt-interface", State::Failed);
}

#[test]
fn accounts_are_weak_or_over() {
    let changed = |from: &str, to: &str| {
        assert!(CLINIC.contains(from), "{from}");
        with_policy(&CLINIC.replacen(from, to, 1))
    };
    let found = changed("contract_until = 2030-03-31", "contract_until = 2026-03-31");
    expect(&found, "rm-account-lifecycle", State::Failed);
    expect(&changed("contract_until = 2030-03-31\n", ""), "rm-account-lifecycle", State::Warning);
    let vendor = "[vendor.acme-emr]\n";
    expect(&with_policy(CLINIC), "rm-dedicated-account", State::Ok);
    let own = format!("{vendor}ca = \"vendors/acme-emr.pem\"\n");
    expect(&changed(vendor, &own), "rm-dedicated-account", State::Ok);
    let nameless = format!("{vendor}keys = [\"0123\"]\n");
    expect(&changed(vendor, &nameless), "rm-dedicated-account", State::Failed);
    let single = changed(
        "session = \"8h\"",
        "session = \"8h\"\n[[vpn.peer]]\nname = \"second\"\nperson = \"ichiro\"\npublic_key = \"HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=\"\nreach = [\"device:ehr-server:https\"]\n",
    );
    expect(&single, "offsite-access", State::Failed);
    expect(&single, "two-factor", State::Failed);
    let session = changed("session = \"8h\"\n", "");
    expect(&session, "offsite-access", State::Warning);
}

#[test]
fn persons_are_weak_or_over() {
    let third = |lines: &str| {
        with_policy(&and(&format!(
            "[person.jiro]\nname = \"次郎\"\nroles = [\"staff\"]\ncontact = \"x\"\n{lines}"
        )))
    };
    let good = "identity = { confirmed = \"対面\", by = \"佐倉 太郎\", on = 2026-04-01 }\n";
    expect(&third(&format!("{good}until = 2030-03-31\n")), "two-factor", State::Failed);
    let found = third(&format!("{good}second_factor = \"totp\"\nuntil = 2026-11-20\n"));
    expect(&found, "access-rights-review", State::Failed);
    expect(&found, "two-factor", State::Ok);
    let found = third(&format!("{good}second_factor = \"totp\"\n"));
    expect(&found, "access-rights-review", State::Warning);
    let found = third("second_factor = \"totp\"\nuntil = 2030-03-31\n");
    expect(&found, "identity-proofing", State::Failed);
}

#[test]
fn nobody_is_responsible() {
    let none = CLINIC
        .replacen("[[responsible]]\nrole = \"医療情報システム安全管理責任者\"\nname = \"佐倉 花子\"\ncontact = \"tel:098-000-0000\"", "", 1)
        .replacen("[[responsible]]\nrole = \"システム運用担当者\"\nname = \"山田 一郎\"\ncontact = \"tel:098-000-0001\"", "", 1);
    let found = with_policy(&none);
    expect(&found, "responsible-list", State::Failed);
    expect(&found, "incident-reporting", State::Failed);
    let vague = CLINIC.replace("responsibility = ", "# ");
    expect(&with_policy(&vague), "responsible-list", State::Warning);
}

#[test]
fn the_log_is_broken_full_or_unread() {
    expect(&with(Log { intact: false, ..log() }), "log-integrity", State::Failed);
    expect(&with(Log { verified_at: None, ..log() }), "log-integrity", State::Unknown);
    expect(&with(Log { verified_at: Some(ago(27 * HOUR)), ..log() }), "log-integrity", State::Warning);
    expect(&with(Log { checkpoint_at: Some(ago(27 * HOUR)), ..log() }), "log-integrity", State::Warning);
    let full = with(Log { accepting: false, ..log() });
    for control in ["log-integrity", "log-retention", "access-log"] {
        expect(&full, control, State::Failed);
    }
    expect(&with(Log { bytes: 4_000_000_000, ..log() }), "log-retention", State::Failed);
    expect(&with(Log { bytes: 3_450_000_000, ..log() }), "log-retention", State::Warning);
    // 400 MB in 100 days are more than 7 GB in five years.
    expect(&with(Log { bytes: 400_000_000, ..log() }), "log-retention", State::Warning);
    expect(&with(Log { dropped_at: Some(ago(HOUR)), ..log() }), "log-retention", State::Failed);
}

#[test]
fn the_ledger_stops() {
    let mut facts = facts(&policy(CLINIC));
    let ledger = facts.iter_mut().find_map(|fact| {
        if let policy::guideline::Observation::FlowLedger(ledger) = fact { Some(ledger) } else { None }
    });
    ledger.unwrap().writing = false;
    expect(&assessed(&observed(facts)), "access-log", State::Failed);
}

#[test]
fn the_clock_is_off() {
    let ntp = |offset_ms, sources| Ntp { synchronised: true, stratum: 2, offset_ms, sources };
    expect(&with(ntp(999, 2)), "time-sync", State::Ok);
    expect(&with(ntp(1_000, 2)), "time-sync", State::Warning);
    expect(&with(ntp(10_000, 2)), "time-sync", State::Failed);
    expect(&with(ntp(1, 1)), "time-sync", State::Warning);
    expect(&with(Ntp { synchronised: false, ..ntp(0, 0) }), "time-sync", State::Failed);
    expect(&with(Ntp { stratum: 16, ..ntp(0, 2) }), "time-sync", State::Failed);
    expect(&with(TimeTrust { trusted: false }), "time-sync", State::Failed);
}

#[test]
fn deeds_are_due() {
    let done = |deed, days: Option<i64>, policy: &str| LastDone {
        deed,
        done_at: days.map(|days| ago(days * DAY)),
        by: Some("hanako".into()),
        policy: Some(policy.into()),
    };
    expect(&with(done(Deed::LogReview, Some(32), POLICY_ID)), "log-review", State::Warning);
    expect(&with(done(Deed::LogReview, Some(366), POLICY_ID)), "log-review", State::Failed);
    // The log is a hundred days old, and nobody ever looked.
    expect(&with(done(Deed::LogReview, None, POLICY_ID)), "log-review", State::Warning);
    expect(&with_sighting(Suspect::Rdp, false, true, ago(HOUR)), "log-review", State::Warning);
    expect(&with(done(Deed::Report, None, POLICY_ID)), "configuration-diagram", State::Failed);
    expect(&with(done(Deed::Report, Some(1), "other")), "configuration-diagram", State::Warning);
    expect(&with(done(Deed::Report, Some(31), POLICY_ID)), "configuration-diagram", State::Warning);
    expect(&with(done(Deed::Report, Some(36), POLICY_ID)), "management-report", State::Warning);
    expect(&with(done(Deed::Report, Some(91), POLICY_ID)), "management-report", State::Failed);
    expect(&with(done(Deed::Report, None, POLICY_ID)), "management-report", State::Failed);
    expect(&with(done(Deed::Backup, None, POLICY_ID)), "disposal-and-recovery", State::Failed);
    expect(&with(done(Deed::Backup, Some(200), POLICY_ID)), "disposal-and-recovery", State::Failed);
    expect(&with(done(Deed::Backup, Some(1), "other")), "disposal-and-recovery", State::Warning);
    expect(&with(done(Deed::RestoreCheck, None, POLICY_ID)), "disposal-and-recovery", State::Warning);
    expect(&with(done(Deed::Export, None, POLICY_ID)), "incident-reporting", State::Warning);
    expect(&with(done(Deed::Export, Some(400), POLICY_ID)), "incident-reporting", State::Warning);
}
