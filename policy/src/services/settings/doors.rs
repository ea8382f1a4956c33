//! Settings of the doors' roles: what edge and files need to know of the policy, and no more.
//!
//! Edge learns keys and addresses of peers, never names of persons; files learns what each vendor may deliver, and where.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ServicesError, text};
use crate::model::{FileRule, Policy, VPN_INTERFACE, Vendor, Vpn, VpnPeer};

/// The direction of files that `to_clinic` names.
const TO_CLINIC: &str = "to_clinic";

/// What the edge role needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeSettings {
    /// The VPN; `None` opens no door.
    pub vpn: Option<EdgeVpn>,
    /// Remote maintenance; `None` opens no door.
    pub maintenance: Option<EdgeMaintenance>,
}

/// The VPN, as far as the edge role needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeVpn {
    /// Who carries the packets; settings of a release before this one say nothing of it.
    #[serde(default)]
    pub carrier: VpnCarrier,
    /// UDP port of the door.
    pub listen_port: u16,
    /// The device that core made.
    pub interface: String,
    /// The gateway's addresses in the tunnel, with the prefix lengths of its networks.
    pub addresses: Vec<IpNet>,
    /// Largest packet inside the tunnel, in bytes.
    pub mtu: u16,
    /// Peers in file order.
    pub peers: Vec<EdgePeer>,
}

/// Whose WireGuard carries the VPN's packets. It is the box's to say, not the policy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VpnCarrier {
    /// The edge role's, in user space, between a TUN device and a socket.
    #[default]
    Edge,
    /// The kernel's, set up by core.
    Kernel,
}

/// A VPN peer, as far as the edge role needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgePeer {
    /// Name.
    pub name: String,
    /// WireGuard public key, base64.
    pub public_key: String,
    /// The addresses that the peer sends from and is sent to: single hosts.
    pub allowed_ips: Vec<IpNet>,
    /// The instant from which the peer is nobody's.
    pub until: Option<Timestamp>,
}

/// Remote maintenance, as far as the edge role needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeMaintenance {
    /// TCP and UDP port of the door.
    pub port: u16,
    /// Vendors that may ask for maintenance, by name.
    pub vendors: Vec<EdgeVendor>,
}

/// A vendor, as far as the edge role needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeVendor {
    /// Name.
    pub name: String,
    /// The vendor's own certificate authority, as PEM text; `None` where it has none or its file was not there.
    pub ca_pem: Option<String>,
    /// Pinned keys of its engineers.
    pub keys: Vec<String>,
}

/// What the files role needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesSettings {
    /// The clinic's opaque id: a sender's attestation is made out to it.
    pub site: String,
    /// Vendors that may send files to the clinic, by name.
    pub vendors: Vec<FilesVendor>,
}

/// What a vendor may send to the clinic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesVendor {
    /// Name.
    pub name: String,
    /// Accepted kinds of content. None accepts nothing.
    pub accept: Vec<String>,
    /// Whether the sender's attestation is required.
    pub attestation_required: bool,
    /// Largest file in bytes; `None` leaves it to the role's own limit.
    pub max_size_bytes: Option<u64>,
    /// Directory below the vendor's drop, one plain name; `None` is the drop itself.
    pub drop: Option<String>,
}

/// The settings of the edge role; `carrier` is who carries the VPN's packets on this box.
///
/// # Errors
/// [`ServicesError::Settings`] when they cannot be written.
pub fn edge_conf(policy: &Policy, carrier: VpnCarrier) -> Result<String, ServicesError> {
    let maintaining = policy.vendors.values().filter(|vendor| vendor.maintenance.is_some());
    let settings = EdgeSettings {
        vpn: policy.vpn.as_ref().map(|of| vpn(of, carrier)),
        maintenance: policy
            .maintenance
            .map(|door| EdgeMaintenance { port: door.port, vendors: maintaining.map(vendor).collect() }),
    };
    text("edge", &settings)
}

/// The settings of the files role.
///
/// # Errors
/// [`ServicesError::Settings`] when they cannot be written.
pub fn files_conf(policy: &Policy) -> Result<String, ServicesError> {
    let rule = |of: &Vendor| of.files.get(TO_CLINIC).map(|rule| files_vendor(&of.name, rule));
    let vendors = policy.vendors.values().filter_map(rule).collect();
    text("files", &FilesSettings { site: policy.clinic.site.clone(), vendors })
}

fn vpn(of: &Vpn, carrier: VpnCarrier) -> EdgeVpn {
    let Vpn { zone: _, listen_port, address, mtu, peers } = of;
    EdgeVpn {
        carrier,
        listen_port: *listen_port,
        interface: VPN_INTERFACE.to_owned(),
        addresses: address.clone(),
        mtu: *mtu,
        peers: peers.iter().map(peer).collect(),
    }
}

fn peer(of: &VpnPeer) -> EdgePeer {
    EdgePeer {
        name: of.name.clone(),
        public_key: of.public_key.clone(),
        allowed_ips: of.address.iter().copied().map(IpNet::from).collect(),
        until: of.until,
    }
}

fn vendor(of: &Vendor) -> EdgeVendor {
    EdgeVendor {
        name: of.name.clone(),
        ca_pem: of.authority().map(|certificate| certificate.pem.clone()),
        keys: of.keys.clone(),
    }
}

fn files_vendor(name: &str, rule: &FileRule) -> FilesVendor {
    let FileRule { accept, attestation_required, max_size_bytes, drop, signers: _, approvals: _ } = rule;
    FilesVendor {
        name: name.to_owned(),
        accept: accept.clone(),
        attestation_required: *attestation_required,
        max_size_bytes: *max_size_bytes,
        drop: drop.clone(),
    }
}
