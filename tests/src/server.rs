//! Real servers on the lab's hosts.
use std::{
    fmt, fs,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Host, Lab, LabError, echo::EchoServer, namespace::finished, registry::make_directory};

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// `TCP_LISTEN` of net/tcp_states.h as `/proc/net/tcp` writes it.
const LISTEN_STATE: &str = "0A";

/// Says what a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerKind {
    /// OpenSSH with a host key and a user key of the lab's own; root may log in with `Lab::ssh_key`.
    Ssh,
    /// A web server with one page that names the host.
    Http,
    /// A DICOM storage provider that answers C-ECHO (dcmtk's `storescp`, PS3.4 annex A), over
    /// IPv4 only, as dcmtk is.
    Dicom,
    /// TCP that returns what it gets (RFC 862).
    TcpEcho,
    /// UDP that returns what it gets (RFC 862).
    UdpEcho,
    /// TCP that sends without end and reads nothing (RFC 864).
    Pusher,
}

/// Says which server listens on which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerSpec {
    /// What it speaks.
    pub kind: ServerKind,
    /// Its TCP or UDP port, on every address of the host.
    pub port: u16,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Dicom => "dicom",
            Self::TcpEcho => "tcp-echo",
            Self::UdpEcho => "udp-echo",
            Self::Pusher => "pusher",
        })
    }
}

impl ServerKind {
    /// Puts this kind of server on a port.
    #[must_use]
    pub fn on(self, port: u16) -> ServerSpec {
        ServerSpec { kind: self, port }
    }
}

/// Is a server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    host: String,
    spec: ServerSpec,
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Program { _child: Program },
    Threads { _server: EchoServer },
}

/// Kills its process when dropped.
#[derive(Debug)]
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Gives the name of the host that it runs on.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Gives what it speaks and where.
    #[must_use]
    pub fn spec(&self) -> ServerSpec {
        self.spec
    }

    pub(crate) fn start(lab: &Lab, host: &Host, spec: ServerSpec) -> Result<Self, LabError> {
        let directory = lab.directory().join(format!("{}-{}", host.name(), spec.port));
        let command = match spec.kind {
            ServerKind::Ssh => sshd(lab, host, spec.port, &directory)?,
            ServerKind::Http => httpd(host, spec.port, &directory)?,
            ServerKind::Dicom => storescp(host, spec.port, &directory)?,
            ServerKind::TcpEcho | ServerKind::UdpEcho | ServerKind::Pusher => {
                let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, spec.port));
                let server = EchoServer::start(host.namespace(), spec.kind, address)?;
                let running = Running::Threads { _server: server };
                return Ok(Self { host: host.name().to_owned(), spec, _running: running });
            }
        };
        let running = Running::Program { _child: start_listening(host, command, spec.port, &directory)? };
        Ok(Self { host: host.name().to_owned(), spec, _running: running })
    }
}

impl Lab {
    /// Gives the private key that the lab's SSH servers let root in with, made at the first call.
    /// # Errors
    /// Fails when `ssh-keygen` does.
    pub fn ssh_key(&self) -> Result<std::path::PathBuf, LabError> {
        let key = self.directory().join("ssh_user_key");
        make_key(&key)?;
        Ok(key)
    }
}

fn make_key(path: &Path) -> Result<(), LabError> {
    if path.exists() {
        return Ok(());
    }
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]).arg(path);
    finished(keygen).map(drop)
}

fn sshd(lab: &Lab, host: &Host, port: u16, directory: &Path) -> Result<Command, LabError> {
    // OpenSSH on Debian wants this one directory to exist; it is empty and stays.
    make_directory(Path::new("/run/sshd"), 0o755)?;
    make_directory(directory, 0o700)?;
    let key = directory.join("host_key");
    make_key(&key)?;
    let authorized = lab.ssh_key()?.with_extension("pub");
    let mut command = host.command("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()]);
    let options = [
        format!("HostKey={}", key.display()),
        format!("AuthorizedKeysFile={}", authorized.display()),
        "AuthenticationMethods=publickey".to_owned(),
        "PermitRootLogin=prohibit-password".to_owned(),
        "StrictModes=no".to_owned(),
        "UsePAM=no".to_owned(),
        "PidFile=none".to_owned(),
        "Subsystem=sftp internal-sftp".to_owned(),
    ];
    command.args(options.iter().flat_map(|option| ["-o", option]));
    Ok(command)
}

fn httpd(host: &Host, port: u16, directory: &Path) -> Result<Command, LabError> {
    make_directory(directory, 0o700)?;
    let page = format!("<!doctype html><title>{0}</title><h1>{0}</h1>\n", host.name());
    let file = directory.join("index.html");
    fs::write(&file, page).map_err(LabError::io(format!("write {}", file.display())))?;
    let mut command = host.command("busybox");
    command.args(["httpd", "-f", "-p", &format!("[::]:{port}"), "-h"]).arg(directory);
    Ok(command)
}

fn storescp(host: &Host, port: u16, directory: &Path) -> Result<Command, LabError> {
    make_directory(directory, 0o700)?;
    let title: String = host.name().to_uppercase().chars().take(16).collect();
    let mut command = host.command("storescp");
    command
        .args(["--fork", "--disable-host-lookup", "--aetitle", &title, "--output-directory"])
        .arg(directory)
        .arg(port.to_string());
    Ok(command)
}

fn start_listening(
    host: &Host,
    mut command: Command,
    port: u16,
    directory: &Path,
) -> Result<Program, LabError> {
    if host.run_in(|| listens(port))? {
        return Err(LabError::Impossible(format!(
            "something listens on port {port} of {} already",
            host.name()
        )));
    }
    let log = directory.join("log");
    let file = fs::File::create(&log).map_err(LabError::io(format!("write {}", log.display())))?;
    let copy = file.try_clone().map_err(LabError::io(format!("write {}", log.display())))?;
    command.stdin(Stdio::null()).stdout(file).stderr(copy);
    let words: Vec<_> = command.get_args().skip(3).map(|word| word.to_string_lossy()).collect();
    let program = words.join(" ");
    let mut running =
        Program(command.spawn().map_err(LabError::io(format!("start `{program}` on {}", host.name())))?);
    let started = Instant::now();
    while !host.run_in(|| listens(port))? {
        if let Ok(Some(status)) = running.0.try_wait() {
            let stderr = fs::read_to_string(&log).unwrap_or_default();
            return Err(LabError::Program { program, status: status.to_string(), stderr });
        }
        if started.elapsed() > START_LIMIT {
            let what = format!("`{program}` to listen on port {port} of {}", host.name());
            return Err(LabError::Timeout { what, waited: START_LIMIT });
        }
        thread::sleep(POLL);
    }
    Ok(running)
}

/// Tells whether something listens on a TCP port in the caller's namespace, without connecting to it.
fn listens(port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|file| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTEN_STATE)
        })
    })
}
