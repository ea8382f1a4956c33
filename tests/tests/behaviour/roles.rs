//! Done-when 7: each serving role is what docs/ARCHITECTURE.md says, as /proc tells it.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lab::Role;

use crate::{
    daemon::{READY_LIMIT, Site, unit_file},
    router_basics::{start_leases, start_names, start_time},
    site::{flow, policy},
    traffic::PATIENCE,
};

const DOCUMENT: &str = include_str!("../../../docs/ARCHITECTURE.md");
/// Bits of linux/capability.h, those that any role of ours holds.
const CAPABILITIES: [(&str, u32); 9] = [
    ("CAP_CHOWN", 0),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_TIME", 25),
];
/// `SECCOMP_MODE_FILTER` of linux/seccomp.h.
const SECCOMP_FILTER: &str = "2";
/// Netlink families of linux/netlink.h.
const NETLINK_ROUTE: &str = "0";
const NETLINK_NETFILTER: &str = "12";

/// A row of the document's table.
#[derive(Debug)]
struct Row {
    user: String,
    capabilities: BTreeSet<String>,
}

/// Reads the table of processes in the document, by role.
fn documented() -> BTreeMap<String, Row> {
    let section = DOCUMENT.split("## Processes").nth(1).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("| role")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, role, user, capabilities, ..] = cells[..] else { panic!("{line}") };
        let user = user.split('`').nth(1).unwrap_or(user).to_owned();
        let words = capabilities.split(", ").filter(|word| *word != "none").map(str::to_owned);
        (role.to_owned(), Row { user, capabilities: words.collect() })
    });
    rows.collect()
}

