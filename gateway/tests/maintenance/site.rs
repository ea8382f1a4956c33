//! The roles on temporary directories, a core that answers as the test says, and a target that echoes.

use std::collections::BTreeMap;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway::client;
use gateway::wire::doors::{
    DoorsAnswer, DoorsAsk, DoorsRequest, EndReason, Engineer, Engineers, Invitation as Listed, SERVER_NAME,
    SessionId, SessionState, Standing, Transport,
};
use gateway::wire::frame;
use gateway::wire::record::{RecordAnswer, RecordAsk};
use gateway::wire::{Answer, Ask, Fault, FaultKind};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use transport::Invitation;

/// How long anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What the core of the test knows.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) engineers: Engineers,
    pub(crate) sessions: BTreeMap<SessionId, Standing>,
    pub(crate) ended: Vec<(SessionId, EndReason)>,
    pub(crate) moved: usize,
}

pub(crate) struct Site {
    directory: TempDir,
    pub(crate) known: Arc<Mutex<Known>>,
    pub(crate) port: u16,
    authority: Arc<Authority>,
    edge: Option<Child>,
    record: Option<Child>,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    spki: Vec<u8>,
}

impl Site {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["record", "record-run", "edge", "edge-run", "services", "core"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let authority = Arc::new(Authority::new());
        let known = Arc::new(Mutex::new(Known::default()));
        known.lock().unwrap().engineers.authority_pem = authority.pem.clone();
        let target = echo();
        let listener = UnixListener::bind(directory.path().join("core/doors.sock")).unwrap();
        serve(listener, Arc::clone(&known), Arc::clone(&authority), target);
        let port = free_port();
        let settings = serde_json::json!({ "vpn": null, "maintenance": { "port": port, "vendors": [
            { "name": "acme", "ca_pem": null, "keys": [] }
        ] } });
        std::fs::write(directory.path().join("services/edge.json"), settings.to_string()).unwrap();
        let mut site = Site { directory, known, port, authority, edge: None, record: None };
        site.record = Some(site.role("record"));
        site.wait_for("record-run/record.sock");
        site.edge = Some(site.role("edge"));
        site.wait_until("the door opens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        site
    }

    fn role(&self, role: &str) -> Child {
        let at = |name: &str| self.directory.path().join(name);
        Command::new(env!("CARGO_BIN_EXE_sekishod"))
            .arg(role)
            .arg("--state-dir")
            .arg(at(role))
            .arg("--runtime-dir")
            .arg(at(&format!("{role}-run")))
            .arg("--services")
            .arg(at("services"))
            .arg("--record")
            .arg(at("record-run/record.sock"))
            .arg("--doors")
            .arg(at("core/doors.sock"))
            .arg("--files")
            .arg(at("core/files.sock"))
            .stderr(std::fs::File::create(at(&format!("{role}.log"))).unwrap())
            .spawn()
            .unwrap()
    }

    fn wait_for(&self, name: &str) {
        let path = self.directory.path().join(name);
        self.wait_until(name, || UnixStream::connect(&path).is_ok());
    }

    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            let logs = || std::fs::read_to_string(self.directory.path().join("edge.log")).unwrap_or_default();
            assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}\n{}", logs());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// A code for an engineer.
    pub(crate) fn invite(&self, secret: u8) -> String {
        let invitation = Invitation::new([secret; 16], &self.authority.spki);
        let listed = Listed {
            key: invitation.key_id().as_str().to_owned().try_into().unwrap(),
            vendor: "acme".to_owned(),
            name: "鈴木".to_owned(),
            until: "2090-01-01T00:00:00Z".parse().unwrap(),
        };
        self.known.lock().unwrap().engineers.invitations.push(listed);
        // Edge asks once a second.
        std::thread::sleep(Duration::from_millis(2500));
        invitation.code().to_string()
    }

