//! The clinic with its gateway: the installed roles in the lab's gateway, and the admin's command line.
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lab::{Host, Lab, LabBuilder, PLAYGROUND, Role, RoleRunner, Spec, Unit};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    prometheus::Prometheus,
    screen::{Screen, typed},
    words::Words,
};

/// The name of the policy file, as in the commands shown.
pub(crate) const POLICY: &str = "clinic.toml";
/// The clinic's own, in which the policy is written.
pub(crate) const TIMEZONE: &str = "Asia/Tokyo";
/// How long a role may take to be ready on a loaded machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 3] = ["sekishod", "sekisho", "sekisho-vendor"];
/// Every role of the gateway, core last: it looks its neighbours' users up, and changes nothing without the record.
pub(crate) const ROLES: [&str; 6] = ["record", "watch", "console", "edge", "files", "core"];
/// Where the roles find each other and leave what they deliver, in the directory that takes the place of `/run`.
const PLACES: [(&str, &str); 10] = [
    ("SEKISHO_DOORS", "sekisho/doors.sock"),
    ("SEKISHO_DROP", "sekisho-files/drop"),
    ("SEKISHO_EDGE", "sekisho-edge/edge.sock"),
    ("SEKISHO_FEED", "sekisho/feed.sock"),
    ("SEKISHO_FILES", "sekisho-files/files.sock"),
    ("SEKISHO_INSPECT", "sekisho-inspect/inspect.sock"),
    ("SEKISHO_MEASURE", "sekisho/measure.sock"),
    ("SEKISHO_SERVICES", "sekisho/services"),
    ("SEKISHO_WATCH", "sekisho-watch/watch.sock"),
    ("SEKISHO_RECORD", "sekisho-record/record.sock"),
];
/// Where the admin's command line finds them.
const SOCKETS: [(&str, &str); 5] = [
    ("SEKISHO_SOCKET", "sekisho/core.sock"),
    ("SEKISHO_WATCH_SOCKET", "sekisho-watch/watch.sock"),
    ("SEKISHO_RECORD_SOCKET", "sekisho-record/record.sock"),
    ("SEKISHO_CONSOLE_SOCKET", "sekisho-console/console.sock"),
    ("SEKISHO_EDGE_SOCKET", "sekisho-edge/edge.sock"),
];
/// Devices whose hardware address the example policy knows.
const DEVICES_WITH_MAC: [(&str, &str); 2] =
    [("ehr-server", "02:00:00:00:10:10"), ("pacs", "02:00:00:00:10:11")];
/// Whose clinic is reachable from the provider's router, so that nothing but the gateway guards it.
const CLINIC_V4: (&str, &str) = ("192.168.0.0/16", "203.0.113.2");

/// Is everything that runs.
#[derive(Debug)]
pub(crate) struct Site {
    // Order matters: what runs ends before the lab does.
    roles: Vec<(&'static str, Role)>,
    prometheus: Option<Prometheus>,
    lab: Lab,
    programs: PathBuf,
    files: PathBuf,
    words: Words,
    /// Policies put in force by the command line, each of which has to be in the log.
    applies: AtomicUsize,
}

/// What a program said, how it ended, and how long it took.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

impl Said {
    /// Whether it ended with this status.
    pub(crate) fn ended(&self, code: i32) -> bool {
        self.code == Some(code)
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON, but {self:?}"))
    }

    /// All that it said.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.out, self.err).trim_end().to_owned()
    }
}

