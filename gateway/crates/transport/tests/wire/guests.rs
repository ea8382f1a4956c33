//! Who comes in, and who gets an alert: every certificate that is nearly right, over both carriers.

use std::sync::atomic::Ordering;

use crate::ground::{Authority, Leaf, comes_in, echo, engineer_leaf, key_id, listed};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Usage, IsCa};
use transport::{
    AuthorityHash, Carrier, Credentials, FreshKey, Guests, Invitation, KeyId, Pin, Quality, Vouched,
};

const BOTH: [Carrier; 2] = [Carrier::Quic, Carrier::Tcp];

#[tokio::test]
async fn only_listed_keys_with_a_fitting_certificate_come_in() {
    let (clinic, vendor, other) = (Authority::new("clinic"), Authority::new("acme"), Authority::new("other"));
    let stranger = Authority::new("stranger");
    let leaf = |usages, years| Leaf { usages, years, ..engineer_leaf() };
    let wrong = [
        ("expired", clinic.sign(&leaf(vec![Usage::ClientAuth], (2020, 2021)))),
        ("not yet valid", clinic.sign(&leaf(vec![Usage::ClientAuth], (2080, 2090)))),
        ("for servers only", clinic.sign(&leaf(vec![Usage::ServerAuth], (2020, 2090)))),
        ("for nothing in particular", clinic.sign(&leaf(vec![], (2020, 2090)))),
        ("of another vendor's authority", other.engineer()),
        ("of nobody's authority", stranger.engineer()),
    ];
    let good = [("of the clinic", clinic.engineer()), ("of the vendor", vendor.engineer())];
    let unlisted = clinic.engineer();
    for carrier in BOTH {
        let mut guests = Guests {
            authority: Some(clinic.certificate.clone()),
            vendors: [
                ("acme".to_owned(), vendor.certificate.clone()),
                ("other".to_owned(), other.certificate.clone()),
            ]
            .into(),
            ..Guests::default()
        };
        // All keys are on the list: what keeps the wrong ones out is the certificate alone.
        for (_, credentials) in wrong.iter().chain(&good) {
            guests.engineers.insert(key_id(credentials), listed("acme"));
        }
        let door = echo(&clinic.gateway(), guests);
        for (what, credentials) in &wrong {
            let outcome = comes_in(door.address, credentials, &clinic.pin(), carrier).await;
            assert!(outcome.is_err(), "{what} over {carrier:?}");
        }
        let outcome = comes_in(door.address, &unlisted, &clinic.pin(), carrier).await;
        assert!(outcome.is_err(), "not on the list, over {carrier:?}");
        assert_eq!(door.counters.admitted.load(Ordering::Relaxed), 0);
        assert_eq!(door.counters.refused.load(Ordering::Relaxed), 7);
        for (what, credentials) in &good {
            let outcome = comes_in(door.address, credentials, &clinic.pin(), carrier).await;
            assert_eq!(outcome, Ok(()), "{what} over {carrier:?}");
        }
        // The same again, once the list no longer names them.
        door.guests.replace(Guests { authority: Some(clinic.certificate.clone()), ..Guests::default() });
        assert!(
            comes_in(door.address, &good[0].1, &clinic.pin(), carrier).await.is_err(),
            "revoked, {carrier:?}"
        );
    }
}

/// Whoever a vendor's own authority vouches for needs no place on the list, and nobody else comes in without one.
#[tokio::test]
async fn a_vendors_own_authority_vouches_for_its_engineers_and_for_nobody_else() {
    let (clinic, acme, other) = (Authority::new("clinic"), Authority::new("acme"), Authority::new("other"));
    let (shared, sly) = (Authority::new("shared"), Authority::new("sly"));
    let leaf = |usages, years| Leaf { usages, years, ..engineer_leaf() };
    let barred = acme.engineer();
    let guests = Guests {
        authority: Some(clinic.certificate.clone()),
        vendors: [
            ("acme", &acme),
            ("other", &other),
            ("one", &shared),
            ("two", &shared),
            ("clinic", &clinic),
        ]
        .map(|(vendor, authority)| (vendor.to_owned(), authority.certificate.clone()))
        .into(),
        barred: [key_id(&barred)].into(),
        ..Guests::default()
    };
    let between = acme.under("acme, Osaka", IsCa::Ca(BasicConstraints::Constrained(0)));
    let good = [
        ("of acme", acme.engineer(), "acme", &acme),
        ("of acme, by one between", between.engineer(), "acme", &acme),
        ("of the other", other.engineer(), "other", &other),
    ];
    let wrong = [
        ("of nobody's authority", sly.engineer()),
        ("expired", acme.sign(&leaf(vec![Usage::ClientAuth], (2020, 2021)))),
        ("not yet valid", acme.sign(&leaf(vec![Usage::ClientAuth], (2080, 2090)))),
        ("for servers only", acme.sign(&leaf(vec![Usage::ServerAuth], (2020, 2090)))),
        ("for nothing in particular", acme.sign(&leaf(vec![], (2020, 2090)))),
        ("signed by somebody who may not", acme.under("engineer", IsCa::ExplicitNoCa).engineer()),
        ("of an authority of that name", Authority::new("acme").engineer()),
        ("of two vendors' authority", shared.engineer()),
        ("of the clinic's authority, unlisted", clinic.engineer()),
        ("revoked by the clinic", barred),
    ];
    let now = "2026-11-22T10:00:00Z".parse().unwrap();
    let admit = |guests: &Guests, credentials: &Credentials| {
        let chain = transport::credentials::read_chain(&credentials.chain_pem()).unwrap();
        guests.admit(&chain[0], &chain[1..], now).ok()
    };
    for (what, credentials, vendor, authority) in &good {
        let spki = webpki::EndEntityCert::try_from(&authority.certificate).unwrap().subject_public_key_info();
        let vouched = Vouched {
            vendor: (*vendor).to_owned(),
            authority: KeyId::of_spki(&spki),
            name: "engineer".to_owned(),
            not_after: "2090-01-01T00:00:00Z".parse().unwrap(),
        };
        assert_eq!(admit(&guests, credentials), Some(Quality::Vouched(vouched)), "{what}");
    }
    let without = Guests { vendors: [].into(), ..guests.clone() };
    assert_eq!(admit(&without, &good[0].1), None, "the policy no longer names the authority");
    for carrier in BOTH {
        let door = echo(&clinic.gateway(), guests.clone());
        for (what, credentials) in &wrong {
            let outcome = comes_in(door.address, credentials, &clinic.pin(), carrier).await;
            assert!(outcome.is_err(), "{what} over {carrier:?}");
        }
        assert_eq!(door.counters.admitted.load(Ordering::Relaxed), 0);
        for (what, credentials, ..) in &good {
            let outcome = comes_in(door.address, credentials, &clinic.pin(), carrier).await;
            assert_eq!(outcome, Ok(()), "{what} over {carrier:?}");
        }
    }
}

