//! The daemons' configuration: golden files, the daemons' own syntax checks, and hostile values.

use std::io::Write as _;
use std::process::{Command, Stdio};

use policy::model::{DhcpPool, Policy};
use policy::services::{
    FilePath, ServicePaths, ServicesError, chrony_conf, dhcpcd_conf, leases_conf, names_conf,
};
use proptest::prelude::*;

use crate::site::*;

fn paths() -> ServicePaths {
    let path = |text| FilePath::new(text).unwrap();
    ServicePaths {
        leases: path("/var/lib/sekisho/leases"),
        leases_pid: path("/run/sekisho/leases.pid"),
        names_pid: path("/run/sekisho/names.pid"),
        drift: path("/var/lib/sekisho/drift"),
        chrony_socket: path("/run/sekisho/chronyd.sock"),
        chrony_pid: path("/run/sekisho/chronyd.pid"),
    }
}

/// Guest: DHCP, DNS, time. Ehr: router advertisements and DNS. Modality: DHCP alone, with a fixed lease. Management: time.
fn served() -> Policy {
    let mut policy = clinic(Vec::new());
    for zone in [GUEST, EHR] {
        policy.zones[zone.0].dns = true;
    }
    for zone in [GUEST, MANAGEMENT] {
        policy.zones[zone.0].ntp = true;
    }
    policy.zones[MODALITY.0].dhcp = Some(DhcpPool {
        first: "192.168.20.100".parse().unwrap(),
        last: "192.168.20.119".parse().unwrap(),
        lease_s: 86_400,
    });
    policy.devices[CT.0].mac = Some("02:00:00:00:20:21".to_owned());
    policy
}

fn names(policy: &Policy) -> String {
    names_conf(policy, &paths()).unwrap().unwrap()
}

fn leases(policy: &Policy) -> String {
    leases_conf(policy, &paths()).unwrap().unwrap()
}

#[test]
fn golden_files() {
    insta::assert_snapshot!("names", names(&served()));
    insta::assert_snapshot!("leases", leases(&served()));
    insta::assert_snapshot!("chrony", chrony_conf(&served(), &paths()).unwrap());
    insta::assert_snapshot!("dhcpcd", dhcpcd_conf(&clinic_on_dhcp(Vec::new())).unwrap().unwrap());
}

#[test]
fn nothing_is_written_for_what_nobody_asks() {
    let mut policy = clinic(Vec::new());
    policy.zones[GUEST.0].dhcp = None;
    policy.zones[EHR.0].router_advertisement = false;
    assert_eq!(names_conf(&policy, &paths()).unwrap(), None);
    assert_eq!(leases_conf(&policy, &paths()).unwrap(), None);
    assert_eq!(dhcpcd_conf(&policy).unwrap(), None, "the line is static");
    let time = chrony_conf(&policy, &paths()).unwrap();
    assert!(time.contains("\nport 0\n") && time.contains("\nserver 192.0.2.123 iburst\n"), "{time}");
}

/// What holds CAP_NET_ADMIN never opens the port of DNS; what opens it serves nothing that needs the capability.
#[test]
fn names_and_leases_do_nothing_of_each_other() {
    let mut policy = served();
    let dns_port_closed = |text: &str| text.contains("\nport=0\n") && !text.contains("\nserver=");
    assert!(dns_port_closed(&leases(&policy)));
    assert!(!names(&policy).lines().any(|line| line.starts_with("dhcp-") || line == "enable-ra"));
    for zone in &mut policy.zones {
        zone.dns = false;
    }
    assert_eq!(names_conf(&policy, &paths()).unwrap(), None);
    assert!(dns_port_closed(&leases(&policy)));
    let mut policy = served();
    for zone in &mut policy.zones {
        (zone.dhcp, zone.router_advertisement) = (None, false);
    }
    assert_eq!(leases_conf(&policy, &paths()).unwrap(), None);
    assert_eq!(names(&policy), names(&served()), "names depend on no lease");
}

#[test]
fn the_outside_is_never_served() {
    let mut policy = served();
    let wan = &mut policy.zones[WAN.0];
    (wan.dns, wan.ntp, wan.router_advertisement) = (true, true, true);
    for text in [names(&policy), leases(&policy)] {
        assert!(!text.contains("\ninterface=eth0\n") && text.contains("\nexcept-interface=eth0\n"), "{text}");
    }
    let time = chrony_conf(&policy, &paths()).unwrap();
    assert_eq!(time, chrony_conf(&served(), &paths()).unwrap());
    assert!(!time.contains("allow\n") && !time.contains("allow 0"), "{time}");
}

