//! The clinic with its gateway: the installed roles in the lab's gateway, and the admin's command line.
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::{Host, Lab, LabBuilder, PLAYGROUND, Role, RoleRunner, Spec, Unit};
use rustix::process::Signal;
use serde_json::Value;

use crate::{screen::Screen, words::Words};

/// The name of the policy file, as in the commands shown.
pub(crate) const POLICY: &str = "clinic.toml";
/// How long a role may take to be ready on a loaded machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 2] = ["sekishod", "sekisho"];
/// Whose clinic is reachable from the provider's router, so that nothing but the gateway guards it.
const CLINIC_V4: (&str, &str) = ("192.168.0.0/16", "203.0.113.2");

/// Is everything that runs.
#[derive(Debug)]
pub(crate) struct Site {
    // Order matters: the roles end before the lab does.
    core: Option<Role>,
    watch: Option<Role>,
    lab: Lab,
    programs: PathBuf,
    files: PathBuf,
    words: Words,
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
        let site = Self { core: None, watch: None, lab, programs, files, words };
        site.write(POLICY, &example()?)?;
        Ok(site)
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn host(&self, name: &str) -> Result<&Host> {
        Ok(self.lab.host(name)?)
    }

    /// Starts both roles as their units say, and waits until they are ready.
    pub(crate) fn start_roles(&mut self) -> Result<()> {
        self.core = Some(self.start("sekisho-core")?);
        self.watch = Some(self.start("sekisho-watch")?);
        Ok(())
    }

    /// The running roles with their names.
    pub(crate) fn roles(&self) -> impl Iterator<Item = (&'static str, &Role)> {
        let core = self.core.iter().map(|role| ("core", role));
        core.chain(self.watch.iter().map(|role| ("watch", role)))
    }

    /// SIGKILL to every role; returns when nothing of Sekisho runs any more.
    pub(crate) fn kill_roles(&mut self) -> Result<()> {
        for mut role in self.core.take().into_iter().chain(self.watch.take()) {
            role.signal(Signal::KILL)?;
            role.wait_ended(READY_LIMIT)?;
        }
        Ok(())
    }

    /// Stops core's process in its tracks, so that it cannot repair what is done behind its back.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.core.iter().try_for_each(|core| Ok(core.signal(Signal::STOP)?))
    }

    /// Lets core go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.core.iter().try_for_each(|core| Ok(core.signal(Signal::CONT)?))
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
        screen.command(&format!("sekisho {}", arguments.join(" ")));
        let said = self.ask(arguments)?;
        screen.quote(&said.text());
        Ok(said)
    }

    /// Runs the admin's command line without a word.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(self.programs.join("sekisho"));
        command.args(arguments).current_dir(&self.files).env("LC_ALL", self.words.locale());
        command.envs(self.sockets());
        finish(command)
    }

    /// Prints and runs a command on a host.
    pub(crate) fn on(&self, screen: &Screen, host: &str, program: &str, arguments: &[&str]) -> Result<Said> {
        screen.command(&format!("[{host}] {program} {}", arguments.join(" ")));
        self.quietly_on(host, program, arguments)
    }

    /// Runs a command on a host without a word.
    pub(crate) fn quietly_on(&self, host: &str, program: &str, arguments: &[&str]) -> Result<Said> {
        let mut command = self.host(host)?.command(program);
        command.args(arguments);
        finish(command)
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
    pub(crate) fn sockets(&self) -> [(&'static str, PathBuf); 2] {
        let root = RoleRunner::runtime_root(&self.lab);
        [
            ("SEKISHO_SOCKET", root.join("sekisho/core.sock")),
            ("SEKISHO_WATCH_SOCKET", root.join("sekisho-watch/watch.sock")),
        ]
    }

    /// Where the programs are that run here.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// Where the policy files are.
    pub(crate) fn files(&self) -> &Path {
        &self.files
    }

    fn start(&self, name: &str) -> Result<Role> {
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/units");
        let unit = Unit::read(&units.join(format!("{name}.service")))?;
        let feed = RoleRunner::runtime_root(&self.lab).join("sekisho/feed.sock");
        let runner = RoleRunner::new(&self.lab, unit).env("SEKISHO_FEED", feed);
        let mut role = runner.program(self.programs.join("sekishod")).start()?;
        role.wait_ready(READY_LIMIT)?;
        Ok(role)
    }
}

/// Reads the example policy of the repository.
fn example() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/examples").join(POLICY);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn finish(mut command: Command) -> Result<Said> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } =
        output.with_context(|| format!("cannot start {}", command.get_program().display()))?;
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
