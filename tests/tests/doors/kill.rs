//! Done-when 4: how long after the word the last packet goes to the target. Packets are timed by the kernel on the target's
//! leg. Codes count once, and 50 sessions need 50 approvals: the approver takes a new factor by a recovery code, as somebody
//! does whose telephone is lost, and has two codes of each.
use std::{
    collections::BTreeMap,
    io::Write,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use gateway::wire::doors::{DoorsAnswer, SessionId, SessionState};
use lab::{Capture, Direction, Frame};

use crate::{
    edge::{Edge, key_id},
    ready::{Approver, Ready, SSH, connect, policy},
    site::flow,
    vendor::{Vendor, sink},
};

/// The promise of the issue.
const P99_LIMIT: Duration = Duration::from_millis(200);
const SAMPLES: usize = 50;
/// How long is listened after the end for what should not come any more.
const LISTEN: Duration = Duration::from_millis(400);
/// A stream that was silent for so long before the word would prove nothing.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// `sekisho-vendor`: the session is over.
const OVER: i32 = 6;
const FIRST_PORT: u16 = 2300;

#[test]
fn a_kill_ends_a_sessions_packets_at_once_also_during_applies_and_comparisons() {
    let mut ready = Ready::new();
    ready.site.start_role("sekisho-edge");
    let server = sink(&ready, "ehr-server", 22);
    let mut approver = Approver::new(&ready);
    let vendor = Vendor::enrolled(&ready);
    let mut capture = Capture::start(ready.site.lab().leg("ehr").unwrap()).unwrap();
    let (mut calm, mut busy) = (Vec::new(), Vec::new());
    for port in (FIRST_PORT..).take(SAMPLES / 2) {
        calm.push(kill_once(&ready, &mut approver, &vendor, &mut capture, (server, port)));
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| disturb(&ready, &is_over));
        let stop = Stop(&is_over);
        for port in (FIRST_PORT + 500..).take(SAMPLES / 2) {
            busy.push(kill_once(&ready, &mut approver, &vendor, &mut capture, (server, port)));
        }
        drop(stop);
    });
    tell("killed, the gateway at rest", &calm);
    tell("killed, the gateway at work", &busy);
    judge("killed", &[calm, busy].concat());
    ready.site.assert_verified();
    let listed = ready.site.run(&["--json", "session", "list"]).succeeded().json();
    let killed = listed.as_array().unwrap().iter().filter(|row| row["standing"]["why"] == "killed");
    assert_eq!(killed.count(), SAMPLES);
}

/// Opens a session and works in it, kills it as an admin does; gives how long packets went on.
fn kill_once(
    ready: &Ready,
    approver: &mut Approver,
    vendor: &Vendor<'_>,
    capture: &mut Capture,
    (server, port): (SocketAddr, u16),
) -> Duration {
    let mut visit = vendor.open(port);
    let session: SessionId = visit.session.clone().try_into().unwrap();
    approver.approve(ready, &session);
    visit.wait_open();
    let work = visit.work();
    capture.drain().unwrap();
    let moving = |frame: &Frame| is_towards(frame, server);
    let seen = capture.wait_for(20, Duration::from_secs(30), moving).unwrap();
    assert!(seen.len() >= 20, "nothing reaches the target");
    let moment = SystemTime::now();
    ready.site.run(&["session", "kill", session.as_str()]).succeeded();
    thread::sleep(LISTEN);
    let frames = [seen, capture.drain_filtered(moving).unwrap()].concat();
    drop(work);
    assert_eq!(visit.ended(), Some(OVER));
    let last = frames.iter().map(|frame| frame.at).max().expect("packets up to the kill");
    let before = moment.duration_since(last).unwrap_or_default();
    assert!(before < SILENCE_MAX, "the stream was silent for {before:?} before the kill");
    last.duration_since(moment).unwrap_or_default()
}

/// Applies one policy after another and compares the kernel with it, until told to stop.
fn disturb(ready: &Ready, is_over: &AtomicBool) {
    let more = flow("more", "zone:staff", "device:pacs", "tcp/7000-7010");
    let policies = [policy(), format!("{}{more}", policy())];
    for text in policies.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        ready.site.apply(text);
        ready.site.run(&["verify"]);
    }
}

/// Ends the disturbance, also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long the sessions of the second test last: all have to be open at once.
const LENGTH_S: u32 = 120;
/// Engineers of the second test: one may have eight sessions at once.
const ENGINEERS: std::ops::Range<u8> = 100..107;

