//! Bad input to the whole gateway: noise and floods at every Unix socket, and an engineer who lies about his files.
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use gateway::{
    client,
    wire::{Answer, Ask, doors::SessionId},
};
use lab::RoleRunner;
use sha2::{Digest as _, Sha256};
use transport::Carrier;

use crate::{
    guests::{Told, of_home, raw},
    ready::{self, Ready},
    site::Random,
    whole::{DOORS, Engineer, FILES, Roles, during, eventually},
};

/// Every socket at which a role reads what is said, and the role.
const SOCKETS: [(&str, &str); 7] = [
    ("sekisho/core.sock", "sekisho-core"),
    ("sekisho/doors.sock", "sekisho-core"),
    ("sekisho/measure.sock", "sekisho-core"),
    ("sekisho-edge/edge.sock", "sekisho-edge"),
    ("sekisho-files/files.sock", "sekisho-files"),
    ("sekisho-record/record.sock", "sekisho-record"),
    ("sekisho-watch/watch.sock", "sekisho-watch"),
];
/// Those that say what their role measured.
const MEASURED: [&str; 6] = [
    "sekisho/core.sock",
    "sekisho/measure.sock",
    "sekisho-edge/edge.sock",
    "sekisho-files/files.sock",
    "sekisho-record/record.sock",
    "sekisho-watch/watch.sock",
];
/// Noisy connections to each socket, and silent ones at once: more than any of them serves.
const NOISY: usize = 200;
const SILENT: usize = 120;
/// A role keeps no more of what was said badly.
const GROWTH_KIB: u64 = 24 << 10;
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn noise_floods_and_lies_leave_every_role_as_it_was() {
    during(&format!("{}{FILES}", ready::policy()), |ready, roles, _| {
        let engineer = Engineer::enrolled(ready, "vendor", "suzuki");
        ready.echo("ehr-server", 22);
        let before = memory(roles);
        let mut random = Random::new("noise");
        for (socket, role) in SOCKETS {
            let path = RoleRunner::runtime_root(ready.site.lab()).join(socket);
            noise(&path, &mut random);
            silence(&path);
            println!("{socket}: {} KiB of {role}", memory(roles)[role]);
        }
        roles.assert_alive();
        for (role, after) in memory(roles) {
            let grown = after.saturating_sub(before[role]);
            assert!(grown < GROWTH_KIB, "{role} has grown by {grown} KiB");
        }
        // Places come free again as those who held them leave.
        eventually("everybody is heard again", || {
            let answers = |(socket, _): (&str, &str)| {
                let path = RoleRunner::runtime_root(ready.site.lab()).join(socket);
                matches!(client::ask(&path, Ask::Measure {}), Ok(Answer::Measured(_)))
            };
            SOCKETS.into_iter().filter(|(socket, _)| MEASURED.contains(socket)).all(answers)
        });
        lies(ready, &engineer);
        roles.assert_alive();
        ready.site.assert_verified();
    });
}

/// Says all sorts of things, each on a connection of its own; the answer, if there is one, is no panic and no work.
fn noise(path: &Path, random: &mut Random) {
    for number in 0..NOISY {
        let Ok(mut stream) = UnixStream::connect(path) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.write_all(&words(number, random));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let is_refusal =
            ["bad-request", "busy", "failed", "not-permitted"].iter().any(|word| text.contains(word));
        assert!(text.is_empty() || is_refusal, "{}: {text}", path.display());
    }
}

