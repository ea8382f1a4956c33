//! What a clinic expects of any router, by the installed services with their generated configuration.
use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{Capture, Direction, Host, HostSpec, Lab, LabBuilder, Role, RoleRunner, Spec, Unit};

use crate::{
    daemon::{Site, unit_file},
    roles::assert_line_is_documented,
    site::{flow, flow_with, policy},
    traffic::PATIENCE,
};

const NAME: &str = "pacs-vendor.example";
/// A public address: the gateway refuses answers about others, see below.
const NAME_ADDRESS: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
/// A name by which somebody outside would like to be taken for a device inside.
const REBOUND: &str = "rebound.example";
const REBOUND_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 10);
const DNS: u16 = 53;
const NTP: u16 = 123;
const MDNS: u16 = 5353;
/// How long is listened for an answer that should not come.
const SILENCE: Duration = Duration::from_millis(600);

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the dnsmasq of DNS as its unit says, with the configuration that core generated.
pub(crate) fn start_names(site: &Site) -> Role {
    start_dnsmasq(site, "sekisho-names", "names.conf")
}

/// Starts the dnsmasq of DHCP and router advertisements likewise.
pub(crate) fn start_leases(site: &Site) -> Role {
    start_dnsmasq(site, "sekisho-leases", "leases.conf")
}

fn start_dnsmasq(site: &Site, unit: &str, conf: &str) -> Role {
    let own = RoleRunner::state_root(site.lab()).join(unit);
    let run = RoleRunner::runtime_root(site.lab()).join(unit);
    let (installed_own, installed_run) = (format!("/var/lib/{unit}"), format!("/run/{unit}"));
    let conf = relocated(site, conf, &[(&installed_own, own), (&installed_run, run)]);
    let conf = format!("--conf-file={}", conf.display());
    site.runner(unit).arguments(["--keep-in-foreground", &conf]).start().unwrap()
}

/// Starts chronyd as its unit says; `-x` keeps it from the machine's clock.
pub(crate) fn start_time(site: &Site) -> Role {
    let (user, group) = user_of_chronyd(site);
    let own = site.files().join("chrony");
    fs::create_dir(&own).unwrap();
    // As the unit's ExecStartPre does.
    chown(&own, Some(user), Some(group)).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o750)).unwrap();
    let places = [("/var/lib/sekisho-chrony", own.clone()), ("/run/sekisho-chrony", own)];
    let conf = relocated(site, "chrony.conf", &places);
    let unit = unit_file("sekisho-chrony");
    let arguments =
        unit.exec.iter().skip(1).map(|word| {
            if word.starts_with("/run/") { conf.to_str().unwrap().to_owned() } else { word.clone() }
        });
    let arguments: Vec<_> = std::iter::once("-x".to_owned()).chain(arguments).collect();
    let role = site.runner("sekisho-chrony").arguments(arguments).start().unwrap();
    wait_until("chronyd gives root up", || {
        fs::read_to_string(format!("/proc/{}/status", role.pid()))
            .is_ok_and(|status| status.contains(&format!("\nUid:\t{user}\t")))
    });
    role
}