impl Site {
    /// Builds the clinic and starts its servers; no role runs yet.
    pub(crate) fn build(words: Words, keep: bool) -> Result<Self> {
        let mut spec = Spec::clinic();
        if keep {
            PLAYGROUND.clone_into(&mut spec.name);
        }
        for internet in spec.zones.iter_mut().filter(|zone| zone.uplink).flat_map(|zone| &mut zone.hosts) {
            let (to, via) = CLINIC_V4;
            internet.routes.push(lab::RouteSpec { to: to.parse()?, via: via.parse()? });
        }
        let mut lab = LabBuilder::new(spec).build()?;
        lab.start_servers()?;
        let files = lab.directory().join("demo");
        fs::create_dir(&files)?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755))?;
        let programs = programs_for_everybody(&files)?;
        let (roles, applies) = (Vec::new(), AtomicUsize::new(0));
        let site = Self { roles, prometheus: None, lab, programs, files, words, applies };
        site.write(POLICY, &site.example()?)?;
        Ok(site)
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn host(&self, name: &str) -> Result<&Host> {
        Ok(self.lab.host(name)?)
    }

    /// Starts every role that does not run as its unit says, and waits until all are ready.
    pub(crate) fn start_roles(&mut self) -> Result<()> {
        for name in ROLES {
            if self.role(name).is_err() {
                let role = self.start(name)?;
                self.roles.push((name, role));
            }
        }
        Ok(())
    }

    /// The running roles with their names.
    pub(crate) fn roles(&self) -> impl Iterator<Item = (&'static str, &Role)> {
        self.roles.iter().map(|(name, role)| (*name, role))
    }

    /// SIGKILL to every role; returns when nothing of Sekisho runs any more.
    pub(crate) fn kill_roles(&mut self) -> Result<()> {
        while let Some((_, role)) = self.roles.pop() {
            kill(role)?;
        }
        Ok(())
    }

    /// Prints and sends SIGKILL to one role.
    pub(crate) fn kill_role(&mut self, screen: &Screen, name: &str) -> Result<()> {
        screen.command(&format!("[gw] kill -KILL {} # sekishod {name}", self.role(name)?.pid()));
        let place = self.roles.iter().position(|(known, _)| *known == name);
        kill(self.roles.remove(place.with_context(|| format!("{name} does not run"))?).1)
    }

    /// Prints and sends SIGKILL to one role, which is not started again before [`Site::revive`].
    pub(crate) fn strike(&self, screen: &Screen, name: &str) -> Result<()> {
        let role = self.role(name)?;
        screen.command(&format!("[gw] kill -KILL {} # sekishod {name}", role.pid()));
        Ok(role.signal(Signal::KILL)?)
    }

    /// Starts a role again that was struck.
    pub(crate) fn revive(&mut self, name: &str) -> Result<()> {
        let place = self.roles.iter().position(|(known, _)| *known == name);
        let (_, mut role) = self.roles.remove(place.with_context(|| format!("{name} does not run"))?);
        role.wait_ended(READY_LIMIT)?;
        self.start_roles()
    }

    /// Stops core's process in its tracks, so that it cannot repair what is done behind its back.
    pub(crate) fn freeze(&self) -> Result<()> {
        Ok(self.role("core")?.signal(Signal::STOP)?)
    }

    /// Lets every role go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.roles().try_for_each(|(_, role)| Ok(role.signal(Signal::CONT)?))
    }

    /// Stops every role but the record, which then has nothing more to write.
    pub(crate) fn silence(&self) -> Result<()> {
        let others = self.roles().filter(|(name, _)| *name != "record");
        others.map(|(_, role)| role).try_for_each(|role| Ok(role.signal(Signal::STOP)?))
    }

    fn role(&self, name: &str) -> Result<&Role> {
        let mut roles = self.roles();
        let found = roles.find(|(known, _)| *known == name).map(|(_, role)| role);
        found.with_context(|| format!("{name} does not run"))
    }

    /// Where a role keeps what must survive.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        let unit = if name == "core" { "sekisho".to_owned() } else { format!("sekisho-{name}") };
        RoleRunner::state_root(&self.lab).join(unit)
    }

    /// What the files role delivered of a vendor's.
    pub(crate) fn delivered(&self, vendor: &str) -> PathBuf {
        RoleRunner::runtime_root(&self.lab).join("sekisho-files/drop").join(vendor)
    }

    /// Keeps the reader of the metrics until the end.
    pub(crate) fn keep(&mut self, prometheus: Prometheus) -> &Prometheus {
        self.prometheus.insert(prometheus)
    }

    /// The reader of the metrics.
    pub(crate) fn prometheus(&self) -> Result<&Prometheus> {
        self.prometheus.as_ref().context("no Prometheus runs yet")
    }

    /// How many policies were put in force.
    pub(crate) fn applies(&self) -> usize {
        self.applies.load(Ordering::Relaxed)
    }

    /// Writes a policy file beside the example.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.files.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a policy file.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.files.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Prints and runs the admin's command line, with its answer quoted.
    pub(crate) fn run(&self, screen: &Screen, arguments: &[&str]) -> Result<Said> {
        screen.command(&format!("sekisho {}", typed(arguments)));
        let said = self.ask(arguments)?;
        screen.quote(&said.text());
        Ok(said)
    }

    /// Runs the admin's command line without a word.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Said> {
        let said = finish(self.sekisho(arguments), None)?;
        if arguments.first() == Some(&"apply") && said.ended(0) {
            self.applies.fetch_add(1, Ordering::Relaxed);
        }
        Ok(said)
    }

    /// Prints and runs the admin's command line, which gets one line of input.
    pub(crate) fn run_with(&self, screen: &Screen, arguments: &[&str], line: &str) -> Result<Said> {
        screen.command(&format!("sekisho {} # <<< {line}", typed(arguments)));
        let said = finish(self.sekisho(arguments), Some(line))?;
        screen.quote(&said.text());
        Ok(said)
    }

    /// Prepares the admin's command line.
    pub(crate) fn sekisho(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("sekisho"));
        command.args(arguments).current_dir(&self.files).env("LC_ALL", self.words.locale());
        command.env("TZ", TIMEZONE).envs(self.sockets());
        command
    }

    /// Prints and runs a command on a host.
    pub(crate) fn on(&self, screen: &Screen, host: &str, program: &str, arguments: &[&str]) -> Result<Said> {
        screen.command(&format!("[{host}] {program} {}", arguments.join(" ")));
        self.quietly_on(host, program, arguments)
    }

    /// Runs a command on a host without a word, where the policy files are.
    pub(crate) fn quietly_on(&self, host: &str, program: &str, arguments: &[&str]) -> Result<Said> {
        let mut command = self.host(host)?.command(program);
        command.args(arguments).current_dir(&self.files);
        finish(command, None)
    }

    /// Prints and runs `nft` in the gateway, as somebody would who does not know of Sekisho.
    pub(crate) fn nft(&self, screen: &Screen, line: &str) -> Result<()> {
        let said = self.on(screen, lab::GATEWAY, "nft", &[line])?;
        if !said.ended(0) {
            bail!("`nft {line}` failed: {}", said.text());
        }
        Ok(())
    }

    /// Where the roles listen, as `sekisho` reads it from its environment.
    pub(crate) fn sockets(&self) -> [(&'static str, PathBuf); 5] {
        let root = RoleRunner::runtime_root(&self.lab);
        SOCKETS.map(|(name, place)| (name, root.join(place)))
    }

    /// The language that is spoken.
    pub(crate) fn words(&self) -> Words {
        self.words
    }

    /// Where the programs are that run here.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// Where the policy files are.
    pub(crate) fn files(&self) -> &Path {
        &self.files
    }

    /// Reads the example policy of the repository, and gives the devices the hardware addresses that they have here.
    fn example(&self) -> Result<String> {
        let path = repository().join("policy/examples").join(POLICY);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        DEVICES_WITH_MAC.iter().try_fold(text, |text, (host, written)| {
            ensure!(text.contains(written), "{POLICY} no longer says `{written}`");
            Ok(text.replace(written, &lab::mac_text(self.host(host)?.leg().mac())))
        })
    }

    fn start(&self, name: &str) -> Result<Role> {
        let unit = repository().join(format!("firmware/units/sekisho-{name}.service"));
        let root = RoleRunner::runtime_root(&self.lab);
        let runner = RoleRunner::new(&self.lab, Unit::read(&unit)?);
        let runner =
            PLACES.iter().fold(runner, |runner, (variable, place)| runner.env(variable, root.join(place)));
        let mut role = runner.program(self.programs.join("sekishod")).start()?;
        role.wait_ready(READY_LIMIT)?;
        Ok(role)
    }
}

