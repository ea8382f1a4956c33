//! A role runs with exactly the user, groups and capabilities of its unit, and under its filters.
use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use lab::{Lab, LabBuilder, RoleRunner, Spec, Unit};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// The signal for a forbidden call (signal(7)).
const SIGSYS: i32 = 31;
/// Bit 12 of linux/capability.h.
const NET_ADMIN: u64 = 1 << 12;

fn small_lab() -> Lab {
    LabBuilder::new(Spec::client_router_server()).build().unwrap()
}

fn unit(name: &str, lines: &str) -> Unit {
    Unit::parse(name, &format!("[Service]\nExecStart=/bin/sleep 1000\n{lines}")).unwrap()
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no `{name}` in {status}")).trim().to_owned()
}

fn capabilities(status: &str, name: &str) -> u64 {
    u64::from_str_radix(&field(status, name), 16).unwrap()
}

/// Removes the system user that a test made.
struct Remove(String);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.0).output();
        let _ = Command::new("groupdel").arg(&self.0).output();
    }
}

#[test]
fn a_role_has_exactly_its_units_user_groups_and_capabilities() {
    let lab = small_lab();
    let user = format!("sklab{}", std::process::id());
    let _remove = Remove(user.clone());
    let lines = format!(
        "User={user}\nSupplementaryGroups=adm\nAmbientCapabilities=CAP_NET_ADMIN\n\
         CapabilityBoundingSet=CAP_NET_ADMIN\nNoNewPrivileges=yes\n"
    );
    let role = RoleRunner::new(&lab, unit("core", &lines)).start().unwrap();
    let status = role.status().unwrap();
    assert_eq!(field(&status, "Name"), "sleep");
    let id = |option: &str| {
        let output = Command::new("id").args([option, &user]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (uid, gid) = (id("-u"), id("-g"));
    assert_ne!(uid, "0");
    assert_eq!(field(&status, "Uid"), [uid.as_str(); 4].join("\t"));
    assert_eq!(field(&status, "Gid"), [gid.as_str(); 4].join("\t"));
    let mut groups: Vec<u32> =
        field(&status, "Groups").split_whitespace().map(|word| word.parse().unwrap()).collect();
    groups.sort_unstable();
    // Group `adm` is 4 on Debian (base-passwd).
    assert_eq!(groups, [4, gid.parse().unwrap()]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(capabilities(&status, set), NET_ADMIN, "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    let namespace = fs::metadata(format!("/proc/{}/ns/net", role.pid())).unwrap().ino();
    assert_eq!(namespace, fs::metadata(lab.gateway().namespace().path()).unwrap().ino());
}

#[test]
fn a_role_without_capabilities_has_none_at_all() {
    let lab = small_lab();
    let lines = "User=nobody\nGroup=nogroup\nCapabilityBoundingSet=\n";
    let role = RoleRunner::new(&lab, unit("watch", lines)).start().unwrap();
    let status = role.status().unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(capabilities(&status, set), 0, "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), "0");
    let refused = RoleRunner::new(&lab, unit("watch", lines))
        .program("/bin/ip")
        .arguments(["link", "set", "lan0", "down"]);
    let role = refused.start();
    let said = role.map(|mut role| (role.wait_ended(PATIENCE).unwrap().success(), role.log()));
    assert!(!matches!(said, Ok((true, _))), "a role without capabilities set a link down");
}

/// The unit of a role that is confined as ours are, and what more it says.
fn confined(more: &str) -> Unit {
    let lines = "User=nobody\nGroup=nogroup\nNoNewPrivileges=yes\nSystemCallArchitectures=native\n\
        SystemCallFilter=@system-service\nSystemCallFilter=~@resources\n";
    unit("confined", &format!("{lines}{more}"))
}

/// Runs lines of Python as a role, to its end.
fn python(lab: &Lab, unit: Unit, lines: &str) -> (ExitStatus, String) {
    let mut role =
        RoleRunner::new(lab, unit).program("/usr/bin/python3").arguments(["-c", lines]).start().unwrap();
    (role.wait_ended(PATIENCE).unwrap(), role.log())
}

#[test]
fn a_units_filters_are_in_force_from_the_first_instruction() {
    let lab = small_lab();
    // A small pause lets the lab take hold of the process first.
    let nicer = "import os, time; time.sleep(0.5); os.setpriority(os.PRIO_PROCESS, 0, 19)";
    let (status, log) = python(&lab, confined("SystemCallErrorNumber=EXDEV\n"), nicer);
    assert!(!status.success() && log.contains("OSError: [Errno 18]"), "{status}: {log}");
    let (status, log) = python(&lab, confined(""), nicer);
    assert_eq!(
        status.signal(),
        Some(SIGSYS),
        "without an error number a forbidden call ends the process: {log}"
    );
    let allowed = confined("SystemCallErrorNumber=EXDEV\nSystemCallFilter=setpriority\n");
    let (status, log) = python(&lab, allowed, nicer);
    assert!(status.success(), "{status}: {log}");
    let socket = "import socket, time; time.sleep(0.5); socket.socket(socket.AF_UNIX); \
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)";
    let (status, log) = python(&lab, confined("RestrictAddressFamilies=AF_UNIX AF_INET\n"), socket);
    assert!(!status.success() && log.contains("OSError: [Errno 97]"), "{status}: {log}");
    let (status, log) = python(&lab, confined("RestrictAddressFamilies=AF_UNIX AF_NETLINK\n"), socket);
    assert!(status.success(), "{status}: {log}");
}

/// What a process has open.
fn descriptors(process: u32) -> Vec<OsString> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut open: Vec<_> = open.map(|entry| entry.unwrap().file_name()).collect();
    open.sort();
    open
}

#[test]
fn a_role_has_the_filters_of_its_unit_and_inherits_no_descriptor() {
    let lab = small_lab();
    let leaked = File::open("/etc/hostname").unwrap();
    // What a careless parent would pass on.
    fcntl_setfd(&leaked, FdFlags::empty()).unwrap();
    for (unit, filters) in
        [(confined(""), "1"), (confined("RestrictAddressFamilies=AF_UNIX\n"), "2"), (unit("free", ""), "0")]
    {
        let role = RoleRunner::new(&lab, unit).start().unwrap();
        assert_eq!(field(&role.status().unwrap(), "Seccomp_filters"), filters);
        // The program's loader has a library open for a moment; what was passed on stays.
        let since = Instant::now();
        while descriptors(role.pid()) != ["0", "1", "2"] && since.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(descriptors(role.pid()), ["0", "1", "2"]);
    }
}

#[test]
fn a_role_sees_its_directories_where_they_are_installed_and_nobody_else_does() {
    let lab = small_lab();
    let name = format!("sklab{}", std::process::id());
    let lines = format!("User=nobody\nGroup=nogroup\nRuntimeDirectory={name}\n");
    let script = format!("echo here > /run/{name}/written; exec sleep 1000");
    let runner = RoleRunner::new(&lab, unit("placed", &lines)).program("/bin/sh").arguments(["-c", &script]);
    let role = runner.at_installed_places().start().unwrap();
    let written = RoleRunner::runtime_root(&lab).join(&name).join("written");
    let since = Instant::now();
    while !written.exists() && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::read_to_string(written).unwrap(), "here\n", "{}", role.log());
    let installed = Path::new("/run").join(name);
    let entries = fs::read_dir(&installed).unwrap().count();
    fs::remove_dir(&installed).unwrap();
    assert_eq!(entries, 0);
}

#[test]
fn a_role_gets_its_directories_its_environment_and_a_way_to_say_that_it_is_ready() {
    let lab = small_lab();
    let lines = "User=nobody\nGroup=nogroup\nType=notify\nRuntimeDirectory=sekisho/core other\n\
        RuntimeDirectoryMode=0750\nStateDirectory=sekisho\nEnvironment=A=1\n";
    let script = "echo \"$RUNTIME_DIRECTORY|$STATE_DIRECTORY|$A|$B|${CARGO:-clean}\"; \
        touch \"$STATE_DIRECTORY/written\"; \
        printf 'STATUS=x\\nREADY=1' | socat - UNIX-SENDTO:\"$NOTIFY_SOCKET\"; exec sleep 1000";
    let runner = RoleRunner::new(&lab, unit("core", lines)).program("/bin/sh").arguments(["-c", script]);
    let mut role = runner.env("B", "2").start().unwrap();
    role.wait_ready(PATIENCE).unwrap();
    let (run, state) = (RoleRunner::runtime_root(&lab), RoleRunner::state_root(&lab));
    let (run, state) = (run.display(), state.display());
    assert_eq!(role.log(), format!("{run}/sekisho/core:{run}/other|{state}/sekisho|1|2|clean\n"));
    let made = fs::metadata(format!("{run}/other")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (65534, 0o750));
    assert!(fs::exists(format!("{state}/sekisho/written")).unwrap());
    role.signal(Signal::TERM).unwrap();
    assert!(!role.wait_ended(PATIENCE).unwrap().success());
}

#[test]
fn a_role_that_fails_says_why_and_a_dropped_one_is_gone() {
    let lab = small_lab();
    let script = "echo no policy >&2; sleep 0.2; exit 3";
    let runner = RoleRunner::new(&lab, unit("core", "User=nobody\nGroup=nogroup\n")).program("/bin/sh");
    let ready = runner.arguments(["-c", script]).start().and_then(|mut role| role.wait_ready(PATIENCE));
    let error = ready.unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("no policy"), "{error}");
    let missing = RoleRunner::new(&lab, unit("core", "")).program("/nowhere/sekishod").start();
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("/nowhere/sekishod"), "{error}");
    let role = RoleRunner::new(&lab, unit("core", "")).start().unwrap();
    let process = format!("/proc/{}", role.pid());
    let since = Instant::now();
    drop(role);
    assert!(!fs::exists(&process).unwrap(), "{process} after {:?}", since.elapsed());
}
