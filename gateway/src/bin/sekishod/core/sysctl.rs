//! Kernel settings that the rules rely on, written through /proc/sys/net (which CAP_NET_ADMIN may do in its network
//! namespace). Forwarding is switched on only once the rules were read back.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A setting that could not be written.
#[derive(Debug, Error)]
#[error("cannot set `{name}` to {value}: {source}")]
pub(crate) struct SysctlError {
    name: String,
    value: &'static str,
    source: io::Error,
}

/// Settings of the whole box. The rules drop what these would let in as well; two fences are cheap.
const GENERAL: [(&str, &str); 14] = [
    // A connection begins with a SYN: what was open before a restart is picked up by nothing else.
    ("net/netfilter/nf_conntrack_tcp_loose", "0"),
    ("net/netfilter/nf_conntrack_acct", "1"),
    // The ledger of connections: their times, and ends also of those that began while nobody listened.
    ("net/netfilter/nf_conntrack_timestamp", "1"),
    ("net/netfilter/nf_conntrack_events", "1"),
    ("net/ipv4/conf/all/rp_filter", "1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/default/accept_source_route", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_source_route", "0"),
];

/// Settings of each interface of a zone, for the interfaces that were there before the defaults were set.
const PER_INTERFACE: [(&str, &str, &str); 6] = [
    ("ipv4", "rp_filter", "1"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv4", "send_redirects", "0"),
    ("ipv4", "accept_source_route", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "accept_source_route", "0"),
];

/// Writes the settings of the whole box; one that fails does not keep the others from being set.
pub(crate) fn general() -> Vec<SysctlError> {
    GENERAL.iter().filter_map(|(name, value)| write(name, value).err()).collect()
}

/// Writes the settings of one interface. `accept_ra` says whether router advertisements are listened to although the
/// box forwards, as only a WAN does.
pub(crate) fn interface(name: &str, accept_ra: bool) -> Result<(), SysctlError> {
    for (family, key, value) in PER_INTERFACE {
        write(&format!("net/{family}/conf/{name}/{key}"), value)?;
    }
    write(&format!("net/ipv6/conf/{name}/accept_ra"), if accept_ra { "2" } else { "0" })
}

/// How an interface filters sources (`all` for the box): 0 off, 1 strict, 2 loose; `None` when there is no such interface.
pub(crate) fn reverse_path(interface: &str) -> Option<u8> {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf").join(interface).join("rp_filter");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Switches forwarding of both families.
pub(crate) fn forwarding(on: bool) -> Result<(), SysctlError> {
    let value = if on { "1" } else { "0" };
    write("net/ipv4/ip_forward", value)?;
    write("net/ipv6/conf/all/forwarding", value)
}

/// Writes a setting that has another value. Writing what is there already is not free of effects: forwarding resets
/// settings of every interface.
fn write(name: &str, value: &'static str) -> Result<(), SysctlError> {
    // Interface names never hold a slash (the policy refuses them); dots are fine in this form.
    let path = PathBuf::from("/proc/sys").join(name);
    let result = std::fs::read_to_string(&path)
        .and_then(|held| if held.trim() == value { Ok(()) } else { std::fs::write(&path, value) });
    result.map_err(|source| SysctlError { name: name.replace('/', "."), value, source })
}
