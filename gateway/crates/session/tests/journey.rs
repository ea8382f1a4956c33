//! The life of a session, told step by step: what is asked of the shell, and what each answer leads to.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::diagnostic::Language;
use policy::time::Schedule;
use session::machine::{ABSENCE_LIMIT, ANSWER_LIMIT, RECORDER_SILENCE, RETRY_WAIT, STEP_WAIT};
use session::{
    Approval, ApprovalError, Command, ConnectError, DenyError, Digest, EndReason, Event, Factor, Failure,
    KeyId, Now, Order, Protocol, RecorderFault, Request, Revised, Session, SessionId, Stand, State, Step,
    Target, Terms, Verifier,
};

/// A verifier with one good code.
struct Book;

impl Verifier for Book {
    type Error = ();

    fn verify(&mut self, _: &str, _: &Digest, code: &str, _: Now) -> Result<(), ()> {
        if code == "123456" { Ok(()) } else { Err(()) }
    }
}

fn start() -> Now {
    let wall = "2026-11-22T21:00:00Z".parse().unwrap();
    Now { wall, elapsed: Duration::from_secs(1000), trusted: true }
}

fn later(now: Now, passed: Duration) -> Now {
    Now { wall: now.wall + passed, elapsed: now.elapsed + passed, ..now }
}