fn words(number: usize, random: &mut Random) -> Vec<u8> {
    let framed = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let letters = |count: usize, random: &mut Random| -> Vec<u8> {
        (0..count).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
    };
    match number % 10 {
        0 => letters(random.below(4000), random),
        1 => framed(&letters(random.below(4000), random)),
        // More is announced than there is, or than there may be.
        2 => [&[0, 1, 0, 0][..], b"{}"].concat(),
        3 => vec![0xff; 8],
        4 => framed(b"{}"),
        5 => framed(&b"[".repeat(60_000)),
        6 => framed(br#"{"version":1,"ask":{"nothing":{}}}"#),
        7 => framed(br#"{"version":4294967295,"ask":{"measure":{}}}"#),
        8 => {
            framed(format!("{{\"version\":1,\"files\":{{\"begin\":\"{}\"}}}}", "x".repeat(50_000)).as_bytes())
        }
        _ => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    }
}

/// Holds more connections than are served, says half a frame on each, and leaves.
fn silence(path: &Path) {
    let held: Vec<_> = (0..SILENT).filter_map(|_| UnixStream::connect(path).ok()).collect();
    for mut stream in &held {
        let _ = stream.write_all(&[0, 0, 1]);
    }
    thread::sleep(Duration::from_millis(100));
}

fn memory(roles: &mut Roles) -> BTreeMap<&'static str, u64> {
    let of = |(_, role): (&str, &'static str)| {
        let status = roles.of(role).status().unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().to_owned();
        (role, line.split_whitespace().next().unwrap().parse().unwrap())
    };
    SOCKETS.map(of).into()
}

/// An engineer with an open session, whose announcements are false in every way that there is; nothing comes of them.
fn lies(ready: &Ready, engineer: &Engineer<'_>) {
    let session = opened(ready, engineer);
    let host = ready.site.lab().host("vendor").unwrap();
    let (who, pin) = of_home(&engineer.home);
    let door = DOORS[0].parse().unwrap();
    let said = |opening: String, bytes: &[u8]| raw(host, door, (&who, &pin), Carrier::Tcp, &opening, bytes);
    for name in ["../../etc/cron.d/x", "/etc/passwd", "..", "a\\u0000.txt", "a\\nb.txt", "\\u202etxt.exe", ""]
    {
        let told = said(announcement(&session, name, 5, &sha256(b"hello")), b"hello");
        assert!(matches!(told, Told::Nothing), "{name}: {told:?}");
    }
    for (size, hash, bytes, why) in [
        (u64::MAX, sha256(b"hello"), &b"hello"[..], "a size beyond everything"),
        (6, sha256(b"hello"), b"hello", "fewer bytes than announced"),
        (5, sha256(b"other"), b"hello", "other bytes than announced"),
        (0, sha256(b"hello"), b"hello", "none announced, some sent"),
        (4, sha256(b"\x7fELF"), b"\x7fELF", "a program"),
    ] {
        let told = said(announcement(&session, "report.txt", size, &hash), bytes);
        assert!(!matches!(&told, Told::Word(word) if word.contains("outcome: delivered")), "{why}: {told:?}");
    }
    // The same way of saying it delivers what is true.
    let told = said(announcement(&session, "report.txt", 5, &sha256(b"hello")), b"hello");
    assert!(
        matches!(&told, Told::Word(word) if word.contains("outcome: delivered")),
        "the control: {told:?}"
    );
    let drop = RoleRunner::runtime_root(ready.site.lab()).join("sekisho-files/drop");
    let delivered: Vec<PathBuf> = files_below(&drop);
    assert_eq!(delivered, [drop.join("acme/report.txt")], "and nothing else is in any drop");
    assert_eq!(fs::read(&delivered[0]).unwrap(), b"hello");
}

fn opened(ready: &Ready, engineer: &Engineer<'_>) -> SessionId {
    let session = engineer.request("tcp").unwrap();
    let held = engineer.connect(&session, "tcp", 2200);
    let begun = Instant::now();
    while ready.approve(&session, "taro", &ready.taro.code(1), &[]).code != Some(0) {
        assert!(begun.elapsed() < ANSWER_LIMIT, "no approval");
    }
    eventually("the session is open", || held.said().contains("\"open\""));
    session
}

fn announcement(session: &SessionId, name: &str, size: u64, sha256: &str) -> String {
    format!(
        r#"{{"send":{{"session":"{session}","name":"{name}","size":{size},"sha256":"{sha256}","attestation":null}}}}"#
    )
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let paths = found.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
