//! What /proc says of a process (proc_pid_status(5), proc_pid_fd(5)), in the words of the document's table.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use lab::{Lab, RoleRunner};

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
/// Families of linux/netlink.h.
const NETLINK: [(&str, &str); 3] = [("0", "route"), ("12", "netfilter"), ("16", "generic")];
/// Protocols of linux/in.h that roles open raw sockets for.
const PROTOCOLS: [(u16, &str); 3] = [(1, "icmp"), (17, "udp"), (58, "icmpv6")];
const NOTHING: &str = "/dev/null";
/// Standard input, output and error: systemd's, and the lab's in its place.
const STANDARD: [u32; 3] = [0, 1, 2];
/// A port from here on is nobody's in particular.
const FIRST_HIGH_PORT: u16 = 1024;

/// Is one process of a role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// The `status` of each thread.
    pub(crate) fn threads(self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        let statuses: Vec<_> = statuses.collect();
        assert!(!statuses.is_empty());
        statuses
    }

    /// The kinds of what is open besides standard input, output and error.
    pub(crate) fn descriptors(self, places: &Places) -> BTreeSet<String> {
        // What comes or goes while the tables are read would not be found in them: only what stays is judged.
        let before = self.open();
        let sockets = self.sockets();
        let after = self.open();
        let open = before.into_iter().filter(|one| after.contains(one));
        let (standard, more): (Vec<_>, Vec<_>) = open.partition(|(number, _)| STANDARD.contains(number));
        for (number, target) in &standard {
            let expected = places.is_log(target) || target == Path::new(NOTHING);
            assert!(expected, "descriptor {number} is {}", target.display());
        }
        // dnsmasq doubles its standard error before it closes it, to write its log there.
        let more = more.into_iter().filter(|(_, target)| !places.is_log(target));
        more.map(|(_, target)| kind(&target, &sockets, places)).collect()
    }

    /// What is open, by number.
    fn open(self) -> BTreeSet<(u32, PathBuf)> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap();
        let open = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, fs::read_link(path).ok()?))
        });
        open.collect()
    }

    /// The kinds of the sockets in the process's network namespace, by inode.
    fn sockets(self) -> BTreeMap<String, String> {
        let mut kinds = BTreeMap::new();
        let mut add = |table: &str, inode: usize, kind: &dyn Fn(&[&str]) -> String| {
            let text = fs::read_to_string(format!("/proc/{}/net/{table}", self.0)).unwrap();
            for line in text.lines().skip(1) {
                let columns: Vec<_> = line.split_whitespace().collect();
                kinds.insert(columns[inode].to_owned(), kind(&columns));
            }
        };
        add("unix", 6, &|columns| {
            columns.get(7).map_or("unix".to_owned(), |path| format!("unix:{}", last(path)))
        });
        add("netlink", 9, &|columns| {
            let name = NETLINK.iter().find(|(family, _)| *family == columns[1]).map(|(_, name)| *name);
            format!("netlink:{}", name.unwrap_or(columns[1]))
        });
        add("packet", 8, &|_| "packet".to_owned());
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            add(table, 9, &|columns| match port(columns) {
                FIRST_HIGH_PORT.. => format!("{}:high", &table[..3]),
                port => format!("{}:{port}", &table[..3]),
            });
        }
        for table in ["raw", "raw6"] {
            add(table, 9, &|columns| {
                let number = port(columns);
                let name = PROTOCOLS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
                format!("raw:{}", name.map_or_else(|| number.to_string(), str::to_owned))
            });
        }
        kinds
    }
}

/// The local port of a line in /proc/net/tcp and its like; the protocol in /proc/net/raw.
fn port(columns: &[&str]) -> u16 {
    u16::from_str_radix(columns[1].rsplit(':').next().unwrap(), 16).unwrap()
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn kind(target: &Path, sockets: &BTreeMap<String, String>, places: &Places) -> String {
    let text = target.to_str().unwrap();
    if let Some(inode) = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
        // /proc lists no socket that is neither bound nor connected, as one for ioctl(2) is.
        return sockets.get(inode).cloned().unwrap_or_else(|| "unbound".to_owned());
    }
    if text.starts_with('/') {
        return format!("file:{}", places.installed(target).display());
    }
    if text.starts_with("pipe:") {
        return "pipe".to_owned();
    }
    text.trim_start_matches("anon_inode:").trim_matches(['[', ']']).to_owned()
}

/// Which files of the lab stand for which of an installed box.
pub(crate) struct Places {
    logs: PathBuf,
    directories: Vec<(PathBuf, PathBuf)>,
}

impl Places {
    /// The lab's own, and more directories with what they stand for.
    pub(crate) fn new(lab: &Lab, more: &[(PathBuf, &str)]) -> Self {
        let known = [(RoleRunner::runtime_root(lab), "/run"), (RoleRunner::state_root(lab), "/var/lib")];
        let all = known.iter().chain(more);
        let directories = all.map(|(here, there)| (here.clone(), PathBuf::from(there))).collect();
        Self { logs: lab.directory(), directories }
    }

    /// Whether this is a role's standard output, the journal on an installed box.
    fn is_log(&self, path: &Path) -> bool {
        path.parent() == Some(&self.logs) && path.extension().is_some_and(|extension| extension == "log")
    }

    fn installed(&self, path: &Path) -> PathBuf {
        let found =
            self.directories.iter().find_map(|(here, there)| Some(there.join(path.strip_prefix(here).ok()?)));
        found.unwrap_or_else(|| path.to_owned())
    }
}

/// A field of a `status`.
pub(crate) fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no `{name}` in {status}")).trim().to_owned()
}

/// The names in a capability set of a `status`; anything that no role should hold fails.
pub(crate) fn capabilities(status: &str, set: &str) -> BTreeSet<String> {
    let bits = u64::from_str_radix(&field(status, set), 16).unwrap();
    let held = CAPABILITIES.iter().filter(|(_, bit)| bits & (1 << bit) != 0);
    let known: u64 = held.clone().map(|(_, bit)| 1 << bit).sum();
    assert_eq!(bits, known, "{set} holds more than any role should: {bits:x}");
    held.map(|(name, _)| (*name).to_owned()).collect()
}
