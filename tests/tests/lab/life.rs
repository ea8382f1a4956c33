//! Labs come up, stand side by side and leave nothing behind, however their owner ends.
use std::{
    fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lab::{Addressing, HostSpec, Lab, LabBuilder, Spec, labs, reap};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Generous: what is waited for takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn every_host_of_the_clinic_reaches_every_other_through_the_gateway() {
    let lab = LabBuilder::new(Spec::clinic()).forwarding(true).build().unwrap();
    let ct = lab.host("ct").unwrap();
    for host in lab.hosts() {
        for address in host.addresses().filter(|address| address.is_ipv6() || !is_beyond_isp(host.name())) {
            let answer = ct.output("ping", &["-c1", "-W5", &address.to_string()]);
            assert!(answer.is_ok(), "ct cannot reach {} at {address}: {answer:?}", host.name());
        }
    }
    // The provider knows no way back to the clinic's private addresses: masquerade is needed.
    let web = lab.host("web").unwrap().v4().unwrap().to_string();
    assert!(ct.output("ping", &["-c1", "-W1", &web]).is_err());
    let gateway = lab.gateway().output("ping", &["-c1", "-W5", &web]);
    assert!(gateway.is_ok(), "{gateway:?}");
}

fn is_beyond_isp(host: &str) -> bool {
    ["internet", "vendor", "doctor", "web"].contains(&host)
}

#[test]
fn the_gateway_has_the_names_of_the_policy_and_forwards_only_when_told() {
    let lab = Lab::clinic().unwrap();
    let interfaces: Vec<_> = lab.gateway().legs().iter().map(|leg| leg.interface()).collect();
    let expected = ["eth0", "lan-ehr", "lan-bill", "lan-mod", "lan-staff", "lan-guest", "lan-mgmt"];
    assert_eq!(interfaces, expected);
    let gateway = lab.gateway().namespace();
    for (key, value) in [
        ("ipv4/ip_forward", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/lan-ehr/accept_ra", "0"),
        ("ipv4/conf/lan-ehr/rp_filter", "0"),
        ("netfilter/nf_conntrack_tcp_loose", "0"),
    ] {
        assert_eq!(gateway.sysctl(key).unwrap(), value, "{key}");
    }
    let ehr = lab.leg("ehr").unwrap();
    assert_eq!(ehr.v4().unwrap().to_string(), "192.168.10.1/24");
    assert_eq!(ehr.v6().unwrap().to_string(), "fd51:7ec5:0:10::1/64");
    assert_eq!(lab.host("admin").unwrap().v6().unwrap().to_string(), "fd51:7ec5:0:99::5");
    let shown = lab.gateway().output("ip", &["-o", "link", "show", "dev", "lan-ehr"]).unwrap();
    assert!(shown.contains(&lab::mac_text(ehr.mac())), "{shown}");
    let unknown = lab.host("fax").unwrap_err().to_string();
    assert!(unknown.contains("no host `fax`") && unknown.contains("pacs"), "{unknown}");
}

#[test]
fn a_gateway_and_a_host_can_come_up_without_addresses() {
    let mut spec = Spec::client_router_server();
    spec.zones[0].hosts.push(HostSpec::unaddressed("laptop"));
    assert_eq!(spec.zones[0].hosts[1].addressing, Addressing::None);
    let lab = LabBuilder::new(spec).gateway_addresses(false).build().unwrap();
    for host in [lab.gateway(), lab.host("laptop").unwrap()] {
        assert!(host.v4().is_err());
        let shown = host.output("ip", &["-o", "address", "show", "scope", "global"]).unwrap();
        assert_eq!(shown, "", "{} has addresses", host.name());
    }
    assert_eq!(lab.host("laptop").unwrap().namespace().sysctl("ipv6/conf/eth0/accept_ra").unwrap(), "1");
}

#[test]
fn an_unaddressed_host_is_configured_by_dhcp_and_router_advertisements() {
    let mut spec = Spec::client_router_server();
    spec.zones[0].hosts.push(HostSpec::unaddressed("laptop"));
    let lab = LabBuilder::new(spec).forwarding(true).build().unwrap();
    let laptop = lab.host("laptop").unwrap();
    let mut dnsmasq = lab.gateway().command("dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=lan0"]);
    dnsmasq.args(["--bind-interfaces", "--user=root", "--pid-file=", "--leasefile-ro", "--enable-ra"]);
    dnsmasq.args(["--dhcp-range=10.0.1.100,10.0.1.199", "--dhcp-range=fd00:1::,ra-only"]);
    let mut dnsmasq = dnsmasq.stderr(Stdio::null()).spawn().unwrap();
    let script = lab.directory().join("lease");
    let text =
        "#!/bin/sh\n[ \"$1\" = bound ] && ip address replace \"$ip/$mask\" dev \"$interface\"\nexit 0\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let asked = ["udhcpc", "-f", "-q", "-n", "-t", "10", "-T", "1", "-i", "eth0", "-s", script];
    let lease = laptop.output("busybox", &asked);
    let global = || laptop.output("ip", &["-o", "address", "show", "scope", "global"]).unwrap();
    until(|| global().contains("fd00:1::") || lease.is_err(), "a router advertisement to arrive");
    dnsmasq.kill().unwrap();
    dnsmasq.wait().unwrap();
    assert!(lease.is_ok() && global().contains("10.0.1.1"), "{lease:?} {}", global());
}

#[test]
fn without_root_the_lab_says_what_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), anyone).unwrap();
    let program = directory.path().join("lab");
    // By `cp`: a file that this process wrote stays busy while a child of another test's has not yet exec'ed.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_lab")).arg(&program).status().unwrap().success());
    let mut up = Command::new("setpriv");
    up.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program).arg("up");
    let output = up.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("needs root (user id is 65534)"), "{said}");
}

