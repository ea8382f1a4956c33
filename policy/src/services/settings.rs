//! Settings of Sekisho's own roles: what each needs to know of the policy, and no more, as JSON (RFC 8259).
//!
//! Core writes them, the roles read them again when they change; reader and writer share these types, and a key that one
//! of the two does not know is an error.

mod doors;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::ServicesError;
use crate::guideline::observation::ListenerTransport;
use crate::model::{
    Device, Endpoint, Evidence, MAINTENANCE_DOOR, MetricsAuth, MetricsDoor, Policy, Protocol, VPN_DOOR, Zone,
    ZoneKind,
};
use crate::ruleset::{Mark, Ruleset};

pub use doors::{
    EdgeMaintenance, EdgePeer, EdgeSettings, EdgeVendor, EdgeVpn, FilesSettings, FilesVendor, VpnCarrier,
    edge_conf, files_conf,
};

/// Longest settings file: core writes none that is longer, and a role need not read further.
pub const SETTINGS_BYTES_MAX: usize = 64 << 20;

/// What the record role needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSettings {
    /// Most bytes of the log on disk.
    pub log_budget_bytes: u64,
    /// How long an entry is kept, in seconds.
    pub log_retention_s: u64,
}

/// What the watch role needs to know: how much to keep, and the names of what it sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSettings {
    /// How long an entry of the ledger of connections is kept, in seconds.
    pub flows_retention_s: u64,
    /// Most bytes of the ledger on disk.
    pub flows_budget_bytes: u64,
    /// Zones in file order.
    pub zones: Vec<WatchZone>,
    /// Devices in file order.
    pub devices: Vec<WatchDevice>,
    /// Marks of the rule set in force, ascending. Marks are never reused: a former one keeps its former name.
    pub marks: Vec<WatchMark>,
}

/// A zone, as far as the watch role needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchZone {
    /// ASCII name, unique, used in metrics.
    pub slug: String,
    /// Name in the policy.
    pub name: String,
    /// Interface, if it has one.
    pub interface: Option<String>,
    /// Kind.
    pub kind: ZoneKind,
    /// Networks; none for an external zone, which is everything else.
    pub networks: Vec<IpNet>,
    /// The gateway's own addresses in the zone.
    pub gateway: Vec<IpAddr>,
}

/// A device, as far as the watch role needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchDevice {
    /// Name in the policy.
    pub name: String,
    /// ASCII name of its zone.
    pub zone: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// MAC address, lower case with colons, if known.
    pub mac: Option<String>,
}

/// A connection mark and the flow that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchMark {
    /// The mark.
    pub mark: Mark,
    /// The flow's name; built-in ones begin with `@`.
    pub flow: String,
}

/// What the console role needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSettings {
    /// Opaque id of the site.
    pub site: String,
    /// Guideline version that the report speaks of.
    pub guideline: String,
    /// The clinic's time zone, by its IANA name.
    pub timezone: String,
    /// How metrics are read; `None` opens no door.
    pub metrics: Option<ConsoleMetrics>,
    /// The gateway's own addresses in zones of the clinic: what listens on others faces the outside.
    pub inside: Vec<IpAddr>,
    /// Ports at the gateway that some flow or built-in exchange names.
    pub ports: Vec<ConsolePort>,
}

/// Ports at the gateway that something is let to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsolePort {
    /// Transport.
    pub transport: ListenerTransport,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// Whether an external zone or a closed network is let to it by a flow that is none of the gateway's own doors: those
    /// are there to be reached, and let nobody in who is not named.
    pub from_outside: bool,
}

/// The door by which metrics are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleMetrics {
    /// Where to listen: the gateway's addresses in the zone, and never elsewhere.
    pub listen: Vec<SocketAddr>,
    /// How the reader proves who it is.
    pub auth: MetricsAuth,
}

/// The settings of the record role.
///
/// # Errors
/// [`ServicesError::Settings`] when they cannot be written.
pub fn record_conf(policy: &Policy) -> Result<String, ServicesError> {
    let Evidence { log_budget_bytes, log_retention_s, .. } = policy.evidence;
    text("record", &RecordSettings { log_budget_bytes, log_retention_s })
}

/// The settings of the watch role; `ruleset` is what the policy was compiled to.
///
/// # Errors
/// [`ServicesError::Settings`] when they cannot be written.
pub fn watch_conf(policy: &Policy, ruleset: &Ruleset) -> Result<String, ServicesError> {
    let Evidence { flows_retention_s, flows_budget_bytes, .. } = policy.evidence;
    let marks = ruleset.marks.iter().map(|(mark, of)| WatchMark { mark: *mark, flow: of.name.clone() });
    let settings = WatchSettings {
        flows_retention_s,
        flows_budget_bytes,
        zones: policy.zones.iter().map(zone).collect(),
        devices: policy.devices.iter().map(|of| device(policy, of)).collect(),
        marks: marks.collect(),
    };
    text("watch", &settings)
}

