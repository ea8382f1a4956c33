//! Configuration of the kept daemons (dnsmasq, chronyd, dhcpcd), written for units that restart them when it changes, and
//! the settings of the other roles, which read them again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use policy::model::Policy;
use policy::services::{self, ServicesError, VpnCarrier};
use thiserror::Error;

use super::plan::Plan;

/// Why the services are not configured.
#[derive(Debug, Error)]
pub(crate) enum FilesError {
    /// The policy says something that no configuration file can hold.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// A file cannot be written.
    #[error("cannot write the services' configuration to `{}`: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Writes every file whose text changed, and removes those that nothing needs.
pub(crate) fn write(directory: &Path, plan: &Plan, carrier: VpnCarrier) -> Result<(), FilesError> {
    let policy = &plan.policy;
    let paths = gateway::service_paths::installed()?;
    let files = [
        ("names.conf", services::names_conf(policy, &paths)?),
        ("leases.conf", services::leases_conf(policy, &paths)?),
        ("chrony.conf", Some(services::chrony_conf(policy, &paths)?)),
        ("dhcpcd.conf", services::dhcpcd_conf(policy)?),
        ("watch.json", Some(services::watch_conf(policy, &plan.ruleset)?)),
        ("record.json", Some(services::record_conf(policy)?)),
        ("console.json", Some(services::console_conf(policy)?)),
        ("edge.json", edge(policy, carrier)?),
        ("files.json", files(policy)?),
    ];
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| FilesError::Write { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    // The services run as users of their own.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(failed(directory))?;
    for (name, text) in files {
        let path = directory.join(name);
        let done = text.map_or_else(|| remove(&path), |text| put(&path, &text));
        done.map_err(failed(&path))?;
    }
    Ok(())
}

/// The doors' roles have settings only while the policy opens their door: who asks them whether they live looks at that.
fn edge(policy: &Policy, carrier: VpnCarrier) -> Result<Option<String>, ServicesError> {
    let is_open = policy.vpn.is_some() || policy.maintenance.is_some();
    is_open.then(|| services::edge_conf(policy, carrier)).transpose()
}

fn files(policy: &Policy) -> Result<Option<String>, ServicesError> {
    let is_open = policy.vendors.values().any(|vendor| !vendor.files.is_empty());
    is_open.then(|| services::files_conf(policy)).transpose()
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|held| held == text.as_bytes()) {
        return Ok(());
    }
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
