//! The installed gateway in the lab: `sekishod core` as its unit says, and `sekisho` to talk to it.
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use lab::{Lab, Role, RoleRunner, Unit};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::site::clinic;

/// How long a role may take to be ready, in a debug build on a loaded machine.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(60);

/// A lab with the gateway's programs.
pub(crate) struct Site {
    // Order matters: the roles end before the lab does.
    core: Option<Role>,
    /// The other roles of ours that run, by the name of their unit.
    others: BTreeMap<&'static str, Role>,
    lab: Lab,
    programs: PathBuf,
    files: TempDir,
}

impl Site {
    /// Builds the clinic and starts core, which has no policy yet.
    pub(crate) fn start() -> Self {
        let mut site = Self::new(clinic(false));
        site.start_core();
        site
    }

    /// Prepares a lab; nothing runs yet.
    pub(crate) fn new(lab: Lab) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let programs = programs_for_everybody(files.path());
        Self { core: None, others: BTreeMap::new(), lab, programs, files }
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A directory that every user may read.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    /// Starts core, and before it the record, without which core changes nothing; waits until they are ready.
    pub(crate) fn start_core(&mut self) {
        self.start_role("sekisho-record");
        let mut role = self.runner("sekisho-core").start().unwrap();
        role.wait_ready(READY_LIMIT).unwrap();
        self.core = Some(role);
    }

    /// Starts one more role of ours, unless it runs, and waits until it is ready.
    pub(crate) fn start_role(&mut self, unit: &'static str) -> &mut Role {
        if !self.others.contains_key(unit) {
            let mut role = self.runner(unit).start().unwrap();
            role.wait_ready(READY_LIMIT).unwrap();
            self.others.insert(unit, role);
        }
        self.others.get_mut(unit).unwrap()
    }

    /// SIGKILL to a role that [`Site::start_role`] started, and nothing of it is left.
    pub(crate) fn kill_role(&mut self, unit: &str) {
        let mut role = self.others.remove(unit).unwrap();
        role.signal(Signal::KILL).unwrap();
        role.wait_ended(READY_LIMIT).unwrap();
    }

    pub(crate) fn core(&mut self) -> &mut Role {
        self.core.as_mut().unwrap()
    }

    /// A role that runs: core, or one that [`Site::start_role`] started.
    pub(crate) fn role(&self, unit: &str) -> &Role {
        if unit == "sekisho-core" { self.core.as_ref().unwrap() } else { &self.others[unit] }
    }

    /// SIGKILL, and nothing of core is left.
    pub(crate) fn kill_core(&mut self) {
        let mut role = self.core.take().unwrap();
        role.signal(Signal::KILL).unwrap();
        role.wait_ended(READY_LIMIT).unwrap();
    }

    /// Prepares a role as its unit says, with the programs of this build in place of the installed ones.
    pub(crate) fn runner(&self, unit: &str) -> RoleRunner<'_> {
        let unit = unit_file(unit);
        let installed = PathBuf::from(unit.exec.first().unwrap());
        let built = self.programs.join(installed.file_name().unwrap());
        let places = [
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
        let root = RoleRunner::runtime_root(&self.lab);
        let runner = RoleRunner::new(&self.lab, unit);
        let runner = places.iter().fold(runner, |runner, (name, place)| runner.env(name, root.join(place)));
        // The same on every machine; the kernel's WireGuard is tried in guests, which all have it.
        let runner = runner.env("SEKISHO_VPN_DATA_PATH", "user");
        if built.exists() { runner.program(built) } else { runner }
    }

    /// Where a program of this build is.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Where core keeps what must survive.
    pub(crate) fn state(&self) -> PathBuf {
        RoleRunner::state_root(&self.lab).join("sekisho")
    }

    /// Where core's sockets and generated files are.
    pub(crate) fn runtime(&self) -> PathBuf {
        RoleRunner::runtime_root(&self.lab).join("sekisho")
    }

    /// Prepares the admin's command line.
    pub(crate) fn sekisho(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("sekisho"));
        let root = RoleRunner::runtime_root(&self.lab);
        command.args(["--lang", "en", "--socket"]).arg(self.runtime().join("core.sock"));
        for role in ["watch", "record", "console", "edge"] {
            let socket = root.join(format!("sekisho-{role}/{role}.sock"));
            command.arg(format!("--{role}-socket")).arg(socket);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the admin's command line.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.sekisho(arguments).output().unwrap())
    }

    /// Writes a policy file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Applies a policy, which must succeed.
    pub(crate) fn apply(&self, text: &str) {
        self.try_apply(text).succeeded();
    }

    /// Applies a policy.
    pub(crate) fn try_apply(&self, text: &str) -> Said {
        let file = self.write("test.toml", text);
        self.run(&["apply", &file])
    }

    /// Begins to apply a policy.
    pub(crate) fn begin_apply(&self, file: &str) -> Child {
        let mut command = self.sekisho(&["apply", file]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What `sekisho --json status` says.
    pub(crate) fn status(&self) -> Value {
        self.run(&["--json", "status"]).succeeded().json()
    }

    /// Fails unless `sekisho verify` finds the kernel equal to the policy.
    pub(crate) fn assert_verified(&self) {
        let said = self.run(&["verify"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Fails unless the program ended with this status and said all these words on standard error.
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in {self:?}");
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads one of the units that are installed.
pub(crate) fn unit_file(name: &str) -> Unit {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/units");
    Unit::read(&units.join(format!("{name}.service"))).unwrap()
}

/// Finds the programs of this build where the roles' users can run them, copying them if need be.
fn programs_for_everybody(files: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap().to_owned();
    for name in ["sekishod", "sekisho"] {
        let program = built.join(name);
        assert!(program.exists(), "{} is not there: `cargo build -p gateway` makes it", program.display());
    }
    let passable = |path: &Path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0);
    if built.ancestors().all(passable) {
        return built;
    }
    let copies = files.join("programs");
    fs::create_dir(&copies).unwrap();
    fs::set_permissions(&copies, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["sekishod", "sekisho"] {
        fs::copy(built.join(name), copies.join(name)).unwrap();
    }
    copies
}
