//! A clinic whose persons are enrolled and whose vendor has an engineer.
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, KeyId, SessionId, SessionState};
use serde_json::Value;
use socket2::Socket;
use transport::Invitation;

use crate::{
    daemon::{Said, Site},
    edge::{Edge, key, key_id},
    site,
};

pub(crate) const SSH: &str = "device:ehr-server:ssh";
/// The engineer's key.
pub(crate) const ENGINEER: u8 = 1;
/// RFC 6238: seconds of a step.
const STEP_S: u64 = 30;
/// A code is not made so shortly before the end of its step, in seconds.
const MARGIN_S: u64 = 8;
const PERSONS: &str = r#"
[person.hana]
name = "佐倉 花子"
roles = ["clinic", "admin"]
second_factor = "totp"
identity = { confirmed = "対面", by = "院長", on = 2026-04-01 }
until = 2099-03-31

[person.taro]
name = "山田 太郎"
roles = ["clinic"]
second_factor = "totp"
identity = { confirmed = "対面", by = "院長", on = 2026-04-01 }
until = 2099-03-31

[person.jiro]
name = "鈴木 次郎"
roles = ["it"]
second_factor = "totp"
identity = { confirmed = "対面", by = "院長", on = 2026-04-01 }
until = 2099-03-31
"#;
const VENDOR: &str = r#"
[vendor.acme]
contract_until = 2099-03-31
responsibility = "サーバの更新は acme が行う"

[vendor.acme.maintenance]
targets = ["device:ehr-server:ssh", "device:pacs:ssh"]
max_duration = "2h"
approvals = ["clinic"]
"#;

/// The policy with the vendor.
pub(crate) fn policy() -> String {
    format!("{}{PERSONS}{VENDOR}", site::GROUND)
}

/// The policy whose vendor may ask for one target less.
pub(crate) fn policy_without_ssh() -> String {
    policy().replace("\"device:ehr-server:ssh\", ", "")
}

/// A person's factor.
pub(crate) struct Factor(pub(crate) String);

impl Factor {
    /// The code of the step so many after the present one. Each counts once, and none after a later one.
    pub(crate) fn code(&self, step: i64) -> String {
        let into = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % STEP_S;
        if into + MARGIN_S > STEP_S {
            thread::sleep(Duration::from_secs(STEP_S - into));
        }
        self.at(present_step().checked_add_signed(step).unwrap())
    }

