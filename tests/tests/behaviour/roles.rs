//! Done-when 7: each serving role is what docs/ARCHITECTURE.md says, as /proc tells it.
mod process;
mod table;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lab::{Refusal, Role, Unit, named_calls};
use process::{Places, Process, capabilities, field};
use table::{Row, documented};

use crate::{
    daemon::{READY_LIMIT, Site, unit_file},
    router_basics::{start_leases, start_names, start_time},
    site::{flow, policy},
    traffic::PATIENCE,
};

/// `SECCOMP_MODE_FILTER` of linux/seccomp.h.
const SECCOMP_FILTER: &str = "2";
/// Of asm-generic/errno-base.h.
const EPERM: u32 = 1;
/// The lab never sets the machine's clock: chronyd runs with -x here, and gives that power up as well.
const GIVEN_UP_IN_THE_LAB: &str = "CAP_SYS_TIME";
/// Where dhcpcd's processes without powers live: the home of their user (dhcpcd(8)).
const ROOT_OF_THE_LINE: &str = "/usr/lib/dhcpcd";

#[test]
fn every_serving_role_is_what_the_document_says() {
    let mut site = Site::new(crate::site::clinic(false));
    // First, so that their users exist when core looks them up, as on an installed box.
    let mut watch = site.runner("sekisho-watch").start().unwrap();
    watch.wait_ready(READY_LIMIT).unwrap();
    let mut console = site.runner("sekisho-console").start().unwrap();
    console.wait_ready(READY_LIMIT).unwrap();
    let mut edge = site.runner("sekisho-edge").start().unwrap();
    edge.wait_ready(READY_LIMIT).unwrap();
    let mut files = site.runner("sekisho-files").start().unwrap();
    files.wait_ready(READY_LIMIT).unwrap();
    site.start_core();
    site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    let (names, leases, time) = (start_names(&site), start_leases(&site), start_time(&site));
    let places = Places::new(site.lab(), &[(site.files().join("chrony"), "/var/lib/sekisho-chrony")]);
    // The line is judged where it runs: see `assert_line_is_documented`.
    let running = [
        ("console", &console),
        ("core", site.role("sekisho-core")),
        ("edge", &edge),
        ("files", &files),
        ("leases", &leases),
        ("names", &names),
        ("record", site.role("sekisho-record")),
        ("time", &time),
        ("watch", &watch),
    ];
    let documented = documented();
    let judged: BTreeSet<_> = running.iter().map(|(role, _)| *role).chain(["line"]).collect();
    let rows: BTreeSet<_> = documented.keys().map(String::as_str).collect();
    assert_eq!(rows, judged, "a role without a test, or without a row");
    for (role, process) in running {
        let row = &documented[role];
        assert_identity(process, row);
        assert_descriptors(role, process, row, &places);
    }
}

/// Whatever unit is added to the firmware has to be documented and, above, judged.
#[test]
fn every_unit_is_confined_as_the_document_says() {
    let documented = documented();
    let serving = units().into_iter().filter(|(_, text)| !text.contains("\nType=oneshot\n"));
    let serving: BTreeSet<_> = serving.map(|(name, _)| name).collect();
    assert_eq!(
        serving,
        documented.values().map(|row| row.unit.clone()).collect(),
        "units, and rows of the document"
    );
    for row in documented.values() {
        let confinement = unit_file(&row.unit).confinement;
        let calls =
            confinement.system_calls.unwrap_or_else(|| panic!("{} has no SystemCallFilter=", row.unit));
        assert_eq!(confinement.refusal, Refusal::Error(EPERM), "{}: SystemCallErrorNumber=", row.unit);
        let (calls, wanted) = (named_calls(&calls).unwrap(), named_calls(&row.seccomp.calls).unwrap());
        let (more, fewer) = (calls.difference(&wanted), wanted.difference(&calls));
        let (more, fewer): (Vec<_>, Vec<_>) = (more.collect(), fewer.collect());
        assert!(more.is_empty() && fewer.is_empty(), "{}: calls more {more:?}, fewer {fewer:?}", row.unit);
        let families: BTreeSet<_> = confinement.address_families.unwrap_or_default().into_iter().collect();
        assert_eq!(families, row.seccomp.families, "{}: RestrictAddressFamilies=", row.unit);
    }
}

/// The work of a unit that ends by itself is done under its filters as well.
#[test]
fn the_unit_that_vouches_for_the_time_can_do_so_and_ends() {
    let site = Site::start();
    site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    assert_eq!(site.status()["time"]["trusted"], false);
    let socket = site.runtime().join("core.sock");
    let mut role = site.runner("sekisho-time").env("SEKISHO_SOCKET", socket).start().unwrap();
    let status = role.wait_ended(READY_LIMIT).unwrap();
    assert!(status.success(), "{status}: {}", role.log());
    assert_eq!(site.status()["time"]["trusted"], true);
}

/// What parses DNS, NTP or logged packets must not be able to change the firewall.
#[test]
fn only_core_and_what_insists_on_it_may_change_the_network() {
    let documented = documented();
    let holders = documented.iter().filter(|(_, row)| row.capabilities.contains("CAP_NET_ADMIN"));
    let holders: Vec<_> = holders.map(|(role, _)| role.as_str()).collect();
    assert_eq!(holders, ["core", "leases", "line"]);
}