#[tokio::test]
async fn an_invitation_comes_in_by_its_key_and_a_wrong_secret_does_not() {
    let clinic = Authority::new("clinic");
    let spki = webpki::EndEntityCert::try_from(&clinic.certificate).unwrap().subject_public_key_info();
    let invitation = Invitation::new([3; 16], &spki);
    let wrong = Invitation::new([4; 16], &spki);
    for carrier in BOTH {
        let guests = Guests {
            authority: Some(clinic.certificate.clone()),
            invitations: [invitation.key_id()].into(),
            ..Guests::default()
        };
        let door = echo(&clinic.gateway(), guests);
        let pin = Pin::Hash(invitation.authority());
        let credentials = Credentials::invited(&invitation).unwrap();
        assert_eq!(key_id(&credentials), invitation.key_id());
        assert_eq!(comes_in(door.address, &credentials, &pin, carrier).await, Ok(()));
        let forged = Credentials::invited(&wrong).unwrap();
        assert!(comes_in(door.address, &forged, &pin, carrier).await.is_err());
        door.guests.replace(Guests { authority: Some(clinic.certificate.clone()), ..Guests::default() });
        assert!(comes_in(door.address, &credentials, &pin, carrier).await.is_err(), "used up");
    }
}

#[tokio::test]
async fn the_client_takes_no_other_gateway_for_its_own() {
    let (clinic, other) = (Authority::new("clinic"), Authority::new("clinic"));
    let engineer = clinic.engineer();
    let guests = || Guests {
        authority: Some(clinic.certificate.clone()),
        engineers: [(key_id(&engineer), listed("acme"))].into(),
        ..Guests::default()
    };
    let leaf = |usages, name| Leaf { usages, name, years: (2020, 2090) };
    let false_gateways = [
        ("of another clinic", other.gateway()),
        ("an engineer's certificate", clinic.sign(&leaf(vec![Usage::ClientAuth], "sekisho-gateway"))),
        ("of another name", clinic.sign(&leaf(vec![Usage::ServerAuth], "gateway"))),
        (
            "expired",
            clinic.sign(&Leaf { years: (2020, 2021), ..leaf(vec![Usage::ServerAuth], "sekisho-gateway") }),
        ),
    ];
    let spki = webpki::EndEntityCert::try_from(&clinic.certificate).unwrap().subject_public_key_info();
    for carrier in BOTH {
        for (what, gateway) in &false_gateways {
            let door = echo(gateway, guests());
            for pin in [clinic.pin(), Pin::Hash(AuthorityHash::of_spki(&spki))] {
                let error = comes_in(door.address, &engineer, &pin, carrier).await.unwrap_err();
                assert!(error.contains("handshake"), "{what}: {error}");
            }
        }
        let door = echo(&clinic.gateway(), guests());
        for pin in [clinic.pin(), Pin::Hash(AuthorityHash::of_spki(&spki))] {
            assert_eq!(comes_in(door.address, &engineer, &pin, carrier).await, Ok(()));
        }
        let pin = Pin::Hash(AuthorityHash::of_spki(b"another"));
        assert!(comes_in(door.address, &engineer, &pin, carrier).await.is_err());
    }
}

#[test]
fn a_chain_for_another_key_is_refused() {
    let clinic = Authority::new("clinic");
    let chain = clinic.engineer().chain_pem();
    assert!(FreshKey::make().unwrap().with_chain(&chain).is_err());
    assert!(FreshKey::make().unwrap().with_chain("nothing").is_err());
}
