//! The whole gateway: every role that maintenance needs, each as its unit says; and an engineer with the vendor's program.
use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    net::SocketAddr,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use gateway::wire::doors::SessionId;
use lab::{Lab, LabBuilder, Role, RoleRunner, RouteSpec, Spec};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    daemon::{READY_LIMIT, Said, Site, unit_file},
    ready::{Ready, SSH},
};

/// Core last: it looks its neighbours' users up, and changes nothing without the record.
const UNITS: [&str; 5] = ["sekisho-watch", "sekisho-edge", "sekisho-files", "sekisho-record", "sekisho-core"];
/// Where engineers find the gateway.
pub(crate) const DOORS: [&str; 2] = ["203.0.113.2:8443", "[2001:db8:ffff::2]:8443"];
/// The clinic behind the gateway's line: nothing but the gateway guards it.
const CLINIC_V4: &str = "192.168.0.0/16";
const POLL: Duration = Duration::from_millis(10);
/// How long anything may take that needs several roles, on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What the vendor may send.
pub(crate) const FILES: &str = "
[vendor.acme.files]
to_clinic = { accept = [\"pdf\", \"text\"] }
";

/// The roles that run.
#[derive(Default)]
pub(crate) struct Roles(BTreeMap<&'static str, Role>);

impl Roles {
    /// Starts a role and waits until it is ready.
    pub(crate) fn start(&mut self, site: &Site, unit: &'static str) {
        let mut role = site.runner(unit).start().unwrap();
        role.wait_ready(READY_LIMIT).unwrap();
        self.0.insert(unit, role);
    }

    /// SIGKILL, and nothing of the role is left.
    pub(crate) fn kill(&mut self, unit: &str) {
        let mut role = self.0.remove(unit).unwrap();
        role.signal(Signal::KILL).unwrap();
        role.wait_ended(READY_LIMIT).unwrap();
    }

    pub(crate) fn of(&mut self, unit: &str) -> &mut Role {
        self.0.get_mut(unit).unwrap()
    }

    /// Fails when a role has ended by itself.
    pub(crate) fn assert_alive(&mut self) {
        for (unit, role) in &mut self.0 {
            assert!(role.ended().unwrap().is_none(), "{unit} has ended: {}", role.log());
        }
    }
}

/// Runs every role under a policy, does the work, and lets them go.
pub(crate) fn during(policy: &str, work: impl FnOnce(&Ready, &mut Roles, &Inspections)) {
    let site = Site::new(lab());
    let mut started = Roles::default();
    UNITS.into_iter().for_each(|unit| started.start(&site, unit));
    let ready = Ready::on(site, policy);
    // They end before the lab does.
    let mut roles = started;
    let inspections = Inspections::open(&ready.site);
    thread::scope(|scope| {
        scope.spawn(|| inspections.serve(&ready.site));
        let _over = Over(&inspections);
        work(&ready, &mut roles, &inspections);
    });
}

/// The clinic, to which the provider's router knows the way.
fn lab() -> Lab {
    let mut spec = Spec::clinic();
    for internet in spec.zones.iter_mut().filter(|zone| zone.uplink).flat_map(|zone| &mut zone.hosts) {
        let route = RouteSpec { to: CLINIC_V4.parse().unwrap(), via: lab::GATEWAY_WAN_V4.into() };
        internet.routes.push(route);
    }
    LabBuilder::new(spec).build().unwrap()
}

/// The service manager's part for `sekisho-inspect.socket`: one process, as its unit says, for each connection.
pub(crate) struct Inspections {
    listener: UnixListener,
    over: AtomicBool,
    running: Mutex<Option<u32>>,
}

/// Ends the serving, also when the work panics.
struct Over<'a>(&'a Inspections);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Inspections {
    fn open(site: &Site) -> Self {
        let directory = RoleRunner::runtime_root(site.lab()).join("sekisho-inspect");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("inspect.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // On the box its group is that of the files role; in this directory nobody else is there to ask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, over: AtomicBool::new(false), running: Mutex::new(None) }
    }

    fn serve(&self, site: &Site) {
        while !self.over.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((connection, _)) => self.inspect(site, connection),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                Err(error) => panic!("inspections: {error}"),
            }
        }
    }

    /// One that ends badly has given no answer, which the files role takes for a refusal.
    fn inspect(&self, site: &Site, connection: UnixStream) {
        connection.set_nonblocking(false).unwrap();
        let runner = RoleRunner::new(site.lab(), unit_file("sekisho-inspect@"));
        let Ok(mut role) = runner.program(site.program("sekishod")).input(connection).start() else { return };
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(role.pid());
        let ended = role.wait_ended(READY_LIMIT);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        ended.unwrap();
    }

    /// SIGKILL to the inspection that runs; whether one did.
    pub(crate) fn kill(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = running.and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }
}

/// An engineer of the vendor's, on a machine outside.
pub(crate) struct Engineer<'a> {
    ready: &'a Ready,
    host: &'static str,
    pub(crate) home: PathBuf,
}

