//! The site as the policy means it: impossible states are absent, names are resolved, networks are checked.
//! The only way to get a [`Policy`] is [`crate::resolve::resolve`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Schedule;

mod evidence;

pub use evidence::{Evidence, MetricsAuth, MetricsDoor};

/// Where in the policy's sources something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Index into [`Policy::sources`].
    pub source: usize,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Byte offset in the source.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A name and digest of one source file; the text stays with the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The name the caller gave it, as shown in messages.
    pub name: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// A resolved and valid policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The sources, the main file first.
    pub sources: Vec<Source>,
    /// The clinic.
    pub clinic: Clinic,
    /// The list of responsible persons (責任者一覧).
    pub responsible: Vec<Responsible>,
    /// Persons by name.
    pub persons: BTreeMap<String, Person>,
    /// Zones in file order; [`ZoneId`] indexes it.
    pub zones: Vec<Zone>,
    /// Devices in file order; [`DeviceId`] indexes it.
    pub devices: Vec<Device>,
    /// Named services.
    pub services: BTreeMap<String, Vec<Protocol>>,
    /// Flows: the file's in file order, then the built-in ones (names begin with `@`); [`FlowId`] indexes it.
    pub flows: Vec<Flow>,
    /// The clinic's own promises.
    pub tests: Vec<Promise>,
    /// Accepted exceptions to the guideline's invariants.
    pub exceptions: Vec<Exception>,
    /// The VPN.
    pub vpn: Option<Vpn>,
    /// Vendors by name.
    pub vendors: BTreeMap<String, Vendor>,
    /// The door of remote maintenance; `None` where no vendor may ask for it.
    pub maintenance: Option<MaintenanceDoor>,
    /// How long what happened is kept, and how much of it.
    pub evidence: Evidence,
    /// The door by which metrics are read; `None` closes it.
    pub metrics: Option<MetricsDoor>,
}

/// The clinic's identity.
#[derive(Clone, Debug)]
pub struct Clinic {
    /// Name shown to people.
    pub name: String,
    /// Opaque id used in metrics.
    pub site: String,
    /// The clinic's time zone: schedules are meant in it.
    pub timezone: TimeZone,
    /// Guideline version the report speaks of.
    pub guideline: String,
}

/// One row of the list of responsible persons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Responsible {
    /// Role (役割).
    pub role: String,
    /// Name.
    pub name: String,
    /// How to reach the person.
    pub contact: String,
}

/// A person: named once, pointed at by approvals, peers and admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Key in the policy.
    pub id: String,
    /// Name shown.
    pub name: String,
    /// Roles, such as `clinic`, `admin`, `it`.
    pub roles: Vec<String>,
    /// How to reach the person.
    pub contact: Option<String>,
    /// Second factor, if any is enrolled.
    pub second_factor: Option<SecondFactor>,
    /// How the identity was confirmed, by whom and when.
    pub identity: Option<IdentityCheck>,
    /// Last day the person may act.
    pub until: Option<Date>,
    /// Where the person is written.
    pub place: Place,
}

/// Kinds of second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondFactor {
    /// Time-based one-time password, RFC 6238.
    Totp,
    /// A passkey (WebAuthn).
    Passkey,
}

/// A record of how somebody's identity was confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdentityCheck {
    /// Means, such as `対面・運転免許証`.
    pub confirmed: String,
    /// Who confirmed.
    pub by: String,
    /// The day.
    pub on: Date,
}

/// Index of a zone in [`Policy::zones`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ZoneId(pub usize);
/// Index of a device in [`Policy::devices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DeviceId(pub usize);
/// Index of a flow in [`Policy::flows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FlowId(pub usize);

/// Kinds of zone: they decide defaults and which of the guideline's invariants apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneKind {
    /// Record servers, PACS, ordering.
    Clinical,
    /// Imaging modalities, analysers.
    MedicalDevice,
    /// Receipt computers, billing.
    Billing,
    /// Reception and office PCs.
    Staff,
    /// Guest Wi-Fi.
    Guest,
    /// Cameras, printers, building equipment.
    Iot,
    /// The only zone the box is managed from.
    Management,
    /// The internet side.
    External,
    /// A closed network such as online eligibility: treated like an open one.
    ClosedNetwork,
    /// VPN peers, behind the tunnel's own interface.
    Vpn,
    /// Vendors; never has an interface: a vendor gets no address in the clinic.
    Vendor,
}

