//! An engineer enrols, asks, is let in, works, is thrown out; and tries what he may not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use gateway::wire::doors::{EndReason, SessionState};
use transport::protocol::{Ask, Opening, Reply, SessionId, VERSION};
use transport::{Carrier, Credentials, FreshKey, Pin, Stream, Wish, dial, frame};

use crate::site::{LIMIT, Site, free_port, lines};

const TARGET: &str = "device:record-server:ssh";

fn enrol(site: &Site, home: &str, secret: u8, transport: &str) {
    let (code, gateway) = (site.invite(secret), site.gateway());
    let output = site.run(home, &["--transport", transport, "enrol", "--gateway", &gateway, &code]);
    assert!(output.status.success(), "{output:?}");
}

/// `open`, in the background, with its output in a file.
fn open(site: &Site, home: &str, transport: &str) -> (Child, u16) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let wanted = ["open", TARGET, "--purpose", "月次点検", "--for", "30m", "--listen", &listen];
    let output = std::fs::File::create(site.home(&format!("{home}.out"))).unwrap();
    let mut command = site.vendor(home, &["--transport", transport]);
    let child = command.args(wanted).stdout(output).stderr(Stdio::inherit()).spawn().unwrap();
    (child, port)
}

fn echo_back(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut back = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        let mut writing = stream.try_clone().unwrap();
        scope.spawn(move || writing.write_all(bytes).unwrap());
        stream.read_exact(&mut back).unwrap();
    });
    assert!(back == bytes, "other bytes came back");
    stream
}

fn journey(transport: &str) {
    let site = Site::start();
    enrol(&site, "suzuki", 1, transport);
    let (mut vendor, port) = open(&site, "suzuki", transport);
    site.wait_until("the request is there", || site.session_count() == 1);
    // Nothing passes before the clinic has said yes: the local address answers, and carries nothing.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!site.log().iter().any(|entry| entry.contains("connection-opened")));
    site.set(SessionState::Open, None);
    site.wait_until("it is open", || lines(&site.home("suzuki.out")).contains("\"open\""));
    let block = vec![0x5a; 3 << 20];
    let first = echo_back(port, &block);
    drop(first);
    let mut second = echo_back(port, b"hello");
    site.wait_until("core hears that bytes move", || site.known.lock().unwrap().moved > 0);
    // The clinic kills: the connection ends with the session, and the client says why.
    site.set(SessionState::Closed, Some("killed"));
    let mut rest = Vec::new();
    let _ = second.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let status = vendor.wait().unwrap();
    assert_eq!(status.code(), Some(6));
    let said = lines(&site.home("suzuki.out"));
    assert!(said.contains("killed") && said.contains("\"connections\":2"), "{said}");
    let bytes = block.len() + 5;
    assert!(said.contains(&format!("\"sent_bytes\":{bytes},\"received_bytes\":{bytes}")), "{said}");
    let log = site.log();
    for (what, count) in [("connection-opened", 2), ("connection-closed", 2)] {
        assert_eq!(log.iter().filter(|entry| entry.contains(what)).count(), count, "{what}: {log:#?}");
    }
    let receipts = std::fs::read_dir(site.home("suzuki").join("receipts")).unwrap();
    assert_eq!(receipts.count(), 1);
}

#[test]
fn an_engineer_works_over_quic_until_the_clinic_ends_it() {
    journey("quic");
}

#[test]
fn an_engineer_works_over_tcp_until_the_clinic_ends_it() {
    journey("tcp");
}

