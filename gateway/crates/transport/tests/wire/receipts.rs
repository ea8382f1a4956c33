//! Receipts: the clinic's gateway signs them, nobody else can, and a changed one proves nothing.

use transport::KeyId;
use transport::receipt::{Receipt, SignedReceipt};

use crate::ground::Authority;

fn receipt() -> Receipt {
    let at = |text: &str| text.parse().unwrap();
    Receipt {
        v: Receipt::VERSION,
        session: "s-abcdefghijkl".to_owned(),
        engineer: KeyId::of_spki(b"key"),
        vendor: "acme".to_owned(),
        target: "device:record-server:ssh".to_owned(),
        purpose: "月次点検".to_owned(),
        digest: "0".repeat(64),
        requested_at: at("2026-11-22T10:00:00Z"),
        opened_at: Some(at("2026-11-22T10:05:00Z")),
        closed_at: at("2026-11-22T10:30:00Z"),
        why: "finished".to_owned(),
        connections: 2,
        sent_bytes: 1000,
        received_bytes: 2000,
        log_index: Some(77),
    }
}

#[test]
fn a_receipt_is_verified_with_the_authority_alone() {
    let clinic = Authority::new("clinic");
    let signed = SignedReceipt::sign(&receipt(), &clinic.gateway()).unwrap();
    assert_eq!(signed.verify(&clinic.certificate).unwrap(), receipt());
    // As it travels and rests.
    let text = serde_json::to_string(&signed).unwrap();
    let read: SignedReceipt = serde_json::from_str(&text).unwrap();
    assert!(read.verify(&clinic.certificate).is_ok());
}

#[test]
fn what_was_changed_or_signed_by_others_proves_nothing() {
    let (clinic, other) = (Authority::new("clinic"), Authority::new("clinic"));
    let signed = SignedReceipt::sign(&receipt(), &clinic.gateway()).unwrap();
    for (from, to) in [("1000", "1001"), ("finished", "finishes"), ("\"log_index\":77", "\"log_index\":78")] {
        let mut forged = signed.clone();
        forged.receipt = forged.receipt.replace(from, to);
        assert_ne!(forged.receipt, signed.receipt);
        assert!(forged.verify(&clinic.certificate).is_err(), "{from} -> {to}");
    }
    assert!(signed.verify(&other.certificate).is_err(), "another clinic's authority");
    let by_engineer = SignedReceipt::sign(&receipt(), &clinic.engineer()).unwrap();
    assert!(by_engineer.verify(&clinic.certificate).is_err(), "an engineer is no gateway");
    let mut mixed = signed.clone();
    mixed.chain_pem = SignedReceipt::sign(&receipt(), &clinic.gateway()).unwrap().chain_pem;
    assert!(mixed.verify(&clinic.certificate).is_err(), "another key of the same clinic");
    let mut newer = receipt();
    newer.v = 2;
    let newer = SignedReceipt::sign(&newer, &clinic.gateway()).unwrap();
    assert!(newer.verify(&clinic.certificate).is_err(), "another version");
}
