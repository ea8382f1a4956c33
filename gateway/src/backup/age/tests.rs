use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;

use super::*;

/// Made by `age-keygen` 1.1.1 for this test.
const IDENTITY: &str = "AGE-SECRET-KEY-1PE0KYN6XKUNKXYASUQE95HFPA4EVVQ3WHP0DH7QM2MRXN990FHJSAQD3AL";
const RECIPIENT: &str = "age1wyje83ll49l27r4e83u8py2jyrpc2vtalcrphqn4akam4tqy4ycsnn9ss2";
/// Sealed by `age` 1.1.1 to the key above.
const BY_KEY: &str = "\
    YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBIMWpaUW9QbEttRFVCRDFNVTZBY1pwQnREeDVpeUF1TUZselZnbHR6\
    a0RNCmg0dFdQY2xMTWVwdDdiMGZkdmZDNmw4N0FCQnYzRHlXLzFXZjNYQlZpbE0KLS0tIFViR3NFT2FJZGM0blVKQ2MrenNh\
    blBXV1BEWDJiU05vV3VpL2JZMk1xbkkKAZSXi5YIMGiOIb1TTYNE7G8JS8jz2DcLEGmrc9r6xPD2a4xrZlNSGFc0wyZTu/E5\
    mCs8";
/// Sealed by `age` 1.1.1 with the words below.
const BY_WORDS: &str = "\
    YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCAydEFjL0oxV2tJSlY2TzMxN0RZQUpnIDE4CkN2R0g3RVdIdWtxTFNT\
    MExhS2IzcWtaR3Y0OStUN0h1ODhhTVRLV1g1OG8KLS0tIHF5UWt6Uk5NRjFnZVJPRFBLOUZXYmNDSVk4TVo1aWZEUmFUS0Nn\
    M001aDgKCeJ2iatJLZd+9mpH4kNqYZj9uCaB9lpX0imRrkVpj43SM/2p+Duv3A3oKfQYbW1M4bX3";
const WORDS: &str = "correct horse battery";
const PLAIN: &[u8] = b"sealed by age 1.1.1";

fn identity() -> Opener {
    Opener::Identities(vec![Identity::parse(IDENTITY).unwrap()])
}

fn words(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    seal(plain, &Lock::Recipients(vec![Recipient::parse(RECIPIENT).unwrap()])).unwrap()
}

#[test]
fn files_of_another_implementation_open() {
    let file = BASE64_STANDARD.decode(BY_KEY).unwrap();
    assert_eq!(open(&file, &identity()).unwrap().as_slice(), PLAIN);
    let file = BASE64_STANDARD.decode(BY_WORDS).unwrap();
    assert_eq!(open(&file, &Opener::Passphrase(words(WORDS))).unwrap().as_slice(), PLAIN);
    assert_eq!(
        open(&file, &Opener::Passphrase(words("correct horse"))).unwrap_err(),
        AgeError::WrongPassphrase
    );
    assert_eq!(open(&file, &identity()).unwrap_err(), AgeError::NeedsPassphrase);
}

#[test]
fn what_is_sealed_opens_with_its_key_and_no_other() {
    let other = Identity::generate().unwrap();
    let both = vec![other.recipient(), Recipient::parse(RECIPIENT).unwrap()];
    for length in [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 200_000] {
        let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let file = seal(&plain, &Lock::Recipients(both.clone())).unwrap();
        assert_eq!(*open(&file, &identity()).unwrap(), plain);
        assert_eq!(*open(&file, &Opener::Identities(vec![other.clone()])).unwrap(), plain);
        let stranger = Opener::Identities(vec![Identity::generate().unwrap()]);
        assert_eq!(open(&file, &stranger).unwrap_err(), AgeError::NoMatch);
        assert_eq!(open(&file, &Opener::Passphrase(words(WORDS))).unwrap_err(), AgeError::NeedsIdentity);
    }
}

#[test]
fn a_passphrase_seals_and_a_short_one_does_not() {
    let file = seal(PLAIN, &Lock::Passphrase(words(WORDS))).unwrap();
    assert_eq!(open(&file, &Opener::Passphrase(words(WORDS))).unwrap().as_slice(), PLAIN);
    assert_eq!(seal(PLAIN, &Lock::Passphrase(words("11 letters!"))).unwrap_err(), AgeError::ShortPassphrase);
    assert_eq!(seal(PLAIN, &Lock::Recipients(vec![])).unwrap_err(), AgeError::KeyCount);
}

