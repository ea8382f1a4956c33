//! A box from its first installation to its second start, in a guest: nobody is locked out by installing, upgrading or a
//! policy that nobody confirms; from then on the box starts closed and opens what the policy names.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    build::{UPGRADE, debian, package, printed, workspace},
    machine::{Machine, Session},
    tunnel,
};

const DISK: &str = include_str!("disk.sh");
const POLICY: &str = include_str!("site.toml");
/// For an answer that must come: emulated, on a machine that may be busy.
const LIVES: Duration = Duration::from_mins(2);
/// For an answer that must not come.
const DEAD: Duration = Duration::from_secs(4);
/// Roles of the example that serve once a policy is in force.
const SERVING: [&str; 9] = [
    "sekisho-core",
    "sekisho-record",
    "sekisho-watch",
    "sekisho-console",
    "sekisho-edge",
    "sekisho-files",
    "sekisho-names",
    "sekisho-leases",
    "sekisho-chrony",
];
const NO_TABLE: &str = "! nft list table inet sekisho";
const ON: &str = "LC_ALL=C sekisho-setup on /srv/site.toml";
/// What the kernel calls a line that is switched on.
const UP: &str = "UP";

#[test]
fn nobody_is_locked_out_and_the_box_starts_closed() {
    if std::env::var_os("SEKISHO_SKIP_QEMU").is_some_and(|value| value == "1") {
        eprintln!("SKIPPED: SEKISHO_SKIP_QEMU=1 is set, so no box was booted");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let kernel = made(work.path());
    let boot = |words| Machine::boot(&kernel, work.path(), words);

    let mut machine = boot("");
    let mut session = machine.session();
    installing_closes_nothing(&mut machine, &mut session);
    what_nobody_confirms_goes_back(&mut machine, &mut session);
    what_is_kept_stays(&mut machine);
    machine.power_off();

    let mut machine = boot("");
    it_starts_closed(&mut machine);
    an_upgrade_breaks_no_connection(&mut machine);
    tunnel::the_kernel_carries_the_vpn(&mut machine);
    machine.power_off();

    let mut machine = boot("systemd.mask=sekisho-core.service");
    without_core_it_stays_closed(&mut machine);
    machine.power_off();
}

/// Makes disk and initial file system; returns the kernel's directory.
fn made(work: &Path) -> PathBuf {
    let kernel: PathBuf = printed(&mut Command::new(workspace().join("scripts/qemu-kernel"))).trim().into();
    let [first, second, policy, vpn] =
        ["first.deb", "second.deb", "site.toml", "vpn.toml"].map(|name| work.join(name));
    fs::rename(package(work, None), &first).unwrap();
    fs::rename(package(work, Some(UPGRADE)), &second).unwrap();
    fs::write(&policy, POLICY).unwrap();
    fs::write(&vpn, format!("{POLICY}{}", tunnel::VPN)).unwrap();
    printed(Command::new("bash").args(["-euc", DISK, "disk.sh"]).arg(debian()).args([
        &kernel,
        &work.to_owned(),
        &first,
        &second,
        &policy,
        &vpn,
    ]));
    kernel
}

fn installing_closes_nothing(machine: &mut Machine, session: &mut Session) {
    assert!(session.lives(LIVES), "the lab has no session to begin with");
    machine.must("dpkg --force-unsafe-io -i /srv/first.deb");
    assert!(session.lives(LIVES), "the installation ended the installer's session");
    machine.must(NO_TABLE);
    assert_eq!(machine.must("systemctl list-units --no-legend --state=active 'sekisho*'"), "");
    assert!(machine.session().lives(LIVES), "nobody can log in after the installation");
    // Who could not come back is told so, and nothing changes.
    let refused = machine.run(&format!("SSH_CONNECTION='10.0.2.77 40000 10.0.2.15 22' {ON}"));
    assert!(refused.code == 1 && refused.output.contains("could not log in again"), "{}", refused.output);
    machine.must(NO_TABLE);
    assert!(session.lives(LIVES), "a refused activation ended the session");
}

fn what_nobody_confirms_goes_back(machine: &mut Machine, session: &mut Session) {
    machine.must(&format!("SSH_CONNECTION='10.0.2.2 40000 10.0.2.15 22' {ON} --minutes 30"));
    machine.must("nft list table inet sekisho >/dev/null");
    let timer =
        "systemctl show --value -p ActiveState -p Unit -p NextElapseUSecMonotonic sekisho-setup-back.timer";
    let armed = machine.must(timer);
    let words: Vec<&str> = armed.split_whitespace().collect();
    assert!(words.contains(&"active") && words.contains(&"sekisho-setup-back.service"), "{armed}");
    assert!(!words.contains(&"infinity") && words.len() >= 3, "the timer never comes: {armed}");
    // What the timer starts; not waited for, because a slow machine would need long minutes.
    machine.must("systemctl start sekisho-setup-back.service");
    machine.until(NO_TABLE);
    machine.until("! systemctl is-active sekisho-core sekisho-setup-back.timer sekisho-setup-back.service");
    assert!(session.lives(LIVES), "the session did not come back with the way back");
    assert_eq!(machine.must("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
}

fn what_is_kept_stays(machine: &mut Machine) {
    machine.must(&format!("{ON} --minutes 30"));
    assert!(machine.session().lives(LIVES), "the policy's own flow does not let the admin in");
    machine.must("sekisho-setup keep");
    machine.must("! systemctl is-active sekisho-setup-back.timer");
    machine.must("LC_ALL=C sekisho verify");
}

fn it_starts_closed(machine: &mut Machine) {
    all_serve(machine);
    machine.until("systemctl is-active multi-user.target");
    let early = machine.must("cat /run/lab/after-closed.nft");
    let [input, forward, output] = ["input", "forward", "output"]
        .map(|hook| early.contains(&format!("hook {hook} priority filter; policy drop;")));
    assert!(input && forward && output && early.contains("counter name \"closed\" drop"), "{early}");
    assert_all_down(&machine.must("cat /run/lab/after-closed.link"));
    let later = machine.must("cat /run/lab/network-pre.nft");
    assert!(later.contains("hook input priority filter; policy drop;"), "{later}");
    before(machine, "sekisho-closed.service", "sekisho-core.service");
    before(machine, "sekisho-core.service", "network-pre.target");
    before(machine, "network-pre.target", "systemd-networkd.service");
    machine.must("LC_ALL=C sekisho verify");
    // Nobody vouched for the clock: chronyd has no server here that answers.
    assert!(machine.must("LC_ALL=C sekisho status").contains("not trusted"));
    assert_eq!(machine.run("systemctl is-active sekisho-time").output.trim(), "inactive");
    assert_eq!(machine.must("systemctl list-units --no-legend --failed"), "");
}

fn an_upgrade_breaks_no_connection(machine: &mut Machine) {
    let mut session = machine.session();
    assert!(session.lives(LIVES));
    let core = "systemctl show --value -p MainPID sekisho-core";
    let old = machine.must(core);
    machine.must("dpkg --force-unsafe-io -i /srv/second.deb");
    assert!(session.lives(LIVES), "the upgrade ended a running session");
    all_serve(machine);
    assert_ne!(machine.must(core), old, "core runs the old program");
    machine.must("LC_ALL=C sekisho verify");
    assert!(session.lives(LIVES));
}

fn without_core_it_stays_closed(machine: &mut Machine) {
    machine.until("systemctl is-active systemd-networkd && ip -brief link show mgmt | grep -w UP");
    assert!(machine.must("nft list table inet sekisho").contains("counter name \"closed\" drop"));
    assert!(!machine.session().lives(DEAD), "something passes although core never ran");
    let dropped = machine.must("nft list counter inet sekisho closed");
    assert!(!dropped.contains("packets 0 "), "nothing was dropped: {dropped}");
}

fn all_serve(machine: &mut Machine) {
    // With several names `is-active` is content with one.
    for unit in SERVING {
        machine.until(&format!("systemctl is-active {unit}"));
    }
}

fn assert_all_down(links: &str) {
    for line in links.lines().filter(|line| !line.starts_with("lo ")) {
        assert_ne!(line.split_whitespace().nth(1), Some(UP), "{line}");
    }
}

fn before(machine: &mut Machine, earlier: &str, later: &str) {
    let mut at = |unit: &str| -> u64 {
        let said = machine.must(&format!("systemctl show --value -p ActiveEnterTimestampMonotonic {unit}"));
        said.trim().parse().unwrap()
    };
    let (first, second) = (at(earlier), at(later));
    assert!(0 < first && first <= second, "{earlier} at {first} us, {later} at {second} us");
}