/// The settings of the console role.
///
/// # Errors
/// [`ServicesError::Settings`] when they cannot be written.
pub fn console_conf(policy: &Policy) -> Result<String, ServicesError> {
    let clinic = &policy.clinic;
    let timezone = clinic.timezone.iana_name().ok_or_else(|| ServicesError::Settings {
        role: "console",
        reason: "the clinic's time zone has no IANA name".to_owned(),
    })?;
    let settings = ConsoleSettings {
        site: clinic.site.clone(),
        guideline: clinic.guideline.clone(),
        timezone: timezone.to_owned(),
        metrics: policy.metrics.map(|door| metrics(policy, door)),
        inside: clinics(policy).flat_map(|zone| &zone.gateway).map(IpNet::addr).collect(),
        ports: ports(policy).into_iter().collect(),
    };
    text("console", &settings)
}

fn zone(of: &Zone) -> WatchZone {
    WatchZone {
        slug: of.slug.clone(),
        name: of.name.clone(),
        interface: of.interface.clone(),
        kind: of.kind,
        networks: of.networks.clone(),
        gateway: of.gateway.iter().map(IpNet::addr).collect(),
    }
}

fn device(policy: &Policy, of: &Device) -> WatchDevice {
    WatchDevice {
        name: of.name.clone(),
        zone: policy.zone(of.zone).slug.clone(),
        addresses: of.addresses.clone(),
        mac: of.mac.clone(),
    }
}

fn is_outside(of: &Zone) -> bool {
    matches!(of.kind, ZoneKind::External | ZoneKind::ClosedNetwork)
}

fn clinics(policy: &Policy) -> impl Iterator<Item = &Zone> {
    policy.zones.iter().filter(|zone| !is_outside(zone))
}

fn ports(policy: &Policy) -> BTreeSet<ConsolePort> {
    let comes_from_outside = |end: &Endpoint| match end {
        Endpoint::Zone(zone) | Endpoint::Networks(zone, _) => is_outside(policy.zone(*zone)),
        Endpoint::Device(device) => is_outside(policy.zone(policy.device(*device).zone)),
        Endpoint::Gateway | Endpoint::Domain(_) => false,
    };
    let inward = policy.flows.iter().filter(|flow| flow.to.contains(&Endpoint::Gateway));
    let named = inward.flat_map(|flow| {
        let is_door = [VPN_DOOR, MAINTENANCE_DOOR].contains(&flow.name.as_str());
        let from_outside = !is_door && flow.from.iter().any(comes_from_outside);
        flow.services.iter().filter_map(move |service| port(service, from_outside))
    });
    // DHCP is let through by exchanges of its own, which are no flows (RFC 2131: a server is at 67, a client at 68).
    let dhcp = |number, from_outside| port(&Protocol::Udp(number, number), from_outside);
    let served = clinics(policy).any(|zone| zone.dhcp.is_some()).then(|| dhcp(67, false)).flatten();
    let line = policy.zones.iter().any(|zone| zone.wan.as_ref().is_some_and(|wan| wan.dhcp4));
    named.chain(served).chain(line.then(|| dhcp(68, true)).flatten()).collect()
}

fn port(service: &Protocol, from_outside: bool) -> Option<ConsolePort> {
    match *service {
        Protocol::Tcp(first, last) => {
            Some(ConsolePort { transport: ListenerTransport::Tcp, first, last, from_outside })
        }
        Protocol::Udp(first, last) => {
            Some(ConsolePort { transport: ListenerTransport::Udp, first, last, from_outside })
        }
        Protocol::Echo | Protocol::Ip(_) => None,
    }
}

fn metrics(policy: &Policy, MetricsDoor { zone, port, auth }: MetricsDoor) -> ConsoleMetrics {
    let own = policy.zone(zone).gateway.iter();
    ConsoleMetrics { listen: own.map(|own| SocketAddr::new(own.addr(), port)).collect(), auth }
}

fn text<T: Serialize>(role: &'static str, settings: &T) -> Result<String, ServicesError> {
    let refused = |reason: String| ServicesError::Settings { role, reason };
    let mut text = serde_json::to_string_pretty(settings).map_err(|error| refused(error.to_string()))?;
    text.push('\n');
    if text.len() > SETTINGS_BYTES_MAX {
        return Err(refused(format!("they are longer than {} MiB", SETTINGS_BYTES_MAX >> 20)));
    }
    Ok(text)
}
