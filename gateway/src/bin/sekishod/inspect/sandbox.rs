//! Where a file is parsed: no path, no socket, no program, no second process, little memory and little time.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use thiserror::Error;

/// Why there is no sandbox.
#[derive(Debug, Error)]
pub(super) enum SandboxError {
    /// A limit is not taken.
    #[error("cannot limit {0}: {1}")]
    Limit(&'static str, rustix::io::Errno),
    /// Landlock refuses.
    #[error("cannot shut out all paths: {0}")]
    Landlock(#[from] RulesetError),
    /// The filter cannot be built.
    #[error("cannot build the system call filter: {0}")]
    Build(#[from] BackendError),
    /// The kernel refuses it.
    #[error("cannot install the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Most address space: the file, what comes out of it, and a decoder's picture.
const ADDRESS_BYTES: u64 = 768 << 20;
/// Most time on a processor.
const CPU_S: u64 = 20;
/// Descriptors that may be open at once: standard streams, the socket, the file, and what the runtime holds.
const DESCRIPTORS: u64 = 16;

/// Calls on what is open already, on memory, and the end.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Shuts the door behind this process, for good.
pub(super) fn enter() -> Result<(), SandboxError> {
    limit()?;
    shut()
}

/// Limits that count for the process.
fn limit() -> Result<(), SandboxError> {
    let limits = [
        ("memory", Resource::As, ADDRESS_BYTES),
        ("time", Resource::Cpu, CPU_S),
        ("file size", Resource::Fsize, 0),
        ("processes", Resource::Nproc, 0),
        ("descriptors", Resource::Nofile, DESCRIPTORS),
        ("core dumps", Resource::Core, 0),
    ];
    for (name, resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| SandboxError::Limit(name, error))?;
    }
    Ok(())
}

/// Landlock and seccomp, for this thread; the process has no other.
fn shut() -> Result<(), SandboxError> {
    // Best effort, as kernels know different parts of it; the filter below refuses every call that takes a path anyway.
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules()?, errno(libc::EPERM), SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

fn rules() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![not_executable()?, anonymous()?])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![not_executable()?])?]);
    Ok(rules)
}

/// Memory is data.
fn not_executable() -> Result<SeccompCondition, BackendError> {
    condition(2, SeccompCmpOp::MaskedEq(word(libc::PROT_EXEC)), 0)
}

/// Memory is nobody's file.
fn anonymous() -> Result<SeccompCondition, BackendError> {
    condition(3, SeccompCmpOp::MaskedEq(word(libc::MAP_ANONYMOUS)), word(libc::MAP_ANONYMOUS))
}

fn condition(argument: u8, comparison: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
}

fn word(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    /// What a hostile parser would try, each with what it must get.
    fn hostile(
        port: u16,
        socket: &std::path::Path,
        tempdir: &std::path::Path,
        other: rustix::process::Pid,
    ) -> Vec<(&'static str, std::io::Result<()>)> {
        vec![
            ("read a file", File::open("/etc/passwd").map(drop)),
            ("read its memory", File::open("/proc/self/mem").map(drop)),
            ("list a directory", std::fs::read_dir("/").map(drop)),
            ("write a file", File::create(tempdir.join("made")).map(drop)),
            ("make a directory", std::fs::create_dir(tempdir.join("made.d"))),
            ("remove a file", std::fs::remove_file(tempdir.join("kept"))),
            ("connect", TcpStream::connect(("127.0.0.1", port)).map(drop)),
            ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
            ("send a packet", UdpSocket::bind("127.0.0.1:0").map(drop)),
            ("reach a role", UnixStream::connect(socket).map(drop)),
            ("exec", Command::new("/bin/true").status().map(drop)),
            ("start a thread", std::thread::Builder::new().spawn(|| {}).map(drop)),
            ("signal another process", rustix::process::test_kill_process(other).map_err(Into::into)),
        ]
    }

    #[test]
    fn a_hostile_parser_gets_nothing() {
        let tempdir = tempfile::tempdir().unwrap();
        std::fs::write(tempdir.path().join("kept"), "kept").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = tempdir.path().join("role.sock");
        let _role = UnixListener::bind(&socket).unwrap();
        let other = rustix::process::getppid().unwrap();
        // Outside of the sandbox every one of these works: the attempts themselves are good.
        let (inside, outside) = (tempdir.path().to_owned(), tempdir.path().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        for (name, result) in hostile(port, &socket, &outside, other) {
            assert!(result.is_ok(), "{name} fails without a sandbox: {result:?}");
        }
        let (tell, told) = mpsc::sync_channel(1);
        let parser = std::thread::spawn(move || {
            shut().unwrap();
            let results = hostile(port, &socket, &inside, other);
            let _ = tell.send(results);
        });
        for (name, result) in told.recv().unwrap() {
            let error = result.expect_err(name);
            assert!(matches!(error.kind(), ErrorKind::PermissionDenied), "{name}: {error:?}");
        }
        parser.join().unwrap();
        assert_eq!(std::fs::read_to_string(tempdir.path().join("kept")).unwrap(), "kept");
        assert!(!tempdir.path().join("made").exists());
    }

    #[test]
    fn nothing_that_takes_a_path_or_makes_a_socket_or_a_process_is_allowed() {
        let rules = rules().unwrap();
        for call in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_kill,
            libc::SYS_tgkill,
            libc::SYS_ioctl,
            libc::SYS_fcntl,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }
}
