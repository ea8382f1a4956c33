//! Runs a program in the gateway as the user, with the groups and capabilities and under the seccomp filters that its
//! unit file says, by `setpriv` of util-linux and `lab-launch`, in place of systemd.
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{PermissionsExt, chown},
            net::{UnixDatagram, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Lab, LabError,
    launch::{LAUNCHER, confined, launcher, places},
    namespace::finished,
    registry::{lock, make_directory},
    unit::{Directories, Unit},
};

/// The launchers that replace themselves by the next until the program runs.
const LAUNCHERS: [&str; 3] = ["ip", "setpriv", LAUNCHER];
const LAUNCH_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);
const TUN: &str = "/dev/net/tun";
const READY: &[u8] = b"READY=1";
/// What systemd gives system services (systemd.exec(5)).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static STARTS: AtomicU32 = AtomicU32::new(0);

/// Prepares a role of the gateway.
#[derive(Debug)]
pub struct RoleRunner<'lab> {
    lab: &'lab Lab,
    unit: Unit,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Stdio,
    at_installed_places: bool,
}

/// Is a running role, which is killed when dropped.
#[derive(Debug)]
pub struct Role {
    name: String,
    child: Child,
    log: PathBuf,
    manager: Manager,
}

impl<'lab> RoleRunner<'lab> {
    /// Prepares what the unit says, its own program and arguments included.
    #[must_use]
    pub fn new(lab: &'lab Lab, unit: Unit) -> Self {
        let mut words = unit.exec.iter();
        let program = words.next().map(PathBuf::from).unwrap_or_default();
        let arguments = words.map(OsString::from).collect();
        let environment = unit.environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let input = Stdio::null();
        Self { lab, unit, program, arguments, environment, input, at_installed_places: false }
    }

    /// Runs another file in place of the installed one, with the unit's arguments.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    /// Adds an argument behind the unit's.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Replaces all arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable; nothing is inherited from this process.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Gives the role a connection for its standard input, as `StandardInput=socket` of a unit with a socket does.
    #[must_use]
    pub fn input(mut self, connection: UnixStream) -> Self {
        self.input = OwnedFd::from(connection).into();
        self
    }

    /// Shows the role its unit's directories below `/run` and `/var/lib` as well, as on an installed box and to it
    /// alone; for a program whose places are fixed when it is built.
    #[must_use]
    pub fn at_installed_places(mut self) -> Self {
        self.at_installed_places = true;
        self
    }

    /// Gives the directory that takes the place of `/run` for the lab's roles.
    #[must_use]
    pub fn runtime_root(lab: &Lab) -> PathBuf {
        lab.directory().join("run")
    }

    /// Gives the directory that takes the place of `/var/lib` for the lab's roles.
    #[must_use]
    pub fn state_root(lab: &Lab) -> PathBuf {
        lab.directory().join("lib")
    }

    /// Starts the role and waits until the program itself runs in its process.
    /// # Errors
    /// Fails when a user cannot be made, a filter cannot be compiled, or the program cannot be started or ends at once
    /// with an error.
    pub fn start(self) -> Result<Role, LabError> {
        give_tun()?;
        let identity = Identity::ensure(&self.unit)?;
        let runtime = identity.give(&Self::runtime_root(self.lab), &self.unit.runtime)?;
        let state = identity.give(&Self::state_root(self.lab), &self.unit.state)?;
        let number = STARTS.fetch_add(1, Ordering::Relaxed);
        let stem = self.lab.directory().join(format!("{}-{number}", self.unit.name));
        let (log, notify) = (stem.with_extension("log"), stem.with_extension("notify"));
        let manager = Manager::start(&notify)?;
        let output = File::create(&log).map_err(LabError::io(format!("write {}", log.display())))?;
        let errors = output.try_clone().map_err(LabError::io(format!("write {}", log.display())))?;
        let mut command = self.command(&identity, &stem.with_extension("seccomp"))?;
        command.env_clear().env("PATH", PATH).env("USER", &self.unit.user).env("LOGNAME", &self.unit.user);
        command.env("NOTIFY_SOCKET", &notify);
        let paths = [("RUNTIME_DIRECTORY", runtime), ("STATE_DIRECTORY", state)];
        command.envs(paths.into_iter().filter(|(_, path)| !path.is_empty()));
        command.envs(self.environment).stdin(self.input).stdout(output).stderr(errors);
        let child = command.spawn().map_err(LabError::io("start `ip netns exec`"))?;
        let mut role = Role { name: self.unit.name, child, log, manager };
        role.wait_launched()?;
        Ok(role)
    }

    /// Prepares the launchers that become the program. The filters come last: they forbid what `setpriv` does.
    fn command(&self, identity: &Identity, filters: &Path) -> Result<Command, LabError> {
        let launcher = launcher(self.lab)?;
        let confined = confined(&self.unit.confinement.programs()?, filters)?;
        let mut command = if self.at_installed_places {
            let mut command = self.lab.gateway().command(&launcher);
            command.args(places(&self.installed_places())).arg("setpriv");
            command
        } else {
            self.lab.gateway().command("setpriv")
        };
        command.args(identity.setpriv_arguments(&self.unit)).arg("--");
        command.arg(&launcher).args(confined).arg(&self.program).args(&self.arguments);
        Ok(command)
    }