#[test]
fn with_core_dead_every_grant_ends_on_time_whatever_the_relay_does() {
    let mut ready = Ready::new();
    let server = sink(&ready, "ehr-server", 22);
    let mut approver = Approver::new(&ready);
    let mut edge = ready.edge();
    ENGINEERS.for_each(|number| ready.enrol_engineer(number));
    let mut capture = Capture::start(ready.site.lab().leg("ehr").unwrap()).unwrap();
    let (mut ends, mut streams, mut sessions) = (BTreeMap::new(), Vec::new(), Vec::new());
    for engineer in ENGINEERS.cycle().take(SAMPLES) {
        let session = asked(&mut edge, key_id(engineer));
        approver.approve(&ready, &session);
        let open = edge.wait(&session, SessionState::Open, Duration::from_secs(15));
        let (_, socket) = edge.connect_to(&session);
        let stream = connect(socket.unwrap(), server).unwrap();
        ends.insert(stream.local_addr().unwrap().port(), SystemTime::from(open.at.unwrap()));
        streams.push(stream);
        sessions.push(session);
        // While somebody follows a session, its engineer is there.
        sessions.iter().for_each(|session| drop(edge.follow(session, 0)));
    }
    ready.site.kill_core();
    let earliest = *ends.values().min().unwrap();
    assert!(earliest > SystemTime::now() + Duration::from_secs(5), "too slow: the first would have ended");
    streams.into_iter().for_each(ignore_everything);
    let mut last: BTreeMap<u16, SystemTime> = BTreeMap::new();
    let listen_until = *ends.values().max().unwrap() + Duration::from_secs(1);
    while SystemTime::now() < listen_until {
        thread::sleep(LISTEN);
        for frame in capture.drain_filtered(|frame| is_towards(frame, server)).unwrap() {
            last.insert(ports(&frame).unwrap().0, frame.at);
        }
    }
    assert_eq!(capture.dropped(), 0, "packets were missed");
    let late = ends.iter().map(|(port, end)| {
        let early = end.duration_since(last[port]).unwrap_or_default();
        assert!(early < SILENCE_MAX, "it ended {early:?} too soon");
        last[port].duration_since(*end).unwrap_or_default()
    });
    let late: Vec<Duration> = late.collect();
    tell("ended by the kernel, core dead", &late);
    judge("ended by the kernel", &late);
}

fn asked(edge: &mut Edge, engineer: gateway::wire::doors::KeyId) -> SessionId {
    match edge.request(engineer, SSH, LENGTH_S) {
        DoorsAnswer::Requested { session, .. } => session,
        other => panic!("{other:?}"),
    }
}

/// A relay that sends on whatever happens, until its socket is no more.
fn ignore_everything(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        loop {
            match stream.write(&[0x5a; 100]) {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    });
}

fn tell(what: &str, lasted: &[Duration]) {
    let mut sorted = lasted.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted[(sorted.len() * share).div_ceil(100).saturating_sub(1)];
    println!("{what}: {} sessions; last packet after: median {:?}, p99 {:?}", sorted.len(), at(50), at(99));
}

fn judge(what: &str, lasted: &[Duration]) {
    let mut sorted = lasted.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted.len(), SAMPLES, "{what}");
    let p99 = sorted[(sorted.len() * 99).div_ceil(100) - 1];
    assert!(p99 <= P99_LIMIT, "{what}: p99 {p99:?} of {sorted:?}");
}

/// Whether a frame leaves the gateway for this server's port.
fn is_towards(frame: &Frame, server: SocketAddr) -> bool {
    let IpAddr::V4(address) = server.ip() else { return false };
    let to = frame.bytes.get(30..34);
    let port = ports(frame).map(|(_, to)| to);
    frame.direction == Direction::Out && to == Some(&address.octets()) && port == Some(server.port())
}

/// Source and destination port of a TCP segment over IPv4.
fn ports(frame: &Frame) -> Option<(u16, u16)> {
    let bytes = &frame.bytes;
    let is_tcp = bytes.get(12..14) == Some(&[8, 0]) && bytes.get(23) == Some(&6);
    let begin = 14 + usize::from(bytes.get(14)? & 15) * 4;
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    is_tcp.then_some((word(begin)?, word(begin + 2)?))
}
