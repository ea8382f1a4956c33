//! The system calls that a role may make, and no others: deny by default, for every thread.
//! What is absent matters most: execve, ptrace, mount, bpf, keyctl, userfaultfd, open_by_handle_at, and sockets of any
//! family but UNIX and netlink. systemd's SystemCallFilter= is a second, wider fence that also holds before this one.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use thiserror::Error;

/// Why there is no sandbox.
#[derive(Debug, Error)]
pub(crate) enum SandboxError {
    /// The filter cannot be built.
    #[error("cannot build the system call filter: {0}")]
    Build(#[from] BackendError),
    /// The kernel refuses it.
    #[error("cannot install the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Plain calls on file descriptors, memory, time and threads.
const ALLOWED: &[libc::c_long] = &[
    // Files: state, generated configuration, time zones, /proc/sys.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmodat,
    libc::SYS_fchmod,
    libc::SYS_fchownat,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_getcwd,
    // Sockets: which families is said below.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Memory. Never executable: see `not_executable`.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads and signals of this process. `clone3` is answered "not there" by a second filter.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_prlimit64,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_membarrier,
];

/// Calls that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_LEGACY: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_LEGACY: &[libc::c_long] = &[];

/// Socket families of core: admins and roles; the kernel's packet filter, addresses and routes; and the sockets towards
/// clinic devices that it makes, marks and hands to edge without ever connecting them.
pub(crate) const CORE_FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_NETLINK, libc::AF_INET, libc::AF_INET6];
/// Socket families of watch: its netlink socket comes from core, it can make none.
pub(crate) const WATCH_FAMILIES: &[i32] = &[libc::AF_UNIX];

/// Socket families of console: the other roles, the metrics' listener, and the time daemon at the loopback.
pub(crate) const CONSOLE_FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Socket families of files: edge, which hands files over, the record role, and inspections.
pub(crate) const FILES_FAMILIES: &[i32] = &[libc::AF_UNIX];

/// Socket families of record: those that bring it entries.
pub(crate) const RECORD_FAMILIES: &[i32] = &[libc::AF_UNIX];

/// Socket families of edge: its neighbours, and those outside. No netlink: what it may reach, the kernel's rules say.
pub(crate) const EDGE_FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// What edge's data paths need besides: many datagrams in one call.
pub(crate) const EDGE_CALLS: &[libc::c_long] = &[libc::SYS_recvmmsg, libc::SYS_sendmmsg];

/// Shuts the door: from here on, for this thread and all others, now and later.
pub(crate) fn enter(families: &[i32]) -> Result<(), SandboxError> {
    enter_with(families, &[])
}

/// The same, with calls that only one role makes.
pub(crate) fn enter_with(families: &[i32], calls: &[libc::c_long]) -> Result<(), SandboxError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules = rules(families)?;
    rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    let allow = SeccompFilter::new(rules, errno(libc::EPERM), SeccompAction::Allow, arch)?;
    // glibc tries `clone3`, whose arguments no filter can read, and falls back on `clone` only when it is not there.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(absent, SeccompAction::Allow, errno(libc::ENOSYS), arch)?;
    for filter in [no_clone3, allow] {
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter_all_threads(&program)?;
    }
    Ok(())
}

fn rules(families: &[i32]) -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, _> =
        ALLOWED.iter().chain(ALLOWED_LEGACY).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, only_families(families)?);
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    rules.insert(libc::SYS_clone, vec![only_threads()?]);
    rules.insert(libc::SYS_prctl, vec![only_naming()?]);
    Ok(rules)
}

/// `socket(2)`: these families.
fn only_families(families: &[i32]) -> Result<Vec<SeccompRule>, BackendError> {
    families.iter().map(|family| rule(0, SeccompCmpOp::Eq, *family)).collect()
}

/// `mmap(2)`, `mprotect(2)`: memory is data.
fn not_executable() -> Result<SeccompRule, BackendError> {
    rule(2, SeccompCmpOp::MaskedEq(word(libc::PROT_EXEC)), 0)
}

/// `clone(2)`: threads of this process, never another process.
fn only_threads() -> Result<SeccompRule, BackendError> {
    rule(0, SeccompCmpOp::MaskedEq(word(libc::CLONE_THREAD)), libc::CLONE_THREAD)
}

/// `prctl(2)`: naming a thread or a mapping, nothing else.
fn only_naming() -> Result<SeccompRule, BackendError> {
    rule(0, SeccompCmpOp::Eq, libc::PR_SET_NAME)
}

fn rule(argument: u8, comparison: SeccompCmpOp, value: i32) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, word(value))?;
    SeccompRule::new(vec![condition])
}

fn word(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_lets_no_dangerous_call_in() {
        let rules = rules(CORE_FAMILIES).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_userfaultfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_io_uring_setup,
            libc::SYS_process_vm_readv,
            libc::SYS_init_module,
            libc::SYS_setuid,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        for conditional in
            [libc::SYS_socket, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_clone, libc::SYS_prctl]
        {
            assert!(!rules[&conditional].is_empty(), "{conditional} without a condition");
        }
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let filter = SeccompFilter::new(rules, errno(libc::EPERM), SeccompAction::Allow, arch).unwrap();
        assert!(BpfProgram::try_from(filter).is_ok());
    }
}
