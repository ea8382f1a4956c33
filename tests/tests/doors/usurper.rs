//! A hostile program in edge's place: edge's user, no capability, under the filters of edge's unit. What edge itself may do
//! works; everything further is refused, and nothing of it is seen at a device. (Edge's own filter, which it puts in force
//! after its start, is narrower still; the unit's mount namespace is systemd's, and not in force here.)
use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf, time::Duration};

use gateway::wire::{
    self, Ask,
    doors::{self, DoorsAsk, DoorsRequest, EndReason, SessionId},
    frame,
    persons::{Code, Proof, SessionsAsk},
    record::RecordAsk,
};
use lab::{Capture, Direction, Frame, RoleRunner};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    daemon::Site,
    flood::LISTENERS,
    packets::{datagram, syn},
    ready::{self, Ready},
    site, tunnelled,
};

const EDGE: &str = "sekisho-edge";
const PROGRAM: &str = include_str!("usurper.py");
const LIMIT: Duration = Duration::from_secs(180);
const OTHERS_TUNNEL: &str = "others0";
/// The first mark of a grant.
const MARK: u32 = 0x8000_0000;
/// Where the session leads, and where it does not.
const TARGET: (&str, u16) = ("192.168.10.10", 22);
const DEVICES: [(&str, u16); 4] =
    [("192.168.10.10", 23), ("192.168.10.11", 22), ("192.168.20.21", 104), ("fd51:7ec5:0:10::10", 22)];

#[test]
fn a_program_in_edges_place_gets_no_further_than_edge() {
    let ready = clinic();
    let mut edge = ready.edge();
    ready.echo("ehr-server", 22);
    ready.echo("ehr-server", 23);
    ready.echo("pacs", 22);
    let code = ready.taro.code(0);
    let open = ready.open(&mut edge, &code);
    let digest = "0".repeat(64);
    let (asked, _) = edge.requested(Ready::engineer(), ready::SSH);
    let mut capture = Capture::start(ready.site.lab().leg("ehr").unwrap()).unwrap();
    let told = usurp(&ready, &given(&ready, &open, &asked, &digest, &code));
    assert_told(&told);
    let strays = capture.drain_filtered(is_stray).unwrap();
    assert!(strays.is_empty(), "{} packets, such as {:02x?}", strays.len(), strays[0].bytes);
    assert!(edge.follow(&open, 0).why.is_none(), "the session that was open still is");
    ready.site.assert_verified();
}

/// The clinic with a VPN, whose core knows edge's user; no edge runs.
fn clinic() -> Ready {
    let mut site = Site::new(site::clinic(false));
    // The user exists, as the package makes it, before core looks it up.
    site.start_role(EDGE);
    site.kill_role(EDGE);
    site.start_role("sekisho-files");
    site.start_core();
    let policy = format!("{}{}", ready::policy(), tunnelled::policy());
    let ready = Ready::on(site, &policy);
    let others = ["tuntap", "add", "dev", OTHERS_TUNNEL, "mode", "tun", "user", "nobody"];
    ready.site.lab().gateway().output("ip", &others).unwrap();
    ready
}

/// What the program is told of the box; more than it could find out.
fn given(ready: &Ready, open: &SessionId, asked: &SessionId, digest: &str, code: &str) -> Value {
    let (site, lab) = (&ready.site, ready.site.lab());
    let state = RoleRunner::state_root(lab);
    let run = RoleRunner::runtime_root(lab);
    let record = state.join("sekisho-record");
    let at = |places: &[&str]| places.iter().map(|place| run.join(place)).collect::<Vec<PathBuf>>();
    let secrets = ["persons", "authority", "engineers", "applied"].map(|name| site.state().join(name));
    let places = at(&[
        "sekisho/services/edge.json",
        "sekisho/core.sock",
        "sekisho/doors.sock",
        "sekisho-record/record.sock",
        "sekisho-files/files.sock",
    ]);
    let packets: Vec<_> = injected().iter().map(|packet| hex(packet)).collect();
    json!({
        "core": site.role("sekisho-core").pid(),
        "doors": run.join("sekisho/doors.sock"),
        "connect": hex(&doors(DoorsAsk::Connect { session: open.clone() })),
        "mark": MARK,
        "others_tunnel": OTHERS_TUNNEL,
        "devices": DEVICES,
        "target": TARGET,
        "interface": "lan-ehr",
        "own": "192.168.10.1",
        "packets": packets,
        "secrets": secrets,
        "directories": [site.state(), record, state.join("sekisho-files")],
        "places": places,
        "words": words(ready, open, asked, digest, code),
    })
}

/// Packets that are no peer's, of a peer to where it may not go, and of a device of the clinic.
fn injected() -> Vec<Vec<u8>> {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let mut packets = Vec::new();
    for from in [tunnelled::OWN[0], "10.90.0.77", "192.168.10.11", "192.168.99.5", "203.0.113.1"] {
        packets.push(syn((ip(from), 4000), (ip(TARGET.0), TARGET.1)));
        packets.push(datagram((ip(from), 4000), (ip("192.168.10.11"), 104), b"injected"));
    }
    packets.push(syn((ip(tunnelled::OWN[1]), 4000), (ip("fd51:7ec5:0:10::10"), 22)));
    packets
}

