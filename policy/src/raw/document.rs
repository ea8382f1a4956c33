//! The keys of the language, one struct a table. Field docs go into the JSON Schema that editors show.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Moment, Words};

/// The JSON Schema of the language, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}

/// A whole policy file: only its schema is used, [`super::read`] reads it entry by entry to report every error.
#[derive(JsonSchema)]
#[schemars(title = "Sekisho policy", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the schema generator")]
struct Document {
    /// Version of the language: 1. Required in the main file.
    schema: Option<i64>,
    /// Other files to read, relative to the main file.
    include: Option<Vec<String>>,
    /// The clinic's identity.
    clinic: Option<Clinic>,
    /// The list of responsible persons (責任者一覧).
    responsible: Option<Vec<Responsible>>,
    /// Persons by key.
    person: Option<BTreeMap<String, Person>>,
    /// Zones by name.
    zone: Option<BTreeMap<String, Zone>>,
    /// Devices by name.
    device: Option<BTreeMap<String, Device>>,
    /// Named services.
    service: Option<BTreeMap<String, Words>>,
    /// Allowed kinds of connection.
    flow: Option<Vec<Flow>>,
    /// The VPN.
    vpn: Option<Vpn>,
    /// The door of remote maintenance.
    maintenance: Option<MaintenanceDoor>,
    /// Vendors by name.
    vendor: Option<BTreeMap<String, Vendor>>,
    /// How long what happened is kept.
    evidence: Option<Evidence>,
    /// The door by which metrics are read.
    metrics: Option<Metrics>,
    /// The clinic's own promises.
    test: Option<Vec<Test>>,
    /// Accepted exceptions to the guideline's invariants.
    exception: Option<Vec<Exception>>,
}

/// `[clinic]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clinic {
    /// Name shown to people.
    pub name: At<String>,
    /// Opaque id used in metrics: lower-case letters, digits and `-`.
    pub site: At<String>,
    /// IANA time zone, such as `Asia/Tokyo`.
    pub timezone: At<String>,
    /// Guideline version that the report speaks of.
    pub guideline: Option<At<String>>,
}

/// `[[responsible]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Responsible {
    /// Role (役割).
    pub role: At<String>,
    /// Name.
    pub name: At<String>,
    /// How to reach the person.
    pub contact: At<String>,
}

/// `[person.KEY]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Name shown.
    pub name: At<String>,
    /// Roles, such as `clinic`, `admin`, `it`.
    #[serde(default)]
    pub roles: Words,
    /// How to reach the person.
    pub contact: Option<At<String>>,
    /// Second factor, if any is enrolled.
    pub second_factor: Option<At<SecondFactor>>,
    /// How the identity was confirmed.
    pub identity: Option<At<Identity>>,
    /// Last day the person may act.
    pub until: Option<At<Moment>>,
}

/// Kinds of second factor.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecondFactor {
    /// Time-based one-time password.
    Totp,
    /// A passkey.
    Passkey,
}

/// `identity = { .. }` of a person.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Means, such as `対面・運転免許証`.
    pub confirmed: At<String>,
    /// Who confirmed.
    pub by: At<String>,
    /// The day.
    pub on: At<Moment>,
}

/// Kinds of zone.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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
    /// A closed network such as online eligibility.
    ClosedNetwork,
    /// VPN peers.
    Vpn,
    /// Vendors.
    Vendor,
}

/// `[zone.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Kind: it decides which of the guideline's invariants apply.
    pub kind: At<Kind>,
    /// Network interface, such as `eth1.10`.
    pub interface: Option<At<String>>,
    /// Networks, such as `192.168.10.0/24`.
    pub networks: Option<Words>,
    /// The gateway's own addresses with prefix length; by default the first of each network.
    pub gateway: Option<Words>,
    /// Devices in the zone cannot talk to one another.
    #[serde(default)]
    pub isolate: bool,
    /// DHCPv4 pool.
    pub dhcp: Option<At<Dhcp>>,
    /// Send IPv6 router advertisements.
    pub router_advertisement: Option<At<bool>>,
    /// The gateway answers DNS in the zone.
    pub dns: Option<At<bool>>,
    /// The gateway answers NTP in the zone.
    pub ntp: Option<At<bool>>,
    /// How the internet line works (external zones only).
    pub wan: Option<At<Wan>>,
}

