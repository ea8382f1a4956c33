//! Who comes in, and who gets an alert: every certificate that is nearly right, over both carriers.

use std::sync::atomic::Ordering;

use crate::ground::{Authority, Leaf, comes_in, echo, engineer_leaf, key_id, listed};
use rcgen::ExtendedKeyUsagePurpose as Usage;
use transport::{AuthorityHash, Carrier, Credentials, FreshKey, Guests, Invitation, Pin};

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