    /// Pairs the lab's directories with those that the unit's names mean on an installed box.
    fn installed_places(&self) -> Vec<(PathBuf, PathBuf)> {
        let pairs = |here: PathBuf, there: &'static str, directories: &Directories| {
            let pair = |name: &PathBuf| (here.join(name), Path::new(there).join(name));
            directories.names.iter().map(pair).collect::<Vec<_>>()
        };
        let runtime = pairs(Self::runtime_root(self.lab), "/run", &self.unit.runtime);
        let state = pairs(Self::state_root(self.lab), "/var/lib", &self.unit.state);
        [runtime, state].concat()
    }
}

/// What a process holds in memory (proc_pid_smaps_rollup(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// All that is mapped and in memory.
    pub bytes: u64,
    /// The same, a page that several processes hold counted for each in proportion: the roles run one program, of which the
    /// kernel has one copy.
    pub share_bytes: u64,
}

impl Role {
    /// Gives the process id, the same from the launcher on.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives all that the role has written to its standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Gives `/proc/PID/status`, from which user, groups, capabilities and filters can be read.
    /// # Errors
    /// Fails when the process has ended.
    pub fn status(&self) -> Result<String, LabError> {
        let path = format!("/proc/{}/status", self.pid());
        fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))
    }

    /// Gives what the role holds in memory.
    /// # Errors
    /// Fails when the process has ended.
    pub fn resident(&self) -> Result<Resident, LabError> {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let failed = |error: io::Error| LabError::io(format!("read {path}"))(error);
        let rollup = fs::read_to_string(&path).map_err(failed)?;
        let bytes = |field: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(field));
            let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes
                .map(|number| number << 10)
                .ok_or_else(|| failed(io::Error::other(format!("no `{field}`"))))
        };
        Ok(Resident { bytes: bytes("Rss:")?, share_bytes: bytes("Pss:")? })
    }

    /// Waits until the role says `READY=1` (sd_notify(3)).
    /// # Errors
    /// Fails when it ends before or does not say so in time; the message carries its log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + limit;
        loop {
            if self.manager.ready.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(self.failure(&status));
            }
            if Instant::now() >= deadline {
                let what = format!("{} to be ready; its log: {}", self.name, self.log());
                return Err(LabError::Timeout { what, waited: limit });
            }
            thread::sleep(POLL);
        }
    }

    /// Sends a signal.
    /// # Errors
    /// Fails when the process has been waited for.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let doing = LabError::io(format!("send a signal to {}", self.name));
        match pid {
            Some(pid) => kill_process(pid, signal).map_err(doing),
            None => Err(doing(rustix::io::Errno::SRCH)),
        }
    }

    /// Tells whether the role has ended, and how, without waiting.
    /// # Errors
    /// Fails when the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.child.try_wait().map_err(LabError::io(format!("wait for {}", self.name)))
    }

    /// Waits until the role ends by itself.
    /// # Errors
    /// Fails when it does not in time.
    pub fn wait_ended(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let what = format!("{} to end; its log: {}", self.name, self.log());
                return Err(LabError::Timeout { what, waited: limit });
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until the launchers have replaced themselves by the role's program.
    fn wait_launched(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + LAUNCH_LIMIT;
        let own = fs::read_link("/proc/self/exe").ok();
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return if status.success() { Ok(()) } else { Err(self.failure(&status)) };
            }
            let exe = fs::read_link(format!("/proc/{}/exe", self.pid())).ok();
            let name =
                exe.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            if exe != own && name.is_some_and(|name| !LAUNCHERS.contains(&name.as_str())) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(LabError::Timeout { what: format!("{} to be launched", self.name), waited: LAUNCH_LIMIT })
    }

    fn failure(&self, status: &ExitStatus) -> LabError {
        LabError::Program { program: self.name.clone(), status: status.to_string(), stderr: self.log() }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is what the system's user database says about a unit's user.
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// Looks the unit's user and groups up, making those system users and groups that are absent.
    fn ensure(unit: &Unit) -> Result<Self, LabError> {
        let lock = lock()?;
        for group in unit.group.iter().chain(&unit.supplementary_groups) {
            ensure_group(group)?;
        }
        if lookup("passwd", &unit.user)?.is_none() {
            let group = unit.group.as_ref().unwrap_or(&unit.user);
            ensure_group(group)?;
            let mut add = Command::new("useradd");
            add.args(["--system", "--no-create-home", "--home-dir", "/nonexistent"]);
            add.args(["--shell", "/usr/sbin/nologin", "--gid", group, &unit.user]);
            finished(add)?;
        }
        drop(lock);
        let uid = identifier(&["-u", &unit.user])?;
        let gid = match &unit.group {
            Some(group) => group_identifier(group)?,
            None => identifier(&["-g", &unit.user])?,
        };
        let mut groups = vec![gid];
        let own = id(&["-G", &unit.user])?;
        groups.extend(own.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        for group in &unit.supplementary_groups {
            groups.push(group_identifier(group)?);
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { uid, gid, groups })
    }

    /// Makes a unit's directories below a root, owned by the user, and joins their paths as systemd does.
    fn give(&self, root: &Path, directories: &Directories) -> Result<String, LabError> {
        make_directory(root, 0o755)?;
        let mut paths = Vec::new();
        for name in &directories.names {
            let mut path = root.to_owned();
            for part in name {
                path.push(part);
                make_directory(&path, 0o755)?;
            }
            let doing = || LabError::io(format!("hand {} over", path.display()));
            chown(&path, Some(self.uid), Some(self.gid)).map_err(doing())?;
            fs::set_permissions(&path, PermissionsExt::from_mode(directories.mode)).map_err(doing())?;
            paths.push(path.display().to_string());
        }
        Ok(paths.join(":"))
    }

    fn setpriv_arguments(&self, unit: &Unit) -> Vec<String> {
        let groups: Vec<_> = self.groups.iter().map(u32::to_string).collect();
        let mut arguments = vec![
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.gid),
            format!("--groups={}", groups.join(",")),
            format!("--inh-caps={}", exactly(&unit.ambient)),
            format!("--ambient-caps={}", exactly(&unit.ambient)),
        ];
        arguments.extend(unit.bounding.iter().map(|set| format!("--bounding-set={}", exactly(set))));
        arguments.extend(unit.no_new_privileges.then(|| "--no-new-privs".to_owned()));
        arguments
    }
}

