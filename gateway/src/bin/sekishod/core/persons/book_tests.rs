use std::process::Command;

use proptest::prelude::*;

use super::*;

const SECRET: [u8; SECRET_BYTES] = *b"12345678901234567890";

fn now() -> Timestamp {
    "2026-11-22T10:00:10Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// The code as an independent program makes it.
fn oathtool(secret: &str, at: Timestamp) -> Code {
    let time = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let output = Command::new("oathtool").args(["--totp", "-b", secret, "-N", &time]).output();
    let output = output.expect("oathtool is needed (Debian package `oathtool`)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Code::new(&String::from_utf8(output.stdout).unwrap())
}

fn random() -> [[u8; RECOVERY_BYTES]; RECOVERY_CODES] {
    std::array::from_fn(|code| [u8::try_from(code).unwrap(); RECOVERY_BYTES])
}

/// A book in which `hana` enrolled just now.
fn enrolled() -> (Book, String, Vec<String>) {
    let mut book = Book::default();
    let secret = book.offer("hana", None, &SECRET, now()).unwrap();
    let confirmed = book.confirm("hana", &oathtool(&secret, now()), &random(), now()).unwrap();
    (book, secret, confirmed.recovery_codes)
}

#[test]
fn codes_are_those_of_rfc_6238() {
    // Appendix B, SHA-1, the last six of its eight digits.
    for (second, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
        let at = Timestamp::from_second(second).unwrap();
        let step = Base32::of(&SECRET).step_of(code, at);
        assert_eq!(step, Some(u64::try_from(second).unwrap() / 30), "{second}");
    }
}

#[test]
fn a_code_counts_once_and_only_about_now() {
    let (mut book, secret, _) = enrolled();
    assert_eq!(
        book.take_code("hana", &oathtool(&secret, now()), now()),
        Err(PersonError::Used),
        "confirmed with"
    );
    let next = oathtool(&secret, later(30));
    assert_eq!(book.take_code("hana", &next, now()), Ok(()), "a clock 30 s ahead");
    assert_eq!(book.take_code("hana", &next, later(30)), Err(PersonError::Used));
    assert_eq!(
        book.take_code("hana", &oathtool(&secret, now()), later(30)),
        Err(PersonError::Used),
        "an older one"
    );
    assert_eq!(book.take_code("hana", &oathtool(&secret, later(300)), later(240)), Err(PersonError::Wrong));
    assert_eq!(book.take_code("hana", &oathtool(&secret, later(240)), later(300)), Err(PersonError::Wrong));
    assert_eq!(
        book.take_code("hana", &oathtool(&secret, later(300)), later(330)),
        Ok(()),
        "a clock 30 s behind"
    );
    let other = oathtool(&secret, later(600));
    assert_eq!(book.take_code("taro", &other, later(600)), Err(PersonError::NotEnrolled("taro".to_owned())));
}

#[test]
fn wrong_codes_lock_longer_each_time_and_the_right_one_does_not_help() {
    let (mut book, secret, _) = enrolled();
    let mut at = later(3600);
    for minutes in [15, 30, 60] {
        for _ in 0..WRONG_MAX {
            assert_eq!(book.take_code("hana", &Code::new("000000"), at), Err(PersonError::Wrong));
        }
        let until = at + SignedDuration::from_mins(minutes);
        let locked = Err(PersonError::Locked { person: "hana".to_owned(), until });
        assert_eq!(book.take_code("hana", &oathtool(&secret, at), at), locked);
        let text = serde_json::to_string(&book).unwrap();
        book = serde_json::from_str(&text).unwrap();
        assert_eq!(
            book.take_code("hana", &Code::new("000000"), until - SignedDuration::from_secs(1)),
            locked
        );
        at = until;
    }
    assert_eq!(book.take_code("hana", &oathtool(&secret, at), at), Ok(()));
    for _ in 1..WRONG_MAX {
        assert_eq!(book.take_code("hana", &Code::new("000000"), at), Err(PersonError::Wrong));
    }
    at += SignedDuration::from_secs(60);
    assert_eq!(book.take_code("hana", &oathtool(&secret, at), at), Ok(()), "four are not five");
}

#[test]
fn a_lock_of_a_wrong_clock_ends_with_it() {
    let (mut book, secret, _) = enrolled();
    let wrong = later(400 * 24 * 3600);
    for _ in 0..WRONG_MAX {
        assert_eq!(book.take_code("hana", &Code::new("000000"), wrong), Err(PersonError::Wrong));
    }
    assert!(book.is_locked("hana", wrong), "by that clock it is one");
    let right = later(60);
    assert!(!book.is_locked("hana", right));
    let row = super::super::row("hana", "hana", &[], true);
    assert_eq!(book.fill(row, right).locked_until, None, "and none is shown");
    assert_eq!(book.take_code("hana", &Code::new("000000"), right), Err(PersonError::Wrong));
    assert!(!book.is_locked("hana", wrong), "forgotten: it does not come back when its time is near");
    assert_eq!(book.take_code("hana", &oathtool(&secret, right), right), Ok(()));
}

#[test]
fn the_longest_lock_is_a_lock() {
    let (mut book, secret, _) = enrolled();
    let mut at = later(3600);
    for _ in 0..=LOCK_DOUBLINGS_MAX + 1 {
        for _ in 0..WRONG_MAX {
            assert_eq!(book.take_code("hana", &Code::new("000000"), at), Err(PersonError::Wrong));
        }
        let locked = book.take_code("hana", &oathtool(&secret, at), at);
        let Err(PersonError::Locked { until, .. }) = locked else { panic!("{locked:?}") };
        assert!(until.duration_since(at) <= LOCK_LONGEST);
        at = until;
    }
    assert_eq!(LOCK_LONGEST, SignedDuration::from_hours(32), "as docs/cli.md says");
}

#[test]
fn a_factor_counts_only_once_it_was_confirmed() {
    let mut book = Book::default();
    let secret = book.offer("hana", Some("boss".to_owned()), &SECRET, now()).unwrap();
    let code = oathtool(&secret, now());
    assert!(!book.is_enrolled("hana"));
    assert_eq!(book.take_code("hana", &code, now()), Err(PersonError::NotEnrolled("hana".to_owned())));
    assert_eq!(book.confirm("hana", &Code::new("000000"), &random(), now()).unwrap_err(), PersonError::Wrong);
    assert!(book.confirm("taro", &code, &random(), now()).is_err(), "another's");
    let confirmed = book.confirm("hana", &code, &random(), now()).unwrap();
    assert_eq!((confirmed.by.as_deref(), confirmed.recovery_codes.len()), (Some("boss"), RECOVERY_CODES));
    assert!(book.confirm("hana", &code, &random(), now()).is_err(), "twice");
    book.offer("hana", None, &[7; SECRET_BYTES], later(60)).unwrap();
    let at = later(90);
    assert_eq!(book.take_code("hana", &oathtool(&secret, at), at), Ok(()), "the old one counts until then");
    let late = later(60 + 15 * 60);
    let code = oathtool(&BASE32_NOPAD.encode(&[7; SECRET_BYTES]), late);
    assert!(matches!(book.confirm("hana", &code, &random(), late), Err(PersonError::NothingOffered(_))));
    book.remove("hana").unwrap();
    assert!(!book.is_enrolled("hana") && book.remove("hana").is_err());
}

#[test]
fn an_offer_is_not_guessed_at() {
    let mut book = Book::default();
    let secret = book.offer("hana", None, &SECRET, now()).unwrap();
    for _ in 0..WRONG_MAX {
        let _ = book.confirm("hana", &Code::new("000000"), &random(), now());
    }
    let code = oathtool(&secret, now());
    assert!(matches!(book.confirm("hana", &code, &random(), now()), Err(PersonError::NothingOffered(_))));
}

#[test]
fn a_recovery_code_makes_a_new_factor_once() {
    let (mut book, old, codes) = enrolled();
    let kept = serde_json::to_string(&book).unwrap();
    assert!(codes.iter().all(|code| !kept.contains(code.as_str())), "only hashes are kept");
    let shouted = Code::new(&codes[3].to_uppercase().replace('-', " "));
    let new = book.recover("hana", &shouted, &[9; SECRET_BYTES], now()).unwrap();
    assert_eq!(book.recover("hana", &shouted, &[8; SECRET_BYTES], now()), Err(PersonError::Wrong), "used up");
    let confirmed = book.confirm("hana", &oathtool(&new, now()), &random(), now()).unwrap();
    assert_eq!(confirmed.kind, OfferKind::Recover);
    let at = later(60);
    assert_eq!(book.take_code("hana", &oathtool(&old, at), at), Err(PersonError::Wrong), "the lost one");
    assert_eq!(book.take_code("hana", &oathtool(&new, at), at), Ok(()));
    for _ in 0..WRONG_MAX {
        let guess = Code::new("aaaa-aaaa-aaaa-aaab");
        assert_eq!(book.recover("hana", &guess, &[1; SECRET_BYTES], at), Err(PersonError::Wrong));
    }
    let good = Code::new(&codes[0]);
    let locked = book.recover("hana", &good, &[1; SECRET_BYTES], at);
    assert!(matches!(locked, Err(PersonError::Locked { .. })), "guessing is locked, too: {locked:?}");
}

#[test]
fn nothing_secret_is_printed() {
    let (book, secret, _) = enrolled();
    assert!(!format!("{book:?} {:?}", Code::new("123456")).contains(&secret));
    assert!(!format!("{:?}", Code::new("123456")).contains("123456"));
}

#[test]
fn the_uri_is_what_authenticators_read() {
    let uri = otpauth_uri("sakura", "佐倉", "ABC");
    assert_eq!(uri, "otpauth://totp/Sekisho%20sakura:%E4%BD%90%E5%80%89?secret=ABC&issuer=Sekisho%20sakura");
}

proptest! {
    #[test]
    fn any_text_is_a_code_or_none(text in ".{0,80}") {
        let (mut book, _, _) = {
            let mut book = Book::default();
            let secret = book.offer("hana", None, &SECRET, now()).unwrap();
            (book, secret, ())
        };
        let _ = book.confirm("hana", &Code::new(&text), &random(), now());
        let _ = book.take_code("hana", &Code::new(&text), now());
    }
}
