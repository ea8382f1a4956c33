//! Facts that core and watch measure: what the kernel holds and what came by.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Named;
use crate::guideline::suspect::Suspect;
use crate::model::ZoneKind;

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enforcement {
    /// What is in force.
    pub standing: Standing,
    /// Identity of the rule set in force.
    pub policy: Option<String>,
    /// When it was put in force.
    pub applied_at: Option<Timestamp>,
}

/// What can be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// A policy, read back equal.
    Applied,
    /// Nothing passes.
    Closed,
    /// A change is on its way, or the closed state could not be established.
    Unsettled,
}

/// The last comparison of the kernel's rules with the policy in force; [`super::Observed::at`] is its instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBack {
    /// Differences found and not yet repaired.
    pub differences: u32,
    /// When a difference was last found and repaired, since the daemon started.
    pub repaired_at: Option<Timestamp>,
    /// Tables of others that hook into the packet path, as `FAMILY NAME`.
    pub foreign: Named,
}

/// Reverse-path filters (RFC 3704).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReversePath {
    /// Each zone's interface, at most [`super::ROWS_MAX`].
    pub interfaces: Vec<PathFilter>,
}

/// The filter of one zone's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathFilter {
    /// The zone's ASCII name.
    pub zone: String,
    /// How the kernel's `rp_filter` is set, the stricter of the interface's and the box's.
    pub mode: PathMode,
}

/// Settings of `rp_filter` (Documentation/networking/ip-sysctl.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathMode {
    /// 1: the source must be reached by the same interface.
    Strict,
    /// 2: the source must be reached by some interface.
    Loose,
    /// 0: not looked at.
    Off,
    /// The interface is absent, so nothing comes in by it.
    Absent,
}

/// Settings of the kernel that Sekisho asks for again at every look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSettings {
    /// What the ledger of connections relies on: that connections are counted, dated and told of.
    pub ledger: SettingsFact,
    /// What the rules rely on: forwarding, reverse paths, redirects, source routes.
    pub paths: SettingsFact,
}

/// Some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFact {
    /// Those that are wrong and could not be put right.
    pub wrong: Named,
    /// When somebody else's change was last put back, since the daemon started.
    pub repaired_at: Option<Timestamp>,
    /// What was put back then.
    pub repaired: Named,
}

/// Whether windows may be opened by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeTrust {
    /// Whether somebody with the right said that the clock is good.
    pub trusted: bool,
}

/// Devices seen on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbours {
    /// Each zone with an interface, at most [`super::ROWS_MAX`]; guest and external zones are left out.
    pub zones: Vec<ZoneNeighbours>,
    /// When looking began: a device can be called unseen only after that long.
    pub since: Timestamp,
    /// Devices of the ledger (guest and external zones left out) not seen since [`Neighbours::since`], or for
    /// [`crate::guideline::measures::UNSEEN_DAYS`] days.
    pub unseen: Named,
}

/// Devices seen in one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneNeighbours {
    /// The zone's ASCII name.
    pub zone: String,
    /// Its kind.
    pub kind: ZoneKind,
    /// Devices of the ledger that answer now.
    pub known: u32,
    /// Devices that answer now and are not in the ledger.
    pub unknown: u32,
    /// Addresses of the ledger answered by another MAC address than the ledger's.
    pub impostors: u32,
}

/// The event feeds from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feeds {
    /// Denied packets.
    pub denials: Feed,
    /// Starts and ends of connections.
    pub connections: Feed,
}

/// One feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Whether the socket is there and is read.
    pub alive: bool,
    /// Events the kernel could not hand over, since the role started.
    pub lost: u64,
    /// When that last happened.
    pub lost_at: Option<Timestamp>,
}

/// The flow ledger on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowLedger {
    /// Whether connections are being written.
    pub writing: bool,
    /// The oldest connection kept.
    pub oldest_at: Option<Timestamp>,
    /// When connections were last dropped before their time; `None` when never.
    pub dropped_at: Option<Timestamp>,
    /// When the ledger began: it cannot reach back further.
    pub since: Timestamp,
    /// Size on disk.
    pub bytes: u64,
    /// Size it may grow to, as the policy says.
    pub budget_bytes: u64,
    /// How far back it should reach, as the policy says.
    pub retention_s: u64,
}

/// Suspicious traffic seen, of the last [`crate::guideline::measures::SIGHTING_DAYS`] days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sightings {
    /// When looking began.
    pub since: Timestamp,
    /// Each kind and place, at most [`super::ROWS_MAX`], the most recent first.
    pub sightings: Vec<Sighting>,
}

/// The word for "one of several lines outside, and which is not known".
pub const OUTSIDE: &str = "outside";

/// One kind of suspicious traffic at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// What it looks like, by [`crate::guideline::suspect`].
    pub suspect: Suspect,
    /// ASCII name of the zone it came in from: that of the interface, whatever the source address says; [`OUTSIDE`]
    /// when it came from one of several lines.
    pub from: String,
    /// ASCII name of the zone it went to; `None` is the gateway, or the segment itself.
    pub to: Option<String>,
    /// Whether exactly one of the two ends is an external zone or a closed network.
    pub crosses_border: bool,
    /// Whether a flow of the policy let it pass: somebody named it.
    pub passed: bool,
    /// How often.
    pub count: u64,
    /// When it was last seen.
    pub last_at: Timestamp,
}
