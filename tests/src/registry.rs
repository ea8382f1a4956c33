//! Who owns which lab, and the end of every lab.
//!
//! A lab is a state file, a directory and namespaces that share a prefix. All three are removed by one shell
//! script and nothing else: a `Warden` process runs it as soon as its standard input closes, that is, when
//! the lab is dropped or its owner dies of whatever cause; `reap` runs it for owners whose warden died too.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{LabError, namespace::NETNS_DIRECTORY};

/// Where labs are registered.
pub const REGISTRY: &str = "/run/sekisho-lab";
/// The name of a specification whose lab is there to be played with: `lab shell`, `exec` and `down` choose such
/// a lab unasked, never one of a running test.
pub const PLAYGROUND: &str = "playground";
/// How long a teardown may take before the owner stops waiting for it.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// The lab's own directory: others may pass through (the roles have users of their own), not list it.
const DIRECTORY_MODE: u32 = 0o711;
/// The one teardown: $1 is the lab's prefix, $2 the registry. It may run twice at once.
const TEARDOWN: &str = r#"
cat >/dev/null
for path in /run/netns/"$1"-*; do
  [ -e "$path" ] || continue
  for pid in $(ip netns pids "${path##*/}" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
  ip netns del "${path##*/}" 2>/dev/null
done
rm -rf -- "$2/$1.d"
rm -f -- "$2/$1.json" "$2/$1.new"
"#;

static LABS_OF_THIS_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Is what the registry knows of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The beginning of all the lab's namespace names.
    pub prefix: String,
    /// The specification's name.
    pub name: String,
    /// The owning process.
    pub pid: u32,
    /// When the owning process started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started_ticks: u64,
    /// The namespace of each host, by host name.
    pub namespaces: BTreeMap<String, String>,
}

impl Record {
    /// Makes the record of a new lab of this process.
    pub(crate) fn new(name: &str, hosts: impl Iterator<Item = impl AsRef<str>>) -> Result<Self, LabError> {
        let pid = std::process::id();
        let number = LABS_OF_THIS_PROCESS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("sk{pid}x{number}");
        let namespace = |host: &str| (host.to_owned(), format!("{prefix}-{host}"));
        let namespaces = hosts.map(|host| namespace(host.as_ref())).collect();
        let started_ticks = started_ticks(pid).ok_or_else(|| LabError::Io {
            doing: "read this process's start time from /proc".to_owned(),
            source: ErrorKind::NotFound.into(),
        })?;
        Ok(Self { prefix, name: name.to_owned(), pid, started_ticks, namespaces })
    }

    /// Gives the lab's own directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        Path::new(REGISTRY).join(format!("{}.d", self.prefix))
    }

    /// Tells whether the owning process still lives.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        started_ticks(self.pid) == Some(self.started_ticks)
    }

    /// Writes the record and makes the directory, before anything else of the lab exists.
    pub(crate) fn register(&self) -> Result<(), LabError> {
        let (new, file) = (self.file("new"), self.file("json"));
        let text = serde_json::to_string_pretty(self).map_err(LabError::io("write the lab's record"))?;
        fs::write(&new, text).map_err(LabError::io(format!("write {}", new.display())))?;
        fs::rename(&new, &file).map_err(LabError::io(format!("write {}", file.display())))?;
        make_directory(&self.directory(), DIRECTORY_MODE)
    }

    /// Tells whether the lab is still registered, that is, not fully torn down.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.file("json").exists()
    }

    fn file(&self, extension: &str) -> PathBuf {
        Path::new(REGISTRY).join(format!("{}.{extension}", self.prefix))
    }
}

/// Is the process that tears the lab down as soon as its owner lets go.
#[derive(Debug)]
pub(crate) struct Warden(Child);

impl Warden {
    pub(crate) fn start(record: &Record) -> Result<Self, LabError> {
        let mut command = teardown(&record.prefix);
        // A group of its own: Ctrl-C at the terminal ends the owner, never the warden.
        command.stdin(Stdio::piped()).process_group(0);
        command.spawn().map(Self).map_err(LabError::io("start the lab's warden (`sh`)"))
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let deadline = Instant::now() + TEARDOWN_LIMIT;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }
}

/// Lists the registered labs, dead ones included, in the order of their prefixes.
/// # Errors
/// Fails when the registry cannot be read.
pub fn labs() -> Result<Vec<Record>, LabError> {
    let mut labs: Vec<_> = files()?.iter().filter_map(|path| read(path)).collect();
    labs.sort_by(|one, other| one.prefix.cmp(&other.prefix));
    Ok(labs)
}

/// Removes what dead owners left behind and returns the prefixes of those labs.
/// # Errors
/// Fails when the registry cannot be read or locked.
pub fn reap() -> Result<Vec<String>, LabError> {
    make_directory(Path::new(REGISTRY), 0o755)?;
    let lock = lock()?;
    let mut reaped = Vec::new();
    for prefix in prefixes()? {
        // Without a readable record the name still tells the owner: a program that the owner had started may
        // have made another namespace after the warden was done.
        let record = read(&Path::new(REGISTRY).join(format!("{prefix}.json")));
        if !record.map_or_else(|| named_owner_lives(&prefix), |record| record.is_owned()) {
            let status = teardown(&prefix).stdin(Stdio::null()).status();
            status.map_err(LabError::io("tear a leftover lab down (`sh`)"))?;
            reaped.push(prefix);
        }
    }
    drop(lock);
    Ok(reaped)
}

/// Lists the prefixes of all labs of which there is a record or a namespace.
fn prefixes() -> Result<BTreeSet<String>, LabError> {
    let recorded = files()?.into_iter().filter_map(|path| path.file_stem()?.to_str().map(str::to_owned));
    let names = fs::read_dir(NETNS_DIRECTORY).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let named = names.filter_map(|name| name.to_str()?.split_once('-').map(|(prefix, _)| prefix.to_owned()));
    Ok(recorded.chain(named).filter(|prefix| owner_in(prefix).is_some()).collect())
}

/// Takes the lock that serializes changes of what labs share: leftovers, system users.
pub(crate) fn lock() -> Result<File, LabError> {
    let path = Path::new(REGISTRY).join("lock");
    let file = File::create(&path).map_err(LabError::io(format!("open {}", path.display())))?;
    file.lock().map_err(LabError::io(format!("lock {}", path.display())))?;
    Ok(file)
}

/// Makes a directory with exactly this mode, whatever the umask; an existing one is left as it is.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), LabError> {
    let doing = || LabError::io(format!("make the directory {}", path.display()));
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(doing()(error)),
        Ok(()) => fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(doing()),
    }
}

fn teardown(prefix: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", TEARDOWN, "sekisho-lab-warden", prefix, REGISTRY]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn files() -> Result<Vec<PathBuf>, LabError> {
    let entries = match fs::read_dir(REGISTRY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(LabError::io(format!("read {REGISTRY}")))?,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect())
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn named_owner_lives(prefix: &str) -> bool {
    owner_in(prefix).is_some_and(|pid| started_ticks(pid).is_some())
}

/// Reads the owner's process id in a prefix; none when this is no lab's.
fn owner_in(prefix: &str) -> Option<u32> {
    let (pid, number) = prefix.strip_prefix("sk")?.split_once('x')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Reads when a process started; none when there is no such process or it is a zombie.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything; the fields begin after its last parenthesis, with the state.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| state != "Z" && state != "X")
}