#[test]
fn a_line_asks_for_its_own_families_only() {
    let with = |dhcp4, accept_ra| {
        let mut policy = clinic_on_dhcp(Vec::new());
        let wan = policy.zones[WAN.0].wan.as_mut().unwrap();
        (wan.dhcp4, wan.accept_ra) = (dhcp4, accept_ra);
        dhcpcd_conf(&policy).unwrap().unwrap()
    };
    assert!(with(true, false).contains("\nnoipv6\n") && !with(true, false).contains("\nnoipv4\n"));
    assert!(with(false, true).contains("\nnoipv4\n") && !with(false, true).contains("\nnoipv6\n"));
}

#[test]
fn the_daemons_accept_what_is_written() {
    for text in [names(&served()), leases(&served())] {
        run("dnsmasq", &["--test", "-C", "-"], &text);
    }
    let time = chrony_conf(&served(), &paths()).unwrap();
    let printed = run("chronyd", &["-p", "-f", "/dev/stdin"], &time);
    assert!(printed.is_none_or(|printed| printed.contains("allow 192.168.90.0/24")));
}

/// What a daemon prints when it accepts the text, or `None` where it is not installed.
fn run(program: &str, arguments: &[&str], text: &str) -> Option<String> {
    let path = std::path::Path::new("/usr/sbin").join(program);
    if !path.exists() {
        eprintln!("{program} is not installed: its own check of the text is left out");
        return None;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the crate starts nothing; this test asks the daemons themselves"
    )]
    let mut command = Command::new(path);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {said}");
    Some(said)
}

#[test]
fn paths_are_plain_or_refused() {
    for bad in ["", "relative", "/a b", "/a\nuser=root", "/a#b", "/日本", "/a,b", "/a=b"] {
        assert_eq!(FilePath::new(bad), Err(ServicesError::Path { value: bad.to_owned() }));
    }
}

#[test]
fn a_pool_outside_its_zone_is_refused() {
    let mut policy = served();
    let refused = Err(ServicesError::Pool { zone: "guest".to_owned() });
    policy.zones[GUEST.0].networks = vec!["192.168.91.0/24".parse().unwrap()];
    assert_eq!(leases_conf(&policy, &paths()), refused);
    policy.zones[GUEST.0].networks = vec!["192.168.90.0/25".parse().unwrap()];
    assert_eq!(leases_conf(&policy, &paths()), refused, "its end lies outside");
}

fn plausible_mac() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("02:00:00:00:20:21".to_owned()), 1 => "[0-9a-f:,\\n ]{0,20}"]
}

#[test]
fn names_are_plain_or_refused() {
    for bad in ["", "-x", ".x", "a b", "a,b", "a#b", "a=b", "a\nuser=root", "lan*", "eth0:1", "内線"] {
        let mut policy = served();
        policy.zones[GUEST.0].interface = Some(bad.to_owned());
        let refused = Err(ServicesError::Name { value: bad.to_owned() });
        assert_eq!(names_conf(&policy, &paths()), refused);
        assert_eq!(leases_conf(&policy, &paths()), refused);
    }
    for bad in [
        "",
        "02:00:00:00:20",
        "02:00:00:00:20:21:22",
        "02:00:00:00:20:+1",
        "02-00-00-00-20-21",
        "02:00:00:00:20:21,x",
    ] {
        let mut policy = served();
        policy.devices[CT.0].mac = Some(bad.to_owned());
        assert_eq!(leases_conf(&policy, &paths()), Err(ServicesError::Mac { value: bad.to_owned() }));
    }
}

proptest! {
    /// Text from a policy either stands in the file as one plain word or refuses it: the options written never change.
    #[test]
    fn no_value_adds_an_option(name in "[ -~\\n\\r\\tあ]{0,20}|[a-z0-9.,#=-]{0,15}", mac in plausible_mac()) {
        let mut policy = served();
        policy.zones[GUEST.0].interface = Some(name.clone());
        policy.zones[EHR.0].slug = name.clone();
        policy.devices[CT.0].mac = Some(mac);
        policy.devices[CT.0].name = name.clone();
        policy.zones[GUEST.0].name = name;
        if let Ok(Some(text)) = names_conf(&policy, &paths()) {
            prop_assert_eq!(options(&text, '='), options(&names(&served()), '='));
        }
        if let Ok(Some(text)) = leases_conf(&policy, &paths()) {
            prop_assert_eq!(options(&text, '='), options(&leases(&served()), '='));
        }
        let mut policy = clinic_on_dhcp(Vec::new());
        policy.zones[WAN.0].interface = policy.zones[GUEST.0].interface.clone();
        if let Ok(Some(text)) = dhcpcd_conf(&policy) {
            let plain = dhcpcd_conf(&clinic_on_dhcp(Vec::new())).unwrap().unwrap();
            prop_assert_eq!(options(&text, ' '), options(&plain, ' '));
        }
    }
}

/// The option of each line, with the number of values.
fn options(text: &str, separator: char) -> Vec<(String, usize)> {
    text.lines()
        .map(|line| {
            let (option, values) = line.split_once(separator).unwrap_or((line, ""));
            (option.to_owned(), values.split([',', ' ']).count())
        })
        .collect()
}