/// The generated configuration with the lab's places in place of the installed ones.
fn relocated(site: &Site, name: &str, places: &[(&str, PathBuf)]) -> PathBuf {
    let generated = site.runtime().join("services").join(name);
    wait_until("core writes the services' configuration", || generated.exists());
    let mut text = fs::read_to_string(&generated).unwrap();
    for (installed, here) in places {
        text = text.replace(installed, here.to_str().unwrap());
    }
    let path = site.files().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// The user of sysusers.d and its group, made if they are not there.
fn user_of_chronyd(site: &Site) -> (u32, u32) {
    let text = "[Service]\nUser=sekisho-chrony\nExecStart=/bin/sleep 1\n";
    drop(RoleRunner::new(site.lab(), Unit::parse("user", text).unwrap()).start().unwrap());
    let number = |option: &str| {
        let output = Command::new("id").args([option, "sekisho-chrony"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    (number("-u"), number("-g"))
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The clinic with a phone that knows nothing yet, and a gateway that core has to address.
fn clinic_with_a_new_phone() -> Lab {
    let mut spec = Spec::clinic();
    let guest = spec.zones.iter_mut().find(|zone| zone.name == "guest").unwrap();
    guest.hosts = vec![HostSpec::unaddressed("phone")];
    LabBuilder::new(spec).gateway_addresses(false).build().unwrap()
}

/// The provider's resolver, which knows two names.
fn resolver(lab: &Lab) -> Running {
    let mut command = lab.host("internet").unwrap().command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
    ]);
    let known = [(NAME, NAME_ADDRESS), (REBOUND, REBOUND_ADDRESS)];
    command.arg("--pid-file=").args(known.map(|(name, address)| format!("--address=/{name}/{address}")));
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn router_policy() -> String {
    policy(&[
        flow("staff-web", "zone:staff", "zone:wan", "http"),
        flow("guest-web", "zone:guest", "zone:wan", "http"),
        flow_with("scheduled", "device:ct", "device:pacs", "tcp/5000", "schedule = \"Mon-Sun 00:00-24:00\""),
        flow_with("ending", "device:ct", "device:pacs", "tcp/5001", "until = 2099-12-31"),
        flow("always", "device:ct", "device:pacs", "tcp/5002"),
    ])
}

fn router() -> Site {
    let mut site = Site::new(clinic_with_a_new_phone());
    site.start_core();
    site.apply(&router_policy());
    site
}

#[test]
fn a_new_phone_gets_addresses_and_names() {
    let site = router();
    let (_resolver, names, leases) = (resolver(site.lab()), start_names(&site), start_leases(&site));
    let phone = site.lab().host("phone").unwrap();
    let lease = lease(&site, phone, &leases);
    println!("lease: {lease}");
    let words: Vec<_> = lease.split_whitespace().collect();
    let address: Ipv4Addr = words[0].parse().unwrap();
    assert_eq!(address.octets()[..3], [192, 168, 90], "{lease}");
    assert!((100..200).contains(&address.octets()[3]), "{lease}");
    assert_eq!(words[1..], ["192.168.90.1", "192.168.90.1"], "router and resolver: {lease}");
    let interface = phone.leg().interface();
    wait_until("a router advertisement gives the phone an address", || {
        let shown =
            phone.output("ip", &["-6", "address", "show", "dev", interface, "scope", "global"]).unwrap();
        shown.contains("fd51:7ec5:0:90:")
    });
    let route = phone.output("ip", &["-6", "route", "show", "default"]).unwrap();
    assert!(route.contains("via fe80:"), "{route}");
    for resolver in ["192.168.90.1", "fd51:7ec5:0:90::1"] {
        let answer = ask(phone, SocketAddr::new(resolver.parse().unwrap(), DNS), &question(NAME), PATIENCE);
        let answer =
            answer.unwrap_or_else(|| panic!("{resolver} does not answer; dnsmasq says: {}", names.log()));
        assert!(answer.ends_with(&NAME_ADDRESS.octets()), "{resolver}: {answer:?}");
    }
    let inside = ask(phone, "192.168.90.1:53".parse().unwrap(), &question(REBOUND), PATIENCE).unwrap();
    assert!(!inside.ends_with(&REBOUND_ADDRESS.octets()), "an answer from outside names a device inside");
    // The guest network is given names, and no time; the internet, and not the clinic.
    let time = SocketAddr::new("192.168.90.1".parse().unwrap(), NTP);
    assert_eq!(ask(phone, time, &ntp_question(), SILENCE), None, "guests may not ask for the time");
    let _web = listen(site.lab().host("web").unwrap(), 80);
    assert!(connects(phone, "192.0.2.80:80".parse().unwrap()).is_ok());
    let _server = listen(site.lab().host("ehr-server").unwrap(), 80);
    assert!(connects(phone, "192.168.10.10:80".parse().unwrap()).is_err());
}

/// Runs a DHCP client on the phone; returns its address, router and resolver.
fn lease(site: &Site, phone: &Host, leases: &Role) -> String {
    let (script, told) = (site.files().join("lease.sh"), site.files().join("lease"));
    // busybox's udhcpc tells its script what it got by environment variables.
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip address add \"$ip/$mask\" dev \"$interface\"\n\
         ip route add default via \"$router\"\necho \"$ip $router $dns\" > {}\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let client =
        ["udhcpc", "-f", "-n", "-q", "-t", "5", "-T", "2", "-i", phone.leg().interface(), "-s", script];
    let said = phone.output("busybox", &client);
    said.unwrap_or_else(|error| panic!("{error}; dnsmasq says: {}", leases.log()));
    fs::read_to_string(told).unwrap().trim().to_owned()
}

#[test]
fn before_the_time_is_trusted_only_what_has_no_time_is_open() {
    let mut site = router();
    let _resolver = resolver(site.lab());
    let (_names, _time) = (start_names(&site), start_time(&site));
    let [ct, pacs, admin] = ["ct", "pacs", "admin"].map(|name| site.lab().host(name).unwrap().clone());
    let _listeners: Vec<_> = (5000..5003).map(|port| listen(&pacs, port)).collect();
    let open = |port: u16| {
        pacs.addresses().map(|address| connects(&ct, (address, port).into()).is_ok()).collect::<Vec<_>>()
    };
    for (port, wanted) in [(5000, false), (5001, false), (5002, true)] {
        assert_eq!(open(port), [wanted; 2], "port {port} while nobody trusts the clock");
    }
    assert_eq!(site.status()["time"]["trusted"], false);
    // Names, time and the management of the gateway do not depend on it.
    let _ssh = listen(site.lab().gateway(), 22);
    for gateway in ["192.168.99.1", "fd51:7ec5:0:99::1"] {
        let gateway: IpAddr = gateway.parse().unwrap();
        assert!(ask(&admin, (gateway, DNS).into(), &question(NAME), PATIENCE).is_some(), "{gateway}");
        let answer = ask(&admin, (gateway, NTP).into(), &ntp_question(), PATIENCE);
        // Mode 4 is a server's (RFC 5905); an own clock nobody set is told as such, not hidden.
        assert_eq!(answer.and_then(|answer| answer.first().map(|byte| byte & 7)), Some(4), "{gateway}");
        assert!(connects(&admin, (gateway, 22).into()).is_ok(), "{gateway}");
    }
    site.run(&["time", "trusted"]).succeeded();
    wait_until("the scheduled flows open", || (5000..5003).all(|port| open(port) == [true; 2]));
    assert_eq!(site.status()["time"]["trusted"], true);
    // On this boot the trust outlives the daemon.
    site.kill_core();
    site.start_core();
    assert_eq!(site.status()["time"]["trusted"], true);
    assert!((5000..5003).all(|port| open(port) == [true; 2]));
}

#[test]
fn the_line_gets_its_addresses_by_dhcp_and_router_advertisement() {
    let mut site = Site::new(clinic_with_a_new_phone());
    site.start_core();
    site.apply(&on_a_dynamic_line(&router_policy()));
    let _provider = provider(&site);
    let line = start_line(&site);
    let gateway = site.lab().gateway();
    let says = |arguments: &[&str]| gateway.output("ip", arguments).unwrap();
    wait_until("the line has an IPv4 address", || {
        says(&["-4", "address", "show", "dev", "eth0"]).contains("inet 203.0.113.1")
    });
    wait_until("there is a default route", || says(&["route"]).contains("default via 203.0.113.1 dev eth0"));
    wait_until("the line has an IPv6 address", || {
        says(&["-6", "address", "show", "dev", "eth0", "scope", "global"]).contains("inet6 2001:db8:ffff:")
    });
    wait_until("there is an IPv6 default route", || says(&["-6", "route"]).contains("default via fe80:"));
    println!("{}{}", says(&["address", "show", "dev", "eth0"]), says(&["route"]));
    // The clinic goes out by the new address, and nothing else has changed.
    let _web = listen(site.lab().host("web").unwrap(), 80);
    let reception = site.lab().host("reception").unwrap();
    assert!(connects(reception, "192.0.2.80:80".parse().unwrap()).is_ok());
    site.assert_verified();
    assert_line_is_documented(&site, &processes_of_line(&site));
    drop(line);
}

/// What /proc says of every process of dhcpcd in the gateway.
fn processes_of_line(site: &Site) -> Vec<String> {
    let gateway = site.lab().gateway();
    let pids = gateway.output("ip", &["netns", "pids", gateway.namespace().name()]).unwrap();
    let statuses = pids.lines().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    statuses.filter(|status| status.starts_with("Name:\tdhcpcd\n")).collect()
}

fn on_a_dynamic_line(policy: &str) -> String {
    let fixed = [
        "gateway = [\"203.0.113.2/24\", \"2001:db8:ffff::2/64\"]\n",
        "routers = [\"203.0.113.1\", \"2001:db8:ffff::1\"]\n",
    ];
    let text = fixed.iter().fold(policy.to_owned(), |text, line| {
        assert!(text.contains(line), "{line}");
        text.replace(line, "")
    });
    text.replace("ipv4 = \"static\"", "ipv4 = \"dhcp\"").replace("ipv6 = \"static\"", "ipv6 = \"ra\"")
}

/// The provider's DHCP server and router advertisements.
fn provider(site: &Site) -> Running {
    let leases = site.files().join("provider.leases");
    let mut command = site.lab().host("internet").unwrap().command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="]);
    command.args([
        "--interface=eth0",
        "--enable-ra",
        "--dhcp-range=203.0.113.100,203.0.113.199,255.255.255.0,1h",
    ]);
    command.args(["--dhcp-range=2001:db8:ffff::,ra-only,64", "--dhcp-authoritative"]);
    command.arg(format!("--dhcp-leasefile={}", leases.display()));
    let log = fs::File::create(site.files().join("provider.log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

/// Starts dhcpcd as its unit says; its places are fixed when it is built.
fn start_line(site: &Site) -> Role {
    let conf = relocated(site, "dhcpcd.conf", &[]);
    let installed = unit_file("sekisho-wan").exec;
    let arguments = installed
        .iter()
        .skip(1)
        .map(|word| if word.starts_with("/run/") { conf.to_str().unwrap().to_owned() } else { word.clone() });
    site.runner("sekisho-wan").arguments(arguments).at_installed_places().start().unwrap()
}

#[test]
fn discovery_stays_in_its_zone_and_why_says_so() {
    let site = router();
    let lab = site.lab();
    let mut captures: Vec<_> = ["wan", "ehr", "billing", "modality", "guest", "management"]
        .map(|zone| (zone, Capture::start(lab.leg(zone).unwrap()).unwrap()))
        .into();
    let mut heard = Capture::start(lab.leg("staff").unwrap()).unwrap();
    let reception = lab.host("reception").unwrap();
    let groups = ["224.0.0.251", "239.255.255.250", "ff02::fb", "ff05::c"];
    for group in groups {
        let group: IpAddr = group.parse().unwrap();
        // A large hop limit, as from somebody who would like to get further.
        let sent = reception.run_in(|| {
            let any = if group.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket2::SockRef::from(&socket)
                .set_multicast_ttl_v4(64)
                .or_else(|error| if group.is_ipv4() { Err(error) } else { Ok(()) })?;
            if group.is_ipv6() {
                socket2::SockRef::from(&socket).set_multicast_hops_v6(64)?;
            }
            socket.send_to(b"who is there", (group, MDNS))
        });
        assert_eq!(sent.unwrap().unwrap(), 12, "{group}");
    }
    let ours = |frame: &lab::Frame| frame.bytes.ends_with(b"who is there");
    assert_eq!(heard.wait_for(groups.len(), PATIENCE, ours).unwrap().len(), groups.len());
    for (zone, capture) in &mut captures {
        let leaked =
            capture.drain_filtered(|frame| ours(frame) && frame.direction == Direction::Out).unwrap();
        assert!(leaked.is_empty(), "discovery reached zone {zone}");
    }
    for group in groups {
        let said = site.run(&["policy", "why", "device:reception", group, "udp/5353"]);
        println!("{}{}", said.out, said.err);
        assert_eq!(said.code, Some(7), "{group}: {said:?}");
        assert!(said.out.contains("multicast") || said.out.contains("discovery"), "{group}: {said:?}");
    }
}

fn listen(host: &Host, port: u16) -> TcpListener {
    host.run_in(|| TcpListener::bind(("::", port))).unwrap().unwrap()
}

fn connects(host: &Host, to: SocketAddr) -> std::io::Result<TcpStream> {
    host.run_in(|| TcpStream::connect_timeout(&to, Duration::from_millis(900))).unwrap()
}

/// Asks once a second until the answer comes or the time is over.
fn ask(host: &Host, to: SocketAddr, question: &[u8], limit: Duration) -> Option<Vec<u8>> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = host.run_in(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.set_read_timeout(Some(limit.min(Duration::from_secs(1)))).unwrap();
    let deadline = Instant::now() + limit;
    let mut answer = [0; 1500];
    while Instant::now() < deadline {
        // The answer to an earlier one may have been "nobody there yet", which the next call tells.
        let _ = socket.send_to(question, to);
        match socket.recv_from(&mut answer) {
            Ok((length, from)) if from == to => return Some(answer[..length].to_vec()),
            Ok(_) => {}
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ),
                "{error}"
            ),
        }
    }
    None
}

/// A question for a name's IPv4 address (RFC 1035).
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// A client's question for the time: version 4, mode 3 (RFC 5905).
fn ntp_question() -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0] = 4 << 3 | 3;
    // An origin timestamp that is not zero, which the server has to send back.
    bytes[40..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    bytes
}