#[test]
fn keys_are_read_strictly() {
    let identity = Identity::parse(IDENTITY).unwrap();
    assert_eq!(identity.recipient().to_string(), RECIPIENT);
    assert!(!format!("{identity:?}").contains("SECRET"));
    assert!(Identity::parse(&IDENTITY.to_lowercase()).is_none());
    for text in
        ["", "age1", IDENTITY, &RECIPIENT.to_uppercase(), &RECIPIENT.replace('q', "p"), "ssh-ed25519 AAAA"]
    {
        assert!(Recipient::parse(text).is_err(), "{text}");
    }
    let file = format!("# created\n\n{IDENTITY}\n");
    assert_eq!(Identity::parse_file(&file).unwrap().len(), 1);
    assert_eq!(Identity::parse_file("# none").unwrap_err(), AgeError::KeyCount);
    assert_eq!(Identity::parse_file("# a\nsecret").unwrap_err(), AgeError::Identity(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_changed_file_opens(
        change in 0..4usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), length in 0..70_000usize,
    ) {
        let mut file = sealed(&vec![7; length]);
        let (before, at) = (file.clone(), at.index(file.len()));
        match change {
            0 => file[at] ^= byte.max(1),
            1 => file.truncate(at),
            2 => file.insert(at, byte),
            _ => drop(file.remove(at)),
        }
        // An inserted byte may make the same file: a second `a` beside an `a` at the very place is one, and is not at another.
        prop_assume!(file != before);
        prop_assert!(open(&file, &identity()).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = b"age-encryption.org/v1\n".to_vec();
        prop_assert!(open(&bytes, &identity()).is_err());
        file.extend(&bytes);
        prop_assert!(open(&file, &identity()).is_err());
    }
}

/// A file whose header is these lines, with a code that nobody could have made.
fn crafted(stanzas: &str) -> Vec<u8> {
    let mac = "A".repeat(43);
    format!("age-encryption.org/v1\n{stanzas}--- {mac}\n{}", "-".repeat(40)).into_bytes()
}

#[test]
fn a_header_that_is_not_exactly_right_is_refused_before_anything_is_tried() {
    let (zero, body) = ("A".repeat(43), "A".repeat(43));
    let salt = "A".repeat(22);
    let by_key = identity();
    let by_words = Opener::Passphrase(words(WORDS));
    let error = |stanzas: &str, opener: &Opener| open(&crafted(stanzas), opener).unwrap_err();
    let is_header = |stanzas: &str, opener: &Opener| matches!(error(stanzas, opener), AgeError::Header(_));
    let scrypt = |factor: &str| format!("-> scrypt {salt} {factor}\n{body}\n");
    assert_eq!(error(&scrypt("19"), &by_words), AgeError::WorkFactor(19), "it would take half a gigabyte");
    assert_eq!(error(&scrypt("1"), &by_words), AgeError::WrongPassphrase);
    for factor in ["0", "01", "+1", "1x", "0x1", "-1", "", "300"] {
        assert!(is_header(&scrypt(factor), &by_words), "{factor}");
    }
    assert!(is_header(&scrypt("1").repeat(2), &by_words), "two passphrases");
    let x25519 = format!("-> X25519 {zero}\n{body}\n");
    assert!(is_header(&x25519, &by_key), "a share of low order");
    assert!(is_header(&(scrypt("1") + &x25519), &by_key), "a passphrase beside a key");
    assert!(is_header("", &by_key), "sealed to nobody");
    assert_eq!(error("-> grease a b\n\n", &by_key), AgeError::NoMatch);
    for stanza in [
        format!("-> X25519 {zero} more\n{body}\n"),
        format!("-> X25519 {zero}=\n{body}\n"),
        format!("-> X25519 {}B\n{body}\n", "A".repeat(42)),
        format!("-> X25519  {zero}\n{body}\n"),
        format!("-> X25519 {zero}\r\n{body}\r\n"),
        format!("-> X25519 {zero}\n{body}AA\n"),
        format!("-> X25519 {zero}\n"),
        format!("-> grease\n{}\n", "A".repeat(64)),
        format!("-> grease\n{}\n\n", "A".repeat(65)),
        "->  \n\n".to_owned(),
        "--- \n".to_owned(),
    ] {
        assert!(is_header(&stanza, &by_key), "{stanza}");
    }
    assert!(is_header(&"-> grease\n\n".repeat(65), &by_key), "too many");
    let endless = format!("-> grease {}\n\n", "a".repeat(70_000));
    assert!(is_header(&endless, &by_key), "too long");
}