    pub(crate) fn gateway(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The vendor's client, as an engineer runs it.
    pub(crate) fn vendor(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekisho-vendor"));
        command.env("LANG", "C").env_remove("LC_ALL").arg("--json").arg("--home").arg(self.home(home));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, home: &str, arguments: &[&str]) -> Output {
        self.vendor(home, arguments).output().unwrap()
    }

    /// Sets how every session stands.
    pub(crate) fn set(&self, state: SessionState, why: Option<&str>) {
        for standing in self.known.lock().unwrap().sessions.values_mut() {
            standing.revision += 1;
            standing.state = state;
            standing.why = why.map(str::to_owned);
        }
    }

    pub(crate) fn session_count(&self) -> usize {
        self.known.lock().unwrap().sessions.len()
    }

    /// The entries of the log, as text.
    pub(crate) fn log(&self) -> Vec<String> {
        let ask = Ask::Record(RecordAsk::Entries { before: None, limit: 1000 });
        let path = self.directory.path().join("record-run/record.sock");
        match client::ask(&path, ask).unwrap() {
            Answer::Record(RecordAnswer::Entries(page)) => {
                page.rows.into_iter().map(|row| row.text).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn kill_record(&mut self) {
        kill(&mut self.record);
    }

    pub(crate) fn restart_edge(&mut self) {
        kill(&mut self.edge);
        self.edge = Some(self.role("edge"));
        let port = self.port;
        self.wait_until("the door opens again", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        kill(&mut self.edge);
        kill(&mut self.record);
    }
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// An engineer's or edge's public key.
struct Ed25519(Vec<u8>);

impl PublicKeyData for Ed25519 {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "maintenance authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { spki: key.subject_public_key_info(), issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, spki: &[u8], usage: ExtendedKeyUsagePurpose, name: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        params.extended_key_usages = vec![usage];
        let key = Ed25519(spki[spki.len() - 32..].to_vec());
        format!("{}{}", params.signed_by(&key, &self.issuer).unwrap().pem(), self.pem)
    }
}

fn serve(listener: UnixListener, known: Arc<Mutex<Known>>, authority: Arc<Authority>, target: SocketAddr) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (known, authority) = (Arc::clone(&known), Arc::clone(&authority));
            std::thread::spawn(move || attend(stream.unwrap(), &known, &authority, target));
        }
    });
}

fn attend(mut stream: UnixStream, known: &Mutex<Known>, authority: &Authority, target: SocketAddr) {
    loop {
        let mut head = [0; frame::HEAD_BYTES];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        let mut body = vec![0; frame::body_bytes(head).unwrap()];
        stream.read_exact(&mut body).unwrap();
        let DoorsRequest { ask, .. } = frame::decode(&body).unwrap();
        let (answer, socket) = answer(ask, known, authority, target);
        let bytes = frame::encode(&answer).unwrap();
        let sent = socket.map_or(0, |socket| send_with(&stream, &bytes[..1], &socket));
        if stream.write_all(&bytes[sent..]).is_err() {
            return;
        }
    }
}

fn answer(
    ask: DoorsAsk,
    known: &Mutex<Known>,
    authority: &Authority,
    target: SocketAddr,
) -> (DoorsAnswer, Option<OwnedFd>) {
    if let DoorsAsk::Follow { session, seen } = &ask {
        for _ in 0..50 {
            match known.lock().unwrap().sessions.get(session) {
                Some(standing) if standing.revision > *seen => break,
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut known = known.lock().unwrap();
    let answer = match ask {
        DoorsAsk::Request { .. } => {
            let number = u8::try_from(known.sessions.len()).unwrap();
            let session = SessionId::from_random([number, 1, 2, 3, 4, 5, 6, 7]);
            let (state, missing) = (SessionState::Requested, vec!["院長".to_owned()]);
            let standing =
                Standing { session: session.clone(), revision: 1, state, at: None, missing, why: None };
            known.sessions.insert(session.clone(), standing);
            DoorsAnswer::Requested { session, digest: "d".repeat(64) }
        }
        DoorsAsk::Follow { session, .. } => standing(&known, &session),
        DoorsAsk::Moved { session } => {
            known.moved += 1;
            standing(&known, &session)
        }
        DoorsAsk::Connect { .. } => {
            use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
            return (DoorsAnswer::Socket { address: target, transport: Transport::Tcp }, Some(socket));
        }
        DoorsAsk::End { session, why } => {
            known.ended.push((session.clone(), why));
            let standing = known.sessions.get_mut(&session).unwrap();
            standing.revision += 1;
            standing.state = SessionState::Closed;
            standing.why = Some(format!("{why:?}").to_lowercase());
            DoorsAnswer::Ended {}
        }
        DoorsAsk::Enrol { invitation, key } => {
            let index =
                known.engineers.invitations.iter().position(|listed| listed.key == invitation).unwrap();
            let listed = known.engineers.invitations.remove(index);
            known.engineers.enrolled.push(Engineer {
                key: gateway::wire::doors::KeyId::of_spki(key.der()),
                vendor: listed.vendor,
                name: listed.name,
                not_after: listed.until,
            });
            let chain_pem = authority.sign(key.der(), ExtendedKeyUsagePurpose::ClientAuth, "engineer");
            DoorsAnswer::Certificate { chain_pem }
        }
        DoorsAsk::Certify { key } => {
            let chain_pem = authority.sign(key.der(), ExtendedKeyUsagePurpose::ServerAuth, SERVER_NAME);
            DoorsAnswer::Certificate { chain_pem }
        }
        DoorsAsk::Engineers {} => DoorsAnswer::Engineers(known.engineers.clone()),
        DoorsAsk::Tunnel { .. } => {
            let why = "there is no VPN here";
            DoorsAnswer::Failed(Fault::new(FaultKind::Failed, why))
        }
    };
    (answer, None)
}

fn standing(known: &Known, session: &SessionId) -> DoorsAnswer {
    DoorsAnswer::Standing(known.sessions[session].clone())
}

fn send_with(stream: &UnixStream, bytes: &[u8], socket: &OwnedFd) -> usize {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap()
}

/// A target that echoes.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let (mut read, mut write) = { (stream.as_ref().unwrap(), stream.as_ref().unwrap()) };
                let _ = std::io::copy(&mut read, &mut write);
                let _ = stream.as_ref().unwrap().shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn lines(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