#[test]
fn a_dropped_lab_leaves_nothing_behind_and_never_shows_outside() {
    let lab = Lab::clinic().unwrap();
    assert!(!Path::new("/sys/class/net/lan-ehr").exists());
    let (prefix, directory) = (lab.prefix().to_owned(), lab.directory());
    assert!(directory.is_dir() && !namespaces(&prefix).is_empty());
    let mut sleeper = lab.host("ct").unwrap().command("sleep").arg("1000").spawn().unwrap();
    drop(lab);
    assert_gone(&prefix);
    assert!(!directory.exists());
    assert!(!sleeper.wait().unwrap().success(), "a process of the lab was left alive");
}

#[test]
fn a_panicking_test_leaves_nothing_behind() {
    let mut prefix = String::new();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lab = LabBuilder::new(Spec::client_router_server()).build().unwrap();
        prefix = lab.prefix().to_owned();
        lab.host("client").unwrap().run_in(|| panic!("as a failing assertion would")).unwrap();
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"as a failing assertion would"));
    assert_gone(&prefix);
}

#[test]
fn a_lab_whose_owner_is_ended_by_a_signal_is_taken_down() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut owner = Owner::start();
        // To its group, as a terminal does.
        kill_process_group(pid(owner.0.id()), signal).unwrap();
        owner.0.wait().unwrap();
        until(|| !is_there(&owner.1), "the warden to take the lab down");
        assert_gone(&owner.1);
    }
}

#[test]
fn a_lab_whose_warden_is_killed_too_is_reaped_by_the_next_start() {
    let mut owner = Owner::start();
    let prefix = owner.1.clone();
    send(warden_of(&prefix), Signal::KILL);
    send(owner.0.id(), Signal::KILL);
    owner.0.wait().unwrap();
    assert!(!namespaces(&prefix).is_empty());
    // Another test's start may have reaped it by now; what counts is that it is gone.
    reap().unwrap();
    assert_gone(&prefix);
}