/// A network segment with one kind of trust (区画).
#[derive(Clone, Debug)]
pub struct Zone {
    /// Name in the policy, in any script.
    pub name: String,
    /// ASCII name, unique, used in kernel object names and metrics.
    pub slug: String,
    /// Kind.
    pub kind: ZoneKind,
    /// Interface; `None` only for the kind `vendor`, and for the kind `vpn` in a policy without a VPN.
    pub interface: Option<String>,
    /// Networks, disjoint from every other zone's. Empty for external zones: they are "everything else".
    pub networks: Vec<IpNet>,
    /// The gateway's own addresses in the zone, with the prefix length of their network. For an external zone the
    /// static WAN address, or empty when it comes by DHCP or RA.
    pub gateway: Vec<IpNet>,
    /// Devices in the zone cannot talk to one another (enforced by the switch or bridge, else reported).
    pub isolate: bool,
    /// DHCPv4 pool served in the zone.
    pub dhcp: Option<DhcpPool>,
    /// Router advertisements are sent into the zone (IPv6, RFC 4861).
    pub router_advertisement: bool,
    /// The gateway answers DNS in the zone.
    pub dns: bool,
    /// The gateway answers NTP in the zone.
    pub ntp: bool,
    /// Only for external zones: how the line works.
    pub wan: Option<Wan>,
    /// Where the zone is written.
    pub place: Place,
}

/// A DHCPv4 pool (RFC 2131).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DhcpPool {
    /// First address given out.
    pub first: std::net::Ipv4Addr,
    /// Last address given out.
    pub last: std::net::Ipv4Addr,
    /// Lease time in seconds, 120 to 604800.
    pub lease_s: u32,
}

/// How the WAN line is addressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wan {
    /// IPv4 by DHCP (else the static addresses of the zone are used).
    pub dhcp4: bool,
    /// IPv6 address and default route from router advertisements.
    pub accept_ra: bool,
    /// Static default gateways.
    pub routers: Vec<IpAddr>,
    /// Masquerade IPv4 from the clinic's networks to the WAN address.
    pub masquerade4: bool,
    /// Masquerade IPv6 likewise (for lines without a delegated prefix).
    pub masquerade6: bool,
    /// Upstream resolvers that the gateway asks.
    pub resolvers: Vec<IpAddr>,
    /// Upstream time servers that the gateway asks.
    pub time_servers: Vec<IpAddr>,
}

/// A thing with addresses in a zone, from the device ledger (機器台帳).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Name in the policy.
    pub name: String,
    /// Its zone.
    pub zone: ZoneId,
    /// Its addresses, all inside the zone's networks (anything for an external zone).
    pub addresses: Vec<IpAddr>,
    /// MAC address, lower case with colons, if known.
    pub mac: Option<String>,
    /// Vendor name, if any.
    pub vendor: Option<String>,
    /// Last day the maker supports it.
    pub support_until: Option<Date>,
    /// Where the device is written.
    pub place: Place,
}

/// What a service matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Protocol {
    /// TCP destination ports, inclusive.
    Tcp(u16, u16),
    /// UDP destination ports, inclusive.
    Udp(u16, u16),
    /// ICMP and ICMPv6 echo (ping). Error messages need no service: they follow their connection.
    Echo,
    /// Another IP protocol without ports, by number (never ICMP, TCP, UDP or ICMPv6).
    Ip(u8),
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Endpoint {
    /// Every address of a zone.
    Zone(ZoneId),
    /// One device.
    Device(DeviceId),
    /// Fixed networks inside one zone (only built-in flows, VPN peers and external zones).
    Networks(ZoneId, Vec<IpNet>),
    /// The gateway itself.
    Gateway,
    /// A DNS name pattern reached through a zone: allows nothing until the names role exists.
    Domain(String),
}