impl<'a> Engineer<'a> {
    /// One with a home of his own, which is empty.
    pub(crate) fn of_home(ready: &'a Ready, host: &'static str, name: &str) -> Self {
        Self { ready, host, home: ready.site.files().join(format!("engineer-{name}")) }
    }

    /// One whom the clinic invited and who enrolled.
    pub(crate) fn enrolled(ready: &'a Ready, host: &'static str, name: &str) -> Self {
        let engineer = Self::of_home(ready, host, name);
        let invited = ready.site.run(&["--json", "vendor", "invite", "acme", "--engineer", name]).succeeded();
        let code = invited.json()["code"].as_str().unwrap().to_owned();
        // The door hears of an invitation within a second or so.
        let enrol = || engineer.run(&["--transport", "tcp", "enrol", "--gateway", DOORS[0], &code]);
        eventually("the engineer is enrolled", || enrol().code == Some(0));
        engineer
    }

    /// Prepares the vendor's program.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let own = env::current_exe().unwrap();
        let built = own.parent().and_then(std::path::Path::parent).unwrap();
        let mut command =
            self.ready.site.lab().host(self.host).unwrap().command(built.join("sekisho-vendor"));
        command.args(["--json", "--lang", "en", "--home"]).arg(&self.home).args(arguments);
        command.current_dir(self.ready.site.files()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Asks for a session to the server.
    pub(crate) fn request(&self, transport: &str) -> Option<SessionId> {
        let wanted = ["--transport", transport, "request", SSH, "--purpose", "月次点検", "--for", "10m"];
        let said = self.run(&wanted);
        let first = said.out.lines().next().filter(|_| said.code == Some(0))?;
        let row: serde_json::Value = serde_json::from_str(first).unwrap();
        Some(row["requested"]["session"].as_str().unwrap().to_owned().try_into().unwrap())
    }

    /// Holds a session, and forwards a local port once it is open.
    pub(crate) fn connect(&self, session: &SessionId, transport: &str, port: u16) -> Held {
        let listen = format!("127.0.0.1:{port}");
        let said = self.home.with_extension(format!("{port}.out"));
        let output = fs::File::create(&said).unwrap();
        let mut command =
            self.command(&["--transport", transport, "connect", session.as_str(), "--listen", &listen]);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Held { child: command.spawn().unwrap(), said }
    }

    /// A connection by way of the local port, over which a word came back.
    pub(crate) fn connected(&self, port: u16) -> Option<std::net::TcpStream> {
        use std::io::{Read as _, Write as _};
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let host = self.ready.site.lab().host(self.host).unwrap();
        host.run_in(|| {
            let mut stream = std::net::TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut back = [0; 5];
            let came = stream.write_all(b"hello").is_ok()
                && stream.read_exact(&mut back).is_ok()
                && &back == b"hello";
            came.then_some(stream)
        })
        .unwrap()
    }

    /// Whether a word comes back by way of the local port.
    pub(crate) fn echoes(&self, port: u16) -> bool {
        self.connected(port).is_some()
    }
}

/// A session that is held until this is dropped.
pub(crate) struct Held {
    child: Child,
    said: PathBuf,
}

impl Held {
    /// All that the vendor's program said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Held {
    /// Whether the vendor's program has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
