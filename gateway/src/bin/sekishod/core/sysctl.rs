//! Kernel settings that the rules rely on, written through /proc/sys/net (which CAP_NET_ADMIN may do in its network
//! namespace). Forwarding is switched on only once the rules were read back.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

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

/// Of these, what the ledger of connections relies on.
const LEDGER: [&str; 3] = ["nf_conntrack_acct", "nf_conntrack_timestamp", "nf_conntrack_events"];
/// Longest value told of a setting.
const VALUE_CHARS_MAX: usize = 16;

/// Settings of each interface of a zone, for the interfaces that were there before the defaults were set.
const PER_INTERFACE: [(&str, &str, &str); 6] = [
    ("ipv4", "rp_filter", "1"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv4", "send_redirects", "0"),
    ("ipv4", "accept_source_route", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "accept_source_route", "0"),
];

/// What came of asking for settings.
#[derive(Debug, Default)]
pub(crate) struct Asserted {
    /// What had another value and has the right one now.
    pub(crate) changed: Vec<Changed>,
    /// What has not, one by one: one that fails does not keep the others from being set.
    pub(crate) failed: Vec<SysctlError>,
}

/// A setting that had another value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Changed {
    /// Its name, with dots.
    pub(crate) name: String,
    /// The value that it had, cut short.
    was: String,
}

impl Changed {
    /// Whether the ledger of connections relies on it; else the rules do.
    pub(crate) fn is_ledgers(&self) -> bool {
        is_ledgers(&self.name)
    }
}

impl SysctlError {
    /// The setting's name, with dots.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` was {}", self.name, self.was)
    }
}

impl Asserted {
    /// Takes over what came of asking for others.
    pub(crate) fn extend(&mut self, other: Asserted) {
        let Asserted { changed, failed } = other;
        self.changed.extend(changed);
        self.failed.extend(failed);
    }

    fn assert(&mut self, name: &str, value: &'static str) {
        match assert(name, value) {
            Ok(changed) => self.changed.extend(changed),
            Err(error) => self.failed.push(error),
        }
    }
}

/// Whether a setting is one that the ledger of connections relies on.
pub(crate) fn is_ledgers(name: &str) -> bool {
    LEDGER.iter().any(|end| name.ends_with(end))
}

/// What our own switching of forwarding resets for a moment must not be taken for somebody else's change.
static SWITCHING: Mutex<()> = Mutex::new(());

/// Asks for the settings of the whole box.
pub(crate) fn general() -> Asserted {
    let _switching = SWITCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut asserted = Asserted::default();
    GENERAL.iter().for_each(|(name, value)| asserted.assert(name, value));
    asserted
}

/// Asks for the settings of one interface. `accept_ra` says whether router advertisements are listened to although the
/// box forwards, as only a WAN does.
pub(crate) fn interface(name: &str, accept_ra: bool) -> Asserted {
    let mut asserted = Asserted::default();
    for (family, key, value) in PER_INTERFACE {
        asserted.assert(&format!("net/{family}/conf/{name}/{key}"), value);
    }
    // A DHCP client may have its own idea of this one: it is put back, and nobody is accused.
    let accept_ra = assert(&format!("net/ipv6/conf/{name}/accept_ra"), if accept_ra { "2" } else { "0" });
    asserted.failed.extend(accept_ra.err());
    asserted
}

/// How an interface filters sources (`all` for the box): 0 off, 1 strict, 2 loose; `None` when there is no such interface.
pub(crate) fn reverse_path(interface: &str) -> Option<u8> {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf").join(interface).join("rp_filter");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Switches forwarding of both families. A box that does not forward takes redirects, says the kernel (ip-sysctl,
/// `accept_redirects`), and resets that with each switch: ours takes none either way.
pub(crate) fn forwarding(on: bool) -> Asserted {
    let _switching = SWITCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let value = if on { "1" } else { "0" };
    let mut asserted = Asserted::default();
    asserted.assert("net/ipv4/ip_forward", value);
    asserted.assert("net/ipv6/conf/all/forwarding", value);
    if asserted.changed.iter().any(|changed| changed.name == "net.ipv4.ip_forward") {
        asserted.failed.extend(assert("net/ipv4/conf/all/accept_redirects", "0").err());
    }
    asserted
}

/// Writes a setting that has another value. Writing what is there already is not free of effects: forwarding resets
/// settings of every interface.
fn assert(name: &str, value: &'static str) -> Result<Option<Changed>, SysctlError> {
    // Interface names never hold a slash (the policy refuses them); dots are fine in this form.
    let path = PathBuf::from("/proc/sys").join(name);
    let dotted = || name.replace('/', ".");
    let failed = |source| SysctlError { name: dotted(), value, source };
    let held = std::fs::read_to_string(&path).map_err(failed)?;
    if held.trim() == value {
        return Ok(None);
    }
    std::fs::write(&path, value).map_err(failed)?;
    Ok(Some(Changed { name: dotted(), was: held.trim().chars().take(VALUE_CHARS_MAX).collect() }))
}
