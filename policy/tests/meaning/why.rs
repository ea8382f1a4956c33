//! Explanations: the deciding line, or what to do next.

use policy::diagnostic::Language;
use policy::eval::why::{Outcome, Why, WhyError, why};
use policy::model::{Endpoint, Expectation, Flow, Place, Policy, Promise, Protocol};
use proptest::prelude::*;

use crate::site::*;

fn policy() -> Policy {
    let dicom = [Protocol::Tcp(104, 104), Protocol::Tcp(11112, 11112)];
    let never = Promise {
        expect: Expectation::Deny,
        from: vec![Endpoint::Zone(GUEST)],
        to: vec![Endpoint::Zone(EHR)],
        services: None,
        text: "zone:guest -> zone:ehr".to_owned(),
        place: Place { line: 90, ..Place::default() },
    };
    let mut policy = clinic(vec![
        Flow {
            purpose: "CT画像の保存".to_owned(),
            owner: "放射線科".to_owned(),
            ..flow("ct-to-ehr", Endpoint::Device(CT), Endpoint::Device(EHR_SERVER), &dicom)
        },
        flow("shell", Endpoint::Zone(MANAGEMENT), Endpoint::Gateway, &[Protocol::Tcp(22, 22)]),
        timed(
            flow("update", Endpoint::Device(EHR_SERVER), Endpoint::Zone(WAN), &[Protocol::Tcp(443, 443)]),
            None,
            Some("Mon-Fri 19:00-22:00"),
        ),
        flow("names", Endpoint::Gateway, Endpoint::Zone(WAN), &[Protocol::Udp(53, 53)]),
    ]);
    policy.tests.push(never);
    for (line, zone) in (10..).zip(&mut policy.zones) {
        zone.place.line = line;
    }
    policy
}

fn ask(from: &str, to: &str, service: &str) -> Why {
    why(&policy(), from, to, service, clock()).unwrap()
}

#[test]
fn answers_in_both_languages() {
    let questions = [
        ("device:ct", "device:ehr-server", "dicom"),
        ("zone:modality", "device:ehr-server", "tcp/104"),
        ("zone:guest", "zone:ehr", "smb"),
        ("zone:guest", "zone:modality", "smb"),
        ("ehr-server", "zone:wan", "tcp/443"),
        ("zone:staff-room", "zone:ehr", "smb"),
        ("zone:guest", "zone:modality", "mdns"),
        ("zone:ehr", "224.0.0.251", "udp/5353"),
        ("zone:guest", "192.168.10.1", "dns"),
        ("zone:management", "gateway", "ssh"),
        ("gateway", "zone:wan", "dns"),
    ];
    let mut text = String::new();
    for (from, to, service) in questions {
        for language in [Language::Ja, Language::En] {
            text.push_str(&format!("$ why {from} {to} {service}\n"));
            match why(&policy(), from, to, service, clock()) {
                Ok(why) => text.push_str(&why.text(language)),
                Err(error) => text.push_str(&error.describe(language)),
            }
            text.push('\n');
        }
    }
    insta::assert_snapshot!("why", text);
}

#[test]
fn every_family_and_protocol_is_tried() {
    let dicom = ask("device:ct", "device:ehr-server", "dicom");
    assert_eq!((dicom.allowed, dicom.answers.len()), (true, 4), "two ports in two families");
    let range = ask("device:ct", "device:ehr-server", "tcp/100-104");
    assert_eq!((range.allowed, range.answers.len()), (false, 4), "the lower end is denied");
    assert_eq!(ask("zone:guest", "zone:ehr", "icmp+esp").answers.len(), 2, "the guest zone has no IPv6");
    let addresses = ask("192.168.20.21", "192.168.10.10", "tcp/104");
    assert!(addresses.allowed && addresses.answers.len() == 1);
}

#[test]
fn a_stranger_stands_for_a_zone() {
    let [v4, v6] = &ask("zone:modality", "device:ehr-server", "tcp/104").answers[..] else { panic!() };
    for answer in [v4, v6] {
        let Outcome::Deny(denial) = &answer.outcome else { panic!("{answer:?}") };
        let nearest = denial.nearest.as_ref().unwrap();
        assert_eq!(
            (nearest.flow.name.as_str(), nearest.flow.place.as_deref()),
            ("ct-to-ehr", Some("clinic.toml:7"))
        );
    }
}

#[test]
fn a_stranger_is_nobody_in_the_ledger() {
    let mut policy = policy();
    policy.devices.push(device("mri", MODALITY, &["192.168.20.2", "fd51:7ec5:0:20::3"]));
    let why = why(&policy, "zone:modality", "zone:ehr", "ssh", clock()).unwrap();
    let sources: Vec<String> = why.answers.iter().map(|answer| answer.packet.source.to_string()).collect();
    assert_eq!(sources, ["192.168.20.3", "fd51:7ec5:0:20::2"]);
}

#[test]
fn json_carries_the_reason_and_the_next_step() {
    let json = serde_json::to_value(ask("zone:guest", "zone:ehr", "tcp/445")).unwrap();
    let outcome = &json["answers"][0]["outcome"];
    assert_eq!(outcome["verdict"], "deny");
    assert_eq!(outcome["reason"]["code"], "no-flow");
    assert_eq!(outcome["promise"]["place"], "clinic.toml:90");
    assert_eq!(json["answers"][0]["way"]["from"]["place"], "clinic.toml:13");
    assert!(outcome["next_ja"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(json["allowed"], false);
}

#[test]
fn questions_that_make_no_sense() {
    let error = |from: &str, to: &str, service: &str| why(&policy(), from, to, service, clock()).unwrap_err();
    let suggestion = Some("zone:modality".to_owned());
    assert_eq!(
        error("zone:modalty", "zone:ehr", "ssh"),
        WhyError::UnknownEnd { text: "zone:modalty".to_owned(), suggestion }
    );
    assert!(matches!(error("zone:*", "zone:ehr", "ssh"), WhyError::SeveralEnds { .. }));
    assert!(matches!(error("zone:ehr", "domain:*.example.jp", "ssh"), WhyError::DomainEnd { .. }));
    assert_eq!(error("gateway", "gateway", "ssh"), WhyError::OnlyTheGateway);
    assert!(matches!(error("zone:guest", "fd51:7ec5:0:10::10", "ssh"), WhyError::NoCommonFamily { .. }));
    for service in
        ["", "tcp", "tcp/", "tcp/70000", "tcp/9-1", "tcp/+1", "proto/6", "proto/256", "nonsense", "ssh+"]
    {
        assert!(matches!(error("zone:ehr", "zone:wan", service), WhyError::Service(_)), "{service}");
    }
}

proptest! {
    /// Any words get an answer or an error, in both languages.
    #[test]
    fn any_question_is_answered(from in ".{0,20}", to in "zone:(ehr|wan|guest)|[0-9a-f:.]{1,20}", service in ".{0,12}|(tcp|udp)/[0-9]{1,5}") {
        for from in [from.as_str(), "zone:ehr", "gateway", "device:ct"] {
            match why(&policy(), from, &to, &service, clock()) {
                Ok(why) => prop_assert!(!why.answers.is_empty() && !why.text(Language::Ja).is_empty()),
                Err(error) => prop_assert!(!error.describe(Language::Ja).is_empty()),
            }
        }
    }
}
