//! A Debian kernel as `scripts/qemu-kernel` unpacks it, and the choice of its modules for a guest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::VmError;
use super::host;

/// Modules that the guest loads at start, as the appliance does.
const LOADED: [&str; 11] = [
    "8021q",
    "bridge",
    "dummy",
    "nf_conntrack",
    // Left to itself the kernel loads it behind the first reader's back, whose first events are lost.
    "nf_conntrack_netlink",
    "nf_flow_table_inet",
    "nf_tables",
    "nfnetlink_log",
    "tun",
    "veth",
    "wireguard",
];

/// Modules that the kernel may load by itself when a rule names them (`nft-expr-limit`, `nf-logger-2-1` and the like).
const LOADABLE_PREFIXES: [&str; 3] = ["nf_", "nft_", "nfnetlink"];

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    release: String,
    directory: PathBuf,
}

/// The chosen modules of a kernel, closed over their dependencies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Modules {
    /// Paths below `lib/modules/<release>/`.
    pub(super) files: BTreeSet<String>,
    /// `modules.dep`, cut down to these files.
    pub(super) dep: String,
    /// `modules.alias`, cut down to these modules.
    pub(super) alias: String,
    /// Names to load at start.
    pub(super) loaded: Vec<String>,
}

impl Kernel {
    /// Runs `scripts/qemu-kernel` of the workspace, which fetches the kernel unless it is there.
    pub fn fetched(workspace: &Path) -> Result<Self, VmError> {
        let script = workspace.join("scripts/qemu-kernel");
        let output = host::output(&mut Command::new(script))?;
        Self::at(Path::new(output.trim()))
    }

    /// Opens a directory that holds `release`, `vmlinuz` and `lib/modules`.
    pub fn at(directory: &Path) -> Result<Self, VmError> {
        let release = read(&directory.join("release"))?.trim().to_owned();
        Ok(Self { release, directory: directory.to_owned() })
    }

    /// What `uname -r` says under this kernel.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The compressed kernel image.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The directory that module paths are relative to.
    pub(super) fn modules_directory(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }

    /// Chooses the guest's modules.
    pub(super) fn modules(&self) -> Result<Modules, VmError> {
        let directory = self.modules_directory();
        let dep = read(&directory.join("modules.dep"))?;
        let alias = read(&directory.join("modules.alias"))?;
        let builtin = read(&directory.join("modules.builtin"))?;
        choose(&dep, &alias, &builtin)
            .map_err(|module| VmError::MissingModule { release: self.release.clone(), module })
    }
}

fn read(path: &Path) -> Result<String, VmError> {
    std::fs::read_to_string(path).map_err(VmError::file(path))
}

/// Chooses modules from the texts of `modules.dep`, `modules.alias` and `modules.builtin`, or names the missing one.
fn choose(dep: &str, alias: &str, builtin: &str) -> Result<Modules, String> {
    let needs: BTreeMap<&str, Vec<&str>> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needed)| (file, needed.split_whitespace().collect()))
        .collect();
    let names: BTreeMap<String, &str> = needs.keys().map(|file| (module_name(file), *file)).collect();
    let built_in: BTreeSet<String> = builtin.lines().map(module_name).collect();

    let mut wanted: Vec<&str> = names
        .iter()
        .filter(|(name, _)| LOADABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(_, file)| *file)
        .collect();
    for name in LOADED {
        match names.get(name) {
            Some(file) => wanted.push(file),
            None if built_in.contains(name) => {}
            None => return Err(name.to_owned()),
        }
    }
    let files = closure(wanted, &needs);
    let kept: BTreeSet<String> = files.iter().map(|file| module_name(file)).collect();
    Ok(Modules {
        dep: keep_lines(dep, |line| line.split_once(':').is_some_and(|(file, _)| files.contains(file))),
        alias: keep_lines(alias, |line| line.rsplit(' ').next().is_some_and(|name| kept.contains(name))),
        loaded: LOADED.iter().filter(|name| kept.contains(**name)).map(|name| (*name).to_owned()).collect(),
        files,
    })
}

/// The module's name as the kernel knows it: `kernel/net/8021q/8021q.ko` is `8021q`, and dashes are underscores.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split('.').next().unwrap_or(base).replace('-', "_")
}

fn closure(wanted: Vec<&str>, needs: &BTreeMap<&str, Vec<&str>>) -> BTreeSet<String> {
    let mut closed = BTreeSet::new();
    let mut open = wanted;
    while let Some(file) = open.pop() {
        if closed.insert(file.to_owned()) {
            open.extend(needs.get(file).into_iter().flatten());
        }
    }
    closed
}

fn keep_lines(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "k/8021q.ko: k/garp.ko\nk/garp.ko: k/llc.ko\nk/llc.ko:\nk/snd.ko:\nk/nft_ct.ko: k/nf_tables.ko\n\
                       k/nf_tables.ko:\n";
    const ALIAS: &str = "alias rtnl-link-vlan 8021q\nalias nft-expr-ct nft_ct\nalias snd-card snd\n";
    const BUILTIN: &str = "k/bridge.ko\nk/dummy.ko\nk/nf_conntrack.ko\nk/nf_conntrack_netlink.ko\nk/nf-flow-table-inet.ko\n\
                           k/nfnetlink_log.ko\nk/tun.ko\nk/veth.ko\nk/wireguard.ko\n";

    #[test]
    fn modules_come_with_all_they_depend_on_and_nothing_else() {
        let modules = choose(DEP, ALIAS, BUILTIN).unwrap();
        let files: Vec<&str> = modules.files.iter().map(String::as_str).collect();
        assert_eq!(files, ["k/8021q.ko", "k/garp.ko", "k/llc.ko", "k/nf_tables.ko", "k/nft_ct.ko"]);
        assert_eq!(modules.alias, "alias rtnl-link-vlan 8021q\nalias nft-expr-ct nft_ct\n");
        assert!(!modules.dep.contains("snd"));
        assert_eq!(modules.loaded, ["8021q", "nf_tables"]);
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let without = BUILTIN.replace("k/wireguard.ko\n", "");
        assert_eq!(choose(DEP, ALIAS, &without), Err("wireguard".to_owned()));
    }
}
