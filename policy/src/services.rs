//! Configuration of the kept daemons, generated from the policy: dnsmasq (once for DNS forwarding, once for DHCPv4 and
//! router advertisements), chrony (time) and dhcpcd (a line addressed at run time); and the settings of our own roles.
//!
//! Only typed atoms reach a daemon's file (`text::Atom`): addresses, numbers, fixed words and checked names, so that nothing
//! written in a policy can add an option or a line.

mod chrony;
mod dhcpcd;
mod dnsmasq;
mod settings;
mod text;

use thiserror::Error;

pub use chrony::chrony_conf;
pub use dhcpcd::dhcpcd_conf;
pub use dnsmasq::{leases_conf, names_conf};
pub use settings::{
    ConsoleMetrics, ConsolePort, ConsoleSettings, EdgeMaintenance, EdgePeer, EdgeSettings, EdgeVendor,
    EdgeVpn, FilesSettings, FilesVendor, RecordSettings, SETTINGS_BYTES_MAX, VpnCarrier, WatchDevice,
    WatchMark, WatchSettings, WatchZone, console_conf, edge_conf, files_conf, record_conf, watch_conf,
};
pub use text::FilePath;

/// The user that the dnsmasq of DNS runs as.
pub const NAMES_USER: &str = "sekisho-names";
/// The user that the dnsmasq of DHCP and router advertisements runs as.
pub const LEASES_USER: &str = "sekisho-leases";
/// The domain of the clinic's own names; questions about it never leave the clinic (RFC 9476 reserves `internal`).
pub const LOCAL_DOMAIN: &str = "clinic.internal";

/// Where the daemons keep their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePaths {
    /// Leases of the DHCP server.
    pub leases: FilePath,
    /// Process id of the dnsmasq of DHCP and router advertisements.
    pub leases_pid: FilePath,
    /// Process id of the dnsmasq of DNS.
    pub names_pid: FilePath,
    /// Measured drift of the clock.
    pub drift: FilePath,
    /// Command socket of chronyd.
    pub chrony_socket: FilePath,
    /// Process id of chronyd.
    pub chrony_pid: FilePath,
}

/// Why a configuration cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServicesError {
    /// A name with characters that a configuration file could misread.
    #[error(
        "`{value}` cannot be written to a service's configuration: use ASCII letters, digits, `.`, `-` and `_` only"
    )]
    Name {
        /// The name.
        value: String,
    },
    /// A hardware address that is none.
    #[error("`{value}` is not a MAC address such as `02:00:00:00:10:10`")]
    Mac {
        /// The text.
        value: String,
    },
    /// A path that a configuration file could misread.
    #[error("`{value}` is not an absolute path of ASCII letters, digits, `.`, `-` and `_`")]
    Path {
        /// The path.
        value: String,
    },
    /// A pool outside the networks of its zone.
    #[error("the DHCP pool of zone `{zone}` lies in none of its networks")]
    Pool {
        /// The zone's name.
        zone: String,
    },
    /// The settings of a role cannot be written.
    #[error("the settings of the role `{role}` cannot be written: {reason}; simplify the policy")]
    Settings {
        /// The role.
        role: &'static str,
        /// Why.
        reason: String,
    },
}