fn kill(mut role: Role) -> Result<()> {
    role.signal(Signal::KILL)?;
    role.wait_ended(READY_LIMIT)?;
    Ok(())
}

/// The repository that this program was built from.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program, which gets a line of input or none, to its end.
pub(crate) fn finish(mut command: Command, line: Option<&str>) -> Result<Said> {
    let began = Instant::now();
    let input = if line.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if let (Some(line), Some(mut stdin)) = (line, child.stdin.take()) {
        // A program that wants no input has said by then why it ends.
        let _ = writeln!(stdin, "{line}");
    }
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let took = began.elapsed();
    Ok(Said { code: status.code(), out: text(&stdout), err: text(&stderr), began, took })
}

/// Finds the gateway's programs beside this one, copying them where the roles' users cannot reach them.
fn programs_for_everybody(files: &Path) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.parent().context("this program has no directory")?.to_owned();
    for name in PROGRAMS {
        let program = built.join(name);
        if !program.exists() {
            bail!("{} is not there; `make demo` builds it", program.display());
        }
    }
    let passable = |path: &Path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0);
    if built.ancestors().all(passable) {
        return Ok(built);
    }
    for name in PROGRAMS {
        fs::copy(built.join(name), files.join(name))?;
    }
    Ok(files.to_owned())
}