/// `dhcp = { .. }` of a zone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dhcp {
    /// First address given out.
    pub first: At<String>,
    /// Last address given out.
    pub last: At<String>,
    /// Lease time, such as `1h`.
    pub lease: Option<At<String>>,
}

/// `wan = { .. }` of an external zone.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    /// How the line gets its IPv4 address.
    pub ipv4: Option<At<Wan4>>,
    /// How the line gets its IPv6 address.
    pub ipv6: Option<At<Wan6>>,
    /// Static default gateways.
    #[serde(default)]
    pub routers: Words,
    /// Families whose source addresses are hidden behind the WAN address; by default IPv4.
    pub masquerade: Option<Vec<Family>>,
    /// Upstream DNS resolvers.
    #[serde(default)]
    pub resolvers: Words,
    /// Upstream time servers.
    #[serde(default)]
    pub time_servers: Words,
}

/// Ways to an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wan4 {
    /// DHCP.
    Dhcp,
    /// The zone's `gateway` addresses.
    Static,
    /// No IPv4.
    Off,
}

/// Ways to an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wan6 {
    /// Router advertisements.
    Ra,
    /// The zone's `gateway` addresses.
    Static,
    /// No IPv6.
    Off,
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its zone.
    pub zone: At<String>,
    /// Its addresses.
    pub address: Words,
    /// MAC address.
    pub mac: Option<At<String>>,
    /// Vendor's name.
    pub vendor: Option<At<String>>,
    /// Last day the maker supports it.
    pub support_until: Option<At<Moment>>,
}

/// `[[flow]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Unique name, stable in metrics and reports.
    pub name: At<String>,
    /// Sources: `zone:NAME`, `zone:*`, `device:NAME`, `gateway`.
    pub from: Words,
    /// Destinations: the same, or `domain:PATTERN`.
    pub to: Words,
    /// Services: named, `tcp/104`, `udp/500-510`, `icmp`, `esp`, `ah`, `ike`, `proto/NN`, joined with `+`.
    pub service: Option<Words>,
    /// Every service; needs `reason`.
    pub any: Option<At<bool>>,
    /// Why every service is needed.
    pub reason: Option<At<String>>,
    /// Purpose (目的).
    pub purpose: At<String>,
    /// Owner (担当).
    pub owner: At<String>,
    /// End: a date and time with offset, or the last day.
    pub until: Option<At<Moment>>,
    /// Weekly windows, such as `Mon-Fri 19:00-22:00`.
    pub schedule: Option<At<String>>,
    /// Keeps care going: survives isolation.
    #[serde(default)]
    pub critical: bool,
}

/// `[vpn]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vpn {
    /// UDP port of the door, such as `udp/51820`.
    pub listen: At<String>,
    /// The gateway's addresses in the tunnel.
    pub address: Words,
    /// Largest packet inside the tunnel, 1280 to 1440 bytes; by default 1420.
    pub mtu: Option<At<i64>>,
    /// Peers.
    #[serde(default)]
    pub peer: Vec<VpnPeer>,
}

/// `[[vpn.peer]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VpnPeer {
    /// Unique name.
    pub name: At<String>,
    /// The person, by key or name.
    pub person: At<String>,
    /// WireGuard public key.
    pub public_key: At<String>,
    /// Its addresses in the tunnel, one of each family; by default made of its name.
    pub address: Option<Words>,
    /// What the peer may reach: `device:NAME:SERVICE`.
    pub reach: Words,
    /// Second factor that opens the path.
    pub second_factor: Option<At<SecondFactor>>,
    /// Session length, such as `8h`.
    pub session: Option<At<String>>,
}