/// When a flow is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Timing {
    /// The flow ends at this instant.
    pub until: Option<Timestamp>,
    /// Weekly windows in the clinic's time zone.
    pub schedule: Option<Schedule>,
}

impl Timing {
    /// Whether the flow is open whatever the time.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.until.is_none() && self.schedule.is_none()
    }
}

/// One allowed kind of connection (通信許可).
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// Its identity in metrics, events and reports. Built-in flows begin with `@`.
    pub name: String,
    /// Sources; each meets each destination.
    pub from: Vec<Endpoint>,
    /// Destinations.
    pub to: Vec<Endpoint>,
    /// Services.
    pub services: Vec<Protocol>,
    /// Purpose (目的).
    pub purpose: String,
    /// Owner (担当).
    pub owner: String,
    /// When it is open.
    pub timing: Timing,
    /// Keeps care going: survives isolation.
    pub critical: bool,
    /// Reason for a flow with `any = true`; such flows are listed in the report.
    pub any_reason: Option<String>,
    /// Where the flow is written; `None` for built-in flows.
    pub place: Option<Place>,
}

/// A promise of the clinic: a policy that breaks one cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Must the traffic be allowed, or denied?
    pub expect: Expectation,
    /// Sources, each meeting each destination.
    pub from: Vec<Endpoint>,
    /// Destinations.
    pub to: Vec<Endpoint>,
    /// Services; `None` means every packet.
    pub services: Option<Vec<Protocol>>,
    /// The promise as written.
    pub text: String,
    /// Where it is written.
    pub place: Place,
}

/// The two kinds of promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// Every packet named must be allowed (at some time of the week, for flows with a schedule).
    Allow,
    /// No packet named may ever be allowed.
    Deny,
}

/// An accepted exception: one flow may break one invariant until a day, and somebody answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// Code of the invariant's finding.
    pub invariant: String,
    /// The flow that may break it.
    pub flow: FlowId,
    /// Who accepts the risk.
    pub who: String,
    /// Why.
    pub why: String,
    /// The first instant at which the exception no longer holds.
    pub until: Timestamp,
    /// Where it is written.
    pub place: Place,
}

/// The TUN device of the VPN.
pub const VPN_INTERFACE: &str = "sekisho-vpn";
/// The flow of the VPN's door.
pub const VPN_DOOR: &str = "@vpn-door";
/// What the names of the peers' flows begin with; the peer's name follows.
pub const VPN_FLOW_PREFIX: &str = "@vpn-";
/// The flow of the maintenance door.
pub const MAINTENANCE_DOOR: &str = "@maintenance-door";

/// The VPN.
#[derive(Clone, Debug, Serialize)]
pub struct Vpn {
    /// Its zone, of kind `vpn`.
    pub zone: ZoneId,
    /// UDP port the door listens on.
    pub listen_port: u16,
    /// The gateway's addresses in the tunnel.
    pub address: Vec<IpNet>,
    /// Largest packet inside the tunnel, in bytes.
    pub mtu: u16,
    /// Peers in file order.
    pub peers: Vec<VpnPeer>,
}

/// A VPN peer.
#[derive(Clone, Debug, Serialize)]
pub struct VpnPeer {
    /// Name.
    pub name: String,
    /// Key of the person in [`Policy::persons`].
    pub person: String,
    /// WireGuard public key, base64.
    pub public_key: String,
    /// Its addresses in the tunnel, at most one a family; the source of everything it sends.
    pub address: Vec<IpAddr>,
    /// The instant from which the person may no longer act.
    pub until: Option<Timestamp>,
    /// What the peer may reach.
    pub reach: Vec<Target>,
    /// Second factor that opens the path.
    pub second_factor: Option<SecondFactor>,
    /// Session length in seconds.
    pub session_s: Option<u64>,
    /// Where it is written.
    pub place: Place,
}

/// A device and a service of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The device.
    pub device: DeviceId,
    /// Its service.
    pub services: Vec<Protocol>,
    /// As written.
    pub text: String,
}

