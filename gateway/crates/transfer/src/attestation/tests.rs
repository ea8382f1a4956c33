use super::envelope::pae;
use super::*;

const SITE: &str = "sakura-01";
const SESSION: &str = "s-abcdefghijkl";

fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn name() -> FileName {
    FileName::parse("検査結果.pdf").unwrap()
}

fn said() -> Sanitized {
    Sanitized {
        sanitizer: Tool { name: "sekisho-inspect".to_owned(), version: "0.1.0".to_owned() },
        verdict: Found::Clean,
        sanitized_at: "2026-11-22T11:59:00Z".parse().unwrap(),
        expires_at: "2026-11-22T13:00:00Z".parse().unwrap(),
        recipient: SITE.to_owned(),
        session: SESSION.to_owned(),
        nonce: "00112233445566778899aabbccddeeff".to_owned(),
        size_bytes: 1234,
    }
}

fn hash() -> Hash {
    Hash::of(b"the file")
}

fn check(envelope: &str, spent: &mut Spent) -> Result<Attested, AttestationError> {
    let name = name();
    let expected = Expected { name: &name, size_bytes: 1234, sha256: hash(), site: SITE, session: SESSION };
    verify(envelope, &signer().key(), &expected, spent, now())
}

fn fresh(envelope: &str) -> Result<Attested, AttestationError> {
    check(envelope, &mut Spent::default())
}

/// Signs any payload: what a sender with a good key and bad intent can do.
fn sealed(payload: &str) -> String {
    envelope::seal(payload.as_bytes(), &signer()).unwrap()
}

fn payload() -> String {
    String::from_utf8(statement::write(&name(), hash(), &said()).unwrap()).unwrap()
}

#[test]
fn the_encoding_is_that_of_the_specification() {
    // The example of DSSE's protocol.md.
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    // RFC 8032, section 7.1, test 1: the key of this seed.
    let seed =
        crate::ids::from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
    let key: [u8; 32] =
        crate::ids::from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    assert!(Signer::from_seed(&seed).spki().ends_with(&key));
}

#[test]
fn what_was_signed_is_verified_once() {
    let envelope = sign(&name(), hash(), &said(), &signer()).unwrap();
    let mut spent = Spent::default();
    assert_eq!(check(&envelope, &mut spent).unwrap().said(), &said());
    assert_eq!(check(&envelope, &mut spent).unwrap_err(), AttestationError::Replayed);
    assert_eq!(spent.len(), 1);
}

#[test]
fn another_key_is_another_sender() {
    let envelope = sign(&name(), hash(), &said(), &Signer::from_seed(&[8; 32])).unwrap();
    assert_eq!(fresh(&envelope).unwrap_err(), AttestationError::OtherKey);
    let mine = signer().key().id().to_string();
    let theirs = Signer::from_seed(&[8; 32]).key().id().to_string();
    assert_eq!(fresh(&envelope.replace(&theirs, &mine)).unwrap_err(), AttestationError::Signature);
    assert_eq!(SignerKey::from_spki(&[0; 44]), Err(AttestationError::Key));
    let mut weak = signer().spki();
    weak[12..].fill(0);
    assert_eq!(SignerKey::from_spki(&weak), Err(AttestationError::Key));
    assert_eq!(SignerKey::from_spki(&[signer().spki(), vec![0]].concat()), Err(AttestationError::Key));
}

#[test]
fn a_statement_with_a_good_signature_must_still_say_the_right_thing() {
    let good = payload();
    assert!(fresh(&sealed(&good)).is_ok());
    let changes = [
        ("検査結果.pdf", "検査結果2.pdf"),
        ("検査結果.pdf", "../検査結果.pdf"),
        ("\"sizeBytes\":1234", "\"sizeBytes\":1235"),
        ("\"sizeBytes\":1234", "\"sizeBytes\":1234.0"),
        ("\"sizeBytes\":1234", "\"sizeBytes\":1234,\"sizeBytes\":1234"),
        ("\"sizeBytes\":1234", "\"sizeBytes\":1234,\"more\":1"),
        ("\"verdict\":\"clean\"", "\"verdict\":\"unknown\""),
        ("\"verdict\":\"clean\"", "\"verdict\":null"),
        ("\"verdict\":\"clean\",", ""),
        ("2026-11-22T13:00:00Z", "2026-11-22T13:00Z"),
        ("2026-11-22T13:00:00Z", "2026-11-22T13:00:00+00:00"),
        ("sakura-01", "momo-02"),
        ("s-abcdefghijkl", "s-abcdefghijkm"),
        ("00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF"),
        ("00112233445566778899aabbccddeeff", "00112233445566778899aabbccddee"),
        ("2026-11-22T11:59:00Z", "2026-11-22T12:06:00Z"),
        ("2026-11-22T11:59:00Z", "2026-11-21T12:59:00Z"),
        ("2026-11-22T13:00:00Z", "2026-11-22T12:00:00Z"),
        ("2026-11-22T13:00:00Z", "2026-11-22T11:00:00Z"),
        ("\"version\":\"0.1.0\"", "\"version\":\"\""),
        ("\"version\":\"0.1.0\"", "\"version\":\"0.1.0\",\"version\":\"0.1.0\""),
        ("\"name\":\"sekisho-inspect\"", "\"name\":\"a\\u0007\""),
        ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"),
        ("sanitized/v1", "sanitized/v2"),
        ("\"_type\"", "\"_kind\""),
        ("\"subject\":[", "\"subject\":[],\"other\":["),
        ("\"digest\":{\"sha256\"", "\"digest\":{\"sha1\":\"00\",\"sha256\""),
    ];
    for (old, new) in changes {
        assert!(good.contains(old), "{old}");
        let changed = good.replacen(old, new, 1);
        assert!(fresh(&sealed(&changed)).is_err(), "{changed}");
    }
    let twice = good.replacen(
        "\"subject\":[",
        &format!("\"subject\":[{},", &good[good.find("{\"name\"").unwrap()..good.find("],\"pred").unwrap()]),
        1,
    );
    assert!(fresh(&sealed(&twice)).is_err(), "{twice}");
    assert!(fresh(&sealed(&format!("{good} {{}}"))).is_err());
    assert!(fresh(&sealed(&format!("{good}x"))).is_err());
}

