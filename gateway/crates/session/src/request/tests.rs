use super::*;

fn request() -> Request {
    Request {
        session: SessionId::from_random([7; 8]),
        vendor: "acme-emr".to_owned(),
        engineer: KeyId::of_spki(b"key"),
        engineer_name: "鈴木".to_owned(),
        target: Target {
            name: "device:ehr-server:ssh".to_owned(),
            address: "192.168.10.10".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 22,
        },
        purpose: "月次更新".to_owned(),
        start: None,
        duration_s: 1800,
    }
}

fn terms() -> Terms {
    Terms {
        approvals: ["clinic".to_owned()].into(),
        max_duration_s: 7200,
        windows: None,
        timezone: TimeZone::UTC,
        contract_end: None,
        idle_limit: IDLE_LIMIT,
    }
}

fn at(text: &str) -> Now {
    Now { wall: text.parse().unwrap(), elapsed: Duration::from_secs(100), trusted: true }
}

fn noon() -> Now {
    at("2026-11-22T12:00:00Z")
}

#[test]
fn the_canonical_text_is_sorted_and_whole() {
    let text = request().canonical().unwrap();
    assert!(text.starts_with("{\"address\":\"192.168.10.10\",\"duration_s\":1800,\"engineer\":\""), "{text}");
    assert!(text.ends_with("\"target\":\"device:ehr-server:ssh\",\"vendor\":\"acme-emr\"}"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut sorted: Vec<&String> = value.as_object().unwrap().keys().collect();
    sorted.sort();
    let places: Vec<usize> = sorted.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn the_digest_is_known_to_others() {
    // Python: json.dumps(.., sort_keys=True, separators=(",", ":"), ensure_ascii=False), then hashlib.sha256.
    let theirs = "7434de72cad862d232d44fd17f7b38dce689b8daf0a0d9444fa9b80e4342a671";
    assert_eq!(request().digest().unwrap().to_string(), theirs);
}

#[test]
fn whatever_is_carried_out_is_in_the_digest() {
    let changes: [fn(&mut Request); 10] = [
        |r| r.session = SessionId::from_random([8; 8]),
        |r| r.vendor.push('x'),
        |r| r.engineer = KeyId::of_spki(b"other"),
        |r| r.engineer_name.push('x'),
        |r| r.target.name.push('x'),
        |r| r.target.address = "192.168.10.11".parse().unwrap(),
        |r| r.target.protocol = Protocol::Udp,
        |r| r.target.port = 23,
        |r| r.start = Some("2026-11-22T12:00:00Z".parse().unwrap()),
        |r| r.duration_s += 1,
    ];
    let mut seen: std::collections::BTreeSet<Digest> = [request().digest().unwrap()].into();
    for change in changes {
        let mut changed = request();
        change(&mut changed);
        assert!(seen.insert(changed.digest().unwrap()), "{changed:?}");
    }
}

#[test]
fn what_the_terms_do_not_allow_is_refused() {
    type Change = fn(&mut Request, &mut Terms);
    type Is = fn(&RequestError) -> bool;
    let cases: [(Change, Is); 12] = [
        (|r, _| r.purpose = " ".to_owned(), |e| matches!(e, RequestError::NoPurpose)),
        (|r, _| r.purpose = "あ".repeat(201), |e| matches!(e, RequestError::TooWordy { .. })),
        (|r, _| r.engineer_name = "a".repeat(129), |e| matches!(e, RequestError::TooWordy { .. })),
        (|r, _| r.purpose = "a\nb".to_owned(), |e| matches!(e, RequestError::Unprintable)),
        (|r, _| r.target.name = "a\u{202e}b".to_owned(), |e| matches!(e, RequestError::Unprintable)),
        (|_, t| t.approvals.clear(), |e| matches!(e, RequestError::NobodyApproves { .. })),
        (|r, _| r.duration_s = 59, |e| matches!(e, RequestError::TooShort { .. })),
        (|r, _| r.duration_s = 7201, |e| matches!(e, RequestError::TooLong { max_s: 7200 })),
        (|r, _| r.target.port = 0, |e| matches!(e, RequestError::NoPort { .. })),
        (
            |r, _| r.start = Some("2026-12-23T12:00:01Z".parse().unwrap()),
            |e| matches!(e, RequestError::TooFarAhead { .. }),
        ),
        (
            |_, t| t.contract_end = Some("2026-11-22T12:00:00Z".parse().unwrap()),
            |e| matches!(e, RequestError::ContractOver { .. }),
        ),
        (
            |_, t| {
                t.windows = Some(Schedule::parse("Mon-Sun 20:00-06:00").unwrap());
                t.contract_end = Some("2026-11-22T20:00:00Z".parse().unwrap());
            },
            |e| matches!(e, RequestError::ContractOver { .. }),
        ),
    ];
    assert_eq!(request().check(&terms(), noon()), Ok(()));
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let (mut request, mut terms) = (request(), terms());
        change(&mut request, &mut terms);
        let error = request.check(&terms, noon()).unwrap_err();
        assert!(expected(&error), "case {index}: {error:?}");
    }
    let dark = Now { trusted: false, ..noon() };
    assert_eq!(request().check(&terms(), dark), Err(RequestError::TimeUntrusted));
}

#[test]
fn a_window_ahead_is_no_refusal() {
    let mut terms = terms();
    terms.windows = Some(Schedule::parse("Mon-Sun 20:00-06:00").unwrap());
    assert_eq!(request().check(&terms, noon()), Ok(()));
    assert_eq!(terms.opens(noon().wall), Some("2026-11-22T20:00:00Z".parse().unwrap()));
    assert_eq!(terms.ends(noon().wall), None);
    assert_eq!(
        terms.ends("2026-11-22T23:00:00Z".parse().unwrap()),
        Some("2026-11-23T06:00:00Z".parse().unwrap())
    );
}