#[test]
fn every_serving_role_is_what_the_document_says() {
    let inherited = own_descriptors();
    let mut site = Site::new(crate::site::clinic(false));
    // First, so that its user exists when core looks it up, as on an installed box.
    let mut watch = site.runner("sekisho-watch").start().unwrap();
    watch.wait_ready(READY_LIMIT).unwrap();
    site.start_core();
    site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    wait_for_log_socket(&watch);
    let (names, leases, time) = (start_names(&site), start_leases(&site), start_time(&site));
    let (state, files, lab) = (site.state(), site.files().to_owned(), site.lab().directory());
    let documented = documented();
    let roles: BTreeSet<_> = documented.keys().map(String::as_str).collect();
    assert_eq!(
        roles,
        BTreeSet::from(["core", "leases", "line", "names", "time", "watch"]),
        "a role without a test"
    );
    let core = site.core();
    assert_identity(core, "sekisho-core", &documented["core"], &[]);
    assert_identity(&watch, "sekisho-watch", &documented["watch"], &[]);
    assert_identity(&names, "sekisho-names", &documented["names"], &[]);
    assert_identity(&leases, "sekisho-leases", &documented["leases"], &[]);
    // The lab never sets the machine's clock: chronyd runs with -x here, and gives that power up as well.
    assert_identity(&time, "sekisho-chrony", &documented["time"], &["CAP_SYS_TIME"]);
    for thread in threads(core) {
        assert_eq!(field(&thread, "Seccomp"), SECCOMP_FILTER, "a thread of core without its filter");
    }
    let core_may = [NETLINK_ROUTE, NETLINK_NETFILTER];
    assert_descriptors("core", core, &inherited, &core_may, &[state]);
    assert_descriptors("watch", &watch, &inherited, &[NETLINK_NETFILTER], &[]);
    for (name, role) in [("names", &names), ("leases", &leases), ("time", &time)] {
        let kept = files_of(role, &inherited).into_iter().filter(|path| path != Path::new("/dev/null"));
        let outside: Vec<_> =
            kept.filter(|path| !path.starts_with(&lab) && !path.starts_with(&files)).collect();
        assert!(outside.iter().all(|path| path == Path::new("/dev/urandom")), "{name}: {outside:?}");
    }
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
/// and those that hold something do not belong to the user that the document names.
pub(crate) fn assert_line_is_documented(statuses: &[String]) {
    let documented = documented();
    let row = &documented["line"];
    let uid = id(&["-u", &row.user]);
    assert!(
        statuses.iter().any(|status| field(status, "Uid").starts_with(&uid)),
        "nothing runs as {}",
        row.user
    );
    for status in statuses {
        let (user, held) = (field(status, "Uid"), capabilities(status, "CapEff"));
        println!("dhcpcd: uid {user}, capabilities {held:?}, seccomp {}", field(status, "Seccomp"));
        assert_eq!(field(status, "NoNewPrivs"), "1");
        assert!(held.is_subset(&row.capabilities), "{held:?}");
        assert!(held.is_empty() || !user.starts_with(&uid), "{user} holds {held:?}");
    }
}

/// Compares every thread of a role with its row and its unit.
fn assert_identity(role: &Role, unit: &str, row: &Row, given_up: &[&str]) {
    let unit = unit_file(unit);
    let held: BTreeSet<_> =
        row.capabilities.iter().filter(|name| !given_up.contains(&name.as_str())).cloned().collect();
    let (uid, gid) = (id(&["-u", &row.user]), id(&["-g", &row.user]));
    assert_ne!(uid, "0", "{}", row.user);
    let mut groups = BTreeSet::from([gid.clone()]);
    groups.extend(unit.supplementary_groups.iter().map(|group| group_id(group)));
    for status in threads(role) {
        let name = field(&status, "Name");
        assert_eq!(field(&status, "Uid"), [uid.as_str(); 4].join("\t"), "{name}");
        assert_eq!(field(&status, "Gid"), [gid.as_str(); 4].join("\t"), "{name}");
        let found: BTreeSet<_> = field(&status, "Groups").split_whitespace().map(str::to_owned).collect();
        assert!(found.is_subset(&groups), "{name}: groups {found:?}, allowed {groups:?}");
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{name}");
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(capabilities(&status, set), held, "{name}: {set}");
        }
        if unit.user == row.user {
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
        println!(
            "{name}: uid {uid} ({}), capabilities {held:?}, seccomp {}",
            row.user,
            field(&status, "Seccomp")
        );
    }
}

/// Fails for any descriptor that is not a socket of an allowed kind, a file of an allowed place, or the runtime's own.
fn assert_descriptors(
    name: &str,
    role: &Role,
    inherited: &BTreeSet<PathBuf>,
    netlink: &[&str],
    places: &[PathBuf],
) {
    let (unix, netlinks) = sockets(role);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for target in descriptors(role, inherited) {
        let text = target.to_string_lossy().into_owned();
        let kind = if let Some(inode) = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'))
        {
            match netlinks.get(inode) {
                Some(family) if netlink.contains(&family.as_str()) => format!("netlink {family}"),
                _ if unix.contains(inode) => "unix".to_owned(),
                other => panic!("{name} holds a socket that it should not: {text}, netlink {other:?}"),
            }
        } else if ["anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/dev/null"].contains(&text.as_str()) {
            text
        } else if text.ends_with(".log") {
            "its log".to_owned()
        } else if places.iter().any(|place| target.starts_with(place)) {
            "state".to_owned()
        } else {
            panic!("{name} holds {text}")
        };
        *kinds.entry(kind).or_default() += 1;
    }
    println!("{name}: descriptors {kinds:?}");
    for family in netlink {
        assert!(
            kinds.contains_key(&format!("netlink {family}")),
            "{name} has no netlink {family}: {kinds:?}"
        );
    }
}

/// Waits until core has handed the log of denied packets over.
fn wait_for_log_socket(watch: &Role) {
    let deadline = Instant::now() + PATIENCE;
    while !sockets(watch).1.iter().any(|(inode, family)| family == NETLINK_NETFILTER && holds(watch, inode)) {
        assert!(Instant::now() < deadline, "watch got no log socket; it says: {}", watch.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn holds(role: &Role, inode: &str) -> bool {
    descriptors(role, &BTreeSet::new()).contains(&PathBuf::from(format!("socket:[{inode}]")))
}

/// The inodes of the unix sockets, and of the netlink sockets with their families, in the role's namespace.
fn sockets(role: &Role) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let table = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", role.pid())).unwrap();
    let column = |line: &str, number| line.split_whitespace().nth(number).map(str::to_owned);
    let unix = table("unix").lines().skip(1).filter_map(|line| column(line, 6)).collect();
    let netlink = table("netlink");
    let netlink = netlink.lines().skip(1).filter_map(|line| Some((column(line, 9)?, column(line, 1)?)));
    (unix, netlink.collect())
}

fn threads(role: &Role) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", role.pid())).unwrap();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let statuses: Vec<_> = statuses.collect();
    assert!(!statuses.is_empty());
    statuses
}

fn descriptors(role: &Role, inherited: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    links(&format!("/proc/{}/fd", role.pid())).difference(inherited).cloned().collect()
}

fn files_of(role: &Role, inherited: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    descriptors(role, inherited).into_iter().filter(|target| target.is_absolute()).collect()
}

/// What this process got from whoever started it, and passes on to its children unasked.
fn own_descriptors() -> BTreeSet<PathBuf> {
    links("/proc/self/fd").into_iter().filter(|target| target != Path::new("/dev/null")).collect()
}

fn links(directory: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no `{name}` in {status}")).trim().to_owned()
}

fn capabilities(status: &str, set: &str) -> BTreeSet<String> {
    let bits = u64::from_str_radix(&field(status, set), 16).unwrap();
    let mut left = bits;
    let mut names = BTreeSet::new();
    for (name, bit) in CAPABILITIES {
        if bits & (1 << bit) != 0 {
            names.insert(name.to_owned());
            left &= !(1 << bit);
        }
    }
    assert_eq!(left, 0, "{set} holds more than any role should: {bits:x}");
    names
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