#[test]
fn an_envelope_is_read_strictly() {
    let good = sealed(&payload());
    let signature = &good[good.find("{\"keyid\"").unwrap()..good.rfind("]}").unwrap()];
    let changes = [
        good.replace("application/vnd.in-toto+json", "application/json"),
        good.replace("\"payloadType\"", "\"payloadtype\""),
        good.replace(signature, &format!("{signature},{signature}")),
        good.replace(signature, ""),
        good.replacen('{', "{\"more\":1,", 1),
        good.replacen("\"payload\":", "\"payload\":\"\",\"payload\":", 1),
        format!("{good}{{}}"),
        good.replace("\"sig\":\"", "\"sig\":\" "),
        good.replace("\"sig\":\"", "\"sig\":\"AA"),
        " ".repeat(ENVELOPE_BYTES_MAX) + &good,
        String::new(),
    ];
    assert!(fresh(&good).is_ok());
    for changed in changes {
        assert_ne!(changed, good);
        assert!(fresh(&changed).is_err(), "{changed}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut spent = Spent::default();
    let (key, until) = (hash(), now() + SKEW);
    for n in 0..spent::SPENT_MAX {
        assert_eq!(spent.spend(key, (n as u128).to_be_bytes(), until, now()), Ok(()));
    }
    assert_eq!(spent.spend(key, [0xff; 16], until, now()), Err(AttestationError::Full));
    assert_eq!(spent.spend(key, [0xff; 16], until, until), Ok(()), "what expired is forgotten");
    assert_eq!(spent.len(), 1);
}

/// Splitmix64: small, and the same everywhere.
fn roll(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Changes one byte, takes some away, or puts some in.
fn mutated(text: &str, dice: &mut u64) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = usize::try_from(roll(dice) % bytes.len() as u64).unwrap();
    let printable = |dice: &mut u64| u8::try_from(0x21 + roll(dice) % 0x5e).unwrap();
    match roll(dice) % 4 {
        0 | 1 => bytes[at] = printable(dice),
        2 => {
            bytes.drain(at..(at + 1 + usize::try_from(roll(dice) % 20).unwrap()).min(bytes.len()));
        }
        _ => bytes.insert(at, printable(dice)),
    }
    String::from_utf8(bytes).ok().filter(|changed| changed != text)
}

#[test]
fn ten_thousand_changed_statements_are_refused_and_good_ones_are_not() {
    let mut dice = 0x0007_E57A_7104_u64;
    let good = payload();
    let envelope = sealed(&good);
    let (mut outside, mut inside, mut same) = (0, 0, 0);
    while outside < 5_000 || inside < 5_000 {
        // Outside: the envelope after signing. Inside: the statement before, by a sender whose key is good.
        if let Some(changed) = mutated(&envelope, &mut dice) {
            assert!(fresh(&changed).is_err(), "{changed}");
            outside += 1;
        }
        let Some(changed) = mutated(&good, &mut dice) else { continue };
        match fresh(&sealed(&changed)) {
            Err(_) => inside += 1,
            // Another nonce, tool or time that holds as well is another good statement, not a forged one: what binds it
            // to this file, clinic and session is unchanged.
            Ok(attested) => {
                let other = attested.said();
                let bound = (other.size_bytes, other.recipient.as_str(), other.session.as_str());
                assert_eq!(bound, (1234, SITE, SESSION), "{changed}");
                let json = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
                let same_text = json(&changed) == json(&good);
                assert!(same_text || other != &said(), "two texts of one meaning: {changed}");
                same += 1;
            }
        }
    }
    println!("refused {outside} envelopes and {inside} statements; {same} were good ones");
    for n in 0..1_000_u32 {
        let mut other = said();
        other.nonce = format!("{n:032x}");
        assert!(fresh(&sign(&name(), hash(), &other, &signer()).unwrap()).is_ok());
    }
}