/// `[maintenance]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceDoor {
    /// TCP and UDP port that vendors connect to, 1024 to 65535; by default 8443.
    pub listen: Option<At<i64>>,
}

/// `[vendor.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// File name of its certificate authority.
    pub ca: Option<At<String>>,
    /// Pinned keys of its engineers, instead of a certificate authority.
    #[serde(default)]
    pub keys: Words,
    /// Last day of the contract.
    pub contract_until: Option<At<Moment>>,
    /// Demarcation of responsibility (責任分界).
    pub responsibility: Option<At<String>>,
    /// Remote maintenance.
    pub maintenance: Option<At<Maintenance>>,
    /// Which files may cross.
    #[serde(default)]
    pub files: FileRules,
}

/// `[vendor.NAME.maintenance]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Targets that may be asked for: `device:NAME:SERVICE`.
    pub targets: Words,
    /// Weekly windows in which work may happen.
    pub windows: Option<At<String>>,
    /// Longest session, such as `2h`.
    pub max_duration: At<String>,
    /// Roles that must all approve.
    pub approvals: Words,
}

/// `[vendor.NAME.files]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRules {
    /// Files from the vendor to the clinic.
    pub to_clinic: Option<At<FileRule>>,
    /// Signed security updates.
    pub update: Option<At<FileRule>>,
    /// Files from the clinic to the vendor.
    pub from_clinic: Option<At<FileRule>>,
}

/// One direction of files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// Accepted kinds of content.
    #[serde(default)]
    pub accept: Words,
    /// Whether the sender's attestation is required.
    pub attestation: Option<At<Attestation>>,
    /// Largest file, such as `200 MB`.
    pub max_size: Option<At<String>>,
    /// Directory below the vendor's drop where released files go (only `to_clinic`).
    pub drop: Option<At<String>>,
    /// Certificate files of accepted signers.
    #[serde(default)]
    pub signers: Words,
    /// Roles that must all approve.
    #[serde(default)]
    pub approvals: Words,
}

/// Whether the sender must attest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attestation {
    /// Required.
    Required,
    /// Welcome, not required.
    Optional,
}

/// `[evidence]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How long the log of decisions is kept, 1 to 30 years; by default `5y`.
    pub log_retention: Option<At<String>>,
    /// Most disk that the log may take, 64 MB to 1 TB; by default `4 GB`.
    pub log_budget: Option<At<String>>,
    /// How long the ledger of connections is kept, 1 day to 10 years; by default `90d`.
    pub flows_retention: Option<At<String>>,
    /// Most disk that the ledger may take, 16 MB to 1 TB; by default `1 GB`.
    pub flows_budget: Option<At<String>>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Zone from which metrics are read: one of the kind `management`.
    pub zone: At<String>,
    /// TCP port, 1024 to 65535; by default 9464.
    pub port: Option<At<i64>>,
    /// How the reader proves who it is; by default `mutual-tls`.
    pub auth: Option<At<MetricsAuth>>,
}

/// How a reader of metrics proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MetricsAuth {
    /// By a client certificate.
    MutualTls,
    /// By a secret word in the request.
    Token,
}

/// `[[test]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Traffic that must never pass: `FROM -> TO [SERVICE]`.
    pub deny: Option<At<String>>,
    /// Traffic that must pass: `FROM -> TO [SERVICE]`.
    pub allow: Option<At<String>>,
}

/// `[[exception]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Code of the invariant's finding.
    pub invariant: At<String>,
    /// Flow that may break it.
    pub flow: At<String>,
    /// Who accepts the risk.
    pub who: At<String>,
    /// Why.
    pub why: At<String>,
    /// Last day.
    pub until: At<Moment>,
}