/// A code is good once; a key without a certificate gets nowhere; a refusal says what to do.
#[test]
fn what_may_not_be_is_refused_with_a_word() {
    let site = Site::start();
    let output = site.run("nobody", &["status", "s-abcdefghijkl"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let code = site.invite(1);
    let gateway = site.gateway();
    let enrol = |home| site.run(home, &["enrol", "--gateway", &gateway, &code]);
    assert!(enrol("suzuki").status.success());
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(enrol("sato").status.code(), Some(5), "a code is good once");
    assert_eq!(site.run("sato", &["enrol", "--gateway", &gateway, "SKV1-AAAA"]).status.code(), Some(2));
    assert_eq!(site.run("suzuki", &["status", "s-abcdefghijkl"]).status.code(), Some(3), "no such session");
    let anywhere = ["connect", "s-abcdefghijkl", "--listen", "0.0.0.0:2222"];
    assert_eq!(site.run("suzuki", &anywhere).status.code(), Some(2), "others could use the way");
    // A revoked engineer is out, and stays out.
    site.known.lock().unwrap().engineers.enrolled.clear();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(site.run("suzuki", &["status", "s-abcdefghijkl"]).status.code(), Some(5));
}

fn credentials(site: &Site, home: &str) -> (Credentials, Pin) {
    let read = |name: &str| std::fs::read_to_string(site.home(home).join(name)).unwrap();
    let credentials = FreshKey::from_pem(&read("key.pem")).unwrap().with_chain(&read("chain.pem")).unwrap();
    let pin = Pin::Authority(credentials.authority().unwrap().clone());
    (credentials, pin)
}

async fn stream_of(site: &Site, home: &str) -> (transport::Channel, Stream) {
    let (credentials, pin) = credentials(site, home);
    let address = site.gateway().parse().unwrap();
    let dialled = dial(address, &credentials, &pin, Wish::Only(Carrier::Quic)).await.unwrap();
    let stream = dialled.channel.open().await.unwrap();
    (dialled.channel, stream)
}

async fn word(stream: &mut Stream) -> String {
    match frame::read::<Reply>(stream).await.unwrap() {
        Reply::Refused(refusal) => refusal.word,
        other => panic!("{other:?}"),
    }
}

/// A client that lies about everything gets a refusal or nothing, and the session of another stays another's.
#[test]
fn a_liar_gets_nothing() {
    let site = Site::start();
    enrol(&site, "suzuki", 1, "tcp");
    enrol(&site, "sato", 2, "quic");
    let wanted = ["request", TARGET, "--purpose", "check", "--for", "30m"];
    let output = site.run("suzuki", &wanted);
    assert!(output.status.success(), "{output:?}");
    site.set(SessionState::Open, None);
    let session = site.known.lock().unwrap().sessions.keys().next().unwrap().to_string();
    let session = SessionId::try_from(session).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Another's session, by every door.
        let (channel, mut stream) = stream_of(&site, "sato").await;
        frame::write(&mut stream, &Opening::Forward { session: session.clone() }).await.unwrap();
        assert_eq!(word(&mut stream).await, "no-such-session");
        let mut control = channel.open().await.unwrap();
        frame::write(&mut control, &Opening::Control { version: VERSION }).await.unwrap();
        assert!(matches!(frame::read::<Reply>(&mut control).await.unwrap(), Reply::Welcome { .. }));
        for ask in [
            Ask::Follow { session: session.clone(), seen: 0 },
            Ask::End { session: session.clone() },
            Ask::Receipt { session: session.clone() },
        ] {
            frame::write(&mut control, &ask).await.unwrap();
            assert_eq!(word(&mut control).await, "no-such-session", "{ask:?}");
        }
        let mut again = channel.open().await.unwrap();
        frame::write(&mut again, &Opening::Control { version: 7 }).await.unwrap();
        assert_eq!(word(&mut again).await, "other-version");
        // Frames that are none: the stream ends, the channel lives.
        for bytes in [&[0xff; 8][..], b"\0\0\0\x02{}", b"\0\0\0\x10{\"control\":{}}xx"] {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = channel.open().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            let mut seen = Vec::new();
            let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut seen)).await.unwrap();
            assert!(seen.is_empty(), "{seen:?}");
        }
        let mut last = channel.open().await.unwrap();
        frame::write(&mut last, &Opening::Control { version: VERSION }).await.unwrap();
        assert!(matches!(frame::read::<Reply>(&mut last).await.unwrap(), Reply::Welcome { .. }));
    });
    assert!(!site.log().iter().any(|entry| entry.contains("connection-opened")), "a liar was carried");
    assert!(site.known.lock().unwrap().ended.is_empty());
}

/// What cannot be recorded does not happen: the connection is refused, and the session ends.
#[test]
fn without_the_record_nothing_is_carried() {
    let mut site = Site::start();
    enrol(&site, "suzuki", 1, "quic");
    let (mut vendor, port) = open(&site, "suzuki", "quic");
    site.wait_until("the request is there", || site.session_count() == 1);
    site.set(SessionState::Open, None);
    site.wait_until("it is open", || lines(&site.home("suzuki.out")).contains("\"open\""));
    drop(echo_back(port, b"recorded"));
    site.kill_record();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = stream.write_all(b"unrecorded");
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back);
    assert!(back.is_empty(), "unrecorded bytes passed");
    site.wait_until("core is told", || {
        site.known.lock().unwrap().ended.iter().any(|(_, why)| *why == EndReason::RecorderFailed)
    });
    assert_eq!(vendor.wait().unwrap().code(), Some(6));
}

/// Edge may die: the engineer's client takes the line up again, and the session is still his.
#[test]
fn a_session_is_found_again_after_edge_restarted() {
    let mut site = Site::start();
    enrol(&site, "suzuki", 1, "tcp");
    let (mut vendor, port) = open(&site, "suzuki", "tcp");
    site.wait_until("the request is there", || site.session_count() == 1);
    site.set(SessionState::Open, None);
    site.wait_until("it is open", || lines(&site.home("suzuki.out")).contains("\"open\""));
    drop(echo_back(port, b"before"));
    let held = echo_back(port, b"on its way");
    site.restart_edge();
    site.wait_until("the end of what the former edge carried is told", || {
        site.log().iter().any(|entry| entry.contains("connection-lost"))
    });
    drop(held);
    site.wait_until("bytes pass again", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut back = [0; 5];
        stream.write_all(b"after").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"after"
    });
    site.set(SessionState::Closed, Some("expired"));
    assert_eq!(vendor.wait().unwrap().code(), Some(6));
    assert!(lines(&site.home("suzuki.out")).contains("expired"));
    // Every connection has a number of its own and one end: the second went with edge.
    let numbers = |site: &Site, what: &str| -> Vec<u64> {
        let entries = site.log().into_iter().map(|entry| serde_json::from_str(&entry).unwrap());
        let changes = entries.map(|entry: serde_json::Value| entry["event"]["change"].clone());
        let mut own: Vec<u64> = changes
            .filter(|change| change["what"] == what)
            .map(|change| change["connection"].as_u64().unwrap())
            .collect();
        own.sort_unstable();
        own
    };
    assert_eq!(numbers(&site, "connection-lost"), [2]);
    site.wait_until("every end is told", || {
        let ends = [numbers(&site, "connection-closed"), numbers(&site, "connection-lost")].concat();
        ends.len() == numbers(&site, "connection-opened").len()
    });
    let mut ends = [numbers(&site, "connection-closed"), numbers(&site, "connection-lost")].concat();
    ends.sort_unstable();
    assert_eq!(ends, numbers(&site, "connection-opened"));
    assert_eq!(ends, (1..).take(ends.len()).collect::<Vec<u64>>());
}
