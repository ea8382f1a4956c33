//! The policy as written: every key known, every value with its place, nothing looked up yet.
//! The grammar is TOML 1.1 with this crate's keys; what the values mean is [`crate::resolve`]'s business.

use crate::diagnostic::{Diagnostic, Report};

mod at;
mod document;
mod index;
mod messages;
mod read;
mod sources;

pub use at::{At, Item, Moment, Named, Spot, Words};
pub use document::{
    Attestation, Clinic, Device, Dhcp, Evidence, Exception, Family, FileRule, FileRules, Flow, Identity,
    Kind, Maintenance, MaintenanceDoor, Metrics, MetricsAuth, Person, Responsible, SecondFactor, Test,
    Vendor, Vpn, VpnPeer, Wan, Wan4, Wan6, Zone, schema,
};
pub use index::Index;
pub(crate) use sources::is_relative_name;
pub use sources::{Beside, Sources, Wanted, includes, wanted};

/// The version of the language, written as `schema = 1`.
pub const SCHEMA: i64 = 1;
/// Longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 16 << 20;
/// Most bytes in all sources together.
pub const TOTAL_BYTES_MAX: usize = 64 << 20;
/// Most sources.
pub const SOURCES_MAX: usize = 256;
/// Longest file of a vendor's certificate authority, in bytes.
pub const AUTHORITY_BYTES_MAX: usize = 16 << 10;
/// Most includes above one another.
pub const INCLUDE_DEPTH_MAX: usize = 8;
/// Most entries of one kind in a policy: flows, tests, devices' upper bound and so on are given by [`Limits`].
pub const LIMITS: Limits = Limits {
    responsible: 256,
    persons: 4_096,
    zones: 256,
    devices: 65_536,
    services: 4_096,
    flows: 131_072,
    vendors: 1_024,
    // As many as the tunnel takes.
    peers: 1_024,
    tests: 16_384,
    exceptions: 1_024,
};
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest free text, such as a purpose, in characters.
pub const TEXT_CHARS_MAX: usize = 1_024;
/// Longest list inside one entry, such as a flow's sources.
pub const LIST_MAX: usize = 1_024;

/// How many entries of each kind a policy may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of the list of responsible persons.
    pub responsible: usize,
    /// Persons.
    pub persons: usize,
    /// Zones.
    pub zones: usize,
    /// Devices.
    pub devices: usize,
    /// Named services.
    pub services: usize,
    /// Flows.
    pub flows: usize,
    /// Vendors.
    pub vendors: usize,
    /// VPN peers.
    pub peers: usize,
    /// The clinic's own promises.
    pub tests: usize,
    /// Accepted exceptions.
    pub exceptions: usize,
}

/// Every entry of every source, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// `[clinic]`.
    pub clinic: Option<Item<Clinic>>,
    /// `[[responsible]]`.
    pub responsible: Vec<Item<Responsible>>,
    /// `[person.KEY]`.
    pub persons: Vec<Named<Person>>,
    /// `[zone.NAME]`.
    pub zones: Vec<Named<Zone>>,
    /// `[device.NAME]`.
    pub devices: Vec<Named<Device>>,
    /// `[service]`.
    pub services: Vec<Named<Words>>,
    /// `[[flow]]`.
    pub flows: Vec<Item<Flow>>,
    /// `[vpn]`.
    pub vpn: Option<Item<Vpn>>,
    /// `[maintenance]`.
    pub maintenance: Option<Item<MaintenanceDoor>>,
    /// `[vendor.NAME]`.
    pub vendors: Vec<Named<Vendor>>,
    /// `[evidence]`.
    pub evidence: Option<Item<Evidence>>,
    /// `[metrics]`.
    pub metrics: Option<Item<Metrics>>,
    /// `[[test]]`.
    pub tests: Vec<Item<Test>>,
    /// `[[exception]]`.
    pub exceptions: Vec<Item<Exception>>,
    /// Lines of every source, for places.
    pub index: Index,
    /// What somebody should look at.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a policy and everything that it includes.
///
/// # Errors
/// Reports every entry that cannot be read.
pub fn parse(sources: &Sources) -> Result<File, Report> {
    read::read(sources)
}
