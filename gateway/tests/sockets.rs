//! A role's socket against whoever can connect: garbage, lies about lengths, silence, crowds.
//! The watch role serves here, for it needs no privilege; core's socket is the same code.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway::client::{self, ClientError};
use gateway::wire::frame::{self, HEAD_BYTES};
use gateway::wire::{Answer, Ask, FaultKind, Request, VERSION};
use proptest::prelude::*;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

struct Watch {
    child: Child,
    directory: TempDir,
}

impl Watch {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sekishod"))
            .arg("watch")
            .arg("--runtime-dir")
            .arg(directory.path())
            .arg("--state-dir")
            .arg(directory.path())
            .arg("--services")
            .arg(directory.path())
            .arg("--feed")
            .arg(directory.path().join("feed.sock"))
            .arg("--record")
            .arg(directory.path().join("record.sock"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let watch = Watch { child, directory };
        let start = Instant::now();
        while UnixStream::connect(watch.socket()).is_err() {
            assert!(start.elapsed() < PATIENCE, "the role does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        watch
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("watch.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What is answered to these bytes, if anything.
    fn say(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // It may have heard enough before it heard everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.get(HEAD_BYTES..).map(|body| frame::decode(body).unwrap())
    }

    /// Asks until there is room: earlier clients may not have been seen off yet.
    fn still_serves(&self) {
        let start = Instant::now();
        loop {
            match client::ask(&self.socket(), Ask::Denials {}).unwrap() {
                Answer::Denials(_) => return,
                Answer::Failed(fault) if fault.kind == FaultKind::Busy && start.elapsed() < PATIENCE => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_bad_request(answer: Option<Answer>) -> bool {
    matches!(answer, Some(Answer::Failed(fault)) if fault.kind == FaultKind::BadRequest)
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[test]
fn garbage_gets_a_typed_error_and_the_role_serves_on() {
    let watch = Watch::start();
    assert!(is_bad_request(watch.say(b"GET / HTTP/1.1\r\nHost: clinic\r\n\r\n")), "a length of 1.2 GB");
    assert!(is_bad_request(watch.say(&[0xff; 64])));
    assert!(is_bad_request(watch.say(&framed(b"{}"))));
    assert!(is_bad_request(watch.say(&framed(b"{\"version\":1,\"ask\":{\"denials\":{}},\"x\":1}"))));
    assert!(is_bad_request(watch.say(&framed("[".repeat(100_000).as_bytes()))), "deep nesting");
    match watch.say(&framed(b"{\"version\":77,\"ask\":\"new\"}")) {
        Some(Answer::Failed(fault)) => assert!(fault.message.contains("77"), "{}", fault.message),
        other => panic!("{other:?}"),
    }
    assert!(watch.say(b"\0\0").is_none(), "a head cut off has no answer");
    assert!(watch.say(&[&1000u32.to_be_bytes()[..], b"{"].concat()).is_none());
    watch.still_serves();
}

#[test]
fn core_s_orders_are_not_for_this_role() {
    let watch = Watch::start();
    let bytes = frame::encode(&Request { version: VERSION, ask: Ask::TimeTrusted {} }).unwrap();
    assert!(is_bad_request(watch.say(&bytes)));
}

#[test]
fn a_crowd_is_turned_away_with_a_word() {
    let watch = Watch::start();
    let silent: Vec<_> = (0..16).map(|_| watch.connect()).collect();
    let mut late = watch.connect();
    let mut answer = Vec::new();
    late.read_to_end(&mut answer).unwrap();
    match frame::decode(&answer[HEAD_BYTES..]).unwrap() {
        Answer::Failed(fault) => assert_eq!(fault.kind, FaultKind::Busy),
        other => panic!("{other:?}"),
    }
    drop(silent);
    watch.still_serves();
}

#[test]
fn a_client_does_not_hang_on_a_dead_socket() {
    let watch = Watch::start();
    let socket = watch.socket();
    drop(watch);
    assert!(matches!(client::ask(&socket, Ask::Denials {}), Err(ClientError::Unreachable { .. })));
}

#[test]
fn any_bytes_leave_the_role_serving() {
    let watch = Watch::start();
    let cases = ProptestConfig::with_cases(200);
    proptest!(cases, |(bytes in prop::collection::vec(any::<u8>(), 0..300), is_framed in any::<bool>())| {
        let bytes = if is_framed { framed(&bytes) } else { bytes };
        let answer = watch.say(&bytes);
        let quiet = answer.is_none() || matches!(answer, Some(Answer::Failed(_)));
        prop_assert!(quiet, "{answer:?}");
    });
    watch.still_serves();
}