    /// The code of a step, counted as RFC 6238 does.
    pub(crate) fn at(&self, step: u64) -> String {
        let at = jiff::Timestamp::from_second(i64::try_from(step * STEP_S).unwrap()).unwrap();
        let time = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        let output = Command::new("oathtool").args(["--totp", "-b", &self.0, "-N", &time]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// The step of now.
pub(crate) fn present_step() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / STEP_S
}

/// The clinic.
pub(crate) struct Ready {
    pub(crate) site: Site,
    pub(crate) hana: Factor,
    pub(crate) taro: Factor,
    pub(crate) jiro: Factor,
    /// Taro's recovery codes.
    recovery: Vec<String>,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self::on(Site::start(), &policy())
    }

    /// The same where core runs already.
    pub(crate) fn on(site: Site, policy: &str) -> Self {
        site.apply(policy);
        site.run(&["time", "trusted"]).succeeded();
        let (hana, _) = enrol(&site, "hana", None);
        let (taro, recovery) = enrol(&site, "taro", Some(("hana", hana.code(0))));
        // A person may be called by name.
        let (jiro, _) = enrol(&site, "鈴木 次郎", Some(("佐倉 花子", hana.code(1))));
        let ready = Self { site, hana, taro, jiro, recovery };
        ready.enrol_engineer(ENGINEER);
        ready
    }

    pub(crate) fn edge(&self) -> Edge {
        Edge::connect(&self.site.runtime().join("doors.sock"))
    }

    pub(crate) fn engineer() -> KeyId {
        key_id(ENGINEER)
    }

    /// Has the key of this number certified for an engineer.
    pub(crate) fn enrol_engineer(&self, number: u8) {
        let invited =
            self.site.run(&["--json", "vendor", "invite", "acme", "--engineer", "鈴木"]).succeeded();
        let code = Invitation::parse(invited.json()["code"].as_str().unwrap()).unwrap();
        let mut edge = self.edge();
        let enrol = |number| DoorsAsk::Enrol { invitation: KeyId::of_spki(&code.spki()), key: key(number) };
        assert!(matches!(edge.ask(enrol(number)), DoorsAnswer::Certificate { .. }));
        let again = edge.ask(enrol(number + 1));
        assert!(matches!(again, DoorsAnswer::Failed(_)), "an invitation counts once: {again:?}");
    }

    /// Approves as the admin's command line does.
    pub(crate) fn approve(&self, session: &SessionId, person: &str, code: &str, more: &[&str]) -> Said {
        let arguments = [&["session", "approve", session.as_str(), "--person", person], more].concat();
        with_input(self.site.sekisho(&arguments), code)
    }

    /// An open session to the server.
    pub(crate) fn open(&self, edge: &mut Edge, code: &str) -> SessionId {
        let (session, _) = edge.requested(Self::engineer(), SSH);
        self.approve(&session, "taro", code, &[]).succeeded();
        edge.wait(&session, SessionState::Open, Duration::from_secs(15));
        session
    }

    /// A server that sends back what it gets, on a device of the clinic.
    pub(crate) fn echo(&self, host: &str, port: u16) -> SocketAddr {
        let host = self.site.lab().host(host).unwrap();
        let address = SocketAddr::from((host.v4().unwrap(), port));
        let listener = host.run_in(|| TcpListener::bind(address).unwrap()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                thread::spawn(move || {
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    /// Events of the log of one kind, the oldest first.
    pub(crate) fn logged(&self, kind: &str) -> Vec<Value> {
        let said = self.site.run(&["--json", "audit", "list", "--limit", "500"]).succeeded().json();
        let text = said.to_string();
        let rows = said["entries"].as_array().or_else(|| said.as_array()).unwrap_or_else(|| panic!("{text}"));
        let events = rows.iter().map(|row| row.get("entry").unwrap_or(row)["event"].clone());
        events.filter(|event| event["kind"] == kind).collect()
    }
}

/// Gives a person a factor as the command line does; `by` is an admin with a code. Gives the recovery codes, too.
pub(crate) fn enrol(site: &Site, person: &str, by: Option<(&str, String)>) -> (Factor, Vec<String>) {
    let mut arguments = vec!["--json", "person", "enrol", person];
    arguments.extend(by.iter().flat_map(|(admin, _)| ["--by", admin]));
    take_factor(site.sekisho(&arguments), by.as_ref().map(|(_, code)| code.as_str()))
}

/// Runs what gives a new factor, to its first code.
fn take_factor(mut command: Command, first: Option<&str>) -> (Factor, Vec<String>) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    if let Some(line) = first {
        writeln!(input, "{line}").unwrap();
    }
    // The secret is shown before the first code is asked for: JSON up to its closing brace.
    let mut output = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"}\n") {
        let mut byte = [0];
        if output.read(&mut byte).unwrap() == 0 {
            panic!("{:?}", child.wait_with_output().unwrap());
        }
        shown.push(byte[0]);
    }
    let offer: Value = serde_json::from_slice(&shown).unwrap();
    let factor = Factor(offer["secret"].as_str().unwrap().to_owned());
    writeln!(input, "{}", factor.code(-1)).unwrap();
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?} {rest}");
    let enrolled: Value = serde_json::from_str(&rest).unwrap();
    let codes = enrolled["recovery_codes"].as_array().unwrap().iter();
    let codes: Vec<String> = codes.map(|code| code.as_str().unwrap().to_owned()).collect();
    assert_eq!(codes.len(), 10);
    (factor, codes)
}

/// Taro, who approves as often as is wanted: each factor has two codes that count at once, and a recovery code gives him
/// the next factor.
pub(crate) struct Approver {
    factor: Factor,
    recovery: Vec<String>,
    step: i64,
}

impl Approver {
    /// With the factor that he has, of which no code was used yet.
    pub(crate) fn new(ready: &Ready) -> Self {
        Self { factor: Factor(ready.taro.0.clone()), recovery: ready.recovery.clone(), step: 0 }
    }

    /// Approves a session.
    pub(crate) fn approve(&mut self, ready: &Ready, session: &SessionId) {
        if self.step > 1 {
            let command = ready.site.sekisho(&["--json", "person", "recover", "taro"]);
            (self.factor, self.recovery) = take_factor(command, self.recovery.pop().as_deref());
            self.step = 0;
        }
        ready.approve(session, "taro", &self.factor.code(self.step), &[]).succeeded();
        self.step += 1;
    }
}

/// Runs a program with a line of input.
pub(crate) fn with_input(mut command: Command, line: &str) -> Said {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    Said::of(child.wait_with_output().unwrap())
}

/// Connects a socket that core handed over.
pub(crate) fn connect(descriptor: OwnedFd, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::from(descriptor);
    socket.set_nonblocking(false)?;
    socket.connect_timeout(&address.into(), Duration::from_secs(3))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

/// Whether a word comes back.
pub(crate) fn echoes(stream: &mut TcpStream, word: &[u8]) -> bool {
    let mut back = vec![0; word.len()];
    stream.write_all(word).is_ok() && stream.read_exact(&mut back).is_ok() && back == word
}
