//! Approvals that are none, and peers that are not edge.
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, EndReason, SessionState};

use crate::ready::{Ready, SSH};

const NOT_PERMITTED: i32 = 5;
/// How long connections that were left may take to make room.
const ROOM_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn only_the_right_person_with_a_new_code_over_what_was_shown_approves() {
    let ready = Ready::new();
    let mut edge = ready.edge();
    let (session, digest) = edge.requested(Ready::engineer(), SSH);
    let (twin, twins_digest) = edge.requested(Ready::engineer(), SSH);
    assert_ne!(digest, twins_digest, "an approval of one request is none of its twin");

    let code = ready.taro.code(0);
    let seen = |digest: &str| vec!["--digest".to_owned(), digest.to_owned()];
    for digest in [&twins_digest, &"0".repeat(64)] {
        let more = seen(digest);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        ready.approve(&session, "taro", &code, &more).failed(NOT_PERMITTED, &["not what would open"]);
    }
    ready.approve(&session, "taro", "000000", &[]).failed(NOT_PERMITTED, &["wrong"]);
    ready.approve(&session, "nobody", &code, &[]).failed(NOT_PERMITTED, &["knows no person"]);
    ready.approve(&session, "hana", &code, &[]).failed(NOT_PERMITTED, &["wrong"]);
    ready.approve(&session, "jiro", &ready.jiro.code(0), &[]).failed(NOT_PERMITTED, &["stands for no role"]);
    let standing = edge.follow(&session, 0);
    assert_eq!((standing.state, standing.missing), (SessionState::Requested, vec!["clinic".to_owned()]));

    // The wrong digest did not spend the code; the approval does, for every request.
    ready.approve(&session, "taro", &code, &[]).succeeded();
    ready.approve(&twin, "taro", &code, &[]).failed(NOT_PERMITTED, &["used already"]);
    edge.wait(&session, SessionState::Open, Duration::from_secs(15));
    assert_eq!(edge.follow(&twin, 0).state, SessionState::Requested);
    let (answer, socket) = edge.connect_to(&twin);
    assert!(matches!(answer, DoorsAnswer::Failed(_)) && socket.is_none(), "{answer:?}");
    ready.site.run(&["session", "deny", twin.as_str(), "--reason", "今日は不要"]).succeeded();
    let denied = edge.follow(&twin, 0);
    assert_eq!((denied.state, denied.why.as_deref()), (SessionState::Denied, Some("今日は不要")));
    ready.approve(&twin, "taro", &ready.taro.code(1), &[]).failed(NOT_PERMITTED, &["waits for no approval"]);
}

#[test]
fn guessing_locks_the_person_also_across_a_restart() {
    let mut ready = Ready::new();
    let mut edge = ready.edge();
    let (session, _) = edge.requested(Ready::engineer(), SSH);
    for _ in 0..5 {
        ready.approve(&session, "taro", "000000", &[]).failed(NOT_PERMITTED, &["wrong"]);
    }
    ready.approve(&session, "taro", &ready.taro.code(0), &[]).failed(NOT_PERMITTED, &["locked until"]);
    ready.site.kill_core();
    ready.site.start_core();
    let mut edge = ready.edge();
    assert!(matches!(edge.ask(DoorsAsk::Follow { session, seen: 0 }), DoorsAnswer::Failed(_)));
    let (session, _) = edge.requested(Ready::engineer(), SSH);
    ready.approve(&session, "taro", &ready.taro.code(1), &[]).failed(NOT_PERMITTED, &["locked until"]);
    let rows = ready.site.run(&["--json", "person", "list"]).succeeded().json();
    let taro = rows.as_array().unwrap().iter().find(|row| row["person"] == "taro").unwrap();
    assert!(taro["locked_until"].is_string(), "{taro}");
    let changes: Vec<_> = ready.logged("person").iter().map(|event| event["change"].clone()).collect();
    assert_eq!(changes.iter().filter(|change| *change == "locked").count(), 1, "{changes:?}");
    assert_eq!(
        ready.logged("session").iter().filter(|event| event["change"]["why"] == "core-restarted").count(),
        1,
        "the request of the former run"
    );
}

#[test]
fn strangers_and_garbage_get_nothing_at_the_doors_socket() {
    let ready = Ready::new();
    let path = ready.site.runtime().join("doors.sock");
    let program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])";
    let as_stranger = |group: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", group, "--clear-groups", "python3", "-c"]);
        // Debian's own, which every user may run.
        command.env("PATH", "/usr/bin:/bin");
        let reads = format!("{program}; s.settimeout(5); sys.exit(0 if s.recv(1) == b'' else 9)");
        command.arg(reads).arg(&path).output().unwrap()
    };
    let out = as_stranger("nogroup");
    assert!(String::from_utf8_lossy(&out.stderr).contains("PermissionError"), "{out:?}");
    let out = as_stranger("sekisho-edge");
    assert!(out.status.success(), "a stranger in edge's group is let go without a word: {out:?}");

    for bytes in [
        b"\xff\xff\xff\xff".to_vec(),
        b"\x00\x01\x00\x00".to_vec(),
        b"\x00\x00\x00\x02{}".to_vec(),
        [&[0, 0, 0, 48][..], br#"{"version":9,"ask":{"engineers":{}},"more":true}"#].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.contains("bad-request"), "{bytes:?}: {text}");
    }
    // Many connections at once, each silent: the next are turned away, and those that leave make room.
    let many: Vec<_> = (0..80).map(|_| UnixStream::connect(&path)).collect();
    drop(many);
    let begun = Instant::now();
    let mut edge = loop {
        let mut edge = ready.edge();
        match edge.try_ask(DoorsAsk::Engineers {}) {
            Some((DoorsAnswer::Engineers(_), None)) => break edge,
            other => assert!(begun.elapsed() < ROOM_LIMIT, "no room for edge: {other:?}"),
        }
        thread::sleep(Duration::from_millis(50));
    };
    let session: gateway::wire::doors::SessionId = "s-aaaaaaaaaaaa".to_owned().try_into().unwrap();
    for ask in [
        DoorsAsk::Connect { session: session.clone() },
        DoorsAsk::Moved { session: session.clone() },
        DoorsAsk::End { session, why: EndReason::Finished },
    ] {
        assert!(matches!(edge.ask(ask), DoorsAnswer::Failed(_)), "no such session");
    }
}
