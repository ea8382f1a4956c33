//! Ends that nobody says: the engineer is gone, the log is full. And whose word an end or a no was, by name.
use std::{
    fmt::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use gateway::{
    client,
    wire::{
        Answer, Ask, FaultKind,
        doors::{DoorsAnswer, SessionId, SessionState},
        record::RecordAsk,
    },
};
use jiff::Timestamp;
use lab::RoleRunner;
use serde_json::{Value, json};
use session::machine::ABSENCE_LIMIT;

use crate::{
    edge::Edge,
    ready::{Approver, Ready, SSH, connect, echoes, policy, with_input},
    vendor::{Vendor, sink},
};

/// How long core may take to see that nobody follows, with room for a loaded machine.
const SEEN_LIMIT: Duration = Duration::from_secs(30);
/// Entries that fill the smallest log: long ones first, then such as fit where those did not.
const FILLERS_BYTES: [usize; 3] = [50_000, 1_000, 1];
const FILL_LIMIT: Duration = Duration::from_secs(300);
const LENGTH_S: u32 = 600;

fn requested(edge: &mut Edge) -> SessionId {
    match edge.request(Ready::engineer(), SSH, LENGTH_S) {
        DoorsAnswer::Requested { session, .. } => session,
        other => panic!("{other:?}"),
    }
}

/// How a session stands, asked as an admin: that is no sign of the engineer.
fn shown(ready: &Ready, session: &SessionId) -> Value {
    ready.site.run(&["--json", "session", "show", session.as_str()]).succeeded().json()["standing"].clone()
}

#[test]
fn an_engineer_who_stays_away_ends_it_and_one_who_comes_back_does_not() {
    let ready = Ready::new();
    let server = ready.echo("ehr-server", 22);
    let mut approver = Approver::new(&ready);
    let mut edge = ready.edge();
    let (gone, stays) = (requested(&mut edge), requested(&mut edge));
    let mut streams = Vec::new();
    for session in [&gone, &stays] {
        approver.approve(&ready, session);
        edge.wait(session, SessionState::Open, Duration::from_secs(15));
        let (_, socket) = edge.connect_to(session);
        streams.push(connect(socket.unwrap(), server).unwrap());
    }
    // Of one nobody hears any more, of the other after half the time.
    let begun = Instant::now();
    edge.follow(&gone, 0);
    thread::sleep(ABSENCE_LIMIT / 2);
    assert_eq!(edge.follow(&stays, 0).state, SessionState::Open);
    assert_eq!(shown(&ready, &gone)["state"], "open", "a line that breaks is taken up again");
    while shown(&ready, &gone)["state"] == "open" {
        // It may end between the two looks: then the session is over before the path.
        let is_open = echoes(&mut streams[0], b"still open");
        assert!(is_open || shown(&ready, &gone)["state"] != "open", "the path is closed before the session");
        assert!(begun.elapsed() < ABSENCE_LIMIT + SEEN_LIMIT, "a session without an engineer goes on");
        edge.follow(&stays, 0);
        thread::sleep(Duration::from_millis(500));
    }
    assert!(begun.elapsed() >= ABSENCE_LIMIT, "he had time to come back");
    assert_eq!(shown(&ready, &gone)["why"], "disconnected");
    assert!(!echoes(&mut streams[0], b"after the end"));
    assert_eq!(shown(&ready, &stays)["state"], "open");
    assert!(echoes(&mut streams[1], b"of him who stays"));
    let (answer, socket) = edge.connect_to(&gone);
    assert!(matches!(answer, DoorsAnswer::Failed(_)) && socket.is_none(), "{answer:?}");
    with_the_factor_goes_what_it_opened(&ready, &stays, &mut streams[1]);
    ready.site.assert_verified();
}

/// A phone is lost: the session that its owner said yes to ends with the factor.
fn with_the_factor_goes_what_it_opened(ready: &Ready, session: &SessionId, stream: &mut TcpStream) {
    let remove = ready.site.sekisho(&["person", "remove", "taro", "--by", "hana"]);
    with_input(remove, &ready.hana.code(0)).succeeded();
    let begun = Instant::now();
    while shown(ready, session)["state"] == "open" {
        assert!(begun.elapsed() < Duration::from_secs(5), "what he said yes to goes on");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(shown(ready, session)["why"], "revoked");
    assert!(!echoes(stream, b"after the end"));
}

#[test]
fn a_full_log_opens_nothing_and_ends_what_is_open_by_a_word_of_its_own() {
    let mut ready = Ready::new();
    ready.site.start_role("sekisho-edge");
    sink(&ready, "ehr-server", 22);
    let mut approver = Approver::new(&ready);
    let vendor = Vendor::enrolled(&ready);
    let mut visit = vendor.open(2222);
    let open: SessionId = visit.session.clone().try_into().unwrap();
    approver.approve(&ready, &open);
    visit.wait_open();
    let work = visit.work();
    let mut edge = ready.edge();
    let waiting = requested(&mut edge);

    ready.site.apply(&format!("{}\n[evidence]\nlog_budget = \"64 MB\"\n", policy()));
    fill_log(&ready);
    approver.approve(&ready, &waiting);
    let closed = edge.wait(&waiting, SessionState::Closed, Duration::from_secs(30));
    assert_eq!(closed.why.as_deref(), Some("disk-full"), "nothing opens that cannot be recorded");
    assert_eq!(shown(&ready, &open)["state"], "open", "what was recorded goes on");

    let again = vendor.host().run_in(|| TcpStream::connect("127.0.0.1:2222").unwrap()).unwrap();
    let closed = edge.wait(&open, SessionState::Closed, Duration::from_secs(30));
    assert_eq!(closed.why.as_deref(), Some("disk-full"), "no connection goes unrecorded");
    drop((again, work, visit));
    // The reserve takes the ends, and the list begins with them, however long the entries before are.
    let last = ["--json", "audit", "list", "--kind", "session", "--limit", "6"];
    let told = || ready.site.run(&last).succeeded().out.matches("\"disk-full\"").count();
    let begun = Instant::now();
    while told() < 2 {
        assert!(begun.elapsed() < SEEN_LIMIT, "the ends are not in the log");
        thread::sleep(Duration::from_millis(200));
    }
}

fn fill_log(ready: &Ready) {
    let socket = RoleRunner::runtime_root(ready.site.lab()).join("sekisho-record/record.sock");
    let begun = Instant::now();
    for bytes in FILLERS_BYTES {
        loop {
            let deed = json!({ "deed": "restore-check", "sha256": "0".repeat(bytes) });
            let event = json!({ "kind": "done", "by": rustix::process::geteuid().as_raw(), "deed": deed });
            let event = serde_json::from_value(event).unwrap();
            let ask = Ask::Record(RecordAsk::Append { at: Timestamp::now(), event, again: false });
            match client::ask(&socket, ask).unwrap() {
                Answer::Record(_) => assert!(begun.elapsed() < FILL_LIMIT, "the log is never full"),
                Answer::Failed(fault) if fault.kind == FaultKind::Busy => {}
                Answer::Failed(fault) if fault.kind == FaultKind::Full => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_no_and_an_end_name_the_person_and_need_no_code() {
    let ready = Ready::new();
    let mut edge = ready.edge();
    let sessions: Vec<SessionId> = (0..6).map(|_| requested(&mut edge)).collect();
    let end = |session: &SessionId, more: &[&str], code: &str| {
        let arguments = [&["session", "kill", session.as_str()], more].concat();
        with_input(ready.site.sekisho(&arguments), code).succeeded();
        assert_eq!(shown(&ready, session)["why"], "killed");
    };
    end(&sessions[0], &[], "");
    end(&sessions[1], &["--person", "山田 太郎"], "");
    end(&sessions[2], &["--person", "taro", "--code-file", "-"], "000000");
    end(&sessions[3], &["--person", "nobody", "--code-file", "/nonexistent"], "");
    end(&sessions[4], &["--person", "山田 太郎", "--code-file", "-"], &ready.taro.code(0));
    let mut deny = vec!["session", "deny", sessions[5].as_str(), "--reason", "今日は不要"];
    deny.extend(["--person", "taro", "--code-file", "-"]);
    with_input(ready.site.sekisho(&deny), &ready.taro.code(1)).succeeded();

    let logged = ready.logged("session");
    let of = |session: &SessionId, what: &str, key: &str| {
        let is_it = |event: &&Value| event["session"] == session.as_str() && event["change"]["what"] == what;
        logged.iter().find(is_it).unwrap()["change"][key].as_str().unwrap().to_owned()
    };
    let by: Vec<String> = sessions[..5].iter().map(|session| of(session, "closed", "by")).collect();
    let unproved = |person: &str| format!("account `root`, as `{person}` without proof");
    let expected = [
        "account `root`".to_owned(),
        unproved("taro"),
        unproved("taro"),
        unproved("nobody"),
        "taro".to_owned(),
    ];
    assert_eq!(by, expected);
    assert_eq!(of(&sessions[5], "denied", "person"), "taro");
}

#[test]
fn a_peer_that_leaves_the_policy_is_told_as_revoked() {
    let ready = Ready::new();
    let peers = |names: &[(&str, &str)]| {
        let mut text = format!("{}\n[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/24\"]\n", policy());
        for (name, key) in names {
            // 32 equal bytes in base64.
            let key = format!("{}{}=", key.repeat(10), &key[..3]);
            let _ = write!(
                text,
                "\n[[vpn.peer]]\nname = \"{name}\"\nperson = \"hana\"\npublic_key = \"{key}\"\n\
                 reach = [\"device:ehr-server:https\"]\n"
            );
        }
        text
    };
    ready.site.apply(&peers(&[("note", "AQEB"), ("tablet", "AgIC"), ("desk", "AwMD")]));
    ready.site.apply(&peers(&[("note", "AQEB"), ("tablet", "BAQE")]));
    ready.site.apply(&policy());
    let told: Vec<_> =
        ready.logged("vpn").iter().map(|event| (event["peer"].clone(), event["change"].clone())).collect();
    let revoked = |peer: &str| (json!(peer), json!("revoked"));
    assert_eq!(
        told,
        ["desk", "tablet", "note", "tablet"].map(revoked),
        "and one whose key is another one's now"
    );
}