/// A vendor as written.
#[derive(Clone, Debug, Serialize)]
pub struct Vendor {
    /// Name.
    pub name: String,
    /// Its own certificate authority, by which its engineers may be known.
    pub ca: Option<Authority>,
    /// Pinned keys of its engineers, in place of a certificate authority.
    pub keys: Vec<String>,
    /// Last day of the contract.
    pub contract_until: Option<Date>,
    /// Demarcation of responsibility (責任分界).
    pub responsibility: Option<String>,
    /// Remote maintenance, if allowed.
    pub maintenance: Option<Maintenance>,
    /// File rules as written, by direction.
    pub files: BTreeMap<String, FileRule>,
    /// Where it is written.
    pub place: Place,
}

/// A vendor's own certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// The file that the policy names.
    pub file: String,
    /// What the file holds; `None` where it is not there, and nobody comes in by it.
    pub certificate: Option<AuthorityCertificate>,
    /// Where it is written.
    pub place: Place,
}

/// The certificate of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorityCertificate {
    /// PEM, of nothing but the certificate.
    pub pem: String,
    /// SHA-256 of its SubjectPublicKeyInfo, as lower-case hex: a renewed certificate of one key is one authority.
    pub key: String,
    /// From when on it vouches for nobody.
    pub not_after: Timestamp,
}

impl Vendor {
    /// The certificate of its own authority, if the policy came with it.
    #[must_use]
    pub fn authority(&self) -> Option<&AuthorityCertificate> {
        self.ca.as_ref()?.certificate.as_ref()
    }
}

/// The door of remote maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MaintenanceDoor {
    /// TCP and UDP port.
    pub port: u16,
}

/// What a vendor may ask for.
#[derive(Clone, Debug, Serialize)]
pub struct Maintenance {
    /// Targets that may be asked for.
    pub targets: Vec<Target>,
    /// Windows in which work may happen.
    pub windows: Option<Schedule>,
    /// Longest session in seconds.
    pub max_duration_s: u64,
    /// Roles that must all approve.
    pub approvals: Vec<String>,
}

/// Which files may cross, in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRule {
    /// Accepted kinds of content.
    pub accept: Vec<String>,
    /// Whether the sender's attestation is required.
    pub attestation_required: bool,
    /// Largest file in bytes.
    pub max_size_bytes: Option<u64>,
    /// Directory below the vendor's drop: where released files go.
    pub drop: Option<String>,
    /// Certificate files of accepted signers.
    pub signers: Vec<String>,
    /// Roles that must all approve.
    pub approvals: Vec<String>,
}

impl Policy {
    /// The zone with this id.
    #[must_use]
    pub fn zone(&self, id: ZoneId) -> &Zone {
        #[expect(clippy::indexing_slicing, reason = "a ZoneId is only made by resolve, for this very list")]
        &self.zones[id.0]
    }

    /// The device with this id.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> &Device {
        #[expect(clippy::indexing_slicing, reason = "a DeviceId is only made by resolve, for this very list")]
        &self.devices[id.0]
    }

    /// The flow with this id.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> &Flow {
        #[expect(clippy::indexing_slicing, reason = "a FlowId is only made by resolve, for this very list")]
        &self.flows[id.0]
    }

    /// Zones with their ids, in file order.
    pub fn zones(&self) -> impl Iterator<Item = (ZoneId, &Zone)> {
        self.zones.iter().enumerate().map(|(index, zone)| (ZoneId(index), zone))
    }

    /// Flows with their ids, the file's first.
    pub fn flows(&self) -> impl Iterator<Item = (FlowId, &Flow)> {
        self.flows.iter().enumerate().map(|(index, flow)| (FlowId(index), flow))
    }

    /// `FILE:LINE` of a place, for people.
    #[must_use]
    pub fn locate(&self, place: Place) -> String {
        let name = self.sources.get(place.source).map_or("policy", |source| source.name.as_str());
        format!("{name}:{}", place.line)
    }
}

impl Zone {
    /// Whether the zone is "everything that is not ours": addressed by exclusion, not by its networks.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.kind == ZoneKind::External
    }
}