/// What the program says to the other roles: each a name, a socket, and a frame.
fn words(ready: &Ready, open: &SessionId, asked: &SessionId, digest: &str, code: &str) -> Vec<Value> {
    let run = RoleRunner::runtime_root(ready.site.lab());
    let [core, gate, record, files] =
        ["sekisho/core.sock", "sekisho/doors.sock", "sekisho-record/record.sock", "sekisho-files/files.sock"]
            .map(|place| run.join(place));
    let proof = Proof { person: "taro".to_owned(), code: Code::new(code) };
    let approve = SessionsAsk::Approve { session: asked.clone(), digest: digest.to_owned(), proof };
    let approval = json!({ "version": doors::VERSION, "ask": { "approve": {
        "session": asked, "digest": digest, "proof": { "person": "taro", "code": code } } } });
    let invitation = Ready::engineer();
    let key = crate::edge::key(40);
    let event = json!({ "kind": "session", "session": open,
        "change": { "what": "closed", "why": "killed", "by": null } });
    let say = |event: Value| {
        json!({ "version": wire::VERSION, "ask": { "record": { "append": {
        "at": jiff::Timestamp::now(), "event": event } } } })
    };
    let line = |name: &str, path: &PathBuf, frame: Vec<u8>| json!([name, path, hex(&frame)]);
    vec![
        line("approve at core's socket", &core, request(Ask::Sessions(approve))),
        line("approve at the doors", &gate, encoded(&approval)),
        line("connect before the approval", &gate, doors(DoorsAsk::Connect { session: asked.clone() })),
        line("enrol without an invitation", &gate, doors(DoorsAsk::Enrol { invitation, key })),
        line(
            "end of a session that is none",
            &gate,
            doors(DoorsAsk::End {
                session: "s-aaaaaaaaaaaa".to_owned().try_into().unwrap(),
                why: EndReason::Finished,
            }),
        ),
        line("speak as core", &record, encoded(&say(event))),
        line("speak of core", &record, encoded(&say(json!({ "kind": "role-stopping", "role": "core" })))),
        line("read the log", &record, request(Ask::Record(RecordAsk::Entries { before: None, limit: 10 }))),
        line("measure the files role", &files, request(Ask::Measure {})),
    ]
}

fn doors(ask: DoorsAsk) -> Vec<u8> {
    encoded(&DoorsRequest { version: doors::VERSION, ask })
}

fn request(ask: Ask) -> Vec<u8> {
    encoded(&wire::Request { version: wire::VERSION, ask })
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    frame::encode(value).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the program to its end; gives what each attempt met.
fn usurp(ready: &Ready, given: &Value) -> BTreeMap<String, String> {
    let path = ready.site.files().join("usurper.py");
    fs::write(&path, PROGRAM).unwrap();
    let runner = ready.site.runner(EDGE).program("/usr/bin/python3");
    let arguments = [path.to_str().unwrap().to_owned(), given.to_string()];
    let mut role = runner.arguments(arguments).start().unwrap();
    let ended = role.wait_ended(LIMIT).unwrap();
    let log = role.log();
    assert!(ended.success(), "{log}");
    let line = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |field: &str| row[field].as_str().map(str::to_owned);
        (text("name").unwrap(), text("error").or(text("said")).unwrap())
    };
    log.lines().map(line).collect()
}

/// What each attempt has to meet: an error, or an answer that says so.
fn expected(name: &str) -> &'static [&'static str] {
    match name {
        "netlink" | "packet socket" => &["EAFNOSUPPORT"],
        "the session's socket to its target" => &["hello"],
        "packets into its own tunnel" => &["11"],
        "a low port" => &["EACCES"],
        "connect before the approval" | "end of a session that is none" | "enrol without an invitation" => {
            &["failed", "refused"]
        }
        "approve at the doors" => &["bad-request"],
        "speak as core" | "speak of core" | "read the log" | "measure the files role" => &["not-permitted"],
        "approve at core's socket"
        | "core's memory"
        | "core's environment"
        | "core's descriptors"
        | "core's namespace" => &["EACCES"],
        _ if name.starts_with("connect") || name.starts_with("by a session's") => {
            &["timed out", "EPERM", "EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED", "EAFNOSUPPORT"]
        }
        // A socket that everybody may connect to cannot be opened as a file.
        _ if name.starts_with("write /") => &["EACCES", "ENXIO"],
        _ if ["read /", "list /", "remove /", "bind /"].iter().any(|verb| name.starts_with(verb)) => {
            &["EACCES"]
        }
        _ => &["EPERM"],
    }
}

fn assert_told(told: &BTreeMap<String, String>) {
    for (name, met) in told {
        println!("{name}: {met}");
    }
    for (name, met) in told {
        assert!(expected(name).iter().any(|word| met.contains(word)), "{name}: {met}");
        assert!(!met.contains("connected"), "{name}: {met}");
    }
    // Three for each device, five with the target, seven about core, and those of the kernel, of files and of words.
    assert!(told.len() >= 60, "{} attempts only", told.len());
}

/// A packet of the gateway's that is not of the session to its target, nor an answer to a neighbour.
fn is_stray(frame: &Frame) -> bool {
    let bytes = &frame.bytes;
    let is_arp = bytes.get(12..14) == Some(&[0x08, 0x06]);
    let is_neighbours = bytes.get(20) == Some(&58) && matches!(bytes.get(54), Some(135 | 136));
    let to_target = bytes.get(30..34) == Some(&[192, 168, 10, 10]) && bytes.get(36..38) == Some(&[0, 22]);
    let is_kernels = is_arp || is_neighbours || bytes.starts_with(&LISTENERS);
    frame.direction == Direction::Out && !is_kernels && !to_target
}
