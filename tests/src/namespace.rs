//! One network namespace: enter it with a closure, start a program in it, set its sysctls.
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    os::fd::AsFd,
    panic,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::LabError;

/// Where `ip netns` keeps the names.
pub(crate) const NETNS_DIRECTORY: &str = "/run/netns";
/// How long links may take to run; generous, for a busy machine.
const RUNNING_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);
/// `IFA_F_TENTATIVE` of linux/if_addr.h.
const IFA_F_TENTATIVE: u32 = 0x40;
/// Link scope as `/proc/net/if_inet6` writes it.
const LINK_SCOPE: &str = "20";
/// How much of a failed program's standard error is kept.
const STDERR_LIMIT_BYTES: usize = 2_000;

/// Names a network namespace that this lab made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(name: String) -> Self {
        Self { name }
    }

    /// Gives the name as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the path that `setns` and `nsenter --net=` take.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIRECTORY).join(&self.name)
    }

    /// Runs a closure in a new thread inside the namespace and returns what it returns.
    ///
    /// Sockets made inside stay there; a panic inside goes on outside, so assertions work.
    /// # Errors
    /// Fails when the namespace cannot be entered.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let entrance = self.open()?;
        let inside = || enter(&entrance, &self.name).map(|()| work());
        thread::scope(|scope| {
            let builder = thread::Builder::new().name(self.name.clone());
            let thread = builder.spawn_scoped(scope, inside).map_err(LabError::io("start a thread"))?;
            thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Starts a thread of its own inside the namespace; the closure runs only when the namespace was entered.
    /// # Errors
    /// Fails when the thread cannot be started or the namespace cannot be opened.
    pub fn spawn_in<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T, LabError>>, LabError> {
        let (entrance, name) = (self.open()?, self.name.clone());
        let inside = move || enter(&entrance, &name).map(|()| work());
        let builder = thread::Builder::new().name(self.name.clone());
        builder.spawn(inside).map_err(LabError::io("start a thread"))
    }

    /// Prepares a program that will run inside the namespace, with its own view of `/sys`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program inside the namespace to its end and returns its standard output.
    /// # Errors
    /// Fails when the program cannot be started or ends with an error.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String, LabError> {
        let mut command = self.command(program);
        command.args(arguments);
        finished(command)
    }

    /// Sets `net.<key>`, the key written with slashes, for example `ipv4/ip_forward`.
    /// # Errors
    /// Fails when the kernel has no such key or refuses the value.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = Path::new("/proc/sys/net").join(key);
        self.run_in(|| fs::write(&path, value))?.map_err(LabError::io(format!("set net/{key} to {value}")))
    }

    /// Reads `net.<key>`.
    /// # Errors
    /// Fails when the kernel has no such key.
    pub fn sysctl(&self, key: &str) -> Result<String, LabError> {
        let path = Path::new("/proc/sys/net").join(key);
        let read = self.run_in(|| fs::read_to_string(&path))?;
        read.map(|text| text.trim().to_owned()).map_err(LabError::io(format!("read net/{key}")))
    }

    /// Runs `ip -batch` inside the namespace.
    pub(crate) fn ip_batch(&self, lines: &str) -> Result<(), LabError> {
        ip_batch(&["-n", &self.name], lines)
    }

    /// Waits until the kernel says that these interfaces carry packets. A link that was just set up drops them
    /// until a kernel worker has noticed its carrier, which takes long on a busy machine.
    pub(crate) fn wait_running(&self, interfaces: &BTreeSet<&str>) -> Result<(), LabError> {
        self.wait("to run", interfaces, running)
    }

    /// Waits until these interfaces have a link-local address and none that is tentative. Until a kernel worker
    /// has settled them, neighbours are not asked for and the first packets wait a second or are lost.
    pub(crate) fn wait_settled(&self, interfaces: &BTreeSet<&str>) -> Result<(), LabError> {
        self.wait("to settle their addresses", interfaces, settled)
    }

    fn wait(
        &self,
        what: &str,
        interfaces: &BTreeSet<&str>,
        ready: fn(&BTreeSet<&str>) -> Result<usize, LabError>,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + RUNNING_LIMIT;
        self.run_in(|| {
            while ready(interfaces)? < interfaces.len() {
                if Instant::now() >= deadline {
                    let names = interfaces.iter().copied().collect::<Vec<_>>().join(", ");
                    let what = format!("the links {names} in {} {what}", self.name);
                    return Err(LabError::Timeout { what, waited: RUNNING_LIMIT });
                }
                thread::sleep(POLL);
            }
            Ok(())
        })?
    }

    fn open(&self) -> Result<File, LabError> {
        File::open(self.path()).map_err(LabError::io(format!("open the namespace {}", self.name)))
    }
}

/// Counts those of the interfaces that run, in the caller's namespace.
fn running(interfaces: &BTreeSet<&str>) -> Result<usize, LabError> {
    let entries = getifaddrs().map_err(LabError::io("list the interfaces"))?;
    let links = entries.filter(|entry| entry.address.is_some_and(|address| address.as_link_addr().is_some()));
    let running = links.filter(|entry| entry.flags.contains(InterfaceFlags::IFF_RUNNING));
    Ok(running.filter(|entry| interfaces.contains(entry.interface_name.as_str())).count())
}

/// Counts those of the interfaces whose IPv6 addresses are settled, in the caller's namespace.
fn settled(interfaces: &BTreeSet<&str>) -> Result<usize, LabError> {
    let path = "/proc/thread-self/net/if_inet6";
    let table = fs::read_to_string(path).map_err(LabError::io(format!("read {path}")))?;
    let (mut with_link_local, mut with_tentative) = (BTreeSet::new(), BTreeSet::new());
    for line in table.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[_, _, _, scope, flags, name] = fields.as_slice() else { continue };
        let flags = u32::from_str_radix(flags, 16).unwrap_or_default();
        if flags & IFA_F_TENTATIVE != 0 {
            with_tentative.insert(name);
        } else if scope == LINK_SCOPE {
            with_link_local.insert(name);
        }
    }
    let settled = |name: &&&str| with_link_local.contains(**name) && !with_tentative.contains(**name);
    Ok(interfaces.iter().filter(settled).count())
}

fn enter(entrance: &File, name: &str) -> Result<(), LabError> {
    move_into_link_name_space(entrance.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(LabError::io(format!("enter the namespace {name}")))
}

/// Runs one `ip -batch` with the lines given on standard input; the first error ends it.
pub(crate) fn ip_batch(arguments: &[&str], lines: &str) -> Result<(), LabError> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("ip");
    command.args(arguments).args(["-batch", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(LabError::io("start `ip` (package iproute2)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A batch that stops at an error closes the pipe early; its own message is the better one.
        let _ = stdin.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output().map_err(LabError::io("wait for `ip`"))?;
    checked(&command, &output).map(drop)
}

/// Runs a program to its end and returns its standard output.
pub(crate) fn finished(mut command: Command) -> Result<String, LabError> {
    command.stdin(Stdio::null());
    let doing = format!("start `{}`", command.get_program().to_string_lossy());
    let output = command.output().map_err(LabError::io(doing))?;
    checked(&command, &output)
}

fn checked(command: &Command, output: &Output) -> Result<String, LabError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if let Some((end, _)) = stderr.char_indices().nth(STDERR_LIMIT_BYTES) {
        stderr.truncate(end);
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let program = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Err(LabError::Program { program, status: output.status.to_string(), stderr })
}