#[test]
fn a_namespace_that_outlives_its_labs_record_is_reaped() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let prefix = format!("sk{}x0", child.id());
    let added = Command::new("ip").args(["netns", "add", &format!("{prefix}-late")]).status().unwrap();
    assert!(added.success());
    reap().unwrap();
    assert_gone(&prefix);
}

#[test]
fn labs_side_by_side_do_not_meet() {
    let [one, other] = [Lab::clinic().unwrap(), Lab::clinic().unwrap()];
    assert_ne!(one.prefix(), other.prefix());
    let registered: Vec<_> = labs().unwrap().into_iter().map(|record| record.prefix).collect();
    assert!([&one, &other].iter().all(|lab| registered.iter().any(|prefix| prefix == lab.prefix())));
    let listen = |lab: &Lab| {
        let socket = lab.host("pacs").unwrap().run_in(|| UdpSocket::bind("192.168.10.11:5000")).unwrap();
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        socket
    };
    let (here, there) = (listen(&one), listen(&other));
    let sender = one.host("ehr-server").unwrap().run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    sender.send_to(b"hello", "192.168.10.11:5000").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(here.recv(&mut buffer).unwrap(), 5);
    assert!(there.recv(&mut buffer).is_err());
    let kept = other.prefix().to_owned();
    drop(one);
    assert!(!namespaces(&kept).is_empty(), "one lab's end took the other down");
}

#[test]
fn an_impossible_specification_says_what_is_wrong_and_makes_nothing() {
    let mut spec = Spec::client_router_server();
    spec.zones[1].hosts[0].name = "client".to_owned();
    let error = LabBuilder::new(spec).build().unwrap_err().to_string();
    assert!(error.contains("host `client` exists twice"), "{error}");
    let mut spec = Spec::client_router_server();
    spec.zones[0].hosts[0].v4 = Some([192, 0, 2, 1].into());
    let error = LabBuilder::new(spec).build().unwrap_err().to_string();
    assert!(error.contains("`192.0.2.1` outside zone `left`"), "{error}");
    let mut spec = Spec::client_router_server();
    spec.zones[0].interface = "longer-than-linux-takes".to_owned();
    let error = LabBuilder::new(spec).build().unwrap_err().to_string();
    assert!(error.contains("`longer-than-linux-takes` is not possible"), "{error}");
}

/// Is a `lab up` in a process of its own, with its prefix.
struct Owner(Child, String);

impl Owner {
    fn start() -> Self {
        // A shell starts what runs in its background deaf to SIGINT, and that is inherited: tests may run there.
        let mut up = Command::new("env");
        up.args(["--default-signal=INT", env!("CARGO_BIN_EXE_lab"), "up", "--no-servers"]);
        up.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = up.process_group(0).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with("The clinic")).expect("`lab up` says that it is up");
        let prefix = line.split_whitespace().nth(2).unwrap().to_owned();
        // To the end: it would not outlive a line that nobody reads.
        lines.find(|line| line.ends_with("| list | down")).expect("`lab up` says how to go on");
        assert!(!namespaces(&prefix).is_empty(), "{line}");
        Self(child, prefix)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn warden_of(prefix: &str) -> u32 {
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    let mine = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("sekisho-lab-warden") && line.split('\0').any(|word| word == prefix)
    };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    processes.find_map(|entry| pid(entry).filter(mine)).expect("the lab has a warden")
}

fn send(pid: u32, signal: Signal) {
    kill_process(self::pid(pid), signal).unwrap();
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("{prefix}-"))).collect()
}

fn is_there(prefix: &str) -> bool {
    labs().unwrap().iter().any(|record| record.prefix == prefix)
}

fn assert_gone(prefix: &str) {
    assert_eq!(namespaces(prefix), [""; 0]);
    let left: Vec<_> =
        fs::read_dir(lab::REGISTRY).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let mine = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with(&format!("{prefix}."));
    assert_eq!(left.iter().find(mine), None);
}

fn until(mut done: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}, in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
