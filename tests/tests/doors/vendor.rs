//! A vendor's engineer with the vendor's own program, through the real edge role.
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lab::Host;
use serde_json::Value;

use crate::ready::{Ready, SSH};

/// Where the gateway's door is, seen from outside.
const DOOR: &str = "203.0.113.2:8443";
const LIMIT: Duration = Duration::from_secs(60);
/// How often an engineer's bytes leave, and how many.
const BEAT: Duration = Duration::from_millis(2);
const BYTES: [u8; 200] = [0x5a; 200];

/// An engineer who is enrolled.
pub(crate) struct Vendor<'r> {
    ready: &'r Ready,
    home: PathBuf,
}

impl<'r> Vendor<'r> {
    /// Starts edge, if it does not run, and has an engineer enrol with a code of the clinic's.
    pub(crate) fn enrolled(ready: &'r Ready) -> Self {
        let vendor = Vendor { ready, home: ready.site.files().join("vendor-home") };
        let invited = ready.site.run(&["--json", "vendor", "invite", "acme", "--engineer", "佐藤"]);
        let code = invited.succeeded().json()["code"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        loop {
            // Edge asks core for its list once a second.
            let tried = vendor.command(&["enrol", "--gateway", DOOR, &code]).output().unwrap();
            if tried.status.success() {
                return vendor;
            }
            assert!(begun.elapsed() < LIMIT, "{tried:?}");
            thread::sleep(Duration::from_secs(2));
        }
    }

    pub(crate) fn host(&self) -> &Host {
        self.ready.site.lab().host("vendor").unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host().command(program());
        command.env("LC_ALL", "C").arg("--json").arg("--home").arg(&self.home).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Asks for the server and holds the way open at this local port.
    pub(crate) fn open(&self, port: u16) -> Visit<'_> {
        let listen = format!("127.0.0.1:{port}");
        let mut command =
            self.command(&["open", SSH, "--purpose", "月次点検", "--for", "30m", "--listen", &listen]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut visit = Visit { vendor: self, child, said, port, session: String::new() };
        let asked = visit.wait(|said| said["requested"]["session"].is_string());
        visit.session = asked["requested"]["session"].as_str().unwrap().to_owned();
        visit
    }
}

/// One session of an engineer's.
pub(crate) struct Visit<'v> {
    vendor: &'v Vendor<'v>,
    child: Child,
    said: BufReader<ChildStdout>,
    port: u16,
    pub(crate) session: String,
}

impl Visit<'_> {
    /// Reads what the program says until it says this.
    fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the vendor's program ended");
            let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if is_it(&said) {
                return said;
            }
        }
    }

    /// Waits until the clinic has let it be open.
    pub(crate) fn wait_open(&mut self) {
        self.wait(|said| said["standing"]["state"] == "open");
    }

    /// Begins to send to the target without a pause, until told to stop or nobody takes it.
    pub(crate) fn work(&self) -> Work {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = self.vendor.host().run_in(|| TcpStream::connect(address).unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let hand = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) && stream.write_all(&BYTES).is_ok() {
                thread::sleep(BEAT);
            }
        });
        Work { stop, hand: Some(hand) }
    }

    /// Waits for the program's end; gives its exit status.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < LIMIT, "the vendor's program goes on");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An engineer at work; dropping it ends that.
pub(crate) struct Work {
    stop: Arc<AtomicBool>,
    hand: Option<JoinHandle<()>>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.hand.take().map(JoinHandle::join));
    }
}

/// A server of the clinic's that takes what it gets and says nothing.
pub(crate) fn sink(ready: &Ready, host: &str, port: u16) -> SocketAddr {
    let host = ready.site.lab().host(host).unwrap();
    let address = SocketAddr::from((host.v4().unwrap(), port));
    let listener = host.run_in(|| TcpListener::bind(address).unwrap()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    address
}

fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap().join("sekisho-vendor");
    assert!(built.exists(), "{} is not there: `cargo build -p gateway` makes it", built.display());
    built
}