fn seconds(now: Now, passed_s: u64) -> Now {
    later(now, Duration::from_secs(passed_s))
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn terms(roles: &[&str]) -> Terms {
    Terms {
        approvals: words(roles),
        max_duration_s: 7200,
        windows: Some(Schedule::parse("Mon-Sun 20:00-06:00").unwrap()),
        timezone: TimeZone::UTC,
        contract_end: None,
        idle_limit: Duration::from_secs(900),
    }
}

fn request() -> Request {
    let target = Target {
        name: "device:ehr-server:ssh".to_owned(),
        address: "192.168.10.10".parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 22,
    };
    Request {
        session: SessionId::from_random([1; 8]),
        vendor: "acme-emr".to_owned(),
        engineer: KeyId::of_spki(b"key"),
        engineer_name: "鈴木".to_owned(),
        target,
        purpose: "月次更新".to_owned(),
        start: None,
        duration_s: 3600,
    }
}

fn factor(person: &str, digest: &Digest, now: Now) -> Factor {
    Factor::obtain(&mut Book, person, digest, "123456", now).unwrap()
}

fn yes(session: &Session, person: &str, roles: &[&str], now: Now) -> Approval {
    let digest = *session.digest();
    let factor = factor(person, &digest, now);
    Approval { person: person.to_owned(), roles: words(roles), until: None, digest, factor }
}

fn approve(session: &mut Session, person: &str, roles: &[&str], now: Now) -> Result<(), ApprovalError> {
    let yes = yes(session, person, roles, now);
    session.handle_approval(yes, now)
}

fn command(session: &mut Session) -> Order {
    let order = session.poll_command().expect("a command");
    assert_eq!(session.poll_command(), None, "one thing at a time");
    order
}

fn told(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// An open session, its hour begun at `start()`.
fn open() -> Session {
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    approve(&mut session, "hanako", &["clinic"], start()).unwrap();
    let recorder = command(&mut session);
    assert_eq!(recorder.command, Command::OpenRecorder {});
    session.handle_recorder(recorder.step, Ok(()), start());
    let grant = command(&mut session);
    assert!(matches!(grant.command, Command::Grant { .. }));
    session.handle_granted(grant.step, Ok(()), start());
    assert!(matches!(session.state(start()), State::Open { .. }));
    told(&mut session);
    session
}

/// Keeps the recorder heard up to `now`.
fn heard_until(session: &mut Session, from: Now, passed_s: u64, moving: bool) -> Now {
    for second in 0..passed_s {
        session.handle_recorder_alive(seconds(from, second));
        if moving {
            session.handle_activity(seconds(from, second));
        }
    }
    seconds(from, passed_s)
}

fn closed(session: &mut Session) -> Option<EndReason> {
    told(session).into_iter().find_map(|event| match event {
        Event::Closed { why } => Some(why),
        Event::Requested
        | Event::Approved { .. }
        | Event::Denied { .. }
        | Event::Opened { .. }
        | Event::RevokeFailed(_) => None,
    })
}

#[test]
fn from_request_to_the_end_of_the_hour() {
    let now = start();
    let mut session = Session::request(request(), terms(&["clinic"]), now).unwrap();
    assert_eq!(told(&mut session), [Event::Requested]);
    assert_eq!(session.poll_command(), None);
    assert_eq!(session.handle_connect(now), Err(ConnectError::NotApproved));
    approve(&mut session, "hanako", &["clinic", "admin"], now).unwrap();
    assert_eq!(told(&mut session), [Event::Approved { by: "hanako".to_owned(), complete: true }]);
    let recorder = command(&mut session);
    session.handle_recorder(recorder.step, Ok(()), now);
    let Order { step, command: Command::Grant { end } } = command(&mut session) else { panic!("no grant") };
    assert_eq!(end.left(now), Duration::from_secs(3600));
    assert_eq!(end.left(seconds(now, 1)), Duration::from_secs(3599));
    assert_eq!(session.handle_connect(now), Err(ConnectError::Opening));
    session.handle_granted(step, Ok(()), now);
    assert_eq!(told(&mut session), [Event::Opened { until: end.wall }]);
    assert_eq!(session.handle_connect(now), Ok(end));
    let now = heard_until(&mut session, now, 3600, true);
    session.handle_timeout(now);
    assert_eq!(command(&mut session).command, Command::Revoke {});
    assert_eq!(closed(&mut session), Some(EndReason::Expired {}));
    assert_eq!(session.handle_connect(now), Err(ConnectError::Over));
}

#[test]
fn a_grant_is_taken_back_until_it_is_gone() {
    let mut session = open();
    session.handle_end(EndReason::Killed { by: "hanako".to_owned() }, start());
    let first = command(&mut session);
    told(&mut session);
    session.handle_revoked(first.step, Err(Failure("netlink".to_owned())), start());
    assert_eq!(told(&mut session), [Event::RevokeFailed("netlink".to_owned())]);
    assert_eq!(session.poll_timeout(start()), Some(start().elapsed + RETRY_WAIT));
    let now = later(start(), RETRY_WAIT);
    session.handle_timeout(now);
    let second = command(&mut session);
    assert_eq!(second.command, Command::Revoke {});
    session.handle_revoked(first.step, Ok(()), now);
    assert!(!session.is_finished(), "a late answer to the first is none to the second");
    let now = later(now, STEP_WAIT);
    session.handle_timeout(now);
    let third = command(&mut session);
    session.handle_revoked(third.step, Ok(()), now);
    assert!(session.is_finished());
    assert_eq!(session.poll_timeout(now), None);
}

#[test]
fn the_waiting_for_a_window_is_no_work() {
    let noon = Now { wall: "2026-11-22T12:00:00Z".parse().unwrap(), ..start() };
    let mut session = Session::request(request(), terms(&["clinic"]), noon).unwrap();
    approve(&mut session, "hanako", &["clinic"], noon).unwrap();
    assert_eq!(session.poll_command(), None);
    let opens: Timestamp = "2026-11-22T20:00:00Z".parse().unwrap();
    assert_eq!(session.state(noon), State::Approved { opens: Some(opens) });
    assert_eq!(session.handle_connect(noon), Err(ConnectError::NotYet));
    let now = seconds(noon, 8 * 3600);
    session.handle_timeout(now);
    let recorder = command(&mut session);
    session.handle_recorder(recorder.step, Ok(()), now);
    let Command::Grant { end } = command(&mut session).command else { panic!("no grant") };
    assert_eq!(end.left(now), Duration::from_secs(3600));
}

#[test]
fn the_end_of_the_window_cuts_the_hour_short() {
    let late = Now { wall: "2026-11-22T05:50:00Z".parse().unwrap(), ..start() };
    let mut session = Session::request(request(), terms(&["clinic"]), late).unwrap();
    approve(&mut session, "hanako", &["clinic"], late).unwrap();
    let recorder = command(&mut session);
    session.handle_recorder(recorder.step, Ok(()), late);
    let Command::Grant { end } = command(&mut session).command else { panic!("no grant") };
    assert_eq!(end.left(late), Duration::from_secs(600));
}

#[test]
fn two_roles_are_two_persons_in_any_order() {
    let mut session = Session::request(request(), terms(&["clinic", "it"]), start()).unwrap();
    approve(&mut session, "both", &["clinic", "it"], start()).unwrap();
    assert_eq!(
        approve(&mut session, "both", &["clinic", "it"], start()),
        Err(ApprovalError::Twice { person: "both".to_owned() })
    );
    assert!(matches!(approve(&mut session, "admin", &["admin"], start()), Err(ApprovalError::NoRole { .. })));
    assert_eq!(session.poll_command(), None);
    approve(&mut session, "clinic", &["clinic"], start()).unwrap();
    assert_eq!(command(&mut session).command, Command::OpenRecorder {});
}

#[test]
fn a_yes_to_something_else_is_no_yes() {
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    let other = Digest::of(b"another request");
    let mut wrong = yes(&session, "hanako", &["clinic"], start());
    wrong.digest = other;
    assert_eq!(session.handle_approval(wrong, start()), Err(ApprovalError::OtherRequest));
    let mut borrowed = yes(&session, "hanako", &["clinic"], start());
    borrowed.factor = factor("taro", session.digest(), start());
    assert_eq!(session.handle_approval(borrowed, start()), Err(ApprovalError::Factor));
    let mut replayed = yes(&session, "hanako", &["clinic"], start());
    replayed.factor = factor("hanako", &other, start());
    assert_eq!(session.handle_approval(replayed, start()), Err(ApprovalError::Factor));
    let stale = yes(&session, "hanako", &["clinic"], start());
    assert_eq!(session.handle_approval(stale, seconds(start(), 31)), Err(ApprovalError::Factor));
    let mut gone = yes(&session, "hanako", &["clinic"], start());
    gone.until = Some(start().wall);
    assert!(matches!(session.handle_approval(gone, start()), Err(ApprovalError::PersonOver { .. })));
    assert!(Factor::obtain(&mut Book, "hanako", session.digest(), "000000", start()).is_err());
    assert_eq!(session.poll_command(), None);
}

#[test]
fn an_approver_who_leaves_before_the_opening_no_longer_counts() {
    let noon = Now { wall: "2026-11-22T12:00:00Z".parse().unwrap(), ..start() };
    let mut session = Session::request(request(), terms(&["clinic"]), noon).unwrap();
    let mut approval = yes(&session, "hanako", &["clinic"], noon);
    approval.until = Some("2026-11-22T15:00:00Z".parse().unwrap());
    session.handle_approval(approval, noon).unwrap();
    session.handle_timeout(seconds(noon, 8 * 3600));
    assert_eq!(session.poll_command(), None);
    assert_eq!(closed(&mut session), Some(EndReason::Revoked {}));
}

#[test]
fn a_yes_counts_no_longer_than_the_factor_that_it_was_said_with() {
    let noon = Now { wall: "2026-11-22T12:00:00Z".parse().unwrap(), ..start() };
    let mut session = Session::request(request(), terms(&["clinic"]), noon).unwrap();
    approve(&mut session, "hanako", &["clinic"], noon).unwrap();
    session.handle_factor_lost("taro", noon);
    assert!(matches!(session.state(noon), State::Approved { .. }), "he said nothing");
    session.handle_factor_lost("hanako", noon);
    assert_eq!(closed(&mut session), Some(EndReason::Revoked {}), "it waited for its window");
    session.handle_timeout(seconds(noon, 8 * 3600));
    assert_eq!(session.poll_command(), None);

    let mut session = Session::request(request(), terms(&["clinic", "it"]), start()).unwrap();
    approve(&mut session, "hanako", &["clinic"], start()).unwrap();
    session.handle_factor_lost("hanako", start());
    assert_eq!(closed(&mut session), Some(EndReason::Revoked {}), "it waited for another yes");
    assert_eq!(approve(&mut session, "taro", &["it"], start()), Err(ApprovalError::NotWaiting));
}

#[test]
fn what_a_lost_factor_opened_is_closed() {
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    approve(&mut session, "hanako", &["clinic"], start()).unwrap();
    session.handle_factor_lost("hanako", start());
    assert_eq!(session.poll_command(), None, "an order that nobody took is of no use");
    assert_eq!(closed(&mut session), Some(EndReason::Revoked {}));

    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    approve(&mut session, "hanako", &["clinic"], start()).unwrap();
    let recorder = command(&mut session);
    session.handle_recorder(recorder.step, Ok(()), start());
    let grant = command(&mut session);
    session.handle_factor_lost("hanako", start());
    assert_eq!(command(&mut session).command, Command::Revoke {}, "the kernel may have it already");
    session.handle_granted(grant.step, Ok(()), start());
    assert_eq!(closed(&mut session), Some(EndReason::Revoked {}));

    let mut session = open();
    session.handle_factor_lost("taro", start());
    assert!(matches!(session.state(start()), State::Open { .. }), "he said nothing");
    session.handle_factor_lost("hanako", start());
    assert_eq!(command(&mut session).command, Command::Revoke {});
    assert_eq!(closed(&mut session), Some(EndReason::Revoked {}));
    session.handle_factor_lost("hanako", start());
    assert_eq!(closed(&mut session), None, "once");
}

/// A policy with these terms and these persons.
fn policy(session: &Session, terms: Terms, persons: &[(&str, &[&str])]) -> Option<Revised> {
    let stand = |roles: &[&str]| Stand { roles: words(roles), until: None };
    let persons = persons.iter().map(|(person, roles)| ((*person).to_owned(), stand(roles))).collect();
    Some(Revised { target: session.asked().target.clone(), terms, persons })
}

#[test]
fn another_policy_is_held_to_by_what_is_open() {
    let night = Schedule::parse("Mon-Sun 20:00-06:00").unwrap();
    let hour = Schedule::parse("Mon-Sun 20:00-21:30").unwrap();
    let hanako = ("hanako", &["clinic"][..]);
    let over = Some("2026-11-22T21:30:00Z".parse().unwrap());
    for (what, terms, persons, ends) in [
        ("the same", terms(&["clinic"]), vec![hanako], false),
        ("wider", Terms { windows: None, max_duration_s: 9000, ..terms(&["clinic"]) }, vec![hanako], false),
        (
            "the same window, said anew",
            Terms { windows: Some(night), ..terms(&["clinic"]) },
            vec![hanako],
            false,
        ),
        ("a further approval", terms(&["clinic", "it"]), vec![hanako], true),
        ("a shorter window", Terms { windows: Some(hour), ..terms(&["clinic"]) }, vec![hanako], true),
        (
            "a contract that ends sooner",
            Terms { contract_end: over, ..terms(&["clinic"]) },
            vec![hanako],
            true,
        ),
        ("a shorter time", Terms { max_duration_s: 600, ..terms(&["clinic"]) }, vec![hanako], true),
        ("an approver without the role", terms(&["clinic"]), vec![("hanako", &["it"][..])], true),
        ("an approver who is gone", terms(&["clinic"]), vec![], true),
    ] {
        let mut session = open();
        told(&mut session);
        let revised = policy(&session, terms, &persons);
        session.handle_policy(revised, seconds(start(), 1));
        assert_eq!(closed(&mut session), ends.then_some(EndReason::PolicyChanged {}), "{what}");
        if ends {
            assert_eq!(command(&mut session).command, Command::Revoke {}, "{what}");
        }
    }
    let mut session = open();
    told(&mut session);
    session.handle_policy(None, seconds(start(), 1));
    assert_eq!(closed(&mut session), Some(EndReason::PolicyChanged {}), "the vendor is gone");
}

#[test]
fn a_request_waits_for_what_another_policy_asks() {
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    let revised = policy(&session, terms(&["clinic", "it"]), &[]);
    session.handle_policy(revised, start());
    approve(&mut session, "hanako", &["clinic"], start()).unwrap();
    assert!(matches!(session.state(start()), State::Requested { missing, .. } if missing == ["it"]));
    // And for no more than it asks.
    let revised = policy(&session, terms(&["clinic"]), &[("hanako", &["clinic"])]);
    session.handle_policy(revised, start());
    assert_eq!(command(&mut session).command, Command::OpenRecorder {});
}

#[test]
fn no_answer_and_no_are_ends() {
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    session.handle_timeout(later(start(), ANSWER_LIMIT));
    assert_eq!(closed(&mut session), Some(EndReason::Expired {}));
    let late = later(start(), ANSWER_LIMIT);
    assert_eq!(approve(&mut session, "hanako", &["clinic"], late), Err(ApprovalError::NotWaiting));
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    session.handle_denial("hanako", "夜間は\n不可", start()).unwrap();
    assert_eq!(
        session.state(start()),
        State::Denied { by: "hanako".to_owned(), reason: "夜間は 不可".to_owned() }
    );
    assert_eq!(approve(&mut session, "taro", &["clinic"], start()), Err(ApprovalError::NotWaiting));
    assert_eq!(session.handle_denial("hanako", "", start()), Err(DenyError::Over));
    assert_eq!(open().handle_denial("hanako", "", start()), Err(DenyError::Open));
}

#[test]
fn each_way_to_end_is_named() {
    let silent = later(start(), RECORDER_SILENCE);
    let mut session = open();
    session.handle_timeout(silent);
    assert_eq!(closed(&mut session), Some(EndReason::RecorderFailed {}));

    let mut session = open();
    session.handle_recorder_fault(&RecorderFault::DiskFull, start());
    assert_eq!(closed(&mut session), Some(EndReason::DiskFull {}));

    let mut session = open();
    let now = heard_until(&mut session, start(), 900, false);
    session.handle_timeout(now);
    assert_eq!(closed(&mut session), Some(EndReason::Idle {}));

    let mut session = open();
    session.handle_absent(start());
    let now = heard_until(&mut session, start(), ABSENCE_LIMIT.as_secs(), true);
    session.handle_timeout(now);
    assert_eq!(closed(&mut session), Some(EndReason::Disconnected {}));

    let mut session = Session::orphan(request(), terms(&["clinic"]), start()).unwrap();
    assert_eq!(command(&mut session).command, Command::Revoke {});
    assert_eq!(closed(&mut session), Some(EndReason::CoreRestarted {}));
}

#[test]
fn a_clock_that_is_set_never_moves_an_end_later() {
    let mut session = open();
    let back = Now { wall: start().wall - Duration::from_secs(86_400), ..start() };
    let now = heard_until(&mut session, back, 3600, true);
    session.handle_timeout(now);
    assert_eq!(closed(&mut session), Some(EndReason::Expired {}));
    let mut session = open();
    let ahead = Now { wall: start().wall + Duration::from_secs(86_400), ..start() };
    session.handle_timeout(ahead);
    assert_eq!(closed(&mut session), Some(EndReason::Expired {}));
}

#[test]
fn a_grant_that_fails_is_taken_back_all_the_same() {
    let mut session = Session::request(request(), terms(&["clinic"]), start()).unwrap();
    approve(&mut session, "hanako", &["clinic"], start()).unwrap();
    let recorder = command(&mut session);
    session.handle_recorder(Step(recorder.step.0 + 1), Ok(()), start());
    assert_eq!(session.poll_command(), None, "an answer to nothing opens nothing");
    session.handle_recorder(recorder.step, Ok(()), start());
    let grant = command(&mut session);
    session.handle_granted(grant.step, Err(Failure("not read back".to_owned())), start());
    assert_eq!(command(&mut session).command, Command::Revoke {});
    assert_eq!(closed(&mut session), Some(EndReason::GrantFailed {}));
}

#[test]
fn every_refusal_speaks_both_languages() {
    for error in [ConnectError::NotApproved, ConnectError::NotYet, ConnectError::Opening, ConnectError::Over]
    {
        assert_eq!(error.text(Language::En), error.to_string());
        assert!(error.text(Language::Ja).contains("ください"), "{error:?}");
    }
}