/// The line is judged where it runs, in the test of a line by DHCP: no process of it holds more than the document says,
/// and those that hold something do not belong to the user that the document names. The others see a root of their own.
pub(crate) fn assert_line_is_documented(site: &Site, statuses: &[String]) {
    let documented = documented();
    let row = &documented["line"];
    let uid = id(&["-u", &row.user]);
    let places = Places::new(site.lab(), &[]);
    let mut open = BTreeSet::new();
    for status in statuses {
        let (user, held) = (field(status, "Uid"), capabilities(status, "CapEff"));
        println!("dhcpcd: uid {user}, capabilities {held:?}, filters {}", field(status, "Seccomp_filters"));
        assert_eq!(field(status, "NoNewPrivs"), "1");
        assert!(held.is_subset(&row.capabilities), "{held:?}");
        let confined = user.starts_with(&uid);
        assert_eq!(held.is_empty(), confined, "{user} holds {held:?}");
        assert_filters(status, row, row.seccomp.own && confined);
        let process = Process(field(status, "Pid").parse().unwrap());
        if confined {
            let root = fs::read_link(format!("/proc/{}/root", process.0)).unwrap();
            assert_eq!(root, Path::new(ROOT_OF_THE_LINE));
        }
        open.extend(process.descriptors(&places));
    }
    assert!(
        statuses.iter().any(|status| field(status, "Uid").starts_with(&uid)),
        "nothing runs as {}",
        row.user
    );
    assert_as_documented("line", row, &open);
}

/// Compares every thread of a role with its row and its unit.
fn assert_identity(role: &Role, row: &Row) {
    let unit = unit_file(&row.unit);
    let ours = unit.user == row.user;
    // What began as root holds what it keeps; in the lab chronyd keeps less.
    let kept = |name: &&String| ours || *name != GIVEN_UP_IN_THE_LAB;
    let held: BTreeSet<_> = row.capabilities.iter().filter(kept).cloned().collect();
    let (uid, gid) = (id(&["-u", &row.user]), id(&["-g", &row.user]));
    assert_ne!(uid, "0", "{}", row.user);
    let mut groups = BTreeSet::from([gid.clone()]);
    groups.extend(unit.supplementary_groups.iter().map(|group| group_id(group)));
    for status in Process(role.pid()).threads() {
        let name = field(&status, "Name");
        assert_eq!(field(&status, "Uid"), [uid.as_str(); 4].join("\t"), "{name}");
        assert_eq!(field(&status, "Gid"), [gid.as_str(); 4].join("\t"), "{name}");
        let found: BTreeSet<_> = field(&status, "Groups").split_whitespace().map(str::to_owned).collect();
        assert!(found.is_subset(&groups), "{name}: groups {found:?}, allowed {groups:?}");
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{name}");
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(capabilities(&status, set), held, "{name}: {set}");
        }
        if ours {
            // Nothing else can ever be gained, by whatever it runs.
            for set in ["CapBnd", "CapInh", "CapAmb"] {
                assert_eq!(capabilities(&status, set), row.capabilities, "{name}: {set}");
            }
        } else {
            // Began as root and dropped by itself: what it may not pass on is what counts.
            for set in ["CapInh", "CapAmb"] {
                assert!(capabilities(&status, set).is_empty(), "{name}: {set}");
            }
        }
        assert_filters(&status, row, row.seccomp.own);
        let filters = field(&status, "Seccomp_filters");
        println!("{name}: uid {uid} ({}), capabilities {held:?}, filters {filters}", row.user);
    }
}

/// Fails unless a thread runs under the unit's filters, and under others exactly if it is said to add its own.
fn assert_filters(status: &str, row: &Row, own: bool) {
    let (name, of_unit) = (field(status, "Name"), row.seccomp.filters_of_unit());
    assert_eq!(field(status, "Seccomp"), SECCOMP_FILTER, "{name}");
    let filters: usize = field(status, "Seccomp_filters").parse().unwrap();
    let as_said = if own { filters > of_unit } else { filters == of_unit };
    assert!(as_said, "{name} has {filters} filters, {of_unit} of its unit; of its own: {own}");
}

/// Waits until a role has open what the document says; a moment later it must have nothing else.
fn assert_descriptors(name: &str, role: &Role, row: &Row, places: &Places) {
    let process = Process(role.pid());
    let deadline = Instant::now() + PATIENCE;
    while !row.descriptors.always.is_subset(&process.descriptors(places)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert_as_documented(name, row, &process.descriptors(places));
}

fn assert_as_documented(name: &str, row: &Row, open: &BTreeSet<String>) {
    println!("{name}: open {open:?}");
    let (always, at_times) = (&row.descriptors.always, &row.descriptors.at_times);
    let (missing, allowed) = (always.difference(open), always.union(at_times).cloned().collect());
    let (missing, more): (Vec<_>, Vec<_>) = (missing.collect(), open.difference(&allowed).collect());
    assert!(
        missing.is_empty() && more.is_empty(),
        "{name} holds {open:?}: missing {missing:?}, more {more:?}"
    );
}

/// Every service of the firmware, by name, with its text; each must be one that the lab can follow.
fn units() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/units");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let services: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "service")).collect();
    let read = |path: &PathBuf| {
        let unit = Unit::read(path).unwrap();
        if let Some(words) = &unit.confinement.system_calls {
            assert!(!named_calls(words).unwrap().is_empty(), "{}", unit.name);
        }
        (unit.name, fs::read_to_string(path).unwrap())
    };
    services.iter().map(read).collect()
}

fn id(arguments: &[&str]) -> String {
    let output = Command::new("id").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn group_id(name: &str) -> String {
    let output = Command::new("getent").args(["group", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(':').nth(2).unwrap().to_owned()
}
