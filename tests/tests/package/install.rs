//! The package in a fresh Debian without a running systemd: installed, looked at, upgraded, removed, purged.
use std::{fs, process::Command};

use crate::build::{UPGRADE, debian, package, printed};

const INSIDE: &str = include_str!("inside.sh");
/// What `inside.sh` reports, but for one line a unit whose exposure is limited.
const EXPECTATIONS: [&str; 26] = [
    "install",
    "users",
    "nothing-enabled",
    "no-setuid",
    "directory",
    "libraries",
    "example",
    "verify",
    "pages",
    "bash",
    "zsh",
    "fish",
    "closed-loads",
    "closed-once",
    "explained",
    "dependencies",
    "no-paths",
    "upgrade",
    "same-users",
    "still-nothing-enabled",
    "remove",
    "log-kept",
    "policy-kept",
    "removed-is-off",
    "purge",
    "nothing-left",
];
const EXPOSURES_MIN: usize = 14;
/// Its own mounts and processes, so that all of it ends with the shell.
const ENTER: &str = "mount --bind \"$0\" \"$0\" && mount -t proc proc \"$0/proc\" && mount -t tmpfs run \"$0/run\" && \
    mount -t devtmpfs dev \"$0/dev\" && exec chroot \"$0\" env -i PATH=/usr/sbin:/usr/bin HOME=/root \
    bash /srv/inside.sh /srv/first.deb /srv/second.deb";

#[test]
fn a_fresh_debian_takes_it_and_gives_it_back() {
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("root");
    fs::create_dir(&root).unwrap();
    printed(Command::new("tar").arg("-xf").arg(debian()).arg("-C").arg(&root));
    fs::rename(package(work.path(), None), root.join("srv/first.deb")).unwrap();
    fs::rename(package(work.path(), Some(UPGRADE)), root.join("srv/second.deb")).unwrap();
    fs::write(root.join("srv/inside.sh"), INSIDE).unwrap();
    let said = printed(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
            .args(["bash", "-euc", ENTER])
            .arg(&root),
    );
    println!("{said}");
    let failed: Vec<&str> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let passed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    for name in EXPECTATIONS {
        assert!(passed.contains(&name), "`{name}` was not looked at");
    }
    let exposures = passed.iter().filter(|name| name.starts_with("exposure ")).count();
    assert!(exposures >= EXPOSURES_MIN, "only {exposures} units were judged");
}