/// Lets everybody open the device that makes tunnels, as udev does on Debian; without udev only root may. Who opens it
/// gets no more than a tunnel that was made for his user.
fn give_tun() -> Result<(), LabError> {
    match fs::metadata(TUN) {
        Ok(found) if found.permissions().mode() & 0o666 != 0o666 => {
            fs::set_permissions(TUN, PermissionsExt::from_mode(0o666))
                .map_err(LabError::io(format!("hand {TUN} over")))
        }
        // Without it there is no VPN, which the roles say themselves.
        _ => Ok(()),
    }
}

/// Writes a capability set for setpriv: all out, then these in.
fn exactly(capabilities: &[String]) -> String {
    let named =
        capabilities.iter().map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()));
    std::iter::once("-all".to_owned()).chain(named).collect::<Vec<_>>().join(",")
}

fn ensure_group(name: &str) -> Result<(), LabError> {
    if lookup("group", name)?.is_none() {
        let mut add = Command::new("groupadd");
        add.args(["--system", name]);
        finished(add)?;
    }
    Ok(())
}

fn group_identifier(name: &str) -> Result<u32, LabError> {
    let entry = lookup("group", name)?.unwrap_or_default();
    let identifier = entry.split(':').nth(2).and_then(|field| field.parse().ok());
    identifier.ok_or_else(|| LabError::Impossible(format!("the system has no group `{name}`")))
}

/// Asks the system's databases, whatever stands behind them, for an entry; exit code 2 says that there is none.
fn lookup(database: &str, name: &str) -> Result<Option<String>, LabError> {
    let output = Command::new("getent").args([database, name]).output();
    let output = output.map_err(LabError::io("start `getent`"))?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

fn id(arguments: &[&str]) -> Result<String, LabError> {
    let mut command = Command::new("id");
    command.args(arguments);
    finished(command).map(|text| text.trim().to_owned())
}

fn identifier(arguments: &[&str]) -> Result<u32, LabError> {
    let text = id(arguments)?;
    text.parse().map_err(|_| LabError::Impossible(format!("`id` said `{text}` in place of a number")))
}

/// Takes the service manager's part (sd_notify(3)): listens until the role is dropped, for a role that tells more
/// than nobody reads would have to wait.
#[derive(Debug)]
struct Manager {
    ready: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Manager {
    fn start(path: &Path) -> Result<Self, LabError> {
        let doing = || LabError::io(format!("listen at {}", path.display()));
        let socket = UnixDatagram::bind(path).map_err(doing())?;
        fs::set_permissions(path, PermissionsExt::from_mode(0o666)).map_err(doing())?;
        socket.set_read_timeout(Some(Duration::from_millis(20))).map_err(doing())?;
        let (ready, stop) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (told, over) = (Arc::clone(&ready), Arc::clone(&stop));
        let thread = thread::Builder::new().name("manager".to_owned()).spawn(move || {
            let mut message = [0; 4096];
            while !over.load(Ordering::Acquire) {
                let length = socket.recv(&mut message).unwrap_or_default();
                let text = message.get(..length).unwrap_or_default();
                if text.split(|byte| *byte == b'\n').any(|line| line == READY) {
                    told.store(true, Ordering::Release);
                }
            }
        });
        let thread = Some(thread.map_err(doing())?);
        Ok(Self { ready, stop, thread })
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It neither panics nor returns anything.
            let _ = thread.join();
        }
    }
}
